"""The page on coming from other libraries: both programs of each pair are run against a
real server, and answer alike.

Each `##` of the page that names a library has two blocks of Python: that library's,
then redlane's. They find `database` in their namespace.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import httpx
import pytest
import redis
import redlane
from fastapi_cache import FastAPICache
from http_tools import Asgi, Wsgi, ask_asgi
from servers import PORTS, Server, free_port
from slowapi import Limiter
from test_docs import DOCS, FENCE, Block, read_blocks
from upstash_gateway import Gateway, running_gateway
from upstash_redis import asyncio as upstash
from upstash_redis.errors import UpstashError

PAGE = DOCS / "coming-from.md"
COLUMNS = ["theirs", "redlane"]
LIBRARIES = (
    *("Flask-Caching", "fastapi-cache", "cashews", "Flask-Limiter", "slowapi"),
    *("redis-py", "upstash-redis"),
)

# What other libraries warn of when they are imported or run is not ours to mend.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def pairs() -> dict[str, list[Block]]:
    """The blocks of each part of the page."""
    text = PAGE.read_text(encoding="utf-8")
    heads = [
        (number, line[3:])
        for number, line in enumerate(FENCE.sub(hidden, text).splitlines(), 1)
        if line.startswith("## ")
    ]
    found: dict[str, list[Block]] = {title: [] for _, title in heads}
    for block in read_blocks(PAGE):
        if block.kind == "python":
            title = [title for number, title in heads if number < block.line][-1]
            found[title].append(block)
    return found


def hidden(match: Any) -> str:
    """As many lines, with nothing in them."""
    return "\n" * match[0].count("\n")


class Database:
    """What takes long: counts how often it is asked."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.broken = False

    def report(self) -> str:
        self.asked["report"] += 1
        return "a report"

    def name(self, user_id: int) -> str:
        self.asked[f"name {user_id}"] += 1
        return f"user {user_id}"

    async def item(self, item_id: int) -> dict[str, int]:
        self.asked[f"item {item_id}"] += 1
        return {"item": item_id}

    async def profile(self, user_id: int) -> dict[str, int]:
        self.asked[f"profile {user_id}"] += 1
        return {"user": user_id}

    async def rate(self, currency: str) -> float:
        if self.broken:
            raise ConnectionError("the bank does not answer")
        return 1.25


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """One for the program's whole life, as it has where it is served."""
    made = asyncio.new_event_loop()
    yield made
    made.run_until_complete(made.shutdown_default_executor())
    made.close()


class Program:
    def __init__(
        self,
        names: dict[str, Any],
        database: Database,
        loop: asyncio.AbstractEventLoop,
        gateway: Gateway,
    ) -> None:
        self.names = names
        self.database = database
        self.loop = loop
        self.gateway = gateway

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)


def flask_caching(program: Program) -> None:
    app, asked = program.names["app"], program.database.asked
    ask = Wsgi(app)
    for page in ("1", "1", "2", "2"):
        assert ask(f"/report?page={page}").text == "a report"
    assert asked["report"] == 2
    with app.app_context():
        assert [program.names["name_of"](7) for _ in range(3)] == ["user 7"] * 3
        assert program.names["name_of"](8) == "user 8"
    assert asked["name 7"] == 1
    for _ in range(2):
        reply = ask("/users/7", method="POST")
        assert reply.status == 200
    assert asked["name 7"] == 3
    with app.app_context():
        program.names["name_of"](8)
    assert asked["name 8"] == 1


def fastapi_cache(program: Program) -> None:
    app, asked = program.names["app"], program.database.asked
    ask = Asgi(app)

    async def scenario() -> None:
        async with app.router.lifespan_context(app):
            for item in (3, 3, 4, 4):
                reply = await ask_asgi(app, f"/items/{item}")
                assert reply.text == f'{{"item":{item}}}'
            assert (asked["item 3"], asked["item 4"]) == (1, 1)
            assert (await ask_asgi(app, "/items", method="POST")).status == 200
            await ask_asgi(app, "/items/3")
            assert asked["item 3"] == 2

    ask.run(scenario())
    ask.close()


