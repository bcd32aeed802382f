"""The near cache while the server is away, frozen, slow, or another one."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import redlane
from near_tools import near_hits, near_state, wait_for_near, warm
from outage_tools import Switch, is_well, messages, wait_until
from redlane import Cache, Client
from servers import Server

SILENCE = 2.0  # seconds: two ping intervals


def test_no_hits_while_the_server_is_away(switch: Switch) -> None:
    with Client(switch.url, timeout=2, connect_timeout=2) as client:
        cache = Cache(client)
        calls = []

        @cache
        def f(x: int) -> str:
            calls.append(x)
            return "computed"

        cache.set("k", "server")
        warm(cache, lambda: cache.get("k"))
        warm(f, lambda: f(1))
        switch.off(client)
        hits = near_hits(cache), near_hits(f)
        assert cache.get("k") is None
        assert not cache.has("k")
        assert cache.get_many(["k"]) == {}
        assert f(1) == "computed"
        assert calls == [1, 1]
        cache.set("k", "engine", ttl=60)
        assert [cache.get("k") for _ in range(3)] == ["engine"] * 3
        assert f(1) == "computed"
        assert (near_hits(cache), near_hits(f)) == hits
        switch.server.cli("SET", "cache:other", '"unheard"')
        switch.on(client)
        assert cache.get("k") in (None, "engine")
        assert cache.get("other") == "unheard"
        cache.set("k", "later")
        wait_for_near(client)
        assert warm(cache, lambda: cache.get("k")) == "later"
        assert warm(f, lambda: f(1)) == "computed"


def test_a_server_that_starts_anew(fresh_server: Server) -> None:
    with Client(fresh_server.url) as client:
        cache = Cache(client)
        for i in range(2):
            cache.set("k", i)
            warm(cache, lambda: cache.get("k"))
            fresh_server.kill()
            wait_until(lambda: client.health()["breaker"] == "open", "the outage")
            assert cache.get("k") is None
            fresh_server.start()
            wait_until(lambda: is_well(client), "the return")
            assert cache.get("k") is None
        fresh_server.cli("SET", "cache:k", "5")
        assert warm(cache, lambda: cache.get("k")) == 5


def test_a_frozen_server_is_believed_for_two_intervals(fresh_server: Server) -> None:
    """What it holds may change without a word: near values end in time."""
    with Client(fresh_server.url) as client:
        cache = Cache(client)
        cache.set("k", 1)
        warm(cache, lambda: cache.get("k"))
        fresh_server.pause()
        start = time.monotonic()
        wait_until(lambda: cache.get("k") is None, "the end of the hits")
        # The rest is the call that asks, and a machine that has other things to do.
        assert time.monotonic() - start < SILENCE + 2
        wait_until(lambda: client.health()["breaker"] == "open", "the outage")
        cache.set("k", 2, ttl=60)
        assert cache.get("k") == 2
        fresh_server.resume()
        wait_until(lambda: is_well(client), "the return")
        fresh_server.cli("SET", "cache:k", "3")
        wait_until(lambda: cache.get("k") == 3, "the write")
        assert warm(cache, lambda: cache.get("k")) == 3


def test_a_write_that_times_out(fresh_server: Server) -> None:
    with Client(fresh_server.url) as client:
        cache = Cache(client)

        @cache
        def f(x: int) -> int:
            return 7

        raising = Cache(client, fallback="raise")
        cache.set("k", 1)
        warm(cache, lambda: cache.get("k"))
        warm(f, lambda: f(1))
        fresh_server.pause()
        with pytest.raises(redlane.TimeoutError):
            raising.set("k", 2)
        assert cache.get("k") != 1
        f.invalidate(1)
        hits = near_hits(f)
        assert f(1) == 7
        assert near_hits(f) == hits


def test_one_slow_call_costs_no_hits(fresh_server: Server) -> None:
    """While the link is only in doubt its near values rest, and are there again."""
    with Client(fresh_server.url, timeout=0.5) as client:
        cache = Cache(client)
        cache.set("k", 1)
        warm(cache, lambda: cache.get("k"))
        before = near_state(client)
        fresh_server.pause()
        with pytest.raises(redlane.TimeoutError):
            client.get("other")
        assert cache.get("k") is None
        fresh_server.resume()
        wait_until(lambda: is_well(client), "the return")
        hits = near_hits(cache)
        assert cache.get("k") == 1
        after = near_state(client)
        if after["flushes"] == before["flushes"]:  # else it took far too long
            assert after["stores"] == before["stores"]
            assert near_hits(cache) == hits + 1


def test_writes_that_are_refused(fresh_server: Server) -> None:
    """Reads go on, from near too; what the engine holds is not the server's."""
    with Client(fresh_server.url, timeout=5, connect_timeout=5) as client:
        cache = Cache(client)

        @cache
        def f(x: int) -> int:
            return 7

        cache.set("k", 1)
        warm(cache, lambda: cache.get("k"))
        warm(f, lambda: f(1))
        cache.set("late", 3)
        fresh_server.cli("CONFIG", "SET", "maxmemory", "1")
        cache.set("k", 2, ttl=60)
        wait_until(lambda: client.health()["write_breaker"] == "open", "the refusal")
        assert cache.get("k") == 2
        assert f(1) == 7
        assert warm(cache, lambda: cache.get("late")) == 3
        assert warm(f, lambda: f(1)) == 7
        fresh_server.cli("CONFIG", "SET", "maxmemory", "0")
        wait_until(lambda: is_well(client), "the return")
        assert cache.get("k") != 1
        cache.set("k", 4)
        assert warm(cache, lambda: cache.get("k")) == 4


