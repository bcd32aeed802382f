"""The near cache of a user with few rights: the line of the documentation is enough on
every kind of link; one right less turns it off, which is said once, and no more."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
from near_tools import near_hits, near_state, wait_for_near
from outage_tools import messages, wait_until
from redlane import Cache, Client
from servers import Server
from tls import TlsServer

DOCS = Path(__file__).resolve().parent.parent / "docs"
PATIENCE = {"timeout": 30.0, "connect_timeout": 30.0}
PASSWORD = "canary-password"
RIGHTS = ("+client|tracking", "+info", "+ping")
RIGHTS_RESP2 = ("+client|id", "+subscribe", "&__redis__:invalidate")


def rules() -> list[str]:
    """What the line of docs/near-cache.md gives."""
    text = (DOCS / "near-cache.md").read_text()
    (line,) = re.findall(r"^user tools (.*)$", text, re.MULTILINE)
    assert f"user tools {line}\n" in (DOCS / "security.md").read_text()
    assert line.startswith("on >a-long-password ")
    return ["reset", "on", f">{PASSWORD}", *line.split()[2:]]


def urls(server: Server) -> dict[str, str]:
    login = f"tools:{PASSWORD}@"
    return {
        "tcp": server.url.replace("://", f"://{login}"),
        "unix": f"unix://{login}{server.socket_path}",
    }


def write_and_see(client: Client[bytes], server: Server) -> None:
    """A value that is near, until somebody else changes it."""
    cache = Cache(client, ttl=60)

    @cache
    def double(number: int) -> int:
        return 2 * number

    cache.set("k", 1)
    cache.get("k")
    wait_for_near(client)
    for value in range(3):
        server.cli("SET", "cache:k", value)
        wait_until(lambda value=value: cache.get("k") == value, "the write")
        wait_until(lambda: is_near(cache), "a near hit")
    assert double(2) == double(2) == 4
    assert near_state(client)["reason"] is None
    assert cache.stats()["errors"] == 0


def is_near(cache: Cache) -> bool:
    before = near_hits(cache)
    cache.get("k")
    return near_hits(cache) > before


@pytest.mark.parametrize("link", ["tcp", "unix"])
@pytest.mark.parametrize("protocol", ["RESP3", "RESP2"])
def test_the_line_is_enough(
    request: pytest.FixtureRequest, link: str, protocol: str
) -> None:
    name = "redis_server" if protocol == "RESP3" else "old_server"
    server: Server = request.getfixturevalue(name)
    more = RIGHTS_RESP2 if protocol == "RESP2" else ()
    server.cli("ACL", "SETUSER", "tools", *rules(), *more)
    try:
        with Client(urls(server)[link], **PATIENCE) as client:
            write_and_see(client, server)
            assert near_state(client)["protocol"] == protocol
    finally:
        server.cli("ACL", "DELUSER", "tools")


def test_the_line_is_enough_over_tls(tls_server: TlsServer) -> None:
    tls_server.cli("ACL", "SETUSER", "tools", *rules())
    url = tls_server.tls_url(login=f"tools:{PASSWORD}@")
    try:
        with Client(url, tls_ca=str(tls_server.ca), **PATIENCE) as client:
            write_and_see(client, tls_server)
    finally:
        tls_server.cli("ACL", "DELUSER", "tools")


@pytest.mark.parametrize("missing", [*RIGHTS, *RIGHTS_RESP2])
def test_a_missing_right_is_said_once_and_turns_it_off(
    missing: str,
    request: pytest.FixtureRequest,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, logger="redlane")
    old = missing in RIGHTS_RESP2
    server: Server = request.getfixturevalue("old_server" if old else "redis_server")
    given = [*rules(), *(RIGHTS_RESP2 if old else ())]
    server.cli(
        "ACL", "SETUSER", "tools", *(right for right in given if right != missing)
    )
    try:
        with Client(urls(server)["tcp"], **PATIENCE) as client:
            cache = Cache(client, ttl=60)
            cache.get("k")
            wait_until(lambda: near_state(client)["reason"], "the reason")
            assert "NOPERM" in near_state(client)["reason"]
            for value in range(20):
                server.cli("SET", "cache:k", value)
                assert cache.get("k") == value
                assert cache.get_many(["k"]) == {"k": value}
            assert near_hits(cache) == 0
            (told,) = messages(caplog.records, "near cache is off")
            assert "NOPERM" in told
            assert PASSWORD not in f"{caplog.text}{client.health()}{client!r}"
            (record,) = [r for r in caplog.records if r.getMessage() == told]
            assert record.levelno == logging.WARNING
    finally:
        server.cli("ACL", "DELUSER", "tools")
