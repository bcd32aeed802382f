"""The Python of the documents on videos and on Flask's utilities, as written there,
with only its imports changed, on both executors.

Each file of tests/seeds/ is one snippet; it runs as the body of a function whose
arguments are the names that the document leaves open.
"""

from __future__ import annotations

import asyncio
import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redlane
from conftest import make_client
from flask import Flask, jsonify, request
from http_tools import Wsgi
from redlane import (
    RateLimiter,
    VideoCache,
    _limit,
    cache,
    content_key,
    invalidate_cache,
)

SEEDS = Path(__file__).parent / "seeds"
HAPPINESS = ("What's the secret to happiness?", ["Cats with opposable thumbs"])


@pytest.fixture
def default(
    executor: str,
    redis_server: Any,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Any]:
    """The default client, on each executor in turn, and a limiter that has not seen
    another one."""
    client = make_client(executor, request)
    redlane.configure(client)
    monkeypatch.setattr(_limit, "_default", None)
    yield client
    redlane.close_default_client()


def run_snippet(name: str, **names: Any) -> dict[str, Any]:
    """The names that the snippet leaves."""
    body = textwrap.indent((SEEDS / name).read_text(), "    ")
    source = f"async def snippet({', '.join(names)}):\n{body}\n    return locals()\n"
    scope: dict[str, Any] = {"__name__": "app"}
    exec(compile(source, name, "exec"), scope)
    found: dict[str, Any] = asyncio.run(scope["snippet"](**names))
    return found


def test_cache_operations(default: Any) -> None:
    found = run_snippet("video_operations.py", video_cache=redlane.video_cache)
    assert found["url"] == "https://video.url/abc123.mp4"
    assert default.ttl(content_key("video", *HAPPINESS)) == -1


def test_cache_keys(default: Any) -> None:
    shape = run_snippet("video_key.py")["key"]
    key = content_key("video", *HAPPINESS)
    assert key.split(":")[0] == shape.split(":")[0]
    assert len(key) == len("video:") + 64


