"""Nobody sees another's response, whatever it is that tells who asks."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Cookie, Depends, FastAPI, Header, Query, Response
from fastapi import Request as FastRequest
from fastapi.security import (
    APIKeyCookie,
    APIKeyHeader,
    APIKeyQuery,
    HTTPBasic,
    HTTPBasicCredentials,
    HTTPBearer,
    OAuth2PasswordBearer,
)
from flask import Flask, session
from flask import request as flask_request
from http_sites import FRAMEWORKS, Site, site_of
from http_tools import Asgi, Wsgi
from redlane import ConfigurationError
from redlane.fastapi import CacheMiddleware, cached
from redlane.flask import Redlane
from starlette.middleware.sessions import SessionMiddleware

Read = Callable[[str], str | None]

# How a user says who he is: header and value, or None for the query.
WAYS: dict[str, Callable[[str], tuple[str, dict[str, str]]]] = {
    "Authorization": lambda who: ("/x", {"Authorization": f"Bearer {who}"}),
    "Cookie": lambda who: ("/x", {"Cookie": f"session={who}"}),
    "X-API-Key": lambda who: ("/x", {"X-API-Key": who}),
    "X-Auth-Token": lambda who: ("/x", {"X-Auth-Token": who}),
    "X-Forwarded-User": lambda who: ("/x", {"X-Forwarded-User": who}),
    "query": lambda who: (f"/x?token={who}", {}),
}
FIELDS = ("Authorization", "Cookie", "X-API-Key", "X-Auth-Token", "X-Forwarded-User")


@pytest.fixture(params=FRAMEWORKS)
def site(client: Any, request: pytest.FixtureRequest) -> Iterator[Site]:
    with site_of(request.param, client) as made:
        yield made


@pytest.mark.parametrize("options", [{}, {"ahead": True}, {"stale": 60}], ids=str)
def test_two_users(site: Site, options: dict[str, Any]) -> None:
    def answer(read: Read) -> tuple[int, str, dict[str, str]]:
        return 200, " ".join(read(name) or "-" for name in FIELDS), {}

    site.route("/x", answer, ttl=60, **options)
    site("/x")
    for way, who in itertools.product(WAYS, ("alice", "bob", "alice", "bob")):
        target, headers = WAYS[way](who)
        reply = site(target, headers)
        for other in {"alice", "bob"} - {who}:
            assert other not in reply.text
        if headers:
            assert who in reply.text
            assert reply.word == "BYPASS"
    nobody = site("/x")
    assert nobody.text == "- - - - -"
    assert nobody.word == "HIT"


def test_two_users_of_a_route_that_varies(site: Site) -> None:
    varies = ("Authorization", "X-API-Key", "Cookie")
    for vary in varies:

        def answer(read: Read, vary: str = vary) -> tuple[int, str, dict[str, str]]:
            return 200, str(read(vary)), {}

        site.route(f"/{vary}", answer, ttl=60, vary=[vary])
    for vary in varies:
        check_varying(site, vary, f"/{vary}")


def check_varying(site: Site, vary: str, path: str) -> None:
    for word in ("MISS", "HIT"):
        for who in ("alice", "bob"):
            reply = site(path, {vary: f"who={who}"})
            assert (reply.text, reply.word) == (f"who={who}", word)
            assert str(reply["Cache-Control"]).startswith("private")
            assert vary.lower() in str(reply["Vary"]).lower()


def test_a_token_in_a_query_that_does_not_count(site: Site) -> None:
    numbers = itertools.count(1)
    site.route("/x", lambda read: (200, str(next(numbers)), {}), ttl=60, query=False)
    for number in ("1", "2"):
        assert site(f"/x?access_token={number}").text == number
    assert site("/x").text == site("/x?utm_source=mail").text == "3"


def test_harmless_cookies(site: Site) -> None:
    numbers = itertools.count(1)

    def answer(read: Read) -> tuple[int, str, dict[str, str]]:
        return 200, str(next(numbers)), {}

    site.route("/x", answer, ttl=60, ignore_cookies=["_ga*", "_pk_id"])
    assert site("/x").text == "1"
    assert site("/x", {"Cookie": "_ga=1"}).text == "1"
    assert site("/x", {"Cookie": "_ga_ABC=2; _pk_id=3"}).word == "HIT"
    assert site("/x", {"Cookie": "_ga=1; session=s"}).word == "BYPASS"


def test_a_public_route_is_everybody_s(site: Site) -> None:
    numbers = itertools.count(1)
    site.route("/x", lambda read: (200, str(next(numbers)), {}), ttl=60, public=True)
    assert site("/x", {"Authorization": "a", "Cookie": "b=c"}).text == "1"
    reply = site("/x")
    assert (reply.text, reply.word) == ("1", "HIT")
    assert str(reply["Cache-Control"]).startswith("public")


def test_no_secret_is_told(
    site: Site, caplog: pytest.LogCaptureFixture, client: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    site.route("/x", lambda read: (200, "x", {}), ttl=60, vary=["Authorization"])
    for _ in range(2):
        reply = site("/x?token=canary-q", {"Authorization": "canary-a"})
    assert reply.word == "HIT"
    keys = b" ".join(client.keys("*"))
    assert b"/x" in keys
    assert b"canary" not in keys
    assert "canary" not in caplog.text


# --- Flask --------------------------------------------------------------------------


def test_flask_sessions(client: Any) -> None:
    app = Flask("site")
    app.secret_key = "of a test"
    app.config["REDLANE_CLIENT"] = client
    lane = Redlane(app)

    @app.get("/who")
    @lane.cached(ttl=60)
    def who() -> str:
        return str(session.get("who"))

    @app.get("/who/public")
    @lane.cached(ttl=60, public=True)
    def public() -> str:
        return str(session.get("who"))

    @app.get("/in/<name>")
    @lane.cached(ttl=60)
    def enter(name: str) -> str:
        session["who"] = name
        return name

    for path in ("/who", "/who/public"):
        assert Wsgi(app)(path).text == "None"  # and is not stored
        for name in ("alice", "bob", "alice"):
            browser = app.test_client()
            assert browser.get(f"/in/{name}").text == name
            assert browser.get(path).text == name
        reply = Wsgi(app)(path)
        assert (reply.text, reply.word) == ("None", "BYPASS")


def test_flask_hooks_of_one_response(client: Any) -> None:
    """What a view adds to its response later is its request's alone."""
    from flask import after_this_request

    app = Flask("site")
    app.config["REDLANE_CLIENT"] = client
    lane = Redlane(app)
    numbers = itertools.count(1)

    @app.get("/x")
    @lane.cached(ttl=60)
    def view() -> str:
        number = str(next(numbers))

        @after_this_request
        def more(response: Any) -> Any:
            response.set_cookie("n", number)
            return response

        return number

    assert [Wsgi(app)("/x").text for _ in range(2)] == ["1", "2"]


