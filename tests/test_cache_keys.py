"""Keys by a template or a callable, and namespaces: readable, inside the cache's
prefix, and never one key for two calls."""

from __future__ import annotations

import enum
import hashlib
import itertools
import os
import subprocess
import sys
import uuid
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redlane import Cache
from wire_values import VALUES, identity

cache = Cache("memory://")


def keyed(template: str, value: Any) -> str:
    @cache(key=template)
    def f(value: Any) -> None: ...

    key = f.cache_key(value)
    assert key.startswith("cache:")
    return key[len("cache:") :]


class Colour(enum.Enum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("abc", "abc"),
        ("a-b_c.d@e+f9", "a-b_c.d@e+f9"),
        ("_", "_"),
        ("é-1", "é-1"),
        ("", '""'),
        ("42", '"42"'),
        ("-a", '"-a"'),
        ("a b", '"a b"'),
        ("a:b", '"a:b"'),
        ("null", '"null"'),
        ("nan", '"nan"'),
        ("Null", "Null"),
        ("a\0", '"a\\u0000"'),
        ("\ud800", '"\\ud800"'),
        (42, "42"),
        (-1.5, "-1.5"),
        (None, "null"),
        (True, "true"),
        (b"a", 'b"a"'),
        ((1, "a"), '(1,"a")'),
        (uuid.UUID(int=1), 'UUID("00000000-0000-0000-0000-000000000001")'),
        (Colour.RED, f"{__name__}/Colour.RED"),
    ],
)
def test_fields(value: Any, text: str) -> None:
    assert keyed("user:{value}", value) == f"user:{text}"
    assert keyed("{value}:end", value) == f"{text}:end"
    assert keyed("a{{b}}{value}", value) == f"a{{b}}{text}"


def test_what_follows_a_field_is_quoted_in_it() -> None:
    @cache(key="{a}-{b}/{c}")
    def f(a: Any, b: Any, c: Any) -> None: ...

    def key(*args: Any) -> str:
        return f.cache_key(*args)[len("cache:") :]

    assert key("x", "y", "z") == "x-y/z"
    assert key("x-y", "y-z", "z/-") == '"x-y"-y-z/"z/-"'
    assert key(-1, -1, -1) == '~"-1"--1/-1'
    assert key("~", "#", Colour.RED) == f'"~"-"#"/{__name__}/Colour.RED'
    assert key(1, Colour.RED, 1) == f'1-~"{__name__}/Colour.RED"/1'
    assert key(b"-", ("-",), 1) == '~"b\\"-\\""-("-")/1'


def test_long_fields_are_hashed_where_they_stand() -> None:
    long = "x" * 201
    digest = hashlib.sha256(long.encode()).hexdigest()
    assert keyed("user:{value}:end", long) == f"user:#{digest}:end"
    assert keyed("user:{value}:end", "x" * 200) == f"user:{'x' * 200}:end"
    assert keyed("{value}", list(range(100))).startswith("#")


def test_every_way_to_write_a_call_has_one_key() -> None:
    @cache(key="{b}:{a}:{rest}:{d}:{more}")
    def f(a: Any, b: Any = 2, *rest: Any, d: Any = 4, **more: Any) -> None: ...

    assert f.cache_key(1) == "cache:2:1:():4:{}"
    assert f.cache_key(1, 2, 3, d=5, y=1, x=2) == 'cache:2:1:(3):5:{"x":2,"y":1}'
    assert f.cache_key(b=2, a=1) == f.cache_key(1)

    @cache(key="config")
    def g() -> int:
        return 1

    assert g.cache_key() == "cache:config"
    assert g() == 1
    assert cache.get("config") == 1
    assert g.invalidate_all() == 1


def test_a_wrong_call_raises_what_the_function_raises() -> None:
    for key in ("{a}:{b}", lambda a, b: "k"):

        def f(a: int, b: int) -> int:
            return a

        cached = cache(f, key=key)
        with pytest.raises(TypeError, match="missing 1 required positional argument"):
            cached(1)
        with pytest.raises(TypeError, match="do not fit"):
            cached.cache_key(1)


