"""What is FastAPI's and Starlette's own: OpenAPI, response models, parameters,
dependencies, background tasks, the client, health."""

from __future__ import annotations

import itertools
import json
import logging
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
import redlane
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, Header, Response
from fastapi.responses import PlainTextResponse
from http_tools import Asgi, takes_models_of_fields
from pydantic import BaseModel
from redlane import Client
from redlane.fastapi import (
    cached,
    close_redis_client,
    get_redis_client,
    health_router,
    lifespan,
    response_cache,
)
from servers import Server
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.requests import Request
from starlette.routing import Mount, Route


class Item(BaseModel):
    name: str
    hidden: str = "x"
    none: str | None = None


@pytest.fixture
def fast(client: Any) -> Iterator[Any]:
    app = FastAPI()
    ask = Asgi(app)
    yield app, ask
    ask.run(client.aio.close())
    ask.close()


def routes_of(app: FastAPI, decorate: Any) -> None:
    """The same routes, decorated or not."""
    router = APIRouter(prefix="/r", tags=["r"])

    async def common(x_lang: str = Header("en")) -> str:
        return x_lang

    @app.get("/plain")
    @decorate
    def plain(q: int = 3, lang: str = Depends(common)) -> dict[str, Any]:
        """Says something."""
        return {"q": q, "lang": lang}

    @app.get("/item/{name}", response_model=Item, response_model_exclude={"hidden"})
    @decorate
    async def item(name: str, request: Request) -> Any:
        return {"name": name, "spam": 1}

    @app.get("/made", status_code=203, response_model_exclude_none=True)
    @decorate
    async def made(response: Response) -> Item:
        response.headers["X-Own"] = "kept"
        return Item(name="é")

    @router.get("/text", response_class=PlainTextResponse)
    @decorate
    async def text() -> str:
        return "text"

    app.include_router(router, prefix="/v1", dependencies=[Depends(common)])


def test_decorated_routes_are_as_they_were(client: Any, fast: Any) -> None:
    app, ask = fast
    routes_of(app, cached(client=client, ttl=60))
    bare = FastAPI()
    routes_of(bare, lambda function: function)
    assert app.openapi() == bare.openapi()
    other = Asgi(bare)
    for target in (
        "/plain",
        "/plain?q=4",
        "/plain?q=x",
        "/item/a",
        "/made",
        "/v1/r/text",
    ):
        wanted = other(target)
        for _ in range(2):
            got = ask(target)
            assert (got.status, got.body) == (wanted.status, wanted.body)
            for name in ("Content-Type", "X-Own"):
                assert got[name] == wanted[name]
        assert got.word == ("HIT" if wanted.status < 400 else None)
    other.close()


def test_the_endpoint_and_serialisation_run_once(client: Any, fast: Any) -> None:
    app, ask = fast
    calls: list[str] = []

    async def dependency() -> Any:
        calls.append("dependency")
        yield 1
        calls.append("end")

    @app.get("/x")
    @cached(client=client, ttl=60)
    def endpoint(one: int = Depends(dependency)) -> Item:
        calls.append("endpoint")
        return Item(name=str(one))

    assert [ask("/x").word for _ in range(3)] == ["MISS", "HIT", "HIT"]
    assert calls.count("endpoint") == 1
    assert calls.count("dependency") == calls.count("end") == 3


def test_background_tasks(client: Any, fast: Any) -> None:
    app, ask = fast
    done: list[str] = []

    @app.get("/x")
    @cached(client=client, ttl=60)
    async def endpoint(tasks: BackgroundTasks) -> str:
        tasks.add_task(done.append, "x")
        return "x"

    assert [ask("/x").word for _ in range(2)] == ["MISS", "HIT"]
    assert done == ["x"]


def test_headers_of_dependencies_are_each_request_s_own(client: Any, fast: Any) -> None:
    app, ask = fast
    numbers = itertools.count(1)

    async def mark(response: Response) -> None:
        response.headers["X-Number"] = str(next(numbers))

    @app.get("/x", dependencies=[Depends(mark)])
    @cached(client=client, ttl=60)
    async def endpoint(response: Response) -> str:
        response.headers["X-Own"] = "kept"
        return "x"

    replies = [ask("/x") for _ in range(3)]
    assert [reply["X-Number"] for reply in replies] == ["1", "2", "3"]
    assert [reply["X-Own"] for reply in replies] == ["kept"] * 3
    assert replies[2].word == "HIT"


def test_errors_pass(client: Any, fast: Any) -> None:
    from fastapi import HTTPException

    app, ask = fast
    numbers = itertools.count(1)

    @app.get("/x")
    @cached(client=client, ttl=60)
    async def endpoint() -> str:
        raise HTTPException(418, detail=str(next(numbers)))

    for number in (1, 2):
        reply = ask("/x")
        assert (reply.status, reply.text) == (418, f'{{"detail":"{number}"}}')


