"""Counter: rebuilt from its source, changed only where it exists, TTL kept."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
import redlane
from hypothesis import given, settings
from hypothesis import strategies as st
from redlane import Cache, Counter

LEASE = b"\xffRLL" + b"x" * 16


class Source:
    """The truth: a dict of counts, and how often it was asked."""

    def __init__(self, **counts: int) -> None:
        self.counts = counts
        self.calls = 0

    def __call__(self, id: Any = "total") -> int:
        self.calls += 1
        return self.counts.get(str(id), 0)


@pytest.fixture
def source() -> Source:
    return Source(alice=3, bob=5, total=8)


@pytest.fixture
def counter(client: Any, source: Source) -> Counter:
    return Counter(client, "user_pixels:{id}", ttl=300, source=source)


def test_a_missing_counter_is_made_from_its_source(
    counter: Counter, client: Any, source: Source
) -> None:
    assert [counter.get("alice"), counter.get("alice"), counter.get(id="alice")] == [
        3,
        3,
        3,
    ]
    assert source.calls == 1
    assert client.get("user_pixels:alice") == b"3"
    assert 240_000 < client.pttl("user_pixels:alice") <= 300_000
    assert counter.get("nobody") == 0
    assert counter.key("alice") == "user_pixels:alice"


def test_only_a_counter_that_exists_is_changed(counter: Counter, client: Any) -> None:
    assert counter.increment("alice") is None
    assert client.dbsize() == 0
    counter.get("alice")
    assert counter.increment("alice") == 4
    assert counter.increment("alice", 5) == 9
    assert counter.increment("alice", amount=-1) == 8
    assert counter.decrement("alice", 2) == 6
    assert counter.get("alice") == 6
    assert counter.delete("alice") is True
    assert counter.reset("alice") is False
    assert counter.get("alice") == 3


def test_a_ttl_is_never_extended(counter: Counter, client: Any) -> None:
    counter.get("alice")
    counter.get("bob")
    client.pexpire("user_pixels:alice", 60_000)
    client.pexpire("user_pixels:bob", 60_000)
    counter.increment("alice")
    counter.decrement("alice")
    counter.transfer("alice", "bob")
    counter.get("alice")
    assert 0 < client.pttl("user_pixels:alice") <= 60_000
    assert 0 < client.pttl("user_pixels:bob") <= 60_000


def test_transfer(counter: Counter, client: Any) -> None:
    assert counter.transfer("alice", "bob") == (None, None)
    assert client.dbsize() == 0
    counter.get("alice")
    assert counter.transfer("alice", "bob") == (2, None)
    counter.get("bob")
    assert counter.transfer("alice", "bob") == (1, 6)
    assert counter.transfer(old="bob", new="alice") == (5, 2)
    assert counter.transfer("bob", "bob") == (5, 5)
    assert counter.transfer(("bob",), ("alice",)) == (4, 3)


def test_without_a_field(client: Any, source: Source) -> None:
    total = Counter(client, "total_pixels", ttl=60, source=source)
    assert total.get() == 8
    assert total.increment() == 9
    assert total.increment(5) == 14
    assert total.decrement(amount=4) == 10
    assert client.get("total_pixels") == b"10"
    assert total.delete() is True
    with pytest.raises(TypeError, match="0 fields"):
        total.get("id")
    with pytest.raises(TypeError):
        total.increment(1, 2)


def test_several_fields(client: Any) -> None:
    asked = []

    def source(app: str, user: int) -> int:
        asked.append((app, user))
        return 7

    counter = Counter(client, "n:{app}:{user}:{app}", source=source)
    assert counter.get("a", 5) == 7
    assert counter.get(user=5, app="a") == 7
    assert counter.key("a", 5) == "n:a:5:a"
    assert asked == [("a", 5)]
    assert counter.increment("a", 5, 3) == 10
    assert counter.transfer(("a", 5), ("b", 6)) == (9, None)
    assert client.pttl("n:a:5:a") == -1
    with pytest.raises(TypeError, match="2 fields"):
        counter.get("a")
    with pytest.raises(TypeError, match="2 fields"):
        counter.transfer("a", "b")


def test_without_a_source(client: Any) -> None:
    counter = Counter(client, "plain:{id}")
    assert counter.get(1) is None
    client.set("plain:1", 5)
    assert counter.get(1) == 5
    assert counter.increment(1) == 6


@pytest.mark.parametrize("junk", ["x", "1.5", "true", '"5"', "[1]", "null", "", "\xff"])
def test_an_unreadable_counter_is_rebuilt(
    counter: Counter, client: Any, source: Source, junk: str
) -> None:
    client.set("user_pixels:alice", junk.encode("latin-1"))
    assert counter.get("alice") == 3
    assert client.get("user_pixels:alice") == b"3"
    client.set("user_pixels:alice", junk.encode("latin-1"))
    assert counter.increment("alice") is None
    client.delete("user_pixels:bob")
    client.hset("user_pixels:bob", "a", "b")
    assert counter.get("bob") == 5


def test_a_rebuild_that_overlapped_a_change_is_not_stored(client: Any) -> None:
    change: Any = None
    changes = [
        lambda: counter.increment("a"),
        lambda: counter.decrement("a"),
        lambda: counter.transfer("a", "b"),
        lambda: counter.transfer("b", "a"),
        lambda: counter.delete("a"),
        lambda: cache.increment("n:a"),
    ]
    cache = Cache(client)

    def source(id: str) -> int:
        change()
        return 7

    counter = cache.counter("n:{id}", ttl=60, source=source)
    for now in changes:
        change = now
        assert counter.get("a") == 7
        assert client.exists("cache:n:a") == 0


def test_another_process_rebuilds(counter: Counter, client: Any, executor: str) -> None:
    """Its count is waited for, where other processes can be heard of."""
    client.set("user_pixels:alice", LEASE, px=60_000)
    rebuilt = threading.Timer(0.2, client.set, ("user_pixels:alice", 5))
    rebuilt.start()
    assert counter.get("alice") == (3 if executor == "engine" else 5)
    rebuilt.join()
    assert counter.increment("alice") == 6


def test_on_a_cache(client: Any, source: Source) -> None:
    cache = Cache(client, prefix="mural", ttl=90)
    counter = cache.counter("user_pixels:{id}", ttl=300, source=source)
    assert cache.increment("user_pixels:alice") is None
    assert cache.get("user_pixels:alice") is None
    assert counter.get("alice") == 3
    assert client.get("mural:user_pixels:alice") == b"3"
    assert cache.get("user_pixels:alice") == 3
    assert cache.get_many(["user_pixels:alice"]) == {"user_pixels:alice": 3}
    assert cache.increment("user_pixels:alice") == 4
    assert cache.decrement("user_pixels:alice") == 3
    assert cache.increment("other") == 1
    short = cache.counter("short")
    assert short.get() is None
    made = cache.counter("made", source=lambda: 1)
    assert made.get() == 1
    assert 0 < client.pttl("mural:made") <= 90_000


@pytest.mark.parametrize("serializer", ["raw", "msgpack"])
def test_counters_are_integers_whatever_the_serializer(
    client: Any, serializer: Any, source: Source
) -> None:
    cache = Cache(client, serializer=serializer)
    counter = cache.counter("n[*]:{id}", source=source)
    assert counter.get("alice") == 3
    assert cache.get("n[*]:alice") == 3
    assert client.get("cache:n[*]:alice") == b"3"
    cache.set("other", b"3")
    assert cache.get("other") == b"3"


def test_a_herd_asks_the_source_once(client: Any) -> None:
    calls = []
    barrier = threading.Barrier(20)
    results = []

    def source() -> int:
        calls.append(1)
        import time

        time.sleep(0.2)
        return 5

    counter = Counter(client, "total", source=source)

    def body() -> None:
        barrier.wait()
        results.append(counter.get())

    threads = [threading.Thread(target=body) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert results == [5] * 20


def test_large_counts(client: Any) -> None:
    counter = Counter(client, "big", source=lambda: 2**63 - 2)
    assert counter.get() == 2**63 - 2
    assert counter.increment() == 2**63 - 1
    with pytest.raises(redlane.ReplyError):
        counter.increment()
    assert counter.get() == 2**63 - 1


def test_bad_sources_and_arguments(client: Any) -> None:
    for result, error in (
        (1.5, TypeError),
        ("5", TypeError),
        (True, TypeError),
        (None, TypeError),
    ):
        with pytest.raises(error, match="not an int"):
            Counter(client, "x", source=lambda result=result: result).get()
    with pytest.raises(OverflowError):
        Counter(client, "x", source=lambda: 2**64).get()
    with pytest.raises(ZeroDivisionError):
        Counter(client, "x", source=lambda: 1 // 0).get()
    assert client.dbsize() == 0
    for template in (
        "{}",
        "{0}",
        "{a.b}",
        "{a!r}",
        "{a:5}",
        "{a",
        "{a}{b}{c}{d}{e}{f}{g}{h}{i}",
    ):
        with pytest.raises(ValueError):
            Counter(client, template)
    with pytest.raises(TypeError, match="template"):
        Counter(client, 5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="source"):
        Counter(client, "x", source=5)  # type: ignore[arg-type]
    counter = Counter(client, "x:{id}", source=lambda id: 1)
    for id in (None, True, 1.5, b"a", (), ["a"]):
        with pytest.raises(TypeError):
            counter.increment(id)
    for amount in (1.5, "1", True):
        with pytest.raises(TypeError):
            counter.increment("a", amount)  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        Counter(client, "x", ttl=0)
    assert repr(counter) == "<redlane.Counter 'x:{id}'>"
    assert counter.template == "x:{id}"


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["get", "increment", "decrement", "transfer", "delete", "expire"]
        ),
        st.sampled_from("ab"),
        st.sampled_from("ab"),
    ),
    max_size=30,
)


@given(STEPS)
@settings(max_examples=150, deadline=None)
def test_counters_equal_the_truth(steps: list[tuple[str, str, str]]) -> None:
    """Whatever is done, a counter that is read equals what the source would say."""
    client = redlane.Client("memory://")
    truth = {"a": 10, "b": 20}
    counter = Counter(client, "n:{id}", source=lambda id: truth[id])
    for name, one, other in steps:
        if name == "get":
            assert counter.get(one) == truth[one]
        elif name == "increment":
            truth[one] += 1
            assert counter.increment(one) in (None, truth[one])
        elif name == "decrement":
            truth[one] -= 1
            assert counter.decrement(one) in (None, truth[one])
        elif name == "transfer":
            truth[one] -= 1
            truth[other] += 1
            for id, value in zip(
                (one, other), counter.transfer(one, other), strict=True
            ):
                assert value in (None, truth[id])
        elif name == "delete":
            counter.delete(one)
        else:
            client.delete(f"n:{one}")
    for id, count in truth.items():
        assert counter.get(id) == count
        assert json.loads(client.get(f"n:{id}") or b"null") == count
