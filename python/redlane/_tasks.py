"""Tasks that may outlast who started them: refreshes behind, coroutine functions past
their hard time-out, and listeners.

They end with their event loop, and before it with the client that they work for: those
that compute are cancelled, listeners end by themselves when nothing more comes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any
from weakref import WeakKeyDictionary

from redlane._core import TimeoutError as RedlaneTimeoutError
from redlane._logging import get_logger

__all__ = [
    "LISTENER",
    "call_limited_task",
    "end_tasks",
    "keep_task",
    "submit_task",
    "wait_ended",
]


# What becomes of a task when its client is closed.
BEHIND = "behind"  # it is cancelled: nobody waits for what it computes
CALLED = "called"  # it goes on while its caller waits
LISTENER = "listener"  # it ends by itself, for nothing more comes


class _Kept:
    """What is known of a task."""

    __slots__ = ("ended", "kind", "owner")

    def __init__(self, owner: int, kind: str) -> None:
        self.owner = owner  # the number of its client's link
        self.kind = kind
        self.ended = False  # the client was closed


# An event loop keeps only weak references to its tasks.
_tasks: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[asyncio.Task[Any], _Kept]] = (
    WeakKeyDictionary()
)

# So long the close of a client waits for them, in seconds.
END_LIMIT = 5.0


def keep_task(
    job: Coroutine[Any, Any, Any], owner: int, kind: str
) -> asyncio.Task[Any]:
    """Runs `job` in a task that its loop keeps until it is done.

    owner: the number of the link with which it ends, as its kind says.
    """
    loop = asyncio.get_running_loop()
    for reference in _tasks.keyrefs():  # other threads change it meanwhile
        other = reference()
        if other is not None and other.is_closed():
            _tasks.pop(other, None)  # its tasks hold it
    task = loop.create_task(job)
    # A loop that is closed without a word to its tasks takes them along: there is
    # nothing that the program has forgotten.
    with contextlib.suppress(AttributeError):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    kept = _tasks.setdefault(loop, {})
    kept[task] = _Kept(owner, kind)
    task.add_done_callback(lambda done: kept.pop(done, None))
    return task


def submit_task(job: Coroutine[Any, Any, object], owner: int) -> None:
    """Runs `job`, which raises nothing, in a task of its own."""
    keep_task(job, owner, BEHIND)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def end_tasks(owner: int, closed: bool = False) -> list[asyncio.Task[Any]]:
    """Ends the tasks of a client that is being closed, but not the one that closes it.

    Those of this thread's running loop are given back, to be waited for; `closed`: with
    its listeners, since the link is closed already.
    """
    here = _running_loop()
    current = None if here is None else asyncio.current_task(here)
    ending = []
    for reference in _tasks.keyrefs():
        loop = reference()
        if loop is None:
            continue
        for task, kept in _tasks.get(loop, {}).copy().items():
            if kept.owner != owner or task is current:
                continue
            kept.ended = True
            if kept.kind is LISTENER and closed and loop is here:
                ending.append(task)
            elif kept.kind is BEHIND and loop is here:
                task.cancel()
                ending.append(task)
            elif kept.kind is BEHIND:
                with contextlib.suppress(RuntimeError):  # it was closed
                    loop.call_soon_threadsafe(task.cancel)
    return ending


async def wait_ended(tasks: list[asyncio.Task[Any]]) -> None:
    """Waits until they have ended, but not for ever: a function may refuse to."""
    if tasks:
        await asyncio.wait(tasks, timeout=END_LIMIT)


class _Warning:
    """Tells of a call that failed when nobody waited for it any more."""

    def __init__(self, shown: str) -> None:
        self._shown = shown

    def __call__(self, task: asyncio.Task[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            get_logger().warning(
                "%s: failed after its hard_timeout: %s",
                self._shown,
                type(error).__name__,
            )


def _abandon(task: asyncio.Task[Any], shown: str) -> None:
    """Nobody waits for its result any more."""
    task.add_done_callback(_Warning(shown))
    kept = _tasks.get(task.get_loop(), {}).get(task)
    if kept is not None:
        kept.kind = BEHIND
        if kept.ended:  # its client was closed meanwhile
            task.cancel()


async def call_limited_task(
    work: Coroutine[Any, Any, Any], seconds: float, shown: str, owner: int
) -> Any:
    """What `work` returns, which runs in a task of its own and is waited for so long.

    Raises:
        TimeoutError: the time is over. The work goes on.
        What the work raises.
    """
    task = keep_task(work, owner, CALLED)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
        if done:
            return task.result()
        raise RedlaneTimeoutError(
            f"{shown}: no result within hard_timeout ({seconds:g} s):"
            " it goes on, and its result will be stored"
        )
    finally:
        if not task.done():  # the time is over, or the caller was cancelled
            _abandon(task, shown)
        del task  # an exception's traceback would hold it, and it the exception
