"""A deadline is total: no call lasts longer than its deadline and 50 ms, whatever the
server or the network does.

Calls are timed in a quiet process of their own, with sleeps of the same length between
them, which tell a late machine from a late call. The short sizes ask that one call of
a few is in time; a call that waits for something else than its deadline never is. `make
soak` asks that all are, but for as many as there are sleeps that were late as well.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from children import run_program
from proxy import Proxy
from scripted import Peer, scripted
from servers import Server

SLACK = 0.05
DEADLINE = 0.1

# Times calls; each way says how one is prepared and made, and how many deadlines it may
# take: a lazy video cache looks for the server first, a refresh deletes and stores,
# statistics ask two questions.
PROGRAM = """
import contextlib, json, logging, os, signal, sys, threading, time
import redlane
from redlane import Cache, Client, Counter, VideoCache

logging.disable(logging.CRITICAL)
url, deadline, count, server = (
    sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
)

def made(**options):
    return Client(url, timeout=deadline, connect_timeout=deadline, **options)

def timed(call):
    begin = time.monotonic()
    with contextlib.suppress(redlane.RedlaneError):
        call()
    return time.monotonic() - begin

def cold(client):
    return timed(lambda: client.get("key"))

@contextlib.contextmanager
def frozen():
    os.kill(server, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server, signal.SIGCONT)

def connect(client):
    while True:  # until the machine is not too busy for it
        with contextlib.suppress(redlane.RedlaneError):
            return client.ping()

def warm(call):
    def run(client):
        connect(client)
        with frozen():
            return timed(lambda: call(client))
    return run

def queued(client):
    '''Behind another that has the one connection of the pool and meets its end.'''
    narrow = made(pool_size=1)
    first = threading.Thread(target=lambda: timed(lambda: narrow.get("key")))
    first.start()
    time.sleep(deadline / 2)
    took = timed(lambda: narrow.get("key"))
    first.join()
    narrow.close()
    return took

def behind_a_verdict(client):
    '''The second call meets a suspect link.'''
    connect(client)
    with frozen():
        timed(lambda: client.get("key"))
        return timed(lambda: client.set("key", 1))

blob = b"v" * 20_000_000

def large(client):
    return timed(lambda: client.set("key", blob))

ways = {
    "cold": (cold, 1),
    "queued": (queued, 1),
    "large": (large, 1),
    "verdict": (behind_a_verdict, 1),
    "get": (warm(lambda client: client.get("key")), 1),
    "pipeline": (
        warm(lambda client: client.pipeline().get("a").set("b", 1).execute()), 1),
    "transaction": (
        warm(lambda client: client.pipeline(transaction=True).get("a").execute()), 1),
    "eval": (warm(lambda client: client.eval("return 1", 0)), 1),
    "health": (warm(lambda client: client.health()), 1),
    "cache get": (warm(lambda client: Cache(client).get("a")), 1),
    "cache set": (warm(lambda client: Cache(client).set("a", 1)), 1),
    "cache delete": (warm(lambda client: Cache(client).delete("a")), 1),
    "cache many": (warm(lambda client: Cache(client).set_many({"a": 1, "b": 2})), 1),
    "cache pattern": (warm(lambda client: Cache(client).invalidate("cache:*")), 1),
    "computed": (warm(lambda client: Cache(client).get_or_set("a", lambda: 1)), 1),
    "decorated": (warm(lambda client: Cache(client)(name="f")(lambda: 1)()), 1),
    "counter": (warm(lambda client: Counter(client, "n:{id}").increment(1)), 1),
    "source": (
        warm(lambda client: Counter(client, "n:{id}", source=lambda id: 5).get(1)), 1),
    "video get": (
        warm(lambda client: VideoCache(client, lazy=True).get("a", ["b"])), 1),
    "video set": (
        warm(lambda client: VideoCache(client, lazy=True).set("a", ["b"], "u")), 2),
    "refresh": (warm(lambda client: Cache(client)(name="f")(lambda: 1).refresh()), 2),
    "video stats": (
        warm(lambda client: VideoCache(client, lazy=True).get_stats()), 2),
}

def late_by(way):
    run, deadlines = ways[way]
    with made() as client:
        return run(client) - deadlines * deadline

found = {}
for way in sys.argv[5:]:
    calls, sleeps = found[way] = [], []
    while len(calls) < abs(count):
        calls.append(late_by(way))
        if count < 0 and calls[-1] <= 0.05:
            break
        sleeps.append(timed(lambda: time.sleep(deadline)) - deadline)
