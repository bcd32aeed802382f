"""The breaker acts within one time-out, one slow call opens nothing, and one probe at a
time, with a deadline of its own, looks for the server. Seen from the server's side."""

from __future__ import annotations

import threading
import time

import pytest
import redlane
from redlane import Cache, Client
from scripted import HELLO_ANSWER, Peer, scripted
from toolset import wait_until, with_more_time

PATIENCE = 60.0
THREADS = 16


class Moody:
    """A server's script that answers each GET with None and each PING, until it is
    dead: then it takes connections and commands, and answers nothing."""

    def __init__(self) -> None:
        self.dead = threading.Event()
        self.lock = threading.Lock()
        self.alive: set[Peer] = set()
        self.most = 0  # connections at one time, of those made since `forget`
        self.lives: list[float] = []  # how long each of those lasted
        self.slow = threading.Event()  # a GET of the key "slow" waits for this

    def forget(self) -> None:
        with self.lock:
            self.alive, self.most, self.lives = set(), 0, []

    def __call__(self, peer: Peer) -> None:
        begin = time.monotonic()
        with self.lock:
            alive, lives = self.alive, self.lives
            alive.add(peer)
            self.most = max(self.most, len(alive))
        try:
            self.talk(peer)
        finally:
            with self.lock:
                alive.discard(peer)
                lives.append(time.monotonic() - begin)

    def talk(self, peer: Peer) -> None:
        while True:
            command = peer.read()
            if self.dead.is_set():
                peer.wait_until_gone()
                return
            if command[0] == b"HELLO":
                peer.send(HELLO_ANSWER)
            elif command[0] == b"PING":
                peer.send(b"+PONG\r\n")
            else:
                if command[-1] == b"slow":
                    self.slow.wait(PATIENCE)
                peer.send(b"$-1\r\n")


def call_for_ever(client: Client, stop: threading.Event, calls: list[int]) -> None:
    while not stop.wait(0.002):  # or the server's threads would have no turn
        calls[0] += fails(client)


def test_one_probe_at_a_time_and_no_call_beside_it() -> None:
    def scenario(seconds: float) -> None:
        moody = Moody()
        with scripted(moody) as server:
            client = Client(server.url, timeout=seconds, connect_timeout=seconds)
            assert client.get("key") is None
            moody.dead.set()
            with pytest.raises(redlane.TimeoutError):
                client.get("key")
            wait_until(lambda: at_once(client), "a call that does not wait")

            moody.forget()
            begin = time.monotonic()
            stop, calls = threading.Event(), [0]
            threads = [
                threading.Thread(target=call_for_ever, args=(client, stop, calls))
                for _ in range(THREADS)
            ]
            for thread in threads:
                thread.start()
            try:
                wait_until(lambda: len(moody.lives) >= 4, "four probes")
            finally:
                stop.set()
                for thread in threads:
                    thread.join()
            elapsed = time.monotonic() - begin
            assert calls[0] > 10 * len(moody.lives)
            # One may begin before the server has seen the last one's end.
            assert moody.most <= 2
            assert sum(moody.lives) < 1.5 * elapsed, moody.lives
            assert max(moody.lives) > 0.6 * seconds, moody.lives

            moody.dead.clear()
            wait_until(lambda: not fails(client), "the return")
            client.close()

    with_more_time(scenario, 0.3, 1, 4)


def fails(client: Client) -> bool:
    try:
        client.get("key")
    except (redlane.ConnectionError, redlane.TimeoutError):
        return True
    return False


def at_once(client: Client) -> bool:
    """Whether a call fails without waiting for anything."""
    begin = time.monotonic()
    assert fails(client)
    return time.monotonic() - begin < 0.1


