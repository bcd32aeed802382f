"""Awaitables whose C code waits where it stands, in the places where an interpreter has
state of its own: the collector, threads, forks, the end of the program, memory."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest
from aio import Runner
from children import run_program, started
from outage_tools import wait_until
from redlane import AsyncClient, Cache, Client
from servers import PATIENT, Server

PATIENCE = 60.0


@pytest.fixture
def server_cache(redis_server: Server) -> Iterator[Cache]:
    with Client(redis_server.url, **PATIENT) as client:
        yield Cache(client, near=False)


def abandon(
    make: Callable[[], Any], count: int
) -> weakref.ref[asyncio.AbstractEventLoop]:
    """Closes a loop on which so many tasks wait, as a careless program does."""
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # it tells of each task

    async def main() -> None:
        tasks = [loop.create_task(make()) for _ in range(count)]
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert not any(task.done() for task in tasks)

    loop.run_until_complete(main())
    loop.close()
    return weakref.ref(loop)


def is_collected(gone: weakref.ref[Any]) -> bool:
    gc.collect()
    return gone() is None


# --- the collector ----------------------------------------------------------------

HOLD_A_LEASE = """
import asyncio, sys
from redlane import Cache, Client

@Cache(Client(sys.argv[1], timeout=30.0))(key="the-key-{x}")
async def f(x):
    print("computes", flush=True)
    await asyncio.sleep(3600)

