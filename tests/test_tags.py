"""Tags and namespaces: values that end together, by a number in a key of its own."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from children import started
from near_tools import wait_for_near, warm
from outage_tools import Switch, is_well, wait_until
from redlane import Cache, CachedFunction, Client, ConfigurationError
from servers import Server

PATIENCE = {"timeout": 10.0, "connect_timeout": 10.0}
GENERATION = b"\xffRLG"


@pytest.fixture
def cache(client: Any) -> Cache:
    """On the memory engine and on a server."""
    return Cache(client, prefix="app", ttl=300)


def make_far(server: Server, **options: Any) -> Cache:
    """A cache of its own, as another process would have; without a near cache."""
    options = {"prefix": "app", "ttl": 300, "near": False, **options}
    return Cache(Client(server.url, **PATIENCE), **options)


def calls_of(server: Server) -> dict[str, int]:
    """How often the server has executed each command, but for the scripts' own."""
    counts = {}
    for line in server.cli("INFO", "commandstats").decode().splitlines():
        name, _, fields = line.partition(":")
        if name.startswith("cmdstat_"):
            counts[name[8:]] = int(fields.partition(",")[0].partition("=")[2])
    return counts


def commands(server: Server, action: Callable[[], Any]) -> dict[str, int]:
    """Which commands an action made the server execute; INFO is ours."""
    before = calls_of(server)
    action()
    after = calls_of(server)
    changes = {name: after[name] - before.get(name, 0) for name in after}
    return {n: c for n, c in changes.items() if c and n not in ("info", "ping")}


# --- tags of a function -----------------------------------------------------------


def test_tags_of_a_function(cache: Cache) -> None:
    calls: list[tuple[int, str]] = []

    @cache(tags=["user:{user_id}", "all", lambda user_id, kind="x": [kind, b"bytes"]])
    def load(user_id: int, kind: str = "x") -> dict[str, Any]:
        calls.append((user_id, kind))
        return {"id": user_id, "kind": kind}

    for _ in range(2):
        assert load(1) == {"id": 1, "kind": "x"}
        assert load(user_id=2, kind="y") == {"id": 2, "kind": "y"}
    assert calls == [(1, "x"), (2, "y")]
    assert cache.invalidate_tags("user:1") == 1
    assert [load(1), load(2, "y")] == [load(user_id=1), load(2, kind="y")]
    assert calls[2:] == [(1, "x")]
    assert cache.invalidate_tags("y") == 1
    assert [load(1)["id"], load(2, "y")["id"]] == [1, 2]
    assert calls[3:] == [(2, "y")]
    assert cache.invalidate_tags("all", "bytes", "nobody") == 2
    assert [load(1)["id"], load(2, "y")["id"]] == [1, 2]
    assert calls[4:] == [(1, "x"), (2, "y")]
    assert cache.invalidate_tags() == 0
    assert cache.invalidate_tags("user") == 0  # a text, not a pattern
    assert load(1)["id"] == 1
    assert len(calls) == 6
    assert load.refresh(1)["id"] == 1
    assert load(1)["id"] == 1
    assert len(calls) == 7


def test_the_text_of_arguments(cache: Cache) -> None:
    from uuid import UUID

    @cache(tags="{a}-{b}")
    def f(a: Any, b: Any = None) -> int:
        return len(keys)

    keys = [
        ((1,), "1-None"),
        (("1", True), "1-True"),
        ((2.5, b"raw"), "2.5-raw"),
        ((UUID(int=7), "é"), f"{UUID(int=7)}-é"),
        (("x" * 3000, ""), "x" * 3000 + "-"),
    ]
    for arguments, tag in keys:
        f(*arguments)
        assert cache.invalidate_tags(tag) == 1, tag
        assert cache.invalidate_tags(tag) == 0, tag


class Textless:
    def __cache_key__(self) -> int:
        return 1


