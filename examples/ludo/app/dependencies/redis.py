"""The one Redis client of the process, for Upstash and for plain Redis alike."""

from __future__ import annotations

import logging
from typing import Any

from redlane import AsyncClient

from ..config import get_settings

logger = logging.getLogger("ludo")

_client: AsyncClient[str] | None = None


def get_redis_client() -> AsyncClient[str]:
    """The same on every call, made by the first; it answers in str. While Redis is away
    its commands raise."""
    global _client
    if _client is None:
        settings = get_settings()
        url = settings.redis_url
        options: dict[str, Any] = {}
        token = settings.UPSTASH_REDIS_REST_TOKEN
        if is_rest(url) and token is not None:
            options["token"] = token.get_secret_value()
        _client = AsyncClient(url, decode_responses=True, **options)
        if not is_rest(url):  # of Upstash the library says it
            logger.debug("Redis client initialized with URL: %s", _client.url)
    return _client


def is_rest(url: str) -> bool:
    return url.startswith(("https://", "http://"))


async def close_redis_client() -> None:
    """Closes it, if there is one; the next get_redis_client() makes a new one."""
    global _client
    client, _client = _client, None
    if client is not None:
        await client.close()
