"""Flask: whole responses cached, and what goes with them.

from redlane.flask import Redlane

lane = Redlane(app)

@app.get("/api/canvas")
@lane.cached(ttl=60)
def canvas(): ...
"""

from __future__ import annotations

from _thread import get_ident
from collections.abc import Callable
from functools import wraps
from time import time
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from flask import Blueprint, Flask, Response, current_app, g, jsonify, request
from flask.globals import request_ctx
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException

from redlane._core import Cache, Client, RateLimiter
from redlane._default import default_client
from redlane._http.address import client_address
from redlane._http.asked_flask import closed, socket_of
from redlane._http.flask_config import Settings, read_settings
from redlane._http.health import deep_report, shallow_report
from redlane._http.known import NAMES, known_in
from redlane._http.limited import Limit, place_of
from redlane._http.limits import add_fields
from redlane._http.policy import Plan, Policy
from redlane._http.share import (
    Key,
    RouteError,
    Shared,
    Unshared,
    is_final,
    pattern_of,
    word,
)
from redlane._http.stored import Fields, Serializer, Stored, answer, store
from redlane._http.wsgi import (
    BOX,
    Ahead,
    Box,
    WsgiRequest,
    environ_names,
    refill,
)
from redlane._http.wsgi import place_of as url_place_of

__all__ = ["Redlane", "health_blueprint"]

View = TypeVar("View", bound=Callable[..., Any])

_CONDITIONS = ("HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE")


class _State:
    """What one application has of the extension."""

    def __init__(self, app: Flask, settings: Settings, ahead: Ahead) -> None:
        self.settings = settings
        self.ahead = ahead
        self.cache: Cache = settings.make_cache(Serializer())
        self.fragments: Cache = settings.make_fragments()
        self.limiter: RateLimiter = settings.make_limiter()


class _Bound:
    """A cached view in one application."""

    __slots__ = ("ahead", "call", "learns", "off", "policy", "shared", "special")

    def __init__(self, app: Flask, state: _State, view: Any, options: dict[str, Any]):
        self.policy = Policy(**state.settings.options(options))
        self.shared = Shared(state.cache, self.policy)
        self.special = environ_names(self.policy.special)
        self.ahead = state.ahead
        self.learns = self.policy.ahead
        self.off = not state.settings.enabled
        self.call: Callable[..., Any] = app.ensure_sync(view)

    def learn(self, host: str, path: str) -> None:
        """From now on, what is here is answered ahead of routing."""
        self.ahead.learn((host, path), self.shared, self.special)


class _Job:
    """Runs the view for a request that found nothing stored."""

    # One is made for each request, hits too: what seldom changes stands here.
    identified = False
    ran = False
    peek = False  # only look
    response: Response | None = None  # what this request gets, and no other
    error: Exception | None = None

    def __init__(
        self, app: Flask, bound: _Bound, environ: Any, key: Key, args: Any, kwargs: Any
    ) -> None:
        self.app = app
        self.bound = bound
        self.environ = environ
        self.key = key
        self.args = args
        self.kwargs = kwargs
        self.thread = get_ident()

    def __call__(self) -> Stored:
        if get_ident() != self.thread:  # behind, when the request is over
            return refill(
                self.bound.ahead.inner, self.environ, self.key, self.bound.shared
            )
        shared = self.bound.shared
        if self.peek or shared.passing(self.key):
            raise Unshared
        self.ran = True
        stored = self.run()
        if stored is None:
            shared.pass_on(self.key)
            if self.is_final():
                shared.forget(self.key)
            raise Unshared if self.error is None else RouteError
        return stored

    def is_final(self) -> bool:
        """Of what is not stored: whether it says that an old one is no longer good."""
        if self.response is not None:
            return is_final(self.response.status_code)
        error = self.error
        return isinstance(error, HTTPException) and is_final(error.code or 500)

    def run(self) -> Stored | None:
        """The view's response: to be stored, or else in `response` or `error`."""
        bound = self.bound
        # A view that answers 304 by itself would leave nothing to store.
        put_by = {n: self.environ.pop(n) for n in _CONDITIONS if n in self.environ}
        try:
            made = self.app.make_response(bound.call(*self.args, **self.kwargs))
        except Exception as error:  # noqa: BLE001 - raised again by its own request
            self.error = error
            return None
        finally:
            self.environ.update(put_by)
        self.response = made
        if made.is_streamed or made.direct_passthrough or _personal():
            return None
        if not (self.identified or bound.policy.public) and _known():
            return None
        stored = store(
            bound.policy,
            WsgiRequest(self.environ),
            self.identified,
            made.status_code,
            list(made.headers),
            made.get_data(),
        )
        if stored is not None:
            self.response = None
            made.close()
        return stored


