"""A link that does not answer: a server that is killed, frozen, busy or paused, and a
network that loses, resets, cuts, drips or delays.

For each fault the same is asked: a raw command raises a typed error within its
deadline; no tool raises, and none gives a wrong value; when the fault has gone, all of
them are on the server again by themselves. What the server answers although it will
not work (LOADING, BUSY, NOAUTH, …) is in test_link_refusals.py, writes that alone are
refused in test_link_writes.py.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redlane
from proxy import Proxy
from scripted import Peer, scripted
from servers import Server
from toolset import (
    BOUND,
    LINK_ERRORS,
    Toolset,
    own_connections,
    toolset,
    wait_until,
    with_more_time,
)

# What is given brings the fault about once more, if it ends by itself.
Fault = Callable[[Server], contextlib.AbstractContextManager[Callable[[], None]]]


def do_nothing() -> None:
    pass


@contextlib.contextmanager
def killed(server: Server) -> Iterator[Callable[[], None]]:
    server.kill()
    yield do_nothing
    server.start()


@contextlib.contextmanager
def frozen(server: Server) -> Iterator[Callable[[], None]]:
    server.pause()
    try:
        yield do_nothing
    finally:
        server.resume()


@contextlib.contextmanager
def paused(server: Server) -> Iterator[Callable[[], None]]:
    """CLIENT PAUSE holds back all commands, those of a handshake too; what asks to end
    it would wait as well, so it ends by itself."""

    def pause() -> None:
        server.cli("CLIENT", "PAUSE", "1200", "ALL")

    pause()
    yield pause


@contextlib.contextmanager
def asleep(server: Server) -> Iterator[Callable[[], None]]:
    """DEBUG SLEEP: the server's one thread does nothing."""
    sleepers: list[threading.Thread] = []

    def sleep() -> None:
        for sleeper in sleepers:
            sleeper.join()
        command = ("DEBUG", "SLEEP", "1.2")
        sleepers.append(threading.Thread(target=server.cli, args=command))
        sleepers[-1].start()

    sleep()
    try:
        yield sleep
    finally:
        for sleeper in sleepers:
            sleeper.join()


@pytest.mark.parametrize("fault", [killed, frozen, paused, asleep])
def test_a_server_that_does_not_answer(fresh_server: Server, fault: Fault) -> None:
    with toolset(fresh_server.url) as tools:
        tools.warm()
        with fault(fresh_server) as again:
            # DEBUG SLEEP may begin a moment late, and the test after its end.
            wait_until(lambda: raises(tools) or again(), "the first failure")
            tools.use()  # while it is suspect, or open already
            if fault in (killed, frozen):  # the others end by themselves, perhaps now
                tools.wait_until_away()
                tools.assert_raises()
                assert tools.mode == "away"
                tools.use()
        tools.assert_healed(fresh_server)


def raises(tools: Toolset) -> bool:
    try:
        tools.client.get("raw")
    except LINK_ERRORS:
        return True
    return False


@pytest.mark.parametrize("fault", [killed, frozen])
def test_tools_are_the_first_to_meet_it(fresh_server: Server, fault: Fault) -> None:
    """No raw command has told the breaker: the first call of each tool finds out."""
    firsts: list[Callable[[Toolset], object]] = [
        lambda tools: tools.cache.get("kept"),
        lambda tools: tools.cache.set("k", 1),
        lambda tools: tools.double(1),
        lambda tools: tools.counter.get("warm"),
        lambda tools: tools.counter.increment("warm"),
        lambda tools: tools.videos.get("black", ["white"]),
        lambda tools: tools.videos.set("black", ["w"], "https://x"),
    ]
    every = [Toolset(fresh_server.url) for _ in firsts]
    try:
        for tools in every:
            tools.warm()
        with fault(fresh_server):
            for first, tools in zip(firsts, every, strict=True):
                first(tools)
        for tools in every:
            tools.wait_until_back()
            tools.use()
    finally:
        for tools in every:
            tools.close()


