"""Publish and subscribe: what comes, in what form, and where it ends; on a real server
and on the engine."""

from __future__ import annotations

import copy
import gc
import logging
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redlane
from conftest import make_client
from outage_tools import wait_until
from redlane import (
    BytesMessage,
    Client,
    Gap,
    Listener,
    Message,
    PubSub,
    RedisPubSub,
    Subscription,
    pubsub,
)
from servers import Server, patient

LIMIT = 60.0  # seconds that a test waits for a message


@pytest.fixture
def text_client(
    executor: str, redis_server: Server, request: pytest.FixtureRequest
) -> Iterator[Any]:
    made = make_client(executor, request, decode_responses=True)
    yield made
    made.close()


@pytest.fixture
def default(executor: str, redis_server: Server) -> Iterator[Client[Any]]:
    """The default client, on each executor in turn."""
    url = "memory://" if executor == "engine" else redis_server.patient_url
    yield redlane.configure(url)
    redlane.close_default_client()


def take(subscription: Subscription[Any], count: int) -> list[Any]:
    found = []
    for _ in range(count):
        message = subscription.get(timeout=LIMIT)
        assert message is not None, f"{len(found)} of {count} messages came"
        found.append(message)
    return found


# --- messages ---------------------------------------------------------------------


def test_messages_are_their_payload(client: Client[bytes]) -> None:
    with client.subscribe("news", "other", patterns=["n*"]) as subscription:
        assert subscription.live
        assert client.publish("other", b"\x00\xff") == 1
        (message,) = take(subscription, 1)
    assert message == b"\x00\xff"
    assert isinstance(message, bytes)
    assert type(message) is BytesMessage
    assert (message.channel, message.pattern) == (b"other", None)
    assert type(message.data) is bytes
    assert message.data == message


def test_messages_are_text_where_the_client_decodes(text_client: Client[str]) -> None:
    with text_client.subscribe("ä", patterns="x.*") as subscription:
        text_client.publish("ä", "grün")
        text_client.publish("x.1", b"\xff")
        first, second = take(subscription, 2)
    assert first == "grün"
    assert isinstance(first, str)
    assert type(first) is Message
    assert (first.channel, first.pattern) == ("ä", None)
    assert type(first.data) is str
    assert first + "!" == "grün!"
    assert {first: 1}["grün"] == 1
    assert (second.channel, second.pattern) == ("x.1", "x.*")
    assert second.encode("utf-8", "surrogateescape") == b"\xff"


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 100, 70_000, 3_000_000])
def test_payloads_of_every_size(client: Client[bytes], size: int) -> None:
    payload = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    with client.subscribe("sizes") as subscription:
        client.publish("sizes", payload)
        (message,) = take(subscription, 1)
    assert message == payload
    assert message.channel == b"sizes"
    assert message.__sizeof__() >= size


@pytest.mark.parametrize(
    ("kind", "data"), [(Message, "text"), (BytesMessage, b"bytes")]
)
def test_messages_made_by_hand(kind: Any, data: Any) -> None:
    message = kind(data, "channel", pattern=b"pattern")
    assert message == data
    for twin in (
        pickle.loads(pickle.dumps(message)),
        copy.copy(message),
        copy.deepcopy(message),
    ):
        assert type(twin) is kind
        assert twin == data
        assert (twin.channel, twin.pattern) == ("channel", b"pattern")
    assert kind(data, b"c").pattern is None
    with pytest.raises(TypeError):
        kind(data)
    with pytest.raises(TypeError):
        kind(5, "channel")
    with pytest.raises(TypeError):
        kind(data, 5)
    with pytest.raises(TypeError):
        kind(data, "channel", 5)
    with pytest.raises(AttributeError):
        message.channel = "another"
    with pytest.raises(TypeError):
        kind.__base__.__new__(kind, data)


# --- what comes -------------------------------------------------------------------


def test_a_pattern_and_a_channel_bring_it_twice(client: Client[bytes]) -> None:
    """As on a server: once by each name that matches."""
    with client.subscribe("ab", patterns=["a*", "?b", "c"]) as subscription:
        client.publish("ab", "x")
        found = take(subscription, 3)
        assert subscription.get(timeout=0) is None
    assert {message.pattern for message in found} == {None, b"a*", b"?b"}
    assert {message.channel for message in found} == {b"ab"}


