"""Every place where a view, an endpoint or a WebSocket's function may stand: decorated
they answer as they do bare, then from the cache, and no more often than the limit has
it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import pytest
import redlane
from fastapi import (
    APIRouter,
    Depends,
    FastAPI,
    Query,
    Response,
    WebSocket,
)
from fastapi.responses import JSONResponse, PlainTextResponse
from flask import Blueprint, Flask, jsonify, request, url_for
from flask.views import MethodView, View
from http_tools import Asgi, Reply, Wsgi
from redlane import Client, _limit, rate_limit
from redlane.fastapi import cached, limit
from redlane.flask import Redlane
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint, WebSocketEndpoint
from starlette.requests import Request
from starlette.routing import Mount, Route, Router, WebSocketRoute
from werkzeug.middleware.dispatcher import DispatcherMiddleware

Decorate = Callable[[Any], Any]


def bare(function: Any) -> Any:
    return function


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Client[Any]]:
    """The default client, too."""
    made: Any = Client("memory://")
    redlane.configure(made)
    monkeypatch.setattr(_limit, "_default", None)
    yield made
    redlane.close_default_client()


# --- Flask ------------------------------------------------------------------------
# Each builder gives the application, and what a server is given in its place.


def flask_function(decorate: Decorate) -> tuple[Flask, Any]:
    app = Flask("site")

    @app.get("/x/<int:number>")
    @decorate
    def view(number: int) -> Any:
        return jsonify(number=number, path=request.path)

    return app, app


def flask_coroutine(decorate: Decorate) -> tuple[Flask, Any]:
    app = Flask("site")

    @app.get("/x/<int:number>")
    @decorate
    async def view(number: int) -> Any:
        await asyncio.sleep(0)
        return f"coroutine {number}", 203, {"X-Own": "kept"}

    return app, app


def flask_view(decorate: Decorate) -> tuple[Flask, Any]:
    class Shown(View):
        decorators = [decorate]  # noqa: RUF012 - as Flask has it
        init_every_request = False

        def __init__(self, name: str) -> None:
            self.name = name

        def dispatch_request(self, number: int) -> str:
            return f"{self.name} {number}"

    app = Flask("site")
    app.add_url_rule("/x/<int:number>", view_func=Shown.as_view("shown", "view"))
    return app, app


def flask_method_view(decorate: Decorate) -> tuple[Flask, Any]:
    class Shown(MethodView):
        decorators = [decorate]  # noqa: RUF012 - as Flask has it

        def get(self, number: int) -> dict[str, int]:
            return {"number": number}

        def post(self, number: int) -> str:
            return "posted"

    app = Flask("site")
    app.add_url_rule("/x/<int:number>", view_func=Shown.as_view("shown"))
    return app, app


def flask_method(decorate: Decorate) -> tuple[Flask, Any]:
    class Shown(MethodView):
        @decorate
        def get(self, number: int) -> str:
            return f"{type(self).__name__} {number}"

    app = Flask("site")
    app.add_url_rule("/x/<int:number>", view_func=Shown.as_view("shown"))
    return app, app


def flask_coroutine_method(decorate: Decorate) -> tuple[Flask, Any]:
    class Shown(MethodView):
        @decorate
        async def get(self, number: int) -> str:
            return f"awaited {number}"

    app = Flask("site")
    app.add_url_rule("/x/<int:number>", view_func=Shown.as_view("shown"))
    return app, app


def flask_nested_blueprints(decorate: Decorate) -> tuple[Flask, Any]:
    outer = Blueprint("outer", __name__)
    inner = Blueprint("inner", __name__, url_prefix="/x")

    @inner.get("/<int:number>")
    @decorate
    def view(number: int) -> str:
        """By its nested name."""
        return url_for("outer.inner.view", number=number)

    outer.register_blueprint(inner)
    app = Flask("site")
    app.register_blueprint(outer)
    return app, app


def flask_blueprint_twice(decorate: Decorate) -> tuple[Flask, Any]:
    part = Blueprint("part", __name__)
    part.add_url_rule(
        "/<int:number>",
        view_func=decorate(lambda number: f"{request.blueprint} {number}"),
        endpoint="view",
    )
    app = Flask("site")
    app.register_blueprint(part, url_prefix="/x")
    app.register_blueprint(part, url_prefix="/other", name="again")
    return app, app


def flask_mounted(decorate: Decorate) -> tuple[Flask, Any]:
    app = Flask("inner")

    @app.get("/<int:number>")
    @decorate
    def view(number: int) -> str:
        return f"{request.script_root} {number}"

    return app, DispatcherMiddleware(Flask("outer"), {"/x": app})


FLASK = (
    *(flask_function, flask_coroutine, flask_view, flask_method_view, flask_method),
    *(flask_coroutine_method, flask_nested_blueprints, flask_blueprint_twice),
    flask_mounted,
)


def check(ask: Callable[[str], Reply], wanted: Reply) -> None:
    """Two requests of three pass; the second one is answered from the cache."""
    replies = [ask("/x/1") for _ in range(3)]
    assert [reply.status for reply in replies] == [wanted.status] * 2 + [429]
    assert [reply.word for reply in replies] == ["MISS", "HIT", None]
    for reply in replies[:2]:
        assert reply.body == wanted.body
        assert reply["Content-Type"] == wanted["Content-Type"]
        assert reply["X-Own"] == wanted["X-Own"]
    assert [reply["X-RateLimit-Remaining"] for reply in replies] == ["1", "0", "0"]
    assert set(json.loads(replies[2].body)) == {"error", "retry_after"}


@pytest.mark.parametrize("limits", ["extension", "rate_limit"])
@pytest.mark.parametrize("build", FLASK, ids=lambda build: build.__name__)
def test_places_of_flask(build: Any, limits: str, client: Client[Any]) -> None:
    lane = Redlane()
    limited = lane.limit("2/hour") if limits == "extension" else rate_limit("2/hour")
    app, served = build(lambda function: limited(lane.cached(ttl=60)(function)))
    app.config["REDLANE_CLIENT"] = client
    lane.init_app(app)
    wanted = Wsgi(build(bare)[1])("/x/1")
    assert wanted.status < 300
    check(Wsgi(served), wanted)


@pytest.mark.parametrize("build", FLASK, ids=lambda build: build.__name__)
def test_cached_places_of_flask_tell_arguments_apart(
    build: Any, client: Client[Any]
) -> None:
    lane = Redlane()
    app, served = build(lane.cached(ttl=60))
    app.config["REDLANE_CLIENT"] = client
    lane.init_app(app)
    ask, plain = Wsgi(served), Wsgi(build(bare)[1])
    for number in (1, 2, 1, 2):
        assert ask(f"/x/{number}").body == plain(f"/x/{number}").body
    assert [ask(f"/x/{number}").word for number in (1, 2)] == ["HIT", "HIT"]
    if build is flask_blueprint_twice:
        assert ask("/other/1").text == "again 1"
    if build is flask_method_view:
        assert ask("/x/1", method="POST").text == "posted"
        assert ask("/x/1").word == "MISS"


def test_what_a_view_is_called_stays(client: Client[Any]) -> None:
    lane = Redlane()

    @rate_limit("2/hour")
    @lane.limit("2/hour")
    @lane.cached(ttl=60)
    def view(number: int) -> str:
        """By its name."""
        return str(number)

    assert (view.__name__, view.__doc__) == ("view", "By its name.")


# --- FastAPI and Starlette --------------------------------------------------------


def fastapi_function(decorate: Decorate) -> Any:
    app = FastAPI()

    @app.get("/x/{number}")
    @decorate
    def endpoint(number: int) -> dict[str, int]:
        return {"number": number}

    return app


def fastapi_coroutine(decorate: Decorate) -> Any:
    app = FastAPI()

    @app.get("/x/{number}", status_code=203)
    @decorate
    async def endpoint(number: int, response: Response) -> dict[str, int]:
        response.headers["X-Own"] = "kept"
        return {"number": number}

    return app


class Page:
    """Parameters as a class has them."""

    def __init__(self, number: int, size: int = Query(10, le=100)) -> None:
        self.number, self.size = number, size


class Doubled:
    """A dependency with a state of its own."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def __call__(self, number: int) -> int:
        return self.factor * number


