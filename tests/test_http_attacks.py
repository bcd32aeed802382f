"""Attempts to get another's response, or a wrong one, and to stop what serves them."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

import pytest
from aio import until
from fastapi import FastAPI, Header
from fastapi import Request as FastRequest
from flask import Flask, g, make_response
from flask import request as flask_request
from http_sites import FRAMEWORKS, FlaskSite, Site, site_of
from http_tools import Asgi, Reply, Wsgi, ask_asgi, takes_models_of_fields
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AliasChoices, BaseModel, Field, model_validator
from redlane import Cache, Client, ConfigurationError
from redlane._http.policy import Policy
from redlane._http.share import Shared
from redlane._http.wsgi import WsgiRequest
from redlane.fastapi import CacheMiddleware, cached
from redlane.flask import Redlane
from starlette.authentication import (
    AuthCredentials,
    AuthenticationBackend,
    SimpleUser,
)
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.responses import PlainTextResponse, Response, StreamingResponse

Read = Callable[[str], str | None]


@pytest.fixture(params=FRAMEWORKS)
def site(client: Any, request: pytest.FixtureRequest) -> Iterator[Site]:
    with site_of(request.param, client) as made:
        yield made


@pytest.fixture
def fast(client: Any) -> Iterator[Any]:
    app = FastAPI()
    app.add_middleware(CacheMiddleware)
    ask = Asgi(app)
    yield app, ask
    ask.run(client.aio.close())
    ask.close()


def counting(**fields: str) -> Any:
    """A route that answers 1, 2, 3, …"""
    numbers = itertools.count(1)
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return lambda read: (200, str(next(numbers)), named)


def words(ask: Any, target: str, *requests: dict[str, str]) -> list[tuple[str, Any]]:
    replies = [ask(target, headers) for headers in requests]
    return [(reply.text, reply.word) for reply in replies]


# --- who asks, in ways that no field's name tells -------------------------------------


@pytest.mark.parametrize("name", ["user", "current_user", "tenant_id"])
def test_flask_users_that_a_hook_has_found(name: str, client: Any) -> None:
    app = Flask("site")
    app.config["REDLANE_CLIENT"] = client
    lane = Redlane(app)

    @app.before_request
    def find() -> None:
        setattr(g, name, flask_request.headers.get("X-Who-Knows"))

    @app.get("/x")
    @lane.cached(ttl=60)
    def view() -> str:
        return str(getattr(g, name))

    alice, bob = {"X-Who-Knows": "alice"}, {"X-Who-Knows": "bob"}
    asked = [alice, bob, {}, {}, alice]
    assert [text for text, _ in words(Wsgi(app), "/x", *asked)] == [
        *("alice", "bob", "None", "None", "alice")
    ]
    assert Wsgi(app)("/x").word == "HIT"


def test_flask_users_that_the_view_finds(client: Any) -> None:
    app = Flask("site")
    app.config["REDLANE_CLIENT"] = client
    lane = Redlane(app)

    @app.get("/x")
    @lane.cached(ttl=60)
    def view() -> str:
        g.user = flask_request.headers.get("X-Who-Knows")
        return str(g.user)

    alice, bob = {"X-Who-Knows": "alice"}, {"X-Who-Knows": "bob"}
    assert words(Wsgi(app), "/x", alice, bob) == [
        ("alice", "BYPASS"),
        ("bob", "BYPASS"),
    ]


def test_a_user_of_the_server_that_the_client_denies(client: Any) -> None:
    """Where REMOTE_USER is in the key, no field of the client's stands in for it."""
    app = Flask("site")
    app.config["REDLANE_CLIENT"] = client
    lane = Redlane(app)

    @app.get("/x")
    @lane.cached(ttl=60, vary=["Remote-User"])
    def view() -> str:
        return str(flask_request.remote_user)

    def served_as(user: str) -> Wsgi:
        def server(environ: Any, start: Any) -> Any:
            return app.wsgi_app({**environ, "REMOTE_USER": user}, start)

        return Wsgi(server)

    for _ in range(2):
        assert served_as("bob")("/x").text == "bob"
        assert served_as("alice")("/x", {"Remote-User": "bob"}).text == "alice"


class _Knows(AuthenticationBackend):
    async def authenticate(self, conn: Any) -> Any:
        who = conn.headers.get("x-who-knows")
        return None if who is None else (AuthCredentials(["in"]), SimpleUser(who))


def test_starlette_users(client: Any, fast: Any) -> None:
    app, ask = fast
    app.add_middleware(AuthenticationMiddleware, backend=_Knows())

    @app.get("/x")
    @cached(client=client, ttl=60)
    async def endpoint(request: FastRequest) -> str:
        return str(request.user.display_name)

    alice, bob = {"X-Who-Knows": "alice"}, {"X-Who-Knows": "bob"}
    assert words(ask, "/x", alice, bob, {}, {}) == [
        *(('"alice"', "BYPASS"), ('"bob"', "BYPASS")),
        *(('""', "MISS"), ('""', "HIT")),
    ]


