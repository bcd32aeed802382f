"""Limits on Flask's views and FastAPI's endpoints."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from flask import Flask
from http_tools import Asgi, Reply, Wsgi
from redlane.fastapi import RateLimit, cached, limit
from redlane.flask import Redlane
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

KINDS = ("flask", "fastapi", "fastapi def", "starlette", "dependency")


class Limited:
    """A route "/x" with a limit."""

    def __init__(self, kind: str, client: Any) -> None:
        self.kind, self.client = kind, client
        self.ask: Any = None

    def make(self, rates: Any, hops: int = 0, **options: Any) -> None:
        if self.kind == "flask":
            app = Flask("site")
            app.config.update(REDLANE_CLIENT=self.client, REDLANE_TRUSTED_HOPS=hops)
            lane = Redlane(app)
            view = lane.limit(rates, **options)(lambda: "x")
            app.add_url_rule("/x", view_func=view, methods=["GET", "POST"])
            self.ask = Wsgi(app)
            return
        options.update(client=self.client, trusted_hops=hops)
        self.ask = Asgi(self.application(rates, options))

    def application(self, rates: Any, options: dict[str, Any]) -> Any:
        async def starlette(request: Request) -> PlainTextResponse:
            return PlainTextResponse("x")

        async def endpoint() -> str:
            return "x"

        def plain() -> str:
            return "x"

        methods = ["GET", "POST"]
        if self.kind == "starlette":
            made = limit(rates, **options)(starlette)
            return Starlette(routes=[Route("/x", made, methods=methods)])
        app = FastAPI()
        if self.kind == "dependency":
            needs = [Depends(RateLimit(rates, **options))]
            app.add_api_route("/x", endpoint, methods=methods, dependencies=needs)
        else:
            function: Any = plain if self.kind == "fastapi def" else endpoint
            app.add_api_route("/x", limit(rates, **options)(function), methods=methods)
        return app

    def __call__(self, headers: dict[str, str] | None = None, **more: Any) -> Reply:
        reply: Reply = self.ask("/x", headers or {}, **more)
        return reply


@pytest.fixture(params=KINDS)
def limited(client: Any, request: pytest.FixtureRequest) -> Iterator[Limited]:
    made = Limited(request.param, client)
    yield made
    if isinstance(made.ask, Asgi):
        made.ask.run(client.aio.close())
        made.ask.close()


def test_a_limit(limited: Limited) -> None:
    limited.make("2/hour;100/day")
    replies = [limited() for _ in range(3)]
    assert [reply.status for reply in replies] == [200, 200, 429]
    assert [reply["X-RateLimit-Remaining"] for reply in replies] == ["1", "0", "0"]
    assert [reply["X-RateLimit-Limit"] for reply in replies] == ["2", "2", "2"]
    policy = '"2-in-3600s";q=2;w=3600, "100-in-86400s";q=100;w=86400'
    assert replies[0]["RateLimit-Policy"] == replies[2]["RateLimit-Policy"] == policy
    assert str(replies[0]["RateLimit"]).startswith('"2-in-3600s";r=1;t=')
    assert [reply["Retry-After"] is None for reply in replies] == [True, True, False]
    told = json.loads(replies[2].body)
    assert set(told) == {"error", "retry_after"}
    assert str(told["retry_after"]) == replies[2]["Retry-After"]
    # A sliding window counts part of the one before: up to two of them.
    assert 0 < told["retry_after"] <= 7200
    assert replies[2]["Content-Type"] == "application/json"


def test_what_anybody_writes_counts_for_nothing(limited: Limited) -> None:
    limited.make("1/hour")
    assert limited({"X-Forwarded-For": "1.1.1.1"}).status == 200
    assert limited({"X-Forwarded-For": "2.2.2.2"}).status == 429


def test_behind_a_proxy(limited: Limited) -> None:
    limited.make("1/hour", hops=1)
    assert limited({"X-Forwarded-For": "9.9.9.9, 1.2.3.4"}).status == 200
    assert limited({"X-Forwarded-For": "8.8.8.8, 1.2.3.4"}).status == 429
    assert limited({"X-Forwarded-For": "1.2.3.4, 1.2.3.5"}).status == 200


def test_methods_and_scopes(limited: Limited) -> None:
    limited.make("1/hour", methods=["post"], scope="s:1", error_message="slowly")
    assert [limited().status for _ in range(3)] == [200] * 3
    assert [limited(method="POST").status for _ in range(2)] == [200, 429]
    assert json.loads(limited(method="POST").body)["error"] == "slowly"
    assert limited().status == 200


def test_who_asks_how_much(client: Any) -> None:
    flask = Limited("flask", client)
    from flask import request

    options: dict[str, Any] = {
        "key": lambda: request.headers["X-Who"],
        "cost": lambda: int(request.headers.get("X-Cost", 1)),
        "exempt_when": lambda: "X-Free" in request.headers,
    }
    flask.make(lambda: "3/hour", **options)
    assert flask({"X-Who": "a", "X-Cost": "3"}).status == 200
    assert flask({"X-Who": "a"}).status == 429
    assert flask({"X-Who": "a", "X-Free": "1"}).status == 200
    assert flask({"X-Who": "b"}).status == 200


def test_who_asks_how_much_in_coroutines(client: Any) -> None:
    fast = Limited("fastapi", client)

    async def who(request: Request) -> str:
        return request.headers["x-who"]

    fast.make(
        lambda request: "3/hour",
        key=who,
        cost=lambda request: int(request.headers.get("x-cost", 1)),
        exempt_when=lambda request: "x-free" in request.headers,
    )
    assert fast({"X-Who": "a", "X-Cost": "3"}).status == 200
    assert fast({"X-Who": "a"}).status == 429
    assert fast({"X-Who": "a", "X-Free": "1"}).status == 200
    assert fast({"X-Who": "b"}).status == 200
    fast.ask.run(client.aio.close())
    fast.ask.close()


@pytest.mark.parametrize("kind", ["flask", "fastapi"])
def test_what_is_given_back(kind: str, client: Any) -> None:
    limited = Limited(kind, client)
    limited.make("1/hour", deduct_when=lambda result: False)
    assert [limited().status for _ in range(3)] == [200] * 3
    if kind == "fastapi":
        limited.ask.run(client.aio.close())
        limited.ask.close()


def test_limits_of_all_views(client: Any) -> None:
    app = Flask("site")
    app.config.update(REDLANE_CLIENT=client, RATELIMIT_DEFAULT="1/hour")
    lane = Redlane(app)
    app.add_url_rule("/a", "a", lambda: "a")
    app.add_url_rule("/b", "b", lambda: "b")
    app.add_url_rule("/own", "own", lane.limit("2/hour")(lambda: "own"))
    ask = Wsgi(app)
    targets = ("/a", "/a", "/b", "/own", "/own", "/own", "/none", "/none")
    statuses = [ask(target).status for target in targets]
    assert statuses == [200, 429, 200, 200, 200, 429, 404, 404]


def test_limits_that_are_off(client: Any) -> None:
    app = Flask("site")
    app.config.update(REDLANE_CLIENT=client, RATELIMIT_ENABLED=False)
    lane = Redlane(app)
    app.add_url_rule("/x", "x", lane.limit("1/hour")(lambda: "x"))
    assert [Wsgi(app)("/x").status for _ in range(3)] == [200] * 3


@pytest.mark.parametrize("limit_first", [True, False])
def test_limits_and_cached_responses(client: Any, limit_first: bool) -> None:
    """Whichever stands above: nobody gets what was told to somebody else."""
    app = Flask("site")
    app.config["REDLANE_CLIENT"] = client
    lane = Redlane(app)
    decorators = [lane.limit("2/hour"), lane.cached(ttl=60)]
    outer, inner = decorators if limit_first else decorators[::-1]
    app.add_url_rule("/x", "x", outer(inner(lambda: "x")))
    replies = [Wsgi(app)("/x") for _ in range(4)]
    if limit_first:
        assert [reply.status for reply in replies] == [200, 200, 429, 429]
        assert [reply.word for reply in replies] == ["MISS", "HIT", None, None]
    else:
        assert [reply.word for reply in replies] == ["MISS", "HIT", "HIT", "HIT"]
        assert replies[1]["X-RateLimit-Limit"] is None


def test_limits_and_cached_endpoints(client: Any) -> None:
    app = FastAPI()
    numbers = itertools.count(1)

    @app.get("/x")
    @limit("2/hour", client=client)
    @cached(client=client, ttl=60)
    async def endpoint(q: int = 0) -> int:
        return next(numbers)

    ask = Asgi(app)
    replies = [ask("/x") for _ in range(3)]
    assert [reply.status for reply in replies] == [200, 200, 429]
    assert [reply.word for reply in replies] == ["MISS", "HIT", None]
    assert [reply["X-RateLimit-Remaining"] for reply in replies] == ["1", "0", "0"]
    assert set(app.openapi()["paths"]["/x"]["get"]["parameters"][0]) >= {"name"}
    assert len(app.openapi()["paths"]["/x"]["get"]["parameters"]) == 1
    ask.run(client.aio.close())
    ask.close()


def test_wrong_options() -> None:
    with pytest.raises(TypeError):
        limit("1/hour", exempt_when=True)
    with pytest.raises(TypeError):
        limit("1/hour", methods="GET")
    with pytest.raises(TypeError):
        RateLimit("1/hour", deduct_when=lambda result: True)
