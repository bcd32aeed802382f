"""Statistics: each call is counted once, whatever else goes on."""

from __future__ import annotations

import random
import threading
from typing import Any

from redlane import Cache

THREADS, CALLS, KEYS = 8, 500, 30


def check_counts(cache: Cache) -> None:
    ran: list[int] = []

    @cache(ttl=60)
    def number(key: int) -> int:
        ran.append(key)
        if key % 7 == 0:
            raise LookupError(key)
        return key

    @cache(ttl=60)
    def numbers(key: int) -> list[int]:
        ran.append(key)
        return [key]

    made = []

    def call(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(CALLS):
            key = dice.randrange(KEYS)
            if dice.randrange(10) == 0:
                number.invalidate(key)
                numbers.invalidate(key)
            try:
                assert number(key) == key
            except LookupError:
                assert key % 7 == 0
            assert numbers(key) == [key]
            made.append(key)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == THREADS * CALLS
    stats = cache.stats()
    infos = number.cache_info(), numbers.cache_info()
    for info in infos:
        assert info.hits + info.misses + info.waits == THREADS * CALLS
        assert 0 < info.hits >= info.near_hits
        assert info.sets <= info.misses
    assert infos[0].misses + infos[1].misses == len(ran)
    for name in infos[0].__match_args__:
        assert stats[name] == getattr(infos[0], name) + getattr(infos[1], name), name
    for name in ("stale", "refreshes", "errors", "corrupted", "uncached"):
        assert stats[name] == 0, name
    assert stats["bytes_read"] > 0
    assert stats["bytes_written"] >= stats["sets"] > 0


def test_counts_of_many_threads(client: Any) -> None:
    check_counts(Cache(client, ttl=60))


def test_counts_of_many_threads_without_near(client: Any) -> None:
    cache = Cache(client, ttl=60, near=False)
    check_counts(cache)
    assert cache.stats()["near_hits"] == 0
