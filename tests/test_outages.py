"""Redis goes away and comes back: what each policy answers, what the breaker does, and
what is logged. Real servers, killed, frozen and started again."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import redlane
from children import forks_among_busy_threads
from redlane import Client
from servers import ACL_PASSWORD, PATIENT, Server, free_port
from toolset import is_connected

BOUND = 60.0  # seconds that a test waits for what must come; far above what it takes


def wait_until(condition: Callable[[], Any], what: str) -> None:
    end = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < end, f"never came: {what}"
        time.sleep(0.01)


def back_on_redis(client: Client) -> bool:
    return bool(client.health()["mode"] == "redis")


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[tuple[str, str]]]:
    caplog.set_level(logging.INFO, logger="redlane")

    def read() -> list[tuple[str, str]]:
        return [
            (record.levelname, record.getMessage())
            for record in caplog.records
            if record.name == "redlane"
        ]

    return read


def test_raw_commands_raise_and_never_answer_from_an_empty_engine(
    fresh_server: Server,
) -> None:
    client = Client(fresh_server.url, **PATIENT)
    client.set("k", "v")
    fresh_server.kill()
    for _ in range(3):
        with pytest.raises(redlane.ConnectionError):
            client.get("k")
    with pytest.raises(ConnectionError):  # the built-in one catches it too
        client.incr("n")


def test_memory_policy_answers_from_the_engine_and_comes_back(
    fresh_server: Server, lines: Callable[[], list[tuple[str, str]]]
) -> None:
    client = Client(fresh_server.url, fallback="memory", **PATIENT)
    client.set("k", "on redis")
    fresh_server.kill()
    assert client.set("k", "on the engine") is True
    assert client.get("k") == b"on the engine"
    assert client.health()["mode"] == "memory"
    assert client.health()["breaker"] == "open"
    fresh_server.start()
    wait_until(lambda: back_on_redis(client), "the return")
    assert fresh_server.cli("GET", "k") == b"on the engine"  # a set without TTL is kept
    assert client.set("k", "on redis again") is True
    assert fresh_server.cli("GET", "k") == b"on redis again"
    away = [text for level, text in lines() if level == "WARNING"]
    assert away == [f"Redis is away: {fresh_server.url} (Connection refused)"]
    assert lines()[-1] == ("INFO", f"Redis is back: {fresh_server.url}")


def test_a_second_outage_does_not_serve_the_values_of_the_first(
    fresh_server: Server,
) -> None:
    client = Client(fresh_server.url, fallback="memory", **PATIENT)
    fresh_server.kill()
    client.set("k", "of the first outage", ex=60)
    assert client.get("k") == b"of the first outage"
    fresh_server.start()
    wait_until(lambda: back_on_redis(client), "the return")
    fresh_server.kill()
    assert client.get("k") is None


def test_none_policy_misses_and_does_nothing(fresh_server: Server) -> None:
    client = Client(fresh_server.url, fallback="none", **PATIENT)
    client.set("k", "v")
    fresh_server.kill()
    assert client.set("k", "lost") is True
    assert client.get("k") is None
    assert client.incr("n") == 1
    assert client.incr("n") == 1
    assert client.mget(["k", "n"]) == [None, None]
    assert client.health()["mode"] == "none"


def test_a_server_that_appears_later_is_found(
    lines: Callable[[], list[tuple[str, str]]],
) -> None:
    server = Server()
    server.port = free_port()
    client = Client(server.url, fallback="memory", **PATIENT)
    try:
        client.set("k", 1)
        assert client.health()["mode"] == "memory"
        server.start()
        wait_until(lambda: back_on_redis(client), "the server")
        client.set("k", 2)
        assert server.cli("GET", "k") == b"2"
    finally:
        server.close()
    assert [level for level, _ in lines()] == ["WARNING", "ERROR", "INFO"]


def test_one_slow_call_opens_nothing(fresh_server: Server) -> None:
    client = Client(fresh_server.url, timeout=0.2, connect_timeout=0.2)
    wait_until(lambda: is_connected(client), "a connection")
    sleeper = threading.Thread()

    def times_out() -> bool:
        """The server may begin to sleep late, and the test come after its sleep."""
        nonlocal sleeper
        if not sleeper.is_alive():
            command = ("DEBUG", "SLEEP", "0.5")
            sleeper = threading.Thread(target=fresh_server.cli, args=command)
            sleeper.start()
        try:
            client.get("k")
        except redlane.TimeoutError:
            return True
        return False

    wait_until(times_out, "a slow call")
    sleeper.join()
    wait_until(lambda: back_on_redis(client), "the end of the doubt")
    wait_until(lambda: not times_out_again(client), "an answer")


def times_out_again(client: Client) -> bool:
    """A busy machine may be slow without any sleep."""
    try:
        assert client.get("k") is None
    except redlane.TimeoutError:
        return True
    return False


def test_a_frozen_server_costs_one_timeout_and_then_nothing(
    fresh_server: Server,
) -> None:
    client = Client(fresh_server.url, fallback="memory", timeout=0.3)
    client.set("k", "v")
    fresh_server.pause()
    try:
        client.set("k", "engine")  # waits for its deadline, then for the verdict
        wait_until(lambda: client.health()["breaker"] == "open", "the verdict")
        client.set("k", "engine")
        assert client.get("k") == b"engine"
    finally:
        fresh_server.resume()
    wait_until(lambda: back_on_redis(client), "the return")


def test_a_refused_password_is_loud_and_not_shown(
    password_server: Server, lines: Callable[[], list[tuple[str, str]]]
) -> None:
    secret = "canary-not-the-password"
    url = f"redis://:{secret}@127.0.0.1:{password_server.port}/0"
    client = Client(url, **PATIENT)
    with pytest.raises(redlane.AuthenticationError) as caught:
        client.get("k")
    tool = Client(url, fallback="memory", **PATIENT)
    assert tool.get("k") is None
    assert any(level == "ERROR" for level, _ in lines())
    said = [str(caught.value), repr(client), str(client.health()), str(lines())]
    assert not any(secret in text for text in said)
    assert not any(ACL_PASSWORD in text for text in said)


def test_many_threads_share_one_breaker(fresh_server: Server) -> None:
    client = Client(fresh_server.url, fallback="memory", **PATIENT)
    failures: list[BaseException] = []
    stop = threading.Event()

    def work(number: int) -> None:
        try:
            while not stop.is_set():
                client.set(f"k{number}", number)
                client.get(f"k{number}")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            fresh_server.kill()
            wait_until(lambda: client.health()["mode"] == "memory", "the outage")
            fresh_server.start()
            wait_until(lambda: back_on_redis(client), "the return")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []


def test_closed_means_closed(fresh_server: Server) -> None:
    client = Client(fresh_server.url, fallback="memory", **PATIENT)
    client.set("k", "v")
    client.close()
    client.close()
    with pytest.raises(redlane.ConnectionError, match="closed"):
        client.get("k")
    assert client.health()["mode"] == "closed"


@forks_among_busy_threads  # the library's own thread probes
def test_a_forked_child_probes_for_itself(fresh_server: Server) -> None:
    client = Client(fresh_server.url, fallback="memory", **PATIENT)
    client.set("k", "v")
    fresh_server.kill()
    assert client.get("k") is None
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert client.health()["mode"] == "memory"
            client.set("mine", 1)
            os.write(writing, b"the server may come")
            wait_until(lambda: back_on_redis(client), "the return")
            client.set("from the child", 1)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    assert os.read(reading, 100)  # nothing, if the child has failed
    os.close(reading)
    fresh_server.start()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert fresh_server.cli("GET", "from the child") == b"1"
    wait_until(lambda: back_on_redis(client), "the parent's return")


@pytest.mark.parametrize(
    "how", ["return", "raise SystemExit(0)", "import os; os._exit(0)"]
)
def test_exit_with_the_thread_alive(how: str) -> None:
    """The background thread of an outage is no reason to hang or to crash at exit."""
    end = "" if how == "return" else how
    program = (
        "import redlane\n"
        f"c = redlane.Client('redis://127.0.0.1:{free_port()}', fallback='memory')\n"
        "c.set('k', 1)\n"
        "assert c.health()['breaker'] == 'open'\n"
        f"{end}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
