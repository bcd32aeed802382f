"""AsyncToolHandle: made, and its methods."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from measure import Once, main
from redlane import Client
from redlane._core import ToolHandle


def cases(url: str) -> Iterator[tuple[str, Once]]:
    loop = asyncio.new_event_loop()
    client = Client(url, timeout=10)
    handle = ToolHandle(client, "memory").aio

    async def use() -> None:
        await handle.script("increment", ["tool:n"], [1, 0])
        await handle.run("GET", "tool:n")
        await handle.forget(b"tool:*", "server")

    yield "made", lambda: handle.sync.aio
    yield "used", lambda: loop.run_until_complete(use())
    loop.close()


if __name__ == "__main__":
    main([type(ToolHandle("memory://", "memory").aio)], cases)
