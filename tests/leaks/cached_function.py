"""CachedFunction: hits, misses, methods, errors, and functions that are dropped."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import time
from collections.abc import Iterator
from typing import Any

import pydantic
from measure import Once, main
from redlane import Client
from redlane._core import Cache, CachedFunction, CacheInfo


@dataclasses.dataclass
class Point:
    x: int


class Model(pydantic.BaseModel):
    x: int


def cases(url: str) -> Iterator[tuple[str, Once]]:
    client = Client(url, timeout=10)
    client.flushdb()
    cache = Cache(client, prefix="leaks", ttl=100)

    @cache
    def plain(
        a: int, b: str = "b", *rest: int, c: Any = None, **more: int
    ) -> dict[str, Any]:
        return {"a": a, "b": b, "rest": list(rest), "c": c}

    @cache(ttl=50, condition=lambda result: result > 5, unless=lambda n: n == 1)
    def chosen(n: int) -> int:
        return n

    @cache(tags=["n:{n}", lambda n: ["a", "b"]])
    def tagged(n: int) -> list[int]:
        return [n]

    @cache
    def failing(n: int) -> float:
        return n / 0

    @cache
    def unwritable(n: int) -> object:
        return object()

    @cache
    def typed(n: int) -> list[Point]:
        return [Point(n)]

    @cache
    def model(n: int) -> Model | None:
        return Model(x=n)

    @cache
    def misfit(n: int) -> Point:
        return n  # type: ignore[return-value]

    misfit(1)  # logs once

    class Thing:
        @cache(ignore=["self"])
        def method(self, n: int) -> int:
            return n

    thing = Thing()
    unwritable(1)  # logs once

    yield (
        "tags",
        lambda: (tagged(1), tagged(1), cache.invalidate_tags("n:1"), tagged(1)),
    )
    yield "a refreshed one", lambda: (tagged.refresh(1), tagged.invalidate(1))
    yield "bad tags", lambda: refuse_tags(cache)
    yield "hit", lambda: (plain(1), plain(a=1), plain(1, "x", 3, c=[1], d=4))
    yield "miss", lambda: (plain.invalidate(2), plain(2))
    yield "refresh, uncached", lambda: (plain.refresh(3), plain.uncached(3))
    yield (
        "keys and counts",
        lambda: (plain.cache_key(1, c={"x": 1}), plain.cache_info()),
    )
    yield "invalidate all", lambda: (plain(4), plain.invalidate_all())
    yield "condition and unless", lambda: (chosen(1), chosen(2), chosen(7))
    yield "method", lambda: (thing.method(1), thing.method, Thing.method)
    yield "typed hit", lambda: (typed(1), model(1))
    yield "typed miss", lambda: (typed.refresh(2), model.refresh(2))
    yield "of another type", lambda: (client.set(typed.cache_key(3), "1"), typed(3))
    yield "does not fit", lambda: misfit(1)
    yield "raises", lambda: raises(failing)
    yield "unwritable result", lambda: unwritable(1)
    yield "bad arguments", lambda: misuse(plain)
    yield "a new one each time", lambda: made(cache)
    yield from options(cache)
    yield "repr, doc, dict", lambda: (repr(plain), plain.__doc__, vars(plain))


def refuse_tags(cache: Cache) -> None:
    with contextlib.suppress(TypeError):
        cache(tags=["{nobody}"])(lambda n: n)


def options(cache: Cache) -> Iterator[tuple[str, Once]]:
    @cache(key="{a}-{rest}:{more}", namespace="n", jitter=0.5, ttl=lambda result: "1m")
    def template(a: Any, *rest: Any, **more: Any) -> Any:
        return a

    @cache(key=lambda n: b"made" if n else 5, ttl=lambda result: result)
    def made_key(n: Any) -> Any:
        return n

    @cache(cache_exceptions={LookupError: 50, OSError: "1m"})
    def negative(error: str, *args: Any) -> None:
        raise {"lookup": LookupError, "os": FileNotFoundError}[error](*args)

    @cache(hard_timeout=30, cache_exceptions={LookupError: 50})
    def limited(n: int) -> float:
        return [1.0][n]

    yield (
        "template",
        lambda: (
            template("x-", 1, b=2),
            template((1, 2), "y" * 300),
            template.invalidate("x-", 1, b=2),
            template.invalidate_all(),
        ),
    )
    yield "callable key", lambda: (made_key(1), made_key.invalidate(1))
    yield "bad callables", lambda: refused(made_key, [0, -1, [], None])
    yield "negative", lambda: refused(lambda x: negative("lookup", x, [x]), [1, 2, "3"])
    yield "negative, anew", lambda: refused(lambda x: negative("os", x, "text"), [2])
    yield "negative, other", lambda: refused(lambda x: negative("lookup", {x}), [1])
    yield (
        "negative, dropped",
        lambda: (negative.invalidate("lookup", 1, [1]), negative.invalidate_all()),
    )
    yield "limited", lambda: (limited(0), limited.refresh(0), limited.invalidate(0))
    yield from freshness(cache)
    yield "limited, raises", lambda: refused(limited, [1, 1])
    yield "refused options", lambda: refused(lambda bad: cache(**bad)(refused), BAD)


def freshness(cache: Cache) -> Iterator[tuple[str, Once]]:
    @cache(ttl=0.001, stale=1000)
    def served(n: int, *, y: int = 0) -> list[int]:
        return [n]

    @cache(ttl=0.001, on_error="stale")
    def rescued(n: list[int]) -> float:
        return 1 / n.pop() if n else 1 / 0

    @cache(ttl=0.001, stale=1000, soft_timeout=30, early=True)
    def awaited(n: int) -> str:
        return "text"

    def behind() -> None:
        served(1, y=2)
        time.sleep(0.002)
        before = served.cache_info().refreshes
        # Again and again: one may be under way that began before the count was read.
        while served.cache_info().refreshes == before:
            served(1, y=2)
            time.sleep(0.0005)

    def softly() -> None:
        awaited(1)
        time.sleep(0.002)
        awaited(1)

    def failing() -> None:
        with contextlib.suppress(ZeroDivisionError):
            rescued([1])
            rescued([])
        time.sleep(0.002)
        with contextlib.suppress(ZeroDivisionError):
            rescued([])

    yield "refreshed behind", behind
    yield "refreshed softly", softly
    yield "an old result for a failure", failing


BAD: list[dict[str, Any]] = [
    {"key": "{nothing}"},
    {"key": 5},
    {"key": "{call}{arguments}"},
    {"key": "{call}"},
    {"namespace": ""},
    {"jitter": 2},
    {"ttl": "soon"},
    {"cache_exceptions": {LookupError: 1, int: 2}},
    {"cache_exceptions": {LookupError: "x"}},
    {"hard_timeout": 0},
    {"soft_timeout": 2, "hard_timeout": 1},
    {"soft_timeout": 2},
    {"stale": 1, "on_error": "fresh"},
    {"max_stale": 5},
]


def refused(call: Any, arguments: Any) -> None:
    for argument in arguments:
        with contextlib.suppress(TypeError, ValueError, LookupError, OSError):
            call(argument)
            raise AssertionError("no error")


def raises(failing: CachedFunction[Any, Any]) -> None:
    with contextlib.suppress(ZeroDivisionError):
        failing(1)
        raise AssertionError("no error")


def misuse(plain: CachedFunction[Any, Any]) -> None:
    for arguments, keywords in (((), {}), ((1,), {"a": 1}), ((object(),), {})):
        with contextlib.suppress(TypeError):
            plain(*arguments, **keywords)
            raise AssertionError("no error")


def made(cache: Cache) -> None:
    @cache(name="made")
    def function(n: int) -> int:
        return n if function else 0  # a cycle: its own cell

    @cache(name="typed")
    def other(n: int) -> tuple[int, ...]:
        return (n,) if other else ()

    function(1)
    other(1)
    gc.collect(0)


if __name__ == "__main__":
    main([Client, Cache, CachedFunction, CacheInfo], cases)
