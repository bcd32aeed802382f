"""The relay: a thread that speaks HTTP to a REST server for the connections of this
process.

Whatever has a connection to such a server (threads, event loops, the probes of an
outage and the replay of its journal, subscriptions) has one end of a socket pair. The
other is here, and so is an event loop with one httpx.AsyncClient, whose connections all
of them share. What comes in one piece, such as the commands of one turn of an event
loop, leaves in one request.

One relay to a client; it begins with the first request and ends with the client. A
forked child has none until it asks something itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
from collections.abc import Coroutine
from typing import Any

from redlane._core import ConfigurationError
from redlane._rest_wire import CommandReader, encode_error, failure

try:
    from redlane._rest_http import HttpServer
except ModuleNotFoundError as error:
    if error.name != "httpx":
        raise
    raise ConfigurationError(
        "https:// URLs need httpx: pip install 'redlane[upstash]'"
    ) from None
from redlane._rest_topics import Topics

__all__ = ["start"]

_THREAD = "redlane-rest"
_RECEIVE = 256 << 10
_HANDED_OVER = 64  # descriptors at a time
_CLOSED_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
_TLS_SIZE = 64  # REDLANE_RELAY_TLS_SIZE of wire/relay.h

_relays: set[_Relay] = set()
_orphans: list[_Relay] = []  # of a parent process: nothing of theirs may be called


def start(
    control: int,
    url: str,
    token: bytes,
    timeout: float,
    pool_size: int,
    max_reply: int,
) -> None:
    """Start a relay.

    :param control: a descriptor, its own from here on whatever happens, on which those
        of connections come until end of file
    :param timeout: seconds, of a whole call
    :param pool_size: connections to the server at most
    :param max_reply: bytes of a reply
    :raises RuntimeError: no thread can be started
    """
    relay = _Relay(socket.socket(fileno=control))
    try:
        relay.server = HttpServer(
            url, token.decode(), timeout, pool_size, max_reply, relay.tell_tls
        )
        thread = threading.Thread(target=relay.run, name=_THREAD, daemon=True)
        _relays.add(relay)
        thread.start()
    except BaseException:
        relay.give_up()
        raise


class _Relay:
    def __init__(self, control: socket.socket) -> None:
        self.server: HttpServer
        self.control = control
        self.ends: set[socket.socket] = set()
        self._begun = threading.Lock()  # by its thread, or never to be

    def give_up(self) -> None:
        """It could not be started, or so it seems: what interrupts start() may do so
        when the thread runs, which then ends with the other end of `control`."""
        if self._begun.acquire(blocking=False):
            self._end()

    def _end(self) -> None:
        _relays.discard(self)
        self.control.close()
        while self.ends:
            close_end(self.ends.pop())

    def tell_tls(self, agreed: str) -> None:
        """For health reports; who does not hear it now hears the next."""
        with contextlib.suppress(OSError):
            self.control.send(agreed.encode()[:_TLS_SIZE].ljust(_TLS_SIZE, b"\0"))

    def run(self) -> None:
        """The thread."""
        if not self._begun.acquire(blocking=False):
            return
        try:
            loop = _Loop()
            try:
                loop.run_until_complete(self._main())
            finally:
                loop.close()
        except OSError:
            pass  # no descriptors are left: whoever has an end sees it close
        finally:
            self._end()

    async def _main(self) -> None:
        loop = asyncio.get_running_loop()
        serving: set[asyncio.Task[None]] = set()
        came = asyncio.Event()
        self.control.setblocking(False)
        await self.server.open()
        try:
            loop.add_reader(self.control, came.set)
            while (ends := self._take_ends()) is not None:
                for end in ends:
                    task = loop.create_task(self._serve(end))
                    serving.add(task)
                    task.add_done_callback(serving.discard)
                await came.wait()
                came.clear()
            loop.remove_reader(self.control)
            while serving:
                await asyncio.wait(serving)
        finally:
            await self.server.close()

    def _take_ends(self) -> list[socket.socket] | None:
        """Those that have come; None: no more will."""
        ends: list[socket.socket] = []
        while True:
            try:
                data, descriptors, _, _ = socket.recv_fds(
                    self.control, _HANDED_OVER, _HANDED_OVER, _CLOSED_ON_EXEC
                )
            except BlockingIOError:
                return ends
            if not data:
                return None
            for descriptor in descriptors:
                os.set_inheritable(descriptor, False)
                end = socket.socket(fileno=descriptor)
                end.setblocking(False)
                self.ends.add(end)
                ends.append(end)

    async def _serve(self, end: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError):  # the other end is gone
                await _Connection(end, self.server).serve()
        finally:
            self.ends.discard(end)
            close_end(end)

    def forget(self) -> None:
        """In a forked child: without a word to anybody."""
        self.control.close()
        for end in self.ends:
            end.close()
        self.server.forget()


class _Loop(asyncio.SelectorEventLoop):
    """Looks names up in daemon threads: those of the default executor are waited for at
    the end of the process, however long a resolver takes."""

    _made = False

    def __init__(self) -> None:
        super().__init__()
        self._made = True

    def is_closed(self) -> bool:
        """So it is too where it could not be made, for want of descriptors: its end
        would complain aloud that it cannot close what it never had."""
        return not self._made or super().is_closed()

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        answer: asyncio.Future[list[Any]] = self.create_future()

        def tell(found: list[Any] | Exception) -> None:
            if answer.done():
                return
            if isinstance(found, Exception):
                answer.set_exception(found)
            else:
                answer.set_result(found)

        def look_up() -> None:
            found: list[Any] | Exception
            try:
                found = socket.getaddrinfo(host, port, family, type, proto, flags)
            except Exception as error:  # noqa: BLE001 - told to whoever asked
                found = error
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self.call_soon_threadsafe(tell, found)

        threading.Thread(target=look_up, name=f"{_THREAD}-name", daemon=True).start()
        return await answer


def close_end(end: socket.socket) -> None:
    """Closes it also for a forked child that has inherited it."""
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


class _Connection:
    """One end: commands come in, replies go out in their order."""

    def __init__(self, end: socket.socket, server: HttpServer) -> None:
        self._end = end
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._reader = CommandReader()
        self._answers: asyncio.Queue[tuple[asyncio.Future[bytes], asyncio.Event]]
        self._answers = asyncio.Queue()
        self._writing = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._topics = Topics(server, self._write, self._begin)

    async def serve(self) -> None:
        """Until the other end closes, or nothing more can be promised."""
        work = {
            self._begin(self._read(), False),
            self._begin(self._hand_out(), False),
            self._begin(self._topics.lost.wait(), False),
        }
        try:
            await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
        finally:
            tasks = [*work, *self._tasks]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(
        self, work: Coroutine[Any, Any, Any], kept: bool = True
    ) -> asyncio.Task[Any]:
        task = self._loop.create_task(work)
        if kept:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return task

    async def _write(self, data: bytes) -> None:
        """Whole, also where who writes it is cancelled: half of it would be taken for
        the beginning of the next."""
        await asyncio.shield(self._begin(self._write_whole(data)))

    async def _write_whole(self, data: bytes) -> None:
        async with self._writing:
            await self._loop.sock_sendall(self._end, data)

    async def _read(self) -> None:
        commands: list[list[bytes]] = []
        while data := await self._loop.sock_recv(self._end, _RECEIVE):
            commands += self._reader.feed(data)
            if self._reader.partial or _is_open(commands):
                continue  # the rest of what was sent at once is on its way
            begun: list[list[bytes]] = []
            for command in commands:
                if self._topics.takes(command):
                    self._execute(begun)
                    begun = []
                    self._expect(*self._topics.take(command))
                else:
                    begun.append(command)
            self._execute(begun)
            commands = []

    def _execute(self, commands: list[list[bytes]]) -> None:
        if commands:
            self._expect(self._begin(self._answer(commands)), asyncio.Event())

    def _expect(self, answer: asyncio.Future[bytes], written: asyncio.Event) -> None:
        self._answers.put_nowait((answer, written))

    async def _answer(self, commands: list[list[bytes]]) -> bytes:
        try:
            return await self._server.execute(commands)
        except Exception as error:  # noqa: BLE001 - told to whoever waits
            line = failure("unsure", f"{type(error).__name__} in the relay")
            return encode_error(line) * len(commands)

    async def _hand_out(self) -> None:
        while True:
            answer, written = await self._answers.get()
            await self._write(await answer)
            written.set()


def _is_open(commands: list[list[bytes]]) -> bool:
    """Whether they end within a transaction: all of one is one request."""
    for command in reversed(commands):
        if command[0] in (b"MULTI", b"EXEC"):
            return command[0] == b"MULTI"
    return False


def _forget_parents() -> None:
    relays = list(_relays)
    _orphans.extend(relays)
    _relays.clear()
    for relay in relays:
        with contextlib.suppress(OSError):
            relay.forget()


def _is_not_ours(record: logging.LogRecord) -> bool:
    return record.threadName != _THREAD


# httpx writes a line at INFO for each request; redlane has its own for each command.
logging.getLogger("httpx").addFilter(_is_not_ours)
os.register_at_fork(after_in_child=_forget_parents)
