"""@cache on coroutine functions: what they look like, and what a call that has to wait
does: leases, flights, freshness, tags, time-outs, cancellation."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import inspect
import threading
import typing
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import redlane
from aio import Runner
from fresh_tools import grow_old
from outage_tools import BOUND, Switch, wait_until
from redlane import Cache, Client
from servers import PATIENT, Server


@pytest.fixture
def cache(client: Any) -> Cache:
    return Cache(client)


class Loader:
    """A coroutine function's work: counted, and held where a test wants that."""

    def __init__(self) -> None:
        self.calls = 0
        self.running = 0
        self.error: BaseException | None = None
        self.hold = False
        self.free = threading.Event()

    async def __call__(self, *_: Any) -> int:
        self.calls += 1
        number = self.calls
        self.running += 1
        try:
            if self.error:
                raise self.error
            await until(lambda: not self.hold or self.free.is_set())
        finally:
            self.running -= 1
        return number


async def until(condition: Callable[[], Any]) -> None:
    end = asyncio.get_running_loop().time() + BOUND
    while not condition():
        assert asyncio.get_running_loop().time() < end, "never came"
        await asyncio.sleep(0.001)


def loaded(cache: Cache, **options: Any) -> tuple[Any, Loader]:
    loader = Loader()

    @cache(**options)
    async def f(x: int = 0) -> int:
        return await loader(x)

    return f, loader


# --- what it looks like -----------------------------------------------------------


def test_it_is_a_coroutine_function(run: Runner) -> None:
    cache = Cache("memory://")

    @cache
    async def plain(x: int, *rest: str, y: float = 1.5, **more: Any) -> dict[str, int]:
        """What it does."""
        return {}

    class Service:
        @cache(ignore=["self"])
        async def method(self, x: int) -> int:
            return x

        @cache
        @classmethod
        async def of_class(cls, x: int) -> int:
            return x

        @cache
        @staticmethod
        async def static(x: int) -> int:
            return x

    everywhere = [plain, Service().method, Service.of_class, Service().of_class]
    everywhere += [Service.static, Service().static, Service.method]
    everywhere += [cache(functools.partial(plain.__wrapped__, 1))]
    for function in everywhere:
        assert inspect.iscoroutinefunction(function), function
        assert asyncio.iscoroutinefunction(function), function
        assert inspect.isroutine(function), function  # FastAPI asks for that first
        assert not inspect.isgeneratorfunction(function)
    assert plain.__name__ == "plain"
    assert plain.__doc__ == "What it does."
    assert inspect.signature(plain) == inspect.signature(plain.__wrapped__)
    assert typing.get_type_hints(plain)["return"] == dict[str, int]
    assert list(inspect.signature(Service().method).parameters) == ["x"]
    assert not inspect.iscoroutinefunction(cache(len))

    async def main() -> None:
        one = Service()
        assert [await one.method(3), await Service.method(one, 3)] == [3, 3]
        assert [await Service.of_class(4), await one.of_class(4)] == [4, 4]
        assert [await Service.static(5), await one.static(5)] == [5, 5]
        assert await one.method.invalidate(3)
        assert await everywhere[-1]() == {}

    run(main())


def test_callable_objects(run: Runner) -> None:
    class Caller:
        async def __call__(self, x: int) -> int:
            return x

    f = Cache("memory://")(name="caller")(Caller())
    assert inspect.iscoroutinefunction(f)
    assert run(f(3)) == 3


def test_generators_are_refused() -> None:
    cache = Cache("memory://")

    async def ticks() -> AsyncIterator[int]:
        yield 1

    with pytest.raises(TypeError, match=r"ticks\(\) is an asynchronous generator"):
        cache(ticks)


def test_arguments_that_do_not_fit_are_told_at_once() -> None:
    f, _ = loaded(Cache("memory://"))
    with pytest.raises(TypeError, match="takes from 0 to 1 positional"):
        f(1, 2)
    with pytest.raises(TypeError, match="cannot be part of a cache key"):
        f(object())


# --- calls ------------------------------------------------------------------------


