"""RFC 9111 and RFC 9110, case by case, on the core that knows no framework."""

from __future__ import annotations

import json
import math
import re
import time
from email.utils import formatdate
from typing import Any

import msgspec
import pytest
from redlane import RateLimiter
from redlane._http.address import client_address
from redlane._http.fields import (
    MOST_SECONDS,
    accepts_gzip,
    directives,
    read_cookies,
    seconds_of,
    tags_match,
)
from redlane._http.limits import body_of
from redlane._http.policy import Policy, digest, period
from redlane._http.stored import Serializer, Stored, answer, store

NOW = 1_700_000_000.0


class Asked:
    """A request."""

    def __init__(self, target: str = "/x", method: str = "GET", **fields: str) -> None:
        self.method, self.scheme, self.host = method, "http", "h"
        self.path, _, self.query = target.partition("?")
        self.body = self.known = False
        self.fields = {n.replace("_", "-").lower(): v for n, v in fields.items()}

    def header(self, name: str) -> str | None:
        return self.fields.get(name)


def stored_of(
    fields: dict[str, str], status: int = 200, body: bytes = b"text", **options: Any
) -> Stored | None:
    policy = Policy(**{"ttl": 100, **options})
    made = store(policy, Asked(), False, status, list(fields.items()), body, NOW)
    if made is None:
        return None
    serializer = Serializer()
    return serializer.loads(serializer.dumps(made))


def value_of(reply: tuple[int, list[tuple[str, str]], bytes], name: str) -> str | None:
    return next((v for n, v in reply[1] if n.lower() == name.lower()), None)


# --- may it be stored? (RFC 9111, 3) ------------------------------------------------

