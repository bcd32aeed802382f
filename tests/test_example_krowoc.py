"""The krowoc example: gunicorn with two workers on Redis, one in memory; through an
outage and the death of workers; and in Chromium."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from browser import browser
from running_example import WAIT_SECONDS, RunningExample, running_example, until
from servers import PORTS, Server, free_port

OTHER = "of another program"


@contextmanager
def krowoc(folder: Path, url: str, workers: int = 2) -> Iterator[RunningExample]:
    with running_example(
        "krowoc", folder, url, workers, KROWOC_SLOW_SECONDS="0"
    ) as example:
        until(lambda: len(example.workers()) == workers, "all workers")
        yield example


# Starting one takes longer than most of the tests do.
@pytest.fixture(scope="module")
def started_on_redis(
    session_server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningExample]:
    with krowoc(
        tmp_path_factory.mktemp("redis"), session_server.patient_url
    ) as example:
        yield example


@pytest.fixture
def on_redis(started_on_redis: RunningExample, redis_server: Server) -> RunningExample:
    """Two workers, and Redis without a key."""
    return started_on_redis


@pytest.fixture(scope="module")
def on_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningExample]:
    with krowoc(tmp_path_factory.mktemp("engine"), "memory://", 1) as example:
        yield example


@pytest.fixture(scope="module")
def in_memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningExample]:
    """One worker, and nothing at its REDIS_URL."""
    port = free_port()
    folder = tmp_path_factory.mktemp("memory")
    with krowoc(folder, f"redis://127.0.0.1:{port}", 1) as example:
        yield example
    PORTS.release(port)


@pytest.fixture(params=["on_redis", "on_engine", "in_memory"])
def example(request: pytest.FixtureRequest) -> RunningExample:
    found: RunningExample = request.getfixturevalue(request.param)
    return found


def publish(example: RunningExample, channel: str, message: Any) -> dict[str, Any]:
    body = {"channel": channel, "message": message}
    event: dict[str, Any] = example.post_json("/api/publish-event", body)["event"]
    assert (event["channel"], event["message"]) == (channel, message)
    return event


def recent(example: RunningExample, query: str = "") -> list[dict[str, Any]]:
    answer = example.get_json(f"/api/recent-events?{query}")
    assert answer["count"] == len(answer["events"])
    events: list[dict[str, Any]] = answer["events"]
    return events


def messages(example: RunningExample, query: str = "") -> list[Any]:
    return [event["message"] for event in recent(example, query)]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/cached-data?user_id=1", None),
        ("POST", "/api/invalidate-cache", None),
        ("POST", "/api/publish-event", {"channel": "a", "message": "b"}),
        ("GET", "/api/recent-events?limit=5&channel=a", None),
        ("GET", "/health/deep", None),
    ],
)
def test_endpoints_of_the_document(
    example: RunningExample, method: str, path: str, body: Any
) -> None:
    answer = example.ask(method, path, body)
    assert answer.status == 200, answer
    assert isinstance(answer.json, dict)
    other = example.ask("POST" if method == "GET" else "GET", path)
    assert other.status == 405
    assert set(other.json) == {"error"}


def test_cached_data(example: RunningExample) -> None:
    first = example.get_json("/api/cached-data?user_id=ann")
    assert first["user_id"] == "ann"
    assert all(
        example.get_json("/api/cached-data?user_id=ann") == first for _ in range(5)
    )
    other = example.get_json("/api/cached-data?user_id=7")
    example.get_json("/api/cached-data")
    assert example.post_json("/api/invalidate-cache", {"user_id": 7}) == {
        "invalidated": 1
    }
    assert example.get_json("/api/cached-data?user_id=7") != other
    assert example.get_json("/api/cached-data?user_id=ann") == first
    assert example.post_json("/api/invalidate-cache") == {"invalidated": 3}
    assert example.post_json("/api/invalidate-cache", {}) == {"invalidated": 0}
    assert example.get_json("/api/cached-data?user_id=ann") != first
    example.get_json("/api/cached-data?user_id=", 400)
    example.post_json("/api/invalidate-cache", {"user_id": ["x"]}, 400)
    example.post_json("/api/invalidate-cache", [], 400)


def test_cache_keys(on_redis: RunningExample, redis_server: Server) -> None:
    on_redis.get_json("/api/cached-data?user_id=kim")
    keys = redis_server.cli("KEYS", "cache:expensive_function:*")
    assert len(keys) == 1
    assert 50 < redis_server.cli("TTL", keys[0]) <= 60


def test_events(example: RunningExample) -> None:
    for number in range(30):
        publish(example, f"channel-{number % 3}", {"number": number})
    numbers = [message["number"] for message in messages(example)]
    assert numbers == list(range(29, 9, -1))
    # Whichever worker answers.
    for _ in range(6):
        found = messages(example, "limit=3&channel=channel-1")
        assert [message["number"] for message in found] == [28, 25, 22]
    assert len(recent(example, "limit=100")) >= 30
    assert len(recent(example, "limit=1")) == 1
    assert recent(example, "channel=nobody's") == []
    for message in ("text", 0, False, [1, None], {}, "\u20ac"):
        publish(example, "kinds", message)
    assert messages(example, "channel=kinds") == [
        "\u20ac",
        {},
        [1, None],
        False,
        0,
        "text",
    ]


@pytest.mark.parametrize(
    "body",
    [
        None,
        b"{",
        b"[" * 20_000,
        [],
        {"channel": "a"},
        {"message": "a"},
        {"channel": "a", "message": None},
        {"channel": "", "message": "a"},
        {"channel": 5, "message": "a"},
        {"channel": "x" * 201, "message": "a"},
        {"channel": "krowoc:published", "message": "a"},
        {"channel": "__keyspace@0__:a", "message": "a"},
        {"channel": "a", "message": "x" * 5000},
        {"channel": "a", "message": "\ud800"},
    ],
)
def test_bad_events(in_memory: RunningExample, body: Any) -> None:
    answer = in_memory.ask("POST", "/api/publish-event", body)
    assert answer.status == (413 if body == b"[" * 20_000 else 400), answer
    assert answer.json["error"]


@pytest.mark.parametrize("limit", ["0", "101", "-1", "x", "1.5", "1" * 3000])
def test_bad_limits(in_memory: RunningExample, limit: str) -> None:
    assert in_memory.get_json(f"/api/recent-events?limit={limit}", 400)["error"]


def test_thousand_events_are_kept(
    on_redis: RunningExample, redis_server: Server
) -> None:
    def add(start: int) -> None:
        for number in range(start, 1040, 4):
            publish(on_redis, "many", number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(4)))
    publish(on_redis, "many", "last")
    assert redis_server.cli("ZCARD", "krowoc:events") == 1000
    found = recent(on_redis, "limit=100")
    assert found[0]["message"] == "last"
    stamps = [event["timestamp"] for event in found]
    assert stamps == sorted(stamps, reverse=True)
    assert len({event["id"] for event in found}) == 100


def test_events_of_other_programs(redis_server: Server, tmp_path: Path) -> None:
    with krowoc(tmp_path, redis_server.patient_url) as example:
        hear_other_programs(example, redis_server)


def hear_other_programs(on_redis: RunningExample, redis_server: Server) -> None:
    """Each once, and those of the application itself no second time."""

    def tell(number: int) -> bool:
        redis_server.cli("PUBLISH", "others", json.dumps({OTHER: number}))
        return {OTHER: number} in messages(on_redis, "channel=others")

    until(lambda: tell(-1), "a worker that stores what others publish")
    publish(on_redis, "others", "ours")
    for number in range(10):
        redis_server.cli("PUBLISH", "others", json.dumps({OTHER: number}))
    redis_server.cli("PUBLISH", "others", b"no JSON \xff")
    publish(on_redis, "others", "ours")

    def told() -> list[Any]:
        found = messages(on_redis, "channel=others&limit=50")
        return [message for message in found if message != {OTHER: -1}]

    until(lambda: len(told()) >= 13, "the last of them")
    expected = [{OTHER: number} for number in range(10)]
    assert sorted(map(str, told())) == sorted(
        map(str, [*expected, "no JSON ?", "ours", "ours"])
    )


def test_limits(example: RunningExample) -> None:
    for path, allowed, most in (("rate", 5, 60), ("slow", 2, 300)):
        answers = [example.ask("GET", f"/api/{path}-limited") for _ in range(8)]
        statuses = [answer.status for answer in answers]
        assert statuses == [200] * allowed + [429] * (8 - allowed)
        told = answers[-1].json
        assert set(told) == {"error", "retry_after"}
        assert 0 < told["retry_after"] <= 2 * most


def test_health_on_redis(on_redis: RunningExample) -> None:
    health = on_redis.get_json("/health/deep")
    assert set(health) == {"status", "mode", "redis"}
    assert (health["status"], health["mode"]) == ("ok", "redis")
    redis = health["redis"]
    assert set(redis) == {
        *("connected", "latency_ms"),
        *("used_memory", "used_memory_human"),
    }
    assert redis["connected"] is True
    assert redis["used_memory"] > 0
    assert re.fullmatch(r"[\d.]+[BKMG]", redis["used_memory_human"])
    assert redis["latency_ms"] > 0


@pytest.mark.parametrize(
    ("name", "status"), [("in_memory", "degraded"), ("on_engine", "ok")]
)
def test_health_without_redis(
    name: str, status: str, request: pytest.FixtureRequest
) -> None:
    health = request.getfixturevalue(name).get_json("/health/deep")
    assert (health["status"], health["mode"]) == (status, "memory")
    assert health["redis"]["connected"] is False
    assert set(health["redis"]) == {
        *("connected", "latency_ms"),
        *("used_memory", "used_memory_human"),
    }


class Stream:
    """What the page does: reads server-sent events."""

    def __init__(self, example: RunningExample) -> None:
        self._socket = socket.create_connection(
            ("127.0.0.1", example.port), WAIT_SECONDS
        )
        self._socket.sendall(b"GET /api/events HTTP/1.1\r\nHost: a\r\n\r\n")
        self._file = self._socket.makefile("rb")
        assert b" 200 " in self._file.readline()
        self.until(b"retry: ")

    def until(self, start: bytes) -> bytes:
        while True:
            line = self._file.readline()
            assert line, "the stream ended"
            if line.startswith(start):
                return line[len(start) :]

    def event(self) -> Any:
        return json.loads(self.until(b"data: "))

    def close(self) -> None:
        self._file.close()
        self._socket.close()


def test_page_sees_events_of_all_workers(example: RunningExample) -> None:
    page = example.ask("GET", "/").body.decode()
    paths = re.findall(r'(?:src|href)="(/[^"]+)"', page)
    assert len(paths) == 2
    for path in paths:
        assert example.ask("GET", path).status == 200, path
    script = example.ask("GET", "/static/krowoc.js").body.decode()
    names = re.findall(r'(?:element|say)\("(\w+)"', script)
    assert {"answer", "channel", "events", "health", "link", "publish"} <= set(names)
    for name in names:
        assert f'id="{name}"' in page, name
    streams = [Stream(example) for _ in range(4)]
    try:
        # A listener may still be about to subscribe.
        until(lambda: listens(example, streams), "what was published")
        sent = [publish(example, "live", number) for number in range(20)]
        for stream in streams:
            seen = [stream.event() for _ in sent]
            assert seen == sent
    finally:
        for stream in streams:
            stream.close()


def listens(example: RunningExample, streams: list[Stream]) -> bool:
    """Every stream has told the same event, which is the last."""
    answer = example.post_json(
        "/api/publish-event", {"channel": "live", "message": "?"}
    )
    if answer["receivers"] < len(example.workers()):
        return False
    for stream in streams:
        while stream.event() != answer["event"]:
            pass
    return True


def test_events_outlive_workers(on_redis: RunningExample) -> None:
    sent = [publish(on_redis, "lasting", number) for number in range(10)]
    for worker in on_redis.workers():
        os.kill(worker, signal.SIGKILL)

    def answered() -> bool:
        try:
            return recent(on_redis, "channel=lasting") == sent[::-1]
        except OSError:
            return False

    until(answered, "new workers")
    until(lambda: len(on_redis.workers()) == 2, "both of them")
    assert answered()


def test_through_an_outage(fresh_server: Server, tmp_path: Path) -> None:
    with krowoc(tmp_path, fresh_server.url) as example:

        def status() -> Any:
            return example.get_json("/health/deep")["status"]

        publish(example, "orders", "before")
        value = example.get_json("/api/cached-data?user_id=ann")
        assert value["user_id"] == "ann"
        fresh_server.kill()
        until(lambda: {status() for _ in range(6)} == {"degraded"}, "the outage")
        sent = {publish(example, "orders", number)["id"] for number in range(8)}
        assert example.get_json("/api/cached-data?user_id=ann")["user_id"] == "ann"
        assert example.post_json("/api/invalidate-cache")["invalidated"] >= 0
        # Two workers count apart now.
        answers = [example.ask("GET", "/api/slow-limited").status for _ in range(6)]
        assert set(answers) == {200, 429}
        found = {event["id"] for _ in range(8) for event in recent(example)}
        assert sent <= found

        fresh_server.start()
        until(lambda: {status() for _ in range(6)} == {"ok"}, "the return")

        def all_stored() -> bool:
            answers = [recent(example, "limit=100") for _ in range(6)]
            return all({event["id"] for event in found} >= sent for found in answers)

        # A worker's history may hear of the return later than its other tools.
        until(
            lambda: fresh_server.cli("ZCARD", "krowoc:events") >= len(sent),
            "what was published meanwhile",
        )
        until(all_stored, "the same from every worker")
        assert "Traceback" not in example.log


def test_page_shows_events_arrive(fresh_server: Server, tmp_path: Path) -> None:
    """In Chromium, with two workers: what is published by others, by other programs and
    by the page itself; what its buttons answer; and an outage."""
    with krowoc(tmp_path, fresh_server.patient_url) as example, browser() as page:
        lines = (
            "[...document.querySelectorAll('#events li')].map(line => line.innerText)"
        )

        def arrives(*words: str) -> None:
            each = " && ".join(f"line.includes({json.dumps(word)})" for word in words)
            page.wait_for(f"{lines}.some(line => {each})")

        publish(example, "orders", "before the page")
        page.open(example.url)
        page.wait_for("document.getElementById('link').textContent === 'live'")
        arrives("orders", "before the page")
        page.wait_for(
            "document.getElementById('health').textContent === 'ok, on redis'"
        )
        for number in range(8):
            publish(example, "payments", {"number": number})
        for number in range(8):
            arrives("payments", f'{{"number":{number}}}')
        hostile = "<img src=x onerror=fail()>"
        fresh_server.cli("PUBLISH", "others", json.dumps(hostile))
        arrives("others", hostile)
        page.fill("#channel", "mine")
        page.fill("#message", "from the page")
        page.click("#publish button")
        arrives("mine", "from the page")
        assert page.evaluate("document.querySelectorAll('img').length") == 0

        def presses(button: str, start: str) -> None:
            page.click(f"button[data-{button}]")
            page.wait_for(
                "document.getElementById('answer').textContent"
                f".startsWith({json.dumps(start)})"
            )

        for _ in range(2):
            presses("get='/api/slow-limited'", "200 ")
        presses("get='/api/slow-limited'", '429 {"error"')
        presses("get='/api/cached-data?user_id=ann'", "200 {")
        presses("post='/api/invalidate-cache'", '200 {"invalidated":1}')

        fresh_server.kill()
        page.wait_for(
            "document.getElementById('health').textContent.startsWith('degr')"
        )
        fresh_server.start()
        page.wait_for(
            "document.getElementById('health').textContent === 'ok, on redis'"
        )

        def told() -> bool:
            publish(example, "orders", "after the outage")
            return any("after the outage" in line for line in page.evaluate(lines))

        until(told, "an event after the outage")
        assert page.errors == []
        assert "Traceback" not in example.log
