"""The krowoc example: gunicorn with two workers on Redis, one in memory, and both
through an outage and the death of workers."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from servers import PORTS, Server, free_port
from started_example import EXAMPLES, SECONDS, Example, running_example, until

FOLDER = EXAMPLES / "krowoc"
COMMAND = (sys.executable, "-m", "gunicorn", "--config", "gunicorn.conf.py")
OTHER = "of another program"


@contextmanager
def krowoc(folder: Path, workers: int = 2, **variables: str) -> Iterator[Example]:
    variables = {
        "KROWOC_SLOW_SECONDS": "0",
        "WEB_CONCURRENCY": str(workers),
        **variables,
    }
    with running_example(COMMAND, FOLDER, folder / "log", **variables) as example:
        until(lambda: len(example.workers()) == workers, "all workers")
        yield example


@pytest.fixture
def on_redis(redis_server: Server, tmp_path: Path) -> Iterator[Example]:
    with krowoc(tmp_path, REDIS_URL=redis_server.patient_url) as example:
        yield example


@pytest.fixture(scope="module")
def in_memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Example]:
    """One worker, and nothing at its REDIS_URL."""
    port = free_port()
    folder = tmp_path_factory.mktemp("krowoc")
    with krowoc(folder, 1, REDIS_URL=f"redis://127.0.0.1:{port}") as example:
        yield example
    PORTS.release(port)


@pytest.fixture(params=["redis", "memory"])
def example(request: pytest.FixtureRequest) -> Example:
    name = "on_redis" if request.param == "redis" else "in_memory"
    found: Example = request.getfixturevalue(name)
    return found


def publish(example: Example, channel: str, message: Any) -> dict[str, Any]:
    body = {"channel": channel, "message": message}
    event: dict[str, Any] = example.post("/api/publish-event", body)["event"]
    assert (event["channel"], event["message"]) == (channel, message)
    return event


def recent(example: Example, query: str = "") -> list[dict[str, Any]]:
    answer = example.get(f"/api/recent-events?{query}")
    assert answer["count"] == len(answer["events"])
    events: list[dict[str, Any]] = answer["events"]
    return events


def messages(example: Example, query: str = "") -> list[Any]:
    return [event["message"] for event in recent(example, query)]


def test_cached_data(example: Example) -> None:
    first = example.get("/api/cached-data?user_id=ann")
    assert first["user_id"] == "ann"
    assert all(example.get("/api/cached-data?user_id=ann") == first for _ in range(5))
    other = example.get("/api/cached-data?user_id=7")
    example.get("/api/cached-data")
    assert example.post("/api/invalidate-cache", {"user_id": 7}) == {"invalidated": 1}
    assert example.get("/api/cached-data?user_id=7") != other
    assert example.get("/api/cached-data?user_id=ann") == first
    assert example.post("/api/invalidate-cache") == {"invalidated": 3}
    assert example.post("/api/invalidate-cache", {}) == {"invalidated": 0}
    assert example.get("/api/cached-data?user_id=ann") != first
    example.get("/api/cached-data?user_id=", 400)
    example.post("/api/invalidate-cache", {"user_id": ["x"]}, 400)
    example.post("/api/invalidate-cache", [], 400)


def test_cache_keys(on_redis: Example, redis_server: Server) -> None:
    on_redis.get("/api/cached-data?user_id=ann")
    keys = redis_server.cli("KEYS", "cache:expensive_function:*")
    assert len(keys) == 1
    assert 50 < redis_server.cli("TTL", keys[0]) <= 60


def test_events(example: Example) -> None:
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
def test_bad_events(in_memory: Example, body: Any) -> None:
    answer = in_memory.ask("POST", "/api/publish-event", body)
    assert answer.status == (413 if body == b"[" * 20_000 else 400), answer
    assert answer.json["error"]


@pytest.mark.parametrize("limit", ["0", "101", "-1", "x", "1.5", "1" * 3000])
def test_bad_limits(in_memory: Example, limit: str) -> None:
    assert in_memory.get(f"/api/recent-events?limit={limit}", 400)["error"]


def test_thousand_events_are_kept(on_redis: Example, redis_server: Server) -> None:
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


def test_events_of_other_programs(on_redis: Example, redis_server: Server) -> None:
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

    def newest() -> list[Any]:
        return messages(on_redis, "channel=others&limit=13")

    until(lambda: "no JSON ?" in newest(), "the last of them")
    expected = [{OTHER: number} for number in range(10)]
    assert sorted(map(str, newest())) == sorted(
        map(str, [*expected, "no JSON ?", "ours", "ours"])
    )


def test_limits(example: Example) -> None:
    for path, allowed, most in (("rate", 5, 60), ("slow", 2, 300)):
        answers = [example.ask("GET", f"/api/{path}-limited") for _ in range(8)]
        statuses = [answer.status for answer in answers]
        assert statuses == [200] * allowed + [429] * (8 - allowed)
        told = answers[-1].json
        assert set(told) == {"error", "retry_after"}
        assert 0 < told["retry_after"] <= 2 * most


def test_health_on_redis(on_redis: Example) -> None:
    health = on_redis.get("/health/deep")
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


def test_health_in_memory(in_memory: Example) -> None:
    health = in_memory.get("/health/deep")
    assert (health["status"], health["mode"]) == ("degraded", "memory")
    assert health["redis"]["connected"] is False
    assert set(health["redis"]) == {
        *("connected", "latency_ms"),
        *("used_memory", "used_memory_human"),
    }


class Stream:
    """What the page does: reads server-sent events."""

    def __init__(self, example: Example) -> None:
        self._socket = socket.create_connection(("127.0.0.1", example.port), SECONDS)
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


def test_page_sees_events_of_all_workers(example: Example) -> None:
    page = example.ask("GET", "/").body.decode()
    for path in re.findall(r'(?:src|href)="(/[^"]+)"', page):
        assert example.ask("GET", path).status == 200, path
    script = example.ask("GET", "/static/krowoc.js").body.decode()
    for name in re.findall(r'element\("(\w+)"\)', script):
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


def listens(example: Example, streams: list[Stream]) -> bool:
    """Every stream has told the same event, which is the last."""
    answer = example.post("/api/publish-event", {"channel": "live", "message": "?"})
    if answer["receivers"] < len(example.workers()):
        return False
    for stream in streams:
        while stream.event() != answer["event"]:
            pass
    return True


def test_events_outlive_workers(on_redis: Example) -> None:
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
    with krowoc(tmp_path, REDIS_URL=fresh_server.url) as example:

        def status() -> Any:
            return example.get("/health/deep")["status"]

        publish(example, "orders", "before")
        value = example.get("/api/cached-data?user_id=ann")
        assert value["user_id"] == "ann"
        fresh_server.kill()
        until(lambda: {status() for _ in range(6)} == {"degraded"}, "the outage")
        sent = {publish(example, "orders", number)["id"] for number in range(8)}
        assert example.get("/api/cached-data?user_id=ann")["user_id"] == "ann"
        assert example.post("/api/invalidate-cache")["invalidated"] >= 0
        # Two workers count apart now.
        answers = [example.ask("GET", "/api/slow-limited").status for _ in range(6)]
        assert set(answers) == {200, 429}
        found = {event["id"] for _ in range(8) for event in recent(example)}
        assert sent <= found

        fresh_server.start()
        until(lambda: {status() for _ in range(6)} == {"ok"}, "the return")

        def all_stored() -> bool:
            # Asked of each worker, which stores what has waited in it.
            return {event["id"] for event in recent(example, "limit=100")} >= sent

        until(all_stored, "what was published meanwhile")
        stored = fresh_server.cli("ZCARD", "krowoc:events")
        assert stored >= len(sent)
        assert not [line for line in example.lines() if "Traceback" in line]
