"""Forks in every state of a loop, and the ends of programs and clients: at exit, twice,
before what is used after them, and from their own callbacks."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import redlane
from aio import KINDS, Runner
from children import run_program
from redlane import AsyncCache, AsyncClient, AsyncCounter
from servers import PATIENT, Server

# --- forks ------------------------------------------------------------------------

FORKS = """
import asyncio, os, sys, threading
sys.path.insert(0, sys.argv[1])
from aio import KINDS
from proxy import Proxy
from redlane import AsyncCache, AsyncClient

url, kind, state = sys.argv[2:]
make = KINDS[kind]
client = AsyncClient(url, timeout=60, connect_timeout=60)
cache = AsyncCache(client, ttl=60)


@cache
async def function(number):
    await asyncio.sleep(0.05)
    return [number]


async def use():
    assert await client.get("k") == b"v"
    assert await client.pipeline().get("k").echo("x").execute() == [b"v", b"x"]
    assert await function(7) == [7]
    assert await function(8) == [8]
    assert (await client.health())["mode"] == "redis"


def child():
    code = 1
    try:
        asyncio._set_running_loop(None)
        for kind in KINDS:
            loop = KINDS[kind]()
            loop.run_until_complete(use())
            loop.close()
        assert client.sync.get("k") == b"v"
        code = 0
    except BaseException:
        import traceback
        traceback.print_exc()
    finally:
        os._exit(code)


def fork():
    number = os.fork()
    if number == 0:
        child()
    return number


async def listens():
    async for message in client.subscribe("channel"):
        return message


async def main():
    tasks = []
    if state == "not used":
        return fork(), []
    await client.set("k", "v")
    if state == "connecting":
        other = AsyncClient(url, timeout=60, connect_timeout=60)
        tasks.append(asyncio.ensure_future(other.get("k")))
        await asyncio.sleep(0)
    elif state == "written":
        tasks = [asyncio.ensure_future(client.get("k")) for _ in range(50)]
        for _ in range(2):
            await asyncio.sleep(0)
    elif state == "computing":
        tasks = [asyncio.ensure_future(function(number)) for number in (7, 7, 8)]
        await asyncio.sleep(0.02)
    elif state == "subscribed":
        tasks = [asyncio.ensure_future(listens()) for _ in range(3)]
        await asyncio.sleep(0.05)
    elif state == "in a callback":
        forked = []
        asyncio.get_running_loop().call_soon(lambda: forked.append(fork()))
        await use()
        return forked[0], []
    number = fork()
    if state == "subscribed":
        while await client.publish("channel", "done") == 0:
            await asyncio.sleep(0.01)
    return number, await asyncio.gather(*tasks)


loop = make()
if state == "in a thread":
    loop.run_until_complete(client.set("k", "v"))
    thread = threading.Thread(target=lambda: KINDS[kind]().run_until_complete(use()))
    thread.start()
    number, replies = fork(), []
    thread.join()
elif state == "between runs":
    loop.run_until_complete(client.set("k", "v"))
    number, replies = fork(), []
else:
    number, replies = loop.run_until_complete(main())
right = {
    "connecting": [b"v"],
    "written": [b"v"] * 50,
    "computing": [[7], [7], [8]],
    "subscribed": [b"done"] * 3,
}.get(state, [])
assert replies == right, replies
_, status = os.waitpid(number, 0)
loop.run_until_complete(use())
loop.run_until_complete(client.close())
loop.close()
print("child", os.waitstatus_to_exitcode(status))
"""

STATES = [
    *("not used", "between runs", "connecting", "written", "computing"),
    *("subscribed", "in a callback", "in a thread"),
]


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("state", STATES)
def test_a_fork_in_every_state(redis_server: Server, kind: str, state: str) -> None:
    """Parent and child go on, each over connections of its own, on loops of its own."""
    redis_server.cli("SET", "k", "v")
    done = run_program(
        FORKS,
        *(Path(__file__).parent, redis_server.url, kind, state),
        options=["-W", "ignore"],  # of the child's inherited loop, and of forks
        timeout=300,
    )
    assert (done.stdout, done.returncode) == ("child 0\n", 0), done.stderr


# --- the end of the program -------------------------------------------------------

ENDS = """
import asyncio, os, sys, threading
sys.path.insert(0, sys.argv[1])
from aio import KINDS
from redlane import AsyncCache, AsyncClient

url, kind, state = sys.argv[2:]
loop = KINDS[kind]()
client = AsyncClient(url, timeout=60, connect_timeout=60)
cache = AsyncCache(client)


@cache
async def function(number):
    return number


