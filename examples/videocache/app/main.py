"""The service: `python -m uvicorn app.main:socket_app`, from the folder above this."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field
from redlane import aclose_default_client
from redlane.fastapi import health_router

from .live import LiveStats
from .services.generator import Generator
from .services.library import Library
from .services.pregeneration import Pregeneration, read_combinations
from .services.video_cache import video_cache
from .settings import Settings

STATIC = Path(__file__).parent / "static"

Card = Annotated[str, Field(min_length=1, max_length=500)]
Whites = Annotated[list[Card], Field(min_length=1, max_length=10)]

logger = logging.getLogger("videocache")


class Cards(BaseModel):
    black_card: Card
    white_cards: Whites
    permanent: bool = False


class Finished(Cards):
    video_url: Annotated[str, Field(pattern=r"^(https?://|/)", max_length=2000)]


def create_app(settings: Settings | None = None) -> FastAPI:
    show_info()
    settings = settings or Settings.from_env()
    combinations = read_combinations(settings.popular)
    library = Library(Generator(settings.media, settings.generate_seconds))
    live = LiveStats(library.get_stats)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await video_cache.aio.startup()
        await warn_of_workers()
        app.state.job = job = Pregeneration(
            library,
            combinations,
            settings.pregenerate_every,
            settings.generate_seconds,
        )
        job.start()
        try:
            yield
        finally:
            await job.stop()
            await aclose_default_client()

    app = FastAPI(title="videocache", lifespan=lifespan)
    app.include_router(health_router())
    add_videos(app, library)
    add_numbers(app, library, live)
    app.mount("/media", StaticFiles(directory=settings.media), name="media")
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.add_exception_handler(RequestValidationError, refused)
    return app


def show_info() -> None:
    """The lines of the log as they are, nothing before them."""
    logging.basicConfig(format="%(message)s")
    for name in ("videocache", "redlane"):
        logging.getLogger(name).setLevel(logging.INFO)


async def warn_of_workers() -> None:
    workers = os.environ.get("WEB_CONCURRENCY", "")
    if workers.isdecimal() and int(workers) > 1:
        stats = await video_cache.aio.get_stats()
        if stats["cache_type"] == "memory":
            logger.warning(
                "Each of %s workers has a memory of its own: start Redis, or run one",
                workers,
            )


def add_videos(app: FastAPI, library: Library) -> None:
    @app.get("/api/videos")
    async def find(
        black_card: Card, white_card: Annotated[Whites, Query()]
    ) -> dict[str, Any]:
        url = await library.find(black_card, white_card)
        if url is None:
            raise HTTPException(404, "no video of these cards")
        return {"video_url": url, "cached": True}

    @app.post("/api/videos")
    async def find_or_generate(cards: Cards) -> dict[str, Any]:
        video = await library.find_or_generate(
            cards.black_card, cards.white_cards, cards.permanent
        )
        return {"video_url": video.url, "cached": video.cached}

    @app.put("/api/videos")
    async def store(video: Finished) -> dict[str, Any]:
        stored = await library.store(
            video.black_card, video.white_cards, video.video_url, video.permanent
        )
        return {"stored": stored}


def add_numbers(app: FastAPI, library: Library, live: LiveStats) -> None:
    @app.get("/", include_in_schema=False)
    async def index() -> FileResponse:
        return FileResponse(STATIC / "index.html")

    @app.get("/api/stats")
    async def stats() -> dict[str, Any]:
        return await library.get_stats()

    @app.get("/api/pregeneration")
    async def pregeneration(request: Request) -> dict[str, Any]:
        report: dict[str, Any] = request.app.state.job.report()
        return report

    @app.post("/api/pregeneration", status_code=202)
    async def pregenerate(request: Request) -> dict[str, Any]:
        request.app.state.job.ask()
        return {"accepted": True}

    @app.websocket("/ws/stats")
    async def live_stats(websocket: WebSocket) -> None:
        await live.serve(websocket)


async def refused(request: Request, error: Exception) -> JSONResponse:
    """What was wrong with the input, without repeating it."""
    assert isinstance(error, RequestValidationError)
    reasons = [
        {"where": [str(part) for part in one["loc"]], "what": one["msg"]}
        for one in error.errors()
    ]
    return JSONResponse({"detail": reasons}, 422)


socket_app = create_app()
