"""Row 7: a rate decision in memory, one race for each algorithm.

A log of 100,000 is full within the first round, so that most of its hits are refused,
here and in the peer; the others admit all.
"""

from __future__ import annotations

from typing import Any

from benchmarks.harness import OURS, Bench, Lineup, Measure, Result, loop, within

ROW = 7
LIMITS = "limits"
THROTTLED = "throttled-py"
COUNT = 1_000_000_000

# ours, the class in limits.strategies, the name in throttled-py
ALGORITHMS = (
    ("sliding-window", "SlidingWindowCounterRateLimiter", "sliding_window"),
    ("fixed-window", "FixedWindowRateLimiter", "fixed_window"),
    ("sliding-log", "MovingWindowRateLimiter", None),
    ("token-bucket", None, "token_bucket"),
    ("gcra", None, "gcra"),
)


def run(bench: Bench) -> list[Result]:
    return [_race(bench, *algorithm) for algorithm in ALGORITHMS]


def _race(
    bench: Bench, algorithm: str, of_limits: str | None, of_throttled: str | None
) -> Result:
    lineup = Lineup(ROW, f"rate decision in memory, {algorithm}")
    count = bench.batch(2_000)
    quota = 100_000 if algorithm == "sliding-log" else COUNT

    def ours() -> Measure:
        from redlane import RateLimiter

        limiter = RateLimiter("memory://", algorithm)  # type: ignore[arg-type]
        rates = f"{quota}/minute"
        return loop("hit(u, r)", count, hit=limiter.hit, u="user:42", r=rates)

    def limits() -> Measure:
        from limits import RateLimitItemPerMinute, storage, strategies

        strategy: Any = getattr(strategies, of_limits or "")
        limiter = strategy(storage.MemoryStorage())
        item = RateLimitItemPerMinute(quota)
        return loop("hit(i, u)", count // 10, hit=limiter.hit, i=item, u="user:42")

    def throttled() -> Measure:
        from throttled import Throttled, rate_limiter, store

        limiter = Throttled(
            using=of_throttled,
            quota=rate_limiter.per_min(quota),
            store=store.MemoryStore(),
        )
        return loop("limit(u)", count // 10, limit=limiter.limit, u="user:42")

    lineup.add(OURS, "ours", ours)
    if of_limits:
        lineup.add(LIMITS, "peer", limits)
    if of_throttled:
        lineup.add(THROTTLED, "peer", throttled)
    peer, quoted = (LIMITS, 1.8e-6) if of_limits else (THROTTLED, 2.7e-6)
    return lineup.race(bench.rounds(100), [within(0.12e-6, peer, quoted=quoted)])