def test_the_connection(
    default: Any, executor: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stats = run_snippet("video_connection.py")["stats"]
    printed = capsys.readouterr().out.strip()
    assert (
        printed
        == stats["cache_type"]
        == ("memory" if executor == "engine" else "redis")
    )


def test_test_cache_operations(
    default: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run_snippet("video_test.py", video_cache=VideoCache(default))
    assert capsys.readouterr().out == "http://test.mp4\nTotal entries: 1\n"
    assert (found["stats"]["hits"], found["stats"]["misses"]) == (1, 0)


def test_permanent_and_temporary(default: Any) -> None:
    video_cache = VideoCache(default)
    run_snippet(
        "video_permanent.py",
        video_cache=video_cache,
        winner_black="black",
        winner_whites=["white"],
        generated_url="winner",
    )
    run_snippet(
        "video_temporary.py",
        video_cache=video_cache,
        black="black",
        whites=["white"],
        url="temporary",
    )
    run_snippet(
        "video_temporary.py",
        video_cache=video_cache,
        black="b",
        whites=["w"],
        url="url",
    )
    assert video_cache.get("black", ["white"]) == "winner"
    assert default.ttl(content_key("video", "black", ["white"])) == -1
    assert 86_000 < default.ttl(content_key("video", "b", ["w"])) <= 86_400


def test_pregeneration(default: Any) -> None:
    video_cache = VideoCache(default)
    made = []

    async def generate_video(combo: Any) -> str:
        made.append(combo.black)
        return f"http://{combo.black}.mp4"

    combos = [SimpleNamespace(black=name, whites=["w"]) for name in ("a", "b", "a")]
    for _ in range(2):
        run_snippet(
            "video_pregeneration.py",
            video_cache=video_cache,
            popular_combinations=combos,
            generate_video=generate_video,
        )
    assert made == ["a", "b"]
    assert video_cache.get("b", ["w"]) == "http://b.mp4"


def test_hit_rate(default: Any, capsys: pytest.CaptureFixture[str]) -> None:
    video_cache = VideoCache(default)
    names = {"video_cache": video_cache, "black": "a", "whites": ["b"]}
    assert run_snippet("video_hit_rate.py", **names)["hit_rate"] == 0
    video_cache.set("a", ["b"], "url")
    assert run_snippet("video_hit_rate.py", **names)["hit_rate"] == 1
    assert capsys.readouterr().out == "Cache hit rate: 0.00%\nCache hit rate: 100.00%\n"


def test_function_caching_and_invalidation(default: Any) -> None:
    # The function is made inside another one: its key begins with its own name alone.
    make = lambda result: run_snippet("krowoc_cache.py", result=result)  # noqa: E731
    f = make({"data": [1, 2]})["expensive_function"]
    assert f(42) == {"data": [1, 2]}
    assert f(43) == {"data": [1, 2]}
    assert make("other")["expensive_function"](user_id=42) == {"data": [1, 2]}
    keys = sorted(default.scan_iter())
    assert keys == [
        b"cache:expensive_function:app:42",
        b"cache:expensive_function:app:43",
    ]
    assert 0 < default.ttl(keys[0]) <= 60
    run_snippet("krowoc_invalidate.py")
    assert default.dbsize() == 0
    assert make("other")["expensive_function"](42) == "other"
    assert redlane.invalidate_cache("cache:expensive_function:*") == 1


def test_rate_limiting(default: Any) -> None:
    app = Flask("app")
    run_snippet("krowoc_rate_limit.py", app=app, response={"ok": True})
    ask = Wsgi(app)
    assert [ask("/api/endpoint").status for _ in range(100)] == [200] * 100
    # Where a window of the clock ends meanwhile, one or the other more may pass.
    others = [{"X-Forwarded-For": f"1.2.3.{i}"} for i in range(50)]
    assert 429 in [ask("/api/endpoint", who).status for who in others]
    (key,) = default.scan_iter("limit:*")
    assert 0 < default.ttl(key) <= 120


def utilities(calls: list[str]) -> Any:
    """The endpoints of the document on caching and limits."""
    app = Flask("app")

    @cache(ttl=60)
    def expensive_function(user_id: str) -> dict[str, str]:
        calls.append(user_id)
        return {"user_id": user_id}

    @app.route("/api/cached-data")
    def cached_data() -> Any:
        return jsonify(expensive_function(request.args.get("user_id", "all")))

    @app.route("/api/invalidate-cache", methods=["POST"])
    def invalidate() -> Any:
        who = (request.get_json(silent=True) or {}).get("user_id", "")
        pattern = f"cache:expensive_function:*{who}*"
        return jsonify({"invalidated": invalidate_cache(pattern)})

    @app.route("/api/rate-limited")
    @RateLimiter.limit(requests_limit=5, time_window=60)
    def rate_limited() -> Any:
        return jsonify({"ok": True})

    @app.route("/api/slow-limited")
    @RateLimiter.limit(requests_limit=2, time_window=300)
    def slow_limited() -> Any:
        return jsonify({"ok": True})

    return app


def test_endpoints(default: Any) -> None:
    calls: list[str] = []
    ask = Wsgi(utilities(calls))
    for who in ("1", "2", "1", "2"):
        assert json.loads(ask(f"/api/cached-data?user_id={who}").body) == {
            "user_id": who
        }
    assert calls == ["1", "2"]
    kind = {"Content-Type": "application/json"}
    gone = ask("/api/invalidate-cache", kind, method="POST", body=b'{"user_id": "2"}')
    assert json.loads(gone.body) == {"invalidated": 1}
    assert json.loads(ask("/api/invalidate-cache", method="POST").body) == {
        "invalidated": 1
    }
    ask("/api/cached-data?user_id=1")
    assert calls == ["1", "2", "1"]
    slow = [ask("/api/slow-limited") for _ in range(3)]
    assert [reply.status for reply in slow] == [200, 200, 429]
    told = json.loads(slow[2].body)
    assert set(told) == {"error", "retry_after"}
    assert 0 < told["retry_after"] <= 600
    statuses = [ask("/api/rate-limited").status for _ in range(6)]
    assert statuses == [200] * 5 + [429]