def test_a_name_given_twice_counts_once(client: Client[bytes]) -> None:
    with client.subscribe("a", "a", patterns=["a", "a"]) as subscription:
        client.publish("a", "x")
        take(subscription, 2)
        client.publish("a", "end")
        assert take(subscription, 2) == [b"end", b"end"]


@pytest.mark.parametrize("name", ["", "a b", "\r\n$3\r\nx", "*", "[", "\\*", "ü", "\0"])
def test_any_name_is_a_channel(client: Client[bytes], name: str) -> None:
    with client.subscribe(name, name + "2") as subscription:
        client.publish(name + "1", "no")
        client.publish(name, "x")
        client.publish(name + "2", "y")
        found = take(subscription, 2)
    assert [bytes(message) for message in found] == [b"x", b"y"]
    assert found[0].channel == name.encode()


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("h?llo", "hallo", "hllo"),
        ("h*llo", "heeeello", "hll"),
        ("h[ae]llo", "hello", "hillo"),
        ("h[^e]llo", "hallo", "hello"),
        ("\\*", "*", "a"),
        ("*", "a", ""),
        ("", "", "a"),
    ],
)
def test_patterns_are_globs(
    client: Client[bytes], pattern: str, matching: str, other: str | None
) -> None:
    with client.subscribe(patterns=[pattern]) as subscription:
        if other is not None:
            client.publish(other, "no")
        client.publish(matching, "yes")
        assert take(subscription, 1) == [b"yes"]


def test_subscriptions_share_what_they_want(client: Client[bytes]) -> None:
    """Of several subscriptions to a channel each gets all; one that ends takes nothing
    from the others."""
    subscriptions = [client.subscribe("shared", f"own{n}") for n in range(5)]
    for subscription in subscriptions:
        assert subscription.wait(LIMIT)
    client.publish("shared", "all")
    for n, subscription in enumerate(subscriptions):
        assert take(subscription, 1) == [b"all"]
        client.publish(f"own{n}", "one")
        assert take(subscription, 1) == [b"one"]
    for subscription in subscriptions[:4]:
        subscription.close()
    client.publish("own0", "nobody")
    client.publish("shared", "last")
    assert take(subscriptions[4], 1) == [b"last"]
    assert list(subscriptions[0]) == []


def test_come_and_go(client: Client[bytes]) -> None:
    """A channel that was left and is wanted again at once is heard again."""
    for n in range(50):
        with client.subscribe("again", patterns=["ag*"]) as subscription:
            assert subscription.live
            client.publish("again", str(n))
            assert take(subscription, 2) == [str(n).encode()] * 2


def test_order_is_kept(client: Client[bytes]) -> None:
    count = 5000
    with client.subscribe("order") as subscription:
        for begin in range(0, count, 500):
            with client.pipeline() as pipe:
                for n in range(begin, begin + 500):
                    pipe.publish("order", n)
                pipe.execute()
        assert [int(message) for message in take(subscription, count)] == list(
            range(count)
        )
        assert subscription.dropped == subscription.gaps == 0


def test_publish_in_a_transaction(client: Client[bytes]) -> None:
    with client.subscribe("t") as subscription:
        with client.pipeline(transaction=True) as pipe:
            pipe.set("key", "value")
            pipe.publish("t", "1")
            pipe.publish("nobody", "1")
            assert pipe.execute() == [True, 1, 0]
        assert take(subscription, 1) == [b"1"]


def test_engines_are_apart() -> None:
    """What is published on one memory:// client is not another's."""
    one, other = Client("memory://"), Client("memory://")
    with one.subscribe("c") as mine, other.subscribe("c") as theirs:
        assert one.publish("c", "x") == 1
        assert take(mine, 1) == [b"x"]
        assert theirs.get(timeout=0) is None


# --- life -------------------------------------------------------------------------


def test_iteration_ends_when_it_is_closed(client: Client[bytes]) -> None:
    subscription = client.subscribe("c")
    subscription.wait(LIMIT)
    client.publish("c", "1")
    wait_until(lambda: subscription.waiting == 1, "the message")
    closer = threading.Timer(0.1, subscription.close)
    closer.start()
    assert list(subscription) == [b"1"]  # what has come can still be read
    closer.join()
    assert subscription.closed
    assert not subscription.live
    assert subscription.get(timeout=LIMIT) is None
    subscription.close()


def test_iteration_ends_with_the_client(client: Client[bytes]) -> None:
    subscription = client.subscribe("c")
    with subscription, client.subscribe("c", policy="wait") as other:
        closer = threading.Timer(0.1, client.close)
        closer.start()
        assert list(subscription) == list(other) == []
        closer.join()
    with pytest.raises(redlane.ConnectionError, match="closed"):
        client.subscribe("c")


