"""RateLimiter on each executor: what it says, what it refuses, what it leaves."""

from __future__ import annotations

import asyncio
import gc
import re
import sys
import threading
import time
from typing import Any

import pytest
from redlane import (
    AsyncRateLimiter,
    Client,
    ConfigurationError,
    Decision,
    RateLimiter,
    RateLimitExceeded,
    RedlaneError,
)

ALGORITHMS = ("sliding-window", "fixed-window", "sliding-log", "token-bucket", "gcra")
YEAR = "/year"  # a window that no test sees end


@pytest.fixture(params=ALGORITHMS)
def limiter(request: pytest.FixtureRequest, client: Any) -> RateLimiter:
    return RateLimiter(client, request.param)


def test_admits_as_many_as_the_limit(limiter: RateLimiter) -> None:
    said = [limiter.hit("ann", "3" + YEAR) for _ in range(5)]
    assert [bool(one) for one in said] == [True, True, True, False, False]
    assert [one.remaining for one in said] == [2, 1, 0, 0, 0]
    assert all(one.limit == 3 for one in said)
    assert said[0].retry_after == 0.0
    assert 0 < said[3].retry_after <= said[3].reset_after
    assert limiter.hit("bob", "3" + YEAR).allowed


def test_all_or_nothing(limiter: RateLimiter) -> None:
    rates = "5/year;2/day"
    assert limiter.hit("u", rates, cost=2).remaining == 0
    refused = limiter.hit("u", rates)
    assert not refused
    wide, tight = refused.limits
    assert (wide.allowed, wide.remaining, wide.limit) == (True, 3, 5)
    assert (tight.allowed, tight.remaining, tight.window) == (False, 0, 86400)
    assert refused.limit == 2
    assert refused.retry_after == tight.retry_after > 0
    assert limiter.peek("u", "5" + YEAR, cost=3)
    assert not limiter.peek("u", "5" + YEAR, cost=4)


def test_peek_charges_nothing(limiter: RateLimiter) -> None:
    for _ in range(5):
        assert limiter.peek("u", "2" + YEAR).remaining == 2
    assert limiter.hit("u", "2" + YEAR, cost=2)
    assert not limiter.peek("u", "2" + YEAR)


def test_refund_and_reset(limiter: RateLimiter) -> None:
    rates = "4" + YEAR
    assert limiter.hit("u", rates, cost=4)
    assert not limiter.hit("u", rates)
    assert limiter.refund("u", rates, cost=3).remaining == 3
    assert limiter.hit("u", rates, cost=3)  # what was known to be blocked is forgotten
    assert not limiter.hit("u", rates)
    assert limiter.reset("u", rates) is True
    assert limiter.reset("u", rates) is False
    assert limiter.hit("u", rates, cost=4)
    assert limiter.refund("u", rates, cost=4).remaining == 4
    assert limiter.refund("u", rates).remaining == 4


def test_what_is_blocked_admits_a_smaller_cost(limiter: RateLimiter) -> None:
    rates = "4" + YEAR
    assert limiter.hit("u", rates, cost=2)
    assert not limiter.hit("u", rates, cost=3)
    assert not limiter.hit("u", rates, cost=4)
    assert limiter.hit("u", rates, cost=2)


def test_no_key_is_without_ttl(limiter: RateLimiter, client: Any) -> None:
    for rates in ("3/second", "3" + YEAR, "5/minute;7/hour;9/day"):
        for cost in (1, 2, 3, 1):
            limiter.hit("u", rates, cost)
            limiter.peek("u", rates)
        limiter.refund("u", rates)
    keys = client.execute("KEYS", "*")
    assert keys
    assert all(client.pttl(key) != -1 for key in keys)


def test_readable_keys(client: Any) -> None:
    limiter = RateLimiter(client, "fixed-window", prefix="ratelimit")
    for _ in range(60):
        before = int(time.time()) // 3600
        assert limiter.hit("user:7", "100/hour", cost=2)
        if int(time.time()) // 3600 == before:
            break
    [key] = client.execute("KEYS", "*")
    assert key.decode().startswith("ratelimit:user:7:")
    if client.execute("PING"):  # the engine's and the server's clock are one here
        assert abs(int(key.rsplit(b":", 1)[1]) - before) <= 1
    assert client.get(key) == b"2"
    assert 0 < client.ttl(key) <= 3601
    with pytest.raises(ConfigurationError, match="one key"):
        limiter.hit("user:7", "5/hour;9/hour")