def test_users_in_the_state_of_a_request(client: Any, fast: Any) -> None:
    app, ask = fast

    @app.middleware("http")
    async def find(request: FastRequest, call_next: Any) -> Any:
        request.state.user = request.headers.get("x-who-knows")
        return await call_next(request)

    @app.get("/x")
    @cached(client=client, ttl=60)
    async def endpoint(request: FastRequest) -> str:
        return str(request.state.user)

    alice, bob = {"X-Who-Knows": "alice"}, {"X-Who-Knows": "bob"}
    assert words(ask, "/x", alice, bob, {}, {}) == [
        *(('"alice"', "BYPASS"), ('"bob"', "BYPASS")),
        *(('"None"', "MISS"), ('"None"', "HIT")),
    ]


def test_certificates_of_asgi() -> None:
    client = Client("memory://")
    app = FastAPI()

    @app.get("/x")
    @cached(client=client, ttl=60)
    async def endpoint(request: FastRequest) -> str:
        tls = request.scope["extensions"].get("tls") or {}
        return str(tls.get("client_cert_name"))

    def served_to(name: str | None) -> Asgi:
        async def server(scope: Any, receive: Any, send: Any) -> None:
            tls = {"tls": {"client_cert_name": name, "client_cert_chain": []}}
            await app({**scope, "extensions": tls}, receive, send)

        return Asgi(server)

    asked: list[Asgi] = []
    for name in ("CN=alice", "CN=bob", None, None):
        asked.append(served_to(name))
        assert asked[-1]("/x").text == f'"{name}"'
    for ask in asked:
        ask.close()


class AnyField(BaseModel, extra="allow"):
    pass


class Underscored(BaseModel):
    who_knows: str = "-"


class Chosen(BaseModel):
    who: str = Field("-", validation_alias=AliasChoices("x-one", "x-who-knows"))


class Before(BaseModel):
    who: str = "-"

    @model_validator(mode="before")
    @classmethod
    def find(cls, given: Any) -> Any:
        return {"who": given.get("x-who-knows", "-")}


MODELS: list[tuple[type[BaseModel], str, bool]] = [
    (AnyField, "X-Who-Knows", True),
    (Underscored, "who_knows", False),
    (Chosen, "X-Who-Knows", True),
    (Before, "X-Who-Knows", True),
]


@takes_models_of_fields
@pytest.mark.parametrize(("model", "field", "dashes"), MODELS)
def test_models_of_fields(
    model: Any, field: str, dashes: bool, client: Any, fast: Any
) -> None:
    app, ask = fast

    async def endpoint(fields: Any) -> dict[str, Any]:
        told: dict[str, Any] = fields.model_dump()
        return told

    read = Annotated[model, Header(convert_underscores=dashes)]
    endpoint.__annotations__["fields"] = read
    app.get("/x")(cached(client=client, ttl=60)(endpoint))
    for _ in range(2):
        for who in ("alice", "bob"):
            assert f'"{who}"' in ask("/x", {field: who}).text


def test_a_body_that_nothing_announces(client: Any, fast: Any) -> None:
    """HTTP/2 needs no Content-Length: what comes with a GET poisons nothing."""
    app, ask = fast

    @app.get("/x")
    @cached(client=client, ttl=60)
    async def endpoint(request: FastRequest) -> str:
        return (await request.body()).decode()

    async def poisoned(scope: Any, receive: Any, send: Any) -> None:
        async def evil() -> dict[str, Any]:
            return {"type": "http.request", "body": b"evil", "more_body": False}

        await app(scope, evil, send)

    assert ask.run(ask_asgi(poisoned, "/x")).text == '"evil"'
    assert ask("/x").text == '""'


@pytest.mark.parametrize(
    "field",
    ["X-HTTP-Method-Override", "X-Original-URL", "X-Tenant-ID", "Client-Cert"],
)
def test_fields_that_change_what_is_asked(site: Site, field: str) -> None:
    site.route("/x", counting(), ttl=60, ahead=True)
    assert words(site, "/x", {}, {}, {field: "y"}, {}) == [
        *(("1", "MISS"), ("1", "HIT"), ("2", "BYPASS"), ("1", "HIT"))
    ]


# --- keys -----------------------------------------------------------------------------


SHARED = Shared(Cache("memory://"), Policy(ttl=60, vary=["X"]))
ODD = st.lists(st.sampled_from([*':"*?[]\\{}%/ab\x7f\n\xff', "http"]), max_size=5)


