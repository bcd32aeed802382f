"""Videos by their cards: out of the cache, or generated and put into it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redlane import Cache, content_key

from .generator import Generator
from .video_cache import video_cache


@dataclass(frozen=True)
class Video:
    url: str
    cached: bool


class Library:
    """What of one process asks for videos. `counts` are those of all processes, and
    what else counts lookups is the process' own."""

    def __init__(self, generator: Generator) -> None:
        self._videos = video_cache.aio
        self._counts = Cache(prefix="videocache", near=False).aio
        self._generator = generator
        self._under_way: dict[str, asyncio.Task[str]] = {}

    async def find(self, black_card: str, white_cards: Sequence[str]) -> str | None:
        """The URL of the video, or None."""
        url = await self._videos.get(black_card, white_cards)
        await self._counts.increment("misses" if url is None else "hits")
        return url

    async def find_or_generate(
        self, black_card: str, white_cards: Sequence[str], permanent: bool
    ) -> Video:
        """A video that was found stays as permanent as it is, or becomes permanent."""
        url = await self.find(black_card, white_cards)
        if url is None:
            url = await self.generate(black_card, white_cards, permanent)
            return Video(url, cached=False)
        if permanent:
            await self._videos.set(black_card, white_cards, url, permanent=True)
        return Video(url, cached=True)

    async def generate(
        self, black_card: str, white_cards: Sequence[str], permanent: bool
    ) -> str:
        """Generates it and stores it. Who asks meanwhile waits for the same one."""
        key = content_key("video", black_card, white_cards)
        task = self._under_way.get(key)
        if task is None:
            work = self._generator.generate(black_card, white_cards)
            task = self._under_way[key] = asyncio.create_task(work)
            task.add_done_callback(lambda _: self._under_way.pop(key))
        # A client that goes away does not take it from the others.
        url = await asyncio.shield(task)
        await self._videos.set(black_card, white_cards, url, permanent=permanent)
        return url

    async def store(
        self, black_card: str, white_cards: Sequence[str], url: str, permanent: bool
    ) -> bool:
        """Stores a video from elsewhere. False: a permanent one is there and stays."""
        return await self._videos.set(black_card, white_cards, url, permanent=permanent)

    async def get_stats(self) -> dict[str, Any]:
        """VideoCache.get_stats(), and the lookups of all processes."""
        stats = await self._videos.get_stats()
        hits = await self._counts.get("hits") or 0
        misses = await self._counts.get("misses") or 0
        stats["all_workers"] = {
            "hits": hits,
            "misses": misses,
            "hit_rate": hits / (hits + misses) if hits + misses else 0.0,
        }
        return stats