STORING: list[tuple[str, int, dict[str, str], float | None]] = [
    # what it shows, status, fields, its lifetime; None: it is not stored
    ("a plain response", 200, {}, 100),
    ("203", 203, {}, 100),
    ("204", 204, {}, 100),
    ("300", 300, {}, 100),
    ("301", 301, {"Location": "/"}, 100),
    ("308", 308, {"Location": "/"}, 100),
    ("302 depends on who asks", 302, {"Location": "/login"}, None),
    ("303", 303, {"Location": "/"}, None),
    ("307", 307, {"Location": "/"}, None),
    ("part of a response", 206, {"Content-Range": "bytes 0-1/4"}, None),
    ("a range, whatever its status", 200, {"Content-Range": "bytes 0-1/4"}, None),
    ("304 is no response to store", 304, {}, None),
    ("400", 400, {}, None),
    ("401", 401, {}, None),
    ("403", 403, {}, None),
    ("404", 404, {}, None),
    ("429", 429, {}, None),
    ("500", 500, {}, None),
    ("503", 503, {}, None),
    ("a status that nobody knows", 299, {}, None),
    ("no-store", 200, {"Cache-Control": "no-store"}, None),
    ("no-store among others", 200, {"Cache-Control": "max-age=9, no-store"}, None),
    ("case makes no difference", 200, {"cache-control": "No-Store"}, None),
    ("private", 200, {"Cache-Control": "private"}, None),
    ("private with fields", 200, {"Cache-Control": 'private="x"'}, None),
    ("private and max-age", 200, {"Cache-Control": "private, max-age=60"}, None),
    ("no-cache", 200, {"Cache-Control": "no-cache"}, None),
    ("no-cache with fields", 200, {"Cache-Control": 'no-cache="Set-Cookie"'}, None),
    ("a quoted no-store is none", 200, {"Cache-Control": 'x="no-store"'}, 100),
    ("an unknown directive", 200, {"Cache-Control": "spam=1, eggs"}, 100),
    ("max-age shorter than the TTL", 200, {"Cache-Control": "max-age=7"}, 7),
    ("max-age longer than the TTL", 200, {"Cache-Control": "max-age=700"}, 100),
    ("max-age=0", 200, {"Cache-Control": "max-age=0"}, None),
    ("a negative max-age", 200, {"Cache-Control": "max-age=-1"}, None),
    ("max-age is no number", 200, {"Cache-Control": "max-age=soon"}, None),
    ("max-age has a fraction", 200, {"Cache-Control": "max-age=1.5"}, None),
    ("max-age without a number", 200, {"Cache-Control": "max-age"}, None),
    ("a quoted max-age", 200, {"Cache-Control": 'max-age="7"'}, 7),
    ("spaces", 200, {"Cache-Control": " , max-age=7 ,, "}, 7),
    ("the first of two", 200, {"Cache-Control": "max-age=7, max-age=9"}, 7),
    ("s-maxage before max-age", 200, {"Cache-Control": "max-age=7, s-maxage=9"}, 9),
    ("s-maxage=0", 200, {"Cache-Control": "max-age=7, s-maxage=0"}, None),
    ("a number beyond 31 bits", 200, {"Cache-Control": "max-age=99999999999"}, 100),
    ("Expires", 200, {"Expires": formatdate(NOW + 30, usegmt=True)}, 30),
    ("Expires in the past", 200, {"Expires": formatdate(NOW - 30, usegmt=True)}, None),
    ("Expires: 0", 200, {"Expires": "0"}, None),
    ("Expires is no date", 200, {"Expires": "tomorrow"}, None),
    (
        "max-age before Expires",
        200,
        {"Cache-Control": "max-age=7", "Expires": formatdate(NOW - 30, usegmt=True)},
        7,
    ),
    (
        "Expires counts from Date",
        200,
        {
            "Date": formatdate(NOW - 50, usegmt=True),
            "Expires": formatdate(NOW - 20, usegmt=True),
        },
        30,
    ),
    ("Age of an upstream cache", 200, {"Age": "40"}, 100),
    ("Age past the TTL", 200, {"Age": "100"}, None),
    ("Vary: *", 200, {"Vary": "*"}, None),
    ("Vary: * among others", 200, {"Vary": "Accept, *"}, None),
    ("Vary", 200, {"Vary": "Accept-Language"}, 100),
    ("a cookie", 200, {"Set-Cookie": "a=b"}, None),
    ("must-revalidate", 200, {"Cache-Control": "max-age=7, must-revalidate"}, 7),
    ("public", 200, {"Cache-Control": "public"}, 100),
    ("immutable", 200, {"Cache-Control": "immutable, max-age=9"}, 9),
]


@pytest.mark.parametrize(
    ("status", "fields", "lifetime"),
    [case[1:] for case in STORING],
    ids=[case[0] for case in STORING],
)
def test_storing(status: int, fields: dict[str, str], lifetime: float | None) -> None:
    made = stored_of(fields, status)
    assert (None if made is None else made.lifetime) == lifetime


def test_what_was_old_when_it_came_stays_so() -> None:
    made = stored_of({"Age": "40"})
    assert made is not None
    assert value_of(answer(made, Asked(), "HIT", NOW + 5), "Age") == "45"


@pytest.mark.parametrize(
    "name", ["Connection", "Keep-Alive", "Transfer-Encoding", "Upgrade", "TE", "X-Hop"]
)
def test_fields_of_one_connection_are_not_stored(name: str) -> None:
    made = stored_of({name: "x", "Connection": "X-Hop", "Kept": "y"})
    assert made is not None
    reply = answer(made, Asked(), "HIT", NOW)
    assert value_of(reply, name) is None
    assert value_of(reply, "Kept") == "y"


# --- what is sent (RFC 9111, 5; RFC 9110, 13) ---------------------------------------


