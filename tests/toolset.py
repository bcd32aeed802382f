"""A client and every tool on it, as the tests of a link's faults use them: what may be
raised, what must not, and when all is well again."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import redlane
from servers import ReplyError, Server

BOUND = 60.0  # seconds that a test waits for what must come; far above what it takes
BUSY_MACHINE = 20.0  # seconds beyond a deadline that a loaded machine may take
SOURCE = 40  # what the counters' source counts
RATE = "3/hour"

# What a link that does not answer may raise from a raw command.
LINK_ERRORS = (redlane.ConnectionError, redlane.TimeoutError)


def wait_until(condition: Callable[[], Any], what: str, bound: float = BOUND) -> None:
    end = time.monotonic() + bound
    while not condition():
        assert time.monotonic() < end, f"never came: {what}"
        time.sleep(0.01)


def is_connected(client: redlane.Client[Any]) -> bool:
    """Whether calls go to the server, on a connection that is there. A busy machine may
    need several looks to get there in time."""
    health = client.health()
    return bool(health["connected"] and health["breaker"] == "closed")


def eventually(call: Callable[[], Any]) -> Any:
    """What it gives, of a client whose time-outs are so short that a busy machine may
    need more than one call."""
    end = time.monotonic() + BOUND
    while True:
        try:
            return call()
        except LINK_ERRORS:
            assert time.monotonic() < end
            time.sleep(0.01)


def with_more_time(scenario: Callable[[float], object], *times: float) -> None:
    """Plays a scenario whose time-outs are a part of it, in seconds: again with more of
    them where a machine that stood still came between."""
    for seconds in times[:-1]:
        # The latter is that of pytest.raises.
        with suppress(Exception, pytest.fail.Exception):
            scenario(seconds)
            return
    scenario(times[-1])


def double(number: int) -> int:
    return number * 2


class Toolset:
    """A raw client, and every tool on it, each with the policy that it has by
    default."""

    def __init__(self, url: str, timeout: float = 0.3, **options: Any) -> None:
        options.setdefault("connect_timeout", timeout)
        self.client = redlane.Client(url, timeout=timeout, **options)
        self.timeout = timeout
        self.cache = redlane.Cache(self.client, prefix="c", ttl=300, near=False)
        self.double = self.cache(name="double")(double)
        self.counter = redlane.Counter(
            self.client, "n:{id}", ttl=300, source=lambda id: SOURCE
        )
        self.videos = redlane.VideoCache(self.client)
        self.limiter = redlane.RateLimiter(self.client)
        self.cooldown = redlane.Cooldown(self.client, 300)
        self.presence = redlane.Presence(self.client, "here")
        self.tenant = redlane.RedisCache.from_client(self.client).with_context("a", "d")
        self.number = 1000

    def warm(self) -> None:
        """Something of each tool on the server."""
        wait_until(self.set_raw, "the server")
        self.cache.set("kept", "of before")
        assert self.double(1) == 2
        assert self.counter.get("warm") == SOURCE
        assert self.videos.set("black", ["white"], "https://before") is True

    def set_raw(self) -> bool:
        """A raw write; on a loaded machine even a healthy link may be slow, or a
        connection that was fine when it was pooled turn out broken."""
        try:
            return self.client.set("raw", "there") is True
        except LINK_ERRORS:
            return False

    def read(self) -> None:
        """Every kind of read. None may raise or be wrong; a miss is right."""
        self.number += 1
        assert self.cache.get("kept") in (None, "of before")
        assert self.cache.get(f"never:{self.number}") is None
        assert self.cache.has(f"never:{self.number}") is False
        assert set(self.cache.get_many(["kept", "never"]).values()) <= {"of before"}
        assert self.double(1) == 2
        assert self.double(self.number) == 2 * self.number
        assert self.cache.get_or_set(f"made:{self.number}", lambda: "made") == "made"
        assert self.counter.get("warm") == SOURCE
        assert self.counter.get(self.number) == SOURCE
        assert self.videos.get("black", ["white"]) in (None, "https://before")
        assert self.videos.get("black", [str(self.number)]) is None
        assert self.limiter.peek(self.number, RATE).remaining == 3
        assert self.cooldown.peek(f"never:{self.number}").ready
        assert self.presence.online(f"never:{self.number}") is False
        assert self.tenant.get("k") in ((b"v", True), (None, False))

    def write(self) -> None:
        """Every kind of write. None may raise; what they say is the policy's."""
        key = f"written:{self.number}"
        self.number += 1
        assert self.cache.set(key, 1) in (True, False)
        self.cache.set_many({key: 2, f"{key}:b": 3})
        assert self.cache.get(key) in (None, 1, 2)
        self.cache.delete(key)
        self.cache.invalidate("c:written:nothing*")
        self.double.invalidate(self.number)
        assert self.counter.increment(f"counted:{self.number}") is None
        self.counter.delete(f"counted:{self.number}")
        assert self.videos.set("black", [str(self.number)], "https://x") in (
            True,
            False,
        )

        # What was on its way when the link broke may have been charged already.
        admitted = sum(bool(self.limiter.hit(key, RATE)) for _ in range(4))
        assert admitted in (3, 4)
        self.limiter.reset(key, RATE)
        self.cooldown.acquire(key)
        self.presence.join(key)
        self.presence.leave(key)
        assert self.tenant.set("k", b"v", 60) in (True, False)

    def use(self) -> None:
        self.read()
        self.write()

    @property
    def mode(self) -> str:
        return str(self.client.health()["mode"])

    @property
    def breaker(self) -> str:
        return str(self.client.health()["breaker"])

    def wait_until_away(self) -> None:
        wait_until(lambda: self.breaker == "open", "the verdict")

    def wait_until_back(self) -> None:
        wait_until(lambda: self.mode == "redis", "the return")

    def assert_healed(self, server: Server) -> None:
        """All tools are on the server again, by themselves."""
        self.wait_until_back()
        server.cli("DEL", "raw")
        wait_until(
            lambda: self.set_raw() and server.cli("GET", "raw") == b"there",
            "a raw command that works",
        )
        self.use()
        key = f"healed:{self.number}"
        wait_until(
            lambda: self.cache.set(key, "now") and server.cli("GET", f"c:{key}"),
            "a cached value on the server",
        )
        assert self.cache.get(key) in ("now", None)
        wait_until(
            lambda: (
                self.counter.get(key) == SOURCE
                and server.cli("GET", f"n:{key}") == b"%d" % SOURCE
            ),
            "a counter on the server",
        )
        video = redlane.content_key("video", "healed", [key])
        wait_until(
            lambda: self.videos.set("healed", [key], "x") and server.cli("GET", video),
            "a video on the server",
        )

    def assert_raises(
        self,
        errors: type[BaseException] | tuple[type[BaseException], ...] = LINK_ERRORS,
    ) -> BaseException:
        """A raw command raises one of these, within its deadline."""
        begin = time.monotonic()
        with pytest.raises(errors) as caught:
            self.client.get("raw")
        assert time.monotonic() - begin < self.timeout + BUSY_MACHINE
        return caught.value

    def close(self) -> None:
        self.client.close()


