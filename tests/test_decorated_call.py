"""The decorated call, form by form: each is computed once, near from then on, one key
however it is written, and computed again when it is invalidated."""

from __future__ import annotations

import ast
import dataclasses
import enum
import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import msgspec
import pydantic
import pytest
from near_tools import near_hits, wait_for_near, warm
from outage_tools import wait_until
from redlane import Cache, Client
from servers import Server

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = {"timeout": 30.0, "connect_timeout": 30.0}
calls: list[Any] = []


@pytest.fixture(autouse=True)
def client(redis_server: Server) -> Iterator[Client[bytes]]:
    """The server's, for what a test makes by `made`."""
    calls.clear()
    with Client(redis_server.url, **PATIENCE) as client:
        yield client


def note(value: Any) -> Any:
    calls.append(value)
    return value


class Colour(enum.Enum):
    RED = 1


class Point(msgspec.Struct, frozen=True):
    x: int


@dataclasses.dataclass
class Account:
    number: int


class Row(TypedDict):
    x: int


class Pair(NamedTuple):
    x: int
    y: str


class Model(pydantic.BaseModel):
    x: int


class Form(NamedTuple):
    """Ways to write one call, a call of another key, and the end of the first."""

    same: list[Callable[[], Any]]
    other: Callable[[], Any]
    invalidate: Callable[[], Any]


def plain(cache: Cache) -> Form:
    @cache
    def f(a: int, b: str = "b", *, c: float = 1.5) -> Any:
        return note([a, b, c])

    same = [lambda: f(1), lambda: f(a=1), lambda: f(1, "b"), lambda: f(c=1.5, a=1)]
    return Form(same, lambda: f(1, c=2.5), lambda: f.invalidate(1))


def stars(cache: Cache) -> Form:
    @cache
    def f(a: int, *args: int, **kwargs: int) -> Any:
        return note([a, list(args), kwargs])

    same = [lambda: f(1, 2, x=3, y=4), lambda: f(1, 2, y=4, x=3)]
    return Form(same, lambda: f(1, x=3, y=4), lambda: f.invalidate(1, 2, x=3, y=4))


def unhashable(cache: Cache) -> Form:
    @cache
    def f(a: Any, b: Any, c: Any) -> Any:
        return note([a, b, sorted(c)])

    same = [
        lambda: f([1], {"x": 1, "y": [2]}, {3, 1}),
        lambda: f(c={1, 3}, b={"y": [2], "x": 1}, a=[1]),
    ]
    other = lambda: f((1,), {"x": 1, "y": [2]}, {3, 1})  # noqa: E731
    return Form(same, other, lambda: f.invalidate([1], {"x": 1, "y": [2]}, {1, 3}))


def others(cache: Cache) -> Form:
    @cache
    def f(a: Any, b: Any = None) -> Any:
        return note([repr(a), repr(b)])

    same = [lambda: f(Colour.RED, Account(1)), lambda: f(b=Account(1), a=Colour.RED)]
    other = lambda: f(Colour.RED, Account(2))  # noqa: E731
    return Form(same, other, lambda: f.invalidate(Colour.RED, Account(1)))


def method(cache: Cache) -> Form:
    @dataclasses.dataclass
    class Shop:
        city: str

        @cache
        def stock(self, item: str, size: int = 1) -> Any:
            return note([self.city, item, size])

    one, two, alike = Shop("Bern"), Shop("Rome"), Shop("Bern")
    same = [
        lambda: one.stock("tea"),
        lambda: alike.stock(item="tea", size=1),
        lambda: Shop.stock(one, "tea"),
    ]
    other = lambda: two.stock("tea")  # noqa: E731
    return Form(same, other, lambda: one.stock.invalidate("tea"))


def method_of_any(cache: Cache) -> Form:
    class Shop:
        @cache(ignore=["self", "db"])
        def stock(self, item: str, db: object = None) -> Any:
            return note(["stock", item])

    same = [lambda: Shop().stock("tea"), lambda: Shop().stock("tea", db=object())]
    other = lambda: Shop().stock("milk")  # noqa: E731
    return Form(same, other, lambda: Shop().stock.invalidate("tea"))


def method_of_keyed(cache: Cache) -> Form:
    class Shop:
        def __init__(self, city: str) -> None:
            self.city = city

        def __cache_key__(self) -> str:
            return self.city

        @cache
        def stock(self, item: str) -> Any:
            return note([self.city, item])

    same = [lambda: Shop("Bern").stock("tea"), lambda: Shop("Bern").stock(item="tea")]
    other = lambda: Shop("Rome").stock("tea")  # noqa: E731
    return Form(same, other, lambda: Shop("Bern").stock.invalidate("tea"))


