"""AsyncPubSub does what PubSub does, for event loops: on a server and on the engine."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import warnings
from typing import Any

import pytest
import redlane
from aio import KINDS, Runner, until
from outage_tools import Switch, messages, wait_until
from redlane import AsyncClient, AsyncListener, AsyncPubSub, Client, Gap, PubSub
from servers import Server

LIMIT = 60.0


@pytest.fixture(params=KINDS)
def run(request: pytest.FixtureRequest) -> Runner:
    """On each kind of loop."""
    return Runner(request.param)


class Seen:
    """A handler that is a coroutine function, and what it was called with."""

    def __init__(self) -> None:
        self.all: list[tuple[str, Any]] = []
        self.news = asyncio.Event()

    async def __call__(self, channel: str, message: Any) -> None:
        await asyncio.sleep(0)  # the next message waits for this one
        self.all.append((channel, message))
        self.news.set()

    async def until(self, count: int) -> list[tuple[str, Any]]:
        async def wait() -> None:
            while len(self.all) < count:
                self.news.clear()
                await self.news.wait()

        await asyncio.wait_for(wait(), LIMIT)
        return self.all


async def publish_until(events: AsyncPubSub, number: int, heard: bool) -> None:
    """A server is told of a subscription, and of its end, when it gets to it."""
    end = asyncio.get_running_loop().time() + LIMIT
    while bool(await events.publish("a", number)) != heard:
        assert asyncio.get_running_loop().time() < end, f"heard={heard} never came"
        await asyncio.sleep(0.001)


def test_json_comes_as_it_went(client: Client[bytes], run: Runner) -> None:
    values = [{"id": 5, "tags": ["a", None]}, "text", 1.5, [], True, None, "ü"]

    async def main() -> None:
        seen, events = Seen(), AsyncPubSub(client)
        async with await events.start("a", seen, patterns="b*") as listener:
            assert listener.running
            for value in values:
                assert await events.publish("a", value) == 1
            assert await events.publish(b"b1", b"no json {") == 1
            found = await seen.until(len(values) + 1)
        assert found == [*(("a", value) for value in values), ("b1", "no json {")]
        assert not listener.running
        assert listener.subscription.closed
        await publish_until(events, 1, heard=False)

    run(main())


def test_a_plain_function_may_handle_and_raise(
    client: Client[bytes], run: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        found: list[Any] = []
        done = asyncio.Event()

        def handle(channel: str, message: Any) -> None:
            found.append(message)
            if message == 2:
                done.set()
            raise ValueError(f"message {message}")

        events = AsyncPubSub(client.aio)
        listener = await events.start("a", handle)
        await events.publish("a", 1)
        await events.publish("a", 2)
        await asyncio.wait_for(done.wait(), LIMIT)
        assert await listener.stop()
        assert found == [1, 2]

    run(main())
    assert len(messages(caplog.records, "a handler of messages")) == 2


def test_a_handler_may_stop_its_listener(client: Client[bytes], run: Runner) -> None:
    async def main() -> None:
        found: list[Any] = []
        events = AsyncPubSub(client)

        async def handle(channel: str, message: Any) -> None:
            found.append(message)
            assert not await listener.stop()  # it is at work still

        listener = await events.start("a", handle)
        for number in range(3):
            await events.publish("a", number)
        await until(lambda: not listener.running, "the end of the listener")
        assert found == [0]

    run(main())


def test_a_dropped_listener_goes_on(client: Client[bytes], run: Runner) -> None:
    """An event loop keeps only weak references to its tasks."""

    async def main() -> None:
        seen, events = Seen(), AsyncPubSub(client)
        await events.start("a", seen)
        for number in range(3):
            gc.collect()
            await events.publish("a", number)
            assert len(await seen.until(number + 1)) == number + 1

    run(main())


def test_subscribe_ends_with_its_task(client: Client[bytes], run: Runner) -> None:
    async def main() -> None:
        seen, events = Seen(), AsyncPubSub(client)
        task = asyncio.create_task(events.subscribe(["a"], seen))
        await publish_until(events, 1, heard=True)
        await seen.until(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await publish_until(events, 2, heard=False)

    run(main())


def test_it_ends_with_the_client(redis_server: Server, run: Runner) -> None:
    async def main() -> None:
        client = AsyncClient(redis_server.patient_url)
        events, seen = AsyncPubSub(client), Seen()
        listener = await events.start("a", seen)
        task = asyncio.create_task(events.subscribe("a", seen))
        both = asyncio.get_running_loop().time() + LIMIT
        while len(seen.all) < 2:
            assert asyncio.get_running_loop().time() < both, "a message for each"
            assert await events.publish("a", 1) == 1
            await asyncio.sleep(0.001)
        await client.close()
        await asyncio.wait_for(task, LIMIT)
        await until(lambda: not listener.running, "the end of the listener")

    run(main())


def test_what_no_json_can_say(client: Client[bytes], run: Runner) -> None:
    async def main() -> None:
        with pytest.raises(redlane.SerializationError):
            await AsyncPubSub(client).publish("a", object())

    run(main())


def test_refusals(
    fresh_server: Server, run: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    fresh_server.cli("ACL", "SETUSER", "u", "on", ">pw", "+@all", "~*", "&a")
    url = f"redis://u:pw@127.0.0.1:{fresh_server.port}/0"

    async def main() -> None:
        events = AsyncPubSub(Client(url, timeout=30))
        with pytest.raises(redlane.PermissionDeniedError):
            await events.start("secret", print)
        with pytest.raises(redlane.PermissionDeniedError):
            await events.subscribe(["a", "secret"], print)
        listener = await events.start("a", print, on_gap=lambda gap: None)
        fresh_server.cli("ACL", "SETUSER", "u", "resetchannels")
        await until(lambda: not listener.running, "the end of the listener")

    with caplog.at_level(logging.ERROR, "redlane"):
        run(main())
    assert messages(caplog.records, "NOPERM")


def test_during_an_outage(switch: Switch, run: Runner) -> None:
    """What is published reaches this process, and a gap is told at the return."""

    async def main() -> None:
        client = AsyncClient(switch.url, timeout=5)
        gaps: list[Gap] = []
        seen, events = Seen(), AsyncPubSub(client)
        listener = await events.start("c", seen, on_gap=gaps.append)
        await events.publish("c", "before")
        await seen.until(1)
        await asyncio.to_thread(switch.off, client.sync)
        assert await events.publish("c", "during") == 1
        await seen.until(2)
        await asyncio.to_thread(switch.on, client.sync)
        # It may be told of its loss later than the client of the server's return.
        await until(lambda: gaps and listener.subscription.live, repr(listener))
        await events.publish("c", "after")
        assert [message for _, message in await seen.until(3)] == [
            "before",
            "during",
            "after",
        ]
        assert len(gaps) == 1
        await listener.stop()
        await client.close()

    run(main())


def test_of_what_it_is_made(redis_server: Server, run: Runner) -> None:
    async def main() -> None:
        seen, events = Seen(), AsyncPubSub(redis_server.patient_url)
        async with await events.start("a", seen) as listener:
            assert await events.publish("a", 1) == 1
            await seen.until(1)
            assert isinstance(listener, AsyncListener)
            assert repr(listener).endswith("running>")
        assert repr(events) == f"{events.sync!r}.aio"
        redlane.configure("memory://")
        default = AsyncPubSub()
        assert default.client.url == "memory://"
        assert await default.publish("a", 1) == 0
        redlane.close_default_client()
        with pytest.raises(TypeError, match="expected a Client"):
            AsyncPubSub(5)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="callable"):
            await default.start("a", None)  # type: ignore[arg-type]
        await events.client.close()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(main())


def test_the_twins(client: Client[Any]) -> None:
    tool = PubSub(client)
    assert tool.aio.sync is tool
    assert tool.aio.client is client.aio
    assert AsyncPubSub(client.aio).client is client.aio
    assert PubSub(client.aio).client is client
    assert repr(tool.aio) == f"{tool!r}.aio"
    for name in ("publish", "subscribe", "start"):
        assert inspect.iscoroutinefunction(getattr(tool.aio, name))


def test_the_class_acts_on_the_default_client(
    executor: str, redis_server: Server, run: Runner
) -> None:
    redlane.configure("memory://" if executor == "engine" else redis_server.patient_url)

    async def main() -> None:
        seen = Seen()
        listener = await AsyncPubSub.start("events", seen)
        assert await AsyncPubSub.publish("events", 1) == 1
        assert await redlane.pubsub.aio.publish("events", 2) == 1
        assert await seen.until(2) == [("events", 1), ("events", 2)]
        await redlane.aclose_default_client()
        assert not listener.running

    run(main())


def test_stop_waits_for_the_handler(client: Client[Any], run: Runner) -> None:
    async def main() -> None:
        begun, release = asyncio.Event(), asyncio.Event()

        async def handle(channel: str, message: Any) -> None:
            begun.set()
            await release.wait()

        events = AsyncPubSub(client)
        listener = await events.start("a", handle)
        await events.publish("a", 1)
        await asyncio.wait_for(begun.wait(), LIMIT)
        assert await listener.stop(timeout=0) is False
        release.set()
        assert await listener.stop(timeout=LIMIT) is True

    run(main())


def test_a_closed_client_refuses(client: Client[Any], run: Runner) -> None:
    async def main() -> None:
        events = AsyncPubSub(client)
        with pytest.raises(ValueError, match="channel"):
            await events.start([], print)
        await events.client.close()
        with pytest.raises(redlane.ConnectionError, match="closed"):
            await events.publish("c", 1)
        with pytest.raises(redlane.ConnectionError, match="closed"):
            await events.subscribe("c", print)

    run(main())


def test_listen_gives_messages_as_they_are(client: Client[Any], run: Runner) -> None:
    async def main() -> None:
        found: asyncio.Queue[Any] = asyncio.Queue()
        async with await client.aio.listen("a", found.put, patterns="p*") as listener:
            assert isinstance(listener, AsyncListener)
            await client.aio.publish("a", b"\xff")
            await client.aio.publish("p1", "text")
            first = await asyncio.wait_for(found.get(), LIMIT)
            second = await asyncio.wait_for(found.get(), LIMIT)
        assert (first, first.channel, first.pattern) == (b"\xff", b"a", None)
        assert (second, second.channel, second.pattern) == (b"text", b"p1", b"p*")
        with pytest.raises(TypeError, match="callable"):
            await client.aio.listen("a", None)  # type: ignore[arg-type]

    run(main())


def test_a_gap_may_be_told_to_a_coroutine_function(
    client: Client[Any], run: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    """It has ended before the message after the gap comes."""
    told: list[Any] = []

    async def tell(gap: Gap) -> None:
        await asyncio.sleep(0.01)
        told.append(gap.dropped)
        if len(told) == 2:
            raise ValueError("of its own")

    async def main() -> None:
        async with client.subscribe("a", on_gap=tell, max_messages=1) as subscription:
            for count in range(1, 4):
                client.publish("a", 1)
                client.publish("a", 2)
                while subscription.dropped < count or not subscription.waiting:
                    await asyncio.sleep(0.001)
                assert await anext(subscription) == b"2"
                assert told == [1] * count

    run(main())
    assert len(messages(caplog.records, "on_gap raised ValueError")) == 1


def test_who_is_cancelled_while_a_gap_is_told_loses_nothing(
    client: Client[Any], run: Runner
) -> None:
    async def main() -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()
        coped: list[str] = []

        async def tell(gap: Gap) -> None:
            begun.set()
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                if coped:
                    raise
                coped.append("once")

        async with client.subscribe("a", on_gap=tell, max_messages=1) as subscription:
            for count in (1, 2):
                client.publish("a", 1)
                client.publish("a", 2)
                while subscription.dropped < count or not subscription.waiting:
                    await asyncio.sleep(0.001)
                begun.clear()
                task = asyncio.ensure_future(anext(subscription))
                await asyncio.wait_for(begun.wait(), LIMIT)
                task.cancel()
                if count == 1:  # the function swallows it
                    assert await task == b"2"
                else:
                    with pytest.raises(asyncio.CancelledError):
                        await task
                    assert await anext(subscription) == b"2"

    run(main())


def test_threads_await_nothing(client: Client[Any]) -> None:
    async def later(*_: Any) -> None:
        raise AssertionError("nobody can await this")

    class Later:
        async def __call__(self, *_: Any) -> None:
            await later()

    events = PubSub(client)
    for handler in (later, Later()):
        with pytest.raises(TypeError, match="handler is a coroutine function"):
            events.start("a", handler)
        with pytest.raises(TypeError, match="on_gap is a coroutine function"):
            events.subscribe("a", print, on_gap=handler)
        with pytest.raises(TypeError, match="handler is a coroutine function"):
            client.listen("a", handler)
    with client.subscribe("a", on_gap=later, max_messages=1) as subscription:
        client.publish("a", 1)
        client.publish("a", 2)
        wait_until(
            lambda: subscription.dropped and subscription.waiting, "the second message"
        )
        with pytest.raises(TypeError, match="only a task can await"):
            subscription.get(timeout=LIMIT)
        assert subscription.get(timeout=LIMIT) == b"2"


def test_health_tells_of_subscriptions(client: Client[Any], run: Runner) -> None:
    assert client.health()["pubsub"] is None
    with (
        client.subscribe("a", "b", patterns="p*", max_messages=1) as first,
        client.subscribe("b", policy="wait") as second,
    ):
        assert client.publish("b", "one") >= 1
        assert client.publish("b", "two") >= 1
        wait_until(lambda: first.dropped and second.waiting == 2, "the messages")
        assert client.health()["pubsub"] == {
            "connected": True,
            "subscriptions": 2,
            "channels": 3,  # those of a connection of its own count again
            "patterns": 1,
            "queued": 3,
            "queued_bytes": run(client.aio.health())["pubsub"]["queued_bytes"],
            "dropped": 1,
            "gaps": first.gaps,
        }
    assert client.health()["pubsub"]["subscriptions"] == 0
