"""Values at the ends of their ranges, on both executors: counts past 64 bits, sizes,
times, names."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable
from typing import Any

import pytest
import redlane
from redlane import Cache, Client, Counter, VideoCache

MOST, LEAST = 2**63 - 1, -(2**63)

# What counts by one or by more, up and down, on a key that holds the end of the range.
STEPS: dict[str, tuple[int, Callable[[Any], object]]] = {
    "incr": (MOST, lambda c: c.incr("k")),
    "incr by the most": (1, lambda c: c.incr("k", MOST)),
    "incrby": (MOST, lambda c: c.incrby("k", MOST)),
    "decr": (LEAST, lambda c: c.decr("k")),
    "decrby": (LEAST, lambda c: c.decrby("k", MOST)),
    "incr down": (LEAST, lambda c: c.incr("k", LEAST)),
    "cache.increment": (MOST, lambda c: Cache(c, prefix="").increment("k")),
    "cache.increment much": (2, lambda c: Cache(c, prefix="").increment("k", MOST)),
    "cache.decrement": (LEAST, lambda c: Cache(c, prefix="").decrement("k")),
    "counter.increment": (MOST, lambda c: Counter(c, "{id}").increment("k")),
    "counter.decrement": (LEAST, lambda c: Counter(c, "{id}").decrement("k")),
    "counter much": (5, lambda c: Counter(c, "{id}").increment("k", amount=MOST)),
    "transfer from": (LEAST, lambda c: Counter(c, "{id}").transfer("k", "l")),
    "transfer to": (MOST, lambda c: Counter(c, "{id}").transfer("l", "k")),
    "pipeline": (MOST, lambda c: c.pipeline().incr("k").execute()),
    "transaction": (MOST, lambda c: c.pipeline(True).incr("k").execute()),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_count_past_64_bits(client: Any, name: str) -> None:
    """A typed error, and the count stays what it was."""
    start, step = STEPS[name]
    client.mset({"k": start, "l": 7})
    with pytest.raises(redlane.ReplyError, match=r"overflow|range"):
        step(client)
    assert client.get("k") == str(start).encode()


@pytest.mark.parametrize("amount", [2**63, -(2**63) - 1, 10**40])
def test_an_amount_past_64_bits_is_not_sent(client: Any, amount: int) -> None:
    cache, counter = Cache(client), Counter(client, "{id}")
    client.set("k", 1)
    for call in (
        lambda: client.incr("k", amount),
        lambda: client.decrby("k", amount),
        lambda: client.hincrby("h", "f", amount),
        lambda: cache.increment("k", amount),
        lambda: cache.decrement("k", amount),
        lambda: counter.increment("k", amount=amount),
        lambda: client.scan(amount) if amount > 2**64 else client.incr("k", amount),
        lambda: client.getrange("k", amount, 1),
        lambda: client.expire("k", amount),
    ):
        with pytest.raises((OverflowError, ValueError)):
            call()
    assert client.get("k") == b"1"
    assert client.exists("h", "cache:k") == 0


def test_a_hash_field_past_64_bits(client: Any) -> None:
    client.hset("h", "f", MOST)
    with pytest.raises(redlane.ReplyError, match="overflow"):
        client.hincrby("h", "f", 1)
    assert client.hget("h", "f") == str(MOST).encode()


@pytest.mark.parametrize("amount", [math.nan, math.inf, -math.inf])
def test_floats_that_are_no_amounts(client: Any, amount: float) -> None:
    client.set("k", "1.5")
    with pytest.raises(ValueError):
        client.incrbyfloat("k", amount)
    for text in ("nan", "inf", "1e5000", "x", ""):
        with pytest.raises(redlane.ReplyError):
            client.incrbyfloat("k", text)
    with pytest.raises((ValueError, redlane.ReplyError)):
        client.zadd("z", {"m": math.nan})
    assert client.get("k") == b"1.5"


@pytest.mark.parametrize("count", [MOST, LEAST, 0, -1])
def test_sources_at_the_ends(client: Any, count: int) -> None:
    counter = Counter(client, "n:{id}", source=lambda id: count)
    assert counter.get(1) == count
    assert counter.get(1) == count
    assert client.get("n:1") == str(count).encode()


@pytest.mark.parametrize("bad", [2**63, LEAST - 1, True, 1.0, "1", None, math.nan])
def test_sources_that_are_no_counts(client: Any, bad: Any) -> None:
    counter = Counter(client, "n:{id}", source=lambda id: bad)
    with pytest.raises((TypeError, OverflowError)):
        counter.get(1)
    assert client.exists("n:1") == 0  # not even a lease


# --- times ------------------------------------------------------------------------

TIMES: list[tuple[Any, float | None]] = [
    (0, None),
    (-1, None),
    (-0.0, None),
    (math.nan, None),
    (math.inf, None),
    (-math.inf, None),
    (True, None),
    (False, None),
    ("5", None),
    (2**63, None),
    (2**64, None),
    (1e300, None),
    (10**400, None),
    (dt.timedelta(0), None),
    (dt.timedelta(seconds=-1), None),
    (0.0015, 0.002),
    (5e-324, 0.001),
    (100, 100),
    (100.25, 100.25),
    (dt.timedelta(seconds=100, milliseconds=5), 100.005),
    (dt.timedelta(microseconds=1), 0.001),
    (10**9, 10**9),
]


@pytest.mark.parametrize(("ttl", "seconds"), TIMES, ids=repr)
def test_every_kind_of_ttl_everywhere(
    client: Any, ttl: Any, seconds: float | None
) -> None:
    """Refused before anything is sent, or kept to the millisecond."""
    cache = Cache(client)
    calls: dict[str, Callable[[], object]] = {
        "set": lambda: client.set("set", "v", ex=ttl),
        "getex": lambda: client.getex("getex", ex=ttl),
        "expire": lambda: client.expire("expire", ttl),
        "cache:set": lambda: cache.set("set", 1, ttl=ttl),
        "cache:add": lambda: cache.add("add", 1, ttl=ttl),
        "cache:touch": lambda: cache.touch("touch", ttl),
        "cache:many": lambda: cache.set_many({"many": 1}, ttl=ttl),
        "cache:count": lambda: cache.increment("count", ttl=ttl),
        "cache:made": lambda: cache.get_or_set("made", lambda: 1, ttl=ttl),
        "cache:own": lambda: Cache(client, ttl=ttl).set("own", 1),
        "cache:f:": lambda: cache(name="f", ttl=ttl)(abs)(1),
        "n:1": lambda: Counter(client, "n:{id}", ttl, lambda id: 5).get(1),
    }
    for key, call in calls.items():
        if key in ("getex", "expire", "cache:touch"):
            client.set(key, "1")
        if seconds is None:
            with pytest.raises((TypeError, ValueError, OverflowError)):
                call()
            assert client.pttl(key) in (-1, -2), key
            continue
        call()
        if seconds > 1:
            [name] = client.keys(f"{key}*")
            left = client.pttl(name)
            assert seconds * 1000 - 30_000 < left <= math.ceil(seconds * 1000), key
        client.flushdb()


# --- names ------------------------------------------------------------------------

NAMES = [
    "",
    "\x00",
    "a\r\nSET b c\r\n",
    "*?[]\\",
    "k" * 70_000,
    "ü✓😀",
    b"\xff\x00\xfe",
]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name)[:20])
def test_every_kind_of_key_everywhere(client: Any, name: Any) -> None:
    text = name if isinstance(name, str) else name.decode("latin-1")
    cache = Cache(client, prefix="p")
    assert client.set(name, 1)
    assert client.incr(name) == 2
    assert client.mget(name, name) == [b"2", b"2"]
    assert client.pipeline(True).get(name).ttl(name).execute() == [b"2", -1]
    assert client.hset("h", name, name) == 1
    assert client.hget("h", name) == (name.encode() if isinstance(name, str) else name)
    assert client.sadd("s", name) == 1
    assert client.sismember("s", name)
    assert cache.set(name, [1])
    assert cache.get_many([name]) == {name: [1]}
    assert cache.touch(name, 50)
    assert cache.delete_many([name]) == 1
    assert cache.increment(name, 3) == 3
    counter = Counter(client, "n:{id}", source=lambda id: len(id))
    assert counter.get(text) == len(text)
    assert counter.increment(text) == len(text) + 1
    assert counter.delete(text)
    video = VideoCache(client)
    assert video.set(text, [text, text], text or "u")
    assert video.get(text, [text, text]) == (text or "u")
    function = cache(name="f")(lambda some: len(some))
    assert function(name) == function(name) == len(name)
    assert function.invalidate(name)
    assert client.delete(name, "h", "s") == 3
    assert set(client.keys("p:*")) <= {
        b"p:" + (name.encode() if name == text else name)
    }


@pytest.mark.parametrize("bad", ["\ud800", "a\udfffb"])
def test_a_lone_surrogate_is_refused_everywhere(client: Any, bad: str) -> None:
    cache = Cache(client)
    for call in (
        lambda: client.set(bad, 1),
        lambda: client.set("k", bad),
        lambda: client.mset({bad: 1}),
        lambda: client.hset("h", mapping={"f": bad}),
        lambda: client.pipeline().get(bad),
        lambda: client.execute("GET", bad),
        lambda: cache.get(bad),
        lambda: cache.set(bad, 1),
        lambda: cache.set_many({bad: 1}),
        lambda: cache.invalidate(bad),
        lambda: Counter(client, "n:{id}").increment(bad),
        lambda: VideoCache(client).get(bad, []),
        lambda: Client(f"redis://host/0?name={bad}"),
    ):
        with pytest.raises((UnicodeEncodeError, redlane.ConfigurationError)):
            call()
    assert client.dbsize() == 0
