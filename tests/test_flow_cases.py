"""Cases of what waits in an event loop: a loader that comes back to its own key, a
leader that is cancelled, a loop whose futures run code, a value that is near."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from aio import Runner, until
from outage_tools import BOUND
from redlane import AsyncCache, AsyncClient, Cache, Client
from servers import PATIENT, Server


async def by_task(call: Callable[[], Any]) -> Any:
    return await asyncio.create_task(call())


async def by_gather(call: Callable[[], Any]) -> Any:
    return (await asyncio.gather(call(), asyncio.sleep(0)))[0]


async def by_grandchild(call: Callable[[], Any]) -> Any:
    return await asyncio.create_task(by_task(call))


async def by_thread(call: Callable[[], Any]) -> Any:
    """A thread with a loop of its own."""
    return await asyncio.to_thread(lambda: asyncio.run(call()))


@pytest.mark.parametrize("way", [by_task, by_gather, by_grandchild, by_thread])
def test_a_loader_that_comes_back_to_its_key_by_a_task(
    client: Client[Any], run: Runner, way: Callable[[Callable[[], Any]], Any]
) -> None:
    """It computes for itself, as one that calls itself does: it would wait for its own
    end."""
    calls = []

    async def main() -> None:
        @Cache(client)
        async def f() -> int:
            calls.append(1)
            return 1 + (await way(f) if len(calls) == 1 else 0)

        assert await asyncio.wait_for(f(), BOUND / 4) == 2
        assert len(calls) == 2
        assert await f() == 2  # what the outer call gave is what is stored

    run(main())


def test_get_or_set_that_comes_back_to_its_key(
    client: Client[Any], run: Runner
) -> None:
    cache = AsyncCache(client)

    async def outer() -> str:
        return "outer " + await asyncio.create_task(cache.get_or_set("k", inner))

    async def inner() -> str:
        return "inner"

    async def main() -> None:
        value = await asyncio.wait_for(cache.get_or_set("k", outer), BOUND / 4)
        assert value == "outer inner"
        assert await cache.get("k") == "outer inner"

    run(main())


def test_tasks_that_are_started_before_wait_still(
    client: Client[Any], run: Runner
) -> None:
    """Only what is inside the computation computes for itself."""
    calls = []

    async def main() -> None:
        go_on = asyncio.Event()

        @Cache(client)
        async def f() -> int:
            calls.append(1)
            await go_on.wait()
            return 1

        tasks = [asyncio.create_task(f()) for _ in range(5)]
        await until(lambda: calls, "the call")
        await asyncio.sleep(0.01)
        go_on.set()
        assert await asyncio.gather(*tasks) == [1] * 5
        assert len(calls) == 1

    run(main())


def test_what_is_cancelled_does_not_wait_for_the_server(
    fresh_server: Server, run: Runner
) -> None:
    """The lease is taken away behind it, so that nobody waits for that."""

    async def main() -> None:
        async with AsyncClient(fresh_server.url, **PATIENT) as client:
            begun = asyncio.Event()

            @Cache(client.sync, near=False)
            async def f() -> None:
                begun.set()
                await asyncio.Event().wait()

            key = f.cache_key()
            task = asyncio.create_task(f())
            await asyncio.wait_for(begun.wait(), BOUND)
            assert await client.exists(key)
            fresh_server.pause()
            try:
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asyncio.wait_for(task, PATIENT["timeout"] / 2)
            finally:
                fresh_server.resume()
            end = time.monotonic() + BOUND / 3  # the lease's own end comes later
            while await client.exists(key):
                assert time.monotonic() < end
                await asyncio.sleep(0.005)

    run(main())


class TurningLoop(asyncio.SelectorEventLoop):
    """Making a future turns it until an answer has come, when it is told to."""

    turn_now = False

    def create_future(self) -> Any:
        if self.turn_now:
            self.turn_now = False
            events: list[Any] = []
            while not events:
                self.run_ready()  # what is to be sent is
                events = self._selector.select(BOUND)
            self._process_events(events)
            self.run_ready()
        return super().create_future()

    def run_ready(self) -> None:
        while self._ready:
            self._ready.popleft()._run()


def test_a_loop_whose_future_ends_the_request(redis_server: Server) -> None:
    """Then there is nobody left who would end the wait for it."""
    loop = TurningLoop()

    async def main() -> None:
        async with AsyncClient(redis_server.url, **PATIENT) as client:
            cache = AsyncCache(client, near=False)
            await cache.set("k", 1)
            loop.turn_now = True
            assert await cache.get("k") == 1
            assert not loop.turn_now

    try:
        loop.run_until_complete(asyncio.wait_for(main(), BOUND / 4))
    finally:
        loop.close()


def test_a_near_value_is_there_at_once(redis_server: Server, run: Runner) -> None:
    with Client(redis_server.url, **PATIENT) as client:
        cache = AsyncCache(client)

        def at_once(*args: Any, **options: Any) -> Any:
            """What get() gives without a loop; ... where it has to wait."""
            awaitable = cache.get(*args, **options)
            if type(awaitable).__name__ == "Flow":
                awaitable.close()
                return ...
            with pytest.raises(StopIteration) as end:
                awaitable.send(None)
            return end.value.value

        async def main() -> None:
            await cache.set("key", {"a": [1]})
            assert at_once("key") is ...
            limit = time.monotonic() + BOUND
            while at_once("key") is ...:
                assert await cache.get("key") == {"a": [1]}
                assert time.monotonic() < limit
            hits = cache.sync.stats()["near_hits"]
            first = at_once(key="key", default=5)
            assert first == {"a": [1]}
            assert at_once("key") is not first  # decoded afresh
            assert cache.sync.stats()["near_hits"] == hits + 2
            with cache.disabled():
                assert at_once("key") is ...
            await cache.set("key", 2)
            assert at_once("key") is ...
            for wrong in ((), (5,), ("key", 1, 2)):
                with pytest.raises(TypeError):
                    await cache.get(*wrong)

        run(main())


def test_many_wait_for_leases_of_others(redis_server: Server, run: Runner) -> None:
    """Each takes the value soon after it is there."""
    keys = [f"k{i}" for i in range(50)]

    async def main() -> None:
        async with AsyncClient(redis_server.url, **PATIENT) as client:
            cache = AsyncCache(client)
            for key in keys:
                await client.set(f"cache:{key}", b"\xffRLL" + b"x" * 16, px=30_000)
            tasks = [asyncio.create_task(cache.get_or_set(k, int)) for k in keys]
            await asyncio.sleep(0.5)
            assert not any(task.done() for task in tasks)
            await client.mset({f"cache:{key}": b"7" for key in keys})
            done, _ = await asyncio.wait(tasks, timeout=BOUND / 4)
            assert [await task for task in done] == [7] * len(keys)

    run(main())


def test_health_does_not_hold_the_loop_up(fresh_server: Server, run: Runner) -> None:
    """It waits for the server in a thread, and so do statistics."""

    async def main() -> None:
        async with AsyncClient(fresh_server.url, **PATIENT) as client:
            cache = AsyncCache(client)
            await client.ping()
            fresh_server.pause()
            tasks = [
                asyncio.create_task(client.health()),
                asyncio.create_task(cache.stats()),
            ]
            try:
                for _ in range(20):
                    await asyncio.sleep(0.005)
                assert not any(task.done() for task in tasks)
            finally:
                fresh_server.resume()
            health, stats = await asyncio.gather(*tasks)
            assert health["mode"] == stats["cache_type"] == "redis"
        assert (await client.health())["mode"] == "closed"
        assert (await cache.stats())["cache_type"] == "none"

    run(main())


def test_a_client_closed_while_its_health_is_asked_for(
    fresh_server: Server, run: Runner
) -> None:
    async def main() -> None:
        client = AsyncClient(fresh_server.url, **PATIENT)
        await client.ping()
        fresh_server.pause()
        asking = asyncio.create_task(client.health())
        try:
            await asyncio.sleep(0.05)
            await client.close()
        finally:
            fresh_server.resume()
        assert (await asyncio.wait_for(asking, BOUND))["mode"] in ("closed", "redis")

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.Runner is of 3.11")
def test_what_newer_pythons_have(client: Client[Any]) -> None:
    cache = Cache(client)

    @cache
    async def f(x: int) -> int:
        await asyncio.sleep(0)
        return x

    async def main() -> None:
        async with asyncio.timeout(BOUND):
            assert await f(2) == 2
        if sys.version_info >= (3, 12):
            asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
            for _ in range(3):
                assert await asyncio.create_task(f(3)) == 3
                assert await asyncio.create_task(cache.aio.get_or_set("k", int)) == 0
                assert await asyncio.create_task(client.aio.set("raw", 1))
            assert await asyncio.gather(f(4), f(4)) == [4, 4]

    with asyncio.Runner() as runner:
        assert runner.run(f(1)) == 1
        assert runner.run(f(1)) == 1
        runner.run(main())


def test_a_refresh_within_a_hard_time_out(client: Client[Any], run: Runner) -> None:
    async def main() -> None:
        @Cache(client)(hard_timeout=BOUND)
        async def f() -> int:
            return 5

        assert await f.refresh() == 5  # the first call of all
        assert await f() == 5

    run(main())
