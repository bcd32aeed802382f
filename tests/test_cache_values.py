"""Cache: every call on one key or several, on the engine and on Redis."""

from __future__ import annotations

import collections
import datetime as dt
import enum
import json
import math
from typing import Any

import pytest
import redlane
from hypothesis import given, settings
from hypothesis import strategies as st
from redlane import Cache

LEASE = b"\xffRLL" + b"x" * 16


@pytest.fixture
def cache(client: Any) -> Cache:
    return Cache(client)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -5,
        1.5,
        "",
        "é\x00\n😀",
        [],
        [1, [2]],
        {},
        {"a": {"b": [None]}},
        2**63 - 1,
    ],
)
def test_values_come_back(cache: Cache, client: Any, value: Any) -> None:
    assert cache.set("k", value) is True
    assert cache.get("k", "missing") == value
    stored = client.get("cache:k")
    assert json.loads(stored) == value
    assert cache.ttl("k") == math.inf


def test_a_miss_is_told_from_a_cached_none(cache: Cache) -> None:
    marker = object()
    assert cache.get("k", marker) is marker
    assert cache.get("k") is None
    cache.set("k", None)
    assert cache.get("k", default=marker) is None
    stats = cache.stats()
    assert (stats["hits"], stats["misses"], stats["sets"]) == (1, 2, 1)


def test_ttls(cache: Cache, client: Any) -> None:
    cache.set("a", 1, ttl=60)
    cache.set("b", 1, 40.5)
    cache.set("c", 1, ttl=dt.timedelta(minutes=2))
    assert 0 < cache.ttl("a") <= 60  # type: ignore[operator]
    assert 0 < cache.ttl("b") <= 40.5  # type: ignore[operator]
    assert 60 < cache.ttl("c") <= 120  # type: ignore[operator]
    assert cache.ttl("nothing") is None
    limited = Cache(client, prefix="limited", ttl=30)
    limited.set("a", 1)
    assert 0 < limited.ttl("a") <= 30  # type: ignore[operator]
    assert limited.touch("a", 90) is True
    assert 30 < limited.ttl("a") <= 90  # type: ignore[operator]
    assert cache.touch("a") is True
    assert cache.ttl("a") == math.inf
    assert cache.touch("nothing", 5) is False


BAD_TTLS = [0, -1, 0.0, -0.5, math.nan, math.inf, True, "60", b"1", [], 1e300, 2**63]


@pytest.mark.parametrize("ttl", BAD_TTLS, ids=repr)
def test_a_bad_ttl_is_refused_before_anything_is_sent(cache: Cache, ttl: Any) -> None:
    def f() -> None: ...

    for call in (
        lambda: cache.set("k", 1, ttl=ttl),
        lambda: cache.add("k", 1, ttl=ttl),
        lambda: cache.touch("k", ttl),
        lambda: cache.increment("k", ttl=ttl),
        lambda: cache.set_many({"k": 1}, ttl=ttl),
        lambda: cache.get_or_set("k", lambda: 1, ttl=ttl),
        lambda: cache.counter("k", ttl=ttl),
        lambda: cache(f, ttl=ttl),
        lambda: Cache("memory://", ttl=ttl),
    ):
        with pytest.raises((TypeError, ValueError)):
            call()
    assert cache.has("k") is False


def test_add_has_delete(cache: Cache) -> None:
    assert cache.has("k") is False
    assert cache.add("k", "first", ttl=90) is True
    assert cache.add("k", "second") is False
    assert cache.get("k") == "first"
    assert 9 < cache.ttl("k") <= 90  # type: ignore[operator]
    assert cache.has("k") is True
    assert cache.delete("k") is True
    assert cache.delete("k") is False
    assert cache.stats()["deletes"] == 1


