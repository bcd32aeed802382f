"""What type checkers make of cached functions; checked by `make types`, never run."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from redlane import AsyncCache, Cache
from typing_extensions import assert_type

cache = Cache("memory://", ttl="10m")


@cache
def plain(number: int, detail: str = "short") -> list[int]:
    return [number]


@cache(
    ttl=lambda result: timedelta(seconds=5) if result else None,
    jitter=0.1,
    key="user:{number}",
    namespace="tenant-1",
    ignore=["detail"],
    cache_exceptions={LookupError: "5s", OSError: 1},
    soft_timeout=0.2,
    hard_timeout="2s",
)
def chosen(number: int, detail: str = "short") -> bytes:
    return b""


class Service:
    @cache(key=lambda self, year: f"report:{year}")
    def report(self, year: int) -> str:
        return str(year)


@cache(ttl=5)
async def awaited(number: int) -> list[int]:
    return [number]


class AsyncService:
    @cache
    async def report(self, year: int) -> str:
        return str(year)


async def awaiting() -> None:
    assert_type(await awaited(1), list[int])
    assert_type(await awaited.refresh(1), list[int])
    assert_type(await awaited.invalidate(1), bool)
    assert_type(await awaited.invalidate_all(), int)
    assert_type(awaited.cache_key(1), str)
    assert_type(await AsyncService().report(2025), str)
    assert_type(await AsyncService().report.invalidate(2025), bool)
    assert_type(cache.aio, AsyncCache)
    assert_type(await cache.aio.has("key"), bool)
    assert_type(await cache.aio.get_many(["a", "b"]), dict[str, Any])
    assert_type(await cache.aio.counter("n").get(), int | None)
    await awaited("1")  # type: ignore[arg-type]


assert_type(plain(1), list[int])
assert_type(plain.refresh(1, detail="x"), list[int])
assert_type(plain.invalidate(1), bool)
assert_type(plain.cache_key(number=1), str)
assert_type(chosen(1), bytes)
assert_type(Service().report(2025), str)
assert_type(Service().report.refresh(2025), str)
assert_type(Service().report.invalidate(year=2025), bool)
assert_type(Service().report.invalidate_all(), int)
assert_type(Service.report(Service(), 2025), str)
taken: Callable[[int], str] = Service().report

plain("1")  # type: ignore[arg-type]
Service().report.invalidate("2025")  # type: ignore[arg-type]
cache(key=5)  # type: ignore[call-overload]
cache(ttl=b"10m")  # type: ignore[call-overload]
cache(cache_exceptions={LookupError: None})  # type: ignore[dict-item]
given: Any = Service().report.__wrapped__
