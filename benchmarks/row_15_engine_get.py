"""Row 15: a GET from the memory engine through `Client`, a second thread alive.

The second thread matters: glibc leaves out a lock's atomic instructions until then.
"""

from __future__ import annotations

from contextlib import ExitStack
from threading import Event, Thread

from benchmarks import clients
from benchmarks.harness import OURS, Bench, Lineup, Measure, Result, loop, within

ROW = 15
KEY = "user:1"
CACHEBOX = "cachebox.TTLCache"


def run(bench: Bench) -> list[Result]:
    lineup = Lineup(ROW, "memory engine GET, 100 bytes")
    count = bench.batch(20_000)
    with ExitStack() as stack:
        _keep_a_thread_alive(stack)

        def ours() -> Measure:
            client = clients.redlane_client(bench, stack, "memory://")
            client.set(KEY, clients.VALUE, ex=3600)
            return loop("c.get(k)", count, c=client, k=KEY)

        def cachebox() -> Measure:
            from cachebox import TTLCache

            cache: TTLCache[str, bytes] = TTLCache(10_000, 3600)
            cache[KEY] = clients.VALUE
            return loop("c.get(k)", count, c=cache, k=KEY)

        lineup.add(OURS, "ours", ours)
        lineup.add(CACHEBOX, "peer", cachebox)
        return [lineup.race(bench.rounds(300), [within(60e-9, CACHEBOX, quoted=54e-9)])]


def _keep_a_thread_alive(stack: ExitStack) -> None:
    stop = Event()
    thread = Thread(target=stop.wait)
    thread.start()
    stack.callback(thread.join)
    stack.callback(stop.set)
