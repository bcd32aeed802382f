"""Cached functions in classes, and callables that bring arguments along."""

from __future__ import annotations

import abc
import copy
import dataclasses
import functools
import gc
import inspect
import operator
import pickle
import weakref
from typing import Any

import pytest
from redlane import Cache

MODULE = __name__
shared = Cache("memory://", prefix="shared")


@dataclasses.dataclass
class Account:
    number: int
    calls: Any = dataclasses.field(default_factory=list)

    @shared(ttl="1h", ignore=["self"], name="ignoring")
    def ignoring(self, x: int) -> int:
        return x

    @shared(key="account:{self}:{x}")
    def by_template(self, x: int) -> int:
        return self.number + x

    @shared
    def balance(self, x: int = 0, *, y: int = 0) -> int:
        """What is there."""
        return self.number + x + y

    @shared
    @classmethod
    def above(cls, x: int) -> str:
        return f"{cls.__name__}{x}"

    @classmethod
    @shared
    def below(cls, x: int) -> str:
        return f"{cls.__name__}{x}"

    @shared(ttl="1h")
    @staticmethod
    def static_above(x: int) -> int:
        return x + 1

    @staticmethod
    @shared
    def static_below(x: int) -> int:
        return x + 1


class Child(Account):
    pass


class Keyed:
    def __init__(self, key: str) -> None:
        self.key = key

    def __cache_key__(self) -> str:
        return self.key

    @shared
    def load(self, x: int) -> str:
        return f"{self.key}{x}"

    def plain(self, x: int) -> str:
        return f"{self.key}{x}"

    def __call__(self, x: int) -> str:
        return f"{self.key}{x}"


@pytest.fixture(autouse=True)
def empty() -> None:
    shared.clear()


def test_a_method_of_a_dataclass() -> None:
    one, other = Account(1), Account(2)
    before = one.balance.cache_info().hits  # of other tests
    assert (one.balance(5), other.balance(5), Account.balance(one, 5)) == (6, 7, 6)
    assert one.balance.cache_info().hits == before + 1
    assert one.balance.cache_key(5) == (
        f"shared:Account.balance:{MODULE}:{MODULE}/Account(number=1,calls=[]),5,0"
    )
    assert one.balance.cache_key(5) == Account.balance.cache_key(one, x=5)
    one.number = 10  # another state, another key
    assert one.balance(5) == 15


def test_methods_of_an_object_take_their_object() -> None:
    one, other = Account(1), Account(2)
    one.balance(x=5)
    other.balance(x=5)
    assert one.balance.invalidate(5) is True
    assert one.balance.invalidate(5) is False
    assert other.balance.invalidate(x=5) is True
    assert one.balance.refresh(5, y=1) == 7
    assert one.balance.invalidate(5, y=1) is True
    assert one.balance.uncached(5, y=2) == 8
    assert one.balance.invalidate(5, y=2) is False
    many = dict.fromkeys("abcdefghij", 1)
    with pytest.raises(TypeError, match="unexpected keyword"):
        one.balance(1, **many)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="do not fit"):
        one.balance.invalidate(1, 2, 3)
    one.balance(9)
    assert one.balance.invalidate_all() == 1


def test_any_way_to_call_a_method() -> None:
    one = Account(1)
    bound = one.balance
    assert [bound(2), bound(x=2), bound(*[2]), bound(2, y=0)] == [3] * 4
    assert bound.cache_info().misses >= 1
    assert functools.partial(bound, 2)() == 3
    assert list(map(bound, [2, 3])) == [3, 4]
    wide = shared(lambda *args, **kwargs: [len(args), len(kwargs)], name="wide")
    holder = type("Holder", (Keyed,), {"wide": wide})("k")
    kwargs = {f"n{i}": i for i in range(20)}
    bound = holder.wide
    assert bound(*range(20), **kwargs) == [21, 20]


