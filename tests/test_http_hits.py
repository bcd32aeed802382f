"""The first steps of a hit: what a plain request says, and what is at hand for it."""

from __future__ import annotations

from collections import UserDict
from typing import Any

import pytest
from outage_tools import wait_until
from redlane import Cache, Client
from redlane._core import _look, _peek
from redlane._http.asgi import AsgiRequest, special_names

SPECIAL = special_names(frozenset(("cookie", "authorization")))
HOST = (b"host", b"www.example.com")


def scope_of(*fields: Any, **others: Any) -> dict[str, Any]:
    return {
        "type": "http",
        "method": "GET",
        "scheme": "https",
        "path": "/a",
        "query_string": b"",
        "root_path": "",
        "headers": list(fields or (HOST,)),
        "server": ("127.0.0.1", 80),
        **others,
    }


@pytest.mark.parametrize(
    "scope",
    [
        scope_of(),
        scope_of(HOST, (b"accept", b"*/*"), (b"accept", b"text/html")),
        scope_of([b"accept", b"*/*"], list(HOST)),
        scope_of((b"host", "é".encode("latin-1"))),
        scope_of(path="/b", root_path="/a"),
        scope_of(path="/a/b", root_path="/a"),
        scope_of(path="/ab", root_path="/a"),
        scope_of(path="/a", root_path="/a"),
        scope_of(path="/a/b", root_path="/a/"),
        scope_of(path="/a/b", root_path="/a//"),
        scope_of(path="/a", root_path="/a/"),
        scope_of(path="/b", root_path="/"),
        scope_of(path="/b", root_path="/ä"),
        scope_of(path="/ü/☃"),
        scope_of(path="/\udcff"),
        scope_of(query_string=b"x=1&y=%20\xff"),
        scope_of(headers=(HOST,)),
        UserDict(scope_of(path="/ü", root_path="/a")),
        UserDict({n: v for n, v in scope_of().items() if n != "root_path"}),
    ],
)
def test_a_plain_request_is_read_as_with_care(scope: Any) -> None:
    asked = AsgiRequest(scope)
    seen = (asked.scheme, asked.host, asked.path, asked.query)
    assert _look(scope, SPECIAL) == seen


@pytest.mark.parametrize(
    "scope",
    [
        scope_of((b"accept", b"*/*")),  # no host
        scope_of(HOST, HOST),
        scope_of(HOST, (b"cookie", b"a=1")),
        scope_of((b"content-length", b"0"), HOST),
        scope_of(HOST, (b"a", b"b", b"c")),
        scope_of(HOST, "ab"),
        scope_of(HOST, (bytearray(b"cookie"), b"a=1")),
        scope_of((b"host", bytearray(b"h"))),
        scope_of(query_string="x"),
        scope_of(path=b"/a"),
        scope_of(root_path=b"/a"),
        {n: v for n, v in scope_of().items() if n != "scheme"},
    ],
)
def test_others_are_left_to_care(scope: Any) -> None:
    assert _look(scope, SPECIAL) is None


@pytest.mark.parametrize("missing", ["headers", "path", "query_string"])
@pytest.mark.parametrize("kind", [dict, UserDict])
def test_a_scope_without_what_all_have(kind: Any, missing: str) -> None:
    scope = kind({n: v for n, v in scope_of().items() if n != missing})
    with pytest.raises(KeyError, match=missing):
        _look(scope, SPECIAL)


@pytest.mark.parametrize(
    "arguments", [(), (scope_of(),), (scope_of(), {b"cookie"}), (5, SPECIAL)]
)
def test_what_is_no_scope(arguments: Any) -> None:
    with pytest.raises(TypeError):
        _look(*arguments)


def test_headers_that_are_no_list() -> None:
    with pytest.raises(TypeError, match="headers"):
        _look(scope_of(headers=5), SPECIAL)


# --- what is at hand ------------------------------------------------------------------


def counted(cache: Cache, **options: Any) -> tuple[Any, list[int]]:
    ran: list[int] = []

    @cache(ttl=60, **options)
    def double(x: int) -> int:
        ran.append(x)
        return 2 * x

    return double, ran


def test_the_engine_is_asked_where_that_is_wanted() -> None:
    double, ran = counted(Cache("memory://"))
    assert _peek(double, True, 4) is None
    assert double(4) == 8
    assert _peek(double, True, 4) == 8
    assert _peek(double, False, 4) is None
    assert ran == [4]
    info = double.cache_info()
    assert (info.hits, info.misses) == (1, 1)


@pytest.mark.parametrize(
    "options",
    [{"stale": 60}, {"early": True}, {"tags": "t"}, {"unless": lambda x: False}],
)
def test_options_that_ask_for_more_than_a_look(options: Any) -> None:
    double, _ = counted(Cache("memory://"), **options)
    assert double(4) == 8
    assert _peek(double, True, 4) is None


def test_nothing_is_at_hand_where_caching_is_off() -> None:
    cache = Cache("memory://")
    double, _ = counted(cache)
    double(4)
    with cache.disabled():
        assert _peek(double, True, 4) is None
    assert _peek(double, True, 4) == 8


def test_near_results_are_at_hand(redis_url: str) -> None:
    with Client(redis_url, timeout=5) as client:
        double, ran = counted(Cache(client))
        double(4)
        wait_until(lambda: double(4) and _peek(double, False, 4) == 8, "a near result")
        assert ran == [4]
        double.invalidate(4)
        assert _peek(double, False, 4) is None


def test_results_of_a_coroutine_function_are_at_hand_without_a_loop() -> None:
    cache = Cache("memory://")

    @cache(ttl=60, key="{x}")
    async def double(x: int) -> int:
        raise AssertionError("it is only looked at")

    assert _peek(double, True, 4) is None
    cache.set("4", 8)
    assert _peek(double, True, 4) == 8


@pytest.mark.parametrize("arguments", [(), (len, True), (len, True, 1)])
def test_what_is_no_cached_function(arguments: Any) -> None:
    with pytest.raises(TypeError):
        _peek(*arguments)


def test_arguments_that_do_not_fit_find_nothing() -> None:
    double, _ = counted(Cache("memory://"))
    assert _peek(double, True) is None
    assert _peek(double, True, 1, 2) is None
