"""Bytes on the server that nothing here has stored: a miss, and never more."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from http_sites import FRAMEWORKS, Site, site_of
from hypothesis import given, settings
from hypothesis import strategies as st
from redlane._http.stored import STORABLE, Serializer


@pytest.fixture(params=FRAMEWORKS)
def site(client: Any, request: pytest.FixtureRequest) -> Iterator[Site]:
    with site_of(request.param, client) as made:
        yield made


def counting() -> Any:
    """A route that answers 1, 2, 3, …"""
    numbers = itertools.count(1)
    return lambda read: (200, str(next(numbers)), {})


def key_of(client: Any) -> Any:
    [key] = [k for k in client.keys("*") if b"/x" in k]
    return key


def forge(client: Any, forged: bytes) -> None:
    """Changes the stored response of /x."""
    key = key_of(client)
    raw = client.get(key)
    client.set(key, raw[: raw.index(b"RLH2")] + forged, ex=60)


def headed(**changes: Any) -> bytes:
    """A stored response with another head."""
    head: dict[str, Any] = {
        "status": 200,
        "fields": [("Content-Type", "text/plain"), ("ETag", '"x"')],
        "created": 1_700_000_000.5,
        "lifetime": 60.0,
        "etag": '"x"',
        "vary": [],
        "varied": ["v"],
        "strict": False,
        "digest": "d",
    }
    head.update(changes)
    text = msgspec.json.encode(list(head.values()))
    return b"RLH2" + bytes(16) + len(text).to_bytes(4, "big") + text + b"forged"


TAG = ("ETag", '"x"')
FORGED: list[dict[str, Any]] = [
    {"status": 999},
    {"status": -1},
    {"status": 100},
    {"status": 302},
    {"created": 1e308},
    {"created": -1},
    {"lifetime": -5.0},
    {"etag": '"x"\r\nSet-Cookie: a=b'},
    {"fields": [TAG, ("Bad name", "x")]},
    {"fields": [TAG, ("", "x")]},
    {"fields": [TAG, ("A", "b\r\nSet-Cookie: a=b")]},
    {"fields": [TAG, ("A", "b\nC: d")]},
    {"fields": [TAG, ("A", "b\x00")]},
    {"fields": [TAG, ("A", "€")]},
    {"fields": [TAG, ("Set-Cookie", "session=x")]},
    {"fields": [TAG, ("Transfer-Encoding", "chunked")]},
    {"fields": [TAG, ("content-length", "5")]},
]


@pytest.mark.parametrize("change", FORGED, ids=str)
def test_what_was_not_stored_here_is_no_response(change: dict[str, Any]) -> None:
    assert Serializer().loads(headed()).body == b"forged"
    with pytest.raises(ValueError, match=r"no head of a response|validat|Expected"):
        Serializer().loads(headed(**change))


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_a_response_or_none(data: st.DataObject) -> None:
    whole = headed()
    at = data.draw(st.integers(0, len(whole) - 1))
    other = data.draw(st.binary(max_size=4))
    cut = data.draw(st.integers(0, 4))
    forged = whole[:at] + other + whole[at + cut :]
    try:
        stored = Serializer().loads(forged)
    except ValueError:  # msgspec's errors are such, and a cache takes it for a miss
        return
    assert stored.status in STORABLE
    for name, value in stored.sent:
        assert not {"\r", "\n", "\0"} & set(name + value)
        value.encode("latin-1")


@pytest.mark.parametrize("ahead", [False, True])
def test_a_forged_response_is_a_miss(
    site: Site, ahead: bool, client: Any, executor: str
) -> None:
    site.route("/x", counting(), ttl=60, ahead=ahead)
    assert [site("/x").text for _ in range(2)] == ["1", "1"]
    forge(client, headed(status=999))
    replies = [site("/x")]
    if executor == "redis":  # its near cache hears of the change by itself
        end = time.monotonic() + 30
        while replies[-1].text == "1" and time.monotonic() < end:
            replies.append(site("/x"))
    assert {reply.status for reply in replies} == {200}
    assert replies[-1].text == "2"


def test_a_clock_that_is_ahead(site: Site, client: Any) -> None:
    """Of another worker: no age is below zero."""
    site.route("/x", counting(), ttl=60)
    site("/x")
    forge(client, headed(created=time.time() + 30))
    end = time.monotonic() + 30
    reply = site("/x")
    while reply.text != "forged":  # the near cache hears of it
        assert time.monotonic() < end
        reply = site("/x")
    assert reply["Age"] == "0"
