"""Keys of cached calls: fixed texts, one key for each way to write a call, no two calls
with one key."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import hashlib
import math
import os
import pathlib
import pickle
import subprocess
import sys
import uuid
from collections import OrderedDict, defaultdict, namedtuple
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redlane import Cache
from wire_values import SCALARS, VALUES, identity

MODULE = __name__.replace(":", "%3A")
cache = Cache("memory://")


@cache
def one(value: Any) -> None: ...


def text(value: Any) -> str:
    """The argument's part of the key."""
    head = f"cache:one:{MODULE}:"
    key = one.cache_key(value)
    assert key.startswith(head)
    return key[len(head) :]


class Colour(enum.Enum):
    RED = 1
    CRIMSON = 1  # noqa: PIE796 - an alias


class Number(enum.IntEnum):
    ONE = 1


class Mode(enum.Flag):
    READ = 1
    WRITE = 2


class Word(str, enum.Enum):
    A = "a"


class Text(str):
    __slots__ = ()


class Whole(int):
    pass


class Real(float):
    pass


class Items(list):  # type: ignore[type-arg]
    pass


Point = namedtuple("Point", "x y")


@dataclasses.dataclass
class Data:
    x: int
    y: Any = None


class Struct(msgspec.Struct):
    x: int


class Own:
    def __init__(self, key: Any) -> None:
        self.key = key

    def __cache_key__(self) -> Any:
        return self.key


class Opaque:
    pass


FIXED = [
    (None, "null"),
    (True, "true"),
    (False, "false"),
    (0, "0"),
    (-7, "-7"),
    (2**63 - 1, "9223372036854775807"),
    (2**63, "0x8000000000000000"),
    (-(2**64), "-0x10000000000000000"),
    (1.0, "1.0"),
    (-0.0, "-0.0"),
    (0.1, "0.1"),
    (1e300, "1e+300"),
    (math.inf, "inf"),
    (-math.inf, "-inf"),
    (math.nan, "nan"),
    (2j, "complex(0.0,2.0)"),
    ("", '""'),
    ("abc", '"abc"'),
    ('a"\\\n\x00\x7f', '"a\\"\\\\\\u000a\\u0000\\u007f"'),
    ("é😀", '"é😀"'),
    ("\ud83d\ude00", '"\\ud83d\\ude00"'),
    ("x\udc80y", '"x\\udc80y"'),
    (b"", 'b""'),
    (b'a"\\\xff\x00', 'b"a\\"\\\\\\xff\\x00"'),
    (bytearray(b"a"), 'bytearray(b"a")'),
    ((), "()"),
    ((1,), "(1)"),
    ((1, (2, "3")), '(1,(2,"3"))'),
    ([], "[]"),
    ([1, [2]], "[1,[2]]"),
    ({}, "{}"),
    ({"b": 1, "a": [2]}, '{"a":[2],"b":1}'),
    ({1: 2, "1": 3}, '{"1":3,1:2}'),
    (set(), "set()"),
    ({2, 10, 1}, "set(1,10,2)"),
    (frozenset({"a"}), 'frozenset("a")'),
    (Colour.RED, f"{MODULE}/Colour.RED"),
    (Colour.CRIMSON, f"{MODULE}/Colour.RED"),
    (Number.ONE, f"{MODULE}/Number.ONE"),
    (Word.A, f"{MODULE}/Word.A"),
    (Mode.READ | Mode.WRITE, f"{MODULE}/Mode(3)"),
    (Text("a"), f'{MODULE}/Text("a")'),
    (Whole(1), f"{MODULE}/Whole(1)"),
    (Real(1), f"{MODULE}/Real(1.0)"),
    (Items([1]), f"{MODULE}/Items(1)"),
    (Point(1, 2), f"{MODULE}/Point(1,2)"),
    (OrderedDict(b=1, a=2), 'collections/OrderedDict(("b",1),("a",2))'),
    (defaultdict(int, b=1, a=2), 'collections/defaultdict("a":2,"b":1)'),
    (Data(1), f"{MODULE}/Data(x=1,y=null)"),
    (Struct(1), f"{MODULE}/Struct(x=1)"),
    (Own("k"), f'{MODULE}/Own("k")'),
    (Own((1, b"x")), f'{MODULE}/Own((1,b"x"))'),
    (Data, f'type("{MODULE}/Data")'),
    (int, 'type("builtins/int")'),
    (uuid.UUID(int=1), 'UUID("00000000-0000-0000-0000-000000000001")'),
    (decimal.Decimal("1.10"), 'Decimal("1.10")'),
    (fractions.Fraction(1, 3), "Fraction(1,3)"),
    (dt.date(2025, 1, 2), 'date("2025-01-02")'),
    (dt.datetime(2025, 1, 2, 3), 'datetime("2025-01-02T03:00:00")'),
    (
        dt.datetime(2025, 1, 2, tzinfo=dt.timezone.utc),
        'datetime("2025-01-02T00:00:00",tz="datetime.timezone.utc")',
    ),
    (dt.timedelta(1, 2, 3), "timedelta(1,2,3)"),
    (pathlib.PurePosixPath("/a"), 'PurePosixPath("/a")'),
    (range(1, 5, 2), "range(1,5,2)"),
]


