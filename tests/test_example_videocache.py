"""The videocache example: on Redis with one worker and with two, in memory, through an
outage and in Chromium."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from browser import browser
from children import started
from redlane import content_key
from running_example import EXAMPLES, OURS, RunningExample, running_example, until
from servers import PORTS, Server, free_port, patient

FOLDER = EXAMPLES / "videocache"
POPULAR = json.loads((FOLDER / "popular.json").read_text())
CONNECTED = "✅ Connected to Redis for video caching"
REFUSED = "⚠️  Redis connection failed: Connection refused"
IN_MEMORY = "⚠️  Falling back to in-memory cache"
CARDS = {"black_card": "Why?", "white_cards": ["Because.", "é & <b>"]}


def videocache(
    folder: Path, url: str | None = None, workers: int = 1, **variables: str
) -> AbstractContextManager[RunningExample]:
    variables = {
        "VIDEOCACHE_MEDIA": str(folder / "media"),
        "GENERATE_SECONDS": "0",
        **variables,
    }
    return running_example("videocache", folder, url, workers, **variables)


@pytest.fixture(scope="module")
def in_memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningExample]:
    """Nothing listens at its REDIS_URL."""
    port = free_port()
    folder = tmp_path_factory.mktemp("videocache")
    with videocache(folder, patient(f"redis://127.0.0.1:{port}")) as example:
        yield example
    PORTS.release(port)


def key_of(cards: dict[str, Any]) -> str:
    return content_key("video", cards["black_card"], cards["white_cards"])


def path_of(cards: dict[str, Any]) -> str:
    fields = [("black_card", cards["black_card"])]
    fields += [("white_card", card) for card in cards["white_cards"]]
    return f"/api/videos?{urlencode(fields, quote_via=quote)}"


def wait_for_popular(example: RunningExample) -> None:
    def all_there() -> bool:
        progress = example.get_json("/api/pregeneration")
        return progress["total"] > 0 and not progress["running"]

    until(all_there, "the end of the pre-generation")
    progress = example.get_json("/api/pregeneration")
    assert progress["done"] == len(POPULAR)
    assert progress["failed"] == 0


def test_on_redis(redis_server: Server, tmp_path: Path) -> None:
    with videocache(tmp_path, redis_server.patient_url) as example:
        wait_for_popular(example)
        assert CONNECTED in example.lines()
        for cards in POPULAR:
            stored = json.loads(redis_server.cli("GET", key_of(cards)))
            assert stored["permanent"] is True
            assert redis_server.cli("TTL", key_of(cards)) == -1
            assert example.get_json(path_of(cards))["video_url"] == stored["video_url"]
        assert example.get_json("/api/stats")["cache_type"] == "redis"

        assert example.get(path_of(CARDS)).status == 404
        made = example.post_json("/api/videos", CARDS)
        assert made["cached"] is False
        again = example.post_json("/api/videos", CARDS)
        assert again == {"video_url": made["video_url"], "cached": True}
        assert 86_000 < redis_server.cli("TTL", key_of(CARDS)) <= 86_400
        example.post_json("/api/videos", {**CARDS, "permanent": True})
        assert redis_server.cli("TTL", key_of(CARDS)) == -1

        stats = example.get_json("/api/stats")
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

        # What is deleted is generated again.
        key = key_of(POPULAR[0])
        redis_server.cli("DEL", key)
        example.post_json("/api/pregeneration", status=202)
        until(lambda: redis_server.cli("EXISTS", key), "the video that was deleted")
        assert redis_server.cli("TTL", key) == -1

        with example.watch("/ws/stats") as link:
            before = link.get()["all_workers"]["misses"]
            assert example.get("/api/videos?black_card=a&white_card=b").status == 404
            while (stats := link.get())["all_workers"]["misses"] == before:
                pass
            assert stats == example.get_json("/api/stats")
        assert "Traceback" not in example.log


def test_workers_share_videos_and_work(redis_server: Server, tmp_path: Path) -> None:
    with videocache(tmp_path, redis_server.patient_url, workers=2) as example:
        until(lambda: len(example.workers()) == 2, "both workers")
        keys = [key_of(cards) for cards in POPULAR]
        until(
            lambda: redis_server.cli("EXISTS", *keys) == len(keys), "all popular videos"
        )
        url = example.post_json("/api/videos", CARDS)["video_url"]
        for _ in range(6):
            found = example.get_json(path_of(CARDS))
            assert found == {"video_url": url, "cached": True}
        expected = {"hits": 6, "misses": 1, "hit_rate": pytest.approx(6 / 7)}
        for _ in range(6):
            assert example.get_json("/api/stats")["all_workers"] == expected

        def done() -> list[int]:
            said = re.findall(r"^Pre-generated (\d+) of", example.log, re.MULTILINE)
            return [int(number) for number in said]

        # Whoever came second found them there.
        until(lambda: len(done()) >= 2, "the pre-generation of both")
        assert sum(done()) == len(POPULAR)
        # A worker that is killed is replaced, and has taken nothing along.
        killed = example.workers()[0]
        os.kill(killed, signal.SIGKILL)
        until(
            lambda: len({*example.workers()} - {killed}) == 2, "a worker in its place"
        )
        until(lambda: example.answers(path_of(CARDS)), "an answer")
        assert example.get_json(path_of(CARDS)) == {"video_url": url, "cached": True}


def test_in_memory(in_memory: RunningExample) -> None:
    lines = in_memory.lines()
    assert lines.index(REFUSED) < lines.index(IN_MEMORY)
    assert CONNECTED not in lines
    wait_for_popular(in_memory)
    cards = {**CARDS, "black_card": "Where?"}
    made = in_memory.post_json("/api/videos", cards)
    assert made["cached"] is False
    assert in_memory.get_json(path_of(cards))["video_url"] == made["video_url"]
    stats = in_memory.get_json("/api/stats")
    assert stats["cache_type"] == "memory"
    assert stats["total_entries"] > len(POPULAR)
    assert in_memory.get_json("/health/deep")["status"] == "degraded"
    assert "Traceback" not in in_memory.log


def test_on_the_engine(tmp_path: Path) -> None:
    with videocache(tmp_path, "memory://") as example:
        wait_for_popular(example)
        made = example.post_json("/api/videos", CARDS)
        assert example.get_json(path_of(CARDS))["video_url"] == made["video_url"]
        stats = example.get_json("/api/stats")
        assert (stats["cache_type"], stats["total_entries"]) == ("memory", 9)
        assert example.get_json("/health/deep")["status"] == "ok"
        assert "Traceback" not in example.log


def test_the_documents_command(tmp_path: Path) -> None:
    """From its folder, with no configuration: whatever is at localhost:6379 of this
    machine is only looked at."""
    nothing = tmp_path / "popular.json"
    nothing.write_text("[]")
    port = free_port()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(OURS)}
    own = {
        "VIDEOCACHE_POPULAR": str(nothing),
        "VIDEOCACHE_MEDIA": str(tmp_path / "media"),
        "PYTHONUNBUFFERED": "1",
    }
    command = (sys.executable, "-m", "uvicorn", "app.main:socket_app", "--port", port)
    log = tmp_path / "log"
    try:
        with (
            log.open("wb") as file,
            started(
                command, cwd=FOLDER, env=kept | own, stdout=file, stderr=file
            ) as process,
        ):
            example = RunningExample(port, process, log)
            until(lambda: example.answers("/health/deep"), "an answer", 120)
            kind = example.get_json("/api/stats")["cache_type"]
            lines = example.lines()
            assert (CONNECTED in lines) is (kind == "redis")
            assert (IN_MEMORY in lines) is (kind == "memory")
    finally:
        PORTS.release(port)


def test_the_documents_snippets(redis_server: Server, tmp_path: Path) -> None:
    """Those of 'Testing', with the import that they have."""
    program = """if True:
        from app.services.video_cache import video_cache
        stats = video_cache.get_stats()
        print(stats["cache_type"])
        video_cache.set("test", ["card"], "http://test.mp4", permanent=False)
        url = video_cache.get("test", ["card"])
        print(url)
        stats = video_cache.get_stats()
        print(f"Total entries: {stats['total_entries']}")
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith(OURS)}
    kept["REDIS_URL"] = redis_server.patient_url
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with started(
        (sys.executable, "-c", program), cwd=FOLDER, env=kept, **pipes
    ) as child:
        printed, complaint = child.communicate(timeout=120)
    assert printed.splitlines() == ["redis", "http://test.mp4", "Total entries: 1"]
    assert complaint == ""


