"""The near cache: reads that do not leave the process, and what ends their values."""

from __future__ import annotations

import dataclasses
import gc
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgspec
import pytest
from children import run_program
from near_tools import near_hits, near_state, wait_for_near, warm
from outage_tools import wait_until
from redlane import Cache, Client
from servers import Server
from tls import TlsServer

PATIENCE = {"timeout": 10.0, "connect_timeout": 10.0}
LEASE = b"\xffRLL" + b"0" * 28


@pytest.fixture
def client(redis_server: Server) -> Iterator[Client[bytes]]:
    with Client(redis_server.url, **PATIENCE) as made:
        yield made


@pytest.fixture
def cache(client: Client[bytes]) -> Cache:
    made = Cache(client, ttl=60)
    made.get("nothing")
    wait_for_near(client)
    return made


def gets_served(server: Server) -> int:
    """How many commands that read strings the server has executed."""
    text = server.cli("INFO", "commandstats").decode()
    count = 0
    for line in text.splitlines():
        name, _, fields = line.partition(":")
        if name in ("cmdstat_get", "cmdstat_mget", "cmdstat_set", "cmdstat_exists"):
            count += int(fields.partition(",")[0].partition("=")[2])
    return count


# --- hits -------------------------------------------------------------------------


def check_hits(server: Server, client: Client[bytes]) -> None:
    cache = Cache(client, ttl=60)
    calls = []

    @cache
    def double(x: int) -> int:
        calls.append(x)
        return 2 * x

    cache.set("k", "value")
    cache.set_many({"a": 1, "b": [1, 2]})
    assert double(4) == 8
    warm(
        cache,
        lambda: cache.get("k"),
        lambda: cache.get_many(["a"]),
        lambda: cache.get_many(["b"]),
        lambda: double(4),
    )
    before = gets_served(server)
    hits = cache.stats()["near_hits"]
    for _ in range(50):
        assert cache.get("k") == "value"
        assert cache.has("k")
        assert cache.get_many(["a", "b", "k"]) == {"a": 1, "b": [1, 2], "k": "value"}
        assert cache.get_or_set("k", list) == "value"
        assert double(4) == double(x=4) == 8
    assert gets_served(server) == before
    assert calls == [4]
    stats = cache.stats()
    assert stats["near_hits"] - hits == 50 * 7
    assert stats["hits"] >= stats["near_hits"]
    report = near_state(client)
    assert report["entries"] == 4
    assert 0 < report["bytes"] <= report["max_bytes"]


@pytest.mark.parametrize("unix", [False, True])
def test_a_hit_does_not_leave_the_process(redis_server: Server, unix: bool) -> None:
    url = redis_server.unix_url if unix else redis_server.url
    with Client(url, **PATIENCE) as client:
        check_hits(redis_server, client)


def test_a_hit_over_tls(tls_server: TlsServer) -> None:
    with Client(tls_server.url, tls_ca=str(tls_server.ca), **PATIENCE) as client:
        check_hits(tls_server, client)


def test_the_report_names_a_protocol_once_there_was_a_link(
    fresh_server: Server,
) -> None:
    with Client(fresh_server.url, **PATIENCE) as client:
        fresh_server.kill()
        cache = Cache(client, fallback="memory")
        assert cache.get("k") is None
        assert near_state(client)["protocol"] is None
        fresh_server.start()
        wait_until(lambda: cache.get("k") or near_state(client)["state"] == "on", "on")
        assert near_state(client)["protocol"] == "RESP3"


def test_a_part_of_many_keys_is_near(cache: Cache) -> None:
    cache.set_many({str(i): i for i in range(20)})
    warm(cache, *(partial(cache.get, str(i)) for i in range(0, 20, 2)))
    hits = near_hits(cache)
    names = [str(i) for i in range(22)]
    assert cache.get_many(names) == {str(i): i for i in range(20)}
    assert near_hits(cache) == hits + 10
    warm(cache, *(partial(cache.get, str(i)) for i in range(20)))
    hits = near_hits(cache)
    assert cache.get_many(iter(names)) == {str(i): i for i in range(20)}
    assert near_hits(cache) == hits + 20


