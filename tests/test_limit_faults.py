"""Limiters and the tools beside them when something is wrong: servers that refuse,
replies that are not the script's, clients that are closed, calls that are cancelled,
forks."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redlane
from aio import Runner
from children import forks_among_busy_threads, run_program
from outage_tools import wait_until
from redlane import Client, Cooldown, Decision, Presence, RateLimiter, RedisCache
from scripted import HELLO_ANSWER, Peer, scripted
from servers import PATIENT, Server

ALGORITHMS = ("sliding-window", "fixed-window", "sliding-log", "token-bucket")
YEAR = "5/year"
ON_ERRORS = ("memory", "allow", "deny")

Ask = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Iterator[Ask]:
    """Calls a method of a tool, or awaits that of its twin."""
    if request.param == "sync":
        yield lambda tool, name, *args: getattr(tool, name)(*args)
        return
    loop = asyncio.new_event_loop()

    async def call(tool: Any, name: str, *args: Any) -> Any:
        return await getattr(tool.aio, name)(*args)

    yield lambda tool, name, *args: loop.run_until_complete(call(tool, name, *args))
    loop.close()


# --- hostile replies ------------------------------------------------------------------

GREATEST = 2**63 - 1


def array(*items: bytes) -> bytes:
    return b"*%d\r\n" % len(items) + b"".join(items)


def number(value: int) -> bytes:
    return b":%d\r\n" % value


HOSTILE = {
    "status": b"+OK\r\n",
    "integer": number(7),
    "text": b"$3\r\nabc\r\n",
    "nothing": b"$-1\r\n",
    "no array": b"*-1\r\n",
    "empty": array(),
    "short": array(number(1), number(1)),
    "long": array(*[number(1)] * 5),
    "very long": array(*[number(1)] * 10_000),
    "negative time": array(number(-1), *[number(1)] * 3),
    "negative": array(number(1), number(1), number(-1), number(1)),
    "greatest": array(*[number(GREATEST)] * 4),
    "greatest time": array(number(GREATEST), *[number(1)] * 3),
    "least": array(*[number(-(2**63))] * 4),
    "beyond": array(number(1), b":99999999999999999999\r\n", number(1), number(1)),
    "texts": array(*[b"$1\r\n1\r\n"] * 4),
    "nested": array(number(1), array(number(1)), number(1), number(1)),
    "nothings": array(*[b"$-1\r\n"] * 4),
    "error": b"-ERR user_script:1: hostile\r\n",
    "error inside": array(b"-ERR inside\r\n", *[number(1)] * 3),
    "no words": b"-\r\n",
    "only the time": array(number(5)),
    "junk": b"junk\r\n",
}


def saying(reply: bytes) -> Callable[[Peer], None]:
    """A server that answers each command with it, probes too."""

    def script(peer: Peer) -> None:
        peer.read()
        peer.send(HELLO_ANSWER)
        while True:
            peer.read()
            peer.send(reply)

    return script


def use_tools(ask: Ask, client: Client[Any]) -> Iterator[Callable[[], Any]]:
    """Every call of every tool."""
    for algorithm, on_error in itertools.product(ALGORITHMS, ON_ERRORS):
        limiter = RateLimiter(client, algorithm, on_error)
        for name in ("hit", "hit", "peek", "refund", "hit", "reset"):
            yield lambda limiter=limiter, name=name: ask(limiter, name, "u", YEAR)
    cooldown = Cooldown(client, 5)
    for name in ("acquire", "peek", "reset"):
        yield lambda name=name: ask(cooldown, name, "u")
    presence = Presence(client)
    for name, *args in (("join", "u"), ("online", "u"), ("members",), ("count",)):
        yield lambda name=name, args=args: ask(presence, name, *args)
    yield lambda: ask(presence, "leave", "u")
    tenant = RedisCache.from_client(client).with_context("app", "device")
    for name, *args in (("set", "k", b"v", 60), ("get", "k"), ("stats",)):
        yield lambda name=name, args=args: ask(tenant, name, *args)
    yield lambda: ask(tenant, "flush_app")


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_replies(kind: str, ask: Ask) -> None:
    """A decision that is one, or an error that has a type; the next call as well."""
    with (
        scripted(saying(HOSTILE[kind])) as server,
        Client[Any](server.url, **PATIENT) as client,
    ):
        for call in use_tools(ask, client):
            try:
                said = call()
            except redlane.RedlaneError:
                continue
            if isinstance(said, Decision):
                assert (said.limit, said.allowed) == (5, said.retry_after == 0)
                assert said.remaining >= 0 <= said.reset_after


def test_a_hostile_time_is_forgotten(redis_server: Server) -> None:
    """A fixed window's keys go by the server's clock: by one that can be."""
    replies = [HOSTILE["greatest time"], array(*[number(1)] * 4)]

    def script(peer: Peer) -> None:
        peer.greet()
        for reply in replies:
            peer.read()
            peer.send(reply)
        peer.wait_until_gone()

    with scripted(script) as server, Client[Any](server.url, **PATIENT) as client:
        limiter = RateLimiter(client, "fixed-window")
        with pytest.raises(redlane.ReplyError, match="not the script's"):
            limiter.hit("u", YEAR)
        limiter.hit("u", YEAR)
        first, second = [command[3] for command in server.commands[-2:]]
        assert first == second


# --- servers that refuse --------------------------------------------------------------


def test_scripts_that_are_forgotten(ask: Ask, redis_server: Server) -> None:
    with Client[Any](redis_server.url, **PATIENT) as client:
        limiters = [RateLimiter(client, name) for name in ALGORITHMS]
        for left in (4, 3, 2):
            redis_server.cli("SCRIPT", "FLUSH")
            for limiter in limiters:
                assert ask(limiter, "hit", "u", YEAR).remaining == left


@pytest.mark.parametrize("on_error", ON_ERRORS)
def test_a_right_that_is_missing(ask: Ask, redis_server: Server, on_error: str) -> None:
    """It is an answer, and loud, whatever `on_error` says of outages."""
    rules = ["reset", "on", ">few", "~*", "+@all", "-evalsha"]
    redis_server.cli("ACL", "SETUSER", "few", *rules)
    url = redis_server.url.replace("://", "://few:few@")
    try:
        with Client[Any](url, **PATIENT) as client:
            limiter = RateLimiter(client, on_error=on_error)
            cooldown = Cooldown(client, 5)
            for name in ("hit", "peek", "refund"):
                with pytest.raises(redlane.PermissionDeniedError, match="evalsha"):
                    ask(limiter, name, "u", YEAR)
            with pytest.raises(redlane.PermissionDeniedError):
                ask(cooldown, "acquire", "u")
            assert limiter.stats()["errors"] == 1
            assert client.health()["breaker"] == "closed"
    finally:
        redis_server.cli("ACL", "DELUSER", "few")


def refuse_writes(server: Server, how: str) -> Callable[[], None]:
    """Begins it, and tells how it ends."""
    if how == "OOM":
        server.cli("CONFIG", "SET", "maxmemory", "1")
        return lambda: server.cli("CONFIG", "SET", "maxmemory", "0")
    server.cli("REPLICAOF", "127.0.0.1", "1")
    server.cli("CONFIG", "SET", "replica-serve-stale-data", "yes")
    return lambda: server.cli("REPLICAOF", "NO", "ONE")


# A server without memory lets scripts go on that begin with a deletion, as a log's do.
WITHOUT_MEMORY = [name for name in ALGORITHMS if name != "sliding-log"]


@pytest.mark.parametrize(
    ("how", "algorithm"),
    [
        *(("OOM", name) for name in WITHOUT_MEMORY),
        *(("READONLY", name) for name in ALGORITHMS),
    ],
)
def test_a_server_that_takes_no_writes(
    ask: Ask, fresh_server: Server, how: str, algorithm: str
) -> None:
    """`on_error` decides; what was admitted is charged when it takes them again."""
    with Client[Any](fresh_server.url, **PATIENT) as client:
        memory, allow, deny = [RateLimiter(client, algorithm, one) for one in ON_ERRORS]
        for limiter, user in ((memory, "m"), (allow, "a"), (deny, "d")):
            assert ask(limiter, "hit", user, "50/year", 2).remaining == 48
        finish = refuse_writes(fresh_server, how)
        said = [ask(memory, "hit", "m", "50/year").remaining for _ in range(3)]
        assert said == [49, 48, 47]
        assert all(ask(allow, "hit", "a", YEAR) for _ in range(12))
        assert not any(ask(deny, "hit", "d", YEAR) for _ in range(3))
        assert client.health()["breaker"] == "closed"
        finish()
        wait_until(lambda: client.health()["write_breaker"] == "closed", "writes")
        wait_until(lambda: client.health()["journal"]["keys"] == 0, "the charge")
        assert ask(memory, "peek", "m", "50/year").remaining == 45
        assert ask(allow, "peek", "a", "50/year").remaining == 48
        assert ask(deny, "peek", "d", "50/year").remaining == 48


@pytest.mark.parametrize("error", [b"LOADING", b"MASTERDOWN", b"CLUSTERDOWN", b"BUSY"])
def test_a_server_that_is_not_ready(ask: Ask, error: bytes) -> None:
    """It is away: `on_error` decides."""
    reply = b"-" + error + b" not now\r\n"
    with (
        scripted(saying(reply)) as server,
        Client[Any](server.url, **PATIENT) as client,
    ):
        memory, allow, deny = [RateLimiter(client, on_error=one) for one in ON_ERRORS]
        said = [bool(ask(memory, "hit", "u", YEAR)) for _ in range(7)]
        assert said == [True] * 5 + [False] * 2
        assert all(ask(allow, "hit", "u", YEAR) for _ in range(7))
        assert not any(ask(deny, "hit", "u", YEAR) for _ in range(7))
        assert ask(Cooldown(client, 60), "acquire", "u").ready
        assert not ask(Cooldown(client, 60), "acquire", "u").ready
        assert client.health()["breaker"] == "open"


# --- clients that are closed, loops of a request ------------------------------------


def test_a_closed_client(ask: Ask, client: Any) -> None:
    """Whatever is remembered, and whoever answers."""
    limiters = [RateLimiter(client, name) for name in ALGORITHMS]
    for limiter in limiters:
        assert ask(limiter, "hit", "u", YEAR, 5)
        assert not ask(limiter, "hit", "u", YEAR)
    presence = Presence(client)
    ask(presence, "join", "ann")
    client.close()
    for limiter, on_error in itertools.product(limiters, ON_ERRORS):
        for one in (limiter, RateLimiter(client, limiter.algorithm, on_error)):
            for name in ("hit", "peek", "refund", "reset"):
                with pytest.raises(redlane.ConnectionError, match="closed"):
                    ask(one, name, "u", YEAR)
            with pytest.raises(redlane.ConfigurationError):
                ask(one, "hit", "u", "never")
    for name in ("acquire", "peek", "reset"):
        with pytest.raises(redlane.ConnectionError, match="closed"):
            ask(Cooldown(client, 5), name, "u")
    for name, *args in (("join", "bob"), ("members",), ("leave", "ann"), ("count",)):
        with pytest.raises(redlane.ConnectionError, match="closed"):
            ask(presence, name, *args)
    assert limiters[0].stats()["allowed"] == 1


def test_a_loop_for_each_request(redis_server: Server) -> None:
    """What a loop had ends with it; none is needed twice."""
    with Client[Any](redis_server.url, **PATIENT) as client:
        limiter, cooldown = RateLimiter(client), Cooldown(client, 3600)

        async def request(number: int) -> tuple[bool, bool]:
            return (
                bool(await limiter.aio.hit("u", "20/year")),
                (await cooldown.aio.acquire(number % 10)).ready,
            )

        descriptors = 0
        said = []
        for number in range(60):
            said.append(asyncio.run(request(number)))
            if number == 20:
                descriptors = len(os.listdir("/proc/self/fd"))
        assert len(os.listdir("/proc/self/fd")) <= descriptors
        assert [admitted for admitted, _ in said] == [True] * 20 + [False] * 40
        assert [ready for _, ready in said] == [True] * 10 + [False] * 50


# --- calls that are cancelled -------------------------------------------------------

PEOPLE = 30
EACH = 10_000  # units of one of them lie within these, whatever is cancelled
ROOM = 900_000


class Tagged:
    """Each has charged a number of units before that is its own: what remains tells
    whose answer it is. So does what is left of a cooldown."""

    def __init__(self, client: Client[Any], algorithm: str) -> None:
        self.limiter = RateLimiter(client, algorithm)
        self.rates = f"{ROOM}/year"
        self.cooldown = Cooldown(client, 3600)
        self.begun = [0] * PEOPLE
        self.charged = [0] * PEOPLE
        self.cancelled = 0
        for i in range(PEOPLE):
            self.limiter.hit(i, self.rates, cost=EACH * (i + 1) - EACH // 2)
            client.set(f"cooldown:{i}", 1, ex=100_000 * (i + 1))

    async def call(self, i: int) -> None:
        self.begun[i] += 1
        said = await self.limiter.aio.hit(i, self.rates)
        assert (ROOM - said.remaining) // EACH == i
        self.charged[i] += 1
        peeked = await self.limiter.aio.peek(i, self.rates)
        assert (ROOM - peeked.remaining) // EACH == i
        state = await self.cooldown.aio.acquire(i)
        assert not state
        assert int(state.remaining / 100_000 + 0.5) == i + 1

    async def run(self, calls: int, width: int) -> None:
        left = iter(range(calls))

        async def work() -> None:
            for _ in left:
                task = asyncio.ensure_future(self.call(random.randrange(PEOPLE)))
                for _ in range(random.choice((0, 1, 1, 2, 3, 50))):
                    await asyncio.sleep(0)
                if not task.done() and random.random() < 0.7:
                    task.cancel()
                done = await asyncio.gather(task, return_exceptions=True)
                if isinstance(done[0], asyncio.CancelledError):
                    self.cancelled += 1
                elif done[0] is not None:
                    raise done[0]

        await asyncio.gather(*[work() for _ in range(width)])

    def check(self) -> None:
        for i in range(PEOPLE):
            used = ROOM - self.limiter.peek(i, self.rates).remaining
            more = used - (EACH * (i + 1) - EACH // 2)
            assert self.charged[i] <= more <= self.begun[i]


@pytest.mark.parametrize(
    ("algorithm", "calls"),
    [
        ("sliding-window", 3000),
        pytest.param("sliding-window", 300_000, marks=pytest.mark.soak),
        pytest.param("token-bucket", 300_000, marks=pytest.mark.soak),
    ],
)
def test_a_cancelled_hit_gives_nobody_its_reply(
    redis_server: Server, run: Runner, algorithm: str, calls: int
) -> None:
    with Client[Any](redis_server.url, **PATIENT) as client:
        rounds = max(1, calls // 100_000)
        for _ in range(rounds):  # of EACH units no more than half are charged
            redis_server.cli("FLUSHALL")
            tagged = Tagged(client, algorithm)
            run(tagged.run(calls // rounds, 40))
            assert tagged.cancelled > calls // rounds // 20
            assert sum(tagged.charged) > calls // rounds // 20
            tagged.check()


# --- forks ----------------------------------------------------------------------------

PRELOADED = """
import asyncio, os, sys
from redlane import Client, Cooldown, RateLimiter

