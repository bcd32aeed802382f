"""_core.Monitor: MONITOR's bytes on a connection of its own."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest
import redlane
from children import wait_until_asleep
from redlane import Client
from redlane._core import Monitor
from scripted import Peer, scripted
from servers import PASSWORD, PATIENT, Server
from tls import TlsServer


def read_line(monitor: Monitor) -> bytes:
    data = b""
    while not data.endswith(b"\r\n"):
        data += monitor.read(30)
    return data


@pytest.fixture
def client(redis_server: Server) -> Client[Any]:
    return Client(redis_server.url, **PATIENT)


def test_what_others_do_is_read(client: Client[Any], redis_server: Server) -> None:
    with Monitor(client) as monitor:
        assert read_line(monitor) == b"+OK\r\n"
        assert monitor.read(0.01) == b""
        redis_server.cli("SET", "k", "v" * 200_000)
        line = read_line(monitor)
        assert line.endswith(b'"SET" "k" "' + b"v" * 200_000 + b'"\r\n')
        # The client's own connections are others.
        client.get("k")
        assert b'"k"' in read_line(monitor)


def test_it_is_not_one_of_the_client_s_connections(client: Client[Any]) -> None:
    with Monitor(client), Monitor(client):
        assert client.ping()
        pool = client.health()["pool"]
        assert pool["idle"] + pool["busy"] == 1
    client.close()
    with pytest.raises(redlane.ConnectionError, match="closed"):
        Monitor(client)


def test_a_closed_client_does_not_end_it(redis_server: Server) -> None:
    client = Client(redis_server.url, **PATIENT)
    monitor = Monitor(client)
    client.close()
    del client
    assert read_line(monitor) == b"+OK\r\n"
    monitor.close()


def test_close(client: Client[Any]) -> None:
    monitor = Monitor(client)
    monitor.close()
    monitor.close()
    with pytest.raises(redlane.ConnectionError, match="closed"):
        monitor.read(0)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), 3601])
def test_seconds_out_of_bounds(client: Client[Any], seconds: float) -> None:
    with Monitor(client) as monitor:
        with pytest.raises(ValueError, match="seconds"):
            monitor.read(seconds)
        with pytest.raises(TypeError):
            monitor.read("1")  # type: ignore[arg-type]


def test_what_is_no_client() -> None:
    with pytest.raises(TypeError):
        Monitor("redis://")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Monitor()  # type: ignore[call-arg]


def test_the_engine_has_none() -> None:
    with pytest.raises(redlane.ConfigurationError, match="memory engine"):
        Monitor(Client("memory://"))


def test_a_server_that_goes_away(fresh_server: Server) -> None:
    client = Client(fresh_server.url, **PATIENT)
    monitor = Monitor(client)
    read_line(monitor)
    fresh_server.kill()
    for _ in range(2):  # then it is closed
        with pytest.raises(redlane.ConnectionError):
            monitor.read(30)
    with pytest.raises(redlane.ConnectionError, match=r"MONITOR: .*refused"):
        Monitor(client)


def test_a_password_that_is_wrong(password_server: Server) -> None:
    url = f"redis://:canary@127.0.0.1:{password_server.port}/0"
    with pytest.raises(redlane.AuthenticationError) as caught:
        Monitor(Client(url, **PATIENT))
    assert "canary" not in str(caught.value)
    assert PASSWORD not in str(caught.value)


def test_by_tls(tls_server: TlsServer) -> None:
    """A record may hold more than one read takes."""
    with Monitor(Client(tls_server.url, **PATIENT)) as monitor:
        assert read_line(monitor) == b"+OK\r\n"
        tls_server.cli("SET", "k", "v" * 200_000)
        assert read_line(monitor).endswith(b"v" * 200_000 + b'"\r\n')


def test_a_server_that_refuses_is_read() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        assert peer.read() == [b"MONITOR"]
        peer.send(b"-ERR no\r\n")
        peer.wait_until_gone()

    with scripted(script) as server:
        with Monitor(Client(server.url, **PATIENT)) as monitor:
            assert read_line(monitor) == b"-ERR no\r\n"


def test_another_thread_is_refused(client: Client[Any], redis_server: Server) -> None:
    monitor = Monitor(client)
    read_line(monitor)
    results: list[bytes] = []
    thread = threading.Thread(target=lambda: results.append(monitor.read(60)))
    thread.start()
    assert thread.native_id is not None
    wait_until_asleep(os.getpid(), thread.native_id)
    for use in (monitor.close, lambda: monitor.read(0)):
        with pytest.raises(RuntimeError, match="in use"):
            use()
    redis_server.cli("PING")
    thread.join()
    assert b"PING" in results[0]
    monitor.close()


def test_a_child_made_by_fork(client: Client[Any], redis_server: Server) -> None:
    monitor = Monitor(client)
    read_line(monitor)
    child = os.fork()
    if child == 0:
        try:
            monitor.read(30)
        except redlane.ConnectionError:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    redis_server.cli("PING")
    assert b"PING" in read_line(monitor)
