"""Freshness and tags against interruptions, other functions of one key, callbacks that
do what they should not, and what anybody may have stored."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import redlane
import redlane._workers
from children import run_program, wait_until_asleep
from fresh_tools import Loader, grow_old, lock_of, locks
from kept_code import environment
from near_tools import near_hits, wait_for_near, warm
from outage_tools import wait_until
from redlane import Cache, CachedFunction, Client
from redlane._workers import Workers
from servers import PATIENT, Server

GENERATION = b"\xffRLG"


@pytest.fixture
def cache(client: Any) -> Cache:
    """On the memory engine and on a server."""
    return Cache(client, prefix="app", ttl=300)


@pytest.fixture
def loader() -> Loader:
    return Loader()


@pytest.fixture
def near(redis_server: Server) -> Iterator[Cache]:
    with Client(redis_server.url, **PATIENT) as client:
        made = Cache(client, prefix="app", ttl=300)
        made.get("nothing")
        wait_for_near(client)
        yield made


# --- Ctrl-C -----------------------------------------------------------------------


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


class Alarm:
    """Ctrl-C at the next call of it, once it is set."""

    def __init__(self) -> None:
        self.is_set = False

    def __call__(self) -> None:
        if self.is_set:
            self.is_set = False
            interrupt()


class Pickled:
    """A serializer in which a signal may arrive."""

    def __init__(self, alarm: Alarm) -> None:
        self.alarm = alarm

    def dumps(self, value: Any) -> bytes:
        return json.dumps(value).encode()

    def loads(self, stored: bytes) -> Any:
        self.alarm()
        return json.loads(stored)


def test_ctrl_c_as_a_refresh_is_handed_to_a_worker(
    cache: Cache, client: Any, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(Workers):
        def submit(self, job: Callable[[], object]) -> bool:
            interrupt()
            return super().submit(job)

    f = cache(ttl=100, stale=100, name="f")(lambda: loader())
    assert f() == 1
    grow_old(client, f.cache_key(), 150)
    with monkeypatch.context() as patch:
        patch.setattr(redlane._workers, "REFRESHERS", Interrupted("interrupted", 1))
        with pytest.raises(KeyboardInterrupt):
            f()
    assert f() == 1
    wait_until(lambda: f() == 2, "a refresh")


def test_ctrl_c_while_an_old_value_is_looked_for(client: Any) -> None:
    """The function failed; that must not hide it."""
    alarm = Alarm()
    cache = Cache(client, prefix="app", serializer=Pickled(alarm))
    calls: list[int] = []

    @cache(ttl=100, on_error="stale")
    def f() -> int:
        calls.append(1)
        if len(calls) == 2:
            alarm.is_set = True
            raise ValueError
        return len(calls)

    assert f() == 1
    grow_old(client, f.cache_key(), 150)
    with pytest.raises(KeyboardInterrupt):
        f()
    for lock in locks(client):
        client.delete(lock)
    assert f() == 3


def test_ctrl_c_in_the_key_of_what_is_about_to_be_stored(
    cache: Cache, client: Any
) -> None:
    alarm = Alarm()
    calls: list[int] = []

    def key() -> str:
        alarm()
        return "k"

    @cache(ttl=100, on_error="stale", key=key)
    def f() -> int:
        calls.append(1)
        alarm.is_set = len(calls) == 2
        return len(calls)

    assert f() == 1
    grow_old(client, f.cache_key(), 150)
    with pytest.raises(KeyboardInterrupt):
        f()
    assert f() == 3


def test_ctrl_c_as_a_value_is_kept_near(near: Cache) -> None:
    alarm = Alarm()

    class Meta(type):
        def __getattr__(cls, name: str) -> Any:
            alarm()
            raise AttributeError(name)

    class Value(metaclass=Meta):
        pass

    class Maker:
        def dumps(self, value: object) -> bytes:
            return b"value"

        def loads(self, stored: bytes) -> Value:
            return Value()

    cache = Cache(near.client, prefix="app", serializer=Maker())
    cache.set_many({"k": 1, "l": 2})
    f = cache(name="f")(Value)
    f()
    reads: list[Callable[[], Any]] = [
        lambda: cache.get("k"),
        lambda: cache.get_many(["k", "l"]),
        f,
    ]
    for read in reads:
        alarm.is_set = True
        with pytest.raises(KeyboardInterrupt):
            read()
        assert read() is not None


def test_ctrl_c_as_a_lease_is_given_back(redis_server: Server) -> None:
    """It waits for the server, after the function has failed."""
    with Client(redis_server.url, **PATIENT) as client:
        cache = Cache(client, prefix="app", near=False)

        @cache
        def f() -> None:
            redis_server.cli("CLIENT", "PAUSE", "60000", "WRITE")
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
            raise ValueError

        try:
            with pytest.raises(KeyboardInterrupt):
                f()
        finally:
            redis_server.cli("CLIENT", "UNPAUSE")


def test_a_call_that_was_interrupted_while_it_waited_for_a_worker_is_not_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workers = Workers("few", 1)
    monkeypatch.setattr(redlane._workers, "LIMITED", workers)
    cache = Cache("memory://")
    calls: list[int] = []
    begun, go = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        assert go.wait(60)

    f = cache(hard_timeout=60)(lambda: calls.append(1))
    assert workers.submit(hold)
    assert begun.wait(60)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        f()
    go.set()
    done = threading.Event()
    assert workers.submit(done.set)  # the oldest first
    assert done.wait(60)
    assert not calls


# --- workers ----------------------------------------------------------------------


class Submits:
    """What a job holds, and submits one as it goes."""

    def __init__(self, workers: Workers) -> None:
        self.workers = workers

    def work(self) -> None:
        pass

    def __del__(self) -> None:
        self.workers.submit(int)


def test_a_finalizer_may_hand_over_work(cache: Cache) -> None:
    """As the arguments of a refresh go, or in a collection: it may call a function."""
    begun, go = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        assert go.wait(60)

    def use(workers: Workers) -> None:
        workers.submit(hold)
        assert begun.wait(60)
        workers.submit(Submits(workers).work)
        workers.stop(0)
        ended.set()

    ended = threading.Event()
    workers = Workers("ended", 1)
    threading.Thread(target=use, args=(workers,), daemon=True).start()
    try:
        assert ended.wait(60)
    finally:
        go.set()


def test_a_thread_that_was_never_started_is_no_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workers = Workers("interrupted", 1)

    def start(self: threading.Thread) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(KeyboardInterrupt):
            workers.submit(int)
    done = threading.Event()
    assert workers.submit(done.set)
    assert done.wait(60)
    workers.stop(30)


def test_a_soft_timeout_of_any_length(
    cache: Cache, client: Any, loader: Loader
) -> None:
    for soft in (timedelta.max, 10**15):
        f = cache(ttl=100, stale=100, soft_timeout=soft, name=str(soft))(
            lambda: loader()
        )
        first = f()
        grow_old(client, f.cache_key(), 150)
        assert f() == first + 1  # it has waited


# --- several functions of one key -------------------------------------------------


def test_what_is_near_of_another_function_does_not_pass_for_its_own(
    near: Cache,
) -> None:
    """It has not this one's tags, which therefore would not end it."""

    @near(tags="a", key="shared")
    def f() -> Any:
        return ["f"]

    @near(tags="b", key="shared")
    def g() -> Any:
        return ["g"]

    assert warm(f, f) == ["f"]
    assert g() == ["g"]
    assert warm(g, g) == ["g"]
    assert f() == ["f"]


