"""What the rows of asyncio share: loops, and how each client is made on one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any, TypeVar

from benchmarks import clients
from benchmarks.harness import (
    OURS,
    Bench,
    Goal,
    Lineup,
    Measure,
    Result,
    Role,
    Unavailable,
)
from benchmarks.server import HOST

REDIS_ASYNCIO = "redis.asyncio + hiredis"
COREDIS = "coredis"
GLIDE = "valkey-glide"
KEY = "bench:get"
PATIENCE = 60.0
"""Seconds for setting a client up, for one batch and for closing: a peer that hangs
leaves the race, and does not hold it up."""

T = TypeVar("T")
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


def new_loop(kind: str, stack: ExitStack) -> asyncio.AbstractEventLoop:
    loop = LOOPS[kind]()
    stack.callback(loop.close)
    return loop


def run_within(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T], what: str
) -> T:
    """Its result; Unavailable after PATIENCE, whether it takes its cancellation or not.

    wait_for would wait until the cancellation is taken.
    """

    async def watch() -> T:
        task = asyncio.ensure_future(coroutine)
        await asyncio.wait({task}, timeout=PATIENCE)
        if not task.done():
            task.cancel()
            raise Unavailable(f"{what} was not over within {PATIENCE:.0f} s")
        return task.result()

    return loop.run_until_complete(watch())


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

    ready = asyncio.ensure_future(opened.wait())
    await asyncio.wait({ready, holder}, return_when=asyncio.FIRST_COMPLETED)
    if holder.done():
        ready.cancel()
        await holder
    return client, close


async def glide_client(bench: Bench) -> Made:
    """All of its clients are answered through one pipe, which the first of their loops
    reads until it is closed: those of another loop would wait for ever meanwhile."""
    from glide import (
        AdvancedGlideClientConfiguration,
        GlideClient,
        GlideClientConfiguration,
        NodeAddress,
    )

    patient = AdvancedGlideClientConfiguration(connection_timeout=30_000)
    client = await GlideClient.create(
        GlideClientConfiguration(
            [NodeAddress(HOST, bench.server.port)],
            request_timeout=30_000,
            advanced_config=patient,
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
        for name, (role, _) in CLIENTS.items():
            lineup.add(
                name, role, partial(_measure, bench, stack, kind, name, tasks, each)
            )
        return lineup.race(rounds, goals)


def _measure(
    bench: Bench, stack: ExitStack, kind: str, name: str, tasks: int, each: int
) -> Measure:
    role, make = CLIENTS[name]
    loop = new_loop(kind, stack)
    client, close = run_within(loop, _made(bench, make), f"connecting {name}")
    stack.callback(_close, loop, role, close)

    async def batch() -> float:
        begun = time.perf_counter()
        if tasks == 1:
            await _gets(client, each)
        else:
            await asyncio.gather(*(_gets(client, each) for _ in range(tasks)))
        return (time.perf_counter() - begun) / (tasks * each)

    return lambda: run_within(loop, batch(), f"a batch of {name}")


async def _made(bench: Bench, make: Callable[[Bench], Awaitable[Made]]) -> Made:
    client, close = await make(bench)
    value = await client.get(KEY)
    if value != clients.VALUE:
        raise RuntimeError(f"{client!r} does not give the value")
    return client, close


def _close(
    loop: asyncio.AbstractEventLoop, role: Role, close: Callable[[], Awaitable[Any]]
) -> None:
    """How a peer takes its end is its own affair."""

    async def closed() -> None:
        await close()

    with suppress(*((Exception,) if role == "peer" else ())):
        run_within(loop, closed(), "closing")
