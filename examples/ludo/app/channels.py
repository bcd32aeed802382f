"""A channel that a worker hears."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from redlane import AsyncClient, Gap, RedlaneError

from .dependencies.redis import get_redis_client

RETRY_SECONDS = 1.0  # before what failed is tried again

logger = logging.getLogger("ludo")


class Follower:
    """Hears a channel until its task is cancelled or the client is closed."""

    def __init__(
        self,
        channel: str,
        handle: Callable[[str], Awaitable[None]],
        reload: Callable[[], Awaitable[None]],
    ) -> None:
        self.channel = channel
        self.begun = asyncio.Event()
        self._handle = handle
        self._reload = reload
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        redis = get_redis_client()
        try:
            while not redis.closed:
                try:
                    await self._hear(redis)
                except RedlaneError:
                    self.begun.set()
                    await asyncio.sleep(RETRY_SECONDS)
        finally:
            self.begun.set()

    async def _hear(self, redis: AsyncClient[str]) -> None:
        async with redis.subscribe(self.channel, on_gap=self._on_gap) as messages:
            self.begun.set()
            async for message in messages:
                await self._handle(message)

    async def _on_gap(self, gap: Gap) -> None:
        logger.info("%s: messages may be missing: %s", self.channel, gap.reason)
        await self._reload()
