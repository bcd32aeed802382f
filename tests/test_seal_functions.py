"""Seals and the options of cached functions: TTLs of the result, and exceptions."""

from __future__ import annotations

import struct
import time
from typing import Any

import pytest
from redlane import Cache
from test_seal import KEY


@pytest.fixture
def cache(client: Any) -> Cache:
    return Cache(client, seal=KEY, near=False)


def test_the_end_that_is_sealed_is_that_of_the_result(
    cache: Cache, client: Any
) -> None:
    @cache(ttl=lambda found: "10m" if found else None)
    def search(word: str) -> list[str]:
        return [word] if word else []

    before = time.time_ns() // 1_000_000
    assert search("a") == search("a") == ["a"]
    stored = client.get(search.cache_key("a"))
    (end,) = struct.unpack(">Q", stored[6:14])
    assert before + 600_000 <= end <= time.time_ns() // 1_000_000 + 600_000
    assert search("") == search("") == []
    assert client.ttl(search.cache_key("")) == -1
    assert search.cache_info().hits == 2


def test_exceptions_are_sealed_too(cache: Cache, client: Any) -> None:
    calls = []

    @cache(cache_exceptions={LookupError: 60})
    def find(word: str) -> str:
        calls.append(word)
        raise KeyError(word)

    for _ in range(3):
        with pytest.raises(KeyError, match="a"):
            find("a")
    assert calls == ["a"]
    key = find.cache_key("a")
    stored = bytearray(client.get(key))
    assert b"KeyError" in stored
    assert cache.get(key.removeprefix("cache:")) is None
    assert cache.stats()["bad_seals"] == 0
    stored[-1] ^= 1
    client.set(key, bytes(stored))
    with pytest.raises(KeyError):
        find("a")
    assert calls == ["a", "a"]
    assert cache.stats()["bad_seals"] == 1


def test_what_somebody_else_put_there_is_not_raised(cache: Cache, client: Any) -> None:
    plain = Cache(client, near=False)

    @plain(name="f", cache_exceptions={LookupError: 60})
    def forging(word: str) -> str:
        raise KeyError(word)

    @cache(name="f", cache_exceptions={LookupError: 60})
    def honest(word: str) -> str:
        return word

    with pytest.raises(KeyError):
        forging("a")
    assert client.get(honest.cache_key("a")).startswith(b"\xffRLX")
    assert honest("a") == honest("a") == "a"
    assert cache.stats()["bad_seals"] == 1


def test_a_sealed_value_is_never_taken_for_an_exception(client: Any) -> None:
    cache = Cache(client, serializer="raw", seal=KEY, near=False)
    calls = []

    @cache(cache_exceptions={LookupError: 60})
    def load() -> bytes:
        calls.append(1)
        return b'\xffRLX["builtins","KeyError",["a"]]'

    assert load() == load() == b'\xffRLX["builtins","KeyError",["a"]]'
    assert len(calls) == 1
