"""What the tests of the near cache share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from outage_tools import wait_until
from redlane import Cache, CachedFunction, Client


def near_state(client: Client[Any]) -> Any:
    """What the report says of the near cache."""
    return client.health()["near"]


def wait_for_near(client: Client[Any]) -> None:
    """Until the server's word is there; the cache must have read once."""
    wait_until(lambda: near_state(client)["state"] == "on", "the near cache")


def near_hits(source: Cache | CachedFunction[..., Any]) -> int:
    if isinstance(source, Cache):
        return int(source.stats()["near_hits"])
    return source.cache_info().near_hits


def warm(source: Cache | CachedFunction[..., Any], read: Callable[[], Any]) -> Any:
    """Reads until that is a near hit: an own write is told of a little later, and what
    was read before that is not kept. What it read."""
    last: list[Any] = [None]

    def is_near() -> bool:
        before = near_hits(source)
        last[0] = read()
        return near_hits(source) > before

    wait_until(is_near, "a near hit")
    return last[0]
