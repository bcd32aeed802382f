"""What type checkers make of cooldowns, presence and tenants; checked by `make types`,
never run."""

from __future__ import annotations

from datetime import timedelta

from redlane import (
    AsyncClient,
    AsyncContextualRedisCache,
    AsyncCooldown,
    AsyncPresence,
    AsyncRedisCache,
    Client,
    ContextualRedisCache,
    Cooldown,
    CooldownState,
    InMemoryCache,
    NoOpCache,
    Presence,
    RedisCache,
    RuntimeCache,
    TenantCache,
)
from typing_extensions import assert_type

client = Client("memory://")

cooldown = Cooldown(client, seconds=5, prefix="pixel", fallback="none")
assert_type(cooldown.acquire(7), CooldownState)
assert_type(cooldown.peek("ann").remaining, float)
assert_type(cooldown.peek("ann").ready, bool)
assert_type(cooldown.reset("ann"), bool)
assert_type(cooldown.aio, AsyncCooldown)
assert_type(cooldown.seconds, float)

presence = Presence(client, key="ws:active_users", lease=timedelta(seconds=30))
assert_type(presence.join("ann", connection=5), bool)
assert_type(presence.members(), set[str])
assert_type(presence.count(), int)
assert_type(presence.aio, AsyncPresence)

shared = RedisCache(addr="localhost:6379", password="x", db=0, timeout=1)
context = shared.with_context("app", "device")
assert_type(context, ContextualRedisCache)
assert_type(context.get("key"), tuple[bytes | None, bool])
assert_type(context.set("key", b"value", "5m"), bool)
assert_type(context.stats(), int | None)
assert_type(context.flush_device(), int)
assert_type(context.aio, AsyncContextualRedisCache)
assert_type(TenantCache.from_client(client), RedisCache)

caches: list[RuntimeCache] = [context, InMemoryCache(), NoOpCache()]


async def main(aclient: AsyncClient[bytes]) -> None:
    assert_type(await AsyncCooldown(aclient, "5s").acquire("ann"), CooldownState)
    async with AsyncPresence(aclient) as online:
        assert_type(await online.leave("ann"), bool)
    async with AsyncRedisCache.from_client(aclient) as tenants:
        twin = tenants.with_context("app", "device")
        assert_type(await twin.get("key"), tuple[bytes | None, bool])
        assert_type(await twin.set("key", bytearray(5), 60.0), bool)
        assert_type(await twin.stats(), int | None)
