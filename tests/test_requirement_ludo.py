"""What the board game's server asks for, a test to a line of docs/requirements.md."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import redlane
import requirement_tools
import uvicorn
from ludo.app import config, limits
from ludo.app.connections import ConnectionManager
from ludo.app.dependencies import redis as dependency
from ludo.app.games import Games
from ludo.app.main import create_app
from outage_tools import wait_until
from redlane import AsyncClient, Presence
from requirement_tools import Stage, only
from servers import START_SECONDS, listen_on_loopback
from websocket_client import WebSocket

stage = requirement_tools.stage

ONLINE = "ws:active_users"
INITIALIZING = "Initializing Upstash Redis client"
LOST = "Failed to store connection c1 in Redis: "


@pytest.fixture
def configured(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> Iterator[type[config.Settings]]:
    """The environment names the stage, as Upstash has it where that is one."""
    if stage.gateway is not None:
        monkeypatch.setenv("UPSTASH_REDIS_REST_URL", stage.url.partition("?")[0])
        monkeypatch.setenv("UPSTASH_REDIS_REST_TOKEN", stage.gateway.token)
    elif stage.way != "engine":
        monkeypatch.setenv("REDIS_URL", stage.url)
    config.get_settings.cache_clear()
    yield config.Settings
    config.get_settings.cache_clear()


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """With the example's client, which ends with the loop."""

    async def whole() -> None:
        try:
            await scenario()
        finally:
            await dependency.close_redis_client()

    asyncio.run(whole())


async def use_commands(client: Any) -> None:
    """Each command that the game sends."""
    assert await client.set("game:1:state", "{}", ex=3600)
    assert await client.get("game:1:state") == "{}"
    assert await client.hset("ws:connections", {"c1": "ann", "c2": "bob"}) == 2
    assert await client.hget("ws:connections", "c1") == "ann"
    assert await client.hgetall("ws:connections") == {"c1": "ann", "c2": "bob"}
    assert await client.sadd("users", "ann", "bob") == 2
    assert await client.sismember("users", "ann")
    assert await client.smembers("users") == {"ann", "bob"}
    assert await client.srem("users", "bob") == 1
    assert await client.scard("users") == 1
    assert await client.exists("users") == 1
    assert await client.expire("users", 60)
    assert await client.incr("moves") == 1
    pipe = client.pipeline()
    pipe.incr("moves")
    pipe.delete("moves", "users", "ws:connections", "game:1:state")
    assert await pipe.execute() == [2, 4]


async def use_messages(client: Any) -> None:
    async with client.subscribe("game:1") as subscription:
        assert await client.publish("game:1", "é") == 1
        async for message in subscription:
            assert message == "é"
            assert isinstance(message, str)  # it can be sent on
            break


def test_config(stage: Stage, configured: type[config.Settings]) -> None:
    settings = configured()
    if stage.gateway is not None:
        token = settings.UPSTASH_REDIS_REST_TOKEN
        assert token is not None
        assert token.get_secret_value() == stage.gateway.token
        assert stage.gateway.token not in repr(settings)
        assert settings.redis_url == settings.UPSTASH_REDIS_REST_URL == stage.rest_url
    else:
        assert settings.redis_url == stage.url
        assert settings.UPSTASH_REDIS_REST_TOKEN is None

    async def scenario() -> None:
        client = dependency.get_redis_client()
        assert client.url == stage.url.partition("?")[0] or client.url == stage.url
        async for phase in stage.turns(client):
            if phase != "away":
                assert await client.ping()

    run(scenario)


def test_client(stage: Stage, configured: type[config.Settings]) -> None:
    async def scenario() -> None:
        first = dependency.get_redis_client()
        assert dependency.get_redis_client() is first
        async for phase in stage.turns(first):
            assert dependency.get_redis_client() is first
            if phase != "away":
                await first.set("k", "é")
                assert await first.get("k") == "é"
        await dependency.close_redis_client()
        await dependency.close_redis_client()
        assert first.closed
        second = dependency.get_redis_client()
        assert second is not first
        if stage.way != "engine":  # each client's own
            assert await second.get("k") == "é"

    run(scenario)


