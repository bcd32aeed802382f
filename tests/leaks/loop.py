"""What is kept for a loop: it goes with loops that were closed, or just dropped."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Iterator
from typing import Any

from async_client import commands, each, own_type
from measure import Once, main
from redlane import AsyncClient


def cases(url: str) -> Iterator[tuple[str, Once]]:
    client = AsyncClient(url, timeout=10)
    yield "closed", each(5, lambda: asyncio.run(commands(client)))
    yield "dropped", each(10, lambda: dropped(client))
    yield "dropped while it waits", each(10, lambda: waiting(client))


def dropped(client: AsyncClient[Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        loop = asyncio.new_event_loop()
        loop.run_until_complete(commands(client))
        del loop
        gc.collect()


def waiting(client: AsyncClient[Any]) -> None:
    async def leave() -> None:
        task = asyncio.ensure_future(client.get("key"))
        await asyncio.sleep(0)
        task.cancel()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        loop = asyncio.new_event_loop()
        loop.run_until_complete(leave())
        del loop
        gc.collect()


if __name__ == "__main__":
    main([own_type("Loop"), AsyncClient], cases)