def _personal() -> bool:
    """Whether the request has used its session, or will change its response later."""
    context = vars(request_ctx._get_current_object())  # type: ignore[attr-defined]
    session = context.get("_session")
    if session is None:
        session = context.get("session")  # as it was called before Flask 3.1.3
    used = session is not None and getattr(session, "accessed", True)
    later = context.get("_after_request_functions") or ()
    # What a limit tells its client is not stored, but added to each response.
    return bool(used) or not all(hasattr(f, "_redlane_limit") for f in later)


def _known() -> bool:
    """Whether the application has found out who asks."""
    return known_in(vars(g))


def _made(app: Flask, status: int, fields: Fields, body: bytes) -> Response:
    """A response of these bytes, with nothing done that has been done before."""
    headers = Headers()
    headers._list = fields  # adding them one by one checks each again
    count = len(fields)
    made = app.response_class([body], status, headers)
    if len(made.headers._list) != count:  # the constructor has a default
        made.headers.remove("Content-Type")
    return made


def _answered(app: Flask, stored: Stored, asked: WsgiRequest, said: str) -> Response:
    return _made(app, *answer(stored, asked, said))


class Redlane:
    """The extension: ``Redlane(app)``, or ``init_app`` later, for several applications.

    Args:
        app: the application
        cache_defaults: options of `cached` for all of its views
    """

    def __init__(self, app: Flask | None = None, **cache_defaults: Any) -> None:
        self._defaults = cache_defaults
        self._states: WeakKeyDictionary[Flask, _State] = WeakKeyDictionary()
        Policy(**cache_defaults)  # what is wrong is told at once
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> Redlane:
        """Reads the application's configuration: REDLANE_*, then CACHE_* and
        RATELIMIT_* as Flask-Caching and Flask-Limiter have them.

        Raises:
            ConfigurationError: a value that is not usable. It names the key.
        """
        from redlane._http.flask_commands import commands
        from redlane._http.fragments import FragmentCache

        if app in self._states:  # Redlane(app), and then init_app(app)
            return self
        settings = read_settings(app.config, self._defaults)
        ahead = Ahead(app.wsgi_app)
        state = _State(app, settings, ahead)
        app.wsgi_app = ahead  # type: ignore[method-assign]
        self._states[app] = state
        first = "redlane" not in app.extensions
        app.extensions["redlane"] = self
        app.jinja_env.add_extension(FragmentCache)
        app.jinja_env.globals["redlane_fragments"] = state.fragments
        app.cli.add_command(commands(settings.url))
        if settings.limits_enabled and first:  # another one has the same configuration
            if settings.app_limits:
                _limit_all(app, state, Limit(settings.app_limits, scope="*"))
            if settings.limits:
                _limit_all(app, state, Limit(settings.limits))
        return self

    def _state(self, app: Flask) -> _State:
        state = self._states.get(app)
        if state is None:
            raise RuntimeError("the extension is not set up: Redlane.init_app(app)")
        return state

    @property
    def settings(self) -> Settings:
        """What the current application's configuration says."""
        return self._state(_app()).settings

    @property
    def cache(self) -> Cache:
        """The Cache of the current application's responses: its statistics, its tags.

        Raises:
            RuntimeError: outside an application context, or without init_app.
        """
        return self._state(_app()).cache

    def invalidate(self, path: str) -> int:
        """Delete what is stored of a path, on all hosts, with all queries.

        Args:
            path: ``"/api/canvas"``; ``*`` stands for any text

        Returns:
            How many responses went.
        """
        cache = self.cache
        return cache.invalidate(pattern_of(cache, path))

    def limit(self, rates: Any, **options: Any) -> Callable[[View], View]:
        """Decorates a view: who asks too often is answered 429; a WebSocket of
        flask-sock is closed with 1008.

        Below the route, and above `cached` if hits are to count.

        Args:
            rates: "5/minute", several with ";", or a callable that gives them
            key: a callable that says who asks, or a text that all share; without it
                the client's address (REDLANE_TRUSTED_HOPS says how many proxies of
                ours stand before the application)
            scope: limits of one scope count together; without it each view has its own
            cost: how much a request counts, or a callable that says so
            methods: only requests with these methods count; with GET, HEAD does too
            exempt_when: a callable; true: the request does not count
            deduct_when: a callable of the response; false: the request is given back
            error_message: the text of a refusal, or a callable of the Decision

        Raises:
            TypeError: an option that is not usable.
        """
        limit = Limit(rates, **options)

        def decorate(view: View) -> View:
            scope = limit.scope_at(place_of(view))
            calls: WeakKeyDictionary[Flask, Callable[..., Any]] = WeakKeyDictionary()

            @wraps(view)
            def limited_view(*args: Any, **kwargs: Any) -> Any:
                app = _app()
                state = self._state(app)
                call = calls.get(app)
                if call is None:
                    call = calls[app] = app.ensure_sync(view)
                target = _target(state, limit, scope)
                if target is None:
                    return call(*args, **kwargs)
                decision = state.limiter.hit(*target)
                socket = socket_of(args)
                if not decision:
                    if socket is not None:
                        raise closed(decision, limit.message(decision), socket)
                    return _refused(app, state, limit, decision)
                made = call(*args, **kwargs)
                if socket is None:  # a WebSocket's function has no response
                    made = app.make_response(made)
                if limit.deduct_when is not None and not limit.deduct_when(made):
                    state.limiter.refund(*target)
                if socket is None and state.settings.limit_headers:
                    add_fields(made.headers, decision)
                return made

            limited_view._redlane_limited = True  # type: ignore[attr-defined]
            return limited_view  # type: ignore[return-value]

        return decorate

    def cached(self, **options: Any) -> Callable[[View], View]:
        """Decorates a view: its responses are stored whole and shared by those who may.

        Below the route: ``@app.get(...)`` above ``@lane.cached(ttl=60)``.

        Args:
            ttl: how long a response is good: seconds, "10m" or a timedelta. What the
                response's own Cache-Control says counts if it is shorter
            vary: names of request fields that the response depends on;
                "Cookie:name" is one cookie
            query: whether the query is part of the key, or which of its parameters
            public: the response is everybody's, whatever the request brings
            ignore_cookies: cookies that say nothing of who asks, as patterns: "_ga*"
            key: a text, or a callable of the view's arguments that gives one: in the
                key in the query's place
            identity_headers: which fields say who asks
            stale: how long after its time a response is served while it is made anew
            on_error: "stale": served as well where the view fails
            max_age: what clients are told; without it the response's own lifetime, with
                0 they ask each time whether theirs is still good
            gzip: responses are stored and sent as gzip
            obey_client: whether Cache-Control of requests counts
            ahead: hits are served before routing: no hook of the application runs
            tags: what `lane.cache.invalidate_tags` ends responses by

        Raises:
            TypeError, ValueError: an option that is not usable.
        """
        Policy(**{**self._defaults, **options})

        def decorate(view: View) -> View:
            return self._decorate(view, options)

        return decorate

    def _decorate(self, view: View, options: dict[str, Any]) -> View:
        bounds: WeakKeyDictionary[Flask, _Bound] = WeakKeyDictionary()
        last: list[tuple[Flask, _Bound] | None] = [None]

        def bind(app: Flask) -> _Bound:
            bound = bounds.get(app)
            if bound is None:
                bound = _Bound(app, self._state(app), view, options)
                bound = bounds.setdefault(app, bound)
            last[0] = None if len(bounds) > 1 else (app, bound)
            return bound

        @wraps(view)
        def cached_view(*args: Any, **kwargs: Any) -> Any:
            app = _app()
            known = last[0]
            bound = known[1] if known is not None and known[0] is app else bind(app)
            if bound.off:
                return bound.call(*args, **kwargs)
            environ = request.environ
            if (
                environ["REQUEST_METHOD"] == "GET"
                and environ.keys().isdisjoint(bound.special)
                and BOX not in environ
                and environ.get("CONTENT_LENGTH") in (None, "", "0")
                and NAMES.isdisjoint(vars(g))
            ):
                rest = bound.policy.plain(environ.get("QUERY_STRING", ""))
                if rest is not None:
                    host, path = url_place_of(environ)
                    key = (environ["wsgi.url_scheme"], host, path, rest)
                    stored = bound.shared.peek(key)
                    job = None
                    if stored is None:
                        job = _Job(app, bound, environ, key, args, kwargs)
                        try:
                            stored = bound.shared.fetch(*key, job)
                        except Unshared:
                            return _own(job)
                    now = time()
                    if stored.plain and now < stored.end and not (job and job.ran):
                        if bound.learns:
                            bound.learn(host, path)
                        fields = stored.hit_fields(now)
                        return _made(app, stored.status, fields, stored.body)
                    if job is None:
                        job = _Job(app, bound, environ, key, args, kwargs)
                    return _found(job, WsgiRequest(environ), Plan(), stored)
            return _planned(app, bound, environ, args, kwargs)

        return cached_view  # type: ignore[return-value]


