"""What cached coroutine functions return: awaitables that pass for coroutines, whether
their result is there already or has to be waited for."""

from __future__ import annotations

import asyncio
import collections.abc
import gc
import inspect
import sys
import traceback
import weakref
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from near_tools import near_hits, settle
from outage_tools import BOUND
from redlane import Cache, Client
from servers import PATIENT, Server


class Thing:
    """A value of which one can tell whether it is still there."""


class Refs:
    """Holds objects as they are: a near value that is handed out by reference."""

    def __init__(self) -> None:
        self.made: list[Any] = []

    def dumps(self, value: Any) -> bytes:
        self.made.append(value)
        return str(len(self.made) - 1).encode()

    def loads(self, data: bytes) -> Any:
        return self.made[int(data)]


Function = Callable[..., Awaitable[Any]]


@pytest.fixture
def near_client(redis_server: Server) -> Iterator[Client[Any]]:
    with Client(redis_server.url, **PATIENT) as made:
        yield made


def make_near(f: Any, *args: Any) -> None:
    """Calls until the result is a near hit."""

    async def warm() -> None:
        await f(*args)
        await asyncio.to_thread(settle, f.cache.client)
        end = asyncio.get_running_loop().time() + BOUND
        before = near_hits(f)
        while near_hits(f) == before:
            assert asyncio.get_running_loop().time() < end
            await f(*args)

    asyncio.run(warm())


@pytest.fixture
def near_function(near_client: Client[Any]) -> Any:
    """One whose result for 1 is near."""

    @Cache(near_client)
    async def f(x: int) -> str:
        return f"result {x}"

    make_near(f, 1)
    return f


@pytest.fixture
def waiting_function() -> Any:
    """One whose results have to be waited for, each time for 1."""

    @Cache("memory://")(unless=lambda x: x == 1)
    async def f(x: int) -> str:
        await asyncio.sleep(0)
        return f"result {x}"

    return f