@contextmanager
def toolset(url: str, **options: Any) -> Iterator[Toolset]:
    tools = Toolset(url, **options)
    try:
        yield tools
    finally:
        tools.close()


def probes_in(seconds: float) -> float:
    """More than there are in so many seconds. A probe waits 0 to 50 ms after the first
    failure, 0 to 1 s from the fifth on: a loop would make thousands."""
    return 60 + 5 * seconds


def count_connections(server: Server) -> int:
    """Connections that the server ever accepted, but for those that ask."""
    info = server.cli("INFO", "stats").decode()
    return stat_of(info, "total_connections_received")


def stat_of(info: str, name: str) -> int:
    return next(
        int(line.partition(":")[2])
        for line in info.splitlines()
        if line.startswith(f"{name}:")
    )


def own_connections(server: Server, exclude: Iterable[bytes] = (b"cmd=client",)) -> int:
    """Connections to the server beside the one that asks."""
    lines = server.cli("CLIENT", "LIST").splitlines()
    return sum(not any(mark in line for mark in exclude) for line in lines)


def try_cli(server: Server, *args: object) -> Any:
    """What the server says, an error line as the exception itself."""
    try:
        return server.cli(*args)
    except ReplyError as error:
        return error


def growth_of_blocks(work: Callable[[], object], bound: int) -> list[int]:
    """By how many blocks of memory 500 rounds grow: measured up to four times, until it
    is below the bound. What comes once is no leak: that is there each time."""
    grown = []
    for _ in range(4):
        gc.collect()
        before = sys.getallocatedblocks()
        for _ in range(500):
            work()
        gc.collect()
        grown.append(sys.getallocatedblocks() - before)
        if grown[-1] < bound:
            break
    return grown
