"""Attempts to get round limits, and configurations that would leave a hole."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from flask import Flask, render_template_string
from http_tools import Asgi, Wsgi
from redlane import Client, ConfigurationError, RateLimiter
from redlane._http.address import client_address
from redlane.fastapi import cached, limit
from redlane.flask import Redlane
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


def app_of(client: Any = None, **config: Any) -> tuple[Flask, Redlane]:
    app = Flask("site")
    if client is not None:
        config["REDLANE_CLIENT"] = client
    elif "REDLANE_URL" not in config:
        config["REDLANE_URL"] = "memory://"
    app.config.update(config, PROPAGATE_EXCEPTIONS=True)
    return app, Redlane(app)


def test_head_does_not_go_round_a_limit_of_get(client: Any) -> None:
    limits: list[Any] = [
        lambda lane: lane.limit("1/hour", methods=["GET"]),
        lambda lane: RateLimiter(client).limit("1/hour", methods=["get"]),
    ]
    for number, made in enumerate(limits):
        app, lane = app_of(client)

        def view() -> str:
            return "x"

        view.__qualname__ = f"view_{number}"
        app.add_url_rule("/x", view_func=made(lane)(view), endpoint="x")
        ask = Wsgi(app)
        statuses = [ask("/x", method=m).status for m in ("HEAD", "HEAD", "GET")]
        assert statuses == [200, 429, 429]


@pytest.mark.parametrize("who", [None, object(), True, 1.5])
def test_a_key_that_would_be_somebody_else_each_time(who: Any, client: Any) -> None:
    app, lane = app_of(client)
    view = lane.limit("1/hour", key=lambda: who)(lambda: "x")
    app.add_url_rule("/x", view_func=view, endpoint="x")
    with pytest.raises(TypeError, match="key must give"):
        Wsgi(app)("/x")


def test_keys_of_bytes_and_numbers(client: Any) -> None:
    app, lane = app_of(client)
    keys = iter([b"\xff", b"\xff", 5, "5"])
    view = lane.limit("1/hour", key=lambda: next(keys))(lambda: "x")
    app.add_url_rule("/x", view_func=view, endpoint="x")
    assert [Wsgi(app)("/x").status for _ in range(4)] == [200, 429, 200, 429]


def test_rates_are_checked_where_they_are_written(client: Any) -> None:
    _, lane = app_of(client)
    for wrong in ("rubbish", "0/minute", ""):
        with pytest.raises((ConfigurationError, ValueError)):
            lane.limit(wrong)
        with pytest.raises((ConfigurationError, ValueError)):
            limit(wrong)


ADDRESSES = [
    # peer, X-Forwarded-For, hops, whose it is
    (None, None, 0, "local"),
    ("", "1.1.1.1", 0, "local"),
    ("10.0.0.1", "1.1.1.1", 0, "10.0.0.1"),
    ("10.0.0.1", "evil, ::ffff:9.9.9.9", 1, "9.9.9.9"),
    ("10.0.0.1", "9.9.9.9, unknown", 1, "10.0.0.1"),
    ("10.0.0.1", "9.9.9.9, 8.8.8.8, 7.7.7.7", 2, "8.8.8.8"),
    ("10.0.0.1", ", ,,", 2, "10.0.0.1"),
    ("10.0.0.1", '"[2001:db8::1]:80"', 1, "2001:db8::/64"),
    ("10.0.0.1", "010.1.1.1", 1, "10.0.0.1"),
    ("10.0.0.1", "0x7f.1", 1, "10.0.0.1"),
    ("10.0.0.1", "1.1.1.1\x00", 1, "10.0.0.1"),
    ("10.0.0.1", "1" * 100_000, 1, "10.0.0.1"),
    ("fe80::1%eth0", None, 0, "fe80::/64"),
    ("2001:db8::1", None, 0, "2001:db8::/64"),
    ("2001:db8::ffff:ffff:ffff:ffff", None, 0, "2001:db8::/64"),
]


@pytest.mark.parametrize(("peer", "forwarded", "hops", "whose"), ADDRESSES)
def test_addresses_that_are_written_by_anybody(
    peer: str | None, forwarded: str | None, hops: int, whose: str
) -> None:
    assert client_address(peer, forwarded, hops) == whose


def test_a_refusal_names_no_field_of_the_client_s(client: Any) -> None:
    """Not the key, nor what a client would have in a header of its own."""
    evil = "x\r\nSet-Cookie: a=b"
    app, lane = app_of(client)
    view = lane.limit("1/hour", key=lambda: evil, scope=evil, error_message=evil)
    app.add_url_rule("/x", view_func=view(lambda: "x"), endpoint="x")
    replies = [Wsgi(app)("/x") for _ in range(2)]
    assert replies[1].status == 429
    for name, value in replies[1].fields:
        assert not {"\r", "\n"} & set(name + value)
        assert name != "Set-Cookie"


# --- configuration --------------------------------------------------------------------


def test_a_limit_of_the_application_counts_all_views(client: Any) -> None:
    """Those with a limit of their own, too."""
    config = {"RATELIMIT_APPLICATION": "3/hour", "RATELIMIT_DEFAULT": "9/hour"}
    app, lane = app_of(client, **config)
    app.add_url_rule("/a", "a", lambda: "a")
    app.add_url_rule("/own", "own", lane.limit("2/hour")(lambda: "own"))
    replies = [Wsgi(app)(target) for target in ("/a", "/own", "/a", "/own")]
    assert [reply.status for reply in replies] == [200, 200, 200, 429]
    limits = [reply["X-RateLimit-Limit"] for reply in replies]
    assert limits == ["9", "2", "9", "3"]


def test_set_up_twice_is_set_up_once(client: Any) -> None:
    app, lane = app_of(client, REDLANE_LIMITS="4/hour")
    wrapped = app.wsgi_app
    lane.init_app(app)
    assert app.wsgi_app is wrapped
    Redlane(app)  # another one, with the same configuration
    app.add_url_rule("/a", "a", lambda: "a")
    assert [Wsgi(app)("/a").status for _ in range(5)] == [200] * 4 + [429]


def test_a_client_goes_before_a_url_of_limits(client: Any) -> None:
    app, _ = app_of(client, RATELIMIT_STORAGE_URI="redis://127.0.0.1:1/0")
    settings = app.extensions["redlane"]._states[app].settings
    assert settings.limit_url is None
    assert settings.make_limiter().hit("a", "1/hour")
    assert client.keys("ratelimit:*")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDLANE_LIMITS", "rubbish"),
        ("REDLANE_LIMITS", 5),
        ("REDLANE_LIMIT_ALGORITHM", "x"),
        ("REDLANE_IDENTITY_HEADERS", 5),
        ("REDLANE_IGNORE_COOKIES", 5),
        ("REDLANE_SEAL", 5),
        ("RATELIMIT_DEFAULT", "rubbish"),
        ("RATELIMIT_APPLICATION", "rubbish"),
        ("CACHE_REDIS_PORT", "canary"),
        ("CACHE_REDIS_DB", "canary"),
    ],
)
def test_values_that_are_wrong_are_named(name: str, value: Any) -> None:
    more = {"CACHE_TYPE": "redis", "CACHE_REDIS_HOST": "x"} if "CACHE" in name else {}
    with pytest.raises(ConfigurationError, match=name) as caught:
        app_of(**{name: value}, **more)
    assert "canary" not in str(caught.value)


def test_parts_of_templates_in_one_line() -> None:
    app, _ = app_of()
    part = "{% cache 60 %}@{% endcache %}"
    texts = [part.replace("@", "a") + part.replace("@", "b"), part.replace("@", "c")]
    with app.test_request_context():
        assert [render_template_string(text) for text in texts] == ["ab", "c"]


def test_clients_are_not_kept_for_ever() -> None:
    """By what decorators have made for them."""

    def used() -> weakref.ref[Any]:
        client = Client("memory://")

        async def endpoint(request: Request) -> Response:
            return Response("x")

        made = limit("5/hour", client=client)(cached(client=client, ttl=5)(endpoint))
        ask = Asgi(Starlette(routes=[Route("/x", made)]))
        assert [ask("/x").word for _ in range(2)] == ["MISS", "HIT"]
        ask.close()
        return weakref.ref(client)

    gone = used()
    gc.collect()
    assert gone() is None