def test_commands(stage: Stage, configured: type[config.Settings]) -> None:
    async def scenario() -> None:
        client = dependency.get_redis_client()
        async for phase in stage.turns(client):
            if phase != "away":
                await use_commands(client)
                await use_messages(client)
                continue
            # An application's own data is not answered from an empty engine.
            with pytest.raises(redlane.ConnectionError):
                await client.get("game:1:state")
            with pytest.raises(redlane.ConnectionError):
                await client.publish("game:1", "é")

    run(scenario)


@only("server", "rest")
def test_transport(stage: Stage, configured: type[config.Settings]) -> None:
    """The same code on both; what it is over HTTP, and what an outage is there."""

    async def talk() -> None:
        client = dependency.get_redis_client()
        await use_commands(client)
        assert await asyncio.gather(*(client.incr("n") for _ in range(5))) == [
            *range(1, 6)
        ]
        async with client.pipeline(transaction=True) as pipe:
            pipe.set("k", "v")
            pipe.get("k")
            assert await pipe.execute() == [True, "v"]
        await use_messages(client)

    async def fail() -> None:
        gateway = stage.gateway
        assert gateway is not None
        client = AsyncClient(stage.url, decode_responses=True)
        await client.get("k")
        before = gateway.count
        await asyncio.sleep(0.3)
        assert gateway.count == before  # nobody asks while all is well
        for status in (429, 500, 503):
            gateway.refuse(status, "max daily request limit exceeded", 10_000)
            with pytest.raises(redlane.ConnectionError):
                await client.get("k")
            before = gateway.count
            for _ in range(20):
                with pytest.raises(redlane.RedlaneError):
                    await client.get("k")
            assert gateway.count < before + 20  # a breaker is open
            gateway.refusals.clear()
            await client.close()
            client = AsyncClient(stage.url, decode_responses=True)
        gateway.token = "another"
        with pytest.raises(redlane.AuthenticationError) as caught:
            await client.get("k")
        assert "canary" not in str(caught.value)
        await client.close()

    run(talk)
    if stage.gateway is None:
        return
    paths = [path for path, _ in stage.gateway.requests]
    assert {"/", "/pipeline", "/multi-exec"} < set(paths)
    assert [path for path in paths if path.startswith("/subscribe/")] != []
    assert [len(b) for p, b in stage.gateway.requests if p == "/pipeline"] == [2, 5]
    asyncio.run(fail())


def test_presence(stage: Stage) -> None:
    client = stage.client(decode_responses=True)
    presence = Presence(client, key=ONLINE, lease=60)
    presence.join("ann", "one")
    for phase in stage.phases(client):
        if phase != "up":
            assert presence.members() == {"ann"}
        presence.join("ann", "two")
        presence.join("bob", "one")
        assert presence.leave("ann", "two") is False  # another connection is there
        assert presence.leave("bob", "one") is True
        assert (presence.online("ann"), presence.online("bob")) == (True, False)
        if phase != "away":
            assert client.smembers(ONLINE) == {"ann"}
            assert client.ttl(ONLINE) == -1
    presence.close()


def test_game_state(stage: Stage, configured: type[config.Settings]) -> None:
    state = {"turn": "ann", "pieces": [[0, 1], [5, 9]], "name": "é"}

    async def scenario() -> None:
        client = dependency.get_redis_client()
        async for phase in stage.turns(client):
            if phase == "away":
                with pytest.raises(redlane.ConnectionError):
                    await client.set("game:7:state", json.dumps(state), ex=3600)
                continue
            assert await client.get("game:7:state") is None
            await client.set("game:7:state", json.dumps(state), ex=3600)
            assert json.loads(await client.get("game:7:state") or "") == state
            # So does the game itself.
            key = f"game:{await Games().create(2)}:state"
            assert json.loads(await client.get(key) or "")["version"] == 0
            for name in (key, "game:7:state"):
                assert 3500 < await client.ttl(name) <= 3600

    run(scenario)


