"""What the application of videos asks for, a test to a line of docs/requirements.md."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import redlane
from outage_tools import Switch
from redlane import VideoCache
from requirement_tools import STAGES, Stage, staged
from servers import PATIENT

BLACK, WHITE = "Why is it «so»?", ["Cats\nwith thumbs", "\u00e9\U0001f600"]
DAY = 86_400


@pytest.fixture(params=STAGES)
def stage(server_binary: str, request: pytest.FixtureRequest) -> Iterator[Stage]:
    with staged(request) as made:
        yield made


def key_of(black: str, white: list[str]) -> str:
    """As any language can compute it."""
    text = json.dumps([black, white], ensure_ascii=False, separators=(",", ":"))
    return "video:" + hashlib.sha256(text.encode()).hexdigest()


def test_api(stage: Stage) -> None:
    videos = VideoCache(stage.client)
    assert videos.get_stats()["hit_rate"] == 0.0
    for phase in stage.phases():
        cards = (phase, WHITE)
        assert videos.get(*cards) is None
        videos.set(black_card=phase, white_cards=WHITE, video_url="url", permanent=True)
        if phase != "away":
            stage.client.set("other", "key")  # is no entry
        assert videos.get(*cards) == "url"
        stats = videos.get_stats()
        engine = phase == "away" or stage.client.url.startswith("memory:")
        assert stats["cache_type"] == ("memory" if engine else "redis")
        assert 0 < stats["hit_rate"] < 1
        assert stats["hits"] == stats["misses"] > 0
        # The server came back empty, with what was set meanwhile.
        assert stats["total_entries"] == (2 if phase == "back" else 1)


def test_key(stage: Stage) -> None:
    videos = VideoCache(stage.client)
    for phase in stage.phases():
        videos.set(phase, WHITE, "url")
        assert videos.get(phase, WHITE[::-1]) is None
        if phase != "away":
            assert stage.client.exists(key_of(phase, WHITE)) == 1
        else:
            kept = key_of(phase, WHITE)
    if stage.server is not None:
        assert stage.client.exists(kept) == 1


def test_value(stage: Stage) -> None:
    videos = VideoCache(stage.client)
    for phase in stage.phases():
        videos.set(phase, WHITE, "https://video.url/x", permanent=phase == "back")
        if phase != "away":
            stored = json.loads(stage.client.get(key_of(phase, WHITE)))
            moment = stored.pop("created_at")
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", moment)
            assert stored == {
                "video_url": "https://video.url/x",
                "permanent": phase == "back",
            }


def test_ttl(stage: Stage) -> None:
    videos = VideoCache(stage.client)
    for phase in stage.phases():
        videos.set(phase, ["temporary"], "url")
        videos.set(phase, ["permanent"], "url", permanent=True)
        videos.set(phase, ["permanent"], "another", permanent=False)
        assert videos.get(phase, ["permanent"]) is not None
    phases = ["up"] if stage.server is None else ["away", "back"]
    for phase in phases:
        assert 0 < stage.client.ttl(key_of(phase, ["temporary"])) <= DAY
        assert stage.client.ttl(key_of(phase, ["permanent"])) == -1


def test_running(switch: Switch) -> None:
    client: Any = redlane.Client(switch.url, **PATIENT)
    videos = VideoCache(client)
    videos.set("kept", [], "before", permanent=True)
    switch.off(client)
    videos.set("new", ["temporary"], "meanwhile")
    videos.set("new", ["permanent"], "meanwhile", permanent=True)
    videos.set("taken", [], "meanwhile", permanent=True)
    switch.server.cli("SET", key_of("taken", []), "somebody else's")
    assert videos.get("new", ["permanent"]) == "meanwhile"
    switch.on(client)
    ttl = switch.server.cli("TTL", key_of("new", ["temporary"]))
    assert 0 < ttl <= DAY
    assert switch.server.cli("TTL", key_of("new", ["permanent"])) == -1
    assert videos.get("kept", []) == "before"
    taken = switch.server.cli("GET", key_of("taken", []))
    assert taken == b"somebody else's"
    client.close()
