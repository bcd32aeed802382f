"""Exceptions of choice are cached, stored without pickle, and raised anew."""

from __future__ import annotations

import json
import sys
import threading
import types
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redlane import Cache
from redlane._exceptions import dump_exception, load_exception

MARK = b"\xffRLX"


@pytest.fixture
def cache(client: Any) -> Cache:
    return Cache(client, ttl=1000)


class NotThere(LookupError):
    """As many are written: its arguments are not those of its __init__."""

    def __init__(self, thing: str, number: int) -> None:
        super().__init__(f"no {thing} {number}")
        self.thing = thing
        self.number = number


class Picky(ValueError):
    def __new__(cls, *args: Any) -> Picky:
        if args == ("refuse",):
            raise RuntimeError("never read again")
        return super().__new__(cls, *args)


def raiser(cache: Cache, error: BaseException, **options: Any) -> Any:
    """A cached function that raises `error`, and a list of its calls."""
    calls: list[Any] = []

    @cache(**options)
    def f(x: int = 0) -> None:
        calls.append(x)
        raise error

    return f, calls


def caught(f: Any, *args: Any) -> BaseException:
    with pytest.raises(Exception) as raised:
        f(*args)
    return raised.value


@pytest.mark.parametrize(
    "error",
    [
        LookupError(),
        LookupError("text", 1, None, 2.5, [True, {"a": "é\ud800"}]),
        KeyError("k"),
        NotThere("user", 7),
        FileNotFoundError(2, "No such file", "/x"),
        ValueError("a\nb"),
        Picky("fine"),
    ],
    ids=repr,
)
def test_raised_anew(cache: Cache, client: Any, error: Exception) -> None:
    f, calls = raiser(
        cache, error, cache_exceptions={LookupError: "5m", ValueError: 90, OSError: 80}
    )
    found = [caught(f, 1) for _ in range(4)]
    assert calls == [1]
    assert found[0] is error
    for again in found[1:]:
        assert again is not error
        assert type(again) is type(error)
        assert again.args == error.args
        assert str(again) == str(error)
        assert vars(again) == {k: v for k, v in vars(error).items() if k != "__notes__"}
    if isinstance(error, OSError):
        assert isinstance(found[1], OSError)
        assert (found[1].errno, found[1].strerror) == (2, "No such file")
    info = f.cache_info()
    assert (info.hits, info.misses, info.sets) == (3, 1, 1)
    most = 300_000 if isinstance(error, LookupError) else 90_000
    assert most - 20_000 < client.pttl(f.cache_key(1)) <= most
    assert client.get(f.cache_key(1)).startswith(MARK)


def test_what_is_not_named_is_not_cached(cache: Cache, client: Any) -> None:
    for error in (ZeroDivisionError("x"), KeyboardInterrupt(), SystemExit(3)):
        f, calls = raiser(cache, error, cache_exceptions={LookupError: 5})
        for _ in range(2):
            with pytest.raises(type(error)):
                f()
        assert len(calls) == 2
    assert client.dbsize() == 0


def test_the_first_that_fits_says_the_ttl(cache: Cache, client: Any) -> None:
    f, _ = raiser(cache, KeyError(1), cache_exceptions={KeyError: 50, LookupError: 500})
    caught(f)
    assert 0 < client.pttl(f.cache_key()) <= 50_000
    f, _ = raiser(
        cache, KeyError(1), cache_exceptions={LookupError: 500, KeyError: 50}, name="g"
    )
    caught(f)
    assert 50_000 < client.pttl(f.cache_key()) <= 500_000