def test_without_near_every_read_asks(redis_server: Server) -> None:
    with Client(redis_server.url, **PATIENCE) as client:
        for cache in (Cache(client, near=False), Cache(client, prefix="")):
            cache.set("k", 1)
            before = gets_served(redis_server)
            assert [cache.get("k") for _ in range(5)] == [1] * 5
            assert gets_served(redis_server) == before + 5
        assert near_state(client) is None
    memory = Client("memory://")
    cache = Cache(memory)
    cache.set("k", 1)
    assert [cache.get("k") for _ in range(3)] == [1] * 3
    assert near_state(memory) is None
    assert cache.stats()["near_hits"] == 0


def test_options_are_checked(client: Client[bytes]) -> None:
    for ttl in (0, -1, float("nan"), "1", None):
        with pytest.raises((TypeError, ValueError)):
            Cache(client, near_ttl=ttl)  # type: ignore[arg-type]


def test_disabled_goes_past_near(cache: Cache) -> None:
    calls = []

    @cache
    def f(x: int) -> int:
        calls.append(x)
        return x

    cache.set("k", 1)
    warm(cache, lambda: cache.get("k"), lambda: f(1))
    with cache.disabled():
        assert cache.get("k") is None
        assert not cache.has("k")
        assert cache.get_many(["k"]) == {}
        assert f(1) == 1
        assert calls == [1, 1]
    assert cache.get("k") == 1
    assert f(1) == 1
    assert calls == [1, 1]


def test_a_function_with_a_hard_timeout(cache: Cache) -> None:
    calls = []

    @cache(hard_timeout=30)
    def f(x: Any) -> int:
        calls.append(x)
        return 7

    for argument in (1, [1]):
        warm(f, partial(f, argument))
        hits = near_hits(f)
        assert f(argument) == 7
        assert near_hits(f) == hits + 1
    assert calls == [1, [1]]


def test_a_cached_exception_is_not_near(cache: Cache) -> None:
    @cache(cache_exceptions={LookupError: 60})
    def f(x: int) -> int:
        raise LookupError(x)

    for _ in range(5):
        with pytest.raises(LookupError):
            f(1)
    assert f.cache_info().misses == 1
    assert near_hits(f) == 0


def test_a_lease_is_never_near(cache: Cache, redis_server: Server) -> None:
    redis_server.cli("SET", "cache:k", LEASE)
    for _ in range(5):
        assert cache.get("k") is None
        assert not cache.has("k")
        assert cache.get_many(["k"]) == {}
    assert near_hits(cache) == 0


def test_a_declared_counter_is_asked_for(cache: Cache, redis_server: Server) -> None:
    cache.counter("n:{id}", source=lambda name: 5)
    cache.increment("free")
    for value in range(1, 20):
        redis_server.cli("SET", "cache:n:1", value)
        assert cache.get("n:1") == value
        assert cache.get_many(["n:1"]) == {"n:1": value}
        assert cache.has("n:1")
    assert near_hits(cache) == 0


# --- own writes -------------------------------------------------------------------

WRITES: dict[str, tuple[Callable[[Cache, Client[Any]], Any], Any]] = {
    "set": (lambda cache, client: cache.set("k", 2), 2),
    "set_many": (lambda cache, client: cache.set_many({"x": 1, "k": 2}), 2),
    "delete": (lambda cache, client: cache.delete("k"), None),
    "delete_many": (lambda cache, client: cache.delete_many(["x", "k"]), None),
    "increment": (lambda cache, client: cache.increment("k"), 2),
    "decrement": (lambda cache, client: cache.decrement("k"), 0),
    "invalidate": (lambda cache, client: cache.invalidate("cache:[jk]*"), None),
    "clear": (lambda cache, client: cache.clear(), None),
    "raw set": (lambda cache, client: client.set("cache:k", "2"), 2),
    "raw delete": (lambda cache, client: client.delete("cache:k"), None),
    "raw append": (lambda cache, client: client.append("cache:k", "0"), 10),
    "rename": (lambda cache, client: client.execute("RENAME", "cache:k", "z"), None),
    "copy": (lambda cache, client: client.execute("RENAME", "other", "cache:k"), 3),
    "pipeline": (lambda cache, client: in_pipeline(client, False), 2),
    "transaction": (lambda cache, client: in_pipeline(client, True), 2),
    "eval": (
        lambda cache, client: client.eval(
            "return redis.call('SET', KEYS[1], '2')", 1, "cache:k"
        ),
        2,
    ),
    "flushdb": (lambda cache, client: client.flushdb(), None),
    "flushall": (lambda cache, client: client.execute("FLUSHALL"), None),
    "another cache": (lambda cache, client: Cache(client, near=False).set("k", 2), 2),
}


