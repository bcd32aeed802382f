"""Level 0 of cached functions: from the arguments to the value, without a key."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
import threading
import warnings
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from near_tools import near_state, wait_for_near, warm
from redlane import Cache, CachedFunction, Client
from servers import Server


@pytest.fixture
def cache(redis_server: Server) -> Iterator[Cache]:
    with Client(redis_server.url, timeout=10, connect_timeout=10) as client:
        made = Cache(client, ttl=600)
        made.get("nothing")
        wait_for_near(client)
        yield made


def goes_by_level0(
    function: CachedFunction[..., Any], *args: Any, **named: Any
) -> bool:
    """Whether a call that was answered near before is answered without its key."""
    warm(function, lambda: function(*args, **named))
    client: Client[Any] = function.cache.client
    looked = near_state(client)["hits"]
    before = function.cache_info().near_hits
    for _ in range(3):
        function(*args, **named)
    assert function.cache_info().near_hits == before + 3
    return bool(near_state(client)["hits"] == looked)


PLAIN: list[Any] = [
    *(0, 1, -1, 2**29, 2**30, 2**62, 2**63, 2**64, -(2**63), 10**300),
    *(0.0, -0.0, 1.0, -1.0, float("inf"), float("-inf"), 5e-324),
    *(True, False, None),
    *("", "1", "a", "é", "\N{GRINNING FACE}", "x" * 1000, "a\0b"),
    *(b"", b"1", b"a", b"\xff" * 1000),
    *((), (1,), (1.0,), (True,), ("1",), ((1,),), ((1, "a"), (2.5, None)), (1, 1)),
]


def test_types_and_bits_tell_arguments_apart(cache: Cache) -> None:
    calls = []

    @cache
    def f(x: Any) -> str:
        calls.append(x)
        return f"{type(x).__name__} {x!r}"

    for _ in range(3):
        for value in PLAIN:
            assert f(value) == f"{type(value).__name__} {value!r}"
    assert len(calls) == len(PLAIN)
    for value in PLAIN:
        assert goes_by_level0(f, value), value
        assert f(value) == f"{type(value).__name__} {value!r}"
    assert len(calls) == len(PLAIN)


def test_nan_is_itself(cache: Cache) -> None:
    calls = []

    @cache
    def f(x: Any) -> str:
        calls.append(x)
        return repr(x)

    assert goes_by_level0(f, float("nan"))
    assert goes_by_level0(f, (float("nan"), 1))
    assert f(float("nan")) == "nan"
    assert len(calls) == 2


class Colour(Enum):
    RED = 1


class Name(str):
    """What a look-up must not ask."""

    def __eq__(self, other: object) -> bool:
        raise AssertionError("compared")

    def __hash__(self) -> int:
        raise AssertionError("hashed")


@dataclass(frozen=True)
class Point:
    x: int


@pytest.mark.parametrize(
    "value",
    [
        [1],
        {"a": 1},
        Colour.RED,
        Point(1),
        (1, [2]),
        "x" * 1025,
        b"x" * 1025,
        ("x" * 600, "y" * 600),
        10**3000,
        ((((((((((1,),),),),),),),),),),
        frozenset([1]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_goes_by_its_key(cache: Cache, value: Any) -> None:
    calls = []

    @cache
    def f(x: Any) -> int:
        calls.append(x)
        return len(calls)

    assert not goes_by_level0(f, value)
    assert f(value) == 1


def test_a_subclass_is_not_asked(cache: Cache) -> None:
    @cache(name="named", ignore=["x"])
    def ignoring(x: Any, y: int) -> int:
        return y

    @cache
    def f(x: Any) -> str:
        return type(x).__name__

    assert warm(f, lambda: f("abc")) == "str"
    with contextlib.suppress(TypeError):  # its key may refuse it: nobody asked it
        f(Name("abc"))
    assert goes_by_level0(ignoring, Name("abc"), 1)
    assert f("abc") == "str"


def test_every_way_to_write_a_call(cache: Cache) -> None:
    calls = []

    @cache
    def f(a: int, b: int = 2, *, c: int = 3) -> list[int]:
        calls.append((a, b, c))
        return [a, b, c]

    for _ in range(30):
        assert f(1) == f(a=1) == f(1, 2) == f(1, b=2) == f(b=2, a=1) == [1, 2, 3]
        assert f(1, c=3) == f(c=3, b=2, a=1) == f(1, 2, c=3) == [1, 2, 3]
        assert f(*(1,), c=3, b=2) == [1, 2, 3]
        assert f(2, 1) == f(b=1, a=2) == [2, 1, 3]
        assert f(1, c=4) == f(c=4, a=1) == [1, 2, 4]
    assert sorted(calls) == [(1, 2, 3), (1, 2, 4), (2, 1, 3)]
    for named in ({"b": 2}, {"c": 3}, {"c": 3, "b": 2}):
        assert goes_by_level0(f, 1, **named)


def test_star_arguments(cache: Cache) -> None:
    calls = []

    @cache
    def f(a: int, *rest: int, c: int = 0) -> str:
        calls.append((a, rest, c))
        return f"{a} {rest} {c}"

    @cache
    def g(a: int, /, **more: int) -> str:
        calls.append((a, more))
        return f"{a} {sorted(more.items())}"

    for _ in range(5):
        assert f(1) == "1 () 0"
        assert f(1, 2) == "1 (2,) 0"
        assert f(1, 2, c=2) == "1 (2,) 2"
        assert f(1, 2, 3) == "1 (2, 3) 0"
        assert f(*range(40)) == f"0 {tuple(range(1, 40))} 0"
        assert g(1) == "1 []"
        assert g(1, a=2) == "1 [('a', 2)]"
        assert g(1, b=2, c=3) == g(1, c=3, b=2) == "1 [('b', 2), ('c', 3)]"
    assert len(calls) == 8
    assert goes_by_level0(f, 1, 2)
    assert goes_by_level0(f, 1, 2, c=5)
    assert goes_by_level0(g, 1)
    assert not goes_by_level0(f, *range(40))
    assert not goes_by_level0(g, 1, b=2)


def test_many_parameters(cache: Cache) -> None:
    names = [f"p{i}" for i in range(20)]
    space: dict[str, Any] = {}
    exec(f"def f({', '.join(names)}):\n    return sum(({', '.join(names)}))", space)
    f = cache(space["f"])
    values = dict.fromkeys(names, 1)
    for _ in range(5):
        assert f(**values) == f(*[1] * 20) == 20


def test_ignored_parameters(cache: Cache) -> None:
    class Store:
        @cache(ignore=["self"])
        def load(self, x: int, log: Any = None) -> int:
            return x * 2

        @cache(ignore=["self", "log"], name="quiet")
        def quiet(self, x: int, log: Any = None) -> int:
            return x * 3

    for _ in range(5):
        assert Store().load(2) == Store().load(x=2) == 4
        assert Store().quiet(2, print) == Store().quiet(2, log=object()) == 6
    assert Store.load.cache_info().misses == 1
    assert Store.quiet.cache_info().misses == 1
    assert goes_by_level0(Store.load, Store(), 2)
    assert goes_by_level0(Store.quiet, Store(), 2, log=[])


def test_a_call_that_does_not_fit(cache: Cache) -> None:
    @cache
    def f(a: int, b: int = 2) -> int:
        return a + b

    warm(f, lambda: f(1))
    for _ in range(3):
        with pytest.raises(TypeError):
            f()  # type: ignore[call-arg]
        with pytest.raises(TypeError):
            f(1, 2, 3)  # type: ignore[call-arg]
        with pytest.raises(TypeError):
            f(1, a=2)  # type: ignore[misc]
        with pytest.raises(TypeError):
            f(1, other=2)  # type: ignore[call-arg]
    assert f(1) == 3


def test_names_that_are_no_plain_str(cache: Cache) -> None:
    class Key(str):
        pass

    @cache
    def f(a: int, b: int = 2) -> int:
        return a + b

    for _ in range(5):
        assert f(**{Key("b"): 3, Key("a"): 1}) == 4
        assert f(**{"".join(["", "a"]): 5}) == 7
    assert f.cache_info().misses == 2


def test_names_are_kept_and_given_back(cache: Cache) -> None:
    """The tuple of names of a call is known by its address, so it must not be freed
    and another one made there."""

    @cache
    def f(a: int = 0, b: int = 0, c: int = 0) -> str:
        return f"{a}{b}{c}"

    for i in range(300):
        names = {("a", "b", "c")[i % 3]: 1, ("b", "c", "a")[i % 3]: 2}
        assert f(**names) == "".join(str(names.get(name, 0)) for name in "abc")
    watched = weakref.ref(f)
    gc.collect()
    del f
    gc.collect()
    assert watched() is None


def test_a_function_that_can_reach_itself(cache: Cache) -> None:
    """It is freed though its level 0 has values."""

    class Box:
        pass

    box = Box()

    @cache(name="boxed", ignore=["box"])
    def f(x: int, box: Any = None) -> str:
        return "a value"

    box.function = f  # type: ignore[attr-defined]
    f.box = box
    warm(f, partial(f, 1, box))
    watched = weakref.ref(box)
    del f, box
    gc.collect()
    assert watched() is None


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="there are none any more")
def test_a_str_of_old_c_code(cache: Cache) -> None:
    """Its characters are not laid out yet."""
    make = ctypes.pythonapi.PyUnicode_FromUnicode
    make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_ssize_t]
    write = ctypes.pythonapi.PyUnicode_AsUnicode
    write.restype, write.argtypes = ctypes.c_void_p, [ctypes.py_object]

    def old(text: str) -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            made = make(None, len(text))
            start = write(made)
        raw = text.encode("utf-32-le")
        ctypes.memmove(start, raw, len(raw))
        return made

    @cache
    def f(x: str) -> str:
        return x + "!"

    for _ in range(3):
        assert f(old("abc")) == "abc!"
        assert f("abc") == "abc!"
        assert f(("abc",)[0]) == "abc!"
    assert f.cache_info().misses == 1


scalars = (
    st.integers()
    | st.floats()
    | st.booleans()
    | st.none()
    | st.text(max_size=4).filter(str.isprintable)
    | st.binary(max_size=4)
)
arguments = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=4
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(arguments, max_size=12))
def test_level_0_tells_apart_what_the_key_does(cache: Cache, values: list[Any]) -> None:

    @cache
    def f(x: Any) -> str:
        return f.cache_key(x)

    for _ in range(2):
        for value in values:
            assert f(value) == f.cache_key(value)
    # Whether or not the messages of their own stores have come by now.
    for value in values:
        assert warm(f, lambda value=value: f(value)) == f.cache_key(value)


def test_keys_that_depend_on_more_than_the_arguments(cache: Cache) -> None:
    tenant = ["a"]

    class Scaler:
        def __init__(self) -> None:
            self.factor = 2

        def __cache_key__(self) -> int:
            return self.factor

        def scale(self, x: int) -> int:
            return self.factor * x

    @cache(key=lambda x: f"{tenant[0]}:{x}")
    def f(x: int) -> str:
        return f"{tenant[0]} {x}"

    scaler = Scaler()
    scale = cache(scaler.scale)
    for _ in range(3):
        for tenant[0], scaler.factor in (("a", 2), ("b", 3)):
            assert f(1) == f"{tenant[0]} 1"
            assert scale(5) == scaler.factor * 5
    assert not goes_by_level0(f, 1)
    assert not goes_by_level0(scale, 5)


def test_a_template_of_the_key(cache: Cache) -> None:
    @cache(key="user:{user_id}", ignore=["db"])
    def f(user_id: int, db: Any = None) -> int:
        return user_id

    assert goes_by_level0(f, 1)
    assert goes_by_level0(f, user_id=1, db=None)
    assert goes_by_level0(f, 1, object())
    assert f.cache_info().misses == 1


def test_threads(cache: Cache) -> None:
    """Values come and go while all of them call."""

    @cache
    def f(x: int, y: str = "y") -> str:
        return f"{x}{y}"

    faults: list[str] = []
    rounds = 300

    def call(seed: int) -> None:
        for i in range(rounds):
            x = (seed * 7919 + i * 31) % 40
            if f(x) != f"{x}y" or f(y="z", x=x) != f"{x}z":
                faults.append(f"{x}")
            if i % 10 == 0:
                f.invalidate(x)
            if i % 100 == 0:
                cache.clear()

    threads = [threading.Thread(target=call, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults


def test_many_arguments_grow_and_shrink_the_table(cache: Cache) -> None:
    @cache
    def f(x: int) -> int:
        return -x

    for power in range(3):
        for _ in range(3):
            for i in range(700):
                assert f(i * 3**power) == -i * 3**power
        cache.clear()
    for i in range(700):
        assert f(i) == -i


@pytest.mark.soak
def test_more_arguments_than_it_keeps(cache: Cache) -> None:
    @cache
    def f(x: int) -> int:
        return -x

    for _ in range(3):
        for i in range(100_000):
            assert f(i) == -i