def test_arguments_that_json_would_change(cache: Cache) -> None:
    """The message takes their place."""
    odd = LookupError((1, 2), object())
    f, calls = raiser(cache, odd, cache_exceptions={LookupError: 50})
    caught(f)
    again = caught(f)
    assert calls == [0]
    assert type(again) is LookupError
    assert again.args == (str(odd),)
    for value in ((1,), {1: 2}, b"x", float("nan"), {1}, object()):
        f, calls = raiser(
            cache, KeyError(value), cache_exceptions={KeyError: 50}, name=repr(value)
        )
        caught(f)
        assert caught(f).args == (str(KeyError(value)),)
        assert calls == [0]
    error = LookupError("kept")
    error.extra = object()  # type: ignore[attr-defined]
    f, _ = raiser(cache, error, cache_exceptions={LookupError: 50}, name="extra")
    caught(f)
    again = caught(f)
    assert (again.args, vars(again)) == (("kept",), {})


def test_what_cannot_be_found_or_is_too_long_is_not_cached(
    cache: Cache, client: Any
) -> None:
    class Local(LookupError):
        pass

    class Mute(LookupError):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    sys.modules[__name__].Mute = Mute  # type: ignore[attr-defined]
    Mute.__qualname__ = "Mute"
    for error in (Local("x"), LookupError("x" * 70_000), Mute(object())):
        f, calls = raiser(cache, error, cache_exceptions={LookupError: 50})
        assert caught(f) is error
        assert caught(f) is error
        assert len(calls) == 2
    assert client.dbsize() == 0


def known(cls: Any, args: Any = (), state: Any = None) -> bytes:
    return (
        MARK + json.dumps({"class": cls, "args": args, "state": state or {}}).encode()
    )


@pytest.mark.parametrize(
    "data",
    [
        MARK + b"{",
        MARK + b"[]",
        MARK + b"\xff",
        known(["builtins", "SystemExit"]),
        known(["builtins", "object"]),
        known(["builtins", "ZeroDivisionError"], ["not named"]),
        known(["os", "system"], ["true"]),
        known(["antigravity", "x"]),
        known(["builtins"]),
        known(5),
        known(["builtins", "LookupError"], 5),
        known(["builtins", "LookupError"], [], 5),
        known([__name__, "Picky"], ["refuse"]),
        known(["builtins", "UnicodeDecodeError"], ["too few"]),
    ],
)
def test_bytes_that_tell_of_none_are_dropped(
    cache: Cache, client: Any, data: bytes
) -> None:
    calls = []

    @cache(cache_exceptions={LookupError: 5, ValueError: 5})
    def f() -> int:
        calls.append(1)
        return 1

    client.set(f.cache_key(), data)
    modules = set(sys.modules)
    assert [f(), f()] == [1, 1]
    assert calls == [1]
    assert f.cache_info().corrupted == 1
    assert "antigravity" not in set(sys.modules) - modules
    assert client.get(f.cache_key()) == b"1"


def test_a_reader_that_has_no_such_class_computes(cache: Cache, client: Any) -> None:
    module = types.ModuleType("vanishing")
    cls = type("Gone", (LookupError,), {"__module__": "vanishing"})
    module.Gone = cls  # type: ignore[attr-defined]
    sys.modules["vanishing"] = module
    try:
        f, calls = raiser(cache, cls("x"), cache_exceptions={LookupError: 50})
        caught(f)
        assert client.get(f.cache_key()).startswith(MARK)
        del sys.modules["vanishing"]
        caught(f)
        assert len(calls) == 2
    finally:
        sys.modules.pop("vanishing", None)


def test_others_take_it_for_a_miss(cache: Cache, client: Any) -> None:
    f, _ = raiser(cache, LookupError("x"), cache_exceptions={LookupError: 50})
    caught(f)
    name = f.cache_key()[len("cache:") :]
    assert cache.get(name, "none") == "none"
    assert cache.get_many([name]) == {}
    assert (cache.has(name), cache.ttl(name)) == (False, None)
    assert cache.get_or_set(name, lambda: 5) == 5
    assert client.get(f.cache_key()).startswith(MARK)
    assert cache.stats()["corrupted"] == 0