@pytest.mark.parametrize("value", ["text", ["a list"]])
def test_get_or_set_asks_for_its_own_tags(near: Cache, value: Any) -> None:
    def read(tags: Any) -> Any:
        return near.get_or_set("k", lambda: value, tags=tags)

    read(["a", b"b"])
    assert warm(near, lambda: read(("a", b"b"))) == value
    assert warm(near, lambda: near.get("k")) == value
    read("c")
    assert near.invalidate_tags("c") == 1
    assert near.get("k") is None
    near.set("k", value)
    assert warm(near, lambda: near.get("k")) == value
    read(tag for tag in "xy")
    assert near.invalidate_tags("y") == 1


def test_who_asks_for_no_tags_does_not_join_what_was_begun_before_one_ended(
    redis_server: Server, loader: Loader
) -> None:
    loader.values = ["old"]
    with Client(redis_server.url, **PATIENT) as client:
        cache = Cache(client, prefix="app", near=False)
        f = cache(tags="t", key="k")(lambda: loader())
        g = cache(key="k")(lambda: "new")
        loader.free.clear()
        answers: list[Any] = []
        first = threading.Thread(target=f)
        first.start()
        assert loader.started.acquire(timeout=60)
        assert redis_server.cli("DEL", "app:@tag:t") == 1  # as another process does
        later = threading.Thread(target=lambda: answers.append(g()))
        later.start()
        assert later.native_id
        wait_until_asleep(os.getpid(), later.native_id)
        loader.free.set()
        first.join()
        later.join()
        assert answers == ["new"]


