"""Cached coroutine functions as FastAPI's routes and dependencies, called as a server
calls an application."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

from aio import Runner
from fastapi import Depends, FastAPI
from redlane import Cache


async def call(app: Any, path: str, query: str = "") -> tuple[int, Any]:
    """The status and the decoded body of a GET."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    await app(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], json.loads(body)


def test_routes_and_dependencies(client: Any, run: Runner) -> None:
    cache = Cache(client)
    threads: list[int] = []
    app = FastAPI()

    @cache(ttl=60, name="user")
    async def user(number: int, short: bool = False) -> dict[str, Any]:
        threads.append(threading.get_ident())
        await asyncio.sleep(0)
        return {"number": number, "short": short}

    class Service:
        @cache(ignore=["self"], name="total")
        async def total(self, number: int) -> int:
            threads.append(threading.get_ident())
            return number * 2

    app.get("/users/{number}")(user)
    app.get("/totals/{number}")(Service().total)

    @app.get("/both/{number}")
    async def both(
        found: dict[str, Any] = Depends(user),  # noqa: B008 - a local one
        total: int = Depends(Service().total),
    ) -> dict[str, Any]:
        return {**found, "total": total}

    async def main() -> None:
        for _ in range(2):
            assert await call(app, "/users/5") == (200, {"number": 5, "short": False})
            assert await call(app, "/totals/5") == (200, 10)
            status, found = await call(app, "/both/5", "short=true")
            assert (status, found["short"], found["total"]) == (200, True, 10)
        assert (await call(app, "/users/five"))[0] == 422
        status, schema = await call(app, "/openapi.json")
        assert status == 200
        parameters = schema["paths"]["/users/{number}"]["get"]["parameters"]
        assert [(p["name"], p["required"]) for p in parameters] == [
            ("number", True),
            ("short", False),
        ]

    run(main())
    assert threads == [threading.get_ident()] * 3  # on the loop, each once
