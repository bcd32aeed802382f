"""Seals: a value that nobody with a key has written, or not for this key, is a miss."""

from __future__ import annotations

import functools
import hashlib
import hmac
import logging
import os
import pickle
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redlane import Cache, Client, ConfigurationError, SerializationError

MARK = b"\xffRL"
KEY = b"0123456789abcdef"
OTHER = "another key, which is a text: é"
FORMATS = {"json": 1, "raw": 2, "msgpack": 3, "pickle": 5}
SEALED, EXPIRES = 32, 1
SEAL_SIZE = 32


def key_id(key: bytes) -> bytes:
    return hmac.digest(key, b"redlane key id\0", hashlib.sha256)[:4]


def sealed(
    name: bytes,
    content: bytes,
    key: bytes = KEY,
    serializer: str = "json",
    expires_at: int | None = None,
) -> bytes:
    """What a cache stores, made by the standard library."""
    fields = SEALED | (EXPIRES if expires_at is not None else 0)
    head = MARK + b"E\x01" + bytes([fields])
    if expires_at is not None:
        head += struct.pack(">Q", expires_at)
    head += bytes([FORMATS[serializer]]) + key_id(key)
    said = b"redlane seal 1\0" + struct.pack(">Q", len(name)) + name + head + content
    return head + content + hmac.digest(key, said, hashlib.sha256)


@pytest.fixture
def cache(client: Any) -> Cache:
    return Cache(client, seal=[KEY])


# --- what is stored ---------------------------------------------------------------


def test_it_is_the_hmac_of_version_key_expiry_and_bytes(
    cache: Cache, client: Any
) -> None:
    cache.set("k", {"a": 1})
    assert client.get("cache:k") == sealed(b"cache:k", b'{"a":1}')
    before = time.time_ns() // 1_000_000
    cache.set("k", {"a": 1}, ttl=60)
    after = time.time_ns() // 1_000_000
    stored = client.get("cache:k")
    (expires_at,) = struct.unpack(">Q", stored[6:14])
    assert before + 60_000 <= expires_at <= after + 60_000
    assert stored == sealed(b"cache:k", b'{"a":1}', expires_at=expires_at)
    assert cache.get("k") == {"a": 1}


@pytest.mark.parametrize("size", [1, 65_000, 70_000, 3_000_000])
def test_large_values(client: Any, size: int) -> None:
    cache = Cache(client, serializer="raw", seal=KEY)
    value = os.urandom(size)
    cache.set("k", value)
    assert client.get("cache:k") == sealed(b"cache:k", value, serializer="raw")
    assert cache.get("k") == value


def test_every_way_to_write_and_read(cache: Cache, client: Any) -> None:
    @cache(name="f")
    def f(x: int) -> int:
        return x + 1

    cache.set_many({"a": 1, "b": 2}, ttl=60)
    assert cache.add("c", 3)
    assert not cache.add("c", 4)
    assert cache.get_or_set("d", lambda: 4) == cache.get_or_set("d", lambda: 5) == 4
    assert f(1) == f(1) == f.refresh(1) == 2
    assert cache.get_many(list("abcd")) == {"a": 1, "b": 2, "c": 3, "d": 4}
    assert cache.has("a")
    assert 30 < cache.ttl("a") <= 60  # type: ignore[operator]
    assert cache.delete("a")
    assert client.get("cache:d") == sealed(b"cache:d", b"4")
    assert client.get(f.cache_key(1)) == sealed(f.cache_key(1).encode(), b"2")
    assert f.cache_info().hits == 1
    stats = cache.stats()
    assert (stats["corrupted"], stats["bad_seals"]) == (0, 0)


def test_compressed_and_sealed(client: Any) -> None:
    cache = Cache(client, seal=KEY, compress="zlib")
    cache.set("k", "x" * 5000)
    assert client.strlen("cache:k") < 200
    assert cache.get("k") == "x" * 5000
    stored = bytearray(client.get("cache:k"))
    stored[15] ^= 1  # in what it says of its size
    client.set("cache:k", bytes(stored))
    assert cache.get("k") is None
    assert cache.stats()["bad_seals"] == 1