def test_keys_of_an_identity_share_a_slot(client: Any) -> None:
    limiter = RateLimiter(client, "gcra", prefix="p")
    limiter.hit("a}b%", "5/hour;9/day burst 3")
    keys = sorted(client.execute("KEYS", "*"))
    assert keys == [b"p:{a%7Db%25}:b5/3600", b"p:{a%7Db%25}:b9/86400+3"]


@pytest.mark.parametrize("identity", ["x" * 201, "ü" * 150, "y" * 70_000, b"\0\xff", 7])
def test_any_identity(limiter: RateLimiter, client: Any, identity: Any) -> None:
    assert limiter.hit(identity, "1" + YEAR)
    assert not limiter.hit(identity, "1" + YEAR)
    assert limiter.hit("another", "1" + YEAR)
    assert all(len(key) < 400 for key in client.execute("KEYS", "*"))


def test_a_hashed_identity_is_in_no_key(client: Any, caplog: Any) -> None:
    canary = "sk-canary-7f3a"
    limiter = RateLimiter(client, hashed=True)
    with caplog.at_level("DEBUG", "redlane"):
        assert limiter.hit(canary, "1" + YEAR)
        decision = limiter.hit(canary, "1" + YEAR)
        limiter.reset(canary, "1" + YEAR)
        limiter.hit(canary, "1" + YEAR)
    shown = [caplog.text, repr(decision), repr(limiter), repr(limiter.aio)]
    shown += [str(client.execute("KEYS", "*")), str(RateLimitExceeded(decision))]
    assert not [text for text in shown if canary in text]


BAD_RATES = [
    *("", "5", "5/fortnight", "0/minute", "5/minute;", "x" * 2000, "9" * 30 + "/day"),
    *("5/minute burst 6", "1/s;2/s;3/s;4/s;5/s;6/s;7/s;8/s;9/s", "5/\ud800"),
    *(None, 5, 5.0, b"5/minute", [], [5], (5,), (5, 60, 1, 1), (5, 60.0), (True, 60)),
    *((0, 60), (5, 0), (-5, 60), (1 << 70, 60), (5, 1 << 40), {"5/minute"}),
]


@pytest.mark.parametrize("rates", BAD_RATES, ids=repr)
def test_bad_rates_are_refused(rates: Any) -> None:
    nobody = Client("redis://127.0.0.1:1")  # nothing is sent
    limiter = RateLimiter(nobody)
    for method in (limiter.hit, limiter.peek, limiter.refund, limiter.reset):
        with pytest.raises(ConfigurationError) as caught:
            method("u", rates)
        assert len(str(caught.value)) < 300
    with pytest.raises(ConfigurationError):
        limiter.limit(rates)


def test_the_bad_text_is_shown() -> None:
    with pytest.raises(ConfigurationError, match="'5/fortnight'"):
        RateLimiter("memory://").hit("u", "5/fortnight")


@pytest.mark.parametrize("cost", [0, -1, 4, 1 << 70, -(1 << 70)])
def test_bad_costs_are_refused(limiter: RateLimiter, cost: int) -> None:
    with pytest.raises(ValueError, match="cost"):
        limiter.hit("u", "3" + YEAR, cost)
    assert limiter.peek("u", "3" + YEAR).remaining == 3


@pytest.mark.parametrize("cost", [1.0, True, "1", None])
def test_costs_of_another_type(limiter: RateLimiter, cost: Any) -> None:
    with pytest.raises(TypeError, match="cost"):
        limiter.hit("u", "3" + YEAR, cost)


@pytest.mark.parametrize("identity", [None, 1.5, True, ["u"], object()])
def test_identities_of_another_type(limiter: RateLimiter, identity: Any) -> None:
    with pytest.raises(TypeError, match="identity"):
        limiter.hit(identity, "3" + YEAR)
    with pytest.raises(ValueError, match="empty"):
        limiter.hit("", "3" + YEAR)
    with pytest.raises(UnicodeEncodeError):
        limiter.hit("\ud800", "3" + YEAR)


