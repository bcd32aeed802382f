"""Limiters with a batch: fewer round trips, and never more than the limit."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redlane
from aio import Runner
from children import started
from outage_tools import Switch, wait_until
from redlane import AsyncRateLimiter, Client, RateLimiter
from servers import PATIENT, Server

ALGORITHMS: tuple[Any, ...] = ("sliding-window", "fixed-window")
PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}


@pytest.fixture
def server(redis_server: Server) -> Iterator[Client[Any]]:
    with Client(redis_server.patient_url) as made:
        made.flushdb()
        yield made


@pytest.fixture(params=ALGORITHMS)
def algorithm(request: pytest.FixtureRequest) -> Any:
    return request.param


def charged(client: Any, algorithm: Any, rates: str = "1000/year") -> int:
    """What the server has counted."""
    decision = RateLimiter(client, algorithm).peek("u", rates)
    return decision.limit - decision.remaining


def hit_ahead(limiter: RateLimiter, rates: str = "1000/year") -> redlane.Decision:
    """A hit of what was taken in advance, with more of that left."""
    while True:
        before = limiter.stats()["ahead"]
        decision = limiter.hit("u", rates)
        assert decision
        if limiter.stats()["ahead"] > before:
            return decision


def test_it_takes_fewer_round_trips(server: Client[Any], algorithm: Any) -> None:
    limiter = RateLimiter(server, algorithm, batch=100)
    admitted = sum(bool(limiter.hit("u", "1000/year")) for _ in range(1200))
    assert charged(server, algorithm) == 1000
    assert 500 < admitted <= 1000  # all, where the machine does not stand still
    stats = limiter.stats()
    assert 0 < stats["ahead"] < admitted
    assert (stats["allowed"], stats["refused"]) == (admitted, 1200 - admitted)
    assert all(server.pttl(key) > 0 for key in server.scan_iter())


def test_who_hits_once_is_charged_once(server: Client[Any], algorithm: Any) -> None:
    limiter = RateLimiter(server, algorithm, batch=100)
    assert limiter.hit("u", "1000/year").remaining == 999
    assert charged(server, algorithm) == 1


def test_decisions(server: Client[Any], algorithm: Any) -> None:
    limiter = RateLimiter(server, algorithm, batch=50)
    rates = "1000/year;100000/year"
    seen = [limiter.hit("u", rates) for _ in range(300)]
    left = [decision.remaining for decision in seen]
    assert left == sorted(set(left), reverse=True)
    assert all(d.allowed and d.retry_after == 0 < d.reset_after for d in seen)
    assert all(len(d.limits) == 2 and d.limit == 1000 for d in seen)
    assert all(d.limits[1].remaining - d.limits[0].remaining == 99_000 for d in seen)
    assert charged(server, algorithm) == charged(server, algorithm, "100000/year")
    assert limiter.stats()["ahead"] > 0


def test_cost(server: Client[Any], algorithm: Any) -> None:
    limiter = RateLimiter(server, algorithm, batch=50)
    spent = 0
    while True:
        decision = limiter.hit("u", "1000/year", cost=7)
        if not decision:
            break
        spent += 7
    assert 300 < spent <= charged(server, algorithm) <= 1000
    assert limiter.stats()["ahead"] > 0
    with pytest.raises(ValueError, match="cost"):
        limiter.hit("u", "1000/year", cost=1001)


def test_peek_knows_what_is_held(server: Client[Any], algorithm: Any) -> None:
    limiter = RateLimiter(server, algorithm, batch=50)

    def agrees() -> bool:  # but where the time of what is held ends between them
        hit = hit_ahead(limiter)
        return hit.remaining == limiter.peek("u", "1000/year").remaining

    wait_until(agrees, "a peek that knows")
    others = RateLimiter(server, algorithm)

    def may_spend() -> bool:  # likewise
        others.reset("u", "1000/year")
        hit_ahead(limiter)
        others.hit("u", "1000/year", cost=others.peek("u", "1000/year").remaining)
        peeked, hit = limiter.peek("u", "1000/year"), limiter.hit("u", "1000/year")
        return peeked.allowed and hit.allowed and not others.peek("u", "1000/year")

    wait_until(may_spend, "a peek of what is held alone")


def test_refund(server: Client[Any], algorithm: Any) -> None:
    limiter = RateLimiter(server, algorithm, batch=50)
    hit_ahead(limiter)
    before = charged(server, algorithm)
    limiter.refund("u", "1000/year", cost=3)
    assert charged(server, algorithm) == before - 3


def test_reset(server: Client[Any], algorithm: Any) -> None:
    limiter = RateLimiter(server, algorithm, batch=50)
    hit_ahead(limiter)
    assert limiter.reset("u", "1000/year") is True
    ahead = limiter.stats()["ahead"]
    assert limiter.hit("u", "1000/year").remaining == 999
    assert limiter.stats()["ahead"] == ahead
    assert charged(server, algorithm) == 1


def test_a_reset_of_what_is_being_taken(
    server: Client[Any], algorithm: Any, run: Runner
) -> None:
    async def main() -> None:
        async with redlane.AsyncClient(server.url, **PATIENT) as client:
            limiter = AsyncRateLimiter(client, algorithm, batch=50)
            await limiter.hit("u", "1000/year")
            taken, _ = await asyncio.gather(
                limiter.hit("u", "1000/year"), limiter.reset("u", "1000/year")
            )
            assert taken
            assert (await limiter.hit("u", "1000/year")).remaining == 999
            assert (await limiter.stats())["ahead"] == 0

    run(main())


def test_windows_end_what_was_taken_in_them(
    server: Client[Any], algorithm: Any
) -> None:
    limiter = RateLimiter(server, algorithm, batch=50)
    hit_ahead(limiter, "1000/second")
    second = server.execute("TIME")[0]
    wait_until(lambda: server.execute("TIME")[0] != second, "the next window")
    ahead = limiter.stats()["ahead"]
    limiter.hit("u", "1000/second")
    assert limiter.stats()["ahead"] == ahead


def test_a_child_spends_nothing_of_its_parents(
    server: Client[Any], algorithm: Any
) -> None:
    limiter = RateLimiter(server, algorithm, batch=50)
    hit_ahead(limiter)
    pid = os.fork()
    if not pid:
        before = limiter.stats()["ahead"]
        allowed = bool(limiter.hit("u", "1000/year"))
        os._exit(0 if allowed and limiter.stats()["ahead"] == before else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert limiter.hit("u", "1000/year")


PROGRAM = """
import sys, threading
from redlane import Client, RateLimiter