def test_a_hit_does_not_call(cache: Cache, client: Any, run: Runner) -> None:
    f, loader = loaded(cache, ttl=60)

    async def main() -> None:
        assert [await f(1), await f(1), await f(x=1), await f(2)] == [1, 1, 1, 2]

    run(main())
    assert loader.calls == 2
    assert client.get(f.cache_key(1)) == b"1"
    assert 0 < client.ttl(f.cache_key(1)) <= 60
    info = f.cache_info()
    assert (info.hits, info.misses, info.sets) == (2, 2, 2)


def test_methods_that_are_awaited(cache: Cache, run: Runner) -> None:
    f, loader = loaded(cache)

    async def main() -> None:
        assert await f(1) == 1
        assert await f.refresh(1) == 2
        assert await f(1) == 2
        assert await f.uncached(1) == 3
        assert await f.invalidate(1) is True
        assert await f.invalidate(1) is False
        assert await f(1) == 4
        assert await f.invalidate_all() == 1
        with pytest.raises(TypeError, match="do not fit"):
            await f.refresh(1, 2)

    run(main())
    assert loader.calls == 4


def test_sync_and_async_share_entries(cache: Cache, run: Runner) -> None:
    f, loader = loaded(cache, key="shared:{x}")

    @cache(key="shared:{x}")
    def plain(x: int) -> int:
        return -1

    async def main() -> None:
        assert await f(1) == 1
        assert await asyncio.to_thread(plain, 1) == 1
        assert await asyncio.to_thread(plain, 2) == -1
        assert await f(2) == -1

    run(main())
    assert loader.calls == 1


def test_exceptions_are_the_callers(cache: Cache, client: Any, run: Runner) -> None:
    f, loader = loaded(cache)
    loader.error = LookupError("mine")

    async def main() -> None:
        for _ in range(2):
            with pytest.raises(LookupError, match="mine") as caught:
                await f(1)
            assert caught.value.__traceback__

    run(main())
    assert loader.calls == 2
    assert client.execute("KEYS", "*") == []


def test_cached_exceptions(cache: Cache, run: Runner) -> None:
    f, loader = loaded(cache, cache_exceptions={LookupError: 60})
    loader.error = LookupError("mine")

    async def main() -> None:
        for _ in range(3):
            with pytest.raises(LookupError, match="mine"):
                await f(1)

    run(main())
    assert loader.calls == 1


def test_options_that_ask_the_caller(cache: Cache, run: Runner) -> None:
    f, loader = loaded(
        cache, unless=lambda x: x == 7, condition=lambda value: value != 2
    )

    async def main() -> None:
        assert [await f(1), await f(1)] == [1, 1]
        assert [await f(2), await f(2)] == [2, 3]  # the first was not stored
        assert [await f(7), await f(7)] == [4, 5]
        with cache.disabled():
            assert await f(1) == 6
        assert await f(1) == 1

    run(main())
    assert loader.calls == 6


def test_an_uncacheable_result_is_returned(cache: Cache, run: Runner) -> None:
    @cache
    async def f() -> Any:
        return object

    async def main() -> None:
        assert await f() is object

    run(main())
    assert f.cache_info().uncached == 1


def test_the_caller_s_context_and_task(cache: Cache) -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")

    @cache(unless=lambda: True)
    async def bypassed() -> int:
        variable.set(2)
        return 1

    @cache
    async def f() -> int:
        assert asyncio.current_task() is task
        assert variable.get() == 1
        variable.set(2)
        await asyncio.sleep(0)
        assert variable.get() == 2
        return 1

    async def main() -> None:
        variable.set(1)
        assert await f() == 1
        assert variable.get() == 2
        variable.set(1)
        assert await bypassed() == 1
        assert variable.get() == 2

    loop = asyncio.new_event_loop()
    task = loop.create_task(main())
    loop.run_until_complete(task)
    loop.close()


