"""RedisCache: keys by tenant, what it does when the server is away, and what stands in
for it."""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import Any

import pytest
import redlane
from aio import Runner
from conftest import make_client
from hypothesis import given, settings
from hypothesis import strategies as st
from outage_tools import Switch, wait_until
from redlane import (
    AsyncRedisCache,
    Cache,
    ContextualRedisCache,
    InMemoryCache,
    NoOpCache,
    RedisCache,
    RuntimeCache,
    TenantCache,
)
from redlane._tenants import escape, parts_of
from servers import PASSWORD, PATIENT, Server

BAD_TTLS = [0, -1, -0.5, float("nan"), float("inf"), True, None, "x", 10**20]


@pytest.fixture
def shared(client: Any) -> RedisCache:
    return RedisCache.from_client(client)


def test_the_documents_keys(shared: RedisCache, client: Any) -> None:
    clock = shared.with_context("clock", "device123")
    assert clock.set("weather_data", b"sun", 60) is True
    assert client.get("/clock/device123/weather_data") == b"sun"
    stocks = shared.with_context(app_id="stocks", device_id="device456")
    assert stocks.set("portfolio/AAPL", b"5", 60)
    assert client.get("/stocks/device456/portfolio_AAPL") == b"5"
    assert stocks.get("portfolio_AAPL") == (b"5", True)
    assert stocks.get(key="portfolio/AAPL") == (b"5", True)
    assert clock.get("portfolio/AAPL") == (None, False)
    assert stocks.key("a/b/c") == "/stocks/device456/a_b_c"


def test_values_and_ttls(shared: RedisCache, client: Any) -> None:
    cache = shared.with_context("a", "b")
    for ttl in (60, 60.0, "1m", timedelta(minutes=1)):
        for value in (b"", b"\0\xff", bytearray(b"x"), memoryview(b"y")):
            assert cache.set("k", value, ttl) is True
            assert cache.get("k") == (bytes(value), True)
            assert 50_000 < client.pttl("/a/b/k") <= 60_010
    assert cache.set(key="big" * 200, value=b"v" * 100_000, ttl=5)
    assert cache.get("big" * 200) == (b"v" * 100_000, True)
    cache.set("short", b"v", 0.02)
    wait_until(lambda: cache.get("short") == (None, False), "the end of a value")


@pytest.mark.parametrize("ttl", BAD_TTLS, ids=repr)
def test_what_is_no_ttl(ttl: Any, redis_server: Server) -> None:
    with RedisCache(f"127.0.0.1:{redis_server.port}", **PATIENT) as shared:
        caches: list[Any] = [
            shared.with_context("a", "b"),
            InMemoryCache(),
            NoOpCache(),
        ]
        for cache in caches:
            with pytest.raises((ValueError, TypeError, OverflowError), match="ttl"):
                cache.set("k", b"v", ttl)
    # no connection was needed to say so
    assert shared.client.health()["connected"] is False


def test_what_is_no_value_or_key(shared: RedisCache) -> None:
    for cache in (shared.with_context("a", "b"), InMemoryCache(), NoOpCache()):
        for bad in ("text", 5, None):
            with pytest.raises(TypeError):
                cache.set("k", bad, 5)  # type: ignore[arg-type]
        for bad_key in (5, None):
            with pytest.raises(TypeError):
                cache.get(bad_key)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("app_id", "device_id", "words"),
    [
        ("", "d", "app_id must not be empty"),
        ("a", "", "device_id must not be empty"),
        ("a/b", "d", "app_id must not hold '/'"),
        ("a", "/", "device_id must not hold '/'"),
    ],
)
def test_ids_that_could_meet_others(
    shared: RedisCache, app_id: str, device_id: str, words: str
) -> None:
    for make in (shared.with_context, shared.aio.with_context):
        with pytest.raises(ValueError, match=words):
            make(app_id, device_id)


def test_ids_of_other_types(shared: RedisCache) -> None:
    for bad in (None, 5, b"x"):
        with pytest.raises(TypeError):
            shared.with_context(bad, "d")  # type: ignore[arg-type]
    with pytest.raises(UnicodeEncodeError):
        shared.with_context("a", "\ud800")
    with pytest.raises(TypeError):
        shared.with_context("a")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        ContextualRedisCache()


