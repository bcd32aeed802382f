"""A server that answers reads and refuses writes: OOM, READONLY, MISCONF, NOREPLICAS,
each a real one.

Reads go on from the server. A raw write raises what the server said as a typed error.
The tools write on by their policy, a process reads what it wrote itself, the server is
asked no more often than a probe asks, and what it missed it hears when it takes writes
again.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
import redlane
from servers import ReplyError, Server
from toolset import (
    BOUND,
    SOURCE,
    Toolset,
    probes_in,
    stat_of,
    toolset,
    try_cli,
    wait_until,
)

Refusal = Callable[[Server], AbstractContextManager[type[redlane.ReplyError]]]


@contextlib.contextmanager
def out_of_memory(server: Server) -> Iterator[type[redlane.ReplyError]]:
    server.cli("CONFIG", "SET", "maxmemory", 1)
    yield redlane.OutOfMemoryError
    server.cli("CONFIG", "SET", "maxmemory", 0)


@contextlib.contextmanager
def replica(server: Server) -> Iterator[type[redlane.ReplyError]]:
    """A replica of a real primary, in step with it, and then a primary itself."""
    primary = Server("--repl-diskless-sync-delay", "0", binary=server.binary)
    try:
        primary.start()
        for key in server.cli("KEYS", "*"):
            ttl = max(0, server.cli("PTTL", key))
            primary.cli("RESTORE", key, ttl, server.cli("DUMP", key))
        server.cli("REPLICAOF", "127.0.0.1", primary.port)
        wait_until(
            lambda: b"master_link_status:up" in server.cli("INFO", "replication"),
            "the link to the primary",
        )
        yield redlane.ReadOnlyError
        server.cli("REPLICAOF", "NO", "ONE")
    finally:
        primary.close()


@contextlib.contextmanager
def failed_snapshot(server: Server) -> Iterator[type[redlane.ReplyError]]:
    """MISCONF: a snapshot that was to be made could not be written."""
    folder = server.folder / "gone"
    folder.mkdir()
    server.cli("CONFIG", "SET", "dir", str(folder))
    shutil.rmtree(folder)
    server.cli("CONFIG", "SET", "save", "3600 1")
    with contextlib.suppress(ReplyError):
        server.cli("BGSAVE")
    wait_until(
        lambda: b"rdb_last_bgsave_status:err" in server.cli("INFO", "persistence"),
        "a snapshot that fails",
    )
    yield redlane.ReplyError
    server.cli("CONFIG", "SET", "save", "")


@contextlib.contextmanager
def no_replicas(server: Server) -> Iterator[type[redlane.ReplyError]]:
    server.cli("CONFIG", "SET", "min-replicas-to-write", 1)
    yield redlane.ReplyError
    server.cli("CONFIG", "SET", "min-replicas-to-write", 0)


REFUSALS = [out_of_memory, replica, failed_snapshot, no_replicas]
WORDS = {
    out_of_memory: "OOM",
    replica: "READONLY",
    failed_snapshot: "MISCONF",
    no_replicas: "NOREPLICAS",
}


def refused_writes(server: Server) -> int:
    """Error lines that the server has answered."""
    return stat_of(server.cli("INFO", "stats").decode(), "total_error_replies")


def write_breaker(tools: Toolset) -> str:
    return str(tools.client.health()["write_breaker"])


def hammer(tools: Toolset, seconds: float) -> int:
    """Uses every tool; gives how often. What was there before is still read from the
    server."""
    rounds = 0
    end = time.monotonic() + seconds
    while rounds < 5 or time.monotonic() < end:
        tools.use()
        assert tools.cache.get("kept") == "of before"
        assert tools.videos.get("black", ["white"]) == "https://before"
        assert tools.client.get("raw") == b"there"
        rounds += 1
    return rounds


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize(
    "seconds", [0.3, pytest.param(60, marks=pytest.mark.soak)], ids=["short", "minute"]
)
def test_writes_are_refused_and_reads_go_on(
    fresh_server: Server,
    refusal: Refusal,
    seconds: float,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="redlane")
    with toolset(fresh_server.url, timeout=30) as tools:
        tools.warm()
        with refusal(fresh_server) as error:
            for _ in range(3):
                with pytest.raises(error, match=WORDS[refusal]):
                    tools.client.set("raw", "changed")
            begin, before = time.monotonic(), refused_writes(fresh_server)
            hammer(tools, seconds)
            # Probes and journal together.
            refused = refused_writes(fresh_server) - before
            assert refused < probes_in(time.monotonic() - begin)
            assert tools.mode == "redis"
            assert tools.breaker == "closed"
            assert write_breaker(tools) == "open"
            assert tools.client.get("raw") == b"there"
        wait_until(lambda: write_breaker(tools) == "closed", "writes")
        tools.assert_healed(fresh_server)
    lines = [r.getMessage() for r in caplog.records if r.name == "redlane"]
    away = [line for line in lines if line.startswith("Redis takes no writes")]
    back = [line for line in lines if line.startswith("Redis takes writes again")]
    assert (len(away), len(back)) == (1, 1)  # no flapping
    assert WORDS[refusal] in away[0]


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_tool_is_the_first_to_be_refused(
    fresh_server: Server, refusal: Refusal
) -> None:
    """The very write that meets the refusal is answered by the policy."""
    calls: list[Callable[[Toolset], object]] = [
        lambda tools: tools.cache.set("k", 1),
        lambda tools: tools.cache.set_many({"a": 1, "b": 2}),
        lambda tools: tools.cache.add("k", 1),
        lambda tools: tools.cache.increment("k"),
        lambda tools: tools.cache.touch("kept", 100),
        lambda tools: tools.cache.delete("kept"),
        lambda tools: tools.cache.delete_many(["kept"]),
        lambda tools: tools.cache.invalidate("c:ke*"),
        lambda tools: tools.double.invalidate(1),
        lambda tools: tools.double(7),
        lambda tools: tools.cache.get_or_set("k", lambda: 1),
        lambda tools: tools.counter.increment("warm"),
        lambda tools: tools.counter.transfer("warm", "other"),
        lambda tools: tools.counter.delete("warm"),
        lambda tools: tools.counter.get("fresh"),
        lambda tools: tools.videos.set("black", ["w"], "https://x"),
        lambda tools: tools.videos.set("black", ["w"], "https://x", permanent=True),
    ]
    every = [Toolset(fresh_server.url, timeout=30) for _ in calls]
    try:
        for tools in every:
            tools.warm()
        with refusal(fresh_server):
            for call, tools in zip(calls, every, strict=True):
                call(tools)
                tools.use()
        for tools in every:
            wait_until(lambda tools=tools: write_breaker(tools) == "closed", "writes")
        every[0].assert_healed(fresh_server)
    finally:
        for tools in every:
            tools.close()


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_process_reads_its_own_writes(fresh_server: Server, refusal: Refusal) -> None:
    """While writes are refused, and after: never the value from before."""
    with toolset(fresh_server.url, timeout=30) as tools:
        tools.warm()
        for key in ("set", "deleted", "patterned", "forgotten"):
            assert tools.cache.set(key, "old") is True
        with refusal(fresh_server):
            tools.cache.set("set", "new")
            tools.cache.delete("deleted")
            tools.cache.invalidate("c:patt*")
            tools.cache.set("forgotten", "new")
            tools.cache.delete("forgotten")
            tools.counter.increment("warm")
            tools.videos.set("black", ["white"], "https://new", permanent=True)
            tools.cache.set("for ever", "new", durable=True)

            def check() -> None:
                assert tools.cache.get("set") in ("new", None)
                assert tools.cache.get_many(["set", "deleted"]) in ({"set": "new"}, {})
                for key in ("deleted", "patterned", "forgotten"):
                    assert tools.cache.get(key) is None
                    assert tools.cache.has(key) is False
                assert tools.counter.get("warm") in (SOURCE, SOURCE + 1)
                assert tools.videos.get("black", ["white"]) in ("https://new", None)

            for _ in range(20):
                check()
        end = time.monotonic() + BOUND
        while write_breaker(tools) != "closed":
            check()
            assert time.monotonic() < end
        check()
        wait_until(
            lambda: (
                fresh_server.cli("GET", "c:set") != b'"old"'
                and fresh_server.cli("EXISTS", "c:deleted", "c:patterned") == 0
            ),
            "what the server missed",
        )
        video = fresh_server.cli(
            "GET", redlane.content_key("video", "black", ["white"])
        )
        assert b"https://new" in video
        assert fresh_server.cli("GET", "c:for ever") == b'"new"'
        assert tools.cache.get("for ever") == "new"


def test_deletes_go_on_after_oom(fresh_server: Server) -> None:
    """The server takes them, and they are what makes room."""
    with toolset(fresh_server.url, timeout=30) as tools:
        tools.warm()
        with out_of_memory(fresh_server):
            with pytest.raises(redlane.OutOfMemoryError):
                tools.client.set("raw", "changed")
            assert fresh_server.cli("EXISTS", "c:kept") == 1
            tools.cache.delete("kept")
            wait_until(lambda: fresh_server.cli("EXISTS", "c:kept") == 0, "the delete")
            assert tools.client.delete("raw") == 1
        tools.assert_healed(fresh_server)


def test_a_link_lost_while_writes_are_refused(fresh_server: Server) -> None:
    """Both breakers: the server is killed while it refuses, and comes back well."""
    with toolset(fresh_server.url, timeout=30) as tools:
        tools.warm()
        fresh_server.cli("CONFIG", "SET", "maxmemory", 1)
        with pytest.raises(redlane.OutOfMemoryError):
            tools.client.set("raw", "changed")
        tools.use()
        fresh_server.kill()
        tools.use()
        tools.wait_until_away()
        tools.use()
        fresh_server.start()
        tools.assert_healed(fresh_server)
        assert try_cli(fresh_server, "CONFIG", "GET", "maxmemory")[1] == b"0"
        wait_until(lambda: write_breaker(tools) == "closed", "writes")
