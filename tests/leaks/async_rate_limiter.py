"""AsyncRateLimiter: made, its methods, and the decorator."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from measure import Once, main
from redlane import AsyncRateLimiter, Client, RateLimitExceeded


def cases(url: str) -> Iterator[tuple[str, Once]]:
    loop = asyncio.new_event_loop()
    client = Client(url, timeout=10)
    limiter = AsyncRateLimiter(client)

    async def use() -> None:
        await limiter.hit("u", "5/year;9/day")
        await limiter.peek("u", "5/year")
        await limiter.refund("u", "5/year")
        await limiter.reset("u", "5/year;9/day")

    @limiter.limit("1/year", key="all")
    async def act() -> None:
        pass

    async def call() -> None:
        with contextlib.suppress(RateLimitExceeded):
            await act()

    yield "made", lambda: (AsyncRateLimiter(client), limiter.sync.aio)
    yield "used", lambda: loop.run_until_complete(use())
    yield "decorated", lambda: loop.run_until_complete(call())
    loop.close()


if __name__ == "__main__":
    main([AsyncRateLimiter], cases)
