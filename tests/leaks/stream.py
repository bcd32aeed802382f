"""A loop's connection: shared, of a blocking command, ended by the server, by a
deadline, by who closes the client."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

from async_client import each, on, opened, own_type
from measure import Once, main
from redlane import AsyncClient, RedlaneError


def cases(url: str) -> Iterator[tuple[str, Once]]:
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        client = AsyncClient(url, timeout=10)
        yield "opened and closed", on(loop, opened, url)
        yield "large values", each(10, on(loop, large, client))
        if url.startswith("redis://"):
            yield "a command that blocks", each(10, on(loop, blocks, client))
            yield "ended by the server", each(20, on(loop, killed, client))
        yield "nobody there", each(20, on(loop, nobody))


async def large(client: AsyncClient[Any]) -> None:
    value = b"x" * 1_000_000
    await client.set("large", value)
    assert await client.get("large") == value


async def blocks(client: AsyncClient[Any]) -> None:
    assert await client.execute("BLPOP", "none", "0.001") is None


async def killed(client: AsyncClient[Any]) -> None:
    await client.ping()
    with contextlib.suppress(RedlaneError):
        await client.execute("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no")
    with contextlib.suppress(RedlaneError):
        await client.ping()


async def nobody() -> None:
    async with AsyncClient("redis://127.0.0.1:1") as client:
        with contextlib.suppress(RedlaneError):
            await client.ping()


if __name__ == "__main__":
    main([own_type("Stream"), AsyncClient], cases)