def test_a_call_waits_for_no_more_than_its_own_end_and_one_verdict() -> None:
    """Of each thread, however many there are, the calls that wait can be counted."""

    def scenario(seconds: float) -> None:
        moody = Moody()
        with scripted(moody) as server:
            client = Client(server.url, timeout=seconds, connect_timeout=seconds)
            waited = [0] * THREADS
            assert client.get("key") is None
            moody.dead.set()

            def work(number: int) -> None:
                for _ in range(30):
                    begin = time.monotonic()
                    waited[number] += not fails(client)  # which it must not do
                    waited[number] += time.monotonic() - begin > 0.5 * seconds

            threads = [
                threading.Thread(target=work, args=(number,))
                for number in range(THREADS)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            # Its own time-out, the verdict of the probe; and one for a busy machine.
            assert max(waited) <= 3
            client.close()

    with_more_time(scenario, 0.5, 2, 8)


def test_one_slow_call_opens_nothing_and_costs_nobody_else() -> None:
    def scenario(seconds: float) -> None:
        moody = Moody()
        with scripted(moody) as server:
            client = Client(server.url, timeout=seconds, connect_timeout=seconds)
            cache = Cache(client)
            stop = threading.Event()
            failures: list[BaseException] = []

            def work() -> None:
                try:
                    while not stop.is_set():
                        client.get("key")
                        cache.get("key")
                except BaseException as error:
                    failures.append(error)

            threads = [threading.Thread(target=work) for _ in range(3)]
            for thread in threads:
                thread.start()
            try:
                for _ in range(2):
                    with pytest.raises(redlane.TimeoutError):
                        client.get("slow")
                    wait_until(
                        lambda: client.health()["breaker"] == "closed",
                        "the good verdict",
                    )
            finally:
                stop.set()
                moody.slow.set()
                for thread in threads:
                    thread.join()
            assert failures == []
            client.close()

    with_more_time(scenario, 0.5, 2, 8)


@pytest.mark.parametrize("word", ["LOADING", "MASTERDOWN", "CLUSTERDOWN", "BUSY"])
def test_answers_that_are_an_outage(word: str) -> None:
    def script(peer: Peer) -> None:
        peer.read()
        peer.send(HELLO_ANSWER)
        while True:
            peer.read()
            peer.send(f"-{word} not now\r\n".encode())

    with scripted(script) as server:
        client = Client(server.url, timeout=60, connect_timeout=60)
        with pytest.raises(redlane.ReplyError, match="not now"):
            client.get("key")
        assert client.health()["breaker"] == "open"
        client.close()


@pytest.mark.parametrize(
    "word",
    [
        *("ERR", "WRONGTYPE", "BUSYGROUP", "BUSYKEY", "NOSCRIPT", "EXECABORT", "XYZ"),
        *("OOM", "READONLY"),
    ],
)
def test_answers_that_are_none_for_reads(word: str) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        while True:
            command = peer.read()
            if command[0] == b"SET":
                peer.send(f"-{word} not this\r\n".encode())
            else:
                peer.send(b"$5\r\nvalue\r\n")

    with scripted(script) as server:
        client = Client(server.url, timeout=60, connect_timeout=60)
        with pytest.raises(redlane.ReplyError, match="not this"):
            client.set("key", "other")
        for _ in range(5):
            assert client.get("key") == b"value"
        client.close()


def test_a_call_that_made_progress_is_no_failure() -> None:
    """A reply of many megabytes through a deadline that is too short for it."""

    def script(peer: Peer) -> None:
        peer.greet()
        while peer.read()[-1] == b"other":
            peer.send(b"$-1\r\n")
        peer.send(b"$100000000\r\n")
        while True:
            peer.send(b"x" * 1000)
            time.sleep(0.005)

    def scenario(seconds: float) -> None:
        with scripted(script) as server:
            client = Client(server.url, timeout=seconds, connect_timeout=60)
            with pytest.raises(redlane.TimeoutError):
                client.get("key")
            # Had it been one, the next call would wait for a probe.
            assert client.get("other") is None
            assert [command[0] for command in server.commands].count(b"PING") == 0
            client.close()

    with_more_time(scenario, 1, 4, 16)