def test_deep_recursion_in_the_function(cache: Cache, run: Runner) -> None:
    def depth(n: int) -> int:
        return n and 1 + depth(n - 1)

    @cache
    async def f(n: int) -> int:
        await asyncio.sleep(0)
        return depth(n)

    async def main() -> None:
        assert await asyncio.gather(*(f(n) for n in range(300))) == list(range(300))
        assert depth(300) == 300  # nested calls are counted as before

    run(main())


def test_hundreds_wait_at_once(cache: Cache, run: Runner) -> None:
    """More waiting calls than nested ones are allowed."""
    f, loader = loaded(cache)
    loader.hold = True

    async def main() -> None:
        tasks = [asyncio.create_task(f(x)) for x in range(1500)]
        await until(lambda: loader.running == 1500)
        loader.free.set()
        assert sorted(await asyncio.gather(*tasks)) == list(range(1, 1501))

    run(main())


# --- one computation --------------------------------------------------------------


def test_a_herd_computes_once(cache: Cache, run: Runner) -> None:
    f, loader = loaded(cache)
    loader.hold = True

    async def main() -> None:
        tasks = [asyncio.create_task(f(1)) for _ in range(50)]
        await until(lambda: loader.running)
        await asyncio.sleep(0.01)
        loader.free.set()
        assert await asyncio.gather(*tasks) == [1] * 50

    run(main())
    assert loader.calls == 1


def test_loops_of_many_threads_compute_once(cache: Cache, run: Runner) -> None:
    f, loader = loaded(cache)
    loader.hold = True
    values: list[int] = []

    def work() -> None:
        values.append(run(f(1)))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    wait_until(lambda: loader.running, "the computation")
    loader.free.set()
    for thread in threads:
        thread.join(BOUND)
    assert values == [1] * 8
    assert loader.calls == 1


@pytest.mark.parametrize("leader", ["thread", "task"])
def test_threads_and_tasks_wait_for_each_other(
    cache: Cache, leader: str, run: Runner
) -> None:
    f, loader = loaded(cache, key="shared:{x}")
    calls: list[int] = []
    started = threading.Event()
    free = threading.Event()

    @cache(key="shared:{x}")
    def plain(x: int) -> int:
        calls.append(x)
        started.set()
        assert free.wait(BOUND)
        return 100

    async def main() -> None:
        loop = asyncio.get_running_loop()
        if leader == "thread":
            first = loop.run_in_executor(None, plain, 1)
            await until(started.is_set)
            second = asyncio.create_task(f(1))
            await asyncio.sleep(0.05)
            free.set()
        else:
            loader.hold = True
            second = asyncio.create_task(f(1))
            await until(lambda: loader.running)
            first = loop.run_in_executor(None, plain, 1)
            await asyncio.sleep(0.05)
            loader.free.set()
        assert await first == await second == (100 if leader == "thread" else 1)

    run(main())
    assert loader.calls + len(calls) == 1


def test_a_function_that_calls_itself(cache: Cache, run: Runner) -> None:
    calls = []

    @cache(key="one")
    async def f() -> int:
        calls.append(1)
        return 1 if len(calls) > 1 else await f() + 1

    async def main() -> int:
        return await asyncio.wait_for(f(), BOUND / 4)

    assert run(main()) == 2
    assert len(calls) == 2


def test_blocking_code_of_the_loop_s_thread_does_not_wait_for_its_tasks(
    cache: Cache,
    run: Runner,
) -> None:
    f, loader = loaded(cache, key="shared:{x}")
    loader.hold = True

    @cache(key="shared:{x}")
    def plain(x: int) -> int:
        return 100

    async def main() -> None:
        task = asyncio.create_task(f(1))
        await until(lambda: loader.running)
        assert plain(1) == 100
        loader.free.set()
        assert await task == 1

    run(main())


def test_invalidation_during_a_computation(
    cache: Cache, client: Any, run: Runner
) -> None:
    f, loader = loaded(cache)
    loader.hold = True

    async def main() -> None:
        early = asyncio.create_task(f(1))
        await until(lambda: loader.running)
        await f.invalidate(1)
        late = asyncio.create_task(f(1))
        await until(lambda: loader.running == 2)
        loader.free.set()
        assert [await early, await late] == [1, 2]
        assert await f(1) == 2

    run(main())
    assert client.get(f.cache_key(1)) == b"2"


