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
from types import ModuleType
from typing import Any

import pytest
import redlane
from http_tools import Asgi, Wsgi, ask_asgi
from servers import Server
from test_docs import DOCS, FENCE, Block, read_blocks
from upstash_gateway import running_gateway

PAGE = DOCS / "coming-from.md"
LIBRARIES = (
    *("Flask-Caching", "fastapi-cache", "cashews", "Flask-Limiter", "slowapi"),
    *("redis-py", "upstash-redis"),
)
# Where redlane does not speak to Upstash over HTTP, its program runs on the server that
# stands behind the gateway.
SPEAKS_REST = "token" in inspect.signature(redlane.Client).parameters

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
        self, names: dict[str, Any], database: Database, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.names = names
        self.database = database
        self.loop = loop

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


def test_each_library_has_its_pair() -> None:
    found = pairs()
    assert tuple(found) == LIBRARIES
    for title, blocks in found.items():
        assert [("redlane" in block.text) for block in blocks] == [False, True], title


@pytest.mark.parametrize("column", ["theirs", "redlane"])
@pytest.mark.parametrize("library", LIBRARIES)
def test_programs_of_a_pair(
    library: str,
    column: str,
    redis_server: Server,
    monkeypatch: pytest.MonkeyPatch,
    loop: asyncio.AbstractEventLoop,
) -> None:
    theirs = column == "theirs"
    block = pairs()[library][0 if theirs else 1]
    url = redis_server.url if theirs else redis_server.patient_url
    text = block.text.replace("redis://localhost:6379/0", url)
    redlane.close_default_client()
    with running_gateway(redis_server.port) as gateway:
        if theirs or SPEAKS_REST:
            text = text.replace("https://xxx.upstash.io", gateway.url)
            text = text.replace('"TOKEN"', repr(gateway.token))
        else:
            text = text.replace('"https://xxx.upstash.io", token="TOKEN"', repr(url))
        database = Database()
        module = ModuleType("shop")
        monkeypatch.setitem(sys.modules, "shop", module)
        module.database = database  # type: ignore[attr-defined]
        where = f"{PAGE.name}:{block.line}"
        asyncio.set_event_loop(loop)
        try:
            exec(compile(text, where, "exec"), vars(module))
            CHECKS[library](Program(vars(module), database, loop))
        finally:
            asyncio.set_event_loop(None)
            redlane.close_default_client()
    assert "6379" not in text
    if library == "upstash-redis" and (theirs or SPEAKS_REST):
        assert gateway.requests