def test_many(cache: Cache) -> None:
    cache.set_many({"a": 1, b"b": None}, ttl=60)
    assert cache.get_many(["a", b"b", "c"]) == {"a": 1, b"b": None}
    assert cache.ttl("a") <= 60  # type: ignore[operator]
    assert cache.get_many([]) == {}
    assert cache.get_many(iter(["a"])) == {"a": 1}
    assert cache.delete_many(["a", "b", "c"]) == 2
    assert cache.delete_many([]) == 0
    cache.set_many({})
    keys = {f"key{n}": n for n in range(2000)}
    cache.set_many(keys)
    assert cache.get_many(keys) == keys
    assert cache.delete_many(keys) == 2000
    with pytest.raises(redlane.SerializationError):
        cache.set_many({"good": 1, "bad": object()})
    assert cache.has("good") is False
    for wrong in ("abc", b"abc"):
        with pytest.raises(TypeError, match="several keys"):
            cache.get_many(wrong)


def test_numbers(cache: Cache, client: Any) -> None:
    assert cache.increment("n") == 1
    assert cache.increment("n", 41) == 42
    assert cache.decrement("n", 2) == 40
    assert cache.get("n") == 40
    assert cache.increment("t", ttl=50) == 1
    assert cache.increment("t", ttl=500) == 2
    assert 0 < cache.ttl("t") <= 50  # type: ignore[operator]
    assert cache.increment("big", 2**62) == 2**62
    assert cache.increment("big", 2**62 - 1) == 2**63 - 1
    with pytest.raises(redlane.ReplyError):
        cache.increment("big")
    cache.set("text", "a")
    with pytest.raises(redlane.ReplyError):
        cache.increment("text")
    client.hset("cache:hash", "a", "b")
    with pytest.raises(redlane.WrongTypeError):
        cache.increment("hash")
    for amount in (1.5, True, "1", None):
        with pytest.raises(TypeError):
            cache.increment("n", amount)
    for amount in (2**63, -(2**63)):
        with pytest.raises(OverflowError):
            cache.increment("n", amount)


def test_another_type_is_a_miss_and_is_overwritten(cache: Cache, client: Any) -> None:
    client.hset("cache:k", "field", "value")
    assert cache.get("k", 5) == 5
    assert cache.get_many(["k"]) == {}
    assert cache.set("k", 1) is True
    assert cache.get("k") == 1


@pytest.mark.parametrize(
    "junk", [b"", b"{", b"\xff\xfe", b'{"a"', b"\xffRLZ", b"\xffRL", b"1 2"]
)
def test_unreadable_values_are_misses_dropped_and_counted(
    cache: Cache, client: Any, junk: bytes
) -> None:
    client.set("cache:k", junk)
    assert cache.get("k", "default") == "default"
    assert client.exists("cache:k") == 0
    assert cache.stats()["corrupted"] == 1
    client.set("cache:k", junk)
    assert cache.get_many(["k"]) == {}
    assert client.exists("cache:k") == 0
    client.set("cache:k", junk)
    assert cache.get_or_set("k", lambda: 5) == 5
    assert cache.get("k") == 5


def test_leases_are_no_values(cache: Cache, client: Any) -> None:
    def put() -> None:
        client.set("cache:k", LEASE, px=60_000)

    put()
    assert cache.get("k", 1) == 1
    assert client.get("cache:k") == LEASE
    assert cache.has("k") is False
    assert cache.ttl("k") is None
    assert cache.touch("k", 5) is False
    assert cache.get_many(["k"]) == {}
    assert cache.delete("k") is False
    assert client.exists("cache:k") == 0
    put()
    assert cache.add("k", "value") is True
    put()
    assert cache.increment("k") == 1
    put()
    assert cache.set("k", 2) is True
    assert cache.get("k") == 2
    assert cache.stats()["corrupted"] == 0


@pytest.mark.parametrize(
    "key", ["", "a\x00b", "a\r\nb", "é😀", "k" * 70_000, b"\xff\x00", "a*?[]\\"]
)
def test_any_key(cache: Cache, client: Any, key: Any) -> None:
    raw = key.encode() if isinstance(key, str) else key
    assert cache.set(key, 1)
    assert client.get(b"cache:" + raw) == b"1"
    assert cache.get(key) == 1
    assert cache.delete(key)


