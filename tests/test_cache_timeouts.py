"""hard_timeout: the caller does not wait for ever, and the work is not lost."""

from __future__ import annotations

import contextvars
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import redlane
from redlane import Cache
from redlane._workers import LIMITED, Workers


@pytest.fixture
def cache(client: Any) -> Cache:
    return Cache(client, ttl=1000)


def wait_until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def leave(f: Any, *args: Any, started: threading.Event) -> list[str]:
    """Calls a function that takes for ever until a worker has begun it, which on a busy
    machine may come after the first caller has gone. What the callers were told."""
    told = []
    while not started.is_set():
        with pytest.raises(redlane.TimeoutError) as raised:
            f(*args)
        told.append(str(raised.value))
    return told


def patiently(f: Any, *args: Any) -> Any:
    """The result of a limited call that a busy machine may have too little time for."""
    end = time.monotonic() + 30
    while True:
        try:
            return f(*args)
        except redlane.TimeoutError:
            assert time.monotonic() < end


def test_within_its_time_nothing_is_different(cache: Cache, client: Any) -> None:
    calls = []

    @cache(hard_timeout="30s")
    def f(x: int, *, y: int = 0) -> list[int]:
        calls.append(threading.current_thread().name)
        return [x, y]

    assert [f(1, y=2), f(1, y=2), f(x=1, y=2)] == [[1, 2]] * 3
    assert calls == ["redlane-limited"]
    info = f.cache_info()
    assert (info.hits, info.misses, info.sets) == (2, 1, 1)
    assert f.refresh(1, y=2) == [1, 2]
    assert len(calls) == 2
    assert f.uncached(1) == [1, 0]
    with cache.disabled():
        assert f(1, y=2) == [1, 2]
    assert calls[2:] == [threading.current_thread().name] * 2
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        f()


def test_the_caller_goes_and_the_work_is_stored(cache: Cache, client: Any) -> None:
    started, go = threading.Event(), threading.Event()
    calls = []

    @cache(hard_timeout=0.05)
    def f(x: int) -> int:
        calls.append(x)
        started.set()
        assert go.wait(30)
        return x

    told = leave(f, 7, started=started)
    assert all("f: no result within hard_timeout (0.05 s): " in text for text in told)
    assert "it goes on, and its result will be stored" in told[-1]
    with pytest.raises(redlane.TimeoutError):  # this one waits for the same computation
        f(7)
    assert calls == [7]
    go.set()
    wait_until(lambda: client.get(f.cache_key(7)) == b"7")
    assert f(7) == 7
    assert calls == [7]
    assert issubclass(redlane.TimeoutError, TimeoutError)


