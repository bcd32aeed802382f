"""Client: made, used, closed or just dropped, and misused."""

from __future__ import annotations

import contextlib
import gc
import pickle
import weakref
from collections.abc import Iterator

from measure import Once, main
from redlane import Client, RedlaneError, WrongTypeError


def cases(url: str) -> Iterator[tuple[str, Once]]:
    client = Client(url, timeout=10)
    client.flushdb()
    client.set("text", "a value")
    client.hset("hash", mapping={f"field{n}": n for n in range(20)})
    client.sadd("set", *range(20))
    client.zadd("zset", {f"member{n}": n for n in range(20)})

    yield "dropped unused", lambda: Client(url)
    yield "refused options", lambda: refused(lambda: Client(url, timeout=-1))
    yield "refused URL", lambda: refused(lambda: Client("gopher://user:pw@host"))
    yield "repr and weakref", lambda: weakref.ref(client)() is client and repr(client)
    yield "in a cycle", lambda: cycle(url)

    yield "get, set, delete", lambda: strings(client)
    yield (
        "hashes",
        lambda: (client.hgetall("hash"), client.hmget("hash", ["field1", "-"])),
    )
    yield "sets", lambda: (client.smembers("set"), client.sadd("set", "1", b"2", 3))
    yield "zsets", lambda: client.zrange("zset", 0, -1, withscores=True)
    yield "scan", lambda: list(client.scan_iter(match="*", count=2))
    yield "half a scan", lambda: next(client.scan_iter(count=1))
    yield "info, health", lambda: (client.info(), client.health())
    yield (
        "bound and unbound methods",
        lambda: (client.get, Client.get, Client.get.__doc__),
    )

    yield "error reply", lambda: refused(lambda: client.incr("set"), WrongTypeError)
    yield "bad arguments", lambda: misuse(client)
    yield "refused command", lambda: refused(lambda: client.execute("SELECT", 1))
    yield "not picklable", lambda: refused(lambda: pickle.dumps(client), TypeError)


def connecting(url: str) -> None:
    """Open files and threads: a connection of its own each time."""
    with Client(url, timeout=10) as client:
        client.ping()


def refused(call: Once, *errors: type[BaseException]) -> None:
    with contextlib.suppress(*(errors or (RedlaneError,))):
        call()
        raise AssertionError("not refused")


def cycle(url: str) -> None:
    holder: dict[str, object] = {}
    client = Client(url)
    holder["method"] = client.get
    holder["self"] = holder
    del client, holder
    gc.collect(0)


def strings(client: Client) -> None:
    client.set("key", "value" * 10, ex=100)
    assert client.get("key") == b"value" * 10
    client.mset({"a": 1, b"b": 2.5})
    client.mget(["a", "b", "nothing"])
    client.incrby("counter", 3)
    client.delete("key", "a", "b", "counter")


def misuse(client: Client) -> None:
    for call in (
        lambda: client.get(),
        lambda: client.get(object()),
        lambda: client.get("key", "more"),
        lambda: client.get(nmae="key"),
        lambda: client.set("key", object()),
        lambda: client.set("key", "value", ex="soon"),
        lambda: client.get("\ud800"),
        lambda: client.mset({"key": object()}),
    ):
        refused(call, TypeError, ValueError, RedlaneError)


def all_cases(url: str) -> Iterator[tuple[str, Once]]:
    yield from cases(url)
    yield "with a connection of its own", lambda: connecting(url)


if __name__ == "__main__":
    main([Client], all_cases)
