"""A process that hits one limit from eight threads.

usage: limit_worker.py URL ALGORITHM RATES HITS

Prints how often it was admitted; with HITS 0 it goes on, on many limits, until killed.
"""

from __future__ import annotations

import random
import sys
import threading

from redlane import Client, RateLimiter

THREADS = 8


def count(limiter: RateLimiter, rates: str, hits: int) -> int:
    admitted: list[int] = []
    gate = threading.Barrier(THREADS)

    def work() -> None:
        gate.wait()
        admitted.append(sum(bool(limiter.hit("u", rates)) for _ in range(hits)))

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(admitted)


def hit_for_ever(limiter: RateLimiter) -> None:
    print("ready", flush=True)
    while True:
        rates = random.choice(["2/second", "100/hour", "3/minute;50/day", "9/2hours"])
        user = f"user{random.randrange(50)}"
        random.choice([limiter.hit, limiter.hit, limiter.refund])(user, rates)


def main(url: str, algorithm: str, rates: str, hits: str) -> None:
    with Client(url) as client:
        limiter = RateLimiter(client, algorithm)
        if hits == "0":
            hit_for_ever(limiter)
        limiter.peek("u", rates)
        print("ready", flush=True)
        sys.stdin.readline()
        print(count(limiter, rates, int(hits)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
