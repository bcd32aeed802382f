"""Results of cached functions come back as the return annotation says."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import json
import logging
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    TypedDict,
    TypeVar,
)

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redlane import Cache, SerializationError

_T = TypeVar("_T")


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.5
    _hidden: str = "h"
    later: list[int] = dataclasses.field(default_factory=list, init=False)


@dataclasses.dataclass(frozen=True)
class Tree:
    name: str
    born: dt.date
    children: list[Tree] = dataclasses.field(default_factory=list)


class Profile(msgspec.Struct, frozen=True, tag=True):
    id: int
    name: str
    tags: frozenset[str] = frozenset()


class Robot(msgspec.Struct, tag=True):
    serial: uuid.UUID


class Row(TypedDict):
    id: int
    when: dt.datetime


class Pair(NamedTuple):
    left: int
    right: str


class Box(msgspec.Struct, Generic[_T]):
    content: _T


class Model(pydantic.BaseModel):
    id: int
    when: dt.datetime
    names: set[str] = set()
    renamed: int = pydantic.Field(default=1, alias="other-name")


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    day: dt.date
    point: Point


@dataclasses.dataclass
class Holder:
    model: Model
    count: int


NOON = dt.datetime(2025, 1, 2, 12, 0, tzinfo=dt.timezone.utc)
POINT = Point(1)
POINT.later = [1, 2]
MODEL = Model.model_validate({"id": 1, "when": NOON, "other-name": 7})

# (the annotation, a result), each of which comes back as it was
TYPED: list[tuple[Any, Any]] = [
    (Point, POINT),
    ("Point", POINT),
    (Tree, Tree("a", dt.date(2025, 1, 2), [Tree("b", dt.date(2024, 1, 1))])),
    (Profile, Profile(1, "é", frozenset({"a", "b"}))),
    ("Profile | None", None),
    ("Profile | Robot", Robot(uuid.UUID(int=5))),
    ("list[Profile]", [Profile(1, "a"), Profile(2, "b")]),
    ("dict[str, Point]", {"a": POINT}),
    ("dict[int, Profile]", {7: Profile(1, "a")}),
    ("tuple[Profile, ...]", (Profile(1, "a"),)),
    ("tuple[int, str]", (1, "a")),
    (tuple, (1, "a", None)),
    ("Sequence[Point]", [POINT]),
    ("Mapping[str, Sequence[Point]]", {"a": [POINT]}),
    (Row, {"id": 1, "when": NOON}),
    ("Box[Point]", Box(POINT)),
    (Pair, Pair(1, "a")),
    (Colour, Colour.RED),
    ("set[int]", {1, 2}),
    ("frozenset[str]", frozenset({"a"})),
    (dt.datetime, NOON),
    (dt.date, dt.date(2025, 1, 2)),
    (dt.timedelta, dt.timedelta(seconds=1.5)),
    (uuid.UUID, uuid.UUID(int=1)),
    (decimal.Decimal, decimal.Decimal("1.10")),
    (bytes, b"\x00\xff"),
    ("Literal['a', 'b']", "a"),
    ("Annotated[int, msgspec.Meta(ge=0)]", 5),
    (Model, MODEL),
    ("Model | None", None),
    ("list[Model]", [MODEL]),
    ("dict[str, Model]", {"a": MODEL}),
    (Strict, Strict(day=dt.date(2025, 1, 2), point=Point(1))),
    (Holder, Holder(MODEL, 3)),
]


def annotated(annotation: Any, result: Callable[[], Any]) -> Any:
    """A function whose result is annotated so, in this module."""

    def f() -> Any:
        return result()

    f.__annotations__["return"] = annotation
    return f


@pytest.fixture
def cache(client: Any) -> Cache:
    return Cache(client)


@pytest.mark.parametrize("serializer", ["json", "msgpack"])
@pytest.mark.parametrize(
    ("annotation", "result"), TYPED, ids=[str(annotation) for annotation, _ in TYPED]
)
def test_results_come_back_as_they_were(
    client: Any, annotation: Any, result: Any, serializer: Any
) -> None:
    cache = Cache(client, serializer=serializer, strict=True)
    f = cache(annotated(annotation, lambda: result))
    for _ in range(2):
        got = f()
        assert got == result
        assert type(got) is type(result)
        shared = (enum.Enum, str, int, type(None))
        assert isinstance(got, shared) or got is not result
    assert (f.cache_info().hits, f.cache_info().misses) == (1, 1)
    if serializer == "json":
        json.loads(client.get(f.cache_key()))


def test_compressed_sealed_and_typed(client: Any) -> None:
    cache = Cache(client, compress="zlib", compress_above=50, seal="k" * 16)

    @cache
    def f(n: int) -> list[Tree]:
        return [Tree("x" * 50, dt.date(2025, 1, 2))] * n

    assert f(3) == f(3) == f.refresh(3) == [Tree("x" * 50, dt.date(2025, 1, 2))] * 3
    assert f.cache_info().hits == 1


def test_waiters_get_objects_of_their_own(cache: Cache) -> None:
    started, go = threading.Event(), threading.Event()

    @cache
    def f() -> Point:
        started.set()
        assert go.wait(30)
        return Point(3)

    results: list[Point] = []
    threads = [threading.Thread(target=lambda: results.append(f())) for _ in range(3)]
    threads[0].start()
    assert started.wait(30)
    for thread in threads[1:]:
        thread.start()
    go.set()
    for thread in threads:
        thread.join(30)
    assert results == [Point(3)] * 3
    assert len({id(point) for point in results}) == 3


def test_methods(cache: Cache) -> None:
    class Service:
        @cache(ignore=["self"])
        def load(self, n: int) -> Point:
            return Point(n)

        @classmethod
        @cache(ignore=["cls"])
        def make(cls, n: int) -> Point:
            return Point(n)

        @staticmethod
        @cache
        def build(n: int) -> Point:
            return Point(n)

    service = Service()
    for call in (service.load, Service.make, service.build):
        assert call(1) == call(1) == Point(1)


def test_classes_of_the_enclosing_function(cache: Cache) -> None:
    class Local(msgspec.Struct):
        n: int

    @cache
    def f(n: int) -> Local:
        return Local(n)

    @cache
    def later(n: int) -> Later:
        return Later(n)

    class Later(msgspec.Struct):
        n: int

    assert f(1) == f(1) == Local(1)
    assert later(1) == later(1) == Later(1)
    assert later.cache_info().hits == 1


# --- values that do not fit -------------------------------------------------------


@pytest.mark.parametrize(
    "stored",
    [
        b"{}",
        b'{"x":"1"}',
        b'{"x":1.5}',
        b"[1]",
        b"null",
        b'"canary"',
        b"{",
        b'{"x":1,"later":[null]}',
    ],
)
def test_a_stored_value_of_another_type_is_a_miss(
    cache: Cache, client: Any, stored: bytes
) -> None:
    calls = []

    @cache
    def f() -> Point:
        calls.append(1)
        return Point(5)

    client.set(f.cache_key(), stored)
    assert f() == f() == Point(5)
    assert len(calls) == 1
    assert f.cache_info().corrupted == cache.stats()["corrupted"] == 1


def test_a_model_refuses_what_its_validators_refuse(cache: Cache, client: Any) -> None:
    class Positive(pydantic.BaseModel):
        n: int = pydantic.Field(gt=0)

    @cache
    def f() -> Positive:
        return Positive(n=1)

    client.set(f.cache_key(), b'{"n":-1}')
    assert f() == f() == Positive(n=1)
    assert f.cache_info().corrupted == 1


@pytest.mark.parametrize(
    ("annotation", "result", "type_name"),
    [
        (Point, None, "NoneType"),
        (Point, {"y": 1}, "dict"),
        ("list[Profile]", [Profile(1, "a"), 2], "list"),
        (Colour, "blue", "str"),
        (Model, {"id": 1}, "dict"),
        (Profile, Robot(uuid.UUID(int=1)), "Robot"),
    ],
)
def test_a_result_that_does_not_fit_is_not_cached(
    client: Any,
    annotation: Any,
    result: Any,
    type_name: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cache = Cache(client)
    f = cache(annotated(annotation, lambda: result))
    with caplog.at_level(logging.WARNING, "redlane"):
        assert f() is result
        assert f() is result
    assert (f.cache_info().uncached, f.cache_info().sets) == (2, 0)
    (record,) = caplog.records
    assert f"a value of type '{type_name}'" in record.getMessage()
    assert client.dbsize() == 0
    strict = Cache(client, prefix="strict", strict=True)
    with pytest.raises(SerializationError, match=f"'{type_name}'"):
        strict(annotated(annotation, lambda: result))()


# --- annotations that change nothing ----------------------------------------------


class Foreign:
    pass


class Broken(type):
    def __instancecheck__(cls, instance: object) -> bool:
        raise ValueError("hostile")


PLAIN: list[Any] = [
    None,
    "None",
    int,
    "int",
    "float | None",
    "str | int",
    list,
    dict,
    "dict",
    "list[Any]",
    "dict[str, Any]",
    "dict[str, list[dict[str, int | None]]]",
    "Any",
    Any,
    object,
    "dict[str, object]",
]

UNUSABLE: list[Any] = [
    "Missing",
    "list[Missing]",
    "Nowhere.at.all",
    "not a type",
    "1 +",
    "",
    5,
    "Foreign",
    "list[Foreign]",
    "Point | Tree",
    "Callable[[], int]",
    "Box[Foreign]",
    "Model | Foreign",
    Broken("Hostile", (), {}),
]


@pytest.mark.parametrize("annotation", PLAIN, ids=str)
def test_plain_annotations_are_not_checked(
    cache: Cache, client: Any, annotation: Any
) -> None:
    result = {"a": (1, None), 3: 4}
    f = cache(annotated(annotation, lambda: result))
    assert f() == f() == {"a": [1, None], "3": 4}
    client.set(f.cache_key(), b'"text"')
    assert f() == "text"
    assert f.cache_info().hits == 2


@pytest.mark.parametrize("annotation", UNUSABLE, ids=str)
def test_unusable_annotations_are_ignored(
    cache: Cache, annotation: Any, caplog: pytest.LogCaptureFixture
) -> None:
    f = cache(annotated(annotation, lambda: {"a": (1,)}))
    with caplog.at_level(logging.DEBUG, "redlane"):
        assert f() == f() == {"a": [1]}
    assert f.cache_info().hits == 1
    lines = [record for record in caplog.records if "annotation" in record.msg]
    assert len(lines) == 1
    assert lines[0].levelno == logging.DEBUG


@pytest.mark.parametrize("serializer", ["raw", "pickle"])
def test_serializers_without_types(client: Any, serializer: Any) -> None:
    cache = Cache(client, serializer=serializer, seal="k" * 16)

    @cache
    def f() -> Point:
        return b"bytes"  # type: ignore[return-value]

    assert f() == f() == b"bytes"  # type: ignore[comparison-overlap]


def test_a_serializer_of_ones_own_decides(client: Any) -> None:
    cache = Cache(client, serializer=json)

    @cache
    def f() -> Row:
        return {"id": "x"}  # type: ignore[typeddict-item]

    assert f() == f() == {"id": "x"}


def test_callables_without_annotations(cache: Cache) -> None:
    assert cache(name="sum")(sum)([1, 2]) == 3
    broken: Any = type(
        "Callable", (), {"__call__": lambda self: 1, "__annotations__": 5}
    )()
    assert cache(name="broken")(broken)() == 1


def test_nothing_is_imported_for_plain_annotations() -> None:
    program = (
        "import sys\n"
        "from redlane import Cache\n"
        "cache = Cache('memory://')\n"
        "@cache\n"
        "def f(x) -> int: return x\n"
        "@cache\n"
        "def g(x) -> 'dict': return {}\n"
        "f(1), g(1)\n"
        "print('redlane._result_types' in sys.modules)\n"
        "@cache\n"
        "def h(x) -> tuple[int, ...]: return (x,)\n"
        "print(h(1), 'redlane._result_types' in sys.modules, 'pydantic' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent,
        timeout=60,
    )
    assert done.stdout == "False\n(1,) True False\n"


# --- any value --------------------------------------------------------------------

POINTS = st.builds(Point, st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False))
TREES = st.recursive(
    st.builds(Tree, st.text(), st.dates()),
    lambda inner: st.builds(Tree, st.text(), st.dates(), st.lists(inner, max_size=3)),
    max_leaves=6,
)
PROFILES = st.builds(
    Profile, st.integers(0, 2**40), st.text(), st.frozensets(st.text(), max_size=4)
)
MODELS = st.builds(
    Model,
    id=st.integers(0, 2**40),
    when=st.datetimes(timezones=st.just(dt.timezone.utc)),
    names=st.sets(st.text(), max_size=3),
)


@given(
    st.tuples(st.just("list[Point]"), st.lists(POINTS, max_size=3))
    | st.tuples(st.just("Tree"), TREES)
    | st.tuples(
        st.just("dict[int, Profile]"),
        st.dictionaries(st.integers(-(2**63), 2**63 - 1), PROFILES, max_size=3),
    )
    | st.tuples(st.just("list[Model]"), st.lists(MODELS, max_size=3)),
    st.sampled_from(["json", "msgpack"]),
)
def test_any_value_comes_back(case: tuple[Any, Any], serializer: Any) -> None:
    annotation, result = case
    cache = Cache("memory://", serializer=serializer)
    f = cache(annotated(annotation, lambda: result))
    assert f() == f() == result
    assert f.cache_info().hits == 1 or f.cache_info().uncached == 2


_NAMES = (Annotated, Literal, Mapping, Sequence)  # which annotations name in strings
