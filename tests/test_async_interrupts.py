"""Interrupts that come from outside, on a loop: cancellation at every turn and every
delay, time-outs around each part of a handshake, Ctrl-C. Who is ended gets its own end;
the next call is right, and nothing is left under way."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import redlane
from aio import KINDS, Runner, until
from children import end as end_child
from children import start, wait_until_asleep
from redlane import AsyncCache, AsyncClient, AsyncCounter, AsyncVideoCache
from scripted import Peer, scripted
from servers import PATIENT, Server
from tls import TlsServer

NAME = "interrupted"


@contextlib.asynccontextmanager
async def connected(url: str, **options: Any) -> AsyncIterator[AsyncClient[Any]]:
    async with AsyncClient(url, **{**PATIENT, "name": NAME, **options}) as client:
        yield client


def connections(server: Server) -> int:
    """Those for commands: neither that of a near cache nor a subscriber's."""
    marks = b" name=%s " % NAME.encode(), b" flags=N "
    lines = server.cli("CLIENT", "LIST").splitlines()
    return sum(all(mark in line for mark in marks) for line in lines)


# --- cancellation -----------------------------------------------------------------

Way = Callable[[AsyncClient[Any]], Awaitable[Any]]


def cache_of(client: AsyncClient[Any], **options: Any) -> AsyncCache:
    return AsyncCache(client, prefix="c", **options)


async def scans(client: AsyncClient[Any]) -> set[Any]:
    return {key async for key in client.scan_iter(match="k*", count=1)}


async def opens(client: AsyncClient[Any]) -> Any:
    """A client of its own: the whole of the handshake, and its end."""
    async with connected(client.sync.url) as other:
        return await other.get("k0")


async def decorated(client: AsyncClient[Any], **options: Any) -> Any:
    @cache_of(client, near=False)(key="function", **options)
    async def function() -> list[int]:
        await asyncio.sleep(0)
        return [1]

    return await function()


async def refreshed(client: AsyncClient[Any]) -> Any:
    @cache_of(client)(key="refreshed")
    async def function() -> list[int]:
        await asyncio.sleep(0)
        return [1]

    return await function.refresh()


def counter_of(client: AsyncClient[Any]) -> AsyncCounter:
    async def source(id: int) -> int:
        await asyncio.sleep(0)
        return 5

    return AsyncCounter(client.sync, "n:{id}", source=source)


async def made() -> list[int]:
    await asyncio.sleep(0)
    return [1]


async def listens(client: AsyncClient[Any]) -> Any:
    async for message in client.subscribe("channel"):
        return message
    return None


# What is awaited, and what may come of it.
WAYS: dict[str, tuple[Way, Callable[[Any], bool]]] = {
    "get": (lambda c: c.get("k0"), lambda v: v == b"0"),
    "set": (lambda c: c.set("other", "x" * 100_000), lambda v: v is True),
    "mget": (lambda c: c.mget("k0", "k1"), lambda v: v == [b"0", b"1"]),
    "blpop": (lambda c: c.execute("BLPOP", "none", 0.05), lambda v: v is None),
    "pipeline": (
        lambda c: c.pipeline().get("k0").get("k1").execute(),
        lambda v: v == [b"0", b"1"],
    ),
    "transaction": (
        lambda c: c.pipeline(transaction=True).get("k0").get("k1").execute(),
        lambda v: v == [b"0", b"1"],
    ),
    "scan_iter": (scans, lambda v: v == {b"k0", b"k1"}),
    "eval": (lambda c: c.eval("return 7", 0), lambda v: v == 7),
    "health": (lambda c: c.health(), lambda v: v["mode"] == "redis"),
    "open and close": (opens, lambda v: v == b"0"),
    "cache.get": (lambda c: cache_of(c).get("k"), lambda v: v in (None, 1)),
    "cache.set": (lambda c: cache_of(c).set("k", 1), lambda v: v is True),
    "cache.set of tags": (
        lambda c: cache_of(c).set("t", 1, tags=["a", "b"]),
        lambda v: v is True,
    ),
    "cache.get of tags": (lambda c: cache_of(c).get("t"), lambda v: v in (None, 1)),
    "cache.get_many": (lambda c: cache_of(c).get_many(["k"]), lambda v: len(v) < 2),
    "cache.get_or_set": (
        lambda c: cache_of(c).get_or_set("made", made),
        lambda v: v == [1],
    ),
    "cache.invalidate": (lambda c: cache_of(c).invalidate("c:*"), lambda v: v >= 0),
    "cache.invalidate_tags": (
        lambda c: cache_of(c).invalidate_tags("a"),
        lambda v: v >= 0,
    ),
    "function": (lambda c: decorated(c), lambda v: v == [1]),
    "function without a lock": (
        lambda c: decorated(c, lock=False),
        lambda v: v == [1],
    ),
    "function of tags": (
        lambda c: decorated(c, tags=["a"], stale="1h", ttl=60),
        lambda v: v == [1],
    ),
    "function with a time-out": (
        lambda c: decorated(c, hard_timeout=60),
        lambda v: v == [1],
    ),
    "function.refresh": (refreshed, lambda v: v == [1]),
    "counter.get": (lambda c: counter_of(c).get(1), lambda v: v >= 5),
    "counter.increment": (
        lambda c: counter_of(c).increment(1),
        lambda v: v is None or v > 5,
    ),
    "counter.transfer": (lambda c: counter_of(c).transfer(1, 2), bool),
    "video.set": (
        lambda c: AsyncVideoCache(c.sync).set("b", ["w"], "u"),
        lambda v: v is True,
    ),
    "video.get": (
        lambda c: AsyncVideoCache(c.sync).get("b", ["w"]),
        lambda v: v in (None, "u"),
    ),
}

