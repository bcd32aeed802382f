"""VideoCache: stored, found, not found, statistics."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from measure import Once, main
from redlane import Client
from redlane._core import VideoCache


def cases(url: str) -> Iterator[tuple[str, Once]]:
    logging.disable()  # it logs each call
    client = Client(url, timeout=10)
    client.flushdb()
    videos = VideoCache(client)
    yield "dropped unused", lambda: VideoCache(client)
    yield "stored and found", lambda: found(videos)
    yield (
        "permanent",
        lambda: videos.set("b", ["w"], "https://host/v.mp4", permanent=True),
    )
    yield "not found", lambda: videos.get("nothing", ["here"])
    yield "statistics", videos.get_stats
    yield "bad arguments", lambda: misuse(videos)


def found(videos: VideoCache) -> None:
    videos.set("black", ["white", "ünï"], "https://host/v.mp4")
    assert videos.get("black", ["white", "ünï"]) == "https://host/v.mp4"


def misuse(videos: VideoCache) -> None:
    with contextlib.suppress(TypeError, ValueError):
        videos.get("black", [1])  # type: ignore[list-item]
        raise AssertionError("not refused")


if __name__ == "__main__":
    main([Client, VideoCache], cases)
