"""No reply ever reaches another's caller: tagged commands under cancellation at every
await and delay, time-outs, kills, restarts and cut links; and nothing is left over."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import gc
import logging
import os
import random
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import redlane
from aio import Runner, until
from proxy import Proxy
from redlane import AsyncCache, AsyncClient
from servers import PATIENT, ReplyError, Server
from trouble import Trouble

KEYS = 64
HUNG = 90.0  # seconds; far above any deadline here
BOUND = 1800.0  # seconds of one loop; far above what it takes
CANCELLED, RIGHT, FAILED, LATE = "cancelled", "right", "failed", "late"

# How many a call of some kinds makes, each with its answer.
COMMANDS = {"burst": 100, "gather": 3, "pipeline": 4, "blocking": 3}

# A server without memory refuses what would write.
REFUSALS = (redlane.OutOfMemoryError, redlane.ExecAbortError)


class Tally:
    """How calls of each kind have ended, and replies that were not theirs."""

    def __init__(self) -> None:
        self.begun = 0
        self.commands = 0  # with a tag, of calls that no outage refused
        self.ends: collections.Counter[tuple[str, str]] = collections.Counter()
        self.crossed: list[Any] = []

    def of(self, end: str) -> int:
        return sum(count for (_, how), count in self.ends.items() if how == end)

    def add(self, other: Tally) -> None:
        self.begun += other.begun
        self.commands += other.commands
        self.ends += other.ends
        self.crossed += other.crossed

    def check(self, reply: Any, *expected: Any) -> None:
        if not any(reply == right and type(reply) is type(right) for right in expected):
            self.crossed.append((reply, expected))

    def lines(self) -> list[str]:
        kinds = sorted({kind for kind, _ in self.ends})
        return [
            f"{kind:12}"
            + "".join(
                f" {end} {self.ends[kind, end]:>7}"
                for end in (RIGHT, CANCELLED, LATE, FAILED)
            )
            for kind in kinds
        ]


class Calls:
    """Calls whose right answer is known from their arguments alone. A server that was
    restarted has lost a key, and may say so; nothing else is forgiven."""

    def __init__(
        self, client: AsyncClient[Any], tally: Tally, blocks: bool = True
    ) -> None:
        self.client, self.tally = client, tally
        self.cache = AsyncCache(client, prefix="crossed", near=False)
        self.kinds: list[tuple[str, Callable[[random.Random], Awaitable[None]], int]]
        self.kinds = [
            ("echo", self.echo, 10),
            ("large", self.large, 1),
            ("get", self.get, 10),
            ("mget", self.mget, 10),
            ("error", self.error, 5),
            ("pipeline", self.pipeline, 8),
            ("script", self.script, 5),
            ("gather", self.gather, 2),
            ("burst", self.burst, 12),
            ("scan", self.scan, 1),
            ("blocking", self.blocking, 4 * blocks),
            ("tagged", self.tagged, 3),
            ("decorated", self.decorated, 8),
            ("behind", self.behind, 3),
        ]
        self.weights = [weight for *_, weight in self.kinds]

        @self.cache(ttl=0.5, key="of:{number}")
        async def load(number: int) -> str:
            await asyncio.sleep(0)
            found = await client.get(f"k{number}")
            tally.check(found, value(number), None)
            return f"of {number}"

        @self.cache(ttl=0.05, stale=10, key="behind:{number}")
        async def refresh(number: int) -> str:
            await asyncio.sleep(0.001)
            return f"behind {number}"

        self.load, self.refresh = load, refresh

    async def one(self, rng: random.Random) -> None:
        ((kind, call, _),) = rng.choices(self.kinds, self.weights)
        tally = self.tally
        tally.begun += 1
        end = RIGHT
        try:
            await call(rng)
        except asyncio.CancelledError:
            end = CANCELLED
            raise
        except redlane.TimeoutError:
            end = LATE
            raise
        except (redlane.ConnectionError, *REFUSALS):
            end = FAILED
            raise
        finally:
            tally.ends[kind, end] += 1
            tally.commands += COMMANDS.get(kind, 1) * (end != FAILED)

    async def echo(self, rng: random.Random) -> None:
        tag = tag_of(rng)
        self.tally.check(await self.client.echo(tag), tag.encode())

    async def large(self, rng: random.Random) -> None:
        text = tag_of(rng) * rng.randrange(1, 9000)
        self.tally.check(await self.client.echo(text), text.encode())

    async def get(self, rng: random.Random) -> None:
        number = rng.randrange(KEYS)
        self.tally.check(await self.client.get(f"k{number}"), value(number), None)

    async def mget(self, rng: random.Random) -> None:
        numbers = [rng.randrange(KEYS) for _ in range(rng.randrange(1, 5))]
        replies = await self.client.mget(*(f"k{number}" for number in numbers))
        self.tally.check(len(replies), len(numbers))
        for number, reply in zip(numbers, replies, strict=False):
            self.tally.check(reply, value(number), None)

    async def error(self, rng: random.Random) -> None:
        tag = tag_of(rng)
        if rng.random() < 0.5:
            with contextlib.suppress(redlane.WrongTypeError):
                self.tally.check(await self.client.hgetall("k0"), {})
            return
        try:
            await self.client.execute("GET", tag, "more")
        except redlane.ReplyError as error:
            if "wrong number of arguments for 'get'" not in str(error):
                raise
        else:
            self.tally.crossed.append(("no error", tag))

    async def pipeline(self, rng: random.Random) -> None:
        tag, number = tag_of(rng), rng.randrange(KEYS)
        pipe = self.client.pipeline(transaction=rng.random() < 0.4)
        pipe.echo(tag).get(f"k{number}").hgetall("k0").echo(tag * 2)
        replies = await pipe.execute(raise_on_error=False)
        self.tally.check(len(replies), 4)
        first, second, third, fourth = replies
        self.tally.check(first, tag.encode())
        self.tally.check(second, value(number), None)
        if not isinstance(third, redlane.WrongTypeError):
            self.tally.check(third, {})
        self.tally.check(fourth, (tag * 2).encode())

    async def script(self, rng: random.Random) -> None:
        tag = tag_of(rng)
        text = "return {KEYS[1], ARGV[1]}"
        try:
            reply = await self.client.eval(text, 1, f"k{tag}", tag)
        except redlane.ReplyError as error:
            if "does not run on the memory engine" not in str(error):
                raise
        else:
            self.tally.check(reply, [f"k{tag}".encode(), tag.encode()])

    async def gather(self, rng: random.Random) -> None:
        tags = [tag_of(rng) for _ in range(3)]
        replies = await asyncio.gather(*(self.client.echo(tag) for tag in tags))
        self.tally.check(replies, [tag.encode() for tag in tags])

    async def burst(self, rng: random.Random) -> None:
        """Many at once, of which some are cancelled: at once, or one by one while the
        others are answered."""
        client = self.client
        calls: list[Any] = []
        rights: list[Iterable[Any]] = []
        for _ in range(COMMANDS["burst"]):
            tag, kind = tag_of(rng), rng.randrange(4)
            number = int(tag[:2], 16) % KEYS
            if kind == 0:
                calls.append(client.get(f"k{number}"))
                rights.append((value(number), None))
            elif kind == 1:
                calls.append(client.mget(f"k{number}", "k1"))
                first, second = (value(number), None), (value(1), None)
                rights.append([[one, two] for one in first for two in second])
            else:
                calls.append(client.echo(tag))
                rights.append((tag.encode(),))
        tasks = [asyncio.ensure_future(call) for call in calls]
        try:
            for task in rng.sample(tasks, rng.randrange(30)):
                if rng.random() < 0.3:
                    await asyncio.sleep(0)
                task.cancel()
            await asyncio.wait(tasks)
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            errors = []
            for end, right in zip(ends, rights, strict=True):
                if not isinstance(end, BaseException):
                    self.tally.check(end, *right)
                elif not isinstance(end, asyncio.CancelledError):
                    errors.append(end)
        if errors:
            raise errors[0]

    async def scan(self, rng: random.Random) -> None:
        number = rng.randrange(KEYS)
        async for key in self.client.scan_iter(match=f"k{number}", count=20):
            self.tally.check(key, b"k%d" % number)

    async def blocking(self, rng: random.Random) -> None:
        tag = tag_of(rng)
        queue = f"queue:{tag}"
        pipe = self.client.pipeline()
        pipe.execute_command("LPUSH", queue, tag).expire(queue, 60)
        self.tally.check(await pipe.execute(), [1, True])
        self.tally.check(
            await self.client.execute("BLPOP", queue, 0.1),
            [queue.encode(), tag.encode()],
            None,
        )

    async def tagged(self, rng: random.Random) -> None:
        """Scripts of the library's own, which the server may have forgotten."""
        number = rng.randrange(KEYS)
        key, right = f"tagged:{number}", {"number": number}
        what = rng.random()
        if what < 0.3:
            await self.cache.set(key, right, ttl=30, tags=[f"tag:{number % 4}"])
        elif what < 0.35:
            await self.cache.invalidate_tags(f"tag:{number % 4}")
        else:
            self.tally.check(await self.cache.get(key), right, None)

    async def decorated(self, rng: random.Random) -> None:
        number = rng.randrange(KEYS)
        if rng.random() < 0.1:
            await self.load.invalidate(number)
        self.tally.check(await self.load(number), f"of {number}")

    async def behind(self, rng: random.Random) -> None:
        number = rng.randrange(KEYS)
        self.tally.check(await self.refresh(number), f"behind {number}")


