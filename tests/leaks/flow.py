"""Flow: calls that wait, fail, are cancelled, closed and never awaited."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

from measure import Once, main
from redlane import Cache, Client

waiting = Cache("memory://").aio.get("key")
FlowType = type(waiting)
waiting.close()


def cases(url: str) -> Iterator[tuple[str, Once]]:
    loop = asyncio.new_event_loop()
    cache = Cache(Client(url, timeout=10), prefix="leaks", ttl=100, near=False)

    def run(awaitable: Any) -> Any:
        return loop.run_until_complete(awaitable)

    @cache
    async def plain(x: int) -> list[int]:
        await asyncio.sleep(0)
        return [x]

    @cache
    async def failing(x: int) -> int:
        await asyncio.sleep(0)
        raise LookupError(x)

    @cache(unless=lambda: True)
    async def endless() -> None:
        while True:
            await asyncio.sleep(0)

    @cache(ttl=0.001, stale=10)
    async def stale() -> int:
        await asyncio.sleep(0.0005)
        return 1

    @cache(hard_timeout=0.001)
    async def late() -> None:
        await asyncio.sleep(0.002)

    async def cancelled() -> None:
        task = asyncio.ensure_future(endless())
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def herd() -> None:
        await plain.invalidate(1)
        leader = asyncio.ensure_future(plain(1))
        others = [asyncio.ensure_future(plain(1)) for _ in range(3)]
        await asyncio.sleep(0)
        others[0].cancel()
        leader.cancel()
        await asyncio.gather(leader, *others, return_exceptions=True)

    async def refreshed() -> None:
        await stale()
        await asyncio.sleep(0.003)
        await stale()
        await asyncio.sleep(0.002)

    async def timed_out() -> None:
        with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
            await late.refresh()
        await asyncio.sleep(0.003)

    async def closed() -> None:
        for end in (lambda flow: flow.close(), lambda flow: None):
            flow = endless()
            flow.send(None)
            end(flow)

    def fail() -> None:
        with contextlib.suppress(LookupError):
            run(failing(1))

    yield "miss", lambda: (run(plain.invalidate(1)), run(plain(1)))
    yield "hit", lambda: run(plain(1))
    yield "failure", fail
    yield "cancelled", lambda: run(cancelled())
    yield "waiting", lambda: run(herd())
    yield "refreshed", lambda: run(refreshed())
    yield "timed out", lambda: run(timed_out())
    yield "closed", lambda: run(closed())
    yield "never awaited", lambda: plain(1).close()
    loop.close()


if __name__ == "__main__":
    main([FlowType], cases)