def test_templates_are_checked_when_decorating() -> None:
    def f(a: int, b: int = 1, *rest: int, **more: int) -> None: ...

    whole = "{a}:{b}:{rest}:{more}"
    cache(f, key=whole)
    cache(f, key="{a}", ignore=["b", "rest", "more"])
    for template, ignore, message in (
        ("{a}:{b}:{rest}:{more}:{c}", (), r"f\(\) has no parameter 'c'"),
        (
            "{a}:{b}:{rest}",
            (),
            r"'more' would share a key.*ignore=\['more'\]",
        ),
        ("{a}", ("b", "more"), "differ in 'rest'"),
        ("constant", (), "differ in 'a'"),
        (whole, ("b",), "'b' is in ignore= too"),
    ):
        with pytest.raises(TypeError, match=message):
            cache(f, key=template, ignore=ignore)
    for template, message in (
        ("", "must not be empty"),
        ("{a}{b}:{rest}:{more}", "two fields need a text between"),
        ("{a.real}", "plain name"),
        ("{a[0]}", "plain name"),
        ("{a:>5}", "plain name"),
        ("{a!r}", "plain name"),
        ("{}", "plain name"),
        ("{a", "expected '}'"),
        ("a}", "Single '}'"),
    ):
        with pytest.raises(ValueError, match=message):
            cache(f, key=template)
    for key in (5, b"{a}", ["a"]):
        with pytest.raises(TypeError, match="key must be a str or a callable"):
            cache(f, key=key)
    with pytest.raises(TypeError, match="name= has no place"):
        cache(f, key=whole, name="n")


# --- callables --------------------------------------------------------------------


def test_a_callable_makes_the_key(client: Any) -> None:
    own = Cache(client)

    @own(key=lambda user, **options: f"user:{user['id']}")
    def f(user: Any, verbose: bool = False) -> Any:
        return user["id"]

    assert f({"id": 7}) == 7
    assert f({"id": 7}, verbose=True) == 7
    assert client.get("cache:user:7") == b"7"
    assert f.invalidate({"id": 7}) is True
    with pytest.raises(TypeError, match="cannot be listed"):
        f.invalidate_all()
    raw = own(lambda x: x, key=lambda x: b"\xff\x00")
    assert raw(1) == raw(2) == 1
    assert client.get(b"cache:\xff\x00") == b"1"
    assert raw.cache_key(1) == "cache:\udcff\x00"


def test_what_a_callable_may_not_return() -> None:
    for result in (None, 5, ["k"], bytearray(b"k")):
        f = cache(lambda x: x, key=lambda x, result=result: result)
        with pytest.raises(TypeError, match="must return str or bytes"):
            f(1)
    for result in ("", b""):
        f = cache(lambda x: x, key=lambda x, result=result: result)
        with pytest.raises(ValueError, match="returned no text"):
            f(1)
    with pytest.raises(UnicodeEncodeError):
        cache(lambda x: x, key=lambda x: "\ud800")(1)

    def broken(x: int) -> str:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        cache(lambda x: x, key=broken)(1)


# --- namespaces and patterns ------------------------------------------------------


def test_namespaces(client: Any) -> None:
    own = Cache(client, prefix="app")

    def f(x: Any) -> Any:
        return x

    plain = own(f)
    one, other = own(f, namespace="tenant-1"), own(f, namespace="tenant:2%*")
    template = own(f, namespace="tenant-1", key="user:{x}")
    made = own(f, namespace="tenant-1", key=str)
    assert one.cache_key(1) == f"app:tenant-1:{plain.cache_key(1)[4:]}"
    assert other.cache_key(1).startswith("app:tenant%3A2%25*:")
    assert template.cache_key(1) == "app:tenant-1:user:1"
    assert made.cache_key(1) == "app:tenant-1:1"
    for function in (plain, one, other, template, made):
        function(1)
    assert client.dbsize() == 5
    assert other.invalidate_all() == 1
    assert one.invalidate_all() == 1
    assert own.invalidate("app:tenant-1:*") == 2
    assert plain.invalidate(1) is True
    for bad in ("", 5, b"x"):
        with pytest.raises(TypeError, match="namespace must be a non-empty str"):
            own(f, namespace=bad)


