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


Made = tuple[Any, Callable[[], Awaitable[Any]]]
"""A client, and what closes it."""


async def redlane_client(bench: Bench) -> Made:
    from redlane import AsyncClient

    client = AsyncClient(bench.server.url, timeout=30, connect_timeout=30)
    return client, client.aclose


async def redis_asyncio_client(bench: Bench) -> Made:
    import hiredis  # noqa: F401  the peer has its C parser, as redis-py has
    import redis.asyncio

    client = redis.asyncio.Redis(host=HOST, port=bench.server.port)
    return client, client.aclose


async def coredis_client(bench: Bench) -> Made:
    import coredis

    client = coredis.Redis(host=HOST, port=bench.server.port)
    opened, ended = asyncio.Event(), asyncio.Event()

    async def hold() -> None:  # one task must enter it and leave it
        async with client:
            opened.set()
            await ended.wait()

    holder = asyncio.ensure_future(hold())

    async def close() -> None:
        ended.set()
        await holder

    await opened.wait()
    return client, close


async def glide_client(bench: Bench) -> Made:
    from glide import GlideClient, GlideClientConfiguration, NodeAddress

    client = await GlideClient.create(
        GlideClientConfiguration(
            [NodeAddress(HOST, bench.server.port)], request_timeout=5000
        )
    )
    return client, client.close


CLIENTS: dict[str, tuple[Role, Callable[[Bench], Awaitable[Made]]]] = {
    OURS: ("ours", redlane_client),
    REDIS_ASYNCIO: ("peer", redis_asyncio_client),
    COREDIS: ("peer", coredis_client),
    GLIDE: ("peer", glide_client),
}


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
    make: Callable[[Bench], Awaitable[Made]],
    tasks: int,
    each: int,
) -> Measure:
    loop = LOOPS[kind]()
    stack.callback(loop.close)
    client, close = loop.run_until_complete(_made(bench, make))
    stack.callback(lambda: loop.run_until_complete(_closed(close)))

    async def batch() -> float:
        begun = time.perf_counter()
        if tasks == 1:
            await _gets(client, each)
        else:
            await asyncio.gather(*(_gets(client, each) for _ in range(tasks)))
        return (time.perf_counter() - begun) / (tasks * each)

    return lambda: loop.run_until_complete(batch())


async def _made(bench: Bench, make: Callable[[Bench], Awaitable[Made]]) -> Made:
    client, close = await make(bench)
    value = await client.get(KEY)
    if value != clients.VALUE:
        raise RuntimeError(f"{client!r} does not give the value")
    return client, close


async def _closed(close: Callable[[], Awaitable[Any]]) -> None:
    await close()
