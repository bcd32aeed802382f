"""Clients of https:// URLs through TLS, forks, ends and outages."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import pytest
from outage_tools import is_well, wait_until
from proxy import Proxy
from redlane import Cache, Client, ConnectionError, Counter, RedlaneError
from servers import PATIENT, Server, patient
from tls import Authority, Identity
from upstash_gateway import Gateway, running_gateway

SECONDS = 60

# --- TLS --------------------------------------------------------------------------


def test_tls(
    redis_server: Server, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    with (
        running_gateway(redis_server.port, authority.issue("rest")) as gateway,
        Client(gateway.url, token=gateway.token, **PATIENT) as client,
    ):
        assert client.set("k", b"\xff") is True
        assert client.get("k") == b"\xff"
        tls = client.health()["tls"]
        assert tls["version"] == "TLSv1.3"
        assert tls["cipher"].startswith("TLS_")


def test_health_before_the_first_handshake() -> None:
    with Client("https://127.0.0.1:1", token="t", **PATIENT) as client:
        assert client.health()["tls"] == {"version": None, "cipher": None}


@pytest.mark.parametrize("wrong", ["authority", "name", "date"])
def test_a_certificate_that_is_not_good(
    wrong: str,
    redis_server: Server,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Nothing is sent to whom it does not prove."""
    trusted = authority
    if wrong == "authority":
        trusted = Authority(tmp_path, "another")
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted.ca))
    identity: Identity = authority.issue(
        f"wrong-{wrong}",
        **{"name": {"names": "DNS:example.org"}, "date": {"days": -1}}.get(wrong, {}),
    )
    with (
        running_gateway(redis_server.port, identity) as gateway,
        Client(gateway.url, token=gateway.token, **PATIENT) as client,
    ):
        with pytest.raises(ConnectionError, match="certificate"):
            client.get("k")
        assert gateway.count == 0
        assert client.health()["tls"] == {"version": None, "cipher": None}


def test_certificates_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """What HTTP cannot begin without is said by each call."""
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent/ca.pem")
    with Client("https://127.0.0.1:1", token="t", **PATIENT) as client:
        for _ in range(2):
            with pytest.raises(ConnectionError, match="HTTP cannot begin: "):
                client.get("k")


# --- outages ----------------------------------------------------------------------


def test_the_server_behind_it_dies_and_returns(fresh_server: Server) -> None:
    with (
        running_gateway(fresh_server.port) as gateway,
        Client(gateway.url, token=gateway.token, fallback="memory", **PATIENT) as one,
    ):
        cache, counter = Cache(one, prefix="c"), Counter(one, "total", ttl=None)
        cache.set("k", "before")
        fresh_server.kill()
        wait_until(lambda: one.health()["breaker"] == "open", "the outage")
        assert cache.get("k") is None
        assert one.set("raw", "kept by the engine") is True
        assert one.get("raw") == b"kept by the engine"
        cache.delete("k")
        counter.increment(amount=5)
        gateway.refuse(503, "not yet", times=100_000)
        fresh_server.start()
        fresh_server.cli("SET", "c:k", '"of another process"')
        fresh_server.cli("SET", "total", 1)
        gateway.refusals.clear()
        wait_until(lambda: is_well(one), "the return")
        assert fresh_server.cli("GET", "c:k") is None  # the journal was replayed
        assert int(fresh_server.cli("GET", "total")) == 6


def test_the_gateway_goes_and_returns(rest: Gateway, redis_server: Server) -> None:
    proxy = Proxy(int(rest.url.rpartition(":")[2]))
    url = f"http://127.0.0.1:{proxy.port}"
    gaps: list[Any] = []
    try:
        with (
            Client(url, token=rest.token, **PATIENT) as client,
            client.subscribe("ch", on_gap=gaps.append) as messages,
        ):
            assert client.incr("n") == 1
            proxy.refuse = True
            proxy.reset_all()
            wait_until(lambda: client.health()["breaker"] == "open", "the outage")
            with pytest.raises(ConnectionError):
                client.incr("n")
            proxy.refuse = False
            wait_until(lambda: is_well(client), "the return")
            assert client.incr("n") == 2
            wait_until(lambda: redis_server.cli("PUBLISH", "ch", "x") == 1, "a stream")
            assert messages.get(timeout=SECONDS) == b"x"
            assert len(gaps) == 1
    finally:
        proxy.close()


def test_a_quota_is_for_subscriptions_too(rest: Gateway) -> None:
    with (
        Client(rest.url, token=rest.token, timeout=1, connect_timeout=1) as client,
    ):
        rest.refuse(429, "quota", times=1000, retry_after="3600")
        with client.subscribe("ch"):
            wait_until(lambda: rest.count, "the request")
            time.sleep(1.5)
            assert rest.count == 1
        rest.be_kind()


# --- subscriptions ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["..", ".", "a/../b", "a\r\nb", "x\ny\r", "ch?q#f%41"])
def test_names_that_look_like_paths(rest: Gateway, name: str) -> None:
    with (
        Client(rest.url, token=rest.token, **PATIENT) as client,
        client.subscribe(name) as messages,
    ):
        client.publish(name, "m\r")
        assert messages.get(timeout=SECONDS) == b"m\r"


