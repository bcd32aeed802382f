"""Commands as HTTP requests, and answers as replies, by Upstash's REST protocol.

    POST /            ["GET", "k"]                  {"result": …} or {"error": …}
    POST /pipeline    [["GET", "k"], …]             [{"result": …}, {"error": …}, …]
    POST /multi-exec  the same, as a transaction    the same, or {"error": …}

Strings of results come in base64 (but for OK), so that bytes survive. A failure is told
in error lines of our own (`redlane._rest_wire.failure`), by what it says of the server:
nothing was executed, or it may have been, or the server refuses to serve. Only what
changes nothing is sent once more, or what was not sent at all.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from importlib.util import find_spec
from time import time
from typing import Any

if find_spec("sniffio") is None:
    # httpcore looks for it several times in each request, all over the path and with an
    # import lock, which a child that is forked meanwhile would wait for for ever.
    sys.modules["sniffio"] = None  # type: ignore[assignment]

import httpx
import msgspec

from redlane import _core
from redlane._rest_wire import (
    UnsendableError,
    encode_error,
    encode_reply,
    failure,
    is_ours,
    words_of,
)

__all__ = ["FailedError", "HttpServer", "keep_alive"]

# One request holds so much at most; what is beyond it goes in the next.
_COMMANDS_MOST = 1000
_BYTES_MOST = 512 << 10
# Many servers close what is idle for 5 s, and a write that meets that end may have been
# executed, for all that we know.
_IDLE_MOST = 4.0  # seconds
_RETRY_MOST = 3600  # seconds that a server's Retry-After is believed
# Of an answer, beside what its strings hold: to all of a request, and to a command.
_ANSWER_ROOM = 64 << 10
_COMMAND_ROOM = 256
# A token of fewer characters is part of any text.
_SECRET_LEAST = 4
# Of a stream on which nothing comes: seconds, seconds, and a number.
_KEEP_ALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
_QUOTA = ("max daily request limit", "max requests limit", "max request limit")

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


# Certificates that nothing asks for would take longer to read than all the rest.
_UNUSED = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
# A child forked while OpenSSL makes a context would wait for its locks for ever.
_tls_begins = threading.Lock()
os.register_at_fork(
    before=_tls_begins.acquire,
    after_in_parent=_tls_begins.release,
    after_in_child=_tls_begins.release,
)


class FailedError(Exception):
    """A request failed; its text is the error line that says how."""


class _TooLongError(FailedError):
    """An answer is longer than one may be."""


class _AnsweredError(Exception):
    """The answer to all of a request is an error reply."""


class HttpServer:
    """One REST server; used on one event loop."""

    def __init__(
        self,
        url: str,
        token: str,
        timeout: float,
        pool_size: int,
        max_reply: int,
        tell_tls: Callable[[str], None],
    ) -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._timeout = timeout
        # Whoever waits has a deadline of his own, which is well before this.
        self._limit = 2 * timeout + 5
        self._pool_size = pool_size
        self.most = max_reply // 3 * 4 + _ANSWER_ROOM  # bytes of an answer
        self._tell_tls = tell_tls
        self._told = ""
        self._sockets: dict[int, Any] = {}  # by descriptor
        self._client: httpx.AsyncClient | None = None
        self._broken = ""

    async def open(self) -> None:
        """On the loop that is to use it. Where that fails, each request says why."""
        self._gate = asyncio.Semaphore(self._pool_size)
        try:
            self._client = self._make_client()
        except Exception as error:  # noqa: BLE001 - the environment's, in many ways
            self._broken = failure("away", f"HTTP cannot begin: {_problem(error)}")

    def _make_client(self) -> httpx.AsyncClient:
        plain = self._url.startswith("http://")  # no proxy gets to see the token
        with _tls_begins:
            return httpx.AsyncClient(
                headers={
                    "Authorization": f"Bearer {self._token}",
                    "Accept-Encoding": "identity",
                    "User-Agent": "redlane",
                },
                timeout=httpx.Timeout(self._limit, connect=self._timeout),
                limits=httpx.Limits(
                    max_connections=None,
                    max_keepalive_connections=self._pool_size,
                    keepalive_expiry=_IDLE_MOST,
                ),
                follow_redirects=False,
                trust_env=not plain,
                verify=_UNUSED if plain else True,
            )

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    def forget(self) -> None:
        """In a forked child, which has inherited the connections: else the server would
        see none of them end while the child lives. What holds their descriptors there
        keeps something that it may close."""
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for descriptor, held in self._sockets.items():
            if held.fileno() == descriptor:
                os.dup2(nothing, descriptor, inheritable=False)
        os.close(nothing)

    def note(self, response: httpx.Response) -> None:
        """Of an answer that has begun: whose connection it came by."""
        stream = response.extensions["network_stream"]
        held = stream.get_extra_info("socket")
        if held is not None:
            self._sockets[held.fileno()] = held
        tls = stream.get_extra_info("ssl_object")
        if tls is not None:
            agreed = f"{tls.version()} {(tls.cipher() or ('?',))[0]}"
            if agreed != self._told:
                self._told = agreed
                self._tell_tls(agreed)

    # --- commands ---

    async def execute(self, commands: list[list[bytes]]) -> bytes:
        """The replies to all of them, in RESP2."""
        parts: list[bytes] = []
        position = 0
        failed: str | None = None
        while position < len(commands):
            end = _end_of_request(commands, position)
            part = commands[position:end]
            position = end
            if failed is not None:  # what comes later must not be done without it
                parts.append(self.encode_error(failed) * len(part))
                continue
            try:
                if part[0][0] == b"MULTI":
                    parts.append(await self._transaction(part))
                else:
                    parts.append(await self._pipeline(part))
            except FailedError as error:
                failed = str(error)
                parts.append(self.encode_error(failed) * len(part))
        return b"".join(parts)

    def encode_error(self, line: str) -> bytes:
        """An error reply. What repeats the token is not shown with it."""
        if len(self._token) >= _SECRET_LEAST:
            line = line.replace(self._token, "***")
        return encode_error(line)

    async def _pipeline(self, commands: list[list[bytes]]) -> bytes:
        words: list[list[str]] = []
        answers: list[bytes | None] = []  # of those that are not sent
        for command in commands:
            try:
                words.append(words_of(command))
                answers.append(None)
            except UnsendableError as error:
                answers.append(encode_error(str(error)))
        if words:
            reads = all(_core._is_read(command[0]) for command in commands)
            sent = iter(await self._ask(words, reads))
            for i, command in enumerate(commands):
                if answers[i] is None:
                    answers[i] = self._reply_of(next(sent), command[0])
        return b"".join(answer for answer in answers if answer is not None)

    async def _ask(self, words: list[list[str]], reads: bool) -> list[dict[str, Any]]:
        try:
            if len(words) == 1:
                return [_result(await self._post("/", words[0], reads))]
            results = await self._post("/pipeline", words, reads)
        except _AnsweredError as error:
            return [{"error": str(error)}] * len(words)
        except _TooLongError:
            # They may be of callers that know nothing of each other.
            half = len(words) // 2
            if not half or not reads:
                raise
            first = await self._ask(words[:half], reads)
            return first + await self._ask(words[half:], reads)
        return _results(results, len(words))

    async def _transaction(self, commands: list[list[bytes]]) -> bytes:
        """MULTI, the commands, EXEC."""
        inner = commands[1:-1]
        try:
            words = [words_of(command) for command in inner]
            answer = await self._post("/multi-exec", words, False)
        except UnsendableError as error:
            last = encode_error(str(error))
        except _AnsweredError as error:
            last = self._reply_of({"error": str(error)}, b"EXEC")
        else:
            replies = [
                self._reply_of(result, command[0])
                for result, command in zip(
                    _results(answer, len(inner)), inner, strict=True
                )
            ]
            last = b"*%d\r\n%s" % (len(replies), b"".join(replies))
        return b"+OK\r\n" + b"+QUEUED\r\n" * len(inner) + last

    def _reply_of(self, answer: dict[str, Any], name: bytes) -> bytes:
        error = answer.get("error")
        if error is not None:
            text = error if isinstance(error, str) else "ERR"
            if _is_quota(text):
                return self.encode_error(failure("away", text, -1))
            return self._error_of(text)
        try:
            return encode_reply(answer["result"], name, self._error_of)
        except (ValueError, LookupError, RecursionError):
            return encode_error(failure("unsure", "an answer that is no reply"))

    def _error_of(self, text: str) -> bytes:
        """A command's error: never one of ours, whatever it looks like."""
        return self.encode_error(f"ERR {text}" if is_ours(text) else text)

    # --- requests ---

    async def _post(self, path: str, words: Any, reads: bool) -> Any:
        body = _encode(words)
        most = self.most + _COMMAND_ROOM * len(words)
        for last in (False, True):
            try:
                async with self._gate:
                    status, fields, content = await asyncio.wait_for(
                        self._send(path, body, most), self._limit
                    )
            except (
                httpx.ConnectError,
                httpx.ConnectTimeout,
                httpx.PoolTimeout,
            ) as error:
                if last:
                    raise FailedError(failure("away", _problem(error))) from None
            except asyncio.TimeoutError:
                line = failure("unsure", "the answer did not come in time")
                raise FailedError(line) from None
            except (httpx.HTTPError, httpx.StreamError, OSError) as error:
                if last or not reads:
                    raise FailedError(failure("unsure", _problem(error))) from None
            else:
                if status == 200:
                    return _decode_answer(content)
                raise _refusal_of(status, fields, content)
        raise AssertionError("the last try returns or raises")

    async def _send(
        self, path: str, body: bytes, most: int
    ) -> tuple[int, httpx.Headers, bytes]:
        if self._client is None:
            raise FailedError(self._broken)
        fields = {"Upstash-Encoding": "base64", "Content-Type": "application/json"}
        async with self._client.stream(
            "POST", self._url + path, content=body, headers=fields
        ) as response:
            self.note(response)
            content = await read_all(response, most)
        return response.status_code, response.headers, content

    async def read_refusal(self, response: httpx.Response) -> Exception:
        """What an answer that has begun means, which is none."""
        content = await asyncio.wait_for(read_all(response, _ANSWER_ROOM), self._limit)
        return _refusal_of(response.status_code, response.headers, content)

    def listen(self, path: str) -> Any:
        """A stream of events: what httpx's stream() returns."""
        if self._client is None:
            raise FailedError(self._broken)
        return self._client.stream(
            "POST",
            self._url + path,
            headers={"Accept": "text/event-stream"},
            timeout=httpx.Timeout(None, connect=self._timeout),
        )