asyncio.run(f(1))
"""


def test_a_loop_abandoned_in_wait_for_a_lease_is_freed(
    server_cache: Cache, redis_server: Server
) -> None:
    @server_cache(key="the-key-{x}")
    async def f(x: int) -> int:
        raise AssertionError("another process computes")

    command = [sys.executable, "-c", HOLD_A_LEASE, redis_server.url]
    with started(command, stdout=-1) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "computes\n"
        gone = abandon(lambda: f(1), 20)
        wait_until(lambda: is_collected(gone), "the loop's end")


def test_a_loop_abandoned_in_wait_for_another_thread_is_freed(
    server_cache: Cache,
) -> None:
    calls: list[int] = []
    free = threading.Event()

    @server_cache
    async def f(x: int) -> int:
        calls.append(x)
        while not free.is_set():
            await asyncio.sleep(0.005)
        return x

    leader = threading.Thread(target=lambda: asyncio.run(f(1)))
    leader.start()
    try:
        wait_until(lambda: bool(calls), "the leader")
        gone = abandon(lambda: f(1), 20)
        wait_until(lambda: is_collected(gone), "the loop's end")
    finally:
        free.set()
        leader.join()
    assert calls == [1]
    assert asyncio.run(f(1)) == 1


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_loop_abandoned_in_wait_for_a_server_is_freed(
    fresh_server: Server, elsewhere: bool
) -> None:
    """Whoever collects it: also a thread on which another loop runs."""
    cache = Cache(Client(fresh_server.url, **PATIENT), near=False)

    @cache
    async def f(x: int) -> int:
        return x

    async def collect() -> int:
        gc.collect()
        return await f(3)

    assert asyncio.run(f(0)) == 0
    gc.disable()
    try:
        fresh_server.pause()
        gone = abandon(lambda: f(1), 20)
        fresh_server.resume()
        if elsewhere:
            thread = threading.Thread(target=lambda: asyncio.run(collect()))
            thread.start()
            thread.join()
        else:
            assert asyncio.run(f(2)) == 2  # meets the closed loop
    finally:
        gc.enable()
    wait_until(lambda: is_collected(gone), "the loop's end")
    assert asyncio.run(f(1)) == 1
    cache.client.close()


def test_flows_begin_and_end_inside_another(run: Runner) -> None:
    """A condition runs on a flow's stack: other flows are driven there by hand, and
    closed by the collector."""
    cache = Cache("memory://")
    ended: list[int] = []
    left: list[Any] = []

    @cache
    async def waits(x: int) -> int:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append(x)
        return x

    def condition(x: int) -> bool:
        for _ in range(3):
            flow = waits(-x)
            flow.send(None)
            cycle = [flow]
            cycle.append(cycle)  # type: ignore[arg-type]
            del flow, cycle
            gc.collect()
        kept = waits(x)
        kept.send(None)
        left.append(kept)
        return False

    @cache(unless=condition)
    async def f(x: int) -> int:
        await asyncio.sleep(0)
        return x

    async def main() -> None:
        assert await asyncio.gather(*(f(x) for x in range(1, 9))) == list(range(1, 9))
        for flow in left:
            flow.close()

    run(main())
    assert sorted(ended) == sorted([-x for x in range(1, 9)] * 3 + list(range(1, 9)))


# --- exceptions -------------------------------------------------------------------


def test_a_stop_iteration_is_no_result(run: Runner) -> None:
    """As of a coroutine: it would be taken for what the call returns."""
    cache = Cache("memory://")

    def stops(*_: object) -> bool:
        raise StopIteration(5)

    @cache(unless=stops)
    async def f(x: int) -> int:
        return x

    async def main() -> None:
        for awaitable in (f(1), cache.aio.get_or_set("k", stops)):
            with pytest.raises(RuntimeError, match="StopIteration") as caught:
                await awaitable
            assert isinstance(caught.value.__cause__, StopIteration)
            assert caught.value.__cause__.value == 5
        for awaitable in (f(1), cache.aio.get_or_set("k", stops)):
            task = asyncio.ensure_future(awaitable)
            with pytest.raises(RuntimeError, match="StopIteration"):
                await task
        flow = f(1)
        with pytest.raises(RuntimeError, match="StopIteration"):
            flow.send(None)

    run(main())


def test_handled_exceptions_are_the_callers(run: Runner) -> None:
    cache = Cache("memory://")
    seen: list[BaseException | None] = []

    def condition(x: int) -> bool:
        seen.append(sys.exc_info()[1])
        try:
            raise OSError
        except OSError:
            pass
        seen.append(sys.exc_info()[1])
        return False

    @cache(unless=condition)
    async def f(x: int) -> int:
        await asyncio.sleep(0)
        if x > 1:
            raise ValueError
        return x

    async def main() -> None:
        outer = KeyError("outer")
        try:
            raise outer
        except KeyError:
            assert await f(1) == 1
            with pytest.raises(ValueError) as caught:
                await f(2)
            assert sys.exc_info()[1] is outer
        assert caught.value.__context__ is outer
        assert seen == [outer] * 4
        assert sys.exc_info()[1] is None

    run(main())


def test_deep_recursion_in_a_callback(run: Runner) -> None:
    """On a flow's stack as on any: it ends in RecursionError, of Python and of C code,
    and what may be nested afterwards is as much as before."""
    cache = Cache("memory://")
    ended: list[str] = []

    class Nested:
        def __repr__(self) -> str:
            return repr([self])

    def deep() -> None:
        deep()

    def condition(x: int) -> bool:
        for dive in (deep, lambda: repr(Nested())):
            try:
                dive()
            except RecursionError as error:
                ended.append(type(error).__name__)
        return False

    @cache(unless=condition)
    async def f(x: int) -> int:
        await asyncio.sleep(0)
        return x

    def how_deep() -> int:
        def down(depth: int) -> int:
            try:
                return down(depth + 1)
            except RecursionError:
                return depth

        return down(0)

    async def main() -> None:
        before = how_deep()
        for x in range(20):
            assert await f(x) == x
        assert how_deep() == before

    run(main())
    assert len(ended) == 40


def test_without_an_event_loop_it_says_so(redis_server: Server) -> None:
    with Client(redis_server.url, **PATIENT) as client:

        @Cache(client, near=False)
        async def f(x: int) -> int:
            return x

        flow = f(1)
        with pytest.raises(RuntimeError, match="no running event loop"):
            flow.send(None)
        assert asyncio.run(f(1)) == 1


def test_what_inspect_says_of_one(run: Runner) -> None:
    cache = Cache("memory://")
    states: list[str] = []

    @cache
    async def f(x: int) -> int:
        states.append(inspect.getcoroutinestate(flow))
        await asyncio.sleep(0)
        return x

    async def main() -> None:
        assert await flow == 1

    flow: Any = f(1)
    assert flow.cr_await is None
    assert not flow.cr_suspended
    states.append(inspect.getcoroutinestate(flow))
    run(main())
    states.append(inspect.getcoroutinestate(flow))
    assert states == ["CORO_CLOSED", "CORO_RUNNING", "CORO_CLOSED"]

    held: Any = f(2)

    async def hold() -> None:
        held.send(None)
        state = inspect.getcoroutinestate(held)
        assert state in ("CORO_SUSPENDED", "CORO_RUNNING")  # 3.10 has no better word
        assert held.cr_suspended
        assert held.cr_await is not None
        held.close()

    flow = held
    run(hold())


def test_anyio_cancels_them(run: Runner, redis_server: Server) -> None:
    """Its cancellation is delivered again and again until the tasks have ended."""
    with Client(redis_server.url, **PATIENT) as client:
        cache = Cache(client)
        begun: list[int] = []
        ended: list[int] = []

        @cache
        async def f(x: int) -> int:
            begun.append(x)
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                ended.append(x)
            return x

        async def cancel_all() -> None:
            async with anyio.create_task_group() as group:
                for x in range(6):
                    group.start_soon(f, x % 3)
                group.start_soon(commands.execute, "BLPOP", "nothing", 0)
                while len(begun) < 3:
                    await asyncio.sleep(0.001)
                group.start_soon(f, 9)
                group.start_soon(commands.get, "nothing")
                group.cancel_scope.cancel()
            assert sorted(ended) == sorted(begun)

        async def main() -> None:
            await asyncio.wait_for(cancel_all(), PATIENCE)
            await commands.aclose()

        commands = AsyncClient(redis_server.url, **PATIENT)
        run(main())


def test_debug_mode(run: Runner) -> None:
    cache = Cache("memory://")

    @cache
    async def f(x: int) -> int:
        await asyncio.sleep(0.001)
        return x

    async def main() -> list[int]:
        asyncio.get_running_loop().set_debug(True)
        tasks = [asyncio.ensure_future(f(x % 3)) for x in range(9)]
        await asyncio.sleep(0)
        assert all(repr(task) and task.get_stack() is not None for task in tasks)
        return await asyncio.gather(*tasks)

    assert run(main()) == [0, 1, 2] * 3


# --- threads and processes --------------------------------------------------------


def test_tasks_of_many_loops_at_once() -> None:
    """Each thread has loops of its own, which come and go."""
    cache = Cache("memory://")
    failed: list[BaseException] = []

    @cache(hard_timeout=PATIENCE)
    async def f(x: int) -> int:
        return x

    def work(first: int) -> None:
        try:
            for x in range(first, first + 60):
                assert asyncio.run(f(x)) == x
        except BaseException as error:  # told below
            failed.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(i * 1000,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert failed == []


FORK_BESIDE_A_FLOW = """
import asyncio, os, sys, threading
from redlane import Cache, Client

