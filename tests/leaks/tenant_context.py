"""TenantContext: get, set, flushes, and what it refuses."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from measure import Once, main
from redlane import Client, ContextualRedisCache, RedisCache
from redlane._core import TenantContext


def cases(url: str) -> Iterator[tuple[str, Once]]:
    logging.disable()  # it logs each call
    shared = RedisCache.from_client(Client(url, timeout=10))
    cache = shared.with_context("app", "device")
    yield "made", lambda: shared.with_context("ä" * 200, "device")
    yield "set and get", lambda: (cache.set("k/l", b"v", 60), cache.get("k_l"))
    yield "long key", lambda: (cache.set("k" * 300, bytearray(9), 5), cache.get("x"))
    yield "attributes", lambda: (cache.app_id, cache.device_id, cache.key("a"), cache)
    yield "counted and flushed", lambda: (cache.stats(), cache.flush_device())
    yield "refused", lambda: misuse(cache)


def misuse(cache: ContextualRedisCache) -> None:
    for wrong in (
        lambda: cache.set("k", b"v", -1),
        lambda: cache.set("k", "text", 5),  # type: ignore[arg-type]
        lambda: cache.set("\ud800", b"v", 5),
        lambda: cache.get(None),  # type: ignore[arg-type]
    ):
        with contextlib.suppress(TypeError, ValueError):
            wrong()
            raise AssertionError("not refused")


if __name__ == "__main__":
    main([ContextualRedisCache, TenantContext], cases)
