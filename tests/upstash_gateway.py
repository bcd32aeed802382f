"""Upstash's REST protocol over a real redis-server: what the tests of https:// URLs
talk to.

    POST /            ["SET", "k", "v"]             {"result": "OK"}
    POST /pipeline    [["SET", …], ["GET", …]]      [{"result": …}, {"error": …}]
    POST /multi-exec  the same, in a transaction    the same, or {"error": …}
    POST /SET/k       the value as the body         {"result": "OK"}
    GET  /get/k                                     {"result": "v"}
    GET  /subscribe/c (also POST; psubscribe)       data: message,c,payload

Nothing here knows redlane, and Upstash's own client works against it
(test_upstash_gateway.py), so that neither can hide a fault of the other. Text is what
JSON can say: a body that is not UTF-8 is refused, as JSON would have it, and a string
of a reply that is none comes back with U+FFFD in it, unless base64 is asked for.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

import uvicorn
from servers import START_SECONDS, encode_command, listen_on_loopback
from tls import Identity

TOKEN = "canary-upstash-token"

# What needs a connection of its own is not for a protocol that has none.
_REFUSED = {
    *(b"SUBSCRIBE", b"PSUBSCRIBE", b"SSUBSCRIBE", b"UNSUBSCRIBE", b"PUNSUBSCRIBE"),
    *(b"MULTI", b"EXEC", b"DISCARD", b"WATCH", b"UNWATCH", b"MONITOR", b"CLIENT"),
    *(b"BLPOP", b"BRPOP", b"BLMOVE", b"BZPOPMIN", b"BZPOPMAX", b"HELLO", b"AUTH"),
}

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]


Refusal = tuple[int, str, dict[str, str]]  # status, error, header fields


class Refused(Exception):
    """An HTTP answer other than 200: its status and its error."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status


class ErrorReply(Exception):
    """An error reply of the server."""