def test_who_cannot_read_what_another_function_made_makes_its_own(
    cache: Cache, loader: Loader
) -> None:
    loader.values = ["text"]

    def make_numbers() -> set[int]:
        return {5}

    f = cache(key="k")(lambda: loader())
    g = cache(key="k")(make_numbers)
    loader.free.clear()
    answers: list[Any] = []

    def call() -> None:
        try:
            answers.append(g())
        except redlane.SerializationError as error:
            answers.append(error)

    first = threading.Thread(target=f)
    first.start()
    assert loader.started.acquire(timeout=60)
    later = threading.Thread(target=call)
    later.start()
    assert later.native_id
    wait_until_asleep(os.getpid(), later.native_id)
    loader.free.set()
    first.join()
    later.join()
    assert answers == [{5}]


def test_a_namespace_that_is_disabled_disables_no_other(cache: Cache) -> None:
    one, other = cache.namespace("one"), cache.namespace("other")
    inner = one.namespace("inner")
    f = one(name="f")(lambda: [1])
    caches = [cache, one, other, inner]
    for each in caches:
        assert each.set("k", 1)
    with one.disabled():
        assert [each.get("k") for each in caches] == [1, None, 1, None]
        f()
        f()
    with cache.disabled():
        assert [each.get("k") for each in caches] == [None] * 4
        f()
    assert [each.get("k") for each in caches] == [1] * 4
    assert f.cache_info().misses == 0


# --- near -------------------------------------------------------------------------


def test_a_near_value_that_the_server_keeps_for_ever_lasts_for_near_ttl(
    redis_server: Server,
) -> None:
    """Though its envelope says that it is good for long."""
    with Client(redis_server.url, **PATIENT) as client:
        cache = Cache(client, prefix="app", near_ttl=1)
        f = cache(ttl=1000, stale=1000)(lambda: "text")
        f()
        assert client.persist(f.cache_key())
        warm(f, f)

        def is_far() -> bool:
            before = near_hits(f)
            f()
            return near_hits(f) == before

        wait_until(is_far, "a look at the server")


