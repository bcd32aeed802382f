"""A cached endpoint of FastAPI or Starlette."""

from __future__ import annotations

import inspect
from asyncio import current_task
from collections.abc import Awaitable, Callable
from time import time
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response, StreamingResponse

from redlane._core import Cache, ConfigurationError, _look
from redlane._http.asgi import (
    AHEAD,
    BOX,
    AsgiRequest,
    Places,
    hit_fields,
    raw_fields,
    refill,
    special_names,
)
from redlane._http.fastapi_route import Declared, declared_by, renderer_of, route_of
from redlane._http.known import known_to_asgi
from redlane._http.policy import Plan, Policy
from redlane._http.share import Key, RouteError, Shared, Unshared, is_final, word
from redlane._http.stored import Stored, answer, store
from redlane._http.wsgi import Box

__all__ = ["Endpoint", "Given", "parameter_of"]

# Parameters that are added to those of an endpoint.
REQUEST = "redlane_request"
RESPONSE = "redlane_response"


def parameter_of(parameters: Any, kind: type) -> str | None:
    """The name of the parameter that is declared to be such."""
    for name, parameter in parameters.items():
        annotation = parameter.annotation
        if inspect.isclass(annotation) and issubclass(annotation, kind):
            return str(name)
    return None


class Given:
    """A function's parameters with a request and a response among them, which the
    frameworks that look at parameters then give. `kind` HTTPConnection: a WebSocket
    may stand in the request's place."""

    def __init__(self, function: Any, kind: type[HTTPConnection] = Request) -> None:
        self.kind = kind
        try:
            signature = inspect.signature(function, eval_str=True)
        except Exception:  # noqa: BLE001 - names that are not there yet
            signature = inspect.signature(function)
        named = signature.parameters
        self.request = parameter_of(named, kind)
        self.response = parameter_of(named, Response)
        added: list[tuple[str, type]] = []
        if self.request is None:
            added.append((REQUEST, Request))
        if self.response is None:
            added.append((RESPONSE, Response))
        parameters = list(named.values())
        last = []
        if parameters and parameters[-1].kind is inspect.Parameter.VAR_KEYWORD:
            last.append(parameters.pop())
        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters += [
            inspect.Parameter(name, keyword, annotation=kind) for name, kind in added
        ]
        self.signature = signature.replace(parameters=[*parameters, *last])
        # By which names both come, and which of them the function does not take.
        self.request_name = self.request or REQUEST
        self.response_name = self.response or RESPONSE
        self.added = tuple(name for name, _ in added)

    def take(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, Response | None]:
        """Both, out of `kwargs` where the function does not take them itself."""
        injected = kwargs.get(self.response_name)
        request = kwargs.get(self.request_name)
        self.leave(kwargs)
        if request is None:
            request = self.among(args)
        return request, injected

    def leave(self, kwargs: dict[str, Any]) -> None:
        """Leaves what the function itself takes."""
        for name in self.added:
            kwargs.pop(name, None)

    def among(self, args: tuple[Any, ...]) -> Any:
        """The request among positional arguments."""
        for given in args:
            if isinstance(given, self.kind):
                return given
        raise TypeError("an endpoint is called with a request")


class Bound:
    """An endpoint's policy at one route."""

    __slots__ = (
        *("declared", "endpoint", "learns", "policy", "render", "shared", "special"),
    )

    def __init__(self, endpoint: Endpoint, cache: Cache, route: Any | None) -> None:
        self.endpoint = endpoint
        self.declared = Declared() if route is None else declared_by(route)
        self.render = None if route is None else renderer_of(route)
        given = dict(endpoint.options)
        vary = given.get("vary", ())
        listed = [vary] if isinstance(vary, str) else list(vary)
        given["vary"] = [*listed, *self.declared.vary()]
        query = given.get("query", True)
        if query is not True and self.declared.queries:
            kept = [] if query is False else list(query)
            given["query"] = [*kept, *self.declared.queries]
        self.policy = Policy(**given)
        if self.policy.ahead and self.declared.secured:
            raise ConfigurationError(
                "ahead=True: this route has a security dependency, which would not be"
                " asked"
            )
        self.shared = Shared(cache, self.policy)
        self.special = special_names(self.policy.special)
        self.learns = self.policy.ahead

    def learn(self, scope: Any, host: str, path: str) -> None:
        """From now on, what is here is answered ahead of routing."""
        places: Places | None = scope.get(AHEAD)
        if places is not None:
            places.learn((host, path), self.shared, self.special)


