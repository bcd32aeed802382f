"""What the page on security says is done: its example runs, its rights suffice and none
is too many.

The tests of commands, pipelines and scripts run once more here: by TLS, as a user with
those rights.
"""

from __future__ import annotations

import contextlib
import math
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redlane
from redlane import Cache, Client, Counter, VideoCache
from servers import Server, free_port
from test_client_commands import *  # noqa: F403
from test_client_execute import *  # noqa: F403
from test_docs import bash_blocks, read_blocks, run_bash
from test_pipeline import *  # noqa: F403
from test_wire_scripts import *  # noqa: F403
from tls import Authority, TlsServer, running
from toolset import wait_until

PAGE = Path(__file__).resolve().parent.parent / "docs" / "security.md"
PASSWORD = "a-long-password"


def rules_of(user: str) -> list[str]:
    """The rights of a user as the page has them."""
    (line,) = re.findall(rf"^user {user} (.*)$", PAGE.read_text(), re.MULTILINE)
    rules = line.split()
    assert rules[:2] == ["on", f">{PASSWORD}"]
    return rules


class UserServer(TlsServer):
    """Its `url` is that of a user with some rights."""

    def __init__(self, user: str, rules: list[str], authority: Authority) -> None:
        identity = authority.issue(f"user-{user}")
        super().__init__(identity, ca=authority.ca)
        self.user = user
        self.rules = rules

    def start(self) -> None:
        super().start()
        self.cli("ACL", "SETUSER", self.user, "reset", *self.rules)

    @property
    def url(self) -> str:
        ca = quote(str(self.ca), safe="")
        return f"{self.tls_url(login=f'{self.user}:{PASSWORD}@')}?tls_ca={ca}"


# --- Client: the tests of its commands, as the user of the page ---------------------


@pytest.fixture(scope="module")
def app_server(authority: Authority) -> Iterator[Server]:
    # The keys of those tests have no prefix, and they empty the database.
    rules = [r.replace("~app:*", "~*").replace("&app:*", "&*") for r in rules_of("app")]
    assert "~*" in rules
    assert "&*" in rules
    rules += ["+flushdb", "+flushall", "+keys", "+config|get"]
    with running(UserServer("app", rules, authority)) as server:
        yield server


@pytest.fixture
def redis_server(app_server: Server) -> Server:
    app_server.cli("FLUSHALL")
    return app_server


