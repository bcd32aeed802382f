"""The counters of eight processes that paint one canvas, through outages: what each of
them reads in the end is what the database holds.

The processes run the Mural's own code on its SQLite file; here the pixels are counted
in that file with SQL alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from children import started
from counter_worker import USERS
from outage_tools import wait_until
from proxy import Proxy
from servers import Server
from trouble import Trouble

ROOT = Path(__file__).resolve().parent.parent
WORKER = ROOT / "tests" / "counter_worker.py"
PROCESSES = 8
NEVER = 3600.0  # seconds: nothing ends by itself while a test lasts
USER_TTL, TOTAL_TTL = 1.0, 0.5  # seconds, of the example's 300 and 60
# Every write is in the file before it is answered.
KEPT = ("--appendonly", "yes", "--appendfsync", "always")

# An outage is told; nothing else may be said.
TOLD = re.compile(
    r"(WARNING|ERROR) - (Redis is away|Redis takes no writes|The near cache is off"
    r"|subscriptions: no connection|Other workers' placements come late"
    r"|Redis operation failed)\b"
)


class Painters:
    """The processes, each with what it logged."""

    def __init__(self, server: Server, proxy: Proxy, folder: Path, ttls: Any) -> None:
        self.server, self.proxy, self.folder, self.ttls = server, proxy, folder, ttls
        self.database = folder / "mural.db"
        self.processes: list[subprocess.Popen[str]] = []
        self.killed = 0
        self._number = 0
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Painters:
        # The first one makes the database.
        for _ in range(PROCESSES):
            self.processes.append(self._start())
        for process in self.processes:
            assert self._line(process) == "ready", self.logs()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self) -> subprocess.Popen[str]:
        number, self._number = self._number, self._number + 1
        # Who asks the server itself notices within a quarter of a second. The proxy is
        # slow by itself on a busy machine; that is to be no outage.
        url = f"{self.proxy.url}?timeout=1&connect_timeout=1"
        url = url if number % 2 else self.server.url
        log = self._stack.enter_context((self.folder / f"log{number}").open("w"))
        path = os.pathsep.join(
            [str(ROOT / "examples"), os.environ.get("PYTHONPATH", "")]
        )
        command = [sys.executable, "-W", "error", WORKER]
        return self._stack.enter_context(
            started(
                [*command, url, self.database, number, *self.ttls],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "PYTHONPATH": path},
            )
        )

    def _line(self, process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        return process.stdout.readline().strip()

    def _send(self, process: subprocess.Popen[str], word: str) -> None:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # its log says why
            process.stdin.write(word + "\n")
            process.stdin.flush()

    def tell(self, word: str) -> list[Any]:
        """What all answer: they do it at the same time."""
        for process in self.processes:
            self._send(process, word)
        answers = [self._line(process) for process in self.processes]
        assert all(answers), self.logs()
        return [json.loads(answer) for answer in answers]

    def kill_one(self, chance: random.Random) -> None:
        """Another one takes its place."""
        index = chance.randrange(len(self.processes))
        self.processes[index].kill()
        self.processes[index].wait()
        self.processes[index] = process = self._start()
        self.killed += 1
        assert self._line(process) == "ready", self.logs()
        self._send(process, "go")
        assert self._line(process), self.logs()

    def logs(self) -> str:
        return "".join(path.read_text() for path in self.folder.glob("log*"))

    def truth(self) -> dict[str, int]:
        link = sqlite3.connect(self.database)
        try:
            rows = link.execute("SELECT user_id, COUNT(*) FROM pixels GROUP BY user_id")
            counts = {**dict.fromkeys(USERS, 0), **dict(rows.fetchall())}
        finally:
            link.close()
        return {**counts, "total": sum(counts.values())}


@contextlib.contextmanager
def painting(
    server: Server, folder: Path, ttls: tuple[float, float]
) -> Iterator[tuple[Painters, Trouble]]:
    chance = random.Random()
    with Proxy(server.port) as proxy, Painters(server, proxy, folder, ttls) as painters:
        trouble = Trouble(server, proxy, painters.processes, chance=chance)
        yield painters, trouble
        lines = painters.logs().splitlines()
    assert [line for line in lines if not TOLD.match(line)] == []


def find_wrong(painters: Painters, missing: bool) -> list[str]:
    """What a process reads that is not so. `missing`: cache.get may have nothing."""
    truth = painters.truth()
    assert truth["total"] > 0
    return [
        f"process {number}: {name} is {values}, not {truth[name]}"
        for number, counts in enumerate(painters.tell("read"))
        for name, values in counts.items()
        if not set(values) <= {truth[name], *([None] if missing else [])}
        or values[:2] != [truth[name]] * 2
    ]


def paint(
    painters: Painters,
    trouble: Trouble,
    seconds: float,
    *last: Callable[[], None],
    word: str = "go",
) -> None:
    """Traffic and trouble, until nothing is placed and all are well again."""
    painters.tell("read")
    painters.tell(word)
    trouble.run(seconds)
    for way in last:
        trouble.strike(way)
    # An outage has the counters it touched counted anew: these are to be added to, too.
    trouble.wait(0.3, 0.8)
    assert sum(painters.tell("calm")) > 0


LONG = [
    pytest.param((), 12, 15.0, id="forgets", marks=pytest.mark.soak),
    pytest.param(KEPT, 12, 15.0, id="keeps", marks=pytest.mark.soak),
]


@pytest.mark.parametrize(
    ("options", "rounds", "seconds"), [pytest.param(KEPT, 1, 0.5, id="short"), *LONG]
)
def test_counters_equal_the_truth_at_once(
    server_binary: str,
    tmp_path: Path,
    options: tuple[str, ...],
    rounds: int,
    seconds: float,
) -> None:
    """Where no process was killed, nothing is lost: no counter waits for its TTL."""
    server = Server(*options, binary=server_binary)
    try:
        server.start()
        with painting(server, tmp_path, (NEVER, NEVER)) as (painters, trouble):
            every = trouble.ways
            for number in range(rounds):
                word = "go" if number % 2 else "place"
                trouble.ways = [
                    (way, weight)
                    for way, weight in every
                    if word == "go" or way != trouble.forget_everything
                ]
                paint(painters, trouble, seconds, trouble.restart, word=word)
                wrong: list[str] = []

                def all_right(wrong: list[str] = wrong) -> bool:
                    wrong[:] = find_wrong(painters, missing=False)
                    return not wrong

                # Who is near hears of the last deletes a moment later.
                try:
                    wait_until(all_right, "the truth")
                except AssertionError:
                    raise AssertionError("\n".join([*wrong, *trouble.events])) from None
    finally:
        server.close()


@pytest.mark.parametrize(
    ("options", "rounds", "seconds"), [pytest.param((), 1, 0.3, id="short"), *LONG]
)
def test_counters_equal_the_truth_when_processes_were_killed(
    server_binary: str,
    tmp_path: Path,
    options: tuple[str, ...],
    rounds: int,
    seconds: float,
) -> None:
    """What a process takes with it is right again when the TTL is over."""
    server = Server(*options, binary=server_binary)
    try:
        server.start()
        with painting(server, tmp_path, (USER_TTL, TOTAL_TTL)) as (painters, trouble):

            def kill_a_user() -> None:
                painters.kill_one(trouble.chance)

            trouble.ways.append((kill_a_user, 8))
            for _ in range(rounds):
                paint(painters, trouble, seconds, kill_a_user, trouble.restart)
                time.sleep(USER_TTL + 0.1)  # the promise is about that time
                wrong = find_wrong(painters, missing=True)
                assert not wrong, "\n".join([*wrong, *trouble.events])
            assert painters.killed >= rounds
    finally:
        server.close()