def by_another_client(cache: Cache, client: Client[Any]) -> None:
    with Client(client.health()["url"], **PATIENCE) as other:
        other.set("cache:k", "2")


WRITES["another client"] = (by_another_client, 2)
WRITES["another client's cache"] = (
    lambda cache, client: Cache(client.health()["url"]).set("k", 2),
    2,
)
WRITES["another client's pattern"] = (
    lambda cache, client: Cache(client.health()["url"]).invalidate("cache:?"),
    None,
)


def in_pipeline(client: Client[Any], transaction: bool) -> None:
    with client.pipeline(transaction=transaction) as pipe:
        pipe.set("cache:x", "1").set("cache:k", "2")
        pipe.execute()


@pytest.mark.parametrize("name", WRITES)
def test_a_process_reads_its_own_write(
    cache: Cache, client: Client[bytes], name: str
) -> None:
    write, after = WRITES[name]
    for read in (
        lambda: cache.get("k"),
        lambda: cache.get_many(["k"]).get("k"),
    ):
        client.set("other", "3")
        cache.set("k", 1)
        assert warm(cache, read) == 1
        write(cache, client)
        assert read() == after


def test_a_process_reads_each_of_its_own_writes(cache: Cache) -> None:
    """The message of one write comes while the next is under way."""
    for i in range(500):
        cache.set("k", i)
        assert cache.get("k") == i
        assert cache.get("k") == i
    for i in range(200):
        cache.delete("k")
        assert cache.get("k") is None
        assert cache.get_or_set("k", lambda i=i: i) == i
        assert cache.get("k") == i


def test_a_function_is_invalidated_near(cache: Cache) -> None:
    version = [0]

    @cache
    def f(x: int) -> int:
        return version[0]

    for invalidate in (
        lambda: f.invalidate(1),
        f.invalidate_all,
        lambda: f.refresh(1),
        lambda: cache.invalidate("cache:*"),
        cache.clear,
        lambda: cache.client.delete(f.cache_key(1)),
        lambda: cache.client.flushdb(),
    ):
        warm(f, lambda: f(1))
        version[0] += 1
        assert f(1) == version[0] - 1
        invalidate()
        assert f(1) == f(x=1) == version[0]


# --- others' writes -----------------------------------------------------------------


def test_another_process_s_write_is_seen(cache: Cache, redis_server: Server) -> None:
    @cache
    def f(x: int) -> int:
        return 0

    for i in range(20):
        redis_server.cli("SET", "cache:k", i)
        wait_until(lambda i=i: cache.get("k") == i, "the write")
        redis_server.cli("SET", f.cache_key(7), i)
        wait_until(lambda i=i: f(7) == i, "the write")
    warm(cache, lambda: cache.get("k"))
    warm(f, lambda: f(7))
    redis_server.cli("DEL", "cache:k")
    wait_until(lambda: cache.get("k") is None, "the delete")
    redis_server.cli("DEL", f.cache_key(7))
    wait_until(lambda: f(7) == 0, "the delete")


@pytest.mark.parametrize("command", ["FLUSHALL", "FLUSHDB"])
def test_a_flush_is_seen(cache: Cache, redis_server: Server, command: str) -> None:
    for _ in range(3):
        cache.set_many({str(i): i for i in range(10)})
        warm(cache, *(partial(cache.get, str(i)) for i in range(10)))
        redis_server.cli(command)
        wait_until(
            lambda: not cache.get_many(map(str, range(10))), "the end of all values"
        )


def test_a_lost_link_ends_the_hits(cache: Cache, redis_server: Server) -> None:
    """What was written while the link was away is seen all the same."""
    client = cache.client
    for i in range(3):
        redis_server.cli("SET", "cache:k", "0")
        warm(cache, lambda: cache.get("k"))
        links = near_state(client)["links"]
        # Its write comes after the connection's end: no message can tell of it.
        redis_server.cli("CLIENT", "KILL", "TYPE", "pubsub")
        redis_server.cli("CLIENT", "KILL", "TYPE", "normal")
        redis_server.cli("SET", "cache:k", str(i + 1))
        wait_until(lambda i=i: cache.get("k") == i + 1, "the write")
        wait_until(lambda n=links: near_state(client)["links"] > n, "another link")
        warm(cache, lambda: cache.get("k"))


