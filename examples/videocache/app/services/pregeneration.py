"""Fills the cache ahead: a permanent video for each popular combination of cards.

Every worker has this job. One of them at a time does it, by a slot that all share; when
it is killed its lease ends and another one goes on with what is missing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
from redlane import Concurrency, RedlaneError, default_client

from .library import Library
from .video_cache import video_cache

LEASE = 60.0  # seconds; longer than generating one video takes
RETRY = 5.0  # seconds until a worker looks whether another one still does it

logger = logging.getLogger("videocache")


class Combination(msgspec.Struct, frozen=True):
    black_card: str
    white_cards: tuple[str, ...]


@dataclass
class Progress:
    """Of this worker's last run."""

    running: bool = False
    total: int = 0
    done: int = 0
    generated: int = 0
    failed: int = 0


def read_combinations(path: Path) -> list[Combination]:
    """OSError or ValueError for a file that is not usable."""
    return msgspec.json.decode(path.read_bytes(), type=list[Combination])


class Pregeneration:
    """A task of the event loop, from `start` to `stop`."""

    def __init__(
        self,
        library: Library,
        combinations: Sequence[Combination],
        every: float,
        generate_seconds: float,
    ) -> None:
        self.progress = Progress()
        self._library = library
        self._combinations = combinations
        self._every = every
        lease = LEASE + 2 * generate_seconds
        self._slots = Concurrency(default_client(), limit=1, lease=lease).aio
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._wanted.set()
        self._task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def ask(self) -> None:
        """Has it run again, soon."""
        self._wanted.set()

    def report(self) -> dict[str, Any]:
        return asdict(self.progress)

    async def _work(self) -> None:
        while True:
            await self._wait()
            try:
                finished = await self._run_alone()
            except RedlaneError as error:
                logger.warning("Pre-generation is put off: %s", error)
                finished = False
            if not finished:
                await asyncio.sleep(RETRY)
                self._wanted.set()

    async def _wait(self) -> None:
        """Until it is time, or asked for."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._wanted.wait(), self._every or None)
        self._wanted.clear()

    async def _run_alone(self) -> bool:
        """False where another worker is at it, or not all could be made."""
        slot = await self._slots.acquire("videocache:pregeneration")
        if not slot:
            return False
        async with slot:
            return await self._run(slot)

    async def _run(self, slot: Any) -> bool:
        progress = self.progress = Progress(True, len(self._combinations))
        try:
            for combination in self._combinations:
                await self._fill(combination)
                progress.done += 1
                await slot.extend()
        finally:
            progress.running = False
        logger.info("Pre-generated %d of %d", progress.generated, progress.total)
        return progress.failed == 0

    async def _fill(self, combination: Combination) -> None:
        black, whites = combination.black_card, combination.white_cards
        url = await video_cache.aio.get(black, whites)
        if url is not None:
            await self._library.store(black, whites, url, permanent=True)
            return
        try:
            await self._library.generate(black, whites, permanent=True)
        except OSError as error:
            self.progress.failed += 1
            logger.error("Not generated: %s", error)
        else:
            self.progress.generated += 1
