"""Near values of caches that seal or compress, and of functions whose results have a
type: nobody is handed what he would not have read from the server."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from near_tools import wait_for_near, warm
from outage_tools import wait_until
from redlane import Cache, Client
from servers import Server
from test_seal import KEY, OTHER, sealed

PATIENCE = {"timeout": 10.0, "connect_timeout": 10.0}


@dataclasses.dataclass
class Point:
    x: int


class Name(msgspec.Struct, frozen=True):
    first: str
    more: tuple[str, ...] = ()


class Person(msgspec.Struct, frozen=True):
    name: Name
    age: float | None = None


class Team(msgspec.Struct, frozen=True):
    members: list[Name]


class Open(msgspec.Struct):
    x: int


@pytest.fixture
def client(redis_server: Server) -> Iterator[Client[bytes]]:
    with Client(redis_server.url, **PATIENCE) as made:
        Cache(made).get("nothing")
        wait_for_near(made)
        yield made


@pytest.mark.parametrize(
    "options",
    [
        {"seal": KEY},
        {"compress": "zlib", "compress_above": 10},
        {"seal": [KEY, OTHER], "compress": "zlib"},
        {"seal": KEY, "serializer": "pickle"},
    ],
    ids=["sealed", "compressed", "both", "pickled"],
)
def test_wrapped_values_come_near(
    client: Client[bytes], options: dict[str, Any]
) -> None:
    cache = Cache(client, ttl=60, **options)
    calls = []

    @cache
    def listed(n: int) -> list[int]:
        calls.append(n)
        return [n] * 500

    @cache
    def text(n: int) -> str:
        return "x" * n

    for value in ("immutable" * 10, ["mutable"] * 10):
        cache.set("k", value)
        got = warm(cache, lambda: cache.get("k"))
        assert got == value
        assert cache.get_many(["k"]) == {"k": value}
    got = warm(listed, lambda: listed(3))
    got.append(4)
    assert listed(3) == listed(n=3) == [3] * 500
    assert warm(text, lambda: text(50)) == "x" * 50
    assert calls == [3]
    stats = cache.stats()
    assert (stats["corrupted"], stats["bad_seals"]) == (0, 0)


def test_objects_of_a_type_are_not_handed_to_others(client: Client[bytes]) -> None:
    cache = Cache(client, ttl=60)

    @cache(share=True)
    def shared(n: int) -> Point:
        return Point(n)

    @cache
    def fresh(n: int) -> Point:
        return Point(n)

    @cache
    def pairs(n: int) -> tuple[int, str]:
        return (n, "a")

    assert warm(shared, lambda: shared(1)) is shared(1)
    assert warm(fresh, lambda: fresh(1)) == Point(1)
    assert fresh(1) is not fresh(1)
    assert warm(pairs, lambda: pairs(1)) is pairs(1)
    assert pairs(1) == (1, "a")
    for function, plain in ((shared, {"x": 1}), (fresh, {"x": 1}), (pairs, [1, "a"])):
        key = function.cache_key(1).removeprefix("cache:")
        assert warm(cache, lambda key=key: cache.get(key)) == plain
    assert warm(shared, lambda: shared(1)) == Point(1)
    assert warm(pairs, lambda: pairs(1)) == (1, "a")


def test_frozen_structs_are_handed_out_as_they_are(client: Client[bytes]) -> None:
    cache = Cache(client, ttl=60)
    person = Person(Name("a", ("b",)))

    @cache
    def frozen() -> Person:
        return person

    @cache
    def several() -> tuple[Person, Name]:
        return (person, Name("c"))

    @cache
    def team() -> Team:
        return Team([Name("a")])

    @cache
    def changeable() -> Open:
        return Open(1)

    assert warm(frozen, frozen) is frozen()
    assert frozen() == person
    assert warm(several, several) is several()
    for function, result in ((team, Team([Name("a")])), (changeable, Open(1))):
        got = warm(function, function)
        assert got == function() == result
        assert got is not function()


def test_a_near_value_of_an_unsealed_cache_is_no_hit(client: Client[bytes]) -> None:
    """Another cache of this process has read what somebody put there."""
    plain = Cache(client, ttl=60)
    safe = Cache(client, ttl=60, seal=KEY)
    for forged in (b'"forged"', b'["forged"]'):
        client.set("cache:k", forged)
        assert warm(plain, lambda: plain.get("k")) in ("forged", ["forged"])
        assert safe.get("k") is None
        assert client.get("cache:k") is None
    assert safe.stats()["bad_seals"] == 2
    for value in ("true", ["true"]):
        safe.set("k", value)
        assert warm(safe, lambda: safe.get("k")) == value
        other = Cache(client, ttl=60, seal=OTHER)
        assert plain.get("k") is None
        safe.set("k", value)
        assert warm(safe, lambda: safe.get("k")) == value
        assert other.get("k") is None
    assert safe.stats()["corrupted"] == 2


@pytest.mark.parametrize("content", [b"1", b"[1]"])
def test_a_near_value_ends_by_its_own_time(
    client: Client[bytes], content: bytes
) -> None:
    cache = Cache(client, seal=KEY)
    end = time.time_ns() // 1_000_000 + 2_000
    client.set("cache:k", sealed(b"cache:k", content, expires_at=end))
    value = cache.get("k")
    assert value in (1, [1], None)
    wait_until(lambda: cache.get("k") is None, "the end of the value")
    assert time.time_ns() // 1_000_000 >= end - 20  # its deadline is a tick early
    assert client.ttl("cache:k") == -2
    later = end + 1_000_000
    client.set("cache:k", sealed(b"cache:k", content, expires_at=later))
    assert warm(cache, lambda: cache.get("k")) in (1, [1])
