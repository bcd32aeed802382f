"""AsyncCache: made, its methods, and what it hands out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import redlane
from measure import Once, main
from redlane import AsyncCache, Cache, Client


def cases(url: str) -> Iterator[tuple[str, Once]]:
    loop = asyncio.new_event_loop()
    run = loop.run_until_complete
    client = Client(url, timeout=10)
    cache = AsyncCache(client, prefix="leaks", ttl=100)

    async def values() -> None:
        await cache.set("key", {"a": 1}, tags=["t"])
        await cache.get("key")
        await cache.set_many({"a": 1, "b": 2})
        await cache.get_many(["a", "b", "c"])
        await cache.get_or_set("made", lambda: 5)
        await cache.increment("n")
        await cache.invalidate_tags("t")
        await cache.delete_many(["a", "b", "made"])
        await cache.clear()

    async def wrong() -> None:
        with contextlib.suppress(redlane.SerializationError):
            await cache.set("key", object())
        with contextlib.suppress(TypeError):
            await cache.get()  # type: ignore[call-arg]

    yield "made", lambda: (AsyncCache(client), Cache(client).aio)
    yield "values", lambda: run(values())
    yield "wrong", lambda: run(wrong())
    yield "handed out", lambda: (cache.namespace("n"), cache.counter("c"), repr(cache))
    loop.close()


if __name__ == "__main__":
    main([AsyncCache], cases)