def test_a_dropped_subscription_unsubscribes(redis_server: Server) -> None:
    client = Client(redis_server.patient_url)
    subscription = client.subscribe("mine", patterns=["mine*"])
    assert subscription.wait(LIMIT)
    assert redis_server.cli("PUBSUB", "NUMSUB", "mine") == [b"mine", 1]
    del subscription
    gc.collect()
    wait_until(
        lambda: redis_server.cli("PUBSUB", "NUMSUB", "mine") == [b"mine", 0],
        "the unsubscription",
    )
    wait_until(lambda: redis_server.cli("PUBSUB", "NUMPAT") == 0, "the same")


def test_the_connection_goes_with_the_last_subscription(redis_server: Server) -> None:
    def subscribers() -> int:
        return redis_server.cli("CLIENT", "LIST").count(b"name=hub-test")

    client = Client(redis_server.patient_url, name="hub-test")
    client.ping()
    assert subscribers() == 1
    first, second = client.subscribe("a"), client.subscribe("b", patterns=["c"])
    assert first.wait(LIMIT)
    assert second.wait(LIMIT)
    assert subscribers() == 2  # one for all of them
    first.close()
    client.publish("b", "x")
    assert take(second, 1) == [b"x"]
    waiting = client.subscribe("a", policy="wait")
    assert waiting.wait(LIMIT)
    assert subscribers() == 3
    second.close()
    wait_until(lambda: subscribers() == 2, "the end of the shared one")
    waiting.close()
    wait_until(lambda: subscribers() == 1, "the end of its own")
    third = client.subscribe("a")
    assert third.wait(LIMIT)
    assert subscribers() == 2


def test_one_reader_at_a_time(client: Client[bytes]) -> None:
    subscription = client.subscribe("c")
    subscription.wait(LIMIT)
    begun = threading.Event()
    found: list[Any] = []

    def read() -> None:
        begun.set()
        found.append(subscription.get(timeout=LIMIT))

    reader = threading.Thread(target=read)
    reader.start()
    begun.wait(LIMIT)

    def is_refused() -> bool:
        if found:
            return True
        try:
            subscription.get(timeout=0)
        except RuntimeError as error:
            return "another thread" in str(error)
        return False

    wait_until(is_refused, "the other reader")
    client.publish("c", "x")
    reader.join(LIMIT)
    assert found == [b"x"]


def test_get_gives_up(client: Client[bytes]) -> None:
    with client.subscribe("c") as subscription:
        assert subscription.get(timeout=0) is None
        assert subscription.get(timeout=0.01) is None
        for bad in (-1, float("nan")):
            with pytest.raises(ValueError, match="timeout"):
                subscription.get(timeout=bad)
        with pytest.raises(TypeError):
            subscription.get(timeout="1")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (((), {}), ValueError),
        ((("a",), {"policy": "block"}), ValueError),
        ((("a",), {"policy": 5}), ValueError),
        ((("a",), {"max_messages": 0}), ValueError),
        ((("a",), {"max_bytes": 0}), ValueError),
        ((("a",), {"on_gap": 5}), TypeError),
        ((("a",), {"patterns": 5}), TypeError),
        (((5,), {}), TypeError),
        (((None,), {}), TypeError),
        ((("a\ud800",), {}), UnicodeEncodeError),
        ((("a",), {"other": 5}), TypeError),
    ],
)
def test_bad_arguments(client: Client[bytes], arguments: Any, error: Any) -> None:
    names, options = arguments
    with pytest.raises(error):
        client.subscribe(*names, **options)


def test_shown(client: Client[bytes]) -> None:
    with client.subscribe("a", patterns="b*") as subscription:
        assert repr(subscription) == "<redlane.Subscription ('a',) ('b*',) live>"
        assert subscription.channels == ("a",)
        assert subscription.patterns == ("b*",)
    assert repr(subscription).endswith("closed>")
    with pytest.raises(TypeError):
        Subscription()


# --- the queue: memory is bounded -------------------------------------------------