def fastapi_class_dependencies(decorate: Decorate) -> Any:
    app = FastAPI()

    @app.get("/x/{number}")
    @decorate
    async def endpoint(
        page: Annotated[Page, Depends()], twice: int = Depends(Doubled(2))
    ) -> dict[str, int]:
        return {"size": page.size, "number": page.number, "twice": twice}

    return app


def fastapi_method(decorate: Decorate) -> Any:
    class Shown:
        name = "method"

        @decorate
        async def get(self, number: int) -> str:
            return f"{self.name} {number}"

    app = FastAPI()
    app.add_api_route("/x/{number}", Shown().get)
    return app


def fastapi_nested_routers(decorate: Decorate) -> Any:
    def opened(number: int) -> Iterator[int]:
        yield number

    inner = APIRouter(prefix="/{number}", dependencies=[Depends(opened)])
    outer = APIRouter(prefix="/x", tags=["x"])

    @inner.get("")
    @decorate
    def endpoint(number: int, known: int = Depends(opened)) -> list[int]:
        return [number, known]

    outer.include_router(inner, dependencies=[Depends(lambda: None)])
    app = FastAPI(dependencies=[Depends(lambda: None)])
    app.include_router(outer)
    return app


def fastapi_mounted(decorate: Decorate) -> Any:
    inner = FastAPI()

    @inner.get("/{number}")
    @decorate
    async def endpoint(number: int, request: Request) -> str:
        return f"{request.scope['root_path']} {number}"

    app = FastAPI()
    app.mount("/x", inner)
    return app


