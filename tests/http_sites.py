"""One application in each framework: routes that answer by the same function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI
from flask import Flask, make_response
from flask import request as flask_request
from http_tools import Asgi, Reply, Wsgi
from redlane.fastapi import CacheMiddleware, cached
from redlane.fastapi import invalidate as invalidate_async
from redlane.flask import Redlane
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

FRAMEWORKS = ("flask", "fastapi", "starlette")

# Given a way to read a field of the request; gives status, body and fields.
Answer = Callable[[Callable[[str], str | None]], tuple[int, str, dict[str, str]]]


class Site:
    """`route` adds one; called it makes a request."""

    def route(
        self,
        path: str,
        answer: Answer,
        methods: tuple[str, ...] = ("GET",),
        **options: Any,
    ) -> None:
        raise NotImplementedError

    def __call__(
        self, target: str, headers: dict[str, str] | None = None, **more: Any
    ) -> Reply:
        raise NotImplementedError

    def invalidate(self, path: str) -> int:
        raise NotImplementedError


class FlaskSite(Site):
    def __init__(self, client: Any) -> None:
        self.app = Flask("site")
        self.app.secret_key = "of a test"
        self.app.config["REDLANE_CLIENT"] = client
        self.lane = Redlane(self.app)
        self.ask = Wsgi(self.app)

    def route(
        self,
        path: str,
        answer: Answer,
        methods: tuple[str, ...] = ("GET",),
        **options: Any,
    ) -> None:
        def view(**_: Any) -> Any:
            status, body, fields = answer(flask_request.headers.get)
            made = make_response(body, status)
            made.headers.update(fields)
            return made

        view.__name__ = f"view_{len(self.app.view_functions)}"
        endpoint = self.lane.cached(**options)(view)
        flask_path = path.replace("{", "<").replace("}", ">")
        self.app.add_url_rule(flask_path, view_func=endpoint, methods=methods)

    def __call__(
        self, target: str, headers: dict[str, str] | None = None, **more: Any
    ) -> Reply:
        return self.ask(target, headers or {}, **more)

    def invalidate(self, path: str) -> int:
        with self.app.app_context():
            return self.lane.invalidate(path)


class AsgiSite(Site):
    def __init__(self, client: Any, framework: str) -> None:
        self.client = client
        self.app: Any = FastAPI() if framework == "fastapi" else Starlette()
        self.app.add_middleware(CacheMiddleware)
        self.framework = framework
        self.ask = Asgi(self.app)

    def route(
        self,
        path: str,
        answer: Answer,
        methods: tuple[str, ...] = ("GET",),
        **options: Any,
    ) -> None:
        async def endpoint(request: Request) -> Response:
            status, body, fields = answer(request.headers.get)
            return Response(body, status, fields, media_type="text/plain")

        made = cached(client=self.client, **options)(endpoint)
        if self.framework == "fastapi":
            # FastAPI's routes answer HEAD only where they say so.
            self.app.add_api_route(path, made, methods=[*methods, "HEAD"])
        else:
            self.app.router.routes.append(Route(path, made, methods=list(methods)))

    def __call__(
        self, target: str, headers: dict[str, str] | None = None, **more: Any
    ) -> Reply:
        return self.ask(target, headers or {}, **more)

    def invalidate(self, path: str) -> int:
        gone: int = self.ask.run(invalidate_async(path, self.client))
        return gone


@contextmanager
def site_of(framework: str, client: Any) -> Iterator[Site]:
    if framework == "flask":
        yield FlaskSite(client)
        return
    site = AsgiSite(client, framework)
    try:
        yield site
    finally:
        site.ask.run(client.aio.close())
        site.ask.close()
