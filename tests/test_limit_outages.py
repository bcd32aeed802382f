"""Rate limits while the server is away, and when it is back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from children import forks_among_busy_threads, started
from outage_tools import Switch, wait_until
from redlane import Client, RateLimiter
from servers import PATIENT, Server
from test_limit_processes import PIPES, check_ttls, working

ALGORITHMS = ("sliding-window", "fixed-window", "sliding-log", "token-bucket")
RATES = "5/year"
TESTS = Path(__file__).resolve().parent


@pytest.fixture
def client(switch: Switch) -> Iterator[Client[Any]]:
    made = Client(switch.url, **PATIENT)
    made.ping()
    yield made
    made.close()


@pytest.fixture
def direct(redis_server: Server) -> Iterator[Client[Any]]:
    """Of another process, say: it reaches the server all the time."""
    with Client(redis_server.patient_url) as made:
        yield made


def admitted(limiter: RateLimiter, rates: str = RATES, tries: int = 12) -> int:
    return sum(bool(limiter.hit("u", rates)) for _ in range(tries))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_was_admitted_is_charged(
    algorithm: str, switch: Switch, client: Client[Any], direct: Client[Any]
) -> None:
    limiter, other = RateLimiter(client, algorithm), RateLimiter(direct, algorithm)
    assert limiter.hit("u", "5/year;50/year").remaining == 4
    switch.off(client)
    for _ in range(3):
        assert limiter.hit("u", "5/year;50/year")
    limiter.refund("u", "5/year;50/year")
    assert other.peek("u", RATES).remaining == 4
    switch.on(client)
    assert other.peek("u", RATES).remaining == 2
    assert other.peek("u", "50/year").remaining == 47
    assert all(direct.pttl(key) > 0 for key in direct.execute("KEYS", "*"))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_more_burst_at_the_start_and_none_at_the_end(
    algorithm: str, switch: Switch, client: Client[Any], direct: Client[Any]
) -> None:
    limiter = RateLimiter(client, algorithm)
    assert limiter.hit("u", RATES, cost=4)
    switch.off(client)
    assert admitted(limiter) == 5
    switch.on(client)
    assert admitted(limiter) == 0
    assert admitted(RateLimiter(direct, algorithm)) == 0
    assert not limiter.peek("u", RATES)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_outage_begins_anew(
    algorithm: str, switch: Switch, client: Client[Any], direct: Client[Any]
) -> None:
    limiter = RateLimiter(client, algorithm)
    for spent in (1, 2, 3):
        switch.off(client)
        assert limiter.hit("u", RATES).remaining == 4
        switch.on(client)
        assert limiter.peek("u", RATES).remaining == 5 - spent
    assert RateLimiter(direct, algorithm).peek("u", RATES).remaining == 2


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_counts_no_more_is_not_charged(
    algorithm: str, switch: Switch, client: Client[Any], direct: Client[Any]
) -> None:
    limiter = RateLimiter(client, algorithm)
    switch.off(client)
    assert limiter.hit("u", "1/second")
    wait_until(
        lambda: limiter.peek("u", "1/second").reset_after == 0, "the window's end"
    )
    switch.on(client)
    other = RateLimiter(direct, algorithm)
    assert other.peek("u", "1/second").reset_after == 0


def test_a_reset_meanwhile(
    switch: Switch, client: Client[Any], direct: Client[Any]
) -> None:
    limiter = RateLimiter(client, "gcra")
    assert limiter.hit("u", RATES, cost=5)
    switch.off(client)
    assert limiter.hit("u", RATES, cost=3)
    limiter.reset("u", RATES)
    assert limiter.hit("u", RATES, cost=2)
    switch.on(client)
    assert RateLimiter(direct, "gcra").peek("u", RATES).remaining == 3


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Calls a method of a limiter, or awaits that of its twin."""
    if request.param == "sync":
        yield lambda limiter, name, *args: getattr(limiter, name)(*args)
        return
    loop = asyncio.new_event_loop()

    async def call(limiter: RateLimiter, name: str, *args: Any) -> Any:
        return await getattr(limiter.aio, name)(*args)

    yield lambda limiter, name, *args: loop.run_until_complete(
        call(limiter, name, *args)
    )
    loop.close()


