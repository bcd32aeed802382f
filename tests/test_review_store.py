"""Outages at their edges: servers that answer in part, journals that are large, links
that wait for one another."""

from __future__ import annotations

import shlex
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import redlane
from redlane import Cache, Client
from scripted import HELLO_ANSWER, Peer, scripted
from servers import PATIENT, Server
from toolset import with_more_time

BOUND = 60.0  # seconds that a test waits for what must come; far above what it takes


def wait_until(condition: Callable[[], Any], what: str) -> None:
    end = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < end, f"never came: {what}"
        time.sleep(0.01)


def back_on_redis(client: Client) -> bool:
    return bool(client.health()["mode"] == "redis")


def test_what_was_executed_beside_a_refusal_is_not_counted_twice() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        assert peer.read()[0] == b"INCRBY"
        assert peer.read()[0] == b"INCRBY"
        peer.send(b":7\r\n-CLUSTERDOWN The cluster is down\r\n")
        peer.wait_until_gone()

    def scenario(seconds: float) -> None:
        with scripted(script) as server:
            options = {"timeout": seconds, "connect_timeout": seconds}
            client = Client(server.url, fallback="memory", **options)
            pipeline = client.pipeline(transaction=False)
            pipeline.incr("executed")
            pipeline.incr("refused")
            assert pipeline.execute() == [7, 1]
            # The engine counted the refused one alone.
            assert client.health()["journal"]["keys"] == 1
            client.close()

    with_more_time(scenario, 1, 5, 30)


def test_a_set_that_takes_place_only_on_something_is_no_change_on_nothing(
    fresh_server: Server,
) -> None:
    client = Client(fresh_server.url, fallback="memory", **PATIENT)
    fresh_server.kill()
    assert client.execute("SET", "absent", "v", "XX", "GET") is None
    client.set("present", "v")
    assert client.execute("SET", "present", "w", "XX", "GET") == b"v"
    fresh_server.start()
    wait_until(lambda: back_on_redis(client), "the return")
    assert fresh_server.cli("GET", "absent") is None
    assert fresh_server.cli("GET", "present") == b"w"
    client.close()


def test_busy_writers_do_not_keep_the_server_away(fresh_server: Server) -> None:
    client = Client(fresh_server.url, **PATIENT)
    cache = Cache(client, ttl=60)
    fresh_server.kill()
    for i in range(60_000):
        cache.set(f"before:{i}", 1)
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            cache.set(f"during:{number}", 1)
            number += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        fresh_server.start()
        wait_until(lambda: back_on_redis(client), "the return")
    finally:
        stop.set()
        thread.join()
    client.close()


def test_a_full_journal_stays_cheap(fresh_server: Server) -> None:
    client = Client(fresh_server.url, max_memory=8 << 20, **PATIENT)
    cache = Cache(client, serializer="raw")
    fresh_server.kill()
    for i in range(300):
        cache.set(f"large:{i}", b"x" * 60_000)
    assert client.health()["journal"]["lost"] > 0
    for i in range(30_000):
        cache.set(f"small:{i}", b"y")
    assert client.health()["journal"]["bytes"] <= 16 << 20
    client.close()


def test_one_link_is_not_kept_waiting_by_the_replay_of_another(
    fresh_server: Server,
) -> None:
    """The first server scans for ever, each reply in time."""
    up, scanning = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        while up.is_set():
            command = peer.read()
            if command[0] == b"SCAN":
                scanning.set()
                time.sleep(0.02)
                step = str(int(command[1]) + 1).encode()
                peer.send(b"*2\r\n$%d\r\n%s\r\n*0\r\n" % (len(step), step))
            elif command[0] == b"HELLO":
                peer.send(HELLO_ANSWER)
            else:
                peer.send(b"+PONG\r\n" if command[0] == b"PING" else b"+OK\r\n")

    with scripted(script) as server:
        slow = Client(server.url, **PATIENT)
        assert Cache(slow).invalidate("cache:*") == 0  # kept for its return
        up.set()
        assert scanning.wait(BOUND)
        other = Client(fresh_server.url, fallback="memory", **PATIENT)
        fresh_server.kill()
        assert other.get("k") is None
        fresh_server.start()
        fresh_server.cli("SET", "k", "there")
        wait_until(lambda: other.get("k") == b"there", "the other's return")
        other.close()
        slow.close()


def test_a_scan_in_circles_ends() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        while True:
            command = peer.read()
            assert command[0] == b"SCAN"
            step = b"%d" % (int(command[1]) % 5 + 1)
            peer.send(b"*2\r\n$1\r\n%s\r\n*0\r\n" % step)

    with scripted(script) as server:
        client = Client(server.url, **PATIENT)
        with pytest.raises(redlane.ReplyError, match="circles"):
            Cache(client).invalidate("cache:*")
        client.close()


def test_a_change_kept_when_the_link_has_just_come_back_is_told(
    fresh_server: Server,
) -> None:
    """A request of unknown fate is answered by the engine, which takes so long for it
    that the server is back meanwhile: the link is in doubt once more, and the thread
    that has just found it well must look again."""
    values = {f"k:{number}": number for number in range(20_000)}
    with Client("memory://") as engine:
        engine.mset(values)
        begin = time.monotonic()
        for _ in range(20):
            engine.keys("nothing like this")
        count = int(20 * 3 / (time.monotonic() - begin))  # in three seconds
    client = Client(fresh_server.url, fallback="memory", **PATIENT)
    client.ping()
    server = fresh_server.process
    assert server is not None
    start = shlex.join(fresh_server.command(fresh_server.port))
    script = f"sleep 0.3; kill -9 {server.pid}; sleep 0.1; exec {start}"
    pipeline = client.pipeline()
    pipeline.mset(values)
    for _ in range(count):
        pipeline.keys("nothing like this")
    fresh_server.pause()
    fresh_server.process = subprocess.Popen(
        ["sh", "-c", script], stdout=subprocess.DEVNULL
    )
    pipeline.execute()
    server.wait()
    wait_until(lambda: back_on_redis(client), "the return")
    client.close()
