"""What the renderer for many tenants asks for, a test to a line of the page
docs/requirements.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redlane
from outage_tools import Switch
from redlane import InMemoryCache, NoOpCache, RedisCache, RuntimeCache
from requirement_tools import STAGES, Stage, staged
from servers import PATIENT


@pytest.fixture(params=STAGES)
def stage(server_binary: str, request: pytest.FixtureRequest) -> Iterator[Stage]:
    with staged(request) as made:
        yield made


def test_keys(stage: Stage) -> None:
    shared = RedisCache.from_client(stage.client)
    cache = shared.with_context("stocks", "device456")
    for phase in stage.phases():
        stored = cache.set("portfolio/AAPL", b"5", 60)
        assert cache.get("portfolio_AAPL") == (
            (b"5", True) if stored else (None, False)
        )
        if phase != "away":
            assert stored
            assert stage.client.get("/stocks/device456/portfolio_AAPL") == b"5"
        for bad in ("", "a/b"):
            with pytest.raises(ValueError, match="id"):
                shared.with_context(bad, "device")
            with pytest.raises(ValueError, match="id"):
                shared.with_context("app", bad)


def test_operations(stage: Stage) -> None:
    shared = RedisCache.from_client(stage.client)
    one = shared.with_context("clock", "d*")
    two = shared.with_context("stocks", "d*")
    other = shared.with_context("clock", "dx")
    for phase in stage.phases():
        for cache in (one, two, other):
            cache.set("k", b"\0\xff", 600)
        if phase == "away":
            assert one.get("k") == (None, False)
            assert one.stats() is None
            assert (one.flush_app(), one.flush_device()) == (0, 0)
            continue
        assert one.get("k") == (b"\0\xff", True)
        assert one.stats() == 1
        assert one.flush_app() == 1
        assert (one.stats(), two.stats(), other.stats()) == (0, 1, 1)
        one.set("k", b"again", 600)
        assert one.flush_device() == 2
        assert (two.stats(), other.stats()) == (0, 1)


def test_one_interface(stage: Stage) -> None:
    def render(cache: RuntimeCache) -> bytes:
        found, hit = cache.get("picture")
        if hit and found is not None:
            return found
        cache.set("picture", b"drawn", 60)
        return b"drawn"

    contextual = RedisCache.from_client(stage.client).with_context("app", "device")
    for _ in stage.phases():
        for cache in (contextual, InMemoryCache(), NoOpCache()):
            assert isinstance(cache, RuntimeCache)
            assert [render(cache) for _ in range(2)] == [b"drawn"] * 2


def test_failure(switch: Switch) -> None:
    """Whatever the policy of the client: no caching and no exception."""
    for policy in ("raise", "memory", "none"):
        client: Any = redlane.Client(switch.url, fallback=policy, **PATIENT)
        cache = RedisCache.from_client(client).with_context("app", "device")
        assert cache.set("k", b"before", 600) is True
        switch.off(client)
        assert cache.set("k2", b"meanwhile", 600) is False
        assert (cache.get("k"), cache.stats()) == ((None, False), None)
        cache.flush_app()
        for bad in (0, -1, float("nan"), 10**20):
            with pytest.raises(ValueError, match=r"(?i)ttl|expir"):
                cache.set("k", b"v", bad)
        switch.on(client)
        assert (cache.get("k"), cache.stats()) == ((None, False), 0)
        client.close()
