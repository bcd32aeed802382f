"""Limits of one reply against real servers and the scripted one: an error that says so,
a connection that is closed, and a next call that is right."""

from __future__ import annotations

import contextlib
import time

import pytest
import redlane
from redlane import Cache, Client, Counter
from scripted import HELLO_ANSWER, Peer, scripted
from servers import Server

PATIENCE = 60
MILLION = 1_000_000


def connect(url: str, **options: int) -> Client[bytes]:
    return Client(url, timeout=PATIENCE, connect_timeout=PATIENCE, **options)


def connections(server: Server) -> int:
    """How many were made since the server started; asking makes one more."""
    for line in server.cli("INFO", "stats").splitlines():
        if line.startswith(b"total_connections_received:"):
            return int(line.partition(b":")[2])
    raise AssertionError("no such line")


# --- bytes ------------------------------------------------------------------------


@pytest.mark.parametrize("over", [0, 1])
@pytest.mark.parametrize("size", [100, 20_000, 3_000_000])
def test_max_reply_to_the_byte(redis_server: Server, size: int, over: int) -> None:
    """What is counted is what comes: the value, its head and its two bytes."""
    server = redis_server
    server.cli("SET", "k", b"x" * size)
    limit = size + len(b"$%d\r\n\r\n" % size) - over
    client = connect(server.url, max_reply=limit)
    if over:
        before = connections(server)
        with pytest.raises(redlane.ConnectionError, match="max_reply"):
            client.get("k")
        assert client.echo("next") == b"next"
        assert connections(server) > before + 1  # the one that asks, and a new one
    else:
        assert client.get("k") == b"x" * size
    client.close()


@pytest.mark.parametrize("over", [0, 1])
def test_max_reply_of_an_array_that_comes_in_one_piece(
    redis_server: Server, over: int
) -> None:
    redis_server.cli("RPUSH", "list", *range(100))
    reply = b"*100\r\n" + b"".join(
        b"$%d\r\n%d\r\n" % (len(str(n)), n) for n in range(100)
    )
    client = connect(redis_server.url, max_reply=len(reply) - over)
    if over:
        with pytest.raises(redlane.ConnectionError, match="max_reply"):
            client.execute("LRANGE", "list", 0, -1)
        assert client.echo("next") == b"next"
    else:
        assert len(client.execute("LRANGE", "list", 0, -1)) == 100
    client.close()


def test_a_cache_on_a_value_beyond_max_reply(redis_server: Server) -> None:
    """To a cache it is an outage of a moment: a miss, and then it goes on."""
    redis_server.cli("SET", "cache:big", b"[" + b"1," * 50_000 + b"1]")
    client = connect(redis_server.url, max_reply=10_000)
    cache = Cache(client)
    assert cache.get("big", "default") == "default"
    assert client.ping()
    assert cache.set("small", 1)
    assert cache.get("small") == 1
    client.close()


# --- elements ---------------------------------------------------------------------


def test_as_many_elements_as_were_asked_for(redis_server: Server) -> None:
    """The bound is for what a server makes up, not for what the caller wants."""
    client = connect(redis_server.url)
    client.set("k", "v")
    values = client.mget(["k", *["none"] * MILLION])
    assert len(values) == MILLION + 1
    assert values[:2] == [b"v", None]
    client.close()


def test_more_elements_than_were_asked_for(redis_server: Server) -> None:
    script = "local t = {} for i = 1, tonumber(ARGV[1]) do t[i] = 1 end return t"
    client = connect(redis_server.url)
    assert len(client.eval(script, 0, 1000)) == 1000
    with pytest.raises(redlane.ConnectionError, match="million elements"):
        client.eval(script, 0, MILLION + 1)
    assert client.echo("next") == b"next"
    client.close()


@pytest.mark.soak
def test_a_transaction_of_many_commands(redis_server: Server) -> None:
    client = connect(redis_server.url)
    pipeline = client.pipeline(transaction=True)
    for _ in range(MILLION + 1):
        pipeline.exists("k")
    assert sum(pipeline.execute()) == 0
    client.close()


def test_promised_arrays_cost_little_before_they_come(redis_server: Server) -> None:
    """Each head of eight bytes makes a list of a million elements."""

    def script(peer: Peer) -> None:
        peer.greet()
        peer.read()
        peer.send(b"*1000000\r\n" * 8 + b":1\r\n")
        peer.wait_until_gone()

    with scripted(script) as server:
        client = Client(server.url, timeout=1, connect_timeout=PATIENCE)
        with pytest.raises(redlane.TimeoutError):
            client.execute("ANY")
        client.close()


# --- lines ------------------------------------------------------------------------

