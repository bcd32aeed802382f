"""Row 4: one GET of 100 bytes after another, by one task of an event loop."""

from __future__ import annotations

from benchmarks import aio
from benchmarks.harness import Bench, Result, at_least

ROW = 4
GOALS = [at_least(1.3, aio.REDIS_ASYNCIO)]


def run(bench: Bench) -> list[Result]:
    return aio.race(
        bench,
        ROW,
        "asyncio GET, 1 task",
        tasks=1,
        each=bench.batch(100),
        rounds=bench.rounds(100),
        goals={"asyncio": GOALS, "uvloop": GOALS},
    )
