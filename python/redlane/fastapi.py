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
from weakref import WeakValueDictionary

from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router
from starlette.websockets import WebSocket

from redlane._core import AsyncClient, AsyncRateLimiter, Cache, Client, RateLimiter
from redlane._default import close_default_client, default_client
from redlane._http.address import client_address
from redlane._http.asgi import Ahead as CacheMiddleware
from redlane._http.asked_asgi import Refused, answered_by_us, forwarded_in
from redlane._http.endpoint import Endpoint, Given, parameter_of
from redlane._http.health import deep_report, shallow_report
from redlane._http.limited import Limit, place_of
from redlane._http.limits import add_raw_fields
from redlane._http.share import pattern_of
from redlane._http.stored import Serializer
from redlane._logging import get_logger

__all__ = [
    "CacheMiddleware",
    "RateLimit",
    "cached",
    "close_redis_client",
    "get_redis_client",
    "health_router",
    "invalidate",
    "lifespan",
    "limit",
    "response_cache",
]

Function = TypeVar("Function", bound=Callable[..., Any])

_lock = Lock()
# By the client's id, which is nobody else's as long as the cache that holds it lives.
# Those of the default client stay; others as long as an endpoint or anybody has them.
_caches: WeakValueDictionary[tuple[int, str], Cache] = WeakValueDictionary()
_default_caches: dict[str, Cache] = {}
_redis: AsyncClient[str] | None = None


def response_cache(client: Client[Any] | None = None, prefix: str = "http") -> Cache:
    """The Cache in which responses are: its statistics, its tags.

    Args:
        client: None: the default client
        prefix: what the keys begin with
    """
    cache = _caches.get((id(client), prefix))
    if cache is None:
        with _lock:
            made = Cache(client, prefix=prefix, serializer=Serializer())
            cache = _caches.setdefault((id(client), prefix), made)
            if client is None:
                _default_caches[prefix] = cache
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
        if parameter_of(endpoint.given.signature.parameters, WebSocket):
            raise TypeError("cached: a WebSocket has no response to be stored")

        cached_endpoint = wraps(function)(endpoint.make())
        cached_endpoint.__signature__ = endpoint.given.signature  # type: ignore[attr-defined]
        return cached_endpoint  # type: ignore[return-value]

    return decorate


# --- limits -----------------------------------------------------------------------


_limiters: WeakValueDictionary[int, RateLimiter] = WeakValueDictionary()


def _limiter_of(client: Client[Any] | None) -> RateLimiter:
    """One for all that limit on this client: what one has refused, all know."""
    with _lock:
        limiter = _limiters.get(id(client))
        if limiter is None:
            limiter = _limiters[id(client)] = RateLimiter(client)
        return limiter


async def _settled(asked: Callable[[Any], Any], request: HTTPConnection) -> Any:
    """A callable's answer to the request, awaited if need be."""
    value = asked(request)
    return await value if hasattr(value, "__await__") else value


class _Limited:
    """A limit on requests: who asks, and what he is told."""

    def __init__(
        self,
        rates: Any,
        client: Client[Any] | None,
        limiter: RateLimiter | None,
        trusted_hops: int,
        options: dict[str, Any],
    ) -> None:
        self.limit = limit = Limit(rates, **options)
        self.client = client
        self.limiter = limiter
        self.aio: AsyncRateLimiter | None = None
        self.trusted_hops = trusted_hops
        # Of most limits nothing is to be asked anew: no coroutine is made for them.
        asked = (limit.methods, limit.exempt_when, limit.key)
        self.plain = all(part is None for part in asked) and not (
            callable(limit.rates) or callable(limit.cost)
        )

    def aio_limiter(self) -> AsyncRateLimiter:
        if self.aio is None:
            self.aio = (self.limiter or _limiter_of(self.client)).aio
        return self.aio

    def address(self, asked: Any) -> str:
        peer = asked.get("client")
        host = None if peer is None else peer[0]
        if not self.trusted_hops:
            return client_address(host)
        return client_address(host, forwarded_in(asked), self.trusted_hops)

    async def target(
        self, request: HTTPConnection, scope: str
    ) -> tuple[str | bytes, Any, Any] | None:
        """What the limiter is asked; None: the request does not count."""
        limit = self.limit
        if limit.methods is not None:
            method = request.scope.get("method")  # a WebSocket has none
            if method is not None and not limit.applies(method):
                return None
        if limit.exempt_when is not None and await _settled(limit.exempt_when, request):
            return None
        who = limit.key
        if who is None:
            who = self.address(request.scope)
        elif callable(who):
            who = await _settled(who, request)
        rates, cost = limit.rates, limit.cost
        if callable(rates):
            rates = await _settled(rates, request)
        if callable(cost):
            cost = await _settled(cost, request)
        return limit.identity(who, scope), rates, cost

    def refusal(self, decision: Any, connection: HTTPConnection) -> Response:
        if not isinstance(connection, Request):
            message = self.limit.message(decision)
            raise answered_by_us(Refused(decision, message, connection))
        return Response(
            self.limit.body(decision),
            429,
            dict(decision.headers()),
            media_type="application/json",
        )


