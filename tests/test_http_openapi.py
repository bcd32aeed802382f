"""OpenAPI documents of decorated endpoints: those of bare ones, byte by byte."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from fastapi import (
    APIRouter,
    Body,
    Cookie,
    Depends,
    FastAPI,
    Header,
    HTTPException,
    Path,
    Query,
    Response,
    Security,
)
from fastapi.responses import HTMLResponse
from fastapi.security import APIKeyHeader, HTTPBearer, OAuth2PasswordBearer
from http_tools import Asgi
from pydantic import BaseModel
from redlane import Client, rate_limit
from redlane.fastapi import RateLimit, cached, limit
from starlette.requests import Request
from test_http_places import Decorate, Page, bare, client

__all__ = ["client"]  # a fixture

BEARER = HTTPBearer()


class Item(BaseModel):
    name: str
    price: float | None = None


class Problem(BaseModel):
    detail: str


def documented(decorate: Decorate, dependencies: list[Any]) -> FastAPI:
    """All that an endpoint may declare."""
    app = FastAPI(title="Site", version="1.2", dependencies=dependencies)
    router = APIRouter(
        prefix="/items", tags=["items"], responses={404: {"model": Problem}}
    )
    token = OAuth2PasswordBearer("token", scopes={"read": "Reads."}, auto_error=False)
    key = APIKeyHeader(name="X-Key", auto_error=False)

    async def user(found: str | None = Security(token, scopes=["read"])) -> str:
        if found is None:
            raise HTTPException(401)
        return found

    @router.get("/{name}", response_model=Item, summary="One", operation_id="one")
    @decorate
    async def one(
        name: Annotated[str, Path(min_length=1, description="Its name.")],
        request: Request,
        page: Annotated[Page, Depends()],
        q: Annotated[list[str] | None, Query(alias="tag")] = None,
        x_lang: str | None = Header(None),
        session: str | None = Cookie(None),
        who: str = Depends(user),
    ) -> Any:
        """Tells of one.

        At length.
        """

    @router.put("/{name}", status_code=201, deprecated=True)
    @decorate
    def put(
        name: str, item: Item, note: str = Body(""), *, force: bool = False
    ) -> Item:
        return item

    @router.delete("/{name}", status_code=204, response_class=Response)
    @decorate
    async def gone(name: str, found: str | None = Security(key)) -> Response:
        return Response(status_code=204)

    @app.get("/page", response_class=HTMLResponse, include_in_schema=True)
    @decorate
    def page(found: Annotated[Any, Depends(BEARER)]) -> str:
        return ""

    @app.get("/hidden", include_in_schema=False)
    @decorate
    def hidden() -> str:
        return ""

    @app.api_route("/both", methods=["GET", "POST"], name="both")
    @decorate
    def both(response: Response) -> dict[str, Item]:
        return {}

    app.include_router(router, prefix="/v1")
    inner = FastAPI(title="Inner")
    inner.add_api_route("/{name}", put)
    app.mount("/inner", inner)
    return app


DECORATORS: dict[str, Decorate] = {
    "cached": cached(ttl=60),
    "cached by key": cached(ttl=60, vary=["X-More"], query=False, key="k", gzip=True),
    "limit": limit("5/minute"),
    "limit, cached": lambda function: limit("5/minute")(cached(ttl=60)(function)),
    "cached, limit": lambda function: cached(ttl=60)(limit("5/minute")(function)),
    "rate_limit": rate_limit("5/minute"),
    "all": lambda f: rate_limit("9/hour")(limit("5/minute")(cached(ttl=60)(f))),
}


def schema_of(app: FastAPI) -> bytes:
    """As it is served."""
    ask = Asgi(app)
    try:
        reply = ask("/openapi.json")
        assert reply.status == 200, reply
        return reply.body + ask("/inner/openapi.json").body
    finally:
        ask.close()


@pytest.mark.filterwarnings("ignore:Duplicate Operation ID")  # it is there bare, too
@pytest.mark.parametrize("name", DECORATORS)
def test_openapi_is_the_same_byte_by_byte(name: str, client: Client[Any]) -> None:
    plain = schema_of(documented(bare, []))
    assert b'"/v1/items/{name}"' in plain
    assert b"Tells of one" in plain
    decorated = documented(DECORATORS[name], [Depends(RateLimit("5/minute"))])
    assert schema_of(decorated) == plain
