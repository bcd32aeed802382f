"""Row 2: GETs a second of one client that 8 and 32 threads share.

Here the threads may use every core, as those of a web server do: what makes them slow
is the fight of threads on two cores for the GIL. The same on one core, where that fight
cannot be, stands beside it without a goal, as does TLS.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from itertools import repeat
from threading import Barrier, Thread
from time import perf_counter
from typing import Any

from benchmarks import clients
from benchmarks.harness import OURS, Bench, Goal, Lineup, Measure, Result, at_least
from benchmarks.server import on_every_core

ROW = 2
KEY = "bench:threads"
CHUNK = 20  # GETs between two looks at the clock


def run(bench: Bench) -> list[Result]:
    bench.server.fill({KEY: clients.VALUE})
    bench.tls_server.fill({KEY: clients.VALUE})
    with on_every_core():
        results = [
            _race(
                bench,
                threads,
                f"GETs a second, {threads} threads",
                25,
                [at_least(7, clients.REDIS_PY)],
            )
            for threads in (8, 32)
        ]
        encrypted = [
            _race(
                bench, threads, f"GETs a second, {threads} threads, TLS", 12, [], True
            )
            for threads in (8, 32)
        ]
    alone = _race(bench, 8, "GETs a second, 8 threads on one core", 12, [])
    return [*results, alone, *encrypted]


def _race(
    bench: Bench,
    threads: int,
    what: str,
    rounds: int,
    goals: list[Goal],
    over_tls: bool = False,
) -> Result:
    lineup = Lineup(ROW, what, "rate")
    duration = bench.seconds(0.25)
    with ExitStack() as stack:

        def measure(client: Any) -> Measure:
            return lambda: _window(client.get, threads, duration)

        names = (OURS, clients.REDIS_PY)
        clients.enter(lineup, bench, stack, names, measure, over_tls)
        return lineup.race(bench.rounds(rounds), goals)


def _window(get: Callable[[str], bytes], threads: int, duration: float) -> float:
    """Seconds for one GET: the time until the last thread has ended over their GETs."""
    start_line = Barrier(threads + 1)
    counts: list[int] = []
    errors: list[Exception] = []

    def work() -> None:
        done = 0
        try:
            start_line.wait()
            end = perf_counter() + duration
            while perf_counter() < end:
                for _ in repeat(None, CHUNK):
                    get(KEY)
                done += CHUNK
        except Exception as error:  # noqa: BLE001  raised again by the caller
            errors.append(error)
        counts.append(done)

    workers = [Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    start_line.wait()
    start = perf_counter()
    for worker in workers:
        worker.join()
    elapsed = perf_counter() - start
    if errors:
        raise errors[0]
    return elapsed / sum(counts)
