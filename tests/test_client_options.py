"""Client(): options, their errors, and what is shown of a URL."""

from __future__ import annotations

import math
from typing import Any

import pytest
from redlane import Client, ConfigurationError

SECRET = "canary-secret"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("memory://", "memory://"),
        ("redis://user:canary-secret@host:6380/3", "redis://user:***@host:6380/3"),
        ("redis://:canary-secret@host/0", "redis://:***@host"),
        ("redis://user:p%40ss@host", "redis://user:***@host"),
        (
            "unix://user:canary-secret@/run/redis.sock?db=1",
            "unix://user:***@/run/redis.sock",
        ),
    ],
)
def test_repr_and_url_hide_the_password(url: str, shown: str) -> None:
    client = Client(url)
    assert SECRET not in repr(client)
    assert "p@ss" not in repr(client)
    assert client.url.startswith(shown)
    assert repr(client) == f"<redlane.Client {client.url}>"
    assert SECRET not in repr(client.health())
    client.close()


def test_repr_of_a_subclass() -> None:
    class Mine(Client[bytes]):
        pass

    assert repr(Mine("memory://")) == "<Mine memory://>"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host:6379",
        "http://canary-secret@host",
        "redis://:canary-secret@host:notaport",
        "redis://:canary-secret@host:99999",
        "redis://:canary-secret@host/notadb",
        "redis://:canary-secret%zz@host",
        "redis://:canary-secret@ho st",
        "redis://:canary-secret@host\x00",
        "redis://:canary-secret\ud800@host",
        "canary-secret://host",
        f"unix://:canary-secret@/{'x' * 200}",
        5,
        b"redis://canary-secret@host",
        ["canary-secret"],
    ],
)
def test_bad_urls(url: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Client(url)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("url", "token", "complaint"),
    [
        ("https://eu1.upstash.io", None, "opened with its token"),
        ("https://eu1.upstash.io", "", "printable ASCII"),
        ("https://eu1.upstash.io", f"{SECRET}\n", "printable ASCII"),
        ("https://eu1.upstash.io", f"{SECRET}é", "printable ASCII"),
        ("https://eu1.upstash.io", SECRET.encode(), "printable ASCII"),
        (f"https://user:{SECRET}@eu1.upstash.io", SECRET, "no user, password"),
        ("https://eu1.upstash.io?db=1", SECRET, "no user, password or database"),
        ("http://eu1.upstash.io", SECRET, "unencrypted"),
        ("redis://localhost", SECRET, "goes with an https:// URL"),
        ("memory://", SECRET, "goes with an https:// URL"),
    ],
)
def test_tokens(url: str, token: Any, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint) as caught:
        Client(url, token=token)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("options", [{"token": SECRET}, {}])
def test_a_token_is_not_shown(options: dict[str, Any]) -> None:
    query = "" if options else f"?token={SECRET}"
    with Client(f"https://eu1.upstash.io/base{query}", **options) as client:
        assert repr(client) == "<redlane.Client https://eu1.upstash.io/base>"
        assert client.url == "https://eu1.upstash.io/base"


def test_unknown_parameters_are_named() -> None:
    with pytest.raises(ConfigurationError, match="max_connections"):
        Client("redis://localhost?timeout=1&max_connections=5")


@pytest.mark.parametrize(
    "query",
    [
        "timeout=x",
        "timeout=0",
        "pool_size=1.5",
        "pool_size=0",
        "name=a%20b",
        "timeout=nan",
    ],
)
def test_bad_parameters(query: str) -> None:
    with pytest.raises(ConfigurationError, match=query.partition("=")[0]):
        Client(f"redis://localhost?{query}")


def test_good_parameters() -> None:
    Client(
        "redis://localhost?timeout=1.5&connect_timeout=2&pool_size=4&name=me&db=2"
    ).close()
    Client("redis://localhost?pool_size=0", pool_size=4).close()  # the keyword wins


@pytest.mark.parametrize(
    ("option", "value"),
    [
        (option, value)
        for option in ("timeout", "connect_timeout")
        for value in (0, -1, math.nan, math.inf, -math.inf, 1e7, 10**400, True, "1", [])
    ]
    + [
        (option, value)
        for option in ("pool_size", "max_reply", "max_memory")
        for value in (0, -1, 1.5, 2**70, True, "1", [])
    ]
    + [("fallback", value) for value in ("", "redis", "RAISE", 1, True, b"raise")]
    + [("name", value) for value in ("a b", "a\n", "ü", "\x7f", 5, b"n")]
    + [("decode_responses", value) for value in (1, "yes", [])]
    + [("pool_size", 65537)],
    ids=repr,
)
def test_bad_options(option: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=option):
        Client("memory://", **{option: value})


def test_configuration_errors_are_value_errors() -> None:
    with pytest.raises(ValueError):
        Client("memory://", timeout=0)


def test_none_is_the_default() -> None:
    client = Client(
        "memory://",
        timeout=None,
        connect_timeout=None,
        pool_size=None,
        name=None,
        max_reply=None,
        max_memory=None,
    )
    assert client.ping()


def test_unknown_options() -> None:
    with pytest.raises(TypeError):
        Client("memory://", nope=1)  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        Client("memory://", "raise")  # type: ignore[call-overload]


def test_max_memory_bounds_the_engine() -> None:
    client = Client("memory://", max_memory=1 << 20)
    for i in range(100):
        client.set(f"k:{i}", "v" * 50_000)
    health = client.health()
    assert health["engine"]["bytes"] <= 1 << 20
    assert client.dbsize() < 100


def test_each_memory_client_has_an_engine_of_its_own() -> None:
    one, two = Client("memory://"), Client("memory://")
    one.set("k", "v")
    assert two.get("k") is None


def test_decode_responses(executor: str, request: pytest.FixtureRequest) -> None:
    from conftest import make_client

    client = make_client(executor, request, decode_responses=True)
    client.set("k", "grün")
    assert client.get("k") == "grün"
    client.hset("h", "f", "v")
    assert client.hgetall("h") == {"f": "v"}
    client.sadd("s", "m")
    assert client.smembers("s") == {"m"}
    client.zadd("z", {"m": 1.5})
    assert client.zrange("z", 0, -1, withscores=True) == [("m", 1.5)]
    assert client.zscore("z", "m") == 1.5
    assert client.type("k") == "string"
    assert client.set("k", "v") is True
    assert client.set("k", "w", get=True) == "v"
    assert client.ping() is True
    assert client.incrbyfloat("f", 0.5) == 0.5
    cursor, keys = client.scan(count=100)
    assert cursor == 0
    assert set(keys) == {"k", "h", "s", "z", "f"}
    assert client.info("memory")["used_memory"] > 0
    assert client.mget("k", "missing") == ["w", None]
    client.set("k", b"\xff")
    with pytest.raises(UnicodeDecodeError):
        client.get("k")
    assert client.exists("k") == 1
    client.close()