def test_who_finds_no_thread_is_told(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = Workers("one", 1)
    monkeypatch.setattr("redlane._workers.LIMITED", pool)
    started, go = threading.Event(), threading.Event()
    calls = []

    @cache(hard_timeout=0.05)
    def f(x: int) -> int:
        calls.append(x)
        started.set()
        assert go.wait(30)
        return x

    leave(f, 1, started=started)
    with pytest.raises(redlane.TimeoutError, match="no worker thread was free"):
        f(2)
    go.set()
    assert patiently(f, 1) == 1
    assert calls == [1]
    pool.stop(30)
    assert f(3) == 3  # without workers the caller computes
    assert calls == [1, 3]


def test_what_the_function_raises(
    cache: Cache, client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    started, go = threading.Event(), threading.Event()

    @cache(hard_timeout=30)
    def f(error: str) -> None:
        raise {"time": TimeoutError, "key": KeyError, "exit": SystemExit}[error]("mine")

    for name, cls in (("time", TimeoutError), ("key", KeyError), ("exit", SystemExit)):
        with pytest.raises(cls, match="mine"):
            f(name)

    @cache(hard_timeout=0.05, cache_exceptions={LookupError: 50})
    def late() -> None:
        started.set()
        go.wait(30)
        raise LookupError("secret text")

    leave(late, started=started)
    go.set()
    wait_until(lambda: caplog.records)
    (record,) = caplog.records
    assert record.getMessage().endswith("failed after its hard_timeout: LookupError")
    with pytest.raises(LookupError, match="secret text"):
        patiently(late)
    assert late.cache_info().hits == 1


def test_an_invalidation_meanwhile(cache: Cache, client: Any) -> None:
    started, go, done = (threading.Event() for _ in range(3))
    source = ["old"]

    @cache(hard_timeout=0.05)
    def f() -> str:
        value = source[0]
        if value == "old":
            started.set()
            go.wait(30)
            done.set()
        return value

    leave(f, started=started)
    source[0] = "new"
    f.invalidate()
    assert patiently(f) == "new"
    go.set()
    assert done.wait(30)
    wait_until(lambda: LIMITED._idle == len(LIMITED._threads))
    assert patiently(f) == "new"


def test_the_context_goes_along(cache: Cache) -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")
    variable.set(5)

    @cache(hard_timeout=30)
    def f() -> int:
        got = variable.get()
        variable.set(6)
        return got

    assert f() == 5
    assert variable.get() == 5


def test_one_limited_function_calls_another(cache: Cache) -> None:
    @cache(hard_timeout=30)
    def inner(x: int) -> list[str]:
        return [threading.current_thread().name, str(threading.get_ident())]

    @cache(hard_timeout=30)
    def outer(x: int) -> list[list[str]]:
        return [inner(x), [str(threading.get_ident())]]

    (name, ident), (own,) = outer(1)
    assert (name, ident) == ("redlane-limited", own)

    @cache(hard_timeout=30)
    def again(n: int) -> int:
        return 0 if n == 0 else again(n - 1) + 1

    assert again(30) == 30


def test_many_callers_of_one_key(cache: Cache) -> None:
    calls, results = [], []
    go = threading.Event()
    barrier = threading.Barrier(81)

    @cache(hard_timeout=30)
    def f() -> int:
        calls.append(1)
        go.wait(30)
        return 1

    def body() -> None:
        barrier.wait(30)
        results.append(f())

    threads = [threading.Thread(target=body) for _ in range(80)]
    for thread in threads:
        thread.start()
    barrier.wait(30)
    wait_until(lambda: calls)
    go.set()
    for thread in threads:
        thread.join(30)
    assert results == [1] * 80
    assert calls == [1]


def test_ctrl_c_ends_the_wait(cache: Cache) -> None:
    started, go = threading.Event(), threading.Event()

    @cache(hard_timeout=30)
    def f() -> int:
        started.set()
        go.wait(30)
        return 1

    def interrupt() -> None:
        started.wait(30)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        f()
    thread.join(30)
    go.set()
    assert f() == 1


def test_nothing_is_kept_alive(cache: Cache) -> None:
    class Thing:
        def __cache_key__(self) -> int:
            return 1

    @cache(hard_timeout=30)
    def f(thing: Any) -> None:
        raise LookupError("x")

    thing = Thing()
    gone = weakref.ref(thing)
    with pytest.raises(LookupError):
        f(thing)
    del thing
    wait_until(lambda: (gc.collect(), gone() is None)[1])


def test_a_fork_while_a_worker_computes(cache: Cache) -> None:
    started, go = threading.Event(), threading.Event()

    @cache(hard_timeout=0.05)
    def f(x: int) -> int:
        if x == 0:
            started.set()
            go.wait(30)
        return x

    leave(f, 0, started=started)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            # the pool is empty here, and works
            was = len(LIMITED._threads)
            code = 0 if patiently(f, 5) == 5 and not was and LIMITED._threads else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    go.set()
    assert patiently(f, 0) == 0


def test_exit_while_a_worker_computes() -> None:
    code = (
        "import time, threading\n"
        "from redlane import Cache\n"
        "started = threading.Event()\n"
        "@Cache('memory://')(hard_timeout=0.05)\n"
        "def f(): started.set(); time.sleep(60)\n"
        "while not started.is_set():\n"
        "    try: f()\n"
        "    except TimeoutError: pass\n"
        "print('gone', flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("gone\n", "")


@pytest.mark.parametrize("name", ["hard_timeout", "soft_timeout"])
def test_bad_timeouts(name: str) -> None:
    cache = Cache("memory://")
    for bad in (0, -1, True, "soon", [], float("nan")):
        with pytest.raises((TypeError, ValueError), match=name):
            cache(**{name: bad})(len)
    for soft in (2, "3s"):
        with pytest.raises(ValueError, match="soft_timeout must be below"):
            cache(soft_timeout=soft, hard_timeout=2)(len)
    assert cache(soft_timeout=0.5, hard_timeout="2s")(len)([1]) == 1


# --- the pool ---------------------------------------------------------------------


def test_a_pool_is_bounded_and_ends_its_threads() -> None:
    pool = Workers("bounded", 2, waiting=3, idle=0.05)
    go, done = threading.Event(), []
    running = threading.Semaphore(0)

    def job() -> None:
        running.release()
        go.wait(30)
        done.append(threading.current_thread())
        raise RuntimeError("nobody is told")

    for _ in range(2):
        assert pool.submit(job)
        assert running.acquire(timeout=30)
    assert [pool.submit(job) for _ in range(5)] == [True, True, True, False, False]
    go.set()
    wait_until(lambda: len(done) == 5)
    assert len({thread.ident for thread in done}) == 2
    wait_until(lambda: not pool._threads)
    assert pool.submit(lambda: done.append(threading.current_thread()))
    wait_until(lambda: len(done) == 6)
    pool.stop(30)
    assert pool.submit(job) is False
    wait_until(lambda: not pool._threads)


def test_an_idle_thread_is_used_again() -> None:
    pool = Workers("again", 8, idle=300)
    seen: list[int] = []
    for i in range(20):
        assert pool.submit(lambda: seen.append(threading.get_ident()))
        wait_until(lambda: len(seen) == i + 1 and pool._idle == 1)  # noqa: B023
    assert len(set(seen)) == 1
    pool.stop(30)