client = Client(sys.argv[1], timeout=30.0, connect_timeout=30.0)
cache = Cache(client, near=False)
begun, free = threading.Event(), threading.Event()

def condition(x):
    begun.set()
    free.wait()
    return False

@cache(unless=condition)
async def f(x):
    return x

async def nothing():
    pass

def on_a_loop(callback):
    loop = asyncio.new_event_loop()
    callback(loop)
    loop.run_until_complete(nothing())
    loop.close()

def begin(loop):
    loop.create_task(f(1))

answers = []

def read(loop):
    # Called from the same frame as the flow was, in a thread that may have got all
    # addresses of the one that is gone; a call like any, it must block.
    loop.call_soon(cache.get, "k")
    loop.call_soon(lambda: answers.append(cache.get("k")))

cache.set("k", "v")
thread = threading.Thread(target=on_a_loop, args=(begin,))
thread.start()
begun.wait()
child = os.fork()
if child == 0:
    for _ in range(20):
        other = threading.Thread(target=on_a_loop, args=(read,))
        other.start()
        other.join()
    os._exit(0 if answers == ["v"] * 20 else 5)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
free.set()
thread.join()
print("child", status)
"""


def test_a_child_forgets_the_flows_of_other_threads(redis_server: Server) -> None:
    done = run_program(
        FORK_BESIDE_A_FLOW, redis_server.url, options=["-W", "ignore"], timeout=300
    )
    assert (done.stdout, done.returncode) == ("child 0\n", 0), done.stderr


END_EARLY = """
import asyncio, sys, threading, time
from redlane import Cache