def cashews(program: Program) -> None:
    names, asked = program.names, program.database.asked

    async def scenario() -> None:
        for _ in range(3):
            assert await names["profile"](7) == {"user": 7}
        assert asked["profile 7"] == 1
        assert await names["rename"](7) == 7
        assert await names["profile"](7) == {"user": 7}
        assert asked["profile 7"] == 2
        assert await names["rate"]("CHF") == 1.25
        program.database.broken = True
        assert await names["rate"]("CHF") == 1.25
        with pytest.raises(ConnectionError, match="the bank"):
            await names["rate"]("SEK")
        if hasattr(names["cache"], "close"):  # redlane's ends with the loop
            await names["cache"].close()

    program.run(scenario())


def flask_limiter(program: Program) -> None:
    ask = Wsgi(program.names["app"])
    replies = [ask("/search") for _ in range(6)]
    assert [reply.status for reply in replies] == [200] * 5 + [429]
    assert replies[0]["X-RateLimit-Limit"] == "5"
    assert int(replies[5]["Retry-After"] or 0) > 0


def slowapi(program: Program) -> None:
    ask = Asgi(program.names["app"])
    replies = [ask("/search") for _ in range(6)]
    # A window of the clock may end meanwhile, once.
    if replies[5].status == 200:
        replies = replies[-1:] + [ask("/search") for _ in range(5)]
    assert [reply.status for reply in replies] == [200] * 5 + [429]
    assert b'"error"' in replies[5].body
    ask.run(redlane.aclose_default_client())
    ask.close()


def redis_py(program: Program) -> None:
    names = program.names
    user = {"name": "Ann", "city": "Bern"}
    assert names["visits"] == 1
    assert names["found"] == ["hello", user, 3600]
    assert "not an integer" in names["refused"]
    assert names["heard"] == ["news", "rain"]


def upstash_redis(program: Program) -> None:
    async def scenario() -> None:
        assert await program.names["play"]("5") == ["started", 1, 2]
        client = program.names["client"]
        await (client.close() if hasattr(client, "close") else client.aclose())

    program.run(scenario())


CHECKS = dict(
    zip(
        LIBRARIES,
        (
            *(flask_caching, fastapi_cache, cashews, flask_limiter, slowapi),
            *(redis_py, upstash_redis),
        ),
        strict=True,
    )
)


# How the pickles begin that the others leave.
PICKLED = {"Flask-Caching": b"!\x80", "cashews": b"\x80"}


def test_each_library_has_its_pair() -> None:
    found = pairs()
    assert tuple(found) == LIBRARIES
    for title, blocks in found.items():
        assert [("redlane" in block.text) for block in blocks] == [False, True], title


@contextmanager
def running(
    library: str, column: str, server: Server, loop: asyncio.AbstractEventLoop
) -> Iterator[Program]:
    """A program of the page, on that server, or on the gateway to it."""
    block = pairs()[library][COLUMNS.index(column)]
    url = server.url if column == "theirs" else server.patient_url
    text = block.text.replace("redis://localhost:6379/0", url)
    database = Database()
    module = ModuleType("shop")
    module.database = database  # type: ignore[attr-defined]
    redlane.close_default_client()
    FastAPICache.reset()  # else the first server of the process is its for ever
    with running_gateway(server.port) as gateway:
        text = text.replace("https://xxx.upstash.io", gateway.url)
        text = text.replace('"TOKEN"', repr(gateway.token))
        assert "6379" not in text
        assert "upstash.io" not in text
        sys.modules["shop"] = module
        asyncio.set_event_loop(loop)
        try:
            exec(compile(text, f"{PAGE.name}:{block.line}", "exec"), vars(module))
            yield Program(vars(module), database, loop, gateway)
        finally:
            del sys.modules["shop"]
            asyncio.set_event_loop(None)
            redlane.close_default_client()


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("library", LIBRARIES)
def test_programs_of_a_pair(
    library: str,
    column: str,
    redis_server: Server,
    loop: asyncio.AbstractEventLoop,
) -> None:
    with running(library, column, redis_server, loop) as program:
        CHECKS[library](program)
        over_http = len(program.gateway.requests)
    assert (over_http > 0) is (library == "upstash-redis")
    if column == "theirs" and library in PICKLED:
        keys = [
            key
            for key in redis_server.cli("KEYS", "*")
            if redis_server.cli("TYPE", key) == "string"
        ]
        stored = [redis_server.cli("GET", key) for key in keys]
        assert [value for value in stored if value.startswith(PICKLED[library])]


