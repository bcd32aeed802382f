"""What an event loop's methods may run while a connection calls them: a collector comes
there as anywhere, with finalisers that close the client or ask for more."""

from __future__ import annotations

import asyncio
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest
import redlane
from aio import end
from redlane import AsyncClient, Client
from servers import PATIENT, Server

METHODS = (
    "call_soon",
    "call_later",
    "create_future",
    "add_reader",
    "remove_reader",
    "add_writer",
    "remove_writer",
)


class Reentrant(asyncio.SelectorEventLoop):
    """Does something, once, in the n-th call of one of its methods."""

    watched = ""
    left = 0
    todo: Callable[[], object] | None = None

    def _step(self, name: str) -> None:
        if name == self.watched and self.todo is not None:
            self.left -= 1
            if self.left < 0:
                todo, self.todo = self.todo, None
                todo()


def _wrapped(name: str) -> Any:
    original = getattr(asyncio.SelectorEventLoop, name)

    def method(self: Reentrant, *args: Any, **options: Any) -> Any:
        self._step(name)
        return original(self, *args, **options)

    return method


for _name in METHODS:
    setattr(Reentrant, _name, _wrapped(_name))


async def ask(client: AsyncClient[bytes], name: str) -> str:
    """The answer is the request's own, or the client was closed."""
    try:
        answer = await client.echo(name)
    except redlane.ConnectionError:
        return "closed"
    assert answer == name.encode()
    return "answered"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("connected", [False, True])
def test_the_client_is_closed_within_a_call_of_the_loop(
    redis_server: Server, method: str, connected: bool
) -> None:
    for calls in range(12):
        loop = Reentrant()
        client = AsyncClient(redis_server.url, **PATIENT)

        async def main(
            loop: Reentrant = loop,
            client: AsyncClient[bytes] = client,
            calls: int = calls,
        ) -> None:
            if connected:
                await client.ping()
            loop.watched, loop.left, loop.todo = method, calls, client.sync.close
            doomed = asyncio.create_task(ask(client, "doomed"))
            await asyncio.sleep(0)
            doomed.cancel()
            answers = await asyncio.gather(
                *(ask(client, f"{i}") for i in range(40)), ask(client, "last")
            )
            assert set(answers) <= {"answered", "closed"}
            await asyncio.gather(doomed, return_exceptions=True)

        try:
            loop.run_until_complete(asyncio.wait_for(main(), 60))
        finally:
            loop.todo = None
            client.sync.close()
            end(loop)


def result_of(awaited: Any) -> Any:
    """Of what is over."""
    with pytest.raises(StopIteration) as stop:
        awaited.send(None)
    return stop.value.value


def test_more_is_asked_for_within_a_call_of_the_loop(redis_server: Server) -> None:
    """As many requests as fill the queue: each gets its own answer."""
    for calls in range(24):  # 16 are of the tasks
        loop = Reentrant()
        client = AsyncClient(redis_server.url, **PATIENT)

        async def main(
            loop: Reentrant = loop,
            client: AsyncClient[bytes] = client,
            calls: int = calls,
        ) -> None:
            await client.ping()
            more: list[Any] = []

            def ask_more() -> None:
                more.extend(client.echo(f"m{i}").__await__() for i in range(16))

            loop.watched, loop.left, loop.todo = "call_soon", calls, ask_more
            answers = await asyncio.gather(*(ask(client, f"{i}") for i in range(16)))
            assert set(answers) == {"answered"}
            await client.ping()  # its answer comes last
            expected = [f"m{i}".encode() for i in range(16)]
            assert [result_of(awaited) for awaited in more] == expected

        try:
            loop.run_until_complete(asyncio.wait_for(main(), 60))
        finally:
            loop.todo = None
            loop.run_until_complete(client.close())
            end(loop)


@pytest.mark.parametrize("found", [types.ModuleType("redlane._tasks"), None])
def test_a_client_is_closed_while_the_module_of_tasks_comes_or_goes(
    monkeypatch: pytest.MonkeyPatch, found: types.ModuleType | None
) -> None:
    """Another thread imports it for the first time, or the interpreter ends."""
    client = Client("memory://")
    client.ping()
    monkeypatch.setitem(sys.modules, "redlane._tasks", found)
    client.close()
    assert client.closed
