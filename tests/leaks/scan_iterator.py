"""ScanIterator: run to its end, left half-way, in a cycle, over a scan that fails."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from typing import Any

from measure import Once, main
from redlane import Client, RedlaneError


class Failing(Client[Any]):
    """Its second step raises, or is no answer of SCAN's."""

    def scan(self, cursor: Any = 0, **options: Any) -> Any:
        if cursor == 0:
            return 1, [b"a"]
        if options["match"] == "raise":
            raise LookupError
        return "nonsense"


def cases(url: str) -> Iterator[tuple[str, Once]]:
    client = Client(url, timeout=10)
    client.flushdb()
    client.mset({f"key{number}": number for number in range(30)})
    failing = Failing(url)

    yield "dropped unused", lambda: client.scan_iter(match="k*")
    yield "to its end", lambda: ended(client)
    yield "half of it", lambda: [next(client.scan_iter(count=3)) for _ in range(2)]
    yield "in a cycle", lambda: cycle(client)
    yield "a step that raises", lambda: fails(failing, "raise")
    yield "a step that is none", lambda: fails(failing, "nonsense")
    yield "bad arguments", lambda: misuse(client)


def ended(client: Client[Any]) -> None:
    keys = client.scan_iter(match="key*", count=4)
    assert len(set(keys)) == 30
    assert next(keys, None) is None
    assert iter(keys) is keys


def cycle(client: Client[Any]) -> None:
    holder: list[object] = []
    holder += [client.scan_iter(count=2), holder]
    next(holder[0])  # type: ignore[call-overload]
    del holder
    gc.collect(0)


def fails(client: Client[Any], how: str) -> None:
    keys = client.scan_iter(match=how)
    assert next(keys) == b"a"
    for _ in range(2):
        with contextlib.suppress(LookupError, TypeError, ValueError, RedlaneError):
            next(keys)
            raise AssertionError("no error")


def misuse(client: Client[Any]) -> None:
    for options in ({"count": "many"}, {"match": object()}, {"nonsense": 1}):
        with contextlib.suppress(TypeError, ValueError):
            list(client.scan_iter(**options))
            raise AssertionError("not refused")


if __name__ == "__main__":
    main([Client, type(Client("memory://").scan_iter())], cases)