def test_bad_keys(cache: Cache) -> None:
    for key in (5, None, 1.5, ["a"]):
        with pytest.raises(TypeError):
            cache.get(key)  # type: ignore[arg-type]
    with pytest.raises(UnicodeEncodeError):
        cache.get("\ud800")
    with pytest.raises(TypeError):
        cache.get()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        cache.get("a", 1, 2)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected"):
        cache.set("a", 1, px=5)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="multiple"):
        cache.get("a", key="b")  # type: ignore[misc]


def test_invalidate_and_clear(cache: Cache, client: Any) -> None:
    other = Cache(client, prefix="ca?he")
    cache.set_many({f"f:{n}": n for n in range(1500)})
    cache.set("g:1", 1)
    other.set("f:1", 1)
    assert cache.invalidate("cache:f:*") == 1500
    assert cache.get("g:1") == 1
    assert other.clear() == 1
    assert cache.get("g:1") == 1
    assert cache.invalidate(b"cache:[g]:?") == 1
    assert cache.clear() == 0
    with pytest.raises(ValueError, match="whole database"):
        Cache(client, prefix="").clear()
    with pytest.raises(TypeError):
        cache.invalidate(5)  # type: ignore[arg-type]


def test_get_or_set(cache: Cache) -> None:
    calls = []

    def factory() -> tuple[int, int]:
        calls.append(1)
        return (1, 2)

    assert cache.get_or_set("k", factory, ttl=60) == [1, 2]
    assert cache.get_or_set("k", factory) == [1, 2]
    assert len(calls) == 1
    assert cache.ttl("k") <= 60  # type: ignore[operator]
    with pytest.raises(ZeroDivisionError):
        cache.get_or_set("z", lambda: 1 // 0)
    assert cache.has("z") is False
    with pytest.raises(TypeError, match="callable"):
        cache.get_or_set("k", 5)  # type: ignore[arg-type]


def test_disabled(cache: Cache) -> None:
    calls = []

    @cache
    def f() -> int:
        calls.append(1)
        return len(calls)

    cache.set("k", 1)
    with cache.disabled():
        assert cache.get("k") is None
        assert cache.has("k") is False
        assert cache.get_many(["k"]) == {}
        assert cache.set("new", 1) is False
        assert cache.add("new", 1) is False
        cache.set_many({"new": 1})
        assert cache.get_or_set("k", lambda: 7) == 7
        assert (f(), f()) == (1, 2)
        with cache.disabled():
            pass
        assert cache.get("k") is None
        assert cache.delete("k") is True
    assert cache.has("new") is False
    assert (f(), f()) == (3, 3)


def test_disabled_is_of_this_thread(cache: Cache) -> None:
    import threading

    cache.set("k", 1)
    found = []
    with cache.disabled():
        thread = threading.Thread(target=lambda: found.append(cache.get("k")))
        thread.start()
        thread.join()
    assert found == [1]


def test_prefixes(client: Any) -> None:
    Cache(client, prefix="").set("bare", 1)
    assert client.get("bare") == b"1"
    Cache(client, prefix="a:b").set("k", 1)
    assert client.get("a:b:k") == b"1"
    for prefix in (5, None, b"a"):
        with pytest.raises(TypeError):
            Cache(client, prefix=prefix)


def test_options() -> None:
    with pytest.raises(redlane.ConfigurationError):
        Cache("nothing://x")
    with pytest.raises(TypeError):
        Cache(5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="fallback"):
        Cache("memory://", fallback="maybe")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="serializer"):
        Cache("memory://", serializer="yaml")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="dumps and loads"):
        Cache("memory://", serializer=object())  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Cache("memory://", "p", 5, "json", "memory")  # type: ignore[misc]
    cache = Cache("memory://", prefix="p", serializer="raw")
    assert repr(cache) == "<redlane.Cache prefix='p' serializer='raw'>"
    assert cache.prefix == "p"
    assert isinstance(cache.client, redlane.Client)
    assert cache.stats()["cache_type"] == "memory"


def test_stats_of_both_executors(cache: Cache, executor: str) -> None:
    cache.set("k", "abc")
    cache.get("k")
    assert cache.stats() == {
        "hits": 1,
        "near_hits": 0,
        "misses": 0,
        "sets": 1,
        "deletes": 0,
        "errors": 0,
        "corrupted": 0,
        "bad_seals": 0,
        "waits": 0,
        "stale": 0,
        "refreshes": 0,
        "refresh_errors": 0,
        "uncached": 0,
        "bytes_read": 5,
        "bytes_written": 5,
        "cache_type": "memory" if executor == "engine" else "redis",
    }


