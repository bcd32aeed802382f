"""Subscriptions read by the tasks of an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sys
import threading
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redlane
from aio import KINDS, end
from outage_tools import Switch, wait_until
from redlane import AsyncClient, Client, Gap, Message
from servers import Server

LIMIT = 60.0


chosen = ["asyncio"]


@pytest.fixture(params=KINDS, autouse=True)
def kind(request: pytest.FixtureRequest) -> None:
    """Every test on each kind of loop."""
    chosen[0] = request.param


def run(main: Callable[[], Awaitable[Any]]) -> Any:
    async def limited() -> Any:
        return await asyncio.wait_for(main(), LIMIT)

    loop = KINDS[chosen[0]]()
    loop.set_debug(True)
    # It would log what a busy machine runs slowly, and the log's records keep the loop.
    loop.slow_callback_duration = 1e9
    try:
        return loop.run_until_complete(limited())
    finally:
        end(loop)


def test_async_for(client: Client[bytes]) -> None:
    async def main() -> None:
        found = []
        async with client.subscribe("a", patterns=["p*"]) as subscription:
            assert subscription.live
            for n in range(3):
                client.publish("a", n)
            client.publish("p1", "end")
            async for message in subscription:
                found.append(message)
                if message == b"end":
                    break
        assert found == [b"0", b"1", b"2", b"end"]
        assert found[3].pattern == b"p*"
        assert subscription.closed
        assert [message async for message in subscription] == []

    run(main)


def test_waiting_tasks_are_woken(client: Client[bytes]) -> None:
    """Many on one loop, each by its own messages."""

    async def read(subscription: Any) -> list[bytes]:
        return [bytes(message) async for message in subscription]

    async def main() -> None:
        loop = asyncio.get_running_loop()
        subscriptions = [client.subscribe("all", f"own{n}") for n in range(20)]
        for subscription in subscriptions:
            await subscription.__aenter__()
        tasks = [loop.create_task(read(subscription)) for subscription in subscriptions]
        for n in range(20):
            await asyncio.sleep(0)
            await loop.run_in_executor(None, client.publish, f"own{n}", "1")
        await loop.run_in_executor(None, client.publish, "all", "2")
        while any(subscription.waiting for subscription in subscriptions) or not all(
            task.done() for task in tasks
        ):
            await asyncio.sleep(0.01)
            if not any(subscription.waiting for subscription in subscriptions):
                counts = [len(task.result()) for task in tasks if task.done()]
                if len(counts) == len(tasks):
                    break
                await asyncio.sleep(0.1)
                for subscription in subscriptions:
                    await subscription.aclose()
        assert [await task for task in tasks] == [[b"1", b"2"]] * 20

    run(main)


def test_cancellation_loses_nothing(client: Client[bytes]) -> None:
    """A task may be cancelled at any moment, after it was woken too."""
    count = 300

    async def main() -> None:
        loop = asyncio.get_running_loop()
        found: list[int] = []
        async with client.subscribe("c") as subscription:

            def publish() -> None:
                for n in range(count):
                    client.publish("c", n)

            publishing = loop.run_in_executor(None, publish)
            turn = 0
            while len(found) < count:
                turn += 1
                task = loop.create_task(anext(subscription))
                for _ in range(turn % 4):
                    await asyncio.sleep(0)
                if turn % 5:
                    task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    found.append(int(await task))
            await publishing
        assert found == list(range(count))

    run(main)


def test_wait_for(client: Client[bytes]) -> None:
    async def main() -> None:
        async with client.subscribe("c") as subscription:
            for _ in range(3):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(anext(subscription), 0.01)
            client.publish("c", "x")
            assert await asyncio.wait_for(anext(subscription), LIMIT) == b"x"

    run(main)


def test_one_task_at_a_time(client: Client[bytes]) -> None:
    async def main() -> None:
        async with client.subscribe("c") as subscription:
            first = asyncio.ensure_future(anext(subscription))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="another"):
                await anext(subscription)
            with pytest.raises(RuntimeError, match="another"):
                subscription.get(timeout=0)
            client.publish("c", "x")
            assert await first == b"x"

    run(main)


def test_awaited_once(client: Client[bytes]) -> None:
    async def main() -> None:
        async with client.subscribe("c") as subscription:
            client.publish("c", "1")
            client.publish("c", "2")
            awaitable = anext(subscription)
            assert await awaitable == b"1"
            with pytest.raises(RuntimeError, match="already"):
                await awaitable
            assert await anext(subscription) == b"2"
            never = anext(subscription)
            del never
            closed = anext(subscription)
            closed.close()  # type: ignore[attr-defined]

    run(main)


def test_others_run_beside_a_flood(client: Client[bytes]) -> None:
    """A task that always finds a message lets the others run now and then."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        turns = 0

        async def count_turns() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async with client.subscribe("f", max_messages=10_000) as subscription:
            with client.pipeline() as pipe:
                for n in range(10_000):
                    pipe.publish("f", n)
                await loop.run_in_executor(None, pipe.execute)
            while subscription.waiting < 10_000:
                await asyncio.sleep(0.01)
            other = loop.create_task(count_turns())
            await asyncio.sleep(0)
            turns = 0
            for n in range(10_000):
                assert int(await anext(subscription)) == n
            assert turns >= 10_000 // 1000
            other.cancel()

    run(main)


def test_close_ends_waiting(client: Client[bytes]) -> None:
    async def main() -> None:
        async with client.subscribe("c") as subscription:
            waiting = asyncio.ensure_future(anext(subscription))
            await asyncio.sleep(0.01)
            subscription.close()
            with pytest.raises(StopAsyncIteration):
                await waiting
        async with client.subscribe("c") as subscription:
            threading.Timer(0.05, client.close).start()
            assert [message async for message in subscription] == []

    run(main)


