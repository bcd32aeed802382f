"""Near values where several clients, caches or servers meet, and what bounds them."""

from __future__ import annotations

import contextlib
import gc
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import redlane
from near_tools import near_hits, near_state, wait_for_near, warm
from outage_tools import wait_until
from redlane import Cache, Client
from servers import Server

PATIENCE = {"timeout": 10.0, "connect_timeout": 10.0}

# --- several clients of one server ------------------------------------------------


@pytest.fixture
def pair(redis_server: Server) -> Iterator[tuple[Cache, Client[bytes]]]:
    """A cache, and another client of its server."""
    with (
        Client(redis_server.url, **PATIENCE) as own,
        Client(redis_server.url, **PATIENCE) as other,
    ):
        cache = Cache(own)
        cache.get("nothing")
        wait_for_near(own)
        yield cache, other


WRITES: dict[str, Callable[[Client[bytes], Cache], object]] = {
    "command": lambda client, cache: client.set("cache:k", "2"),
    "any command": lambda client, cache: client.execute("GETSET", "cache:k", "2"),
    "pipeline": lambda client, cache: client.pipeline().set("cache:k", "2").execute(),
    "cache": lambda client, cache: cache.set("k", 2),
    "many": lambda client, cache: cache.set_many({"k": 2}),
    "delete": lambda client, cache: cache.delete("k"),
    "pattern": lambda client, cache: cache.invalidate("*[ck]"),
    "all": lambda client, cache: client.flushdb(),
}


DELETES = ("delete", "pattern", "all")


@pytest.mark.parametrize("write", WRITES)
def test_a_process_reads_what_another_client_of_it_wrote(
    pair: tuple[Cache, Client[bytes]], write: str
) -> None:
    cache, client = pair
    other = Cache(client, near=False)
    for _ in range(30):
        cache.set("k", 1)
        assert warm(cache, lambda: cache.get("k")) == 1
        WRITES[write](client, other)
        assert cache.get("k") == (None if write in DELETES else 2)


def test_swapped_databases(fresh_server: Server) -> None:
    """Nobody sends a message for it."""
    with Client(fresh_server.url, **PATIENCE) as client:
        cache = Cache(client)
        cache.set("k", 1)
        assert warm(cache, lambda: cache.get("k")) == 1
        client.execute("SWAPDB", 0, 1)
        assert cache.get("k") is None


# --- another default client while a value is read ---------------------------------


class Interrupted:
    """A serializer whose next load is a moment for other code."""

    def __init__(self) -> None:
        self.code: list[Callable[[], object]] = []

    def dumps(self, value: list[int]) -> bytes:
        return str(value[0]).encode()

    def loads(self, stored: bytes) -> list[int]:
        while self.code:
            self.code.pop()()
        return [int(stored)]


@pytest.fixture
def default_client() -> Iterator[None]:
    yield
    redlane.configure("memory://")


READS: dict[str, Callable[[Cache], Any]] = {
    "get": lambda cache: cache.get("k"),
    "get_many": lambda cache: cache.get_many(["k", "l"])["k"],
    "get_or_set": lambda cache: cache.get_or_set("k", list),
}


@pytest.mark.usefixtures("default_client")
@pytest.mark.parametrize("is_near", [False, True])
@pytest.mark.parametrize("read", READS)
def test_the_default_client_changes_meanwhile(
    redis_server: Server, read: str, is_near: bool
) -> None:
    """The near cache that the value was to be kept in has gone with its client."""
    serializer = Interrupted()
    redlane.configure(redis_server.url, **PATIENCE)
    cache = Cache(serializer=serializer)
    cache.set_many({"k": [1], "l": [2]})
    cache.get("nothing")
    wait_for_near(redlane.default_client())
    if is_near:
        warm(cache, lambda: cache.get("k"))

    def change() -> None:
        redlane.configure(f"{redis_server.url.rpartition('/')[0]}/1", **PATIENCE)
        assert cache.get("k") is None
        gc.collect()
        time.sleep(0.2)  # its thread ends

    serializer.code.append(change)
    assert READS[read](cache) == [1]
    assert not serializer.code
    assert cache.get("k") is None


# --- what functions keep -----------------------------------------------------------


def test_functions_do_not_keep_what_the_near_cache_gave_away(
    redis_server: Server,
) -> None:
    class Value:
        pass

    alive: weakref.WeakSet[Value] = weakref.WeakSet()

    class Large:
        def dumps(self, value: object) -> bytes:
            return b"x" * 1_000_000

        def loads(self, stored: bytes) -> Value:
            alive.add(value := Value())
            return value

    with Client(redis_server.url, **PATIENCE) as client:
        cache = Cache(client, serializer=Large())
        functions = [cache(lambda x: x, name=f"f{i}", share=True) for i in range(6)]
        for f in functions:
            for i in range(25):
                f(i)
            warm(f, lambda f=f: [f(i) for i in range(25)])
            assert 25 <= len(alive) < 60