def test_through_an_outage(fresh_server: Server, tmp_path: Path) -> None:
    def kind() -> Any:
        return example.get_json("/api/stats")["cache_type"]

    with videocache(tmp_path, fresh_server.url) as example:
        wait_for_popular(example)
        kept = example.post_json("/api/videos", CARDS)["video_url"]
        fresh_server.kill()
        until(lambda: kind() == "memory", "the outage")
        winner = {"black_card": "Who won?", "white_cards": ["Ann"]}
        loser = {"black_card": "Who lost?", "white_cards": ["Bob"]}
        stored = {**winner, "permanent": True, "video_url": "https://video.url/1.mp4"}
        assert example.ask("PUT", "/api/videos", stored).json == {"stored": True}
        assert (
            example.get_json(path_of(winner))["video_url"] == "https://video.url/1.mp4"
        )
        example.post_json("/api/videos", loser)
        assert example.post_json("/api/videos", CARDS)["video_url"] == kept

        fresh_server.start()
        until(lambda: kind() == "redis", "the return")
        until(lambda: fresh_server.cli("EXISTS", key_of(loser)), "what was stored")
        assert fresh_server.cli("TTL", key_of(winner)) == -1
        assert 86_000 < fresh_server.cli("TTL", key_of(loser)) <= 86_400
        # It had lost everything: what was popular is generated again when asked for.
        example.post_json("/api/pregeneration", status=202)
        for cards in POPULAR:
            until(
                lambda c=cards: fresh_server.cli("EXISTS", key_of(c)), "a popular one"
            )
        assert "Traceback" not in example.log


