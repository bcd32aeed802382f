"""Servers that answer, and will not work: LOADING, MASTERDOWN, BUSY; a password or a
right that is missing; no connection to spare; scripts that were forgotten.

"Not now, for anybody" is an outage: raw commands raise the server's own words as a
typed error, tools go on by their policy, and all return by themselves. "Not for you" is
loud, shows no password, and is asked no more often than an outage is probed.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import pytest
import redlane
from scripted import Peer, scripted
from servers import PASSWORD, PATIENT, Server
from toolset import (
    BOUND,
    LINK_ERRORS,
    Toolset,
    count_connections,
    own_connections,
    probes_in,
    toolset,
    try_cli,
    wait_until,
    with_more_time,
)

CANARY = "canary-wr0ng-pass"


# What is said at level ERROR, once each.
LOUD = ["redlane.link.refused", "redlane.operation.failed"]


def loud_events(caplog: pytest.LogCaptureFixture) -> list[str]:
    records: list[Any] = [r for r in caplog.records if r.levelname == "ERROR"]
    return sorted(record.event for record in records)


def refused(tools: Toolset, error: type[BaseException]) -> bool:
    """True once a raw command meets this error, of whatever kind others are."""
    try:
        tools.client.get("raw")
    except error:
        return True
    except (*LINK_ERRORS, redlane.ReplyError):
        return False
    return False


# --- not now ----------------------------------------------------------------------


@contextlib.contextmanager
def loading(server: Server) -> Iterator[type[BaseException]]:
    """A data set that takes its time: a delay for each key, and clients served (with
    LOADING) in between."""
    for name, value in (
        ("key-load-delay", 2000),
        ("loading-process-events-interval-bytes", 1024),
    ):
        server.cli("CONFIG", "SET", name, value)
    server.cli("DEBUG", "POPULATE", 40000, "filler", 50)
    reload = threading.Thread(target=try_cli, args=(server, "DEBUG", "RELOAD"))
    reload.start()
    yield redlane.LoadingError
    server.cli("CONFIG", "SET", "key-load-delay", 0)
    reload.join()


@contextlib.contextmanager
def busy(server: Server) -> Iterator[type[BaseException]]:
    """A script that runs until it is killed."""
    server.cli("CONFIG", "SET", "busy-reply-threshold", 10)
    script = "while true do end"
    thread = threading.Thread(target=try_cli, args=(server, "EVAL", script, 0))
    thread.start()
    yield redlane.BusyError
    wait_until(lambda: try_cli(server, "SCRIPT", "KILL") == "OK", "the script's end")
    thread.join()


@contextlib.contextmanager
def orphaned(server: Server) -> Iterator[type[BaseException]]:
    """A replica without its primary, told not to serve what it has."""
    server.cli("CONFIG", "SET", "replica-serve-stale-data", "no")
    server.cli("REPLICAOF", "127.0.0.1", "1")
    yield redlane.ReplyError  # MASTERDOWN
    server.cli("REPLICAOF", "NO", "ONE")


@pytest.mark.parametrize("fault", [loading, busy, orphaned])
def test_not_now_is_an_outage(
    fresh_server: Server,
    fault: object,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert callable(fault)
    caplog.set_level(logging.INFO, logger="redlane")
    with toolset(fresh_server.url, timeout=30) as tools:
        tools.warm()
        begin, before = time.monotonic(), count_connections(fresh_server)
        with fault(fresh_server) as error:
            wait_until(lambda: refused(tools, error), error.__name__)
            assert tools.breaker == "open"
            end = time.monotonic() + 0.3
            while time.monotonic() < end:
                tools.use()
                with pytest.raises((error, *LINK_ERRORS)):
                    tools.client.get("raw")
            assert tools.mode == "away"
        made = count_connections(fresh_server) - before
        assert made < probes_in(time.monotonic() - begin)
        tools.assert_healed(fresh_server)
    assert loud_events(caplog) == LOUD


def test_loading_since_the_start(fresh_server: Server) -> None:
    """A client whose server is loading when it is first used."""
    fresh_server.cli("SET", "raw", "there")
    with toolset(fresh_server.url, timeout=30) as tools:
        with loading(fresh_server) as error:
            wait_until(lambda: refused(tools, error), "LOADING")
            tools.use()
        tools.assert_healed(fresh_server)


# --- not for you ------------------------------------------------------------------


def url_of(server: Server, user: str, password: str) -> str:
    login = f"{user}:{quote(password, safe='')}@" if password else ""
    return f"redis://{login}127.0.0.1:{server.port}/0"


@pytest.mark.parametrize(
    ("user", "password"),
    [("", ""), ("", CANARY), ("default", CANARY), ("nobody", CANARY)],
    ids=["NOAUTH", "password", "user", "unknown user"],
)
def test_a_refused_login_is_loud_and_no_loop(
    password_server: Server,
    user: str,
    password: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, logger="redlane")
    with toolset(url_of(password_server, user, password), timeout=30) as tools:
        error = tools.assert_raises((redlane.AuthenticationError,))
        begin, before = time.monotonic(), count_connections(password_server)
        calls, took = 0, 0.0
        while took < 0.5 or calls <= 3 * probes_in(took):
            assert took < BOUND
            with pytest.raises(redlane.AuthenticationError):
                tools.client.get("raw")
            tools.use()
            calls += 20
            took = time.monotonic() - begin
        assert count_connections(password_server) - before < probes_in(took)
        said = [
            str(error),
            repr(error),
            repr(tools.client),
            repr(tools.client.health()),
        ]
    said += [record.getMessage() for record in caplog.records]
    assert not any(CANARY in text or PASSWORD in text for text in said)
    assert loud_events(caplog) == LOUD


def test_a_password_that_is_put_right(fresh_server: Server) -> None:
    """The server's own password is changed to the client's: no restart is needed."""
    url = f"redis://:{CANARY}@127.0.0.1:{fresh_server.port}/0"
    fresh_server.cli("ACL", "SETUSER", "default", "resetpass", ">another")
    fresh_server.password = "another"
    with toolset(url, timeout=30) as tools:
        tools.assert_raises((redlane.AuthenticationError,))
        tools.use()
        fresh_server.cli("ACL", "SETUSER", "default", "resetpass", f">{CANARY}")
        fresh_server.password = CANARY
        tools.assert_healed(fresh_server)


def test_a_right_that_is_missing(
    fresh_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """NOPERM is an answer for this command and key, not an outage: it is raised, by a
    cache too, and nothing is tried again; what is computed is returned uncached."""
    caplog.set_level(logging.DEBUG, logger="redlane")
    fresh_server.cli(
        *("ACL", "SETUSER", "small", "on", f">{CANARY}", "~allowed:*", "&*", "+@all")
    )
    with toolset(url_of(fresh_server, "small", CANARY), timeout=30) as tools:
        before = count_connections(fresh_server)
        error = tools.assert_raises((redlane.PermissionDeniedError,))
        for call in (
            lambda: tools.cache.get("k"),
            lambda: tools.cache.set("k", 1),
            lambda: tools.counter.increment("k"),
        ):
            with pytest.raises(redlane.PermissionDeniedError):
                call()
        assert tools.double(4) == 8
        assert tools.counter.get("k") == 40
        assert tools.videos.get("black", ["white"]) is None
        assert tools.videos.set("black", ["white"], "u") is False
        assert tools.client.set("allowed:k", "v") is True
        assert tools.mode == "redis"
        assert count_connections(fresh_server) - before < 5
    said = [str(error)] + [record.getMessage() for record in caplog.records]
    assert not any(CANARY in text for text in said)


# --- no room ----------------------------------------------------------------------


def test_a_server_that_is_full(fresh_server: Server) -> None:
    """ "max number of clients" is an error line that nobody asked for, ahead of the
    handshake. With no connection at all it is an outage; room comes, and it is over."""
    fillers = [connected(fresh_server) for _ in range(2)]
    fresh_server.cli("CONFIG", "SET", "maxclients", 2)
    with toolset(fresh_server.url, timeout=30) as tools:
        error = tools.assert_raises((redlane.ReplyError,))
        assert "max number of clients" in str(error)
        tools.use()
        assert tools.breaker == "open"
        for filler in fillers:
            filler.close()
        # The test itself needs a connection, at times beside a probe.
        wait_until(lambda: raise_limit(fresh_server), "room")
        tools.assert_healed(fresh_server)


def raise_limit(server: Server) -> bool:
    with contextlib.suppress(OSError):  # refused
        return bool(try_cli(server, "CONFIG", "SET", "maxclients", 100) == "OK")
    return False


def test_a_full_server_that_has_one_for_us(fresh_server: Server) -> None:
    """Threads share what there is; none sees that the server is full."""
    with toolset(fresh_server.url, timeout=30) as tools:
        tools.warm()
        wait_until(lambda: own_connections(fresh_server) == 1, "one connection")
        fresh_server.cli("CONFIG", "SET", "maxclients", 2)
        failures: list[BaseException] = []

        def work(number: int) -> None:
            try:
                for turn in range(50):
                    tag = f"{number}:{turn}".encode()
                    assert tools.client.echo(tag) == tag
                    assert tools.double(number) == 2 * number
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert tools.mode == "redis"
        assert tools.client.health()["pool"]["size"] <= 2


def test_a_probe_that_finds_the_server_full(caplog: pytest.LogCaptureFixture) -> None:
    """One call timed out, and the place of its connection is taken by somebody else's:
    the probe is told that there is no room. The server answers, then; the connections
    that are left go on."""
    caplog.set_level(logging.INFO, logger="redlane")

    def scenario(seconds: float) -> None:
        together = threading.Barrier(2)
        greeted: list[Peer] = []
        caplog.clear()

        def script(peer: Peer) -> None:
            if len(greeted) >= 2:
                peer.read()
                peer.send(b"-ERR max number of clients reached\r\n")
                return
            greeted.append(peer)
            peer.greet()
            peer.read()
            together.wait(BOUND)  # both connections are taken at the same moment
            while True:
                peer.send(b"+OK\r\n")
                if peer.read() == [b"SLOW"]:
                    peer.wait_until_gone()
                    return

        def log_of(level: str) -> list[str]:
            return [r.getMessage() for r in caplog.records if r.levelname == level]

        with (
            scripted(script) as server,
            redlane.Client(
                server.url, timeout=seconds, connect_timeout=BOUND
            ) as client,
            ThreadPoolExecutor(2) as pool,
        ):
            calls = [pool.submit(client.execute, "ANY") for _ in range(2)]
            assert [call.result() for call in calls] == [b"OK"] * 2
            with pytest.raises(redlane.TimeoutError):
                client.execute("SLOW")
            assert client.execute("ANY") == b"OK"
            assert client.health()["breaker"] == "closed"
        assert len(log_of("INFO")) == 2  # checked, and back
        assert log_of("ERROR") == [f"Redis operation failed: timed out ({server.url})"]
        assert log_of("WARNING") == []

    with_more_time(scenario, 1, 5, 20)


def connected(server: Server) -> redlane.Client:
    client = redlane.Client(server.url, **PATIENT)
    client.ping()
    return client


# --- forgotten --------------------------------------------------------------------


def test_scripts_that_the_server_forgets(redis_server: Server) -> None:
    """SCRIPT FLUSH between any two calls: each text goes again, and nobody notices."""
    with toolset(redis_server.url, timeout=30) as tools:
        tools.warm()
        for number in range(20):
            redis_server.cli("SCRIPT", "FLUSH")
            assert tools.counter.increment("warm") == 41 + number
            redis_server.cli("SCRIPT", "FLUSH")
            assert tools.double(500 + number) == 1000 + 2 * number
            redis_server.cli("SCRIPT", "FLUSH")
            assert tools.cache.add(f"added:{number}", 1) is True
        assert redis_server.cli("GET", "n:warm") == b"60"
        assert tools.mode == "redis"