def test_waiters_read_a_sealed_value(cache: Cache) -> None:
    started, go = threading.Event(), threading.Event()

    @cache
    def f() -> str:
        started.set()
        assert go.wait(30)
        return "x"

    results: list[str] = []
    threads = [threading.Thread(target=lambda: results.append(f())) for _ in range(3)]
    threads[0].start()
    assert started.wait(30)
    for thread in threads[1:]:
        thread.start()
    go.set()
    for thread in threads:
        thread.join(30)
    assert results == ["x"] * 3


# --- what is refused --------------------------------------------------------------


def test_an_unsealed_value_is_a_miss(cache: Cache, client: Any) -> None:
    calls = []

    @cache(name="f")
    def f() -> int:
        calls.append(1)
        return 5

    for stored in (
        b"1",
        b"5",
        MARK + b"P1",
        MARK + b"?1",
        MARK + b"E\x01\x01" + bytes(7) + b"\xff1",
        MARK + b"E\x01\x20\x01" + key_id(KEY) + b"1" + bytes(31),
        MARK + b"E\x01\x20\x01" + key_id(KEY) + b"1" + bytes(32),
        MARK + b"E",
    ):
        client.set("cache:k", stored)
        assert cache.get("k", "missing") == "missing"
        assert client.get("cache:k") is None
    client.set(f.cache_key(), b"1")
    assert f() == f() == 5
    assert len(calls) == 1
    stats = cache.stats()
    assert (stats["corrupted"], stats["bad_seals"], stats["errors"]) == (9, 9, 0)


def test_a_value_copied_from_another_key_is_a_miss(cache: Cache, client: Any) -> None:
    cache.set("a", "for a")
    client.set("cache:b", client.get("cache:a"))
    assert cache.get("b") is None
    assert client.get("cache:b") is None
    assert cache.get("a") == "for a"
    # a shorter key with a longer value is other bytes too
    stored = client.get("cache:a")
    client.set("cache:", stored)
    assert cache.get("") is None
    assert cache.stats()["bad_seals"] == 2


def test_what_another_serializer_wrote_is_a_miss(client: Any) -> None:
    """Bytes from outside that one cache sealed as bytes, another must not unpickle."""
    raw = Cache(client, serializer="raw", seal=KEY)
    raw.set("k", pickle.dumps(functools.partial(os._exit, 3)))
    unpickler = Cache(client, serializer="pickle", seal=KEY)
    assert unpickler.get("k") is None
    assert unpickler.stats()["bad_seals"] == 1


def test_a_cache_without_a_key_reads_no_sealed_value(client: Any) -> None:
    Cache(client, seal=KEY).set("k", 1)
    plain = Cache(client)
    assert plain.get("k") is None
    assert client.get("cache:k") is None
    stats = plain.stats()
    assert (stats["corrupted"], stats["bad_seals"]) == (1, 0)


