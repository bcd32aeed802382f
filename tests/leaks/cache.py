"""Cache: every call, values that cannot be read or written, and users that raise."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from typing import Any

from measure import Once, main
from redlane import Client, RedlaneError
from redlane._core import Cache


class Broken:
    """A serializer that fails on purpose."""

    def dumps(self, value: Any) -> bytes:
        if value == "unwritable":
            raise ValueError("no")
        return b"text"

    def loads(self, data: bytes) -> Any:
        raise ValueError("no")


def cases(url: str) -> Iterator[tuple[str, Once]]:
    client = Client(url, timeout=10)
    client.flushdb()
    cache = Cache(client, prefix="leaks")

    yield "dropped unused", lambda: Cache(client, prefix="other", ttl=5)
    yield "dropped, from a URL", lambda: Cache("memory://", prefix="other")
    yield "refused", lambda: refused(lambda: Cache(client, ttl=-1))
    yield "in a cycle", lambda: cycle(client)
    yield "values", lambda: values(cache)
    yield "many values", lambda: many(cache)
    yield "numbers", lambda: numbers(cache)
    yield "factory", lambda: factory(cache)
    yield (
        "factory that raises",
        lambda: refused(
            lambda: cache.get_or_set("none", lambda: 1 // 0), ZeroDivisionError
        ),
    )
    yield "disabled", lambda: disabled(cache)
    yield "stats", cache.stats
    yield "invalidate", lambda: (cache.set("a:1", 1), cache.invalidate("leaks:a:*"))
    yield "clear", lambda: (cache.set("a:1", 1), cache.clear())
    yield "tags", lambda: tags(cache)
    yield "namespace", lambda: namespace(cache)
    yield (
        "bad tags",
        lambda: refused(lambda: cache.set("k", 1, tags=["good", 1]), TypeError),
    )
    yield "bad namespace", lambda: refused(lambda: cache.namespace("x" * 300))
    yield "unwritable", lambda: refused(lambda: cache.set("key", object()))
    yield "bad key", lambda: refused(lambda: cache.get(object()), TypeError)
    for name in ("raw", "msgpack"):
        other = Cache(client, prefix=name, serializer=name)
        yield name, lambda other=other: (other.set("k", b"v", 9), other.get("k"))
    sealed = Cache(client, prefix="sealed", seal=["k" * 16, b"l" * 20], compress="zlib")
    sealed.get("no")
    yield "sealed", lambda: sealed_values(sealed)
    client.set("sealed:bad", "1")
    sealed.get("bad")  # logs once
    yield "bad seal", lambda: (client.set("sealed:bad", "1"), sealed.get("bad"))
    yield "bad keys", lambda: refused(lambda: Cache(client, seal=["k" * 16, "short"]))
    pickled = Cache(client, prefix="pickled", serializer="pickle", seal="k" * 16)
    yield "pickle", lambda: (pickled.set("k", {1, 2}, 9), pickled.get("k"))
    for stored in (b"\xffRLE\x01\x10\x01" + bytes(7) + b"\x64xxxx", b"\xffRLE\x02"):
        yield (
            "bad envelope",
            lambda stored=stored: (client.set("leaks:bad", stored), cache.get("bad")),
        )
    broken = Cache(client, prefix="broken", serializer=Broken())
    yield "broken serializer", lambda: unreadable(broken)
    yield "wrong type", lambda: wrong_type(client, cache)


def tags(cache: Cache) -> None:
    cache.set("k", [1], 60, tags=["one", b"two", "l" * 300])
    cache.set_many({"l": 1, "m": 2}, 60, tags="one")
    cache.get_many(["k", "l", "m"])
    cache.get_or_set("n", list, 60, tags=["two"])
    cache.invalidate_tags("one", "nobody")
    cache.get("k"), cache.has("l"), cache.ttl("m"), cache.add("k", 2, tags=["one"])
    cache.get_many(["k", "l", "m", "n"])


def namespace(cache: Cache) -> None:
    view = cache.namespace("tenant").namespace("inner")
    view.set("k", [1], 60)
    view.get("k"), view.has("k"), view.touch("k", 50), view.add("k", 2)
    view(tags="{a}")(lambda a: a)(1)
    cache.namespace("tenant").clear()
    view.get("k"), view.add("k", 2), view.delete("k")
    refused(lambda: view.increment("k"))


def refused(call: Once, *errors: type[BaseException]) -> None:
    with contextlib.suppress(*(errors or (RedlaneError, ValueError, TypeError))):
        call()
        raise AssertionError("not refused")


class Holder:
    """A serializer that holds what holds it."""

    cache: Cache

    def dumps(self, value: Any) -> bytes:
        return b"text"

    def loads(self, data: bytes) -> Any:
        return data


def cycle(client: Client[Any]) -> None:
    serializer = Holder()
    serializer.cache = Cache(client, prefix="cycle", serializer=serializer)
    gc.collect(0)


def values(cache: Cache) -> None:
    value = {"name": "ünï", "numbers": [1, 2.5, None, True], "text": "x" * 2000}
    cache.set("key", value, ttl=50)
    assert cache.get("key") == value
    assert cache.get("missing", value) is value
    cache.has("key")
    cache.ttl("key")
    cache.touch("key", 60)
    cache.add("key", 1, 50)
    cache.delete("key")


def sealed_values(cache: Cache) -> None:
    for value in ("x" * 5000, [1]):
        cache.set("key", value, ttl=50)
        assert cache.get("key") == value
        assert cache.touch("key", 60)
    refused(lambda: cache.increment("n"))


def many(cache: Cache) -> None:
    cache.set_many({f"key{n}": [n] for n in range(20)}, ttl=50)
    assert len(cache.get_many([f"key{n}" for n in range(25)])) >= 20
    cache.delete_many(f"key{n}" for n in range(20))


def numbers(cache: Cache) -> None:
    cache.increment("n", 3, ttl=50)
    cache.decrement("n")
    cache.delete("n")


def factory(cache: Cache) -> None:
    cache.get_or_set("made", lambda: {"a": 1}, 50)
    cache.get_or_set("made", lambda: {"a": 2}, 50)
    cache.delete("made")


def disabled(cache: Cache) -> None:
    with cache.disabled(), cache.disabled():
        cache.set("key", 1, 50)
        assert cache.get("key") is None


def unreadable(cache: Cache) -> None:
    cache.set("key", "written", 50)
    assert cache.get("key") is None
    refused(lambda: cache.set("key", "unwritable"))


def wrong_type(client: Client[Any], cache: Cache) -> None:
    client.sadd("leaks:set", 1)
    cache.get("set")
    refused(lambda: cache.increment("set"), RedlaneError)
    client.delete("leaks:set")


if __name__ == "__main__":
    main([Client, Cache], cases)
