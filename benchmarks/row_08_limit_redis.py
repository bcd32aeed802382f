"""Row 8: a rate decision on the server, beside the same script called from C; and one
for an identity that is known to be blocked, without a round trip."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from benchmarks import clients, limited
from benchmarks.harness import (
    OURS,
    Bench,
    Fact,
    Lineup,
    Measure,
    Result,
    at_most,
    loop,
    within,
)
from benchmarks.server import HOST

ROW = 8
LIMITS = "limits, fixed window"
THROTTLED = "throttled-py, GCRA"
USER = "user:42"


def run(bench: Bench) -> list[Result]:
    with ExitStack() as stack:
        return [_race(bench, stack), _blocked(bench, stack)]


def _race(bench: Bench, stack: ExitStack) -> Result:
    lineup = Lineup(ROW, "rate decision on the server, GCRA")
    count = bench.batch(100)

    def ours() -> Measure:
        from redlane import RateLimiter

        limiter = RateLimiter(clients.redlane_client(bench, stack), limited.ALGORITHM)
        if not limiter.hit(USER, limited.RATE):  # the server knows the script now
            raise RuntimeError("refused")
        return loop("hit(u, r)", count, hit=limiter.hit, u=USER, r=limited.RATE)

    def floor() -> Measure:
        return limited.script_loop(bench, stack, USER, count)

    def limits() -> Measure:
        from limits import RateLimitItemPerSecond, storage, strategies

        store = storage.RedisStorage(f"redis://{HOST}:{bench.server.port}")
        limiter = strategies.FixedWindowRateLimiter(store)
        item = RateLimitItemPerSecond(limited.COUNT)
        return loop("hit(i, u)", count, hit=limiter.hit, i=item, u=USER)

    def throttled() -> Measure:
        from throttled import Throttled, rate_limiter, store

        limiter = Throttled(
            using="gcra",
            quota=rate_limiter.per_sec(limited.COUNT),
            store=store.RedisStore(server=f"redis://{HOST}:{bench.server.port}/0"),
        )
        return loop("limit(u)", count, limit=limiter.limit, u=USER)

    lineup.add(OURS, "ours", ours)
    lineup.add(clients.C_LOOP, "floor", floor)
    lineup.add(LIMITS, "peer", limits)
    lineup.add(THROTTLED, "peer", throttled)
    return lineup.race(bench.rounds(200), [at_most(1.1, clients.C_LOOP)])


def _blocked(bench: Bench, stack: ExitStack) -> Result:
    lineup = Lineup(ROW, "known to be blocked")
    count = bench.batch(10_000)
    limiters: list[Any] = []

    def ours() -> Measure:
        from redlane import RateLimiter

        limiter = RateLimiter(clients.redlane_client(bench, stack), "gcra")
        limiter.hit("blocked", "1/day")
        limiters.append(limiter)
        return loop("hit(u, r)", count, hit=limiter.hit, u="blocked", r="1/day")

    def limits() -> Measure:
        from limits import RateLimitItemPerDay, storage, strategies

        limiter = strategies.FixedWindowRateLimiter(storage.MemoryStorage())
        item = RateLimitItemPerDay(1)
        return loop("hit(i, u)", count // 10, hit=limiter.hit, i=item, u="blocked")

    lineup.add(OURS, "ours", ours)
    lineup.add("limits, in memory", "peer", limits)
    goals = [within(0.15e-6, "limits, in memory", quoted=1.8e-6)]
    result = lineup.race(bench.rounds(50), goals)
    result.facts += [_remembered(limiter.stats()) for limiter in limiters]
    return result


def _remembered(counts: dict[str, int]) -> Fact:
    """It is asked again each second."""
    refused, remembered = counts["refused"], counts["remembered"]
    text = f"{remembered:,} of {refused:,} refusals cost no round trip"
    return Fact(text, remembered >= 0.99 * refused)
