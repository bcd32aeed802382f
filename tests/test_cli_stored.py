"""`redlane get` of what caches store: headers shown, values read, nothing run."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from cli_tools import run, run_json
from hypothesis import given
from hypothesis import strategies as st
from redlane import Cache, Client
from redlane._cli.stored import describe, header_pairs, pretty
from servers import Server

KEY = "k" * 32


@pytest.fixture
def url(redis_server: Server) -> str:
    return redis_server.patient_url


def get(url: str, key: str) -> Any:
    return run_json("get", key, "--url", url)


def test_a_plain_value_has_no_header(url: str) -> None:
    Cache(url, prefix="c").set("k", {"a": 1})
    shown = get(url, "c:k")
    assert shown["value"] == {"a": 1}
    assert "stored" not in shown


def test_a_header_by_its_fields(url: str) -> None:
    cache = Cache(url, prefix="c", compress="zlib", seal=[KEY])
    cache.set("k", "x" * 5000, ttl=300, tags=["user:7"])
    shown = get(url, "c:k")
    header = shown["stored"]
    assert shown["value"] == "x" * 5000
    assert header["kind"] == "envelope"
    assert header["expires_at"].startswith("20")
    assert header["expired"] is False
    assert header["tags"] == ["c:@tag:user:7"]
    assert (header["compression"], header["inflated_size"]) == ("zlib", 5002)
    assert header["serializer"] == "json"
    assert "not verified" in header["sealed"]
    text = run("get", "c:k", "--url", url).stdout
    assert "tags           c:@tag:user:7\n" in text
    assert "expired        no\n" in text
    assert "inflated size  4.9 KB\n" in text
    assert text.endswith("x" * 5000 + "\n")


def test_a_stale_value_says_so(url: str) -> None:
    cache = Cache(url, prefix="c")

    @cache(ttl=0.001, stale=300, key="f")
    def f() -> int:
        return 7

    f()
    shown = get(url, "c:f")
    assert shown["value"] == 7
    assert shown["stored"]["expired"] is True


def test_msgpack_is_read_where_the_header_says_so(url: str) -> None:
    sealed = Cache(url, prefix="s", serializer="msgpack", seal=[KEY])
    sealed.set("k", {"a": [1, b"\xff"], 7: None})
    shown = get(url, "s:k")
    assert shown["stored"]["serializer"] == "msgpack"
    assert shown["value"] == {"a": [1, "/w=="], "7": None}


class Bomb:
    """Says so if it is ever unpickled."""

    def __reduce__(self) -> Any:
        return print, ("BOOM",)


def test_pickle_is_never_opened(url: str, redis_server: Server) -> None:
    Cache(url, prefix="p", serializer="pickle", seal=[KEY]).set("k", Bomb())
    redis_server.cli("SET", "bare", pickle.dumps(Bomb()))
    sealed = run("get", "p:k", "--url", url)
    assert "serializer  pickle" in sealed.stdout
    assert "not opened" in sealed.stdout
    bare = run("get", "bare", "--json", "--url", url)
    assert list(json.loads(bare.stdout)["value"]) == ["base64"]
    for done in (sealed, bare):
        assert "BOOM" not in done.stdout + done.stderr


def test_what_is_no_value(url: str, redis_server: Server) -> None:
    cache = Cache(url, prefix="c")
    cache.set("k", 1, tags=["t"])
    shown = get(url, "c:@tag:t")
    assert shown["stored"] == {"kind": "generation"}
    assert shown["value"]["generation"] > 0
    redis_server.cli("SET", "bad", b"\xffRLE\x09what")
    shown = get(url, "bad")
    assert shown["stored"] == {"kind": "unreadable"}
    assert list(shown["value"]) == ["base64"]


def test_an_exception_that_is_cached(url: str) -> None:
    for prefix, seal in (("c", None), ("s", [KEY])):
        cache = Cache(url, prefix=prefix, seal=seal)

        @cache(ttl=300, key="f", cache_exceptions={LookupError: 60})
        def f() -> int:
            raise LookupError("gone")

        with pytest.raises(LookupError):
            f()
        shown = get(url, f"{prefix}:f")
        assert shown["stored"]["kind"] == "raised"
        assert "LookupError" in json.dumps(shown["value"])


def test_a_value_that_claims_to_be_large_is_not_inflated(url: str) -> None:
    client = Client(url)
    Cache(client, prefix="c", compress="zlib").set("k", "x" * 5000)
    stored = bytearray(client.get("c:k"))
    place = stored.index((5002).to_bytes(8, "big"))
    stored[place : place + 8] = (6000).to_bytes(8, "big")
    client.set("c:k", bytes(stored))
    assert list(get(url, "c:k")["value"]) == ["base64"]


@given(st.binary(max_size=60), st.sampled_from(b"ELGPXR?"))
def test_any_bytes_are_described(rest: bytes, kind: int) -> None:
    for stored in (rest, b"\xffRL" + bytes([kind]) + rest):
        header, value = describe(stored)
        json.dumps([header, value])
        assert isinstance(pretty(value), str)
        assert all(isinstance(text, str) for _, text in header_pairs(header))


@given(st.binary(min_size=1, max_size=60), st.integers(0, 59), st.integers(0, 255))
def test_a_broken_envelope_is_described(value: bytes, at: int, byte: int) -> None:
    cache = Cache(Client("memory://"), prefix="", seal=[KEY], serializer="msgpack")
    client = cache.client
    cache.set("k", value, ttl=60)
    stored = bytearray(client.get("k"))
    stored[at % len(stored)] = byte
    header, read = describe(bytes(stored))
    json.dumps([header, read])


def test_text_that_looks_like_ours_is_the_user_s() -> None:
    value = describe(b'{"base64": "no base64"}')[1]
    assert value == {"base64": "no base64"}
    assert "no base64" in pretty(value)
