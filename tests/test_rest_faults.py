"""A REST server that is slow, away, over its quota, or refuses: what a client and its
tools make of it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
from outage_tools import is_well, messages, wait_until
from redlane import (
    AuthenticationError,
    Cache,
    Client,
    ConnectionError,
    Cooldown,
    Counter,
    PermissionDeniedError,
    Presence,
    RateLimiter,
    ReplyError,
    TimeoutError,
)
from servers import PATIENT
from upstash_gateway import Gateway


@pytest.fixture
def client(rest: Gateway) -> Iterator[Client[bytes]]:
    with Client(rest.url, token=rest.token, **PATIENT) as made:
        yield made


def lost_is_found(client: Client[Any]) -> None:
    wait_until(lambda: is_well(client), "the return")


# --- one request ------------------------------------------------------------------


def test_the_deadline_is_total(rest: Gateway) -> None:
    with Client(rest.url, token=rest.token, timeout=0.5) as client:
        client.ping()
        rest.delay = 30
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            client.get("k")
        assert 0.4 < time.monotonic() - began < 10
        rest.delay = 0


def test_only_what_changes_nothing_is_sent_again(
    client: Client[bytes], rest: Gateway
) -> None:
    client.set("k", "v")
    rest.requests.clear()
    rest.cut()
    assert client.get("k") == b"v"
    assert rest.count == 2
    rest.cut()
    with pytest.raises(ConnectionError):
        client.incr("n")
    lost_is_found(client)
    assert client.get("n") is None
    assert [body for _, body in rest.requests].count(["INCRBY", "n", "1"]) == 1


def test_an_error_of_a_command_is_no_outage(
    client: Client[bytes], rest: Gateway
) -> None:
    rest.refuse(400, "ERR something about this one")
    with pytest.raises(ReplyError, match="something about"):
        client.get("k")
    assert client.get("k") is None
    assert rest.count == 2


@pytest.mark.parametrize(
    ("status", "text", "error", "shown"),
    [
        (401, "WRONGPASS invalid token", AuthenticationError, "WRONGPASS invalid"),
        (401, "Unauthorized", AuthenticationError, "WRONGPASS HTTP 401"),
        (403, "no", PermissionDeniedError, "NOPERM HTTP 403: no"),
        (404, "no", ConnectionError, "HTTP 404: no"),
        (302, "elsewhere", ConnectionError, "HTTP 302"),
        (429, "slow down", ConnectionError, "HTTP 429: slow down"),
        (500, "oops", ConnectionError, "HTTP 500: oops"),
        (502, "oops", ConnectionError, "HTTP 502"),
        (503, "later", ConnectionError, "HTTP 503: later"),
        (400, "ERR max daily request limit exceeded", ConnectionError, "max daily"),
        (400, "ERR max requests limit exceeded", ConnectionError, "max requests"),
        (413, "too large", ReplyError, "HTTP 413"),
    ],
)
def test_answers_that_are_none(
    rest: Gateway, status: int, text: str, error: type[Exception], shown: str
) -> None:
    with Client(rest.url, token=rest.token, **PATIENT) as client:
        rest.refuse(status, text)
        with pytest.raises(error, match=shown):
            client.incr("n")
        rest.be_kind()
    with Client(rest.url, token=rest.token, fallback="memory", **PATIENT) as client:
        rest.refuse(status, text, times=1)
        if status == 413:
            return
        assert client.incr("n") == 1  # the engine answers


def test_a_refused_token_is_loud_and_not_shown(
    rest: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    with Client(rest.url, token="canary-wrong-token", **PATIENT) as client:
        with pytest.raises(AuthenticationError) as caught:
            client.get("k")
        assert messages(caplog.records, "WRONGPASS")
        assert "canary" not in caplog.text + str(caught.value) + repr(client)
        assert "canary" not in str(client.health())


# --- outages ----------------------------------------------------------------------


def test_tools_go_on_and_the_journal_is_replayed(rest: Gateway) -> None:
    with Client(rest.url, token=rest.token, **PATIENT) as client:
        cache = Cache(client, prefix="c")
        counter = Counter(client, "total")
        cache.set("old", "value")
        client.set("total", 0)
        assert counter.increment() == 1
        rest.refuse(503, "away", times=1000)
        assert cache.get("old") is None
        cache.delete("old")
        counter.increment(amount=5)
        assert client.health()["breaker"] == "open"
        rest.be_kind()
        lost_is_found(client)
        assert cache.get("old") is None
        assert counter.get() == 6
        assert client.get("c:old") is None


def test_one_failure_asks_and_heals(client: Client[bytes], rest: Gateway) -> None:
    client.ping()
    rest.refuse(502, "a moment")
    with pytest.raises(ConnectionError):
        client.set("k", "v")
    lost_is_found(client)
    assert client.set("k", "v") is True


def test_a_quota_is_not_asked_for_each_second(rest: Gateway) -> None:
    with Client(rest.url, token=rest.token, **PATIENT) as client:
        rest.refuse(429, "quota", times=1000, retry_after="3600")
        with pytest.raises(ConnectionError):
            client.get("k")
        asked = rest.count
        for _ in range(20):
            with pytest.raises(ConnectionError, match="quota"):
                client.get("k")
            time.sleep(0.1)
        assert rest.count == asked


def test_nothing_is_asked_while_all_is_well(
    client: Client[bytes], rest: Gateway
) -> None:
    client.ping()
    asked = rest.count
    time.sleep(1.5)
    assert rest.count == asked


# --- all tools --------------------------------------------------------------------


def test_all_tools(rest: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with Client(rest.url, token=rest.token, **PATIENT) as client:
        cache = Cache(client, prefix="c")
        cache.set("k", {"a": [1, "é"]}, ttl=60)
        assert cache.get("k") == {"a": [1, "é"]}
        assert cache.get_or_set("computed", lambda: 5, ttl=60) == 5
        assert cache.get("computed") == 5
        cache.set("t", 1, tags=["x"])
        assert cache.get("t") == 1
        cache.invalidate_tags("x")
        assert cache.get("t") is None
        assert cache.invalidate("*") >= 2
        pickled = Cache(client, prefix="p", serializer="pickle", seal="k" * 16)
        pickled.set("k", {1, 2})
        assert pickled.get("k") == {1, 2}
        client.set("n", 1)
        assert Counter(client, "n").increment(amount=2) == 3
        cooldown = Cooldown(client, 60)
        assert cooldown.acquire("u").ready
        assert not cooldown.acquire("u").ready
        limiter = RateLimiter(client)
        hits = [limiter.hit("u", "2/minute").allowed for _ in range(3)]
        assert hits == [True, True, False]
        with Presence(client, "room", lease=60) as presence:
            presence.join("ann", "one")
            assert presence.members() == {"ann"}
    assert [r.getMessage() for r in caplog.records if r.name == "redlane"] == []


def test_values_that_are_near(rest: Gateway) -> None:
    with Client(rest.url, token=rest.token, **PATIENT) as client:
        client.set("far:k", '"v"')
        client.set("near:k", '"v"', ex=3600)
        far, near = (
            Cache(client, prefix="far"),
            Cache(client, prefix="near", near_ttl=60),
        )
        for cache in (far, near):
            assert [cache.get("k") for _ in range(3)] == ["v"] * 3
        read = [str(body) for _, body in rest.requests if "SET" not in str(body)]
        assert sum("far:k" in body for body in read) == 3
        assert sum("near:k" in body for body in read) <= 2  # the GET with its PTTL
        near.set("k", "w")
        assert near.get("k") == "w"


def test_a_near_value_lives_no_longer(rest: Gateway) -> None:
    with Client(rest.url, token=rest.token, **PATIENT) as client:
        client.set("near:k", '"v"', ex=3600)
        cache = Cache(client, prefix="near", near_ttl=0.2)
        assert cache.get("k") == "v"
        client.execute("SETRANGE", "near:k", 1, "w")
        wait_until(lambda: cache.get("k") == "w", "the end of the near value")


def test_async_faults(rest: Gateway) -> None:
    async def main() -> None:
        with Client(rest.url, token=rest.token, **PATIENT) as owner:
            client = owner.aio
            await client.set("k", "v")
            rest.cut()
            assert await client.get("k") == b"v"
            rest.refuse(401, "WRONGPASS no")
            with pytest.raises(AuthenticationError):
                await client.get("k")
            await asyncio.to_thread(lost_is_found, owner)
            rest.refuse(503, "later")
            async with client.pipeline(transaction=True) as pipeline:
                pipeline.incr("n")
                with pytest.raises(ConnectionError, match="HTTP 503"):
                    await pipeline.execute()
            await asyncio.to_thread(lost_is_found, owner)
            assert await client.get("n") is None

    asyncio.run(main())
