"""What type checkers make of the Starlark processor; checked by `make types`, never
run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from redlane import AsyncRedisCache, InMemoryCache, NoOpCache, RedisCache, RuntimeCache
from redlane.starlark import (
    AsyncProcessor,
    Processor,
    ScriptError,
    ScriptTimeoutError,
)
from typing_extensions import assert_type


def fetch(place: str) -> dict[str, float]:
    return {place: 1.5}


def processors(shared: RedisCache, awaited: AsyncRedisCache) -> None:
    processor = Processor(shared, modules={"sources.star": {"fetch": fetch}})
    assert_type(Processor(awaited, timeout=None), Processor)
    assert_type(processor.aio, AsyncProcessor)
    caches: list[RuntimeCache] = [
        shared.with_context("clock", "device123"),
        InMemoryCache(),
        NoOpCache(),
    ]
    for cache in caches:
        assert_type(processor.render_app_with_cache("clock.star", cache), Any)
        processor.render_app_with_cache(Path("clock.star"), cache, {"size": 64})
    assert_type(processor.render_app("clock.star", "clock", "device123"), Any)
    Processor(InMemoryCache())  # type: ignore[arg-type]
    processor.render_app_with_cache("clock.star", shared)  # type: ignore[arg-type]
    processor.render_app("clock.star", "clock")  # type: ignore[call-arg]


async def awaited(shared: AsyncRedisCache) -> None:
    processor = AsyncProcessor(shared)
    cache = shared.with_context("clock", "device123")
    assert_type(await processor.render_app_with_cache("clock.star", cache), Any)
    assert_type(await processor.render_app("clock.star", "clock", "device123"), Any)


def errors(error: ScriptTimeoutError) -> tuple[ScriptError, TimeoutError]:
    return error, error
