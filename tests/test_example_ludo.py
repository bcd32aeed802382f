"""examples/ludo over real HTTP and WebSockets, in one process and in two: on Redis, on
Upstash's REST protocol, on the memory engine, and while the server goes away and comes
back."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from browser import Page, browser
from ludo.app import config
from ludo.app import limits as ludo_limits
from ludo.app.dependencies import redis as ludo_redis
from outage_tools import Switch, wait_until
from running_example import RunningExample
from running_ludo import (
    KEY,
    Place,
    Player,
    create,
    online,
    play,
    running_ludo,
    sit,
    stored,
    two_processes,
)
from servers import Server
from upstash_gateway import running_gateway
from websocket_client import Closed, WebSocket

# While a link is in doubt a command waits as long as this at most.
ENOUGH = "?timeout=5&connect_timeout=5"
LINKS = ["redis", "upstash"]


@pytest.fixture(scope="module")
def ludo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningExample]:
    """On the engine."""
    folder = tmp_path_factory.mktemp("ludo")
    with running_ludo(folder, LUDO_ACTIONS="100000") as running:  # for a whole game
        yield running


def place_of(request: pytest.FixtureRequest) -> Place:
    if request.param == "engine":
        return Place()
    server: Server = request.getfixturevalue("session_server")
    if request.param == "redis":
        return Place(server)
    return Place(server, request.getfixturevalue("session_gateway"))


@pytest.fixture(scope="module", params=[*LINKS, "engine"])
def place(server_binary: str, request: pytest.FixtureRequest) -> Place:
    return place_of(request)


@pytest.fixture(scope="module")
def both(
    place: Place,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[RunningExample, RunningExample]]:
    """Two processes; the one of the engine."""
    if place.server is None:
        one: RunningExample = request.getfixturevalue("ludo")
        yield one, one
    else:
        with two_processes(tmp_path_factory.mktemp("both"), place) as two:
            yield two


@pytest.fixture(params=LINKS)
def link(fresh_server: Server, request: pytest.FixtureRequest) -> Iterator[Place]:
    """To a server that may be killed."""
    with ExitStack() as stack:
        gateway = None
        if request.param == "upstash":
            gateway = stack.enter_context(running_gateway(fresh_server.port))
        yield Place(fresh_server, gateway, options=ENOUGH)


# --- a game -----------------------------------------------------------------------


def test_two_play_a_game_through_two_processes(
    place: Place, both: tuple[RunningExample, RunningExample]
) -> None:
    """Through two processes: each move reaches the other by publish and subscribe."""
    one, two = both
    server = place.server
    game_id = create(one)
    with Player(one, game_id, "Ann") as ann, Player(two, game_id, "Bob") as bob:
        sit(ann, bob)
        play([ann, bob], 25)
        assert ann.game == stored(one, game_id) == stored(two, game_id)
        assert ann.versions == sorted(set(ann.versions))
        users = {ann.user_id, bob.user_id}
        ann.read_until(lambda: ann.present == users, "both at the board")
        assert ann.online == {"Ann", "Bob"}
        assert online(one) == online(two) == {"Ann", "Bob"}
        if server:
            key = f"game:{game_id}:state"
            assert json.loads(server.cli("GET", key)) == ann.game
            assert 3500 < server.cli("TTL", key) <= 3600
            members = server.cli("SMEMBERS", "ws:active_users")
            assert {member.decode() for member in members} == users
            assert server.cli("TTL", "ws:active_users") == -1
        with Player(one, game_id, "Bob") as again:  # on two connections
            assert again.user_id == bob.user_id
        wait_until(lambda: online(one) == {"Ann", "Bob"}, "both online")
    wait_until(lambda: online(one) == online(two) == set(), "nobody")
    if server:
        assert server.cli("EXISTS", "ws:active_users") == 0
    assert "ERROR" not in one.log + two.log, one.log + two.log


def test_who_leaves_is_away(both: tuple[RunningExample, RunningExample]) -> None:
    one, two = both
    game_id = create(one)
    with Player(one, game_id, "Ann") as ann:
        with Player(two, game_id, "Bob") as bob:
            sit(ann, bob)
            users = {ann.user_id, bob.user_id}
            ann.read_until(lambda: ann.present == users, "both at the board")
        ann.read_until(lambda: ann.present == {ann.user_id}, "Bob's end")


def test_a_whole_game(ludo: RunningExample) -> None:
    game_id = create(ludo)
    with Player(ludo, game_id, "Ann") as ann, Player(ludo, game_id, "Bob") as bob:
        assert ludo.get_json("/health")["mode"] == "memory"
        sit(ann, bob)
        play([ann, bob], 5000)
        assert ann.game["phase"] == "over"
        assert ann.game["winner"] in (ann.user_id, bob.user_id)
        ann.do("roll")
        ann.read_until(lambda: ann.errors, "a refusal")
        assert ann.errors == ["the game is over"]
    wait_until(lambda: online(ludo) == set(), "nobody")
    assert "ERROR" not in ludo.log, ludo.log


def test_the_rules_and_the_turn_are_the_servers(ludo: RunningExample) -> None:
    game_id = create(ludo)
    with Player(ludo, game_id, "Ann") as ann, Player(ludo, game_id, "Bob") as bob:
        ann.do("roll")
        ann.read_until(lambda: ann.errors, "a refusal")
        sit(ann, bob)
        bob.do("roll")
        bob.read_until(lambda: bob.errors, "a refusal")
        assert (ann.errors, bob.errors) == (
            ["the game has not begun"],
            ["it is not your turn"],
        )
        # Of two clicks on one version one counts; the other gets the game as it is.
        version = ann.version
        ann.do("roll")
        ann.do("roll")
        ann.read_until(lambda: len(ann.versions) >= 5, "two answers")
        assert ann.version == version + 1
        with Player(ludo, game_id, "Cat") as cat:  # looks on
            cat.do("sit")
            cat.read_until(lambda: cat.errors, "a refusal")
            assert cat.errors == ["all seats are taken"]
    with Player(ludo, game_id, "Ann") as again:  # the same player
        assert again.user_id == ann.user_id
        assert again.game == stored(ludo, game_id)


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"key": "short", "name": "Ann"},
        {"key": KEY, "name": ""},
        {"key": KEY, "name": "a\nb"},
        {"key": KEY, "name": "a" * 21},
        [1],
    ],
)
def test_who_does_not_say_who_he_is_is_refused(
    message: object, ludo: RunningExample
) -> None:
    with WebSocket(ludo.port, f"/ws/games/{create(ludo)}") as socket:
        socket.send(message)
        with pytest.raises(Closed) as closed:
            socket.get()
        assert closed.value.args == (1008,)


def test_a_game_that_is_not_there(ludo: RunningExample) -> None:
    assert ludo.get_json("/api/games/none", 404) == {"error": "no such game"}
    with pytest.raises(Closed) as closed:
        Player(ludo, "none", "Ann")
    assert closed.value.args == (4404,)
    assert ludo.post("/api/games", {"key": KEY, "size": 5}).status == 422


def test_the_page(ludo: RunningExample) -> None:
    page = ludo.get("/")
    assert (page.status, b'id="board"' in page.body) == (200, True)
    for name in ("ludo.css", "board.js", "ludo.js"):
        assert f"/static/{name}".encode() in page.body
        assert ludo.get(f"/static/{name}").status == 200


# --- limits -----------------------------------------------------------------------


@pytest.mark.parametrize("place", LINKS, indirect=True)
def test_who_clicks_too_often_is_told(
    place: Place, both: tuple[RunningExample, RunningExample]
) -> None:
    """By all processes: what a user does at one counts at the other."""
    server = place.server
    assert server
    wanted = {"key": "much-too-eager-a-player", "size": 2}
    while True:
        minute = int(time.time()) // 60
        answers = [both[i % 2].post("/api/games", wanted) for i in range(102)]
        if int(time.time()) // 60 == minute:
            break
        wanted["key"] = f"{wanted['key']}'"  # a minute has ended meanwhile
    assert [answer.status for answer in answers] == [201] * 100 + [429] * 2
    refused = answers[-1]
    assert 0 < refused.json["retry_after"] <= 60
    assert refused.headers["Retry-After"] == str(refused.json["retry_after"])
    keys = [key.decode() for key in server.cli("KEYS", f"ratelimit:*:{minute}")]
    assert all(0 < server.cli("TTL", key) <= 120 for key in keys)
    assert {server.cli("GET", key) for key in keys} >= {b"100"}


def test_the_hundred_and_first_is_refused(place: Place, configured: None) -> None:
    async def main() -> None:
        user = "ann"
        while True:
            minute = int(time.time()) // 60
            passed = [await ludo_limits.check_rate_limit(user) for _ in range(101)]
            if int(time.time()) // 60 == minute:
                break
            user += "'"  # a minute has ended meanwhile
        assert passed == [True] * 100 + [False]
        if place.server:
            assert place.server.cli("GET", f"ratelimit:{user}:{minute}") == b"100"
        assert await ludo_limits.check_rate_limit("bob", limit=1)
        assert not await ludo_limits.check_rate_limit("bob", limit=1)
        await ludo_redis.close_redis_client()

    asyncio.run(main())


# --- the client, and what is logged -----------------------------------------------


@pytest.fixture
def configured(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if place.server:
        place.server.cli("FLUSHALL")
    for name in ("REDIS_URL", "UPSTASH_REDIS_REST_URL", "UPSTASH_REDIS_REST_TOKEN"):
        monkeypatch.setenv(name, place.variables.get(name, ""))
    config.get_settings.cache_clear()
    yield
    config.get_settings.cache_clear()


def test_the_environment_says_where_the_games_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("REDIS_URL", "UPSTASH_REDIS_REST_URL", "UPSTASH_REDIS_REST_TOKEN"):
        monkeypatch.setenv(name, "")
    assert config.Settings().redis_url == "memory://"
    monkeypatch.setenv("UPSTASH_REDIS_REST_URL", "https://xxx.upstash.io")
    with pytest.raises(ValueError, match="UPSTASH_REDIS_REST_TOKEN is not set"):
        config.Settings()
    monkeypatch.setenv("UPSTASH_REDIS_REST_TOKEN", "canary-token")
    settings = config.Settings()
    assert settings.redis_url == "https://xxx.upstash.io"
    assert "canary" not in repr(settings)
    monkeypatch.setenv("REDIS_URL", "redis://localhost:6379/0")
    assert config.Settings().redis_url == "redis://localhost:6379/0"


def test_one_client_on_first_use(
    place: Place, configured: None, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        redis = ludo_redis.get_redis_client()
        assert ludo_redis.get_redis_client() is redis
        told = [
            (record.name, record.getMessage())
            for record in caplog.records
            if record.name in ("ludo", "redlane")
        ]
        of_url = f"Redis client initialized with URL: {redis.url}"
        if place.gateway:
            assert told == [
                ("redlane", "Initializing Upstash Redis client"),
                ("redlane", of_url),
            ]
        else:
            assert told == [("ludo", of_url)]
        await redis.hset("h", {"a": "1"})
        assert await redis.hgetall("h") == {"a": "1"}
        await ludo_redis.close_redis_client()
        assert redis.closed
        again = ludo_redis.get_redis_client()
        assert again is not redis
        # What the engine holds is the client's.
        assert await again.hget("h", "a") == ("1" if place.server else None)
        await ludo_redis.close_redis_client()

    caplog.set_level(logging.DEBUG)
    asyncio.run(main())


def test_debug_shows_each_operation(
    place: Place, both: tuple[RunningExample, RunningExample]
) -> None:
    one, _ = both
    game_id = create(one)
    lines = one.lines()
    url = "memory://"
    if place.gateway:
        assert "DEBUG - Initializing Upstash Redis client" in lines
        url = place.gateway.url
    elif place.server:
        url = place.variables["REDIS_URL"]
    assert lines.count(f"DEBUG - Redis client initialized with URL: {url}") == 1
    operation = rf"DEBUG - SET 'game:{game_id}:state' \d+\.\d+ ms"
    assert len([line for line in lines if re.fullmatch(operation, line)]) == 1
    assert place.gateway is None or place.gateway.token not in one.log


# --- outages ----------------------------------------------------------------------


def test_a_game_goes_on_while_redis_is_away(link: Place, tmp_path: Path) -> None:
    server = link.server
    assert server
    with running_ludo(tmp_path, link, LUDO_LEASE="60", DEBUG="false") as ludo:
        game_id = create(ludo)
        with Player(ludo, game_id, "Ann") as ann, Player(ludo, game_id, "Bob") as bob:
            sit(ann, bob)
            play([ann, bob], 10)
            server.kill()
            play([ann, bob], 10)
            with Player(ludo, game_id, "Cat") as cat:
                assert cat.game == ann.game
                version = ann.version
                server.start()  # it has lost everything
                key = f"game:{game_id}:state"
                wait_until(lambda: server.cli("EXISTS", key), key)
                assert json.loads(server.cli("GET", key))["version"] == version
                users = {player.user_id.encode() for player in (ann, bob, cat)}
                wait_until(
                    lambda: set(server.cli("SMEMBERS", "ws:active_users")) == users,
                    "all of them",
                )
            play([ann, bob], 10)
            wait_until(
                lambda: json.loads(server.cli("GET", key)) == ann.game, "the game"
            )
        wanted = r"ERROR - Failed to store connection [0-9a-f]{16} in Redis: \S.*"
        lines = ludo.lines()
        assert any(re.fullmatch(wanted, line) for line in lines), ludo.log
        wanted = r"ERROR - Redis operation failed: \S.*"
        assert any(re.fullmatch(wanted, line) for line in lines), ludo.log
        assert any(line.startswith("INFO - ") for line in lines), ludo.log
        assert not any(line.startswith("DEBUG - ") for line in lines), ludo.log
        assert "Traceback" not in ludo.log, ludo.log
        assert "RELAY" not in ludo.log, ludo.log  # a word of the library's own


@dataclass
class Cut:
    """The way of one process to a server that others reach all the time."""

    place: Place
    off: Callable[[], None]
    on: Callable[[], None]


@pytest.fixture
def cut(place: Place, switch: Switch) -> Iterator[Cut]:
    server = switch.server
    if place.gateway is None:
        way = Place(server, proxy=switch.proxy, options=ENOUGH)
        yield Cut(way, switch.off, switch.on)
        return
    with running_gateway(server.port) as gateway:
        # Its streams go on: there is no gap by which the outage could be told.
        yield Cut(
            Place(server, gateway, options=ENOUGH),
            lambda: gateway.refuse(503, "not now", 10_000),
            gateway.refusals.clear,
        )


@pytest.mark.parametrize("place", LINKS, indirect=True)
def test_what_was_played_meanwhile_reaches_the_others(
    both: tuple[RunningExample, RunningExample], cut: Cut, tmp_path: Path
) -> None:
    """Of two processes one loses its server: its player goes on, the other hears of it
    later."""
    well, _ = both
    with running_ludo(tmp_path, cut.place) as away:
        game_id = create(away)
        with Player(away, game_id, "Ann") as ann, Player(well, game_id, "Bob") as bob:
            sit(ann, bob)
            assert ann.game["players"][0]["user_id"] == ann.user_id
            cut.off()
            ann.do("roll")
            version = bob.version + 1
            ann.read_until(lambda: ann.version == version, "her own roll")
            cut.on()
            bob.read_until(lambda: bob.version == version, "what she rolled")
            assert bob.game == ann.game
            play([ann, bob], 10)


@pytest.mark.parametrize("place", LINKS, indirect=True)
def test_a_server_that_crashed_takes_its_users_along(
    place: Place, both: tuple[RunningExample, RunningExample], tmp_path: Path
) -> None:
    one, _ = both
    with running_ludo(tmp_path, place, LUDO_LEASE="3") as two:
        game_id = create(one)
        with Player(one, game_id, "Ann") as ann, Player(two, game_id, "Bob"):
            wait_until(lambda: online(one) == {"Ann", "Bob"}, "both")
            two.process.kill()
            two.process.wait()
            wait_until(lambda: online(one) == {"Ann"}, "Bob's end")
            # Bob comes back by another process, to the same game.
            with Player(one, game_id, "Bob", version=ann.version) as bob:
                sit(ann, bob)
                play([ann, bob], 5)


# --- in the browser ---------------------------------------------------------------

PLAYABLE = "document.querySelector('#roll:enabled, .token.movable') !== null"
BOARD = """JSON.stringify([...document.querySelectorAll('.token')]
    .map((token) => [token.id, token.getAttribute('cx'), token.getAttribute('cy')])
    .sort())"""


def version_of(page: Page) -> int:
    return int(page.evaluate("document.body.dataset.version"))


def take_turns(pages: list[Page], steps: int) -> None:
    """By mouse, whoever may; both pages show the same board after each click."""
    for _ in range(steps):
        wait_until(lambda: any(page.evaluate(PLAYABLE) for page in pages), "a turn")
        page = next(page for page in pages if page.evaluate(PLAYABLE))
        version = version_of(page) + 1
        page.click("#roll:enabled, .token.movable")
        for each in pages:
            each.wait_for(f"Number(document.body.dataset.version) === {version}")
        boards = {each.evaluate(BOARD) for each in pages}
        assert len(boards) == 1, boards


def prompt_is(page: Page, text: str) -> None:
    page.wait_for(f"document.querySelector('#prompt').textContent === '{text}'")


def test_two_play_in_the_browser(link: Place, tmp_path: Path) -> None:
    """By two processes, or by one on Upstash. The server goes away for a while, a page
    is reloaded, one of the two leaves, and a process ends."""
    server = link.server
    assert server
    with ExitStack() as stack:
        one = two = stack.enter_context(running_ludo(tmp_path, link))
        if link.gateway is None:
            two = stack.enter_context(running_ludo(tmp_path, link))
        ann = stack.enter_context(browser())
        bob = ann.another()
        ann.open(one.url)
        ann.fill("#name", "Ann")
        ann.click("#new")
        game_id = ann.wait_for("location.hash.slice(1)")
        bob.open(f"{two.url}/")
        bob.fill("#name", "Bob")
        bob.evaluate(f"location.hash = '{game_id}'")
        for number, page in enumerate((ann, bob), 1):
            page.wait_for(
                "document.querySelector('#sit:enabled:not([hidden])') !== null"
            )
            page.click("#sit")
            for each in (ann, bob):
                each.wait_for(
                    f"document.querySelectorAll('#players li').length === {number}"
                )
        for page in (ann, bob):
            page.wait_for("document.querySelectorAll('#online li').length === 2")
        assert ann.text("#online") == "AnnBob"
        prompt_is(ann, "Your turn: roll the die.")
        prompt_is(bob, "It is the turn of Ann.")
        take_turns([ann, bob], 12)

        ann.evaluate("location.reload()")
        version = version_of(bob)
        ann.wait_for(f"Number(document.body?.dataset.version) === {version}")
        ann.wait_for(f"{BOARD} === {json.dumps(bob.evaluate(BOARD))}")

        server.kill()
        # Until it is back, only whose turn it is can go on.
        wait_until(lambda: any(page.evaluate(PLAYABLE) for page in (ann, bob)), "one")
        page = next(page for page in (ann, bob) if page.evaluate(PLAYABLE))
        page.click("#roll:enabled, .token.movable")
        page.wait_for(f"Number(document.body.dataset.version) === {version + 1}")
        server.start()
        for page in (ann, bob):
            page.wait_for(f"Number(document.body.dataset.version) === {version + 1}")
        take_turns([ann, bob], 8)

        bob.open("about:blank")
        ann.wait_for("document.querySelector('#players .gone small') !== null")
        assert ann.text("#players .gone").startswith("Bobaway")
        one.process.kill()
        prompt_is(ann, "The server is away. Your game goes on when it is back.")
        assert ann.evaluate(PLAYABLE) is False
        assert ann.errors == bob.errors == []