def test_what_cannot_be_a_tag(cache: Cache) -> None:
    def f(a: Any, b: Any = None) -> int:
        return 1

    with pytest.raises(TypeError, match="no parameter 'c'"):
        cache(tags="{c}")(f)
    with pytest.raises(ValueError, match="'b' is ignored"):
        cache(tags=["{a}", "{b}"], ignore=["b"])(f)
    for field in ("{a.b}", "{a[0]}", "{a!r}", "{a:>3}", "{}", "{0}"):
        with pytest.raises(ValueError, match="plain name of a parameter"):
            cache(tags=field)(f)
    with pytest.raises(ValueError, match="not be empty"):
        cache(tags=[""])(f)
    with pytest.raises(TypeError, match="a str or a callable, not int"):
        cache(tags=["a", 1])(f)  # type: ignore[list-item]
    with pytest.raises(TypeError, match="not int"):
        cache(tags=1)(f)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="32 tags"):
        cache(tags=["a"] * 33)(f)
    with pytest.raises(TypeError, match="no text of its own"):
        cache(tags="{a}")(f)(Textless())
    with pytest.raises(TypeError, match="str or bytes, not int"):
        cache(tags=lambda a: [a])(f)(1)
    with pytest.raises(ValueError, match="64 tags at most"):
        cache(tags=lambda a: [str(i) for i in range(65)])(f)(1)
    with pytest.raises(ZeroDivisionError):
        cache(tags=lambda a: str(1 // a))(f)(0)
    assert cache(tags=lambda a: None)(f)(1) == 1
    assert cache(tags=[])(f)(2) == 1
    for tag, error in (("", ValueError), (b"", ValueError), (1, TypeError)):
        with pytest.raises(error):
            cache.invalidate_tags("good", tag)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="prefix is too long"):
        Cache(cache.client, prefix="p" * 200).invalidate_tags("a")


# --- tags of values ---------------------------------------------------------------


def test_tags_of_values(cache: Cache) -> None:
    assert cache.set("a", [1], tags="one")
    assert cache.add("b", 2, tags=["one", "two"])
    cache.set_many({"c": 3, "d": {"x": None}}, tags=("two",))
    assert cache.get_or_set("e", lambda: 5, tags=["one"]) == 5
    cache.set("f", 6)
    everything = {"a": [1], "b": 2, "c": 3, "d": {"x": None}, "e": 5, "f": 6}
    assert cache.get_many("abcdef".replace("", " ").split()) == everything
    assert [cache.get(key) for key in everything] == list(everything.values())
    assert cache.invalidate_tags("one") == 1
    assert cache.get_many(list(everything)) == {k: everything[k] for k in "cdf"}
    assert [cache.has(key) for key in everything] == [k in "cdf" for k in everything]
    assert cache.ttl("f") is not None
    assert cache.ttl("d") is not None
    assert cache.get_or_set("e", lambda: 50, tags="one") == 50
    assert cache.invalidate_tags("two", "one") == 2
    assert cache.get_many(list(everything)) == {"f": 6}


def test_a_value_that_was_invalidated_is_none(cache: Cache) -> None:
    for look in (cache.has, cache.ttl, cache.get):
        cache.set("k", "old", tags=["t"])
        assert look("k")
        cache.invalidate_tags("t")
        assert not look("k")
    cache.set("k", "old", tags=["t"])
    assert not cache.add("k", "new")
    cache.invalidate_tags("t")
    assert cache.add("k", "new")
    assert not cache.add("k", "newer")
    assert cache.get("k") == "new"


@pytest.mark.parametrize("options", [{"compress": "zlib"}, {"seal": "s" * 32}])
def test_with_other_envelopes(client: Any, options: dict[str, Any]) -> None:
    cache = Cache(client, ttl=300, **options)
    text = "value " * 1000
    cache.set("k", text, tags=["t"])
    assert cache.get("k") == text
    assert cache.touch("k", 600)
    assert cache.get("k") == text
    assert cache.namespace("n").set("k", text)
    assert cache.namespace("n").get("k") == text
    cache.invalidate_tags("t")
    cache.namespace("n").clear()
    assert cache.get("k") is None
    assert cache.namespace("n").get("k") is None
    assert cache.stats()["corrupted"] == 0


def test_nothing_inside_disabled(cache: Cache) -> None:
    namespace = cache.namespace("n")
    with cache.disabled():
        assert not cache.set("k", 1, tags=["t"])
        assert not namespace.set("k", 1)
        cache.set_many({"k": 1}, tags=["t"])
        namespace.set_many({"k": 1})
    assert cache.get("k") is None
    namespace.set("k", 1)
    with cache.disabled():
        assert namespace.get("k") is None
    with namespace.disabled():
        assert namespace.get("k") is None
    assert namespace.get("k") == 1


# --- namespaces -------------------------------------------------------------------


def test_a_namespace(cache: Cache) -> None:
    tenant, other = cache.namespace("tenant-7"), cache.namespace("tenant-8")
    assert tenant.prefix == "app:tenant-7"
    calls: list[int] = []

    @tenant(tags="n:{n}")
    def f(n: int) -> str:
        calls.append(n)
        return "result"

    for view in (tenant, other, cache):
        assert view.set("k", view.prefix)
        view.set_many({"l": 1, "m": [2]}, tags="t")
    assert [f(1), f(1), f(2)] == ["result"] * 3
    assert f.cache_key(1).startswith("app:tenant-7:")
    assert cache.namespace("tenant-7").get("k") == "app:tenant-7"
    assert tenant.clear() == 1
    assert tenant.get_many(["k", "l", "m"]) == {}
    assert not tenant.has("k")
    assert tenant.ttl("k") is None
    assert not tenant.touch("k", 10)
    assert other.get_many(["k", "l", "m"]) == {"k": "app:tenant-8", "l": 1, "m": [2]}
    assert cache.get("k") == "app"
    assert [f(1), f(1)] == ["result"] * 2
    assert calls == [1, 2, 1]
    assert tenant.add("k", "again")
    assert tenant.get("k") == "again"
    assert tenant.touch("k", 1000)
    assert (tenant.ttl("k") or 0) > 400
    assert tenant.invalidate_tags("n:1") == 1  # its own, not the cache's
    assert cache.invalidate_tags("n:1") == 0
    assert f(1) == "result"
    assert calls == [1, 2, 1, 1]
    assert tenant.delete("k")
    assert not tenant.has("k")
    assert tenant.clear() == 1
    assert tenant.clear() == 0


def test_nested_namespaces(cache: Cache) -> None:
    outer = cache.namespace("a")
    inner = outer.namespace("b")
    inner.set("k", 1)
    outer.set("k", 2)
    assert inner.clear() == 1
    assert (inner.get("k"), outer.get("k")) == (None, 2)
    inner.set("k", 1)
    assert outer.clear() == 1
    assert (inner.get("k"), outer.get("k")) == (None, None)
    # no name is two, and none meets a key of the cache's tags
    assert cache.namespace("a:b").prefix == "app:a%3Ab"
    assert cache.namespace("a%3Ab").prefix == "app:a%253Ab"
    assert cache.namespace("@tag").prefix == "app:%40tag"


def test_what_a_namespace_does_not_have(cache: Cache) -> None:
    namespace = cache.namespace("n")
    for call in (namespace.increment, namespace.decrement, namespace.counter):
        with pytest.raises(ConfigurationError, match="no counters"):
            call("k")
    with pytest.raises(ValueError, match="not empty"):
        cache.namespace("")
    with pytest.raises(TypeError, match="must be a str"):
        cache.namespace(7)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="240 bytes"):
        cache.namespace("x" * 300)
    deep = cache
    with pytest.raises(ValueError, match="too deep"):
        for _ in range(20):
            deep = deep.namespace("n")


