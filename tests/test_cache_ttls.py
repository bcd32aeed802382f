"""How long values live: periods as text, a TTL made from the result, jitter."""

from __future__ import annotations

import datetime as dt
import math
from fractions import Fraction
from typing import Any

import pytest
import redlane
from hypothesis import given, settings
from hypothesis import strategies as st
from redlane import Cache

UNITS = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000}
UNITS |= {"m": 60_000, "s": 1000, "ms": 1}

ENGINE = redlane.Client("memory://")


def kept(ttl: Any) -> int:
    """The milliseconds that a TTL is taken for."""
    assert ENGINE.set("k", "v")
    assert ENGINE.expire("k", ttl) == 1
    return ENGINE.pttl("k")


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("250ms", 250),
        ("30s", 30_000),
        ("10m", 600_000),
        ("2h", 7_200_000),
        ("1d", 86_400_000),
        ("1w", 604_800_000),
        ("1h30m", 5_400_000),
        ("1w2d3h4m5s6ms", 788_645_006),
        ("1.5h", 5_400_000),
        ("0.5s250ms", 750),
        ("007s", 7000),
        ("0h5m", 300_000),
        ("1.0000000000000000000000000001s", 1000),
        (dt.timedelta(minutes=10), 600_000),
        (600, 600_000),
        (0.25, 250),
    ],
)
def test_periods(text: Any, milliseconds: int) -> None:
    assert milliseconds - 30_000 < kept(text) <= milliseconds
    cache = Cache(ENGINE, prefix="periods", ttl=text)
    cache.set("a", 1)
    cache.set("b", 1, ttl=text)
    for key in "ab":
        left = cache.ttl(key) or 0.0  # it may be gone by now
        assert milliseconds - 30_000 < round(left * 1000) <= milliseconds


NO_PERIODS: list[str] = []
for words in (
    "10 m 10M 10x 10minutes -10m +1s 1m1h 1m1m 1ms1s .5s 5.s 1.s 1e3s 0s 0.000s",
    "inf nan 99999999999999w",
):
    NO_PERIODS += words.split()
NO_PERIODS += ["", " 10m", "10m ", "10 m", "10m\n", "1m\0", "\u0661s", "\ud800"]


@pytest.mark.parametrize("text", [*NO_PERIODS, "9" * 40 + "w"])
def test_what_is_no_period(text: str) -> None:
    with pytest.raises(ValueError):
        kept(text)
    with pytest.raises(ValueError):
        Cache(ENGINE, ttl=text)
    with pytest.raises(ValueError):
        Cache(ENGINE)(ttl=text)(len)


def test_a_bad_period_is_named() -> None:
    with pytest.raises(ValueError, match=r"ttl: '10 minutes' is no period.*'1h30m'"):
        Cache(ENGINE, ttl="10 minutes")
    with pytest.raises(TypeError, match="ttl must be a number, a timedelta or a text"):
        Cache(ENGINE, ttl=b"10m")  # type: ignore[arg-type]


NUMBERS = st.one_of(
    st.integers(0, 10**6).map(str),
    st.builds(
        "{}.{}".format,
        st.integers(0, 10**6),
        st.text("0123456789", min_size=1, max_size=9),
    ),
)


@given(st.dictionaries(st.sampled_from(list(UNITS)), NUMBERS, min_size=1))
@settings(max_examples=100, deadline=None)
def test_periods_are_the_sum_of_their_parts(parts: dict[str, str]) -> None:
    text = "".join(parts[unit] + unit for unit in UNITS if unit in parts)
    exact = sum(Fraction(number) * UNITS[unit] for unit, number in parts.items())
    if exact == 0:
        with pytest.raises(ValueError, match="greater than zero"):
            kept(text)
        return
    rounded = sum(
        math.floor(Fraction(number) * UNITS[unit] + Fraction(1, 2))
        for unit, number in parts.items()
    )
    expected = max(1, rounded)
    assert abs(expected - exact) <= len(parts)
    if expected > 60_000:
        assert expected - 60_000 <= kept(text) <= expected


# --- made from the result ---------------------------------------------------------


@pytest.fixture
def cache(client: Any) -> Cache:
    return Cache(client, ttl=1000)


def test_a_ttl_made_from_the_result(cache: Cache, client: Any) -> None:
    seen = []

    def ttl(result: Any) -> Any:
        seen.append(result)
        return result["ttl"]

    @cache(ttl=ttl)
    def f(ttl: Any) -> Any:
        return {"ttl": ttl}

    for given_ttl, most in ((50, 50_000), ("2m", 120_000), (None, 1_000_000)):
        f(given_ttl)
        assert most - 40_000 < client.pttl(f.cache_key(given_ttl)) <= most
        f(given_ttl)
    assert seen == [{"ttl": 50}, {"ttl": "2m"}, {"ttl": None}]


def test_an_unusable_ttl_is_told_and_leaves_nothing(cache: Cache, client: Any) -> None:
    calls = []

    @cache(ttl=lambda result: result)
    def f(ttl: Any) -> Any:
        calls.append(ttl)
        return ttl

    for bad in (0, -1, True, [], "soon", math.inf):
        for _ in range(2):
            with pytest.raises((TypeError, ValueError), match="callable of ttl="):
                f(bad)
    assert len(calls) == 12
    assert client.dbsize() == 0

    @cache(ttl=lambda result: 1 // result)
    def g(x: int) -> int:
        return x

    with pytest.raises(ZeroDivisionError):
        g(0)
    assert client.dbsize() == 0


def test_no_ttl_is_asked_for_what_is_not_stored(cache: Cache) -> None:
    f = cache(
        lambda x: x, ttl=lambda result: 1 // result, condition=lambda result: result > 0
    )
    assert f(0) == 0


# --- jitter -----------------------------------------------------------------------


def test_jitter_shortens_ttls(cache: Cache, client: Any) -> None:
    @cache(ttl=10_000, jitter=0.5)
    def f(x: int) -> int:
        return x

    for x in range(200):
        f(x)
    left = [client.pttl(f.cache_key(x)) for x in range(200)]
    assert 4_900_000 < min(left) < 5_800_000
    assert 9_200_000 < max(left) <= 10_000_000
    assert len(set(left)) > 150


def test_jitter_of_other_ttls(cache: Cache, client: Any) -> None:
    own = cache(lambda x: x, name="own", jitter=0.2)
    made = cache(lambda x: x, name="made", jitter=0.2, ttl=lambda result: 100)
    forever = Cache(client)(lambda x: x, name="forever", jitter=0.2)
    tiny = cache(lambda x: x, name="tiny", jitter=0.99, ttl=0.001)
    plain = cache(lambda x: x, name="plain", jitter=0)
    for f in (own, made, forever, tiny, plain):
        assert f(1) == 1
    assert 790_000 < client.pttl(own.cache_key(1)) <= 1_000_000
    assert 70_000 < client.pttl(made.cache_key(1)) <= 100_000
    assert client.pttl(forever.cache_key(1)) == -1
    assert 990_000 < client.pttl(plain.cache_key(1)) <= 1_000_000


@pytest.mark.parametrize("jitter", [-0.1, 1, 1.0, 5, math.nan, math.inf, True, "10%"])
def test_bad_jitter(jitter: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="jitter"):
        Cache(ENGINE)(jitter=jitter)(len)
