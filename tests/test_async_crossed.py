"""No reply ever reaches another's caller: tagged commands under cancellation at every
await and delay, time-outs, kills and cut links; and nothing is left over."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from typing import Any

import pytest
import redlane
from aio import Runner
from proxy import Proxy
from redlane import AsyncClient
from servers import Server
from trouble import Trouble

KEYS = 64
BOUND = 1800.0  # seconds; far above what any part takes


class Tally:
    def __init__(self) -> None:
        self.calls = self.right = self.failed = self.cancelled = 0
        self.crossed: list[Any] = []

    def check(self, reply: Any, expected: Any) -> None:
        """A server that was restarted may have lost a key; nothing else is forgiven."""
        self.right += 1
        if isinstance(expected, list) and isinstance(reply, list):
            whole = len(reply) == len(expected) and all(
                got in (right, None) for got, right in zip(reply, expected, strict=True)
            )
        else:
            whole = reply in (expected, None)
        if not whole:
            self.crossed.append((reply, expected))


async def one_call(client: AsyncClient[Any], rng: random.Random, tally: Tally) -> None:
    """A command whose right answer is known from its arguments alone."""
    tag = f"{rng.getrandbits(48):x}"
    kind = rng.randrange(6)
    tally.calls += 1
    if kind == 0:
        tally.check(await client.echo(tag), tag.encode())
    elif kind == 1:
        number = rng.randrange(KEYS)
        tally.check(await client.get(f"k{number}"), b"value-%d" % number)
    elif kind == 2:
        first, second = rng.randrange(KEYS), rng.randrange(KEYS)
        tally.check(
            await client.mget(f"k{first}", f"k{second}"),
            [b"value-%d" % first, b"value-%d" % second],
        )
    elif kind == 3:
        number = rng.randrange(KEYS)
        pipe = client.pipeline(transaction=rng.random() < 0.3)
        pipe.echo(tag).get(f"k{number}").echo(tag * 2)
        tally.check(
            await pipe.execute(),
            [tag.encode(), b"value-%d" % number, tag.encode() * 2],
        )
    elif kind == 4:
        try:
            tally.check(await client.hgetall("k0"), {})
        except redlane.WrongTypeError:
            tally.right += 1
    else:
        value = (tag * rng.randrange(1, 3000)).encode()
        tally.check(await client.echo(value), value)


async def caller(
    client: AsyncClient[Any], rng: random.Random, tally: Tally, calls: int
) -> None:
    """Until so many were answered or cancelled: an outage is waited for."""
    loop = asyncio.get_running_loop()
    end = loop.time() + BOUND
    while calls > 0:
        assert loop.time() < end, "the link never came back"
        calls -= 1
        task = asyncio.ensure_future(one_call(client, rng, tally))
        fate = rng.random()
        try:
            if fate < 0.15:
                for _ in range(rng.randrange(6)):
                    await asyncio.sleep(0)
                task.cancel()
            elif fate < 0.25:
                await asyncio.wait({task}, timeout=rng.random() * 0.01)
                task.cancel()
            elif fate < 0.3:
                await asyncio.wait_for(asyncio.shield(task), rng.random() * 0.005)
            await task
        except asyncio.CancelledError:
            tally.cancelled += 1
        except asyncio.TimeoutError:  # redlane's own is one too
            tally.failed += 1
            calls += 1
            await asyncio.gather(task, return_exceptions=True)
        except (redlane.ConnectionError, redlane.ReplyError):
            tally.failed += 1
            calls += 1
            await asyncio.sleep(0.01)


async def crowd(url: str, calls: int, callers: int, seed: int) -> Tally:
    tally = Tally()
    async with AsyncClient(url, timeout=1.0, connect_timeout=1.0) as client:
        await asyncio.gather(
            *(
                caller(client, random.Random(f"{seed}-{i}"), tally, calls // callers)
                for i in range(callers)
            )
        )
    return tally


def prepare(server: Server) -> None:
    for number in range(KEYS):
        server.cli("SET", f"k{number}", f"value-{number}")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_no_reply_is_crossed(run: Runner, redis_server: Server) -> None:
    prepare(redis_server)
    with Proxy(redis_server.port) as proxy:
        stop = threading.Event()

        def disturb() -> None:
            rng = random.Random(7)
            while not stop.wait(rng.random() * 0.1):
                what = rng.randrange(4)
                if what == 0:
                    redis_server.cli("CLIENT", "KILL", "TYPE", "normal")
                elif what == 1:
                    proxy.reset_all()
                elif what == 2:
                    proxy.cut_in(rng.randrange(2000), reset=rng.random() < 0.5)
                else:
                    proxy.delay = rng.random() * 0.003
                    stop.wait(0.05)
                    proxy.heal()

        thread = threading.Thread(target=disturb)
        thread.start()
        try:
            tally = run(crowd(proxy.url, 2_000, 40, 1))
        finally:
            stop.set()
            thread.join()
    assert tally.crossed == []
    assert tally.right > 500
    assert tally.cancelled > 0


@pytest.mark.soak
def test_a_million_calls(run: Runner, fresh_server: Server) -> None:
    """The full size, with restarts, freezes, outages of memory and the rest."""
    prepare(fresh_server)
    before = descriptors()
    done = 0
    with Proxy(fresh_server.port) as proxy:
        trouble = Trouble(fresh_server, proxy, [])
        stop = threading.Event()

        def disturb() -> None:
            while not stop.is_set():
                trouble.run(5)
                prepare(fresh_server)

        thread = threading.Thread(target=disturb)
        thread.start()
        try:
            for seed in range(20):
                tally = run(crowd(proxy.url, 50_000, 100, seed))
                assert tally.crossed == []
                done += tally.calls
        finally:
            stop.set()
            thread.join()
    assert done >= 1_000_000
    assert descriptors() <= before + 2