def test_an_expired_key_is_no_hit(cache: Cache, redis_server: Server) -> None:
    """Its end sends no message while nobody touches it."""

    @cache(ttl=0.5)
    def f(x: int) -> float:
        return time.monotonic()

    redis_server.cli("SET", "cache:k", "1", "PX", 700)
    assert warm(cache, lambda: cache.get("k")) == 1
    warm(f, lambda: f(1))
    until = time.monotonic() + 0.4
    while time.monotonic() < until:
        f(1)
        cache.get("k")
    # PTTL does not touch: an expired key is gone for it, but stays where it is.
    wait_until(lambda: redis_server.cli("PTTL", "cache:k") == -2, "the end")
    assert cache.get("k") is None
    assert time.monotonic() - f(1) < 0.6


def test_a_key_without_ttl_is_asked_for_again(redis_server: Server) -> None:
    with Client(redis_server.url, **PATIENCE) as client:
        cache = Cache(client, near_ttl=0.2)
        cache.set("k", 1)
        warm(cache, lambda: cache.get("k"))
        stores = near_state(client)["stores"]
        wait_until(
            lambda: cache.get("k") == 1 and near_state(client)["stores"] > stores,
            "the end of near_ttl",
        )


# --- values -----------------------------------------------------------------------


def test_a_value_that_a_caller_changes(cache: Cache) -> None:
    @cache
    def f(x: int) -> dict[str, list[int]]:
        return {"a": [x]}

    @cache(share=True)
    def shared(x: int) -> dict[str, list[int]]:
        return {"a": [x]}

    cache.set("k", {"a": [1]})
    for read in (
        lambda: cache.get("k"),
        lambda: cache.get_many(["k"])["k"],
        lambda: cache.get_or_set("k", dict),
    ):
        warm(cache, read)
        for _ in range(3):
            value = read()
            assert value == {"a": [1]}
            value["a"].append(2)
            value["b"] = 3
    warm(f, lambda: f(1))
    for _ in range(3):
        value = f(1)
        assert value == {"a": [1]}
        value["a"].append(2)
    warm(shared, lambda: shared(1))
    assert shared(1) is shared(1)
    shared(1)["a"].append(2)
    assert shared(x=1) == {"a": [1, 2]}
    # Others of the same key are not given that object.
    assert cache.get(shared.cache_key(1).removeprefix("cache:")) == {"a": [1]}


def test_an_immutable_value_is_one_object(cache: Cache) -> None:
    cache.set("k", "a text that is not interned")
    warm(cache, lambda: cache.get("k"))
    assert cache.get("k") is cache.get("k")


class Frozen(msgspec.Struct, frozen=True):
    name: str
    parts: tuple[int, ...] = ()


class Loose(msgspec.Struct, frozen=True):
    names: list[str]


class Open(msgspec.Struct):
    name: str


@dataclasses.dataclass
class Plain:
    name: str


@pytest.mark.parametrize(
    ("value", "shared"),
    [
        (Frozen("a", (1, 2)), True),
        (Loose(["a"]), False),
        (Open("a"), False),
        (Plain("a"), False),
        ((1, "a", (2.5, None)), True),
        ((1, ["a"]), False),
        (((((((1,),),),),),), False),
        (b"bytes", True),
    ],
    ids=repr,
)
def test_results_of_a_type(cache: Cache, value: Any, shared: bool) -> None:
    """One object if nobody can change it, else one for each caller."""

    def f(x: int) -> Any:
        return value

    f.__annotations__["return"] = (
        tuple[int, list[str]]
        if value == (1, ["a"])
        else tuple[int, str, tuple[float, None]]
        if value == (1, "a", (2.5, None))
        else tuple[tuple[tuple[tuple[tuple[tuple[int]]]]]]
        if isinstance(value, tuple)
        else type(value)
    )
    cached = cache(f)
    assert warm(cached, lambda: cached(1)) == value
    hits = near_hits(cached)
    results = [cached(1), cached([1][0]), cached(1)]
    assert results == [value] * 3
    assert near_hits(cached) == hits + 3
    assert (results[0] is results[1]) == shared
    # What others get of that key is what is stored.
    name = cached.cache_key(1).removeprefix("cache:")
    assert warm(cache, lambda: cache.get(name)) == cache.get(name)
    assert type(cache.get(name)) in (dict, list, str)
    assert cached(1) == value


