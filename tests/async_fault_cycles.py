"""Makes asynchronous clients and tools that meet a fault, are cancelled or dropped,
many times, on loops that stay and loops that go, and says what has grown. A process of
its own, since the faults are made in another; see test_async_leaks.py.
Usage: async_fault_cycles.py LOOP ROUNDS BATCH KIND=URL…; BATCH cycles a round, at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).with_name("leaks")))

from aio import KINDS, end, until
from fault_cycles import TIMEOUT
from measure import growth
from redlane import (
    AsyncCache,
    AsyncClient,
    AsyncCooldown,
    AsyncCounter,
    AsyncRateLimiter,
    AsyncVideoCache,
    RedisCache,
    RedlaneError,
)


async def five(number: int = 1) -> int:
    await asyncio.sleep(0)
    return 5


async def scans(client: AsyncClient[Any]) -> list[Any]:
    return [key async for key in client.scan_iter()]


async def listens(client: AsyncClient[Any]) -> None:
    async for _ in client.subscribe("leaks", patterns=["leaks.*"]):
        return


def calls(client: AsyncClient[Any]) -> Iterator[Callable[[], Awaitable[Any]]]:
    """One of each way in which a tool or a client asks the server."""
    cache = AsyncCache(client, prefix="leaks", ttl=60)
    strict = AsyncCache(client, prefix="strict", fallback="raise")
    counter = AsyncCounter(client.sync, "n:{id}", source=five)
    tenant = RedisCache.from_client(client)
    yield lambda: client.get("a")
    yield lambda: client.set("a", "x" * 2000)
    yield lambda: asyncio.gather(*(client.mget(["a", "b"]) for _ in range(3)))
    yield lambda: client.pipeline().set("a", 1).get("a").execute()
    yield lambda: client.pipeline(transaction=True).get("a").execute()
    yield lambda: scans(client)
    yield lambda: client.execute("BLPOP", "none", 0.001)
    yield lambda: client.eval("return 1", 0)
    yield lambda: client.health()
    yield lambda: cache.get("a")
    yield lambda: cache.set("a", [1])
    yield lambda: cache.get_or_set("b", five)
    yield lambda: cache(name="f")(five)(1)
    # As short as the others: a loop keeps a hundred cancelled timers until their time.
    yield lambda: cache(name="h", hard_timeout=TIMEOUT, lock=False)(five)(1)
    yield lambda: cache(name="g", tags=["n:{number}"], on_error="stale")(five)(1)
    yield lambda: cache(name="r", stale=60)(five).refresh(1)
    yield lambda: cache.invalidate("leaks:*")
    yield lambda: cache.set("t", [1], tags=["a"])
    yield lambda: cache.invalidate_tags("a", "b")
    yield lambda: strict.get("a")
    yield lambda: strict.get_or_set("b", five)
    yield lambda: counter.get(1)
    yield lambda: counter.increment(1)
    yield lambda: counter.transfer(1, 2)
    yield lambda: AsyncVideoCache(client.sync).get("a", ["b"])
    yield lambda: AsyncVideoCache(client.sync).set("a", ["b"], "u")
    yield lambda: AsyncRateLimiter(client).hit("u", "5/minute;9/hour")
    yield lambda: AsyncRateLimiter(client, "fixed-window", "deny").refund("u", "5/m")
    yield lambda: AsyncRateLimiter(client, "sliding-log").reset("u", "5/minute")
    yield lambda: AsyncCooldown(client, 5).acquire("u")
    yield lambda: tenant.with_context("a", "d").aio.set("k", b"v", 5)


class Cycles:
    """Each takes up where the last one left, so that all ways come in turn."""

    def __init__(self, kind: str, batch: int) -> None:
        self.kind, self.size = kind, batch
        self.loop = KINDS[kind]()
        self.loop.set_exception_handler(complain)
        self.count = len(list(calls(AsyncClient("memory://"))))
        self.number = self.rounds = 0

    async def one(self, url: str) -> None:
        """Two calls of a client, the first of which meets the fault, perhaps cut short
        by its caller; and then the client's end, or none."""
        number, self.number = self.number, self.number + 1
        client = AsyncClient(url, timeout=TIMEOUT, connect_timeout=TIMEOUT)
        ways = list(calls(client))
        for offset in (0, 7):
            task = asyncio.ensure_future(ways[(number + offset) % self.count]())
            if number % 5 == offset:
                await asyncio.wait([task], timeout=(number % 7) * TIMEOUT / 10)
                task.cancel()
            with contextlib.suppress(
                RedlaneError, UnicodeDecodeError, asyncio.CancelledError
            ):
                await task
            del task
        if number % 11 == 0:
            # A subscription waits for a server that comes back: it is always ended.
            with contextlib.suppress(asyncio.TimeoutError, RedlaneError):
                await asyncio.wait_for(listens(client), TIMEOUT / 2)
        if number % 3 == 0:
            await client.close()
        elif number % 3 == 1:
            ways.append(lambda: ways)  # type: ignore[arg-type,return-value]

    async def batch(self, url: str) -> None:
        await asyncio.gather(*(self.one(url) for _ in range(self.size)))
        # What exceeded its time is ended behind its caller.
        this = {asyncio.current_task()}
        await until(lambda: asyncio.all_tasks() == this, "the end of all tasks")

    def once(self, url: str) -> None:
        """Each fourth batch has a loop of its own, every other of those is closed with
        no word to those who used it."""
        self.rounds += 1
        if self.rounds % 4:
            self.loop.run_until_complete(self.batch(url))
        else:
            loop = KINDS[self.kind]()
            loop.set_exception_handler(complain)
            loop.run_until_complete(self.batch(url))
            loop.close() if self.rounds % 8 else end(loop)
        gc.collect()


def complain(_: object, context: dict[str, Any]) -> None:
    raise SystemExit(f"the loop complains: {context}")


def main() -> None:
    logging.disable()
    kind, rounds, batch, *faults = sys.argv[1:]
    cycles = Cycles(kind, int(batch))
    types: list[type] = [AsyncClient, AsyncCache, AsyncCounter, AsyncVideoCache]
    for _ in range(40):  # fills the interpreter's own caches, at little cost
        cycles.once("redis://127.0.0.1:1")
    for fault in faults:
        name, _, url = fault.partition("=")
        for more in (1, 2, 4, 8):  # what a leak leaves grows with the rounds
            found = growth(
                lambda url=url: cycles.once(url),
                types,
                int(rounds) * more,
                cycles.size,
            )
            if not found:
                break
        print(f"{name}: {'; '.join(found) or 'clean'}", flush=True)
    end(cycles.loop)


if __name__ == "__main__":
    main()
