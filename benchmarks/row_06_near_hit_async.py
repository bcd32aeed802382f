"""Row 6: an awaited call of a decorated coroutine function whose result is near.

On asyncio and on uvloop, though such an `await` asks nothing of its loop.

Each is awaited in a loop of its own, one call after another, without the start of a
task. The floor is a coroutine function that does nothing but return.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from itertools import repeat
from time import perf_counter
from typing import Any

from benchmarks import aio, clients, near
from benchmarks.harness import OURS, Bench, Goal, Lineup, Measure, Result, at_most

ROW = 6
TTL = 3600  # seconds: nothing ends while the row runs
SIZE = 1000
NAME = "Ada Lovelace"
PREFIX = "bench:near-async"

EMPTY = "empty coroutine"
AIOCACHE = "aiocache, memory"
CASHEWS = "cashews, memory"

# From 3.12 on, `await` takes the fast way for the interpreter's own coroutines alone.
LIMIT = 0.6 if sys.version_info < (3, 12) else 0.95

Function = Callable[[int], Awaitable[str]]
Make = Callable[[Bench, ExitStack, Any], Function]


def run(bench: Bench) -> list[Result]:
    return [run_on(bench, kind) for kind in aio.LOOPS]


def run_on(bench: Bench, kind: str) -> Result:
    goals: list[Goal] = [at_most(LIMIT, EMPTY)]
    lineup = Lineup(ROW, f"near hit, await f(1), {kind}")
    watched: list[near.Watched] = []
    with ExitStack() as stack:

        def ours() -> Measure:
            watched.append(enter_redlane(bench, stack, kind))
            return watched[0]

        lineup.add(OURS, "ours", ours)
        for name, make, batch in PEERS:
            lineup.add(
                name,
                "floor" if name == EMPTY else "peer",
                partial(enter, bench, stack, kind, make, batch),
            )
        result = lineup.race(bench.rounds(200), goals)
        result.facts += [measure.fact() for measure in watched]
        return result


async def batch_of(f: Function, count: int) -> float:
    start = perf_counter()
    for _ in repeat(None, count):
        await f(1)
    return (perf_counter() - start) / count


def timed(loop: asyncio.AbstractEventLoop, f: Function, count: int) -> Measure:
    return lambda: loop.run_until_complete(batch_of(f, count))


def subject(ran: list[int]) -> Function:
    async def user_name(user_id: int) -> str:
        ran.append(1)
        return NAME

    return user_name


def enter_redlane(bench: Bench, stack: ExitStack, kind: str) -> near.Watched:
    from redlane import Cache

    kept = Cache(clients.redlane_client(bench, stack), prefix=PREFIX)
    loop = aio.new_loop(kind, stack)
    ran: list[int] = []
    f: Function = kept(ttl=TTL)(subject(ran))
    near.wait_until_near(kept, lambda: loop.run_until_complete(batch_of(f, 1)))
    if len(ran) > 1:
        raise RuntimeError(f"redlane called the function {len(ran)} times")
    count = bench.batch(10_000)
    return near.Watched(kept, timed(loop, f, count), count)


# --- the peers ------------------------------------------------------------------------


def enter(bench: Bench, stack: ExitStack, kind: str, make: Make, batch: int) -> Measure:
    loop = aio.new_loop(kind, stack)
    ran: list[int] = []
    f = make(bench, stack, (loop, ran))
    if loop.run_until_complete(f(1)) != NAME:
        raise RuntimeError("not the value")
    loop.run_until_complete(batch_of(f, 3))
    if len(ran) > 1:
        raise RuntimeError(f"the function was called {len(ran)} times")
    return timed(loop, f, bench.batch(batch))


def empty(_: Bench, __: ExitStack, ___: Any) -> Function:
    async def user_name(user_id: int) -> str:
        return NAME

    return user_name


def aiocache_function(_: Bench, __: ExitStack, given: Any) -> Function:
    from aiocache import cached

    decorate = cached(ttl=TTL)
    found: Function = decorate(subject(given[1]))
    return found


def cashews_function(_: Bench, stack: ExitStack, given: Any) -> Function:
    from cashews import Cache

    loop, ran = given
    cache = Cache()
    cache.setup("mem://", size=SIZE)
    stack.callback(lambda: loop.run_until_complete(cache.close()))
    decorate: Callable[[Function], Function] = cache(ttl=TTL, key="user:{user_id}")
    return decorate(subject(ran))


PEERS: tuple[tuple[str, Make, int], ...] = (
    (EMPTY, empty, 10_000),
    (AIOCACHE, aiocache_function, 50),
    (CASHEWS, cashews_function, 50),
)