def test_a_value_that_is_not_of_the_namespace(cache: Cache) -> None:
    namespace = cache.namespace("n")
    cache.set("n:k", "foreign")
    assert cache.get("n:k") == "foreign"
    assert namespace.get("k") is None
    cache.set("n:k", "foreign", tags=["t"])
    assert namespace.get("k") is None
    cache.set("n:k", "foreign")
    assert namespace.add("k", "own")
    assert namespace.get("k") == cache.get("n:k") == "own"


# --- generations ------------------------------------------------------------------


def test_a_generation_that_is_gone_is_a_miss(redis_server: Server) -> None:
    cache = make_far(redis_server)
    namespace = cache.namespace("n")
    calls: list[int] = []

    @cache(tags="t", name="f")
    def f() -> int:
        calls.append(1)
        return len(calls)

    ends = [
        lambda key: redis_server.cli("DEL", key),  # as an eviction does
        lambda key: redis_server.cli("PEXPIREAT", key, 1),
        lambda key: redis_server.cli("RENAME", key, "elsewhere"),
    ]
    for end in ends:
        before = f()
        cache.set("k", 1, tags=["t"])
        namespace.set("k", 2)
        assert (cache.get("k"), namespace.get("k"), f()) == (1, 2, before)
        assert end("app:@tag:t") is not None
        assert end("app:n:@namespace") is not None
        assert (cache.get("k"), namespace.get("k")) == (None, None)
        assert f() == before + 1
    redis_server.cli("FLUSHALL")
    assert (cache.get("k"), namespace.get("k"), f()) == (None, None, len(ends) + 2)