def _target(state: _State, limit: Limit, scope: str) -> tuple[Any, ...] | None:
    """What the limiter is asked; None: the request does not count."""
    settings = state.settings
    if not settings.limits_enabled:
        return None
    asked = request_ctx._get_current_object().request  # type: ignore[attr-defined]
    if not limit.applies(asked.method):
        return None
    if limit.exempt_when is not None and limit.exempt_when():
        return None
    who = limit.key
    if who is None:
        environ = asked.environ
        who = client_address(
            environ.get("REMOTE_ADDR"),
            environ.get("HTTP_X_FORWARDED_FOR"),
            settings.trusted_hops,
        )
    elif callable(who):
        who = who()
    rates, cost = limit.rates, limit.cost
    if callable(rates):
        rates = rates()
    if callable(cost):
        cost = cost()
    return limit.identity(who, scope), rates, cost


def _refused(app: Flask, state: _State, limit: Limit, decision: Any) -> Response:
    made = app.response_class(limit.body(decision), 429, mimetype="application/json")
    if state.settings.limit_headers:
        add_fields(made.headers, decision)
    else:
        name, value = decision.headers()[-1]  # Retry-After
        made.headers[name] = value
    return made


_DECISION = "redlane.decision"


def _limit_all(app: Flask, state: _State, limit: Limit) -> None:
    """The limit of views that have none of their own; one with a scope counts all of
    the application's together."""

    def before() -> Response | None:
        view = app.view_functions.get(request.endpoint or "")
        if view is None or request.endpoint == "static":
            return None
        if limit.scope is None and getattr(view, "_redlane_limited", False):
            return None
        target = _target(state, limit, limit.scope_at(request.endpoint or ""))
        if target is None:
            return None
        decision = state.limiter.hit(*target)
        if not decision:
            return _refused(app, state, limit, decision)
        # What refuses tells; else the last one, which is the view's.
        request.environ[_DECISION] = decision
        return None

    def after(response: Response) -> Response:
        decision = request.environ.pop(_DECISION, None)
        if (
            decision is not None
            and state.settings.limit_headers
            and "X-RateLimit-Limit" not in response.headers  # the view's own limit
        ):
            add_fields(response.headers, decision)
        return response

    app.before_request(before)
    app.after_request(after)