class _Job:
    """Runs the endpoint for a request that found nothing stored."""

    # One is made for each request, hits too: what seldom changes stands here.
    identified = False
    ran = False
    peek = False  # only look
    response: Response | None = None  # what this request gets, and no other
    background: Any = None
    error: Exception | None = None

    def __init__(
        self,
        bound: Bound,
        key: Key,
        request: Request,
        injected: Response | None,
        given: tuple[tuple[Any, ...], dict[str, Any]],
    ) -> None:
        self.bound = bound
        self.key = key
        self.request = request
        self.injected = injected
        self.given = given
        self.task = current_task()

    async def __call__(self) -> Stored:
        scope = self.request.scope
        if current_task() is not self.task:  # behind: the request is over
            return await refill(scope["app"], scope, self.key, self.bound.shared)
        shared = self.bound.shared
        if self.peek or shared.passing(self.key):
            raise Unshared
        self.ran = True
        stored = await self.run()
        if stored is None:
            shared.pass_on(self.key)
            if self.is_final():
                await shared.forget_async(self.key)
            raise Unshared if self.error is None else RouteError
        return stored

    def is_final(self) -> bool:
        """Of what is not stored: whether it says that an old one is no longer good."""
        if self.response is not None:
            return is_final(self.response.status_code)
        return isinstance(self.error, HTTPException) and is_final(
            self.error.status_code
        )

    async def made(self) -> tuple[Response, list[tuple[bytes, bytes]]]:
        """The endpoint's response, and what it adds by the one that it is given."""
        injected = self.injected
        before = 0 if injected is None else len(injected.raw_headers)
        result = await self.bound.endpoint.run(*self.given)
        if isinstance(result, Response):
            return result, []
        if self.bound.render is None:
            raise TypeError(
                f"the endpoint returned no response: {type(result).__name__}"
            )
        response = await self.bound.render(self.request, result)
        if injected is None:
            return response, []
        if injected.status_code:
            response.status_code = injected.status_code
        return response, injected.raw_headers[before:]

    async def run(self) -> Stored | None:
        """The endpoint's response: to be stored, or else in `response` or `error`."""
        try:
            response, more = await self.made()
        except Exception as error:  # noqa: BLE001 - raised again by its own request
            self.error = error
            return None
        self.background = response.background
        raw = [*response.raw_headers, *more]
        stored = None
        if not self._personal() and not isinstance(response, StreamingResponse):
            body = getattr(response, "body", None)
            if isinstance(body, bytes) and _plainly_sent(response):
                stored = store(
                    self.bound.policy,
                    AsgiRequest(self.request.scope),
                    self.identified,
                    response.status_code,
                    [(n.decode("latin-1"), v.decode("latin-1")) for n, v in raw],
                    body,
                )
        if stored is None:
            response.raw_headers.extend(more)
            self.response = response
        elif self.injected is not None and more:
            del self.injected.raw_headers[-len(more) :]  # they are in what is stored
        return stored

    def _personal(self) -> bool:
        """Whether this request has a session or sets a cookie."""
        scope = self.request.scope
        session = scope.get("session")
        if session or getattr(session, "accessed", False):
            return True
        if not (self.identified or self.bound.policy.public) and known_to_asgi(scope):
            return True
        # The body of a GET, which HTTP/2 brings with nothing that announces it.
        given = vars(self.request)
        if given.get("_body") or (
            given.get("_stream_consumed") and "_body" not in given
        ):
            return True
        injected = self.injected
        return injected is not None and any(
            name == b"set-cookie" for name, _ in injected.raw_headers
        )


