"""Requests to applications, as a server makes them, and what comes back."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import fastapi
import pytest

takes_models_of_fields = pytest.mark.skipif(
    tuple(map(int, fastapi.__version__.split(".")[:2])) < (0, 115),
    reason="FastAPI has had models of header parameters since 0.115",
)

Headers = Mapping[str, str]


@dataclass
class Reply:
    status: int
    fields: list[tuple[str, str]]
    body: bytes

    def __getitem__(self, name: str) -> str | None:
        found = [v for n, v in self.fields if n.lower() == name.lower()]
        return ", ".join(found) if found else None

    @property
    def word(self) -> str | None:
        return self["X-Cache"]

    @property
    def text(self) -> str:
        return self.body.decode()


def wsgi_environ(
    target: str, headers: Headers, method: str, host: str, body: bytes
) -> dict[str, Any]:
    path, _, query = target.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote(path, "latin-1"),
        "QUERY_STRING": query,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": host,
        "CONTENT_LENGTH": str(len(body)) if body else "",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in headers.items():
        key = name.upper().replace("-", "_")
        environ[key if key == "CONTENT_TYPE" else f"HTTP_{key}"] = value
    return environ


def ask_wsgi(
    app: Any,
    target: str,
    headers: Headers = {},  # noqa: B006 - never changed
    method: str = "GET",
    host: str = "app.test",
    body: bytes = b"",
) -> Reply:
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, fields: Any, error: object = None) -> Any:
        started.append((status, list(fields)))
        return lambda data: None

    pieces = app(wsgi_environ(target, headers, method, host, body), start_response)
    try:
        text = b"".join(pieces)
    finally:
        if hasattr(pieces, "close"):
            pieces.close()
    assert len(started) == 1
    return Reply(int(started[0][0].split()[0]), started[0][1], text)


async def ask_asgi(
    app: Any,
    target: str,
    headers: Headers = {},  # noqa: B006 - never changed
    method: str = "GET",
    host: str = "app.test",
    body: bytes = b"",
) -> Reply:
    sent: list[dict[str, Any]] = []
    asked = iter([{"type": "http.request", "body": body, "more_body": False}])
    ended = asyncio.Event()

    async def receive() -> dict[str, Any]:
        for message in asked:
            return message
        await ended.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            ended.set()

    path, _, query = target.partition("?")
    lines = {"host": host, **headers}
    if body:
        lines["content-length"] = str(len(body))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [
            (name.lower().encode(), value.encode("latin-1"))
            for name, value in lines.items()
        ],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    await app(scope, receive, send)
    starts = [m for m in sent if m["type"] == "http.response.start"]
    assert len(starts) == 1
    return Reply(
        starts[0]["status"],
        [(n.decode("latin-1"), v.decode("latin-1")) for n, v in starts[0]["headers"]],
        b"".join(m.get("body", b"") for m in sent),
    )


class Wsgi:
    """An application's client: `site("/path", {"Header": "value"})`."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def __call__(self, target: str, headers: Headers = {}, **more: Any) -> Reply:  # noqa: B006
        return ask_wsgi(self.app, target, headers, **more)


class Asgi:
    """The same, on an event loop of its own."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.loop = asyncio.new_event_loop()

    def __call__(self, target: str, headers: Headers = {}, **more: Any) -> Reply:  # noqa: B006
        return self.run(ask_asgi(self.app, target, headers, **more))

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def close(self) -> None:
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
