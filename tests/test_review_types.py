"""Faults that a review of the types found, each on every executor that it touches."""

from __future__ import annotations

import enum
import functools
import logging
import operator
import pickle
import threading
from typing import Any

import pytest
import redlane
from redlane import Cache, Client, VideoCache, _config
from toolset import wait_until

LEASE = b"\xffRLL"


@pytest.fixture
def cache(client: Any) -> Cache:
    return Cache(client)


class Loader:
    def __init__(self, n: int) -> None:
        self.n = n

    def method(self, x: int) -> int:
        return self.n + x

    @classmethod
    def of_class(cls, x: int) -> int:
        return x

    def __call__(self, x: int) -> int:
        return self.n + x


def test_callables_that_carry_values_need_a_name(cache: Cache) -> None:
    for function in (
        functools.partial(operator.add, object()),
        functools.partial(operator.add, b=object()),
        Loader(1).method,
        Loader(1),
        [1].count,
        operator.itemgetter(1),
    ):
        with pytest.raises(TypeError, match="give name="):
            cache(function)
    one, two = (cache(name=f"load{n}")(Loader(n).method) for n in (1, 2))
    assert (one(1), two(1)) == (2, 3)
    plain: list[Any] = [Loader.of_class, len, int, str.upper, operator.add, Loader]
    for function in [*plain, functools.lru_cache(len), cache(len)]:
        if getattr(function, "__wrapped__", None) is None:
            assert cache(function).cache_info().hits == 0


def test_no_name_of_a_class_or_member_reads_as_two_arguments(cache: Cache) -> None:
    @cache
    def f(*args: Any) -> int:
        return len(args)

    plain = type("A", (int,), {"__module__": "m"})
    odd = type("A(1),m/A", (int,), {"__module__": "m"})
    assert f.cache_key(plain(1), plain(2)) != f.cache_key(odd(2))
    members = enum.Enum("E", {"A": 1, "B": 2, "A,m/E.B": 3}, module="m")  # type: ignore[misc]
    a, b, both = members
    assert f.cache_key(a, b) != f.cache_key(both)


def test_refresh_stores_nothing_where_a_call_would_not(cache: Cache) -> None:
    calls: list[int] = []

    @cache(unless=lambda x: x < 0)
    def f(x: int) -> int:
        calls.append(x)
        return len(calls)

    assert f(1) == 1
    with cache.disabled():
        assert f.refresh(1) == 2
    assert f(1) == 3  # the old one went, the new one was not stored
    f.refresh(-1)
    assert not cache.has(f.cache_key(-1).removeprefix("cache:"))


@pytest.mark.parametrize("serializer", ["msgpack", pickle])
def test_what_increment_wrote_reads_as_that_number(
    client: Any, serializer: Any
) -> None:
    cache = Cache(client, serializer=serializer)
    for amount in (5, 12, -7, 0, 2**62):
        assert cache.increment(f"n{amount}", amount) == amount
        assert cache.get(f"n{amount}") == amount
    assert cache.increment("n5") == 6
    for value in (*range(-200, 200), 2**63, "5", b"5", [1], None):
        cache.set("v", value)
        assert cache.get("v") == value
        assert type(cache.get("v")) is type(value)
    assert cache.stats()["corrupted"] == 0


def test_many_keywords_do_not_take_quadratic_time(cache: Cache) -> None:
    @cache
    def f(**options: int) -> int:
        return len(options)

    names = [f"{n:06d}" for n in range(50_000, 0, -1)]
    assert f(**dict.fromkeys(names, 1)) == 50_000
    assert f(**dict.fromkeys(reversed(names), 1)) == 50_000
    assert f.cache_info().hits == 1
    assert f.cache_key(b=1, a=2).endswith(':**{"a":2,"b":1}')


def test_a_full_server_breaks_no_write_of_a_cache(fresh_server: Any) -> None:
    with Client(fresh_server.url, timeout=60, connect_timeout=60) as client:
        cache = Cache(client)
        cache.set("old", 1)

        @cache
        def f(x: int) -> int:
            return next(values)

        values = iter(range(10))
        assert f(1) == 0
        fresh_server.cli("CONFIG", "SET", "maxmemory", "1")
        cache.set_many({"a": 1, "b": 2})
        assert [cache.add("c", 1), cache.add("c", 1)] == [True, False]
        assert f.refresh(1) == 1
        assert cache.get_many(["old", "a", "b", "c"]) == {"a": 1, "b": 2, "c": 1}
        assert cache.get("old") == 1
        fresh_server.cli("CONFIG", "SET", "maxmemory", "0")
        wait_until(lambda: client.health()["write_breaker"] == "closed", "writes")
        everything = {"old": 1, "a": 1, "b": 2, "c": 1}
        assert cache.get_many(["old", "a", "b", "c"]) == everything
        assert f(1) == 2  # not the one from before the refresh


def test_a_log_handler_may_use_the_default_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[bool] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(redlane.default_client().closed)

    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/1")
    monkeypatch.setenv("REDIS_DB", "7")
    monkeypatch.setattr(_config, "_warned", set())
    redlane.close_default_client()
    logger, handler = logging.getLogger("redlane"), Handler()
    logger.addHandler(handler)
    try:
        thread = threading.Thread(target=redlane.default_client, daemon=True)
        thread.start()
        thread.join(60)
        assert not thread.is_alive()
    finally:
        logger.removeHandler(handler)
        redlane.close_default_client()
    assert seen == [False]


def test_the_default_client_may_go_while_a_tool_waits_for_it(fresh_server: Any) -> None:
    redlane.configure(fresh_server.url, timeout=2, connect_timeout=2)
    videos, cache = VideoCache(lazy=True), Cache()
    cache.get("x")
    fresh_server.pause()
    try:
        threads = [
            threading.Thread(target=videos.startup),
            threading.Thread(target=cache.stats),
        ]
        for thread in threads:
            thread.start()
        threads[0].join(0.2)
        redlane.configure("memory://")
        assert videos.get("a", ["b"]) is None
        assert cache.get("x") is None
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
        assert cache.stats()["cache_type"] == "memory"
    finally:
        fresh_server.resume()
        redlane.close_default_client()