def test_bytes_that_are_no_text(rest: Gateway, redis_server: Server) -> None:
    with (
        Client(rest.url, token=rest.token, **PATIENT) as client,
        client.subscribe(b"\xff") as messages,
    ):
        redis_server.cli("PUBLISH", b"\xff", b"a\xfe")
        assert messages.get(timeout=SECONDS) == "a\ufffd".encode()


# --- ends -------------------------------------------------------------------------


def test_a_client_that_is_closed_meanwhile(rest: Gateway) -> None:
    before = set(threading.enumerate())
    ended: list[BaseException] = []

    def ask() -> None:
        try:
            client.get("k")
        except BaseException as error:
            ended.append(error)

    client = Client(rest.url, token=rest.token, timeout=3, connect_timeout=20)
    client.ping()
    rest.delay = 600
    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_until(lambda: rest.count == 4, "the requests")
    client.close()
    for thread in threads:
        thread.join()
    assert len(ended) == 3
    assert all(isinstance(error, RedlaneError) for error in ended)
    rest.delay = 0
    wait_until(lambda: set(threading.enumerate()) <= before, "the end of the relay")


# It forks beside the relay's thread, on purpose; Python 3.12 says so.
STRICT = ("-W", "error", "-W", "ignore:This process:DeprecationWarning")

FORK = """
import os, sys, time
from redlane import Client
client = Client(sys.argv[1], token=sys.argv[2], timeout=30, connect_timeout=30)
def wait_until_live(subscription):
    while not subscription.live:
        time.sleep(0.01)
messages = client.subscribe("ch")
wait_until_live(messages)
client.publish("ch", "m")
assert messages.get(timeout=30) == b"m"
child = os.fork()
if not child:
    sys.stdin.read()
    with client.subscribe("ch") as own:
        wait_until_live(own)
        client.publish("ch", "child")
        assert own.get(timeout=30) == b"child"
    os._exit(0)
messages.close()
print("closed", flush=True)
assert os.waitpid(child, 0)[1] == 0
client.publish("ch", "m")
"""


def test_a_child_holds_no_stream_of_its_parent(rest: Gateway) -> None:
    child = subprocess.Popen(
        [sys.executable, *STRICT, "-c", FORK, rest.url, rest.token],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout
        assert child.stdout.readline() == "closed\n"
        wait_until(lambda: rest.streams == 0, "the end of the stream")
        _, errors = child.communicate(timeout=SECONDS)
        assert (child.returncode, errors) == (0, "")
    finally:
        child.kill()
        child.communicate()


def find_leaks(gateway: Gateway, rounds: int) -> None:
    url = patient(f"{gateway.url}?token={gateway.token}")
    script = Path(__file__).parent / "rest_leaks.py"
    done = subprocess.run(
        [sys.executable, "-W", "error", script, url, str(rounds)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": clean") == 2


@pytest.mark.soak
def test_nothing_is_left_of_many_clients(rest: Gateway) -> None:
    assert os.environ.get("REDLANE_SOAK") == "1"
    find_leaks(rest, 300)


def test_what_a_client_leaves(rest: Gateway) -> None:
    def play() -> None:
        with (
            Client(rest.url, token=rest.token, **PATIENT) as client,
            client.subscribe("ch") as messages,
        ):
            client.publish("ch", "m")
            assert messages.get(timeout=SECONDS) == b"m"

    def is_over() -> bool:
        return rest.streams == 0 and set(threading.enumerate()) <= threads

    threads = set(threading.enumerate())
    play()
    wait_until(is_over, "the end of the first")
    before = len(os.listdir("/proc/self/fd"))
    references = sys.getrefcount(Client)
    for _ in range(10):
        play()
    wait_until(is_over, "the end of the last")
    wait_until(
        lambda: len(os.listdir("/proc/self/fd")) <= before + 2, "its descriptors"
    )
    gc.collect()
    assert sys.getrefcount(Client) <= references


# --- secrets ----------------------------------------------------------------------


def test_no_log_and_no_error_has_the_token(
    rest: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    """Also with all that HTTP itself logs."""
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore", "asyncio"):
        caplog.set_level(logging.DEBUG, logger=name)
    told = ""
    with Client(rest.url, token=rest.token, **PATIENT) as client:
        client.set("k", "v")
        for refuse in (
            lambda: rest.cut(2),
            lambda: rest.refuse(401, f"WRONGPASS {rest.token}"),
            lambda: rest.refuse(503, rest.token),
        ):
            refuse()
            try:
                client.get("k")
            except RedlaneError as error:
                told += "".join(traceback.format_exception(error)) + repr(error)
            told += str(client.health())
            rest.be_kind()
            wait_until(lambda: is_well(client), "the return")
        told += repr(client) + repr(vars(type(client))) + str(client.url)
    assert "ConnectionError" in told
    assert rest.token not in told
    assert rest.token not in caplog.text
