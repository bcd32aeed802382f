"""What the application uses of redlane, ready-made."""

from __future__ import annotations

from redlane import RateLimiter, RedisPubSub, cache, invalidate_cache

__all__ = ["RateLimiter", "RedisPubSub", "cache", "invalidate_cache"]