def limit(
    rates: Any,
    *,
    client: Client[Any] | None = None,
    limiter: RateLimiter | None = None,
    trusted_hops: int = 0,
    **options: Any,
) -> Callable[[Function], Function]:
    """Decorates an endpoint, `def` or `async def`: who asks too often is answered 429,
    a WebSocket with that or the code 1008.

    Below the route, and above `cached` if hits are to count. The callables are given
    the request and may be coroutine functions.

    Args:
        rates: "5/minute", several with ";", or a callable that gives them
        client: None: the default client
        limiter: a RateLimiter of one's own, instead of one on the client
        trusted_hops: how many proxies of ours stand before the application
        key: a callable that says who asks, or a text that all share; without it the
            client's address
        scope: limits of one scope count together; without it each endpoint has its own
        cost: how much a request counts, or a callable that says so
        methods: only requests with these methods count; with GET, HEAD does too
        exempt_when: a callable; true: the request does not count
        deduct_when: a callable of what the endpoint returns; false: the request is
            given back
        error_message: the text of a refusal, or a callable of the Decision

    Raises:
        TypeError: an option that is not usable.
    """
    limited = _Limited(rates, client, limiter, trusted_hops, options)
    deduct_when, cost = limited.limit.deduct_when, limited.limit.cost

    def decorate(function: Function) -> Function:
        given = Given(function, HTTPConnection)
        scope = limited.limit.scope_at(place_of(function))
        is_coroutine = inspect.iscoroutinefunction(function)

        @wraps(function)
        async def limited_endpoint(*args: Any, **kwargs: Any) -> Any:
            request, injected = given.take(args, kwargs)
            target: Any
            limiter: Any = None
            decision: Any = None
            if limited.plain:
                target = scope + limited.address(request.scope), rates, cost
            else:
                target = await limited.target(request, scope)
            if target is not None:
                limiter = limited.aio_limiter()
                decision = await limiter.hit(*target)
                if not decision:
                    return limited.refusal(decision, request)
            if is_coroutine:
                result = await function(*args, **kwargs)
            else:
                result = await run_in_threadpool(function, *args, **kwargs)
            if target is None:
                return result
            if deduct_when is not None and not deduct_when(result):
                await limiter.refund(*target)
            response = result if isinstance(result, Response) else injected
            if response is not None:
                add_raw_fields(response.raw_headers, decision)
            return result

        limited_endpoint.__signature__ = given.signature  # type: ignore[attr-defined]
        return limited_endpoint  # type: ignore[return-value]

    return decorate


class RateLimit:
    """A limit as a dependency: ``dependencies=[Depends(RateLimit("5/minute"))]``, of
    a router, of a route or of a WebSocket's.

    Arguments as those of `limit`, without `deduct_when`. Routes that share one object
    share its count.
    """

    def __init__(
        self,
        rates: Any,
        *,
        client: Client[Any] | None = None,
        limiter: RateLimiter | None = None,
        trusted_hops: int = 0,
        **options: Any,
    ) -> None:
        if "deduct_when" in options:
            raise TypeError("a dependency does not see the response: deduct_when")
        # Older versions of FastAPI resolve no annotations of an object's __call__.
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        self.__signature__ = inspect.Signature(
            [
                inspect.Parameter("request", kind, annotation=HTTPConnection),
                inspect.Parameter("response", kind, annotation=Response),
            ]
        )
        self._limited = _Limited(rates, client, limiter, trusted_hops, options)

    async def __call__(self, request: Any, response: Response) -> None:
        path = getattr(request.scope.get("route"), "path", None)
        if path is None:
            path = request.url.path
        limited = self._limited
        target = await limited.target(request, limited.limit.scope_at(path))
        if target is None:
            return
        decision = await limited.aio_limiter().hit(*target)
        if not decision:
            message = limited.limit.message(decision)
            raise answered_by_us(Refused(decision, message, request))
        add_raw_fields(response.raw_headers, decision)


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
            get_logger().debug(
                "Redis client initialized with URL: %s",
                client.url,
                extra={"event": "redlane.client.created"},
            )
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