def test_flask_users_of_the_server(client: Any) -> None:
    """REMOTE_USER, which a server sets itself."""
    app = Flask("site")
    app.config["REDLANE_CLIENT"] = client
    lane = Redlane(app)

    @app.get("/x")
    @lane.cached(ttl=60)
    def view() -> str:
        return str(flask_request.remote_user)

    inner = app.wsgi_app
    user: list[str | None] = [None]

    def server(environ: Any, start: Any) -> Any:
        if user[0] is not None:
            environ["REMOTE_USER"] = user[0]
        return inner(environ, start)

    for name in (None, "alice", "bob", None):
        user[0] = name
        assert Wsgi(server)("/x").text == str(name)


def test_flask_certificates_of_clients(client: Any) -> None:
    app = Flask("site")
    app.config["REDLANE_CLIENT"] = client
    lane = Redlane(app)

    @app.get("/x")
    @lane.cached(ttl=60)
    def view() -> str:
        return str(flask_request.environ.get("SSL_CLIENT_S_DN"))

    inner = app.wsgi_app

    def server(environ: Any, start: Any) -> Any:
        environ["SSL_CLIENT_S_DN"] = environ.get("HTTP_X_TEST_DN", "")
        return inner(environ, start)

    for name in ("", "CN=alice", "CN=bob", "CN=alice"):
        assert Wsgi(server)("/x", {"X-Test-DN": name}).text == name
    assert [Wsgi(server)("/x").word for _ in range(2)] == ["HIT", "HIT"]