# Where nothing ends it by itself, it is always cancelled.
ENDLESS: dict[str, Way] = {
    "subscribe": listens,
    "BLPOP for ever": lambda c: c.execute("BLPOP", "none", 0),
}


async def cancelled_after(
    call: Awaitable[Any], pause: Callable[[], Awaitable[None]]
) -> tuple[bool, Any]:
    """Whether it was over by itself, and what came of it."""
    task = asyncio.ensure_future(call)
    await pause()
    over = task.done()
    task.cancel()
    try:
        return True, await task
    except asyncio.CancelledError:
        assert not over
        return False, None


def turns(count: int) -> Callable[[], Awaitable[None]]:
    async def pause() -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    return pause


async def check_sound(client: AsyncClient[Any]) -> None:
    tags = [f"tag {number}" for number in range(5)]
    assert await asyncio.gather(*map(client.echo, tags)) == [t.encode() for t in tags]
    # What computed for somebody else is cancelled too, and gives back its lease.
    this = {asyncio.current_task()}
    await until(lambda: asyncio.all_tasks() == this, "the end of all tasks")


@pytest.mark.parametrize("connects", [False, True], ids=["connected", "connects"])
@pytest.mark.parametrize("name", WAYS)
def test_cancelled_at_every_turn_and_delay(
    run: Runner, redis_server: Server, name: str, connects: bool
) -> None:
    """After so many turns of the loop, until it is over before; and after delays, in
    which replies come."""
    redis_server.cli("MSET", "k0", "0", "k1", "1")
    way, check = WAYS[name]

    async def once(
        client: AsyncClient[Any], pause: Callable[[], Awaitable[None]]
    ) -> bool:
        over, value = await cancelled_after(way(client), pause)
        assert not over or check(value), value
        await check_sound(client)
        return over

    async def main() -> None:
        rng = random.Random(name)

        @contextlib.asynccontextmanager
        async def client_for_one() -> AsyncIterator[AsyncClient[Any]]:
            async with connected(redis_server.url) as other:
                yield other

        async with connected(redis_server.url) as client:
            await client.ping()

            @contextlib.asynccontextmanager
            async def same() -> AsyncIterator[AsyncClient[Any]]:
                yield client

            chosen = client_for_one if connects else same
            for count in range(6):
                async with chosen() as used:
                    await once(used, turns(count))
            over = 0
            for number in range(12):
                delay = rng.random() ** 2 * 0.005 * (1 + number)

                async def pause(delay: float = delay) -> None:
                    await asyncio.sleep(delay)

                async with chosen() as used:
                    over += await once(used, pause)
            async with chosen() as used:
                value = await way(used)
                assert check(value), value

            def has_no_others() -> bool:
                """What works in threads has connections of the blocking half."""
                known = client.sync.health()["pool"]["size"]
                return connections(redis_server) <= known

            await until(has_no_others, "the others' end")

    run(main())


@pytest.mark.parametrize("name", ENDLESS)
def test_what_would_never_end_is_cancelled(
    run: Runner, redis_server: Server, name: str
) -> None:
    async def main() -> None:
        async with connected(redis_server.url) as client:
            for count in (0, 1, 2, 3, 5, 8):
                over, _ = await cancelled_after(ENDLESS[name](client), turns(count))
                assert not over
            for delay in (0.0001, 0.001, 0.003, 0.01, 0.05):
                over, _ = await cancelled_after(
                    ENDLESS[name](client), lambda delay=delay: asyncio.sleep(delay)
                )
                assert not over
            await check_sound(client)

            def is_gone() -> bool:
                listed = redis_server.cli("CLIENT", "LIST")
                return b"cmd=blpop" not in listed and (
                    redis_server.cli("PUBSUB", "CHANNELS") == []
                )

            await until(is_gone, "the end of what was cancelled")

    run(main())


# --- time-outs around a handshake -------------------------------------------------