# --- serializers ------------------------------------------------------------------


def test_raw(client: Any) -> None:
    cache = Cache(client, serializer="raw")
    for value in (b"", b"\x00\xff" * 50, b"\xffRL", b"\xffRLLx", LEASE, b"\xffRLP"):
        cache.set("k", value)
        assert cache.get("k") == value
        assert cache.has("k") is True
    assert client.get("cache:k") == b"\xffRLP\xffRLP"
    cache.set("k", bytearray(b"a"))
    assert cache.get("k") == b"a"
    for wrong in ("text", 5, None):
        with pytest.raises(redlane.SerializationError, match="stores bytes"):
            cache.set("k", wrong)


def test_msgpack(client: Any) -> None:
    cache = Cache(client, serializer="msgpack")
    value = {"a": [1, b"bytes", 1.5, None]}
    cache.set("k", value)
    assert cache.get("k") == value
    client.set("cache:k", b"\xc1")
    assert cache.get("k") is None
    with pytest.raises(redlane.SerializationError):
        cache.set("k", object())


def test_custom(client: Any) -> None:
    class Serializer:
        def dumps(self, value: Any) -> Any:
            if value == "secret":
                raise ValueError(f"cannot dump {value}")
            return value if isinstance(value, (bytes, int)) else f"<{value}>"

        def loads(self, data: bytes) -> str:
            return data.decode()[1:-1]

    cache = Cache(client, serializer=Serializer())
    cache.set("k", "é")
    assert cache.get("k") == "é"
    client.set("cache:k", b"\xff\xff\xff")
    assert cache.get("k") is None
    with pytest.raises(redlane.SerializationError) as raised:
        cache.set("k", "secret")
    assert "secret" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None
    with pytest.raises(redlane.SerializationError):
        cache.set("k", 5)


class Level(enum.IntEnum):
    HIGH = 3


class Name(str):
    pass


STANDARD = [
    {1: "a", None: "b", 1.5: "d"},
    {True: "c", 0: "d"},
    Level.HIGH,
    Name("x"),
    {Name("k"): 1},
    collections.OrderedDict(b=1, a=2),
    2**70,
    -(2**70),
    math.inf,
    (1, (2,)),
    "\ud800",
    1e16,
    5e-324,
]


@pytest.mark.parametrize("value", STANDARD, ids=ascii)
def test_what_json_dumps_accepts_is_cached_as_json_has_it(
    client: Any, value: Any
) -> None:
    cache = Cache(client)
    cache.set("k", value)
    assert cache.get("k") == json.loads(json.dumps(value))


def test_nan(cache: Cache) -> None:
    cache.set("k", [math.nan])
    assert math.isnan(cache.get("k")[0])


def test_what_json_refuses_is_named_by_type_only(cache: Cache) -> None:
    class Secret:
        def __repr__(self) -> str:
            return "canary"

    circle: list[Any] = []
    circle.append(circle)
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    for value, words in (
        (Secret(), "'Secret'.*Object of type Secret"),
        ({"a": {Secret()}}, "'dict'.*Object of type set"),
        ({("canary",): 1}, "keys must be"),
        (circle, "Circular reference"),
        (deep, "RecursionError"),
        (b"canary", "bytes"),
    ):
        with pytest.raises(redlane.SerializationError, match=words) as raised:
            cache.set("k", value)
        assert "canary" not in str(raised.value)
    assert cache.has("k") is False


JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters())
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(
            st.one_of(st.text(max_size=3), st.integers(-2, 2), st.booleans()),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=10,
)


@given(JSON)
@settings(max_examples=400, deadline=None)
def test_json_means_what_the_standard_library_says(value: Any) -> None:
    memory.set("k", value)
    expected = json.loads(json.dumps(value))
    assert json.dumps(memory.get("k")) == json.dumps(expected)


memory = Cache("memory://")
