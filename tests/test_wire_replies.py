"""Replies: every type of RESP2 as a Python object, and hostile ones as typed errors on
a connection that is closed afterwards."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import redlane
from scripted import Peer, answering, scripted
from servers import Server

GOOD = [
    (b"+OK\r\n", b"OK"),
    (b"+\r\n", b""),
    (b"$5\r\nhello\r\n", b"hello"),
    (b"$0\r\n\r\n", b""),
    (b"$4\r\n\r\n\r\n\r\n", b"\r\n\r\n"),
    (b"$-1\r\n", None),
    (b"*-1\r\n", None),
    (b":0\r\n", 0),
    (b":-9223372036854775808\r\n", -(2**63)),
    (b":9223372036854775807\r\n", 2**63 - 1),
    (b"*0\r\n", []),
    (
        b"*3\r\n:1\r\n*2\r\n$-1\r\n*0\r\n$1\r\nx\r\n",
        [1, [None, []], b"x"],
    ),
    (b"*1\r\n" * 8 + b":8\r\n", [[[[[[[[8]]]]]]]]),
]

HOSTILE = {
    "junk": b"hello\r\n",
    "http": b"HTTP/1.1 200 OK\r\n\r\n",
    "empty line": b"\r\n",
    "nul": b"\0\0\0\0",
    "bulk beyond max_reply": b"$4096000\r\n",
    "bulk of 2**63-1": b"$9223372036854775807\r\n",
    "bulk of 2**63-3 in an array": b"*1\r\n$9223372036854775805\r\nx\r\n",
    "bulk beyond 64 bits": b"$99999999999999999999999\r\n",
    "negative bulk": b"$-2\r\n",
    "bulk without digits": b"$\r\n",
    "bulk with sign": b"$+5\r\nhello\r\n",
    "bulk with zeros": b"$005\r\nhello\r\n",
    "head without end": b"$" + b"1" * 4000,
    "array beyond a million": b"*1000001\r\n",
    "array of 2**31": b"*2147483648\r\n",
    "array of 2**63": b"*9223372036854775808\r\n",
    "negative array": b"*-2\r\n",
    "nine arrays deep": b"*1\r\n" * 9 + b":9\r\n",
    "a thousand arrays deep": b"*1\r\n" * 1000,
    "bulk without terminator": b"$5\r\nhelloXX+OK\r\n",
    "bulk with half a terminator": b"$5\r\nhello\rX",
    "bulk without terminator in an array": b"*1\r\n$5\r\nhello\n\r",
    "integer with letters": b":12a\r\n",
    "integer beyond 64 bits": b":9223372036854775808\r\n",
    "empty integer": b":\r\n",
    "line feed in a status": b"+O\nK\r\n",
    "resp3 null": b"_\r\n",
    "resp3 boolean": b"#t\r\n",
    "resp3 double": b",1.5\r\n",
    "resp3 big number": b"(123456789012345678901234567890\r\n",
    "resp3 map": b"%1\r\n+a\r\n+b\r\n",
    "resp3 set": b"~1\r\n+a\r\n",
    "resp3 push": b">2\r\n+invalidate\r\n*0\r\n",
    "resp3 verbatim": b"=7\r\ntxt:abc\r\n",
    "resp3 attribute": b"|1\r\n+a\r\n+b\r\n+c\r\n",
    "resp3 null in an array": b"*2\r\n:1\r\n_\r\n",
    "resp3 double in arrays": b"*1\r\n*1\r\n,1.5\r\n",
    "resp3 map in an array": b"*1\r\n%0\r\n",
    "resp3 push in an array": b"*1\r\n>1\r\n+x\r\n",
    "resp3 verbatim of nil": b"=-1\r\n",
    "resp3 map of nil": b"%-1\r\n",
    "resp3 push of nil in an array": b"*1\r\n>-1\r\n",
}


@pytest.fixture
def url_of_answers() -> Any:
    """A function: a server (as a context) that gives these answers on the first
    connection and "again" on each other."""

    def make(*replies: bytes) -> Any:
        def script(peer: Peer) -> None:
            peer.greet()
            for reply in replies if peer.number == 0 else (b"+again\r\n",):
                peer.read()
                peer.send(reply)
            peer.wait_until_gone()

        return scripted(script)

    return make


@pytest.mark.parametrize(("wire", "expected"), GOOD)
def test_every_type(wire: bytes, expected: object) -> None:
    with scripted(answering(wire, b"+PONG\r\n")) as server:
        client = redlane.Client(server.url, timeout=60, connect_timeout=60)
        assert client.execute("ANY") == expected
        assert client.execute("PING") == b"PONG"
        assert server.connections == 1
        client.close()


@pytest.mark.parametrize(("wire", "expected"), GOOD)
def test_cut_after_every_byte(wire: bytes, expected: object) -> None:
    for size in range(len(wire)):

        def script(peer: Peer, size: int = size) -> None:
            peer.greet()
            peer.read()
            if peer.number == 0:
                peer.send(wire[:size])
            else:
                peer.send(wire)
                peer.wait_until_gone()

        with scripted(script) as server:
            client = redlane.Client(server.url, timeout=60, connect_timeout=60)
            with pytest.raises(redlane.ConnectionError):
                client.execute("ANY")
            assert client.execute("ANY") == expected
            assert server.connections == 2
            client.close()


@pytest.mark.parametrize(("wire", "expected"), GOOD)
def test_one_byte_at_a_time(wire: bytes, expected: object) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.read()
        for byte in wire:
            peer.send(bytes((byte,)))
        peer.wait_until_gone()

    with scripted(script) as server:
        client = redlane.Client(server.url, timeout=60, connect_timeout=60)
        assert client.execute("ANY") == expected
        client.close()


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_reply_is_a_typed_error(kind: str, url_of_answers: Any) -> None:
    with url_of_answers(HOSTILE[kind], b"+crossed\r\n") as server:
        client = redlane.Client(
            server.url, timeout=20, connect_timeout=60, max_reply=65536
        )
        with pytest.raises((redlane.ConnectionError, redlane.TimeoutError)):
            client.execute("ANY")
        assert client.execute("NEXT") == b"again"
        assert server.connections == 2
        client.close()


def unfit(
    client: redlane.Client,
) -> dict[str, tuple[Callable[[], object], tuple[bytes, ...]]]:
    """Commands, and replies of which no result of theirs can be made."""
    counter = redlane.Counter(client, "n:{id}")
    cache = redlane.Cache(client)
    text, nested = b"$6\r\ncanary\r\n", b"*1\r\n*1\r\n:1\r\n"
    not_utf8 = b"$2\r\n\xff\xfe\r\n"
    return {
        "float": (lambda: client.incrbyfloat("k", 1.0), (text, not_utf8, b":1\r\n")),
        "scores": (
            lambda: client.zrange("k", 0, -1, withscores=True),
            (b"*2\r\n" + text * 2, b"*1\r\n" + text, text, b"*2\r\n*0\r\n*0\r\n"),
        ),
        "set": (lambda: client.smembers("k"), (nested, text)),
        "dict": (lambda: client.hgetall("k"), (b"*2\r\n*0\r\n:1\r\n", text, nested)),
        "cursor": (
            lambda: client.scan(0),
            (text, b"*2\r\n" + text + b"*0\r\n", b"*2\r\n*0\r\n*0\r\n"),
        ),
        "time": (lambda: client.time(), (b"*2\r\n" + text * 2, text)),
        "info": (lambda: client.info(), (b":1\r\n", nested)),
        "bool": (lambda: client.expire("k", 1), (text, nested)),
        "increment": (lambda: cache.increment("k"), (text, not_utf8, nested)),
        "counter": (lambda: counter.increment(1), (text, not_utf8, nested)),
        "transfer": (lambda: counter.transfer(1, 2), (b"*2\r\n" + text * 2, text)),
    }


UNFIT = sorted(unfit(redlane.Client("memory://")))


@pytest.mark.parametrize("name", UNFIT)
def test_a_reply_that_makes_no_result_is_a_typed_error(name: str) -> None:
    _, replies = unfit(redlane.Client("memory://"))[name]
    with scripted(answering(*replies, b"+PONG\r\n")) as server:
        client = redlane.Client(server.url, timeout=60, connect_timeout=60)
        call, _ = unfit(client)[name]
        for _ in replies:
            with pytest.raises(redlane.ReplyError) as caught:
                call()
            assert "canary" not in str(caught.value)
        assert client.ping()
        assert server.connections == 1
        client.close()


def test_info_of_a_hostile_server() -> None:
    text = b"modules:5\r\nmodule:name=a\r\n:\r\nx\r\n=:,\r\n,:=,=\r\n\xff:\xff\r\n"
    with scripted(answering(b"$%d\r\n%s\r\n" % (len(text), text))) as server:
        client = redlane.Client(server.url, timeout=60, connect_timeout=60)
        assert client.info()["modules"] == [{"name": "a"}]
        client.close()


@pytest.mark.parametrize("kind", ["resp3 double", "bulk without terminator", "junk"])
def test_hostile_reply_in_a_pipeline(kind: str, url_of_answers: Any) -> None:
    with url_of_answers(b":1\r\n" + HOSTILE[kind]) as server:
        client = redlane.Client(server.url, timeout=20, connect_timeout=60)
        pipeline = client.pipeline()
        for key in "abc":
            pipeline.get(key)
        with pytest.raises(redlane.ConnectionError):
            pipeline.execute()
        assert client.execute("NEXT") == b"again"
        client.close()


def test_endless_reply_is_bounded() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.read()
        peer.send(b"*1000000\r\n")
        while True:
            peer.send(b"$1000\r\n" + b"x" * 1000 + b"\r\n")

    with scripted(script) as server:
        client = redlane.Client(
            server.url, timeout=60, connect_timeout=60, max_reply=200_000
        )
        with pytest.raises(redlane.ConnectionError, match="max_reply"):
            client.execute("ANY")
        client.close()


def test_endless_line_is_bounded() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.read()
        peer.send(b"+")
        while True:
            peer.send(b"x" * 10_000)

    with scripted(script) as server:
        client = redlane.Client(server.url, timeout=60, connect_timeout=60)
        with pytest.raises(redlane.ConnectionError, match="line"):
            client.execute("ANY")
        client.close()


def test_many_replies_may_exceed_max_reply_together(redis_server: Server) -> None:
    client = redlane.Client(
        redis_server.url, timeout=60, connect_timeout=60, max_reply=5000
    )
    client.execute("SET", "k", "v" * 1000)
    pipeline = client.pipeline()
    for _ in range(100):
        pipeline.get("k")
    assert pipeline.execute() == [b"v" * 1000] * 100
    client.close()


def test_reply_that_nobody_awaits_with_the_answer(url_of_answers: Any) -> None:
    with url_of_answers(b"+mine\r\n+not mine\r\n") as server:
        client = redlane.Client(server.url, timeout=60, connect_timeout=60)
        assert client.execute("ANY") == b"mine"
        assert client.execute("NEXT") == b"again"
        assert server.connections == 2
        client.close()


def test_reply_that_nobody_awaits_while_idle() -> None:
    go, sent = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.greet()
        peer.read()
        if peer.number == 0:
            peer.send(b"+mine\r\n")
            go.wait(60)
            peer.send(b"+not mine\r\n")
            sent.set()
        else:
            peer.send(b"+again\r\n")
        peer.wait_until_gone()

    with scripted(script) as server:
        client = redlane.Client(server.url, timeout=60, connect_timeout=60)
        assert client.execute("ANY") == b"mine"
        go.set()
        assert sent.wait(60)
        assert client.execute("NEXT") == b"again"
        assert server.connections == 2
        client.close()


def test_error_replies_are_typed(redis_server: Server) -> None:
    client = redlane.Client(redis_server.url, timeout=60, connect_timeout=60)
    client.execute("LPUSH", "list", "a")
    with pytest.raises(redlane.WrongTypeError):
        client.execute("INCR", "list")
    with pytest.raises(redlane.ReplyError, match="wrong number of arguments"):
        client.execute("GET")
    assert client.execute("PING") == b"PONG"
    client.close()


def test_error_reply_shows_no_argument(redis_server: Server) -> None:
    client = redlane.Client(redis_server.url, timeout=60, connect_timeout=60)
    with pytest.raises(redlane.ReplyError, match="unknown command") as caught:
        client.execute("NOSUCH", "canary-value", "x")
    assert "canary" not in str(caught.value) + repr(caught.value)
    client.close()


def test_errors_inside_arrays_stay_there() -> None:
    wire = b"*3\r\n:1\r\n-WRONGTYPE no\r\n$1\r\nx\r\n"
    with scripted(answering(wire)) as server:
        client = redlane.Client(server.url, timeout=60, connect_timeout=60)
        one, error, x = client.execute("ANY")
        assert (one, x) == (1, b"x")
        assert type(error) is redlane.WrongTypeError
        client.close()


def test_decoding(redis_server: Server) -> None:
    client = redlane.Client(
        redis_server.url, timeout=60, connect_timeout=60, decode_responses=True
    )
    client.execute("SET", "text", "grün ✓")
    client.execute("SET", "raw", b"\xff\xfe")
    assert client.execute("GET", "text") == "grün ✓"
    assert client.execute("PING") == "PONG"
    with pytest.raises(UnicodeDecodeError):
        client.execute("GET", "raw")
    with pytest.raises(UnicodeDecodeError):
        client.execute("MGET", "text", "raw", "text")
    assert client.execute("MGET", "text", "none") == ["grün ✓", None]
    client.close()


def test_undecodable_reply_spares_the_rest_of_a_pipeline(redis_server: Server) -> None:
    client = redlane.Client(
        redis_server.url, timeout=60, connect_timeout=60, decode_responses=True
    )
    client.execute("SET", "raw", b"\xff")
    client.execute("SET", "text", "t")
    pipeline = client.pipeline()
    pipeline.get("text")
    pipeline.get("raw")
    pipeline.get("text")
    first, broken, last = pipeline.execute(raise_on_error=False)
    assert (first, last) == ("t", "t")
    assert isinstance(broken, UnicodeDecodeError)
    client.close()


@pytest.mark.parametrize("size", [0, 1, 16383, 16384, 65536, 1_000_003, 12_000_000])
def test_sizes(redis_server: Server, size: int) -> None:
    client = redlane.Client(redis_server.url, timeout=60, connect_timeout=60)
    value = bytes(range(256)) * (size // 256) + b"z" * (size % 256)
    client.execute("SET", "k", value)
    assert client.execute("GET", "k") == value
    assert client.execute("MGET", "k", "none", "k") == [value, None, value]
    assert client.execute("PING") == b"PONG"
    client.close()


def test_large_pipeline_does_not_deadlock(redis_server: Server) -> None:
    """Both directions carry more than sockets hold: the server stops reading until its
    replies are read."""
    client = redlane.Client(redis_server.url, timeout=60, connect_timeout=60)
    value = b"v" * 4_000_000
    pipeline = client.pipeline()
    for i in range(6):
        pipeline.set(f"k{i}", value)
        pipeline.get(f"k{i}")
    results = pipeline.execute()
    assert results[1::2] == [value] * 6
    client.close()