def test_many_values_ask_for_their_tags_together(
    near: Cache, redis_server: Server
) -> None:
    def questions() -> int:
        for line in redis_server.cli("INFO", "commandstats").splitlines():
            if line.startswith(b"cmdstat_mget:"):
                return int(line.partition(b"calls=")[2].partition(b",")[0])
        return 0

    names = [f"k{i}" for i in range(200)]
    for name in names:
        near.set(name, name, tags=["all", f"of {name}"])
    near.set("plain", "plain")
    plain = Cache(near.client, prefix="app", near=False)
    everything = dict(zip(names, names, strict=True))
    before = questions()
    assert plain.get_many([*names, "plain"]) == {**everything, "plain": "plain"}
    assert questions() - before <= 1 + 4
    assert warm(near, lambda: near.get_many(names)) == everything
    assert near.invalidate_tags("of k7", "of k100") == 2
    del everything["k7"], everything["k100"]
    assert near.get_many(names) == plain.get_many(names) == everything
    assert near.invalidate_tags("all") == 1
    assert near.get_many(names) == plain.get_many(names) == {}


# --- what anybody may have stored -------------------------------------------------


def envelope(tags: list[tuple[bytes, int]], content: bytes) -> bytes:
    """A value with tags, each with its generation."""
    told = [
        bytes([len(id)]) + id + generation.to_bytes(8, "big") for id, generation in tags
    ]
    return b"\xffRLE\x01\x08" + bytes([len(tags)]) + b"".join(told) + content


@pytest.fixture
def limited(redis_server: Server) -> Iterator[Client[bytes]]:
    """A client that may not touch all keys of the server."""
    redis_server.cli(
        *("ACL", "SETUSER", "limited", "on", ">word", "~app:*", "&*", "+@all")
    )
    address = redis_server.url.partition("://")[2]
    try:
        with Client(f"redis://limited:word@{address}", **PATIENT) as client:
            yield client
    finally:
        redis_server.cli("ACL", "DELUSER", "limited")


READS: dict[str, Callable[[Cache], Any]] = {
    "get": lambda cache: cache.get("k", "new"),
    "get_many": lambda cache: cache.get_many(["k"]).get("k", "new"),
    "has": lambda cache: "old" if cache.has("k") else "new",
    "get_or_set": lambda cache: cache.get_or_set("k", lambda: "new"),
    "function": lambda cache: cache(key="k")(lambda: "new")(),
    "tags": lambda cache: cache(key="k", tags="t")(lambda: "new")(),
}


@pytest.mark.parametrize("fallback", ["memory", "raise"])
@pytest.mark.parametrize("read", READS)
def test_a_tag_that_may_not_be_asked_for(
    limited: Client[bytes], redis_server: Server, read: str, fallback: Any
) -> None:
    cache = Cache(limited, prefix="app", fallback=fallback)
    redis_server.cli("SET", "app:k", envelope([(b"secret", 1)], b'"old"'))
    assert READS[read](cache) == "new"
    assert READS[read](cache) == "new"


def mutated(stored: bytes, chance: random.Random) -> bytes:
    """Somewhat like it."""
    data = bytearray(stored)
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(min(len(data), 60)) if data else 0
        way = chance.randrange(4)
        if way == 0:
            data[at:at] = chance.randbytes(chance.randrange(1, 9))
        elif way == 1:
            del data[at : at + chance.randrange(1, 9)]
        elif data:
            data[at] = chance.choice([0, 1, 127, 128, 255, chance.randrange(256)])
    return bytes(data)


@pytest.mark.parametrize("seal", [None, "k" * 32])
def test_hostile_values_under_every_option(
    redis_server: Server, seal: str | None
) -> None:
    """They are misses, or what they say; none is an error, a crash or a long wait."""
    chance = random.Random(7)
    with Client(redis_server.url, **PATIENT) as client:
        cache = Cache(
            client, prefix="app", compress="zlib", compress_above=10, seal=seal
        )
        options: list[dict[str, Any]] = [
            {"stale": 100},
            {"early": True},
            {"on_error": "stale", "max_stale": 10**9},
            {"stale": 100, "soft_timeout": 30, "tags": ["a", "b"]},
            {"stale": 100, "early": True, "on_error": "stale", "tags": "a"},
            {"hard_timeout": 30, "stale": 100, "cache_exceptions": {ValueError: 9}},
        ]
        value = {"text": "value " * 20}
        functions = [
            (cache.namespace("n") if i % 2 else cache)(ttl=100, key=f"k{i}", **option)(
                lambda: value
            )
            for i, option in enumerate(options)
        ]
        for f in functions:
            f()
        samples = [client.get(f.cache_key()) for f in functions]
        samples += [envelope([(b"app:k0", 0)] * 64, b"1"), b"\xffRLX{}", b"\xffRLL"]
        for _ in range(300):
            for f in functions:
                sample = chance.choice(samples)
                assert sample
                client.set(f.cache_key(), mutated(sample, chance), px=20_000)
                f()
                cache.get(f.cache_key().removeprefix("app:"))
        wait_until(lambda: not locks(client), "the refreshes")
        for f in functions:
            f.invalidate()
            assert f() == value


