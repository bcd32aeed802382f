"""Run by test_memory_malloc.py with failing_malloc loaded first: each call with each
allocation of the extension's own C code failing once, until one goes through.

usage: failing_calls.py LIBRARY URL TOGETHER
"""

from __future__ import annotations

import ctypes
import faulthandler
import functools
import gc
import itertools
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redlane
from redlane import (
    Cache,
    Client,
    Cooldown,
    Counter,
    OutOfMemoryError,
    Presence,
    RateLimiter,
    RedisCache,
    VideoCache,
)

MOST = 3000  # allocations of one call
PATIENCE = 60
MEMORY = (MemoryError, OutOfMemoryError)  # the engine's is the latter
ENGINE = "memory://"
RATES = "1000000/year;3/minute"
ALGORITHMS = ("sliding-window", "fixed-window", "sliding-log", "token-bucket")


def load(path: str) -> ctypes.CDLL:
    """The library, told where the extension's code stands."""
    library = ctypes.CDLL(path)
    bounds = [
        [int(part, 16) for part in line.split()[0].split("-")]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if "/_core." in line
    ]
    assert bounds
    library.failing_range(
        ctypes.c_size_t(min(start for start, _ in bounds)),
        ctypes.c_size_t(max(end for _, end in bounds)),
    )
    library.failing_disarm.restype = library.failing_live.restype = ctypes.c_long
    return library


class Calls:
    def __init__(self, url: str) -> None:
        self.url = url
        self.client: Any = self.connect()
        self.text: Any = self.connect(decode_responses=True)
        self.cache = Cache(self.client, ttl=60)
        self.loud = Cache(self.client, prefix="loud", fallback="raise")
        self.counter = Counter(self.client, "n:{id}", ttl=60, source=lambda id: 5)
        self.video = VideoCache(self.client, lazy=True)
        self.function = self.cache(name="f")(len)
        self.limiters = {
            name: RateLimiter(self.client, name, hashed=name == "token-bucket")
            for name in ALGORITHMS
        }
        self.cooldown = Cooldown(self.client, 3600)
        self.presence = Presence(self.client, "here")
        self.tenant = RedisCache.from_client(self.client).with_context("a", "d")
        self.big = b"x" * 300_000
        self.numbers = itertools.count()

    def prepare(self) -> None:
        self.client.set("big", self.big)
        self.client.hset("h", mapping={"a": 1, "b": 2})
        self.client.zadd("z", {"a": 1, "b": 2})
        self.client.set("k", "v")

    def close(self) -> None:
        self.client.close()
        self.text.close()

    def connect(self, **options: Any) -> Any:
        return Client(
            self.url, timeout=PATIENCE, connect_timeout=PATIENCE, name="n", **options
        )

    def open(self) -> None:
        with self.connect() as client:
            assert client.get("k") in (b"v", None)
            client.health()

    def pipeline(self, transaction: bool) -> None:
        pipe = self.client.pipeline(transaction=transaction)
        pipe.set("k", "v").get("k").hgetall("h").zrange("z", 0, -1, withscores=True)
        first, second, third, fourth = pipe.execute()
        assert (first, second) == (True, b"v")
        assert third == {b"a": b"1", b"b": b"2"}
        assert fourth == [(b"a", 1.0), (b"b", 2.0)]

    def fill(self) -> None:
        """A miss, a lease, a value."""
        text = "x" * (next(self.numbers) % 500)
        assert self.function(text) == len(text)
        self.function.invalidate(text)

    def expect(self, right: bool) -> None:
        """Of the engine: with a server, a link that finds no memory may be away for a
        moment, and then each tool does as it does in an outage."""
        assert right or self.url != ENGINE

    def limit(self, name: str) -> None:
        """Room, none, and some again."""
        limiter, user = self.limiters[name], next(self.numbers)
        rates = RATES.replace("1000000", "90000") if name == "sliding-log" else RATES
        self.expect(limiter.hit(user, rates, cost=3).allowed)
        self.expect(not limiter.hit(user, rates))
        self.expect(limiter.refund(user, rates, 2).remaining == 2)
        self.expect(limiter.peek(user, [rates]).allowed)
        self.expect(limiter.reset(user, rates))

    def wait(self) -> None:
        user = next(self.numbers)
        self.expect(self.cooldown.acquire(user).ready)
        self.expect(not self.cooldown.acquire(user))
        self.expect(not self.cooldown.peek(user))
        self.expect(self.cooldown.reset(user))

    def meet(self) -> None:
        user = next(self.numbers)
        self.presence.join(user, 1)
        self.expect(self.presence.online(user))
        self.expect(str(user) in self.presence.members())
        self.expect(self.presence.leave(user, 1))

    def share(self) -> None:
        """It never raises: what could not be stored was not."""
        stored = self.tenant.set("k", b"v", 60)
        value, found = self.tenant.get("k")
        assert (value == b"v") is found <= stored
        self.tenant.stats()
        self.tenant.flush_app()

    def table(self) -> dict[str, Callable[[], object]]:
        client, cache = self.client, self.cache
        return {
            "open": self.open,
            "set": lambda: client.set("k", "v", px=100_000),
            "get": lambda: client.get("k"),
            "get a big value": lambda: len(client.get("big")) == 300_000,
            "set a big value": lambda: client.set("big", self.big),
            "mget": lambda: client.mget(["k"] * 100),
            "decoded": lambda: self.text.hgetall("h"),
            "pipeline": lambda: self.pipeline(False),
            "transaction": lambda: self.pipeline(True),
            "scan": lambda: list(client.scan_iter(count=1)),
            "info": client.info,
            "health": client.health,
            "eval": lambda: self.cache.touch("a", 50),
            "incrbyfloat": lambda: client.incrbyfloat("float", 1.5),
            "zadd": lambda: client.zadd("z2", {"a": 1.5, "b": 2}),
            "zrem": lambda: client.zrem("z2", "a", "b"),
            "sadd": lambda: client.sadd("s", *range(50)),
            "srem": lambda: client.srem("s", *range(50)),
            "cache.set": lambda: cache.set("a", [1, 2]),
            "cache.get": lambda: cache.get("a"),
            "cache.add": lambda: cache.add("a", 1),
            "cache.many": lambda: cache.set_many({"a": 1, "b": 2}),
            "cache.get_many": lambda: cache.get_many(["a", "b"]),
            "cache.get_or_set": lambda: cache.get_or_set("g", lambda: 1),
            "cache.increment": lambda: cache.increment("i"),
            "cache.invalidate": lambda: cache.invalidate("cache:f:*"),
            "cache.clear": self.loud.clear,
            "loud.set": lambda: self.loud.set("a", 1),
            "fill": self.fill,
            "counter.get": lambda: self.counter.get(1),
            "counter.increment": lambda: self.counter.increment(1),
            "counter.transfer": lambda: self.counter.transfer(1, 2),
            "video.set": lambda: self.video.set("b", ["w"], "u"),
            "video.get": lambda: self.video.get("b", ["w"]),
            "video.get_stats": self.video.get_stats,
            "cooldown": self.wait,
            "presence": self.meet,
            "tenant": self.share,
            **{name: functools.partial(self.limit, name) for name in ALGORITHMS},
        }


