"""What a type checker must infer; it is checked, never run."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from typing import Any

from redlane import (
    AsyncListener,
    AsyncPubSub,
    BytesMessage,
    Client,
    Gap,
    Listener,
    Message,
    Pipeline,
    PubSub,
    aclose_default_client,
)

if sys.version_info >= (3, 11):
    from typing import assert_type
else:
    from typing_extensions import assert_type

client = Client("memory://")
text = Client("memory://", decode_responses=True)

assert_type(client, Client[bytes])
assert_type(text, Client[str])
assert_type(Client.from_env(decode_responses=True), Client[str])
assert_type(Client.from_env("memory://", fallback="memory"), Client[bytes])

assert_type(client.get("k"), bytes | None)
assert_type(text.get(b"k"), str | None)
assert_type(client.set("k", 1, ex=timedelta(seconds=1)), bool | None)
assert_type(client.set("k", 1.5, exat=datetime(2030, 1, 1), nx=True), bool | None)
assert_type(client.set("k", bytearray(b"v"), get=True), bytes | None)
assert_type(client.mget("a", "b"), list[bytes | None])
assert_type(client.mget(["a", "b"]), list[bytes | None])
assert_type(client.mset({"a": 1}), bool)
assert_type(client.hset("h", {"f": 1}), int)
assert_type(client.hset("h", "f", "v"), int)
assert_type(text.hgetall("h"), dict[str, str])
assert_type(text.smembers("s"), set[str])
assert_type(client.zadd("z", {"m": 1.0}), int)
assert_type(client.zadd("z", {"m": 1.0}, incr=True), float | None)
assert_type(client.zrange("z", 0, -1), list[bytes])
assert_type(client.zrange("z", 0, -1, withscores=True), list[tuple[bytes, float]])
assert_type(
    client.zrange("z", 0, -1, withscores=True, score_cast_func=int),
    list[tuple[bytes, int]],
)
assert_type(client.zscore("z", "m"), float | None)
assert_type(text.scan(), tuple[int, list[str]])
assert_type(next(text.scan_iter()), str)
assert_type(client.execute("PING"), Any)
assert_type(client.health(), dict[str, Any])
assert_type(text.pipeline(), Pipeline[str])
assert_type(text.pipeline().get("k").set("k", "v"), Pipeline[str])
assert_type(text.pipeline().execute(), list[Any])

with Client("memory://") as opened:
    assert_type(opened, Client[bytes])

client.get(None)  # type: ignore[arg-type]
client.set("k", None)  # type: ignore[call-overload]
client.nope()  # type: ignore[attr-defined]
Client("memory://", fallback="nope")  # type: ignore[call-overload]

with client.subscribe("a", b"b", patterns="c*") as subscription:
    assert_type(next(subscription), BytesMessage)
    assert_type(subscription.get(timeout=1), BytesMessage | None)
    for message in subscription:
        assert_type(message.channel, bytes)
        assert_type(message.pattern, bytes | None)
for words in text.subscribe("a", policy="wait", on_gap=print):
    assert_type(words, Message)
    assert_type(words.channel, str)


async def read() -> None:
    async with text.subscribe("a") as entered:
        async for message in entered:
            assert_type(message, Message)


def heard(message: Message) -> None: ...
def handle(channel: str, message: Any) -> None: ...
def note(gap: Gap) -> None:
    assert_type(gap.seconds, float)


assert_type(text.listen(["a"], heard, patterns=["b"], on_gap=note), Listener)
assert_type(PubSub.publish("a", {"b": 1}), int)
assert_type(PubSub(client).publish("a", {"b": 1}), int)
assert_type(PubSub.start("a", handle, on_gap=note), Listener)


async def tell(gap: Gap) -> None: ...


async def publish() -> None:
    assert_type(await AsyncPubSub.publish("a", {"b": 1}), int)
    assert_type(await PubSub(client).aio.start("a", handle), AsyncListener)
    assert_type(await AsyncPubSub.start("a", handle, on_gap=tell), AsyncListener)
    assert_type(await client.aio.listen("a", heard_bytes), AsyncListener)
    assert_type(await aclose_default_client(), None)


def heard_bytes(message: BytesMessage) -> None: ...
