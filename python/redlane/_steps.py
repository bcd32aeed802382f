"""Work that waits for a server, written once for threads and event loops.

It is a generator that yields what to call on a ToolHandle, as (name, *arguments), and
is sent what that returned. Nothing else in it waits.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, TypeVar

from redlane._core import ReplyError

if TYPE_CHECKING:
    from redlane._core import AsyncToolHandle, ToolHandle

__all__ = ["Steps", "check", "is_texts", "run", "run_async", "scan"]

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


def check(fits: bool, name: str) -> None:
    """What a server says is used as far as it is what was asked for."""
    if not fits:
        raise ReplyError(f"unexpected reply to {name}")


def is_texts(reply: object) -> bool:
    """A list of strings."""
    return isinstance(reply, list) and all(isinstance(item, bytes) for item in reply)


def scan(pattern: bytes) -> Steps[tuple[list[bytes], str]]:
    """All keys that match, each once, and who answered: the worst of them."""
    worst = "server"
    found: dict[bytes, None] = {}
    cursor = b"0"
    while True:
        reply, answered = yield (
            "run", "SCAN", cursor, "MATCH", pattern, "COUNT", SCAN_COUNT
        )  # fmt: skip
        check(isinstance(reply, list) and len(reply) == 2, "SCAN")
        after, keys = reply
        check(isinstance(after, bytes) and is_texts(keys), "SCAN")
        found.update(dict.fromkeys(keys))
        if answered != "server":
            worst = answered
        if after in (b"0", cursor):
            return list(found), worst
        cursor = after
