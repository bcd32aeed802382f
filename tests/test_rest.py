"""A client of an https:// URL: what it asks, in how many requests, and what it gets."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from outage_tools import wait_until
from redlane import (
    AsyncClient,
    Client,
    ConfigurationError,
    Counter,
    NoScriptError,
    ReplyError,
    WrongTypeError,
)
from servers import PATIENT
from upstash_gateway import Gateway


@pytest.fixture
def client(rest: Gateway) -> Iterator[Client[bytes]]:
    with Client(rest.url, token=rest.token, **PATIENT) as made:
        yield made


@pytest.fixture
def text(rest: Gateway) -> Iterator[Client[str]]:
    with Client(rest.url, token=rest.token, decode_responses=True, **PATIENT) as made:
        yield made


def commands(rest: Gateway) -> list[Any]:
    """What the server was asked, without where."""
    return [body for _, body in rest.requests]


def test_the_commands_of_an_application(text: Client[str]) -> None:
    assert text.set("k", "välue ☃", ex=100) is True
    assert text.get("k") == "välue ☃"
    assert text.get("missing") is None
    assert 0 < text.ttl("k") <= 100
    assert text.hset("h", mapping={"a": "1", "b": "2"}) == 2
    assert text.hget("h", "a") == "1"
    assert text.hgetall("h") == {"a": "1", "b": "2"}
    assert text.sadd("s", "x", "y") == 2
    assert text.sismember("s", "x") == 1
    assert text.smembers("s") == {"x", "y"}
    assert text.srem("s", "x") == 1
    assert text.scard("s") == 1
    assert text.exists("k", "h", "none") == 2
    assert text.expire("h", 10) is True
    assert text.incr("n") == 1
    assert text.mget("k", "none", "n") == ["välue ☃", None, "1"]
    assert text.zadd("z", {"a": 1.5}) == 1
    assert text.zrange("z", 0, -1, withscores=True) == [("a", 1.5)]
    assert text.ping() is True
    assert sorted(text.scan_iter(match="?")) == ["h", "k", "n", "s", "z"]
    assert text.publish("nobody", "hears") == 0
    assert text.delete("k", "h") == 2
    with pytest.raises(WrongTypeError):
        text.get("s")
    with pytest.raises(ReplyError, match="unknown command"):
        text.execute("NONSENSE")


def test_the_same_on_an_event_loop(rest: Gateway) -> None:
    async def main() -> None:
        async with AsyncClient(
            rest.url, token=rest.token, decode_responses=True, **PATIENT
        ) as client:
            assert await client.set("k", "välue ☃", ex=100) is True
            assert await client.get("k") == "välue ☃"
            assert await client.hset("h", mapping={"a": "1"}) == 1
            assert await client.hgetall("h") == {"a": "1"}
            assert await client.sadd("s", "x", "y") == 2
            assert await client.smembers("s") == {"x", "y"}
            assert await client.incr("n") == 1
            assert await client.delete("k") == 1
            with pytest.raises(WrongTypeError):
                await client.get("s")
            async with client.pipeline() as pipeline:
                pipeline.set("a", "1")
                pipeline.incr("a")
                pipeline.get("s")
                results = await pipeline.execute(raise_on_error=False)
            assert results[:2] == [True, 2]
            assert isinstance(results[2], WrongTypeError)

    asyncio.run(main())


def test_one_request_for_one_command(client: Client[bytes], rest: Gateway) -> None:
    client.set("k", "v")
    client.get("k")
    assert rest.requests == [("/", ["SET", "k", "v"]), ("/", ["GET", "k"])]


def test_a_pipeline_is_one_request(client: Client[bytes], rest: Gateway) -> None:
    with client.pipeline() as pipeline:
        pipeline.set("k", "1")
        pipeline.incr("k")
        pipeline.get("k")
        assert pipeline.execute() == [True, 2, b"2"]
    assert rest.requests == [
        ("/pipeline", [["SET", "k", "1"], ["INCRBY", "k", "1"], ["GET", "k"]])
    ]


def test_a_long_pipeline_is_cut(client: Client[bytes], rest: Gateway) -> None:
    with client.pipeline() as pipeline:
        for i in range(1500):
            pipeline.set(f"k{i}", str(i))
        assert pipeline.execute() == [True] * 1500
    assert [len(body) for body in commands(rest)] == [1000, 500]
    assert client.get("k1499") == b"1499"


def test_a_transaction_is_one_request(client: Client[bytes], rest: Gateway) -> None:
    with client.pipeline(transaction=True) as pipeline:
        pipeline.set(b"\xff", b"\xfe")
        pipeline.get(b"\xff")
        pipeline.incr("n")
        assert pipeline.execute() == [True, b"\xfe", 1]
    assert [path for path, _ in rest.requests] == ["/multi-exec"]
    with client.pipeline(transaction=True) as pipeline:
        pipeline.incr("n")
        pipeline.execute_command("NONSENSE")
        with pytest.raises(ReplyError, match="unknown command"):
            pipeline.execute()
    assert client.get("n") == b"1"


def test_the_commands_of_one_turn_are_one_request(rest: Gateway) -> None:
    async def main() -> None:
        async with AsyncClient(rest.url, token=rest.token, **PATIENT) as client:
            for _ in range(3):
                found = await asyncio.gather(*(client.incr("n") for _ in range(100)))
                assert found == list(range(found[0], found[0] + 100))

    asyncio.run(main())
    assert [path for path, _ in rest.requests] == ["/pipeline"] * 3
    assert [len(body) for body in commands(rest)] == [100] * 3


def test_the_first_turn_of_each_loop_is_one_request_too(rest: Gateway) -> None:
    """Though its connection is there as soon as the first command is."""
    client = AsyncClient(rest.url, token=rest.token, **PATIENT)

    async def turn() -> list[int]:
        return await asyncio.gather(*(client.incr("n") for _ in range(100)))

    for number in range(5):
        assert asyncio.run(turn()) == list(range(100 * number + 1, 100 * number + 101))
    assert [path for path, _ in rest.requests] == ["/pipeline"] * 5
    asyncio.run(client.close())


def test_large_values(client: Client[bytes], rest: Gateway) -> None:
    value = os.urandom(300_000)
    assert client.set("k", value) is True
    assert client.get("k") == value
    assert rest.count == 2


# --- bytes ------------------------------------------------------------------------


@settings(max_examples=25)
@given(st.binary(max_size=50), st.binary(max_size=300))
def test_bytes_survive(rest_session: Client[bytes], key: bytes, value: bytes) -> None:
    client = rest_session
    assert client.set(key, value) is True
    assert client.get(key) == value
    assert client.mget(key, b"\xff none") == [value, None]
    assert client.hset(b"h\x80", mapping={key: value}) in (0, 1)
    assert client.hgetall(b"h\x80") == {key: value}
    assert client.delete(key, b"h\x80") == (1 if key == b"h\x80" else 2)


@pytest.fixture(scope="module")
def rest_session(session_gateway: Gateway) -> Iterator[Client[bytes]]:
    session_gateway.be_kind()
    with Client(session_gateway.url, token=session_gateway.token, **PATIENT) as made:
        yield made


def test_only_what_must_be_is_wrapped(client: Client[bytes], rest: Gateway) -> None:
    client.set("k\0", "é☃\r\n")
    assert commands(rest) == [["SET", "k\0", "é☃\r\n"]]
    client.set("k", b"\xff")
    assert commands(rest)[1][0] == "EVAL"
    assert commands(rest)[1][3:] == ["SET", "k", "ÿ"]


def test_a_stored_ok_and_what_looks_encoded(client: Client[bytes]) -> None:
    for value in (b"OK", b"UE9ORw==", b"", b"PONG", b"0"):
        client.set("k", value)
        assert client.get("k") == value


def test_errors_of_wrapped_commands(client: Client[bytes]) -> None:
    client.set(b"\xff", b"\xff")
    with pytest.raises(WrongTypeError):
        client.sadd(b"\xff", b"\xfe")
    with pytest.raises(ReplyError, match="not an integer"):
        client.incr(b"\xff")


def test_an_error_inside_of_a_scripts_reply(client: Client[bytes]) -> None:
    """As on Redis: a typed one, and no sign of a server that is away."""
    most = 2**63 - 1
    client.mset({"k": most, "l": 7})
    with pytest.raises(ReplyError, match="overflow"):
        Counter(client, "{id}").transfer("l", "k")
    assert client.get("k") == str(most).encode()
    assert client.health()["breaker"] == "closed"
    looks_so = "return {redis.status_reply('ERR '), '-ERR no', 'RELAY away 0 x', 1}"
    assert client.eval(looks_so, 0)[1:] == [b"-ERR no", b"RELAY away 0 x", 1]


def test_scripts_with_bytes(client: Client[bytes]) -> None:
    echo = "return {KEYS[1], ARGV[1], ARGV[2], 'é'}"
    given = (1, b"\xff k", b"\x80\xc3\xa9", "é☃")
    expected = [b"\xff k", b"\x80\xc3\xa9", "é☃".encode(), "é".encode()]
    assert client.eval(echo, *given) == expected
    assert client.eval(f"#!lua\n{echo}", *given) == expected
    with pytest.raises(NoScriptError, match="not UTF-8"):
        client.execute("EVALSHA", "0" * 40, *given)
    with pytest.raises(ReplyError, match="must be UTF-8"):
        client.execute("EVAL", b"return '\xff'", 0)


# --- its life ---------------------------------------------------------------------


def relays() -> set[threading.Thread]:
    return {t for t in threading.enumerate() if t.name == "redlane-rest"}


def test_the_thread_and_the_connections_end_with_the_client(rest: Gateway) -> None:
    others = relays()

    def ended() -> bool:
        return relays() <= others

    with Client(rest.url, token=rest.token, **PATIENT) as client:
        assert ended()
        assert client.ping() is True
        assert len(relays() - others) == 1
    wait_until(ended, "the end of the thread")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        client = Client(rest.url, token=rest.token, **PATIENT)
        client.get("k")
        del client
        gc.collect()
        wait_until(ended, "the end of the thread")
    # The gateway in this process may still hold its ends of the last one's.
    assert len(os.listdir("/proc/self/fd")) <= before + 4


def test_threads_share_it(client: Client[bytes]) -> None:
    others = relays()
    failures: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for i in range(20):
                assert client.set(name, str(i)) is True
                assert client.get(name) == str(i).encode()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(f"t{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(relays() - others) == 1


def test_a_loop_after_the_other(rest: Gateway) -> None:
    with Client(rest.url, token=rest.token, **PATIENT) as client:
        for _ in range(3):
            assert asyncio.run(_incr(client.aio)) >= 1
        assert client.get("n") == b"3"


async def _incr(client: AsyncClient[bytes]) -> int:
    return await client.incr("n")


def test_a_cancelled_call_takes_nobodys_reply(rest: Gateway) -> None:
    async def main() -> None:
        async with AsyncClient(rest.url, token=rest.token, **PATIENT) as client:
            await client.set("a", "1")
            rest.delay = 0.2
            late = asyncio.ensure_future(client.get("a"))
            await asyncio.sleep(0.05)
            late.cancel()
            rest.delay = 0
            assert await client.get("b") is None
            assert await client.get("a") == b"1"

    asyncio.run(main())


FORKS = """
import os, sys
from redlane import Client
client = Client(sys.argv[1], token=sys.argv[2], timeout=30, connect_timeout=30)
client.set("k", "v")
for _ in range(2):
    child = os.fork()
    if not child:
        assert client.get("k") == b"v"
        client.incr("n")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert client.get("k") == b"v"
