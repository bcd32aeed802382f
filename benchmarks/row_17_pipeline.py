"""Row 17: a pipeline of 100 GETs of 100 bytes, built and executed; TLS too."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Any

from benchmarks import clients
from benchmarks.harness import OURS, Bench, Lineup, Measure, Result, at_most, loop

ROW = 17
KEYS = [f"bench:pipeline:{i}" for i in range(100)]


def pipelined(client: Any) -> list[bytes]:
    pipe = client.pipeline(transaction=False)
    for key in KEYS:
        pipe.get(key)
    replies: list[bytes] = pipe.execute()
    return replies


def run(bench: Bench) -> list[Result]:
    return [_race(bench), _race_over_tls(bench)]


def _race(bench: Bench) -> Result:
    lineup = Lineup(ROW, "pipeline of 100 GETs")
    count = bench.batch(20)
    bench.server.fill(dict.fromkeys(KEYS, clients.VALUE))
    with ExitStack() as stack:

        def floor() -> Measure:
            context = clients.floor_connection(bench, stack)
            return lambda: bench.floor.pipeline(
                context, KEYS, len(clients.VALUE), count
            )

        names = (OURS, clients.REDIS_PY)
        clients.enter(lineup, bench, stack, names, partial(_measure, count))
        lineup.add(clients.C_LOOP, "floor", floor)
        return lineup.race(bench.rounds(150), [at_most(1.3, clients.C_LOOP)])


def _race_over_tls(bench: Bench) -> Result:
    lineup = Lineup(ROW, "pipeline of 100 GETs, TLS")
    bench.tls_server.fill(dict.fromkeys(KEYS, clients.VALUE))
    with ExitStack() as stack:
        names = (OURS, clients.REDIS_PY)
        measure = partial(_measure, bench.batch(20))
        clients.enter(lineup, bench, stack, names, measure, over_tls=True)
        return lineup.race(bench.rounds(75), [])


def _measure(count: int, client: Any) -> Measure:
    if pipelined(client) != [clients.VALUE] * len(KEYS):
        raise RuntimeError("the pipeline's replies are not the values")
    return loop("run(client)", count, run=pipelined, client=client)
