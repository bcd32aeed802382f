"""What the utilities for Flask ask for, a test to a line of docs/requirements.md."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import redlane
from flask import Flask, jsonify
from http_tools import Wsgi
from outage_tools import wait_until
from redlane import RateLimiter, RedisPubSub, _limit, cache, invalidate_cache
from redlane.flask import health_blueprint
from requirement_tools import STAGES, Stage, staged


@pytest.fixture(params=STAGES)
def stage(
    server_binary: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Stage]:
    monkeypatch.setattr(_limit, "_default", None)
    with staged(request, fallback="memory") as made:
        yield made


def make_function(calls: list[Any]) -> Any:
    """As an application does that is made by a function."""

    @cache(ttl=60)
    def expensive_function(user_id: Any) -> Any:
        calls.append(user_id)
        return {"user": user_id, "pair": (1, 2), 3: None}

    return expensive_function


def test_cache(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[Any] = []
    function = make_function(calls)

    @cache(ttl=60)
    def unserialisable(user_id: int) -> Any:
        calls.append(user_id)
        return object

    for phase in stage.phases():
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


def test_keys(stage: Stage) -> None:
    function = make_function([])
    for phase in stage.phases():
        function(phase)
        assert function.cache_key(phase).startswith("cache:expensive_function:")
        if phase != "away":
            assert stage.client.exists(function.cache_key(phase)) == 1


def test_invalidate_cache(stage: Stage) -> None:
    calls: list[Any] = []
    function = make_function(calls)
    for phase in stage.phases():
        for user in (1, 2):
            function(user)
        del calls[:]
        gone = invalidate_cache("cache:expensive_function:*")
        assert gone == 2, phase
        function(1)
        function(2)
        assert calls == [1, 2]


def test_publish_and_subscribe(stage: Stage) -> None:
    heard: list[tuple[str, Any]] = []

    def handle(channel: str, message: Any) -> None:
        heard.append((channel, message))
        if message == {"bad": 1}:
            raise RuntimeError("the handler's own")

    with RedisPubSub(stage.client).start(["events"], handle, patterns=["news.*"]):
        for phase in stage.phases():
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


def test_rate_limiter(stage: Stage) -> None:
    ask = limited()
    for phase in stage.phases():
        statuses = [ask("/api/rate-limited").status for _ in range(8)]
        assert statuses.count(200) <= 5, phase
        assert statuses[-1] == 429
        told = json.loads(ask("/api/rate-limited").body)
        assert set(told) == {"error", "retry_after"}
        assert 0 < told["retry_after"] <= 7200
        if phase == "up":
            assert statuses == [200] * 5 + [429] * 3


def test_health(stage: Stage) -> None:
    app = Flask("app")
    app.register_blueprint(health_blueprint(stage.client))
    ask = Wsgi(app)
    for phase in stage.phases():
        reply = ask("/health/deep")
        assert reply.status == 200
        told = json.loads(reply.body)
        engine = stage.client.url.startswith("memory:")
        assert told["status"] == ("degraded" if phase == "away" else "ok")
        assert told["mode"] == ("memory" if engine or phase == "away" else "redis")
        assert {"connected", "used_memory", "used_memory_human", "latency_ms"} <= set(
            told["redis"]
        )
        assert told["redis"]["connected"] is (not engine and phase != "away")


def test_fallback(stage: Stage) -> None:
    """No utility raises, whatever becomes of the server."""
    function, ask = make_function([]), limited()
    for _ in stage.phases():
        assert function(1)["user"] == 1
        assert invalidate_cache("cache:expensive_function:*") >= 0
        assert RedisPubSub.publish("events", {"a": 1}) == 0
        assert ask("/api/rate-limited").status in (200, 429)
    assert redlane.cache.stats()["errors"] == 0