def test_not_now_is_no_refusal(
    fresh_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """A link whose PING is answered by MASTERDOWN, say, is made again soon: what the
    server refuses for good is asked for again after a minute, and is told."""
    caplog.set_level(logging.INFO, logger="redlane")
    with Client(fresh_server.url, timeout=30) as client:
        cache = Cache(client)
        cache.set("k", "v")
        warm(cache, lambda: cache.get("k"))
        seen: list[str] = []

        def is_put_off() -> bool:
            state = near_state(client)
            if "MASTERDOWN" in (state["reason"] or ""):
                seen.append(state["state"])
            return bool(seen)

        fresh_server.cli("CONFIG", "SET", "replica-serve-stale-data", "no")
        fresh_server.cli("REPLICAOF", "127.0.0.1", "1")
        wait_until(is_put_off, "the answer")
        assert seen == ["connecting"]
        fresh_server.cli("REPLICAOF", "NO", "ONE")
        wait_until(lambda: is_well(client), "the return")
        assert warm(cache, lambda: cache.get("k")) == "v"
    assert messages(caplog.records, "near cache is off") == []


@contextlib.contextmanager
def alternating(*ports: int) -> Iterator[str]:
    """A URL whose connections reach one server after the other."""
    listener = socket.create_server(("127.0.0.1", 0))
    links: list[socket.socket] = []

    def forward(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for link in (source, target):
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                link, _ = listener.accept()
                port = ports[len(links) // 2 % len(ports)]
                other = socket.create_connection(("127.0.0.1", port))
                links.extend((link, other))
                for pair in ((link, other), (other, link)):
                    threading.Thread(target=forward, args=pair, daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for link in links:
            link.close()


def test_messages_of_another_server_are_no_good(
    redis_server: Server, fresh_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """One name that leads to several servers: what changes is told by the wrong one."""
    caplog.set_level(logging.WARNING, logger="redlane")
    with (
        alternating(redis_server.port, fresh_server.port) as url,
        Client(url, timeout=10, connect_timeout=10, pool_size=1) as client,
    ):
        cache = Cache(client)
        cache.get("k")  # by the first; the messages come from the second
        wait_until(lambda: near_state(client)["prefixes"] == 1, "the near cache")
        end = time.monotonic() + 3
        value = 0
        while time.monotonic() < end and not near_state(client)["reason"]:
            value += 1
            for server in (redis_server, fresh_server):
                server.cli("SET", "cache:k", value)
            assert cache.get("k") == value
        assert near_hits(cache) == 0
        for value in range(50):
            for server in (redis_server, fresh_server):
                server.cli("SET", "cache:k", value)
            assert cache.get("k") == value
        assert near_hits(cache) == 0
        assert near_state(client)["reason"]
        assert len(messages(caplog.records, "near cache is off")) == 1
