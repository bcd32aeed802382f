"""What a client logs: each operation at DEBUG, never a value."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from aio import Runner
from redlane import (
    AsyncCache,
    AsyncClient,
    Cache,
    Client,
    Cooldown,
    Counter,
    RateLimiter,
    RedisCache,
    ReplyError,
    VideoCache,
)
from servers import PATIENT, Server
from upstash_gateway import Gateway

VALUE = "canary-value"


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "redlane")
    return caplog


def messages(lines: pytest.LogCaptureFixture) -> list[str]:
    found = [
        r.getMessage()
        for r in lines.records
        if r.name == "redlane" and r.levelno == logging.DEBUG
    ]
    lines.clear()
    return found


def test_command_key_and_time(client: Client, lines: pytest.LogCaptureFixture) -> None:
    messages(lines)
    client.set("user:1", VALUE)
    client.get("user:1")
    client.ping()
    set_line, get_line, ping_line = messages(lines)
    assert set_line.startswith("SET 'user:1' ")
    assert get_line.startswith("GET 'user:1' ")
    assert ping_line.startswith("PING ")
    for line in (set_line, get_line, ping_line):
        assert float(line.split()[-2]) >= 0
        assert line.endswith(" ms")


def test_never_a_value(client: Client, lines: pytest.LogCaptureFixture) -> None:
    client.set("k", VALUE)
    client.hset("h", VALUE, VALUE)
    client.mset({"k": VALUE})
    client.echo(VALUE)
    client.publish("c", VALUE)
    client.sadd("s", VALUE)
    client.pipeline().set("k", VALUE).get("k").execute()
    client.execute("ECHO", VALUE)
    client.scan(match=VALUE)
    client.keys(VALUE)
    for call in (
        lambda: client.eval(f"return '{VALUE}' .. nothing", 0, VALUE),
        lambda: client.execute("NO-SUCH-COMMAND", VALUE),
    ):
        with pytest.raises(ReplyError):
            call()
    found = messages(lines)
    assert len(found) >= 13
    assert not [line for line in found if VALUE in line]


def test_the_tools(redis_server: Server, lines: pytest.LogCaptureFixture) -> None:
    """Each operation of a tool, too; a limiter's, whose key is a script's."""
    with Client(redis_server.url, **PATIENT) as client:
        tenant = RedisCache.from_client(client).with_context("app", "device")
        limiter = RateLimiter(client)
        video = VideoCache(client)
        cache = Cache(client, prefix="c", near=False)
        counter = Counter(client, "n:{id}", ttl=60)
        calls: dict[str, Callable[[], object]] = {
            "SET 'c:k' ": lambda: cache.set("k", VALUE, ttl=60),
            "GET 'c:k' ": lambda: cache.get("k"),
            "SET '/app/device/k' ": lambda: tenant.set("k", VALUE.encode(), 60),
            "GET '/app/device/k' ": lambda: tenant.get("k"),
            "EVALSHA 'limit:{ann}": lambda: limiter.hit("ann", "5/minute"),
            "EVALSHA 'cooldown:ann' ": lambda: Cooldown(client, 60).acquire("ann"),
            "EVALSHA 'n:1' ": lambda: counter.increment(1),
            "EVALSHA 'video:": lambda: video.set(VALUE, [VALUE], VALUE),
            "GET 'video:": lambda: video.get(VALUE, [VALUE]),
        }
        for begin, call in calls.items():
            messages(lines)
            call()
            found = messages(lines)
            assert any(line.startswith(begin) for line in found), (begin, found)
            assert all(line.endswith(" ms") for line in found)
            assert not any(VALUE in line for line in found)


def test_awaited_operations(
    client: Client, run: Runner, lines: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        aclient: AsyncClient = client.aio
        cache = AsyncCache(aclient, prefix="c", near=False)
        messages(lines)
        await aclient.set("k", VALUE)
        await aclient.pipeline().get("k").get("l").execute()
        await cache.set("k", VALUE, ttl=60)
        await cache.get("k")

    run(main())
    found = messages(lines)
    begins = ["SET 'k' ", "GET 'k' ", "GET 'l' ", "SET 'c:k' ", "GET 'c:k' "]
    for begin in begins:
        assert any(line.startswith(begin) for line in found), (begin, found)
    assert not any(VALUE in line for line in found)


def test_over_rest(rest: Gateway, lines: pytest.LogCaptureFixture) -> None:
    with Client(rest.url, token=rest.token, **PATIENT) as client:
        messages(lines)
        client.set("k", VALUE)
        Cache(client, prefix="c").set("k", VALUE, ttl=60)
        found = messages(lines)
    assert [line.split(" ")[:2] for line in found] == [["SET", "'k'"], ["SET", "'c:k'"]]
    assert not any(rest.token in line or VALUE in line for line in found)


def test_failures_and_strange_keys(
    client: Client, lines: pytest.LogCaptureFixture
) -> None:
    client.hset("h\nDEBUG - forged", "f", "v")
    with pytest.raises(ReplyError):
        client.get("h\nDEBUG - forged")
    client.get(b"\xff" * 1000)
    found = messages(lines)
    assert all("\n" not in line for line in found)
    assert " failed " in found[-2]
    assert len(found[-1]) < 1000


def test_the_level_counts_at_once(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("redlane")
    before = logger.level
    try:
        for _ in range(3):
            logger.setLevel(logging.DEBUG)
            client.get("k")
            assert messages(caplog) != []
            logger.setLevel(logging.INFO)
            client.get("k")
            assert messages(caplog) == []
        logger.setLevel(logging.DEBUG)
        logger.disabled = True
        client.get("k")
        assert messages(caplog) == []
        logger.disabled = False
        client.get("k")
        assert messages(caplog) != []
        logging.disable(logging.DEBUG)
        client.get("k")
        assert messages(caplog) == []
    finally:
        logging.disable(logging.NOTSET)
        logger.disabled = False
        logger.setLevel(before)


def test_a_handler_that_uses_the_client(
    client: Client, lines: pytest.LogCaptureFixture
) -> None:
    class Handler(logging.Handler):
        depth = 0

        def emit(self, record: logging.LogRecord) -> None:
            if self.depth == 0 and record.getMessage().startswith("GET"):
                self.depth = 1
                client.set("seen", record.getMessage())
                self.depth = 0

    handler = Handler()
    logger = logging.getLogger("redlane")
    logger.addHandler(handler)
    try:
        client.get("k")
    finally:
        logger.removeHandler(handler)
    assert b"GET 'k'" in (client.get("seen") or b"")


def run_python(
    code: str, tmp_path: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """A process of its own, in an empty folder, without our variables."""
    import redlane

    root = str(Path(redlane.__file__).parent.parent)
    ours = ("DEBUG", "REDIS_", "UPSTASH_")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**inherited, "PYTHONPATH": root, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


CODE = "from redlane import Client; Client('memory://').set('k', 'canary-value')"


@pytest.mark.parametrize("value", ["true", "1", "True"])
def test_debug_in_the_environment(tmp_path: Path, value: str) -> None:
    errors = run_python(CODE, tmp_path, DEBUG=value).stderr
    assert errors.startswith("DEBUG - SET 'k' ")
    assert VALUE not in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize("value", ["", "0", "false"])
def test_no_debug_in_the_environment(tmp_path: Path, value: str) -> None:
    assert run_python(CODE, tmp_path, DEBUG=value).stderr == ""


def test_import_is_light(tmp_path: Path) -> None:
    heavy = "logging asyncio ssl msgspec typing re dataclasses json inspect datetime"
    bare = f"import sys; print([m for m in {heavy!r}.split() if m in sys.modules])"
    ours = f"import redlane; {bare}"
    assert run_python(ours, tmp_path).stdout == run_python(bare, tmp_path).stdout
