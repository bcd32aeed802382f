"""How often a user may do something."""

from __future__ import annotations

from redlane import AsyncClient, AsyncRateLimiter

from .dependencies.redis import get_redis_client

_made: tuple[AsyncClient[str], AsyncRateLimiter] | None = None


def get_limiter() -> AsyncRateLimiter:
    """Of the client that there is: one that was closed takes its limiter along."""
    global _made
    client = get_redis_client()
    if _made is None or _made[0] is not client:
        limiter = AsyncRateLimiter(client, algorithm="fixed-window", prefix="ratelimit")
        _made = client, limiter
    return _made[1]


async def check_rate_limit(user_id: str, limit: int = 100) -> bool:
    """Whether the user may go on: `limit` times in each minute of the clock. They are
    counted in `ratelimit:{user}:{unix_seconds // 60}`, which has its TTL from the step
    that makes it; while Redis is away, in this process."""
    return bool(await get_limiter().hit(user_id, f"{limit}/minute"))