client = Client(sys.argv[1])
limiters = [RateLimiter(client, name) for name in sys.argv[2:]]
cooldown = Cooldown(client, 3600)
for one in limiters:  # connections, scripts and what is known to be blocked
    assert one.hit("u", "30/year")
    assert one.hit("full", "1/year") and not one.hit("full", "1/year")

async def hit_awaited(one):
    return sum([bool(await one.aio.hit("u", "30/year")) for _ in range(5)])

def hit_all():
    said = []
    for one in limiters:
        admitted = sum(bool(one.hit("u", "30/year")) for _ in range(5))
        said.append(admitted + asyncio.run(hit_awaited(one)))
        assert not one.hit("full", "1/year")
    return said

asyncio.run(hit_awaited(limiters[0]))
pipes = []
for number in range(4):
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.write(writing, repr((hit_all(), cooldown.acquire("u").ready)).encode())
        os._exit(0)
    os.close(writing)
    pipes.append(reading)
mine = hit_all(), cooldown.acquire("u").ready
told = [mine]
for reading in pipes:
    with os.fdopen(reading) as file:
        told.append(eval(file.read()))
    assert os.wait()[1] == 0
admitted = [sum(said[i] for said, _ in told) for i in range(len(limiters))]
assert admitted == [24] + [29] * (len(limiters) - 1), admitted
assert sum(ready for _, ready in told) == 1
"""


@forks_among_busy_threads
def test_forks_of_a_limiter_share_the_limit(redis_server: Server) -> None:
    """As gunicorn's preload makes them: used before the fork, and by all after it."""
    done = run_program(PRELOADED, redis_server.patient_url, *ALGORITHMS, timeout=120)
    assert done.returncode == 0, done.stderr