@given(*[st.tuples(*[ODD.map("".join)] * 3)] * 2, st.data())
@settings(max_examples=60, deadline=None)
def test_keys_tell_requests_apart(
    one: tuple[str, ...], other: tuple[str, ...], data: st.DataObject
) -> None:
    """Whatever a client writes: host, path, query and a field are four things."""
    shared = SHARED
    header = [data.draw(st.none() | ODD.map("".join)) for _ in range(2)]

    def key_of(parts: tuple[str, ...], value: str | None) -> str:
        environ = {"REQUEST_METHOD": "GET", "wsgi.url_scheme": "http"}
        environ.update(HTTP_HOST=parts[0], PATH_INFO=parts[1], QUERY_STRING=parts[2])
        if value is not None:
            environ["HTTP_X"] = value
        asked = WsgiRequest(environ)
        key = shared.key_of(asked, shared.policy.plan(asked))
        return str(shared.key_text(*key, None))

    same = (one, header[0]) == (other, header[1])
    assert (key_of(one, header[0]) == key_of(other, header[1])) is same


def test_a_text_as_key_ahead_of_routing(site: Site) -> None:
    site.route("/x", counting(), ttl=60, key="all", ahead=True)
    assert [site(t).text for t in ("/x", "/x?a", "/x?b", "/x")] == ["1"] * 4


def test_keys_that_cannot_be() -> None:
    for options in ({"key": str}, {"on_error": "stale"}):
        with pytest.raises(ConfigurationError, match="ahead=True"):
            Redlane().cached(ahead=True, **options)
        with pytest.raises(ConfigurationError, match="ahead=True"):
            cached(ahead=True, **options)(lambda: None)


def test_keys_that_are_no_text(client: Any) -> None:
    app = Flask("site")
    app.config.update(REDLANE_CLIENT=client, PROPAGATE_EXCEPTIONS=True)
    view = Redlane(app).cached(ttl=60, key=lambda: 5)(lambda: "x")
    app.add_url_rule("/x", view_func=view, endpoint="x")
    with pytest.raises(TypeError, match="a text, not int"):
        Wsgi(app)("/x")


def test_queries_by_bytes_and_by_escapes(site: Site) -> None:
    site.route("/x", counting(), ttl=60, query=["name"])
    assert site("/x?name=%C3%A9").text == "1"
    assert site("/x?name=%C3%83%C2%A9").text == "2"
    if isinstance(site, FlaskSite):
        assert site("/x?name=\xc3\xa9").text == "1"


def test_cookies_with_and_without_a_value(site: Site) -> None:
    site.route("/x", counting(), ttl=60, vary=["Cookie"])
    assert site("/x", {"Cookie": "a"}).text == "1"
    assert site("/x", {"Cookie": "a="}).text == "2"


# --- what views make ------------------------------------------------------------------


def test_gzip_that_is_none(site: Site) -> None:
    body = {"Content-Encoding": "gzip"}
    site.route("/x", lambda read: (200, "no gzip", body), ttl=60)
    for _ in range(2):
        reply = site("/x")
        assert (reply.status, reply.text) == (200, "no gzip")
        assert reply["Content-Encoding"] == "gzip"


def test_gzip_in_several_pieces(client: Any) -> None:
    app = Flask("site")
    app.config["REDLANE_CLIENT"] = client
    lane = Redlane(app)
    packed = gzip.compress(b"one ") + gzip.compress(b"two")

    @app.get("/x")
    @lane.cached(ttl=60)
    def view() -> Any:
        return packed, {"Content-Encoding": "gzip"}

    for _ in range(2):
        assert Wsgi(app)("/x").text == "one two"
        assert Wsgi(app)("/x", {"Accept-Encoding": "gzip"}).body == packed


def test_a_response_without_a_type_gets_none(client: Any) -> None:
    app = Flask("site")
    app.config["REDLANE_CLIENT"] = client
    lane = Redlane(app)

    @app.get("/x")
    @lane.cached(ttl=60)
    def view() -> Any:
        made = make_response("<script>")
        del made.headers["Content-Type"]
        return made

    assert [Wsgi(app)("/x")["Content-Type"] for _ in range(3)] == [None] * 3


def test_responses_that_send_themselves(client: Any, fast: Any) -> None:
    app, ask = fast

    class Own(Response):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await PlainTextResponse("own")(scope, receive, send)

    @app.get("/x")
    @cached(client=client, ttl=60)
    async def endpoint() -> Response:
        return Own("body")

    assert [ask("/x").text for _ in range(2)] == ["own", "own"]


# --- its time -------------------------------------------------------------------------


def test_what_was_old_when_it_came_ends_in_time(site: Site, client: Any) -> None:
    site.route("/x", counting(Age="3500"), ttl=3600)
    assert site("/x").text == "1"
    assert 0 < client.pttl(client.keys("*")[0]) <= 100_000