def tag_of(rng: random.Random) -> str:
    return f"{rng.getrandbits(48):012x}"


def value(number: int) -> bytes:
    return b"value-%d" % number


# --- how callers end their calls --------------------------------------------------


async def let_be(task: asyncio.Task[None], calls: Calls, rng: random.Random) -> None:
    pass


async def after_turns(
    task: asyncio.Task[None], calls: Calls, rng: random.Random
) -> None:
    """At each await of a call in turn, while nothing has come and while all has."""
    for _ in range(rng.randrange(9)):
        await asyncio.sleep(0)
    task.cancel()


async def after_a_while(
    task: asyncio.Task[None], calls: Calls, rng: random.Random
) -> None:
    await asyncio.wait({task}, timeout=rng.random() ** 3 * 0.1)
    task.cancel()


async def twice(task: asyncio.Task[None], calls: Calls, rng: random.Random) -> None:
    await asyncio.wait({task}, timeout=rng.random() ** 3 * 0.02)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()


async def with_its_reply(
    task: asyncio.Task[None], calls: Calls, rng: random.Random
) -> None:
    """In the turn in which the reply has come, before whoever awaits it runs: by a
    callback of the reply ahead of it."""
    ahead = asyncio.get_running_loop().create_future()
    first = calls.client.echo("ahead")
    try:
        ahead = first.send(None)
    except (StopIteration, redlane.RedlaneError):
        task.cancel()
        return

    def cancel(future: asyncio.Future[Any]) -> None:
        if not future.cancelled():
            future.exception()
        task.cancel()

    ahead.add_done_callback(cancel)


