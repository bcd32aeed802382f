"""Row 10: what a limit adds to a route of a FastAPI application.

The application is called with a scope, as a server calls it, one request after another
on a loop of asyncio. redlane and slowapi tell the client of its limit in the response's
fields; fastapi-limiter does not. The bare route's time is taken off everybody's, or,
where the limit is a dependency, that of a route with one that does nothing: FastAPI
takes for a dependency as such more than a limit does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from benchmarks import aio, clients, limited, web
from benchmarks.harness import OURS, Bench, Goal, Lineup, Measure, Result, within
from benchmarks.server import HOST

ROW = 10
SLOWAPI = "slowapi"
FASTAPI_LIMITER = "fastapi-limiter"
BARE_DEPENDENCY = "route with an empty dependency"
PATH = "/api/items"
BATCH = 40

Loop = asyncio.AbstractEventLoop


def run(bench: Bench) -> list[Result]:
    return [race(bench, place, how) for place in limited.PLACES for how in APPLICATIONS]


def race(bench: Bench, place: str, how: str) -> Result:
    lineup = Lineup(ROW, f"added to a FastAPI route by a limit, {place}, {how}")
    count = bench.batch(BATCH)
    make, make_bare, bare = APPLICATIONS[how]
    with ExitStack() as stack:
        loop = aio.new_loop("asyncio", stack)

        def ours() -> Measure:
            url = limited.url_of(bench, place)
            client = clients.redlane_client(bench, stack, url)
            return checked(loop, make(client), count)

        def round_trip() -> Measure:
            app, trip = make_bare(), limited.script_call(bench, stack, "floor")

            async def after_it(scope: Any, receive: Any, send: Any) -> None:
                trip()
                await app(scope, receive, send)

            return timed(loop, after_it, count)

        def slowapi() -> Measure:
            return checked(loop, slowapi_app(limited.url_of(bench, place)), count)

        def fastapi_limiter() -> Measure:
            return timed(loop, fastapi_limiter_app(bench, stack, loop), count)

        lineup.add(OURS, "ours", ours)
        lineup.add(bare, "floor", lambda: timed(loop, make_bare(), count))
        if place == limited.REDIS:
            lineup.add(limited.ROUND_TRIP, "floor", round_trip)
            lineup.add(FASTAPI_LIMITER, "peer", fastapi_limiter)
        lineup.add(SLOWAPI, "peer", slowapi)
        return lineup.race(bench.rounds(100), [goal(place)], over=bare)


def goal(place: str) -> Goal:
    if place == limited.REDIS:
        return within(12e-6, SLOWAPI, quoted=144e-6, beyond=limited.ROUND_TRIP)
    return within(8e-6, SLOWAPI, quoted=28e-6)


def timed(loop: Loop, app: Any, count: int) -> Measure:
    def measure() -> float:
        return aio.run_within(loop, web.asgi_batch(app, PATH, count), "a batch")

    return measure


def checked(loop: Loop, app: Any, count: int) -> Measure:
    limited.check(*loop.run_until_complete(web.asgi_answer(app, PATH))[:2])
    return timed(loop, app, count)


async def endpoint() -> Any:
    return web.DATA


def bare_app() -> Any:
    from fastapi import FastAPI

    app = FastAPI()
    app.get(PATH)(endpoint)
    return app


def bare_dependency_app() -> Any:
    from fastapi import Depends, FastAPI, Response
    from starlette.requests import HTTPConnection

    async def nothing(request: Any, response: Any) -> None:
        pass

    nothing.__annotations__ = {"request": HTTPConnection, "response": Response}
    app = FastAPI()
    app.get(PATH, dependencies=[Depends(nothing)])(endpoint)
    return app


def limiter_of(client: Any) -> Any:
    from redlane import RateLimiter

    return RateLimiter(client, limited.ALGORITHM)  # type: ignore[arg-type]


def fastapi_limit(client: Any) -> Any:
    from fastapi import FastAPI
    from redlane.fastapi import limit

    app = FastAPI()
    app.get(PATH)(limit(limited.RATE, limiter=limiter_of(client))(endpoint))
    return app


def limiter_limit(client: Any) -> Any:
    from fastapi import FastAPI

    app = FastAPI()
    app.get(PATH)(limiter_of(client).limit(limited.RATE)(endpoint))
    return app


def dependency(client: Any) -> Any:
    from fastapi import Depends, FastAPI
    from redlane.fastapi import RateLimit

    app = FastAPI()
    limit = RateLimit(limited.RATE, limiter=limiter_of(client))
    app.get(PATH, dependencies=[Depends(limit)])(endpoint)
    return app


Make = Callable[[Any], Any]
# How a route is limited, what it would be without, and what that is called.
APPLICATIONS: dict[str, tuple[Make, Callable[[], Any], str]] = {
    "@limit": (fastapi_limit, bare_app, web.BARE),
    "@limiter.limit": (limiter_limit, bare_app, web.BARE),
    "Depends(RateLimit)": (dependency, bare_dependency_app, BARE_DEPENDENCY),
}


# --- the peers ------------------------------------------------------------------------


def slowapi_app(url: str) -> Any:
    from fastapi import FastAPI, Request, Response
    from slowapi import Limiter
    from slowapi.util import get_remote_address

    async def asked(request: Request, response: Response) -> Any:
        return web.DATA

    # FastAPI looks the names up in the module, where they are not.
    asked.__annotations__ = {"request": Request, "response": Response}
    app = FastAPI()
    limiter = Limiter(get_remote_address, storage_uri=url, headers_enabled=True)
    app.state.limiter = limiter
    app.get(PATH)(limiter.limit(limited.RATE)(asked))
    return app


def fastapi_limiter_app(bench: Bench, stack: ExitStack, loop: Loop) -> Any:
    import hiredis  # noqa: F401  with its C parser, as redis-py has it elsewhere
    from fastapi import Depends, FastAPI
    from fastapi_limiter.depends import RateLimiter
    from pyrate_limiter import Duration, Limiter, Rate, RedisBucket
    from redis.asyncio import Redis

    client = Redis(host=HOST, port=bench.server.port)
    stack.callback(lambda: loop.run_until_complete(client.aclose()))
    rates = [Rate(limited.COUNT, Duration.SECOND)]

    async def make() -> Any:
        bucket = await RedisBucket.init(rates, client, "bench:fastapi-limiter")
        return Limiter(bucket)

    limiter = loop.run_until_complete(make())
    app = FastAPI()
    app.get(PATH, dependencies=[Depends(RateLimiter(limiter))])(endpoint)
    return app