def test_flush_app_and_device(shared: RedisCache, client: Any) -> None:
    caches = {
        (app, device): shared.with_context(app, device)
        for app in ("a", "b", "a*", "[ab]", "?", "a\\")
        for device in ("d", "e", "*", "d?")
    }
    for cache in caches.values():
        cache.set("one", b"1", 60)
        cache.set("two/three", b"2", 60)
    client.set("/a/d/deeper/than/ours", "x")
    client.set("/x/a/d/one", "x")
    client.set("//d/one", "x")
    assert caches["a*", "*"].stats() == 2
    assert caches["a*", "*"].flush_app() == 2
    assert caches["a*", "*"].stats() == 0
    assert caches["a", "d"].stats() == 2
    assert caches["a", "d"].flush_app() == 2
    assert caches["[ab]", "d"].stats() == 2
    # five apps but for the one flushed, two keys each, and a foreign key stays
    assert caches["b", "*"].flush_device() == 2 * 5
    assert caches["b", "d?"].flush_device() == 2 * 6
    assert caches["b", "d"].flush_device() == 2 * 5
    left = {key.decode() for key in client.scan_iter()}
    assert {"/a/d/deeper/than/ours", "/x/a/d/one"} <= left
    assert {key for key in left if key.count("/") == 3} - {"//d/one"} == {
        cache.key(name)
        for (_, device), cache in caches.items()
        if device == "e"
        for name in ("one", "two/three")
    }


def test_a_large_flush(shared: RedisCache, client: Any) -> None:
    cache = shared.with_context("a", "d")
    other = shared.with_context("a", "d2")
    client.mset({cache.key(f"k{n}"): "v" for n in range(3000)})
    client.mset({other.key(f"k{n}"): "v" for n in range(300)})
    assert cache.stats() == 3000
    assert cache.flush_app() == 3000
    assert (cache.stats(), other.stats()) == (0, 300)


ids = st.text(
    st.one_of(
        st.sampled_from("ab*?[]^-\\_:{}\0 é"),
        st.characters(exclude_categories=["Cs"], exclude_characters="/"),
    ),
    min_size=1,
    max_size=6,
)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(ids, ids, ids, ids, names, names)
@settings(deadline=None, max_examples=300)
def test_no_two_tenants_meet(
    app: str, device: str, other_app: str, other_device: str, name: str, other: str
) -> None:
    shared = RedisCache.from_client(ENGINE)
    ENGINE.flushdb()
    mine = shared.with_context(app, device)
    theirs = shared.with_context(other_app, other_device)
    assert (mine.app_id, mine.device_id) == (app, device)
    same = (app, device) == (other_app, other_device)
    key = mine.key(name).encode()
    assert parts_of(key) == [
        app.encode(),
        device.encode(),
        name.replace("/", "_").encode(),
    ]
    assert (mine.key(name) == theirs.key(other)) == (
        same and name.replace("/", "_") == other.replace("/", "_")
    )
    mine.set(name, b"mine", 60)
    assert theirs.get(name) == ((b"mine", True) if same else (None, False))
    assert theirs.stats() == int(same)
    assert theirs.flush_app() == int(same)
    mine.set(name, b"mine", 60)
    assert theirs.flush_device() == int(device == other_device)


ENGINE: Any = redlane.Client("memory://")


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
@settings(deadline=None)
def test_escaped_text_is_a_literal_glob(text: str) -> None:
    ENGINE.flushdb()
    ENGINE.set(text, "v")
    ENGINE.set(text + "x", "v")
    assert [*ENGINE.scan_iter(match=escape(text))] == [text.encode()]


def test_one_interface(shared: RedisCache) -> None:
    def use(cache: RuntimeCache) -> tuple[bool, tuple[bytes | None, bool]]:
        return cache.set("a/b", b"v", ttl=60), cache.get("a_b")

    contextual = shared.with_context("app", "device")
    assert use(contextual) == use(InMemoryCache()) == (True, (b"v", True))
    assert use(NoOpCache()) == (False, (None, False))
    for cache in (contextual, InMemoryCache(), NoOpCache()):
        assert isinstance(cache, RuntimeCache)
    assert not isinstance(shared, RuntimeCache)


def test_the_cache_in_memory() -> None:
    cache = InMemoryCache(max_entries=2)
    cache.set("a", b"1", 60)
    cache.set("b", bytearray(b"2"), "1m")
    cache.get("a")
    cache.set("c", b"3", timedelta(minutes=1))
    assert [cache.get(key) for key in "abc"] == [
        (b"1", True),
        (None, False),
        (b"3", True),
    ]
    cache.set("a", b"x", 0.001)
    time.sleep(0.002)
    assert cache.get("a") == (None, False)
    assert repr(cache) == "<redlane.InMemoryCache 1 entries>"
    with pytest.raises(ValueError, match="max_entries"):
        InMemoryCache(0)