def test_a_hit() -> None:
    made = stored_of({"Content-Type": "text/plain"})
    assert made is not None
    status, _, body = reply = answer(made, Asked(), "HIT", NOW + 7.9)
    assert (status, body) == (200, b"text")
    assert value_of(reply, "Age") == "7"
    assert value_of(reply, "X-Cache") == "HIT"
    assert value_of(reply, "Cache-Control") == "max-age=100"
    assert value_of(reply, "Content-Length") == "4"
    assert value_of(reply, "Vary") == "Cookie, Authorization"
    assert value_of(answer(made, Asked(), "MISS", NOW), "Age") is None


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "max-age=100"),
        ({"public": True}, "public, max-age=100"),
        ({"max_age": 5}, "max-age=5"),
        ({"max_age": 0}, "no-cache"),
        ({"public": True, "max_age": 0}, "public, no-cache"),
        ({"stale": 30}, "max-age=100, stale-while-revalidate=30"),
        ({"ttl": None}, f"max-age={MOST_SECONDS}"),
    ],
)
def test_what_clients_are_told(options: dict[str, Any], told: str) -> None:
    made = stored_of({}, **options)
    assert made is not None
    assert value_of(answer(made, Asked(), "HIT", NOW), "Cache-Control") == told


def test_what_is_for_one_user_is_private_on_the_way() -> None:
    policy = Policy(ttl=100, vary="Authorization")
    asked = Asked(authorization="Bearer x")
    plan = policy.plan(asked)
    made = store(policy, asked, plan.identified, 200, [], b"", NOW)
    assert made is not None
    reply = answer(made, asked, "HIT", NOW)
    assert value_of(reply, "Cache-Control") == "private, max-age=100"
    assert value_of(reply, "Vary") == "Authorization, Cookie"


TAG = '"v1"'
CONDITIONS: list[tuple[str, dict[str, str], int]] = [
    ("its tag", {"If-None-Match": '"v1"'}, 304),
    ("its tag, weak", {"If-None-Match": 'W/"v1"'}, 304),
    ("its tag among others", {"If-None-Match": '"v0", "v1"'}, 304),
    ("a tag with a comma before it", {"If-None-Match": '"a,b", "v1"'}, 304),
    ("any", {"If-None-Match": "*"}, 304),
    ("another tag", {"If-None-Match": '"v2"'}, 200),
    ("no tag at all", {"If-None-Match": "v1"}, 200),
    ("an empty list", {"If-None-Match": ""}, 200),
    ("unchanged since", {"If-Modified-Since": formatdate(NOW - 50, usegmt=True)}, 304),
    ("changed since", {"If-Modified-Since": formatdate(NOW - 70, usegmt=True)}, 200),
    ("no date", {"If-Modified-Since": "yesterday"}, 200),
    (
        "the tag counts before the date",
        {
            "If-None-Match": '"v2"',
            "If-Modified-Since": formatdate(NOW, usegmt=True),
        },
        200,
    ),
]


@pytest.mark.parametrize(
    ("asked", "status"), [c[1:] for c in CONDITIONS], ids=[c[0] for c in CONDITIONS]
)
def test_conditions(asked: dict[str, str], status: int) -> None:
    modified = formatdate(NOW - 60, usegmt=True)
    made = stored_of(
        {"ETag": TAG, "Last-Modified": modified, "Content-Type": "text/plain"}
    )
    assert made is not None
    names = {name.replace("-", "_"): value for name, value in asked.items()}
    reply = answer(made, Asked(**names), "HIT", NOW)
    assert reply[0] == status
    assert reply[2] == (b"" if status == 304 else b"text")
    assert value_of(reply, "ETag") == TAG
    assert (value_of(reply, "Content-Type") is None) == (status == 304)
    assert (value_of(reply, "Content-Length") is None) == (status == 304)


def test_the_tag_is_that_of_the_bytes() -> None:
    one, same, other = (stored_of({}, body=b) for b in (b"a", b"a", b"b"))
    assert one is not None
    assert same is not None
    assert other is not None
    assert one.head.etag == same.head.etag != other.head.etag
    assert one.head.etag.startswith('"')


def test_head_has_the_fields_without_the_body() -> None:
    made = stored_of({})
    assert made is not None
    reply = answer(made, Asked(method="HEAD"), "HIT", NOW)
    assert (reply[0], reply[2]) == (200, b"")
    assert value_of(reply, "Content-Length") == "4"


