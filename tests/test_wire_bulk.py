"""Large bulk strings, which are received straight into their bytes objects: the same
replies, limits and errors as by way of the buffer."""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import threading
import time
import tracemalloc
from typing import Any

import pytest
import redlane
from scripted import Peer, scripted
from servers import PATIENT, Server
from tls import Authority, TlsServer

LARGE = 512 * 1024  # from here on, what is still to come does not go through the buffer
MB = 1 << 20
DATA = random.Random(13).randbytes(3 * MB)


def content(size: int) -> bytes:
    return (DATA * (size // len(DATA) + 1))[:size]


def bulk(value: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value), value)


def connect(url: str, **options: Any) -> redlane.Client:
    return redlane.Client(url, **{**PATIENT, **options})


@pytest.mark.parametrize(
    "size",
    [LARGE - 1, LARGE, LARGE + 1, 2 * MB, 16 * MB + LARGE, 40 * MB],
)
def test_every_size(redis_server: Server, size: int) -> None:
    value = content(size)
    with connect(redis_server.url) as client:
        client.set("large", value)
        for _ in range(3):
            assert client.get("large") == value
            assert client.execute("ECHO", "small") == b"small"
        client.delete("large")


@pytest.mark.parametrize("size", [LARGE + 1, 20 * MB])
def test_over_tls(tls_server: TlsServer, authority: Authority, size: int) -> None:
    value = content(size)
    with connect(tls_server.tls_url(), tls_ca=authority.ca) as client:
        client.set("large", value)
        assert client.get("large") == value
        assert client.mget(["large", "none", "large"]) == [value, None, value]
        client.delete("large")


def test_among_other_replies(redis_server: Server) -> None:
    first, second = content(2 * MB), content(MB)[::-1]
    with connect(redis_server.url) as client:
        client.mset({"a": first, "b": b"small", "c": second})
        assert client.mget(["a", "b", "none", "c"]) == [first, b"small", None, second]
        pipeline = client.pipeline(transaction=False)
        for key in ("b", "a", "c", "none", "b", "a"):
            pipeline.get(key)
        assert pipeline.execute() == [b"small", first, second, None, b"small", first]
        pipeline = client.pipeline(transaction=True)
        pipeline.get("a").incr("n").get("c")
        got = pipeline.execute()
        assert [got[0], got[2]] == [first, second]
        client.delete("a", "b", "c", "n")


def test_as_text(redis_server: Server) -> None:
    text = "grüße " * MB
    with connect(redis_server.url, decode_responses=True) as client:
        client.set("text", text)
        assert client.get("text") == text
        client.delete("text")


@pytest.mark.parametrize(("size", "count"), [(2 * MB, 20), (20 * MB, 4)])
def test_while_the_request_is_still_being_sent(
    redis_server: Server, size: int, count: int
) -> None:
    value = content(size)
    with connect(redis_server.url) as client:
        pipeline = client.pipeline(transaction=False)
        for _ in range(count):
            pipeline.execute_command("ECHO", value)
        assert pipeline.execute() == [value] * count


def test_payloads_on_many_connections_at_once(redis_server: Server) -> None:
    values = [content(MB + i) for i in range(8)]
    wrong: list[int] = []
    with connect(redis_server.url) as client:
        for i, value in enumerate(values):
            client.set(f"v{i}", value)

        def work(i: int) -> None:
            wrong.extend(i for _ in range(25) if client.get(f"v{i}") != values[i])

        threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        client.delete(*(f"v{i}" for i in range(8)))


VALUE = content(LARGE + 5000)
WIRE = bulk(VALUE)


@pytest.mark.parametrize("prefix", [b"", b"*3\r\n:1\r\n"], ids=["alone", "nested"])
@pytest.mark.parametrize(
    "cut", [1, 2, 4, 7, 8, 9, 10, 5000, -3, -2, -1], ids=lambda cut: f"at {cut}"
)
def test_in_two_pieces(prefix: bytes, cut: int) -> None:
    wire = prefix + WIRE + (b"+end\r\n" if prefix else b"")
    at = len(prefix) + (cut if cut > 0 else len(WIRE) + cut)

    def script(peer: Peer) -> None:
        peer.greet()
        for _ in range(2):
            peer.read()
            peer.send(wire[:at])
            time.sleep(0.02)
            peer.send(wire[at:])
        peer.read()
        peer.send(b"+PONG\r\n")
        peer.wait_until_gone()

    expected = [1, VALUE, b"end"] if prefix else VALUE
    with scripted(script) as server, connect(server.url) as client:
        for _ in range(2):
            assert client.execute("ANY") == expected
        assert client.execute("PING") == b"PONG"
        assert server.connections == 1


HOSTILE = {
    "no terminator": b"$%d\r\n%bXX" % (len(VALUE), VALUE),
    "half a terminator": b"$%d\r\n%b\rX" % (len(VALUE), VALUE),
    "no terminator, in an array": b"*1\r\n$%d\r\n%b\n\r" % (len(VALUE), VALUE),
    "zeros before the size": b"$0%d\r\n%b\r\n" % (len(VALUE), VALUE),
    "sign before the size": b"$+%d\r\n%b\r\n" % (len(VALUE), VALUE),
    "head without line feed": b"$%d\r%b\r\n" % (len(VALUE), VALUE),
    "verbatim": b"=%d\r\ntxt:%b\r\n" % (len(VALUE) + 4, VALUE),
    "too much together": b"*2\r\n" + WIRE + b"$%d\r\n" % (MB - 1) + VALUE,
    "push after it": b"*2\r\n" + WIRE + b">1\r\n+x\r\n",
    "cut in the payload": WIRE[:-4000],
    "cut before the terminator": WIRE[:-2],
    "cut in the terminator": WIRE[:-1],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile(kind: str) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.read()
        if peer.number == 0:
            peer.send(HOSTILE[kind])
            with contextlib.suppress(OSError):  # the client may be gone already
                peer.link.shutdown(socket.SHUT_WR)
        else:
            peer.send(b"+again\r\n")
        peer.wait_until_gone()

    with (
        scripted(script) as server,
        connect(server.url, max_reply=MB) as client,
    ):
        with pytest.raises(redlane.ConnectionError):
            client.execute("ANY")
        assert client.execute("NEXT") == b"again"
        assert server.connections == 2


def test_a_reply_behind_it_that_nobody_awaits_closes_the_connection() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.read()
        peer.send(WIRE + b"+crossed\r\n" if peer.number == 0 else b"+again\r\n")
        peer.wait_until_gone()

    with scripted(script) as server, connect(server.url) as client:
        assert client.execute("ANY") == VALUE
        assert client.execute("NEXT") == b"again"
        assert server.connections == 2


def test_an_announced_size_costs_nothing_before_its_bytes_come() -> None:
    """500 MB announced, 1 MB sent."""
    wire = b"$%d\r\n" % (500 * MB) + content(MB)  # not while memory is traced

    def script(peer: Peer) -> None:
        peer.greet()
        peer.read()
        peer.send(wire)
        peer.wait_until_gone()

    with scripted(script) as server, connect(server.url, timeout=1) as client:
        tracemalloc.start()
        try:
            with pytest.raises(redlane.TimeoutError):
                client.execute("ANY")
            current, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 24 * MB
    assert current < 2 * MB  # and what was begun is released


def test_growth_keeps_what_has_come() -> None:
    """A payload whose object grows several times, in pieces of odd sizes."""
    value = content(70 * MB)
    wire = bulk(value)

    def script(peer: Peer) -> None:
        peer.greet()
        peer.read()
        for start in range(0, len(wire), 9_999_991):
            peer.send(wire[start : start + 9_999_991])
        peer.wait_until_gone()

    with scripted(script) as server, connect(server.url) as client:
        assert client.execute("ANY") == value


def test_failures_leak_nothing() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.read()
        peer.send(WIRE[:-1])

    with scripted(script) as server, connect(server.url) as client:
        tracemalloc.start()
        try:
            held = []
            for _ in range(12):
                with pytest.raises(redlane.ConnectionError):
                    client.execute("ANY")
                held.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
    assert held[-1] - held[1] < len(VALUE)


class Stop(Exception):
    pass


def test_a_signal_handler_ends_it() -> None:
    released = threading.Event()

    def script(peer: Peer) -> None:
        peer.greet()
        peer.read()
        if peer.number == 0:
            peer.send(WIRE[:-4000])
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
            released.wait(60)
        else:
            peer.send(b"+again\r\n")
        peer.wait_until_gone()

    def handler(*_: object) -> None:
        raise Stop

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with scripted(script) as server, connect(server.url) as client:
            with pytest.raises(Stop):
                client.execute("ANY")
            released.set()
            assert client.execute("NEXT") == b"again"
    finally:
        released.set()
        signal.signal(signal.SIGUSR1, before)