@pytest.fixture(params=["near", "waiting"])
def function(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(f"{request.param}_function")


def test_a_near_hit_is_there_at_once(near_function: Any) -> None:
    before = near_hits(near_function)
    awaitable = near_function(1)
    assert near_hits(near_function) == before + 1
    with pytest.raises(StopIteration) as end:
        awaitable.send(None)
    assert end.value.value == "result 1"


def test_it_passes_for_a_coroutine(function: Any) -> None:
    awaitable = function(1)
    assert isinstance(awaitable, collections.abc.Coroutine)
    assert inspect.isawaitable(awaitable)
    assert asyncio.iscoroutine(awaitable)
    awaitable.close()


def test_everything_takes_it(function: Any) -> None:
    async def main() -> None:
        assert await function(1) == "result 1"
        assert await asyncio.create_task(function(1)) == "result 1"
        assert await asyncio.gather(function(1), function(1)) == ["result 1"] * 2
        assert await asyncio.wait_for(function(1), BOUND) == "result 1"
        assert await asyncio.shield(function(1)) == "result 1"
        assert await asyncio.ensure_future(function(1)) == "result 1"
        (first,) = [await done for done in asyncio.as_completed([function(1)])]
        assert first == "result 1"
        if sys.version_info >= (3, 11):
            async with asyncio.TaskGroup() as group:
                task = group.create_task(function(1))
            assert task.result() == "result 1"

    asyncio.run(main(), debug=True)
    assert asyncio.run(function(1)) == "result 1"
    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(function(1)) == "result 1"
    future = asyncio.run_coroutine_threadsafe(function(1), loop)
    loop.run_until_complete(asyncio.wrap_future(future, loop=loop))
    assert future.result() == "result 1"
    loop.close()


def test_it_is_awaited_once(function: Any) -> None:
    async def main() -> None:
        awaitable = function(1)
        assert await awaitable == "result 1"
        for _ in range(2):
            with pytest.raises(RuntimeError, match="already awaited"):
                await awaitable

    asyncio.run(main())


def test_one_that_is_not_awaited(near_function: Any, waiting_function: Any) -> None:
    near_function(1)  # was answered: nothing is lost
    gc.collect()  # warnings are errors
    with pytest.warns(RuntimeWarning, match=r"'.*f' was never awaited"):
        waiting_function(1)
    with pytest.warns(RuntimeWarning, match=r"'AsyncCache.set' was never awaited"):
        waiting_function.cache.aio.set("key", 1)
    waiting_function(1).close()
    gc.collect()


def test_by_hand(function: Any) -> None:
    awaitable = function(1)
    with pytest.raises(TypeError, match="just-started"):
        awaitable.send("something")
    awaitable.close()
    for thrown in (KeyError("mine"), KeyError):
        awaitable = function(1)
        with pytest.raises(KeyError):
            awaitable.throw(thrown)
        with pytest.raises(RuntimeError, match="already awaited"):
            awaitable.send(None)
    for nonsense in ((), (5,), (KeyError("mine"), "more"), (KeyError, None, "no")):
        awaitable = function(1)
        with pytest.raises(TypeError):
            awaitable.throw(*nonsense)
    awaitable = function(1)
    assert awaitable.close() is None
    assert awaitable.close() is None
    with pytest.raises(RuntimeError, match="already awaited"):
        awaitable.send(None)


def test_a_thrown_traceback_is_kept(function: Any) -> None:
    try:
        raise KeyError("mine")
    except KeyError as error:
        kept = error
    with pytest.raises(KeyError) as thrown:
        function(1).throw(KeyError, kept, kept.__traceback__)
    assert "test_a_thrown_traceback_is_kept" in {
        frame.name for frame in traceback.extract_tb(thrown.value.__traceback__)
    }


@pytest.mark.parametrize("value", [None, (1, 2), (), 5, "text", [1], {"a": 1}])
def test_any_value(near_client: Client[Any], value: Any) -> None:
    @Cache(near_client)
    async def f() -> Any:
        return value

    make_near(f)
    wanted = list(value) if isinstance(value, tuple) else value

    async def main() -> None:
        assert await f() == wanted
        assert await asyncio.create_task(f()) == wanted

    asyncio.run(main())
    iterator = f().__await__()
    with pytest.raises(StopIteration) as end:
        next(iterator)
    assert end.value.value == wanted


def test_exceptions_as_values(near_client: Client[Any]) -> None:
    """A result that is an exception, or a tuple, is a result."""
    cache = Cache(near_client, serializer=Refs())
    values = [StopIteration(1), KeyError("k"), (1, 2)]

    @cache(share=True)
    async def f(x: int) -> Any:
        return values[x]

    for i in range(len(values)):
        make_near(f, i)

        async def main(i: int = i) -> Any:
            return await f(i)

        assert asyncio.run(main()) is values[i]


def test_escaped_stops_keep_their_values(near_function: Any) -> None:
    ends = []
    for _ in range(3):
        try:
            next(near_function(1).__await__())
        except StopIteration as end:
            ends.append(end)
    assert [end.value for end in ends] == ["result 1"] * 3
    assert len({id(end) for end in ends}) == 3


def test_nothing_holds_a_result(near_client: Client[Any]) -> None:
    @Cache(near_client, serializer=Refs())(share=True)
    async def f(x: int) -> Any:
        return Thing()

    make_near(f, 1)
    value = asyncio.run(f(1))
    references = sys.getrefcount(value)
    for _ in range(5):
        assert asyncio.run(f(1)) is value
    assert sys.getrefcount(value) == references


def test_cycles_through_one_are_collected(near_client: Client[Any]) -> None:
    cache = Cache(near_client, serializer=Refs())

    @cache(share=True)
    async def f(x: int) -> Any:
        return [Thing()]

    make_near(f, 1)
    value = asyncio.run(f(1))
    awaitable = f(1)
    thing = weakref.ref(value[0])
    gone = Thing()
    seen = weakref.ref(gone)
    value += [awaitable, gone]
    assert gc.is_tracked(awaitable)
    del awaitable, gone
    value.clear()
    del value
    gc.collect()
    assert seen() is None
    assert thing() is None


def test_what_holds_no_others_is_not_tracked(near_function: Any) -> None:
    assert not gc.is_tracked(near_function(1))


def test_many_at_once(near_function: Any) -> None:
    """More than are kept for the next ones."""
    awaitables = [near_function(1) for _ in range(500)]

    async def main() -> list[Any]:
        return [await awaitable for awaitable in awaitables]

    assert asyncio.run(main()) == ["result 1"] * 500


def test_a_trace_function_sees_no_difference(near_function: Any) -> None:
    seen = []

    def trace(frame: Any, event: str, _: Any) -> Any:
        seen.append(event)
        return trace

    async def main() -> list[str]:
        return [await near_function(1) for _ in range(3)]

    old = sys.gettrace()
    sys.settrace(trace)
    try:
        values = asyncio.run(main())
    finally:
        sys.settrace(old)
    assert values == ["result 1"] * 3
    assert seen


def test_a_hit_in_an_exception_handler(near_function: Any) -> None:
    async def main() -> str:
        try:
            raise KeyError("outer")
        except KeyError:
            value: str = await near_function(1)
            with pytest.raises(ValueError, match="inner") as caught:
                raise ValueError("inner")  # noqa: B904
            assert isinstance(caught.value.__context__, KeyError)
            return value

    assert asyncio.run(main()) == "result 1"