@pytest.mark.parametrize("stage", ["connect", "TLS", "HELLO", "AUTH", "SELECT"])
def test_a_time_out_around_each_part_of_the_handshake(
    run: Runner, tls_server: TlsServer, stage: str
) -> None:
    """Somebody else's time-out, long before our own: it is theirs that is raised, and
    the connection that was under way is given up."""
    gone = []
    silent_at = {"HELLO": 1, "AUTH": 2, "SELECT": 3}.get(stage, 0)

    def script(peer: Peer) -> None:
        """As old servers do, which know no HELLO, but silent at one of the parts."""
        for number in range(silent_at):
            peer.read()
            if number + 1 < silent_at:
                peer.send(
                    b"-ERR unknown command 'HELLO'\r\n" if not number else b"+OK\r\n"
                )
        peer.wait_until_gone()
        gone.append(stage)

    async def times_out(url: str, **options: Any) -> None:
        for _ in range(3):
            async with connected(url, **options) as client:
                with pytest.raises(asyncio.TimeoutError) as caught:
                    await asyncio.wait_for(client.ping(), 0.1)
                assert not isinstance(caught.value, redlane.TimeoutError)
                if hasattr(asyncio, "timeout"):
                    with pytest.raises(asyncio.TimeoutError) as caught:
                        async with asyncio.timeout(0.1):
                            await asyncio.gather(client.get("k"), client.ping())
                    assert not isinstance(caught.value, redlane.TimeoutError)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def main() -> None:
        with scripted(script) as server:
            url = server.url.replace("redis://", "redis://:pass@").replace("/0", "/3")
            if stage == "TLS":
                url = url.replace("redis://", "rediss://")
                await times_out(url, tls_ca=tls_server.ca)
            elif stage == "connect":
                # Its queue of connections is full: the kernel answers nobody.
                with full_listener() as port:
                    await times_out(f"redis://127.0.0.1:{port}")
                return
            else:
                await times_out(url)
            await until(lambda: len(gone) >= 3, "the end of each connection")

    run(main())


@contextlib.contextmanager
def full_listener() -> Any:
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


# --- Ctrl-C -----------------------------------------------------------------------

CTRL_C = """
import asyncio, os, signal, sys
sys.path.insert(0, sys.argv[1])
from aio import KINDS
import redlane
from redlane import AsyncCache, AsyncClient

url, kind, where = sys.argv[2:]
options = {"timeout": 600, "connect_timeout": 600}


async def waits(client):
    if where == "command":
        await client.get("k")
    elif where == "pipeline":
        await client.pipeline(transaction=True).get("k").execute()
    elif where == "cache":
        await AsyncCache(client, fallback="raise").get("k")
    elif where == "function":
        cache = AsyncCache(client, fallback="raise")

        @cache
        async def function(number):
            return number

        await asyncio.gather(*map(function, range(5)))
    elif where == "subscription":
        async for message in client.subscribe("channel"):
            print(message)
    elif where == "blocking":
        await client.execute("BLPOP", "queue", 0)
    elif where == "handshake":
        async with AsyncClient(url, **options) as other:
            await other.ping()


async def main():
    asyncio.get_running_loop().slow_callback_duration = 60  # a busy machine is no news
    client = AsyncClient(url, **options)
    await client.ping()
    if where not in ("subscription", "blocking"):
        os.kill(int(os.environ["SERVER"]), signal.SIGSTOP)
    print("ready", flush=True)
    try:
        await waits(client)
    finally:
        os.kill(int(os.environ["SERVER"]), signal.SIGCONT)
        # Cancelled by the runner, it says goodbye as it always does.
        print("goodbye", await client.ping(), flush=True)
        await client.close()


def run():
    if kind == "asyncio":
        asyncio.run(main())
    elif hasattr(asyncio, "Runner"):
        with asyncio.Runner(loop_factory=KINDS[kind]) as runner:
            runner.run(main())
    else:
        asyncio.set_event_loop_policy(__import__("uvloop").EventLoopPolicy())
        asyncio.run(main())


try:
    run()
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""

WHERE = [
    *("command", "pipeline", "cache", "function"),
    *("subscription", "blocking", "handshake"),
]


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("where", WHERE)
def test_ctrl_c(fresh_server: Server, kind: str, where: str) -> None:
    """The runner cancels the main task, which waits for us; what it says goodbye with
    is answered, and the program ends with KeyboardInterrupt."""
    command = [
        *(sys.executable, "-X", "dev", "-W", "error", "-c", CTRL_C),
        *(Path(__file__).parent, fresh_server.url, kind, where),
    ]
    child = start(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "SERVER": str(fresh_server.pid)},
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        wait_until_asleep(child.pid)
        child.send_signal(signal.SIGINT)
        out, complaint = child.communicate(timeout=300)
        assert (out, complaint) == ("goodbye True\ninterrupted\n", "")
        assert child.returncode == 0
    finally:
        fresh_server.resume()
        end_child(child)