async def main():
    await client.set("k", "v")
    await function(1)  # the invalidation thread is up
    if state == "listening":
        client.sync.listen("channel", print)
    elif state == "under way":
        sys.kept = [asyncio.ensure_future(client.execute("BLPOP", "none", 0))]
        await asyncio.sleep(0.02)


def elsewhere():
    async def asks():
        begun.set()
        while True:
            await client.get("k")

    KINDS[kind]().run_until_complete(asks())


loop.run_until_complete(main())
if state == "a busy thread":
    begun = threading.Event()
    threading.Thread(target=elsewhere, daemon=True).start()
    begun.wait()
elif state == "closed":
    loop.run_until_complete(client.close())
    loop.close()
elif state == "closed loop":
    loop.close()
print("ends", flush=True)
if state == "exit":
    sys.exit(0)
"""


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize(
    "state",
    [
        "open",
        "closed",
        "closed loop",
        "under way",
        "listening",
        "a busy thread",
        "exit",
    ],
)
def test_a_program_ends(redis_server: Server, kind: str, state: str) -> None:
    """With the background thread alive, and whatever else there is."""
    done = run_program(
        ENDS,
        *(Path(__file__).parent, redis_server.url, kind, state),
        options=["-X", "faulthandler", "-W", "ignore"],
        timeout=300,
    )
    assert (done.stdout, done.returncode) == ("ends\n", 0), done.stderr
    assert "Fatal" not in done.stderr


KEEPS = """
import asyncio
from redlane import AsyncClient, Cache

client = AsyncClient("memory://")
cache = Cache(client.sync)


@cache
async def function(number):
    return number


async def main():
    for _ in range(3):
        await asyncio.gather(*(function(1) for _ in range(50)))
        assert await client.get("k") is None

asyncio.run(main())
print("ends", flush=True)
"""


def test_awaitables_that_are_kept_end_with_the_program() -> None:
    """They are freed while their type still stands, which Python's debugging allocator
    would tell else."""
    done = run_program(KEEPS, env={**os.environ, "PYTHONMALLOC": "debug"}, timeout=300)
    assert (done.stdout, done.returncode) == ("ends\n", 0), done.stderr


# --- double ends ------------------------------------------------------------------


def test_closed_twice_and_used_after(run: Runner, redis_server: Server) -> None:
    async def main() -> None:
        client = AsyncClient(redis_server.url, **PATIENT)
        cache = AsyncCache(client, fallback="raise")
        counter = AsyncCounter(client.sync, "n:{id}", fallback="raise")
        pipeline = client.pipeline().get("k")
        scan = client.scan_iter()

        @cache
        async def function(number: int) -> int:
            return number

        await asyncio.gather(client.ping(), client.close(), client.close())
        await client.close()
        client.sync.close()
        assert client.closed
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: client.get("k"),
            pipeline.execute,
            lambda: anext_of(scan),
            lambda: cache.get("k"),
            lambda: cache.set("k", 1),
            lambda: cache.get_or_set("k", lambda: 1),
            lambda: function(1),
            lambda: function.invalidate(1),
            lambda: counter.get(1),
            lambda: counter.increment(1),
            lambda: anext_of(client.subscribe("channel")),
        ]
        for call in calls:
            with pytest.raises(redlane.ConnectionError, match="closed"):
                await call()
        assert (await client.health())["mode"] == "closed"
        await client.close()

    run(main())


async def anext_of(iterator: Any) -> Any:
    return await iterator.__anext__()


def test_callbacks_that_close_their_own_client(
    run: Runner, redis_server: Server
) -> None:
    """Awaiting its end, on their own loop, in the middle of what they are called from;
    it is told or answered, never crossed or stuck."""

    async def main() -> None:
        for way in range(5):
            client = AsyncClient(redis_server.url, **PATIENT)
            cache = AsyncCache(client, prefix=f"c{way}", fallback="raise")

            async def closes(number: int = 0) -> int:
                await client.close()  # noqa: B023 # it is awaited below
                return 5

            counter = AsyncCounter(
                client.sync, "n:{id}", source=closes, fallback="raise"
            )
            calls: list[Callable[[], Awaitable[Any]]] = [
                lambda: cache.get_or_set("missing", closes),  # noqa: B023
                lambda: cache(closes)(1),  # noqa: B023
                lambda: cache(lock=False)(closes)(1),  # noqa: B023
                lambda: counter.get(1),  # noqa: B023
                lambda: cache(hard_timeout=60)(closes)(1),  # noqa: B023
            ]
            with contextlib.suppress(redlane.ConnectionError):
                assert await calls[way]() == 5
            assert client.closed

    run(main())