def test_from_thread_to_task_and_back(client: Client[bytes]) -> None:
    subscription = client.subscribe("c")
    assert subscription.wait(LIMIT)

    async def main() -> bytes:
        client.publish("c", "2")
        message: bytes = await anext(subscription)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(subscription), 0.01)
        return message

    for _ in range(3):
        client.publish("c", "1")
        assert subscription.get(timeout=LIMIT) == b"1"
        assert run(main) == b"2"
    with pytest.raises(RuntimeError, match="running event loop"):
        anext(subscription).send(None)  # type: ignore[attr-defined]


def test_a_loop_a_request(client: Client[bytes]) -> None:
    """Loops that come and go leave nothing behind, and nothing keeps one alive."""
    loops = []

    async def main() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        async with client.subscribe("c") as subscription:
            client.publish("c", "x")
            assert await anext(subscription) == b"x"
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(anext(subscription), 0.001)

    run(main)
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(30):
        run(main)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    assert [loop for loop in loops if loop() is not None] == []


def test_many_loops_at_once(client: Client[bytes]) -> None:
    found: list[bytes] = []

    async def main() -> None:
        async with client.subscribe("c") as subscription:
            found.append(b"ready")
            found.append(bytes(await anext(subscription)))

    threads = [threading.Thread(target=run, args=(main,)) for _ in range(5)]
    for thread in threads:
        thread.start()
    wait_until(lambda: found.count(b"ready") == 5, "the loops")
    client.publish("c", "x")
    for thread in threads:
        thread.join(LIMIT)
    assert found.count(b"x") == 5


def test_gaps_are_told_to_a_task(fresh_server: Server) -> None:
    client = Client(fresh_server.url, timeout=30, connect_timeout=30)
    gaps: list[Gap] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with client.subscribe("c", on_gap=gaps.append) as subscription:
            waiting = asyncio.ensure_future(anext(subscription))
            await loop.run_in_executor(
                None, fresh_server.cli, "CLIENT", "KILL", "TYPE", "pubsub"
            )
            while not gaps:
                await asyncio.sleep(0.01)
            assert subscription.live
            await loop.run_in_executor(None, client.publish, "c", "x")
            assert await waiting == b"x"

    run(main)
    assert len(gaps) == 1
    assert gaps[0].dropped == 0
    assert gaps[0].seconds > 0


def test_refusals_are_raised(fresh_server: Server) -> None:
    fresh_server.cli("ACL", "SETUSER", "u", "on", ">pw", "+@all", "~*", "&allowed")
    client = Client(f"redis://u:pw@127.0.0.1:{fresh_server.port}/0", timeout=30)

    async def main() -> None:
        async with client.subscribe("allowed"):
            pass
        with pytest.raises(redlane.PermissionDeniedError):
            async with client.subscribe("forbidden"):
                raise AssertionError("not refused")
        with pytest.raises(redlane.PermissionDeniedError):
            await anext(client.subscribe("allowed", "forbidden"))

    run(main)


def test_the_asynchronous_client(
    executor: str, redis_server: Server, request: pytest.FixtureRequest
) -> None:
    """Its subscriptions, its publications, and those of its twin."""
    url = "memory://" if executor == "engine" else redis_server.patient_url

    async def main() -> None:
        async with AsyncClient(url, decode_responses=True) as client:
            async with client.subscribe("a", patterns=["b*"]) as subscription:
                assert await client.publish("a", "1") == 1
                await asyncio.to_thread(client.sync.publish, "b2", "2")
                found = [await anext(subscription), await anext(subscription)]
                assert found == ["1", "2"]
                assert type(found[0]) is Message
                assert found[1].pattern == "b*"
                async with client.pipeline() as pipe:
                    pipe.publish("a", "3")
                    assert await pipe.execute() == [1]
                assert await anext(subscription) == "3"
            closed = client.subscribe("a")
        assert [message async for message in closed] == []
        with pytest.raises(redlane.ConnectionError):
            client.subscribe("a")

    run(main)


def test_local_delivery_to_and_from_tasks(switch: Switch) -> None:
    """During an outage, as for threads."""

    async def main() -> None:
        client = AsyncClient(switch.url, fallback="memory", timeout=5)
        async with client.subscribe("c", on_gap=lambda gap: None) as subscription:
            await client.publish("c", "before")
            assert await anext(subscription) == b"before"
            await asyncio.to_thread(switch.off, client.sync)
            assert await client.publish("c", "during") == 1
            assert await anext(subscription) == b"during"
            await asyncio.to_thread(switch.on, client.sync)
            while not subscription.live:
                await asyncio.sleep(0.01)
            await client.publish("c", "after")
            assert await anext(subscription) == b"after"
        await client.close()

    run(main)


@pytest.mark.skipif(
    sys.version_info < (3, 11), reason="Python 3.10 cannot tell whose it is"
)
def test_a_handler_that_awaits_a_cancelled_task_gets_the_next_message() -> None:
    """What is raised is no cancellation of the listener, which would end unheard."""

    async def main() -> list[str]:
        seen: list[str] = []

        async def handle(message: Message) -> None:
            seen.append(message)
            other = asyncio.create_task(asyncio.sleep(LIMIT))
            other.cancel()
            await other

        async with AsyncClient("memory://", decode_responses=True) as client:
            async with await client.listen("c", handle) as listener:
                for number in range(3):
                    await client.publish("c", f"{number}")
                while len(seen) < 3 and listener.running:
                    await asyncio.sleep(0.005)
        return seen

    assert run(main) == ["0", "1", "2"]
