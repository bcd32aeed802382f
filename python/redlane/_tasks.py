"""Tasks that may outlast who started them: refreshes behind, coroutine functions past
their hard time-out, and listeners."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any
from weakref import WeakKeyDictionary

from redlane._core import TimeoutError as RedlaneTimeoutError
from redlane._logging import get_logger

__all__ = ["call_limited_task", "keep_task", "submit_task"]

# An event loop keeps only weak references to its tasks. They end with their loop:
# asyncio.run cancels what is left.
_tasks: WeakKeyDictionary[asyncio.AbstractEventLoop, set[asyncio.Task[Any]]] = (
    WeakKeyDictionary()
)


def keep_task(job: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Runs `job` in a task that its loop keeps until it is done."""
    loop = asyncio.get_running_loop()
    for reference in _tasks.keyrefs():  # other threads change it meanwhile
        other = reference()
        if other is not None and other.is_closed():
            _tasks.pop(other, None)  # its tasks hold it
    task = loop.create_task(job)
    kept = _tasks.setdefault(loop, set())
    kept.add(task)
    task.add_done_callback(kept.discard)
    return task


def submit_task(job: Coroutine[Any, Any, object]) -> None:
    """Runs `job`, which raises nothing, in a task of its own."""
    keep_task(job)


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


async def call_limited_task(
    work: Coroutine[Any, Any, Any], seconds: float, shown: str
) -> Any:
    """What `work` returns, which runs in a task of its own and is waited for so long.

    Raises:
        TimeoutError: the time is over. The work goes on.
        What the work raises.
    """
    task = keep_task(work)
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
            task.add_done_callback(_Warning(shown))
        del task  # an exception's traceback would hold it, and it the exception