def starlette_function(decorate: Decorate) -> Any:
    def endpoint(request: Request) -> JSONResponse:
        return JSONResponse(request.path_params)

    return Starlette(routes=[Route("/x/{number:int}", decorate(endpoint))])


def starlette_coroutine(decorate: Decorate) -> Any:
    async def endpoint(request: Request) -> PlainTextResponse:
        return PlainTextResponse("x", 203, {"X-Own": "kept"})

    app = Starlette()
    app.router.routes.append(Route("/x/{number:int}", decorate(endpoint)))
    return app


def starlette_class(decorate: Decorate) -> Any:
    class Endpoint(HTTPEndpoint):
        @decorate
        async def get(self, request: Request) -> JSONResponse:
            return JSONResponse(request.path_params)

    return Starlette(routes=[Route("/x/{number:int}", Endpoint)])


def starlette_mounted(decorate: Decorate) -> Any:
    async def endpoint(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.url.path)

    inner = Router([Route("/{number:int}", decorate(endpoint))])
    return Starlette(routes=[Mount("/x", app=inner)])


def starlette_in_fastapi(decorate: Decorate) -> Any:
    app = FastAPI()
    app.mount("/x", starlette_mounted(decorate))

    async def endpoint(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.url.path)

    app.add_route("/x/{number}", decorate(endpoint))
    app.router.routes.reverse()
    return app


ASGI = (
    *(fastapi_function, fastapi_coroutine, fastapi_class_dependencies, fastapi_method),
    *(fastapi_nested_routers, fastapi_mounted, starlette_function),
    *(starlette_coroutine, starlette_class, starlette_mounted, starlette_in_fastapi),
)


@pytest.fixture
def serve() -> Iterator[Callable[[Any], Asgi]]:
    made: list[Asgi] = []

    def make(app: Any) -> Asgi:
        made.append(Asgi(app))
        return made[-1]

    yield make
    for ask in made:
        ask.close()


@pytest.mark.parametrize("limits", ["limit", "rate_limit"])
@pytest.mark.parametrize("build", ASGI, ids=lambda build: build.__name__)
def test_places_of_asgi(
    build: Any, limits: str, client: Client[Any], serve: Callable[[Any], Asgi]
) -> None:
    limited = limit("2/hour") if limits == "limit" else rate_limit("2/hour")
    app = build(lambda function: limited(cached(ttl=60)(function)))
    wanted = serve(build(bare))("/x/1")
    assert wanted.status < 300
    check(serve(app), wanted)


