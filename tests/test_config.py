"""from_env(), the default client, and configure()."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redlane
from redlane import Client, ConfigurationError, ConnectionError, _config, _default

VARIABLES = (
    "REDIS_URL",
    "REDIS_ADDR",
    "REDIS_PASSWORD",
    "REDIS_DB",
    "REDIS_TLS_CA",
    "REDIS_TLS_CERT",
    "REDIS_TLS_KEY",
    "REDIS_TLS_KEY_PASSWORD",
    "REDIS_TLS_SERVER_NAME",
    "UPSTASH_REDIS_REST_URL",
    "UPSTASH_REDIS_REST_TOKEN",
)
SECRET = "canary p@ss:w/ord"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.fixture
def no_default_client() -> Iterator[None]:
    redlane.close_default_client()
    yield
    redlane.close_default_client()


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({}, "redis://localhost:6379"),
        ({"REDIS_URL": "redis://h:1/2"}, "redis://h:1/2"),
        ({"REDIS_URL": "redis://h:1", "REDIS_DB": "3"}, "redis://h:1/3"),
        ({"REDIS_URL": "redis://h:1/", "REDIS_DB": "3"}, "redis://h:1/3"),
        ({"REDIS_URL": "redis://h:1/2", "REDIS_DB": "2"}, "redis://h:1/2"),
        ({"REDIS_URL": "redis://h?name=x", "REDIS_DB": "3"}, "redis://h/3?name=x"),
        ({"REDIS_URL": "unix:///run/s", "REDIS_DB": "3"}, "unix:///run/s?db=3"),
        (
            {"REDIS_URL": "unix:///run/s?name=x", "REDIS_DB": "3"},
            "unix:///run/s?name=x&db=3",
        ),
        ({"REDIS_URL": "memory://", "REDIS_DB": "3"}, "memory://"),
        ({"REDIS_URL": "rediss://h:1", "REDIS_DB": "3"}, "rediss://h:1/3"),
        (
            {"REDIS_URL": "rediss://h", "REDIS_TLS_SERVER_NAME": "other"},
            "rediss://h?tls_server_name=other",
        ),
        (
            {"REDIS_URL": "rediss://h?name=x", "REDIS_TLS_SERVER_NAME": "other"},
            "rediss://h?name=x&tls_server_name=other",
        ),
        (
            {"REDIS_URL": "rediss://h?tls_server_name=a", "REDIS_TLS_SERVER_NAME": "b"},
            "rediss://h?tls_server_name=a",
        ),
        ({"REDIS_URL": "", "REDIS_ADDR": "h:1"}, "redis://h:1"),
        ({"REDIS_URL": "redis://u:1", "REDIS_ADDR": "a:1"}, "redis://u:1"),
        ({"REDIS_ADDR": "h:1", "REDIS_DB": "0"}, "redis://h:1/0"),
        ({"REDIS_ADDR": "h", "REDIS_DB": ""}, "redis://h"),
        ({"REDIS_ADDR": "[::1]:1"}, "redis://[::1]:1"),
        (
            {"REDIS_ADDR": "h:1", "REDIS_PASSWORD": SECRET, "REDIS_DB": "4"},
            "redis://:canary%20p%40ss%3Aw%2Ford@h:1/4",
        ),
        ({"REDIS_ADDR": "h:1", "REDIS_PASSWORD": "ü"}, "redis://:%C3%BC@h:1"),
        ({"REDIS_ADDR": "h:1", "REDIS_PASSWORD": ""}, "redis://h:1"),
    ],
)
def test_find_url(
    environment: pytest.MonkeyPatch, variables: dict[str, str], url: str
) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)
    assert _config.find_url() == url
    client = Client.from_env()
    assert SECRET not in repr(client)


def test_the_default(environment: pytest.MonkeyPatch) -> None:
    assert Client.from_env(default="memory://").url == "memory://"
    assert Client.from_env("memory://").url == "memory://"
    environment.setenv("REDIS_ADDR", "h:1")
    assert Client.from_env(default="memory://").url == "redis://h:1"


def test_client_without_a_url(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("REDIS_URL", "memory://")
    assert Client().url == "memory://"
    assert Client(None, timeout=1).url == "memory://"
    assert Client.from_env(decode_responses=True).echo("x") == "x"


def test_from_env_of_a_subclass(environment: pytest.MonkeyPatch) -> None:
    class Mine(Client[bytes]):
        pass

    environment.setenv("REDIS_URL", "memory://")
    assert type(Mine.from_env()) is Mine


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({"REDIS_URL": f"nonsense {SECRET}"}, "REDIS_URL"),
        ({"REDIS_URL": f"redis://:{SECRET}@h:port"}, "REDIS_URL"),
        ({"REDIS_URL": "redis://h?secret_option=1"}, "REDIS_URL"),
        ({"REDIS_URL": "https://h"}, "REDIS_URL"),
        ({"REDIS_URL": "redis://h", "REDIS_TLS_CA": "/x"}, "REDIS_TLS_CA"),
        (
            {"REDIS_ADDR": "h:1", "REDIS_TLS_KEY_PASSWORD": SECRET},
            "REDIS_TLS_KEY_PASSWORD",
        ),
        ({"REDIS_TLS_SERVER_NAME": "h"}, "REDIS_TLS_SERVER_NAME"),
        (
            {"REDIS_URL": "rediss://h", "REDIS_TLS_CA": "/nowhere"},
            "REDIS_URL with REDIS_TLS_CA: tls_ca",
        ),
        (
            {"REDIS_URL": "rediss://h", "REDIS_TLS_KEY_PASSWORD": SECRET},
            "REDIS_URL with REDIS_TLS_KEY_PASSWORD: tls_key_password",
        ),
        ({"REDIS_URL": "redis://h", "REDIS_DB": "x"}, "REDIS_DB"),
        ({"REDIS_URL": "redis://h", "REDIS_DB": "-1"}, "REDIS_DB"),
        ({"REDIS_URL": "redis://h", "REDIS_DB": "1.5"}, "REDIS_DB"),
        ({"REDIS_URL": "redis://h", "REDIS_DB": "٣"}, "REDIS_DB"),
        ({"REDIS_URL": "redis://h", "REDIS_DB": "9" * 5000}, "REDIS_DB"),
        ({"REDIS_DB": "x"}, "REDIS_DB"),
        ({"REDIS_ADDR": "h:port"}, "REDIS_ADDR"),
        ({"REDIS_ADDR": "redis://h:1"}, "REDIS_ADDR"),
        ({"REDIS_ADDR": "user@h:1"}, "REDIS_ADDR"),
        ({"REDIS_ADDR": "h:1/2"}, "REDIS_ADDR"),
        ({"REDIS_ADDR": "h:1?name=x"}, "REDIS_ADDR"),
        ({"REDIS_ADDR": " h:1"}, "REDIS_ADDR"),
        ({"REDIS_ADDR": "h:0"}, "REDIS_ADDR"),
        (
            {"UPSTASH_REDIS_REST_URL": "https://eu1.upstash.io"},
            "UPSTASH_REDIS_REST_URL",
        ),
        ({"UPSTASH_REDIS_REST_TOKEN": SECRET}, "UPSTASH_REDIS_REST_TOKEN"),
    ],
)
def test_bad_variables_are_named(
    environment: pytest.MonkeyPatch, variables: dict[str, str], name: str
) -> None:
    for variable, value in variables.items():
        environment.setenv(variable, value)
    for make in (Client, Client.from_env):
        with pytest.raises(ConfigurationError, match=rf"^{name}: ") as caught:
            make()
        assert SECRET not in str(caught.value)


def test_a_password_that_is_no_text(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("REDIS_ADDR", "h:1")
    environment.setenv("REDIS_PASSWORD", "\udcff")
    assert _config.find_url() == "redis://:%FF@h:1"


def test_two_databases_warn_once(
    environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    environment.setattr(_config, "_warned", set())
    environment.setenv(
        "REDIS_URL", f"redis://:{SECRET.replace(' ', '%20').replace('/', '%2F')}@h/1"
    )
    environment.setenv("REDIS_DB", "2")
    with caplog.at_level(logging.WARNING, "redlane"):
        for _ in range(3):
            assert _config.find_url().endswith("@h/1")
    assert [record.getMessage() for record in caplog.records] == [
        "REDIS_URL names database 1 and REDIS_DB 2: the URL's is used"
    ]


@pytest.mark.usefixtures("no_default_client")
def test_the_default_client_is_one(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("REDIS_URL", "memory://")
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda: found.append(redlane.default_client()))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(client) for client in found}) == 1
    first = found[0]
    redlane.close_default_client()
    redlane.close_default_client()
    assert first.closed
    second = redlane.default_client()
    assert second is not first
    second.close()
    assert redlane.default_client() is not second  # a closed one is of no use


@pytest.mark.usefixtures("no_default_client")
def test_configure(environment: pytest.MonkeyPatch) -> None:
    mine = Client("memory://")
    assert redlane.configure(mine) is mine
    assert redlane.default_client() is mine
    other = redlane.configure("memory://", timeout=1)
    assert redlane.default_client() is other
    assert other is not mine
    environment.setenv("REDIS_URL", "redis://127.0.0.1:1/5")
    assert redlane.configure(fallback="raise").url == "redis://127.0.0.1:1/5"
    with pytest.raises(ConnectionError):
        redlane.default_client().ping()
    before = redlane.default_client()
    with pytest.raises(TypeError):
        redlane.configure(mine, timeout=1)
    with pytest.raises(ConfigurationError):
        redlane.configure("nonsense")
    assert redlane.default_client() is before


@pytest.mark.usefixtures("no_default_client")
def test_the_default_client_works_without_a_server(
    environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    environment.setenv("REDIS_URL", "redis://127.0.0.1:1")
    client = redlane.default_client()
    assert client.set("k", "v") is True
    assert client.get("k") == b"v"
    assert client.health()["mode"] == "memory"


def test_the_lock_is_new_in_a_child() -> None:
    lock = _default._lock
    with lock:
        _default._renew_lock()
        assert _default._lock is not lock
        assert not _default._lock.locked()


@pytest.mark.usefixtures("no_default_client")
def test_the_ready_made_tools_use_the_default_client() -> None:
    client = redlane.configure("memory://")
    calls: list[int] = []

    @redlane.cache(ttl=60)
    def expensive_function(user_id: int) -> int:
        calls.append(user_id)
        return user_id * 2

    assert expensive_function(21) == expensive_function(21) == 42
    assert calls == [21]
    assert len(client.keys("cache:*expensive_function:*")) == 1
    assert redlane.invalidate_cache("cache:*expensive_function:*") == 1
    assert client.keys() == []
    redlane.video_cache.set("black", ["white"], "https://video")
    assert redlane.video_cache.get("black", ["white"]) == "https://video"
    assert client.exists(redlane.content_key("video", "black", ["white"])) == 1
    assert redlane.cache is redlane.cache


@pytest.mark.usefixtures("no_default_client")
def test_the_ready_made_tools_follow_the_default_client() -> None:
    first = redlane.configure("memory://")
    redlane.cache.set("k", 1)
    assert redlane.cache.client is first
    second = redlane.configure("memory://")
    assert redlane.cache.get("k") is None
    assert redlane.cache.client is second
    redlane.configure(first)
    assert redlane.cache.get("k") == 1