def _end_of_request(commands: list[list[bytes]], position: int) -> int:
    """Where the commands end that go in one request: a transaction, or some that none
    interrupts."""
    if commands[position][0] == b"MULTI":
        return commands.index([b"EXEC"], position) + 1
    size = 0
    for end in range(position, len(commands)):
        command = commands[end]
        size += sum(map(len, command))
        if end > position and (
            command[0] == b"MULTI"
            or size > _BYTES_MOST
            or end - position == _COMMANDS_MOST
        ):
            return end
    return len(commands)


async def read_all(response: httpx.Response, most: int) -> bytes:
    """The body.

    :raises _TooLongError: there is more of it
    """
    content = bytearray()
    async for chunk in response.aiter_raw():
        content += chunk
        if len(content) > most:
            line = failure("unsure", "a reply of more than max_reply bytes")
            raise _TooLongError(line)
    return bytes(content)


def _problem(error: Exception) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


# --- answers ----------------------------------------------------------------------


def _decode_answer(content: bytes) -> Any:
    try:
        return _decode(content)
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise FailedError(
            failure("unsure", "the answer is not JSON: is this a REST server?")
        ) from None


def _refusal_of(status: int, fields: httpx.Headers, content: bytes) -> Exception:
    """What an answer that is none means."""
    text = _error_text(content)
    shown = f"HTTP {status}: {text}" if text else f"HTTP {status}"
    if status == 400 and text:
        if _is_quota(text):
            return FailedError(failure("away", shown, -1))
        return _AnsweredError(text)
    if status == 401:
        known = text.startswith(("WRONGPASS", "NOAUTH"))
        return FailedError(failure("refused", text if known else f"WRONGPASS {shown}"))
    if status == 403:
        known = text.startswith("NOPERM")
        return FailedError(failure("refused", text if known else f"NOPERM {shown}"))
    if status == 413:
        return _AnsweredError(f"ERR {shown}")
    if status == 429 or _is_quota(text):
        return FailedError(failure("away", shown, _retry_after(fields) or -1))
    if status == 503 or 300 <= status < 500:
        return FailedError(failure("away", shown, _retry_after(fields)))
    return FailedError(failure("unsure", shown, _retry_after(fields)))


