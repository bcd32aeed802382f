"""Which loop a command belongs to: the one that runs, however it was found before."""

from __future__ import annotations

import asyncio
import os

import aio
import pytest
from redlane import AsyncClient
from servers import PATIENT, Server


@pytest.fixture(params=sorted(aio.KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


def test_loops_of_one_thread_in_turns(redis_server: Server, kind: str) -> None:
    client = AsyncClient(redis_server.url, **PATIENT)
    loops = [aio.KINDS[kind]() for _ in range(3)]

    async def add(loop: asyncio.AbstractEventLoop, count: int) -> None:
        replies = await asyncio.gather(*(client.incr("turns") for _ in range(count)))
        assert len(set(replies)) == count
        assert asyncio.get_running_loop() is loop

    for count in (1, 40, 100):  # also more than leaves in one write
        for loop in (*loops, loops[0], loops[0], loops[2]):
            loop.run_until_complete(add(loop, count))

    async def total() -> bytes | None:
        found: bytes | None = await client.get("turns")
        return found

    assert loops[1].run_until_complete(total()) == b"846"
    loops[1].run_until_complete(client.aclose())
    for loop in loops:
        aio.end(loop)


def test_outside_of_a_loop(redis_server: Server, kind: str) -> None:
    client = AsyncClient(redis_server.url, **PATIENT)
    loop = aio.KINDS[kind]()

    async def ask() -> bool:
        pong: bool = await client.ping()
        return pong

    assert loop.run_until_complete(ask())
    waiting = client.ping()
    with pytest.raises(RuntimeError, match="no running event loop"):
        waiting.__await__()
    assert loop.run_until_complete(ask())
    loop.run_until_complete(client.aclose())
    aio.end(loop)


def test_a_child_forked_in_a_loop_has_none(redis_server: Server, kind: str) -> None:
    client = AsyncClient(redis_server.url, **PATIENT)
    loop = aio.KINDS[kind]()

    async def main() -> int:
        assert await client.ping()
        child = os.fork()
        if child == 0:
            try:
                await client.ping()
            except RuntimeError as error:
                os._exit(7 if "no running event loop" in str(error) else 8)
            finally:
                os._exit(9)
        _, status = os.waitpid(child, 0)
        assert await client.ping()
        return os.waitstatus_to_exitcode(status)

    assert loop.run_until_complete(main()) == 7
    loop.run_until_complete(client.aclose())
    aio.end(loop)
