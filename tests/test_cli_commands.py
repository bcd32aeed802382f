"""Lines of MONITOR taken apart: keys, escapes, secrets, and whatever else comes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redlane._cli.commands import (
    LINE_MOST,
    REDACTED,
    SECRET,
    WORD_MOST,
    Event,
    read_event,
)
from redlane._cli.monitor import cut, glob
from redlane._cli.prefixes import group_of

ESCAPES = [
    b"\\%c" % byte
    if byte in b'\\"'
    else b"%c" % byte
    if 32 <= byte < 127
    else b"\\x%02x" % byte
    for byte in range(256)
]


def escaped(word: bytes) -> bytes:
    """As the server writes an argument."""
    return b'"' + b"".join(ESCAPES[byte] for byte in word) + b'"'


def line_of(*words: bytes, client: bytes = b"127.0.0.1:6000") -> bytes:
    return b"+1700000000.000123 [3 %s] %s" % (client, b" ".join(map(escaped, words)))


def event_of(*words: bytes) -> Event:
    event = read_event(line_of(*words))
    assert event is not None
    return event


def test_an_event_has_all_of_its_line() -> None:
    event = event_of(b"set", b"k", b"v")
    assert event.at == pytest.approx(1700000000.000123, abs=1e-6)
    assert (event.db, event.client) == (3, "127.0.0.1:6000")
    assert (event.command, event.keys) == ("SET", (b"k",))
    assert event.arguments == (b"k", b"v")
    assert event.size == len(line_of(b"set", b"k", b"v"))


@pytest.mark.parametrize(
    "client", [b"lua", b"unix:/run/a b].sock", b"[::1]:6000", b"127.0.0.1:1"]
)
def test_clients_of_every_kind(client: bytes) -> None:
    event = read_event(line_of(b"GET", b'k] "x', client=client))
    assert event is not None
    assert event.client == client.decode()
    assert event.keys == (b'k] "x',)


def test_the_server_s_short_escapes() -> None:
    event = read_event(rb'+1.000001 [0 lua] "set" "a\n\r\t\a\b\\\"\x00" "\xff"')
    assert event is not None
    assert event.arguments == (b'a\n\r\t\a\b\\"\x00', b"\xff")


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=5))
def test_what_is_written_is_read(words: list[bytes]) -> None:
    event = event_of(b"SET", *words)
    assert event.arguments == tuple(words)


@given(st.binary(max_size=200))
def test_any_line_is_an_event_or_none(line: bytes) -> None:
    for start in (b"", b"+1.2 [0 x] ", b'+1.2 [0 x] "', b'+1.2 [0 x] "get" "'):
        event = read_event(start + line)
        assert event is None or event.command == event.command.upper()


@pytest.mark.parametrize("byte", [b"v", b"\\", b'"', b"\xff", b"\n"])
def test_long_arguments_are_cut(byte: bytes) -> None:
    event = event_of(b"SET", byte * 999, byte * 5000)
    assert event.arguments == (byte * 999, byte * WORD_MOST)


def test_a_line_that_was_cut() -> None:
    line = line_of(b"SET", b"k", b"v" * LINE_MOST)[:LINE_MOST]
    event = read_event(line, 12345)
    assert event is not None
    assert (event.arguments, event.size) == ((b"k",), 12345)
    line = line_of(b"SET", b"k", b'a" "b" "' * LINE_MOST)[:LINE_MOST]
    event = read_event(line)
    assert event is not None
    assert event.arguments == (b"k",)
    assert read_event(line_of(b"v" * LINE_MOST)[:LINE_MOST]) is None


@pytest.mark.parametrize(
    ("text", "command", "keys"),
    [
        ("get k", "GET", "k"),
        ("ping", "PING", ""),
        ("echo k", "ECHO", ""),
        ("client list", "CLIENT LIST", ""),
        ("config", "CONFIG", ""),
        ("object encoding k", "OBJECT ENCODING", "k"),
        ("xinfo stream k", "XINFO STREAM", "k"),
        ("memory usage k", "MEMORY USAGE", "k"),
        ("mget a b c", "MGET", "a b c"),
        ("mset a 1 b 2", "MSET", "a b"),
        ("del a b", "DEL", "a b"),
        ("blpop a b 0", "BLPOP", "a b"),
        ("bitop and d a b", "BITOP", "d"),
        ("evalsha abc 2 a b c", "EVALSHA", "a b"),
        ("eval script x", "EVAL", ""),
        ("eval script 0", "EVAL", ""),
        ("eval", "EVAL", ""),
        ("zunionstore d 2 a b weights 1 1", "ZUNIONSTORE", "d a b"),
        ("sintercard 2 a b limit 1", "SINTERCARD", "a b"),
        ("blmpop 0 2 a b left", "BLMPOP", "a b"),
        ("xread count 2 streams a b 0 0", "XREAD", "a b"),
        ("xread count 2", "XREAD", ""),
        ("publish c message", "PUBLISH", "c"),
        ("json.get k .", "JSON.GET", "k"),
    ],
)
def test_keys(text: str, command: str, keys: str) -> None:
    event = event_of(*text.encode().split())
    assert event.command == command
    assert event.keys == tuple(keys.encode().split())


@pytest.mark.parametrize("name", sorted(SECRET))
def test_no_argument_of_these_is_kept(name: str) -> None:
    for words in ([b"canary"], [b"set", b"canary", b"canary"], [b"3", b"x", b"canary"]):
        event = event_of(name.lower().encode(), *words)
        assert set(event.arguments) <= {REDACTED}
        assert event.keys == ()
        assert name == "AUTH" or "CANARY" not in event.command or len(words) == 1


@pytest.mark.parametrize(
    ("key", "group"),
    [
        (b"plain", b"*"),
        (b"user:7", b"user:*"),
        (b"cache:f:module:7", b"cache:f:*"),
        (b"/app/device/key", b"/app/device/*"),
        (b"/app", b"/*"),
        (b"", b"*"),
        (b":", b":*"),
    ],
)
def test_groups(key: bytes, group: bytes) -> None:
    assert group_of(key) == group


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("user:*", "user: user:7 user:a:b", "auser:7 use"),
        ("a?c", "abc", "ac abbc"),
        ("a[bc]d", "abd acd", "aad"),
        ("a[^bc]d", "aad", "abd"),
        ("a[a-c]d", "aad abd acd", "add a-d"),
        ("a[c-a]d", "aad abd acd", "add a-d"),
        ("a[?--]d", "a-d a.d a?d", "aad a,d"),
        ("a[-b]d", "a-d abd", "aad"),
        ("a[]d", "", "ad abd"),
        ("a[d", "a[d", "ad"),
        (r"a\*", "a*", "ab"),
        (r"a[\]]", "a]", "a"),
        ("a.c+", "a.c+", "abcc"),
        ("a[&~|]", "a& a~ a|", "ab"),
    ],
)
def test_globs(pattern: str, yes: str, no: str) -> None:
    matches = glob(pattern).fullmatch
    for word in yes.encode().split():
        assert matches(word)
    for word in no.encode().split():
        assert not matches(word)


@given(st.text(st.sampled_from("ab*?[]^-\\"), max_size=8))
def test_any_text_is_a_glob(pattern: str) -> None:
    assert isinstance(glob(pattern), re.Pattern)  # and it warns of nothing


def test_values_are_cut() -> None:
    assert cut(b"short") == "short"
    assert cut(b"x" * 60) == "x" * 60
    assert cut(b"x" * 61) == "x" * 59 + "…"
    assert cut(b"\xff" * 1000) == ("\\xff" * 15)[:59] + "…"
