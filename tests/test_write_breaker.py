"""The server answers, and takes no writes: it is full, a replica, cannot save, or lacks
its replicas. Reads go on, writes are kept, and nothing stale is read in the end."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import redlane
from outage_tools import is_well, messages, switched, wait_until
from redlane import Cache, Client, Counter, VideoCache
from servers import PATIENT, Server

SOAK = "REDLANE_SOAK" in os.environ


@contextmanager
def full(server: Server) -> Iterator[None]:
    server.cli("CONFIG", "SET", "maxmemory", "1")
    try:
        yield
    finally:  # other tests may use that server
        server.cli("CONFIG", "SET", "maxmemory", "0")


@contextmanager
def replica(server: Server) -> Iterator[None]:
    """It has failed over to a server that took over its data, and follows that."""
    successor = Server(binary=server.binary)
    successor.start()
    try:
        follow(successor, server)
        successor.cli("REPLICAOF", "NO", "ONE")
        follow(server, successor)
        yield
        server.cli("REPLICAOF", "NO", "ONE")
    finally:
        successor.close()


def follow(server: Server, leader: Server) -> None:
    server.cli("REPLICAOF", "127.0.0.1", leader.port)
    wait_until(
        lambda: b"master_link_status:up" in server.cli("INFO", "replication"),
        "the replica in step",
    )


@contextmanager
def cannot_save(server: Server) -> Iterator[None]:
    """A folder stands where its file is to stand."""
    server.cli("CONFIG", "SET", "save", "3600 1000000")
    (server.folder / "dump.rdb").mkdir()
    save(server, b"err")
    yield
    (server.folder / "dump.rdb").rmdir()
    save(server, b"ok")
    server.cli("CONFIG", "SET", "save", "")


def save(server: Server, status: bytes) -> None:
    server.cli("BGSAVE")
    wait_until(
        lambda: (
            b"rdb_last_bgsave_status:" + status in server.cli("INFO", "persistence")
        ),
        "the end of a save",
    )


@contextmanager
def too_few_replicas(server: Server) -> Iterator[None]:
    server.cli("CONFIG", "SET", "min-replicas-to-write", "1")
    yield
    server.cli("CONFIG", "SET", "min-replicas-to-write", "0")


Trouble = Callable[[Server], AbstractContextManager[None]]
TROUBLES = {
    "OOM": full,
    "READONLY": replica,
    "MISCONF": cannot_save,
    "NOREPLICAS": too_few_replicas,
}


@pytest.fixture(params=TROUBLES)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def client(fresh_server: Server) -> Iterator[Client[Any]]:
    made = Client(fresh_server.url, **PATIENT)
    made.ping()
    yield made
    made.close()


def test_reads_go_on_and_writes_are_kept(
    fresh_server: Server,
    client: Client[Any],
    kind: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="redlane")
    cache = Cache(client, prefix="c")
    calls: list[int] = []
    truth = 5
    counter = Counter(client, "n:{id}", ttl=300, source=lambda id: truth)
    videos = VideoCache(client)
    card = ("black", ["white"])

    @cache(ttl=300)
    def f(n: int) -> int:
        calls.append(n)
        return len(calls)

    for key in ("there", "deleted", "many", "m:1", "overwritten", "added"):
        cache.set(key, "old")
    cache.set("amount", 100)
    assert (f(1), f(2), f(3), counter.get("1")) == (1, 2, 3, 5)
    with TROUBLES[kind](fresh_server):
        cache.set("mine", "new", ttl=60)
        assert cache.get("mine") == "new"
        assert client.health()["write_breaker"] == "open"
        assert client.health()["breaker"] == "closed"
        assert client.health()["mode"] == "redis"
        assert kind in client.health()["error"]
        assert cache.get("there") == "old"
        assert client.get("c:there") == b'"old"'
        with pytest.raises(redlane.ReplyError, match=kind):
            client.set("c:raw", "v")
        with pytest.raises(redlane.ReplyError, match=kind):
            client.incr("c:amount")
        cache.set("durable", "new")
        cache.set("overwritten", "new", ttl=60)
        cache.set_many({"s1": "new", "s2": "new"})
        assert cache.get_many(["durable", "overwritten", "s1", "s2"]) == dict.fromkeys(
            ["durable", "overwritten", "s1", "s2"], "new"
        )
        assert cache.add("fresh", "new") is True
        assert cache.increment("amount", 7) == 7
        cache.decrement("amount", 2)
        assert cache.touch("there", ttl=60) in (True, False)
        cache.delete("deleted")
        cache.delete_many(["many"])
        cache.invalidate("c:m:*")
        assert cache.get_many(["deleted", "many", "m:1"]) == {}
        gone = fresh_server.cli("EXISTS", "c:deleted", "c:many", "c:m:1")
        assert gone == (0 if kind == "OOM" else 3)
        # Hits are the server's; what is computed is not stored there.
        assert (f(1), len(calls)) == (1, 3)
        f.invalidate(2)
        assert f(2) == 4
        assert f.refresh(3) > 3
        assert f(3) > 3
        truth += 1
        counter.increment("1")
        assert counter.get("1") == truth
        assert videos.set(*card, "url", permanent=True) is True
        assert videos.get(*card) == "url"
        assert client.health()["journal"]["keys"] > 0
    wait_until(lambda: is_well(client), "writes again")
    found = ["mine", "deleted", "many", "m:1", "durable", "overwritten", "s1", "s2"]
    assert cache.get_many([*found, "fresh", "amount"]) == {
        "durable": "new",
        "s1": "new",
        "s2": "new",
        "fresh": "new",
        "amount": 105,
    }
    assert f(2) > 3 and f(3) > 3
    assert counter.get("1") == truth
    assert videos.get(*card) == "url"
    assert len(messages(caplog.records, "takes no writes")) == 1
    assert len(messages(caplog.records, "takes writes again")) == 1
    assert messages(caplog.records, "away") == []
    assert client.health()["error"] is None
    assert client.health()["engine"]["keys"] == 0


def rejected_probes(server: Server) -> int:
    for line in server.cli("INFO", "commandstats").decode().splitlines():
        if line.startswith("cmdstat_setrange:"):
            return int(line.split("rejected_calls=")[1].split(",")[0])
    return 0


@pytest.mark.parametrize(
    "seconds", [2, pytest.param(60, marks=pytest.mark.soak)], ids=["short", "minute"]
)
def test_full_without_flapping(
    fresh_server: Server, seconds: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="redlane")
    client = Client(fresh_server.url, **PATIENT)
    cache = Cache(client, prefix="c")
    versions: dict[str, int] = {}
    failures: list[BaseException] = []
    stop = threading.Event()

    @cache(ttl=300)
    def f(name: str) -> int:
        return versions[name]

    def work(name: str) -> None:
        """What it reads is what it wrote, or a miss, and never the value of before."""
        dice, number = random.Random(name), 0
        try:
            while not stop.is_set():
                number += 1
                if dice.random() < 0.5:
                    cache.set(name, number, ttl=300)
                    allowed = [None, number]
                else:
                    cache.delete(name)
                    allowed = [None]
                versions[name] = number
                f.invalidate(name)
                assert f(name) == number
                for _ in range(3):
                    value = cache.get(name)
                    assert value in allowed, (value, allowed)
                time.sleep(0.002)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(f"k{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    try:
        with full(fresh_server):
            begin = time.monotonic()
            while time.monotonic() < begin + seconds and not failures:
                time.sleep(0.05)
            probes = rejected_probes(fresh_server)
            took = time.monotonic() - begin
        wait_until(lambda: client.health()["write_breaker"] == "closed", "writes again")
        time.sleep(0.1)  # the threads read on
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    # About two a second; the first second has more. Full jitter makes it uneven.
    assert 1 <= probes <= 10 + 3 * took
    assert len(messages(caplog.records, "takes no writes")) == 1
    assert len(messages(caplog.records, "takes writes again")) == 1
    assert messages(caplog.records, "away") == []
    client.close()


def test_full_before_the_replay(
    redis_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """The link returns to a server that has become full meanwhile."""
    caplog.set_level(logging.INFO, logger="redlane")
    with switched(redis_server) as switch:
        client = Client(switch.url, **PATIENT)
        cache = Cache(client, prefix="c")
        for key in ("deleted", "m:1", "there", "replaced"):
            cache.set(key, "old")
        cache.set("amount", 100)
        switch.off(client)
        cache.delete("deleted")
        cache.invalidate("c:m:*")
        cache.set("durable", "new")
        cache.delete("replaced")
        cache.set("replaced", "new")
        cache.increment("amount", 7)
        with full(redis_server):
            switch.proxy.refuse = False
            wait_until(lambda: client.health()["breaker"] == "closed", "the link")
            assert client.health()["write_breaker"] == "open"
            assert cache.get("there") == "old"
            assert cache.get_many(["deleted", "m:1"]) == {}
            assert cache.get("durable") == "new"
            assert cache.get("replaced") == "new"
            assert cache.get("amount") == 7
            cache.increment("amount", 1)
            cache.delete("there")
            assert cache.get("there") is None
            # And away again, and back, full all the time.
            switch.off(client)
            cache.increment("amount", 1)
            switch.proxy.refuse = False
            wait_until(lambda: client.health()["breaker"] == "closed", "the link")
            assert redis_server.cli("GET", "c:amount") == b"100"
        wait_until(lambda: is_well(client), "writes again")
        assert redis_server.cli("GET", "c:amount") == b"109"
        keys = ["deleted", "m:1", "there", "durable", "replaced"]
        assert cache.get_many(keys) == {"durable": "new", "replaced": "new"}
        assert len(messages(caplog.records, "takes no writes")) == 1
        assert len(messages(caplog.records, "takes writes again")) == 1
        client.close()


def test_full_and_killed(fresh_server: Server, client: Client[Any]) -> None:
    """Its successor is empty, and takes writes."""
    cache = Cache(client, prefix="c")
    cache.set("there", "old")
    fresh_server.cli("CONFIG", "SET", "maxmemory", "1")
    cache.set("durable", "new")
    cache.increment("amount", 3)
    assert client.health()["write_breaker"] == "open"
    fresh_server.kill()
    wait_until(lambda: client.health()["breaker"] == "open", "the outage")
    assert cache.get("durable") == "new"
    assert cache.increment("amount", 3) == 6
    cache.set("temporary", "new", ttl=60)
    fresh_server.start()
    wait_until(lambda: is_well(client), "the return")
    assert cache.get_many(["durable", "amount", "there", "temporary"]) == {
        "durable": "new",
        "amount": 6,
    }
    cache.set("there", "new")
    assert fresh_server.cli("GET", "c:there") == b'"new"'


def test_full_from_time_to_time_under_an_uneasy_link(redis_server: Server) -> None:
    """Both kinds of trouble, in any order and overlapping: amounts at most once, and
    what each thread deleted stays deleted."""
    with switched(redis_server) as switch:
        client = Client(switch.url, **PATIENT)
        cache = Cache(client, prefix="c")
        stop, failures = threading.Event(), []
        added = [0] * 4

        def work(number: int) -> None:
            try:
                while not stop.is_set():
                    cache.increment(f"n{number}")
                    added[number] += 1
                    cache.set(f"k{number}", added[number], ttl=300)
                    cache.delete(f"k{number}")
                    assert cache.get(f"k{number}") is None
                    time.sleep(0.001)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        wait_until(lambda: all(added), "a first count of each")
        dice = random.Random(5)
        with contextlib.ExitStack() as stack:
            stack.callback(lambda: [thread.join() for thread in threads])
            stack.callback(stop.set)
            stack.callback(redis_server.cli, "CONFIG", "SET", "maxmemory", "0")
            for _ in range(200 if SOAK else 25):
                choice = dice.randrange(4)
                if choice == 0:
                    switch.proxy.refuse = True
                    switch.proxy.reset_all()
                elif choice == 1:
                    switch.proxy.refuse = False
                else:
                    redis_server.cli("CONFIG", "SET", "maxmemory", choice - 2)
                time.sleep(dice.random() * 0.1)
        switch.on(client)
        assert failures == []
        for number, count in enumerate(added):
            held = redis_server.cli("GET", f"c:n{number}")
            assert 0 < int(held) <= count
            assert redis_server.cli("EXISTS", f"c:k{number}") == 0
        client.close()


def test_a_memory_client_reads_on(fresh_server: Server) -> None:
    """Raw commands that asked for the engine get it for what the server refuses."""
    client = Client(fresh_server.url, fallback="memory", **PATIENT)
    client.set("there", "old")
    client.incr("amount", 5)
    with full(fresh_server):
        assert client.set("mine", "new") is True
        assert client.get("mine") == b"new"
        assert client.get("there") == b"old"
        assert client.incr("amount", 2) == 2
        assert client.delete("there") == 1
        assert client.get("there") is None
        with client.pipeline(transaction=True) as pipe:
            pipe.set("a", 1)
            pipe.incr("a")
            assert pipe.execute() == [True, 2]
    wait_until(lambda: is_well(client), "writes again")
    assert client.mget("mine", "there", "amount", "a") == [b"new", None, b"7", b"2"]
    client.close()


def test_a_missing_policy_misses(fresh_server: Server) -> None:
    client = Client(fresh_server.url, fallback="none", **PATIENT)
    client.set("there", "old")
    client.set("replaced", "old")
    with full(fresh_server):
        assert client.set("replaced", "new") is True
        assert client.get("replaced") is None
        assert client.get("there") == b"old"
    wait_until(lambda: is_well(client), "writes again")
    assert client.mget("there", "replaced") == [b"old", None]
    client.close()


def test_raise_raises(fresh_server: Server, client: Client[Any]) -> None:
    cache = Cache(client, prefix="c", fallback="raise")
    cache.set("there", "old")
    with full(fresh_server):
        with pytest.raises(redlane.OutOfMemoryError):
            cache.set("k", "v")
        with pytest.raises(redlane.OutOfMemoryError):
            cache.increment("n")
        assert cache.get("there") == "old"
        assert cache.delete("there") is True
        assert fresh_server.cli("EXISTS", "c:there") == 0
        assert client.health()["journal"]["keys"] == 0
    wait_until(lambda: is_well(client), "writes again")
    cache.set("k", "v")
    assert cache.get("k") == "v"


def test_several_at_once_of_which_some_wait(
    fresh_server: Server, client: Client[Any]
) -> None:
    """A request for several keys is not asked of a server that has not heard of one of
    them: no old value among the new ones; and none of it raises."""
    cache = Cache(client, prefix="c")
    cache.set_many({"there": "old", "replaced": "old", "deleted": "old"})
    with full(fresh_server):
        cache.set("replaced", "new")
        cache.delete("deleted")
        cache.set_many({"a": 1, "b": 2}, ttl=60)
        found = cache.get_many(["there", "replaced", "deleted", "a", "b"])
        assert found.pop("there", "old") == "old"
        assert found == {"replaced": "new", "a": 1, "b": 2}
        assert cache.delete_many(["there", "a"]) in (1, 2)
        assert cache.get_many(["there", "a", "b"]) == {"b": 2}
    wait_until(lambda: is_well(client), "writes again")
    assert cache.get_many(["there", "deleted", "a", "b"]) == {}
