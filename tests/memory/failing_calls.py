"""Run by test_memory_malloc.py with failing_malloc loaded first: each call with each
allocation of the extension's own C code failing once, until one goes through.

usage: failing_calls.py LIBRARY URL TOGETHER
"""

from __future__ import annotations

import ctypes
import faulthandler
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
    Presence,
    RateLimiter,
    RedisCache,
    VideoCache,
)

MOST = 3000  # allocations of one call
PATIENCE = 60
ENGINE = "memory://"


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
        self.limiter = RateLimiter(self.client)
        self.log = RateLimiter(self.client, "sliding-log")
        self.cooldown = Cooldown(self.client, 60)
        self.presence = Presence(self.client, "p")
        self.tenant = RedisCache.from_client(self.client).with_context("a", "d")
        self.function = self.cache(name="f")(len)
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

    def refuse(self) -> None:
        """A refusal that is remembered, or not."""
        for _ in range(3):
            refused = not self.limiter.hit("r", "1/day")
        assert refused

    def grow(self) -> None:
        """A log that is made, and outgrows what it was made for."""
        for _ in range(3):
            self.log.hit("u", "50000/day", cost=50)
        self.log.reset("u", "50000/day")

    def come_and_go(self) -> None:
        self.presence.join("u", 1)
        self.presence.leave("u", 1)

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
            "limiter": lambda: self.limiter.hit("u", "900000/day;9/day"),
            "limiter.refuse": self.refuse,
            "limiter.log": self.grow,
            "cooldown": lambda: self.cooldown.acquire(next(self.numbers)),
            "presence": self.come_and_go,
            "tenant": lambda: self.tenant.set("k" * 300, b"v", 60),
        }


def run(library: ctypes.CDLL, url: str, together: int, cold: bool) -> int:
    """How many allocations failed. Cold: each call opens the first connection of its
    client; else buffers are there from the call before."""
    failures = 0
    wanted = (MemoryError, redlane.OutOfMemoryError)  # the engine's, as a server's
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
            assert error is None or isinstance(error, wanted), (name, first, error)
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
