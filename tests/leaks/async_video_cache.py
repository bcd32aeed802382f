"""AsyncVideoCache: made, and its methods."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from measure import Once, main
from redlane import AsyncVideoCache, Client


def cases(url: str) -> Iterator[tuple[str, Once]]:
    loop = asyncio.new_event_loop()
    client = Client(url, timeout=10)
    videos = AsyncVideoCache(client)

    async def use() -> None:
        await videos.set("black", ["white"], "https://v")
        await videos.get("black", ["white"])
        await videos.get("black", ["none"])

    yield "made", lambda: (AsyncVideoCache(client), videos.sync.aio)
    yield "used", lambda: loop.run_until_complete(use())
    loop.close()


if __name__ == "__main__":
    main([AsyncVideoCache], cases)
