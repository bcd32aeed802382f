"""CacheDisabled: entered, nested, twice, left by an error, in other contexts."""

from __future__ import annotations

import contextlib
import contextvars
import gc
import threading
from collections.abc import Iterator

from measure import Once, main
from redlane import Cache, Client


def cases(url: str) -> Iterator[tuple[str, Once]]:
    client = Client(url, timeout=10)
    client.flushdb()
    cache = Cache(client, prefix="leaks")
    cache.set("key", 1)

    yield "dropped unused", cache.disabled
    yield "entered", lambda: entered(cache)
    yield "one entered twice", lambda: twice(cache)
    yield "left by an error", lambda: left_by_an_error(cache)
    yield "never left", lambda: contextvars.copy_context().run(never_left, cache)
    yield "left twice", lambda: left_twice(cache)
    yield "left elsewhere", lambda: left_elsewhere(cache)
    yield "in a cycle", lambda: cycle(cache)
    yield "of a cache of its own", lambda: entered(Cache(client, prefix="own"))
    yield "in another thread", lambda: in_a_thread(cache)


def entered(cache: Cache) -> None:
    with cache.disabled(), cache.disabled():
        assert cache.get("key") is None


def twice(cache: Cache) -> None:
    disabled = cache.disabled()
    with disabled, disabled:
        assert cache.get("key") is None


def left_by_an_error(cache: Cache) -> None:
    with contextlib.suppress(LookupError), cache.disabled():
        raise LookupError
    assert cache.get("key") == 1


def never_left(cache: Cache) -> None:
    cache.disabled().__enter__()


def left_twice(cache: Cache) -> None:
    disabled = cache.disabled()
    with disabled:
        pass
    with contextlib.suppress(RuntimeError, ValueError):
        disabled.__exit__(None, None, None)


def left_elsewhere(cache: Cache) -> None:
    disabled = cache.disabled()
    contextvars.copy_context().run(disabled.__enter__)
    with contextlib.suppress(RuntimeError, ValueError):
        disabled.__exit__(None, None, None)


def cycle(cache: Cache) -> None:
    holder: list[object] = [cache.disabled()]
    holder.append(holder)
    del holder
    gc.collect(0)


def in_a_thread(cache: Cache) -> None:
    thread = threading.Thread(target=entered, args=(cache,))
    thread.start()
    thread.join()


if __name__ == "__main__":
    main([Client, Cache, type(Cache("memory://").disabled())], cases)
