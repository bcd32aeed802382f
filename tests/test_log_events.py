"""Every record of the logger has an `event`, one of the table's."""

from __future__ import annotations

import ast
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from aio import Runner
from outage_tools import Switch, messages, wait_until
from redlane import AsyncClient, Cache, Client, ConnectionError, ReplyError
from redlane._logging import EVENTS
from servers import PATIENT, Server
from set_clock import compile_clock, environment

ROOT = Path(__file__).resolve().parent.parent
LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}


def events_of_c(text: str) -> list[str]:
    """The third argument of each call of redlane_log_event."""
    names = dict(re.findall(r'^#define (\w+) ("[\w.]+")$', text, re.MULTILINE))
    calls = re.findall(
        r"^\s+redlane_log_event\([^;]*?REDLANE_LOG_\w+,\s*([^,]+),", text, re.MULTILINE
    )
    return [str(ast.literal_eval(names.get(call, call))) for call in calls]


def is_logger(node: ast.expr) -> bool:
    """get_logger(), or the name of a module's own."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id == "get_logger"
    return isinstance(node, ast.Name) and node.id in {"_log", "logger", "log"}


def events_of_python(text: str) -> list[str]:
    """The event of each call of the logger; "" where it has none."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr in LEVELS and is_logger(node.func.value):
            extra = [k.value for k in node.keywords if k.arg == "extra"]
            found.append(ast.literal_eval(extra[0])["event"] if extra else "")
    return found


def events_of_the_source() -> dict[str, list[str]]:
    found = {}
    for path in sorted((ROOT / "src").rglob("*.c")):
        found[path.name] = events_of_c(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / "python" / "redlane").rglob("*.py")):
        found[path.name] = events_of_python(path.read_text(encoding="utf-8"))
    return {name: events for name, events in found.items() if events}


def test_the_source_names_the_events_of_the_table() -> None:
    found = events_of_the_source()
    for name, events in found.items():
        assert set(events) <= set(EVENTS), name
    assert set().union(*found.values()) == set(EVENTS)
    assert len(found) > 10


def test_a_call_without_an_event_is_found() -> None:
    assert events_of_python("get_logger().warning('text')") == [""]
    assert events_of_python("_log.debug('x', extra={'event': 'a.b'})") == ["a.b"]
    call = '    redlane_log_event(state, REDLANE_LOG_INFO, "a.b", "x %s", "y");'
    assert events_of_c(call) == ["a.b"]


def test_names_are_regular() -> None:
    for name, meaning in EVENTS.items():
        assert re.fullmatch(r"redlane(\.[a-z_]+){1,2}", name), name
        assert meaning


def test_the_documented_table() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    part = text.partition("<!-- events -->\n")[2].partition("\n\n")[0]
    rows = dict(re.findall(r"^\| `([\w.]+)` \| \w+(?:, \w+)* \| (.*) \|$", part, re.M))
    assert rows == EVENTS


def test_what_an_outage_says(
    fresh_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "redlane")
    client = Client(fresh_server.url, timeout=1)

    def told() -> list[str]:
        return [record.event for record in caplog.records]  # type: ignore[attr-defined]

    def ping() -> bool:
        try:
            return bool(client.ping())
        except ConnectionError:
            return False

    wait_until(ping, "the server")
    fresh_server.kill()
    wait_until(lambda: ping() or "redlane.link.down" in told(), "the verdict")
    fresh_server.start()
    wait_until(lambda: ping() and "redlane.link.up" in told(), "the return")
    assert "redlane.command" in told()
    levels = {record.event: record.levelno for record in caplog.records}  # type: ignore[attr-defined]
    assert levels["redlane.link.down"] == logging.WARNING
    assert levels["redlane.link.up"] == logging.INFO
    assert levels["redlane.command"] == logging.DEBUG
    assert set(levels) <= set(EVENTS)
    client.close()


# --- an operation that failed -----------------------------------------------------

FAILED = "Redis operation failed: "


