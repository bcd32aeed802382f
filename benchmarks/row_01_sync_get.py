"""Row 1: one blocking GET of 100 bytes after another, on one connection."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from benchmarks import clients
from benchmarks.harness import (
    OURS,
    Bench,
    Lineup,
    Measure,
    Result,
    at_least,
    at_most,
    loop,
)

ROW = 1
KEY = "bench:get"


def run(bench: Bench) -> list[Result]:
    lineup = Lineup(ROW, "sync GET, 100 bytes")
    count = bench.batch(100)
    bench.server.fill({KEY: clients.VALUE})
    with ExitStack() as stack:

        def measure(client: Any) -> Measure:
            if client.get(KEY) != clients.VALUE:
                raise RuntimeError(f"{client!r} does not give the value")
            return loop("client.get(key)", count, client=client, key=KEY)

        def floor() -> Measure:
            context = clients.floor_connection(bench, stack)
            return lambda: bench.floor.get(context, KEY, len(clients.VALUE), count)

        names = (OURS, clients.REDIS_PY, clients.GLIDE)
        clients.enter(lineup, bench, stack, names, measure)
        lineup.add(clients.C_LOOP, "floor", floor)
        return [
            lineup.race(
                bench.rounds(200),
                [at_most(1.05, clients.C_LOOP), at_least(1.35, clients.REDIS_PY)],
            )
        ]
