"""The ready-made tools: they find the default client when they are first used."""

from __future__ import annotations

from redlane._core import Cache, VideoCache

__all__ = ["cache", "invalidate_cache", "video_cache"]

cache = Cache()
video_cache = VideoCache(lazy=True)


def invalidate_cache(pattern: str) -> int:
    """Delete the cached values whose keys match a glob pattern.

    ``invalidate_cache("cache:expensive_function:*")``: keys as redis-cli shows them.
    The number of those that went.
    """
    return cache.invalidate(pattern)