def test_gzip_as_stored() -> None:
    body = b"canvas " * 1000
    made = stored_of({"Content-Type": "text/plain"}, body=body, gzip=True)
    assert made is not None
    assert len(made.body) < len(body)
    packed = answer(made, Asked(accept_encoding="br, gzip"), "HIT", NOW)
    plain = answer(made, Asked(accept_encoding="gzip;q=0"), "HIT", NOW)
    assert packed[2] == made.body
    assert value_of(packed, "Content-Encoding") == "gzip"
    assert plain[2] == body
    assert value_of(plain, "Content-Encoding") is None
    assert value_of(plain, "Content-Length") == str(len(body))
    assert value_of(plain, "ETag") != value_of(packed, "ETag")
    assert "Accept-Encoding" in str(value_of(plain, "Vary"))
    again = Asked(if_none_match=str(value_of(plain, "ETag")))
    assert answer(made, again, "HIT", NOW)[0] == 304


# --- what requests ask for (RFC 9111, 5.2.1) ----------------------------------------

ASKING: list[tuple[str, str, float, bool]] = [
    # what it shows, Cache-Control, the stored response's age, whether it is taken
    ("nothing", "", 99, True),
    ("no-cache", "no-cache", 1, False),
    ("max-age above its age", "max-age=10", 9, True),
    ("max-age below its age", "max-age=10", 11, False),
    ("max-age=0", "max-age=0", 1, False),
    ("max-age is no number", "max-age=x", 1, False),
    ("min-fresh that it has", "min-fresh=10", 90, True),
    ("min-fresh that it has not", "min-fresh=10", 91, False),
    ("max-stale changes nothing", "max-stale=10", 50, True),
    ("an unknown one", "spam", 50, True),
]


@pytest.mark.parametrize(
    ("control", "age", "taken"), [c[1:] for c in ASKING], ids=[c[0] for c in ASKING]
)
def test_directives_of_requests(control: str, age: float, taken: bool) -> None:
    asked = Asked(cache_control=control) if control else Asked()
    assert Policy(ttl=100).plan(asked).accepts(age, 100) is taken
    deaf = Policy(ttl=100, obey_client=False).plan(asked)
    assert deaf.accepts(age, 100)


def test_other_directives_of_requests() -> None:
    policy = Policy(ttl=100)
    assert policy.plan(Asked(cache_control="no-store")).bypass
    assert policy.plan(Asked(cache_control="only-if-cached")).only
    assert not policy.plan(Asked(pragma="no-cache")).use
    assert policy.plan(Asked(pragma="no-cache", cache_control="max-age=9")).use


@pytest.mark.parametrize(
    "asked",
    [
        Asked(method="POST"),
        Asked(method="PUT"),
        Asked(method="OPTIONS"),
        Asked(range="bytes=0-1"),
        Asked(if_range=TAG),
        Asked(if_match=TAG),
        Asked(if_unmodified_since=formatdate(NOW)),
    ],
)
def test_what_is_left_alone(asked: Asked) -> None:
    assert Policy(ttl=100).plan(asked).bypass


# --- who shares with whom -----------------------------------------------------------