def test_rate_limit(stage: Stage, configured: type[config.Settings]) -> None:
    async def scenario() -> None:
        client = dependency.get_redis_client()
        async for phase in stage.turns(client):
            user = f"user-{phase}"
            while True:
                minute = int(time.time()) // 60
                passed = [await limits.check_rate_limit(user) for _ in range(101)]
                if int(time.time()) // 60 == minute:
                    break
                user += "'"  # a minute ended meanwhile
            assert passed == [True] * 100 + [False]
            if phase != "away":
                key = f"ratelimit:{user}:{minute}"
                assert int(await client.get(key) or 0) >= 100
                assert 0 < await client.ttl(key) <= 61

    run(scenario)


def failures(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the library says of operations that failed."""
    return [
        record.getMessage().partition(": ")[2]
        for record in caplog.records
        if (record.name, record.levelname) == ("redlane", "ERROR")
        and record.getMessage().startswith("Redis operation failed: ")
    ]


def test_failure(
    stage: Stage,
    configured: type[config.Settings],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The library logs it, and a WebSocket goes on."""
    caplog.set_level(logging.INFO)
    watcher = stage.client()
    errors: list[str] = []
    with served(create_app()) as port:
        game = ask(port, "POST", "/api/games", {"key": "k" * 32, "size": 2})["id"]
        with WebSocket(port, f"/ws/games/{game}") as socket:
            socket.send({"key": "k" * 32, "name": "Ann"})
            for phase in stage.phases(watcher):
                try:
                    watcher.hset("ws:connections", "c1", "ann")
                except redlane.RedlaneError as error:
                    assert phase == "away"
                    errors.append(str(error))
                else:
                    assert phase != "away"
                # The application asks for itself.
                if stage.way == "outage":
                    wait_until(
                        lambda p=phase: (
                            ask(port, "GET", "/health")["connected"] is (p != "away")
                        ),
                        f"the application, {phase}",
                    )
                # Each is answered, whatever happens to Redis.
                socket.send({"do": "move", "version": -1})
                while "version" not in socket.get():
                    pass
                (online,) = ask(port, "GET", "/api/online")
                assert online["name"] == "Ann"
    said = failures(caplog)
    assert bool(said) is bool(errors)
    where = f" ({watcher.url})"
    assert all(text.endswith(where) and text != where for text in errors + said)
    assert [r for r in caplog.records if r.exc_info] == []


@contextmanager
def served(app: Any) -> Iterator[int]:
    """The port of an ASGI application that a thread serves."""
    with listen_on_loopback() as listener:
        options = {"log_config": None, "ws": "wsproto", "loop": "asyncio"}
        server = uvicorn.Server(uvicorn.Config(app, **options))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        wait_until(lambda: server.started or not thread.is_alive(), "the application")
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(START_SECONDS)
            assert not thread.is_alive(), "the application does not end"


def ask(port: int, method: str, path: str, body: Any = None) -> Any:
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=START_SECONDS)
    try:
        fields = {"Content-Type": "application/json"}
        link.request(method, path, json.dumps(body) if body else None, fields)
        response = link.getresponse()
        text = response.read()
        assert response.status in (200, 201), text
        return json.loads(text)
    finally:
        link.close()


def test_log_lines(
    stage: Stage,
    configured: type[config.Settings],
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name in ("redlane", "ludo"):
        caplog.set_level(logging.DEBUG, name)
    connection: Any = SimpleNamespace(id="c1", user_id="u1", name="Ann")
    failed = 0

    async def scenario() -> None:
        nonlocal failed
        client = dependency.get_redis_client()
        manager = ConnectionManager(Games())
        async for phase in stage.turns(client):
            await manager._store_connection(connection)
            failed += phase == "away"
            lost = [r for r in caplog.records if r.getMessage().startswith(LOST)]
            assert len(lost) == failed
            assert all((r.name, r.levelname) == ("ludo", "ERROR") for r in lost)
            if phase == "up":
                said = [r.getMessage() for r in caplog.records if r.levelno == 10]
                url = f"Redis client initialized with URL: {client.url}"
                assert said.count(url) == 1
                assert (INITIALIZING in said) is (stage.way == "rest")

    run(scenario)
    assert failed == (stage.way == "outage")