@pytest.mark.parametrize(
    "there",
    [b"", b"1", GENERATION, GENERATION + b"1234567", GENERATION + b"123456789", b'"x"'],
)
def test_a_hostile_generation(redis_server: Server, there: bytes) -> None:
    cache = make_far(redis_server)
    namespace = cache.namespace("n")
    numbers = iter(range(9))
    f = cache(tags="t", name="f")(lambda: next(numbers))
    assert cache.set("k", 1, tags=["t"])
    assert namespace.set("k", 2)
    assert f() == 0
    for key in ("app:@tag:t", "app:n:@namespace"):
        redis_server.cli("SET", key, there)
    assert (cache.get("k"), namespace.get("k")) == (None, None)
    assert cache.get_many(["k"]) == namespace.get_many(["k"]) == {}
    assert (f(), f()) == (1, 1)
    assert cache.set("k", 3, tags=["t"])
    assert cache.get("k") == 3
    for key in ("app:@tag:t", "app:n:@namespace"):
        redis_server.cli("DEL", key)
        redis_server.cli("SADD", key, "member")
    assert (cache.get("k"), namespace.get("k")) == (None, None)
    assert (f(), f()) == (2, 2)
    assert cache.invalidate_tags("t") == 1


def test_a_generation_is_no_value(cache: Cache) -> None:
    cache.set("k", 1, tags=["t"])
    assert cache.get("@tag:t") is None  # and unreadable, so it went
    assert cache.get("k") is None
    cache.set("@tag:t", "a user's own")
    cache.set("k", 1, tags=["t"])
    assert cache.get("k") == 1


def test_how_long_a_generation_lives(redis_server: Server) -> None:
    cache = make_far(redis_server)

    def left() -> int:
        return int(redis_server.cli("PTTL", "app:@tag:t"))

    cache.set("k", 1, ttl=100, tags=["t"])
    assert left() >= 100_000
    cache.set("k", 1, ttl=86_400, tags=["t"])
    assert left() >= 86_400_000
    cache.set("k", 1, ttl=10, tags=["t"])
    assert left() >= 86_400_000 - 60_000
    cache.get_or_set("l", list, ttl=10**9, tags=["t"])
    assert left() >= 10**12
    Cache(cache.client, prefix="app", near=False).set("m", 1, tags=["t"])
    assert left() == -1


# --- what it costs ----------------------------------------------------------------