@pytest.mark.parametrize(("value", "expected"), FIXED, ids=[e for _, e in FIXED])
def test_fixed_texts(value: Any, expected: str) -> None:
    assert text(value) == expected


def test_a_module_of_any_name_reads_as_one_argument() -> None:
    @cache
    def f(*args: Any) -> None: ...

    plain = type("A", (int,), {"__module__": "m"})
    odd = type("A", (int,), {"__module__": "m/A(1),m"})
    assert f.cache_key(plain(1), plain(2)) != f.cache_key(odd(2))
    assert text(odd(2)) == "m%2FA%281%29%2Cm/A(2)"


def test_nan_with_other_bits_is_another_value() -> None:
    import struct

    (odd,) = struct.unpack("<d", struct.pack("<Q", 0x7FF8000000000001))
    assert text(odd) == "nan(7ff8000000000001)"


@cache
def many(
    a: int, b: int = 2, /, c: int = 3, *rest: int, d: int, e: int = 5, **more: Any
) -> None: ...


def test_every_way_to_write_a_call_has_one_key() -> None:
    head = f"cache:many:{MODULE}:"
    assert many.cache_key(1, d=4) == head + "1,2,3,4,5"
    assert many.cache_key(1, 2, c=3, e=5, d=4) == head + "1,2,3,4,5"
    assert many.cache_key(1, 2, 3, 9, 8, d=4) == head + "1,2,3,*(9,8),4,5"
    assert many.cache_key(1, d=4, z=1, y=2) == head + '1,2,3,4,5,**{"y":2,"z":1}'
    assert many.cache_key(1, d=4, y=2, z=1) == many.cache_key(1, d=4, z=1, y=2)
    # A positional-only name may be a keyword of **more.
    assert many.cache_key(1, d=4, a=7) == head + '1,2,3,4,5,**{"a":7}'


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((), {}), ((1,), {}), ((1, 2, 3), {"c": 3, "d": 4}), ((), {"a": 1, "d": 4})],
)
def test_a_wrong_call_raises_what_the_function_raises(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    with pytest.raises(TypeError) as expected:
        many.__wrapped__(*args, **kwargs)
    with pytest.raises(TypeError) as raised:
        many(*args, **kwargs)
    assert str(raised.value) == str(expected.value)
    with pytest.raises(TypeError, match="do not fit many"):
        many.cache_key(*args, **kwargs)


def test_names_and_modules() -> None:
    def make() -> Any:
        @cache
        def inner(x: int = 1) -> None: ...

        return inner

    assert make().cache_key() == f"cache:inner:{MODULE}:1"

    class Holder:
        @cache(ignore=["self"])
        def method(self, x: int) -> None: ...

        @classmethod
        @cache
        def of_class(cls, x: int) -> None: ...

        @staticmethod
        @cache
        def plain(x: int) -> None: ...

    assert Holder.method.cache_key(Holder(), 1) == f"cache:Holder.method:{MODULE}:1"
    assert Holder.plain.cache_key(1) == f"cache:Holder.plain:{MODULE}:1"
    key = vars(Holder)["of_class"].__func__.cache_key(Holder, 1)
    assert key.startswith(f"cache:Holder.of_class:{MODULE}:type(")
    named = cache(lambda x: x, name="a:b*%")
    assert named.cache_key(1) == f"cache:a%3Ab*%25:{MODULE}:1"
    assert cache(lambda x: x).cache_key(1) == f"cache:<lambda>:{MODULE}:1"


def test_the_program_itself_is_tagged_by_its_file(tmp_path: Path) -> None:
    code = (
        "from redlane import Cache\n"
        "@Cache('memory://')\n"
        "def f(x): ...\n"
        "class C:\n"
        "    def __cache_key__(self): return 1\n"
        "print(f.cache_key(C()))\n"
    )
    for name, tag in (("server.py", "server"), ("a:b.py", "a%3Ab")):
        (tmp_path / name).write_text(code)
        done = subprocess.run(
            [sys.executable, str(tmp_path / name)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == f"cache:f:{tag}:{tag}/C(1)\n"


def test_keys_are_the_same_in_every_process() -> None:
    code = (
        "from redlane import Cache\n"
        "f = Cache('memory://')(lambda *a, **k: None, name='f')\n"
        "key = f.cache_key({'x', 'y', 'z', 1}, {'b': 1.5, 'a': b'1'}, k='\\ud800')\n"
        "print(ascii(key))\n"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in range(3)
    }
    expected = (
        'cache:f:__main__:*(set("x","y","z",1),{"a":b"1","b":1.5}),**{"k":"\\ud800"}'
    )
    assert found == {ascii(expected) + "\n"}


def test_long_arguments_are_hashed() -> None:
    value = "x" * 198
    assert text(value) == f'"{value}"'
    value += "x"
    digest = hashlib.sha256(f'"{value}"'.encode()).hexdigest()
    assert text(value) == f"#{digest}"
    assert text("y" * 70_000) != text("y" * 70_001)


def test_ignored_parameters() -> None:
    @cache(ignore=["db", "rest", "more"])
    def f(x: int, db: object, *rest: object, y: int = 0, **more: object) -> None: ...

    assert f.cache_key(1, Opaque(), Opaque(), y=2, z=Opaque()).endswith(":1,2")
    for wrong in (["nothing"], [1], "self", 5):
        with pytest.raises(TypeError, match=r"ignore|iterable"):
            cache(lambda self: None, ignore=wrong)


def test_what_has_no_text_is_named() -> None:
    class Service:
        @cache
        def load(self, x: int) -> int:
            return x

    with pytest.raises(TypeError, match=r"argument 'self'.*Service.*ignore=\['self'\]"):
        Service().load(1)
    for value in (Opaque(), object(), lambda: 1, iter([]), memoryview(b"a"), sys):
        with pytest.raises(TypeError, match=r"ignore=\['value'\]"):
            one.cache_key(value)
        with pytest.raises(TypeError, match=r"ignore=\['value'\]"):
            one.cache_key([{"deep": (value,)}])
    for result in (None, 1.5, ["x"]):
        with pytest.raises(TypeError, match="must return str, bytes, int or tuple"):
            one.cache_key(Own(result))


def test_deep_and_cyclic_values() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(RecursionError):
        one.cache_key(deep)
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(RecursionError):
        one.cache_key(cycle)
    wide: Any = []
    for _ in range(60):
        wide = [wide, wide]
    with pytest.raises(ValueError, match="too long for a key"):
        one.cache_key(wide)


def test_subclasses_of_builtins_run_no_code_of_theirs() -> None:
    def refuse(*args: object) -> Any:
        raise AssertionError("ran")

    names = (
        "__eq__ __hash__ __str__ __repr__ __len__ __iter__ __index__ __int__ __float__"
    )
    names += " __getattribute__ __format__ __cache_key__ items"
    hostile = dict.fromkeys(names.split(), refuse)
    for base, value in (
        (str, "a"),
        (int, 1),
        (float, 1.5),
        (bytes, b"a"),
        (tuple, (1,)),
    ):
        cls = type("Hostile", (base,), hostile)
        assert text(cls(value)) == text(value).strip("()").join(
            (f"{MODULE}/Hostile(", ")")
        )


def test_a_container_that_changes_while_it_is_read() -> None:
    items: list[Any] = []
    table: dict[Any, Any] = {}
    group: set[Any] = set()

    class Meddler:
        def __cache_key__(self) -> int:
            items.clear()
            table.clear()
            group.clear()
            for n in range(1000):
                table[f"other{n}"] = n
            return 1

    items += [Meddler(), 2, 3]
    assert text(items) == f"[{MODULE}/{Meddler.__qualname__}(1)]"
    for container in (table, group):
        table.update({1: Meddler(), 2: 2})
        group.update({Meddler(), 2})
        with contextlib.suppress(RuntimeError):  # "changed size"
            one.cache_key(container)


def test_other_callables() -> None:
    bound = functools.partial(lambda a, b, c=3: None, 1)
    assert cache(bound, name="p").cache_key(2).endswith(":2,3")

    class Callable:
        def __call__(self, x: int, y: int = 2) -> int:
            return x

    assert cache(Callable(), name="c").cache_key(y=2, x=1).endswith(":1,2")
    assert cache(len).cache_key([1]).endswith(":[1]")
    assert cache(int, name="int").cache_key("1").endswith('"1")')


def test_what_is_not_supported_says_so() -> None:
    async def asynchronous() -> Any:
        yield

    def generator() -> Any:
        yield

    for function, kind in (
        (asynchronous, "an asynchronous generator function"),
        (generator, "a generator function"),
        (functools.partial(generator), "a generator function"),
    ):
        with pytest.raises(TypeError, match=kind):
            cache(function)
    with pytest.raises(TypeError, match="only a callable"):
        cache(5)
    for name in ("", 5):
        with pytest.raises(TypeError, match="name"):
            cache(len, name=name)


# --- injectivity ------------------------------------------------------------------


@given(VALUES, VALUES)
@settings(max_examples=600, deadline=None)
def test_keys_are_injective(left: Any, right: Any) -> None:
    assert (one.cache_key(left) == one.cache_key(right)) == (
        identity(left) == identity(right)
    )


@given(st.lists(VALUES, max_size=4), st.lists(VALUES, max_size=4))
@settings(max_examples=300, deadline=None)
def test_argument_lists_are_injective(left: list[Any], right: list[Any]) -> None:
    same = identity(left) == identity(right)
    assert (spread.cache_key(*left) == spread.cache_key(*right)) == same


@cache
def spread(*args: Any, **kwargs: Any) -> None: ...


@given(st.dictionaries(st.text(max_size=4), SCALARS, max_size=4))
@settings(max_examples=200, deadline=None)
def test_the_order_of_keywords_does_not_matter(kwargs: dict[str, Any]) -> None:
    backwards = dict(reversed(kwargs.items()))
    assert spread.cache_key(**kwargs) == spread.cache_key(**backwards)


def test_keys_are_the_same_whatever_the_seed_of_hashes(tmp_path: Path) -> None:
    found: list[tuple[Any, str]] = []

    @given(VALUES)
    @settings(max_examples=300, deadline=None)
    def collect(value: Any) -> None:
        found.append((value, one.cache_key(value)))

    collect()
    path = tmp_path / "values"
    path.write_bytes(pickle.dumps([value for value, _ in found]))
    code = (
        "import pickle, sys\n"
        "from redlane import Cache\n"
        "one = Cache('memory://')(lambda value: None, name='one')\n"
        "head = len(one.cache_key(0)) - 1\n"
        "for value in pickle.loads(open(sys.argv[1], 'rb').read()):\n"
        "    print(ascii(one.cache_key(value)[head:]))\n"
    )
    head = len(one.cache_key(0)) - 1
    expected = [ascii(key[head:]) for _, key in found]
    for seed in ("0", "1", "4242"):
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)],
            env={
                **os.environ,
                "PYTHONHASHSEED": seed,
                "PYTHONPATH": str(Path(__file__).parent),
            },
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.splitlines() == expected


@given(VALUES)
@settings(max_examples=300, deadline=None)
def test_keys_are_stable_and_text(value: Any) -> None:
    import copy

    key = one.cache_key(value)
    assert key == one.cache_key(copy.deepcopy(value))
    assert len(key.encode()) <= len(f"cache:one:{MODULE}:") + 200


PARTS = st.text(st.sampled_from("ab:%*3A"), min_size=1, max_size=6)


@given(PARTS, PARTS, PARTS, PARTS)
@settings(max_examples=300, deadline=None)
def test_names_are_injective(name: str, module: str, name2: str, module2: str) -> None:
    def make(name: str, module: str) -> str:
        def f() -> None: ...

        f.__module__ = module
        return cache(f, name=name).cache_key()

    assert (make(name, module) == make(name2, module2)) == (
        (name, module) == (name2, module2)
    )


class Loud(type):
    """Raises wherever it is asked anything."""

    def fail(cls, *_: object) -> Any:
        raise AssertionError("a metaclass was asked")

    __eq__ = __hash__ = __subclasscheck__ = __instancecheck__ = fail  # type: ignore[assignment]


class LoudName(str):
    def fail(self, *_: object) -> Any:
        raise AssertionError("a name was asked")

    __eq__ = __hash__ = fail  # type: ignore[assignment]


def test_neither_metaclass_nor_name_is_asked() -> None:
    def own(_: object) -> int:
        return 7

    keyed = Loud("Keyed", (), {"__cache_key__": own, "__module__": MODULE})
    number = Loud("Number", (int,), {"__module__": MODULE})
    assert text(keyed()) == f"{MODULE}/Keyed(7)"
    assert text(number(5)) == f"{MODULE}/Number(5)"
    number.__qualname__ = LoudName("Named")
    assert text(number(5)) == f"{MODULE}/Named(5)"