@pytest.fixture(params=["redis"])
def executor(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.mark.parametrize(
    "command", [("CONFIG", "RESETSTAT"), ("DEBUG", "HELP"), ("SHUTDOWN",)]
)
def test_what_an_application_may_not(client: Any, command: tuple[str, ...]) -> None:
    with pytest.raises(redlane.PermissionDeniedError):
        client.execute(*command)
    assert client.health()["breaker"] == "closed"


# --- the tools ----------------------------------------------------------------------


def use_cache(cache: Cache) -> None:
    assert cache.set("a", 1) and cache.set("b", 2, ttl=50)
    assert (cache.get("a"), cache.get("missing")) == (1, None)
    assert cache.add("c", 1) and cache.add("d", 1, ttl=50) and not cache.add("a", 5)
    assert cache.has("a") and cache.delete("a")
    assert cache.ttl("c") == math.inf
    assert cache.touch("c", 50) and cache.touch("c", None)
    cache.set_many({"e": 1, "f": 2})
    cache.set_many({"g": 3}, ttl=90)
    assert cache.get_many(["e", "g"]) == {"e": 1, "g": 3}
    assert cache.delete_many(["e", "f"]) == 2
    assert cache.get_or_set("h", lambda: 4, ttl=4) == 4
    assert (cache.increment("n"), cache.increment("m", 2, ttl=5)) == (1, 2)
    assert cache.decrement("n") == 0
    assert cache.stats()["errors"] == 0


def use_functions(cache: Cache) -> None:
    @cache(ttl=60)
    def double(number: int) -> int:
        return 2 * number

    @cache(condition=lambda result: False)
    def unwanted(number: int) -> int:
        return number

    @cache
    def failing(number: int) -> int:
        raise KeyError(number)

    assert [double(1), double(1), double.refresh(1), unwanted(1)] == [2, 2, 2, 1]
    with pytest.raises(KeyError):
        failing(1)
    assert double.invalidate(1) and double.cache_info().errors == 0
    double(2)
    assert double.invalidate_all() == 1


def use_counters(counter: Counter, first: int | None) -> None:
    assert counter.get(1) == first
    assert counter.increment(1, amount=2) == (None if first is None else first + 2)
    counter.transfer(1, 2)
    counter.decrement(1)
    assert counter.delete(1) is (first is not None)
    counter.reset(2)


def use_videos(videos: VideoCache) -> None:
    videos.startup()
    assert videos.set("b", ["w"], "temporary") and videos.get("b", ["w"]) == "temporary"
    assert videos.set("b", ["w"], "permanent", permanent=True)
    assert not videos.set("b", ["w"], "temporary")
    assert videos.get("other", ["w"]) is None
    assert videos.get_stats()["total_entries"] == 1


def use_all(client: Client) -> None:
    cache = Cache(client, fallback="raise")
    use_cache(cache)
    use_functions(cache)
    use_counters(cache.counter("pixels:{id}", ttl=300, source=lambda _: 5), 5)
    use_counters(Counter(client, "cache:plain:{id}", fallback="raise"), None)
    use_videos(VideoCache(client))
    assert cache.invalidate("cache:*") > 0
    cache.set("last", 1)
    assert cache.clear() == 1
    health = client.health()
    assert (health["connected"], health["mode"]) == (True, "redis")
    assert health["server_version"] is not None


def use_while_full(client: Client, server: Server) -> None:
    """The journal and the probes: what the server must hear when it takes writes."""
    cache = Cache(client)
    server.cli("CONFIG", "SET", "maxmemory", "1")
    assert cache.set("for ever", 1) and cache.set("a while", 1, ttl=60)
    assert cache.increment("a number") == 1
    server.cli("CONFIG", "SET", "maxmemory", "0")
    wait_until(lambda: client.health()["write_breaker"] == "closed", "writes")
    assert [cache.get(key) for key in ("for ever", "a while", "a number")] == [
        1,
        None,
        1,
    ]
    assert client.health()["journal"]["lost"] == 0


def commands_run(server: Server) -> set[str]:
    statistics = server.cli("INFO", "commandstats").decode()
    return {
        name.replace("|", " ")
        for name, calls, rejected in re.findall(
            r"^cmdstat_(\S+?):calls=(\d+).*?rejected_calls=(\d+)",
            statistics,
            re.MULTILINE,
        )
        if int(calls)
    }


def test_the_tools_need_just_these_rights(authority: Authority) -> None:
    rules = rules_of("tools")
    with running(UserServer("tools", rules, authority)) as server:
        server.cli("CONFIG", "RESETSTAT")
        with Client(server.url, timeout=30, connect_timeout=30, name="me") as client:
            use_all(client)
            server.cli("FLUSHALL")
            server.cli("SCRIPT", "FLUSH")  # wherever there is a NOSCRIPT, EVAL
            use_all(client)
            use_while_full(client, server)
            assert server.cli("ACL", "LOG") == []
            # What every user may: the first words. The rest is the test's own.
            ran = commands_run(server) - {
                *("hello", "config resetstat", "script flush", "flushall", "acl log"),
                "config set",
            }
            granted = {rule[1:] for rule in rules if rule.startswith("+")}
            assert granted == ran
            for foreign in ("other:key", "cach", "videos"):
                with pytest.raises(redlane.PermissionDeniedError):
                    client.get(foreign)


def test_a_right_that_is_missing_is_no_outage(authority: Authority) -> None:
    rules = [rule for rule in rules_of("tools") if rule != "+set"]
    with running(UserServer("less", rules, authority)) as server:
        with Client(server.url, timeout=30, connect_timeout=30) as client:
            with pytest.raises(redlane.PermissionDeniedError):
                client.set("cache:a", "1")
            cache = Cache(client)
            with pytest.raises(redlane.PermissionDeniedError):
                cache.set("a", 1)

            @cache
            def double(number: int) -> int:
                return 2 * number

            assert double(1) == 2
            assert double.cache_info().errors > 0
            assert client.health()["breaker"] == "closed"


def test_another_database_needs_select(authority: Authority) -> None:
    with running(UserServer("tools", rules_of("tools"), authority)) as server:
        url = server.url.replace("/0?", "/1?")
        with Client(url, timeout=30, connect_timeout=30) as client:
            with pytest.raises(redlane.PermissionDeniedError, match="select"):
                client.ping()
            server.cli("ACL", "SETUSER", "tools", "+select")
        with Client(url, timeout=30, connect_timeout=30) as client:
            assert client.ping() is True


# --- the example --------------------------------------------------------------------


def is_listening(port: int) -> bool:
    with socket.socket() as link:
        return link.connect_ex(("127.0.0.1", port)) == 0


def test_the_example(tmp_path: Path) -> None:
    port = free_port()
    make, serve, look, end = bash_blocks("security.md")
    (python,) = [block for block in read_blocks(PAGE) if block.kind == "python"]
    run_bash(make.text, port, tmp_path)
    try:
        run_bash(serve.text, port, tmp_path)
        wait_until(lambda: is_listening(port), "the server")
        done = subprocess.run(
            [
                *(sys.executable, "-c"),
                python.text.replace("6379", str(port)),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert run_bash(look.text, port, tmp_path).count("TLSv1.3") == 2
    finally:
        with contextlib.suppress(subprocess.SubprocessError):
            run_bash(end.text, port, tmp_path)
