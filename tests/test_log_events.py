"""Every record of the logger has an `event`, one of the table's."""

from __future__ import annotations

import ast
import logging
import re
from pathlib import Path

import pytest
from outage_tools import wait_until
from redlane import Client
from redlane._logging import EVENTS
from servers import Server

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