async def by_wait_for(
    task: asyncio.Task[None], calls: Calls, rng: random.Random
) -> None:
    with contextlib.suppress(asyncio.TimeoutError, TimeoutError):
        await asyncio.wait_for(task, rng.random() ** 2 * 0.05)


async def shielded(task: asyncio.Task[None], calls: Calls, rng: random.Random) -> None:
    """Who gave up on it leaves it running."""
    with contextlib.suppress(asyncio.TimeoutError, TimeoutError):
        await asyncio.wait_for(asyncio.shield(task), rng.random() * 0.005)


FATES: list[tuple[Any, float]] = [
    (let_be, 10),
    (after_turns, 4),
    (after_a_while, 3),
    (twice, 1),
    (with_its_reply, 2),
    (by_wait_for, 2),
    (shielded, 1),
]


async def timed(calls: Calls, rng: random.Random) -> None:
    """In a block with a time limit, where Python has one."""
    if sys.version_info >= (3, 11):
        async with asyncio.timeout(rng.random() ** 2 * 0.05):
            await calls.one(rng)
    else:
        await asyncio.wait_for(calls.one(rng), rng.random() ** 2 * 0.05)


async def stubborn(calls: Calls, rng: random.Random) -> None:
    """One whose cancellation comes, and which asks something else then."""
    try:
        await calls.one(rng)
    except asyncio.CancelledError:
        await calls.one(rng)