SHARING: list[tuple[str, dict[str, Any], Asked, bool]] = [
    ("nobody in particular", {}, Asked(), True),
    ("Authorization", {}, Asked(authorization="x"), False),
    ("an API key", {}, Asked(x_api_key="x"), False),
    ("a gateway's user", {}, Asked(x_forwarded_user="x"), False),
    ("a cookie", {}, Asked(cookie="a=b"), False),
    ("an unreadable cookie", {}, Asked(cookie="nonsense"), False),
    ("a named cookie", {"ignore_cookies": ["_ga*"]}, Asked(cookie="_ga_X=1"), True),
    (
        "a named one and another",
        {"ignore_cookies": ["_ga*"]},
        Asked(cookie="_ga=1; sid=2"),
        False,
    ),
    ("public", {"public": True}, Asked(authorization="x", cookie="a=b"), True),
    ("vary on it", {"vary": ["Authorization"]}, Asked(authorization="x"), True),
    (
        "vary on it, and another",
        {"vary": ["Authorization"]},
        Asked(authorization="x", x_api_key="y"),
        False,
    ),
    ("vary on cookies", {"vary": ["Cookie"]}, Asked(cookie="a=b"), True),
    ("vary on this cookie", {"vary": ["Cookie:lang"]}, Asked(cookie="lang=de"), True),
    (
        "vary on this cookie among others",
        {"vary": "Accept, Cookie:Lang"},
        Asked(cookie="Lang=de"),
        True,
    ),
    (
        "vary on one, and another",
        {"vary": ["Cookie:lang"]},
        Asked(cookie="lang=de; sid=1"),
        False,
    ),
    ("one's own identity", {"identity_headers": ["X-Who"]}, Asked(x_who="x"), False),
    (
        "Authorization, whatever the list",
        {"identity_headers": ["X-Who"]},
        Asked(authorization="x"),
        False,
    ),
    ("a token in a query that is the key", {}, Asked("/x?token=1"), True),
    ("… that is not", {"query": False}, Asked("/x?token=1"), False),
    ("… of which it is no part", {"query": ["page"]}, Asked("/x?API_KEY=1"), False),
    ("… of which it is a part", {"query": ["token"]}, Asked("/x?token=1"), True),
    ("a harmless query", {"query": False}, Asked("/x?page=1"), True),
]


@pytest.mark.parametrize(
    ("options", "asked", "shared"),
    [c[1:] for c in SHARING],
    ids=[c[0] for c in SHARING],
)
def test_sharing(options: dict[str, Any], asked: Asked, shared: bool) -> None:
    assert Policy(ttl=100, **options).plan(asked).bypass is not shared


SAME: list[tuple[str, dict[str, Any], Asked, Asked, bool]] = [
    ("queries", {}, Asked("/x?a=1"), Asked("/x?a=2"), False),
    ("no query", {}, Asked("/x?a=1"), Asked("/x"), False),
    ("the query does not count", {"query": False}, Asked("/x?a=1"), Asked("/x"), True),
    (
        "only one of it counts",
        {"query": ["a"]},
        Asked("/x?a=1&b=2"),
        Asked("/x?b=3&a=1"),
        True,
    ),
    ("that one", {"query": ["a"]}, Asked("/x?a=1"), Asked("/x?a=2"), False),
    ("values", {"vary": "Accept"}, Asked(accept="a"), Asked(accept="b"), False),
    ("without the field", {"vary": "Accept"}, Asked(accept=""), Asked(), False),
    ("another field", {"vary": "Accept"}, Asked(x="a"), Asked(x="b"), True),
    (
        "the ends of fields",
        {"vary": ["A", "B"]},
        Asked(a="1", b="23"),
        Asked(a="12", b="3"),
        False,
    ),
    (
        "ignored cookies",
        {"vary": "Cookie", "ignore_cookies": ["_ga"]},
        Asked(cookie="a=1; _ga=2"),
        Asked(cookie="_ga=3; a=1"),
        True,
    ),
    ("cookies", {"vary": "Cookie"}, Asked(cookie="a=1"), Asked(cookie="a=2"), False),
    (
        "one cookie",
        {"vary": "Cookie:a"},
        Asked(cookie="a=1"),
        Asked(cookie="a=1; a=2"),
        False,
    ),
]


@pytest.mark.parametrize(
    ("options", "one", "other", "same"), [c[1:] for c in SAME], ids=[c[0] for c in SAME]
)
def test_keys(options: dict[str, Any], one: Asked, other: Asked, same: bool) -> None:
    policy = Policy(ttl=100, **options)
    plans = [policy.plan(asked) for asked in (one, other)]
    assert not any(plan.bypass for plan in plans)
    assert (plans[0].rest == plans[1].rest) is same


