"""Subscription, its messages and gaps: made, read by threads and tasks, dropped in
every state, and misused."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import pickle
from collections.abc import Iterator

import redlane._core as core
from measure import Once, main
from redlane import (
    AsyncPubSub,
    BytesMessage,
    Client,
    Gap,
    Message,
    PubSub,
    SerializationError,
    Subscription,
)


def cases(url: str) -> Iterator[tuple[str, Once]]:
    client = Client(url, timeout=30)
    text = Client(url, timeout=30, decode_responses=True)
    kept = client.subscribe("kept", patterns=["k*"], max_messages=4)
    words = text.subscribe("words")
    silent = client.subscribe("silent", on_gap=lambda gap: None, max_messages=1)
    for subscription in (kept, words, silent):
        assert subscription.wait()
    loop = asyncio.new_event_loop()
    tool = PubSub(client)

    yield "made and dropped", lambda: client.subscribe("kept", "more", patterns="p*")
    yield "made, closed, read", lambda: list(closed(client))
    yield "refused", lambda: misuse(client)
    yield "in a cycle", lambda: cycle(client)
    yield "messages", lambda: echo(client, kept, 2)
    yield "messages as text", lambda: echo(text, words, 1)
    yield "dropped messages", lambda: flood(client, silent)
    yield "by hand", lambda: by_hand()
    yield "tasks", lambda: loop.run_until_complete(tasks(client))
    yield (
        "what is awaited and given up",
        lambda: loop.run_until_complete(given_up(kept)),
    )
    yield "handlers", lambda: loop.run_until_complete(handled(tool.aio))
    yield "coroutines for gaps", lambda: loop.run_until_complete(told(client))
    yield "seen", lambda: (repr(kept), kept.live, kept.waiting, kept.channels)
    yield "JSON", lambda: (tool.publish("nobody", {"a": [1]}), read_json(client, kept))


def hidden(name: str) -> type:
    """One of the module's types that only calls give out."""
    return next(
        made
        for made in gc.get_objects()
        if isinstance(made, type) and repr(made) == f"<class 'redlane._core.{name}'>"
    )


def closed(client: Client[bytes]) -> Subscription[BytesMessage]:
    subscription = client.subscribe("kept")
    subscription.wait()
    client.publish("kept", "unread")
    subscription.close()
    return subscription


def misuse(client: Client[bytes]) -> None:
    for names, options in (
        ((), {}),
        ((5,), {}),
        (("a",), {"policy": "x"}),
        (("a",), {"on_gap": 1}),
        (("a", "\ud800"), {"patterns": [b"x", "y"]}),
    ):
        with contextlib.suppress(ValueError, TypeError):
            client.subscribe(*names, **options)  # type: ignore[arg-type]
            raise AssertionError("not refused")


def cycle(client: Client[bytes]) -> None:
    holder: dict[str, object] = {}
    holder["subscription"] = client.subscribe("kept", on_gap=holder.get)
    holder["self"] = holder
    del holder
    gc.collect(0)


def echo(client: Client, subscription: Subscription, times: int) -> None:
    client.publish(subscription.channels[0], "payload" * 10)
    for _ in range(times):
        message = subscription.get(timeout=60)
        assert message is not None
        assert message.data == message
        assert message.channel
        pickle.loads(pickle.dumps(message))
    while subscription.get(timeout=0) is not None:
        pass


def flood(client: Client[bytes], subscription: Subscription[BytesMessage]) -> None:
    for _ in range(3):
        client.publish("silent", "x")
    while subscription.get(timeout=0.001) is None:
        pass
    while subscription.get(timeout=0) is not None:
        pass


def by_hand() -> None:
    Message("data", "channel")
    BytesMessage(b"data", b"channel", b"pattern")
    for kind in (Message, BytesMessage):
        with contextlib.suppress(TypeError):
            kind(None, None)
    Gap(("reason", 1.0, 2))


async def tasks(client: Client[bytes]) -> None:
    async with client.subscribe("task") as subscription:
        waiting = asyncio.ensure_future(anext(subscription))
        await asyncio.sleep(0)
        client.publish("task", "x")
        assert await waiting == b"x"
        client.publish("task", "y")
        assert await anext(subscription) == b"y"


async def handled(tool: AsyncPubSub) -> None:
    arrived = asyncio.Event()

    async def handle(channel: str, message: object) -> None:
        assert (channel, message) == ("task", [1])
        arrived.set()

    async with await tool.start("task", handle):
        await tool.publish("task", [1])
        await arrived.wait()
    with contextlib.suppress(SerializationError):
        await tool.publish("task", object())
        raise AssertionError("no error")


async def told(client: Client[bytes]) -> None:
    async def tell(gap: Gap) -> None:
        await asyncio.sleep(0)
        raise ValueError(gap.reason)

    async with client.subscribe("gap", on_gap=tell, max_messages=1) as subscription:
        client.publish("gap", "x")
        client.publish("gap", "y")
        while not subscription.dropped:
            await asyncio.sleep(0)
        assert await anext(subscription) == b"y"


async def given_up(subscription: Subscription[BytesMessage]) -> None:
    anext(subscription)
    waiting = asyncio.ensure_future(anext(subscription))
    await asyncio.sleep(0)
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting


def read_json(client: Client[bytes], kept: Subscription[BytesMessage]) -> None:
    for payload in (b'{"a": 1}', b"no json", b"\xff"):
        client.publish("kept", payload)
        for _ in range(2):
            message = kept.get(timeout=60)
            assert message is not None
            core._read_message(message)


if __name__ == "__main__":
    main(
        [
            *(Subscription, Message, BytesMessage, Gap),
            *(hidden("LoopBell"), hidden("SubscriptionWait")),
        ],
        cases,
    )