# --- promise: nothing older than an invalidation is given to who came after it -----


class Failure(Exception):
    pass


OPTIONS: list[dict[str, Any]] = [
    {"ttl": 60},
    {"ttl": 0.02, "stale": 60},
    {"ttl": 0.02, "on_error": "stale"},
    {"ttl": 60, "early": True, "stale": 60},
    {"ttl": 0.02, "stale": 60, "soft_timeout": 0.002, "on_error": "stale"},
    {"ttl": 0.02, "stale": 60, "hard_timeout": 30, "cache_exceptions": {Failure: 60}},
]

ENDS: dict[str, Callable[[Cache, list[CachedFunction[..., Any]]], object]] = {
    "key": lambda cache, functions: [f.invalidate(1) for f in functions],
    "all": lambda cache, functions: [f.invalidate_all() for f in functions],
    "pattern": lambda cache, functions: cache.invalidate("app:*"),
    "tag": lambda cache, functions: cache.invalidate_tags("t"),
    "namespace": lambda cache, functions: cache.clear(),
}


@pytest.mark.parametrize("here", [True, False], ids=["here", "elsewhere"])
@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("rounds", [40, pytest.param(4000, marks=pytest.mark.soak)])
def test_nothing_is_older_than_an_invalidation(
    redis_server: Server, rounds: int, how: str, here: bool
) -> None:
    """Of this process, with near values; or of another, without any."""
    stop = threading.Event()
    older: list[tuple[dict[str, Any], int, int]] = []
    versions = {"source": 0, "ended": 0}
    chance = random.Random(how)
    with Client(redis_server.url, **PATIENT) as client:
        plain = Cache(client, prefix="app", near=here)
        cache = plain.namespace("n") if how == "namespace" else plain

        def load(x: int) -> list[int]:
            version = versions["source"]
            stop.wait(chance.choice([0, 0, 0.001, 0.005]))
            if chance.random() < 0.1:
                raise Failure
            return [version]

        tags = "t" if how == "tag" else None
        functions = [
            cache(name=f"f{i}", tags=tags, **options)(load)
            for i, options in enumerate(OPTIONS)
        ]

        def read(index: int) -> None:
            while not stop.is_set():
                i = (index + chance.randrange(2)) % len(functions)
                ended = versions["ended"]
                with contextlib.suppress(Failure):
                    (found,) = functions[i](1)
                    if found < ended:
                        older.append((OPTIONS[i], found, ended))

        readers = [threading.Thread(target=read, args=(n,)) for n in range(6)]
        for reader in readers:
            reader.start()
        for version in range(1, rounds + 1):
            versions["source"] = version
            if here:
                ENDS[how](cache, functions)
            elif how in ("tag", "namespace"):
                redis_server.cli("DEL", "app:@tag:t", "app:n:@namespace")
            else:
                redis_server.cli("DEL", *(f.cache_key(1) for f in functions))
            versions["ended"] = version
            stop.wait(chance.choice([0, 0.001, 0.01, 0.03]))
        stop.set()
        for reader in readers:
            reader.join()
        assert older == []
        assert all(f.cache_info().misses for f in functions)


# --- callbacks that do what they should not ---------------------------------------