# --- cancellation -----------------------------------------------------------------


def test_the_function_is_cancelled_with_its_caller(
    cache: Cache, client: Any, run: Runner
) -> None:
    f, loader = loaded(cache)
    loader.hold = True

    async def main() -> None:
        task = asyncio.create_task(f(1))
        await until(lambda: loader.running)
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert loader.running == 0
        assert client.execute("KEYS", "*") == []  # no lease keeps others waiting
        loader.free.set()
        assert await f(1) == 2

    run(main())


def test_who_waits_goes_on_when_the_leader_is_cancelled(
    cache: Cache, run: Runner
) -> None:
    f, loader = loaded(cache)
    loader.hold = True

    async def main() -> None:
        leader = asyncio.create_task(f(1))
        await until(lambda: loader.running)
        others = [asyncio.create_task(f(1)) for _ in range(5)]
        await asyncio.sleep(0.05)
        leader.cancel()
        await until(lambda: loader.calls == 2)
        loader.free.set()
        assert await asyncio.gather(*others) == [2] * 5
        assert leader.cancelled()

    run(main())


def test_who_waits_can_be_cancelled(cache: Cache, run: Runner) -> None:
    f, loader = loaded(cache)
    loader.hold = True

    async def main() -> None:
        leader = asyncio.create_task(f(1))
        await until(lambda: loader.running)
        others = [asyncio.create_task(f(1)) for _ in range(5)]
        await asyncio.sleep(0.05)
        for other in others[:4]:
            other.cancel()
        await asyncio.wait(others[:4])
        assert all(other.cancelled() for other in others[:4])
        loader.free.set()
        assert [await leader, await others[4]] == [1, 1]

    run(main())
    assert loader.calls == 1


def test_a_function_may_refuse_its_cancellation(cache: Cache, run: Runner) -> None:
    started = asyncio.Event()

    @cache
    async def f() -> int:
        started.set()
        try:
            await asyncio.sleep(BOUND)
        except asyncio.CancelledError:
            return 5
        return 0

    async def main() -> None:
        task = asyncio.create_task(f())
        await until(started.is_set)
        task.cancel()
        assert await task == 5
        assert await f() == 5

    run(main())


def test_closed_in_the_middle(run: Runner) -> None:
    """As a loop's end, or the collector, does to what nobody awaits any more."""
    cache = Cache("memory://")
    ends: list[str] = []

    @cache
    async def inner() -> None:
        try:
            while True:
                await asyncio.sleep(0)
        finally:
            ends.append("inner")

    @cache
    async def outer() -> None:
        try:
            await inner()
        finally:
            ends.append("outer")

    async def main() -> None:
        for close in (True, False):
            awaitable = outer()
            for _ in range(3):
                awaitable.send(None)
            if close:
                awaitable.close()
            else:
                del awaitable
                gc.collect()
            assert ends == ["inner", "outer"]
            ends.clear()

    run(main())
    assert cache.client.execute("KEYS", "*") == []


def test_waiting_calls_of_a_loop_that_ends(cache: Cache, run: Runner) -> None:
    f, loader = loaded(cache)
    loader.hold = True

    async def main() -> None:
        main.task = asyncio.create_task(f(1))  # type: ignore[attr-defined]
        await until(lambda: loader.running)

    run(main())  # cancels it
    assert loader.running == 0
    loader.free.set()
    assert run(f(1)) == 2


# --- time-outs and freshness ------------------------------------------------------


def test_hard_timeout(cache: Cache, client: Any, run: Runner) -> None:
    f, loader = loaded(cache, hard_timeout=0.05)
    loader.hold = True

    async def main() -> None:
        with pytest.raises(redlane.TimeoutError, match="hard_timeout"):
            await f(1)
        assert loader.running == 1  # it goes on
        loader.free.set()
        await until(lambda: client.get(f.cache_key(1)) == b"1")
        assert await f(1) == 1

    run(main())


