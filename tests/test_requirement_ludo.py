"""What the board game's server asks for, a test to a line of docs/requirements.md."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redlane
from outage_tools import messages
from redlane import Presence, RateLimiter
from requirement_tools import STAGES, Stage, staged

ONLINE = "ws:active_users"
# A loop that stood still sees in its next turns what became of its connection.
TURN = 0.05


@pytest.fixture(params=STAGES)
def stage(server_binary: str, request: pytest.FixtureRequest) -> Iterator[Stage]:
    with staged(request, decode_responses=True) as made:
        yield made


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
    async with client.subscribe("game:1") as subscription:
        assert await client.publish("game:1", "é") == 1
        async for message in subscription:
            assert message == "é"
            assert isinstance(message, str)
            break


def test_commands(stage: Stage) -> None:
    async def scenario() -> None:
        for phase in stage.phases():
            await asyncio.sleep(TURN)
            client = stage.client.aio
            if phase != "away":
                await use_commands(client)
                continue
            # An application's own data is not answered from an empty engine.
            with pytest.raises(redlane.ConnectionError):
                await client.get("game:1:state")
            with pytest.raises(redlane.ConnectionError):
                await client.publish("game:1", "é")
        await stage.client.aio.close()

    asyncio.run(scenario())


def test_presence(stage: Stage) -> None:
    presence = Presence(stage.client, key=ONLINE)
    presence.join("ann", "one")
    for phase in stage.phases():
        if phase != "up":
            assert presence.members() == {"ann"}
        presence.join("ann", "two")
        presence.join("bob", "one")
        assert presence.leave("ann", "two") is False  # another connection is there
        assert presence.leave("bob", "one") is True
        assert (presence.online("ann"), presence.online("bob")) == (True, False)
        if phase != "away":
            assert stage.client.smembers(ONLINE) == {"ann"}
            assert stage.client.ttl(ONLINE) == -1
    presence.close()


def test_game_state(stage: Stage) -> None:
    state = {"turn": "ann", "pieces": [[0, 1], [5, 9]], "name": "é"}
    for phase in stage.phases():
        if phase == "away":
            with pytest.raises(redlane.ConnectionError):
                stage.client.set("game:7:state", json.dumps(state), ex=3600)
            continue
        assert stage.client.get("game:7:state") is None
        stage.client.set("game:7:state", json.dumps(state), ex=3600)
        assert json.loads(stage.client.get("game:7:state")) == state
        assert 0 < stage.client.ttl("game:7:state") <= 3600


def test_rate_limit(stage: Stage) -> None:
    limiter = RateLimiter(stage.client, "fixed-window", prefix="ratelimit")

    async def check_rate_limit(user_id: str, limit: int = 100) -> bool:
        return (await limiter.aio.hit(user_id, f"{limit}/minute")).allowed

    async def scenario() -> None:
        for phase in stage.phases():
            await asyncio.sleep(TURN)
            user = f"user-{phase}"
            while True:
                minute = int(time.time()) // 60
                passed = [await check_rate_limit(user) for _ in range(101)]
                if int(time.time()) // 60 == minute:
                    break
                user += "'"  # a minute ended meanwhile
            assert passed == [True] * 100 + [False]
            if phase != "away":
                key = f"ratelimit:{user}:{minute}"
                assert int(stage.client.get(key)) >= 100
                assert 0 < stage.client.ttl(key) <= 61
        await stage.client.aio.close()

    asyncio.run(scenario())


def test_failure(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """The library logs it, and what a game can catch is all that it sees."""
    with caplog.at_level(logging.WARNING, "redlane"):
        for phase in stage.phases():
            try:
                stage.client.hset("ws:connections", "c1", "ann")
            except redlane.RedlaneError:
                assert phase == "away"
            else:
                assert phase != "away"
    said = messages(caplog.records, "Redis is away: ")
    assert len(said) == (1 if stage.server else 0)
