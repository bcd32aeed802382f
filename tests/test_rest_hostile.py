"""What speaks HTTP but not the REST protocol, or wrongly: whoever asks it gets an error
that says so, soon, and nothing grows without bound."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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
from redlane._rest_http import HttpServer
from scripted import Gone, Peer, Script, ScriptedServer, scripted
from servers import PATIENT
from upstash_gateway import Gateway

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


ESCAPED = "".join(f"\\u{ord(letter):04x}" for letter in TOKEN)


@pytest.mark.parametrize(
    "said",
    [
        answer(b'{"error":"WRONGPASS not %s"}' % TOKEN.encode(), "401 Unauthorized"),
        answer(b'{"error":"WRONGPASS not %s"}' % ESCAPED.encode(), "401 Unauthorized"),
        answer(b'{"error":"NOPERM of %s"}' % ESCAPED.encode()),
        answer(b'{"error":"ERR %s"}' % TOKEN.encode(), "400 Bad Request"),
        answer(b'{"error":"max requests limit %s"}' % TOKEN.encode()),
        b"%s\r\n\r\n" % TOKEN.encode(),
    ],
)
def test_what_repeats_the_token(said: bytes) -> None:
    with (
        scripted(over_http(lambda peer: peer.send(said))) as server,
        client_of(server) as client,
    ):
        with pytest.raises(RedlaneError) as caught:
            client.get("k")
        assert TOKEN not in str(caught.value) + str(client.health())


def test_a_refused_subscription_does_not_repeat_it_either() -> None:
    said = answer(b'{"error":"WRONGPASS not %s"}' % ESCAPED.encode(), "401 x")
    with (
        scripted(over_http(lambda peer: peer.send(said))) as server,
        client_of(server) as client,
        pytest.raises(AuthenticationError, match="WRONGPASS not") as caught,
        client.subscribe("ch") as messages,
    ):
        messages.get(timeout=60)
    assert TOKEN not in str(caught.value)


def test_an_error_is_never_a_word_of_ours() -> None:
    """Whatever a server calls it, and wherever it says so."""
    error = b'{"error":"RELAY away 3600 x"}'
    for status in ("200 OK", "400 Bad Request"):
        for transaction in (False, True):
            with (
                scripted(
                    over_http(lambda peer, s=status: peer.send(answer(error, s)))
                ) as server,
                client_of(server) as client,
                client.pipeline(transaction=transaction) as pipeline,
            ):
                pipeline.incr("n")
                with pytest.raises(RedlaneError):
                    pipeline.execute()
                wait_until(lambda: is_well(client), "no outage of an hour")


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


def test_answers_that_are_long_together() -> None:
    """What only reads is asked for in smaller requests. What changes something may have
    been done."""
    value = base64.b64encode(b"v" * 300_000)
    seen: list[Any] = []

    def say(peer: Peer) -> None:
        many = seen[-1] if isinstance(seen[-1][0], list) else None
        one = b'{"result":"%s"}' % value
        peer.send(answer(b"[%s]" % b",".join([one] * len(many)) if many else one))

    with (
        scripted(over_http(say, seen)) as server,
        client_of(server, max_reply=600_000) as client,
        client.pipeline() as reads,
        client.pipeline() as writes,
    ):
        for i in range(7):
            reads.get(f"k{i}")
            writes.execute_command("GETDEL", f"k{i}")
        assert [len(reply) for reply in reads.execute()] == [300_000] * 7
        asked = [len(body) if isinstance(body[0], list) else 1 for body in seen]
        assert asked == [7, 3, 1, 2, 4, 2, 2]
        with pytest.raises(ConnectionError, match="more than max_reply"):
            writes.execute()
        assert len(seen) == 8


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


# --- any answer, at any time ------------------------------------------------------

shapes = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.sampled_from(["OK", "", "YQ==", "UE9ORw==", "%", "ERR x", "RELAY away 9 x"])
    | st.binary(max_size=20).map(lambda data: base64.b64encode(data).decode()),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["result", "error", "x"]), inner, max_size=3)
    ),
    max_leaves=12,
)
answers = shapes | st.lists(
    st.fixed_dictionaries({}, optional={"result": shapes, "error": shapes}),
    min_size=3,
    max_size=3,
)
statuses = st.sampled_from(["200 OK"] * 6 + ["400 x", "429 x", "500 x", "700 x"])


COMMANDS = [[b"HGETALL", b"h"], [b"PING"], [b"GET", b"k"]]
REQUESTS = [COMMANDS[:1], COMMANDS[1:2], COMMANDS, [[b"MULTI"], *COMMANDS, [b"EXEC"]]]


def read_reply(data: bytes, position: int) -> int:
    """Where a reply ends."""
    end = data.index(b"\r\n", position)
    kind, rest = data[position : position + 1], data[position + 1 : end]
    position = end + 2
    if kind in b"+-":
        assert b"\n" not in rest
    elif kind == b"$" and rest != b"-1":
        position += int(rest) + 2
        assert data[position - 2 : position] == b"\r\n"
    elif kind == b"*":
        for _ in range(int(rest)):
            position = read_reply(data, position)
    else:
        assert kind in b":$"
        assert -(2**63) <= int(rest) < 2**63
    return position


@pytest.fixture(scope="module")
def anything() -> Iterator[tuple[list[bytes], int]]:
    said: list[bytes] = []

    def say(peer: Peer) -> None:
        while True:
            read_request(peer)
            peer.send(said[-1])

    with scripted(say) as server:
        yield said, server.port


@given(answers, statuses)
@settings(max_examples=int(os.environ.get("REDLANE_EXAMPLES", "100")), deadline=None)
def test_any_answer_is_a_reply_to_each(
    anything: tuple[list[bytes], int], said: Any, status: str
) -> None:
    bodies, port = anything
    bodies.append(answer(json.dumps(said).encode(), status))

    async def ask() -> None:
        url = f"http://127.0.0.1:{port}"
        server = HttpServer(url, TOKEN, 30.0, 4, 1 << 20, lambda tls: None)
        await server.open()
        try:
            for commands in REQUESTS:
                replies = await server.execute(commands)
                position = 0
                for _ in commands:
                    position = read_reply(replies, position)
                assert position == len(replies)
        finally:
            await server.close()

    asyncio.run(ask())


async def cancel_at_random(gateway: Gateway, seed: int, tasks: int) -> None:
    """Each asks for values of its own; most are cancelled at some moment."""
    chance = random.Random(seed)
    answered = cancelled = 0

    async def ask(client: AsyncClient[bytes], number: int) -> None:
        nonlocal answered
        names = [f"tag:{(number + i) % 100}" for i in range(3)]
        for name in names:
            assert await client.get(name) == name.encode()
            answered += 1
        assert await client.mget(names) == [name.encode() for name in names]

    async with AsyncClient(gateway.url, token=gateway.token, **PATIENT) as client:
        await client.mset({f"tag:{i}": f"tag:{i}" for i in range(100)})
        running: set[asyncio.Task[None]] = set()
        for number in range(tasks):
            running.add(asyncio.ensure_future(ask(client, number)))
            gateway.delay = chance.choice((0, 0, 0.002))
            gateway.answer_delay = chance.choice((0, 0, 0.01))
            await asyncio.sleep(chance.choice((0, 0, 0.001)))
            for task in list(running):
                if task.done():
                    running.discard(task)
                    task.result()
                elif chance.random() < 0.1:
                    cancelled += task.cancel()
                    running.discard(task)
        await asyncio.gather(*running)
    assert answered
    assert cancelled


def test_a_reply_is_for_who_asked(rest: Gateway) -> None:
    asyncio.run(cancel_at_random(rest, 1, 400))


@pytest.mark.soak
def test_a_reply_is_for_who_asked_at_length(rest: Gateway) -> None:
    assert os.environ.get("REDLANE_SOAK") == "1"
    for seed in range(20):
        rest.be_kind()
        asyncio.run(cancel_at_random(rest, seed, 5000))
