"""AsyncCounter: made, its methods, and sources that are awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from measure import Once, main
from redlane import AsyncCache, AsyncCounter, Client


def cases(url: str) -> Iterator[tuple[str, Once]]:
    loop = asyncio.new_event_loop()
    client = Client(url, timeout=10)
    cache = AsyncCache(client, prefix="leaks", ttl=100)

    async def source(number: int) -> int:
        await asyncio.sleep(0)
        return number

    counter = AsyncCounter(cache, "n:{id}", source=source)

    async def count() -> None:
        await counter.get(1)
        await counter.increment(1, amount=2)
        await counter.transfer(1, 2)
        await counter.delete(1)
        counter.key(1)

    yield "made", lambda: (AsyncCounter(client, "n"), counter.sync.aio)
    yield "counted", lambda: loop.run_until_complete(count())
    loop.close()


if __name__ == "__main__":
    main([AsyncCounter], cases)
