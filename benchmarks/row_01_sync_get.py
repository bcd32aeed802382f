"""Row 1: one blocking GET of 100 bytes after another, on one connection; TLS too."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
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
    return [_race(bench), _race_over_tls(bench)]


def _race(bench: Bench) -> Result:
    lineup = Lineup(ROW, "sync GET, 100 bytes")
    count = bench.batch(100)
    bench.server.fill({KEY: clients.VALUE})
    with ExitStack() as stack:

        def floor() -> Measure:
            context = clients.floor_connection(bench, stack)
            return lambda: bench.floor.get(context, KEY, len(clients.VALUE), count)

        names = (OURS, clients.REDIS_PY, clients.GLIDE)
        clients.enter(lineup, bench, stack, names, partial(_measure, count))
        lineup.add(clients.C_LOOP, "floor", floor)
        return lineup.race(
            bench.rounds(200),
            [at_most(1.05, clients.C_LOOP), at_least(1.35, clients.REDIS_PY)],
        )


def _race_over_tls(bench: Bench) -> Result:
    lineup = Lineup(ROW, "sync GET, 100 bytes, TLS")
    bench.tls_server.fill({KEY: clients.VALUE})
    with ExitStack() as stack:
        names = (OURS, clients.REDIS_PY)
        measure = partial(_measure, bench.batch(100))
        clients.enter(lineup, bench, stack, names, measure, over_tls=True)
        return lineup.race(bench.rounds(100), [])


def _measure(count: int, client: Any) -> Measure:
    if client.get(KEY) != clients.VALUE:
        raise RuntimeError(f"{client!r} does not give the value")
    return loop("client.get(key)", count, client=client, key=KEY)