def test_one_round_trip(redis_server: Server) -> None:
    with Client(redis_server.url, **PATIENCE) as client:
        cache = Cache(client, prefix="app", ttl=300)
        cache.get("nothing")
        wait_for_near(client)
        namespace = cache.namespace("n")

        @namespace(tags=["a", "b", "c:{n}"])
        def f(n: int) -> int:
            return n

        f(0)  # the scripts are known from here on
        made = redis_server.cli("INFO", "stats")
        assert made
        fill = commands(redis_server, lambda: f(1))
        scripts = {"evalsha": 2, "set": fill["set"], "pttl": fill["pttl"]}
        assert {name: fill[name] for name in scripts} == scripts
        assert "mget" not in fill
        assert warm(f, lambda: f(1)) == 1
        assert commands(redis_server, lambda: [f(1) for _ in range(100)]) == {}
        namespace.set("k", [1])
        assert warm(namespace, lambda: namespace.get("k")) == [1]
        assert commands(redis_server, lambda: namespace.get("k")) == {}
        cache.set("k", "value", tags=["t"])
        assert warm(cache, lambda: cache.get("k")) == "value"
        assert commands(redis_server, lambda: cache.get("k")) == {}


def test_an_invalidation_is_one_command(redis_server: Server) -> None:
    cache = make_far(redis_server)
    namespace = cache.namespace("n")
    names = [f"key-{i}" for i in range(500)]
    cache.set_many(dict.fromkeys(names, 1), tags=["t"])
    namespace.set_many(dict.fromkeys(names, 2))
    assert len(cache.get_many(names)) == len(namespace.get_many(names)) == 500
    assert commands(redis_server, lambda: cache.invalidate_tags("t")) == {"del": 1}
    assert commands(redis_server, namespace.clear) == {"del": 1}
    assert cache.get_many(names[:20]) == namespace.get_many(names[:20]) == {}


# --- near -------------------------------------------------------------------------


@pytest.fixture
def near(redis_server: Server) -> Iterator[Cache]:
    with Client(redis_server.url, **PATIENCE) as client:
        made = Cache(client, prefix="app", ttl=300)
        made.get("nothing")
        wait_for_near(client)
        yield made


def test_an_invalidation_ends_near_values(near: Cache, redis_server: Server) -> None:
    far = make_far(redis_server)
    namespace = near.namespace("n")

    @near(tags=["f:{n}", "every"])
    def f(n: int) -> str:
        return far.client.get(f"source:{n}").decode()

    def fill() -> None:
        far.client.set("source:1", "old")
        far.client.set("source:2", "old")
        near.set("k", "old", tags=["k"])
        namespace.set("k", ["old"])
        assert warm(f, lambda: f(1)) == warm(f, lambda: f(2))
        warm(near, lambda: near.get("k"))
        warm(namespace, lambda: namespace.get("k"))

    fill()
    far.client.set("source:1", "new")
    far.client.set("source:2", "new")
    # this process: at once
    assert near.invalidate_tags("f:1", "k") == 2
    assert (f(1), f(2), near.get("k")) == ("new", "old", None)
    assert namespace.clear() == 1
    assert namespace.get("k") is None
    near.invalidate_tags("every")
    fill()
    # another one: when its message has come
    far.client.set("source:1", "new")
    far.client.set("source:2", "new")
    assert far.invalidate_tags("f:1", "k") == 2
    assert far.namespace("n").clear() == 1
    wait_until(lambda: f(1) == "new", "the end of f(1)")
    wait_until(lambda: near.get("k") is None, "the end of a value")
    wait_until(lambda: namespace.get("k") is None, "the end of a namespace's value")
    assert f(2) == "old"
    redis_server.cli("FLUSHALL")
    wait_until(lambda: not near.has("k"), "the flush")
    far.client.set("source:2", "newest")
    wait_until(lambda: f(2) == "newest", "the end of all")


def test_what_a_tag_is_forgotten_by(near: Cache, redis_server: Server) -> None:
    """A generation that expires or is evicted tells of it, as its deletion does."""
    near.set("k", "value", tags=["t"])
    warm(near, lambda: near.get("k"))
    redis_server.cli("PEXPIRE", "app:@tag:t", 1)
    wait_until(lambda: near.get("k") is None, "the expiry")


def test_a_view_does_not_take_what_is_near_of_another(near: Cache) -> None:
    namespace = near.namespace("n")
    for value in ("text", ["list"]):
        near.set("n:k", value)
        assert warm(near, lambda: near.get("n:k")) == value
        assert namespace.get("k") is None
        namespace.set("k", value)
        assert warm(namespace, lambda: namespace.get("k")) == value
        assert warm(near, lambda: near.get("n:k")) == value
        near.delete("n:k")


