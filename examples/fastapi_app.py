"""The same on FastAPI: uvicorn --app-dir examples fastapi_app:app"""

import asyncio
import time

from fastapi import FastAPI
from redlane import cache
from redlane.fastapi import cached, health_router, invalidate, lifespan, limit

app = FastAPI(lifespan=lifespan)  # closes the connections at the end
app.include_router(health_router())  # /health and /health/deep


@cache(ttl=60)  # seconds
async def expensive_function(user_id: int) -> dict[str, float]:
    await asyncio.sleep(0.5)
    return {"user_id": user_id, "computed_at": time.time()}


@app.get("/api/cached-data/{user_id}")
async def cached_data(user_id: int) -> dict[str, float]:
    return await expensive_function(user_id)


@app.get("/api/report")
@limit("5/minute")  # for each client; 429 to who asks more often
@cached(ttl="10m")  # the whole response, for everybody
async def report() -> dict[str, float]:
    await asyncio.sleep(0.5)
    return {"made_at": time.time()}


@app.post("/api/invalidate-cache")
async def invalidate_all() -> dict[str, int]:
    count = await expensive_function.invalidate_all()
    return {"invalidated": count + await invalidate("/api/report")}
