"""Servers that spoil the replay: garbage, wrong types, cursors without end, rights that
are missing. The link heals or stays open, with bounded work; nothing crashes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from outage_tools import is_well, switched, wait_until
from redlane import Cache, Client
from scripted import HELLO_ANSWER, Gone, Peer, ScriptedServer, scripted
from servers import PATIENT, Server

Answer = Callable[[list[bytes]], bytes]


class Spoiler:
    """A script: away at first (LOADING); then it answers the replay as it is told."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.away = True
        self.asked = 0
        self.pings = 0
        self._lock = threading.Lock()

    def __call__(self, peer: Peer) -> None:
        while True:
            command = peer.read()
            name = command[0].upper()
            if name == b"HELLO":
                peer.send(HELLO_ANSWER)
            elif name in (b"PING", b"INFO"):
                self.pings += 1
                peer.send(b"-LOADING it\r\n" if self.away else b"+PONG\r\n")
            elif self.away:
                peer.send(b"-LOADING it\r\n")
            else:
                with self._lock:
                    self.asked += 1
                peer.send(self.answer(command))


def kept_by(server: ScriptedServer) -> tuple[Client[Any], Cache]:
    """A client that keeps a change of each kind for that server."""
    client = Client(server.url, **PATIENT)
    cache = Cache(client, prefix="c")
    cache.delete("deleted")
    cache.set("temporary", "v", ttl=60)
    cache.set("durable", "v")
    cache.delete("replaced")
    cache.set("replaced", "v")
    cache.increment("amount", 3)
    cache.invalidate("c:m:*")
    assert client.health()["breaker"] == "open"
    return client, cache


def for_name(name: bytes, reply: bytes, others: bytes = b":1\r\n") -> Answer:
    def answer(command: list[bytes]) -> bytes:
        if command[0] == name:
            return reply
        return b"*2\r\n$1\r\n0\r\n*0\r\n" if command[0] == b"SCAN" else others

    return answer


REPLIES = {
    "nothing found": b"*2\r\n$1\r\n0\r\n*0\r\n",
    "status": b"+OK\r\n",
    "integer": b":7\r\n",
    "nil": b"$-1\r\n",
    "empty bulk": b"$0\r\n\r\n",
    "empty array": b"*0\r\n",
    "nil array": b"*-1\r\n",
    "nil cursor": b"*2\r\n$-1\r\n*0\r\n",
    "empty cursor": b"*2\r\n$0\r\n\r\n*0\r\n",
    "cursor of words": b"*2\r\n$5\r\nhello\r\n*0\r\n",
    "cursor with a NUL": b"*2\r\n$3\r\n\0\0\0\r\n*0\r\n",
    "long cursor": b"*2\r\n$60\r\n" + b"1" * 60 + b"\r\n*0\r\n",
    "integer cursor": b"*2\r\n:0\r\n*0\r\n",
    "keys are a bulk": b"*2\r\n$1\r\n0\r\n$1\r\nk\r\n",
    "a key is nil": b"*2\r\n$1\r\n0\r\n*2\r\n$-1\r\n$1\r\nk\r\n",
    "a key is an integer": b"*2\r\n$1\r\n0\r\n*1\r\n:5\r\n",
    "a key is an array": b"*2\r\n$1\r\n0\r\n*1\r\n*1\r\n$1\r\nk\r\n",
    "a key is an error": b"*2\r\n$1\r\n0\r\n*1\r\n-ERR no\r\n",
    "an error": b"-ERR no\r\n",
    "no right": b"-NOPERM no\r\n",
    "an empty error": b"-\r\n",
    "a redirection": b"-MOVED 7 127.0.0.1:1\r\n",
}


@pytest.mark.parametrize("name", [b"SCAN", b"UNLINK", b"SET", b"EVAL"])
@pytest.mark.parametrize("reply", REPLIES.values(), ids=list(REPLIES))
def test_an_answer_that_makes_no_sense(name: bytes, reply: bytes) -> None:
    """It is taken for what it is: an answer. What it does not do is lost."""
    spoiler = Spoiler(for_name(name, reply))
    with scripted(spoiler) as server:
        client, _ = kept_by(server)
        spoiler.away = False
        wait_until(lambda: is_well(client), "the return")
        client.close()