child = os.fork()
if not child:
    client.incr("n")
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
assert client.get("n") == b"3"
"""


def test_forks_and_exits(rest: Gateway) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORKS, rest.url, rest.token],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_lines_of_the_log(rest: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with Client(rest.url, token=rest.token, **PATIENT) as client:
        client.set("k", "canary-value")
    lines = [r.getMessage() for r in caplog.records if r.name == "redlane"]
    assert lines[:2] == [
        "Initializing Upstash Redis client",
        f"Redis client initialized with URL: {rest.url}",
    ]
    assert rest.token not in caplog.text
    assert "canary-value" not in caplog.text
    assert [r for r in caplog.records if r.name == "httpx"] == []


def test_without_httpx() -> None:
    code = (
        "import sys; sys.modules['httpx'] = None\n"
        "from redlane import Client, ConfigurationError\n"
        "Client('memory://')\n"
        "try: Client('https://x.upstash.io', token='t')\n"
        "except ConfigurationError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip().endswith("pip install 'redlane[upstash]'")
    assert done.stderr == ""


def test_from_the_environment(rest: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.delenv("REDIS_ADDR", raising=False)
    monkeypatch.setenv("UPSTASH_REDIS_REST_URL", rest.url)
    monkeypatch.setenv("UPSTASH_REDIS_REST_TOKEN", rest.token)
    with Client(**PATIENT) as client:
        assert client.url == rest.url
        assert client.set("k", "v") is True
    monkeypatch.setenv("UPSTASH_REDIS_REST_TOKEN", "a b")
    with pytest.raises(ConfigurationError, match=r"^UPSTASH_REDIS_REST_TOKEN: "):
        Client()


def test_health(client: Client[bytes], rest: Gateway) -> None:
    health = client.health()
    assert health["mode"] == "redis"
    assert health["connected"] is True
    assert health["url"] == rest.url
    assert health["server_version"]
    assert health["breaker"] == "closed"
    assert health["near"] is None
