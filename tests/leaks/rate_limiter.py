"""RateLimiter, its decisions, and the decorator."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

from measure import Once, main
from redlane import Client, RateLimitExceeded
from redlane._core import Decision, LimitStatus, RateLimiter

METHOD = type(vars(RateLimiter)["limit"])


def cases(url: str) -> Iterator[tuple[str, Once]]:
    client = Client(url, timeout=10)
    client.flushdb()
    numbers = itertools.count()
    for algorithm in ("sliding-window", "fixed-window", "sliding-log", "gcra"):
        limiter = RateLimiter(client, algorithm)  # type: ignore[arg-type]
        yield f"{algorithm}: used", lambda one=limiter: use(one)
        yield f"{algorithm}: refused", lambda one=limiter: one.hit("full", "1/year")
    for algorithm in ("sliding-window", "fixed-window"):
        batched = RateLimiter(client, algorithm, batch=50)  # type: ignore[arg-type]
        yield f"{algorithm}: a batch", lambda one=batched: use(one)
        yield f"{algorithm}: spent", lambda one=batched: one.hit("u", "1000000/year")
    limiter = RateLimiter(client)
    yield "bad batch", lambda: refused(lambda: RateLimiter(client, batch=1))
    yield "dropped unused", lambda: RateLimiter(client, prefix="p", hashed=True).aio
    yield "many rates", lambda: limiter.peek("u", f"{next(numbers) % 1000 + 1}/day")
    yield "tuples", lambda: limiter.peek("u", [(5, 60), "7/hour"])
    yield "kept decisions", lambda: [limiter.peek("u", "5/day") for _ in range(40)]
    yield "limits", lambda: limiter.peek("u", "5/day;6/hour").limits
    yield "bad rates", lambda: refused(lambda: limiter.hit("u", "5/never"))
    yield "bad cost", lambda: refused(lambda: limiter.hit("u", "5/day", 6))
    yield "bad identity", lambda: refused(lambda: limiter.hit(None, "5/day"))  # type: ignore[arg-type]
    yield "bad options", lambda: refused(lambda: RateLimiter(client, "x"))  # type: ignore[arg-type]
    yield "decorated", lambda: decorate(limiter)


def use(limiter: RateLimiter) -> None:
    limiter.hit("u", "5/year;9/day", 2)
    limiter.refund("u", "5/year;9/day", 1)
    limiter.reset("u", "5/year;9/day")


def refused(call: Once) -> None:
    with contextlib.suppress(Exception):
        call()
        raise AssertionError("not refused")


def decorate(limiter: RateLimiter) -> None:
    @limiter.limit("1/year", key=lambda user: user, scope="leak")
    def act(user: Any) -> None:
        pass

    act("a")
    with contextlib.suppress(RateLimitExceeded):
        act("a")
    limiter.reset("leak:a", "1/year")


if __name__ == "__main__":
    main([Client, RateLimiter, Decision, LimitStatus, METHOD], cases)
