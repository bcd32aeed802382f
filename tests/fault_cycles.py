"""Makes clients and tools that meet a fault and are dropped, many times, and says what
has grown. A process of its own, since the faults are made in another; see
test_promise_leaks.py. Usage: fault_cycles.py ROUNDS KIND=URL…
"""

from __future__ import annotations

import contextlib
import gc
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).with_name("leaks")))

from measure import growth
from redlane import (
    Cache,
    Client,
    Cooldown,
    Counter,
    RateLimiter,
    RedisCache,
    RedlaneError,
    VideoCache,
)

TIMEOUT = 0.02


def calls(client: Client[Any]) -> Iterator[Callable[[], object]]:
    """One of each way in which a tool or a client asks the server."""
    cache = Cache(client, prefix="leaks", ttl=60)
    strict = Cache(client, prefix="strict", fallback="raise")
    yield lambda: client.get("a")
    yield lambda: client.set("a", "x" * 2000)
    yield lambda: client.mget(["a", "b", "c"])
    yield lambda: client.pipeline().set("a", 1).get("a").execute()
    yield lambda: client.pipeline(transaction=True).get("a").execute()
    yield lambda: list(client.scan_iter())
    yield lambda: client.eval("return 1", 0)
    yield lambda: client.health()
    yield lambda: cache.get("a")
    yield lambda: cache.set("a", [1])
    yield lambda: cache.get_or_set("b", lambda: [1])
    yield lambda: cache(name="f")(lambda number: [number])(1)
    yield lambda: cache.invalidate("leaks:*")
    yield lambda: cache.set("t", [1], tags=["a"])
    yield lambda: cache.invalidate_tags("a", "b")
    yield lambda: rescued(cache)(1)
    yield lambda: strict.get("a")
    yield lambda: strict.get_or_set("b", lambda: [1])
    yield lambda: Counter(client, "n:{id}", source=lambda id: 5).get(1)
    yield lambda: Counter(client, "n:{id}").increment(1)
    yield lambda: VideoCache(client, lazy=True).get("a", ["b"])
    yield lambda: VideoCache(client, lazy=True).set("a", ["b"], "u")
    yield lambda: RateLimiter(client).hit("u", "5/minute;9/hour")
    yield lambda: RateLimiter(client, "fixed-window", "deny").refund("u", "5/m")
    yield lambda: RateLimiter(client, "sliding-log").reset("u", "5/minute")
    yield lambda: Cooldown(client, 5).acquire("u")
    tenant = RedisCache.from_client(client).with_context("a", "d")
    yield lambda: tenant.set("k", b"v", 5)


def rescued(cache: Cache) -> Callable[[int], object]:
    """A function whose results have tags, and that may serve an old one."""
    return cache(name="g", tags=["n:{number}"], on_error="stale")(lambda number: [1])


class Cycles:
    """Each takes up where the last one left, so that all ways come in turn."""

    def __init__(self) -> None:
        self.count = len(list(calls(Client("memory://"))))
        self.number = 0

    def once(self, url: str) -> None:
        """Two calls of a client, the first of which meets the fault."""
        client = Client(url, timeout=TIMEOUT, connect_timeout=TIMEOUT)
        ways = list(calls(client))
        for offset in (0, 7):
            with contextlib.suppress(RedlaneError, UnicodeDecodeError):
                ways[(self.number + offset) % self.count]()
        self.number += 1
        if self.number % 3 == 0:
            client.close()
        elif self.number % 3 == 1:
            ways.append(lambda: ways)  # a cycle that only the collector ends
            del client, ways
            gc.collect()


def main() -> None:
    logging.disable()
    rounds, *faults = sys.argv[1:]
    cycles = Cycles()
    types: list[type] = [Client, Cache, Counter, VideoCache]
    for _ in range(1000):  # fills the interpreter's own caches, at little cost
        cycles.once("redis://127.0.0.1:1")
    for fault in faults:
        kind, _, url = fault.partition("=")
        for more in (1, 2, 4, 8):  # what a leak leaves grows with the rounds
            found = growth(lambda url=url: cycles.once(url), types, int(rounds) * more)
            if not found:
                break
        print(f"{kind}: {'; '.join(found) or 'clean'}", flush=True)


if __name__ == "__main__":
    main()
