"""What speaks HTTP but not the REST protocol, or wrongly: whoever asks it gets an error
that says so, soon, and nothing grows without bound."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from outage_tools import is_well, wait_until
from redlane import (
    AsyncClient,
    AuthenticationError,
    Client,
    ConnectionError,
    RedlaneError,
    ReplyError,
    TimeoutError,
)
from scripted import Gone, Peer, Script, ScriptedServer, scripted
from servers import PATIENT

TOKEN = "canary-hostile-token"
# What a look at the server's health asks.
WELL = {"PING": b'{"result":"UE9ORw=="}', "INFO": b'{"result":""}'}


def answer(body: bytes, status: str = "200 OK", more: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


def read_request(peer: Peer) -> Any:
    """The commands of the next request."""
    length = 0
    line = peer.stream.readline()
    while line != b"\r\n":
        if not line:
            raise Gone
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
        line = peer.stream.readline()
    return json.loads(peer.stream.read(length) or b"null")


def over_http(say: Callable[[Peer], None], seen: list[Any] | None = None) -> Script:
    """What asks whether the server is there is answered; to all else `say` says what it
    likes."""

    def script(peer: Peer) -> None:
        while True:
            asked = read_request(peer)
            if asked and asked[0] in ("PING", "INFO"):
                peer.send(answer(WELL[asked[0]]))
                continue
            if seen is not None:
                seen.append(asked)
            say(peer)

    return script


def client_of(server: ScriptedServer, **options: Any) -> Client[bytes]:
    url = f"http://127.0.0.1:{server.port}"
    return Client(url, token=TOKEN, **{**PATIENT, **options})


DEEP = b'{"result":' + b"[" * 40 + b"]" * 40 + b"}"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (answer(b"<html>hello</html>"), "not JSON: is this a REST server"),
        (answer(b"<html>no</html>", "404 Not Found"), "HTTP 404"),
        (answer(b""), "not JSON"),
        (answer(b"", "204 No Content"), "HTTP 204"),
        (answer(b'{"result": "aGVs'), "not JSON"),
        (answer(b"\x1f\x8b\x08\0", more="Content-Encoding: gzip\r\n"), "not JSON"),
        (answer(b'{"result": "\xff"}'), "not JSON"),
        (answer(b'{"result": "%%%="}'), "an answer that is no reply"),
        (answer(b'{"result": "YQ"}'), "an answer that is no reply"),
        (answer(b'{"result": {"a": 1}}'), "an answer that is no reply"),
        (answer(b'{"result": 9223372036854775808}'), "an answer that is no reply"),
        (answer(b'{"surprise": 1}'), "not one of the REST protocol"),
        (answer(b"[]"), "not one of the REST protocol"),
        (answer(b"null"), "not one of the REST protocol"),
        (answer(b'{"result":' + b"[" * 100_000), "not JSON"),
        (DEEP.join([answer(DEEP)[: -len(DEEP)], b""]), "nest"),
        (b"SSH-2.0-OpenSSH_9\r\n\r\n", "RemoteProtocolError"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 50_000, "RemoteProtocolError"),
    ],
)
def test_answers_that_are_no_rest(said: bytes, shown: str) -> None:
    with (
        scripted(over_http(lambda peer: peer.send(said))) as server,
        client_of(server) as client,
    ):
        with pytest.raises(RedlaneError, match=shown) as caught:
            client.incr("n")
        assert not isinstance(caught.value, ReplyError)
        assert TOKEN not in repr(caught.value)
        wait_until(lambda: is_well(client), "the verdict")


def test_an_answer_that_breaks_off() -> None:
    """What changes nothing is asked for once more, the rest not."""
    seen: list[Any] = []

    def break_off(peer: Peer) -> None:
        peer.send(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"result"')
        raise Gone

    with (
        scripted(over_http(break_off, seen)) as server,
        client_of(server) as client,
    ):
        with pytest.raises(ConnectionError):
            client.get("k")
        assert seen == [["GET", "k"]] * 2
        wait_until(lambda: client.health()["breaker"] == "closed", "the verdict")
        with pytest.raises(ConnectionError):
            client.incr("n")
        assert seen[2:] == [["INCRBY", "n", "1"]]


@pytest.mark.parametrize(
    "answers",
    [[{"result": 1}], [{"result": 1}] * 3, {"result": [1, 1]}, [1, 1], []],
)
def test_a_wrong_number_of_answers(answers: Any) -> None:
    body = answer(json.dumps(answers).encode())
    for transaction in (False, True):
        with (
            scripted(over_http(lambda peer: peer.send(body))) as server,
            client_of(server) as client,
            client.pipeline(transaction=transaction) as pipeline,
        ):
            pipeline.incr("a")
            pipeline.incr("b")
            with pytest.raises(ConnectionError, match="answer"):
                pipeline.execute()


def test_one_wrong_answer_of_several() -> None:
    body = answer(b'[{"result":1},{"error":"ERR mine"},{"error":"RELAY away 60 x"}]')
    with (
        scripted(over_http(lambda peer: peer.send(body))) as server,
        client_of(server) as client,
        client.pipeline() as pipeline,
    ):
        for name in "abc":
            pipeline.incr(name)
        one, two, three = pipeline.execute(raise_on_error=False)
        assert one == 1
        assert isinstance(two, ReplyError)
        assert isinstance(three, ReplyError)  # not a word of ours: no outage
        assert client.health()["breaker"] == "closed"


def test_a_redirect_is_not_followed() -> None:
    with scripted(lambda peer: None) as other:
        more = f"Location: http://127.0.0.1:{other.port}/\r\n"
        for status in ("301 x", "302 x", "307 x", "308 x"):
            said = answer(b"", status, more)
            with (
                scripted(over_http(lambda peer, s=said: peer.send(s))) as server,
                client_of(server) as client,
                pytest.raises(ConnectionError, match=f"HTTP {status[:3]}"),
            ):
                client.get("k")
        assert other._open == []  # nobody came


def test_a_refusal_that_repeats_the_token() -> None:
    said = answer(
        json.dumps({"error": f"WRONGPASS not {TOKEN}"}).encode(), "401 Unauthorized"
    )
    with (
        scripted(over_http(lambda peer: peer.send(said))) as server,
        client_of(server) as client,
    ):
        with pytest.raises(AuthenticationError, match=r"WRONGPASS") as caught:
            client.get("k")
        assert TOKEN not in str(caught.value) + str(client.health())


@pytest.mark.parametrize("length", ["Content-Length: 99999999999", "Connection: close"])
def test_an_endless_answer_is_bounded(length: str) -> None:
    sent = [0]

    def flood(peer: Peer) -> None:
        peer.send(f'HTTP/1.1 200 OK\r\n{length}\r\n\r\n{{"result":"'.encode())
        while sent[0] < 1 << 30:
            peer.send(b"A" * 65536)
            sent[0] += 65536

    with (
        scripted(over_http(flood)) as server,
        client_of(server, max_reply=1 << 20) as client,
        pytest.raises(ConnectionError, match="more than max_reply"),
    ):
        client.get("k")
    assert sent[0] < 64 << 20


def test_each_answer_of_many_may_be_as_long_as_one() -> None:
    value = b"A" * 400_000  # in base64
    body = answer(b"[%s]" % b",".join([b'{"result":"%s"}' % value] * 20))
    with (
        scripted(over_http(lambda peer: peer.send(body))) as server,
        client_of(server, max_reply=300_100) as client,
        client.pipeline() as pipeline,
    ):
        for _ in range(20):
            pipeline.get("k")
        assert [len(reply) for reply in pipeline.execute()] == [300_000] * 20


def drip(peer: Peer) -> None:
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        peer.send(b" ")
        time.sleep(0.02)


def test_an_answer_in_drops_is_late() -> None:
    """The deadline is that of the whole call; the connection ends with it."""
    ended: list[bool] = []

    def script(peer: Peer) -> None:
        try:
            drip(peer)
        finally:
            ended.append(True)

    with (
        scripted(over_http(script)) as server,
        client_of(server, timeout=0.5) as client,
    ):
        with pytest.raises(TimeoutError):
            client.get("k")
        wait_until(lambda: ended, "the end of the connection")

        async def main() -> None:
            async with AsyncClient(
                f"http://127.0.0.1:{server.port}", token=TOKEN, timeout=0.5
            ) as other:
                await other.ping()
                with pytest.raises(TimeoutError):
                    await other.get("k")

        asyncio.run(main())
        wait_until(lambda: len(ended) == 2, "the end of that of the loop")


def test_a_refused_subscription_is_read_to_a_bound() -> None:
    gone = threading.Event()

    def refuse(peer: Peer) -> None:
        peer.send(b"HTTP/1.1 500 no\r\nContent-Length: 99999999999\r\n\r\n")
        try:
            while True:
                peer.send(b"x" * 65536)
        finally:
            gone.set()

    with (
        scripted(over_http(refuse)) as server,
        client_of(server) as client,
        client.subscribe("ch") as messages,
    ):
        assert gone.wait(60)
        assert messages.get(timeout=0.01) is None
