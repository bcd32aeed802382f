"""Cached functions: hits, invalidation, leases, single flight, and looking like the
function itself."""

from __future__ import annotations

import copy
import functools
import gc
import inspect
import logging
import math
import os
import pickle
import select
import signal
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import redlane
from children import wait_until_asleep
from redlane import Cache
from servers import PATIENT, PORTS, free_port, listen_on_loopback, patient

LEASE = b"\xffRLL" + b"x" * 16


@pytest.fixture
def cache(client: Any) -> Cache:
    return Cache(client)


class Counted:
    """A function that counts its calls."""

    def __init__(self, cache: Cache, result: Any = None, **options: Any) -> None:
        self.calls = 0

        def loader(x: Any = 0) -> Any:
            self.calls += 1
            return self.calls if result is None else result(x)

        self.function = cache(**options)(loader) if options else cache(loader)


def test_a_hit_does_not_call(cache: Cache, client: Any) -> None:
    counted = Counted(cache)
    f = counted.function
    assert [f(1), f(1), f(x=1), f(2)] == [1, 1, 1, 2]
    assert client.get(f.cache_key(1)) == b"1"
    info = f.cache_info()
    assert (info.hits, info.misses, info.sets, info.bytes_written) == (2, 2, 2, 2)
    assert info == (2, info.near_hits, 2, 0, 0, 0, 2, 0, 0, 0, info.bytes_read, 2)
    assert cache.stats()["hits"] == 2


def test_ttls(client: Any) -> None:
    cache = Cache(client, ttl=30)
    plain, own = Counted(cache).function, Counted(cache, ttl=90, name="own").function
    plain(1)
    own(1)
    assert 0 < client.pttl(plain.cache_key(1)) <= 30_000
    assert 30_000 < client.pttl(own.cache_key(1)) <= 90_000
    forever = Counted(Cache(client), name="forever").function
    forever(1)
    assert client.pttl(forever.cache_key(1)) == -1


def test_a_first_call_returns_what_later_ones_will(cache: Cache) -> None:
    f = Counted(cache, lambda x: {1: (x, None), "k": (1,)}).function
    assert f(5) == f(5) == {"1": [5, None], "k": [1]}


def test_mutable_results_are_not_shared(cache: Cache) -> None:
    f = Counted(cache, lambda x: [x]).function
    f(1).append("mine")
    f(1).append("mine")
    assert f(1) == [1]


def test_none_is_cached(cache: Cache) -> None:
    calls = []

    @cache
    def f() -> None:
        calls.append(1)

    assert f() is None
    assert f() is None
    assert len(calls) == 1


def test_exceptions_are_not_cached_and_leave_no_lease(
    cache: Cache, client: Any
) -> None:
    calls = []

    @cache
    def f() -> None:
        calls.append(1)
        raise LookupError("mine")

    for _ in range(2):
        with pytest.raises(LookupError, match="mine"):
            f()
    assert len(calls) == 2
    assert client.dbsize() == 0


def test_invalidate(cache: Cache, client: Any) -> None:
    counted = Counted(cache)
    f = counted.function
    for x in range(20):
        f(x)
    assert f.invalidate(1) is True
    assert f.invalidate(x=1) is False
    assert f(1) == 21
    assert f.invalidate_all() == 20
    assert client.dbsize() == 0
    other = Counted(cache, name="glob*[a]?").function
    unlike = Counted(cache, name="globX").function
    other(1)
    unlike(1)
    assert other.invalidate_all() == 1
    assert client.exists(unlike.cache_key(1)) == 1


def test_invalidate_by_pattern(cache: Cache) -> None:
    def create_app() -> Any:
        @cache(ttl=60)
        def expensive_function(user_id: int) -> int:
            return user_id

        return expensive_function

    f = create_app()
    f(1)
    f(2)
    assert f.cache_key(1).startswith("cache:expensive_function:")
    assert cache.invalidate("cache:expensive_function:*") == 2


def test_refresh_and_uncached(cache: Cache, client: Any) -> None:
    counted = Counted(cache, ttl=60)
    f = counted.function
    assert f(1) == 1
    assert f.refresh(1) == 2
    assert f(1) == 2
    assert 0 < client.pttl(f.cache_key(1)) <= 60_000
    assert f.uncached(1) == 3
    assert f(1) == 2
    assert f.refresh(9) == 4
    assert f(9) == 4


