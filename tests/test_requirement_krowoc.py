"""What the utilities for Flask ask for, a test to a line of docs/requirements.md."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redlane
import requirement_tools
from flask import Flask, jsonify
from http_tools import Wsgi
from krowoc.app import create_app
from krowoc.bus import Bus
from krowoc.history import KEPT, Event
from krowoc.settings import Settings
from outage_tools import wait_until
from redlane import RateLimiter, RedisPubSub, cache, invalidate_cache
from requirement_tools import Stage

stage = requirement_tools.stage


@pytest.fixture
def client(stage: Stage) -> Any:
    """The default client, as the environment would make it."""
    return stage.default(fallback="memory")


def make_function(calls: list[Any]) -> Any:
    """As an application does that is made by a function."""

    @cache(ttl=60)
    def expensive_function(user_id: Any) -> Any:
        calls.append(user_id)
        return {"user": user_id, "pair": (1, 2), 3: None}

    return expensive_function


def test_cache(stage: Stage, client: Any, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[Any] = []
    function = make_function(calls)

    @cache(ttl=60)
    def unserialisable(user_id: int) -> Any:
        calls.append(user_id)
        return object

    for phase in stage.phases(client):
        del calls[:]
        first = function(phase)
        assert first == {"user": phase, "pair": [1, 2], "3": None}  # as a hit has it
        assert function(phase) == first
        assert calls == [phase]
        assert [unserialisable(1), unserialisable(1)] == [object, object]
        assert calls == [phase, 1, 1]
    said = [r for r in caplog.records if "unserialisable" in r.getMessage()]
    assert len(said) == 1
    assert said[0].levelno >= logging.WARNING


def test_keys(stage: Stage, client: Any) -> None:
    function = make_function([])
    for phase in stage.phases(client):
        function(phase)
        assert function.cache_key(phase).startswith("cache:expensive_function:")
        if phase != "away":
            assert client.exists(function.cache_key(phase)) == 1


def test_invalidate_cache(stage: Stage, client: Any) -> None:
    calls: list[Any] = []
    function = make_function(calls)
    for phase in stage.phases(client):
        for user in (1, 2):
            function(user)
        del calls[:]
        gone = invalidate_cache("cache:expensive_function:*")
        assert gone == 2, phase
        function(1)
        function(2)
        assert calls == [1, 2]


def test_publish_and_subscribe(stage: Stage, client: Any) -> None:
    heard: list[tuple[str, Any]] = []

    def handle(channel: str, message: Any) -> None:
        heard.append((channel, message))
        if message == {"bad": 1}:
            raise RuntimeError("the handler's own")

    with RedisPubSub(client).start(["events"], handle, patterns=["news.*"]):
        for phase in stage.phases(client):
            del heard[:]
            # A subscription may come back after its client.
            wait_until(lambda: RedisPubSub.publish("events", {"bad": 1}), "the way")
            RedisPubSub.publish("events", {"phase": phase})
            RedisPubSub.publish("news.x", "text")
            wait_until(lambda: ("news.x", "text") in heard, "the messages")
            assert ("events", {"bad": 1}) in heard
            assert ("events", {"phase": phase}) in heard


def limited() -> Wsgi:
    app = Flask("app")

    @app.get("/api/rate-limited")
    @RateLimiter.limit(requests_limit=5, time_window=3600)
    def rate_limited() -> Any:
        return jsonify({"ok": True})

    return Wsgi(app)


def test_rate_limiter(stage: Stage, client: Any) -> None:
    ask = limited()
    for phase in stage.phases(client):
        statuses = [ask("/api/rate-limited").status for _ in range(8)]
        assert statuses.count(200) <= 5, phase
        assert statuses[-1] == 429
        told = json.loads(ask("/api/rate-limited").body)
        assert set(told) == {"error", "retry_after"}
        assert 0 < told["retry_after"] <= 7200
        if phase == "up":
            assert statuses == [200] * 5 + [429] * 3


@contextmanager
def application(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wsgi]:
    """The example, in this process."""
    monkeypatch.setenv("REDIS_URL", stage.url)
    app = create_app(Settings(slow_seconds=0))
    bus: Bus = app.extensions["krowoc"]
    try:
        yield Wsgi(app)
    finally:
        bus.close()


def get(ask: Wsgi, path: str, status: int = 200) -> Any:
    reply = ask(path)
    assert reply.status == status, reply
    return json.loads(reply.body)


def post(ask: Wsgi, path: str, body: Any = None, status: int = 200) -> Any:
    text = b"" if body is None else json.dumps(body).encode()
    kind = {"Content-Type": "application/json"}
    reply = ask(path, kind, method="POST", body=text)
    assert reply.status == status, reply
    return json.loads(reply.body)


def messages(ask: Wsgi, query: str = "") -> list[Any]:
    answer = get(ask, f"/api/recent-events?{query}")
    assert answer["count"] == len(answer["events"])
    return [event["message"] for event in answer["events"]]


def check_cached_data(ask: Wsgi) -> None:
    for user in ("1", "2"):
        first = get(ask, f"/api/cached-data?user_id={user}")
        assert first["user_id"] == user
        assert get(ask, f"/api/cached-data?user_id={user}") == first
    of_one = post(ask, "/api/invalidate-cache", {"user_id": "2"})
    assert of_one == {"invalidated": 1}
    assert post(ask, "/api/invalidate-cache") == {"invalidated": 1}
    assert get(ask, "/api/cached-data?user_id=1") != first


def check_events(ask: Wsgi, phase: str) -> None:
    told = [f"{phase} {n}" for n in range(22)]
    for text in told:
        body = {"channel": phase, "message": text}
        assert post(ask, "/api/publish-event", body)["published"] is True
    assert messages(ask) == told[:1:-1]  # newest first, 20 of them
    assert messages(ask, "limit=3") == told[:-4:-1]
    assert messages(ask, f"limit=100&channel={phase}") == told[::-1]
    assert messages(ask, "channel=none") == []
    for limit in ("0", "101", "x"):
        get(ask, f"/api/recent-events?limit={limit}", 400)
    for body in ({"message": "x"}, {"channel": "c"}, {}, []):
        post(ask, "/api/publish-event", body, 400)


def hears(ask: Wsgi, text: str) -> bool:
    """Whether what any other program publishes is there, too."""
    if text in messages(ask, "limit=100"):
        return True
    RedisPubSub.publish("other", text)
    return False


def test_endpoints(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    with application(stage, monkeypatch) as ask:
        client = redlane.default_client()
        bus: Bus = ask.app.extensions["krowoc"]
        for phase in stage.phases(client, bus.history._client):
            check_cached_data(ask)
            check_events(ask, phase)
            slow = [ask("/api/slow-limited").status for _ in range(4)]
            fast = [ask("/api/rate-limited").status for _ in range(8)]
            for statuses, limit in ((slow, 2), (fast, 5)):
                assert statuses.count(200) <= limit, phase
                assert statuses[-1] == 429
            if phase == "up":
                assert (slow.count(200), fast.count(200)) == (2, 5)
            if phase != "away":
                wait_until(lambda p=phase: hears(ask, f"else {p}"), "the other's event")
        if stage.way == "engine":
            for n in range(KEPT + 10):
                bus.history.add(Event.now("many", n))
            assert bus.history._client.zcard("krowoc:events") == KEPT


def test_health(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    with application(stage, monkeypatch) as ask:
        for phase in stage.phases(redlane.default_client()):
            told = get(ask, "/health/deep")
            memory = stage.way == "engine" or phase == "away"
            assert told["status"] == ("degraded" if phase == "away" else "ok")
            assert told["mode"] == ("memory" if memory else "redis")
            assert set(told) == {"status", "mode", "redis"}
            redis = told["redis"]
            assert set(redis) == {
                *("connected", "used_memory", "used_memory_human", "latency_ms")
            }
            assert redis["connected"] is not memory
            if not memory:
                assert redis["used_memory"] > 0
                assert redis["used_memory_human"]
                assert redis["latency_ms"] > 0


def test_fallback(stage: Stage, client: Any) -> None:
    """No utility raises, whatever becomes of the server."""
    function, ask = make_function([]), limited()
    for _ in stage.phases(client):
        assert function(1)["user"] == 1
        assert invalidate_cache("cache:expensive_function:*") >= 0
        assert RedisPubSub.publish("events", {"a": 1}) == 0
        assert ask("/api/rate-limited").status in (200, 429)
    assert redlane.cache.stats()["errors"] == 0
