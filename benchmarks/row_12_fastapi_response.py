"""Row 12: a cached response of a FastAPI application.

The application is called with a scope, as a server calls it, one request after another
on a loop of asyncio. Beside it stands the same endpoint without a cache: a small dict
that FastAPI makes JSON of, and a PlainTextResponse, of which a cache can save next to
nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from benchmarks import aio, clients, near, web
from benchmarks.harness import (
    OURS,
    Bench,
    Goal,
    Lineup,
    Measure,
    Result,
    Unavailable,
    at_most,
    within,
)
from benchmarks.server import HOST

ROW = 12
FASTAPI_CACHE = "fastapi-cache2, memory"
FASTAPI_CACHE_REDIS = "fastapi-cache2, Redis"
REDIS_SDK = "fastapi-redis-sdk, Redis 8"
PATH = "/api/items"
BATCH = 40
BATCH_AHEAD = 400  # so that it takes about as long

ENGINE = "memory://"

Loop = asyncio.AbstractEventLoop
Make = Callable[
    [Bench, ExitStack, Loop, str, str, web.Ran], tuple[Any, Callable[[], None]]
]
"""An application of a peer, and what is to be done before a batch."""


def run(bench: Bench) -> list[Result]:
    return [
        race(bench, kind, place, ahead)
        for ahead in (False, True)
        for kind in (web.KINDS[:1] if ahead else web.KINDS)
        for place in ("near", "engine")
    ]


def race(bench: Bench, kind: str, place: str, ahead: bool) -> Result:
    how = "ahead of routing" if ahead else "by the endpoint"
    lineup = Lineup(ROW, f"cached response of FastAPI, {kind}, {place}, {how}")
    prefix = f"bench:{ROW}:{kind}:{place}:{how}"  # each race stores anew
    count = bench.batch(BATCH)
    ran = web.Ran()
    watched: list[near.Watched] = []
    with ExitStack() as stack:

        def ours() -> Measure:
            loop = aio.new_loop("asyncio", stack)
            url = bench.server.url if place == "near" else ENGINE
            client = clients.redlane_client(bench, stack, url)
            app, cache = redlane_app(kind, client, ahead, prefix, ran)
            own = bench.batch(BATCH_AHEAD if ahead else BATCH)
            return warm(loop, app, cache, place, own, watched)

        def bare() -> Measure:
            loop = aio.new_loop("asyncio", stack)
            return timed(loop, bare_app(kind), count)

        lineup.add(OURS, "ours", ours)
        lineup.add(web.BARE, "floor", bare)
        for name, make in PEERS.items():
            set_up = partial(cached, bench, stack, kind, prefix, make, count)
            lineup.add(name, "peer", set_up)
        result = lineup.race(bench.rounds(100), goals(kind, ahead))
        result.facts += [measure.fact() for measure in watched]
        result.facts.append(ran.fact())
        return result


def goals(kind: str, ahead: bool) -> list[Goal]:
    if ahead:
        return [within(10e-6, FASTAPI_CACHE, quoted=56e-6)]
    return [at_most(1.1, web.BARE)] if kind == "JSON" else []


def endpoint(kind: str, ran: web.Ran) -> Callable[[], Any]:
    from fastapi.responses import PlainTextResponse

    async def as_json() -> Any:
        ran.times += 1
        return web.DATA

    async def as_text() -> Any:
        ran.times += 1
        return PlainTextResponse(web.TEXT)

    return as_json if kind == "JSON" else as_text


def timed(
    loop: Loop, app: Any, count: int, before: Callable[[], None] | None = None
) -> Measure:
    def measure() -> float:
        if before is not None:
            before()
        batch = web.asgi_batch(app, PATH, count)
        return aio.run_within(loop, batch, "a batch")

    return measure


def bare_app(kind: str) -> Any:
    from fastapi import FastAPI

    app = FastAPI()
    app.get(PATH)(endpoint(kind, web.Ran()))
    return app


def redlane_app(
    kind: str, client: Any, ahead: bool, prefix: str, ran: web.Ran
) -> tuple[Any, Any]:
    from fastapi import FastAPI
    from redlane.fastapi import CacheMiddleware, cached, response_cache

    app = FastAPI()
    if ahead:
        app.add_middleware(CacheMiddleware)
    decorate = cached(client=client, prefix=prefix, ttl=web.TTL, ahead=ahead)
    app.get(PATH)(decorate(endpoint(kind, ran)))
    return app, response_cache(client, prefix)


def warm(
    loop: Loop,
    app: Any,
    cache: Any,
    place: str,
    count: int,
    watched: list[near.Watched],
) -> Measure:
    def ask() -> str:
        _, fields, _ = loop.run_until_complete(web.asgi_answer(app, PATH))
        return fields["x-cache"]

    said = [ask(), ask()]
    if said != ["MISS", "HIT"]:
        raise RuntimeError(f"X-Cache of two requests is {said}")
    measure = timed(loop, app, count)
    if place == "engine":
        return measure
    return web.counted_near(cache, ask, measure, count, watched)


# --- the peers ------------------------------------------------------------------------


def cached(
    bench: Bench, stack: ExitStack, kind: str, prefix: str, make: Make, count: int
) -> Measure:
    loop = aio.new_loop("asyncio", stack)
    ran = web.Ran()
    app, before = make(bench, stack, loop, kind, prefix, ran)
    before()
    for _ in range(3):
        loop.run_until_complete(web.asgi_answer(app, PATH))
    ran.once("the peer")
    return timed(loop, app, count, before)


def fastapi_cache(kind: str, prefix: str, ran: web.Ran, backend: Any) -> Any:
    from fastapi import FastAPI
    from fastapi_cache import FastAPICache
    from fastapi_cache.coder import JsonCoder, PickleCoder
    from fastapi_cache.decorator import cache

    app = FastAPI()
    # JSON is its way; of a response of one's own it can only keep a pickle.
    coder = JsonCoder if kind == "JSON" else PickleCoder
    app.get(PATH)(cache(expire=web.TTL, coder=coder)(endpoint(kind, ran)))

    def before() -> None:  # there is one backend to a process
        FastAPICache.reset()
        FastAPICache.init(backend, prefix=prefix)

    return app, before


def fastapi_cache_in_memory(
    _: Bench, __: ExitStack, ___: Loop, kind: str, prefix: str, ran: web.Ran
) -> Any:
    from fastapi_cache.backends.inmemory import InMemoryBackend

    return fastapi_cache(kind, prefix, ran, InMemoryBackend())


def fastapi_cache_on_redis(
    bench: Bench, stack: ExitStack, loop: Loop, kind: str, prefix: str, ran: web.Ran
) -> Any:
    import hiredis  # noqa: F401  with its C parser, as redis-py has it elsewhere
    from fastapi_cache.backends.redis import RedisBackend
    from redis.asyncio import Redis

    client = Redis(host=HOST, port=bench.server.port)
    stack.callback(lambda: loop.run_until_complete(client.aclose()))
    return fastapi_cache(kind, prefix, ran, RedisBackend(client))


def redis_sdk(
    bench: Bench, stack: ExitStack, loop: Loop, kind: str, prefix: str, ran: web.Ran
) -> Any:
    import hiredis  # noqa: F401
    from fastapi import Depends, FastAPI
    from redis_fastapi import FastAPIRedis, cache, get_settings

    # It asks for Redis 7.4 or later.
    get_settings().url = bench.newer_server.url
    app = FastAPI()
    FastAPIRedis(app).lifespan().caching()
    app.get(PATH, dependencies=[Depends(cache(ttl=web.TTL, cache_prefix=prefix))])(
        endpoint(kind, ran)
    )
    stack.callback(start(loop, app))
    return app, lambda: None


def start(loop: Loop, app: Any) -> Callable[[], None]:
    """Runs the application's lifespan; returns what ends it."""
    end = asyncio.Event()
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    started: asyncio.Future[str] = loop.create_future()

    async def receive() -> dict[str, str]:
        if len(messages) == 1:
            await end.wait()
        return messages.pop(0)

    async def send(message: dict[str, str]) -> None:
        if not started.done():
            started.set_result(message["type"])

    running = loop.create_task(app({"type": "lifespan", "state": {}}, receive, send))
    said = aio.run_within(loop, asyncio.wait_for(started, aio.PATIENCE), "its start")

    def stop() -> None:
        end.set()
        loop.run_until_complete(running)

    if said != "lifespan.startup.complete":
        stop()
        raise Unavailable(f"the application does not start: {said}")
    return stop


PEERS: dict[str, Make] = {
    FASTAPI_CACHE: fastapi_cache_in_memory,
    FASTAPI_CACHE_REDIS: fastapi_cache_on_redis,
    REDIS_SDK: redis_sdk,
}
