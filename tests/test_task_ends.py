"""The tasks that work for a client behind end when it is closed, and with their loop:
without a word, and without an exception that nobody retrieved."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redlane
from aio import KINDS, Runner, until
from fresh_tools import grow_old, locks
from outage_tools import BOUND
from redlane import AsyncClient, AsyncPubSub, Cache, Client
from servers import PATIENT, Server

Close = Callable[[AsyncClient[Any]], Awaitable[None]]


class Work:
    """A coroutine function that takes for ever after its first call, and what became
    of it."""

    def __init__(self) -> None:
        self.calls = 0
        self.ended = 0

    async def __call__(self, x: int) -> int:
        self.calls += 1
        if self.calls > 1:
            try:
                await asyncio.Event().wait()
            finally:
                self.ended += 1
        return x


async def refresh_behind(client: AsyncClient[Any]) -> Work:
    work = Work()
    f = Cache(client.sync, near=False)(ttl=60, stale=600, name="f")(work)
    assert await f(1) == 1
    await asyncio.to_thread(grow_old, client.sync, f.cache_key(1), 100)
    assert await f(1) == 1
    await until(lambda: work.calls == 2, "the refresh")
    return work


async def outlast(client: AsyncClient[Any]) -> Work:
    work = Work()
    f = Cache(client.sync)(hard_timeout=0.2, name="g")(work)
    work.calls = 1
    while work.calls == 1:  # a busy machine may take longer to begin
        with pytest.raises(redlane.TimeoutError):
            await f(1)
    return work


async def aclose(client: AsyncClient[Any]) -> None:
    await client.close()


async def leave(client: AsyncClient[Any]) -> None:
    async with client:
        pass


async def aclose_default(client: AsyncClient[Any]) -> None:
    redlane.configure(client.sync)
    await redlane.aclose_default_client()


CLOSES = [aclose, leave, aclose_default]


@pytest.mark.parametrize("close", CLOSES)
@pytest.mark.parametrize("begin", [refresh_behind, outlast])
def test_they_have_ended_when_close_returns(
    redis_server: Server, run: Runner, begin: Any, close: Close
) -> None:
    async def main() -> None:
        before = asyncio.all_tasks()
        client = AsyncClient(redis_server.url, **PATIENT)
        work = await begin(client)
        await asyncio.wait_for(close(client), BOUND)
        assert work.ended == work.calls - 1
        assert asyncio.all_tasks() == before
        assert client.closed

    run(main())
    with Client(redis_server.url, **PATIENT) as other:  # nobody has to wait for them
        assert locks(other) == []
        assert not [k for k in other.scan_iter() if b"\xffRLL" in (other.get(k) or b"")]


@pytest.mark.parametrize("begin", [refresh_behind, outlast])
@pytest.mark.parametrize("default", [False, True])
def test_a_blocking_close_ends_them_too(
    redis_server: Server, run: Runner, begin: Any, default: bool
) -> None:
    async def main() -> None:
        client = AsyncClient(redis_server.url, **PATIENT)
        work = await begin(client)
        if default:
            redlane.configure(client.sync)
            redlane.close_default_client()
        else:
            await asyncio.to_thread(client.sync.close)  # from another thread
        await until(lambda: work.ended == work.calls - 1, "the end")

    run(main())


def test_those_of_other_clients_go_on(redis_server: Server, run: Runner) -> None:
    async def main() -> None:
        client = AsyncClient(redis_server.url, **PATIENT)
        work = await refresh_behind(client)
        async with AsyncClient(redis_server.url, **PATIENT) as other:
            await other.ping()
        await asyncio.sleep(0)
        assert not work.ended
        await client.close()
        assert work.ended == 1

    run(main())


def test_a_caller_gets_what_it_waits_for(redis_server: Server, run: Runner) -> None:
    """Closing the client cancels nobody who still waits."""

    async def main() -> None:
        client = AsyncClient(redis_server.url, **PATIENT)
        begun, go_on = asyncio.Event(), asyncio.Event()

        @Cache(client.sync)(hard_timeout=BOUND)
        async def f() -> int:
            begun.set()
            await go_on.wait()
            return 5

        waiting = asyncio.create_task(f())
        await begun.wait()
        await client.close()
        go_on.set()
        assert await waiting == 5

    run(main())


def test_a_refresh_may_close_its_client(redis_server: Server, run: Runner) -> None:
    async def main() -> None:
        client = AsyncClient(redis_server.url, **PATIENT)
        done = asyncio.Event()
        calls = []

        @Cache(client.sync, near=False)(ttl=60, stale=600)
        async def f() -> int:
            calls.append(1)
            if len(calls) > 1:
                await client.close()
                done.set()
            return 5

        await f()
        await asyncio.to_thread(grow_old, client.sync, f.cache_key(), 100)
        await f()
        await asyncio.wait_for(done.wait(), BOUND)

    run(main())


def test_listeners_have_ended_when_close_returns(
    redis_server: Server, run: Runner
) -> None:
    async def main() -> None:
        before = asyncio.all_tasks()
        client = AsyncClient(redis_server.url, **PATIENT)
        listener = await AsyncPubSub(client).start("a", print)
        other = await client.listen("b", print)
        await client.close()
        assert not listener.running
        assert not other.running
        assert asyncio.all_tasks() == before

    run(main())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("begin", [refresh_behind, outlast])
def test_a_loop_that_is_closed_takes_them_along(
    redis_server: Server, kind: str, begin: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Also without a client that is closed, or tasks that are cancelled."""
    client = AsyncClient(redis_server.url, **PATIENT)
    loop = KINDS[kind]()
    complaints: list[Any] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    work = loop.run_until_complete(begin(client))
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    del loop
    gc.collect()
    asyncio.run(client.ping())
    client.sync.close()
    gc.collect()
    assert not complaints
    assert not [r for r in caplog.records if "pending" in r.getMessage()]
    assert work.calls == 2


def test_the_default_client_s_twin(redis_server: Server, run: Runner) -> None:
    async def main() -> None:
        await redlane.aclose_default_client()  # there is none
        client = redlane.configure(redis_server.url, **PATIENT)
        await client.aio.set("k", 1)
        await redlane.aclose_default_client()
        assert client.closed
        redlane.configure("memory://")
        assert redlane.default_client() is not client
        await redlane.aclose_default_client()

    run(main())
