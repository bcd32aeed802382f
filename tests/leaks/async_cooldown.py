"""AsyncCooldown: made, and its methods."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from measure import Once, main
from redlane import AsyncCooldown, Client


def cases(url: str) -> Iterator[tuple[str, Once]]:
    loop = asyncio.new_event_loop()
    client = Client(url, timeout=10)
    cooldown = AsyncCooldown(client, 60)

    async def use() -> None:
        await cooldown.acquire("a")
        await cooldown.acquire("a")
        await cooldown.peek("a")
        await cooldown.reset("a")

    yield "made", lambda: (AsyncCooldown(client, 5), cooldown.sync.aio)
    yield "used", lambda: loop.run_until_complete(use())
    yield "asked", lambda: (cooldown.key("a"), cooldown.seconds, cooldown.prefix)
    loop.close()


if __name__ == "__main__":
    main([AsyncCooldown], cases)
