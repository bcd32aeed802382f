"""64 clients in 8 processes never pass a limit; kills, of clients or of the server,
leave no key without a TTL.

What was admitted is held to each algorithm's own bound, by when each hit began and was
over, on the clock that the server goes by: only what lies within a window for certain
counts, so that no loaded machine makes a false alarm.
"""

from __future__ import annotations

import contextlib
import json
import math
import random
import subprocess
import sys
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from children import started
from limit_worker import ALGORITHMS
from outage_tools import wait_until
from redlane import Client, Presence
from servers import Server

WORKER = Path(__file__).parent / "limit_worker.py"
PROCESSES = 8
SECOND = 1_000_000
PIPES: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}

Span = tuple[int, int]  # when a hit that was admitted began and was over


class Workers:
    def __init__(self, workers: list[subprocess.Popen[str]]) -> None:
        self.workers = workers
        assert [self.hear(worker) for worker in workers] == ["ready"] * len(workers)

    def hear(self, worker: subprocess.Popen[str]) -> str:
        assert worker.stdout
        return worker.stdout.readline().strip()

    def ask(self, line: str) -> list[Any]:
        for worker in self.workers:
            assert worker.stdin
            worker.stdin.write(line + "\n")
            worker.stdin.flush()
        return [json.loads(self.hear(worker)) for worker in self.workers]


@contextmanager
def working(kind: str, url: str, processes: int) -> Iterator[Workers]:
    with ExitStack() as stack:
        command = [sys.executable, WORKER, kind, url]
        workers = [
            stack.enter_context(started(command, **PIPES)) for _ in range(processes)
        ]
        yield Workers(workers)


def race(workers: Workers, limits: dict[str, str], **bounds: float) -> dict[str, Any]:
    """When what was admitted began and was over, by algorithm, in the order of that."""
    told = workers.ask(json.dumps({"limits": limits, "hits": 1 << 40, **bounds}))
    return {
        name: sorted(tuple(span) for one in told for span in one[name])
        for name in limits
    }


# --- bounds -------------------------------------------------------------------------


def of_windows(spans: list[Span], window: int) -> Counter[int]:
    """How many hits lie within each window of the clock for certain."""
    return Counter(
        began // window for began, over in spans if began // window == over // window
    )


def check_fixed(spans: list[Span], count: int, window: int) -> None:
    assert max(of_windows(spans, window).values()) <= count


