"""Subscriptions at the edges where a reader, a hub and a server could miss each
other."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import Any

import pytest
from outage_tools import messages, wait_until
from redlane import Client, PubSub
from scripted import Gone, Peer, scripted
from servers import PATIENT, Server
from test_pubsub_hostile import confirm

LIMIT = 60.0


def test_no_tight_loop_where_the_server_confirms_and_hangs_up() -> None:
    """A confirmation proves nothing: a server that is over its limits gives it too."""

    def script(peer: Peer) -> None:
        peer.greet()
        confirm(peer)
        time.sleep(0.005)  # the confirmation is read before the end
        raise Gone

    with scripted(script) as server:
        client = Client(server.url, **PATIENT)
        subscription = client.subscribe("c", on_gap=lambda gap: None)
        subscription.get(timeout=1.5)
        client.close()
        assert 1 <= server.connections < 40


def test_a_password_that_is_changed_is_told(
    fresh_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever waits in a thread is lost without a word otherwise."""
    fresh_server.cli("ACL", "SETUSER", "u", "on", ">canary-one", "+@all", "~*", "&*")
    url = f"redis://u:canary-one@127.0.0.1:{fresh_server.port}/0"
    client = Client(url, **PATIENT)
    with (
        caplog.at_level(logging.INFO, "redlane"),
        client.listen("a", print) as listener,
    ):
        fresh_server.cli("ACL", "SETUSER", "u", "resetpass", ">canary-two")
        fresh_server.cli("CLIENT", "KILL", "TYPE", "pubsub")
        wait_until(lambda: messages(caplog.records, "WRONGPASS"), "the reason")
        assert listener.running
        assert not messages(caplog.records, "canary")
    client.close()


def test_a_refusal_between_messages_is_told(
    fresh_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """The handler was at work when the server took the channel away."""
    fresh_server.cli("ACL", "SETUSER", "u", "on", ">pw", "+@all", "~*", "&*")
    client = Client(f"redis://u:pw@127.0.0.1:{fresh_server.port}/0", **PATIENT)
    begun, go_on = threading.Event(), threading.Event()
    handled: list[bytes] = []

    def handle(message: bytes) -> None:
        handled.append(message)
        begun.set()
        assert go_on.wait(LIMIT)

    with caplog.at_level(logging.ERROR, "redlane"):
        listener = client.listen("a", handle)
        for number in range(3):
            fresh_server.cli("PUBLISH", "a", str(number))
        assert begun.wait(LIMIT)
        wait_until(lambda: listener.subscription.waiting == 2, "the messages")
        fresh_server.cli("ACL", "SETUSER", "u", "resetchannels")
        wait_until(lambda: listener.subscription.closed, "the refusal")
        go_on.set()
        wait_until(lambda: not listener.running, "the listener's end")
        assert messages(caplog.records, "NOPERM")
    assert handled == [b"0", b"1", b"2"]  # what has come is handed out
    client.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_listener_that_ends_unsubscribes() -> None:
    """SystemExit in a handler ends its thread, as in any thread."""

    def handle(message: bytes) -> None:
        raise SystemExit

    client = Client("memory://")
    listener = client.listen("a", handle)
    client.publish("a", "x")
    wait_until(lambda: not listener.running, "the listener's end")
    assert listener.subscription.closed
    assert client.publish("a", "x") == 0
    client.close()


async def drive(client: Client[bytes], what: Any) -> list[object]:
    """A gap whose function does something with the awaitable that brings it."""
    seen: list[object] = []

    def on_gap(gap: object) -> None:
        try:
            seen.append(what(waiting[0]))
        except (RuntimeError, ValueError) as error:
            seen.append(error)

    subscription = client.subscribe("a", max_messages=1, on_gap=on_gap)
    client.publish("a", "1")
    client.publish("a", "2")
    waiting = [subscription.__anext__()]
    try:
        waiting[0].send(None)  # type: ignore[attr-defined]
    except StopIteration as stop:
        seen.append(stop.value)
    subscription.close()
    return seen


@pytest.mark.parametrize("how", ["close", "send", "throw"])
def test_on_gap_may_not_drive_its_own_awaitable(how: str) -> None:
    actions = {
        "close": lambda waiting: waiting.close(),
        "send": lambda waiting: waiting.send(None),
        "throw": lambda waiting: waiting.throw(KeyError("x")),
    }
    client: Client[bytes] = Client("memory://")
    error, message = asyncio.run(drive(client, actions[how]))
    assert isinstance(error, RuntimeError)
    assert message == b"2"
    client.close()


def test_a_loop_that_closed_while_a_task_waited() -> None:
    """Its future is dead: the subscription is free for another loop."""
    client = Client("memory://")
    subscription = client.subscribe("a")
    loop = asyncio.new_event_loop()
    waiting = subscription.__anext__()
    loop.run_until_complete(one_step(waiting))
    loop.close()

    async def main() -> bytes:
        asyncio.get_running_loop().call_later(0.05, client.publish, "a", "x")
        return await subscription.__anext__()

    assert asyncio.run(asyncio.wait_for(main(), LIMIT)) == b"x"
    client.close()


async def one_step(waiting: Any) -> None:
    waiting.send(None)


def test_publishing_here_to_one_that_waits_wakes_its_connection(
    fresh_server: Server,
) -> None:
    """What is published here takes the room of what filled the queue: the server is to
    be heard again."""
    room = 100_000
    client = Client(fresh_server.url, **PATIENT)
    with client.subscribe("a", policy="wait", max_bytes=room) as subscription:
        fresh_server.cli("PUBLISH", "a", "x" * room)
        wait_until(lambda: subscription.waiting == 1, "the message that fills it")
        time.sleep(0.1)  # its connection is at rest now, and hears of no end
        fresh_server.kill()
        wait_until(lambda: PubSub(client).publish("a", "here") == 1, "an outage")
        assert subscription.get(timeout=LIMIT) == b'"here"'
        fresh_server.start()
        wait_until(
            lambda: fresh_server.cli("PUBLISH", "a", "late") == 1 or None, "its return"
        )
        assert subscription.get(timeout=LIMIT) == b"late"
    client.close()
