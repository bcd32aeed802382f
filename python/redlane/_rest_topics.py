"""Subscriptions over HTTP: a stream of server-sent events for each channel or pattern.

    POST /subscribe/news      data: subscribe,news,1
                              data: message,news,hello
    POST /psubscribe/n*       data: pmessage,n*,news,hello

A line feed in a message is a new line of data. What a server cannot say in UTF-8 comes
with U+FFFD in it. Where one stream ends the connection that it is for does, so that all
of them are asked for again, and a gap is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import httpx

from redlane._rest_http import FailedError, HttpServer, keep_alive
from redlane._rest_wire import failure, is_ours

__all__ = ["Topics"]

_KINDS = {
    b"SUBSCRIBE": "subscribe",
    b"PSUBSCRIBE": "psubscribe",
    b"UNSUBSCRIBE": "unsubscribe",
    b"PUNSUBSCRIBE": "punsubscribe",
}

_Write = Callable[[bytes], Awaitable[None]]
_Begin = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]


class Topics:
    """What one connection is subscribed to."""

    def __init__(self, server: HttpServer, write: _Write, begin: _Begin) -> None:
        self._server = server
        self._write = write
        self._begin = begin
        self._streams: dict[tuple[str, bytes], asyncio.Task[None]] = {}
        self._subscribed = False
        self.lost = asyncio.Event()  # nothing more can be promised

    def takes(self, command: list[bytes]) -> bool:
        """Whether it is for us: about a topic, or a PING beside them, which is answered
        here, since the streams say themselves when they end."""
        return command[0] in _KINDS or (self._subscribed and command[0] == b"PING")

    def take(self, command: list[bytes]) -> tuple[asyncio.Future[bytes], asyncio.Event]:
        """Its answer, and what is to be set once that is written."""
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        written = asyncio.Event()
        if command[0] == b"PING":
            answer.set_result(b"+PONG\r\n")
            return answer, written
        kind, name = _KINDS[command[0]], command[1]
        if kind in ("subscribe", "psubscribe"):
            self._subscribed = True
            task = self._begin(self._listen(kind, name, answer, written))
            self._streams[kind, name] = task
        else:
            stream = self._streams.pop((kind.replace("un", "", 1), name), None)
            if stream is not None:
                stream.cancel()
            answer.set_result(_array(kind.encode(), name, len(self._streams)))
        return answer, written

    async def _listen(
        self,
        kind: str,
        name: bytes,
        answer: asyncio.Future[bytes],
        written: asyncio.Event,
    ) -> None:
        confirmed = _array(kind.encode(), name, 1)
        try:
            line = await self._stream(kind, name, answer, written)
        except asyncio.CancelledError:
            if not answer.done():  # it was unsubscribed before it had begun
                answer.set_result(confirmed)
            raise
        if not answer.done():
            answer.set_result(self._server.encode_error(line))
        else:
            with suppress(OSError):  # who would be told has gone
                await self._write(self._server.encode_error(line))
            self.lost.set()

    async def _stream(
        self,
        kind: str,
        name: bytes,
        answer: asyncio.Future[bytes],
        written: asyncio.Event,
    ) -> str:
        """Until it ends: the error line that says why."""
        if not name:
            return "ERR a channel without a name cannot be asked for by REST"
        # Of a path these would be taken for steps, not for a name.
        path = f"/{kind}/" + (
            name.decode().replace(".", "%2E")
            if name in (b".", b"..")
            else quote(name, safe="")
        )
        try:
            async with self._server.listen(path) as stream:
                if stream.status_code != 200:
                    raise await self._server.read_refusal(stream)
                self._server.note(stream)
                keep_alive(stream.extensions["network_stream"])
                events = _Events(
                    self._server.most,
                    kind.encode() + b"," + _shown(name).partition(b"\n")[0],
                )
                async for chunk in stream.aiter_raw():
                    for event in events.feed(chunk):
                        if not answer.done():
                            answer.set_result(_array(kind.encode(), name, 1))
                            await written.wait()
                        message = _message_of(kind, name, event)
                        if message:
                            await self._write(message)
        except (httpx.HTTPError, OSError, asyncio.TimeoutError) as error:
            return failure("away", f"{type(error).__name__}: {error}")
        except FailedError as error:
            return str(error).removeprefix("RELAY refused 0 ")
        except Exception as error:  # noqa: BLE001 - told to whoever waits
            line = str(error) or type(error).__name__
            return f"ERR {line}" if is_ours(line) else line
        return failure("away", "the stream of a subscription ended")


class _Events:
    """The data of events, out of bytes that come in pieces. Lines end with what the
    first of them ends with, so that a carriage return in a message stays one.

    :param most: bytes of an event
    :param first: the first line of data, if the name goes on in the second
    """

    def __init__(self, most: int, first: bytes) -> None:
        self._most = most
        self._first = first
        self._rest = bytearray()  # of a line
        self._seen = 0  # bytes of it without an end
        self._ending: bytes | None = None
        self._data: list[bytes] = []
        self._size = 0  # of the event that has begun

    def feed(self, chunk: bytes) -> list[bytes]:
        """The events that are complete now.

        :raises FailedError: one is too long
        """
        self._rest += chunk
        events: list[bytes] = []
        position = 0
        while (end := self._rest.find(b"\n", max(self._seen, position))) >= 0:
            event = self._take(bytes(self._rest[position:end]))
            if event is not None:
                events.append(event)
            position = end + 1
        del self._rest[:position]
        self._seen = len(self._rest)
        if self._size + self._seen > self._most:
            line = failure("away", "a message of more than max_reply bytes")
            raise FailedError(line)
        return events

    def _take(self, line: bytes) -> bytes | None:
        if self._ending is None:
            ends = line.endswith(b"\r") and line[5:].removeprefix(b" ") != self._first
            self._ending = b"\r" if ends else b""
        line = line.removesuffix(self._ending)
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line[5:6] == b" " else line[5:])
            self._size += len(line)
        elif not line and self._data:
            event = b"\n".join(self._data)
            self._data.clear()
            self._size = 0
            return event
        return None


def _shown(name: bytes) -> bytes:
    """As a server says it."""
    return name.decode("utf-8", "replace").encode()


def _message_of(kind: str, name: bytes, event: bytes) -> bytes | None:
    """A message as RESP2; None for an event that is none."""
    shown = _shown(name)
    if kind == "subscribe":
        head = b"message," + shown + b","
        return (
            _strings(b"message", name, event[len(head) :])
            if event.startswith(head)
            else None
        )
    head = b"pmessage," + shown + b","
    if not event.startswith(head):
        return None
    channel, comma, payload = event[len(head) :].partition(b",")
    return _strings(b"pmessage", name, channel, payload) if comma else None


def _strings(*words: bytes) -> bytes:
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        parts.append(b"$%d\r\n%s\r\n" % (len(word), word))
    return b"".join(parts)


def _array(kind: bytes, name: bytes, number: int) -> bytes:
    return b"*3\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n:%d\r\n" % (
        len(kind),
        kind,
        len(name),
        name,
        number,
    )