@takes_models_of_fields
def test_parameters_of_a_model(client: Any, fast: Any) -> None:
    class Fields(BaseModel):
        x_tenant: str = "none"

    app, ask = fast

    async def endpoint(fields: Any) -> str:
        return str(fields.x_tenant)

    endpoint.__annotations__["fields"] = Annotated[Fields, Header()]
    app.add_api_route("/x", cached(client=client, ttl=60)(endpoint))
    for _ in range(2):
        for name in ("a", "b"):
            assert ask("/x", {"X-Tenant": name}).text == f'"{name}"'


def test_mounted_applications(client: Any, fast: Any) -> None:
    app, ask = fast
    inner = FastAPI()
    numbers = itertools.count(1)

    @inner.get("/x")
    @cached(client=client, ttl=0.1, stale=300)
    async def endpoint() -> int:
        return next(numbers)

    app.mount("/a", inner)
    app.mount("/b", inner)
    assert [ask(t).text for t in ("/a/x", "/b/x", "/a/x")] == ["1", "2", "1"]
    import asyncio

    ask.run(asyncio.sleep(0.2))
    assert ask("/a/x").word == "STALE"
    for _ in range(3000):
        if ask("/a/x").text != "1":
            break
        ask.run(asyncio.sleep(0.01))
    assert int(ask("/a/x").text) > 2


def test_starlette_alone(client: Any) -> None:
    numbers = itertools.count(1)

    class Endpoint(HTTPEndpoint):
        @cached(client=client, ttl=60)
        async def get(self, request: Request) -> Any:
            return PlainTextResponse(str(next(numbers)))

    @cached(client=client, ttl=60)
    def function(request: Request) -> Any:
        return PlainTextResponse(f"{request.path_params} {next(numbers)}")

    inner = [Route("/f/{name}", function), Route("/e", Endpoint)]
    app = Starlette(routes=[Mount("/in", routes=inner)])
    ask = Asgi(app)
    for target in ("/in/f/a", "/in/f/b", "/in/e"):
        first, second = ask(target), ask(target)
        assert (first.word, second.word) == ("MISS", "HIT")
        assert first.body == second.body
    ask.run(client.aio.close())
    ask.close()


def test_wrong_options_are_told_where_they_stand() -> None:
    with pytest.raises(ValueError):
        cached(ttl=0)(lambda: None)
    with pytest.raises(TypeError):
        cached(ttl=60)(Item)


def test_tags(client: Any, fast: Any) -> None:
    app, ask = fast

    @app.get("/x")
    @cached(client=client, ttl=60, tags=["pages"])
    async def endpoint() -> str:
        return "x"

    assert [ask("/x").word for _ in range(2)] == ["MISS", "HIT"]
    ask.run(response_cache(client).aio.invalidate_tags("pages"))
    assert ask("/x").word == "MISS"


# --- the client, health -------------------------------------------------------------


def test_the_one_client(
    redis_server: Server,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_server.patient_url)
    caplog.set_level(logging.DEBUG, "redlane")
    ask = Asgi(None)

    async def use() -> None:
        first = get_redis_client()
        assert get_redis_client() is first
        await first.set("k", "é", ex=60)
        assert await first.get("k") == "é"
        await close_redis_client()
        await close_redis_client()
        assert first.closed
        second = get_redis_client()
        assert second is not first
        assert await second.get("k") == "é"
        await close_redis_client()

    ask.run(use())
    ask.close()
    assert "Redis client initialized with URL: redis://127.0.0.1" in caplog.text


def test_lifespan(redis_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", redis_server.patient_url)
    app = FastAPI(lifespan=lifespan)
    ask = Asgi(app)

    async def use() -> None:
        async with lifespan(app):
            client, default = get_redis_client(), redlane.default_client()
            assert await client.ping()
        assert client.closed
        assert default.closed

    ask.run(use())
    ask.close()


def test_health(client: Any, executor: str, fast: Any) -> None:
    app, ask = fast
    app.include_router(health_router(client))
    assert json.loads(ask("/health").body) == {"status": "ok"}
    told = json.loads(ask("/health/deep").body)
    assert told["status"] == "ok"
    assert told["redis"]["connected"] is (executor != "engine")


def test_health_in_starlette_alone(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    app = Starlette(routes=[Mount("/", health_router(client))])
    ask = Asgi(app)
    assert json.loads(ask("/health").body) == {"status": "ok"}
    assert json.loads(ask("/health/deep").body)["status"] == "ok"
    ask.run(client.aio.close())
    ask.close()


def test_health_without_redis(fresh_server: Server) -> None:
    client = Client(fresh_server.patient_url)
    app = FastAPI()
    app.include_router(health_router(client))
    ask = Asgi(app)
    assert json.loads(ask("/health/deep").body)["status"] == "ok"
    fresh_server.kill()
    reply = ask("/health/deep")
    assert (reply.status, json.loads(reply.body)["status"]) == (200, "degraded")
    assert str(fresh_server.port) not in reply.text
    client.close()
    ask.close()