ACTIONS: dict[str, Callable[[dict[str, Any]], object]] = {
    "call": lambda names: names["f"](2) if names["depth"] < 3 else None,
    "invalidate": lambda names: names["f"].invalidate(1) if names["depth"] < 3 else 0,
    "tags": lambda names: names["cache"].invalidate_tags("t"),
    "clear": lambda names: names["cache"].clear(),
    "refresh": lambda names: names["f"].refresh(3) if names["depth"] < 3 else None,
    "raise": lambda names: 1 // 0,
    "close": lambda names: names["cache"].client.close(),
    "drop": lambda names: (names.pop("f", 0), names.pop("cache", 0), gc.collect()),
    "configure": lambda names: redlane.configure("memory://"),
}


@pytest.mark.parametrize("place", ["ttl", "condition", "unless", "key", "tags", "load"])
@pytest.mark.parametrize("action", ACTIONS)
def test_callbacks(redis_server: Server, place: str, action: str) -> None:
    redlane.configure(redis_server.url, **PATIENT)
    names: dict[str, Any] = {"depth": 0, "armed": False}

    def act(result: Any, at: str) -> Any:
        if at == place and names["armed"]:
            names["depth"] += 1
            ACTIONS[action](names)
        return result

    cache = names["cache"] = Cache(prefix="app", ttl=100)

    @cache(
        ttl=lambda value: act(100, "ttl"),
        condition=lambda value: act(True, "condition"),
        unless=lambda x: act(False, "unless"),
        key=lambda x: act(f"k{x}", "key"),
        tags=lambda x: act(["t", f"x{x}"], "tags"),
        stale=100,
        on_error="stale",
    )
    def f(x: int) -> Any:
        return act([x], "load")

    names["f"] = f
    del f, cache
    try:
        names["f"](1)
        names["armed"] = True
        calls = [names["f"]] * 2
        for x in (1, 2):
            with contextlib.suppress(ZeroDivisionError, redlane.RedlaneError):
                assert calls.pop()(x) == [x]
        names["armed"] = False
        if "f" in names:
            with contextlib.suppress(redlane.ConnectionError):
                assert names["f"](1) == [1]
    finally:
        redlane.configure("memory://")


# --- processes --------------------------------------------------------------------

LEAVES = """
import os, sys, threading, time
from redlane import Cache, CachedFunction, Client

sys.path.insert(0, sys.argv[2])
from fresh_tools import grow_old

client = Client(sys.argv[1], timeout=30, connect_timeout=30)
cache = Cache(client, prefix="app")
begun, go = threading.Event(), threading.Event()
calls = []

@cache(ttl=100, stale=100, tags="t")
def f(x):
    calls.append(x)
    if len(calls) > 8:
        begun.set()
        go.wait(60)
    return [x]

for x in range(8):
    f(x)
    grow_old(client, f.cache_key(x), 150)
for x in range(8):
    assert f(x) == [x]  # four are refreshed, four wait for a thread
begun.wait(60)
if sys.argv[3] == "fork":
    child = os.fork()
    if child == 0:
        go.set()
        assert [f(x) for x in range(8)] == [[x] for x in range(8)]
        f(100)
        grow_old(client, f.cache_key(100), 150)
        assert f(100) == [100]
        while calls.count(100) < 2 or client.execute("KEYS", "*RLR*"):
            time.sleep(0.01)  # it has threads of its own
        os._exit(0)
    go.set()
    assert os.waitpid(child, 0)[1] == 0
elif sys.argv[3] == "close":
    client.close()
    go.set()
elif sys.argv[3] == "drop":
    del f, cache, client
    go.set()
print("left", flush=True)
"""


@pytest.mark.parametrize("way", ["exit", "fork", "close", "drop"])
def test_a_process_leaves_its_refreshes(redis_server: Server, way: str) -> None:
    here = os.path.dirname(__file__)
    # It forks while threads run, on purpose; Python 3.12 says so.
    quiet = ("-W", "ignore:This process:DeprecationWarning")
    done = run_program(LEAVES, redis_server.url, here, way, options=quiet, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "left\n", "")


