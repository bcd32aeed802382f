"""examples/ludo over real HTTP and WebSockets, in one process and in two, on Redis, on
the memory engine, and while Redis goes away and comes back."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from browser import Page, browser
from ludo.app import config
from ludo.app import limits as ludo_limits
from ludo.app.dependencies import redis as ludo_redis
from outage_tools import Switch, wait_until
from running_ludo import EXAMPLE, Player, RunningLudo, play, running_ludo, sit
from servers import Server
from websocket_client import Closed, WebSocket

KEY = "k" * 32
# For a busy machine; while a link is in doubt commands wait no longer than this.
ENOUGH = "?timeout=5&connect_timeout=5"


@contextmanager
def two_workers(folder: Path, url: str) -> Iterator[tuple[RunningLudo, RunningLudo]]:
    with ExitStack() as stack:
        yield (
            stack.enter_context(running_ludo(folder, REDIS_URL=url)),
            stack.enter_context(running_ludo(folder, REDIS_URL=url)),
        )


# --- a game -----------------------------------------------------------------------


def test_two_play_a_game_through_two_processes(
    redis_server: Server, tmp_path: Path
) -> None:
    with two_workers(tmp_path, redis_server.patient_url) as (one, two):
        game_id = one.create()
        with Player(one, game_id, "Ann") as ann, Player(two, game_id, "Bob") as bob:
            sit(ann, bob)
            play([ann, bob], 40)
            stored = json.loads(redis_server.cli("GET", f"game:{game_id}:state"))
            assert stored == ann.game == one.game(game_id) == two.game(game_id)
            assert 3500 < redis_server.cli("TTL", f"game:{game_id}:state") <= 3600
            assert ann.versions == sorted(set(ann.versions))
            ann.read_until(lambda: ann.online == {"Ann", "Bob"}, "both online")
            assert one.online() == two.online() == {"Ann", "Bob"}
            users = {ann.user_id.encode(), bob.user_id.encode()}
            assert set(redis_server.cli("SMEMBERS", "ws:active_users")) == users
            assert redis_server.cli("TTL", "ws:active_users") == -1
            with Player(one, game_id, "Bob") as again:  # on two connections
                assert again.user_id == bob.user_id
            bob.read_until(lambda: bob.online == {"Ann", "Bob"}, "both online")
        wait_until(lambda: redis_server.cli("EXISTS", "ws:active_users") == 0, "nobody")
        assert "ERROR" not in one.log + two.log, one.log + two.log


def test_a_whole_game_on_the_engine(tmp_path: Path) -> None:
    with running_ludo(tmp_path) as ludo:
        game_id = ludo.create()
        with Player(ludo, game_id, "Ann") as ann, Player(ludo, game_id, "Bob") as bob:
            assert ludo.ask("GET", "/health")[1]["mode"] == "memory"
            sit(ann, bob)
            play([ann, bob], 5000)
            assert ann.game["phase"] == "over"
            assert ann.game["winner"] in (ann.user_id, bob.user_id)
            ann.do("roll")
            ann.read_until(lambda: ann.errors, "a refusal")
            assert ann.errors == ["the game is over"]
        wait_until(lambda: ludo.online() == set(), "nobody")
        assert "ERROR" not in ludo.log, ludo.log


def test_the_rules_and_the_turn_are_the_servers(tmp_path: Path) -> None:
    with running_ludo(tmp_path) as ludo:
        game_id = ludo.create()
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
            assert again.game == ludo.game(game_id)


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
    message: object, ludo: RunningLudo
) -> None:
    with WebSocket(ludo.port, f"/ws/games/{ludo.create()}") as socket:
        socket.send(message)
        with pytest.raises(Closed) as closed:
            socket.get()
        assert closed.value.args == (1008,)


def test_a_game_that_is_not_there(ludo: RunningLudo) -> None:
    assert ludo.ask("GET", "/api/games/none") == (404, {"error": "no such game"})
    with pytest.raises(Closed) as closed:
        Player(ludo, "none", "Ann")
    assert closed.value.args == (4404,)
    assert ludo.ask("POST", "/api/games", {"key": KEY, "size": 5})[0] == 422


def test_the_page(ludo: RunningLudo) -> None:
    status, page = ludo.ask("GET", "/")
    assert (status, b'id="board"' in page) == (200, True)
    for name in (b"ludo.css", b"board.js", b"ludo.js"):
        assert b"/static/" + name in page
        assert ludo.ask("GET", f"/static/{name.decode()}")[0] == 200


@pytest.fixture(scope="module")
def ludo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningLudo]:
    """On the engine."""
    with running_ludo(tmp_path_factory.mktemp("ludo")) as running:
        yield running


# --- limits -----------------------------------------------------------------------


def test_who_clicks_too_often_is_told(redis_server: Server, tmp_path: Path) -> None:
    url = redis_server.patient_url
    with running_ludo(tmp_path, REDIS_URL=url, LUDO_ACTIONS="5") as ludo:
        wanted = {"key": KEY, "size": 2}
        answers = [ludo.ask("POST", "/api/games", wanted) for _ in range(12)]
        # In the worst case a minute ends meanwhile.
        assert [status for status, _ in answers[:5]] == [201] * 5
        refused = [body for status, body in answers if status == 429]
        assert len(refused) in (2, 7)
        assert 0 < refused[0]["retry_after"] <= 60
        (key, *_) = redis_server.cli("KEYS", "ratelimit:*")
        assert key.decode().split(":")[2].isdecimal()
        assert 0 < redis_server.cli("TTL", key) <= 120


def test_the_hundred_and_first_is_refused(
    redis_server: Server, configured: None
) -> None:
    async def main() -> None:
        while time.time() % 60 > 50:  # all of one minute
            await asyncio.sleep(0.5)
        minute = int(time.time()) // 60
        passed = [await ludo_limits.check_rate_limit("ann") for _ in range(101)]
        assert passed == [True] * 100 + [False]
        assert redis_server.cli("GET", f"ratelimit:ann:{minute}") == b"100"
        assert await ludo_limits.check_rate_limit("bob", limit=1)
        assert not await ludo_limits.check_rate_limit("bob", limit=1)
        await ludo_redis.close_redis_client()

    asyncio.run(main())


# --- the client -------------------------------------------------------------------


@pytest.fixture
def configured(redis_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("REDIS_URL", redis_server.patient_url)
    config.get_settings.cache_clear()
    yield
    config.get_settings.cache_clear()


def test_one_client_on_first_use(
    configured: None, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        redis = ludo_redis.get_redis_client()
        assert ludo_redis.get_redis_client() is redis
        assert [r.getMessage() for r in caplog.records if r.name == "ludo"] == [
            f"Redis client initialized with URL: {redis.url}"
        ]
        await redis.hset("h", {"a": "1"})
        assert await redis.hgetall("h") == {"a": "1"}
        await ludo_redis.close_redis_client()
        assert redis.closed
        again = ludo_redis.get_redis_client()
        assert again is not redis
        assert await again.hget("h", "a") == "1"
        await ludo_redis.close_redis_client()

    caplog.set_level(logging.DEBUG, "ludo")
    asyncio.run(main())


# --- outages ----------------------------------------------------------------------


def test_a_game_goes_on_while_redis_is_away(
    fresh_server: Server, tmp_path: Path
) -> None:
    with running_ludo(tmp_path, REDIS_URL=fresh_server.url, LUDO_LEASE="60") as ludo:
        game_id = ludo.create()
        with Player(ludo, game_id, "Ann") as ann, Player(ludo, game_id, "Bob") as bob:
            sit(ann, bob)
            play([ann, bob], 10)
            fresh_server.kill()
            play([ann, bob], 10)
            with Player(ludo, game_id, "Cat") as cat:
                assert cat.game == ann.game
                assert "ERROR - Failed to store connection " in ludo.log
                assert " in Redis: " in ludo.log
                assert "ERROR - Redis operation failed: " in ludo.log
                version = ann.version
                fresh_server.start()  # it has lost everything
                wait_until(lambda: ludo.ask("GET", "/health")[1]["connected"], "Redis")
                key = f"game:{game_id}:state"
                wait_until(
                    lambda: ludo.game(game_id) and fresh_server.cli("EXISTS", key), key
                )
                assert json.loads(fresh_server.cli("GET", key))["version"] == version
                users = {p.user_id.encode() for p in (ann, bob, cat)}
                wait_until(
                    lambda: (
                        set(fresh_server.cli("SMEMBERS", "ws:active_users")) == users
                    ),
                    "all of them",
                )
            play([ann, bob], 10)
            assert json.loads(fresh_server.cli("GET", key)) == ann.game
        assert "Traceback" not in ludo.log, ludo.log


def test_what_was_played_meanwhile_reaches_the_others(
    switch: Switch, tmp_path: Path
) -> None:
    """Of two workers one loses Redis: its player goes on, the other hears of it."""
    server = switch.server
    with (
        running_ludo(tmp_path, REDIS_URL=f"{switch.url}{ENOUGH}") as cut,
        running_ludo(tmp_path, REDIS_URL=server.patient_url) as well,
    ):
        game_id = cut.create()
        with Player(cut, game_id, "Ann") as ann, Player(well, game_id, "Bob") as bob:
            sit(ann, bob)
            assert ann.game["players"][0]["user_id"] == ann.user_id
            switch.off()
            ann.do("roll")
            version = bob.version + 1
            ann.read_until(lambda: ann.version == version, "her own roll")
            switch.on()
            bob.read_until(lambda: bob.version == version, "what she rolled")
            assert bob.game == ann.game
            play([ann, bob], 10)


def test_a_server_that_crashed_takes_its_users_along(
    redis_server: Server, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        url = redis_server.patient_url
        one, two = (
            stack.enter_context(running_ludo(tmp_path, REDIS_URL=url, LUDO_LEASE="3"))
            for _ in range(2)
        )
        game_id = one.create()
        with Player(one, game_id, "Ann") as ann, Player(two, game_id, "Bob"):
            wait_until(lambda: one.online() == {"Ann", "Bob"}, "both")
            two.child.kill()
            two.child.wait()
            wait_until(lambda: one.online() == {"Ann"}, "Bob's end")
            # Bob comes back by another worker, to the same game.
            with Player(one, game_id, "Bob", version=ann.version) as bob:
                sit(ann, bob)
                play([ann, bob], 5)


# --- the tutorial -----------------------------------------------------------------


def test_the_code_of_the_tutorial_is_the_examples() -> None:
    root = EXAMPLE.parent.parent
    page = (root / "docs/tutorials/ludo.md").read_text(encoding="utf-8")
    shown = re.findall(r"<!-- from (\S+) -->\n```text\n(.*?)```", page, re.DOTALL)
    assert len(shown) == 6
    for path, code in shown:
        assert code in (root / path).read_text(encoding="utf-8"), path


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


def test_two_play_in_the_browser(fresh_server: Server, tmp_path: Path) -> None:
    """By two processes; Redis goes away for a while, and a page is reloaded."""
    with (
        two_workers(tmp_path, f"{fresh_server.url}{ENOUGH}") as (one, two),
        browser() as ann,
    ):
        bob = ann.another()
        ann.open(one.url)
        ann.fill("#name", "Ann")
        ann.click("#new")
        game_id = ann.wait_for("location.hash.slice(1)")
        bob.open(f"{two.url}/")
        bob.fill("#name", "Bob")
        bob.evaluate(f"location.hash = '{game_id}'")
        for page in (ann, bob):
            page.wait_for("!document.querySelector('#sit').hidden")
        for number, page in enumerate((ann, bob), 1):
            page.click("#sit")
            for each in (ann, bob):
                each.wait_for(
                    f"document.querySelectorAll('#players li').length === {number}"
                )
        for page in (ann, bob):
            page.wait_for("document.querySelectorAll('#online li').length === 2")
        assert ann.text("#online") == "AnnBob"
        take_turns([ann, bob], 20)

        ann.evaluate("location.reload()")
        version = version_of(bob)
        ann.wait_for(f"Number(document.body?.dataset.version) === {version}")
        ann.wait_for(f"{BOARD} === {json.dumps(bob.evaluate(BOARD))}")

        fresh_server.kill()
        # Until it is back, only whose turn it is can go on.
        page = next(page for page in (ann, bob) if page.evaluate(PLAYABLE))
        page.click("#roll:enabled, .token.movable")
        page.wait_for(f"Number(document.body.dataset.version) === {version + 1}")
        fresh_server.start()
        for page in (ann, bob):
            page.wait_for(f"Number(document.body.dataset.version) === {version + 1}")
        take_turns([ann, bob], 10)
        assert ann.errors == bob.errors == []
