"""AsyncCache, AsyncCounter and AsyncVideoCache: the methods of their twins, awaited, on
the engine, on a server, and while that is away."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redlane
from aio import Runner
from outage_tools import BOUND, Switch
from redlane import (
    AsyncCache,
    AsyncCounter,
    AsyncVideoCache,
    Cache,
    Client,
    Counter,
    VideoCache,
)
from redlane._core import AsyncClient
from servers import PATIENT, Server


@pytest.fixture
def cache(client: Any) -> AsyncCache:
    return Cache(client).aio


# --- what they are ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("twin", "of"),
    [(AsyncCache, Cache), (AsyncCounter, Counter), (AsyncVideoCache, VideoCache)],
)
def test_twins_have_the_same_methods(twin: Any, of: Any) -> None:
    own = {name for name in dir(of) if not name.startswith("_")} - {"aio", "client"}
    assert own <= set(dir(twin))
    for name in own:
        ours, theirs = getattr(twin, name), getattr(of, name)
        if callable(theirs):
            assert inspect.signature(ours) == inspect.signature(theirs), name
            assert ours.__doc__
            assert ours.__name__ == name
            assert ours.__qualname__ == f"{twin.__name__}.{name}"


def test_made_from_whatever_a_cache_is_made_from(
    redis_server: Server, run: Runner
) -> None:
    async def main() -> None:
        url = redis_server.patient_url
        async with AsyncClient(url) as client:
            made = [AsyncCache(client), AsyncCache(url), AsyncCache(client.sync)]
            made += [Cache(client).aio, AsyncCache(url, prefix="cache", ttl="1h")]
            for i, cache in enumerate(made):
                assert await cache.set("key", i)
                assert [await other.get("key") for other in made] == [i] * len(made)
                assert cache.prefix == cache.sync.prefix == "cache"
            assert made[0].sync.client is client.sync

    run(main())
    with pytest.raises(TypeError, match="expected a Client"):
        AsyncCache(5)
    with pytest.raises(redlane.ConfigurationError):
        AsyncCache("nonsense://")


def test_they_show_what_they_are() -> None:
    assert "aio" in repr(Cache("memory://").aio)
    assert "AsyncCache.get" in repr(AsyncCache.get)
    with pytest.raises(TypeError, match="AsyncCache"):
        AsyncCache.get(Cache("memory://"), "key")
    with pytest.raises(TypeError, match="AsyncCache"):
        AsyncCache.get()


def test_a_decorator_too(run: Runner) -> None:
    cache = AsyncCache("memory://")

    @cache(ttl=60)
    async def f(x: int) -> int:
        return x

    @cache
    def g(x: int) -> int:
        return x

    assert run(f(1)) == g(1) == 1
    assert f.cache is cache.sync


# --- methods ----------------------------------------------------------------------


def test_values(cache: AsyncCache, run: Runner) -> None:
    async def main() -> None:
        assert await cache.set("key", {"a": [1]}, ttl=60)
        assert await cache.get("key") == {"a": [1]}
        assert await cache.get("none", 5) == await cache.get("none", default=5) == 5
        assert await cache.has("key") is True
        assert 0 < (await cache.ttl("key") or 0) <= 60
        assert await cache.touch("key", ttl=90)
        assert 60 < (await cache.ttl("key") or 0) <= 90
        assert await cache.add("key", 1) is False
        assert await cache.add("other", 1, ttl=5) is True
        assert await cache.delete("key") is True
        assert await cache.delete("key") is False
        assert await cache.increment("count", 5) == 5
        assert await cache.decrement("count") == 4
        await cache.set_many({"a": 1, "b": 2})
        assert await cache.get_many(["a", "b", "c"]) == {"a": 1, "b": 2}
        assert await cache.delete_many(["a", "c"]) == 1
        assert await cache.invalidate("cache:*") == 3
        assert await cache.clear() == 0
        stats = await cache.stats()
        assert stats["sets"] == cache.sync.stats()["sets"]

    run(main())


def test_tags_and_namespaces(cache: AsyncCache, run: Runner) -> None:
    async def main() -> None:
        await cache.set("a", 1, tags=["t"])
        await cache.set_many({"b": 2}, tags=["t", "u"])
        assert await cache.get_many(["a", "b"]) == {"a": 1, "b": 2}
        await cache.invalidate_tags("u")
        assert await cache.get_many(["a", "b"]) == {"a": 1}
        tenant = cache.namespace("tenant")
        assert isinstance(tenant, AsyncCache)
        await tenant.set("a", 5)
        assert [await tenant.get("a"), await cache.get("a")] == [5, 1]
        await tenant.clear()
        assert [await tenant.get("a"), await cache.get("a")] == [None, 1]
        with cache.disabled():
            assert await cache.get("a") is None
        assert await cache.get("a") == 1

    run(main())


def test_get_or_set(cache: AsyncCache, run: Runner) -> None:
    calls = []

    async def make() -> int:
        calls.append(1)
        await asyncio.sleep(0.01)
        return 5

    async def fail() -> int:
        raise LookupError("mine")

    async def main() -> None:
        values = await asyncio.gather(*(cache.get_or_set("k", make) for _ in range(9)))
        assert values == [5] * 9
        assert await cache.get_or_set("plain", lambda: 6, ttl=60) == 6
        assert await cache.get("plain") == 6
        with pytest.raises(LookupError, match="mine"):
            await cache.get_or_set("failed", fail)
        with cache.disabled():
            assert await cache.get_or_set("k", make) == 5
        with pytest.raises(TypeError, match="callable"):
            await cache.get_or_set("k", 5)

    run(main())
    assert len(calls) == 2


def test_errors_are_those_of_the_twin(cache: AsyncCache, run: Runner) -> None:
    async def main() -> None:
        with pytest.raises(redlane.SerializationError):
            await cache.set("key", object())
        with pytest.raises(TypeError, match="missing"):
            await cache.get()
        with pytest.raises(TypeError):
            await cache.set(5, 5)
        with pytest.raises(ValueError, match="ttl"):
            await cache.set("key", 5, ttl=-1)
        with pytest.raises(TypeError, match="no arguments"):
            cache.stats(5)

    run(main())


def test_counters(client: Any, run: Runner) -> None:
    cache = Cache(client).aio
    calls = []

    async def source(number: int) -> int:
        calls.append(number)
        await asyncio.sleep(0)
        return 40 + number

    async def main() -> None:
        counter = cache.counter("pixels:{id}", ttl=60, source=source)
        assert isinstance(counter, AsyncCounter)
        assert counter.template == counter.sync.template
        assert counter.key(2) == "cache:pixels:2"
        assert await counter.increment(2) is None
        assert [await counter.get(2), await counter.get(2)] == [42, 42]
        assert await cache.get("pixels:2") == 42
        assert [await counter.increment(2), await counter.decrement(2)] == [43, 42]
        assert await counter.get(3) == 43
        assert await counter.transfer(2, 3) == (41, 44)
        assert await counter.delete(2) is True
        assert await counter.reset(2) is False
        plain = AsyncCounter(client, "plain", source=lambda: 7)
        assert await plain.get() == 7
        assert await plain.sync.aio.get() == 7
        of_cache = AsyncCounter(cache, "mine:{id}", source=source)
        assert await of_cache.get(1) == 41
        assert of_cache.key(1) == "cache:mine:1"

    run(main())
    assert calls == [2, 3, 1]


def test_videos(client: Any, run: Runner) -> None:
    async def main() -> None:
        videos = AsyncVideoCache(client)
        assert await videos.get("black", ["white"]) is None
        assert await videos.set("black", ["white"], "https://v", permanent=True)
        assert await videos.get("black", ["white"]) == "https://v"
        assert (await videos.get_stats())["total_entries"] == 1
        assert await videos.startup() is None
        assert VideoCache(client).get("black", ["white"]) == "https://v"
        assert await VideoCache(client).aio.get("black", ["white"]) == "https://v"

    run(main())


def test_blocking_and_awaiting_code_on_one_cache(
    cache: AsyncCache, run: Runner
) -> None:
    async def count() -> None:
        for _ in range(50):
            await cache.increment("n")

    def count_too() -> None:
        for _ in range(50):
            cache.sync.increment("n")

    async def main() -> None:
        thread = threading.Thread(target=count_too)
        thread.start()
        await asyncio.gather(*(count() for _ in range(4)))
        await asyncio.to_thread(thread.join, BOUND)
        assert await cache.get("n") == 250

    run(main())


def test_the_loop_goes_on_while_the_server_is_slow(
    fresh_server: Server, run: Runner
) -> None:
    async def main() -> None:
        async with AsyncClient(fresh_server.url, **PATIENT) as client:
            cache = AsyncCache(client, near=False)
            await cache.set("key", 5)
            fresh_server.pause()
            waiting = asyncio.create_task(cache.get("key"))
            turns = 0
            while turns < 20:
                await asyncio.sleep(0.005)
                turns += 1
            assert not waiting.done()
            fresh_server.resume()
            assert await waiting == 5

    run(main())


def test_many_loops_one_after_another(cache: AsyncCache, run: Runner) -> None:
    async def once(i: int) -> Any:
        await cache.set("key", i)
        return await cache.get("key")

    assert [run(once(i)) for i in range(20)] == list(range(20))


def test_cancelled_anywhere(cache: AsyncCache, run: Runner) -> None:
    """Whatever was cancelled, the next call has its own answer."""

    async def main() -> None:
        for i in range(200):
            task = asyncio.create_task(cache.set(f"key{i % 7}", i))
            for _ in range(i % 5):
                await asyncio.sleep(0)
            task.cancel()
            others = [cache.get_or_set(f"mine{i}", lambda i=i: i) for _ in range(2)]
            assert await asyncio.gather(*others) == [i, i]
            await asyncio.wait([task])

    run(main())


# --- while the server is away -----------------------------------------------------


@pytest.fixture
def behind(switch: Switch) -> Iterator[Client[Any]]:
    with Client(switch.url, **PATIENT) as made:
        yield made


def test_the_engine_answers_while_the_server_is_away(
    switch: Switch,
    behind: Client[Any],
    run: Runner,
) -> None:
    cache = Cache(behind).aio

    async def main() -> None:
        await cache.set_many({"kept": 1, "deleted": 2})
        await asyncio.to_thread(switch.off, behind)
        assert await cache.set("away", 3, ttl=60)
        assert await cache.set("durable", 4)
        assert await cache.get_many(["away", "durable"]) == {"away": 3, "durable": 4}
        await cache.delete("deleted")
        assert (await cache.stats())["cache_type"] == "memory"
        await asyncio.to_thread(switch.on, behind)
        assert await cache.get_many(["kept", "deleted", "away", "durable"]) == {
            "kept": 1,
            "durable": 4,
        }

    run(main())


def test_nothing_answers_where_that_is_asked_for(
    switch: Switch,
    behind: Client[Any],
    run: Runner,
) -> None:
    silent = Cache(behind, fallback="none").aio
    loud = Cache(behind, fallback="raise").aio

    async def main() -> None:
        await silent.set("key", 1)
        await asyncio.to_thread(switch.off, behind)
        assert await silent.get("key") is None
        assert await silent.get_or_set("key", lambda: 2) == 2
        with pytest.raises(redlane.ConnectionError):
            await loud.get("key")
        with pytest.raises(redlane.ConnectionError):
            await loud.get_or_set("key", lambda: 2)
        await asyncio.to_thread(switch.on, behind)
        assert await loud.get("key") == 1

    run(main())