def test_a_bound_method_looks_like_one() -> None:
    one = Account(1)
    bound = one.balance
    assert (bound.__name__, bound.__doc__) == ("balance", "What is there.")
    assert (bound.__qualname__, bound.__module__) == ("Account.balance", MODULE)
    assert bound.__self__ is one
    assert bound.__func__ is Account.balance
    assert bound.__wrapped__ == Account.balance.__wrapped__.__get__(one)
    assert bound.cache is shared
    assert list(inspect.signature(bound).parameters) == ["x", "y"]
    assert inspect.getdoc(bound) == "What is there."
    assert repr(bound).startswith("<bound cached function Account.balance of Account(")
    assert bound == one.balance
    assert hash(bound) == hash(one.balance)
    assert bound != Account(1).balance
    assert bound != one.ignoring
    assert bound != 5
    assert {bound: 1}[one.balance] == 1
    assert callable(bound)
    assert weakref.ref(bound)() is bound
    for name in ("nothing", "__nothing__"):
        with pytest.raises(AttributeError):
            getattr(bound, name)
    with pytest.raises(TypeError):
        type(bound)()
    again = pickle.loads(pickle.dumps(bound))
    assert again.__self__ == one
    assert again(4) == 5
    assert copy.copy(bound)(4) == 5


def test_self_by_its_own_key_or_not_at_all() -> None:
    assert Keyed("a").load(1) == "a1"
    assert Keyed("a").load.invalidate(1) is True
    assert Account(1).ignoring.cache_key(2) == Account(7).ignoring.cache_key(2)
    assert Account(1).by_template(2) == 3
    assert Account(1).by_template.cache_key(2) == (
        f"shared:account:{MODULE}/Account(number=1,calls=[]):2"
    )


def test_classmethods_either_way() -> None:
    assert (Account.above(1), Child.above(1), Account(1).above(1)) == (
        "Account1",
        "Child1",
        "Account1",
    )
    assert Account.above.cache_key(1) == (
        f'shared:Account.above:{MODULE}:type("{MODULE}/Account"),1'
    )
    assert Child.above.invalidate(1) is True
    assert Child.above.invalidate(1) is False
    assert Account(1).above.invalidate(1) is True
    assert list(inspect.signature(Account.above).parameters) == ["x"]
    assert (Account.below(1), Child.below(1)) == ("Account1", "Child1")
    assert Account.below.invalidate(Child, 1) is True
    descriptor = vars(Account)["above"]
    assert descriptor.__func__ is descriptor.__wrapped__
    assert type(descriptor.__func__) is type(Account.balance)


def test_staticmethods_either_way() -> None:
    for f in (Account.static_above, Account(1).static_above, Account.static_below):
        assert f(1) == 2
        assert f.cache_key(1).endswith(f":{MODULE}:1")
    assert Account.static_above.invalidate(1) is True
    assert type(vars(Account)["static_above"]) is staticmethod


def test_abstract_classmethods() -> None:
    class Base(abc.ABC):
        @shared
        @classmethod
        @abc.abstractmethod
        def make(cls) -> int: ...

        @shared
        @classmethod
        def whole(cls) -> int:
            return 1

    with pytest.raises(TypeError, match="abstract"):
        Base()  # type: ignore[abstract]
    assert Base.whole() == 1
    assert vars(Base)["make"].__isabstractmethod__ is True
    assert vars(Base)["whole"].__isabstractmethod__ is False


# --- callables that bring arguments along -----------------------------------------


def subtract(a: int, b: int = 1, *rest: int, c: int = 0, **more: int) -> int:
    return a - b - c


plain = shared(subtract)
WAYS: list[
    tuple[Any, tuple[Any, ...], dict[str, Any], tuple[Any, ...], dict[str, Any]]
] = [
    (functools.partial(subtract, 5), (), {}, (5,), {}),
    (functools.partial(subtract, 5), (2,), {}, (5, 2), {}),
    (functools.partial(subtract, 5, 2), (3, 4), {"c": 1}, (5, 2, 3, 4), {"c": 1}),
    (functools.partial(subtract, b=2), (5,), {}, (5, 2), {}),
    (functools.partial(subtract, b=2, z=9), (5,), {"b": 3}, (5, 3), {"z": 9}),
    (functools.partial(functools.partial(subtract, 5), 2), (), {}, (5, 2), {}),
    (functools.partial(subtract, z=1), (5,), {"y": 2}, (5,), {"y": 2, "z": 1}),
]


@pytest.mark.parametrize(("function", "args", "kwargs", "all_args", "all_kwargs"), WAYS)
def test_a_partial_has_the_key_of_the_whole_call(
    function: Any, args: Any, kwargs: Any, all_args: Any, all_kwargs: Any
) -> None:
    partial = shared(function)
    assert partial.cache_key(*args, **kwargs) == plain.cache_key(
        *all_args, **all_kwargs
    )
    assert partial(*args, **kwargs) == subtract(*all_args, **all_kwargs)
    assert plain(*all_args, **all_kwargs) == subtract(*all_args, **all_kwargs)
    assert plain.invalidate(*all_args, **all_kwargs) is True