# --- what the page says of the others, but for what its programs show ---------------


def flask_caching_away(program: Program) -> None:
    app, asked = program.names["app"], program.database.asked
    with app.app_context():
        assert [program.names["name_of"](7) for _ in range(2)] == ["user 7"] * 2
        with pytest.raises(redis.ConnectionError):
            program.names["cache"].get("renamed")
    assert [Wsgi(app)("/report").status for _ in range(2)] == [200, 200]
    assert (asked["name 7"], asked["report"]) == (2, 2)


def fastapi_cache_away(program: Program) -> None:
    app = program.names["app"]

    async def scenario() -> None:
        async with app.router.lifespan_context(app):
            for _ in range(2):
                assert (await ask_asgi(app, "/items/3")).status == 200

    program.run(scenario())
    assert program.database.asked["item 3"] == 2


def cashews_away(program: Program) -> None:
    cache, calls = program.names["cache"], []

    @cache(ttl="5m", key="n:{n}")
    async def double(n: int) -> int:
        calls.append(n)
        return 2 * n

    async def scenario() -> None:
        assert [await double(4), await double(4), await cache.get("n:4")] == [
            8,
            8,
            None,
        ]
        await cache.close()

    program.run(scenario())
    assert calls == [4, 4]


def flask_limiter_away(program: Program) -> None:
    assert Wsgi(program.names["app"])("/search").status == 500


def slowapi_away(program: Program) -> None:
    ask = Asgi(program.names["app"])
    with pytest.raises(redis.ConnectionError):  # the server makes a 500 of it
        ask("/search")
    ask.close()


def redis_py_away(program: Program) -> None:
    with pytest.raises(redis.ConnectionError):
        program.names["client"].get("greeting")


def upstash_redis_away(program: Program) -> None:
    client, gateway = program.names["client"], program.gateway

    async def scenario() -> None:
        for error in ("the database is not available", "max daily request limit"):
            gateway.refuse(503, error, times=3)
            for _ in range(3):
                with pytest.raises(UpstashError, match=error):
                    await client.get("k")
        await client.close()

    program.run(scenario())
    assert len(gateway.requests) == 6


AWAY = {
    "Flask-Caching": flask_caching_away,
    "fastapi-cache": fastapi_cache_away,
    "cashews": cashews_away,
    "Flask-Limiter": flask_limiter_away,
    "slowapi": slowapi_away,
    "redis-py": redis_py_away,
    "upstash-redis": upstash_redis_away,
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_others_while_the_server_is_away(
    library: str,
    fresh_server: Server,
    loop: asyncio.AbstractEventLoop,
) -> None:
    with running(library, "theirs", fresh_server, loop) as program:
        fresh_server.kill()
        AWAY[library](program)


def test_what_the_tables_say_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("redis.retry.sleep", pauses.append)
    port = free_port()
    one = redis.Redis(port=port)
    other = redis.Redis.from_url(f"redis://127.0.0.1:{port}/0")
    for client, attempts in ((one, 11), (other, 1)):
        del pauses[:]
        with pytest.raises(redis.ConnectionError):
            client.get("k")
        assert len(pauses) == attempts - 1
        link = client.connection_pool.make_connection()
        assert (link.socket_timeout, link.socket_connect_timeout) == (5, 5)
        client.close()
    PORTS.release(port)

    options = inspect.signature(upstash.Redis).parameters
    assert options["rest_retries"].default == 1
    assert options["rest_retry_interval"].default == 3
    official = upstash.Redis("http://127.0.0.1:1", "token")
    assert not hasattr(official, "subscribe")
    assert official._http._client.timeout == httpx.Timeout(None)
    asyncio.run(official.close())

    limit = Limiter(key_func=lambda: "key").limit("5/hour")
    with pytest.raises(Exception, match='No "request"'):

        @limit
        async def search() -> None: ...