def run(library: ctypes.CDLL, url: str, together: int, cold: bool) -> int:
    """How many allocations failed. Cold: each call opens the first connection of its
    client; else buffers are there from the call before."""
    failures = 0
    calls = Calls(url)
    calls.prepare()
    for name in calls.table():
        calls.table()[name]()
        for first in range(1, MOST):
            if cold and url != ENGINE:
                calls.close()
                calls = Calls(url)
            call = calls.table()[name]
            library.failing_arm(ctypes.c_long(first), ctypes.c_long(together))
            error: BaseException | None = None
            try:
                call()
            except BaseException as caught:
                error = caught
            failed = library.failing_disarm()
            assert error is None or isinstance(error, MEMORY), (name, first, error)
            failures += failed
            assert calls.client.echo("tag") == b"tag"
            if not failed:
                break
        else:
            raise AssertionError(f"{name} never goes through")
        call()
    calls.close()
    return failures


def settled(library: ctypes.CDLL, before: int) -> int:
    """What is alive once threads that were told to end have ended."""
    end = time.monotonic() + 30
    while library.failing_live() - before >= 10 and time.monotonic() < end:
        time.sleep(0.02)
    return library.failing_live()


def main() -> None:
    faulthandler.enable()
    logging.disable(logging.CRITICAL)
    library = load(sys.argv[1])
    url, together = sys.argv[2], int(sys.argv[3])
    for cold in (False, True):
        failures = run(library, url, together, cold)
        gc.collect()
        before = library.failing_live()
        run(library, url, together, cold)
        gc.collect()
        after = settled(library, before)
        print(failures, before, after)
        assert failures >= 40
        assert after - before < 10, (before, after)


if __name__ == "__main__":
    assert redlane
    main()