def test_hard_timeout_that_is_kept(cache: Cache, run: Runner) -> None:
    f, loader = loaded(cache, hard_timeout=BOUND)

    async def main() -> None:
        assert [await f(1), await f(1)] == [1, 1]
        assert await f.refresh(1) == 2
        loader.error = LookupError("mine")
        with pytest.raises(LookupError, match="mine"):
            await f(2)

    run(main())


def test_stale_values_are_refreshed_behind(
    cache: Cache, client: Any, run: Runner
) -> None:
    f, loader = loaded(cache, ttl=60, stale="1h")

    async def main() -> None:
        assert await f(1) == 1
        grow_old(client, f.cache_key(1), 100)
        loader.hold = True
        assert await f(1) == 1
        await until(lambda: loader.running)
        assert await f(1) == 1
        loader.free.set()
        await until(lambda: f.cache_info().refreshes and not loader.running)
        value = await f(1)
        while value == 1:
            await asyncio.sleep(0.001)
            value = await f(1)
        assert value == 2

    run(main())
    assert loader.calls == 2


def test_an_old_value_where_the_function_fails(
    cache: Cache, client: Any, run: Runner
) -> None:
    f, loader = loaded(cache, ttl=60, on_error="stale")

    async def main() -> None:
        assert await f(1) == 1
        grow_old(client, f.cache_key(1), 100)
        loader.error = LookupError("mine")
        assert await f(1) == 1
        loader.error = None
        await until(lambda: True)

    run(main())
    assert loader.calls == 2


def test_soft_timeout(cache: Cache, client: Any, run: Runner) -> None:
    f, loader = loaded(cache, ttl=60, stale="1h", soft_timeout=0.05)

    async def main() -> None:
        assert await f(1) == 1
        grow_old(client, f.cache_key(1), 100)
        loader.hold = True
        assert await f(1) == 1  # after that time
        await until(lambda: loader.calls == 2)
        loader.free.set()
        await until(lambda: not loader.running)

    run(main())


def test_tags(cache: Cache, run: Runner) -> None:
    f, _ = loaded(cache, tags=["n:{x}", "all"])

    async def main() -> None:
        assert [await f(1), await f(2), await f(1)] == [1, 2, 1]
        await cache.aio.invalidate_tags("n:1")
        assert [await f(1), await f(2)] == [3, 2]
        await cache.aio.invalidate_tags("all")
        assert [await f(1), await f(2)] == [4, 5]

    run(main())


def test_a_namespace(cache: Cache, run: Runner) -> None:
    tenant = cache.namespace("tenant")
    f, _ = loaded(tenant)

    async def main() -> None:
        assert [await f(1), await f(1)] == [1, 1]
        await tenant.aio.clear()
        assert await f(1) == 2

    run(main())


def test_an_outage(switch: Switch, run: Runner) -> None:
    with Client(switch.url, **PATIENT) as client:
        f, _ = loaded(Cache(client))

        async def main() -> None:
            assert [await f(1), await f(1)] == [1, 1]
            await asyncio.to_thread(switch.off, client)
            assert [await f(2), await f(2)] == [2, 2]
            await asyncio.to_thread(switch.on, client)
            await f(2)
            assert await f(1) == 1

        run(main())


def test_another_process_s_lease(redis_server: Server, run: Runner) -> None:
    """Whose computation is waited for, and whose value is taken."""
    with Client(redis_server.url, **PATIENT) as client:
        for near in (True, False):
            cache = Cache(client, prefix=f"near{near}", near=near)
            f, loader = loaded(cache)
            client.set(f.cache_key(1), b"\xffRLL" + b"x" * 16, px=30_000)

            async def main(f: Any = f) -> int:
                task = asyncio.create_task(f(1))
                await asyncio.sleep(0.1)
                assert not task.done()
                client.set(f.cache_key(1), b"7")
                return await asyncio.wait_for(task, BOUND / 4)

            assert run(main()) == 7
            assert loader.calls == 0
