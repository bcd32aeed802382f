"""What a type checker must infer of AsyncClient; it is checked, never run."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from redlane import AsyncClient, AsyncPipeline, Client

if sys.version_info >= (3, 11):
    from typing import assert_type
else:
    from typing_extensions import assert_type


async def check() -> None:
    client = AsyncClient("memory://")
    text = AsyncClient("memory://", decode_responses=True)
    assert_type(client, AsyncClient[bytes])
    assert_type(AsyncClient.from_env(decode_responses=True), AsyncClient[str])
    assert_type(client.sync, Client[bytes])
    assert_type(text.sync.aio, AsyncClient[str])

    assert_type(await client.get("k"), bytes | None)
    assert_type(await text.get("k"), str | None)
    assert_type(await client.set("k", 1, ex=5), bool | None)
    assert_type(await client.set("k", 1, get=True), bytes | None)
    assert_type(await text.hgetall("h"), dict[str, str])
    assert_type(await client.zadd("z", {"m": 1.0}, incr=True), float | None)
    assert_type(await client.health(), dict[str, Any])
    assert_type(await asyncio.create_task(client.get("k")), bytes | None)
    async for key in text.scan_iter():
        assert_type(key, str)
    async with client as entered:
        assert_type(entered, AsyncClient[bytes])
    async with client.pipeline() as pipe:
        assert_type(pipe, AsyncPipeline[bytes])
        assert_type(pipe.set("k", 1).get("k"), AsyncPipeline[bytes])
        assert_type(await pipe.execute(), list[Any])