def test_the_oldest_are_dropped_and_counted(client: Client[bytes]) -> None:
    gaps: list[Gap] = []
    with client.subscribe("q", max_messages=10, on_gap=gaps.append) as subscription:
        for n in range(25):
            client.publish("q", n)
        wait_until(lambda: subscription.dropped == 15, "the drops")
        assert subscription.waiting == 10
        assert gaps == []  # it is told in its place: before what comes next
        assert [int(message) for message in take(subscription, 10)] == list(
            range(15, 25)
        )
        assert gaps == [Gap(("the queue was full", 0.0, 15))]
        client.publish("q", "on")
        assert take(subscription, 1) == [b"on"]
        assert subscription.gaps == len(gaps) == 1


def test_the_bound_is_in_bytes_too(client: Client[bytes]) -> None:
    with client.subscribe("q", max_bytes=10_000, on_gap=lambda gap: None) as waiting:
        for _ in range(100):
            client.publish("q", b"x" * 1000)
        client.publish("q", b"end")
        wait_until(lambda: waiting.dropped + waiting.waiting == 101, "all of them")
        found = []
        while (message := waiting.get(timeout=0)) is not None:
            found.append(message)
        assert 5 <= len(found) <= 10
        assert found[-1] == b"end"
        assert waiting.dropped == 101 - len(found)


def test_a_message_that_no_queue_holds(client: Client[bytes]) -> None:
    gaps: list[Gap] = []
    with client.subscribe("q", max_bytes=1000, on_gap=gaps.append) as subscription:
        client.publish("q", "before")
        client.publish("q", b"x" * 2000)
        client.publish("q", "after")
        assert take(subscription, 1) == [b"before"]
        assert gaps == []
        assert take(subscription, 1) == [b"after"]
        assert [gap.dropped for gap in gaps] == [1]
        assert subscription.dropped == 1


def test_a_queue_of_one(client: Client[bytes]) -> None:
    with client.subscribe("q", max_messages=1, on_gap=lambda gap: None) as one:
        for n in range(100):
            client.publish("q", n)
        wait_until(lambda: one.dropped == 99, "the drops")
        assert take(one, 1) == [b"99"]


def test_a_slow_reader_keeps_the_server_waiting(redis_server: Server) -> None:
    """Nothing is dropped here: what does not fit stays with the server. Others are not
    kept waiting."""
    client = Client(redis_server.patient_url)
    count = 20_000
    with (
        client.subscribe("w", policy="wait", max_messages=100) as slow,
        client.subscribe("w", max_messages=count) as other,
    ):
        with client.pipeline() as pipe:
            for n in range(count):
                pipe.publish("w", f"{n:0100}")
            pipe.execute()
        assert [int(message) for message in take(other, count)] == list(range(count))
        assert slow.waiting <= 101
        assert [int(message) for message in take(slow, count)] == list(range(count))
        assert slow.dropped == slow.gaps == 0


def test_who_publishes_here_waits_for_nobody() -> None:
    client = Client("memory://")
    with client.subscribe("w", policy="wait", max_messages=3) as slow:
        for n in range(10):
            client.publish("w", n)
        assert slow.waiting == 3
        assert slow.dropped == 7


# --- listen -----------------------------------------------------------------------


def test_listen_hands_out_messages(client: Client[bytes]) -> None:
    found: list[Any] = []
    listener = client.listen(["a", "b"], found.append, patterns="p*")
    assert isinstance(listener, Listener)
    assert listener.running
    for channel in ("a", "b", "p1"):
        client.publish(channel, channel)
    wait_until(lambda: len(found) == 3, "the messages")
    assert found == [b"a", b"b", b"p1"]
    assert "running" in repr(listener)
    assert listener.stop()
    assert not listener.running
    assert listener.subscription.closed
    wait_until(lambda: client.publish("a", "nobody") == 0, "the unsubscription")
    assert listener.stop()


