"""Every tool in several processes through one bad half hour: no wrong value, no
exception where the policy says none, nothing that grows, and all of them on Redis again
at the end.

The short size takes ten seconds; `make soak` runs the full one, of REDLANE_SOAK_SECONDS
(half an hour).
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from children import started
from proxy import Proxy
from servers import ReplyError, Server

WORKER = Path(__file__).with_name("soak_worker.py")
HALF_AN_HOUR = float(os.environ.get("REDLANE_SOAK_SECONDS", 1800))
PLAIN = 4  # as in soak_worker.py

# What may grow in half an hour. A leak of anything that the faults or the calls make is
# far above: there are thousands of the former and millions of the latter.
SLACK = {"kilobytes": 24 << 10, "blocks": 20_000, "files": 24, "threads": 4}


class Trouble:
    """One misfortune at a time to a server, the proxy before it, and its users."""

    def __init__(
        self, server: Server, proxy: Proxy, users: list[subprocess.Popen[str]]
    ) -> None:
        self.server, self.proxy, self.users = server, proxy, users
        self.chance = random.Random(4)
        self.events: collections.deque[str] = collections.deque(maxlen=60)
        self.count = 0
        self.ways: list[tuple[Callable[[], None], int]] = [
            (self.kill_connections, 6),
            (self.pause_clients, 3),
            (self.reset_links, 6),
            (self.cut, 4),
            (self.drip, 3),
            (self.delay, 3),
            (self.freeze, 5),
            (self.restart, 3),
            (self.out_of_memory, 3),
            (self.forget_scripts, 3),
            (self.forget_everything, 2),
            (self.freeze_a_user, 2),
        ]

    def run(self, seconds: float) -> None:
        """Until the time is over, or a user ends early."""
        end = time.monotonic() + seconds
        # Each kind once, then as they come.
        first = [way for way, _ in self.ways]
        self.chance.shuffle(first)
        while time.monotonic() < end:
            if first:
                way = first.pop()
            else:
                (way,) = self.chance.choices(
                    [way for way, _ in self.ways], [weight for _, weight in self.ways]
                )
            self.events.append(f"{time.monotonic():.3f} {way.__name__}")
            # The connection that brings the trouble suffers too.
            with contextlib.suppress(OSError, ReplyError):
                way()
            self.count += 1
            self.make_counters()
            if any(user.poll() is not None for user in self.users):
                return
            self.wait(0.05, 0.6)
        self.events.append(f"{time.monotonic():.3f} calm")

    def wait(self, least: float, most: float) -> None:
        time.sleep(self.chance.uniform(least, most))

    def make_counters(self) -> None:
        with contextlib.suppress(OSError, ReplyError):
            for number in range(PLAIN):
                self.server.cli("SET", f"plain:{number}", 0, "NX")

    def kill_connections(self) -> None:
        self.server.cli("CLIENT", "KILL", "TYPE", "normal")

    def pause_clients(self) -> None:
        self.server.cli("CLIENT", "PAUSE", self.chance.choice([20, 150, 600]))

    def reset_links(self) -> None:
        self.proxy.reset_all()

    def cut(self) -> None:
        self.proxy.cut_after = self.chance.randrange(200, 6000)
        self.wait(0.1, 0.5)
        self.proxy.cut_after = None

    def drip(self) -> None:
        self.proxy.drip = 0.001
        self.wait(0.1, 0.5)
        self.proxy.drip = 0.0

    def delay(self) -> None:
        self.proxy.delay = self.chance.choice([0.01, 0.1, 0.4])
        self.wait(0.1, 0.8)
        self.proxy.delay = 0.0

    def freeze(self) -> None:
        self.server.pause()
        self.wait(0.05, 1.2)
        self.server.resume()

    def restart(self) -> None:
        self.server.kill()
        self.wait(0.0, 1.5)
        self.server.start()

    def out_of_memory(self) -> None:
        self.server.cli("CONFIG", "SET", "maxmemory", 1)
        self.wait(0.2, 2.0)
        self.server.cli("CONFIG", "SET", "maxmemory", 0)

    def forget_scripts(self) -> None:
        self.server.cli("SCRIPT", "FLUSH")

    def forget_everything(self) -> None:
        self.server.cli("FLUSHALL")

    def freeze_a_user(self) -> None:
        user = self.chance.choice(self.users)
        os.kill(user.pid, signal.SIGSTOP)
        self.wait(0.05, 0.8)
        os.kill(user.pid, signal.SIGCONT)


@contextlib.contextmanager
def workers(
    server: Server, proxy: Proxy, processes: int, threads: int, errors: Path
) -> Iterator[list[subprocess.Popen[str]]]:
    strict = [sys.executable, "-W", "error"]
    environment = {**os.environ, "MALLOC_ARENA_MAX": "2"}  # or each thread has a heap
    with contextlib.ExitStack() as stack:
        complaints = stack.enter_context(errors.open("w"))
        running = [
            stack.enter_context(
                started(
                    [*strict, WORKER, server.url, proxy.url, number, threads],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=complaints,
                    env=environment,
                )
            )
            for number in range(processes)
        ]
        for process in running:
            assert process.stdout is not None
            assert process.stdout.readline() == "running\n", errors.read_text()
        yield running


def report_of(process: subprocess.Popen[str], errors: Path) -> dict[str, Any]:
    out, _ = process.communicate("calm\n" if process.poll() is None else None, 300)
    assert process.returncode == 0, errors.read_text()
    report: dict[str, Any] = json.loads(out)
    return report


def find_wrong(report: dict[str, Any]) -> list[str]:
    wrong = list(report["wrong"])
    if report["mode"] != "redis":
        wrong.append(f"ended in mode {report['mode']}")
    for name, slack in SLACK.items():
        first, last = report["growth"][name]["first"], report["growth"][name]["last"]
        sanitized = "REDLANE_SANITIZED" in os.environ and name == "kilobytes"
        if last - first > slack and not sanitized:
            wrong.append(f"{name} grew from {first:g} to {last:g}")
    return wrong


@pytest.mark.parametrize(
    ("processes", "threads", "seconds"),
    [
        pytest.param(2, 4, 8.0, id="short"),
        pytest.param(4, 8, HALF_AN_HOUR, id="long", marks=pytest.mark.soak),
    ],
)
def test_mixed_faults(
    fresh_server: Server, tmp_path: Path, processes: int, threads: int, seconds: float
) -> None:
    errors = tmp_path / "errors"
    with (
        Proxy(fresh_server.port) as proxy,
        workers(fresh_server, proxy, processes, threads, errors) as users,
    ):
        trouble = Trouble(fresh_server, proxy, users)
        trouble.make_counters()
        trouble.run(seconds)
        reports = [report_of(user, errors) for user in users]
        counted = [
            int(fresh_server.cli("GET", f"plain:{number}") or 0)
            for number in range(PLAIN)
        ]
    print(json.dumps({"faults": trouble.count, "reports": reports}, indent=1))
    wrong = [text for report in reports for text in find_wrong(report)]
    assert not wrong, "\n".join([*wrong, "last faults:", *trouble.events])
    begun = [sum(column) for column in zip(*(r["plain"] for r in reports), strict=True)]
    assert all(0 <= got <= most for got, most in zip(counted, begun, strict=True))
    assert all(report["calls"] > report["refused"] for report in reports)