def test_unless_and_condition(cache: Cache) -> None:
    counted = Counted(
        cache, unless=lambda x: x < 0, condition=lambda result: result > 2
    )
    f = counted.function
    assert [f(-1), f(-1)] == [1, 2]
    assert [f(1), f(1), f(1)] == [3, 3, 3]
    strict = Counted(cache, condition=lambda result: False, name="never").function
    assert [strict(), strict()] == [1, 2]

    def broken(*args: Any) -> bool:
        raise KeyError("mine")

    for options in ({"unless": broken}, {"condition": broken}):
        with pytest.raises(KeyError, match="mine"):
            Counted(cache, name="broken", **options).function(1)
    for options in ({"unless": 1}, {"condition": 1}):
        with pytest.raises(TypeError, match="callable"):
            cache(len, **options)


@pytest.mark.parametrize("junk", [b"{", b"\xff", b"\xffRLZ"])
def test_unreadable_values_are_computed_again(
    cache: Cache, client: Any, junk: bytes
) -> None:
    counted = Counted(cache, ttl=60)
    f = counted.function
    client.set(f.cache_key(1), junk)
    assert f(1) == 1
    assert f(1) == 1
    assert client.get(f.cache_key(1)) == b"1"
    assert f.cache_info().corrupted == 1
    client.hset(f.cache_key(2), "a", "b")
    assert [f(2), f(2)] == [2, 2]