def test_invalidate_all_of_a_template(client: Any) -> None:
    own = Cache(client)
    f = own(lambda a, b: a, key="user*:{a}:x:{b}:end")
    other = own(lambda a: a, key="userX:{a}:x:1:end")
    for a in (1, "a:b", "x" * 300, (1, 2)):
        f(a, 1)
    other(1)
    assert f.invalidate_all() == 4
    assert client.exists(other.cache_key(1)) == 1


# --- injectivity ------------------------------------------------------------------

SEPARATORS = st.text(st.sampled_from(":-/.,_ ~#\"'()a1e%é"), min_size=1, max_size=2)
HOSTILE = st.one_of(
    VALUES,
    st.text(':-/.,_ ~#"\\()a1e%é', max_size=6),
    st.text("0123456789abcdef#", min_size=64, max_size=66),
    st.sampled_from(["null", "nan", "inf", "~", '~"', "#", "x" * 201]),
    st.integers(-20, 20),
    st.floats(-3, 3),
)


# All short texts of what keys are made of, and what is written with such characters.
LETTERS = ':-/1a~#"_e.'
POOL: list[Any] = [
    *("".join(t) for n in range(3) for t in itertools.product(LETTERS, repeat=n)),
    *("null", "true", "nan", '~"-1"', '"1"', "1e1", "(1)", "a" * 201, "#" + "1" * 64),
    *(*range(-12, 13), 1.0, -1.0, 1e-7, 1e20, float("nan"), float("inf"), None, True),
    *(b"", b"-", b'"', (), (1,), ("-",), (("a",),), ["/"], {"a": 1}, {1}),
    *(next(iter(enum.Enum("E", {"A": 1}, module=m))) for m in "~#-:/"),
]


@pytest.mark.parametrize("separator", [*LETTERS, " ", "::", "-1", '"a', "é", "(", "1"])
def test_no_two_pairs_share_a_key(separator: str) -> None:
    f = cache(lambda x, y: None, key=f"{{x}}{separator}{{y}}", ignore=[])
    seen = {f.cache_key(x, y) for x in POOL for y in POOL}
    assert len(seen) == len(POOL) ** 2


@given(HOSTILE, HOSTILE, HOSTILE, HOSTILE, SEPARATORS, SEPARATORS, SEPARATORS)
@settings(max_examples=400, deadline=None)
def test_templates_are_injective(
    a: Any, b: Any, c: Any, d: Any, first: str, middle: str, last: str
) -> None:
    text = f"{first}{{x}}{middle}{{y}}{last}"

    @cache(key=text)
    def f(x: Any, y: Any) -> None: ...

    same = (identity(a), identity(b)) == (identity(c), identity(d))
    assert (f.cache_key(a, b) == f.cache_key(c, d)) == same


@given(st.text(':-/a1~#"', max_size=8), st.sampled_from([":", "-", "/", "a", "1", "#"]))
@settings(max_examples=600, deadline=None)
def test_no_cut_of_a_text_has_the_key_of_another(text: str, separator: str) -> None:
    @cache(key=f"{{x}}{separator}{{y}}")
    def f(x: Any, y: Any) -> None: ...

    halves = [(text[:i], text[i:]) for i in range(len(text) + 1)]
    for piece in list(halves):
        for i in range(2):
            if piece[i].isdecimal():
                number = [*piece]
                number[i] = int(piece[i])
                halves.append(tuple(number))
    keys = {f.cache_key(*pair) for pair in halves}
    assert len(keys) == len({(type(a), a, type(b), b) for a, b in halves})


def test_keys_are_the_same_in_every_process() -> None:
    code = (
        "from redlane import Cache\n"
        "f = Cache('memory://')(lambda a, b: None, key='k:{a}/{b}', namespace='n')\n"
        "print(ascii(f.cache_key({'x', 'y', 'z'}, {'b': 1.5, 'a': {b'1', None}})))\n"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in (0, 1, 77)
    }
    expected = 'cache:n:k:set("x","y","z")/{"a":set(b"1",null),"b":1.5}'
    assert found == {ascii(expected) + "\n"}