def test_invalidate_and_refresh(cache: Cache) -> None:
    answers: list[Any] = [LookupError("a"), LookupError("b"), 1, LookupError("c"), 2]

    @cache(cache_exceptions={LookupError: 50})
    def f() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert [caught(f).args, caught(f).args] == [("a",), ("a",)]
    assert f.invalidate() is True
    assert [caught(f).args, caught(f).args] == [("b",), ("b",)]
    assert f.refresh() == 1
    assert [f(), f()] == [1, 1]
    assert caught(f.refresh).args == ("c",)
    assert caught(f).args == ("c",)
    assert f.invalidate_all() == 1
    assert f() == 2


def test_an_exception_from_before_an_invalidation_is_not_stored(
    cache: Cache, client: Any
) -> None:
    @cache(cache_exceptions={LookupError: 50})
    def f() -> None:
        f.invalidate()
        raise LookupError("old")

    caught(f)
    assert client.exists(f.cache_key()) == 0


def test_waiters_get_it_too(cache: Cache) -> None:
    calls, errors = [], []
    barrier = threading.Barrier(10)
    release = threading.Event()

    @cache(cache_exceptions={LookupError: 50})
    def f() -> None:
        calls.append(1)
        release.wait(0.2)
        raise LookupError("mine")

    def body() -> None:
        barrier.wait(30)
        errors.append(caught(f))

    threads = [threading.Thread(target=body) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert calls == [1]
    assert [(type(e), e.args) for e in errors] == [(LookupError, ("mine",))] * 10


PLAIN = st.recursive(
    st.one_of(
        *(st.none(), st.booleans(), st.integers(), st.text(st.characters())),
        st.floats(allow_nan=False, allow_infinity=False),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
    ),
    max_leaves=8,
)


@given(st.lists(PLAIN, max_size=4), st.dictionaries(st.text(max_size=4), PLAIN))
@settings(max_examples=80, deadline=None)
def test_what_json_keeps_comes_back(args: list[Any], state: dict[str, Any]) -> None:
    error = LookupError(*args)
    state.pop("__notes__", None)
    vars(error).update(state)
    data = dump_exception(error)
    assert data is not None
    again = load_exception(data, (LookupError,))
    assert type(again) is LookupError
    assert repr((again.args, vars(again))) == repr((tuple(args), state))
    assert load_exception(data, (KeyError, OSError)) is None


@given(
    st.one_of(
        st.binary().map(lambda data: MARK + data),
        st.dictionaries(st.sampled_from(["class", "args", "state"]), PLAIN).map(
            lambda known: MARK + json.dumps(known).encode()
        ),
    )
)
@settings(max_examples=80, deadline=None)
def test_any_bytes_are_an_exception_or_none(data: bytes) -> None:
    assert isinstance(load_exception(data, (Exception,)), (Exception, type(None)))


def test_bad_options(cache: Cache) -> None:
    for bad in (LookupError, [LookupError], 5, {LookupError}):
        with pytest.raises(TypeError, match="cache_exceptions must be a mapping"):
            cache(cache_exceptions=bad)(len)
    for key in (KeyboardInterrupt, BaseException, int, "LookupError", LookupError()):
        with pytest.raises(TypeError, match="no class of exceptions"):
            cache(cache_exceptions={key: 5})(len)
    for ttl in (0, None, "soon", -1):
        with pytest.raises((TypeError, ValueError), match="cache_exceptions: the TTL"):
            cache(cache_exceptions={LookupError: ttl})(len)


@pytest.mark.parametrize("result", [None, 0, 0.0, False, "", [], {}])
def test_falsy_results_are_cached_like_any_other(cache: Cache, result: Any) -> None:
    calls = []

    @cache(cache_exceptions={LookupError: 5}, jitter=0.1)
    def f() -> Any:
        calls.append(1)
        return result

    assert [f(), f(), f()] == [result] * 3
    assert [type(f()), len(calls)] == [type(result), 1]