url, algorithm = sys.argv[1:]
limiter = RateLimiter(Client(url), algorithm, batch=20)
limiter.peek("u", "500/year")
print("ready", flush=True)
sys.stdin.readline()
admitted = []
def work():
    admitted.append(sum(bool(limiter.hit("u", "500/year")) for _ in range(60)))
threads = [threading.Thread(target=work) for _ in range(6)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(sum(admitted), limiter.stats()["ahead"], flush=True)
"""


def test_processes_never_pass_the_limit(redis_server: Server, algorithm: Any) -> None:
    redis_server.cli("FLUSHALL")
    command = [sys.executable, "-c", PROGRAM, redis_server.patient_url, algorithm]
    with ExitStack() as stack:
        workers = [stack.enter_context(started(command, **PIPES)) for _ in range(4)]
        for worker in workers:
            assert worker.stdout
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:
            assert worker.stdin
            worker.stdin.write("\n")
            worker.stdin.flush()
        told = [
            [int(number) for number in worker.stdout.readline().split()]
            for worker in workers
            if worker.stdout
        ]
    assert 250 < sum(admitted for admitted, _ in told) <= 500
    assert sum(ahead for _, ahead in told) > 0
    with Client(redis_server.patient_url) as client:
        assert charged(client, algorithm, "500/year") == 500


def test_threads_hold_one_batch(server: Client[Any], algorithm: Any) -> None:
    """One asks for more at a time: no more than a batch is held, however many hit."""
    limiter = RateLimiter(server, algorithm, batch=100)
    began = time.monotonic()
    limiter.hit("u", "100000/year")
    admitted: list[int] = []

    def work() -> None:
        admitted.append(sum(bool(limiter.hit("u", "100000/year")) for _ in range(50)))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(admitted) == 400
    # What is held, and what was lost: a batch at most whenever a second has passed.
    seconds = time.monotonic() - began
    unspent = charged(server, algorithm, "100000/year") - 401
    assert 0 <= unspent <= 100 * (1 + seconds)


def test_awaited(server: Client[Any], algorithm: Any, run: Runner) -> None:
    async def main() -> None:
        async with redlane.AsyncClient(server.url, **PATIENT) as client:
            limiter = AsyncRateLimiter(client, algorithm, batch=50)
            assert limiter.batch == 50
            admitted = 0
            for _ in range(12):
                hits = [limiter.hit("u", "1000/year") for _ in range(100)]
                admitted += sum(map(bool, await asyncio.gather(*hits)))
            assert 500 < admitted <= 1000
            assert (await limiter.stats())["ahead"] > 0

    run(main())
    assert charged(server, algorithm) == 1000


def test_a_hit_that_is_cancelled(server: Client[Any], run: Runner) -> None:
    """The next one may take a batch again."""

    async def main() -> None:
        async with redlane.AsyncClient(server.url, **PATIENT) as client:
            limiter = AsyncRateLimiter(client, batch=50)
            for _ in range(30):
                await limiter.hit("u", "100000/year")
                task = asyncio.ensure_future(limiter.hit("u", "100000/year"))
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            before = (await limiter.stats())["ahead"]
            for _ in range(2000):
                await limiter.hit("u", "100000/year")
            assert (await limiter.stats())["ahead"] > before

    run(main())


@pytest.mark.parametrize("on_error", ["memory", "allow", "deny"])
def test_outages(
    switch: Switch, redis_server: Server, algorithm: Any, on_error: Any
) -> None:
    client = Client(switch.url, **PATIENT)
    limiter = RateLimiter(client, algorithm, on_error, batch=50)
    admitted = 1
    hit_ahead(limiter)
    admitted = limiter.stats()["allowed"]
    switch.off(client)
    hits = [limiter.hit("u", "1000/year") for _ in range(300)]
    admitted += sum(map(bool, hits))
    if on_error != "deny":
        assert all(hits)
    else:  # but for what was taken before, and charged
        assert sum(map(bool, hits)) < 50
        assert not hits[-1]
        assert hits[-1].retry_after == 1.0
    switch.on(client)
    with Client(redis_server.patient_url) as direct:
        if on_error != "allow":
            assert admitted <= charged(direct, algorithm) <= admitted + 100
        assert limiter.hit("u", "1000/year")
    client.close()


def test_in_the_engine(algorithm: Any) -> None:
    limiter = RateLimiter("memory://", algorithm, batch=50)
    assert sum(bool(limiter.hit("u", "100/year")) for _ in range(120)) == 100
    assert limiter.stats()["ahead"] == 0


def test_a_client_that_is_closed(server: Client[Any], algorithm: Any) -> None:
    client = Client(server.url, **PATIENT)
    limiter = RateLimiter(client, algorithm, batch=50)
    hit_ahead(limiter)
    client.close()
    with pytest.raises(redlane.ConnectionError, match="closed"):
        limiter.hit("u", "1000/year")


@pytest.mark.parametrize("algorithm", ["sliding-log", "moving-window", "gcra"])
def test_where_it_would_not_be_sound(algorithm: Any) -> None:
    with pytest.raises(redlane.ConfigurationError, match="batch is for"):
        RateLimiter("memory://", algorithm, batch=50)


@pytest.mark.parametrize("batch", [0, 1, -5, 1_000_001, 2**80])
def test_what_is_no_batch(batch: int) -> None:
    for make in (RateLimiter, AsyncRateLimiter):
        with pytest.raises(redlane.ConfigurationError, match="batch must be"):
            make("memory://", batch=batch)


@pytest.mark.parametrize("batch", [True, 2.0, "5", float("nan")])
def test_what_no_batch_is_made_of(batch: Any) -> None:
    with pytest.raises(TypeError, match="batch must be"):
        RateLimiter("memory://", batch=batch)


def test_what_is_shown() -> None:
    assert RateLimiter("memory://").batch is None
    limiter = RateLimiter("memory://", batch=2)
    assert (limiter.batch, limiter.aio.batch) == (2, 2)
