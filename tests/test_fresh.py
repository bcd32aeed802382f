"""Values past their time: served, refreshed behind, kept for functions that fail."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
import redlane
from children import started
from fresh_tools import Loader, grow_old, lock_of, locks, settled
from near_tools import near_hits, warm
from outage_tools import Switch, messages, wait_until
from redlane import Cache, Client
from servers import Server

FAILED = b"\xffRLLfailed"


@pytest.fixture
def cache(client: Any) -> Cache:
    return Cache(client, ttl=1000)


@pytest.fixture
def loader() -> Loader:
    return Loader()


# --- options ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"stale": 0}, ValueError, "stale"),
        ({"stale": []}, TypeError, "stale"),
        ({"stale": "soon"}, ValueError, "stale"),
        ({"on_error": "fresh"}, ValueError, "on_error"),
        ({"on_error": True}, ValueError, "on_error"),
        ({"max_stale": 5}, ValueError, "on_error"),
        ({"on_error": "stale", "max_stale": -1}, ValueError, "max_stale"),
        ({"soft_timeout": 1}, ValueError, "stale"),
        ({"soft_timeout": 1, "early": True}, ValueError, "stale"),
        ({"soft_timeout": 5, "hard_timeout": 5, "stale": 5}, ValueError, "below"),
    ],
)
def test_options_that_make_no_sense(
    cache: Cache, options: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        cache(**options)(lambda: 1)


@pytest.mark.parametrize("options", [{"stale": 5}, {"early": True}])
def test_without_a_ttl_nothing_is_ever_past_its_time(options: Any) -> None:
    with pytest.raises(ValueError, match="ttl"):
        Cache("memory://")(**options)(lambda: 1)
    Cache("memory://")(ttl=lambda value: 5, **options)(lambda: 1)
    Cache("memory://")(stale=None, early=False, on_error=None, max_stale=None)(int)


# --- stale ------------------------------------------------------------------------


@pytest.mark.parametrize("value", [7, 0, "", False, None, [], {"a": [1]}])
def test_stale_values_are_served_and_refreshed_behind(
    cache: Cache, client: Any, loader: Loader, value: Any
) -> None:
    loader.values = [value, "new"]

    @cache(ttl=100, stale=50)
    def f(x: int) -> Any:
        return loader()

    key = f.cache_key(1)
    assert [f(1), f(1)] == [value, value]
    assert 140_000 < client.pttl(key) <= 150_000
    grow_old(client, key, 120)
    loader.free.clear()
    assert [f(1), f(1)] == [value, value]
    assert loader.started.acquire(timeout=60) and loader.started.acquire(timeout=60)
    assert f(1) == value
    loader.free.set()
    wait_until(lambda: settled(f, 1), "the refresh")
    assert f(1) == "new"
    assert client.pttl(key) > 140_000
    info = f.cache_info()
    assert (info.misses, info.stale, info.refreshes, info.sets) == (1, 3, 1, 2)
    assert info.hits == 2
    assert loader.calls == 2
    stats = cache.stats()
    assert (stats["stale"], stats["refreshes"], stats["refresh_errors"]) == (3, 1, 0)


def test_a_stale_value_past_its_cap_is_computed(
    cache: Cache, client: Any, loader: Loader
) -> None:
    """The server keeps it a little longer, say: its envelope counts."""

    @cache(ttl=100, stale=50)
    def f() -> int:
        return loader()

    assert f() == 1
    grow_old(client, f.cache_key(), 120)
    client.persist(f.cache_key())
    grow_old_forever(client, f.cache_key(), 31)
    assert f() == 2
    assert f.cache_info().stale == 0
    assert client.pttl(f.cache_key()) > 140_000


def grow_old_forever(client: Any, key: str, seconds: int) -> None:
    client.expire(key, 1000)
    grow_old(client, key, seconds)


def test_every_call_has_the_refreshed_value(cache: Cache, client: Any) -> None:
    """By any arguments, with keywords, and for methods."""
    calls = []

    class Thing:
        def __cache_key__(self) -> str:
            return "thing"

        @cache(ttl=100, stale=100)
        def get(self, x: int, *more: int, y: int = 0, **rest: int) -> list[Any]:
            calls.append(1)
            return [x, more, y, rest, len(calls)]

    thing = Thing()
    key = thing.get.cache_key(1, 2, y=3, z=4)
    assert thing.get(1, 2, y=3, z=4) == [1, [2], 3, {"z": 4}, 1]
    grow_old(client, key, 150)
    assert thing.get(1, 2, z=4, y=3)[-1] == 1
    wait_until(lambda: settled(Thing.get, 1), "the refresh")
    assert thing.get(1, 2, y=3, z=4) == [1, [2], 3, {"z": 4}, 2]


def test_arguments_that_change_meanwhile(
    cache: Cache, client: Any, loader: Loader
) -> None:
    """What is computed of others is not stored under the old ones."""

    @cache(ttl=100, stale=100)
    def f(items: list[int]) -> list[int]:
        loader()
        return [*items]

    items = [1]
    key = f.cache_key(items)
    assert f(items) == [1]
    grow_old(client, key, 150)
    loader.free.clear()
    assert f(items) == [1]
    wait_until(lambda: loader.calls == 2, "the refresh")
    items.append(2)
    loader.free.set()
    wait_until(lambda: settled(f, 1), "its end")
    assert f.cache_info().sets == 1
    assert f([1]) == [1]


def test_a_result_that_is_not_to_be_stored_ends_the_old_one(
    cache: Cache, client: Any, loader: Loader
) -> None:
    @cache(ttl=100, stale=100, condition=lambda value: value != 2)
    def f() -> int:
        return loader()

    assert f() == 1
    grow_old(client, f.cache_key(), 150)
    assert f() == 1
    wait_until(lambda: settled(f, 1), "the refresh")
    assert client.get(f.cache_key()) is None
    assert f() == 3


def test_sealed_and_compressed(client: Any, loader: Loader) -> None:
    loader.values = ["a" * 5000, "b" * 5000]
    cache = Cache(client, seal=b"k" * 32, compress="zlib")

    @cache(ttl=100, stale=100)
    def f() -> str:
        return loader()

    assert f() == "a" * 5000
    stored = client.get(f.cache_key())

    # what is sealed cannot be made older: another function, whose TTL is over at once
    @cache(ttl=0.001, stale=1000, name="g")
    def g() -> str:
        return loader()

    loader.values = ["old", "new"]
    assert g() == "old"
    wait_until(lambda: g() == "new", "the refresh")
    assert f() == "a" * 5000
    tampered = stored[:6] + (2**60).to_bytes(8, "big") + stored[14:]
    client.set(f.cache_key(), tampered, px=1000)
    f()
    assert cache.stats()["bad_seals"] == 1


def test_what_has_no_such_options_takes_it_for_expired(
    cache: Cache, client: Any
) -> None:
    @cache(ttl=100, stale=100, name="f")
    def with_options() -> int:
        return 1

    @cache(ttl=100, name="f")
    def without() -> int:
        return 2

    assert with_options() == without() == 1
    key = with_options.cache_key()
    name = key.removeprefix("cache:")
    grow_old(client, key, 150)
    assert cache.get(name) is None
    assert cache.get_many([name]) == {}
    assert with_options.cache_info().misses == 1
    assert client.exists(key) == 1  # others may use it
    assert without() == 2
    assert with_options() == 2


# --- failures ---------------------------------------------------------------------


def test_a_failed_refresh_is_counted_logged_once_and_not_tried_at_once(
    cache: Cache, client: Any, loader: Loader, caplog: pytest.LogCaptureFixture
) -> None:
    @cache(ttl=100, stale=50)
    def f() -> int:
        return loader()

    assert f() == 1
    loader.error = LookupError("canary")
    key = f.cache_key()
    grow_old(client, key, 120)
    with caplog.at_level(logging.WARNING, "redlane"):
        for failures in (1, 2, 3):
            assert f() == 1
            wait_until(
                lambda n=failures: cache.stats()["refresh_errors"] == n, "the failure"
            )
            lock = lock_of(client, key)
            assert client.get(lock) in (FAILED, None)
            assert client.pttl(lock) <= 1000
            client.delete(lock)  # as if a second had passed
    told = messages(caplog.records, "LookupError")
    assert len(told) == 1 and "canary" not in told[0]
    assert loader.calls == 4
    client.set(lock, FAILED, px=60_000)
    assert f() == 1
    time.sleep(0.1)
    assert loader.calls == 4
    client.delete(lock)
    loader.error = None
    f()
    wait_until(lambda: f() == 5, "the recovery")
    grow_old(client, key, 151)
    loader.error = LookupError("now")
    with pytest.raises(LookupError):
        f()


def test_old_values_for_a_function_that_fails(
    cache: Cache, client: Any, loader: Loader, caplog: pytest.LogCaptureFixture
) -> None:
    @cache(ttl=100, on_error="stale", max_stale=50)
    def f() -> int:
        return loader()

    loader.error = ValueError()
    with pytest.raises(ValueError):
        f()
    loader.error = None
    assert f() == 2
    key = f.cache_key()
    grow_old(client, key, 120)
    loader.error = ValueError()
    with caplog.at_level(logging.WARNING, "redlane"):
        assert f() == 2
        assert loader.calls == 3
        client.set(lock_of(client, key), FAILED, px=100_000)  # as it is for a second
        assert [f() for _ in range(4)] == [2] * 4
        assert loader.calls == 3
    assert len(messages(caplog.records, "ValueError")) == 1
    assert f.cache_info().stale == 5
    client.delete(lock_of(client, key))
    loader.error = None
    assert f() == loader.calls  # at once, not behind
    assert f.cache_info().refreshes == 0
    loader.error = KeyError()
    grow_old(client, key, 151)
    with pytest.raises(KeyError):
        f()
    for left in (SystemExit, KeyboardInterrupt):
        loader.error = None
        f.refresh()
        grow_old(client, key, 120)
        loader.error = left()  # type: ignore[assignment]
        with pytest.raises(left):
            f()
        for lock in locks(client):
            client.delete(lock)


def test_the_cap_of_failures_has_a_default(cache: Cache, client: Any) -> None:
    for options, cap in (({}, 3600), ({"stale": 60}, 60), ({"max_stale": 30}, 30)):
        f = cache(ttl=100, on_error="stale", name=str(cap), **options)(lambda: 1)
        f()
        assert (99 + cap) * 1000 < client.pttl(f.cache_key()) <= (100 + cap) * 1000


def test_exceptions_that_are_results_are_no_failures(
    cache: Cache, client: Any, loader: Loader
) -> None:
    @cache(ttl=100, on_error="stale", stale=20, cache_exceptions={LookupError: 50})
    def f() -> int:
        return loader()

    assert f() == 1
    loader.error = LookupError("gone")
    grow_old(client, f.cache_key(), 110)
    assert f() == 1  # refreshed behind
    wait_until(lambda: settled(f, 1), "the refresh")
    with pytest.raises(LookupError, match="gone"):
        f()
    assert loader.calls == 2
    assert cache.stats()["refresh_errors"] == 0


def test_a_hard_timeout_is_a_failure_too(
    cache: Cache, client: Any, loader: Loader
) -> None:
    @cache(ttl=100, on_error="stale", max_stale=100, hard_timeout=0.05)
    def f() -> int:
        return loader()

    try:
        wait_until(lambda: calls_through(f) == 1, "a first value")
        grow_old(client, f.cache_key(), 150)
        loader.free.clear()
        assert f() == 1
        assert f.cache_info().stale == 1
    finally:
        loader.free.set()
    wait_until(lambda: f() > 1, "the work that went on")


def calls_through(f: Any) -> Any:
    try:
        return f()
    except redlane.TimeoutError:
        return None


# --- soft time-outs -----------------------------------------------------------------


def test_soft_timeout(cache: Cache, client: Any, loader: Loader) -> None:
    @cache(ttl=100, stale=100, soft_timeout=30)
    def patient() -> int:
        return loader()

    @cache(ttl=100, on_error="stale", soft_timeout=0.02)
    def hasty() -> int:
        return loader()

    assert patient() == 1
    grow_old(client, patient.cache_key(), 150)
    assert patient() == 2
    loader.error = OSError()
    grow_old(client, patient.cache_key(), 150)
    assert patient() == 2
    assert (patient.cache_info().waits, patient.cache_info().stale) == (1, 1)

    loader.error = None
    first = hasty()
    grow_old(client, hasty.cache_key(), 150)
    loader.free.clear()
    assert hasty() == first
    assert hasty() == first
    assert hasty.cache_info().refreshes == 1
    loader.free.set()
    wait_until(lambda: hasty() == first + 1, "what went on behind")


# --- early ------------------------------------------------------------------------


def test_early_refreshes(cache: Cache, client: Any, loader: Loader) -> None:
    """XFetch: one who comes when a computation's length from the end refreshes in about
    one of e calls; long before, never; the caller waits in no case."""

    @cache(ttl=1000, early=True)
    def f() -> int:
        return loader()

    f()
    key = f.cache_key()
    for _ in range(50):
        assert f() == 1
    assert f.cache_info().refreshes == 0

    stored = client.get(key)
    assert stored[5] & 4  # it says how long it took
    slow = stored[:14] + (10**9).to_bytes(8, "big") + stored[22:]  # 1000 s, in µs
    loader.free.clear()

    def refreshes_now() -> bool:
        client.set(key, slow, px=1_000_000)
        f()
        return f.cache_info().refreshes > 0

    wait_until(refreshes_now, "an early refresh")
    assert f.cache_info().stale == 0
    loader.free.set()
    wait_until(lambda: not locks(client), "its end")


# --- invalidation -----------------------------------------------------------------


@pytest.mark.parametrize("how", ["key", "pattern", "server", "anew"])
def test_nothing_computed_before_an_invalidation_is_stored_after_it(
    cache: Cache, client: Any, loader: Loader, how: str
) -> None:
    """Promise 12 for refreshes behind, with the loader held between its read and its
    store."""

    @cache(ttl=100, stale=100)
    def f() -> int:
        return loader()

    key = f.cache_key()
    assert f() == 1
    grow_old(client, key, 150)
    loader.free.clear()
    assert f() == 1
    wait_until(lambda: loader.calls == 2, "the refresh")
    if how == "key":
        assert f.invalidate() is True
    elif how == "pattern":
        assert f.invalidate_all() >= 1
    else:
        client.delete(key)
    if how == "anew":
        client.set(key, b'"new"', px=100_000)
    loader.free.set()
    wait_until(lambda: not locks(client), "its end")
    assert client.get(key) == (b'"new"' if how == "anew" else None)
    assert f() == ("new" if how == "anew" else 3)


def test_an_invalidated_and_recomputed_value_is_not_overtaken(
    cache: Cache, client: Any, loader: Loader
) -> None:
    loader.values = ["old", "before", "after", "after that"]

    @cache(ttl=100, stale=100)
    def f() -> str:
        return loader()

    key = f.cache_key()
    f()
    grow_old(client, key, 150)
    loader.free.clear()
    f()
    wait_until(lambda: loader.calls == 2, "the refresh")
    client.delete(key)  # as another process would
    box: list[str] = []
    caller = threading.Thread(target=lambda: box.append(f()))
    caller.start()
    wait_until(lambda: loader.calls == 3, "a computation that began after it")
    loader.free.set()
    caller.join()
    wait_until(lambda: not locks(client), "the refresh's end")
    assert box == ["after"]
    assert f() == "after"
    grow_old(client, key, 150)
    assert f() == "after"
    wait_until(lambda: f() == "after that", "a refresh of that")


# --- near values --------------------------------------------------------------------


def test_near_hits_end_with_the_value_s_own_time(redis_server: Server) -> None:
    with Client(redis_server.url, timeout=5) as client:
        cache = Cache(client, prefix="fresh-near")
        calls: list[int] = []

        @cache(ttl=1000, stale=1000)
        def f(x: int) -> str:
            calls.append(x)
            return f"text {len(calls)}"

        f(1)
        warm(f, lambda: f(1))
        grow_old(client, f.cache_key(1), 999.5)
        end = time.monotonic() + 0.6
        while time.monotonic() < end:
            f(1)  # near for half a second at most, though the key lives on
        hits = near_hits(f)
        wait_until(lambda: f(1) == "text 2", "the refresh")
        assert near_hits(f) == hits or f(1) == "text 2"
        assert f.cache_info().stale >= 1
        f.invalidate_all()


def test_early_refreshes_end_near_hits(redis_server: Server) -> None:
    """Near hits do not ask the server, so a refresh must not be left to those."""
    with Client(redis_server.url, timeout=5) as client:
        cache = Cache(client, prefix="fresh-early")
        loader = Loader()

        @cache(ttl=1000, early=True)
        def f() -> str:
            return f"text {loader()}"

        f()
        stored = client.get(f.cache_key())
        # as if it had taken 4 hours: nearly every reader is to refresh it soon
        slow = stored[:14] + (4 * 3600 * 10**6).to_bytes(8, "big") + stored[22:]
        loader.free.clear()

        def is_refreshed() -> bool:
            client.set(f.cache_key(), slow, px=1_000_000)  # ends near hits: a new draw
            f()
            return f.cache_info().refreshes > 0 or loader.calls == 2

        wait_until(is_refreshed, "an early refresh")
        wait_until(lambda: loader.calls == 2, "its start")
        warm(f, f)  # its callers do not wait for it, nor ask again
        loader.free.set()
        wait_until(lambda: f() == "text 2", "its end")
        assert f.cache_info().stale == 0
        f.invalidate_all()


# --- outages ------------------------------------------------------------------------


def test_what_was_near_is_served_during_an_outage(
    switch: Switch, loader: Loader
) -> None:
    with Client(switch.url, timeout=2, connect_timeout=2) as client:
        cache = Cache(client, prefix="fresh-out")

        @cache(ttl=1000, stale=1000)
        def f() -> str:
            return f"value {loader()}"

        @cache(ttl=1000, on_error="stale")
        def g() -> str:
            return f"value {loader()}"

        @cache(ttl=1000, stale=1000, on_error="stale")
        def gone() -> str:
            return f"value {loader()}"

        def all_near() -> bool:
            before = near_hits(cache)
            assert [f(), g(), gone()] == ["value 1", "value 2", "value 3"]
            return near_hits(cache) == before + 3

        wait_until(all_near, "near hits")
        switch.off(client)
        gone.invalidate()
        loader.error = ConnectionError()
        with pytest.raises(ConnectionError):
            gone()
        assert g() == "value 2"
        assert g.cache_info().stale == 1
        loader.error = None
        loader.free.clear()
        assert [f(), f(), f()] == ["value 1"] * 3
        loader.free.set()
        wait_until(lambda: f() != "value 1", "a refresh, into the engine")
        switch.on(client)
        # what the engine held is not the server's, where the old one is dropped
        assert f() not in ("value 1", "value 2", "value 3")
        f.invalidate_all()
        g.invalidate_all()


# --- processes ----------------------------------------------------------------------

PROGRAM = """
import os, sys, threading, time
from redlane import Cache, Client