def _app() -> Flask:
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    return app


def _planned(app: Flask, bound: _Bound, environ: Any, args: Any, kwargs: Any) -> Any:
    """Requests that ask for something special, and those that fill a box."""
    asked = WsgiRequest(environ, _known())
    policy, shared = bound.policy, bound.shared
    key_text = policy.key(*args, **kwargs) if callable(policy.key) else policy.key
    plan = policy.plan(asked, key_text)
    key = shared.key_of(asked, plan)
    job = _Job(app, bound, environ, key, args, kwargs)
    job.identified = plan.identified
    box: Box | None = environ.get(BOX)
    if plan.bypass:
        made = app.make_response(bound.call(*args, **kwargs))
        if asked.method in ("GET", "HEAD"):
            made.headers["X-Cache"] = "BYPASS"
        elif asked.method not in ("OPTIONS", "TRACE") and made.status_code < 400:
            shared.drop(asked)
        return made
    if box is not None and asked.method == "GET":
        return _fill(job, box, asked)
    job.peek = plan.only or asked.method == "HEAD"
    stored = shared.find(asked, plan, key, job)
    if stored is None:
        if plan.only:
            return app.response_class("", 504, {"X-Cache": "BYPASS"})
        return _own(job)
    return _found(job, asked, plan, stored)


