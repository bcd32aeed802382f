"""Values past their time that carry tags: no tag's invalidation is passed by."""

from __future__ import annotations

from typing import Any

import pytest
from fresh_tools import Loader, grow_old, settled
from outage_tools import wait_until
from redlane import Cache, Client


@pytest.fixture
def loader() -> Loader:
    return Loader()


@pytest.fixture
def cache(client: Client[Any]) -> Cache:
    return Cache(client, ttl=1000)


def test_a_stale_value_is_served_while_its_tags_are(
    cache: Cache, client: Client[Any], loader: Loader
) -> None:
    """What was refreshed behind carries them too."""

    @cache(ttl=100, stale=100, tags="user:{user}")
    def f(user: int) -> int:
        return loader()

    assert f(7) == 1
    grow_old(client, f.cache_key(7), 150)
    assert f(7) == 1
    wait_until(lambda: settled(f, 1), "the refresh")
    assert f(7) == 2
    cache.invalidate_tags("user:7")
    assert f(7) == 3


def test_no_stale_value_after_an_invalidation(
    cache: Cache, client: Client[Any], loader: Loader
) -> None:
    @cache(ttl=100, stale=100, on_error="stale", tags="user:{user}")
    def f(user: int) -> int:
        return loader()

    assert f(7) == 1
    grow_old(client, f.cache_key(7), 150)
    cache.invalidate_tags("user:7")
    assert f(7) == 2
    loader.error = LookupError("away")
    cache.invalidate_tags("user:7")
    with pytest.raises(LookupError):
        f(7)


def test_what_was_refreshed_from_before_an_invalidation_is_never_served(
    cache: Cache, client: Client[Any], loader: Loader
) -> None:
    @cache(ttl=100, stale=100, tags="user:{user}")
    def f(user: int) -> int:
        return loader()

    assert f(7) == 1
    assert loader.started.acquire(timeout=60)
    grow_old(client, f.cache_key(7), 150)
    loader.free.clear()
    assert f(7) == 1
    assert loader.started.acquire(timeout=60)  # the refresh has read its source
    cache.invalidate_tags("user:7")
    loader.free.set()
    wait_until(lambda: settled(f, 1), "the refresh")
    assert f(7) == 3


def test_generations_live_as_long_as_stale_values_do(
    cache: Cache, client: Client[Any], loader: Loader
) -> None:
    @cache(ttl=10, stale=100_000, tags="t")
    def f() -> int:
        return loader()

    assert f() == 1
    (generation,) = [key for key in client.execute("KEYS", "*") if b"@tag" in key]
    assert client.ttl(generation) >= client.ttl(f.cache_key()) - 1 > 10


def test_namespaces_end_stale_values(cache: Cache, client: Client[Any]) -> None:
    space = cache.namespace("tenant-7")
    loader = Loader()

    @space(ttl=100, stale=100)
    def f() -> int:
        return loader()

    assert f() == 1
    grow_old(client, f.cache_key(), 150)
    assert f() == 1
    wait_until(lambda: settled(f, 1), "the refresh")
    assert f() == 2
    space.clear()
    assert f() == 3