def test_what_is_nobody_s_any_more_is_not_served_for_want_of_better(
    site: Site,
) -> None:
    """With on_error an old response stands in for failures, not for what is private."""
    numbers = itertools.count(1)

    def answer(read: Read) -> tuple[int, str, dict[str, str]]:
        number = next(numbers)
        return 200, str(number), {} if number == 1 else {"Cache-Control": "private"}

    site.route("/x", answer, ttl=0.05, on_error="stale")
    assert site("/x").text == "1"
    end = time.monotonic() + 30
    while site("/x").text == "1":
        assert time.monotonic() < end
        time.sleep(0.02)
    assert words(site, "/x", {}, {}) == [("3", "BYPASS"), ("4", "BYPASS")]


# --- made anew, while nobody waits ----------------------------------------------------


@pytest.mark.parametrize("ahead", [False, True])
def test_a_refill_that_is_answered_with_a_stream(
    ahead: bool, client: Any, fast: Any
) -> None:
    """Nobody listens to it: it is left, even if it never ends, and the loop goes on."""
    app, ask = fast
    sent: list[bytes] = []

    async def forever() -> AsyncIterator[bytes]:
        while True:
            sent.append(b"x")
            yield b"x"

    answers: Iterator[Response] = itertools.chain(
        [PlainTextResponse("first")],
        (StreamingResponse(forever()) for _ in itertools.repeat(0)),
    )

    @app.get("/x")
    @cached(client=client, ttl=0.2, stale=60, ahead=ahead)
    async def endpoint() -> Response:
        return next(answers)

    async def asked() -> Reply:
        replies = [await ask_asgi(app, "/x")]
        while replies[-1].word != "STALE":
            await asyncio.sleep(0.05)
            replies.append(await ask_asgi(app, "/x"))
        await until(lambda: sent, "a response made anew")
        for _ in range(50):
            await asyncio.sleep(0.001)
        return replies[-1]

    assert ask.run(asked()).text == "first"
    assert len(sent) <= 3


@pytest.mark.parametrize("ahead", [False, True])
def test_a_flask_refill_that_is_answered_with_a_stream(
    ahead: bool, client: Any
) -> None:
    app = Flask("site")
    app.config["REDLANE_CLIENT"] = client
    lane = Redlane(app)
    closed = []

    def forever() -> Iterator[str]:
        yield from itertools.repeat("x")

    calls = itertools.count()

    @app.get("/x")
    @lane.cached(ttl=0.2, stale=60, ahead=ahead)
    def view() -> Any:
        if next(calls) == 0:
            return "first"
        made = app.response_class(forever())
        made.call_on_close(lambda: closed.append(True))
        return made

    ask = Wsgi(app)
    reply = ask("/x")
    end = time.monotonic() + 30
    while reply.word != "STALE":
        assert time.monotonic() < end
        time.sleep(0.05)
        reply = ask("/x")
    assert reply.text == "first"
    while not closed:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_client_that_leaves_in_mid_fill(client: Any, fast: Any) -> None:
    app, ask = fast
    started = asyncio.Event()
    numbers = itertools.count(1)

    @app.get("/x")
    @cached(client=client, ttl=60)
    async def endpoint() -> int:
        number = next(numbers)
        started.set()
        if number == 1:
            await asyncio.sleep(60)
        return number

    async def asked() -> list[Reply]:
        leaver = asyncio.ensure_future(ask_asgi(app, "/x"))
        await started.wait()
        others = [asyncio.ensure_future(ask_asgi(app, "/x")) for _ in range(5)]
        await asyncio.sleep(0.05)
        leaver.cancel()
        return await asyncio.gather(*others)

    replies = ask.run(asked())
    assert [reply.text for reply in replies] == ["2"] * 5


# --- changes --------------------------------------------------------------------------


def test_a_change_by_another_worker_drops_all_variants(redis_server: Any) -> None:
    """One that has never seen that the responses vary."""
    made = [Client(redis_server.patient_url) for _ in range(2)]
    for client in made:
        client.flushdb()
    numbers = itertools.count(1)

    def answer(read: Read) -> tuple[int, str, dict[str, str]]:
        fields = {"Vary": "Accept-Language"}
        return 200, f"{read('accept-language')} {next(numbers)}", fields

    workers = [FlaskSite(client) for client in made]
    for worker in workers:
        worker.route("/x", answer, methods=("GET", "POST"), ttl=60)
    en, de = {"Accept-Language": "en"}, {"Accept-Language": "de"}
    assert words(workers[0], "/x", en, de) == [("en 1", "MISS"), ("de 2", "MISS")]
    workers[1]("/x", method="POST")
    end = time.monotonic() + 30
    while workers[0]("/x", de).text == "de 2":
        assert time.monotonic() < end
    assert workers[0]("/x", en).text != "en 1"
    for client in made:
        client.close()