# --- the network ------------------------------------------------------------------


def set_swallow(proxy: Proxy) -> None:
    proxy.swallow = True


def set_refuse(proxy: Proxy) -> None:
    proxy.refuse = True
    proxy.reset_all()


def set_delay(proxy: Proxy) -> None:
    proxy.delay = 0.6


def set_drip(proxy: Proxy) -> None:
    """One byte each 0.25 s, with a deadline of 0.3 s: no reply comes in time."""
    proxy.drip = 0.25


def set_cut(proxy: Proxy) -> None:
    proxy.cut_after = 0


def set_reset(proxy: Proxy) -> None:
    proxy.reset_after = 3


def set_cut_requests(proxy: Proxy) -> None:
    proxy.cut_requests_after = 5


NETWORK = [
    *(set_swallow, set_refuse, set_delay, set_drip),
    *(set_cut, set_reset, set_cut_requests),
]


@pytest.mark.parametrize(
    ("spoil", "transport"),
    [
        *((spoil, "tcp") for spoil in NETWORK),
        *((spoil, "unix") for spoil in (set_swallow, set_cut)),
    ],
)
def test_a_network_that_fails(
    redis_server: Server,
    spoil: Callable[[Proxy], None],
    transport: str,
    tmp_path: Path,
) -> None:
    target: int | str = redis_server.port
    listen = None
    if transport == "unix":
        target, listen = redis_server.socket_path, str(tmp_path / "s")
    with Proxy(target, listen) as proxy:
        with toolset(proxy.unix_url if listen else proxy.url) as tools:
            tools.warm()
            spoil(proxy)
            wait_until(lambda: raises(tools), "the first failure")
            tools.use()
            tools.wait_until_away()
            tools.assert_raises()
            tools.use()
            proxy.heal()
            tools.assert_healed(redis_server)


def test_bytes_that_nobody_asked_for(redis_server: Server) -> None:
    """Into idle connections: each is dropped unused. Into the reply stream of busy
    ones: no caller gets them as a reply of its own."""
    with Proxy(redis_server.port) as proxy:
        with toolset(proxy.url, timeout=30) as tools:
            tools.warm()
            for _ in range(20):
                assert proxy.inject(b"$6\r\nforged\r\n") >= 1
                time.sleep(0.002)
                assert tools.client.get("raw") == b"there"
                tools.read()
            tools.assert_healed(redis_server)