def check_one(caplog: pytest.LogCaptureFixture, url: str) -> None:
    """It was said once, and nothing of the call in it."""
    (told,) = [r for r in caplog.records if r.getMessage().startswith(FAILED)]
    assert (told.name, told.levelno) == ("redlane", logging.ERROR)
    assert re.fullmatch(rf"{FAILED}\S.* \({re.escape(url)}\)", told.getMessage())
    assert "canary" not in told.getMessage()


def test_calls_that_raise(switch: Switch, caplog: pytest.LogCaptureFixture) -> None:
    with Client(switch.url, **PATIENT) as client:
        client.get("canary")
        assert messages(caplog.records, FAILED) == []
        switch.off()
        for _ in range(20):
            with pytest.raises(ConnectionError):
                client.set("canary", "canary")
        check_one(caplog, switch.url)


def test_calls_that_are_answered_otherwise(
    switch: Switch, caplog: pytest.LogCaptureFixture
) -> None:
    with Client(switch.url, fallback="memory", **PATIENT) as client:
        cache = Cache(client, prefix="canary")
        cache.set("canary", 1, ttl=60)
        switch.off()
        for number in range(20):
            assert cache.get("canary") in (None, number - 1)
            assert cache.set("canary", number, ttl=60) is True
            assert client.set("canary", "canary") is True
        check_one(caplog, switch.url)


def test_awaited_calls(
    switch: Switch, run: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with AsyncClient(switch.url, **PATIENT) as client:
            await client.get("canary")
            switch.off()
            for _ in range(20):
                with pytest.raises(ConnectionError):
                    await client.set("canary", "canary")

    run(main())
    check_one(caplog, switch.url)


def test_a_verdict_that_no_operation_met(
    switch: Switch, caplog: pytest.LogCaptureFixture
) -> None:
    """health() finds the server away; the first operation is told of all the same."""
    with Client(switch.url, fallback="memory", **PATIENT) as client:
        client.get("canary")
        switch.off(client)
        assert messages(caplog.records, FAILED) == []
        for _ in range(20):
            client.get("canary")
        check_one(caplog, switch.url)


def test_an_outage_soon_after_another(
    switch: Switch, caplog: pytest.LogCaptureFixture
) -> None:
    with Client(switch.url, fallback="memory", **PATIENT) as client:
        for _ in range(3):
            switch.off(client)
            client.get("canary")
            switch.on(client)
        check_one(caplog, switch.url)


def test_refused_writes(fresh_server: Server, caplog: pytest.LogCaptureFixture) -> None:
    with Client(fresh_server.url, **PATIENT) as client:
        fresh_server.cli("CONFIG", "SET", "maxmemory", "1")
        for _ in range(20):
            with pytest.raises(ReplyError):
                client.set("canary", "canary")
        check_one(caplog, fresh_server.url)


def test_an_error_of_the_call_itself(
    client: Client[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    client.hset("h", "f", "v")
    with pytest.raises(ReplyError):
        client.get("h")
    assert messages(caplog.records, FAILED) == []


# Time passes as the test says, so that what is bounded by minutes takes none.
MINUTES = """
import logging, os, sys, time
from pathlib import Path
from set_clock import SetClock, rule_extension
from redlane import Client

clock = SetClock(Path(os.environ["SET_CLOCK"]), 1_700_000_000_000_000)
rule_extension(os.environ["LD_PRELOAD"])
told = []
logger = logging.getLogger("redlane")
logger.addFilter(lambda record: told.append(record.event))
client = Client("redis://127.0.0.1:1", fallback="memory")

def count(seconds):
    clock.move(seconds * 1_000_000)
    told.clear()
    for _ in range(10):
        client.set("k", 1)
    return told.count("redlane.operation.failed")

print(*map(count, (0, 30, 31, 30, 31)))
"""


@pytest.mark.skipif(
    "REDLANE_SANITIZED" in os.environ,
    reason="the sanitizer must come first of what is preloaded",
)
def test_once_a_minute(tmp_path: Path) -> None:
    words = environment(compile_clock(tmp_path), tmp_path / "clock")
    (tmp_path / "clock").write_bytes(bytes(16))
    done = subprocess.run(
        [sys.executable, "-c", MINUTES],
        cwd=ROOT / "tests",
        env={**os.environ, **words},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "1 0 1 0 1\n"), done.stderr