print(json.dumps(found))
"""


def check_times(
    url: str, count: int, *ways: str, server: Server | None = None, preload: str = ""
) -> None:
    """Each call is at most as late as promised. A count below nothing is that of tries
    until one is."""
    pid = server.pid if server else 0
    environment = dict(os.environ)
    if preload:
        others = environment.get("LD_PRELOAD")
        environment["LD_PRELOAD"] = f"{others} {preload}" if others else preload
    done = run_program(PROGRAM, url, DEADLINE, count, pid, *ways, env=environment)
    assert done.returncode == 0, done.stderr
    taken = json.loads(done.stdout)
    assert list(taken) == list(ways)
    for way, (calls, sleeps) in taken.items():
        if count < 0:
            assert min(calls) <= SLACK, (way, calls, sleeps)
        else:
            late = [call for call in calls if call > SLACK]
            machine = [sleep for sleep in sleeps if sleep > SLACK / 2]
            assert len(late) <= len(machine), (way, late, machine)


sizes = pytest.mark.parametrize(
    "count", [-20, pytest.param(300, marks=pytest.mark.soak)]
)


def never_answers(peer: Peer) -> None:
    peer.greet()
    peer.wait_until_gone()


def never_greets(peer: Peer) -> None:
    peer.wait_until_gone()


def drips(peer: Peer) -> None:
    peer.greet()
    peer.read()
    peer.send(b"$1000\r\n")
    while True:
        peer.send(b"x")
        threading.Event().wait(0.01)


def drips_its_greeting(peer: Peer) -> None:
    peer.read()
    while True:
        for byte in b"*14\r\n$6\r\nserver\r\n$5\r\nredis\r\n":
            peer.send(bytes((byte,)))
            threading.Event().wait(0.01)


def never_reads(peer: Peer) -> None:
    peer.greet()
    threading.Event().wait(2 * DEADLINE)


@sizes
@pytest.mark.parametrize(
    ("script", "way"),
    [
        (never_answers, "cold"),
        (never_answers, "queued"),
        (never_greets, "cold"),
        (drips, "cold"),
        (drips_its_greeting, "cold"),
        (never_reads, "large"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_server_that_takes_for_ever(
    script: Callable[[Peer], None], way: str, count: int
) -> None:
    with scripted(script) as server:
        check_times(server.url, count, way)


@sizes
@pytest.mark.parametrize(
    "ways",
    [
        ("get", "pipeline", "transaction", "eval", "health", "verdict"),
        ("cache get", "cache set", "cache delete", "cache many", "cache pattern"),
        ("computed", "decorated", "counter", "source"),
        ("refresh", "video get", "video set", "video stats"),
    ],
)
def test_a_frozen_server(
    fresh_server: Server, ways: tuple[str, ...], count: int
) -> None:
    check_times(fresh_server.url, count, *ways, server=fresh_server)


@contextmanager
def full_backlog() -> Iterator[int]:
    """A port where connecting takes for ever."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            yield port
        finally:
            for filler in fillers:
                filler.close()


@sizes
def test_a_connection_that_is_never_accepted(count: int) -> None:
    with full_backlog() as port:
        check_times(f"redis://127.0.0.1:{port}", count, "cold")


@sizes
def test_a_network_that_swallows_or_drips(fresh_server: Server, count: int) -> None:
    for spoil in ("delay", "drip"):
        with Proxy(fresh_server.port) as proxy:
            setattr(proxy, spoil, {"delay": 2 * DEADLINE, "drip": 0.01}[spoil])
            check_times(proxy.url, count, "cold")


@sizes
def test_a_server_that_comes_and_goes(fresh_server: Server, count: int) -> None:
    stop = threading.Event()

    def restart() -> None:
        while not stop.wait(0.05):
            fresh_server.kill()
            stop.wait(0.05)
            fresh_server.start()

    restarts = threading.Thread(target=restart)
    restarts.start()
    try:
        check_times(fresh_server.url, count, "cold")
    finally:
        stop.set()
        restarts.join()


SLOW_NAMES = """
#include <netdb.h>
#include <unistd.h>
int getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                struct addrinfo **found)
{
    (void)host, (void)port, (void)found;
    if (hints->ai_flags & AI_NUMERICHOST) {
        return EAI_NONAME;
    }
    usleep(900000);
    return EAI_AGAIN;
}
"""


@sizes
def test_a_name_that_takes_for_ever(tmp_path: Path, count: int) -> None:
    compiler = os.environ.get("CC") or shutil.which("cc") or "gcc"
    source, library = tmp_path / "slow_names.c", tmp_path / "slow_names.so"
    source.write_text(SLOW_NAMES)
    subprocess.run(
        [compiler, "-D_DEFAULT_SOURCE", "-shared", "-fPIC", "-o", library, source],
        check=True,
    )
    check_times("redis://far.invalid", count, "cold", preload=str(library))
