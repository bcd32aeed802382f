"""Work that waits for a server, written once for threads and event loops.

It is a generator that yields what to call on a ToolHandle, as (name, *arguments), and
is sent what that returned. Nothing else in it waits.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from redlane._core import AsyncToolHandle, ToolHandle

__all__ = ["Steps", "run", "run_async", "scan"]

T = TypeVar("T")
Steps = Generator[tuple[Any, ...], Any, T]

SCAN_COUNT = 512


def run(steps: Steps[T], handle: ToolHandle) -> T:
    """Does the work in this thread."""
    try:
        name, *arguments = next(steps)
        while True:
            try:
                answer = getattr(handle, name)(*arguments)
            except BaseException as error:  # noqa: BLE001 - the work decides
                name, *arguments = steps.throw(error)
            else:
                name, *arguments = steps.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result


async def run_async(steps: Steps[T], handle: AsyncToolHandle) -> T:
    """Does the work on the running loop."""
    try:
        name, *arguments = next(steps)
        while True:
            try:
                answer = await getattr(handle, name)(*arguments)
            except BaseException as error:  # noqa: BLE001 - the work decides
                name, *arguments = steps.throw(error)
            else:
                name, *arguments = steps.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result


def scan(pattern: bytes) -> Steps[tuple[list[bytes], str]]:
    """All keys that match, each once, and who answered: the worst of them."""
    worst = "server"
    found: dict[bytes, None] = {}
    cursor = b"0"
    while True:
        (after, keys), answered = yield (
            "run", "SCAN", cursor, "MATCH", pattern, "COUNT", SCAN_COUNT
        )  # fmt: skip
        found.update(dict.fromkeys(keys))
        if answered != "server":
            worst = answered
        if after in (b"0", cursor):
            return list(found), worst
        cursor = after