def test_a_partial_that_is_called_wrongly() -> None:
    partial = shared(functools.partial(subtract, 5, b=2))
    for args in ((1,), (1, 2)):
        with pytest.raises(TypeError, match="multiple values"):
            partial(*args)
        with pytest.raises(TypeError, match="do not fit"):
            partial.cache_key(*args)


def test_bound_methods_and_callable_objects() -> None:
    one, other = shared(Keyed("a").plain), shared(Keyed("b").plain)
    assert (one(1), other(1), one(1)) == ("a1", "b1", "a1")
    assert one.cache_key(1) == f'shared:Keyed.plain:{MODULE}:{MODULE}/Keyed("a"),1'
    one, other = shared(Keyed("a")), shared(Keyed("b"))
    assert (one(1), other(1), one(1)) == ("a1", "b1", "a1")
    assert one.cache_key(x=1) == f'shared:Keyed:{MODULE}:{MODULE}/Keyed("a"),1'
    assert shared(functools.partial(Keyed("a"), 1)).cache_key() == one.cache_key(1)
    assert shared(functools.partial(operator.sub, 5))(3) == 2
    base, child = shared(Account.below.__func__.__wrapped__.__get__(Account)), None
    child = shared(Account.below.__func__.__wrapped__.__get__(Child))
    assert (base(1), child(1)) == ("Account1", "Child1")


def test_what_is_brought_along_needs_a_text_or_a_name() -> None:
    class Opaque:
        def method(self, x: int) -> int:
            return x

        def __call__(self, x: int) -> int:
            return x

    for function in (
        Opaque().method,
        Opaque(),
        functools.partial(subtract, Opaque()),
        functools.partial(subtract, 1, z=Opaque()),
        functools.partial(subtract, 1, 2, Opaque()),
        [1].count,
        operator.itemgetter(1),
        functools.partial(operator.itemgetter(1), [1, 2]),
    ):
        with pytest.raises(TypeError, match="give name="):
            shared(function)
        assert shared(function, name="named").cache_info().hits == 0
    assert shared(Opaque().method, ignore=["self"])(3) == 3
    assert shared(functools.partial(subtract, c=Opaque()), ignore=["c"]).cache_key(1)
    assert shared(
        functools.partial(subtract, 1, 2, Opaque()), ignore=["rest"]
    ).cache_key()


def test_a_template_names_what_is_brought_along() -> None:
    with pytest.raises(TypeError, match="differ in 'self' would share a key"):
        shared(Keyed("a").plain, key="plain:{x}")
    with pytest.raises(TypeError, match="differ in 'a' would share a key"):
        shared(functools.partial(subtract, 5), key="{b}", ignore=["rest", "c", "more"])
    f = shared(Keyed("a").plain, key="plain:{self}:{x}")
    assert f.cache_key(1) == f'shared:plain:{MODULE}/Keyed("a"):1'
    f = shared(Keyed("a").plain, key="plain:{x}", ignore=["self"])
    assert f.cache_key(1) == "shared:plain:1"
    f = shared(functools.partial(subtract, 5, c=2), key="{a}:{b}:{rest}:{c}:{more}")
    assert f.cache_key(3, 4, z=1) == 'shared:5:3:(4):2:{"z":1}'
    f = shared(Keyed("a").plain, key=lambda x: f"made:{x}")
    assert (f(1), f.cache_key(1)) == ("a1", "shared:made:1")


def test_an_object_whose_call_is_cached_itself_needs_a_name() -> None:
    class Inner:
        @shared(ignore=["self"])
        def __call__(self, x: int) -> int:
            return x

    with pytest.raises(TypeError, match="give name="):
        shared(Inner())
    assert shared(Inner(), name="inner")(1) == 1


def test_a_cached_bound_method_is_collected_with_its_object() -> None:
    class Service:
        def __init__(self) -> None:
            self.load = shared(self.load)  # type: ignore[method-assign]

        def __cache_key__(self) -> int:
            return 1

        def load(self, x: int) -> int:
            return x

    service = Service()
    assert service.load(1) == 1
    gone = weakref.ref(service)
    del service
    gc.collect()
    assert gone() is None