ENDLESS = {
    "status": (b"+", b"x" * 1000),
    "line feeds": (b"+", b"x\n" * 500),
    "returns": (b"-ERR ", b"x\r" * 500),
    "status in an array": (b"*2\r\n:1\r\n+", b"x" * 1000),
    "integer": (b":", b"1" * 1000),
    "head of a bulk": (b"$", b"0" * 1000),
    "negative head of a bulk": (b"$-", b"1" * 1000),
    "head of a bulk with returns": (b"$5\r", b"\r" * 1000),
    "head of an array": (b"*", b"1" * 1000),
    "head of an array in an array": (b"*1\r\n*-", b"1" * 1000),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_an_endless_line_is_bounded(kind: str) -> None:
    """Long before max_reply, whatever the line is of."""
    head, more = ENDLESS[kind]
    sent = 0

    def script(peer: Peer) -> None:
        nonlocal sent
        peer.greet()
        peer.read()
        peer.send(head)
        while sent < 100_000_000:
            peer.send(more)
            sent += len(more)

    with scripted(script) as server:
        client = connect(server.url)
        with pytest.raises(redlane.ConnectionError, match=r"without end|Bad|size"):
            client.execute("ANY")
        client.close()
    assert sent < 50_000_000  # what sockets hold, and no more


# --- a connection in a state of its own -------------------------------------------


def test_a_connection_left_in_multi(redis_server: Server) -> None:
    """QUEUED is no value: the connection is closed, and the next one is right."""

    def script(peer: Peer) -> None:
        peer.greet()
        if peer.number == 0:
            while True:
                peer.read()
                peer.send(b"+QUEUED\r\n")
        peer.read()
        peer.send(b"$5\r\nvalue\r\n")
        peer.wait_until_gone()

    with scripted(script) as server:
        client = connect(server.url)
        with pytest.raises(redlane.ConnectionError, match="transaction"):
            client.get("k")
        assert client.get("k") == b"value"
        client.close()
    with scripted(script) as server:
        client = connect(server.url)
        assert Cache(client, near=False).get("k", "miss") == "miss"
        assert client.get("k") == b"value"
        client.close()


def test_a_status_queued_inside_an_array_is_one(redis_server: Server) -> None:
    client = connect(redis_server.url)
    assert client.eval("return {{ok='QUEUED'}}", 0) == [b"QUEUED"]
    client.close()


def test_a_subscribed_connection() -> None:
    """Its errors are typed; the first message, which nobody awaits, ends it."""
    refused = (
        b"-ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / "
        b"QUIT / RESET are allowed in this context\r\n"
    )
    message = b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$4\r\ntext\r\n"

    def script(peer: Peer) -> None:
        peer.greet()
        if peer.number == 0:
            peer.read()
            peer.send(refused)
            peer.read()
            peer.send(refused + message)
        else:
            peer.read()
            peer.send(b"$5\r\nvalue\r\n")
        peer.wait_until_gone()

    with scripted(script) as server:
        client = connect(server.url)
        for _ in range(2):
            with pytest.raises(redlane.ReplyError, match="Can't execute"):
                client.get("k")
        assert client.get("k") == b"value"
        assert server.connections == 2
        client.close()


def test_a_message_before_the_first_answer() -> None:
    """What comes with the handshake is nobody's either."""

    def script(peer: Peer) -> None:
        peer.read()
        peer.send(HELLO_ANSWER + b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$4\r\ntext\r\n")
        peer.wait_until_gone()

    with scripted(script) as server:
        client = connect(server.url)
        with pytest.raises(redlane.ConnectionError):
            client.get("k")
        client.close()


# --- keys that hold something else ------------------------------------------------


def test_a_key_of_another_type(redis_server: Server) -> None:
    """A read is a miss, a set overwrites, an increment is a typed error; a counter,
    which can be made anew, is dropped."""
    client = connect(redis_server.url)
    cache, loud = Cache(client), Cache(client, fallback="raise")
    counter = Counter(client, "n:{id}")
    for key in ("cache:a", "cache:b", "cache:c", "n:1", "raw"):
        redis_server.cli("RPUSH", key, "x")
    for tool in (cache, loud):
        assert tool.get("a", "miss") == "miss"
        assert tool.get_many(["a", "b"]) == {}
        with pytest.raises(redlane.WrongTypeError):
            tool.increment("c")
        redis_server.cli("RPUSH", "cache:b", "x")
    assert cache.set("a", 1)
    assert cache.get("a") == 1
    cache.set_many({"b": 2})
    assert cache.get("b") == 2
    assert cache.get_or_set("c", lambda: 3) == 3
    assert counter.increment(1) is None  # there is no count; what is there goes
    assert redis_server.cli("EXISTS", "n:1") == 0
    for call in (client.get, client.incr, client.hgetall, client.smembers):
        with pytest.raises(redlane.WrongTypeError):
            call("raw")
    client.set("raw", "v")
    assert client.get("raw") == b"v"
    client.close()


def test_a_value_that_cannot_be_read(redis_server: Server) -> None:
    """A miss, which is counted, and the value is dropped; a strict one the same."""
    client = connect(redis_server.url)
    text = Client(
        redis_server.url,
        timeout=PATIENCE,
        connect_timeout=PATIENCE,
        decode_responses=True,
    )
    for number, tool in enumerate(
        (Cache(client), Cache(text), Cache(client, strict=True))
    ):
        redis_server.cli("SET", "cache:k", b"\xff\xfe{")
        assert tool.get("k", "miss") == "miss"
        assert tool.stats()["corrupted"] == 1, number
        assert redis_server.cli("EXISTS", "cache:k") == 0
    client.close()
    text.close()


def test_a_probe_that_is_answered_twice() -> None:
    """Its second answer would be taken for that of whatever is sent next: the link
    stays away until a probe has one answer alone."""
    doubled = 0

    def script(peer: Peer) -> None:
        nonlocal doubled
        peer.read()
        peer.send(HELLO_ANSWER)
        while True:
            command = peer.read()
            if command == [b"PING"] and doubled < 3:
                doubled += 1
                peer.send(b"+PONG\r\n+PONG\r\n")
            elif command == [b"PING"]:
                peer.send(b"+PONG\r\n")
            elif doubled == 0:
                peer.send(b"junk\r\n")
            else:
                peer.send(b"$5\r\nvalue\r\n")

    with scripted(script) as server:
        client = connect(server.url)
        with pytest.raises(redlane.ConnectionError):
            client.get("k")
        deadline = time.monotonic() + PATIENCE
        value = None
        while value is None and time.monotonic() < deadline:
            with contextlib.suppress(redlane.ConnectionError):
                value = client.get("k")
        assert value == b"value"
        assert doubled == 3
        client.close()