class _Link:
    """One connection to the server."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, commands: list[list[bytes]]) -> list[Any]:
        """The replies, an error reply among them as an ErrorReply."""
        self.send(commands)
        await self._writer.drain()
        return [await self.read() for _ in commands]

    def send(self, commands: list[list[bytes]]) -> None:
        self._writer.write(b"".join(encode_command(*command) for command in commands))

    async def read(self) -> Any:
        line = (await self._reader.readuntil(b"\r\n"))[:-2]
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return _Status(rest)
        if kind == b"-":
            return ErrorReply(rest.decode("utf-8", "replace"))
        if kind == b":":
            return int(rest)
        if kind == b"$":
            if rest == b"-1":
                return None
            return (await self._reader.readexactly(int(rest) + 2))[:-2]
        if kind == b"*":
            return (
                None if rest == b"-1" else [await self.read() for _ in range(int(rest))]
            )
        raise ValueError(f"not RESP: {line!r}")

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


class _Status(bytes):
    """A simple string, such as OK."""


@dataclass
class Gateway:
    """What the tests see of it, and tell it to do. Any thread."""

    redis_port: int
    url: str = ""
    token: str = TOKEN
    requests: list[tuple[str, Any]] = field(default_factory=list)  # path and body
    # The next answers, instead of what the server says; None: the connection is cut.
    refusals: list[Refusal | None] = field(default_factory=list)
    delay: float = 0.0  # seconds before each request is executed
    answer_delay: float = 0.0  # seconds between that and its answer
    streams: int = 0  # subscriptions that are open

    def refuse(self, status: int, error: str, times: int = 1, **fields: str) -> None:
        """Answers the next `times` requests so, with header fields (retry_after=…)."""
        self.refusals += [(status, error, fields)] * times

    def cut(self, times: int = 1) -> None:
        """Closes the connection of the next `times` requests, unanswered."""
        self.refusals += [None] * times

    def be_kind(self) -> None:
        """Forgets what it was told to do, and what it has seen."""
        self.token = TOKEN
        self.refusals.clear()
        self.requests.clear()
        self.delay = self.answer_delay = 0.0

    @property
    def count(self) -> int:
        return len(self.requests)

    async def app(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """The ASGI application."""
        if scope["type"] != "http":
            return
        path = (
            scope.get("raw_path", scope["path"].encode())
            .split(b"?")[0]
            .decode("latin-1")
        )
        fields = {k.lower(): v.decode("latin-1") for k, v in scope["headers"]}
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        body = await _read_body(receive)
        encode = fields.get(b"upstash-encoding") == "base64"
        more: dict[str, str] = {}
        try:
            self._note(path, body)
            if self.refusals:
                refusal = self.refusals.pop(0)
                if refusal is None:
                    await _cut(send)
                    return
                status, error, more = refusal
                raise Refused(status, error)
            self._check(fields, query)
            if self.delay:
                await asyncio.sleep(self.delay)
            if path.lower().startswith(("/subscribe/", "/psubscribe/")):
                await self._stream(path, receive, send)
                return
            answer = await self._answer(path, query, body, encode)
            if self.answer_delay:
                await asyncio.sleep(self.answer_delay)
        except Refused as refused:
            await _respond(send, refused.status, {"error": str(refused)}, more)
        except OSError:
            await _respond(send, 503, {"error": "the database is not available"}, more)
        except asyncio.IncompleteReadError:
            await _respond(send, 502, {"error": "the database went away"}, more)
        else:
            error = isinstance(answer, dict) and "error" in answer
            await _respond(send, 400 if error else 200, answer, more)

    def _note(self, path: str, body: bytes) -> None:
        try:
            seen = json.loads(body) if body else None
        except ValueError:
            seen = body
        self.requests.append((path, seen))

    def _check(self, fields: dict[bytes, str], query: dict[str, str]) -> None:
        given = fields.get(b"authorization", "")
        token = given[7:] if given[:7].lower() == "bearer " else query.get("_token", "")
        if token != self.token:
            raise Refused(401, "WRONGPASS invalid or missing auth token")

    async def _answer(
        self, path: str, query: dict[str, str], body: bytes, encode: bool
    ) -> Any:
        if path.rstrip("/") in ("/pipeline", "/multi-exec"):
            commands = _commands_of(body)
            if path.rstrip("/") == "/pipeline":
                async with self._link() as link:
                    replies = await link.ask(commands)
                return [_result_of(reply, encode) for reply in replies]
            return await self._transaction(commands, encode)
        command = (
            _command_of(_parse(body)) if path == "/" else _path_command(path, body)
        )
        if path != "/":
            command += [
                word.encode()
                for name, value in query.items()
                if name != "_token"
                for word in (name, value)
                if word
            ]
        async with self._link() as link:
            (reply,) = await link.ask([command])
        return _result_of(reply, encode)

    async def _transaction(self, commands: list[list[bytes]], encode: bool) -> Any:
        async with self._link() as link:
            *queued, last = await link.ask([[b"MULTI"], *commands, [b"EXEC"]])
        if isinstance(last, ErrorReply):
            refused = [reply for reply in queued if isinstance(reply, ErrorReply)]
            return {"error": str(last if not refused else refused[0])}
        return [_result_of(reply, encode) for reply in last]

    async def _stream(self, path: str, receive: Receive, send: Send) -> None:
        kind, *names = [unquote_to_bytes(word) for word in path.strip("/").split("/")]
        gone = asyncio.ensure_future(_until_gone(receive))
        async with self._link() as link:
            link.send([[kind.upper(), *names]])
            await send(
                {
                    "type": "http.response.start",
                    "status": 200,
                    "headers": [(b"content-type", b"text/event-stream")],
                }
            )
            self.streams += 1
            try:
                while True:
                    told = asyncio.ensure_future(link.read())
                    await asyncio.wait({told, gone}, return_when="FIRST_COMPLETED")
                    if not told.done():
                        told.cancel()
                        break
                    await send({**_event_of(told.result()), "more_body": True})
            except asyncio.IncompleteReadError:
                pass  # the server went away: so does the stream
            finally:
                self.streams -= 1
                gone.cancel()
        with contextlib.suppress(OSError):
            await send({"type": "http.response.body", "body": b""})

    @contextlib.asynccontextmanager
    async def _link(self) -> AsyncIterator[_Link]:
        """A connection for one request: nothing of one can reach another."""
        link = _Link(*await asyncio.open_connection("127.0.0.1", self.redis_port))
        try:
            yield link
        finally:
            await link.close()


async def _cut(send: Send) -> None:
    """Begins an answer that does not come: uvicorn then closes the connection."""
    head = {"status": 200, "headers": [(b"content-length", b"100")]}
    await send({"type": "http.response.start", **head})
    await send({"type": "http.response.body", "body": b"{", "more_body": True})


async def _read_body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _respond(
    send: Send, status: int, answer: Any, fields: dict[str, str]
) -> None:
    more = [(k.replace("_", "-").encode(), v.encode()) for k, v in fields.items()]
    body = json.dumps(answer).encode()
    length = str(len(body)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", length)]
    await send(
        {"type": "http.response.start", "status": status, "headers": headers + more}
    )
    await send({"type": "http.response.body", "body": body})


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body.decode())
    except ValueError:
        raise Refused(400, "ERR failed to parse the command") from None


def _commands_of(body: bytes) -> list[list[bytes]]:
    commands = _parse(body)
    if not isinstance(commands, list) or not commands:
        raise Refused(400, "ERR empty pipeline request")
    return [_command_of(command) for command in commands]


def _command_of(words: Any) -> list[bytes]:
    if not isinstance(words, list) or not words:
        raise Refused(400, "ERR empty command")
    command = [_word_of(word) for word in words]
    return _check_command(command)


def _check_command(command: list[bytes]) -> list[bytes]:
    if command[0].upper() in _REFUSED:
        name = command[0].decode("utf-8", "replace")
        raise Refused(400, f"ERR Command is not available: '{name}'")
    return command


def _word_of(word: Any) -> bytes:
    if isinstance(word, str):
        return word.encode("utf-8", "replace")
    if isinstance(word, (int, float)) and not isinstance(word, bool):
        return json.dumps(word).encode()
    raise Refused(400, "ERR a command holds strings and numbers only")


def _path_command(path: str, body: bytes) -> list[bytes]:
    words = [unquote_to_bytes(word) for word in path.strip("/").split("/")]
    return _check_command([*words, body] if body else words)


def _result_of(reply: Any, encode: bool) -> dict[str, Any]:
    if isinstance(reply, ErrorReply):
        return {"error": str(reply)}
    return {"result": _value_of(reply, encode)}


def _value_of(reply: Any, encode: bool) -> Any:
    if isinstance(reply, list):
        return [_value_of(each, encode) for each in reply]
    if isinstance(reply, ErrorReply):
        return str(reply)
    if isinstance(reply, bytes):
        if encode and reply != b"OK":
            return base64.b64encode(reply).decode()
        return reply.decode("utf-8", "replace")
    return reply


def _event_of(reply: Any) -> dict[str, Any]:
    """One event: each line of the text is a line of data."""
    words = [word if isinstance(word, bytes) else str(word).encode() for word in reply]
    lines = b",".join(words).decode("utf-8", "replace").split("\n")
    text = "".join(f"data: {line}\n" for line in lines) + "\n"
    return {"type": "http.response.body", "body": text.encode()}


@contextlib.contextmanager
def running_gateway(
    redis_port: int, identity: Identity | None = None
) -> Iterator[Gateway]:
    """A gateway to the server on `redis_port`, on a free port of loopback, in a thread
    of its own; by TLS with that certificate."""
    gateway = Gateway(redis_port)
    with listen_on_loopback() as listener:
        scheme = "https" if identity else "http"
        gateway.url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        # Else the second part of an answer waits 40 ms for the first to be confirmed.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        config = uvicorn.Config(
            gateway.app,
            log_config=None,
            lifespan="off",
            loop="asyncio",
            interface="asgi3",
            timeout_graceful_shutdown=1,
            timeout_keep_alive=600,  # no connection ends by itself, however slow we are
            ssl_certfile=identity.cert if identity else None,
            ssl_keyfile=identity.key if identity else None,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        started = threading.Event()
        while not server.started:
            if not thread.is_alive():
                raise RuntimeError("the gateway did not start")
            started.wait(0.005)
        try:
            yield gateway
        finally:
            server.should_exit = True
            thread.join(START_SECONDS)
            assert not thread.is_alive(), "the gateway does not end"
