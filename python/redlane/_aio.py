"""The methods of AsyncClient that are made of others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, TypeVar

from redlane._tasks import end_tasks, wait_ended

T = TypeVar("T")


async def enter(entered: T) -> T:
    """`async with` gives the object itself."""
    return entered


async def close(client: Any) -> None:
    """Ends what works for the client behind, closes its link, and gives the loop a turn
    to let its connection go."""
    try:  # they may have something to tell the server
        await wait_ended(end_tasks(client._link_id))
    finally:
        client._close_link()
    await wait_ended(end_tasks(client._link_id, closed=True))
    await asyncio.sleep(0)


async def reset(pipeline: Any) -> None:
    """The end of `async with client.pipeline()`."""
    pipeline.reset()


async def health(client: Any) -> dict[str, Any]:
    """Client.health(), which waits for the server, in a thread."""
    report: dict[str, Any] = await asyncio.to_thread(client.sync.health)
    return report


async def scan_iter(
    client: Any,
    match: str | bytes | None = None,
    count: int | None = None,
    _type: str | None = None,
) -> AsyncIterator[Any]:
    """Keys, step by step of scan()."""
    cursor = 0
    while True:
        before = cursor
        cursor, keys = await client.scan(before, match=match, count=count, _type=_type)
        for key in keys:
            yield key
        if not cursor:
            return
        if cursor == before:
            from redlane import ReplyError

            raise ReplyError("SCAN: the cursor stands still")
