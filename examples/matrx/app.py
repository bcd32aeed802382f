"""The service: `python -m uvicorn --factory matrx.app:create_app` from `examples`."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from redlane import Client, ContextualRedisCache, RedisCache
from redlane.fastapi import health_router
from redlane.starlark import Processor, ScriptError

from .pictures import PictureError, draw
from .settings import Settings
from .sources import Sources, asked

HERE = Path(__file__).parent
APPS = {
    path.stem: path
    for path in sorted((HERE / "apps").glob("*.star"))
    if path.stem != "render"  # what the apps load
}
ID_LENGTH = 64

logger = logging.getLogger("matrx")


def create_app(settings: Settings | None = None) -> FastAPI:
    logging.basicConfig(format="%(levelname)s - %(message)s")
    for name in ("matrx", "redlane"):
        logging.getLogger(name).setLevel(logging.INFO)
    settings = settings or Settings.from_env()
    client = (
        Client(settings.redis_url)
        if settings.redis_url
        else Client.from_env(default="memory://")
    )
    warn_of_workers(client)
    shared = RedisCache.from_client(client)
    processor = Processor(shared, modules=Sources(settings.source_seconds).modules())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        logger.info("MATRX on %s, apps: %s", client, ", ".join(APPS))
        yield
        client.close()

    app = FastAPI(title="MATRX", lifespan=lifespan)
    app.include_router(health_router(client))
    app.mount("/static", StaticFiles(directory=HERE / "static"))
    add_routes(app, shared, processor, settings)
    return app


def warn_of_workers(client: Client[Any]) -> None:
    workers = os.environ.get("WEB_CONCURRENCY", "")
    shared = client.health()["url"] != "memory://"
    if workers.isdecimal() and int(workers) > 1 and not shared:
        logger.warning(
            "Each of %s workers has an engine of its own: set REDIS_ADDR, or run one",
            workers,
        )


def add_routes(
    app: FastAPI, shared: RedisCache, processor: Processor, settings: Settings
) -> None:
    # Those that wait for apps or for Redis are plain functions: FastAPI runs them in
    # threads.
    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(HERE / "static" / "index.html")

    @app.get("/api/devices")
    def devices() -> dict[str, Any]:
        return {"devices": settings.devices, "apps": list(APPS)}

    @app.get("/api/devices/{device_id}/apps/{app_id}/picture.png")
    def picture(device_id: str, app_id: str) -> Response:
        cache = context_of(shared, app_id, device_id)
        begin = time.perf_counter()
        asked.set(0)
        try:
            drawn = draw(processor.render_app_with_cache(APPS[app_id], cache))
        except (ScriptError, PictureError) as error:
            logger.error("App failed: %s", error)
            raise HTTPException(500, "the app failed") from None
        headers = {
            "Cache-Control": "no-store",
            "Matrx-Asked": str(asked.get()),
            "Matrx-Milliseconds": f"{1000 * (time.perf_counter() - begin):.1f}",
        }
        return Response(drawn.png(), media_type="image/png", headers=headers)

    @app.get("/api/devices/{device_id}/apps/{app_id}/stats")
    def stats(device_id: str, app_id: str) -> dict[str, Any]:
        """`keys` is null while Redis is away."""
        cache = context_of(shared, app_id, device_id)
        return {"app_id": app_id, "device_id": device_id, "keys": cache.stats()}

    @app.post("/api/devices/{device_id}/apps/{app_id}/flush")
    def flush_app(device_id: str, app_id: str) -> dict[str, int]:
        return {"flushed": context_of(shared, app_id, device_id).flush_app()}

    @app.post("/api/devices/{device_id}/flush")
    def flush_device(device_id: str) -> dict[str, int]:
        some_app = next(iter(APPS))
        return {"flushed": context_of(shared, some_app, device_id).flush_device()}


def context_of(shared: RedisCache, app_id: str, device_id: str) -> ContextualRedisCache:
    """The cache of that app on that device; 404 and 400 for what is none."""
    if app_id not in APPS:
        raise HTTPException(404, "there is no such app")
    if len(device_id) > ID_LENGTH or not device_id.isprintable():
        raise HTTPException(400, f"a device has up to {ID_LENGTH} printable characters")
    try:
        return shared.with_context(app_id, device_id)
    except ValueError as error:
        raise HTTPException(400, str(error)) from None
