"""Fixtures that all tests share: real servers on loopback, clients on each executor."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))

from aio import KINDS, Runner
from outage_tools import Switch, switched
from selection import left_out, select, sort_out
from servers import (
    ACL_PASSWORD,
    ACL_USER,
    PASSWORD,
    PATIENT,
    Server,
    server_binaries,
    server_name,
)
from tls import Authority, TlsServer, running, temporary_authority
from upstash_gateway import Gateway, running_gateway

# CI draws the same examples each time, so that what it says depends on the change;
# elsewhere each run explores further. How long one takes, and how long it takes to draw
# one, is the machine's affair.
settings.register_profile(
    "redlane",
    derandomize=bool(os.environ.get("CI")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("redlane")

# A shell that runs the tests in the background has them ignore SIGINT, and so would
# their children: the tests of Ctrl-C need it to arrive.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


BINARIES = server_binaries()


# Whole files need not even be imported.
collect_ignore = list(left_out())


def pytest_itemcollected(item: pytest.Item) -> None:
    sort_out(item)


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    select(config, items)


def pytest_collection_finish() -> None:
    """What is there now stays until the end. Were it left to the collector, each test
    that collects would have all of it looked through, which takes a tenth of a second
    and was half of the time of all tests on loops."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def every_record_has_an_event() -> Iterator[None]:
    """Whatever a test makes the library log has a name that is in the table."""
    from redlane._logging import EVENTS

    nameless: list[str] = []

    def look(record: logging.LogRecord) -> bool:
        if getattr(record, "event", None) not in EVENTS:
            nameless.append(record.getMessage())
        return True

    logger = logging.getLogger("redlane")
    logger.addFilter(look)
    yield
    logger.removeFilter(look)
    assert nameless == []


@pytest.fixture(autouse=True)
def every_test_has_its_own_levels() -> Iterator[None]:
    """An application that a test makes in this process sets those of its loggers."""
    yield
    for name in ("redlane", "krowoc", "ludo", "matrx", "mural", "videocache"):
        logging.getLogger(name).setLevel(logging.NOTSET)


# One server is no parameter: the names of the tests do not tell it.
@pytest.fixture(
    scope="session", params=BINARIES if len(BINARIES) > 1 else None, ids=server_name
)
def server_binary(request: pytest.FixtureRequest) -> str:
    """The server program: each of REDLANE_TEST_SERVERS in turn. A test that makes a
    Server of its own gives it this one."""
    name: str = getattr(request, "param", BINARIES[0])
    return name


@pytest.fixture(scope="session")
def session_server(server_binary: str) -> Iterator[Server]:
    """The one server of the session; use `redis_server`, which empties it first."""
    server = Server(binary=server_binary)
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def redis_server(session_server: Server) -> Server:
    """The session's server, without a key. Tests must not kill or pause it."""
    session_server.cli("FLUSHALL")
    return session_server


@pytest.fixture
def redis_url(redis_server: Server) -> str:
    """For tools that are made of a URL, with time-outs that a busy machine keeps."""
    return redis_server.patient_url


@pytest.fixture
def fresh_server(server_binary: str) -> Iterator[Server]:
    """A server of the test's own: kill(), start(), pause(), resume(), cli(...)."""
    server = Server(binary=server_binary)
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def old_server(server_binary: str) -> Iterator[Server]:
    """It knows no HELLO, and so no RESP3."""
    server = Server("--rename-command", "HELLO", "", binary=server_binary)
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def session_gateway(session_server: Server) -> Iterator[Gateway]:
    with running_gateway(session_server.port) as made:
        yield made


@pytest.fixture
def rest(session_gateway: Gateway, redis_server: Server) -> Gateway:
    """Upstash's REST protocol, of the session's server, without a key."""
    session_gateway.be_kind()
    return session_gateway


@pytest.fixture(scope="session")
def password_server(server_binary: str) -> Iterator[Server]:
    """requirepass, and an ACL user whose name and password need percent-encoding: the
    constants PASSWORD, ACL_USER and ACL_PASSWORD of servers.py."""
    server = Server("--requirepass", PASSWORD, binary=server_binary, password=PASSWORD)
    try:
        server.start()
        server.cli(
            "ACL", "SETUSER", ACL_USER, "on", f">{ACL_PASSWORD}", "~*", "&*", "+@all"
        )
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def authority() -> Iterator[Authority]:
    """The tests' own, which nobody else trusts."""
    with temporary_authority() as made:
        yield made


@pytest.fixture(scope="session")
def session_tls_server(authority: Authority) -> Iterator[TlsServer]:
    """The one TLS server of the session; use `tls_server`, which empties it first."""
    with running(TlsServer(authority.issue("server"), ca=authority.ca)) as server:
        yield server


@pytest.fixture
def tls_server(session_tls_server: TlsServer) -> TlsServer:
    """The session's TLS server, without a key. Tests must not kill or pause it."""
    session_tls_server.cli("FLUSHALL")
    return session_tls_server


@pytest.fixture
def fresh_tls_server(authority: Authority) -> Iterator[TlsServer]:
    """A TLS server of the test's own: kill(), start(), pause(), resume(), cli(...)."""
    with running(TlsServer(authority.issue("fresh"), ca=authority.ca)) as server:
        yield server


def make_client(executor: str, request: pytest.FixtureRequest, **options: Any) -> Any:
    """A Client on "engine", "redis", "unix" or "rest", whose executor holds no key."""
    from redlane import Client

    if executor == "engine":
        url = "memory://"
    elif executor == "rest":
        gateway: Gateway = request.getfixturevalue("rest")
        url = gateway.url
        options = {"token": gateway.token, **PATIENT, **options}
    else:
        server: Server = request.getfixturevalue("redis_server")
        url = server.url if executor == "redis" else server.unix_url
        options = {**PATIENT, **options}
    client = Client(url, **options)
    client.flushdb()
    return client


@pytest.fixture(params=["engine", "redis", "rest"])
def executor(server_binary: str, request: pytest.FixtureRequest) -> str:
    """Which executor answers; a test may parametrise it with "unix" too. Which tests
    are for "rest", and when, selection.py says."""
    # server_binary stands there so that pytest knows of its parameter: make_client
    # asks for a server by name.
    name: str = request.param
    return name


@pytest.fixture
def client(
    executor: str, redis_server: Server, request: pytest.FixtureRequest
) -> Iterator[Any]:
    """A Client on each executor in turn."""
    made = make_client(executor, request)
    yield made
    made.close()


@pytest.fixture
def switch(redis_server: Server) -> Iterator[Switch]:
    """The way to a server that keeps its data, for one process: on, or off."""
    with switched(redis_server) as made:
        yield made


@pytest.fixture(params=list(KINDS))
def run(request: pytest.FixtureRequest) -> Runner:
    """Runs a coroutine on a new loop: asyncio's and uvloop's in turn."""
    return Runner(request.param)