def test_a_handler_may_raise(
    client: Client[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    found: list[bytes] = []

    def handle(message: bytes) -> None:
        found.append(message)
        raise ValueError("the handler's own")

    with client.listen("a", handle), caplog.at_level(logging.ERROR, "redlane"):
        client.publish("a", "canary-1")
        client.publish("a", "canary-2")
        wait_until(lambda: len(found) == 2, "the messages")
        wait_until(lambda: len(caplog.records) == 2, "the log")
    assert "the handler's own" in caplog.text
    assert "'a'" in caplog.text
    assert "canary" not in "".join(r.getMessage() for r in caplog.records)


def test_a_handler_may_stop_its_listener(client: Client[bytes]) -> None:
    found: list[bytes] = []
    listeners: list[Listener] = []

    def handle(message: bytes) -> None:
        found.append(message)
        listeners[0].stop()

    listeners.append(client.listen("a", handle))
    for n in range(3):
        client.publish("a", n)
    wait_until(lambda: not listeners[0].running, "the end")
    assert found == [b"0"]


def test_a_handler_may_close_its_client(client: Client[bytes]) -> None:
    listener = client.listen("a", lambda message: client.close())
    client.publish("a", "x")
    wait_until(lambda: not listener.running, "the end")


def test_listen_ends_with_the_client(client: Client[bytes]) -> None:
    listener = client.listen("a", print)
    client.close()
    wait_until(lambda: not listener.running, "the end")
    assert listener.stop()


def test_listen_refuses_what_is_no_function(client: Client[bytes]) -> None:
    with pytest.raises(TypeError, match="callable"):
        client.listen("a", 5)  # type: ignore[arg-type]


# --- PubSub -----------------------------------------------------------------------


class Heard:
    """A handler that remembers."""

    def __init__(self) -> None:
        self.all: list[tuple[str, Any]] = []

    def __call__(self, channel: str, message: Any) -> None:
        self.all.append((channel, message))

    def wait(self, count: int) -> list[tuple[str, Any]]:
        wait_until(lambda: len(self.all) >= count, f"{count} messages")
        return self.all


@pytest.mark.parametrize(
    "value",
    [{"x": 1, "ä": [None, True, 1.5]}, [], "text", "", 5, None, True, 1e300, [["a"]]],
)
def test_json_comes_as_it_went(client: Client[bytes], value: Any) -> None:
    heard = Heard()
    with PubSub(client).start("c", heard):
        assert PubSub(client).publish("c", value) == 1
        assert heard.wait(1) == [("c", value)]


def test_what_is_no_json_is_a_text(client: Client[bytes]) -> None:
    heard = Heard()
    tool = PubSub(client)
    with tool.start([b"c", "d"], heard, patterns=["p*"]):
        client.publish("c", "plain words")
        tool.publish("d", b"{not json")
        client.publish("p1", b"\xff\x00")
        tool.publish(b"c", bytearray(b"[1]"))
        assert heard.wait(4) == [
            ("c", "plain words"),
            ("d", "{not json"),
            ("p1", "\udcff\x00"),
            ("c", [1]),
        ]
        assert all(type(channel) is str for channel, _ in heard.all)
        assert all(type(message) in (str, list) for _, message in heard.all)


def test_messages_of_a_decoding_client(text_client: Client[str]) -> None:
    heard = Heard()
    with PubSub(text_client).start("c", heard):
        PubSub(text_client).publish("c", {"a": 1})
        text_client.publish("c", "no json")
        assert heard.wait(2) == [("c", {"a": 1}), ("c", "no json")]
        assert type(heard.all[1][1]) is str


def test_what_no_json_can_say(client: Client[bytes]) -> None:
    with pytest.raises(redlane.SerializationError, match="object"):
        PubSub(client).publish("c", object())


def test_the_class_acts_on_the_default_client(default: Client[Any]) -> None:
    heard = Heard()
    assert RedisPubSub is PubSub
    assert isinstance(pubsub, PubSub)
    listener = RedisPubSub.start(["events"], heard)
    blocking = threading.Thread(
        target=RedisPubSub.subscribe, args=(["events"], heard), daemon=True
    )
    blocking.start()
    wait_until(lambda: RedisPubSub.publish("events", {"n": 0}) >= 1, "a subscriber")

    def both() -> bool:
        PubSub.publish("events", "both")
        return heard.all[-2:] == [("events", "both")] * 2

    wait_until(both, "both")
    pubsub.publish("events", {"n": 1})
    wait_until(lambda: heard.all.count(("events", {"n": 1})) == 2, "both")
    assert pubsub.client is default
    redlane.close_default_client()
    wait_until(lambda: not listener.running, "the end")
    blocking.join(LIMIT)
    assert not blocking.is_alive()


def test_pubsub_of_a_url(redis_server: Server) -> None:
    heard = Heard()
    tool = PubSub(patient(redis_server.url))
    with tool.start("c", heard, patterns="c*", max_messages=10):
        tool.publish("c", 1)
        heard.wait(2)
    assert "redis://" in repr(tool)
    assert "default" in repr(PubSub())
    with pytest.raises(TypeError, match="expected a Client"):
        PubSub(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="callable"):
        tool.start("c", None)  # type: ignore[arg-type]
    tool.client.close()
    with pytest.raises(redlane.ConnectionError):
        tool.publish("c", 1)