def class_method(cache: Cache) -> Form:
    class Shop:
        @cache
        @classmethod
        def above(cls, item: str) -> Any:
            return note([cls.__name__, item])

    class Branch(Shop):
        pass

    same = [lambda: Shop.above("tea"), lambda: Shop().above(item="tea")]
    other = lambda: Branch.above("tea")  # noqa: E731
    return Form(same, other, lambda: Shop.above.invalidate("tea"))


def class_method_below(cache: Cache) -> Form:
    class Shop:
        @classmethod
        @cache
        def below(cls, item: str) -> Any:
            return note([cls.__name__, item])

    function: Any = Shop.__dict__["below"].__func__
    same = [lambda: Shop.below("tea"), lambda: Shop().below(item="tea")]
    other = lambda: Shop.below("milk")  # noqa: E731
    return Form(same, other, lambda: function.invalidate(Shop, "tea"))


def static_method(cache: Cache) -> Form:
    class Shop:
        @cache
        @staticmethod
        def above(item: str) -> Any:
            return note(["above", item])

    same = [lambda: Shop.above("tea"), lambda: Shop().above(item="tea")]
    other = lambda: Shop.above("milk")  # noqa: E731
    return Form(same, other, lambda: Shop.above.invalidate("tea"))


def static_method_below(cache: Cache) -> Form:
    class Shop:
        @staticmethod
        @cache
        def below(item: str) -> Any:
            return note(["below", item])

    same = [lambda: Shop.below("tea"), lambda: Shop().below(item="tea")]
    other = lambda: Shop.below("milk")  # noqa: E731
    return Form(same, other, lambda: Shop.below.invalidate("tea"))


def partial(cache: Cache) -> Form:
    def whole(a: int, b: int, c: int = 3) -> Any:
        return note([a, b, c])

    f = cache(functools.partial(whole, 1, c=4))
    same = [lambda: f(2), lambda: f(b=2)]
    return Form(same, lambda: f(3), lambda: f.invalidate(2))


def bound(cache: Cache) -> Form:
    class Shop:
        def __cache_key__(self) -> int:
            return 7

        def stock(self, item: str) -> Any:
            return note(["bound", item])

    f = cache(Shop().stock)
    same = [lambda: f("tea"), lambda: f(item="tea")]
    return Form(same, lambda: f("milk"), lambda: f.invalidate("tea"))


def template(cache: Cache) -> Form:
    @cache(key="user:{user_id}:{size}", ignore=["db"], namespace="tenant")
    def f(user_id: int, size: int = 1, db: Any = None) -> Any:
        return note([user_id, size])

    same = [lambda: f(7), lambda: f(user_id=7, db=object()), lambda: f(7, 1)]
    assert f.cache_key(7) == "call:tenant:user:7:1"
    return Form(same, lambda: f(7, 2), lambda: cache.delete("tenant:user:7:1"))


def callable_key(cache: Cache) -> Form:
    @cache(key=lambda request: f"page:{request['path']}")
    def f(request: dict[str, Any]) -> Any:
        return note([request["path"]])

    same = [lambda: f({"path": "/"}), lambda: f({"path": "/", "time": 5})]
    return Form(same, lambda: f({"path": "/x"}), lambda: f.invalidate({"path": "/"}))


def of_a_class(kind: Any) -> Callable[[Cache], Form]:
    def make(cache: Cache) -> Form:
        def compute(x: int) -> Any:
            return note(Pair(x, "y") if kind is Pair else kind(x=x))

        compute.__annotations__["return"] = kind
        f = cache(compute)
        return Form([lambda: f(1)], lambda: f(2), lambda: f.invalidate(1))

    return make


@dataclasses.dataclass
class Plain:
    x: int


def falsy(value: Any) -> Callable[[Cache], Form]:
    def make(cache: Cache) -> Form:
        @cache
        def f(x: int) -> Any:
            calls.append(x)
            return value

        return Form([lambda: f(1)], lambda: f(2), lambda: f.invalidate(1))

    return make


def shared(cache: Cache) -> Form:
    @cache(share=True)
    def f(x: int) -> Any:
        return note([x])

    return Form([lambda: f(1), lambda: f(x=1)], lambda: f(2), lambda: f.invalidate(1))


def everything(cache: Cache) -> Form:
    """All options at once."""

    @cache(
        ttl=lambda found: "5m",
        jitter=0.1,
        key="all:{x}",
        ignore=["db"],
        namespace="n",
        tags=["t:{x}", lambda x, db=None: "u"],
        stale="1h",
        early=True,
        on_error="stale",
        max_stale="1d",
        soft_timeout=60,
        hard_timeout=120,
        cache_exceptions={LookupError: 5},
        condition=lambda found: True,
        unless=lambda x, db=None: False,
        lock=True,
        share=False,
    )
    def f(x: int, db: Any = None) -> list[int]:
        return list(note([x]))

    same = [lambda: f(1), lambda: f(x=1, db=object())]
    return Form(same, lambda: f(2), lambda: cache.invalidate_tags("t:1"))