def test_allow_and_deny(
    ask: Any, switch: Switch, client: Client[Any], direct: Client[Any]
) -> None:
    allow = RateLimiter(client, on_error="allow")
    deny = RateLimiter(client, on_error="deny")
    memory = RateLimiter(client, on_error="memory")
    assert ask(allow, "hit", "u", RATES)
    assert ask(deny, "hit", "v", RATES)
    assert ask(memory, "hit", "w", RATES)
    switch.off(client)
    for limiter, name, admits in (
        (allow, "u", [True] * 12),
        (deny, "v", [False] * 12),
        (memory, "w", [True] * 5 + [False] * 7),
    ):
        said = [bool(ask(limiter, "hit", name, RATES)) for _ in range(12)]
        assert said == admits
        assert limiter.stats()["away"] == (5 + 1 if limiter is memory else 12)
    refused = ask(deny, "hit", "u", RATES)
    assert (refused.remaining, refused.retry_after) == (0, 1.0)
    assert not ask(deny, "peek", "u", RATES)
    assert not ask(deny, "refund", "u", RATES)
    assert ask(allow, "refund", "u", RATES)
    for limiter in (allow, deny):
        assert ask(limiter, "reset", "x", RATES) is False
    switch.on(client)
    assert RateLimiter(direct).peek("u", RATES).remaining == 4
    assert RateLimiter(direct).peek("w", RATES).remaining == 0
    wait_until(lambda: ask(deny, "hit", "v", RATES), "the end of what is remembered")
    assert ask(deny, "peek", "v", RATES).remaining == 3


