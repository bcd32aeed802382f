"""What type checkers make of rate limits; checked by `make types`, never run."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from redlane import (
    AsyncRateLimiter,
    Decision,
    LimitStatus,
    RateLimiter,
    RateLimitExceeded,
    rate_limit,
)
from typing_extensions import assert_type

limiter = RateLimiter("memory://", algorithm="gcra", on_error="deny", hashed=True)
decision = limiter.hit("user:42", "5/minute;10/hour", cost=2)
assert_type(decision, Decision)
assert_type(decision.limits, tuple[LimitStatus, ...])
assert_type(limiter.reset("user:42", (5, 60)), bool)
assert_type(limiter.aio, AsyncRateLimiter)


@rate_limit("5/minute", key=lambda user: user, methods=["GET"], trusted_hops=1)
def plain(user: str) -> int:
    return len(user)


@RateLimiter.limit(requests_limit=100, time_window=60)
async def awaited(user: str) -> int:
    return len(user)


@limiter.limit("5/minute", scope="shared", error_message="slowly")
def own() -> None: ...


def checked(error: RateLimitExceeded) -> None:
    function: Callable[[str], int] = plain
    assert_type(plain("ann"), int)
    assert_type(function("ann"), int)
    coroutine: Coroutine[Any, Any, int] = awaited("ann")
    coroutine.close()
    assert_type(own(), None)
    assert_type(error.decision, Decision)
    assert_type(error.retry_after, float)
