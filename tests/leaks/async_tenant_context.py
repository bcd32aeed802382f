"""AsyncTenantContext: made, and its methods."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from measure import Once, main
from redlane import AsyncRedisCache, Client
from redlane._core import AsyncTenantContext


def cases(url: str) -> Iterator[tuple[str, Once]]:
    loop = asyncio.new_event_loop()
    shared = AsyncRedisCache.from_client(Client(url, timeout=10))
    cache = shared.with_context("app", "device")

    async def use() -> None:
        await cache.set("k", b"v", 60)
        await cache.get("k")
        await cache.stats()
        await cache.flush_app()

    yield "made", lambda: shared.with_context("app", "device")
    yield "used", lambda: loop.run_until_complete(use())
    yield "asked", lambda: (cache.key("a"), cache.app_id, repr(cache))
    loop.close()


if __name__ == "__main__":
    main([AsyncTenantContext], cases)