class Endpoint:
    """What is called in an endpoint's place."""

    def __init__(
        self, function: Any, make_cache: Callable[[], Cache], options: dict[str, Any]
    ) -> None:
        Policy(**options)  # what is wrong is told at once
        self.function = function
        self.make_cache = make_cache
        self.options = options
        self.is_coroutine = inspect.iscoroutinefunction(function)
        self.given = Given(function)
        # By the route: one endpoint may stand at several.
        self.bounds: dict[int, tuple[Any, Bound | None]] = {}

    def bind(self, scope: Any, place: Any, injected: bool) -> Bound | None:
        """None: FastAPI calls, and what its route reads cannot be told."""
        described = route_of(scope)
        bound = None
        if described is not None or not injected:
            bound = Bound(self, self.make_cache(), described)
            if bound.declared.boundless:
                bound = None
        if len(self.bounds) > 1024:
            self.bounds.clear()
        self.bounds[id(place)] = (place, bound)
        return bound

    async def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The function itself."""
        self.given.leave(kwargs)
        if self.is_coroutine:
            return await self.function(*args, **kwargs)
        return await run_in_threadpool(self.function, *args, **kwargs)

    def make(self) -> Callable[..., Awaitable[Any]]:
        """What is called in the function's place. Written for the plain hit: all of it
        in one coroutine, and nothing made that only a miss needs."""
        request_name = self.given.request_name
        response_name = self.given.response_name
        bounds = self.bounds

        async def serve(*args: Any, **kwargs: Any) -> Any:
            request = kwargs.get(request_name)
            if request is None:
                request = self.given.among(args)
            injected = kwargs.get(response_name)
            scope = request.scope
            place = scope.get("route")
            if scope.get("fastapi"):
                place = route_of(scope)
            known = bounds.get(id(place))
            if known is not None and known[0] is place:
                bound = known[1]
            else:
                bound = self.bind(scope, place, injected is not None)
            if bound is None or _overridden(scope, bound):
                return await self.run(args, kwargs)
            seen = None
            if (
                scope["method"] == "GET"
                and BOX not in scope
                and not known_to_asgi(scope)
            ):
                seen = _look(scope, bound.special)
            if seen is None or (rest := bound.policy.plain(seen[3])) is None:
                return await _planned(bound, request, injected, args, kwargs)
            key = (seen[0], seen[1], seen[2], rest)
            shared = bound.shared
            stored = shared.peek_async(key)
            job = None
            if stored is None:
                job = _Job(bound, key, request, injected, (args, kwargs))
                try:
                    stored = await shared.fetch_async(*key, job)
                except Unshared:
                    return await _own(job)
            now = time()
            if not stored.plain or now >= stored.end or (job is not None and job.ran):
                if job is None:
                    job = _Job(bound, key, request, injected, (args, kwargs))
                return await _found(job, AsgiRequest(scope), Plan(), stored)
            if bound.learns:
                bound.learn(scope, key[1], key[2])
            made = _Hit.__new__(_Hit)
            made.body = stored.body
            made.raw_headers = raw = hit_fields(stored, now)
            if stored.status != 200:
                made.status_code = stored.status
            if injected is not None and injected.raw_headers:
                raw += injected.raw_headers  # what dependencies say to this request
            return made

        return serve


class _Hit(Response):
    """A response whose bytes are ready: nothing is done that has been done before."""

    status_code = 200
    background = None


def _plainly_sent(response: Response) -> bool:
    """Whether its body is what is sent of it."""
    kind = type(response)
    # Templates tell tests what they were made of, and are sent like any other.
    return kind.__call__ is Response.__call__ or kind.__module__ == (
        "starlette.templating"
    )


def _overridden(scope: Any, bound: Bound) -> bool:
    """Whether another dependency stands in for one of the route's: it may read what is
    not declared."""
    overrides: Any = getattr(scope.get("app"), "dependency_overrides", None)
    return bool(overrides) and not bound.declared.calls.isdisjoint(overrides)


def _made(status: int, raw: Any, body: bytes, injected: Response | None) -> Response:
    made = _Hit.__new__(_Hit)
    made.status_code = status
    made.body = body
    if injected is not None and injected.raw_headers:
        raw = raw + injected.raw_headers
    made.raw_headers = raw
    return made


async def _planned(
    bound: Bound, request: Request, injected: Any, args: Any, kwargs: Any
) -> Any:
    """Requests that ask for something special, and those that fill a box."""
    scope = request.scope
    asked = AsgiRequest(scope)
    policy, shared = bound.policy, bound.shared
    key_text = policy.key
    if callable(key_text):
        bound.endpoint.given.leave(kwargs)
        key_text = key_text(*args, **kwargs)
    plan = policy.plan(asked, key_text)
    key = shared.key_of(asked, plan)
    job = _Job(bound, key, request, injected, (args, kwargs))
    job.identified = plan.identified
    box: Box | None = scope.get(BOX)
    if plan.bypass:
        response = await _own(job)
        if asked.method in ("GET", "HEAD", "OPTIONS", "TRACE"):
            return response
        if response.status_code < 400:
            await shared.drop_async(asked)
        return response
    if box is not None and asked.method == "GET":
        stored = await job.run()
        box.put(key, stored, stored is None and job.is_final())
        if stored is None:
            return await _own(job)
        return _answered(job, stored, asked, "MISS")
    job.peek = plan.only or asked.method == "HEAD"
    found = await shared.find_async(asked, plan, key, job)
    if found is None:
        if plan.only:
            return Response("", 504, {"X-Cache": "BYPASS"})
        return await _own(job)
    return await _found(job, asked, plan, found)


async def _own(job: _Job) -> Response:
    """The response that is this request's alone."""
    if job.error is not None:
        raise job.error
    response = job.response
    if response is None:  # somebody else's job said so, or nothing was asked of it
        response, more = await job.made()
        response.raw_headers.extend(more)
    if job.injected is not None:
        # FastAPI adds what the given response has only to what it makes itself.
        known = set(response.raw_headers)
        response.raw_headers.extend(
            pair for pair in job.injected.raw_headers if pair not in known
        )
    method = job.request.scope["method"]
    if method in ("GET", "HEAD"):
        response.headers["X-Cache"] = "BYPASS" if method == "GET" else "MISS"
    return response


def _answered(job: _Job, stored: Stored, asked: AsgiRequest, said: str) -> Response:
    status, fields, body = answer(stored, asked, said)
    response = _made(status, raw_fields(fields), body, job.injected)
    if said == "MISS":
        response.background = job.background
    return response


def _client_error(error: Exception | None) -> bool:
    return isinstance(error, HTTPException) and error.status_code < 500


async def _found(job: _Job, asked: AsgiRequest, plan: Plan, stored: Stored) -> Response:
    # An old response stands in for what went wrong here, and for nothing else.
    if _client_error(job.error) or (
        job.response is not None and job.response.status_code < 500
    ):
        return await _own(job)
    shared = job.bound.shared
    if job.ran and job.response is None and job.error is None:
        said = "MISS"
    else:
        said = word(stored, False)
        if (stored.vary and not stored.matches(asked)) or not shared.usable(
            stored, plan, time()
        ):
            found = await shared.find_async(asked, plan, job.key, job)
            if found is None:
                return await _own(job)
            stored, said = found, word(found, job.ran)
    if job.bound.policy.ahead:
        job.bound.learn(job.request.scope, asked.host, asked.path)
    return _answered(job, stored, asked, said)