# Each call is made with its n-th allocation failing, for n = 1, 2, … until many in a
# row succeed: some go on without what failed. msgspec and PyContextVar_Set end the
# process themselves, so neither is called; nor is a thread started. CPython 3.11 makes
# a SystemError of a `raise` that finds no memory.
NO_MEMORY = """
import contextvars, faulthandler, logging, sys, time
faulthandler.enable()
import _testcapi, msgspec.json
from kept_code import keep_code
msgspec.json.encode, msgspec.json.decode = lambda value: b"[1]", lambda data: [1, "a"]
import redlane, redlane._workers

redlane._workers.submit_refresh = lambda job: job()
from redlane import Cache, Client

contextvars.ContextVar("made").set(1)  # the thread's context too
logging.disable(logging.CRITICAL)
url = sys.argv[1]
client = Client(url, timeout=60, connect_timeout=60)
cache = Cache(client, ttl=60)
sealed = Cache(client, prefix="s", ttl=60, seal="k" * 16)
space = cache.namespace("n")
OLD = int(time.time() * 1000 - 5000).to_bytes(8, "big")
WHERE = {"ttl": 60, "ignore": ["more"]}
failing = False

def load(x, more=None):
    if failing:
        raise LookupError
    return [x]

def name_tags(x, more=None):
    return ["t", b"b"]

tagged = cache(load, name="tagged", tags=["{x}", name_tags], **WHERE)
inner = space(load, name="inner", tags="u" * 300, **WHERE)
stale = cache(load, name="stale", stale=10**6, early=True, **WHERE)
both = space(load, name="both", stale=10**6, tags="t", **WHERE)
soft = cache(load, name="soft", stale=10**6, soft_timeout=1, **WHERE)
kept = cache(load, name="kept", on_error="stale", max_stale=10**6, **WHERE)
hidden = sealed(load, name="hidden", on_error="stale", tags="t", **WHERE)
told = cache(load, name="told", on_error="stale", cache_exceptions={LookupError: 1})

def old(f, fails=False):
    global failing
    key = f.cache_key(1)
    stored = client.get(key)
    if stored and stored[3:4] == b"E" and stored[5] & 1 and f is not hidden:
        client.set(key, stored[:6] + OLD + stored[14:], px=10**6)
    failing = fails
    try:
        assert f(1) == [1, "a"]
    except LookupError:
        assert failing
    finally:
        failing = False

calls = [
    lambda: (tagged(1), tagged.invalidate(1)),
    lambda: tagged(1),
    lambda: (cache.invalidate_tags("1", "t"), tagged(1)),
    lambda: tagged.refresh(2),
    lambda: inner(1),
    lambda: (space.clear(), inner(1)),
    lambda: (cache.set("k", 1, tags=["t", "u"]), cache.get("k"), cache.has("k")),
    lambda: cache.set_many({"k": 1, "l": 2}, tags=["t", "v"]),
    lambda: cache.get_many(["k", "l", "m"]),
    lambda: (cache.invalidate_tags("t"), cache.get_many(["k", "l", "m"])),
    lambda: cache.add("l", 1, tags=["t"]),
    lambda: cache.get_or_set("k", list, tags=("t", "w")),
    lambda: cache.namespace("x:%@").namespace("y").set("k", 1),
    lambda: (space.set("k", 1), space.touch("k", 9), space.get("k"), space.delete("k")),
    lambda: old(stale),
    lambda: old(stale, True),
    lambda: old(both),
    lambda: (space.clear(), old(both)),
    lambda: old(soft),
    lambda: old(soft, True),
    lambda: old(kept),
    lambda: old(kept, True),
    lambda: old(hidden, True),
    lambda: (sealed.invalidate_tags("t"), old(hidden)),
    lambda: old(told, True),
    lambda: cache(load, name="x", tags=["{x}", name_tags], stale=1, on_error="stale"),
    lambda: cache(load, tags="{y}") if failing else None,
]
failures = 0
for number, call in enumerate(calls):
    call()
    keep_code(sys._getframe().f_code)
    fine = 0
    for first in range(1, 3000):
        error = None
        try:
            _testcapi.set_nomemory(first, first + 1)
            call()
        except BaseException as caught:
            error = caught
        _testcapi.remove_mem_hooks()
        if error and "<function load" not in str(error):
            assert isinstance(error, MemoryError), (number, repr(error))
        failures += error is not None
        fine = fine + 1 if error is None else 0
        if fine == 60:
            break
    for f in (tagged, inner, stale, both, soft, kept, hidden, told):
        f.invalidate(1)  # what a failure left in its place
    call()
assert failures > 5 * len(calls), failures
print("done")
"""