@pytest.mark.parametrize(
    "options",
    [
        {"algorithm": "leaky"},
        {"algorithm": 5},
        {"on_error": "raise"},
        {"prefix": ""},
        {"prefix": "x" * 257},
    ],
    ids=repr,
)
def test_bad_options_are_refused(options: Any) -> None:
    with pytest.raises(ConfigurationError):
        RateLimiter("memory://", **options)


def test_forms_of_rates(client: Any) -> None:
    limiter = RateLimiter(client, "gcra")
    for rates in (
        (5, 60),
        ["5/minute"],
        [(5, 60), "5 per 60 seconds"],
        " 5 PER Minute",
    ):
        assert len(limiter.peek("u", rates).limits) == 1
    assert limiter.peek("u", (5, 60, 20)).remaining == 20
    assert limiter.peek("u", "5/minute burst 20;9/hour").limits[0].remaining == 20


def test_many_rates_and_collisions_of_their_texts(client: Any) -> None:
    limiter = RateLimiter(client)
    for round_ in range(2):
        for i in range(1, 200):
            assert limiter.peek("u", f"{i}/hour").limit == i, round_


def test_a_window_passes(limiter: RateLimiter) -> None:
    end = time.monotonic() + 30
    limiter.hit("u", "1/second")
    refused = admitted = 0
    while time.monotonic() < end and not (refused and admitted):
        decision = limiter.hit("u", "1/second")
        refused += not decision
        admitted += refused > 0 and bool(decision)
    assert admitted


def test_a_decision(client: Any) -> None:
    decision = RateLimiter(client).hit("u", "5/hour")
    assert isinstance(decision, Decision)
    assert repr(decision).startswith("<Decision allowed limit=5 remaining=4 reset_af")
    assert decision.limits[0].allowed
    assert decision.limits[0].window == 3600
    with pytest.raises(TypeError):
        Decision()  # type: ignore[call-arg]
    with pytest.raises(AttributeError):
        decision.limit = 3  # type: ignore[misc]
    kept = [RateLimiter(client).hit("v", "500/hour") for _ in range(100)]
    assert [one.remaining for one in kept] == list(range(499, 399, -1))


@pytest.mark.parametrize("rates", ["1/year", (1, 31104000), ["1/year", (9, 60)]])
def test_known_blocked_costs_no_round_trip(
    redis_server: Any, redis_url: str, rates: Any
) -> None:
    with Client(redis_url) as client:
        limiter = RateLimiter(client)
        limiter.hit("u", rates)
        first = limiter.hit("u", rates)
        again = [limiter.hit("u", rates) for _ in range(50)]
        assert not any(again)
        assert all(one.retry_after <= first.retry_after for one in again)

        def calls() -> int:
            text = client.execute("INFO", "commandstats").decode()
            found = re.search(r"cmdstat_evalsha:calls=(\d+)", text)
            return int(found[1]) if found else 0

        began, start = calls(), time.monotonic()
        hits = 0
        while hits < 1000 or time.monotonic() - start < 0.2:
            assert not limiter.hit("u", rates)
            hits += 1
        # One a second and at its ends.
        assert calls() - began <= 3 + time.monotonic() - start < hits


def test_the_async_twin(client: Any, run: Any) -> None:
    async def story() -> None:
        twin = AsyncRateLimiter(client, "gcra")
        assert twin.algorithm == "gcra"
        said = await asyncio.gather(*[twin.hit("u", "5" + YEAR) for _ in range(9)])
        assert sorted(bool(one) for one in said) == [False] * 4 + [True] * 5
        assert not await twin.peek("u", "5" + YEAR)
        assert (await twin.refund("u", "5" + YEAR)).remaining == 1
        assert await twin.reset("u", "5" + YEAR) is True
        with pytest.raises(ConfigurationError):
            await twin.hit("u", "never")

    run(story())


def test_threads_never_pass_a_limit(limiter: RateLimiter) -> None:
    admitted: list[bool] = []

    def work() -> None:
        for _ in range(40):
            if limiter.hit("u", "100" + YEAR):
                admitted.append(True)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(admitted) == 100


# --- the decorator ----------------------------------------------------------------


