"""The videocache example: started from its folder with uvicorn, on Redis, in memory and
through an outage."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from redlane import content_key
from servers import PORTS, Server, free_port, patient
from started_example import EXAMPLES, Example, running_example, until
from websocket_client import WebSocket

FOLDER = EXAMPLES / "videocache"
COMMAND = (sys.executable, "-m", "uvicorn", "app.main:socket_app", "--port", "PORT")
POPULAR = json.loads((FOLDER / "popular.json").read_text())
CONNECTED = "✅ Connected to Redis for video caching"
REFUSED = "⚠️  Redis connection failed: Connection refused"
IN_MEMORY = "⚠️  Falling back to in-memory cache"
CARDS = {"black_card": "Why?", "white_cards": ["Because.", "é & <b>"]}


@contextmanager
def videocache(folder: Path, **variables: str) -> Iterator[Example]:
    variables = {
        "VIDEOCACHE_MEDIA": str(folder / "media"),
        "GENERATE_SECONDS": "0",
        **variables,
    }
    with running_example(COMMAND, FOLDER, folder / "log", **variables) as example:
        yield example


@pytest.fixture
def nobody() -> Iterator[str]:
    """The URL of a port where nothing listens."""
    port = free_port()
    yield f"redis://127.0.0.1:{port}"
    PORTS.release(port)


def key_of(cards: dict[str, Any]) -> str:
    return content_key("video", cards["black_card"], cards["white_cards"])


def path_of(cards: dict[str, Any]) -> str:
    fields = [("black_card", cards["black_card"])]
    fields += [("white_card", card) for card in cards["white_cards"]]
    return f"/api/videos?{urlencode(fields, quote_via=quote)}"


def wait_for_popular(example: Example) -> None:
    def all_there() -> bool:
        progress = example.get("/api/pregeneration")
        return progress["total"] > 0 and not progress["running"]

    until(all_there, "the end of the pre-generation")
    progress = example.get("/api/pregeneration")
    assert progress["done"] == len(POPULAR)
    assert progress["failed"] == 0


def test_on_redis(redis_server: Server, tmp_path: Path) -> None:
    with videocache(tmp_path, REDIS_URL=redis_server.patient_url) as example:
        wait_for_popular(example)
        assert CONNECTED in example.lines()
        for cards in POPULAR:
            stored = json.loads(redis_server.cli("GET", key_of(cards)))
            assert stored["permanent"] is True
            assert redis_server.cli("TTL", key_of(cards)) == -1
            assert example.get(path_of(cards))["video_url"] == stored["video_url"]
        assert example.get("/api/stats")["cache_type"] == "redis"

        example.get(path_of(CARDS), 404)
        made = example.post("/api/videos", CARDS)
        assert made["cached"] is False
        again = example.post("/api/videos", CARDS)
        assert again == {"video_url": made["video_url"], "cached": True}
        assert 86_000 < redis_server.cli("TTL", key_of(CARDS)) <= 86_400
        example.post("/api/videos", {**CARDS, "permanent": True})
        assert redis_server.cli("TTL", key_of(CARDS)) == -1

        stats = example.get("/api/stats")
        assert stats["total_entries"] == len(POPULAR) + 1
        found = len(POPULAR) + 2
        # The worker's own have those of the pre-generation besides.
        own = stats["hits"], stats["misses"]
        assert own == (found, len(POPULAR) + 2)
        assert stats["hit_rate"] == pytest.approx(found / sum(own))
        assert stats["all_workers"] == {
            "hits": found,
            "misses": 2,
            "hit_rate": pytest.approx(found / (found + 2)),
        }


def test_what_is_deleted_is_generated_again(
    redis_server: Server, tmp_path: Path
) -> None:
    with videocache(tmp_path, REDIS_URL=redis_server.patient_url) as example:
        wait_for_popular(example)
        key = key_of(POPULAR[0])
        redis_server.cli("DEL", key)
        example.post("/api/pregeneration", status=202)
        until(lambda: redis_server.cli("EXISTS", key), "the video that was deleted")
        assert redis_server.cli("TTL", key) == -1


def test_workers_share_videos_and_work(redis_server: Server, tmp_path: Path) -> None:
    url = redis_server.patient_url
    other = tmp_path / "other"
    other.mkdir()
    with (
        videocache(tmp_path, REDIS_URL=url) as one,
        videocache(other, REDIS_URL=url) as two,
    ):
        keys = [key_of(cards) for cards in POPULAR]
        until(
            lambda: redis_server.cli("EXISTS", *keys) == len(keys), "all popular videos"
        )
        url = one.post("/api/videos", CARDS)["video_url"]
        assert two.get(path_of(CARDS)) == {"video_url": url, "cached": True}
        done = [example.get("/api/pregeneration") for example in (one, two)]
        # Whoever came second found them there.
        assert sum(progress["generated"] for progress in done) == len(POPULAR)
        both = [example.get("/api/stats")["all_workers"] for example in (one, two)]
        assert both[0] == both[1] == {"hits": 1, "misses": 1, "hit_rate": 0.5}


def test_in_memory(nobody: str, tmp_path: Path) -> None:
    with videocache(tmp_path, REDIS_URL=nobody) as example:
        lines = example.lines()
        assert lines.index(REFUSED) < lines.index(IN_MEMORY)
        assert CONNECTED not in lines
        wait_for_popular(example)
        made = example.post("/api/videos", CARDS)
        assert made["cached"] is False
        assert example.get(path_of(CARDS))["video_url"] == made["video_url"]
        stats = example.get("/api/stats")
        assert stats["cache_type"] == "memory"
        assert stats["total_entries"] == len(POPULAR) + 1
        assert example.get("/health/deep")["status"] == "degraded"


def test_without_configuration(tmp_path: Path) -> None:
    """Whatever is at localhost:6379 of this machine is only looked at."""
    nothing = tmp_path / "popular.json"
    nothing.write_text("[]")
    with videocache(tmp_path, VIDEOCACHE_POPULAR=str(nothing)) as example:
        kind = example.get("/api/stats")["cache_type"]
        lines = example.lines()
        assert (CONNECTED in lines) is (kind == "redis")
        assert (IN_MEMORY in lines) is (kind == "memory")


def test_through_an_outage(fresh_server: Server, tmp_path: Path) -> None:
    def kind() -> Any:
        return example.get("/api/stats")["cache_type"]

    with videocache(tmp_path, REDIS_URL=fresh_server.url) as example:
        wait_for_popular(example)
        kept = example.post("/api/videos", CARDS)["video_url"]
        fresh_server.kill()
        until(lambda: kind() == "memory", "the outage")
        winner = {"black_card": "Who won?", "white_cards": ["Ann"]}
        loser = {"black_card": "Who lost?", "white_cards": ["Bob"]}
        stored = {**winner, "permanent": True, "video_url": "https://video.url/1.mp4"}
        assert example.ask("PUT", "/api/videos", stored).json == {"stored": True}
        assert example.get(path_of(winner))["video_url"] == "https://video.url/1.mp4"
        example.post("/api/videos", loser)
        assert example.post("/api/videos", CARDS)["video_url"] == kept

        fresh_server.start()
        until(lambda: kind() == "redis", "the return")
        until(lambda: fresh_server.cli("EXISTS", key_of(loser)), "what was stored")
        assert fresh_server.cli("TTL", key_of(winner)) == -1
        assert 86_000 < fresh_server.cli("TTL", key_of(loser)) <= 86_400
        # It had lost everything: what was popular is generated again when asked for.
        example.post("/api/pregeneration", status=202)
        for cards in POPULAR:
            until(
                lambda c=cards: fresh_server.cli("EXISTS", key_of(c)), "a popular one"
            )
        assert not [line for line in example.lines() if "Traceback" in line]


def test_live_statistics(redis_server: Server, tmp_path: Path) -> None:
    with videocache(tmp_path, REDIS_URL=redis_server.patient_url) as example:
        wait_for_popular(example)
        with WebSocket(example.port, "/ws/stats") as link:
            before = link.get()["all_workers"]["misses"]
            example.get(path_of(CARDS), 404)
            while (stats := link.get())["all_workers"]["misses"] == before:
                pass
            assert stats == example.get("/api/stats")


def test_page_and_videos(nobody: str, tmp_path: Path) -> None:
    with videocache(tmp_path, REDIS_URL=nobody) as example:
        page = example.ask("GET", "/").body.decode()
        for path in re.findall(r'(?:src|href)="(/[^"]+)"', page):
            assert example.ask("GET", path).status == 200, path
        script = example.ask("GET", "/static/videocache.js").body.decode()
        for name in re.findall(r'element\("(\w+)"\)', script):
            assert f'id="{name}"' in page, name
        url = example.post("/api/videos", CARDS)["video_url"]
        video = example.ask("GET", url)
        assert video.headers.get_content_type() == "image/svg+xml"
        assert b"&lt;b&gt;" in video.body
        assert b"<b>" not in video.body


@pytest.mark.parametrize(
    "change",
    [
        {"black_card": ""},
        {"black_card": None},
        {"black_card": "x" * 501},
        {"white_cards": []},
        {"white_cards": "x"},
        {"white_cards": ["x"] * 11},
        {"permanent": "perhaps"},
        {"video_url": "javascript:alert(1)"},
        {"black_card": "\ud800"},
    ],
)
def test_bad_input(shared: Example, change: dict[str, Any]) -> None:
    answer = shared.ask("PUT", "/api/videos", {**CARDS, "video_url": "/x", **change})
    assert answer.status == 422, answer
    assert all(set(reason) == {"where", "what"} for reason in answer.json["detail"])


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Example]:
    port = free_port()
    folder = tmp_path_factory.mktemp("videocache")
    with videocache(folder, REDIS_URL=patient(f"redis://127.0.0.1:{port}")) as example:
        yield example
    PORTS.release(port)
