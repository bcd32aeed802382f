"""What stands round a stored value: nothing where nothing is needed, a compressed value
where that was asked for, and whatever else somebody may have put there."""

from __future__ import annotations

import json
import struct
import threading
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redlane import Cache, Client

MARK = b"\xffRL"

LARGE = {"text": "all work and no play " * 500}


def compressed(content: bytes, raw_size: int) -> bytes:
    return MARK + b"E\x01\x10\x01" + struct.pack(">Q", raw_size) + content


@pytest.fixture
def cache(client: Any) -> Cache:
    return Cache(client, compress="zlib")


# --- compression ------------------------------------------------------------------


def test_only_what_is_large_is_compressed(cache: Cache, client: Any) -> None:
    for size in (1022, 1023):
        cache.set("k", "x" * size)
        stored = client.get("cache:k")
        if size == 1022:  # and two quotes: 1024
            assert stored == json.dumps("x" * size).encode()
        else:
            assert stored == compressed(
                zlib.compress(json.dumps("x" * size).encode(), 1), size + 2
            )
        assert cache.get("k") == "x" * size


def test_nothing_is_compressed_without_being_asked(client: Any) -> None:
    cache = Cache(client)
    cache.set("k", LARGE)
    assert json.loads(client.get("cache:k")) == LARGE


def test_what_does_not_become_smaller_stays_as_it_is(client: Any) -> None:
    cache = Cache(client, serializer="raw", compress="zlib", compress_above=0)
    noise = zlib.compress(bytes(range(256)))
    for value in (b"", b"x", noise):
        cache.set("k", value)
        assert client.get("cache:k") == value
        assert cache.get("k") == value


@pytest.mark.parametrize("serializer", ["json", "msgpack", "raw"])
def test_each_serializer(client: Any, serializer: Any) -> None:
    cache = Cache(client, serializer=serializer, compress="zlib", compress_above=50)
    value: Any = b"ab" * 200 if serializer == "raw" else LARGE
    cache.set("k", value, ttl=60)
    assert client.strlen("cache:k") < 200
    assert cache.get("k") == value
    assert cache.add("k", 1 if serializer != "raw" else b"") is False
    cache.set_many({"a": value, "b": value})
    assert cache.get_many(["a", "b", "c"]) == {"a": value, "b": value}
    assert cache.add("d", value) is True
    assert cache.get("d") == value
    assert cache.stats()["bytes_written"] < 800


def test_a_cache_that_does_not_compress_reads_it(cache: Cache, client: Any) -> None:
    cache.set("k", LARGE)
    assert Cache(client).get("k") == LARGE


def test_functions(cache: Cache, client: Any) -> None:
    calls = []

    @cache
    def f(x: int) -> list[int]:
        calls.append(x)
        return [x] * 2000

    assert f(3) == f(3) == [3] * 2000
    assert f.refresh(3) == [3] * 2000
    assert len(calls) == 2
    assert client.get(f.cache_key(3)).startswith(MARK + b"E")
    assert cache.get_or_set("k", lambda: LARGE) == cache.get("k") == LARGE


def test_waiters_get_what_the_first_one_stored(cache: Cache) -> None:
    started, go = threading.Event(), threading.Event()

    @cache
    def f() -> list[int]:
        started.set()
        assert go.wait(30)
        return [1] * 2000

    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(f())) for _ in range(4)]
    threads[0].start()
    assert started.wait(30)
    for thread in threads[1:]:
        thread.start()
    go.set()
    for thread in threads:
        thread.join(30)
    assert results == [[1] * 2000] * 4