FORMS: dict[str, Callable[[Cache], Form]] = {
    "defaults and keywords": plain,
    "*args and **kwargs": stars,
    "unhashable arguments": unhashable,
    "enums and dataclasses": others,
    "method of a dataclass": method,
    "method, ignore=": method_of_any,
    "method, __cache_key__": method_of_keyed,
    "classmethod above": class_method,
    "classmethod below": class_method_below,
    "staticmethod above": static_method,
    "staticmethod below": static_method_below,
    "partial": partial,
    "bound method": bound,
    "key= and namespace=": template,
    "key= callable": callable_key,
    "a dataclass": of_a_class(Plain),
    "a TypedDict": of_a_class(Row),
    "a NamedTuple": of_a_class(Pair),
    "a frozen Struct": of_a_class(Point),
    "a pydantic model": of_a_class(Model),
    "None": falsy(None),
    "0": falsy(0),
    "False": falsy(False),
    "no text": falsy(""),
    "an empty list": falsy([]),
    "share=True": shared,
    "every option": everything,
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form(client: Client[bytes], name: str) -> None:
    made = Cache(client, prefix="call", ttl=600)
    made.get("nothing")
    wait_for_near(client)
    form = FORMS[name](made)
    first = form.same[0]()
    assert len(calls) == 1
    for call in form.same:
        assert call() == first
    assert len(calls) == 1
    # Each way to write it is a near hit, and what it gives is the same.
    warm(made, *form.same)
    hits = near_hits(made)
    for call in form.same * 2:
        result = call()
        assert (result, type(result)) == (first, type(first))
    assert near_hits(made) == hits + 2 * len(form.same)
    assert len(calls) == 1
    form.other()
    assert len(calls) == 2
    assert form.invalidate()
    for call in form.same:
        assert call() == first
    assert len(calls) == 3
    form.other()
    assert len(calls) == 3


def test_unless_and_condition_know_near_values(client: Client[bytes]) -> None:
    made = Cache(client, prefix="call", ttl=600)
    past = [False]

    @made(unless=lambda x: past[0], condition=lambda found: found > 0)
    def f(x: int) -> int:
        calls.append(x)
        return x

    f(1)
    warm(f, lambda: f(1))
    assert calls == [1]
    past[0] = True
    assert [f(1), f(1)] == [1, 1]  # goes past what is near
    assert calls == [1, 1, 1]
    past[0] = False
    hits = near_hits(f)
    assert f(1) == 1
    assert near_hits(f) == hits + 1
    for _ in range(3):
        assert f(-1) == -1
    assert calls.count(-1) == 3
    assert client.exists(f.cache_key(-1)) == 0


def test_an_exception_is_kept_for_its_own_short_time(client: Client[bytes]) -> None:
    made = Cache(client, prefix="call", ttl=600)

    @made(cache_exceptions={KeyError: 0.3, ValueError: "5m"})
    def f(x: str) -> int:
        calls.append(x)
        raise {"key": KeyError, "value": ValueError, "type": TypeError}[x](x)

    for _ in range(3):
        with pytest.raises(ValueError, match="value"):
            f("value")
        with pytest.raises(TypeError):
            f("type")
    assert calls.count("value") == 1
    assert calls.count("type") == 3
    with pytest.raises(KeyError):
        f("key")
    assert 0 < client.pttl(f.cache_key("value")) <= 300_000
    assert client.pttl(f.cache_key("key")) <= 300

    def computed_again() -> bool:
        with pytest.raises(KeyError):
            f("key")
        return calls.count("key") > 1

    wait_until(computed_again, "the end of its time")


# --- the page ---------------------------------------------------------------------


def options_of_the_stub() -> dict[str, str]:
    """The keywords of Cache.__call__, and their defaults."""
    path = ROOT / "python" / "redlane" / "_core.pyi"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    (cls,) = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Cache"]
    for method in cls.body:
        if isinstance(method, ast.FunctionDef) and method.name == "__call__":
            arguments = method.args
            if arguments.kwonlyargs:
                return {
                    argument.arg: ast.unparse(default)
                    for argument, default in zip(
                        arguments.kwonlyargs, arguments.kw_defaults, strict=True
                    )
                    if default is not None
                }
    raise AssertionError("the stub has no decorator with options")


def test_the_page_has_every_option_and_its_default() -> None:
    text = (ROOT / "docs" / "decorator.md").read_text(encoding="utf-8")
    table = text.partition("<!-- options: decorator -->")[2].partition("\n\nWhat ")[0]
    rows = re.findall(r"^\| `(\w+)` \|.*\| `(\w+)`[^|]*\|$", table, re.MULTILINE)
    assert dict(rows) == options_of_the_stub()
    code = text.partition("```python\n")[2].partition("```")[0]
    shown = {name for name, _ in rows if re.search(rf"^    {name}=", code, re.M)}
    assert set(dict(rows)) - shown == {
        *("name", "namespace", "lock", "cache_exceptions", "share")
    }
