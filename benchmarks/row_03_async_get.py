"""Row 3: GETs of 100 bytes by 100 tasks of one event loop, at once."""

from __future__ import annotations

from benchmarks import aio
from benchmarks.harness import Bench, Result, at_least

ROW = 3
GOALS = [at_least(15, aio.REDIS_ASYNCIO), at_least(9, aio.GLIDE)]


def run(bench: Bench) -> list[Result]:
    return aio.race(
        bench,
        ROW,
        "asyncio GET, 100 tasks",
        tasks=100,
        each=bench.batch(20),
        rounds=bench.rounds(40),
        goals={"asyncio": GOALS, "uvloop": GOALS},
    )