# --- FastAPI ------------------------------------------------------------------------


@pytest.fixture
def fast(client: Any) -> Iterator[Any]:
    app = FastAPI()
    app.add_middleware(CacheMiddleware)
    ask = Asgi(app)
    yield app, ask
    ask.run(client.aio.close())
    ask.close()


async def of_request(request: FastRequest) -> str:
    return f"{request.headers.get('x-api-key')}"


async def of_header(x_whoever: str | None = Header(None)) -> str:
    return str(x_whoever)


async def of_cookie(whoever: str | None = Cookie(None)) -> str:
    return str(whoever)


async def nested(who: Annotated[str, Depends(of_header)]) -> str:
    return who


def basic(found: Annotated[HTTPBasicCredentials, Depends(HTTPBasic())]) -> str:
    return found.username


def bearer(found: Annotated[Any, Depends(HTTPBearer())]) -> str:
    return str(found.credentials)


ALICE, BOB = "YWxpY2U6eA==", "Ym9iOng="  # for Basic: alice:x, bob:x

DEPENDENCIES: dict[str, tuple[Any, str, dict[str, str], dict[str, str]]] = {
    "raw request": (of_request, "/x", {"X-API-Key": "alice"}, {"X-API-Key": "bob"}),
    "header": (of_header, "/x", {"X-Whoever": "alice"}, {"X-Whoever": "bob"}),
    "nested": (nested, "/x", {"X-Whoever": "alice"}, {"X-Whoever": "bob"}),
    "cookie": (of_cookie, "/x", {"Cookie": "whoever=alice"}, {"Cookie": "whoever=bob"}),
    "OAuth2": (
        OAuth2PasswordBearer(tokenUrl="/t"),
        "/x",
        {"Authorization": "Bearer alice"},
        {"Authorization": "Bearer bob"},
    ),
    "Bearer": (
        bearer,
        "/x",
        {"Authorization": "Bearer alice"},
        {"Authorization": "Bearer bob"},
    ),
    "Basic": (
        basic,
        "/x",
        {"Authorization": f"Basic {ALICE}"},
        {"Authorization": f"Basic {BOB}"},
    ),
    "key header": (
        APIKeyHeader(name="X-Our-Key"),
        "/x",
        {"X-Our-Key": "alice"},
        {"X-Our-Key": "bob"},
    ),
    "key cookie": (
        APIKeyCookie(name="ours"),
        "/x",
        {"Cookie": "ours=alice"},
        {"Cookie": "ours=bob"},
    ),
    "key query": (APIKeyQuery(name="ours"), "/x?ours={}", {}, {}),
}


@pytest.mark.parametrize("routed", [False, True], ids=["app", "router"])
@pytest.mark.parametrize("kind", DEPENDENCIES)
def test_fastapi_dependencies(kind: str, routed: bool, client: Any, fast: Any) -> None:
    app, ask = fast
    options: dict[str, Any] = {"query": False} if "query" in kind else {}
    dependency, target, alice, bob = DEPENDENCIES[kind]

    async def endpoint(who: str = Depends(dependency)) -> dict[str, str]:
        return {"who": who}

    made = cached(client=client, ttl=60, **options)(endpoint)
    if routed:
        router = APIRouter(prefix="/r")
        router.add_api_route("/x", made)
        app.include_router(router)
        target = "/r" + target
    else:
        app.add_api_route("/x", made)
    words = []
    for _ in range(2):
        for name, headers in (("alice", alice), ("bob", bob)):
            reply = ask(target.format(name), headers)
            assert reply.status == 200
            assert reply.text == f'{{"who":"{name}"}}'
            words.append(reply.word)
    once = ["MISS", "MISS", "HIT", "HIT"]
    assert words == (["BYPASS"] * 4 if kind == "raw request" else once)


