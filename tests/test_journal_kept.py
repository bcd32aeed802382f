"""What a process does while its server is away, and what the server holds of it on the
return: one test to each kind of change."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from outage_tools import Switch, is_well, wait_until
from redlane import Cache, Client, Counter, VideoCache
from servers import PATIENT, Server
from toolset import is_connected


@pytest.fixture
def client(switch: Switch) -> Iterator[Client[Any]]:
    made = Client(switch.url, **PATIENT)
    made.ping()
    yield made
    made.close()


@pytest.fixture
def cache(client: Client[Any]) -> Cache:
    return Cache(client, prefix="c")


def hold(server: Server, **values: str) -> None:
    for key, value in values.items():
        server.cli("SET", f"c:{key}", value)


def test_deletes(switch: Switch, client: Client[Any], cache: Cache) -> None:
    hold(switch.server, a="1", b="2", c="3", d="4")
    switch.off(client)
    cache.delete("a")
    cache.delete_many(["b", "c", "never there"])
    assert client.health()["journal"]["keys"] == 4
    switch.on(client)
    assert switch.server.cli("KEYS", "c:*") == [b"c:d"]
    assert cache.get_many(["a", "b", "c", "d"]) == {"d": 4}


@pytest.mark.parametrize("whole", [False, True])
def test_patterns(
    switch: Switch, client: Client[Any], cache: Cache, whole: bool
) -> None:
    hold(switch.server, **{"user:1": "1", "user:2": "2", "other": "3"})
    switch.server.cli("SET", "foreign", "stays")
    switch.off(client)
    cache.set("user:1", "of the outage")
    cache.set("kept", "durable")
    if whole:
        cache.clear()
    else:
        cache.invalidate("c:user:*")
    cache.set("user:2", "after the invalidation")
    assert cache.get("user:1") is None
    switch.on(client)
    assert switch.server.cli("GET", "foreign") == b"stays"
    assert cache.get("user:1") is None
    assert cache.get("user:2") == "after the invalidation"
    assert cache.get("other") == (None if whole else 3)
    assert cache.get("kept") == (None if whole else "durable")


def test_a_set_with_a_ttl_is_a_delete(
    switch: Switch, client: Client[Any], cache: Cache
) -> None:
    hold(switch.server, a="1", b="2", c="3")
    switch.off(client)
    cache.set("a", "new", ttl=60)
    cache.set_many({"b": "new", "new": "new"}, ttl=60)
    assert cache.get_many(["a", "b", "new"]) == {"a": "new", "b": "new", "new": "new"}
    switch.on(client)
    assert switch.server.cli("KEYS", "c:*") == [b"c:c"]


def test_a_set_without_a_ttl_is_stored_where_nothing_is(
    switch: Switch, client: Client[Any], cache: Cache
) -> None:
    hold(switch.server, taken='"older"')
    switch.off(client)
    cache.set("free", "new")
    cache.set("taken", "new")
    cache.set_many({"many": "new", "later": "new"})
    switch.server.cli("SET", "c:later", '"of another process"')
    switch.on(client)
    assert cache.get_many(["free", "taken", "many", "later"]) == {
        "free": "new",
        "taken": "older",
        "many": "new",
        "later": "of another process",
    }
    assert switch.server.cli("TTL", "c:free") == -1


def test_a_set_after_a_delete_overwrites(
    switch: Switch, client: Client[Any], cache: Cache
) -> None:
    hold(switch.server, a='"older"', b='"older"', c='"older"', d='"older"')
    switch.off(client)
    cache.delete("a")
    cache.set("a", "new")
    cache.invalidate("c:b")
    cache.set("b", "new")
    cache.set("c", "temporary", ttl=60)  # a delete, too
    cache.set("c", "new")
    cache.delete("d")
    cache.set("d", "new", ttl=60, durable=True)
    switch.server.cli("SET", "c:a", '"of another process"')
    switch.on(client)
    assert cache.get_many(["a", "b", "c", "d"]) == dict.fromkeys("abcd", "new")
    assert switch.server.cli("TTL", "c:c") == -1
    assert 0 < switch.server.cli("TTL", "c:d") <= 60


def test_a_delete_after_a_set(
    switch: Switch, client: Client[Any], cache: Cache
) -> None:
    hold(switch.server, a='"older"')
    switch.off(client)
    cache.set("a", "new")
    cache.delete("a")
    cache.set("b", "new")
    cache.delete("b")
    switch.on(client)
    assert switch.server.cli("KEYS", "c:*") == []


def test_durable_keeps_what_is_left_of_its_ttl(
    switch: Switch, client: Client[Any], cache: Cache
) -> None:
    switch.off(client)
    cache.set("long", "v", ttl=100, durable=True)
    cache.set_many({"many": "v"}, ttl=100, durable=True)
    cache.set("short", "v", ttl=0.05, durable=True)
    wait_until(lambda: cache.get("short") is None, "the end of its TTL")
    switch.on(client)
    assert sorted(switch.server.cli("KEYS", "c:*")) == [b"c:long", b"c:many"]
    for key in ("c:long", "c:many"):
        assert 60_000 < switch.server.cli("PTTL", key) < 100_000


def test_add(switch: Switch, client: Client[Any], cache: Cache) -> None:
    hold(switch.server, taken='"older"', temporary='"older"')
    switch.off(client)
    assert cache.add("free", "first") is True
    assert cache.add("free", "second") is False
    assert cache.add("taken", "new") is True  # nobody here knows of the older one
    assert cache.add("temporary", "new", ttl=60) is True
    switch.on(client)
    assert cache.get_many(["free", "taken", "temporary"]) == {
        "free": "first",
        "taken": "older",
    }


def test_touch_is_a_delete(switch: Switch, client: Client[Any], cache: Cache) -> None:
    hold(switch.server, a="1", b="2")
    switch.off(client)
    assert cache.touch("b", ttl=60) is False  # the engine does not have it
    cache.set("a", "new")
    assert cache.touch("a", ttl=60) is True
    switch.on(client)
    assert switch.server.cli("KEYS", "c:*") == [b"c:b"]


def test_amounts(switch: Switch, client: Client[Any], cache: Cache) -> None:
    hold(switch.server, there="40")
    switch.server.cli("SET", "c:temporary", "7", "EX", "1000")
    switch.off(client)
    assert cache.increment("there", 5) == 5
    assert cache.increment("there") == 6
    cache.decrement("there", 4)
    cache.increment("temporary", 1)
    cache.increment("made", 3, ttl=60)
    cache.increment("made", 4)
    cache.decrement("for ever", 2)
    cache.increment("nought", 5)
    cache.decrement("nought", 5)
    switch.server.cli("INCRBY", "c:there", "100")
    switch.on(client)
    assert cache.get("there") == 142
    assert cache.get("temporary") == 8
    assert 900 < switch.server.cli("TTL", "c:temporary") <= 1000
    assert cache.get("made") == 7
    assert 0 < switch.server.cli("TTL", "c:made") <= 60
    assert (cache.get("for ever"), switch.server.cli("TTL", "c:for ever")) == (-2, -1)
    assert cache.get("nought") == 0


def test_amounts_after_a_set_or_a_delete(
    switch: Switch, client: Client[Any], cache: Cache
) -> None:
    hold(switch.server, deleted="40", set="40", dropped="40", fresh="40")
    switch.server.cli("DEL", "c:fresh")
    switch.off(client)
    cache.delete("deleted")
    cache.increment("deleted", 3)
    cache.delete("set")
    cache.set("set", 10)
    cache.increment("set", 3)
    cache.set("dropped", 10, ttl=60)
    cache.increment("dropped", 3)
    cache.set("fresh", 10)
    cache.increment("fresh", 3)
    switch.on(client)
    values = cache.get_many(["deleted", "set", "dropped", "fresh"])
    assert values == {"deleted": 3, "set": 13, "fresh": 13}


def test_an_amount_for_what_is_no_number(
    switch: Switch, client: Client[Any], cache: Cache
) -> None:
    """The server refuses it for ever: it is lost and counted, and the rest is told."""
    hold(switch.server, text='"no number"', a="1")
    switch.server.cli("SADD", "c:members", "x")
    switch.off(client)
    cache.increment("text")
    cache.increment("members")
    cache.delete("a")
    switch.on(client)
    assert cache.get("text") == "no number"
    assert switch.server.cli("TYPE", "c:members") == "set"
    assert switch.server.cli("EXISTS", "c:a") == 0
    assert client.health()["journal"]["lost"] == 2


def test_counters_are_rebuilt(
    switch: Switch, client: Client[Any], cache: Cache
) -> None:
    truth = {"1": 10, "2": 20, "3": 30}
    counter = Counter(client, "n:{id}", ttl=300, source=lambda id: truth[id])
    declared = cache.counter("d:{id}", ttl=300, source=lambda id: truth[id])
    for id in truth:
        assert (counter.get(id), declared.get(id)) == (truth[id], truth[id])
    switch.off(client)
    truth["1"] += 1
    counter.increment("1")
    cache.increment("d:1")
    truth["2"] -= 1
    truth["3"] += 1
    counter.transfer("2", "3")
    declared.transfer("2", "3")
    for id in truth:
        assert (counter.get(id), declared.get(id)) == (truth[id], truth[id])
    truth["1"] += 1
    counter.increment("1")
    declared.increment("1")
    switch.on(client)
    assert switch.server.cli("KEYS", "*") == []
    for id in truth:
        assert (counter.get(id), declared.get(id)) == (truth[id], truth[id])


def test_videos(switch: Switch, client: Client[Any]) -> None:
    videos = VideoCache(client)
    one, two, three, four = (("black", [str(n)]) for n in range(4))
    videos.set(*two, "older, temporary", permanent=False)
    videos.set(*three, "older, temporary", permanent=False)
    videos.set(*four, "older, permanent", permanent=True)
    switch.off(client)
    videos.set(*one, "new", permanent=False)
    videos.set(*two, "new", permanent=True)
    videos.set(*three, "new", permanent=False)
    videos.set(*four, "new", permanent=False)
    five = ("black", ["five"])
    videos.set(*five, "permanent", permanent=True)
    videos.set(*five, "temporary", permanent=False)
    assert videos.get(*five) == "permanent"
    switch.on(client)
    assert videos.get(*one) == "new"
    assert videos.get(*two) == "new"
    assert videos.get(*three) == "older, temporary"
    assert videos.get(*four) == "older, permanent"
    assert videos.get(*five) == "permanent"
    ttls = sorted(
        switch.server.cli("TTL", key) for key in switch.server.cli("KEYS", "*")
    )
    assert [ttl == -1 for ttl in ttls] == [True] * 3 + [False] * 2
    assert all(0 < ttl <= 86400 for ttl in ttls[3:])


def test_results_computed_meanwhile_win(
    switch: Switch, client: Client[Any], cache: Cache
) -> None:
    version = 1

    @cache(ttl=300)
    def f(n: int) -> int:
        return version

    assert [f(n) for n in range(4)] == [1, 1, 1, 1]
    switch.off(client)
    version = 2
    assert f(0) == 2  # a miss of the engine
    f.invalidate(1)
    assert f.refresh(2) == 2
    switch.on(client)
    version = 3
    assert (f(0), f(1), f(2), f(3)) == (3, 3, 3, 1)


@pytest.mark.parametrize("refresh", [True, False])
def test_a_computation_that_the_return_overtakes(
    switch: Switch, client: Client[Any], cache: Cache, refresh: bool
) -> None:
    """It began on the engine and ends when the server answers again: what it replaces
    there is not served after it."""
    version, going, healed = 1, threading.Event(), threading.Event()

    @cache(ttl=300)
    def f() -> int:
        if version == 2:
            going.set()
            assert healed.wait(120)
        return version

    assert f() == 1
    switch.off(client)
    version = 2
    results: list[int] = []
    thread = threading.Thread(
        target=lambda: results.append(f.refresh() if refresh else f())
    )
    thread.start()
    assert going.wait(60)
    switch.on(client)
    healed.set()
    thread.join()
    assert results == [2]
    if refresh:
        version = 3
        assert f() in (2, 3)


def test_get_or_set(switch: Switch, client: Client[Any], cache: Cache) -> None:
    hold(switch.server, a='"older"')
    switch.off(client)
    assert cache.get_or_set("a", lambda: "new", ttl=60) == "new"
    assert cache.get_or_set("a", lambda: "newer", ttl=60) == "new"
    switch.on(client)
    assert cache.get_or_set("a", lambda: "newest", ttl=60) == "newest"


def test_raw_commands_on_the_engine(switch: Switch) -> None:
    for n in range(1, 7):
        switch.server.cli("SET", f"k{n}", "10")
    client = Client(switch.url, fallback="memory", **PATIENT)
    client.ping()
    switch.off(client)
    client.delete("k1")
    client.unlink("k2")
    client.getdel("k3")
    client.set("k4", 20, ex=60)
    client.incr("k5", 5)
    client.decr("k5", 2)
    client.set("new", "v")
    client.mset({"m1": "1", "k6": "2"})
    with client.pipeline(transaction=True) as pipe:
        pipe.incr("k6", 1)
        pipe.set("p", "v")
        assert pipe.execute() == [3, True]
    switch.on(client)
    found = {
        key: switch.server.cli("GET", key) for key in switch.server.cli("KEYS", "*")
    }
    assert found == {
        b"k5": b"13",
        b"k6": b"11",
        b"m1": b"1",
        b"new": b"v",
        b"p": b"v",
    }
    client.close()


def test_a_client_that_misses_deletes_what_it_did_not_set(switch: Switch) -> None:
    for n in range(1, 5):
        switch.server.cli("SET", f"k{n}", "10")
    client = Client(switch.url, fallback="none", **PATIENT)
    client.ping()
    switch.off(client)
    client.delete("k1")
    client.set("k2", "dropped")
    client.set("k3", "dropped", ex=60)
    client.incr("k4")
    assert client.get("k2") is None
    switch.on(client)
    assert switch.server.cli("KEYS", "*") == [b"k4"]
    assert switch.server.cli("GET", "k4") == b"10"
    client.close()


def test_a_client_that_raises_keeps_nothing(
    switch: Switch, client: Client[Any]
) -> None:
    switch.server.cli("SET", "k", "10")
    switch.off(client)
    for call in (
        lambda: client.delete("k"),
        lambda: client.set("k", "v"),
        lambda: client.incr("k"),
    ):
        with pytest.raises(ConnectionError):
            call()
    raising = Cache(client, prefix="", fallback="raise")
    with pytest.raises(ConnectionError):
        raising.delete("k")
    journal = client.health()["journal"]
    assert (journal["keys"], journal["patterns"], journal["bytes"]) == (0, 0, 0)
    switch.on(client)
    assert is_well(client)
    assert switch.server.cli("GET", "k") == b"10"


def test_a_server_that_holds_writes_back_for_a_while(switch: Switch) -> None:
    """As one does that hands over to another: it answers PING, and no write."""
    client = Client(switch.url, timeout=0.2)
    cache = Cache(client, prefix="c")
    videos = VideoCache(client)
    wait_until(lambda: is_connected(client), "a connection")
    switch.off(client)
    cache.set("durable", "v")
    videos.set("black", ["white"], "url", permanent=True)
    switch.server.cli("CLIENT", "PAUSE", "4000", "WRITE")
    switch.on(client)
    # A busy machine may need more than one call to read in time.
    wait_until(lambda: cache.get("durable") == "v", "the value")
    wait_until(lambda: videos.get("black", ["white"]) == "url", "the video")
    assert client.health()["journal"]["lost"] == 0
    client.close()
