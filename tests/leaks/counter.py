"""Counter: with and without a source, of a client and of a cache."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from measure import Once, main
from redlane import Client, RedlaneError
from redlane._core import Cache, Counter


def cases(url: str) -> Iterator[tuple[str, Once]]:
    client = Client(url, timeout=10)
    client.flushdb()
    cache = Cache(client, prefix="leaks")
    plain = Counter(client, "plain:{id}")
    sourced = Counter(client, "sourced:{id}", ttl=100, source=lambda id: 40)
    failing = Counter(client, "failing:{id}", source=lambda id: 1 // 0)

    yield "dropped unused", lambda: Counter(client, "{a}:{b}", source=lambda a, b: 1)
    yield (
        "of a cache",
        lambda: cache.counter("n:{id}", ttl=9, source=lambda id: 3).get(1),
    )
    yield "refused template", lambda: refused(lambda: Counter(client, "{"))
    yield "plain", lambda: (plain.increment(1), plain.get(1), plain.delete(1))
    yield "rebuilt", lambda: (sourced.get(2), sourced.increment(2), sourced.reset(2))
    yield "by name", lambda: (sourced.get(id="x"), sourced.key(id="x"))
    yield "transfer", lambda: (sourced.get(3), sourced.transfer(3, 4))
    yield (
        "source that raises",
        lambda: refused(lambda: failing.get(1), ZeroDivisionError),
    )
    yield "bad arguments", lambda: misuse(plain)
    yield "another type", lambda: another_type(client, plain)


def refused(call: Once, *errors: type[BaseException]) -> None:
    with contextlib.suppress(*(errors or (RedlaneError, ValueError, TypeError))):
        call()
        raise AssertionError("not refused")


def misuse(counter: Counter) -> None:
    refused(lambda: counter.get())
    refused(lambda: counter.get(1, 2))
    refused(lambda: counter.get(nothing=1))
    refused(lambda: counter.increment(1, amount="x"))  # type: ignore[arg-type]


def another_type(client: Client[Any], counter: Counter) -> None:
    client.sadd("plain:set", 1)
    assert counter.increment("set") is None
    client.delete("plain:set")


if __name__ == "__main__":
    main([Client, Cache, Counter], cases)
