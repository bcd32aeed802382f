"""CachedClassMethod: made with its class, bound by the class and by an object."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

from measure import Once, main
from redlane import Cache, Client


def cases(url: str) -> Iterator[tuple[str, Once]]:
    client = Client(url, timeout=10)
    client.flushdb()
    cache = Cache(client, prefix="leaks", ttl=100)

    class Thing:
        @cache
        @classmethod
        def of_class(cls, n: int) -> int:
            return n

    thing: Any = Thing()
    cached = vars(Thing)["of_class"]

    yield "dropped unused", lambda: (Thing.of_class, thing.of_class)
    yield "called", lambda: (Thing.of_class(1), thing.of_class(1))
    yield "forwarded", lambda: (Thing.of_class.refresh(1), Thing.of_class.invalidate(1))
    yield "bound by hand", lambda: (cached.__get__(thing), cached.__get__(None, Thing))
    yield (
        "looked at",
        lambda: (cached.__func__, cached.__wrapped__, cached.__isabstractmethod__),
    )
    yield "a class each time", lambda: made(cache)


def made(cache: Cache) -> None:
    class Own:
        @cache
        @classmethod
        def of_class(cls) -> int:
            return 1

    assert vars(Own)["of_class"].__func__ is not None
    # A class that lived on until the end would grow its base's table of subclasses.
    del Own
    gc.collect(0)


if __name__ == "__main__":
    sample = Cache("memory://")(classmethod(lambda cls: 1))
    main([Client, Cache, type(sample)], cases)