def test_what_cannot_be_serialised_comes_back_uncached(
    cache: Cache, client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Canary:
        pass

    f = Counted(cache, lambda x: Canary()).function
    with caplog.at_level(logging.WARNING, "redlane"):
        assert isinstance(f(1), Canary)
        assert isinstance(f(1), Canary)
    lines = [r.getMessage() for r in caplog.records if "not cached" in r.getMessage()]
    assert len(lines) == 1
    assert "loader" in lines[0]
    assert "'Canary'" in lines[0]
    assert f.cache_info().uncached == 2
    assert client.dbsize() == 0
    strict = Counted(Cache(client, strict=True), lambda x: Canary()).function
    with pytest.raises(redlane.SerializationError):
        strict(1)
    assert client.dbsize() == 0


# --- leases -----------------------------------------------------------------------


def test_without_a_lock_nobody_waits_for_another_process(
    cache: Cache, client: Any
) -> None:
    f = Counted(cache, lock=False).function
    client.set(f.cache_key(1), LEASE, px=60_000)
    assert [f(1), f(1)] == [1, 2]
    assert client.get(f.cache_key(1)) == LEASE


def test_what_was_computed_before_an_invalidation_is_not_stored(
    cache: Cache, client: Any
) -> None:
    ways = [
        lambda: f.invalidate(0),
        lambda: f.invalidate_all(),
        lambda: cache.delete(f.cache_key(0)[6:]),
        lambda: cache.delete_many([f.cache_key(0)[6:]]),
        lambda: cache.invalidate("cache:*"),
        lambda: cache.clear(),
        lambda: client.delete(f.cache_key(0)),
        lambda: client.flushdb(),
        lambda: Cache(client).invalidate("*"),
    ]

    @cache
    def f(x: int = 0) -> int:
        ways[way]()
        return 1

    for way in range(len(ways)):
        assert f(0) == 1
        assert client.exists(f.cache_key(0)) == 0, way


def test_a_set_during_a_computation_stays(cache: Cache, client: Any) -> None:
    @cache
    def f() -> str:
        cache.set(f.cache_key()[6:], "newer")
        return "older"

    assert f() == "older"
    assert f() == "newer"


def test_a_caller_after_an_invalidation_gets_its_own(cache: Cache) -> None:
    """A running computation is not handed to who came after the invalidation."""
    started, go = threading.Event(), threading.Event()
    source = ["old"]

    @cache
    def f() -> str:
        value = source[0]
        if value == "old":
            started.set()
            go.wait(120)
        return value

    results = []
    thread = threading.Thread(target=lambda: results.append(f()))
    thread.start()
    assert started.wait(60)
    source[0] = "new"
    assert f.invalidate() is False
    assert f() == "new"
    go.set()
    thread.join()
    assert results == ["old"]
    assert f() == "new"


def test_servers_before_redis_7(old_server: str) -> None:
    cache = Cache(old_server)
    counted = Counted(cache)
    assert [counted.function(1), counted.function(1)] == [1, 1]
    assert counted.calls == 1


@pytest.fixture
def old_server(redis_server: Any) -> Iterator[str]:
    """The URL of a server that refuses SET … NX GET, as Redis 6 does."""

    listener = listen_on_loopback()
    port: int = listener.getsockname()[1]
    stop = threading.Event()

    def pump(client: socket.socket) -> None:
        with (
            client,
            socket.create_connection(("127.0.0.1", redis_server.port)) as server,
        ):
            while not stop.is_set():
                ready, _, _ = select.select([client, server], [], [], 0.05)
                for link in ready:
                    data = link.recv(65536)
                    if not data:
                        return
                    if link is server:
                        client.sendall(data)
                    elif b"\r\nNX\r\n" in data and b"\r\nGET\r\n" in data:
                        client.sendall(b"-ERR syntax error\r\n")
                    else:
                        server.sendall(data)

    def serve() -> None:
        while not stop.is_set():
            try:
                connection = listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=pump, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield patient(f"redis://127.0.0.1:{port}")
    stop.set()
    listener.close()
    PORTS.release(port)


def test_a_server_that_takes_no_writes(fresh_server: Any) -> None:
    client = redlane.Client(fresh_server.url, **PATIENT)
    cache = Cache(client)
    counted = Counted(cache)
    f = counted.function
    f(1)
    fresh_server.cli("CONFIG", "SET", "maxmemory", "1")
    assert f(1) == 1
    assert [f(2), f(2)] == [2, 3]
    assert cache.set("k", 1) is True  # in memory, until the server takes writes
    assert cache.get("k") == 1
    health = client.health()
    assert (health["mode"], health["write_breaker"]) == ("redis", "open")
    fresh_server.cli("CONFIG", "SET", "maxmemory", "0")
    wait_until(lambda: client.health()["write_breaker"] == "closed")
    assert [f(2), f(2)] == [4, 4]
    client.close()


# --- single flight ----------------------------------------------------------------


def wait_until(holds: Any) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def run_threads(count: int, body: Any) -> None:
    threads = [threading.Thread(target=body) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_herd_computes_once(cache: Cache) -> None:
    calls, results = [], []
    barrier = threading.Barrier(50)

    @cache(ttl=60)
    def f(x: int) -> list[int]:
        calls.append(x)
        time.sleep(0.2)
        return [x]

    def body() -> None:
        barrier.wait()
        results.append(f(1))

    run_threads(50, body)
    assert calls == [1]
    assert results == [[1]] * 50
    assert len({id(result) for result in results}) == 50
    info = f.cache_info()
    assert info.misses == 1
    assert info.hits + info.waits == 49


def test_a_herd_gets_the_exception_once_computed(cache: Cache) -> None:
    calls, errors = [], []
    barrier = threading.Barrier(20)

    @cache
    def f() -> None:
        calls.append(1)
        time.sleep(0.3)
        raise LookupError("mine")

    def body() -> None:
        barrier.wait()
        try:
            f()
        except LookupError as error:
            errors.append(error)

    run_threads(20, body)
    assert len(errors) == 20
    assert len(calls) < 20


def test_without_lock_everyone_computes(cache: Cache) -> None:
    calls = []
    barrier = threading.Barrier(8)

    @cache(lock=False)
    def f() -> int:
        calls.append(1)
        barrier.wait(60)
        return 1

    run_threads(8, f)
    assert len(calls) == 8


def test_a_function_that_calls_itself(cache: Cache) -> None:
    @cache
    def fib(n: int) -> int:
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    assert fib(50) == 12586269025

    @cache
    def again(n: int, depth: int = 3) -> int:
        return n if len(stack) > 3 else (stack.append(1), again(n))[1]

    stack: list[int] = []
    assert again(5) == 5


def test_ctrl_c_ends_a_wait(cache: Cache) -> None:
    started = threading.Event()
    go = threading.Event()

    @cache
    def f() -> int:
        started.set()
        go.wait(120)
        return 1

    thread = threading.Thread(target=f)
    thread.start()
    assert started.wait(60)

    def interrupt() -> None:
        wait_until_asleep(os.getpid())
        os.kill(os.getpid(), signal.SIGINT)

    interrupter = threading.Thread(target=interrupt)
    with pytest.raises(KeyboardInterrupt):
        interrupter.start()
        f()
    interrupter.join()
    go.set()
    thread.join()
    assert f() == 1


def test_fork_while_another_thread_computes(cache: Cache, executor: str) -> None:
    """The child waits for the parent where it can hear of its value, and not for a
    thread that it does not have."""
    started, go = threading.Event(), threading.Event()
    parent = os.getpid()

    @cache
    def f() -> int:
        if os.getpid() == parent:
            started.set()
            go.wait(120)
        return os.getpid()

    thread = threading.Thread(target=f)
    thread.start()
    assert started.wait(60)
    child = os.fork()
    if child == 0:
        os._exit(0 if f() == (os.getpid() if executor == "engine" else parent) else 1)
    if executor != "engine":
        go.set()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    go.set()
    thread.join()
    assert f() == parent


# --- looking like the function ----------------------------------------------------

module_cache = Cache("memory://")


@module_cache(ttl=60)
def documented(a: int, b: str = "x", *, c: float = 1.5) -> dict[str, int]:
    """What it does."""
    return {b: a}


class Holder:
    @module_cache(ignore=["self"])
    def method(self, x: int) -> int:
        """A method."""
        return x * 2

    @classmethod
    @module_cache
    def of_class(cls, x: int) -> str:
        return f"{cls.__name__}{x}"

    @staticmethod
    @module_cache
    def plain(x: int) -> int:
        return x + 1


def test_metadata() -> None:
    assert documented.__name__ == "documented"
    assert documented.__qualname__ == "documented"
    assert documented.__doc__ == "What it does."
    assert documented.__module__ == __name__
    assert documented.__annotations__ == documented.__wrapped__.__annotations__
    assert inspect.signature(documented) == inspect.signature(documented.__wrapped__)
    assert inspect.unwrap(documented) is documented.__wrapped__
    documented.label = "mine"
    assert documented.__dict__["label"] == "mine"
    assert repr(documented).startswith("<cached function documented at 0x")
    assert documented.cache is module_cache
    assert weakref.ref(documented)() is documented
    assert functools.wraps(documented)(lambda: None).__name__ == "documented"
    assert callable(documented)


def test_methods() -> None:
    holder = Holder()
    assert holder.method(2) == Holder.method(holder, 2) == 4
    assert holder.method.__name__ == "method"
    assert holder.method.__doc__ == "A method."
    assert list(inspect.signature(holder.method).parameters) == ["x"]
    assert holder.method.__self__ is holder
    assert Holder.of_class(1) == "Holder1"
    assert type("Sub", (Holder,), {}).of_class(1) == "Sub1"
    assert holder.of_class(1) == "Holder1"
    assert Holder.plain(1) == holder.plain(1) == 2


def test_pickle_and_copy() -> None:
    assert pickle.loads(pickle.dumps(documented)) is documented
    assert copy.copy(documented) is documented
    assert copy.deepcopy(documented) is documented
    assert pickle.loads(pickle.dumps(Holder.method)) is Holder.method
    assert documented.__reduce__() == "documented"


def test_it_is_collected() -> None:
    cache = Cache("memory://")

    def make(cache: Cache) -> Any:
        @cache
        def f() -> Any:
            return f

        f.me = f
        return weakref.ref(f)

    gone = make(cache)
    gc.collect()
    assert gone() is None
    gone = weakref.ref(cache)
    del cache
    gc.collect()
    assert gone() is None


def test_bad_options() -> None:
    with pytest.raises(TypeError):
        module_cache(documented.__wrapped__, unknown=1)
    with pytest.raises(TypeError):
        module_cache(tttl=5)(len)
    with pytest.raises(TypeError, match="one function"):
        module_cache(len, len)
    with pytest.raises(TypeError, match="made by @cache"):
        type(documented)(len)
    for ttl in (0, -1, math.nan, True, "60"):
        with pytest.raises((TypeError, ValueError)):
            module_cache(ttl=ttl)(len)


def test_any_way_to_call() -> None:
    assert documented(1) == documented(*(1,)) == documented(a=1) == {"x": 1}
    assert functools.partial(documented, 1)() == {"x": 1}
    assert list(map(documented, [1])) == [{"x": 1}]


def test_a_server_that_is_away() -> None:
    url = f"redis://127.0.0.1:{free_port()}"
    for fallback, calls in (("memory", 1), ("none", 2)):
        counted = Counted(Cache(redlane.Client(url, **PATIENT), fallback=fallback))
        assert counted.function(1) == 1
        counted.function(1)
        assert counted.calls == calls
        assert counted.function.invalidate_all() == (fallback == "memory")
    with pytest.raises(redlane.ConnectionError):
        Counted(Cache(patient(url), fallback="raise")).function(1)
