"""The relay by itself: what it does with the ends that it is given, whenever anything
about them begins, breaks or ends."""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import socket
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from outage_tools import wait_until
from redlane import _rest
from servers import Server, encode_command, patient
from upstash_gateway import Gateway

SECONDS = 60
PROGRAM = (sys.executable, "-W", "error", "-c")


def relays() -> set[threading.Thread]:
    return {t for t in threading.enumerate() if t.name.startswith("redlane-rest")}


def start(control: socket.socket, gateway: Gateway) -> None:
    _rest.start(
        control.detach(), gateway.url, gateway.token.encode(), 30.0, 4, 64 << 20
    )


def waiting(end: socket.socket) -> int:
    """Bytes that nobody has taken yet."""
    (count,) = struct.unpack("i", fcntl.ioctl(end, termios.FIONREAD, b"\0" * 4))
    assert isinstance(count, int)
    return count


@contextmanager
def connection(gateway: Gateway) -> Iterator[tuple[socket.socket, socket.socket]]:
    """One end of a connection by a relay of its own, and the other as the relay has
    it."""
    others = relays()
    ours, theirs = socket.socketpair()
    end, given = socket.socketpair()
    with ours, end, given:
        start(theirs, gateway)
        socket.send_fds(ours, [b"\0"], [given.fileno()])
        end.settimeout(SECONDS)
        yield end, given
    wait_until(lambda: relays() <= others, "the end of the relay")


def read_exactly(end: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = end.recv(1 << 20)
        assert piece, bytes(data[-100:])
        data += piece
    assert len(data) == size
    return bytes(data)


def test_a_transaction_in_pieces_is_one_request(rest: Gateway) -> None:
    with connection(rest) as (end, given):
        commands = [["GET", "k"], ["MULTI"], ["INCR", "a"], ["INCR", "b"], ["EXEC"]]
        for command in commands:
            end.sendall(encode_command(*(word.encode() for word in command)))
            wait_until(lambda: waiting(given) == 0, "the command is taken")
        expected = b"$-1\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:1\r\n:1\r\n"
        assert read_exactly(end, len(expected)) == expected
    assert ("/multi-exec", [["INCR", "a"], ["INCR", "b"]]) in rest.requests
    assert all("MULTI" not in str(body) for _, body in rest.requests)


def test_a_message_is_whole_whoever_unsubscribes(
    rest: Gateway, redis_server: Server
) -> None:
    """Half of it would be taken for the beginning of the next."""
    from redlane import Client

    payload = b"x" * (8 << 20)
    message = b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$%d\r\n%s\r\n" % (
        len(payload),
        payload,
    )
    with connection(rest) as (end, given), Client(patient(redis_server.url)) as redis:
        end.sendall(encode_command(b"SUBSCRIBE", b"a"))
        begun = b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"
        assert read_exactly(end, len(begun)) == begun
        assert redis.publish("a", payload) == 1
        wait_until(lambda: waiting(end) > 0, "its first bytes")
        end.sendall(encode_command(b"UNSUBSCRIBE", b"a"))
        wait_until(lambda: waiting(given) == 0, "the command is taken")
        wait_until(lambda: rest.streams == 0, "the end of the stream")
        over = b"*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n"
        assert read_exactly(end, len(message) + len(over)) == message + over


# --- its beginning ----------------------------------------------------------------