cache = Cache("memory://")
begun = threading.Event()

@cache
async def waits(x):
    await asyncio.get_running_loop().create_future()

def condition(x):
    begun.set()
    time.sleep(0.3)  # the program ends meanwhile
    return False

@cache(unless=condition)
async def f(x):
    return x

loop = asyncio.new_event_loop()

async def main():
    tasks = [loop.create_task(waits(x % 3)) for x in range(9)]
    await asyncio.sleep(0.01)
    return tasks

sys.kept = [loop.run_until_complete(main()), waits(5), f(6), loop]
cycle = [waits(7)]
cycle.append(cycle)
if sys.argv[1] == "busy":
    threading.Thread(target=lambda: asyncio.run(f(1)), daemon=True).start()
    begun.wait()
elif sys.argv[1] == "waiting":
    def body():
        async def main():
            tasks = [asyncio.ensure_future(waits(x % 3)) for x in range(9)]
            await asyncio.sleep(0)
            begun.set()
            await asyncio.gather(*tasks)
        asyncio.run(main())
    threading.Thread(target=body, daemon=True).start()
    begun.wait()
print("ends")
"""


@pytest.mark.parametrize("others", ["none", "busy", "waiting"])
def test_a_program_ends_with_flows_under_way(others: str) -> None:
    done = run_program(END_EARLY, others, options=["-X", "faulthandler"])
    assert (done.stdout, done.returncode) == ("ends\n", 0), done.stderr
    assert "Fatal" not in done.stderr


# --- memory -----------------------------------------------------------------------

TOO_MANY = """
import asyncio, resource
from redlane import Cache

@Cache("memory://")
async def f(x):
    await free.wait()
    return x

async def main():
    global free
    free = asyncio.Event()
    tasks = [asyncio.ensure_future(f(x)) for x in range(1000)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    free.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    right = sum(result == x for x, result in enumerate(results))
    short = sum(isinstance(result, MemoryError) for result in results)
    assert right and short and right + short == 1000, (right, short)
    assert await asyncio.gather(*(f(x) for x in range(2000, 2050)))
    print("well")

hard = resource.getrlimit(resource.RLIMIT_AS)[1]
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, hard))
asyncio.run(main())
"""


@pytest.mark.skipif(
    "REDLANE_SANITIZED" in os.environ, reason="a sanitizer needs its address space"
)
def test_no_room_for_a_stack_is_a_memory_error() -> None:
    """For the call that needs one; the others go on, and it can be called again."""
    done = run_program(TOO_MANY)
    assert (done.stdout, done.returncode) == ("well\n", 0), done.stderr


def test_thousands_at_once(run: Runner) -> None:
    cache = Cache("memory://")

    @cache
    async def f(x: int) -> int:
        await asyncio.sleep(0.01)
        return x

    async def main() -> None:
        assert await asyncio.gather(*(f(x) for x in range(3000))) == list(range(3000))

    run(main())
    stacks = 0
    with open("/proc/self/maps") as maps:
        for line in maps:
            low, high = (int(edge, 16) for edge in line.split()[0].split("-"))
            stacks += 7 << 20 < high - low < 8 << 20
    assert stacks < 200  # others' may be as large, but there are few