# --- what a value says itself -----------------------------------------------------


def test_a_sealed_value_ends_near_too(redis_server: Server) -> None:
    """Who writes to the server, and has no key, makes it last no longer."""
    with Client(redis_server.url, **PATIENCE) as client:
        cache = Cache(client, seal="key" * 10)
        calls: list[int] = []

        @cache(ttl=2)
        def f(x: int) -> str:
            calls.append(x)
            return "text"

        f(1)
        assert client.persist(f.cache_key(1))
        warm(f, lambda: f(1))
        end = time.monotonic() + 30
        while len(calls) == 1:
            assert time.monotonic() < end
            f(1)


def test_what_was_compressed_counts_in_full(redis_server: Server) -> None:
    with Client(redis_server.url, **PATIENCE) as client:
        cache = Cache(client, compress="zlib")

        @cache(share=True)
        def f(x: int) -> list[Any]:
            return ["text" * 50_000, x]

        for i in range(5):
            warm(f, lambda i=i: f(i))
        assert near_state(client)["bytes"] > 5 * 200_000


class Open(msgspec.Struct, frozen=True, dict=True):
    x: int


def test_a_struct_that_can_be_added_to_is_not_shared(redis_server: Server) -> None:
    with Client(redis_server.url, **PATIENCE) as client:
        cache = Cache(client)

        @cache
        def f(x: int) -> Open:
            return Open(x)

        warm(f, lambda: f(1))
        f(1).__dict__["y"] = 2
        assert not hasattr(f(1), "y")


# --- writes that the server refuses -----------------------------------------------


def test_a_tool_that_raises_keeps_nothing_for_others(fresh_server: Server) -> None:
    """It reads on the server what another has changed in the engine."""
    with Client(fresh_server.url, **PATIENCE) as client:
        cache, raising = Cache(client), Cache(client, fallback="raise")
        cache.set("k", 1)
        warm(cache, lambda: cache.get("k"))
        fresh_server.cli("CONFIG", "SET", "min-replicas-to-write", "1")
        cache.set("k", 2, ttl=60)
        wait_until(lambda: client.health()["write_breaker"] == "open", "the refusal")
        assert cache.get("k") == 2
        for _ in range(5):
            assert raising.get("k") == 1
            assert cache.get("k") == 2


# --- data connections that reach another server than the messages come from --------


@contextlib.contextmanager
def movable(port: int) -> Iterator[tuple[str, list[int]]]:
    """A URL, and a list whose only item is the port that new connections reach."""
    listener = socket.create_server(("127.0.0.1", 0))
    target = [port]
    links: list[socket.socket] = []

    def forward(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for link in (source, sink):
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                link, _ = listener.accept()
                other = socket.create_connection(("127.0.0.1", target[0]))
                links.extend((link, other))
                for ends in ((link, other), (other, link)):
                    threading.Thread(target=forward, args=ends, daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0", target
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for link in links:
            link.close()


def test_values_of_a_server_that_was_left(
    redis_server: Server, fresh_server: Server
) -> None:
    """The messages still come from where the data connections went before."""
    with (
        movable(redis_server.port) as (url, target),
        Client(url, pool_size=1, **PATIENCE) as client,
    ):
        cache = Cache(client)
        cache.set("k", 1)
        warm(cache, lambda: cache.get("k"))
        fresh_server.cli("SET", "cache:k", "2")
        target[0] = fresh_server.port
        for line in redis_server.cli("CLIENT", "LIST").decode().splitlines():
            fields = dict(field.split("=", 1) for field in line.split())
            if fields["flags"] == "N" and fields["cmd"] != "client|list":
                redis_server.cli("CLIENT", "KILL", "ID", fields["id"])

        def is_new() -> bool:
            cache.get("another")
            return bool(cache.get("k") == 2)

        wait_until(is_new, "the other server's value")
        assert near_state(client)["links"] == 1


# --- prefixes ---------------------------------------------------------------------


def test_the_prefixes_are_bounded(redis_server: Server) -> None:
    """The server compares each with each other."""
    with Client(redis_server.url, **PATIENCE) as client:
        caches = [Cache(client, prefix=f"tenant{i:03}") for i in range(130)]
        for cache in caches:
            cache.set("k", 1)
            assert cache.get("k") == 1
        assert near_state(client)["prefixes"] == 128
        assert "only 128" in near_state(client)["reason"]
        warm(caches[0], lambda: caches[0].get("k"))
        for _ in range(3):
            assert caches[-1].get("k") == 1
        assert near_hits(caches[-1]) == 0
        inner = Cache(client, prefix="tenant000:inner")  # covered
        inner.set("k", 1)
        warm(inner, lambda: inner.get("k"))
