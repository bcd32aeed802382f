"""What a process keeps for its server is bounded. Where there is no room for each key
of a cache, all that is under its prefix is forgotten instead; what has no such prefix
is lost, counted, and said."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import Any

import pytest
from outage_tools import Switch, is_well, messages
from redlane import Cache, Client
from servers import PATIENT

LIMIT = 16 << 20
PATTERNS = 256


@pytest.fixture
def client(switch: Switch) -> Iterator[Client[Any]]:
    made = Client(switch.url, **PATIENT)
    made.ping()
    yield made
    made.close()


def long_names(count: int) -> Iterator[list[str]]:
    """Names of 1,000 characters, a thousand at a time."""
    for start in range(0, count, 1000):
        yield [f"{n:01000d}" for n in range(start, start + 1000)]


def journal_of(client: Client[Any]) -> dict[str, int]:
    journal: dict[str, int] = client.health()["journal"]
    assert journal["bytes"] <= LIMIT
    return journal


def test_more_deletes_than_fit(
    switch: Switch, client: Client[Any], caplog: pytest.LogCaptureFixture
) -> None:
    cache, other = Cache(client, prefix="c[1]"), Cache(client, prefix="other")
    names = list(long_names(20_000))
    for some in (names[0], names[-1]):
        cache.set_many(dict.fromkeys(some[:10], "old"), ttl=300)
    cache.set("beside", "old", ttl=300)
    other.set("there", "old")
    switch.server.cli("SET", "c1:foreign", "stays")
    switch.off(client)
    cache.set("before", "durable")
    for some in names:
        cache.delete_many(some)
        journal_of(client)
    assert journal_of(client)["patterns"] == 1
    assert journal_of(client)["lost"] == 0
    cache.set("after", "durable")
    for some in (names[0], names[-1]):
        assert cache.get_many(some[:10]) == {}
    switch.on(client)
    for some in (names[0], names[-1]):
        assert cache.get_many(some[:10]) == {}
    assert cache.get_many(["before", "after", "beside"]) == {
        "before": "durable",
        "after": "durable",
    }
    assert other.get("there") == "old"
    assert switch.server.cli("GET", "c1:foreign") == b"stays"
    assert messages(caplog.records, "did not hear") == []


def test_more_deletes_than_fit_without_a_prefix(
    switch: Switch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="redlane")
    client = Client(switch.url, fallback="memory", **PATIENT)
    client.ping()
    switch.off(client)
    for some in long_names(20_000):
        client.delete(*some)
    lost = journal_of(client)["lost"]
    assert 0 < lost < 20_000
    client.set("k" * 1000, "v")  # lost, too
    switch.on(client)
    client.ping()
    assert messages(caplog.records, "did not hear") == [
        f"Redis did not hear of {lost + 1} changes made while it was away: "
        f"redis://127.0.0.1:{switch.proxy.port}/0"
    ]
    assert switch.server.cli("DBSIZE") == 0
    client.close()


def test_more_values_than_fit(switch: Switch, client: Client[Any]) -> None:
    """One that finds no room is not stored, and what it replaced is not served."""
    cache = Cache(client, prefix="c", serializer="raw")
    names = [f"v{n}" for n in range(24)]
    cache.set_many(dict.fromkeys(names, b"old"))
    switch.off(client)
    for name in names:
        cache.delete(name)
        cache.set(name, b"x" * (1 << 20))
        assert cache.get(name) == b"x" * (1 << 20)
        journal_of(client)
    lost = journal_of(client)["lost"]
    assert 8 <= lost <= 10
    switch.on(client)
    sizes = [len(cache.get(name, b"")) for name in names]
    assert sizes.count(1 << 20) == 24 - lost
    assert sizes.count(0) == lost
    assert journal_of(client)["bytes"] == 0


def test_more_patterns_than_fit(switch: Switch, client: Client[Any]) -> None:
    cache, other = Cache(client, prefix="c[1]"), Cache(client, prefix="other")
    names = [f"u{n}:page" for n in range(2 * PATTERNS)]
    cache.set_many(dict.fromkeys(names, "old"))
    other.set("there", "old")
    switch.off(client)
    for n in range(2 * PATTERNS):
        cache.invalidate(rf"c\[1\]:u{n}:*")
    assert journal_of(client)["patterns"] <= PATTERNS
    assert journal_of(client)["lost"] == 0
    cache.set("u7:page", "new")
    switch.on(client)
    assert cache.get_many(names) == {"u7:page": "new"}
    assert other.get("there") == "old"


def test_memory_does_not_grow(switch: Switch, client: Client[Any]) -> None:
    cache = Cache(client, prefix="c")
    rounds = 40 if "REDLANE_SOAK" in os.environ else 6
    seen = []
    for _ in range(rounds):
        switch.off(client)
        for some in long_names(5000):
            cache.delete_many(some)
            cache.set_many(dict.fromkeys(some[:100], "x" * 1000))
        switch.on(client)
        cache.clear()
        assert journal_of(client)["bytes"] == 0
        assert client.health()["engine"]["bytes"] == 0
        with open("/proc/self/statm") as statm:
            seen.append(int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE"))
    assert is_well(client)
    assert seen[-1] - seen[1] < 16 << 20, seen
