"""AsyncClient: made, used on a loop that stays and on loops that go, closed or not."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from measure import Once, main
from redlane import AsyncClient, Client, ConfigurationError, RedlaneError


def own_type(name: str) -> Any:
    """A type of the module that no name gives out."""
    (found,) = (
        made
        for made in gc.get_objects()
        if isinstance(made, type) and repr(made) == f"<class 'redlane._core.{name}'>"
    )
    return found


def on(
    loop: asyncio.AbstractEventLoop, use: Callable[..., Awaitable[Any]], *args: Any
) -> Once:
    """One use of it, on a loop that stays."""

    async def awaits() -> Any:
        return await use(*args)

    return lambda: loop.run_until_complete(awaits())


def each(number: int, once: Once) -> Once:
    """What takes long is run at each so-manieth call alone."""
    calls = itertools.count()
    return lambda: once() if next(calls) % number == 0 else None


def cases(url: str) -> Iterator[tuple[str, Once]]:
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        client = AsyncClient(url, timeout=10)
        yield "made", lambda: AsyncClient(url)
        yield "bad options", refused
        yield "twins", lambda: (Client(url).aio, AsyncClient(url).sync.aio)
        yield "commands", on(loop, commands, client)
        yield "a client for each use", on(loop, opened, url)
        yield "an error", on(loop, failing, client)
        yield "scan_iter", on(loop, scanned, client)
        yield "a loop for each use", each(5, lambda: asyncio.run(commands(client)))
        yield "after its end", on(loop, closed, url)


async def commands(client: AsyncClient[Any]) -> None:
    await client.set("key", "value")
    assert (
        await asyncio.gather(*(client.get("key") for _ in range(5))) == [b"value"] * 5
    )
    assert await client.hmget("hash", []) == []
    await client.delete("key")


async def opened(url: str) -> None:
    async with AsyncClient(url, timeout=10) as client:
        await client.ping()


async def failing(client: AsyncClient[Any]) -> None:
    await client.set("text", "x")
    for wrong in (client.incr("text"), client.execute("NONSENSE")):
        with contextlib.suppress(RedlaneError):
            await wrong
            raise AssertionError("no error")


async def scanned(client: AsyncClient[Any]) -> None:
    async for _ in client.scan_iter(match="k*"):
        pass


async def closed(url: str) -> None:
    client = AsyncClient(url, timeout=10)
    reply = client.get("key")
    await client.aclose()
    with contextlib.suppress(RedlaneError):
        await reply
        raise AssertionError("no error")
    reply.close()


def refused() -> None:
    with contextlib.suppress(ConfigurationError):
        AsyncClient("nonsense://")


if __name__ == "__main__":
    main([AsyncClient, Client], cases)
