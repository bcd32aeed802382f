"""AsyncMethod: bound, called, and called wrongly."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator

from measure import Once, main
from redlane import AsyncCache

AsyncMethod = type(vars(AsyncCache)["get"])


def cases(url: str) -> Iterator[tuple[str, Once]]:
    cache = AsyncCache(url)

    def wrong() -> None:
        with contextlib.suppress(TypeError):
            AsyncCache.get(5, "key")  # type: ignore[arg-type]

    def called() -> None:
        AsyncCache.set(cache, "key", 1, ttl=5).close()
        cache.set("key", value=1, ttl=5, durable=False, tags=["a", "b"]).close()

    yield "bound", lambda: (cache.get, repr(AsyncCache.get))
    yield "called", called
    yield "wrong", wrong
    yield "looked at", lambda: inspect.signature(AsyncCache.get_many)


if __name__ == "__main__":
    main([AsyncMethod], cases)
