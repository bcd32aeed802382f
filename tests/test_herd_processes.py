"""Many callers of one key that nobody has: one computation in all, whichever process
they are in; and what becomes of those who wait for a process that is gone."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest
from children import started
from redlane import Cache, Client
from servers import Server
from toolset import wait_until

LEASE = b"\xffRLL" + b"x" * 16

# Threads that all call one function when a line comes, and count what it is run for.
PROGRAM = """
import sys, threading, time
from redlane import Cache, Client

url, threads, length = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
client = Client(url, timeout=30, connect_timeout=30)
cache = Cache(client, prefix="herd", ttl=300)

@cache(name="hot")
def hot():
    client.incr("runs")
    time.sleep(length)
    return {"made": client.incr("made")}

def call():
    gate.wait()
    results.append(hot())

results = []
gate = threading.Event()
callers = [threading.Thread(target=call) for _ in range(threads)]
for caller in callers:
    caller.start()
client.ping()
print("ready", flush=True)
sys.stdin.readline()
gate.set()
for caller in callers:
    caller.join()
print(results == [{"made": 1}] * threads, flush=True)
sys.stdin.readline()
"""


@contextlib.contextmanager
def herd(
    url: str, processes: int, threads: int, length: float
) -> Iterator[list[subprocess.Popen[str]]]:
    with contextlib.ExitStack() as stack:
        members = [
            stack.enter_context(
                started(
                    [sys.executable, "-c", PROGRAM, url, threads, length],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
            )
            for _ in range(processes)
        ]
        for member in members:
            assert told(member) == "ready"
        yield members


def told(member: subprocess.Popen[str]) -> str:
    assert member.stdout is not None
    return member.stdout.readline().strip()


def tell(member: subprocess.Popen[str]) -> None:
    assert member.stdin is not None
    member.stdin.write("go\n")
    member.stdin.flush()


@pytest.mark.parametrize(
    ("processes", "threads"), [(3, 20), pytest.param(8, 500, marks=pytest.mark.soak)]
)
def test_one_computation_in_all(
    fresh_server: Server, processes: int, threads: int
) -> None:
    with herd(fresh_server.url, processes, threads, 0.5) as members:
        for member in members:
            tell(member)
        assert [told(member) for member in members] == ["True"] * processes
    assert fresh_server.cli("GET", "runs") == b"1"


def test_a_killed_holder_delays_others_no_longer_than_its_lease(
    fresh_server: Server,
) -> None:
    url = fresh_server.url
    with herd(url, 1, 1, 3600) as (holder,), herd(url, 2, 3, 0) as others:
        tell(holder)
        wait_until(lambda: fresh_server.cli("GET", "runs"), "the holder's lease")
        holder.kill()
        for other in others:
            tell(other)
        time.sleep(0.3)  # time enough to compute, if they did not wait
        assert fresh_server.cli("GET", "runs") == b"1"
        (key,) = fresh_server.cli("KEYS", "herd:*")
        assert 0 < fresh_server.cli("PTTL", key) <= 30_000
        fresh_server.cli("PEXPIRE", key, 50)  # as if it had been taken so long ago
        assert [told(other) for other in others] == ["True", "True"]
    assert fresh_server.cli("GET", "runs") == b"2"
    assert fresh_server.cli("GET", key) == b'{"made":1}'


def is_near(client: Client) -> bool:
    near: Any = client.health()["near"]
    return near is not None and near["state"] == "on"


class Waiting:
    """A thread that waits for another process's lease: by asking, or for the lease's
    invalidation where there is a near cache."""

    def __init__(self, client: Client, near: bool) -> None:
        self.runs = 0
        self.results: list[Any] = []
        cache = Cache(client, prefix="herd", ttl=300, near=near)
        if near:
            cache.get("any")
            wait_until(lambda: is_near(client), "the near cache")

        @cache(name="hot")
        def hot() -> str:
            self.runs += 1
            return "own"

        self.hot = hot
        self.key = hot.cache_key()
        assert client.set(self.key, LEASE, px=60_000)
        self.client = client
        before = self.looks()
        self.thread = threading.Thread(target=self.call)
        self.thread.start()
        wait_until(lambda: self.looks() > before, "a look for the lease")

    def looks(self) -> int:
        """How often anybody asked the server for a value."""
        info: Any = self.client.info("commandstats")
        return int(info.get("cmdstat_get", {"calls": 0})["calls"])

    def call(self) -> None:
        self.results.append(self.hot())

    def result(self) -> Any:
        self.thread.join(30)
        (result,) = self.results
        return result


@pytest.fixture(params=[False, True], ids=["asking", "near"])
def near(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def client(redis_url: str) -> Iterator[Client]:
    with Client(redis_url, timeout=10) as made:
        yield made


def test_the_value_that_comes(client: Client, near: bool) -> None:
    waiting = Waiting(client, near)
    client.set(waiting.key, b'"theirs"', px=60_000)
    assert waiting.result() == "theirs"
    assert waiting.runs == 0
    assert waiting.hot.cache_info().waits == 1


def test_a_lease_that_is_taken_away(client: Client, near: bool) -> None:
    waiting = Waiting(client, near)
    client.delete(waiting.key)
    assert waiting.result() == "own"
    assert client.get(waiting.key) == b'"own"'


def test_an_invalidation_in_this_process(client: Client, near: bool) -> None:
    waiting = Waiting(client, near)
    assert waiting.hot.invalidate() is False
    assert waiting.result() == "own"
    # A computation that began before the invalidation had returned is not stored.
    assert client.get(waiting.key) in (None, b'"own"')


def test_an_invalidation_and_a_computation_in_other_processes(
    client: Client, near: bool
) -> None:
    """Who waits gets the value of the lease that is there, not of the one it met."""
    waiting = Waiting(client, near)
    client.set(waiting.key, LEASE[:-1] + b"y", px=60_000)
    before = waiting.looks()
    late = threading.Thread(target=waiting.call)
    late.start()
    # The thread that waited finds another lease in its key, and both wait for that.
    wait_until(lambda: waiting.looks() > before + 2, "looks for the new lease")
    assert waiting.results == []
    client.set(waiting.key, b'"new"', px=60_000)
    waiting.thread.join(30)
    late.join(30)
    assert waiting.results == ["new", "new"]
    assert waiting.runs == 0


def test_those_who_meet_one_lease_wait_together(client: Client, near: bool) -> None:
    waiting = Waiting(client, near)
    callers = [threading.Thread(target=waiting.call) for _ in range(30)]
    for caller in callers:
        caller.start()
    client.set(waiting.key, b'"theirs"', px=60_000)
    for caller in (waiting.thread, *callers):
        caller.join(30)
    assert waiting.results == ["theirs"] * 31
    info = waiting.hot.cache_info()
    assert (info.waits + info.hits, info.misses) == (31, 0)


def test_a_value_that_cannot_be_read(client: Client, near: bool) -> None:
    waiting = Waiting(client, near)
    client.set(waiting.key, b"{", px=60_000)
    assert waiting.result() == "own"
    assert client.get(waiting.key) == b'"own"'
    assert waiting.hot.cache_info().corrupted == 1


def test_another_type_in_its_place(client: Client, near: bool) -> None:
    waiting = Waiting(client, near)
    with client.pipeline(transaction=True) as pipeline:
        pipeline.delete(waiting.key)
        pipeline.hset(waiting.key, "a", "b")
        pipeline.execute()
    assert waiting.result() == "own"
    assert client.get(waiting.key) == b'"own"'


def test_the_server_goes_away(fresh_server: Server, near: bool) -> None:
    with Client(fresh_server.url) as client:
        waiting = Waiting(client, near)
        fresh_server.kill()
        assert waiting.result() == "own"
        assert waiting.runs == 1


def test_a_signal_handler_that_raises(client: Client) -> None:
    """It ends the wait of the main thread at once; the lease is not touched."""

    class Rung(Exception):
        pass

    def ring(number: int, frame: FrameType | None) -> None:
        raise Rung

    cache = Cache(client, prefix="herd", ttl=300)

    @cache(name="hot")
    def hot() -> str:
        raise AssertionError("another process computes it")

    assert client.set(hot.cache_key(), LEASE, px=60_000)
    before = signal.signal(signal.SIGALRM, ring)
    alarm = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGALRM))
    alarm.start()
    begin = time.monotonic()
    try:
        with pytest.raises(Rung):
            hot()
    finally:
        alarm.join()
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - begin < 20  # far below the 30 s of a lease
    assert client.get(hot.cache_key()) == LEASE
