"""ToolHandle: scripts, commands, and what it refuses."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from measure import Once, main
from redlane import Client
from redlane._core import ToolHandle


def cases(url: str) -> Iterator[tuple[str, Once]]:
    logging.disable()  # it logs each call
    client = Client(url, timeout=10)
    handle = ToolHandle(client, "memory", b"tool:*")
    yield "dropped unused", lambda: ToolHandle(client, "none")
    yield "script", lambda: handle.script("increment", ["tool:n"], [1, 0])
    yield "command", lambda: handle.run("GET", "tool:n")
    yield "forgotten", lambda: handle.forget(b"tool:*", "server")
    yield "duration", lambda: ToolHandle.milliseconds("1h", "ttl")
    yield "refused", lambda: misuse(handle)


def misuse(handle: ToolHandle) -> None:
    for wrong in (
        lambda: handle.script("nothing", [], []),
        lambda: handle.script("touch", [], [None]),  # type: ignore[list-item]
        lambda: handle.run("MONITOR"),
        lambda: handle.run("GET", None),  # type: ignore[arg-type]
        lambda: ToolHandle.milliseconds(-1, "ttl"),
    ):
        with contextlib.suppress(TypeError, ValueError):
            wrong()
            raise AssertionError("not refused")


if __name__ == "__main__":
    main([Client, ToolHandle], cases)