def test_the_short_way_makes_the_same_key() -> None:
    policy = Policy(ttl=100)
    for query in ("", "a=1", "a=1&b=%20"):
        assert policy.plain(query) == policy.plan(Asked(f"/x?{query}")).rest
    assert Policy(ttl=100, vary="Accept").plain("") is None
    assert Policy(ttl=100, query=False).plain("") is None


def test_digests_tell_parts_apart() -> None:
    assert len({digest(p) for p in (("ab", ""), ("a", "b"), ("", "ab"), ("ab",))}) == 4


def test_a_secret_is_in_no_key() -> None:
    plan = Policy(vary="Authorization").plan(
        Asked("/x?t=s3cret", authorization="s3cret")
    )
    assert "s3cret" not in plan.rest


# --- reading fields -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, {}),
        ("", {}),
        ("a", {"a": None}),
        ('A="b, c", d=e', {"a": "b, c", "d": "e"}),
        ('a="x\\"y"', {"a": 'x"y'}),
        (";;;, a", {"a": None}),
        ('a="open', {"a": '"open'}),
        (",,,", {}),
    ],
)
def test_directives(text: str | None, found: dict[str, str | None]) -> None:
    assert directives(text) == found


@pytest.mark.parametrize(
    ("text", "accepted"),
    [
        (None, False),
        ("", False),
        ("gzip", True),
        ("GZIP;q=0.1", True),
        ("gzip;q=0", False),
        ("*", True),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
        ("br", False),
        ("gzip;q=x", False),
    ],
)
def test_accept_encoding(text: str | None, accepted: bool) -> None:
    assert accepts_gzip(text) is accepted


def test_small_things() -> None:
    assert seconds_of("9" * 400) == MOST_SECONDS
    assert seconds_of("²") == 0
    assert read_cookies("a=1; b ; ;c=x=y") == [("a", "1"), ("b", ""), ("c", "x=y")]
    assert not tags_match('"a', '"a"')


@pytest.mark.parametrize(
    ("given", "seconds"),
    [(5, 5), ("10m", 600), ("1h30m", 5400), ("0.5", 0.5), ("1.5s", 1.5)],
)
def test_periods(given: Any, seconds: float) -> None:
    assert period(given, "x") == seconds


@pytest.mark.parametrize("given", [0, -1, "x", "", float("nan"), float("inf"), "5 m x"])
def test_periods_that_are_none(given: Any) -> None:
    with pytest.raises(ValueError):
        period(given, "x")


@pytest.mark.parametrize(
    "data", [b"", b"RLH2", b"RLH2" + bytes(19) + b"\5{}", b"x" * 100]
)
def test_bytes_that_are_no_response(data: bytes) -> None:
    with pytest.raises((ValueError, msgspec.MsgspecError)):
        Serializer().loads(data)


def test_a_stored_field_cannot_bring_another() -> None:
    serializer = Serializer()
    made = stored_of({"A": "b"})
    assert made is not None
    forged = serializer.dumps(made).replace(b'"b"', b'"\\n"')
    size = int.from_bytes(forged[20:24], "big") + 1
    with pytest.raises(ValueError, match="no head"):
        serializer.loads(forged[:20] + size.to_bytes(4, "big") + forged[24:])


def test_another_body_does_not_stand_in_for_a_kept_response() -> None:
    made = stored_of({"A": "b"})
    assert made is not None
    serializer = Serializer()
    good = serializer.dumps(made)
    assert serializer.loads(good.replace(made.body, b"forged")).body == b"forged"
    kept = serializer.loads(good)
    assert kept.body == made.body
    assert serializer.loads(good) is kept


# --- limits -------------------------------------------------------------------------


RATES = "2/minute;1000/hour"


def fields_of(decision: Any) -> dict[str, str]:
    """Raw ones are the same, as ASGI has them."""
    fields = dict(decision.headers())
    raw = [(name.decode(), value.decode()) for name, value in decision.raw_headers()]
    assert raw == [(name.lower(), value) for name, value in fields.items()]
    return fields


