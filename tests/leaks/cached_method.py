"""CachedMethod: bound, called, forwarded, refused and dropped."""

from __future__ import annotations

import contextlib
import copy
import functools
import gc
from collections.abc import Iterator
from typing import Any

from measure import Once, main
from redlane import Client
from redlane._core import Cache, CachedFunction


def cases(url: str) -> Iterator[tuple[str, Once]]:
    client = Client(url, timeout=10)
    client.flushdb()
    cache = Cache(client, prefix="leaks", ttl=100)

    class Thing:
        def __cache_key__(self) -> int:
            return 1

        @cache
        def method(self, *args: int, **kwargs: int) -> list[int]:
            return [len(args), len(kwargs)]

        @cache
        @classmethod
        def of_class(cls, n: int) -> int:
            return n

        @cache
        @staticmethod
        def static(n: int) -> int:
            return n

        def plain(self, n: int) -> int:
            return n

    thing: Any = Thing()
    wide = {f"n{i}": i for i in range(12)}

    yield "dropped unused", lambda: (thing.method, Thing.of_class, thing.of_class)
    yield "called", lambda: (thing.method(1), (thing.method)(*range(12), **wide))
    yield (
        "of the class",
        lambda: (Thing.of_class(1), thing.of_class(1), Thing.static(1)),
    )
    yield (
        "forwarded",
        lambda: (
            thing.method.invalidate(1),
            thing.method.refresh(1, a=2),
            thing.method.uncached(1),
            thing.method.cache_key(1),
            Thing.of_class.invalidate(1),
        ),
    )
    yield "looked at", lambda: look(thing)
    yield "refused", lambda: refused(thing)
    yield "compared and copied", lambda: compare(thing)
    yield "in a cycle", lambda: cycle(Thing)
    yield "a bound method, cached", lambda: bound(cache, thing)


def look(thing: Any) -> None:
    method = thing.method
    _ = (repr(method), hash(method), method.__doc__, method.__name__, method.__self__)
    _ = (method.__wrapped__, method.__func__, method.cache_info(), method.cache)


def refused(thing: Any) -> None:
    with contextlib.suppress(AttributeError):
        _ = thing.method.nothing
    with contextlib.suppress(TypeError):
        thing.of_class.invalidate(1, 2, 3)
    with contextlib.suppress(TypeError):
        thing.method(object())


def compare(thing: Any) -> None:
    assert thing.method == thing.method
    assert thing.method != 5
    assert copy.copy(thing.method) == thing.method


def cycle(cls: Any) -> None:
    thing = cls()
    thing.me = thing.method
    del thing
    gc.collect(0)


def bound(cache: Cache, thing: Any) -> None:
    assert cache(thing.plain)(1) == 1
    partial = cache(functools.partial(thing.plain, n=2))
    assert partial() == 2
    with contextlib.suppress(TypeError):
        cache(functools.partial(thing.plain, object()))


if __name__ == "__main__":
    cache = Cache("memory://")
    sample = type("Sample", (), {"m": cache(lambda self: 1)})
    shared = cache(classmethod(lambda cls: 1))
    main([Client, Cache, CachedFunction, type(sample().m), type(shared)], cases)