async def in_a_group(calls: Calls, rng: random.Random) -> None:
    """One of several that are cancelled since another has failed."""
    if sys.version_info < (3, 11):
        await calls.one(rng)
        return

    async def fail() -> None:
        await calls.echo(rng)
        raise ArithmeticError

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(calls.one(rng))
            group.create_task(fail())
    except BaseExceptionGroup as raised:  # noqa: F821 - of 3.11
        _, other = raised.split((ArithmeticError, redlane.RedlaneError))
        if other:
            raise


FORMS: list[tuple[Any, float]] = [
    (Calls.one, 20),
    (timed, 2),
    (stubborn, 1),
    (in_a_group, 1),
]


def chosen(rng: random.Random, pairs: list[tuple[Any, float]]) -> Any:
    ((found, _),) = rng.choices(pairs, [weight for _, weight in pairs])
    return found


async def caller(calls: Calls, rng: random.Random, goal: int, end: float) -> None:
    """Makes calls until so many of all callers together are settled: an outage is
    waited for."""
    loop = asyncio.get_running_loop()
    while calls.tally.commands < goal:
        assert loop.time() < end, "the link never came back"
        task = asyncio.ensure_future(chosen(rng, FORMS)(calls, rng))
        try:
            await chosen(rng, FATES)(task, calls, rng)
            done, _ = await asyncio.wait({task}, timeout=HUNG)
            assert done, f"it does not end: {task}"
            await task
        except (asyncio.CancelledError, asyncio.TimeoutError, TimeoutError):
            pass  # redlane's own is one too
        except (redlane.ConnectionError, *REFUSALS):
            await asyncio.sleep(rng.random() * 0.02)


# --- what is left over ------------------------------------------------------------


def alive(name: str) -> list[Any]:
    return [found for found in gc.get_objects() if str(type(found)) == name]


def streams() -> list[Any]:
    """The connections of all event loops."""
    return alive("<class 'redlane._core.Stream'>")


def slots() -> list[Any]:
    """The futures of replies that connections of event loops wait for, or hold."""
    return [
        held
        for stream in streams()
        for held in gc.get_referents(stream)
        if isinstance(held, asyncio.Future)
    ]


def pending() -> list[Any]:
    return [
        found
        for found in gc.get_objects()
        if isinstance(found, asyncio.Future) and not found.done()
    ]


def left_over(others: Sequence[Any] = ()) -> list[Any]:
    """Of loops that have ended: nothing. `others`: what was there before."""
    gc.collect()
    gc.collect()  # what finalisers have let go
    known = {id(found) for found in others}
    loops = alive("<class 'redlane._core.Loop'>")
    # The loop of another thread, such as the gateway's, goes on.
    futures = [found for found in pending() if not found.get_loop().is_running()]
    return [found for found in (*loops, *streams(), *futures) if id(found) not in known]


