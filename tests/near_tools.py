"""What the tests of the near cache share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from outage_tools import wait_until
from redlane import Cache, CachedFunction, Client

# Empties a database that nobody uses: every near cache of the server is told, on the
# way on which it is told of keys, so what was said before has come when that has.
ELSEWHERE = "redis.call('SELECT', '15') return redis.call('FLUSHDB')"


def near_state(client: Client[Any]) -> Any:
    """What the report says of the near cache."""
    return client.health()["near"]


def wait_for_near(client: Client[Any]) -> None:
    """Until the server's word is there; the cache must have read once."""
    wait_until(lambda: near_state(client)["state"] == "on", "the near cache")


def settle(client: Client[Any]) -> None:
    """Until all that the server had to say has come. No near value is left."""
    wait_for_near(client)
    before = near_state(client)["flushes"]
    client.eval(ELSEWHERE, 0)
    wait_until(lambda: near_state(client)["flushes"] > before, "the server's message")


def near_hits(source: Cache | CachedFunction[..., Any]) -> int:
    if isinstance(source, Cache):
        return int(source.stats()["near_hits"])
    return source.cache_info().near_hits


def warm(source: Cache | CachedFunction[..., Any], *reads: Callable[[], Any]) -> Any:
    """Reads until each is a near hit, and stays one while nobody writes: the messages
    of what was written before have come. What the last one read."""
    cache = source if isinstance(source, Cache) else source.cache
    for read in reads:
        read()  # it may compute, and store
    settle(cache.client)
    last: list[Any] = [None]
    for read in reads:

        def is_near(read: Callable[[], Any] = read) -> bool:
            before = near_hits(source)
            last[0] = read()
            return near_hits(source) > before

        wait_until(is_near, "a near hit")
    return last[0]
