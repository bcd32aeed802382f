"""The statistics as they change, for the clients of the WebSocket."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from fastapi import WebSocket, WebSocketDisconnect

SECONDS = 1.0  # between two looks


class LiveStats:
    """However many clients there are, the statistics are read once a second."""

    def __init__(self, read: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        self._read = read
        self._lock = asyncio.Lock()
        self._stats: dict[str, Any] = {}
        self._read_at = -SECONDS

    async def serve(self, websocket: WebSocket) -> None:
        """Tells a client, until it goes away."""
        await websocket.accept()
        gone = asyncio.create_task(until_gone(websocket))
        sent: dict[str, Any] | None = None
        try:
            while not gone.done():
                stats = await self._latest()
                if stats != sent:
                    await websocket.send_json(stats)
                    sent = stats
                await asyncio.wait([gone], timeout=SECONDS)
        except (WebSocketDisconnect, RuntimeError):
            pass  # it went away while it was being told
        finally:
            gone.cancel()

    async def _latest(self) -> dict[str, Any]:
        async with self._lock:
            if time.monotonic() - self._read_at >= SECONDS / 2:
                self._stats = await self._read()
                self._read_at = time.monotonic()
            return self._stats


async def until_gone(websocket: WebSocket) -> None:
    with suppress(WebSocketDisconnect, RuntimeError):
        while True:
            await websocket.receive()