@pytest.fixture
def others() -> list[Any]:
    """What other tests have left: FastAPI keeps routes, and so their loops."""
    return left_over()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def come_to_rest(clients: list[AsyncClient[Any]]) -> None:
    """Each slot is given back: all that was sent is answered, or its connection has
    ended."""

    async def answers(client: AsyncClient[Any]) -> None:
        end = asyncio.get_running_loop().time() + HUNG
        while True:
            try:
                assert await client.ping() is True
            except redlane.RedlaneError:
                assert asyncio.get_running_loop().time() < end, "never came back"
                await asyncio.sleep(0.05)
            else:
                return

    async def at_rest() -> bool:
        for client in clients:
            await answers(client)
        return not slots() and len(streams()) <= len(clients)

    end = asyncio.get_running_loop().time() + HUNG
    while not await at_rest():
        assert asyncio.get_running_loop().time() < end, (slots(), streams())
        await asyncio.sleep(0.1)


@asynccontextmanager
async def made_clients(url: str) -> AsyncIterator[list[AsyncClient[Any]]]:
    """One that waits, one whose time is often over, one that has an engine to go to."""
    async with (
        AsyncClient(url, timeout=1.0, connect_timeout=1.0) as client,
        AsyncClient(url, timeout=0.03, connect_timeout=0.5) as hasty,
        AsyncClient(url, timeout=0.5, connect_timeout=0.5, fallback="memory") as other,
    ):
        yield [client, hasty, other]


async def closes_at_work(clients: list[Calls], seed: int) -> None:
    """The end of a client in the midst of calls: each is answered, or told of it."""
    calls = [
        asyncio.ensure_future(each.one(random.Random(f"close-{seed}-{i}-{number}")))
        for i in range(60)
        for number, each in enumerate(clients)
    ]
    for _ in range(seed % 7):
        await asyncio.sleep(0)
    for each in clients:
        await each.client.close()
    done, hung = await asyncio.wait(calls, timeout=HUNG)
    assert not hung
    for task in done:
        assert task.exception() is None or isinstance(
            task.exception(), redlane.RedlaneError
        ), task.exception()


async def crowd(
    url: str, goal: int, callers: int, seed: int, calm: Callable[[], None]
) -> Tally:
    """Calls of many tasks until so many are settled; then, when `calm` has ended all
    trouble, what is left over."""
    tally = Tally()
    async with made_clients(url) as clients:
        # The engine has nothing that blocks.
        calls = [Calls(client, tally, client is not clients[2]) for client in clients]
        end = asyncio.get_running_loop().time() + BOUND
        tasks = [
            asyncio.ensure_future(
                caller(
                    calls[max(0, i % 10 - 7)], random.Random(f"{seed}-{i}"), goal, end
                )
            )
            for i in range(callers)
        ]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            if not task.done():
                task.cancel()  # another has failed, and says so
        await asyncio.wait(tasks)
        for error in [task.exception() for task in tasks if not task.cancelled()]:
            if error:
                raise error
        await asyncio.to_thread(calm)
        await come_to_rest(clients)
        await closes_at_work(calls, seed)
    assert tally.begun == sum(tally.ends.values())
    return tally


def prepare(server: Server) -> None:
    with contextlib.suppress(OSError, ReplyError):
        pairs = [(f"k{number}", value(number)) for number in range(KEYS)]
        server.cli("MSET", *(part for pair in pairs for part in pair))


class Disturber:
    """Runs `once` again and again in a thread, until it is stopped."""

    def __init__(self, once: Callable[[], None]) -> None:
        self.once = once
        self.over = threading.Event()
        self.times = 0
        self.errors: list[BaseException] = []
        self.thread = threading.Thread(target=self.work)

    def work(self) -> None:
        try:
            while not self.over.is_set():
                self.once()
                self.times += 1
        except BaseException as error:
            self.errors.append(error)

    def stop(self) -> None:
        if not self.over.is_set():
            self.over.set()
            self.thread.join()
            if self.errors:
                raise self.errors[0]

    def __enter__(self) -> Disturber:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def check_log(records: list[logging.LogRecord]) -> None:
    """What an event loop has said to its handler is a complaint of the Runner's."""
    said = [record.getMessage() for record in records]
    assert not [line for line in said if "never" in line or "loop is closed" in line]
    assert not [record for record in records if record.name == "asyncio"]


# --- tests ------------------------------------------------------------------------


