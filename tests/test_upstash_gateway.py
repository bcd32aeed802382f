"""The gateway that the tests of https:// URLs use is right: Upstash's own client, sync
and async, gets from it what the server holds."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from servers import Server
from upstash_gateway import Gateway, running_gateway
from upstash_redis import Redis
from upstash_redis.asyncio import Redis as AsyncRedis
from upstash_redis.errors import UpstashError


@pytest.fixture
def gateway(redis_server: Server) -> Iterator[Gateway]:
    redis_server.cli("FLUSHALL")
    with running_gateway(redis_server.port) as gateway:
        yield gateway


def client_of(gateway: Gateway, token: str | None = None) -> Redis:
    return Redis(
        gateway.url, token or gateway.token, rest_retries=0, allow_telemetry=False
    )


def ask(
    gateway: Gateway,
    path: str,
    body: bytes | None = None,
    encoding: str | None = None,
) -> tuple[int, Any]:
    """Status and JSON of one plain request."""
    fields = {"Authorization": f"Bearer {gateway.token}"}
    if encoding:
        fields["Upstash-Encoding"] = encoding
    request = urllib.request.Request(gateway.url + path, data=body, headers=fields)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_commands_of_the_official_client(
    gateway: Gateway, redis_server: Server
) -> None:
    with client_of(gateway) as redis:
        assert redis.set("k", "välue ☃", ex=100) is True
        assert redis.get("k") == "välue ☃"
        assert redis.get("missing") is None
        assert redis_server.cli("GET", "k") == "välue ☃".encode()
        assert 0 < redis.ttl("k") <= 100
        assert redis.hset("h", values={"a": "1", "b": "2"}) == 2
        assert redis.hgetall("h") == {"a": "1", "b": "2"}
        assert redis.sadd("s", "x", "y") == 2
        assert set(redis.smembers("s")) == {"x", "y"}
        assert redis.incr("n") == 1
        assert redis.eval("return {KEYS[1], ARGV[1]}", ["k"], ["v"]) == ["k", "v"]
        assert redis.delete("k", "h") == 2
        with pytest.raises(UpstashError, match="WRONGTYPE"):
            redis.get("s")


def test_pipelines_and_transactions_of_the_official_client(
    gateway: Gateway, redis_server: Server
) -> None:
    with client_of(gateway) as redis:
        pipeline = redis.pipeline()
        pipeline.set("a", "1").incr("a").get("a")
        assert pipeline.exec() == [True, 2, "2"]
        multi = redis.multi()
        multi.incr("a").incr("a")
        assert multi.exec() == [3, 4]
    assert [path for path, _ in gateway.requests] == ["/pipeline", "/multi-exec"]
    assert redis_server.cli("GET", "a") == b"4"


def test_the_official_async_client(gateway: Gateway, redis_server: Server) -> None:
    async def main() -> None:
        async with AsyncRedis(gateway.url, gateway.token) as redis:
            await redis.set("k", "v")
            assert await redis.get("k") == "v"
            assert await redis.publish("nobody", "hears") == 0

    asyncio.run(main())
    assert redis_server.cli("GET", "k") == b"v"


def test_a_wrong_token(gateway: Gateway) -> None:
    with (
        client_of(gateway, "another") as redis,
        pytest.raises(UpstashError, match="WRONGPASS"),
    ):
        redis.get("k")


def test_paths_and_bodies(gateway: Gateway, redis_server: Server) -> None:
    """A value as the body of a request may be any bytes; the rest of its command is in
    the path and the query."""
    value = bytes(range(256))
    assert ask(gateway, "/SET/blob?EX=100", value) == (200, {"result": "OK"})
    assert redis_server.cli("GET", "blob") == value
    assert ask(gateway, "/get/blob", encoding="base64") == (
        200,
        {"result": base64.b64encode(value).decode()},
    )
    assert ask(gateway, "/set/a%2Fb/c%20d") == (200, {"result": "OK"})
    assert redis_server.cli("GET", "a/b") == b"c d"


@pytest.mark.parametrize(
    ("path", "body", "error"),
    [
        ("/", b"", "failed to parse"),
        ("/", b'["SET", "k", "\xff"]', "failed to parse"),
        ("/", b"[]", "empty command"),
        ("/", b'["GET", ["k"]]', "strings and numbers"),
        ("/", b'["SUBSCRIBE", "c"]', "not available"),
        ("/", b'["NOSUCH"]', "unknown command"),
        ("/pipeline", b"[]", "empty pipeline"),
        ("/multi-exec", b'[["NOSUCH"]]', "unknown command"),
    ],
)
def test_what_is_wrong_is_refused(
    gateway: Gateway, path: str, body: bytes, error: str
) -> None:
    status, answer = ask(gateway, path, body)
    assert status == 400
    assert error in answer["error"]


def test_one_failure_of_a_pipeline_is_its_own(gateway: Gateway) -> None:
    status, answer = ask(gateway, "/pipeline", b'[["SET","k","v"],["INCR","k"]]')
    assert status == 200
    assert answer[0] == {"result": "OK"}
    assert "not an integer" in answer[1]["error"]


def test_a_subscription_is_a_stream_of_events(
    gateway: Gateway, redis_server: Server
) -> None:
    request = urllib.request.Request(
        f"{gateway.url}/subscribe/news",
        headers={
            "Authorization": f"Bearer {gateway.token}",
            "Accept": "text/event-stream",
        },
    )
    with urllib.request.urlopen(request, timeout=30) as stream:
        assert stream.headers["Content-Type"] == "text/event-stream"
        assert stream.readline() == b"data: subscribe,news,1\n"
        assert stream.readline() == b"\n"
        redis_server.cli("PUBLISH", "news", "a,b\nc")
        lines = [stream.readline() for _ in range(3)]
        assert lines == [b"data: message,news,a,b\n", b"data: c\n", b"\n"]


def test_faults_on_demand(gateway: Gateway) -> None:
    gateway.refuse(429, "ERR max daily request limit exceeded", retry_after="1")
    assert ask(gateway, "/get/k")[0] == 429
    gateway.cut()
    with pytest.raises(http.client.IncompleteRead):
        ask(gateway, "/get/k")
    assert ask(gateway, "/get/k") == (200, {"result": None})
    assert gateway.count == 3