def test_fastapi_dependencies_of_an_included_router(client: Any, fast: Any) -> None:
    """What include_router adds counts, and so does each place of one endpoint."""
    app, ask = fast
    seen: ContextVar[str] = ContextVar("seen")

    async def remember(x_whoever: str = Header("nobody")) -> None:
        seen.set(x_whoever)

    router = APIRouter()

    @router.get("/x")
    @cached(client=client, ttl=60)
    async def endpoint() -> str:
        return seen.get("nobody")

    app.include_router(router, prefix="/a", dependencies=[Depends(remember)])
    app.include_router(router, prefix="/b")
    for _ in range(2):
        for name in ("alice", "bob"):
            assert ask("/a/x", {"X-Whoever": name}).text == f'"{name}"'
    assert ask("/b/x", {"X-Whoever": "alice"}).text == '"nobody"'


def test_fastapi_refused_users_stay_refused(client: Any, fast: Any) -> None:
    app, ask = fast

    async def check(authorization: str = Header()) -> str:
        from fastapi import HTTPException

        if authorization != "good":
            raise HTTPException(401)
        return authorization

    @app.get("/x", dependencies=[Depends(check)])
    @cached(client=client, ttl=60)
    async def endpoint() -> str:
        return "secret"

    for _ in range(2):
        assert ask("/x", {"Authorization": "good"}).status == 200
        assert ask("/x", {"Authorization": "bad"}).status == 401
        assert ask("/x").status == 422


def test_fastapi_security_is_not_gone_round(client: Any, fast: Any) -> None:
    app, ask = fast

    @app.get("/x", dependencies=[Depends(HTTPBearer())])
    @cached(client=client, ttl=60, ahead=True)
    async def endpoint() -> str:
        return "secret"

    with pytest.raises(ConfigurationError, match="security dependency"):
        ask("/x", {"Authorization": "Bearer x"})


def test_fastapi_overridden_dependencies(client: Any, fast: Any) -> None:
    app, ask = fast
    users = iter(["alice", "bob"])

    @app.get("/x")
    @cached(client=client, ttl=60)
    async def endpoint(who: str = Depends(of_header)) -> str:
        return who

    app.dependency_overrides[of_header] = lambda: next(users)
    assert [ask("/x").text for _ in range(2)] == ['"alice"', '"bob"']


def test_fastapi_sessions(client: Any, fast: Any) -> None:
    app, ask = fast
    app.add_middleware(SessionMiddleware, secret_key="of a test")

    @app.get("/who")
    @cached(client=client, ttl=60, public=True)
    async def who(request: FastRequest) -> str:
        return str(request.session.get("who"))

    @app.get("/in/{name}")
    @cached(client=client, ttl=60)
    async def enter(request: FastRequest, name: str) -> str:
        request.session["who"] = name
        return name

    for name in ("alice", "bob", "alice"):
        cookie = str(ask(f"/in/{name}")["Set-Cookie"]).split(";")[0]
        assert ask("/who", {"Cookie": cookie}).text == f'"{name}"'
    assert ask("/who").text == '"None"'


def test_fastapi_cookies_of_dependencies(client: Any, fast: Any) -> None:
    """A dependency that gives each visitor a cookie gives each his own."""
    app, ask = fast
    numbers = itertools.count(1)

    async def mark(response: Response) -> None:
        response.set_cookie("n", str(next(numbers)))

    @app.get("/x", dependencies=[Depends(mark)])
    @cached(client=client, ttl=60)
    async def endpoint(q: str = Query("")) -> str:
        return "x"

    cookies = [str(ask("/x")["Set-Cookie"]).split(";")[0] for _ in range(3)]
    assert cookies == ["n=1", "n=2", "n=3"]