def test_counters_are_never_compressed(client: Any) -> None:
    cache = Cache(client, compress="zlib", compress_above=0)
    counter = cache.counter("n:{id}", ttl=60, source=lambda id: 10**17 + 1)
    assert counter.get(1) == 10**17 + 1
    assert client.get("cache:n:1") == b"100000000000000001"
    assert cache.get("n:1") == 10**17 + 1
    assert cache.increment("n:1") == 10**17 + 2


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"compress": "gzip"}, ValueError, "compress must be 'zlib' or None"),
        ({"compress": True}, ValueError, "compress must be 'zlib' or None"),
        ({"compress_above": -1}, ValueError, "compress_above must not be negative"),
        (
            {"compress_above": "1"},
            TypeError,
            r"compress_above must be an int \(bytes\)",
        ),
        ({"compress_above": True}, TypeError, r"compress_above must be an int"),
        ({"compress_above": 2**70}, OverflowError, "too large"),
    ],
)
def test_unusable_options(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        Cache("memory://", **options)


# --- what somebody else put there -------------------------------------------------

GOOD = zlib.compress(b'"' + b"x" * 98 + b'"')

UNREADABLE = {
    "a mark alone": MARK,
    "an unknown kind": MARK + b"?1",
    "an envelope without a header": MARK + b"E",
    "version 0": MARK + b"E\x00\x01" + bytes(8) + b"1",
    "version 2": MARK + b"E\x02\x01" + bytes(8) + b"1",
    "no field": MARK + b"E\x01\x001",
    "an unknown field": MARK + b"E\x01\x80" + b"1" * 50,
    "a time that is cut": MARK + b"E\x01\x01" + bytes(7),
    "a time before 1970": MARK + b"E\x01\x02" + b"\xff" * 8 + b"1",
    "no tag": MARK + b"E\x01\x08\x001",
    "65 tags": MARK + b"E\x01\x08\x41" + b"\x01t" * 600,
    "a tag that is cut": MARK + b"E\x01\x08\x01\xff" + b"t" * 100,
    "an unknown method": MARK + b"E\x01\x10\x02" + struct.pack(">Q", 100) + GOOD,
    "a compressed nothing": compressed(GOOD, 0),
    "less than it says": compressed(GOOD, 101),
    "more than it says": compressed(GOOD, 99),
    "a cut stream": compressed(GOOD[:-1], 100),
    "a cut header": compressed(b"", 100)[:9],
    "no stream": compressed(b"x" * 100, 100),
    "a broken stream": compressed(GOOD[:6] + b"\xff" + GOOD[7:], 100),
    "a bomb that lies": compressed(zlib.compress(bytes(10_000_000)), 10),
    "a bomb by its word": compressed(b"x" * 2000, 2**63),
    "sealed": MARK + b"E\x01\x20\x01keyi" + b"1" + b"s" * 32,
    "not what it was": compressed(zlib.compress(b"[1,"), 3),
}


@pytest.mark.parametrize("stored", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_cannot_be_read_is_a_miss(client: Any, stored: bytes) -> None:
    cache = Cache(client)
    calls = []

    @cache(name="f")
    def f() -> int:
        calls.append(1)
        return 5

    client.set("cache:k", stored)
    assert cache.get("k", "missing") == "missing"
    assert client.get("cache:k") is None
    client.set("cache:k", stored)
    assert cache.get_many(["k"]) == {}
    client.set("cache:k", stored)
    assert cache.get_or_set("k", lambda: 7) == cache.get("k") == 7
    client.set(f.cache_key(), stored)
    assert f() == f() == 5
    stats = cache.stats()
    assert (stats["corrupted"], stats["bad_seals"], len(calls)) == (4, 0, 1)


def test_nothing_is_inflated_beyond_max_reply(client: Any) -> None:
    bomb = compressed(zlib.compress(b'"' + b"x" * 999_998 + b'"'), 1_000_000)
    client.set("cache:k", bomb)
    assert Cache(client).get("k") == "x" * 999_998
    with Client("memory://", max_reply=999_999) as small:
        small.set("cache:k", bomb)
        cache = Cache(small)
        assert cache.get("k") is None
        assert cache.stats()["corrupted"] == 1


def test_a_time_of_its_own_ends_a_value(client: Any) -> None:
    cache = Cache(client)
    for at, value in ((0, None), (1, None), (2**62, 5)):
        client.set("cache:k", MARK + b"E\x01\x01" + struct.pack(">Q", at) + b"5")
        assert cache.get("k") == value
        assert cache.get_or_set("k", lambda: 5) == 5
    stats = cache.stats()
    assert (stats["corrupted"], stats["sets"]) == (0, 2)


def test_other_fields_do_no_harm(client: Any) -> None:
    client.set("cache:k", MARK + b"E\x01\x06" + bytes(16) + b'{"a":1}')
    assert Cache(client).get("k") == {"a": 1}


def test_tags_that_nobody_knows_make_a_miss(client: Any) -> None:
    tags = b"\x02\x01a" + bytes(8) + b"\x03b\x00c" + b"\xff" * 8
    cache = Cache(client)
    client.set("cache:k", MARK + b"E\x01\x08" + tags + b'{"a":1}')
    assert cache.get("k") is None
    client.set("a", b"\xffRLG" + bytes(8))
    client.set(b"b\x00c", b"\xffRLG" + b"\xff" * 8)
    client.set("cache:k", MARK + b"E\x01\x08" + tags + b'{"a":1}')
    assert cache.get("k") == {"a": 1}
    assert cache.stats()["corrupted"] == 0


@given(st.binary(max_size=60), st.booleans())
def test_any_bytes_at_all(tail: bytes, envelope: bool) -> None:
    client: Any = Client("memory://")
    cache = Cache(client)
    stored = MARK + (b"E\x01" if envelope else b"") + tail
    client.set("cache:k", stored)
    missing = object()
    if cache.get("k", missing) is missing:
        # A lease, or what a function raised: nobody's to drop.
        stays = not envelope and tail[:1] in (b"L", b"X")
        assert client.get("cache:k") == (stored if stays else None)
    else:
        assert client.get("cache:k") == stored


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON_VALUES, st.sampled_from(["json", "msgpack"]), st.integers(0, 100))
def test_values_come_back(value: Any, serializer: Any, above: int) -> None:
    plain = Cache("memory://", serializer=serializer)
    cache = Cache(
        plain.client, serializer=serializer, compress="zlib", compress_above=above
    )
    plain.set("k", value)
    wanted = plain.get("k")
    assert wanted == value
    cache.set("k", value)
    assert cache.get("k") == plain.get("k") == wanted


@given(st.binary(max_size=300), st.integers(0, 64))
def test_raw_bytes_come_back(value: bytes, above: int) -> None:
    cache = Cache("memory://", serializer="raw", compress="zlib", compress_above=above)
    for each in (value, value * 20, MARK + b"E\x01" + value, MARK + b"L" + value):
        cache.set("k", each)
        assert cache.get("k") == each