@pytest.mark.parametrize(
    "options",
    [
        {"compress": "zlib", "compress_above": 10},
        {"seal": "a key of sixteen bytes"},
        {"seal": b"a key of sixteen bytes", "serializer": "pickle"},
        {"serializer": "msgpack", "compress": "zlib", "compress_above": 10},
    ],
    ids=str,
)
def test_wrapped_values(client: Client[bytes], options: Any) -> None:
    cache = Cache(client, ttl=60, **options)

    @cache
    def f(x: int) -> Any:
        return ["x" * 100, x]

    @cache
    def g(x: int) -> str:
        return "x" * 100 + str(x)

    cache.set("k", {"a": "x" * 100})
    reads = (lambda: cache.get("k"), lambda: f(1), lambda: g(1))
    warm(cache, *reads)
    hits = near_hits(cache)
    for _ in range(3):
        value = cache.get("k")
        assert value == {"a": "x" * 100}
        value["a"] = 1
        values = f(1)
        assert values == ["x" * 100, 1]
        values.append(2)
        assert g(1) == "x" * 100 + "1"
    assert near_hits(cache) == hits + 9
    assert g(1) is g(1)


def test_what_is_not_sealed_is_not_taken_from_near(client: Client[bytes]) -> None:
    """Though a cache without a seal has read it, and has it near."""
    open_cache = Cache(client, ttl=60)
    sealed = Cache(client, ttl=60, seal="a key of sixteen bytes")
    for value in ("forged", ["forged"]):
        open_cache.set("k", value)
        warm(open_cache, lambda: open_cache.get("k"))
        assert sealed.get("k") is None
        assert sealed.stats()["bad_seals"] > 0


def test_an_envelope_ends_before_its_key(client: Client[bytes]) -> None:
    """A sealed value says when it ends, though somebody makes its key stay."""
    cache = Cache(client, seal="a key of sixteen bytes")
    cache.set("k", "value", ttl=1)
    client.persist("cache:k")
    assert warm(cache, lambda: cache.get("k")) == "value"
    wait_until(lambda: cache.get("k") is None, "its end")


def test_caches_of_other_serializers(client: Client[bytes]) -> None:
    """Two that read one key do not get each other's objects."""

    class Upper:
        def dumps(self, value: str) -> bytes:
            return value.encode()

        def loads(self, stored: bytes) -> str:
            return stored.decode().upper()

    caches = [
        (Cache(client, serializer="raw"), b'"abc"'),
        (Cache(client), "abc"),
        (Cache(client, serializer=Upper()), '"ABC"'),
        (Cache(client, serializer=Upper()), '"ABC"'),
    ]
    caches[0][0].set("k", b'"abc"')
    for _ in range(20):
        for cache, value in caches:
            assert cache.get("k") == value
            assert cache.get("k") == value


def test_unreadable_values_are_dropped(cache: Cache, redis_server: Server) -> None:
    redis_server.cli("SET", "cache:k", "{")
    assert cache.get("k", "none") == "none"
    assert cache.stats()["corrupted"] == 1
    assert redis_server.cli("EXISTS", "cache:k") == 0


def fill(cache: Cache, count: int, size: int) -> None:
    text = "x" * size
    for start in range(0, count, 100):
        names = [str(i) for i in range(start, min(start + 100, count))]
        cache.set_many({name: text + name for name in names})
        cache.get_many(names)
        assert cache.get_many(names) == {name: text + name for name in names}


def test_the_near_cache_is_bounded(cache: Cache, client: Client[bytes]) -> None:
    fill(cache, 1200, 50_000)
    report = near_state(client)
    assert report["evictions"] > 0
    assert report["bytes"] <= report["max_bytes"] == 32 << 20
    cache.set("large", "x" * (33 << 20))
    for _ in range(3):
        assert len(cache.get("large")) == 33 << 20
    assert near_state(client)["bytes"] <= report["max_bytes"]


@pytest.mark.soak
def test_a_million_distinct_values(cache: Cache, client: Client[bytes]) -> None:
    @cache
    def f(x: int) -> int:
        return x

    for i in range(1_000_000):
        assert f(i) == i
        assert f(i) == i
    report = near_state(client)
    assert report["bytes"] <= report["max_bytes"]


def test_dead_values_are_released(cache: Cache, redis_server: Server) -> None:
    class Value:
        pass

    alive: weakref.WeakSet[Value] = weakref.WeakSet()

    class Serializer:
        def dumps(self, value: object) -> bytes:
            return b"x"

        def loads(self, stored: bytes) -> Value:
            value = Value()
            alive.add(value)
            return value

    made = Cache(cache.client, prefix="values", serializer=Serializer())

    @made(share=True)
    def f(x: int) -> Any:
        return None

    warm(f, *(partial(f, i) for i in range(30)))
    assert len(alive) >= 30
    made.clear()
    for i in range(30):  # what died goes as others come
        cache.set(str(i), i)
        cache.get(str(i))
    del f
    gc.collect()
    wait_until(lambda: cache.set("k", 1) and not alive, "the end of all values")


