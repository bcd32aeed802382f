"""AsyncReply: awaited, driven as a coroutine, cancelled, thrown into, given up."""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

from async_client import on, own_type
from measure import Once, main
from redlane import AsyncClient


def cases(url: str) -> Iterator[tuple[str, Once]]:
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        client = AsyncClient(url, timeout=10)
        yield "closed", lambda: client.get("key").close()
        yield "not awaited", lambda: forgotten(client)
        yield "thrown into", lambda: thrown(client)
        yield "in a task", on(loop, in_task, client)
        yield "cancelled", on(loop, cancelled, client)
        yield "twice", on(loop, twice, client)
        yield "a cast that raises", on(loop, cast, client)


def forgotten(client: AsyncClient[Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client.get("key")


def thrown(client: AsyncClient[Any]) -> None:
    with contextlib.suppress(KeyError):
        client.set("key", "x" * 1000).throw(KeyError("x"))


async def in_task(client: AsyncClient[Any]) -> None:
    await asyncio.create_task(client.set("key", "x" * 1000))
    await asyncio.wait_for(client.get("key"), 60)


async def cancelled(client: AsyncClient[Any]) -> None:
    tasks = [asyncio.create_task(client.get("key")) for _ in range(6)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await client.ping()


async def twice(client: AsyncClient[Any]) -> None:
    reply = client.get("key")
    await reply
    with contextlib.suppress(RuntimeError):
        await reply


def stop(_: object) -> float:
    raise StopIteration


async def cast(client: AsyncClient[Any]) -> None:
    await client.zadd("sorted", {"m": 1})
    with contextlib.suppress(RuntimeError):
        await client.zrange("sorted", 0, -1, withscores=True, score_cast_func=stop)
        raise AssertionError("no error")


if __name__ == "__main__":
    main([AsyncClient, own_type("AsyncReply")], cases)
