"""Row 3: GETs of 100 bytes by 100 tasks of one event loop, at once."""

from __future__ import annotations

from benchmarks import aio
from benchmarks.harness import Bench, Result, at_least, within

ROW = 3
GOALS = [
    at_least(15, aio.REDIS_ASYNCIO),
    at_least(9, aio.GLIDE),
    within(5.5e-6, aio.REDIS_ASYNCIO, quoted=41e-6),  # rueidis' own figure, in Go
]


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
