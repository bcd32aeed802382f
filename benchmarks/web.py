"""Requests to web applications, called as a server calls them, without a server."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from itertools import repeat
from time import perf_counter
from typing import Any

from benchmarks import near
from benchmarks.harness import Fact, Measure

HOST = "www.example.com"
# What comes with a browser's request for data, but for its cookies.
FIELDS = {
    "host": HOST,
    "connection": "keep-alive",
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox",
    "accept": "application/json, text/plain, */*",
    "accept-language": "en-US,en;q=0.5",
    "accept-encoding": "gzip, deflate, br",
    "referer": f"http://{HOST}/",
    "sec-fetch-mode": "cors",
}
# A small answer, as most interfaces give it; and one that is a text already.
DATA = {"user": "ann", "items": [1, 2, 3], "text": "hello " * 10}
TEXT = "hello " * 20
TTL = 3600  # seconds: nothing ends while a row runs

BARE = "bare route"
KINDS = ("JSON", "text")

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
Asgi = Callable[[Any, Any, Any], Any]


class Ran:
    """How many times a route's function has run."""

    def __init__(self) -> None:
        self.times = 0

    def once(self, what: str) -> None:
        """Refuses what is said to be cached and is not."""
        if self.times != 1:
            raise RuntimeError(f"{what}: the route ran {self.times} times")

    def fact(self) -> Fact:
        return Fact(f"the cached route ran {self.times} time(s)", self.times == 1)


def counted_near(
    cache: Any,
    ask: Callable[[], object],
    measure: Measure,
    count: int,
    watched: list[near.Watched],
) -> Measure:
    """Puts into `watched` how many calls were near hits, from the first batch on: while
    peers are set up, a busy machine may lose the connection that keeps them true."""

    def counted() -> float:
        if not watched:
            near.wait_until_near(cache, ask)
            watched.append(near.Watched(cache, measure, count))
        return watched[0]()

    return counted


# --- WSGI -----------------------------------------------------------------------------


def environ(path: str) -> dict[str, Any]:
    made: dict[str, Any] = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "50000",
        "RAW_URI": path,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in FIELDS.items():
        made["HTTP_" + name.upper().replace("-", "_")] = value
    return made


def wsgi_batch(app: Wsgi, path: str, count: int) -> float:
    """Seconds for one of `count` requests."""
    given = environ(path)
    start = perf_counter()
    for _ in repeat(None, count):
        body = app(given.copy(), _start)
        b"".join(body)
        close = getattr(body, "close", None)
        if close is not None:
            close()
    return (perf_counter() - start) / count


def wsgi_answer(app: Wsgi, path: str) -> tuple[str, dict[str, str], bytes]:
    said: list[Any] = []

    def start(status: str, fields: list[tuple[str, str]], error: Any = None) -> Any:
        said[:] = [status, {name.lower(): value for name, value in fields}]

    body = app(environ(path), start)
    whole = b"".join(body)
    close = getattr(body, "close", None)
    if close is not None:
        close()
    return said[0], said[1], whole


def _start(status: str, fields: Any, error: Any = None) -> Callable[[bytes], object]:
    return io.BytesIO().write


# --- ASGI -----------------------------------------------------------------------------


def scope(path: str) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in FIELDS.items()],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 80),
    }


async def asgi_batch(app: Asgi, path: str, count: int) -> float:
    """Seconds for one of `count` requests, one after another."""
    given = scope(path)
    start = perf_counter()
    for _ in repeat(None, count):
        await app(given.copy(), _receive, _send)
    return (perf_counter() - start) / count


async def asgi_answer(app: Asgi, path: str) -> tuple[int, dict[str, str], bytes]:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope(path), _receive, send)
    fields = {n.decode().lower(): v.decode() for n, v in sent[0]["headers"]}
    return sent[0]["status"], fields, b"".join(m.get("body", b"") for m in sent[1:])


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: Any) -> None:
    """As one that has sent it."""
