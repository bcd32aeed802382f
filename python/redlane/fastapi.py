"""FastAPI, and Starlette alone: whole responses cached, and what goes with them.

from redlane.fastapi import cached

@app.get("/api/canvas")
@cached(ttl=60)
async def canvas(): ...
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import wraps
from threading import Lock
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, Router

from redlane._core import AsyncClient, Cache, Client
from redlane._default import close_default_client, default_client
from redlane._http.asgi import Ahead as CacheMiddleware
from redlane._http.endpoint import Endpoint
from redlane._http.health import deep_report, shallow_report
from redlane._http.share import pattern_of
from redlane._http.stored import Serializer
from redlane._logging import get_logger

__all__ = [
    "CacheMiddleware",
    "cached",
    "close_redis_client",
    "get_redis_client",
    "health_router",
    "invalidate",
    "lifespan",
    "response_cache",
]

Function = TypeVar("Function", bound=Callable[..., Any])

_lock = Lock()
_caches: dict[tuple[Client[Any] | None, str], Cache] = {}
_redis: AsyncClient[str] | None = None


def response_cache(client: Client[Any] | None = None, prefix: str = "http") -> Cache:
    """The Cache in which responses are: its statistics, its tags.

    Args:
        client: None: the default client
        prefix: what the keys begin with
    """
    cache = _caches.get((client, prefix))
    if cache is None:
        with _lock:
            made = Cache(client, prefix=prefix, serializer=Serializer())
            cache = _caches.setdefault((client, prefix), made)
    return cache


async def invalidate(
    path: str, client: Client[Any] | None = None, prefix: str = "http"
) -> int:
    """Delete what is stored of a path, on all hosts, with all queries.

    Args:
        path: ``"/api/canvas"``; ``*`` stands for any text

    Returns:
        How many responses went.
    """
    cache = response_cache(client, prefix)
    return await cache.aio.invalidate(pattern_of(cache, path))


def cached(
    *, client: Client[Any] | None = None, prefix: str = "http", **options: Any
) -> Callable[[Function], Function]:
    """Decorates an endpoint, `def` or `async def`: its responses are stored whole and
    shared by those who may. Dependencies run at each request; the endpoint,
    serialisation and validation only where nothing is stored.

    Below the route: ``@app.get(...)`` above ``@cached(ttl=60)``. The headers, cookies
    and security schemes that the endpoint and its dependencies declare are part of the
    key.

    Args:
        client: None: the default client
        prefix: what the keys begin with
        ttl: how long a response is good: seconds, "10m" or a timedelta. What the
            response's own Cache-Control says counts if it is shorter
        vary: names of request fields that the response depends on; "Cookie:name" is
            one cookie
        query: whether the query is part of the key, or which of its parameters
        public: the response is everybody's, whatever the request brings
        ignore_cookies: cookies that say nothing of who asks; patterns such as "_ga*"
        key: a text, or a callable of the endpoint's arguments that gives one: in the
            key in the query's place
        identity_headers: which fields say who asks
        stale: how long after its time a response is served while it is made anew
        on_error: "stale": served as well where the endpoint fails
        max_age: what clients are told; without it the response's own lifetime, with 0
            they ask each time whether theirs is still good
        gzip: responses are stored and sent as gzip
        obey_client: whether Cache-Control of requests counts
        ahead: with CacheMiddleware, hits are served before routing: no middleware
            below it and no dependency runs
        tags: what `response_cache().invalidate_tags` ends responses by

    Raises:
        TypeError, ValueError: an option that is not usable.
    """

    def decorate(function: Function) -> Function:
        if inspect.isclass(function):
            raise TypeError("cached: a function or a method, not a class")
        endpoint = Endpoint(function, lambda: response_cache(client, prefix), options)

        @wraps(function)
        async def cached_endpoint(*args: Any, **kwargs: Any) -> Any:
            return await endpoint(args, kwargs)

        cached_endpoint.__signature__ = endpoint.signature  # type: ignore[attr-defined]
        return cached_endpoint  # type: ignore[return-value]

    return decorate


# --- the client -------------------------------------------------------------------


def get_redis_client() -> AsyncClient[str]:
    """The one client of the process, made on first use from the environment. It answers
    in str; while Redis is away its commands raise.

    Raises:
        ConfigurationError: a variable of the environment is not usable.
    """
    global _redis
    client = _redis
    if client is not None and not client.closed:
        return client
    with _lock:
        client = _redis
        if client is None or client.closed:
            made = Client.from_env("redis://localhost:6379", decode_responses=True)
            client = _redis = made.aio
            get_logger().debug("Redis client initialized with URL: %s", client.url)
        return client


async def close_redis_client() -> None:
    """Closes it, if there is one; the next get_redis_client() makes a new one."""
    global _redis
    with _lock:
        client, _redis = _redis, None
    if client is not None:
        await client.close()


@asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[None]:
    """``FastAPI(lifespan=lifespan)``: closes the clients when the application ends."""
    try:
        yield
    finally:
        await close_redis_client()
        close_default_client()


# --- health -----------------------------------------------------------------------


def health_router(client: Client[Any] | None = None) -> Any:
    """``app.include_router(health_router())``: GET /health and /health/deep.

    Both answer 200; `status` of /health/deep is "degraded" while Redis is away. A
    router of FastAPI where that is installed, else one of Starlette to be mounted.

    Args:
        client: None: the default client
    """

    async def health() -> dict[str, Any]:
        """The process answers."""
        return shallow_report()

    async def deep() -> dict[str, Any]:
        """The process and its Redis."""
        report = await (client or default_client()).aio.health()
        return deep_report(report)

    try:
        from fastapi import APIRouter
    except ImportError:
        return Router(
            [Route("/health", _json(health)), Route("/health/deep", _json(deep))]
        )
    router = APIRouter(tags=["health"])
    router.add_api_route("/health", health, methods=["GET"])
    router.add_api_route("/health/deep", deep, methods=["GET"])
    return router


def _json(report: Callable[[], Any]) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> JSONResponse:
        return JSONResponse(await report())

    return endpoint
