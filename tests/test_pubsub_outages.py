"""Subscriptions through cut links and restarts: every message comes in order, or a gap
says that some may be missing, and none comes twice."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redlane
from outage_tools import Switch, messages, wait_until
from proxy import Proxy
from redlane import Client, Gap, PubSub, Subscription
from servers import PATIENT, Server

LIMIT = 60.0


@pytest.fixture
def proxy(redis_server: Server) -> Iterator[Proxy]:
    with Proxy(redis_server.port) as made:
        yield made


def numbers(publisher: Client[Any], channel: str, begin: int, count: int) -> None:
    for n in range(begin, begin + count):
        publisher.publish(channel, n)


class Record:
    """What a subscription gave: numbers, and gaps in their place."""

    def __init__(self, client: Client[Any], *channels: str, **options: Any) -> None:
        self.all: list[int | Gap] = []
        self.subscription: Subscription[Any] = client.subscribe(
            *channels, on_gap=self.all.append, **options
        )
        assert self.subscription.wait(LIMIT)
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self) -> None:
        for message in self.subscription:
            self.all.append(int(message))

    def wait_for(self, number: int) -> None:
        wait_until(lambda: number in self.all[-50:], f"message {number}")

    def close(self) -> None:
        self.subscription.close()
        self.thread.join(LIMIT)
        assert not self.thread.is_alive()

    @property
    def gaps(self) -> list[Gap]:
        return [entry for entry in self.all if isinstance(entry, Gap)]

    def check(self) -> None:
        """In order, and where one is missing there is a gap."""
        last, gap = -1, False
        for entry in self.all:
            if isinstance(entry, Gap):
                gap = True
                continue
            assert entry > last, f"{entry} came after {last}"
            assert gap or entry == last + 1, f"from {last} to {entry} without a gap"
            last, gap = entry, False


# --- gaps -------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["killed", "reset", "closed"])
def test_a_lost_connection_is_a_gap(
    redis_server: Server, proxy: Proxy, how: str
) -> None:
    publisher = Client(redis_server.url, **PATIENT)
    client = Client(proxy.url, **PATIENT)
    record = Record(client, "n")
    for turn in range(3):
        numbers(publisher, "n", 20 * turn, 10)
        record.wait_for(20 * turn + 9)
        if how == "killed":
            redis_server.cli("CLIENT", "KILL", "TYPE", "pubsub")
        elif how == "reset":
            proxy.reset_all()
        else:
            proxy.cut_in(0)
            publisher.publish("n", 20 * turn + 10)
        wait_until(lambda t=turn: len(record.gaps) == t + 1, "the gap")
        assert record.subscription.live
        numbers(publisher, "n", 20 * turn + 11, 9)
        record.wait_for(20 * turn + 19)
    record.close()
    record.check()
    assert all(gap.dropped == 0 and gap.seconds > 0 for gap in record.gaps)
    assert record.subscription.gaps == 3


def test_what_comes_after_a_gap_is_complete(redis_server: Server, proxy: Proxy) -> None:
    """Of a subscription to many channels nothing is handed out before all of them are
    heard again: a reader that reloads on the gap has everything then."""
    publisher = Client(redis_server.url, **PATIENT)
    client = Client(proxy.url, **PATIENT)
    channels = [f"many{n}" for n in range(200)]
    for _ in range(3):
        gaps: list[Gap] = []
        with client.subscribe(*channels, on_gap=gaps.append) as subscription:
            stop = threading.Event()

            def publish(stop: threading.Event = stop) -> None:
                while not stop.is_set():
                    publisher.publish(channels[0], "x")

            flood = threading.Thread(target=publish)
            flood.start()
            assert subscription.get(timeout=LIMIT) == b"x"
            proxy.reset_all()
            while not gaps:
                subscription.get(timeout=0.01)
            stop.set()
            flood.join()
            for channel in channels:
                publisher.publish(channel, channel)
            found = set()
            while len(found) < len(channels):
                message = subscription.get(timeout=LIMIT)
                assert message is not None
                if message != b"x":
                    found.add(bytes(message))
            assert len(gaps) == 1


def test_a_full_queue_forgets_no_lost_connection(
    redis_server: Server, proxy: Proxy
) -> None:
    """The gap of a lost connection may be dropped as the messages around it are. It is
    still told: more than the number of those that had no room may be missing."""
    publisher = Client(redis_server.url, **PATIENT)
    client = Client(proxy.url, **PATIENT)
    gaps: list[Gap] = []
    with client.subscribe("n", max_messages=5, on_gap=gaps.append) as subscription:
        for turn in range(2):
            numbers(publisher, "n", 20 * turn, 3)
            # All of the second three: two of the first, before them and a gap, are out.
            wait_until(lambda t=turn: subscription.waiting == 3 + 2 * t, "them")
            wait_until(lambda t=turn: subscription.dropped == 2 * t, "the last of them")
            proxy.refuse = True  # else the return may come before a look
            proxy.reset_all()
            wait_until(lambda: not subscription.live, "the loss")
            proxy.heal()
            wait_until(lambda: subscription.live, "the return")
        numbers(publisher, "n", 40, 10)
        wait_until(lambda: subscription.dropped == 11, "the drops")
        found = [subscription.get(timeout=LIMIT) for _ in range(5)]
        assert found == [b"%d" % n for n in range(45, 50)]
        assert [gap.dropped for gap in gaps] == [11]
        assert "queue" not in gaps[0].reason
        assert gaps[0].seconds > 0
        assert subscription.gaps == 1
        numbers(publisher, "n", 50, 10)
        wait_until(lambda: subscription.dropped == 16, "the drops")
        assert subscription.get(timeout=LIMIT) == b"55"
        assert gaps[1:] == [Gap(("the queue was full", 0.0, 5))]


def test_a_link_that_dies_unheard(redis_server: Server, proxy: Proxy) -> None:
    """Nothing is said, nothing is closed: the PING that is not answered tells it."""
    client = Client(proxy.url, **PATIENT)
    publisher = Client(redis_server.url, **PATIENT)
    record = Record(client, "n")
    proxy.swallow = True
    publisher.publish("n", 0)
    wait_until(lambda: not record.subscription.live, "the loss")
    proxy.heal()
    wait_until(lambda: record.subscription.live, "the return")
    wait_until(lambda: record.gaps, "the gap")
    publisher.publish("n", 1)
    record.wait_for(1)
    record.close()
    record.check()
    assert record.gaps[0].reason == "the server does not answer"


def test_who_begins_without_a_server(
    fresh_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told that there is none, in the log; nothing raises, and it comes to life
    with a gap."""
    fresh_server.kill()
    client = Client(fresh_server.url, **PATIENT)
    gaps: list[Gap] = []
    found: list[Any] = []
    with caplog.at_level(logging.INFO, "redlane"):
        listener = client.listen("n", found.append, on_gap=gaps.append)
        assert not listener.subscription.live
        fresh_server.start()
        wait_until(lambda: gaps, "the gap")
        Client(fresh_server.url, **PATIENT).publish("n", "x")
        wait_until(lambda: found, "the message")
        wait_until(lambda: messages(caplog.records, "connected again"), "the log")
    listener.stop()
    assert found == [b"x"]
    assert len(gaps) == 1
    assert "refused" in gaps[0].reason
    assert len(messages(caplog.records, "no connection")) >= 1


