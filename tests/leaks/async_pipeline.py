"""AsyncPipeline: filled, run, dropped half-way, and with errors inside."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

from async_client import on
from measure import Once, main
from redlane import AsyncClient, AsyncPipeline, RedlaneError


def cases(url: str) -> Iterator[tuple[str, Once]]:
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        client = AsyncClient(url, timeout=10)
        yield "dropped", lambda: client.pipeline().get("key").set("key", "value")
        yield "empty", on(loop, lambda: client.pipeline().execute())
        yield "run", on(loop, run, client, False)
        yield "a transaction", on(loop, run, client, True)
        yield "an error inside", on(loop, failing, client, False)
        yield "an error inside a transaction", on(loop, failing, client, True)
        yield "not awaited", lambda: client.pipeline().get("key").execute().close()


async def run(client: AsyncClient[Any], transaction: bool) -> None:
    async with client.pipeline(transaction=transaction) as pipeline:
        pipeline.set("a", "value").get("a").hset("h", mapping={"x": 1}).hgetall("h")
        pipeline.hmget("h", [])
        assert (await pipeline.execute())[1] == b"value"
    await client.delete("a", "h")


async def failing(client: AsyncClient[Any], transaction: bool) -> None:
    pipeline = client.pipeline(transaction=transaction)
    with contextlib.suppress(RedlaneError):
        await pipeline.set("text", "x").incr("text").execute()
        raise AssertionError("no error")
    await pipeline.get("text").incr("text").execute(raise_on_error=False)


if __name__ == "__main__":
    main([AsyncClient, AsyncPipeline], cases)
