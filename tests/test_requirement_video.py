"""What the application of videos asks for, a test to a line of docs/requirements.md."""

from __future__ import annotations

import asyncio
import calendar
import hashlib
import json
import logging
import re
import time
from typing import Any

import pytest
import redlane
import requirement_tools
from outage_tools import is_well, wait_until
from redlane import VideoCache
from requirement_tools import Stage, only

stage = requirement_tools.stage

BLACK, WHITE = "Why is it «so»?", ["Cats\nwith thumbs", "\u00e9\U0001f600"]
DAY = 86_400

CONNECTED = ("INFO", "✅ Connected to Redis for video caching")
FALLEN_BACK = [
    ("WARNING", "⚠️  Redis connection failed: Connection refused"),
    ("WARNING", "⚠️  Falling back to in-memory cache"),
]


def key_of(black: str, white: list[str]) -> str:
    """As any language can compute it."""
    text = json.dumps([black, white], ensure_ascii=False, separators=(",", ":"))
    return "video:" + hashlib.sha256(text.encode()).hexdigest()


def test_api(stage: Stage) -> None:
    client = stage.client()
    videos = VideoCache(client)
    assert videos.get_stats()["hit_rate"] == 0.0
    for phase in stage.phases(client):
        cards = (phase, WHITE)
        assert videos.get(*cards) is None
        videos.set(black_card=phase, white_cards=WHITE, video_url="url", permanent=True)
        if phase != "away":
            client.set("other", "key")  # is no entry
        assert videos.get(*cards) == "url"
        stats = videos.get_stats()
        engine = phase == "away" or stage.way == "engine"
        assert stats["cache_type"] == ("memory" if engine else "redis")
        assert 0 < stats["hit_rate"] < 1
        assert stats["hits"] == stats["misses"] > 0
        # The server came back empty, and was told what was set meanwhile.
        assert stats["total_entries"] == (2 if phase == "back" else 1)


def test_key(stage: Stage) -> None:
    client = stage.client()
    videos = VideoCache(client)
    for phase in stage.phases(client):
        videos.set(phase, WHITE, "url")
        assert videos.get(phase, WHITE[::-1]) is None
        assert redlane.content_key("video", phase, WHITE) == key_of(phase, WHITE)
        if phase != "away":
            assert client.exists(key_of(phase, WHITE)) == 1
    if stage.way == "outage":
        assert client.exists(key_of("away", WHITE)) == 1


def test_value(stage: Stage) -> None:
    client = stage.client()
    videos = VideoCache(client)
    for phase in stage.phases(client):
        now = time.time()
        videos.set(phase, WHITE, "https://video.url/x", permanent=phase == "back")
        if phase == "away":
            continue
        stored = json.loads(client.get(key_of(phase, WHITE)))
        moment = stored.pop("created_at")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", moment)
        made = calendar.timegm(time.strptime(moment, "%Y-%m-%dT%H:%M:%S"))
        assert now - 2 < made <= time.time()
        assert stored == {
            "video_url": "https://video.url/x",
            "permanent": phase == "back",
        }


def test_ttl(stage: Stage) -> None:
    client = stage.client()
    videos = VideoCache(client)
    for phase in stage.phases(client):
        videos.set(phase, ["temporary"], "url")
        videos.set(phase, ["permanent"], "url", permanent=True)
        videos.set(phase, ["permanent"], "another", permanent=False)
        assert videos.get(phase, ["permanent"]) is not None
    phases = ["away", "back"] if stage.way == "outage" else ["up"]
    for phase in phases:
        assert 86_000 < client.ttl(key_of(phase, ["temporary"])) <= DAY
        assert client.ttl(key_of(phase, ["permanent"])) == -1


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """The lines that a video cache begins with; then nothing."""
    lines = [
        (record.levelname, record.getMessage())
        for record in caplog.records
        if record.name == "redlane"
        and re.search(r"video|in-memory|connection failed", record.getMessage())
    ]
    caplog.clear()
    return lines


def test_start(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "redlane")
    line = [CONNECTED] if stage.way != "engine" else []
    # Without configuration it is the server of the default address.
    assert redlane.Client().url == "redis://localhost:6379"
    monkeypatch.setenv("REDIS_URL", stage.url)
    if stage.way == "server":
        monkeypatch.setenv("REDIS_URL", stage.url.replace("/0?", "/?"))
        monkeypatch.setenv("REDIS_DB", "5")
    VideoCache()
    assert told(caplog) == line
    # The ready-made one looks on first use, and once in a process.
    ready_made = VideoCache(lazy=True)
    assert told(caplog) == []
    ready_made.startup()
    ready_made.set("a", ["b"], "url")
    ready_made.startup()
    assert told(caplog) == line
    if stage.way == "server":
        assert stage.server is not None
        assert b"keys=1" in stage.server.cli("INFO", "keyspace").split(b"db5:")[1]
    if stage.way != "outage":
        return
    assert stage.server is not None
    stage.server.kill()
    redlane.close_default_client()
    late = VideoCache()
    assert told(caplog) == FALLEN_BACK
    assert late.set("c", ["d"], "meanwhile") is True
    assert (late.get("c", ["d"]), late.get_stats()["cache_type"]) == (
        "meanwhile",
        "memory",
    )
    stage.server.start()
    wait_until(lambda: late.get_stats()["cache_type"] == "redis", "the server")
    wait_until(lambda: is_well(redlane.default_client()), "what it kept")
    assert late.get("c", ["d"]) == "meanwhile"


# A server that was not killed keeps what it has: what somebody else set counts.
@only("rest", "outage")
def test_running(stage: Stage) -> None:
    with stage.switch() as switch:
        client: Any = redlane.Client(switch.url)
        videos = VideoCache(client)
        videos.set("kept", [], "before", permanent=True)
        switch.off(client)
        assert videos.get_stats()["cache_type"] == "memory"
        videos.set("new", ["temporary"], "meanwhile")
        videos.set("new", ["permanent"], "meanwhile", permanent=True)
        videos.set("taken", [], "meanwhile", permanent=True)
        switch.server.cli("SET", key_of("taken", []), "somebody else's")
        assert videos.get("new", ["permanent"]) == "meanwhile"
        switch.on(client)
        assert videos.get_stats()["cache_type"] == "redis"
        ttl = switch.server.cli("TTL", key_of("new", ["temporary"]))
        assert 86_000 < ttl <= DAY
        assert switch.server.cli("TTL", key_of("new", ["permanent"])) == -1
        assert videos.get("kept", []) == "before"
        taken = switch.server.cli("GET", key_of("taken", []))
        assert taken == b"somebody else's"
        # One that is awaited shares all of it.
        assert asyncio.run(videos.aio.get("kept", [])) == "before"
        client.close()