def check_sliding(spans: list[Span], count: int, window: int) -> None:
    """At each hit: this window's, and of the one before as much as lies within one
    window from then."""
    check_fixed(spans, count, window)
    whole = of_windows(spans, window)
    by_end: dict[int, list[int]] = {}
    for began, over in spans:
        if began // window == over // window:
            by_end.setdefault(began // window, []).append(over)
    for ends in by_end.values():
        ends.sort()
    for began, over in spans:
        index = over // window
        if began // window == index:
            here = bisect_left(by_end[index], began)  # those over before it began
            weight = (window - over % window) / window
            before = math.ceil(whole[index - 1] * weight - 1e-9)
            assert here + 1 + before <= count


def check_bucket(spans: list[Span], most: Any, longest: int = 0) -> None:
    """Within any time that some of them span, no more than `most` of its length."""
    ends = sorted(spans, key=lambda span: span[1])
    for start, _ in spans:
        within = 0
        for began, over in ends:
            if longest and over - start >= longest:
                break
            if began >= start:
                within += 1
                assert within <= most(over - start)


CHECKS: dict[str, tuple[str, Any]] = {
    "fixed-window": ("40/second", lambda spans: check_fixed(spans, 40, SECOND)),
    "sliding-window": ("40/second", lambda spans: check_sliding(spans, 40, SECOND)),
    "sliding-log": (
        "40/second",
        lambda spans: check_bucket(spans, lambda _: 40, SECOND),
    ),
    "token-bucket": (
        "40/second",
        lambda spans: check_bucket(spans, lambda length: 40 + length * 40 // SECOND),
    ),
    "gcra": (
        "40/second burst 60",
        lambda spans: check_bucket(spans, lambda length: 60 + length * 40 // SECOND),
    ),
}


def check_race(workers: Workers, seconds: float, most: int) -> dict[str, int]:
    """The bound itself, and then windows as they pass."""
    whole = race(
        workers,
        dict.fromkeys(ALGORITHMS, f"{most}/year"),
        seconds=3600,
        hits=30 + most // 32,
    )
    admitted = {name: len(spans) for name, spans in whole.items()}
    # These two are one arithmetic, and so one limit.
    admitted["gcra"] += admitted.pop("token-bucket")
    assert admitted == dict.fromkeys(admitted, most)
    passing = race(
        workers, {name: rates for name, (rates, _) in CHECKS.items()}, seconds=seconds
    )
    for name, (_, check) in CHECKS.items():
        assert passing[name]
        check(passing[name])
    return {name: len(spans) for name, spans in passing.items()}


def test_64_clients_never_pass_a_limit(redis_url: str) -> None:
    with working("race", redis_url, PROCESSES) as workers:
        check_race(workers, 1.2, 100)


@pytest.mark.soak
def test_64_clients_never_pass_a_limit_for_long(redis_server: Server) -> None:
    admitted: Counter[str] = Counter()
    with working("race", redis_server.patient_url, PROCESSES) as workers:
        for most in (1, 7, 100, 1000, 3000):
            redis_server.cli("FLUSHALL")
            admitted.update(check_race(workers, 60, most))
    print(dict(admitted))


@pytest.mark.parametrize("name", CHECKS)
def test_the_checks_see_one_too_many(name: str) -> None:
    """60 at once is more than any but the last admits; 61 is too many for that one."""
    start = 1_800_000_000 * SECOND
    spans = [(start + i, start + i) for i in range(61)]
    with pytest.raises(AssertionError):
        CHECKS[name][1](spans)
    CHECKS[name][1](spans[:40])


# --- kills --------------------------------------------------------------------------

# By the documentation these have none: the lease stands in the last of them.
WITHOUT_TTL = {b"here", *(b"{here}:" + name for name in (b"connections", b"counts"))}
WITHOUT_TTL.add(b"{here}:servers")


def check_ttls(server: Server) -> int:
    """Asked without the library; how many keys there are."""
    keys = server.cli("KEYS", "*")
    assert [key for key in keys if server.cli("PTTL", key) == -1] == [
        key for key in keys if key in WITHOUT_TTL
    ]
    return len(keys)


def kill_clients(server: Server, rounds: int) -> int:
    """Each time one of two processes ends at a random moment of its work."""
    seen = 0
    command = [sys.executable, WORKER, "use", server.patient_url]
    with ExitStack() as stack:
        running: list[subprocess.Popen[str]] = []
        for _ in range(rounds):
            while len(running) < 2:
                worker = stack.enter_context(started(command, **PIPES))
                assert worker.stdout
                assert worker.stdout.readline() == "ready\n"
                running.append(worker)
            time.sleep(random.uniform(0, 0.2))
            victim = running.pop(0)
            victim.kill()
            victim.wait()
            seen = max(seen, check_ttls(server))
    return seen


def check_presence_ends(server: Server) -> None:
    """Whom the killed had is gone once their lease is, without a key left."""
    with (
        Client[Any](server.patient_url) as client,
        Presence(client, "here") as presence,
    ):
        wait_until(lambda: presence.members() == set(), "the end of the leases")
    wait_until(
        lambda: not any(server.cli("EXISTS", key) for key in WITHOUT_TTL),
        "the end of the keys",
    )


@pytest.mark.parametrize("rounds", [3, pytest.param(400, marks=pytest.mark.soak)])
def test_killed_clients_leave_no_key_without_a_ttl(
    redis_server: Server, rounds: int
) -> None:
    assert kill_clients(redis_server, rounds) > 10
    check_ttls(redis_server)
    check_presence_ends(redis_server)


@pytest.mark.parametrize("sync", ["always", "everysec"])
@pytest.mark.parametrize("rounds", [2, pytest.param(100, marks=pytest.mark.soak)])
def test_a_killed_server_has_no_key_without_a_ttl(
    server_binary: str, rounds: int, sync: str
) -> None:
    """It reads its file again, to the last whole step."""
    server = Server(
        *("--appendonly", "yes", "--appendfsync", sync), binary=server_binary
    )
    with contextlib.closing(server):
        server.start()
        command = [sys.executable, WORKER, "use", f"{server.url}?timeout=5"]
        with started(command, **PIPES) as worker:
            assert worker.stdout
            assert worker.stdout.readline() == "ready\n"
            for _ in range(rounds):
                time.sleep(random.uniform(0.05, 0.4))
                server.kill()
                server.start()
                wait_until(lambda: check_ttls(server) > 0, "a key")
            assert worker.poll() is None
