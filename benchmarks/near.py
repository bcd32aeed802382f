"""The near cache as the rows see it: whether it answered."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from benchmarks.harness import Fact, Measure, Unavailable

PATIENCE = 10.0  # seconds, until the server has confirmed the invalidation connection
ENOUGH = 0.999  # of the timed calls; the rest may be what a busy machine confirmed late


def hits(cache: Any) -> int:
    count: int = cache.stats()["near_hits"]
    return count


def wait_until_near(cache: Any, call: Callable[[], object]) -> None:
    """Returns once a call was answered from the process; Unavailable: none is."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        before = hits(cache)
        call()
        if hits(cache) > before:
            return
        time.sleep(0.01)
    state = cache.client.health()["near"]
    raise Unavailable(f"no near hit within {PATIENCE:.0f} s: {state!r}")


class Watched:
    """A measure that knows how many of the calls that it timed were near hits."""

    def __init__(self, cache: Any, measure: Measure, count: int) -> None:
        self._cache = cache
        self._measure = measure
        self._count = count
        self._calls = 0
        self._before = hits(cache)

    def __call__(self) -> float:
        self._calls += self._count
        return self._measure()

    def fact(self) -> Fact:
        near = hits(self._cache) - self._before
        text = f"{near:,} of {self._calls:,} timed calls were near hits"
        return Fact(text, near >= ENOUGH * self._calls)