def test_a_slot_is_seen(run: Runner, redis_server: Server, others: list[Any]) -> None:
    """That nothing is left over means something: what waits is found."""

    async def main() -> None:
        async with AsyncClient(redis_server.url, **PATIENT) as client:
            await client.ping()
            assert slots() == []
            assert len(streams()) == 1
            task = asyncio.ensure_future(client.execute("BLPOP", "nothing", 30))
            await until(lambda: len(slots()) == 1, "the slot")
            assert len(streams()) == 2
            assert len(pending()) >= 2
            task.cancel()
            await until(lambda: slots() == [], "the end of the slot")
            await until(lambda: len(streams()) == 1, "the end of its connection")

    run(main())
    assert left_over(others) == []


def test_no_reply_is_crossed(
    run: Runner,
    redis_server: Server,
    caplog: pytest.LogCaptureFixture,
    others: list[Any],
) -> None:
    prepare(redis_server)
    rng = random.Random(7)
    with Proxy(redis_server.port) as proxy:

        def disturb() -> None:
            disturber.over.wait(rng.random() * 0.1)
            what = rng.randrange(4)
            if what == 0:
                redis_server.cli("CLIENT", "KILL", "TYPE", "normal")
            elif what == 1:
                proxy.reset_all()
            elif what == 2:
                proxy.cut_in(rng.randrange(2000), reset=rng.random() < 0.5)
            else:
                proxy.delay = rng.random() * 0.003
                disturber.over.wait(0.05)
                proxy.heal()

        disturber = Disturber(disturb)
        with disturber:
            tally = run(crowd(proxy.url, 6_000, 40, 1, disturber.stop))
    assert tally.crossed == []
    assert tally.of(RIGHT) > 50
    assert tally.of(CANCELLED) > 20
    assert left_over(others) == []
    check_log(caplog.records)


def strike(trouble: Trouble) -> None:
    """One fault, and a moment for what it has brought about."""
    way, _ = trouble.chance.choice(trouble.ways)
    trouble.strike(way)
    prepare(trouble.server)
    trouble.wait(0.0, 0.4)


SIZE = int(os.environ.get("REDLANE_SOAK_COMMANDS", 1_000_000))
EACH = 50_000  # commands of one loop


@pytest.mark.soak
def test_a_million_calls(
    run: Runner,
    fresh_server: Server,
    caplog: pytest.LogCaptureFixture,
    others: list[Any],
) -> None:
    """The full size, with restarts, freezes, outages of memory and the rest."""
    whole, troubles = Tally(), 0
    blocks: list[int] = []
    files: list[int] = []
    threads = threading.active_count()
    for seed in range(SIZE // EACH):
        prepare(fresh_server)
        with Proxy(fresh_server.port) as proxy:
            trouble = Trouble(fresh_server, proxy, [], chance=random.Random(seed))
            disturber = Disturber(partial(strike, trouble))
            with disturber:
                tally = run(crowd(proxy.url, EACH, 100, seed, disturber.stop))
        assert tally.crossed == []
        whole.add(tally)
        troubles += trouble.count
        assert left_over(others) == []
        check_log(caplog.records)
        caplog.clear()
        blocks.append(sys.getallocatedblocks())
        files.append(descriptors())
        print(
            f"{run.kind} {seed}: {whole.commands} commands, {troubles} faults",
            flush=True,
        )
    print(*whole.lines(), f"blocks {blocks}", f"files {files}", sep="\n")
    few = SIZE // 25_000
    assert whole.commands >= SIZE
    assert troubles > few
    kinds = {kind for kind, _ in whole.ends}
    assert all(whole.ends[kind, RIGHT] > few for kind in kinds)
    assert all(whole.ends[kind, CANCELLED] > few for kind in kinds)
    assert whole.of(LATE) > few
    # One slot in a thousand that was left would come to as much: each has several. Of
    # what is kept for the next loop some hundred are added by each, and ever fewer.
    assert blocks[-1] - blocks[4] < 6000
    assert files[-1] <= files[1]
    assert threading.active_count() <= threads