def test_references_are_given_back(cache: Cache) -> None:
    text = "".join(["a value", " of its own"])
    name = "".join(["an argument", " of its own"])
    cache.set("k", text)

    @cache
    def f(x: str) -> str:
        return text

    before = sys.getrefcount(name)
    for _ in range(3):
        value = warm(f, partial(f, name))
        count = sys.getrefcount(value)
        for _ in range(1000):
            f(name)
        assert sys.getrefcount(value) == count
        f.invalidate(name)
    del f
    gc.collect()
    assert sys.getrefcount(name) == before


# --- processes ----------------------------------------------------------------------

FORKING = """
import os, sys, time
from redlane import Cache, Client

client = Client(sys.argv[1], timeout=10, connect_timeout=10)
cache = Cache(client)

@cache
def f(x):
    return cache.get("n", 0)

def warm():
    end = time.monotonic() + 30
    while f.cache_info().near_hits < 1 or client.health()["near"]["state"] != "on":
        assert time.monotonic() < end
        f(1)
        cache.get("k")

cache.set("k", 1)
warm()
for round in range(5):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        os.read(reader, 1)  # the parent has written
        ok = cache.get("k") == round + 2
        cache.set("child", round)
        ok = ok and cache.get("child") == round
        before = f.cache_info().near_hits
        end = time.monotonic() + 30
        while f.cache_info().near_hits == before and time.monotonic() < end:
            f(1)
        ok = ok and f.cache_info().near_hits > before
        # As an interpreter ends, with its threads.
        sys.exit(0 if ok else 1)
    os.close(reader)
    cache.set("k", round + 2)
    os.write(writer, b"x")
    os.close(writer)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, round
    end = time.monotonic() + 30
    while cache.get("child") != round:
        assert time.monotonic() < end
    assert cache.get("k") == round + 2
print("well")
"""


def test_fork(redis_server: Server) -> None:
    # Python 3.12 warns of forks among threads, which is what is tried.
    quiet = ("-W", "ignore::DeprecationWarning")
    done = run_program(FORKING, redis_server.url, options=quiet, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "well\n", "")


EXIT = """
import sys, threading, time
from redlane import Cache, Client

client = Client(sys.argv[1], timeout=10, connect_timeout=10)
cache = Cache(client)

@cache
def f(x):
    return x

def call():
    while True:
        f(time.monotonic_ns() % 50)
        cache.set("k", 1)

for _ in range(3):
    threading.Thread(target=call, daemon=True).start()
time.sleep(float(sys.argv[2]))
"""


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.3])
def test_exit_at_any_moment(redis_server: Server, delay: float) -> None:
    done = run_program(EXIT, redis_server.url, delay, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_closed_client(redis_server: Server) -> None:
    client = Client(redis_server.url, **PATIENCE)
    cache = Cache(client)

    calls = []

    @cache
    def f(x: int) -> int:
        calls.append(x)
        return x

    warm(f, lambda: f(1))
    cache.set("k", 1)
    warm(cache, lambda: cache.get("k"))
    client.close()
    for read in (cache.get, cache.has, lambda name: cache.get_many([name])):
        with pytest.raises(ConnectionError):
            read("k")
    assert f(1) == 1
    assert calls == [1, 1]


def test_an_acl_that_forbids_tracking(redis_server: Server) -> None:
    redis_server.cli(
        *("ACL", "SETUSER", "plain", "on", ">secret", "~*", "+@all", "-client")
    )
    url = redis_server.url.replace("://", "://plain:secret@")
    try:
        with Client(url, **PATIENCE) as client:
            cache = Cache(client)
            cache.set("k", 1)
            assert cache.get("k") == 1
            wait_until(lambda: near_state(client)["state"] == "refused", "the refusal")
            assert "NOPERM" in near_state(client)["reason"]
            assert "secret" not in str(client.health())
            for i in range(5):
                redis_server.cli("SET", "cache:k", i)
                assert cache.get("k") == i
            assert near_hits(cache) == 0
    finally:
        redis_server.cli("ACL", "DELUSER", "plain")
