"""A reply and the message that its key has changed come in either order, by two
connections: a proxy holds back the one or the other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from near_tools import near_hits, near_state, settle, warm
from outage_tools import BOUND, wait_until
from proxy import Pair, Proxy
from redlane import Cache, Client
from servers import Server


class Holding(Proxy):
    """Keeps what contains all of some bytes until it is let go."""

    def __init__(self, port: int) -> None:
        self.parts: tuple[bytes, ...] = ()
        self.held = threading.Event()
        self.gate = threading.Event()
        super().__init__(port)

    def hold(self, *parts: bytes) -> None:
        self.held.clear()
        self.gate.clear()
        self.parts = parts

    def let_go(self) -> None:
        self.parts = ()
        self.gate.set()

    def _send_slowly(self, pair: Pair, data: bytes) -> None:
        if self.parts and all(part in data for part in self.parts):
            self.held.set()
            assert self.gate.wait(BOUND)
        super()._send_slowly(pair, data)


@pytest.fixture
def proxy(redis_server: Server) -> Iterator[Holding]:
    with Holding(redis_server.port) as made:
        assert isinstance(made, Holding)
        yield made
        made.let_go()


@pytest.fixture
def client(proxy: Holding) -> Iterator[Client[bytes]]:
    with Client(proxy.url, timeout=BOUND, connect_timeout=BOUND) as made:
        yield made


def reads_of(cache: Cache) -> dict[str, tuple[str, Callable[[], Any]]]:
    """Ways to read one key, and its full name."""

    @cache
    def f(x: int) -> str:
        return "computed"

    return {
        "get": ("cache:k", lambda: cache.get("k")),
        "get_many": ("cache:k", lambda: cache.get_many(["k"])["k"]),
        "get_or_set": ("cache:k", lambda: cache.get_or_set("k", list)),
        "function": (f.cache_key(1), lambda: f(1)),
    }


NAMES = ("get", "get_many", "get_or_set", "function")


@pytest.mark.parametrize("name", NAMES)
def test_the_message_overtakes_the_reply(
    redis_server: Server, proxy: Holding, client: Client[bytes], name: str
) -> None:
    cache = Cache(client)
    key, read = reads_of(cache)[name]
    for round_ in range(3):
        redis_server.cli("SET", key, f'"old {round_}"')
        cache.get("nothing")
        settle(client)
        told = near_state(client)["invalidations"]
        results: list[Any] = []
        proxy.hold(b'"old ')
        reader = threading.Thread(target=lambda results=results: results.append(read()))
        reader.start()
        assert proxy.held.wait(BOUND)
        redis_server.cli("SET", key, f'"new {round_}"')
        wait_until(
            lambda told=told: near_state(client)["invalidations"] > told, "the message"
        )
        proxy.let_go()
        reader.join()
        assert results == [f"old {round_}"]  # it was called before
        assert read() == f"new {round_}"
        assert warm(cache, read) == f"new {round_}"


@pytest.mark.parametrize("name", NAMES)
def test_the_reply_comes_before_the_message(
    redis_server: Server, proxy: Holding, client: Client[bytes], name: str
) -> None:
    cache = Cache(client)
    key, read = reads_of(cache)[name]
    redis_server.cli("SET", key, '"old"')
    assert warm(cache, read) == "old"
    proxy.hold(b"invalidate", key.encode())
    redis_server.cli("SET", key, '"new"')
    assert proxy.held.wait(BOUND)
    hits = near_hits(cache)
    assert read() == "old"  # nobody has heard of it
    assert near_hits(cache) == hits + 1
    proxy.let_go()
    wait_until(lambda: read() == "new", "the message")
    assert warm(cache, read) == "new"


def test_an_own_write_waits_for_no_message(
    redis_server: Server, proxy: Holding, client: Client[bytes]
) -> None:
    """Neither for that of its own, nor are values kept that were read before it."""
    cache = Cache(client)
    redis_server.cli("SET", "cache:k", '"old"')
    cache.get("nothing")
    settle(client)
    results: list[Any] = []
    proxy.hold(b'"old"')
    reader = threading.Thread(target=lambda: results.append(cache.get("k")))
    reader.start()
    assert proxy.held.wait(BOUND)
    cache.set("k", "own")
    assert cache.get("k") == "own"
    proxy.let_go()
    reader.join()
    assert results == ["old"]
    assert cache.get("k") == "own"
    warm(cache, lambda: cache.get("k"))
    proxy.hold(b"invalidate", b"cache:k")
    cache.set("k", "again")
    assert cache.get("k") == "again"
    cache.delete("k")
    assert cache.get("k") is None