@pytest.mark.parametrize("runs", [False, True])
def test_a_start_that_is_interrupted(
    runs: bool, rest: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C may come when the thread runs already: it ends with our end."""
    others = relays()
    begin = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        if runs:
            begin(thread)
        raise KeyboardInterrupt

    ours, theirs = socket.socketpair()
    with ours:
        monkeypatch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            start(theirs, rest)
        monkeypatch.undo()
        if not runs:
            ours.settimeout(SECONDS)
            assert ours.recv(1) == b""
    wait_until(lambda: relays() <= others, "the end of the thread")
    wait_until(lambda: len(_rest._relays) <= len(others), "its end")


def test_a_loop_that_cannot_be_made_says_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its end comes when nobody could catch what it complains of."""

    def no_descriptors() -> None:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(socket, "socketpair", no_descriptors)
    said: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    with pytest.raises(OSError, match="too many"):
        _rest._Loop()
    gc.collect()
    assert said == []


QUIET = """
import logging
logging.getLogger("redlane").setLevel(logging.CRITICAL + 1)
"""

SHORT = """
import os, resource, sys, time
import redlane._rest
from redlane import Client, ConnectionError
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
def lowest_free():
    descriptor = os.dup(0)
    os.close(descriptor)
    return descriptor
with Client(sys.argv[1]) as first:
    first.set("k", "v")
failed = 0
for more in range(14):
    with Client(sys.argv[1]) as client:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free() + more, hard))
        try:
            client.get("k")
        except ConnectionError:
            failed += 1
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        while client.health()["breaker"] != "closed":
            time.sleep(0.01)
        assert client.get("k") == b"v"
print(failed)
"""


def test_no_descriptors_are_left(rest: Gateway) -> None:
    """At each of the places where one is needed: an error soon, and no harm later."""
    url = patient(f"{rest.url}?token={rest.token}")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", QUIET + SHORT, url],
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) >= 5


# --- its end ----------------------------------------------------------------------

SLOW = """
import socket, sys, threading, time
asked = threading.Event()
def resolve(*args, **options):
    asked.set()
    time.sleep(600)
socket.getaddrinfo = resolve
from redlane import Client
client = Client("https://name.invalid", token="t", timeout=60, connect_timeout=60)
threading.Thread(target=client.get, args=("k",), daemon=True).start()
assert asked.wait(60)
"""


def test_a_resolver_holds_up_no_exit() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", QUIET + SLOW],
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert (done.returncode, done.stderr) == (0, "")


FORKS = """
import os, random, sys, threading
from redlane import Client, RedlaneError
random.seed(int(sys.argv[2]))
clients = [Client(sys.argv[1]) for _ in range(3)]
names = [f"k{i}" for i in range(20)]
for name in names:
    clients[0].set(name, name)
over = threading.Event()
wrong = []
def ask(rest=False):
    while not over.is_set():
        name, client = random.choice(names), random.choice(clients)
        try:
            found = client.get(name)
        except RedlaneError:  # it was closed
            continue
        if found != name.encode():
            wrong.append((name, found))
def renew():
    while not over.is_set():
        i = random.randrange(3)
        clients[i].close()
        clients[i] = Client(sys.argv[1])
        over.wait(random.random() / 50)
threads = [threading.Thread(target=ask) for _ in range(3)]
threads.append(threading.Thread(target=renew))
for thread in threads:
    thread.start()
for _ in range(int(sys.argv[3])):
    child = os.fork()
    if not child:
        try:
            for client in clients + [Client(sys.argv[1])]:
                try:
                    assert client.get("k7") == b"k7"
                except RedlaneError as error:
                    assert "closed" in str(error), error
            os._exit(0)
        finally:
            os._exit(1)
    if os.waitpid(child, 0)[1]:
        wrong.append("child")
        break
over.set()
for thread in threads:
    thread.join()
sys.exit(str(wrong[:3]) if wrong else 0)
"""


def fork_often(gateway: Gateway, seed: int, times: int) -> None:
    url = patient(f"{gateway.url}?token={gateway.token}")
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-c",
            QUIET + FORKS,
            url,
            str(seed),
            str(times),
        ],
        capture_output=True,
        text=True,
        timeout=SECONDS + 5 * times,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_forks_and_closes_at_any_moment(rest: Gateway) -> None:
    fork_often(rest, 1, 10)


@pytest.mark.soak
def test_many_forks_and_closes(rest: Gateway) -> None:
    assert os.environ.get("REDLANE_SOAK") == "1"
    for seed in range(20):
        fork_often(rest, seed, 50)
