"""Eight processes with near caches read, write, delete and flush one set of keys: each
reads its own writes, and others' once their invalidation has come, or two ping
intervals later where the link that brings it died unheard.

The short size takes seconds; `make soak` runs the full one.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from children import started
from history import Event, History, check_register, load
from proxy import Proxy
from servers import Server
from trouble import Trouble

PROCESSES = 8
KEYS = ("r0", "r1", "r2", "r3")
PING_INTERVALS = 2.0  # seconds: two of them, what a link that dies unheard may hide
STALL = 2.0  # that a thread may not get to run for on a loaded machine

# Threads that read and write through a cache, note what they know, and end when a line
# comes. A cache that raises says which of its calls came to nothing.
PROGRAM = """
import random, sys, threading, time
sys.path.insert(0, sys.argv[1])
import redlane
from history import History
from redlane import Cache, Client

url, name, log, pause = *sys.argv[2:5], float(sys.argv[5])
history = History(name, log)
client = Client(url, timeout=0.3, connect_timeout=0.3)
cache = Cache(client, prefix="c", ttl=300, fallback="raise")

def work(seed):
    chance = random.Random(f"{name} {seed}")
    number = 0
    while running:
        number += 1
        key, way = f"r{chance.randrange(4)}", chance.random()
        if way < 0.9:
            call, run = history.begin("read", key), lambda: cache.get(key)
        elif way < 0.93:
            call = history.begin("write", key, None)
            run = lambda: cache.delete(key)
        else:
            value = f"{name}:{seed}:{number}"
            call = history.begin("write", key, value)
            run = lambda: cache.set(key, value)
        try:
            call.ok(run())
        except (redlane.ConnectionError, redlane.TimeoutError):
            call.lost()
        time.sleep(pause)  # the history has to fit into memory

running = True
threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
for thread in threads:
    thread.start()
print("running", flush=True)
sys.stdin.readline()
running = False
for thread in threads:
    thread.join()
print(cache.stats()["near_hits"])
history.close()
"""


class Restarts(Trouble):
    """Trouble in which the server dies now and then too, with all that it held: who
    reads one of those values later has it from near, and should not."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args, lossless=True)
        self.history = History("restarts")
        self.ways.append((self.restart, 3))

    def restart(self) -> None:
        calls = [self.history.begin("write", key, None) for key in KEYS]
        super().restart()
        for call in calls:
            call.ok()


class Flusher:
    """Somebody who empties the server now and then, and notes when."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.history = History("flusher")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.wait(0.7):
            calls = [self.history.begin("write", key, None) for key in KEYS]
            try:
                self.server.cli("FLUSHALL")
            except OSError:
                for call in calls:
                    call.lost()
            else:
                for call in calls:
                    call.ok()

    def __enter__(self) -> Flusher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def events(self) -> list[Event]:
        return self.history.events


@pytest.mark.parametrize(
    ("seconds", "pause"), [(3, 0.001), pytest.param(180, 0.004, marks=pytest.mark.soak)]
)
@pytest.mark.parametrize("trouble", [False, True], ids=["calm", "trouble"])
def test_nobody_reads_what_was_replaced(
    fresh_server: Server, tmp_path: Path, trouble: bool, seconds: float, pause: float
) -> None:
    logs = [tmp_path / f"{number}.log" for number in range(PROCESSES)]
    misfortunes: list[str] = []
    more: list[Event] = []
    with Proxy(fresh_server.port) as proxy, contextlib.ExitStack() as stack:
        program = [sys.executable, "-W", "error", "-c", PROGRAM, Path(__file__).parent]
        urls = [fresh_server.url, proxy.url]
        users = [
            stack.enter_context(
                started(
                    [*program, urls[number % 2], number, log, pause],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
            )
            for number, log in enumerate(logs)
        ]
        for user in users:
            assert user.stdout is not None
            assert user.stdout.readline() == "running\n"
        with Flusher(fresh_server) as flusher:
            if trouble:
                troubles = Restarts(fresh_server, proxy, users)
                troubles.run(seconds)
                misfortunes += troubles.events
                more += troubles.history.events
            else:
                time.sleep(seconds)
        hits = []
        for user in users:
            told, _ = user.communicate("end\n", timeout=300)
            assert user.returncode == 0
            hits.append(int(told))
    assert all(hits)  # else nothing was put to the test
    events = load(logs) + flusher.events + more
    assert {event.key for event in events} == set(KEYS)
    for key in KEYS:
        wrong = check_register(
            events, key, lossy=True, lag=STALL + PING_INTERVALS * trouble
        )
        assert not wrong, "\n".join([*wrong[:5], *misfortunes])