def test_gaps_are_logged_where_nobody_asks(
    redis_server: Server, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client(proxy.url, **PATIENT)
    with caplog.at_level(logging.WARNING, "redlane"), client.listen("n", print):
        proxy.reset_all()
        wait_until(lambda: messages(caplog.records, "may be missing"), "the log")


def test_on_gap_may_raise(
    redis_server: Server, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client(proxy.url, **PATIENT)
    publisher = Client(redis_server.url, **PATIENT)
    found: list[Any] = []

    def on_gap(gap: Gap) -> None:
        raise ValueError("its own")

    with caplog.at_level(logging.ERROR, "redlane"):
        with client.listen("n", found.append, on_gap=on_gap):
            proxy.reset_all()
            wait_until(lambda: messages(caplog.records, "on_gap"), "the log")
            publisher.publish("n", "x")
            wait_until(lambda: found, "the message")


# --- refusals ---------------------------------------------------------------------


def test_a_channel_that_is_forbidden(fresh_server: Server) -> None:
    fresh_server.cli("ACL", "SETUSER", "u", "on", ">pw", "+@all", "~*", "&ok*")
    client = Client(f"redis://u:pw@127.0.0.1:{fresh_server.port}/0", **PATIENT)
    with client.subscribe("ok1") as fine:
        with pytest.raises(redlane.PermissionDeniedError):
            client.listen(["ok1", "secret"], print)
        bad = client.subscribe(patterns=["se*"])
        with pytest.raises(redlane.PermissionDeniedError):
            bad.get(timeout=LIMIT)
        assert bad.closed
        client.publish("ok1", "x")  # the others go on
        assert fine.get(timeout=LIMIT) == b"x"
        assert fine.gaps == 0


def test_a_wrong_password(password_server: Server) -> None:
    url = f"redis://:canary-wrong@127.0.0.1:{password_server.port}/0"
    client = Client(url, **PATIENT)
    with pytest.raises(redlane.AuthenticationError) as raised:
        client.listen("a", print)
    assert "canary" not in str(raised.value)


def test_rights_that_are_taken_away(fresh_server: Server) -> None:
    """The server ends the connection; at the next one it refuses."""
    fresh_server.cli("ACL", "SETUSER", "u", "on", ">pw", "+@all", "~*", "&*")
    client = Client(f"redis://u:pw@127.0.0.1:{fresh_server.port}/0", **PATIENT)
    with client.subscribe("a") as subscription:
        fresh_server.cli("ACL", "SETUSER", "u", "resetchannels")
        with pytest.raises(redlane.PermissionDeniedError):
            while not subscription.closed:
                subscription.get(timeout=LIMIT)
            subscription.get(timeout=0)


# --- local delivery ---------------------------------------------------------------


def test_tools_publish_to_this_process_during_an_outage(switch: Switch) -> None:
    client = Client(switch.url, fallback="memory", timeout=5)
    other = Client(switch.url, timeout=5)  # of the same server
    tool = PubSub(client)
    heard: list[Any] = []
    theirs: list[Any] = []

    def handle(channel: str, message: Any) -> None:
        heard.append(message)

    with tool.start("c", handle), other.listen("c", theirs.append, patterns="c*"):
        tool.publish("c", "before")
        wait_until(lambda: len(heard) == 1 and len(theirs) == 2, "the first")
        switch.off(client, other)
        assert tool.publish("c", "during") == 3
        assert client.publish("c", b"raw") == 3
        wait_until(lambda: len(heard) == 3 and len(theirs) == 6, "the local ones")
        with pytest.raises(redlane.ConnectionError):
            other.publish("c", "refused")  # raw commands raise
        switch.on(client, other)
        # A subscription may come back after the client: what is published before is in
        # its gap.
        wait_until(lambda: tool.publish("c", "after") == 3, "the subscriptions")
        wait_until(lambda: heard[-1] == "after", "the last")
        wait_until(lambda: theirs[-2:] == [b'"after"'] * 2, "the last")
        time.sleep(0.1)  # nothing that was handed on here comes again
    assert heard[:3] == ["before", "during", "raw"]
    assert set(heard[3:]) == {"after"}
    assert theirs.count(b'"during"') == theirs.count(b"raw") == 2


def test_nobody_hears_what_is_published_with_fallback_none(switch: Switch) -> None:
    client = Client(switch.url, fallback="none", timeout=5)
    found: list[Any] = []
    with client.listen("c", found.append):
        switch.off(client)
        assert client.publish("c", "x") == 0
        switch.on(client)
        wait_until(lambda: client.publish("c", "y") == 1, "the subscription")
        wait_until(lambda: found, "the message")
    assert set(found) == {b"y"}


def test_a_publish_that_may_have_arrived_comes_once(
    redis_server: Server, proxy: Proxy
) -> None:
    """Its answer is lost: it must not be handed on here a second time."""
    listener_client = Client(redis_server.url, **PATIENT)
    found: list[Any] = []
    with listener_client.listen("c", found.append):
        for n in range(10):
            with Client(proxy.url, fallback="memory", **PATIENT) as client:
                client.ping()
                proxy.cut_in(0)  # the answer does not come
                assert client.publish("c", n) == 0
        Client(redis_server.url, **PATIENT).publish("c", "end")
        wait_until(lambda: found and found[-1] == b"end", "the messages")
    assert [bytes(message) for message in found[:-1]] == [b"%d" % n for n in range(10)]
