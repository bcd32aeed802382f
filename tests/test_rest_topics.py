"""Subscriptions over HTTP: streams of events become messages like all others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from outage_tools import wait_until
from redlane import Client
from servers import PATIENT, Server
from upstash_gateway import Gateway, running_gateway

SECONDS = 60


@pytest.fixture
def client(rest: Gateway) -> Iterator[Client[bytes]]:
    with Client(rest.url, token=rest.token, **PATIENT) as made:
        yield made


def test_messages(client: Client[bytes], rest: Gateway) -> None:
    payloads = ["hello", "", "two\nlines\n", "a\r\nb", "a,b", "é☃", "data: x", " x"]
    with client.subscribe("news, and more") as messages:
        for payload in payloads:
            assert client.publish("news, and more", payload) == 1
        got = [messages.get(timeout=SECONDS) for _ in payloads]
        assert got == [payload.encode() for payload in payloads]
        assert rest.streams == 1
    wait_until(lambda: rest.streams == 0, "the end of the stream")


def test_patterns_and_several_channels(client: Client[bytes]) -> None:
    with client.subscribe("a", "b", patterns=["p*"]) as messages:
        seen = []
        for channel in ("a", "b", "p1"):
            client.publish(channel, f"to {channel}")
            message = messages.get(timeout=SECONDS)
            assert message is not None
            seen.append((message.channel, bytes(message)))
    assert seen == [(b"a", b"to a"), (b"b", b"to b"), (b"p1", b"to p1")]


def test_on_an_event_loop(rest: Gateway) -> None:
    async def main() -> list[str]:
        with Client(
            rest.url, token=rest.token, decode_responses=True, **PATIENT
        ) as owner:
            got = []
            async with owner.aio.subscribe("ch") as messages:
                await owner.aio.publish("ch", "one")
                await owner.aio.publish("ch", "two")
                async for message in messages:
                    got.append(str(message))
                    if len(got) == 2:
                        break
            return got

    assert asyncio.run(asyncio.wait_for(main(), SECONDS)) == ["one", "two"]


def test_a_stream_that_ends_is_begun_again_and_a_gap_told(
    fresh_server: Server,
) -> None:
    gaps: list[Any] = []
    with (
        running_gateway(fresh_server.port) as gateway,
        Client(gateway.url, token=gateway.token, **PATIENT) as client,
        client.subscribe("ch", on_gap=gaps.append) as messages,
    ):
        client.publish("ch", "before")
        assert messages.get(timeout=SECONDS) == b"before"
        fresh_server.kill()
        wait_until(lambda: gateway.streams == 0, "the end of the stream")
        fresh_server.start()
        wait_until(lambda: gateway.streams == 1, "another stream")
        wait_until(lambda: fresh_server.cli("PUBLISH", "ch", "after") == 1, "it")
        assert messages.get(timeout=SECONDS) == b"after"
        assert len(gaps) == 1


def test_a_refused_token_ends_the_subscription(rest: Gateway) -> None:
    from redlane import AuthenticationError

    with (
        Client(rest.url, token="wrong", **PATIENT) as client,
        pytest.raises(AuthenticationError),
        client.subscribe("ch") as messages,
    ):
        messages.get(timeout=SECONDS)