def test_connections_that_are_killed_under_load(fresh_server: Server) -> None:
    """CLIENT KILL TYPE normal every 100 ms: a raw command answers rightly or raises,
    a tool answers rightly."""
    stop = threading.Event()
    failures: list[BaseException] = []
    calls = [0, 0]
    numbers = itertools.count(1)

    def run_raw(tools: Toolset) -> None:
        while not stop.is_set():
            calls[0] += 1
            tag = f"{threading.get_ident()}:{next(numbers)}".encode()
            with contextlib.suppress(*LINK_ERRORS):
                assert tools.client.echo(tag) == tag

    def run_tools(tools: Toolset) -> None:
        while not stop.is_set():
            calls[1] += 1
            # No name twice: another's write is not what it reads.
            key = f"own:{next(numbers)}"
            assert tools.cache.get(key) is None
            assert tools.double(calls[1]) % 2 == 0
            assert tools.counter.get("warm") == 40
            tools.cache.set(key, 1)
            assert tools.cache.get(key) in (None, 1)

    def guarded(body: Callable[[Toolset], None], tools: Toolset) -> None:
        try:
            body(tools)
        except BaseException as error:
            failures.append(error)

    with toolset(fresh_server.url, timeout=30) as tools:
        tools.warm()
        threads = [
            threading.Thread(target=guarded, args=(body, tools))
            for body in (run_raw, run_tools)
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        kills = 0
        end = time.monotonic() + 1.5
        most = time.monotonic() + BOUND
        # A machine that has more to do gets as long as it takes.
        while time.monotonic() < end or (
            (kills <= 10 or min(calls) <= 100)
            and not failures
            and time.monotonic() < most
        ):
            kills += fresh_server.cli(
                *("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            )
            time.sleep(0.1)
        stop.set()
        for thread in threads:
            thread.join()
        assert failures == []
        assert kills > 10
        assert min(calls) > 100
        tools.assert_healed(fresh_server)


def test_a_server_that_closes_what_is_idle(fresh_server: Server) -> None:
    """`timeout 1`: nothing is noticed, not even by a command that goes only once."""
    fresh_server.cli("CONFIG", "SET", "timeout", "1")
    with toolset(fresh_server.url, timeout=30) as tools:
        tools.warm()
        wait_until(lambda: own_connections(fresh_server) == 0, "the idle time-out")
        assert tools.client.incr("n") == 1
        wait_until(lambda: own_connections(fresh_server) == 0, "the idle time-out")
        tools.use()
        assert tools.mode == "redis"
        tools.assert_healed(fresh_server)


def test_a_probe_that_a_caller_ran_is_not_the_last() -> None:
    """The background thread hangs on another server while a caller probes ours, and
    looks for work when that probe is still under way: there is none yet. When the probe
    fails there is, and the thread must hear of it."""
    let_go, probed = threading.Event(), threading.Event()
    slow_peers: list[Peer] = []
    ours: list[Peer] = []

    def slow(peer: Peer) -> None:
        slow_peers.append(peer)
        if len(slow_peers) == 2:  # the thread's probe
            let_go.wait(BOUND)
        peer.greet()  # a probe ends here
        peer.read()
        if len(slow_peers) > 2:
            peer.send(b"+OK\r\n")
            peer.wait_until_gone()

    def script(peer: Peer) -> None:
        ours.append(peer)
        if len(ours) == 2:  # the caller's probe
            let_go.set()
            probed.wait(BOUND)
            return
        peer.greet()
        peer.read()
        if len(ours) > 2:
            peer.send(b"+OK\r\n")
            peer.wait_until_gone()

    def ask(client: redlane.Client) -> object:
        with contextlib.suppress(redlane.ConnectionError):
            return client.execute("ANY")
        return None

    with scripted(slow) as other, scripted(script) as server:
        hanging = redlane.Client(other.url, timeout=BOUND, connect_timeout=BOUND)
        client = redlane.Client(server.url, timeout=BOUND, connect_timeout=BOUND)
        assert ask(hanging) is None
        wait_until(lambda: len(slow_peers) == 2, "the thread's probe")
        assert ask(client) is None
        caller = threading.Thread(target=ask, args=(client,))
        caller.start()
        wait_until(let_go.is_set, "the caller's probe")
        wait_until(lambda: ask(hanging) == b"OK", "the end of the thread's probe")
        time.sleep(0.1)  # it finds nothing to do, and sleeps
        probed.set()
        caller.join()
        wait_until(lambda: ask(client) == b"OK", "the next probe")
        client.close()
        hanging.close()


def test_one_slow_answer_is_no_outage(redis_server: Server) -> None:
    """A reply that drips beyond its deadline was making progress: the call fails, the
    tools miss, the breaker stays closed."""

    def scenario(seconds: float) -> None:
        text = "x" * int(10_000 * seconds)  # takes four times as long
        redis_server.cli("SET", "c:large", f'"{text}"')
        with Proxy(redis_server.port) as proxy:
            with toolset(proxy.url, timeout=seconds) as tools:
                tools.warm()
                proxy.drip, proxy.drip_bytes = 0.02, 50
                with pytest.raises(redlane.TimeoutError):
                    tools.client.get("c:large")
                assert tools.cache.get("large") is None
                assert tools.double(1) == 2
                proxy.heal()
                assert tools.breaker == "closed"
                assert tools.cache.get("large") == text

    with_more_time(scenario, 1, 5, 20)