@pytest.mark.parametrize("executor", ["engine", "redis"])
def test_no_memory(executor: str, redis_server: Server) -> None:
    pytest.importorskip("_testcapi")  # not every Python is built with it
    url = "memory://" if executor == "engine" else redis_server.url
    done = run_program(NO_MEMORY, url, timeout=600, env=environment())
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


# --- Ctrl-C while it waits --------------------------------------------------------

LEASE = b"\xffRLL" + b"another process!"


def soon(action: Callable[[], object]) -> None:
    threading.Timer(0.3, action).start()


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("with_near", [True, False])
@pytest.mark.parametrize("wait", ["lease", "lock", "soft", "hard", "flight"])
def test_ctrl_c_in_a_wait(
    redis_server: Server, loader: Loader, wait: str, with_near: bool
) -> None:
    options: dict[str, dict[str, Any]] = {
        "lock": {"on_error": "stale"},
        "soft": {"stale": 100, "soft_timeout": 60},
        "hard": {"hard_timeout": 60},
    }
    with Client(redis_server.url, **PATIENT) as client:
        cache = Cache(client, prefix="app", ttl=100, near=with_near)
        f = cache(name="f", tags="t", **options.get(wait, {}))(lambda: loader())
        others: list[threading.Thread] = []
        if wait in ("soft", "lock"):
            f()
            grow_old(client, f.cache_key(), 150)
        if wait == "lock":
            client.set(lock_of(client, f.cache_key()), LEASE, px=60_000)
        elif wait == "lease":
            client.set(f.cache_key(), LEASE, px=60_000)
        else:
            loader.free.clear()
        if wait == "flight":
            others.append(threading.Thread(target=f))
            others[0].start()
            wait_until(lambda: loader.calls == 1, "its start")
        began = time.monotonic()
        soon(press)
        with pytest.raises(KeyboardInterrupt):
            f()
        assert time.monotonic() - began < 25  # a lease lasts for thirty seconds
        loader.free.set()
        for other in others:
            other.join()
        client.delete(f.cache_key(), *locks(client))
        assert f() == loader.calls


@pytest.mark.soak  # for as long as a lease lasts
@pytest.mark.parametrize("what", ["lease", "lock"])
def test_a_lease_without_an_end_is_waited_for_once(
    redis_server: Server, loader: Loader, what: str
) -> None:
    """Somebody has taken its TTL away, or never gave it one."""
    with Client(redis_server.url, **PATIENT) as client:
        cache = Cache(client, prefix="app")
        f = cache(ttl=100, on_error="stale", name="f")(lambda: loader())
        if what == "lock":
            f()
            grow_old(client, f.cache_key(), 150)
            client.set(lock_of(client, f.cache_key()), LEASE)
        else:
            client.set(f.cache_key(), LEASE)
        assert f() == loader.calls
        stored = client.get(f.cache_key())
        assert isinstance(stored, bytes) and stored.endswith(b"%d" % loader.calls)
        assert not locks(client)
        assert f() == loader.calls
