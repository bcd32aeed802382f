"""VideoCache: keys, values, TTLs and log lines as the document has them."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import time
from typing import Any

import pytest
import redlane
from redlane import VideoCache, content_key
from servers import PATIENT, free_port
from toolset import wait_until

BLACK, WHITE = "What's the secret to happiness?", ["Cats with opposable thumbs"]
KEY = content_key("video", BLACK, WHITE)


@pytest.fixture
def videos(client: Any) -> VideoCache:
    return VideoCache(client)


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, str]]:
    return [
        (r.name, r.levelname, r.getMessage())
        for r in caplog.records
        if "Redis is" not in r.getMessage() and r.levelno > logging.DEBUG
    ]


def test_set_and_get(videos: VideoCache, client: Any) -> None:
    assert videos.get(BLACK, WHITE) is None
    assert videos.set(BLACK, WHITE, 'https://video.url/é".mp4') is True
    assert videos.get(BLACK, WHITE) == 'https://video.url/é".mp4'
    assert (
        videos.get(black_card=BLACK, white_cards=tuple(WHITE))
        == 'https://video.url/é".mp4'
    )
    assert videos.get(BLACK, [*WHITE, "other"]) is None
    assert list(client.scan_iter()) == [KEY.encode()]
    stored = json.loads(client.get(KEY))
    assert list(stored) == ["video_url", "created_at", "permanent"]
    assert stored["video_url"] == 'https://video.url/é".mp4'
    assert stored["permanent"] is False
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", stored["created_at"])
    made = time.strptime(stored["created_at"], "%Y-%m-%dT%H:%M:%S")
    assert abs(time.mktime(made) - time.mktime(time.gmtime())) < 100


def test_ttls(videos: VideoCache, client: Any) -> None:
    videos.set(BLACK, WHITE, "temporary")
    assert 86_000 < client.ttl(KEY) <= 86_400
    assert videos.set(BLACK, WHITE, "temporary 2") is True
    assert videos.set(BLACK, WHITE, "permanent", permanent=True) is True
    assert client.ttl(KEY) == -1
    assert videos.set(BLACK, WHITE, "temporary 3", permanent=False) is False
    assert videos.get(BLACK, WHITE) == "permanent"
    assert client.ttl(KEY) == -1
    assert videos.set(BLACK, WHITE, "permanent 2", True) is True
    assert videos.get(BLACK, WHITE) == "permanent 2"
    assert json.loads(client.get(KEY))["permanent"] is True


def test_stats(videos: VideoCache, client: Any, executor: str) -> None:
    stats = videos.get_stats()
    assert stats["cache_type"] == ("memory" if executor == "engine" else "redis")
    assert (stats["total_entries"], stats["hits"], stats["misses"]) == (0, 0, 0)
    assert stats["hit_rate"] == 0.0
    assert isinstance(stats["hit_rate"], float)
    for n in range(1500):
        client.set(f"video:{n}", "x")
    client.set("other", "x")
    videos.set(BLACK, WHITE, "url")
    videos.get(BLACK, WHITE)
    videos.get(BLACK, WHITE)
    videos.get(BLACK, [])
    stats = videos.get_stats()
    assert stats["total_entries"] == 1501
    assert (stats["hits"], stats["misses"]) == (2, 1)
    assert stats["hit_rate"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"video_url":5}',
        b'{"video_url":null}',
        b"\xff",
        b"null",
    ],
)
def test_unreadable_entries_are_dropped(
    videos: VideoCache, client: Any, junk: bytes
) -> None:
    client.set(KEY, junk)
    assert videos.get(BLACK, WHITE) is None
    assert client.exists(KEY) == 0
    assert videos.get_stats()["corrupted"] == 1
    client.hset(KEY, "a", "b")
    assert videos.get(BLACK, WHITE) is None
    assert client.exists(KEY) == 0


def test_bad_arguments(videos: VideoCache) -> None:
    for args in (
        (5, [], "url"),
        ("a", "cards", "url"),
        ("a", [5], "url"),
        ("a", [], 5),
        ("a", [], None),
        ("a", []),
        ("a", [], "url", True, 1),
    ):
        with pytest.raises(TypeError):
            videos.set(*args)
    with pytest.raises(UnicodeEncodeError):
        videos.set("a", [], "\ud800")
    with pytest.raises(TypeError):
        VideoCache(5)  # type: ignore[arg-type]
    assert videos.get_stats()["total_entries"] == 0


def test_log_lines_with_redis(redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "redlane"):
        VideoCache(redis_url)
    assert lines(caplog) == [
        ("redlane", "INFO", "✅ Connected to Redis for video caching")
    ]


def test_log_lines_without_redis(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "redlane"):
        videos = VideoCache(f"redis://127.0.0.1:{free_port()}")
    assert [line for line in lines(caplog) if "away" not in line[2]] == [
        ("redlane", "WARNING", "⚠️  Redis connection failed: Connection refused"),
        ("redlane", "WARNING", "⚠️  Falling back to in-memory cache"),
    ]
    assert videos.set(BLACK, WHITE, "url") is True
    assert videos.get(BLACK, WHITE) == "url"
    assert videos.get_stats()["cache_type"] == "memory"


def test_no_log_lines_for_the_engine(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "redlane"):
        VideoCache("memory://").set("a", ["b"], "c")
    assert lines(caplog) == []


def test_lazy(redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "redlane"):
        videos = VideoCache(redis_url, lazy=True)
        assert lines(caplog) == []
        videos.startup()
        videos.startup()
        videos.get("a", [])
    assert len(lines(caplog)) == 1


def test_it_falls_back_and_comes_back(fresh_server: Any) -> None:
    client = redlane.Client(fresh_server.url, **PATIENT)
    videos = VideoCache(client)
    videos.set("a", ["b"], "before", permanent=True)
    fresh_server.kill()
    for n in range(5):
        videos.set("c", [str(n)], "meanwhile")
    assert videos.get("c", ["4"]) == "meanwhile"
    assert videos.get_stats()["cache_type"] == "memory"
    fresh_server.start()
    wait_until(lambda: videos.get_stats()["cache_type"] == "redis", "the return")
    assert videos.set("d", [], "after") is True
    client.close()


def test_a_server_that_takes_no_writes(fresh_server: Any) -> None:
    videos = VideoCache(redlane.Client(fresh_server.url, **PATIENT))
    videos.set("a", [], "url", permanent=True)
    fresh_server.cli("CONFIG", "SET", "maxmemory", "1")
    assert videos.set("b", [], "url") is True
    assert [videos.get("a", []), videos.get("b", [])] == ["url", "url"]
    assert fresh_server.cli("DBSIZE") == 1
    fresh_server.cli("CONFIG", "SET", "maxmemory", "0")
    wait_until(lambda: fresh_server.cli("DBSIZE") == 2, "the writes")
    assert videos.get("b", []) == "url"
    assert videos.get_stats()["errors"] == 0


def test_the_ready_made_one(redis_server: Any) -> None:
    code = (
        "import logging, sys\n"
        "logging.basicConfig(level='INFO', format='%(message)s', stream=sys.stdout)\n"
        "from redlane import video_cache\n"
        "print('imported')\n"
        "video_cache.set('test', ['card'], 'http://test.mp4', permanent=False)\n"
        "stats = video_cache.get_stats()\n"
        "print(video_cache.get('test', ['card']), stats['cache_type'])\n"
    )
    environment = {
        **os.environ,
        "REDIS_URL": redis_server.patient_url,
        "PYTHONIOENCODING": "utf-8",
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        encoding="utf-8",
    )
    assert done.stdout.splitlines() == [
        "imported",
        "✅ Connected to Redis for video caching",
        "http://test.mp4 redis",
    ]
