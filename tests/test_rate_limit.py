"""rate_limit and RateLimiter.limit on views and endpoints, without an extension."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redlane
from conftest import make_client
from fastapi import APIRouter, Depends, FastAPI, HTTPException
from fastapi.responses import JSONResponse
from flask import Blueprint, Flask, abort
from flask import request as flask_request
from flask.views import MethodView
from http_tools import Asgi, Reply, Wsgi
from redlane import RateLimiter, RateLimitExceeded, RedlaneError, _limit, rate_limit
from redlane.fastapi import cached
from redlane.flask import Redlane
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from werkzeug.exceptions import HTTPException as FlaskError
from werkzeug.exceptions import TooManyRequests

Limit = Callable[[Any], Any]
METHODS = ["GET", "POST"]


@pytest.fixture
def default(
    executor: str,
    redis_server: Any,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Any]:
    """The default client, on each executor in turn, and a limiter that has not seen
    another one."""
    client = make_client(executor, request)
    redlane.configure(client)
    monkeypatch.setattr(_limit, "_default", None)
    yield client
    redlane.close_default_client()


def flask_function(limit: Limit) -> Any:
    app = Flask("site")
    app.add_url_rule("/x", view_func=limit(lambda: {"x": 1}), methods=METHODS)
    return app


def flask_coroutine(limit: Limit) -> Any:
    async def view() -> dict[str, int]:
        return {"x": 1}

    app = Flask("site")
    app.add_url_rule("/x", view_func=limit(view), methods=METHODS)
    return app


def flask_class(limit: Limit) -> Any:
    class View(MethodView):
        decorators = [limit]  # noqa: RUF012 - as Flask has it

        def get(self) -> dict[str, int]:
            return {"x": 1}

        post = get

    app = Flask("site")
    app.add_url_rule("/x", view_func=View.as_view("x"))
    return app


def flask_method(limit: Limit) -> Any:
    class View(MethodView):
        @limit
        def get(self) -> dict[str, int]:
            return {"x": 1}

        post = get

    app = Flask("site")
    app.add_url_rule("/x", view_func=View.as_view("x"))
    return app


def flask_blueprint(limit: Limit) -> Any:
    part = Blueprint("part", "part")
    part.add_url_rule("/x", view_func=limit(lambda: {"x": 1}), methods=METHODS)
    app = Flask("site")
    app.register_blueprint(part)
    return app


def fastapi_coroutine(limit: Limit) -> Any:
    async def endpoint() -> dict[str, int]:
        return {"x": 1}

    app = FastAPI()
    app.add_api_route("/x", limit(endpoint), methods=METHODS)
    return app


def fastapi_function(limit: Limit) -> Any:
    def endpoint(response: JSONResponse) -> dict[str, int]:
        return {"x": 1}

    app = FastAPI()
    app.add_api_route("/x", limit(endpoint), methods=METHODS)
    return app


def fastapi_router(limit: Limit) -> Any:
    """With everything that FastAPI gives but once already asked for."""

    async def endpoint(request: Request, n: int = Depends(lambda: 1)) -> dict[str, int]:
        assert request.url.path == "/x"
        return {"x": n}

    router = APIRouter(dependencies=[Depends(lambda: None)])
    router.add_api_route("/x", limit(endpoint), methods=METHODS)
    app = FastAPI()
    app.include_router(router)
    return app


def fastapi_dependency(limit: Limit) -> Any:
    async def needed(connection: HTTPConnection) -> int:
        assert connection.url.path == "/x"
        return 1

    async def endpoint(x: int = Depends(limit(needed))) -> dict[str, int]:
        return {"x": x}

    app = FastAPI()
    app.add_api_route("/x", endpoint, methods=METHODS)
    return app


def fastapi_plain_dependency(limit: Limit) -> Any:
    async def endpoint(x: int = Depends(limit(lambda: 1))) -> dict[str, int]:
        return {"x": x}

    app = FastAPI()
    app.add_api_route("/x", endpoint, methods=METHODS)
    return app


def starlette_coroutine(limit: Limit) -> Any:
    async def endpoint(request: Request) -> JSONResponse:
        return JSONResponse({"x": 1})

    return Starlette(routes=[Route("/x", limit(endpoint), methods=METHODS)])


def starlette_function(limit: Limit) -> Any:
    def endpoint(request: Request) -> JSONResponse:
        return JSONResponse({"x": 1})

    return Starlette(routes=[Route("/x", limit(endpoint), methods=METHODS)])


def starlette_class(limit: Limit) -> Any:
    class Endpoint(HTTPEndpoint):
        @limit
        async def get(self, request: Request) -> JSONResponse:
            return JSONResponse({"x": 1})

        post = get

    return Starlette(routes=[Route("/x", Endpoint)])


SITES = (
    *(flask_function, flask_coroutine, flask_class, flask_method, flask_blueprint),
    *(fastapi_coroutine, fastapi_function, fastapi_router),
    *(fastapi_dependency, fastapi_plain_dependency),
    *(starlette_coroutine, starlette_function, starlette_class),
)


class Site:
    """The application of a builder, and requests to "/x"."""

    def __init__(self, build: Callable[[Limit], Any], client: Any) -> None:
        self.build, self.client = build, client
        self.flask = build.__name__.startswith("flask")
        self.ask: Any = None

    def make(self, limit: Limit) -> None:
        app = self.build(limit)
        self.ask = Wsgi(app) if self.flask else Asgi(app)

    def __call__(self, headers: dict[str, str] | None = None, **more: Any) -> Reply:
        reply: Reply = self.ask("/x", headers or {}, **more)
        return reply

    def close(self) -> None:
        if isinstance(self.ask, Asgi):
            self.ask.run(self.client.aio.close())
            self.ask.close()


@pytest.fixture(params=SITES, ids=lambda build: build.__name__)
def site(default: Any, request: pytest.FixtureRequest) -> Iterator[Site]:
    made = Site(request.param, default)
    yield made
    made.close()


def test_a_limit(site: Site) -> None:
    site.make(rate_limit("2/hour"))
    replies = [site() for _ in range(3)]
    assert [reply.status for reply in replies] == [200, 200, 429]
    assert json.loads(replies[0].body) == {"x": 1}
    assert [reply["X-RateLimit-Remaining"] for reply in replies] == ["1", "0", "0"]
    assert [reply["RateLimit-Policy"] for reply in replies] == [
        '"2-in-3600s";q=2;w=3600'
    ] * 3
    told = json.loads(replies[2].body)
    assert set(told) == {"error", "retry_after"}
    assert told["error"] == "rate limit exceeded"
    assert str(told["retry_after"]) == replies[2]["Retry-After"]
    assert 0 < told["retry_after"] <= 7200
    assert replies[2]["Content-Type"] == "application/json"
    assert [reply["Retry-After"] for reply in replies[:2]] == [None, None]


def test_as_the_class_has_it(site: Site) -> None:
    site.make(RateLimiter.limit(requests_limit=1, time_window=3600))
    assert [site().status for _ in range(2)] == [200, 429]


def test_a_limiter_of_its_own(site: Site) -> None:
    limiter = RateLimiter("memory://", "gcra")
    site.make(limiter.aio.limit("1/hour"))
    assert [site().status for _ in range(2)] == [200, 429]


def test_who_asks(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.make(rate_limit("1/hour"))
    assert site({"X-Forwarded-For": "1.1.1.1"}).status == 200
    assert site({"X-Forwarded-For": "2.2.2.2"}).status == 429
    monkeypatch.setenv("REDLANE_TRUSTED_HOPS", "1")
    assert site({"X-Forwarded-For": "9.9.9.9, 1.2.3.4"}).status == 200
    assert site({"X-Forwarded-For": "8.8.8.8, 1.2.3.4"}).status == 429
    assert site({"X-Forwarded-For": "1.2.3.4, 1.2.3.5"}).status == 200


def test_hops_that_are_given(site: Site) -> None:
    site.make(rate_limit("1/hour", trusted_hops=2))
    assert site({"X-Forwarded-For": "1.1.1.1, 2.2.2.2"}).status == 200
    assert site({"X-Forwarded-For": "1.1.1.1, 3.3.3.3"}).status == 429


def test_options(site: Site) -> None:
    """The callables are given the request, where they ask for one."""

    def of(request: Any) -> str:
        who: str = request.headers.get("x-who", "nobody")
        return who

    site.make(
        rate_limit(
            lambda: "4/hour",
            key=of,
            cost=lambda request: int(request.headers.get("x-cost", 1)),
            exempt_when=lambda request: "x-free" in request.headers,
            methods=["post"],
            error_message=lambda decision: f"{decision.limit} an hour",
        )
    )
    assert [site().status for _ in range(6)] == [200] * 6  # other methods are free
    post = {"method": "POST"}
    assert site({"X-Who": "ann", "X-Cost": "3"}, **post).status == 200
    refused = site({"X-Who": "ann", "X-Cost": "2"}, **post)
    assert (refused.status, json.loads(refused.body)["error"]) == (429, "4 an hour")
    assert site({"X-Who": "ann"}, **post).status == 200
    assert site({"X-Who": "ann"}, **post).status == 429
    assert site({"X-Who": "ann", "X-Free": "1"}, **post).status == 200
    assert site({"X-Who": "bob"}, **post).status == 200


def test_keys(default: Any) -> None:
    site = Site(flask_function, default)
    site.make(rate_limit("1/hour", scope="downloads"))
    assert site().status == 200
    (key,) = default.scan_iter()
    assert key == b"limit:{downloads:127.0.0.1}:s1/3600"


def test_scopes(default: Any) -> None:
    """Each endpoint has its own, also where Flask or a function makes several."""
    app = Flask("site")
    limited = rate_limit("1/hour")

    class View(MethodView):
        decorators = [limited]  # noqa: RUF012 - as Flask has it

        def get(self) -> str:
            return "x"

    def made(name: str) -> Any:
        return limited(lambda: name)

    for name in ("a", "b"):
        app.add_url_rule(f"/class/{name}", view_func=View.as_view(f"class_{name}"))
        app.add_url_rule(f"/made/{name}", f"made_{name}", made(name))
    ask = Wsgi(app)
    for kind in ("class", "made"):
        targets = [f"/{kind}/{name}" for name in ("a", "b", "a", "b")]
        assert [ask(target).status for target in targets] == [200, 200, 429, 429]


def test_scopes_of_routes(default: Any) -> None:
    app = FastAPI()

    def made(limit: Limit) -> Any:
        async def endpoint(i: int) -> int:
            return i

        return limit(endpoint)

    for name in ("a", "b"):
        app.add_api_route(f"/own/{name}/{{i}}", made(rate_limit("1/hour")))
        app.add_api_route(f"/all/{name}/{{i}}", made(rate_limit("1/hour", scope="s")))
    ask = Asgi(app)
    targets = ("/own/a/1", "/own/b/1", "/own/a/2", "/own/b/2", "/all/a/1", "/all/b/1")
    statuses = [ask(target).status for target in targets]
    assert statuses == [200, 200, 429, 429, 200, 429]
    ask.run(default.aio.close())
    ask.close()


def test_signature_and_openapi_are_as_declared() -> None:
    def declare(limit: Limit) -> tuple[FastAPI, Any]:
        app = FastAPI()

        @app.get("/x/{i}")
        @limit
        async def endpoint(
            i: int, q: str | None = None, n: int = Depends(lambda: 1)
        ) -> dict[str, int]:
            """Tells."""
            return {"i": i}

        return app, endpoint

    plain, _ = declare(lambda function: function)
    limited, endpoint = declare(rate_limit("1/hour"))
    assert limited.openapi() == plain.openapi()
    assert endpoint.__name__ == "endpoint"
    bound = inspect.signature(endpoint).bind(1, q="x")
    assert bound.arguments == {"i": 1, "q": "x"}
    assert inspect.signature(endpoint).return_annotation == dict[str, int]


def test_two_limits_and_a_cache(default: Any) -> None:
    """Decorators that ask FastAPI for the same things."""
    app = FastAPI()

    @app.get("/x")
    @rate_limit("3/hour")
    @cached(client=default, ttl=60)
    @rate_limit("1/hour")
    async def endpoint(q: int = 0) -> int:
        return q

    ask = Asgi(app)
    replies = [ask(f"/x?q={q}") for q in (1, 1, 2, 1)]
    assert [reply.status for reply in replies] == [200, 200, 429, 429]
    assert [reply.word for reply in replies[:2]] == ["MISS", "HIT"]
    remaining = [reply["X-RateLimit-Remaining"] for reply in replies]
    assert remaining == ["2", "1", "0", "0"]
    assert [len(app.openapi()["paths"]["/x"]["get"]["parameters"])] == [1]
    ask.run(default.aio.close())
    ask.close()


@pytest.mark.parametrize("limit_first", [True, False])
def test_a_limit_and_cached_views(default: Any, limit_first: bool) -> None:
    """What one client is told of its limit is not stored for others."""
    app = Flask("site")
    app.config["REDLANE_CLIENT"] = default
    decorators = [rate_limit("2/hour"), Redlane(app).cached(ttl=60)]
    outer, inner = decorators if limit_first else decorators[::-1]
    app.add_url_rule("/x", "x", outer(inner(lambda: "x")))
    replies = [Wsgi(app)("/x") for _ in range(4)]
    if limit_first:
        assert [reply.status for reply in replies] == [200, 200, 429, 429]
        assert [reply.word for reply in replies[:2]] == ["MISS", "HIT"]
        assert replies[1]["X-RateLimit-Remaining"] == "0"
    else:
        assert [reply.word for reply in replies] == ["MISS", "HIT", "HIT", "HIT"]
        assert replies[0]["X-RateLimit-Remaining"] == "1"
        assert replies[1]["X-RateLimit-Limit"] is None


def test_what_an_extension_says(default: Any) -> None:
    app = Flask("site")
    app.config.update(REDLANE_CLIENT=default, RATELIMIT_ENABLED=False)
    Redlane(app)
    app.add_url_rule("/x", "x", rate_limit("1/hour")(lambda: "x"))
    assert [Wsgi(app)("/x").status for _ in range(3)] == [200] * 3


def test_hops_of_an_application(default: Any) -> None:
    app = Flask("site")
    app.config["REDLANE_TRUSTED_HOPS"] = 1
    app.add_url_rule("/x", "x", rate_limit("1/hour")(lambda: "x"))
    asked = [
        Wsgi(app)("/x", {"X-Forwarded-For": who}) for who in ("1.1.1.1", "2.2.2.2")
    ]
    assert [reply.status for reply in asked] == [200, 200]


def test_results_that_cost_nothing(default: Any) -> None:
    app = Flask("site")
    free = rate_limit("1/hour", deduct_when=lambda result: result != "free")
    app.add_url_rule("/<said>", "x", free(lambda said: said))
    ask = Wsgi(app)
    statuses = [ask(f"/{said}").status for said in ("free", "free", "x", "free")]
    assert statuses == [200, 200, 200, 429]


def test_keys_of_arguments(default: Any) -> None:
    app = Flask("site")
    limited = rate_limit("1/hour", key=lambda who: who)
    app.add_url_rule("/<who>", "x", limited(lambda who: who))
    ask = Wsgi(app)
    assert [ask(f"/{who}").status for who in ("a", "b", "a")] == [200, 200, 429]


def test_answers_of_the_application(default: Any) -> None:
    """Who wants another answer says so as for any exception."""
    app = Flask("site")
    app.add_url_rule("/x", "x", rate_limit("1/hour")(lambda: "x"))

    @app.errorhandler(RateLimitExceeded)
    def slowly(error: RateLimitExceeded) -> tuple[str, int]:
        return f"{error.decision.limit} an hour", 429

    assert [Wsgi(app)("/x").text for _ in range(2)] == ["x", "1 an hour"]
    app = Flask("site")
    app.add_url_rule("/y", "y", rate_limit("1/hour")(lambda: "y"))
    app.register_error_handler(429, lambda error: ("429", 429))
    assert [Wsgi(app)("/y").text for _ in range(2)] == ["y", "429"]


@pytest.mark.parametrize(
    ("handled", "taken"),
    [
        ([RedlaneError, FlaskError, TooManyRequests, RateLimitExceeded], 2),
        ([RedlaneError, FlaskError, 429], 2),
        ([RedlaneError, FlaskError, RateLimitExceeded], 2),
        ([RedlaneError, FlaskError], 1),
        ([RedlaneError], 0),
    ],
)
def test_which_handler_of_several(default: Any, handled: list[Any], taken: int) -> None:
    """One of outages is not for refusals, where there is any other."""
    app = Flask("site")
    app.add_url_rule("/x", "x", rate_limit("1/hour")(lambda: "x"))
    for number, what in enumerate(handled):
        app.register_error_handler(what, lambda error, n=number: (str(n), 429))
    assert [Wsgi(app)("/x").text for _ in range(2)] == ["x", str(taken)]


@pytest.mark.parametrize("handled", [RateLimitExceeded, 429])
def test_answers_of_an_asgi_application(default: Any, handled: Any) -> None:
    app = FastAPI()

    async def endpoint() -> str:
        return "x"

    async def slowly(request: Request, error: Any) -> PlainTextResponse:
        return PlainTextResponse(f"{error.decision.limit} an hour", 429)

    app.get("/x")(rate_limit("1/hour", scope=str(handled))(endpoint))
    app.add_exception_handler(handled, slowly)
    ask = Asgi(app)
    assert [ask("/x").text for _ in range(2)] == ['"x"', "1 an hour"]
    ask.run(default.aio.close())
    ask.close()


def test_other_errors_are_as_they_were(default: Any) -> None:
    app = FastAPI()

    @app.get("/x")
    @rate_limit("1/hour")
    async def endpoint() -> None:
        raise HTTPException(418, "tea")

    ask = Asgi(app)
    replies = [ask("/x") for _ in range(2)]
    assert [reply.status for reply in replies] == [418, 429]
    assert json.loads(replies[0].body) == {"detail": "tea"}
    ask.run(default.aio.close())
    ask.close()
    site = Flask("site")
    site.add_url_rule("/x", "x", rate_limit("1/hour")(lambda: abort(418)))
    assert [Wsgi(site)("/x").status for _ in range(2)] == [418, 429]


def test_a_function_that_a_view_calls(default: Any) -> None:
    """Its caller may catch it; uncaught it is 429 too."""
    app = Flask("site")
    limited = rate_limit("1/hour", key=lambda who: who)(lambda who: f"sent to {who}")

    def view() -> str:
        try:
            return str(limited("ann"))
        except RateLimitExceeded as error:
            if "catch" not in flask_request.args:
                raise
            return f"later: {error.decision.limit}"

    app.add_url_rule("/x", "x", view)
    ask = Wsgi(app)
    assert ask("/x").text == "sent to ann"
    assert ask("/x?catch").text == "later: 1"
    assert ask("/x?catch")["Retry-After"] is None
    assert ask("/x").status == 429
    with pytest.raises(RateLimitExceeded) as caught:
        limited("ann")
    assert type(caught.value) is RateLimitExceeded


def test_outside_a_request(default: Any, run: Any) -> None:
    @rate_limit("1/hour")
    def called() -> None: ...

    @rate_limit("1/hour")
    async def awaited() -> None: ...

    said = (
        r"awaited\(\) is limited by the client's address, .*outside of a request.*key="
    )
    with pytest.raises(redlane.ConfigurationError, match=said.replace("await", "call")):
        called()
    with pytest.raises(redlane.ConfigurationError, match=said):
        run(awaited())
    assert list(default.scan_iter()) == []


def test_what_cannot_be_limited() -> None:
    def numbers() -> Iterator[int]:
        yield 1

    async def more() -> Any:
        yield 1

    class Endpoint(HTTPEndpoint):
        pass

    for function in (numbers, more, Endpoint):
        with pytest.raises(TypeError, match="limit"):
            rate_limit("1/hour")(function)
    with pytest.raises(TypeError, match="list"):
        rate_limit("1/hour", methods="GET")
    for hops in (-1, 101, "x"):
        with pytest.raises(redlane.ConfigurationError, match="REDLANE_TRUSTED_HOPS"):
            rate_limit("1/hour", trusted_hops=hops)  # type: ignore[arg-type]


EARLY = """
import sys
import redlane

redlane.configure("memory://")

@redlane.rate_limit("1/hour")
async def endpoint(q: int = 0) -> int:
    return q

assert "starlette" not in sys.modules
assert "flask" not in sys.modules
sys.path.insert(0, sys.argv[1])
from fastapi import FastAPI
from http_tools import Asgi

app = FastAPI()
app.get("/x")(endpoint)
ask = Asgi(app)
assert [ask("/x?q=3").status for _ in range(2)] == [200, 429]
ask.close()
"""


def test_decorated_before_the_framework_is_imported() -> None:
    run = [sys.executable, "-c", EARLY, str(Path(__file__).parent)]
    subprocess.run(run, check=True, timeout=120)
