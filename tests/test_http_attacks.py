"""What was found by trying to break cached responses and limits: each case once."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from aio import until
from fastapi import FastAPI
from http_tools import Asgi, Reply, ask_asgi
from redlane.fastapi import CacheMiddleware, cached
from starlette.responses import PlainTextResponse, Response, StreamingResponse


@pytest.fixture
def fast(client: Any) -> Iterator[Any]:
    app = FastAPI()
    app.add_middleware(CacheMiddleware)
    ask = Asgi(app)
    yield app, ask
    ask.run(client.aio.close())
    ask.close()


# --- made anew, while nobody waits ----------------------------------------------------


@pytest.mark.parametrize("ahead", [False, True])
def test_a_refill_that_is_answered_with_a_stream(
    ahead: bool, client: Any, fast: Any
) -> None:
    """Nobody listens to it: it is left, even if it never ends, and the loop goes on."""
    app, ask = fast
    left = []

    async def forever() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x"
        finally:
            left.append(True)

    answers: Iterator[Response] = itertools.chain(
        [PlainTextResponse("first")],
        (StreamingResponse(forever()) for _ in itertools.repeat(0)),
    )

    @app.get("/x")
    @cached(client=client, ttl=0.2, stale=60, ahead=ahead)
    async def endpoint() -> Response:
        return next(answers)

    async def asked() -> Reply:
        await ask_asgi(app, "/x")
        reply = await ask_asgi(app, "/x")
        while reply.word != "STALE":
            await asyncio.sleep(0.05)
            reply = await ask_asgi(app, "/x")
        await until(lambda: left, "the end of a stream that nobody reads")
        return reply

    assert ask.run(asked()).text == "first"
