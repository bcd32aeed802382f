"""Client.execute: any command that is safe on a shared connection."""

from __future__ import annotations

from typing import Any

import pytest
from redlane import Client, ConfigurationError, ReplyError

STATEFUL: list[tuple[Any, ...]] = [
    ("SELECT", 1),
    ("HELLO", 3),
    ("AUTH", "canary-password"),
    ("RESET",),
    ("QUIT",),
    ("MULTI",),
    ("EXEC",),
    ("DISCARD",),
    ("WATCH", "k"),
    ("SUBSCRIBE", "c"),
    ("PSUBSCRIBE", "c*"),
    ("SSUBSCRIBE", "c"),
    ("MONITOR",),
    ("CLIENT", "REPLY", "SKIP"),
    ("client", "reply", "off"),
    ("CLIENT REPLY", "SKIP"),
    ("CLIENT", "TRACKING", "ON"),
    ("  select  ", 0),
    (b"Select", 0),
]


@pytest.mark.parametrize("command", STATEFUL, ids=repr)
def test_commands_that_change_the_connection(
    client: Client, command: tuple[Any, ...]
) -> None:
    client.set("k", "v")
    with pytest.raises(ConfigurationError, match="use ") as caught:
        client.execute(*command)
    assert "canary" not in str(caught.value)
    with pytest.raises(ConfigurationError):
        client.pipeline().execute_command(*command)
    assert client.get("k") == b"v"


def test_raw_replies(client: Client) -> None:
    assert client.execute("SET", "k", "v") == b"OK"
    assert client.execute("get", "k") == b"v"
    assert client.execute(b"GeT", b"k") == b"v"
    assert client.execute("HSET", "h", "f", 1) == 1
    assert client.execute("HGETALL", "h") == [b"f", b"1"]
    assert client.execute("GET", "missing") is None
    assert client.execute_command("PING") == b"PONG"


def test_errors(client: Client) -> None:
    with pytest.raises(ReplyError):
        client.execute("NO-SUCH-COMMAND", "x")
    with pytest.raises(ReplyError):
        client.execute("GET")
    with pytest.raises(TypeError):
        client.execute()
    with pytest.raises(TypeError):
        client.execute(5)
    with pytest.raises(TypeError):
        client.execute("GET", None)
    for empty in ("", "  "):
        with pytest.raises(ValueError):
            client.execute(empty)


@pytest.mark.parametrize("executor", ["redis"], indirect=True)
def test_a_name_of_two_words(client: Client) -> None:
    assert client.execute("CONFIG GET", "maxmemory") == [b"maxmemory", b"0"]
    assert client.execute("CONFIG", "GET", "maxmemory") == [b"maxmemory", b"0"]


def test_more_arguments_than_fit_inline(client: Client) -> None:
    pairs = [part for i in range(500) for part in (f"k{i}", i)]
    assert client.execute("MSET", *pairs) == b"OK"
    assert client.execute("DBSIZE") == 500


@pytest.mark.parametrize(
    ("option", "shown"), [("\r", ""), ("x\r\n", "x"), ("\rx", " x"), ("a\nb", "a b")]
)
def test_an_error_that_echoes_is_one_line(client: Any, option: str, shown: str) -> None:
    client.set("k", 1)
    with pytest.raises(ReplyError) as caught:
        client.execute("EXPIRE", "k", "9", option)
    assert str(caught.value) == f"ERR Unsupported option {shown}"
