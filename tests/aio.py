"""Event loops for tests: asyncio's and uvloop's, each made, run and closed as a program
would, and watched for what they complain about."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")

KINDS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


class Complaints(AssertionError):
    """What a loop told its exception handler: an exception that nobody retrieved, a
    callback that raised."""


def end(loop: asyncio.AbstractEventLoop) -> None:
    """As asyncio.run does."""

    async def cancel_all() -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    loop.run_until_complete(cancel_all())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


class Runner:
    """Runs coroutines, each on a new loop of one kind."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __call__(self, main: Coroutine[Any, Any, T]) -> T:
        complaints: list[dict[str, Any]] = []
        loop = KINDS[self.kind]()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        try:
            result = loop.run_until_complete(main)
        finally:
            end(loop)
            del loop
            gc.collect()  # what nobody retrieved is told when it is freed
        if complaints:
            raise Complaints(complaints)
        return result


async def until(condition: Callable[[], Any], what: str, seconds: float = 60.0) -> None:
    """Waits for what must come, far longer than it takes."""
    loop = asyncio.get_running_loop()
    limit = loop.time() + seconds
    while not condition():
        assert loop.time() < limit, f"never came: {what}"
        await asyncio.sleep(0.005)
