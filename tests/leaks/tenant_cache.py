"""TenantCache: made, with contexts, and what it refuses."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from measure import Once, main
from redlane import Client, RedisCache
from redlane._core import TenantCache, TenantContext


def cases(url: str) -> Iterator[tuple[str, Once]]:
    logging.disable()  # it logs each call
    client = Client(url, timeout=10)
    shared = RedisCache.from_client(client)
    yield "made", lambda: TenantCache(client, TenantContext)
    yield "with its Python part", lambda: RedisCache.from_client(client)
    yield "of an address", lambda: RedisCache("127.0.0.1:1").close()
    yield "contexts", lambda: shared.with_context("app", "device")
    yield "refused", lambda: misuse(client, shared)


def misuse(client: Client, shared: RedisCache) -> None:
    with contextlib.suppress(ValueError):
        shared.with_context("a/b", "c")
        raise AssertionError("not refused")
    with contextlib.suppress(TypeError):
        TenantCache(client, int)  # type: ignore[arg-type]
        raise AssertionError("not refused")


if __name__ == "__main__":
    main([Client, TenantCache], cases)