def test_page_and_videos(in_memory: RunningExample) -> None:
    page = in_memory.get("/").body.decode()
    paths = re.findall(r'(?:src|href)="(/[^"]+)"', page)
    assert len(paths) == 2
    for path in paths:
        assert in_memory.get(path).status == 200, path
    script = in_memory.get("/static/videocache.js").body.decode()
    names = re.findall(r'element\("(\w+)"\)', script)
    assert len(names) > 10
    for name in names:
        assert f'id="{name}"' in page, name
    url = in_memory.post_json("/api/videos", CARDS)["video_url"]
    video = in_memory.get(url)
    assert video.headers.get_content_type() == "image/svg+xml"
    assert b"&lt;b&gt;" in video.body
    assert b"<b>" not in video.body


def test_page_shows_the_hits_rise(fresh_server: Server, tmp_path: Path) -> None:
    """In Chromium, with two workers: what the page's own requests and those of others
    do to the numbers and to the curve; and where the videos are, through an outage."""
    url = fresh_server.patient_url
    with videocache(tmp_path, url, 2) as example, browser() as page:

        def shows(name: str, text: str) -> None:
            page.wait_for(f"document.getElementById('{name}').textContent === '{text}'")

        page.open(example.url)
        shows("cache_type", "redis")
        shows("all_hits", "0")
        shows("all_hit_rate", "0.0 %")
        page.fill("#black", "Why not?")
        page.fill("#whites", "One\n\n<b>Two</b>")
        page.click("#cards button")
        page.wait_for("answer.textContent.startsWith('generated, ')")
        shows("all_misses", "1")
        page.click("#cards button")
        page.wait_for("answer.textContent.startsWith('cached, ')")
        shows("all_hits", "1")
        shows("all_hit_rate", "50.0 %")
        page.wait_for("video.complete && video.naturalWidth > 0")
        cards = {"black_card": "Why not?", "white_cards": ["One", "<b>Two</b>"]}
        for _ in range(6):
            assert example.get_json(path_of(cards))["cached"] is True
        shows("all_hits", "7")
        shows("all_hit_rate", "87.5 %")
        heights = page.evaluate(
            "curve.getAttribute('points').split(' ').map(p => Number(p.split(',')[1]))"
        )
        assert heights == sorted(heights, reverse=True)  # down is up in a picture
        assert heights[-1] < heights[0]

        fresh_server.kill()
        shows("cache_type", "memory")
        page.click("#cards button")
        page.wait_for("/^(cached|generated), /.test(answer.textContent)")
        fresh_server.start()
        shows("cache_type", "redis")
        assert page.errors == []
        assert "Traceback" not in example.log


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
def test_bad_input(in_memory: RunningExample, change: dict[str, Any]) -> None:
    answer = in_memory.ask("PUT", "/api/videos", {**CARDS, "video_url": "/x", **change})
    assert answer.status == 422, answer
    assert all(set(reason) == {"where", "what"} for reason in answer.json["detail"])