GARBAGE = {
    "no type": b"hello\r\n",
    "huge bulk": b"$2147483647999\r\n",
    "huge array": b"*2147483647\r\n",
    "negative": b"$-7\r\n",
    "deep": b"*1\r\n" * 50 + b":1\r\n",
    "resp3": b"%1\r\n+a\r\n:1\r\n",
    "end of file": b"",
}


@pytest.mark.parametrize("name", [b"SCAN", b"UNLINK", b"SET", b"EVAL"])
@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=list(GARBAGE))
def test_an_answer_that_is_none(name: bytes, garbage: bytes) -> None:
    """The link stays open, and is tried as seldom as any other that is away."""

    def answer(command: list[bytes]) -> bytes:
        if command[0] == name and not healed.is_set():
            if not garbage:
                raise Gone
            return garbage
        return for_name(name, REPLIES["nothing found"])(command)

    healed = threading.Event()
    spoiler = Spoiler(answer)
    with scripted(spoiler) as server:
        client, cache = kept_by(server)
        spoiler.away = False
        before = spoiler.pings
        wait_until(lambda: spoiler.pings > before + 1, "a second try")
        assert not is_well(client)
        assert cache.get("deleted") is None
        assert cache.get("replaced") == "v"
        # A few kilobytes at a time: no loop.
        assert spoiler.asked < 100
        healed.set()
        wait_until(lambda: is_well(client), "the return")
        client.close()


@pytest.mark.parametrize(
    "cursor", ["the same", "words", pytest.param("counting", marks=pytest.mark.soak)]
)
def test_a_cursor_without_end(cursor: str) -> None:
    """It is given up after a while, and counted as lost: no sweep goes on for ever."""
    numbers = iter(range(1, 1 << 60))

    def answer(command: list[bytes]) -> bytes:
        if command[0] != b"SCAN":
            return b":1\r\n"
        text = {"the same": b"17", "counting": b"%d" % next(numbers), "words": b"on"}
        word = text[cursor]
        return b"*2\r\n$%d\r\n%b\r\n*0\r\n" % (len(word), word)

    spoiler = Spoiler(answer)
    with scripted(spoiler) as server:
        client, _ = kept_by(server)
        spoiler.away = False
        wait_until(lambda: spoiler.asked > 0, "the replay")
        end = time.monotonic() + 600
        while not is_well(client):
            assert time.monotonic() < end
            time.sleep(0.1)
        assert spoiler.asked < 200_000
        assert client.health()["journal"]["lost"] == 1
        client.close()


@pytest.mark.parametrize(
    "missing", ["-unlink", "-eval", "-scan", "-set", "-unlink -eval -scan -set"]
)
def test_missing_rights(fresh_server: Server, missing: str) -> None:
    """What the server never allows is counted as lost; the link heals."""
    fresh_server.cli("ACL", "SETUSER", "app", "on", ">word", "~*", "&*", "+@all")
    with switched(fresh_server) as switch:
        url = switch.url.replace("redis://", "redis://app:word@")
        client = Client(url, **PATIENT)
        cache = Cache(client, prefix="c")
        cache.set("m:1", "old")
        switch.off(client)
        cache.delete("deleted")
        cache.set("durable", "v")
        cache.delete("replaced")
        cache.set("replaced", "v")
        cache.increment("amount", 3)
        cache.invalidate("c:m:*")
        rights = [f"-{name.strip()}" for name in missing.split("-") if name.strip()]
        fresh_server.cli("ACL", "SETUSER", "app", *rights)
        switch.on(client)
        assert client.health()["journal"]["lost"] > 0
        assert cache.get("deleted") is None
        client.close()


@pytest.mark.parametrize("word", ["LOADING", "BUSY", "MASTERDOWN", "CLUSTERDOWN"])
def test_away_again_in_mid_replay(word: str) -> None:
    """Refused for the time being: tried again, as a whole."""
    refusing = threading.Event()
    refusing.set()

    def answer(command: list[bytes]) -> bytes:
        if refusing.is_set() and command[0] != b"SCAN":
            return f"-{word} not now\r\n".encode()
        return for_name(b"", b"")(command)

    spoiler = Spoiler(answer)
    with scripted(spoiler) as server:
        client, _ = kept_by(server)
        spoiler.away = False
        wait_until(lambda: spoiler.asked > 2, "a replay")
        assert not is_well(client)
        refusing.clear()
        wait_until(lambda: is_well(client), "the return")
        deleted = [c for c in server.commands if c[0] == b"UNLINK"]
        assert [b"UNLINK", b"c:deleted"] in deleted
        client.close()
