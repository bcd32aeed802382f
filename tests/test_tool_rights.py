"""Limits, cooldowns, presence and tenants of a user with few rights: what the table of
the documentation names is enough, through an outage and a server that takes no writes,
and nothing of it is too much."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from outage_tools import Switch, switched, wait_until
from redlane import (
    Client,
    Cooldown,
    PermissionDeniedError,
    Presence,
    RateLimiter,
    RedisCache,
)
from servers import PATIENT, Server

DOCS = Path(__file__).resolve().parent.parent / "docs"
PASSWORD = "canary-password"
ALGORITHMS = ("sliding-window", "fixed-window", "sliding-log", "token-bucket", "gcra")
# What the test itself asks the server, what makes a connection, and what a write that
# is refused for its memory is probed with.
OWN = {"acl|setuser", "acl|log", "config|resetstat", "config|set", "info", "debug"}
OWN |= {"hello", "script|flush", "flushall", "keys"}


def rows() -> dict[str, tuple[list[str], list[str]]]:
    """Tool to its keys and its commands, as the table has them."""
    text = (DOCS / "security.md").read_text()
    found = {}
    for line in text.splitlines():
        match = re.fullmatch(r"\| `(\w+)` \| (`~.*`) \| (`\+.*`) \|", line)
        if match:
            keys, commands = (re.findall(r"`([^`]+)`", match[i]) for i in (2, 3))
            found[match[1]] = keys, commands[0].split()
    return found


def use_limiters(client: Client[Any]) -> None:
    for algorithm in ALGORITHMS:
        limiter = RateLimiter(client, algorithm)
        for _ in range(3):
            limiter.hit("u", "2/hour;9/day")
        limiter.hit("v", "2/hour")
        limiter.peek("v", "2/hour")
        limiter.refund("u", "2/hour;9/day", 2)
        limiter.reset("v", "2/hour")


def use_cooldown(client: Client[Any]) -> None:
    cooldown = Cooldown(client, 3600)
    for user in "ab":
        cooldown.acquire(user)
        cooldown.acquire(user)
        cooldown.peek(user)
    cooldown.reset("a")


def use_presence(client: Client[Any]) -> None:
    with Presence(client, lease="1m") as presence:
        presence.join("ann", 1)
        presence.join("bob")
        assert presence.online("ann")
        assert presence.members() == {"ann", "bob"}
        assert presence.count() == 2
        presence.leave("bob")


def use_tenants(client: Client[Any]) -> None:
    shared = RedisCache.from_client(client)
    cache = shared.with_context("app", "device")
    for name in "abc":
        cache.set(name, b"1", 60)
    cache.get("a")
    cache.stats()
    cache.flush_app()
    cache.flush_device()


USES: dict[str, Callable[[Client[Any]], None]] = {
    "RateLimiter": use_limiters,
    "Cooldown": use_cooldown,
    "Presence": use_presence,
    "RedisCache": use_tenants,
}


@pytest.fixture
def away(fresh_server: Server) -> Iterator[Switch]:
    with switched(fresh_server) as made:
        yield made


def executed(server: Server) -> set[str]:
    """What the server was asked, scripts' own words too."""
    lines = server.cli("INFO", "commandstats").decode().splitlines()
    return {line[8:].partition(":")[0] for line in lines if line.startswith("cmdstat_")}


def allow(server: Server, keys: list[str], commands: list[str]) -> None:
    rules = ["reset", "on", f">{PASSWORD}", *keys, "-@all", *commands]
    server.cli("ACL", "SETUSER", "few", *rules)


@pytest.mark.parametrize("tool", USES)
def test_the_rights_are_enough(tool: str, away: Switch) -> None:
    server = away.server
    keys, commands = rows()[tool]
    allow(server, keys, [*commands, "+info"])  # the test asks for health
    server.cli("CONFIG", "RESETSTAT")
    url = away.url.replace("://", f"://few:{PASSWORD}@")
    with Client[Any](url, **PATIENT) as client:
        USES[tool](client)
        server.cli("SCRIPT", "FLUSH")
        USES[tool](client)
        away.off(client)
        USES[tool](client)
        if tool == "Presence":  # a process that crashed
            server.cli("ZADD", "{ws:active_users}:servers", 1, "dead")
        away.on(client)
        USES[tool](client)
        server.cli("CONFIG", "SET", "maxmemory", "1")
        USES[tool](client)
        server.cli("CONFIG", "SET", "maxmemory", "0")
        wait_until(lambda: client.health()["write_breaker"] == "closed", "writes")
        USES[tool](client)
    assert server.cli("ACL", "LOG") == []
    assert {f"+{name}" for name in executed(server) - OWN} == set(commands)


def test_the_rights_of_one_row_are_not_those_of_another(redis_server: Server) -> None:
    """Each tool keeps to the keys of its row."""
    for tool, (keys, commands) in rows().items():
        others = [key for other in rows() if other != tool for key in rows()[other][0]]
        assert not set(keys) & set(others)
        allow(redis_server, others, commands)
        url = redis_server.url.replace("://", f"://few:{PASSWORD}@")
        redis_server.cli("ACL", "LOG", "RESET")
        # A cache for tenants never raises.
        with Client[Any](url, **PATIENT) as client, suppress(PermissionDeniedError):
            USES[tool](client)
            assert tool == "RedisCache"
        denied = redis_server.cli("ACL", "LOG")
        assert {entry[3] for entry in denied} == {b"key"}
    redis_server.cli("ACL", "DELUSER", "few")