def test_fields_of_a_decision() -> None:
    limiter = RateLimiter("memory://", "fixed-window")
    begun = time.time()
    fields = fields_of(limiter.hit("a", RATES))
    assert list(fields) == [
        *("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"),
        *("RateLimit-Policy", "RateLimit"),
    ]
    assert fields["X-RateLimit-Limit"] == "2"
    assert fields["X-RateLimit-Remaining"] == "1"
    assert begun < int(fields["X-RateLimit-Reset"]) < time.time() + 62
    policy = '"2-in-60s";q=2;w=60, "1000-in-3600s";q=1000;w=3600'
    assert fields["RateLimit-Policy"] == policy
    states = re.fullmatch(
        r'"2-in-60s";r=1;t=(\d+), "1000-in-3600s";r=999;t=(\d+)', fields["RateLimit"]
    )
    assert states is not None
    assert 1 <= int(states[1]) <= 60
    assert 1 <= int(states[2]) <= 3600


def test_fields_of_a_refusal() -> None:
    limiter = RateLimiter("memory://", "gcra")
    for _ in range(2):
        limiter.hit("a", "2/hour")
    refused = limiter.hit("a", "2/hour")
    fields = fields_of(refused)
    assert list(fields)[-1] == "Retry-After"
    assert fields["Retry-After"] == str(math.ceil(refused.retry_after))
    assert fields["X-RateLimit-Remaining"] == "0"
    told = {"error": "rate limit exceeded", "retry_after": int(fields["Retry-After"])}
    assert json.loads(body_of(refused)) == told


def test_seconds_until_a_retry_are_one_at_least() -> None:
    limiter = RateLimiter("memory://", "gcra")
    limiter.hit("a", "1/second")
    refused = limiter.hit("a", "1/second")
    while refused:  # a second has passed
        refused = limiter.hit("a", "1/second")
    assert fields_of(refused)["Retry-After"] == "1"


def test_fields_of_the_longest_decision() -> None:
    rates = [(10**9 - i, 10**9 - i) for i in range(8)]
    fields = fields_of(RateLimiter("memory://", "fixed-window").hit("a", rates))
    policies = [f'"{n}-in-{n}s";q={n};w={n}' for n, _ in rates]
    assert fields["RateLimit-Policy"] == ", ".join(policies)
    assert fields["RateLimit"].count(";t=") == 8


@pytest.mark.parametrize(
    ("peer", "forwarded", "hops", "address"),
    [
        ("10.0.0.1", None, 0, "10.0.0.1"),
        ("10.0.0.1", "1.2.3.4", 0, "10.0.0.1"),
        ("10.0.0.1", "1.2.3.4", 1, "1.2.3.4"),
        ("10.0.0.1", "6.6.6.6, 1.2.3.4", 1, "1.2.3.4"),
        ("10.0.0.1", "6.6.6.6, 1.2.3.4, 10.0.0.2", 2, "1.2.3.4"),
        ("10.0.0.1", "1.2.3.4", 3, "1.2.3.4"),
        ("10.0.0.1", "", 1, "10.0.0.1"),
        ("10.0.0.1", "unknown", 1, "10.0.0.1"),
        ("10.0.0.1", "1.2.3.4:5678", 1, "1.2.3.4"),
        ("10.0.0.1", '"[2001:db8::1]:443"', 1, "2001:db8::/64"),
        ("2001:db8:0:1:ffff::1", None, 0, "2001:db8:0:1::/64"),
        ("2001:db8:0:1::2", None, 0, "2001:db8:0:1::/64"),
        ("::ffff:1.2.3.4", None, 0, "1.2.3.4"),
        ("fe80::1%eth0", None, 0, "fe80::/64"),
        ("", None, 0, "local"),
        (None, None, 0, "local"),
    ],
)
def test_addresses(
    peer: str | None, forwarded: str | None, hops: int, address: str
) -> None:
    assert client_address(peer, forwarded, hops) == address