def test_many_values_of_one_tag(near: Cache) -> None:
    """Links are dropped with their values, and made anew as often as those are."""
    names = [f"k{i}" for i in range(300)]
    for turn in range(5):
        near.set_many(dict.fromkeys(names, turn), tags=["t", "u"])
        warm(near, lambda: near.get(names[-1]))
        for name in names:
            near.get(name)
        assert near.get_many(names) == dict.fromkeys(names, turn)
        if turn % 2:
            assert near.invalidate_tags("u") == 1
            assert near.get_many(names) == {}


# --- promise: nothing computed before an invalidation is used after it ------------


HOLDER = """
import sys
from redlane import Cache, Client

client = Client(sys.argv[1], timeout=10, connect_timeout=10)
cache = Cache(client, prefix="app", ttl=300)
if sys.argv[2] == "namespace":
    cache = cache.namespace("n")

@cache(tags="t", key="held")
def f():
    print("computing", flush=True)
    sys.stdin.readline()
    return "old"

print(f(), flush=True)
"""


def invalidate(cache: Cache, what: str) -> None:
    assert (cache.clear() if what == "namespace" else cache.invalidate_tags("t")) == 1


@pytest.mark.parametrize("what", ["tag", "namespace"])
def test_a_loader_of_another_process(redis_server: Server, what: str) -> None:
    cache = make_far(redis_server)
    view = cache.namespace("n") if what == "namespace" else cache
    f = view(tags="t", key="held")(lambda: "new")
    program = [sys.executable, "-c", HOLDER, redis_server.url, what]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with started(program, **pipes) as holder:
        assert holder.stdin
        assert holder.stdout
        assert holder.stdout.readline() == "computing\n"
        invalidate(view, what)
        answers: list[str] = []
        caller = threading.Thread(target=lambda: answers.append(f()))
        caller.start()  # it may wait, but not get what was begun before it came
        holder.stdin.write("\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == "old\n"
        caller.join()
        assert holder.wait() == 0
    assert answers == ["new"]
    assert f() == "new"


@pytest.mark.parametrize("what", ["tag", "namespace"])
@pytest.mark.parametrize("by", ["this process", "another"])
def test_a_loader_of_this_process(cache: Cache, what: str, by: str) -> None:
    view = cache.namespace("n") if what == "namespace" else cache
    begun, go = threading.Event(), threading.Event()
    calls: list[int] = []

    @view(tags="t", name="f")
    def f() -> str:
        calls.append(1)
        if len(calls) == 1:
            begun.set()
            assert go.wait(30)
            return "old"
        return "new"

    answers: list[str] = []
    first = threading.Thread(target=lambda: answers.append(f()))
    first.start()
    assert begun.wait(30)
    if by == "this process":
        invalidate(view, what)
    else:
        key = "app:n:@namespace" if what == "namespace" else "app:@tag:t"
        assert cache.client.delete(key) == 1
    later: list[str] = []
    second = threading.Thread(target=lambda: later.append(f()))
    second.start()
    go.set()
    first.join()
    second.join()
    assert answers == ["old"]  # it came before
    assert later == ["new"]
    assert f() == "new"
    assert f() == "new"


@pytest.mark.parametrize("what", ["tag", "namespace"])
def test_what_was_overtaken_is_not_stored(cache: Cache, what: str) -> None:
    view = cache.namespace("n") if what == "namespace" else cache

    @view(tags="t")
    def f(n: int) -> str:
        if n:
            invalidate(view, what)
        return "computed"

    assert f(1) == "computed"
    assert cache.client.exists(f.cache_key(1)) == 0
    assert f(0) == "computed"
    assert cache.client.exists(f.cache_key(0)) == 1


def test_waiters_of_another_process(redis_server: Server) -> None:
    """They take what it computes, as without tags, where nothing was invalidated."""
    cache = make_far(redis_server)
    f = cache(tags="t", key="held")(lambda: "new")
    program = [sys.executable, "-c", HOLDER, redis_server.url, "tag"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with started(program, **pipes) as holder:
        assert holder.stdin
        assert holder.stdout
        assert holder.stdout.readline() == "computing\n"
        answers: list[str] = []
        callers = [
            threading.Thread(target=lambda: answers.append(f())) for _ in range(5)
        ]
        for caller in callers:
            caller.start()
        holder.stdin.write("\n")
        holder.stdin.flush()
        for caller in callers:
            caller.join()
    assert answers == ["old"] * 5
    assert f.cache_info().misses == 0


def test_single_flight_with_tags(cache: Cache) -> None:
    gate = threading.Barrier(20)
    calls: list[int] = []

    @cache(tags=["t"])
    def f(turn: int) -> int:
        calls.append(turn)
        return turn

    def call(turn: int) -> None:
        gate.wait(30)
        assert f(turn) == turn

    for turn in range(3):
        threads = [threading.Thread(target=call, args=(turn,)) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert calls == list(range(turn + 1))


# A process that changes the source of a value, ends the value, and says so.
WRITER = """
import sys
from redlane import Cache, Client

url, what, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
client = Client(url, timeout=10, connect_timeout=10)
cache = Cache(client, prefix="app", ttl=300)
view = cache.namespace("n")
for version in range(1, rounds + 1):
    client.set("source", version)
    if what == "namespace":
        view.clear()
    else:
        view.invalidate_tags("t")
    client.set("ended", version)
"""


@pytest.mark.parametrize("what", ["tag", "namespace"])
def test_no_read_is_older_than_an_invalidation(redis_server: Server, what: str) -> None:
    rounds = 400
    stop = threading.Event()
    stale: list[tuple[int, int]] = []
    reads = [0] * 4

    def read(index: int, f: Callable[[], int], client: Any) -> None:
        while not stop.is_set():
            ended = int(client.get("ended") or 0)
            found = f()
            reads[index] += 1
            if found < ended:
                stale.append((found, ended))

    readers = []
    for index in range(4):
        cache = make_far(redis_server)
        f = cache.namespace("n")(tags=["t", "u"], name="f")(load_source(cache))
        readers.append(threading.Thread(target=read, args=(index, f, cache.client)))
    for reader in readers:
        reader.start()
    program = [sys.executable, "-c", WRITER, redis_server.url, what, rounds]
    with started(program) as writer:
        assert writer.wait() == 0
    stop.set()
    for reader in readers:
        reader.join()
    assert stale == []
    assert min(reads) > 0
    assert load_source(make_far(redis_server))() == rounds


def load_source(cache: Cache) -> Callable[[], int]:
    def load() -> int:
        return int(cache.client.get("source") or 0)

    return load


# --- outages ----------------------------------------------------------------------


@pytest.mark.parametrize("what", ["tag", "namespace"])
def test_invalidated_while_the_server_is_away(switch: Switch, what: str) -> None:
    with Client(switch.url, timeout=2, connect_timeout=2) as client:
        cache = Cache(client, prefix="app", ttl=300)
        view = cache.namespace("n") if what == "namespace" else cache
        calls: list[int] = []

        @view(tags="t")
        def f() -> int:
            calls.append(1)
            return len(calls)

        view.set("k", "server", tags=["t"])
        view.set("other", "server", tags=["other"])
        assert f() == 1
        warm(f, f)
        switch.off(client)
        assert view.set("k", "engine", tags=["t"])
        assert view.get("k") == "engine"
        assert [f(), f()] == [2, 2]
        invalidate(view, what)
        assert view.get("k") is None
        assert f() == 3
        switch.server.cli("SET", "app:unrelated", "1")
        switch.on(client)
        assert view.get("k") is None  # before anything else was read
        assert f() == 4
        assert f() == 4
        expected = None if what == "namespace" else "server"
        assert view.get("other") == expected
        wait_until(lambda: is_well(client), "the server")


@pytest.mark.parametrize("fallback", ["memory", "none", "raise"])
def test_a_server_that_takes_no_writes(fresh_server: Server, fallback: Any) -> None:
    with Client(fresh_server.url, **PATIENCE) as client:
        cache = Cache(client, prefix="app", ttl=300, fallback=fallback, near=False)
        calls: list[int] = []

        @cache(tags="t")
        def f(n: int) -> int:
            calls.append(n)
            return n

        cache.set("k", "value", tags=["t"])
        assert f(1) == 1
        fresh_server.cli("CONFIG", "SET", "maxmemory", "1")
        for _ in range(3):
            assert f(1) == 1
            assert f(2) == 2
            assert cache.get("k") == "value"
        assert calls == [1, 2, 2, 2]
        fresh_server.cli("CONFIG", "SET", "maxmemory", "0")
        wait_until(lambda: is_well(client), "the server")
        assert f(1) == 1
        assert cache.invalidate_tags("t") == 1
        assert cache.get("k") is None
        assert f(1) == 1
        assert calls.count(1) == 2


def test_shared_by_types(cache: Cache) -> None:
    made: CachedFunction[[int], int] = cache(tags=["n:{n}"])(abs_of)
    assert made(-3) == 3


def abs_of(n: int) -> int:
    return abs(n)


# --- with other options of functions ----------------------------------------------


class Shop:
    def __init__(self, name: str) -> None:
        self.name = name
        self.calls = 0

    def __cache_key__(self) -> str:
        return self.name

    def __str__(self) -> str:
        return self.name


def test_methods_and_partials(cache: Cache) -> None:
    class Store(Shop):
        @cache(tags=["shop:{self}", "item:{item}"])
        def price(self, item: int) -> int:
            self.calls += 1
            return item * 2

    def add(a: int, b: int, c: int = 3) -> int:
        sums.append(a)
        return a + b + c

    shop = Store("corner")
    assert [shop.price(1), shop.price(1), shop.price(2)] == [2, 2, 4]
    assert shop.calls == 2
    assert cache.invalidate_tags("item:1") == 1
    assert [shop.price(item=1), shop.price(2)] == [2, 4]
    assert shop.calls == 3
    assert cache.invalidate_tags("shop:corner") == 1
    assert [shop.price(1), shop.price(2)] == [2, 4]
    assert shop.calls == 5
    sums: list[int] = []
    part = cache(tags="{a}-{b}-{c}")(partial(add, 1, c=9))
    assert [part(2), part(2), part(b=2, c=4)] == [12, 12, 7]
    assert sums == [1, 1]
    assert cache.invalidate_tags("1-2-9") == 1
    assert [part(2), part(2, c=4)] == [12, 7]
    assert sums == [1, 1, 1]


def test_exceptions_of_tagged_functions_are_not_kept(cache: Cache) -> None:
    calls: list[int] = []

    def fail(n: int) -> int:
        calls.append(n)
        raise LookupError(n)

    untagged = cache(name="f", cache_exceptions={LookupError: 60})(fail)
    tagged = cache(name="f", tags="t", cache_exceptions={LookupError: 60})(fail)
    for function, count in ((untagged, 1), (tagged, 4), (tagged, 7)):
        for _ in range(3):
            with pytest.raises(LookupError):
                function(1)
        assert len(calls) == count


def test_a_ttl_of_the_result(redis_server: Server) -> None:
    cache = make_far(redis_server, ttl=10)

    @cache(tags="t", ttl=lambda result: 10**6)
    def f() -> int:
        return 1

    assert f() == 1
    assert int(redis_server.cli("PTTL", "app:@tag:t")) >= 10**9
    assert commands(redis_server, f)["set"] == 1


def test_a_hard_timeout(cache: Cache) -> None:
    calls: list[int] = []

    @cache(tags="t:{n}", hard_timeout=30)
    def f(n: int) -> int:
        calls.append(n)
        return n

    assert [f(1), f(1)] == [1, 1]
    cache.invalidate_tags("t:1")
    assert [f(1), f(1)] == [1, 1]
    assert f.refresh(1) == 1
    assert calls == [1, 1, 1]