def test_a_function(client: Any) -> None:
    limiter = RateLimiter(client)
    calls = []

    @limiter.limit("2" + YEAR, key=lambda user: user)
    def act(user: str) -> str:
        """Acts."""
        calls.append(user)
        return user.upper()

    assert act.__name__ == "act"
    assert act.__doc__ == "Acts."
    assert [act("ann"), act("ann"), act("bob")] == ["ANN", "ANN", "BOB"]
    with pytest.raises(RateLimitExceeded) as caught:
        act("ann")
    assert isinstance(caught.value, RedlaneError)
    assert caught.value.retry_after == caught.value.decision.retry_after > 0
    assert "ann" not in str(caught.value)
    assert calls == ["ann", "ann", "bob"]


def test_a_coroutine_function(client: Any, run: Any) -> None:
    async def whose(user: str) -> str:
        return user

    async def story() -> None:
        for limiter in (RateLimiter(client), AsyncRateLimiter(client)):

            @limiter.limit("2" + YEAR, key=whose, scope=type(limiter).__name__)
            async def act(user: str) -> str:
                return user

            assert asyncio.iscoroutinefunction(act)
            assert [await act("a"), await act("a")] == ["a", "a"]
            with pytest.raises(RateLimitExceeded):
                await act("a")

    run(story())


def test_options_of_the_decorator(client: Any) -> None:
    limiter = RateLimiter(client)

    @limiter.limit(
        lambda user, n: f"{n}/year",
        key=lambda user, n: user,
        cost=lambda user, n: 2,
        exempt_when=lambda user, n: user == "root",
        deduct_when=lambda result: result != "free",
        error_message=lambda decision: f"{decision.limit} at most",
    )
    def act(user: str, n: int) -> str:
        return user

    assert [act("free", 4) for _ in range(5)] == ["free"] * 5
    assert [act("root", 4) for _ in range(5)] == ["root"] * 5
    assert [act("a", 4), act("a", 4)] == ["a", "a"]
    with pytest.raises(RateLimitExceeded, match=r"^4 at most$"):
        act("a", 4)


def test_scopes(client: Any) -> None:
    limiter = RateLimiter(client)

    def one() -> int:
        return 1

    def two() -> int:
        return 2

    apart = [limiter.limit("1" + YEAR, key="all")(f) for f in (one, two)]
    assert [f() for f in apart] == [1, 2]
    both = limiter.limit("1" + YEAR, key="all", scope="both")
    shared = [both(f) for f in (one, two)]
    assert shared[0]() == 1
    with pytest.raises(RateLimitExceeded):
        shared[1]()
    # A scope and a key cannot pass for another scope and another key.
    assert limiter.limit("1" + YEAR, scope="a:b", key="c")(one)() == 1
    assert limiter.limit("1" + YEAR, scope="a", key="b:c")(one)() == 1


def test_on_the_class(monkeypatch: pytest.MonkeyPatch) -> None:
    import redlane
    from redlane import _limit

    monkeypatch.setattr(_limit, "_default", RateLimiter("memory://"))
    assert redlane.RateLimitExceeded is RateLimitExceeded

    @RateLimiter.limit(requests_limit=2, time_window=3600, key="all")
    def act() -> int:
        return 1

    assert [act(), act()] == [1, 1]
    with pytest.raises(RateLimitExceeded):
        act()
    for wrong in ({}, {"requests_limit": 2}, {"time_window": 2}):
        with pytest.raises(ConfigurationError):
            RateLimiter.limit(**wrong)
    with pytest.raises(ConfigurationError):
        RateLimiter.limit("5/minute", requests_limit=2, time_window=2)


def test_a_key_of_another_type(client: Any) -> None:
    @RateLimiter(client).limit("1" + YEAR, key=lambda: None)
    def act() -> int:
        return 1

    with pytest.raises(TypeError, match="key must give"):
        act()


def test_a_limiter_and_its_default_client_end(client: Any) -> None:
    limiter = RateLimiter(client)
    limiter.hit("u", "1" + YEAR)
    before = sys.getrefcount(client)
    made = [RateLimiter(client) for _ in range(10)]
    assert sys.getrefcount(client) > before
    del made
    gc.collect()
    assert sys.getrefcount(client) == before