@given(
    st.binary(max_size=40),
    st.text(max_size=20),
    st.booleans(),
    st.integers(min_value=0),
)
def test_any_flipped_bit_is_a_miss(
    value: bytes, name: str, expires: bool, bit: int
) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        return
    client: Any = Client("memory://")
    cache = Cache(client, serializer="raw", seal=KEY, ttl=60 if expires else None)
    cache.set(name, value)
    assert cache.get(name) == value
    stored = bytearray(client.get(f"cache:{name}"))
    bit %= 8 * len(stored)
    stored[bit // 8] ^= 1 << bit % 8
    client.set(f"cache:{name}", bytes(stored))
    assert cache.get(name, "missing") == "missing"


def test_every_flipped_bit_and_every_cut_of_one_value() -> None:
    client: Any = Client("memory://")
    cache = Cache(client, seal=[KEY, OTHER])
    cache.set("k", [1, "two"], ttl=1000)
    stored = client.get("cache:k")
    changed = [stored[:size] for size in range(len(stored))] + [stored + b"\0"]
    for bit in range(8 * len(stored)):
        one = bytearray(stored)
        one[bit // 8] ^= 1 << bit % 8
        changed.append(bytes(one))
    for one in changed:
        client.set("cache:k", one)
        assert cache.get("k", "missing") == "missing"
        lease = one.startswith(MARK + b"L")
        assert client.get("cache:k") == (one if lease else None)
    client.set("cache:k", stored)
    assert cache.get("k") == [1, "two"]


def test_one_line_in_the_log(
    cache: Cache, client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "redlane"):
        for name in ("a\nb", "b", "b"):
            client.set(f"cache:{name}", b'"the value"')
            assert cache.get(name) is None
    assert [record.getMessage() for record in caplog.records] == [
        "The value of 'cache:a\\nb' has no valid seal and is dropped; others like it "
        "are only counted, as bad_seals"
    ]
    assert cache.stats()["bad_seals"] == 3


# --- expiry -----------------------------------------------------------------------


def test_a_sealed_value_ends_though_the_server_keeps_it(
    cache: Cache, client: Any
) -> None:
    now = time.time_ns() // 1_000_000
    client.set("cache:k", sealed(b"cache:k", b"1", expires_at=now - 1))
    assert cache.get("k") is None
    assert client.get("cache:k") is None
    client.set("cache:k", sealed(b"cache:k", b"1", expires_at=now - 1))
    assert cache.get_or_set("k", lambda: 2) == cache.get("k") == 2
    client.set("cache:k", sealed(b"cache:k", b"1", expires_at=now + 600_000))
    assert cache.get("k") == 1
    stats = cache.stats()
    assert (stats["corrupted"], stats["bad_seals"]) == (0, 0)


def test_touch_seals_anew(cache: Cache, client: Any) -> None:
    assert cache.touch("k", 60) is False
    cache.set("k", [1], ttl=10)
    assert cache.touch("k", 90) is True
    assert 30 < cache.ttl("k") <= 90  # type: ignore[operator]
    (expires_at,) = struct.unpack(">Q", client.get("cache:k")[6:14])
    assert client.get("cache:k") == sealed(b"cache:k", b"[1]", expires_at=expires_at)
    assert cache.get("k") == [1]
    assert cache.touch("k") is True
    assert client.ttl("cache:k") == -1
    assert client.get("cache:k") == sealed(b"cache:k", b"[1]")
    client.set("cache:k", b"[1]")
    assert cache.touch("k", 60) is False
    client.set("cache:k", MARK + b"L" + b"x" * 16)
    assert cache.touch("k", 60) is False
    assert client.get("cache:k") == MARK + b"L" + b"x" * 16


def test_touch_keeps_compression_and_the_first_key_seals(client: Any) -> None:
    old = Cache(client, seal=KEY, compress="zlib")
    old.set("k", "x" * 5000, ttl=50)
    new = Cache(client, seal=[OTHER, KEY])
    assert new.touch("k", 60) is True
    assert client.strlen("cache:k") < 200
    assert old.get("k") is None
    old.set("k", "x" * 5000, ttl=50)
    assert new.touch("k", 60) is True
    assert Cache(client, seal=OTHER).get("k") == "x" * 5000


# --- keys -------------------------------------------------------------------------


def test_rotation(client: Any) -> None:
    old, both, new = (
        Cache(client, seal=keys) for keys in ([KEY], [OTHER, KEY], [OTHER])
    )
    old.set("a", 1)
    assert both.get("a") == 1
    both.set("b", 2)
    assert client.get("cache:b") == sealed(b"cache:b", b"2", key=OTHER.encode())
    assert new.get("b") == 2
    assert new.get("a") is None
    last = Cache(client, seal=[b"x" * 40, b"y" * 16, OTHER.encode()])
    assert last.get("b") == 2


@pytest.mark.parametrize(
    "key", [b"0" * 16, "0" * 16, b"\0" * 16, b"k" * 10_000, "é" * 8]
)
def test_any_key_that_is_long_enough(client: Any, key: bytes | str) -> None:
    for keys in (key, [key], (key,)):
        cache = Cache(client, seal=keys)
        cache.set("k", 1)
        data = key.encode() if isinstance(key, str) else key
        assert client.get("cache:k") == sealed(b"cache:k", b"1", key=data)
        assert cache.get("k") == 1


@pytest.mark.parametrize(
    ("keys", "error", "words"),
    [
        (b"s3cret-too-shrt", ConfigurationError, "at least 16 bytes, not 15"),
        (["0" * 16, "s3cret"], ConfigurationError, "at least 16 bytes, not 6"),
        ([], ConfigurationError, "there is no key in the list"),
        ("s3cret\ud800" + "x" * 20, ConfigurationError, "no text that UTF-8 can write"),
        (5, TypeError, "a key .* or a list of keys, not int"),
        ({"s3cret": 1}, TypeError, "a key .* or a list of keys, not dict"),
        ([bytearray(b"s3cret" * 5)], TypeError, "bytes or str, not bytearray"),
        ([None], TypeError, "bytes or str, not NoneType"),
    ],
)
def test_unusable_keys(keys: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as raised:
        Cache("memory://", seal=keys)
    assert "s3cret" not in f"{raised.value} {raised.value.args!r}"
    assert raised.value.__cause__ is raised.value.__context__ is None


def test_the_list_of_keys_is_copied(client: Any) -> None:
    keys = [KEY]
    cache = Cache(client, seal=keys)
    keys[0] = b"x" * 16
    keys.clear()
    cache.set("k", 1)
    assert client.get("cache:k") == sealed(b"cache:k", b"1")


# --- numbers ----------------------------------------------------------------------


def test_numbers_that_the_server_changes_are_not_sealed(
    cache: Cache, client: Any
) -> None:
    for change in (cache.increment, cache.decrement):
        with pytest.raises(ConfigurationError, match="cannot add to a value"):
            change("n")
    assert client.get("cache:n") is None
    counter = cache.counter("count:{id}", ttl=60, source=lambda id: 41)
    assert counter.get(1) == 41
    assert counter.increment(1) == cache.get("count:1") == 42
    assert cache.increment("count:1") == 43
    assert client.get("cache:count:1") == b"43"
    assert cache.touch("count:1", 90) is True
    assert cache.get("count:1") == 43


# --- pickle -----------------------------------------------------------------------


class Thing:
    def __init__(self, content: object) -> None:
        self.content = content

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing) and other.content == self.content

    __hash__ = None  # type: ignore[assignment]


def test_pickle_needs_a_key() -> None:
    for options in ({}, {"seal": None}, {"compress": "zlib"}):
        with pytest.raises(ConfigurationError, match="needs seal="):
            Cache("memory://", serializer="pickle", **options)  # type: ignore[arg-type]


def test_pickled_objects_come_back(client: Any) -> None:
    cache = Cache(client, serializer="pickle", seal=KEY, compress="zlib")
    value = {(1, 2): Thing({b"x": {1, 2}}), "large": ["x"] * 5000}
    cache.set("k", value)
    assert cache.get("k") == value

    @cache
    def f(x: int) -> Thing:
        return Thing(x)

    assert f(1) == f(1) == Thing(1)
    assert f.cache_info().hits == 1
    assert repr(cache) == "<redlane.Cache prefix='cache' serializer='pickle'>"
    with pytest.raises(SerializationError, match="'function' cannot be pickled"):
        cache.set("k", lambda: 1)


def test_a_foreign_pickle_is_never_loaded(client: Any) -> None:
    cache = Cache(client, serializer="pickle", seal=KEY)
    bomb = pickle.dumps(functools.partial(os._exit, 3))
    for stored in (
        bomb,
        MARK + b"P" + bomb,
        MARK + b"E\x01\x20\x05" + key_id(KEY) + bomb + bytes(32),
        sealed(b"cache:k", bomb, key=b"not the cache's key", serializer="pickle"),
        sealed(b"cache:other", bomb, serializer="pickle"),
        sealed(b"cache:k", bomb, serializer="pickle", expires_at=5)[:-1] + b"?",
    ):
        client.set("cache:k", stored)
        assert cache.get("k") is None
    assert cache.stats()["bad_seals"] == 6


def test_an_unpicklable_content_is_a_miss(client: Any) -> None:
    cache = Cache(client, serializer="pickle", seal=KEY)
    client.set("cache:k", sealed(b"cache:k", b"no pickle", serializer="pickle"))
    assert cache.get("k") is None
    stats = cache.stats()
    assert (stats["corrupted"], stats["bad_seals"]) == (1, 0)


# --- threads ----------------------------------------------------------------------


@pytest.fixture
def busy_cache() -> Iterator[Cache]:
    with Client("memory://") as client:
        yield Cache(client, serializer="raw", seal=[OTHER, KEY])


def test_many_threads_seal_and_check(busy_cache: Cache) -> None:
    failures = []

    def work(number: int) -> None:
        for turn in range(30):
            value = bytes([number, turn]) * (50 if turn % 2 else 100_000)
            busy_cache.set(f"k{number}", value)
            if busy_cache.get(f"k{number}") != value:
                failures.append((number, turn))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert busy_cache.stats()["corrupted"] == 0
