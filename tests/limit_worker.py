"""A process of the tests of rate limits: eight clients, four of them on an event loop.

usage: limit_worker.py race URL    a line of JSON in, a line of JSON out, until the end:
           {"limits": {algorithm: rates}, "hits": n, "seconds": s} has every client hit
           each limit so often, or for so long; told is for each algorithm when each hit
           that was admitted began and was over, in microseconds since 1970
       limit_worker.py use URL     every tool that keeps keys with a TTL, until killed
       limit_worker.py outage URL  a line in, a line out: "hit RATES", how many of
           twelve hits each algorithm admitted; "away" and "well", once the server is
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from outage_tools import is_well, wait_until
from redlane import (
    AsyncCooldown,
    AsyncPresence,
    AsyncRateLimiter,
    Client,
    Cooldown,
    Presence,
    RateLimiter,
    RedlaneError,
)

THREADS = 4
TASKS = 4
ALGORITHMS = ("sliding-window", "fixed-window", "sliding-log", "token-bucket", "gcra")
PAUSE = 0.004  # seconds between two refusals, that others may have the processor

Spans = dict[str, list[tuple[int, int]]]


def now() -> int:
    return time.time_ns() // 1000


class Race:
    """What all clients of the process saw."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.limits: dict[str, str] = plan["limits"]
        self.hits: int = plan["hits"]
        self.end = time.monotonic() + plan["seconds"]
        self.spans: Spans = {name: [] for name in self.limits}

    def goes_on(self, round_: int) -> bool:
        return round_ < self.hits and time.monotonic() < self.end

    def run_thread(self, client: Client[Any]) -> None:
        limiters = {name: RateLimiter(client, name) for name in self.limits}
        round_ = 0
        while self.goes_on(round_):
            round_ += 1
            admitted = 0
            for name, limiter in limiters.items():
                began = now()
                if limiter.hit("u", self.limits[name]):
                    self.spans[name].append((began, now()))
                    admitted += 1
            if not admitted:
                time.sleep(PAUSE)

    async def run_task(self, client: Client[Any]) -> None:
        limiters = {name: AsyncRateLimiter(client, name) for name in self.limits}
        round_ = 0
        while self.goes_on(round_):
            round_ += 1
            admitted = 0
            for name, limiter in limiters.items():
                began = now()
                if await limiter.hit("u", self.limits[name]):
                    self.spans[name].append((began, now()))
                    admitted += 1
            await asyncio.sleep(0 if admitted else PAUSE)


def on_loop(clients: list[Client[Any]], run: Callable[[Client[Any]], Any]) -> None:
    async def main() -> None:
        await asyncio.gather(*[run(client) for client in clients])

    asyncio.run(main())


def race(url: str) -> None:
    threaded = [Client[Any](url) for _ in range(THREADS)]
    looped = [Client[Any](url) for _ in range(TASKS)]
    for client in threaded:
        client.ping()
    print("ready", flush=True)
    for line in sys.stdin:
        plan = Race(json.loads(line))
        threads = [
            threading.Thread(target=plan.run_thread, args=(client,))
            for client in threaded
        ]
        threads.append(threading.Thread(target=on_loop, args=(looped, plan.run_task)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(json.dumps(plan.spans), flush=True)
    for client in threaded:
        client.close()


# --- until it is killed -------------------------------------------------------------

RATES = ("2/second", "100/hour", "3/minute;50/day", "9/2hours")
LEASE = "2s"


def use(url: str) -> None:
    client: Client[Any] = Client(url)
    limiters = [RateLimiter(client, name) for name in ALGORITHMS]
    limiters.append(RateLimiter(client, "fixed-window", prefix="plain"))
    cooldowns = [Cooldown(client, 5), Cooldown(client, 3600, prefix="long")]
    presence = Presence(client, "here", LEASE)
    limiters[0].hit("first", "5/day")
    print("ready", flush=True)

    def work() -> None:
        while True:
            with contextlib.suppress(RedlaneError):  # the server may be killed too
                user = f"user{random.randrange(50)}"
                limiter, rates = random.choice(limiters), random.choice(RATES)
                act = random.choice([limiter.hit, limiter.hit, limiter.refund])
                act(user, rates)
                limiter.reset(user, rates) if random.random() < 0.1 else None
                random.choice(cooldowns).acquire(user)
                random.choice([presence.join, presence.leave])(user, 1)

    async def work_on_loop() -> None:
        twins = [AsyncRateLimiter(client, name) for name in ALGORITHMS]
        cooldown, here = AsyncCooldown(client, 5), AsyncPresence._of(presence)

        async def task() -> None:
            while True:
                with contextlib.suppress(RedlaneError):
                    user = f"user{random.randrange(50)}"
                    await random.choice(twins).hit(user, random.choice(RATES))
                    await cooldown.acquire(user)
                    await random.choice([here.join, here.leave])(user, 2)

        await asyncio.gather(task(), task())

    for _ in range(2):
        threading.Thread(target=work).start()
    asyncio.run(work_on_loop())


# --- while the server is away -------------------------------------------------------


def outage(url: str) -> None:
    with Client[Any](url) as client:
        limiters = [RateLimiter(client, name) for name in ALGORITHMS[:-1]]

        async def hit_awaited(limiter: RateLimiter, rates: str) -> int:
            return sum([bool(await limiter.aio.hit("u", rates)) for _ in range(6)])

        async def hit_all(rates: str) -> dict[str, int]:
            said = {}
            for limiter in limiters:
                admitted = sum(bool(limiter.hit("u", rates)) for _ in range(6))
                admitted += await hit_awaited(limiter, rates)
                said[limiter.algorithm] = admitted
            return said

        print("ready", flush=True)
        for line in sys.stdin:
            word, _, rates = line.strip().partition(" ")
            if word == "hit":
                print(json.dumps(asyncio.run(hit_all(rates))), flush=True)
            elif word == "away":
                wait_until(lambda: client.health()["breaker"] == "open", "the outage")
                print('"away"', flush=True)
            else:
                wait_until(lambda: is_well(client), "the return")
                print('"well"', flush=True)


def fail(args: threading.ExceptHookArgs) -> None:
    """What one client meets is no secret of its thread."""
    threading.__excepthook__(args)
    os._exit(1)


if __name__ == "__main__":
    threading.excepthook = fail
    {"race": race, "use": use, "outage": outage}[sys.argv[1]](*sys.argv[2:])