@pytest.mark.parametrize("build", ASGI, ids=lambda build: build.__name__)
def test_cached_places_of_asgi_tell_arguments_apart(
    build: Any, client: Client[Any], serve: Callable[[Any], Asgi]
) -> None:
    ask, plain = serve(build(cached(ttl=60))), serve(build(bare))
    for number in (1, 2, 1, 2):
        got, wanted = ask(f"/x/{number}"), plain(f"/x/{number}")
        assert (got.status, got.body) == (wanted.status, wanted.body)
    assert [ask(f"/x/{number}").word for number in (1, 2)] == ["HIT", "HIT"]


# --- WebSockets -------------------------------------------------------------------


async def talk(app: Any, path: str) -> list[Any]:
    """What a WebSocket is sent, from its beginning to its end."""
    said: list[Any] = []
    heard = iter([{"type": "websocket.connect"}, {"type": "websocket.disconnect"}])

    async def receive() -> Any:
        return next(heard)

    async def send(message: Any) -> None:
        said.append(message.get("text") or message.get("code") or message["type"])

    scope = {
        "type": "websocket",
        "asgi": {"version": "3.0"},
        "scheme": "ws",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"app.test")],
        "subprotocols": [],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    await app(scope, receive, send)
    return said


async def hello(websocket: WebSocket, number: int = 0) -> None:
    await websocket.accept()
    await websocket.send_text(f"hello {number}")
    await websocket.close()


async def plain_hello(websocket: Any) -> None:
    await hello(websocket, websocket.path_params["number"])


def socket_of_app(decorate: Decorate) -> Any:
    app = FastAPI()
    app.add_api_websocket_route("/s/{number}", decorate(hello))
    return app


def socket_of_router(decorate: Decorate) -> Any:
    router = APIRouter(prefix="/s", dependencies=[Depends(lambda: None)])

    @router.websocket("/{number}")
    @decorate
    async def endpoint(
        number: int, link: WebSocket, twice: int = Depends(Doubled(2))
    ) -> None:
        assert twice == 2 * number
        await hello(link, number)

    app = FastAPI()
    app.include_router(router)
    return app


def socket_of_mount(decorate: Decorate) -> Any:
    inner = FastAPI()
    inner.add_api_websocket_route("/{number}", decorate(hello))
    app = FastAPI()
    app.mount("/s", inner)
    return app


def socket_of_starlette(decorate: Decorate) -> Any:
    return Starlette(routes=[WebSocketRoute("/s/{number:int}", decorate(plain_hello))])


def socket_of_class(decorate: Decorate) -> Any:
    class Endpoint(WebSocketEndpoint):
        @decorate
        async def on_connect(self, websocket: WebSocket) -> None:
            await plain_hello(websocket)

    return Starlette(routes=[WebSocketRoute("/s/{number:int}", Endpoint)])


SOCKETS = (
    *(socket_of_app, socket_of_router, socket_of_mount),
    *(socket_of_starlette, socket_of_class),
)


@pytest.mark.parametrize("limits", ["limit", "rate_limit"])
@pytest.mark.parametrize("build", SOCKETS, ids=lambda build: build.__name__)
def test_websockets(
    build: Any, limits: str, client: Client[Any], serve: Callable[[Any], Asgi]
) -> None:
    limited = limit("2/hour") if limits == "limit" else rate_limit("2/hour")
    app = build(limited)
    loop = serve(app)
    passed = ["websocket.accept", "hello 1", 1000]
    assert loop.run(talk(build(bare), "/s/1")) == passed
    said = [loop.run(talk(app, "/s/1")) for _ in range(4)]
    assert said == [passed, passed, [1008], [1008]]


def test_websockets_with_options(
    client: Client[Any], serve: Callable[[Any], Asgi]
) -> None:
    async def who(connection: Any) -> str:
        assert connection.scope["type"] == "websocket"
        return "anybody"

    options = {"key": who, "error_message": lambda decision: "later"}
    app = socket_of_app(limit("2/hour", cost=lambda connection: 2, **options))
    loop = serve(app)
    assert [len(loop.run(talk(app, "/s/1"))) for _ in range(2)] == [3, 1]


def test_a_websocket_is_not_cached() -> None:
    with pytest.raises(TypeError, match="WebSocket"):
        cached(ttl=60)(hello)
