"""ReadyAwaitable: near hits that are awaited, sent to, closed and dropped."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from typing import Any

from measure import Once, main
from redlane import Cache, Client

FlowType = type(Cache("memory://").aio.get("key"))


def near_type() -> type:
    """Only the collector's objects lead to it before a value is near."""
    (found,) = [
        made
        for made in type.__subclasses__(object)
        if made.__name__ == "ReadyAwaitable"
    ]
    return found


def cases(url: str) -> Iterator[tuple[str, Once]]:
    if url.startswith("memory:"):
        yield "nothing is near", lambda: None
        return
    loop = asyncio.new_event_loop()
    cache = Cache(Client(url, timeout=10), prefix="leaks", ttl=10_000)

    @cache(share=True)
    async def f() -> list[int]:
        return [1]

    end = time.monotonic() + 30
    while type(waiting := f()) is FlowType:
        assert time.monotonic() < end
        loop.run_until_complete(waiting)
        time.sleep(0.01)

    def sent(awaitable: Any) -> None:
        with contextlib.suppress(StopIteration):
            awaitable.send(None)
        with contextlib.suppress(RuntimeError):
            awaitable.send(None)

    def thrown(awaitable: Any) -> None:
        with contextlib.suppress(KeyError):
            awaitable.throw(KeyError("mine"))

    async def many() -> None:
        await asyncio.gather(*(f() for _ in range(100)))
        kept = [f() for _ in range(100)]
        for awaitable in kept:
            await awaitable

    yield "awaited", lambda: loop.run_until_complete(f())
    yield "many", lambda: loop.run_until_complete(many())
    yield "sent", lambda: sent(f())
    yield "thrown", lambda: thrown(f())
    yield "closed", lambda: f().close()
    yield "dropped", lambda: [f() for _ in range(100)]
    loop.close()


if __name__ == "__main__":
    main([near_type()], cases)