url, threads = sys.argv[1], int(sys.argv[2])
client = Client(url, timeout=30, connect_timeout=30)
cache = Cache(client, prefix="fresh", ttl=300, near=len(sys.argv) < 4)

@cache(name="hot", stale=3000)
def hot():
    number = client.incr("runs")
    while not client.exists("free"):
        time.sleep(0.02)
    return {"made": number}

def call():
    gate.wait()
    results.append(hot())

print("ready" if client.ping() else "", flush=True)
for line in sys.stdin:
    results = []
    gate = threading.Event()
    callers = [threading.Thread(target=call) for _ in range(threads)]
    for caller in callers:
        caller.start()
    gate.set()
    for caller in callers:
        caller.join()
    print(results == [results[0]] * threads and results[0]["made"], flush=True)
    if line == "exit\\n":
        break
"""


class Member:
    def __init__(self, child: subprocess.Popen[str]) -> None:
        self.child = child
        assert self.hear() == "ready"

    def tell(self, word: str = "go") -> None:
        assert self.child.stdin
        self.child.stdin.write(f"{word}\n")
        self.child.stdin.flush()

    def hear(self) -> str:
        assert self.child.stdout
        return self.child.stdout.readline().strip()


def command(url: str, threads: int) -> list[Any]:
    return [sys.executable, "-c", PROGRAM, url, threads]


PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}


def make_stale(server: Server, member: Member) -> str:
    """A first value by one member, then old."""
    server.cli("SET", "free", "1")
    member.tell()
    assert member.hear() == "1"
    server.cli("DEL", "free")
    with Client(server.url) as client:
        (key,) = client.execute("KEYS", "fresh:hot:*")
        grow_old(client, key.decode(), 400)
    return str(key.decode())


@pytest.mark.parametrize(
    ("processes", "threads"), [(3, 20), pytest.param(8, 500, marks=pytest.mark.soak)]
)
def test_a_herd_on_a_stale_key_refreshes_once_and_waits_for_nobody(
    fresh_server: Server, processes: int, threads: int
) -> None:
    run = command(fresh_server.url, threads)
    children = [started(run, **PIPES) for _ in range(processes)]
    members = [Member(child.__enter__()) for child in children]
    try:
        make_stale(fresh_server, members[0])
        for _ in range(3):
            for member in members:
                member.tell()
            # the refresh is held all the while
            assert [member.hear() for member in members] == ["1"] * processes
        wait_until(lambda: fresh_server.cli("GET", "runs") == b"2", "the refresh")
        fresh_server.cli("SET", "free", "1")

        def is_new() -> bool:
            for member in members:
                member.tell()
            return [member.hear() for member in members] == ["2"] * processes

        wait_until(is_new, "the new value")
        assert fresh_server.cli("GET", "runs") == b"2"
    finally:
        for child in children:
            child.__exit__(None, None, None)


def test_a_killed_refresher_delays_the_next_no_longer_than_its_lease(
    fresh_server: Server,
) -> None:
    run = command(fresh_server.url, 1)
    with started(run, **PIPES) as one, started(run, **PIPES) as two:
        holder, other = Member(one), Member(two)
        make_stale(fresh_server, holder)
        holder.tell()
        assert holder.hear() == "1"
        wait_until(lambda: fresh_server.cli("GET", "runs") == b"2", "the refresh")
        holder.child.kill()
        other.tell()
        assert other.hear() == "1"
        with Client(fresh_server.url) as client:
            (lock,) = locks(client)
            assert 0 < client.pttl(lock) <= 30_000
            client.pexpire(lock, 1)  # as if it had been taken so long ago
        fresh_server.cli("SET", "free", "1")

        def is_new() -> bool:
            other.tell()
            return other.hear() == "3"

        wait_until(is_new, "another refresh")


def test_an_invalidation_by_another_process_during_a_refresh(
    fresh_server: Server,
) -> None:
    run = command(fresh_server.url, 2)
    with started(run, **PIPES) as one, Client(fresh_server.url) as client:
        member = Member(one)
        key = make_stale(fresh_server, member)
        member.tell()
        assert member.hear() == "1"
        wait_until(lambda: fresh_server.cli("GET", "runs") == b"2", "the refresh")
        assert Cache(client, prefix="fresh").invalidate("fresh:hot:*") >= 1
        fresh_server.cli("SET", "free", "1")
        member.tell()
        assert member.hear() == "3"
        wait_until(lambda: not locks(client), "its end")
        member.tell()
        assert member.hear() == "3"
        assert client.exists(key) == 1


def test_a_program_ends_with_a_refresh_under_way(fresh_server: Server) -> None:
    run = command(fresh_server.url, 1)
    with started(run, stderr=subprocess.PIPE, **PIPES) as one:
        member = Member(one)
        make_stale(fresh_server, member)
        member.tell()
        assert member.hear() == "1"
        wait_until(lambda: fresh_server.cli("GET", "runs") == b"2", "the refresh")
        member.tell("exit")
        _, told = one.communicate(timeout=60)
        assert (one.returncode, told) == (0, "")


def test_a_child_refreshes_by_itself(cache: Cache, client: Any, loader: Loader) -> None:
    """What its parent has under way it has not."""

    @cache(ttl=100, stale=100)
    def f() -> int:
        return loader()

    f()
    key = f.cache_key()
    grow_old(client, key, 150)
    f()
    wait_until(lambda: f() == 2, "a refresh of the parent")
    grow_old(client, key, 150)
    loader.free.clear()
    assert f() == 2
    wait_until(lambda: loader.calls == 3, "another")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(60)
            for lock in locks(client):
                client.delete(lock)
            loader.free.set()
            assert f() == 2
            wait_until(lambda: f() == 4, "the child's own")
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    loader.free.set()
    wait_until(lambda: not locks(client), "the parent's")
    assert f() in (3, 4)