def _fill(job: _Job, box: Box, asked: WsgiRequest) -> Any:
    """The request fills the box of whoever called the application."""
    stored = job.run()
    box.put(job.key, stored, stored is None and job.is_final())
    if stored is None:
        return _own(job)
    return _answered(job.app, stored, asked, "MISS")


def _own(job: _Job) -> Any:
    """The response that is this request's alone."""
    if job.error is not None:
        raise job.error
    made = job.response
    if made is None:  # somebody else's job said so, or nothing was asked of it
        made = job.app.make_response(job.bound.call(*job.args, **job.kwargs))
    made.headers["X-Cache"] = (
        "BYPASS" if job.environ["REQUEST_METHOD"] == "GET" else "MISS"
    )
    return made


def _found(job: _Job, asked: WsgiRequest, plan: Plan, stored: Stored) -> Any:
    bound = job.bound
    # An old response stands in for what went wrong here, and for nothing else.
    if isinstance(job.error, HTTPException) and (job.error.code or 0) < 500:
        return _own(job)
    if job.response is not None:
        if job.response.status_code < 500:
            return _own(job)
        job.response.close()
    if job.ran and job.response is None and job.error is None:
        said = "MISS"
    else:
        said = word(stored, False)
        if (stored.vary and not stored.matches(asked)) or not bound.shared.usable(
            stored, plan, time()
        ):
            found = bound.shared.find(asked, plan, job.key, job)
            if found is None:
                return _own(job)
            stored, said = found, word(found, job.ran)
    if bound.learns:
        bound.learn(asked.host, asked.path)
    return _answered(job.app, stored, asked, said)


# --- health -----------------------------------------------------------------------


def health_blueprint(client: Client[Any] | None = None) -> Blueprint:
    """``app.register_blueprint(health_blueprint())``: GET /health and /health/deep.

    Both answer 200; `status` of /health/deep is "degraded" while Redis is away.

    Args:
        client: None: that of the application's Redlane, else the default client
    """
    blueprint = Blueprint("redlane_health", __name__)

    @blueprint.get("/health")
    def health() -> Response:
        """The process answers."""
        return jsonify(shallow_report())

    @blueprint.get("/health/deep")
    def deep() -> Response:
        """The process and its Redis."""
        asked = client
        if asked is None:
            lane = current_app.extensions.get("redlane")
            asked = default_client() if lane is None else lane.cache.client
        return jsonify(deep_report(asked.health()))

    return blueprint
