"""Edges of what the options of a cached function take, and of keys, tags and namespaces
where they meet the near cache."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator
from typing import Any

import pytest
from near_tools import wait_for_near, warm
from outage_tools import wait_until
from redlane import Cache, Client
from servers import Server

PATIENCE = {"timeout": 30.0, "connect_timeout": 30.0}

# Each option that takes a period, with what it does not go without.
PERIODS: dict[str, dict[str, Any]] = {
    "ttl": {},
    "stale": {"ttl": 60},
    "max_stale": {"ttl": 60, "on_error": "stale"},
    "soft_timeout": {"ttl": 60, "stale": 60},
    "hard_timeout": {},
    "cache_exceptions": {},
}
BAD = [
    0,
    -1,
    0.0,
    -0.5,
    math.nan,
    math.inf,
    -math.inf,
    True,
    False,
    "60",
    "",
    b"1m",
    [],
]
BAD += [1e300, 2**63, -(2**63), "1x", "-5m", dt.timedelta(0), dt.timedelta(seconds=-1)]
GOOD = [1, 0.25, 60, "250ms", "10m", "1h30m", dt.timedelta(milliseconds=1), 10**6]


def given(name: str, period: Any) -> dict[str, Any]:
    value = {LookupError: period} if name == "cache_exceptions" else period
    return {**PERIODS[name], name: value}


@pytest.mark.parametrize("name", [*PERIODS, "near_ttl"])
def test_periods_of_every_option(name: str) -> None:
    def f(x: int) -> int:
        return x

    def take(period: Any) -> object:
        if name == "near_ttl":
            return Cache("redis://127.0.0.1:1", near_ttl=period)
        return Cache("memory://")(f, **given(name, period))

    for period in BAD:
        with pytest.raises((TypeError, ValueError)):
            take(period)
    for period in GOOD:
        assert take(period)


@pytest.fixture
def client(redis_server: Server) -> Iterator[Client[bytes]]:
    with Client(redis_server.url, **PATIENCE) as made:
        Cache(made).get("nothing")
        wait_for_near(made)
        yield made


KEYS = ["", "a\x00b", "\x00", "a\r\nb", "é😀", "k" * 70_000, b"\xff\x00\xfe", "a*?[]\\"]
KEYS += ["nil", "cache:", "@tag:t", "%", ":"]


@pytest.mark.parametrize("key", KEYS, ids=lambda key: ascii(key)[:20])
def test_any_key_is_near(client: Client[bytes], redis_server: Server, key: Any) -> None:
    raw = b"cache:" + (key.encode() if isinstance(key, str) else key)
    cache = Cache(client, ttl=60)
    for value in range(2):
        cache.set(key, value)
        assert warm(cache, lambda: cache.get(key)) == value
        assert warm(cache, lambda: cache.get_many([key])) == {key: value}
    redis_server.cli("SET", raw, b'"theirs"')
    wait_until(lambda: cache.get(key) == "theirs", "the write")
    warm(cache, lambda: cache.get(key))
    assert cache.delete(key)
    assert cache.get(key, "none") == "none"


@pytest.mark.parametrize(
    "argument",
    [
        *KEYS,
        "\ud800",
        "a\udfff\ud800",
        "x" * 1025,
        ("\x00", b"\x00", ""),
        -(2**70),
        -0.0,
    ],
    ids=lambda argument: ascii(argument)[:20],
)
def test_any_argument_is_near(
    client: Client[bytes], redis_server: Server, argument: Any
) -> None:
    cache = Cache(client, ttl=60)
    calls: list[Any] = []

    @cache(tags=lambda x: b"t")
    def f(x: Any) -> list[int]:
        calls.append(x)
        return [len(calls)]

    assert warm(f, lambda: f(argument)) == [1]
    assert redis_server.cli("EXISTS", f.cache_key(argument)) == 1
    redis_server.cli("DEL", f.cache_key(argument))
    wait_until(lambda: f(argument) == [2], "the delete")
    warm(f, lambda: f(argument))
    assert f.invalidate(argument)
    assert f(argument) == [3]
    assert calls == [argument] * 3


@pytest.mark.parametrize("name", KEYS[1:], ids=lambda name: ascii(name)[:20])
def test_any_tag_and_namespace(client: Client[bytes], name: Any) -> None:
    cache = Cache(client, ttl=60)
    with Client(client.health()["url"], **PATIENCE) as other:
        far = Cache(other, near=False)
        calls: list[int] = []

        @cache(tags=lambda x: [name, "beside"])
        def f(x: int) -> int:
            calls.append(x)
            return len(calls)

        cache.set("k", "v", tags=[name])
        assert warm(cache, lambda: cache.get("k")) == "v"
        assert warm(f, lambda: f(1)) == 1
        assert far.invalidate_tags(name) == 1
        wait_until(lambda: cache.get("k") is None, "the end of its tag")
        wait_until(lambda: f(1) == 2, "the end of its tag")
        warm(f, lambda: f(1))
        assert cache.invalidate_tags(name) == 1
        assert f(1) == 3
        if len(name) > 240:
            with pytest.raises(ValueError, match="240 bytes at most"):
                cache.namespace(name)
        elif isinstance(name, str):
            view = cache.namespace(name)
            view.set("k", 1)
            assert warm(view, lambda: view.get("k")) == 1
            assert far.namespace(name + "x").clear() == 0
            assert view.get("k") == 1
            assert far.namespace(name).clear() == 1
            wait_until(lambda: view.get("k") is None, "the end of its namespace")