def test_async(client: Any, run: Runner) -> None:
    shared = AsyncRedisCache.from_client(client)

    async def main() -> list[Any]:
        cache = shared.with_context("a", "d")
        other = shared.sync.with_context("b", "d").aio
        return [
            await cache.set("k/l", b"v", "1m"),
            await cache.get("k_l"),
            await other.get("k_l"),
            await other.set("k", b"v", 5),
            await cache.stats(),
            await cache.flush_app(),
            await cache.stats(),
            await cache.flush_device(),
            cache.key("x"),
            (cache.app_id, cache.device_id),
        ]

    miss = (None, False)
    expected = [True, (b"v", True), miss, True, 1, 1, 0, 1, "/a/d/x", ("a", "d")]
    assert run(main()) == expected


def test_async_has_its_own_client(redis_server: Server, run: Runner) -> None:
    async def main() -> Any:
        address = f"127.0.0.1:{redis_server.port}"
        async with AsyncRedisCache(address, **PATIENT) as shared:
            cache = shared.with_context("a", "d")
            return await cache.set("k", b"v", 5), await cache.get("k")

    assert run(main()) == (True, (b"v", True))


def test_the_environment(
    password_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_ADDR", f"127.0.0.1:{password_server.port}")
    monkeypatch.setenv("REDIS_PASSWORD", PASSWORD)
    monkeypatch.setenv("REDIS_DB", "3")
    with RedisCache(**PATIENT) as shared:
        assert shared.with_context("a", "b").set("k", b"v", 60) is True
        assert shared.client.execute("CLIENT", "INFO").split(b" db=")[1][:2] == b"3 "
        assert PASSWORD not in repr(shared)
        assert "canary" not in repr(shared)
    with RedisCache(db=4, **PATIENT) as shared:
        assert shared.with_context("a", "b").get("k") == (None, False)
        assert shared.with_context("a", "b").stats() == 0
    monkeypatch.setenv("REDIS_PASSWORD", "wrong")
    with RedisCache(password=PASSWORD, **PATIENT) as shared:
        assert shared.with_context("a", "b").get("k") == (b"v", True)


@pytest.mark.parametrize("addr", ["", "redis://h:1", "h:1/2", "u@h:1", "h:99999"])
def test_addresses_that_are_none(addr: str) -> None:
    with pytest.raises(redlane.ConfigurationError, match="addr"):
        RedisCache(addr)


@pytest.mark.parametrize("db", [-1, True, "1", 1.0])
def test_databases_that_are_none(db: Any) -> None:
    with pytest.raises(redlane.ConfigurationError, match="db"):
        RedisCache("localhost:6379", db=db)


def test_a_context_needs_no_connection() -> None:
    shared = RedisCache("192.0.2.1:6379")
    for n in range(1000):
        shared.with_context("app", f"device{n}")
    assert shared.client.health is not None
    assert repr(shared.with_context("a", "b")) == (
        "<redlane.ContextualRedisCache app_id='a' device_id='b'>"
    )
    assert shared.with_context("a", "b").cache is shared
    shared.close()


def test_close_leaves_a_client_that_was_given(client: Any) -> None:
    with RedisCache.from_client(client) as shared:
        shared.with_context("a", "b").set("k", b"v", 60)
    assert client.get("/a/b/k") == b"v"
    assert TenantCache is RedisCache
    with pytest.raises(TypeError):
        RedisCache.from_client("redis://localhost")  # type: ignore[arg-type]


def test_a_server_that_is_not_there() -> None:
    shared = RedisCache("127.0.0.1:1")
    cache = shared.with_context("a", "b")
    assert cache.set("k", b"v", 60) is False
    assert cache.get("k") == (None, False)
    assert cache.stats() is None
    assert (cache.flush_app(), cache.flush_device()) == (0, 0)
    shared.close()


def test_no_caching_while_the_server_is_away(switch: Switch, run: Runner) -> None:
    client = redlane.Client(switch.url, fallback="memory", **PATIENT)
    shared = RedisCache.from_client(client)
    one, two = (shared.with_context(app, "d") for app in ("one", "two"))
    other = shared.with_context("one", "other")
    for cache in (one, two, other):
        cache.set("k", b"before", 600)
    switch.off(client)
    assert one.get("k") == (None, False)
    assert one.set("k2", b"meanwhile", 600) is False
    assert one.get("k2") == (None, False)
    assert one.stats() is None
    assert run(one.aio.stats()) is None
    assert one.flush_app() == 0
    switch.on(client)
    assert one.get("k") == (None, False)
    assert one.get("k2") == (None, False)
    assert two.get("k") == other.get("k") == (b"before", True)
    assert one.stats() == 0
    switch.off(client)
    assert run(one.aio.flush_device()) == 0
    switch.on(client)
    assert (one.stats(), two.stats(), other.stats()) == (0, 0, 1)
    client.close()


def test_a_flush_kept_for_the_server_spares_other_keys(switch: Switch) -> None:
    client = redlane.Client(switch.url, **PATIENT)
    shared = RedisCache.from_client(client)
    for key in ("/x/a/d/one", "/a/d/deep/er", "/z/d/er/x", "/a/d/k", "/a*/d/k"):
        switch.server.cli("SET", key, "v")
    switch.off(client)
    shared.with_context("a", "d").flush_app()
    switch.on(client)
    assert switch.server.cli("EXISTS", "/a/d/k") == 0
    assert switch.server.cli("EXISTS", "/a/d/deep/er", "/a*/d/k", "/x/a/d/one") == 3
    switch.off(client)
    shared.with_context("a", "d").flush_device()
    switch.on(client)
    assert switch.server.cli("EXISTS", "/a*/d/k") == 0
    assert switch.server.cli("EXISTS", "/x/a/d/one", "/a/d/deep/er", "/z/d/er/x") == 3
    client.close()


@pytest.mark.parametrize("pattern", [r"\/shop/*", b"\\/shop/*"])
def test_a_pattern_of_a_cache_is_not_of_tenants_keys(
    switch: Switch, pattern: str | bytes
) -> None:
    """However it is written: a server reads a backslash before a slash as nothing."""
    client: Any = redlane.Client(switch.url, **PATIENT)
    cache = Cache(client, prefix="")
    keys = ("/shop/a", "/shop/b/c/d")
    for key in keys:
        switch.server.cli("SET", key, '"old"')
    switch.off(client)
    cache.invalidate(pattern)
    switch.on(client)
    assert switch.server.cli("EXISTS", *keys) == 0
    for key in keys:
        cache.set(key, "new")
    assert cache.invalidate(pattern) == 2
    client.close()


def test_a_server_that_takes_no_writes(fresh_server: Any) -> None:
    shared = RedisCache(f"127.0.0.1:{fresh_server.port}", **PATIENT)
    cache = shared.with_context("a", "d")
    cache.set("k", b"v", 600)
    fresh_server.cli("CONFIG", "SET", "maxmemory", "1")
    assert cache.set("k2", b"v", 600) is False
    assert cache.get("k") == (b"v", True)
    fresh_server.cli("CONFIG", "SET", "maxmemory", "0")
    wait_until(lambda: cache.set("k2", b"v", 600), "the writes")
    shared.close()


def test_what_the_server_refuses_is_a_miss(fresh_server: Any) -> None:
    shared = RedisCache(f"127.0.0.1:{fresh_server.port}", **PATIENT)
    cache = shared.with_context("a", "d")
    fresh_server.cli("SADD", "/a/d/set", "x")
    assert cache.get("set") == (None, False)
    assert shared.errors == 1
    assert cache.set("set", b"v", 60) is True
    assert cache.get("set") == (b"v", True)
    shared.close()


def test_nothing_secret_is_shown(
    password_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    address = f"127.0.0.1:{password_server.port}"
    said: list[str] = []
    with caplog.at_level(logging.DEBUG, "redlane"):
        for password in (PASSWORD, "canary-wrong"):
            with RedisCache(address, password, 0, **PATIENT) as shared:
                cache = shared.with_context("app", "device")
                cache.set("key", b"canary-value", 60)
                cache.get("key")
                cache.stats()
                cache.flush_app()
                said += [repr(shared), repr(cache), repr(cache.aio), repr(shared.aio)]
                said += [repr(shared.client.health())]
    said += [record.getMessage() for record in caplog.records]
    assert len(said) > 10
    assert not [text for text in said if "canary" in text]


def test_engine_and_server_agree_on_contexts(
    redis_server: Server, request: pytest.FixtureRequest
) -> None:
    seen = []
    for executor in ("engine", "redis"):
        cache = RedisCache.from_client(make_client(executor, request)).with_context(
            "a", "b"
        )
        seen.append(
            [
                cache.set("k", b"v", 5),
                cache.get("k"),
                cache.stats(),
                cache.flush_device(),
                cache.stats(),
            ]
        )
    assert seen[0] == seen[1] == [True, (b"v", True), 1, 1, 0]
