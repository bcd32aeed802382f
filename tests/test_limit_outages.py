"""Rate limits while the server is away, and when it is back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from outage_tools import Switch, wait_until
from redlane import Client, RateLimiter
from servers import PATIENT, Server

ALGORITHMS = ("sliding-window", "fixed-window", "sliding-log", "token-bucket")
RATES = "5/year"


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


def test_allow_and_deny(
    switch: Switch, client: Client[Any], direct: Client[Any]
) -> None:
    allow = RateLimiter(client, on_error="allow")
    deny = RateLimiter(client, on_error="deny")
    assert allow.hit("u", RATES)
    assert deny.hit("v", RATES)
    switch.off(client)
    assert admitted(allow) == 12
    assert admitted(deny) == 0
    refused = deny.hit("u", RATES)
    assert (refused.remaining, refused.retry_after) == (0, 1.0)
    assert not deny.peek("u", RATES)
    switch.on(client)
    assert RateLimiter(direct).peek("u", RATES).remaining == 4
    assert deny.hit("v", RATES).remaining == 3


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