def _error_text(content: bytes) -> str:
    try:
        error = _decode(content)["error"]
    except (msgspec.DecodeError, ValueError, RecursionError, LookupError, TypeError):
        return ""
    return error if isinstance(error, str) else ""


def _is_quota(text: str) -> bool:
    lower = text.lower()
    return any(words in lower for words in _QUOTA)


def _retry_after(fields: httpx.Headers) -> int:
    """Seconds; 0: not said."""
    text = fields.get("retry-after", "").strip()
    try:
        if text.isascii() and text.isdigit():
            return min(int(text[:9]), _RETRY_MOST)
        seconds = parsedate_to_datetime(text).timestamp() - time()
    except (ValueError, TypeError, OverflowError):
        return 0
    return max(0, min(int(seconds) + 1, _RETRY_MOST))


def _result(answer: Any) -> dict[str, Any]:
    if isinstance(answer, dict) and ("result" in answer or "error" in answer):
        return answer
    raise FailedError(failure("unsure", "the answer is not one of the REST protocol"))


def _results(answers: Any, count: int) -> list[dict[str, Any]]:
    if not isinstance(answers, list) or len(answers) != count:
        raise FailedError(
            failure("unsure", "as many answers as there were commands did not come")
        )
    return [_result(answer) for answer in answers]


def keep_alive(stream: Any) -> None:
    """Has the system notice within minutes a peer that is gone, where nothing is sent
    for long."""
    end = stream.get_extra_info("socket")
    if not hasattr(end, "setsockopt"):
        return
    end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE.items():
        if hasattr(socket, name):
            end.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
