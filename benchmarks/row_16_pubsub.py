"""Row 16: messages of 100 bytes received a second, and the processor's time for each.

A script on the server publishes a batch, which then comes as fast as it is read. The
clock runs from the script's call to the last message, so the server's own work is in
it for all; the processor's time is the whole process's, the library's own thread
included.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from time import perf_counter, process_time
from typing import Any

from benchmarks import aio, clients
from benchmarks.harness import (
    OURS,
    Bench,
    Lineup,
    Measure,
    Result,
    Role,
    at_least,
    at_most,
)
from benchmarks.server import HOST

ROW = 16
CHANNEL = "bench:pubsub"
REDIS_ASYNCIO = "redis.asyncio + hiredis"
PUBLISH = """
for i = 1, tonumber(ARGV[1]) do redis.call('PUBLISH', KEYS[1], ARGV[2]) end
return 'done'
"""

Receive = Callable[[int], None]
"""Receives so many messages, and looks at each."""


def run(bench: Bench) -> list[Result]:
    """Messages a second, then what each costs the processor; by a thread, by loops."""
    threads: dict[str, Any] = {OURS: ours, clients.REDIS_PY: redis_py}
    found = []
    for clock, what, unit, goal in (
        (perf_counter, "messages a second", "rate", at_least(4, REDIS_ASYNCIO)),
        (
            process_time,
            "processor time a message",
            "time",
            at_most(0.25, REDIS_ASYNCIO),
        ),
    ):
        goals = [at_most(0.25, clients.REDIS_PY)] if unit == "time" else []
        found.append(_race(bench, threads, f"{what}, a thread", clock, unit, goals))
        for kind in aio.LOOPS:
            loops = {
                OURS: partial(ours_in_a_loop, kind),
                REDIS_ASYNCIO: partial(redis_asyncio, kind),
            }
            found.append(_race(bench, loops, f"{what}, {kind}", clock, unit, [goal]))
    return found


def _race(
    bench: Bench,
    contestants: dict[str, Any],
    what: str,
    clock: Callable[[], float],
    unit: Any,
    goals: list[Any],
) -> Result:
    lineup = Lineup(ROW, what, unit)
    count = bench.batch(10_000)
    with ExitStack() as stack:
        for name, make in contestants.items():
            role: Role = "ours" if name == OURS else "peer"

            def start(make: Any = make) -> Measure:
                return _measure(bench, stack, make(bench, stack), count, clock)

            lineup.add(name, role, start)
        return lineup.race(bench.rounds(40), goals)


def _measure(
    bench: Bench,
    stack: ExitStack,
    receiver: tuple[str, Receive],
    count: int,
    clock: Callable[[], float],
) -> Measure:
    publisher = patient_client(bench, stack)
    channel, receive = receiver

    def once() -> float:
        begin = clock()
        publisher.eval(PUBLISH, 1, channel, count, clients.VALUE)
        receive(count)
        return (clock() - begin) / count

    return once


def patient_client(bench: Bench, stack: ExitStack) -> Any:
    """The script takes long on a busy machine."""
    from redlane import Client

    client = Client(bench.server.url, timeout=60, connect_timeout=60)
    stack.callback(client.close)
    return client


def own_subscription(bench: Bench, stack: ExitStack, channel: str) -> Any:
    """It ends where a message may be missing, and the row with it."""
    subscription = patient_client(bench, stack).subscribe(
        channel, on_gap=lambda gap: subscription.close()
    )
    subscription.wait()
    return subscription


def check_all_came(missing: int) -> None:
    if missing:
        raise RuntimeError(f"{missing} messages did not come")


def ours(bench: Bench, stack: ExitStack) -> tuple[str, Receive]:
    channel = CHANNEL + ":ours"
    subscription = own_subscription(bench, stack, channel)

    def receive(count: int) -> None:
        for message in subscription:
            if message != clients.VALUE:
                raise RuntimeError("another message came")
            count -= 1
            if not count:
                break
        check_all_came(count)

    return channel, receive


def redis_py(bench: Bench, stack: ExitStack) -> tuple[str, Receive]:
    channel = CHANNEL + ":redis-py"
    pubsub = clients.redis_py_client(bench, stack).pubsub(
        ignore_subscribe_messages=True
    )
    pubsub.subscribe(channel)
    pubsub.get_message(timeout=5)
    stack.callback(pubsub.close)

    def receive(count: int) -> None:
        for message in pubsub.listen():
            if message["data"] != clients.VALUE:
                raise RuntimeError("another message came")
            count -= 1
            if not count:
                break

    return channel, receive


def ours_in_a_loop(kind: str, bench: Bench, stack: ExitStack) -> tuple[str, Receive]:
    channel = CHANNEL + ":ours-loop"
    loop = aio.new_loop(kind, stack)
    subscription = own_subscription(bench, stack, channel)

    async def read(count: int) -> None:
        async for message in subscription:
            if message != clients.VALUE:
                raise RuntimeError("another message came")
            count -= 1
            if not count:
                break
        check_all_came(count)

    return channel, lambda count: loop.run_until_complete(read(count))


def redis_asyncio(kind: str, bench: Bench, stack: ExitStack) -> tuple[str, Receive]:
    import hiredis  # noqa: F401  the peer with its C parser
    import redis.asyncio

    channel = CHANNEL + ":redis-asyncio"
    loop = aio.new_loop(kind, stack)
    client = redis.asyncio.Redis(host=HOST, port=bench.server.port)
    pubsub = client.pubsub(ignore_subscribe_messages=True)
    loop.run_until_complete(pubsub.subscribe(channel))
    loop.run_until_complete(pubsub.get_message(timeout=5))

    async def close() -> None:
        await pubsub.aclose()
        await client.aclose()

    stack.callback(lambda: loop.run_until_complete(close()))

    async def read(count: int) -> None:
        async for message in pubsub.listen():
            if message["data"] != clients.VALUE:
                raise RuntimeError("another message came")
            count -= 1
            if not count:
                break

    return channel, lambda count: loop.run_until_complete(read(count))