def test_what_is_known_to_be_blocked_stays_blocked(
    ask: Any, switch: Switch, client: Client[Any]
) -> None:
    """Through the beginning of an outage, for the second that it is remembered."""
    limiters = [RateLimiter(client, name) for name in ALGORITHMS]
    for i in range(50):  # until the machine was quick enough
        user = f"u{i}"
        for limiter in limiters:
            assert ask(limiter, "hit", user, RATES, 5)
        known = time.monotonic()
        refused = [ask(limiter, "hit", user, RATES) for limiter in limiters]
        assert not any(refused)
        switch.proxy.refuse = True
        switch.proxy.reset_all()
        again = [ask(one, "hit", user, RATES) for one in limiters for _ in range(20)]
        quick = time.monotonic() - known < 0.99
        if quick:
            assert not any(again)
            assert all(
                0 < one.retry_after <= refused[k // 20].retry_after
                for k, one in enumerate(again)
            )
            assert {limiter.stats()["away"] for limiter in limiters} == {0}
        switch.off(client)
        for limiter in limiters:  # after it the engine decides: one more burst
            wait_until(
                lambda user=user, limiter=limiter: ask(limiter, "hit", user, RATES),
                "the end of that second",
            )
            said = [bool(ask(limiter, "hit", user, RATES)) for _ in range(12)]
            assert sum(said) == 4
        switch.on(client)
        assert not any(ask(limiter, "peek", user, RATES) for limiter in limiters)
        if quick:
            return
    pytest.fail("no outage within a second")


def test_each_process_grants_one_more_burst(server_binary: str) -> None:
    """At a kill of the server, none at its return; all of it is charged."""
    server = Server(
        "--appendonly", "yes", "--appendfsync", "always", binary=server_binary
    )
    with contextlib.closing(server):
        server.start()
        with working("outage", server.patient_url, 3) as processes:
            before = processes.ask("hit 5/year")
            for name in ALGORITHMS:
                assert sum(said[name] for said in before) == 5
            assert [said["gcra"] for said in before if "gcra" in said] == []
            some = processes.ask("hit 100/year")
            assert {count for said in some for count in said.values()} == {12}
            time.sleep(1.1)  # what they remember to be blocked ends
            server.kill()
            during = processes.ask("hit 5/year")
            assert {count for said in during for count in said.values()} == {5}
            assert processes.ask("hit 5/year") == [dict.fromkeys(ALGORITHMS, 0)] * 3
            assert {
                count
                for said in processes.ask("hit 100/year")
                for count in said.values()
            } == {12}
            assert processes.ask("away") == ["away"] * 3
            server.start()
            assert processes.ask("well") == ["well"] * 3
            after = processes.ask("hit 5/year")
            assert {count for said in after for count in said.values()} == {0}
        check_ttls(server)
        with Client[Any](server.patient_url) as client:
            for name in ALGORITHMS:
                limiter = RateLimiter(client, name)
                assert limiter.peek("u", "5/year").remaining == 0
                # Two rounds of twelve in each of three processes.
                assert limiter.peek("u", "100/year").remaining == 100 - 72


FORKED = """
import os, sys, time
from outage_tools import is_well, wait_until
from redlane import Client, RateLimiter

client = Client(sys.argv[1])
limiters = [RateLimiter(client, name) for name in sys.argv[2:]]

def hit(times):
    return [sum(bool(one.hit("u", "5/year")) for _ in range(times)) for one in limiters]

def told(text):
    print(text, flush=True)

assert hit(1) == [1] * len(limiters)
told("warm")
sys.stdin.readline()
assert hit(2) == [2] * len(limiters)
child = os.fork()
if child == 0:
    assert hit(12) == [3] * len(limiters), "it has what the engine held"
    assert hit(12) == [0] * len(limiters)
    wait_until(lambda: is_well(client), "the return, to the child")
    assert hit(12) == [0] * len(limiters)
    os._exit(0)
assert hit(12) == [3] * len(limiters)
told("forked")
wait_until(lambda: is_well(client), "the return, to the parent")
assert hit(12) == [0] * len(limiters)
assert os.waitpid(child, 0)[1] == 0
told("done")
"""


@forks_among_busy_threads
def test_a_fork_during_an_outage(server_binary: str) -> None:
    """As gunicorn's preload makes one: the child goes on with a copy of the engine, and
    charges what it admits itself, no less and no more."""
    server = Server(
        "--appendonly", "yes", "--appendfsync", "always", binary=server_binary
    )
    with contextlib.closing(server):
        server.start()
        command = [sys.executable, "-c", FORKED, server.patient_url, *ALGORITHMS]
        env = {"PYTHONPATH": str(TESTS)}
        with started(command, **PIPES, env={**os.environ, **env}) as process:
            assert process.stdin
            assert process.stdout
            assert process.stdout.readline() == "warm\n"
            with Client[Any](server.patient_url) as client:
                for name in ALGORITHMS:  # room to see what is charged
                    RateLimiter(client, name).hit("u", "100/year")
            server.kill()
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "forked\n"
            server.start()
            assert process.stdout.readline() == "done\n"
        check_ttls(server)
        with Client[Any](server.patient_url) as client:
            for name in ALGORITHMS:
                assert RateLimiter(client, name).peek("u", "5/year").remaining == 0


def test_a_server_that_takes_no_writes(fresh_server: Server) -> None:
    with Client(fresh_server.patient_url) as client:
        limiter = RateLimiter(client)
        assert limiter.hit("u", RATES)
        client.execute("CONFIG", "SET", "maxmemory", "1")
        assert admitted(limiter) == 5
        client.execute("CONFIG", "SET", "maxmemory", "0")
        wait_until(lambda: client.health()["write_breaker"] == "closed", "writes again")
        assert admitted(limiter) == 0


def test_readable_keys_are_charged(
    switch: Switch, client: Client[Any], direct: Client[Any]
) -> None:
    limiter = RateLimiter(client, "fixed-window", prefix="ratelimit")
    switch.off(client)
    assert limiter.hit("u", RATES, cost=2)
    switch.on(client)
    [key] = direct.execute("KEYS", "*")
    index = int(time.time()) // (360 * 86400)
    assert key == b"ratelimit:u:%d" % index
    assert direct.get(key) == b"2"
    assert direct.pttl(key) > 0
