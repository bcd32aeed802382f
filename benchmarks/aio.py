"""What the rows of asyncio share: loops, and how each client is made on one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from benchmarks import clients
from benchmarks.harness import OURS, Bench, Goal, Lineup, Measure, Result, Role
from benchmarks.server import HOST

REDIS_ASYNCIO = "redis.asyncio + hiredis"
COREDIS = "coredis"
GLIDE = "valkey-glide"
KEY = "bench:get"

Gets = Callable[[Any], Awaitable[None]]
"""GETs one after another, by one task."""


def _uvloop() -> asyncio.AbstractEventLoop:
    import uvloop

    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": _uvloop,
}


async def redlane_client(bench: Bench) -> Any:
    from redlane import AsyncClient

    return AsyncClient(bench.server.url, timeout=5)


async def redis_asyncio_client(bench: Bench) -> Any:
    import hiredis  # noqa: F401  the peer has its C parser, as redis-py has
    import redis.asyncio

    return redis.asyncio.Redis(host=HOST, port=bench.server.port)


async def coredis_client(bench: Bench) -> Any:
    import coredis

    return coredis.Redis(host=HOST, port=bench.server.port)


async def glide_client(bench: Bench) -> Any:
    from glide import GlideClient, GlideClientConfiguration, NodeAddress

    return await GlideClient.create(
        GlideClientConfiguration(
            [NodeAddress(HOST, bench.server.port)], request_timeout=5000
        )
    )


CLIENTS: dict[str, tuple[Role, Callable[[Bench], Awaitable[Any]]]] = {
    OURS: ("ours", redlane_client),
    REDIS_ASYNCIO: ("peer", redis_asyncio_client),
    COREDIS: ("peer", coredis_client),
    GLIDE: ("peer", glide_client),
}


async def _close(client: Any) -> None:
    """By whichever name it has."""
    for name in ("aclose", "close", "disconnect"):
        if hasattr(client, name):
            closed = getattr(client, name)()
            if closed is not None:
                await closed
            return


async def _gets(client: Any, count: int) -> None:
    get = client.get
    for _ in range(count):
        await get(KEY)


def race(
    bench: Bench,
    row: int,
    what: str,
    tasks: int,
    each: int,
    rounds: int,
    goals: dict[str, list[Goal]],
) -> list[Result]:
    """`tasks` tasks of `each` GETs, on each kind of loop: the time that a GET takes."""
    bench.server.fill({KEY: clients.VALUE})
    return [
        _race_on(bench, row, f"{what}, {kind}", kind, tasks, each, rounds, goals[kind])
        for kind in LOOPS
    ]


def _race_on(
    bench: Bench,
    row: int,
    what: str,
    kind: str,
    tasks: int,
    each: int,
    rounds: int,
    goals: list[Goal],
) -> Result:
    lineup = Lineup(row, what)
    with ExitStack() as stack:
        for name, (role, make) in CLIENTS.items():
            lineup.add(
                name, role, partial(_measure, bench, stack, kind, make, tasks, each)
            )
        return lineup.race(rounds, goals)


def _measure(
    bench: Bench,
    stack: ExitStack,
    kind: str,
    make: Callable[[Bench], Awaitable[Any]],
    tasks: int,
    each: int,
) -> Measure:
    loop = LOOPS[kind]()
    stack.callback(loop.close)
    client = loop.run_until_complete(_made(bench, make))
    stack.callback(lambda: loop.run_until_complete(_close(client)))

    async def batch() -> float:
        begun = time.perf_counter()
        if tasks == 1:
            await _gets(client, each)
        else:
            await asyncio.gather(*(_gets(client, each) for _ in range(tasks)))
        return (time.perf_counter() - begun) / (tasks * each)

    return lambda: loop.run_until_complete(batch())


async def _made(bench: Bench, make: Callable[[Bench], Awaitable[Any]]) -> Any:
    client = await make(bench)
    value = await client.get(KEY)
    if value != clients.VALUE:
        raise RuntimeError(f"{client!r} does not give the value")
    return client
