"""Values for keys, and what tells two of them apart."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import decimal
import enum
import ipaddress
import pathlib
import struct
from collections import OrderedDict, namedtuple
from typing import Any

import msgspec
from hypothesis import strategies as st


class Colour(enum.Enum):
    RED = 1
    GREEN = 2


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


class Items(list):  # type: ignore[type-arg]
    pass


Point = namedtuple("Point", "x y")


@dataclasses.dataclass
class Data:
    x: Any
    y: Any = None


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: Any
    y: Any = None


class Struct(msgspec.Struct):
    x: Any


class Own:
    def __init__(self, key: Any) -> None:
        self.key = key

    def __cache_key__(self) -> Any:
        return self.key


ZONES = st.sampled_from(
    [
        None,
        dt.timezone.utc,
        dt.timezone(dt.timedelta(hours=1)),
        dt.timezone(dt.timedelta(hours=1), "named"),
        dt.timezone(-dt.timedelta(hours=1)),
    ]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(st.characters()),
    st.text('abc":,()[]{}\\*#=/.', max_size=8),
    st.binary(),
    st.binary(max_size=3).map(bytearray),
    st.complex_numbers(),
    st.decimals(allow_nan=False),
    st.uuids(),
    st.datetimes(timezones=ZONES),
    st.times(timezones=ZONES),
    st.dates(),
    st.timedeltas(),
    st.fractions(),
    st.ip_addresses(),
    st.builds(range, st.integers(-2, 2), st.integers(-2, 2), st.sampled_from([1, -1])),
    st.text("ab/.: ", max_size=4).map(pathlib.PurePosixPath),
    # A copy of \A: is A:, which is another path: Python joins its parts anew.
    st.text("aAb/\\.: ", max_size=4)
    .map(pathlib.PureWindowsPath)
    .filter(lambda path: copy.deepcopy(path) == path),
    st.sampled_from([*Colour, Number.ONE, Mode.READ, Mode.READ | Mode.WRITE, Word.A]),
    st.sampled_from([Data, Frozen, int, str]),
    st.text(max_size=3).map(Text),
    st.integers(-3, 3).map(Whole),
    st.one_of(st.text(max_size=3), st.binary(max_size=3), st.integers(-3, 3)).map(Own),
)
MEMBERS = st.one_of(
    st.text(max_size=3),
    st.integers(-3, 3),
    st.binary(max_size=2),
    st.none(),
    st.uuids(),
    st.sampled_from([*Colour, Word.A]),
    st.frozensets(st.integers(-3, 3), max_size=2),
    st.tuples(st.integers(0, 1), st.text(max_size=1)),
    st.builds(Frozen, st.integers(0, 1), st.text(max_size=1)),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.lists(inner, max_size=4).map(Items),
        st.dictionaries(MEMBERS, inner, max_size=4),
        st.dictionaries(st.text(max_size=2), inner, max_size=3).map(OrderedDict),
        st.frozensets(MEMBERS, max_size=4),
        st.sets(MEMBERS, max_size=4),
        st.builds(Data, inner, inner),
        st.builds(Frozen, inner, inner),
        st.builds(Struct, inner),
        st.tuples(inner, inner).map(lambda pair: Point(*pair)),
    ),
    max_leaves=12,
)


def identity(value: Any) -> Any:
    """What tells two values apart: types, bits and all."""
    kind = type(value)
    if isinstance(value, float):
        return kind, struct.pack("<d", value)
    if isinstance(value, complex):
        return kind, identity(value.real), identity(value.imag)
    if isinstance(value, (Data, Frozen)):
        return kind, identity(value.x), identity(value.y)
    if isinstance(value, Struct):
        return kind, identity(value.x)
    if isinstance(value, Own):
        return kind, identity(value.key)
    if isinstance(value, OrderedDict):
        return kind, *((identity(k), identity(v)) for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return kind, *map(identity, value)
    if isinstance(value, dict):
        return kind, frozenset((identity(k), identity(v)) for k, v in value.items())
    if isinstance(value, (set, frozenset)):
        return kind, frozenset(map(identity, value))
    if isinstance(value, decimal.Decimal):
        return kind, value.as_tuple()
    if isinstance(value, (dt.datetime, dt.time)):
        plain = value.replace(tzinfo=None).isoformat()
        return kind, plain, value.fold, repr(value.tzinfo)
    if isinstance(value, bytearray):
        return kind, bytes(value)
    if isinstance(value, range):
        return kind, value.start, value.stop, value.step
    if isinstance(value, (pathlib.PurePath, ipaddress._BaseAddress)):
        return kind, str(value)
    return kind, value
