"""Starlark apps and their cache, on each RuntimeCache."""

from __future__ import annotations

import _thread
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redlane
from aio import Runner
from children import run_program
from conftest import make_client
from outage_tools import Switch
from redlane import InMemoryCache, NoOpCache, RedisCache, RedlaneError
from redlane.starlark import (
    AsyncProcessor,
    Processor,
    ScriptError,
    ScriptTimeoutError,
)
from servers import PATIENT, Server

VALUES = {
    "text": "Grüße, 世界 🎉",
    "nul": "a\0b",
    "empty": "",
    "zero": 0,
    "negative": -5,
    "huge": 2**70,
    "fraction": -2.5,
    "tiny": 1e-300,
    "yes": True,
    "list": [1, [2, [3]], "four", None],
    "dict": {"a": {"b": [1.5, {"c": None}]}, "": 0},
    "nothing": [],
}

WEATHER = """
load("cache.star", "cache")
load("weather.star", "fetch_weather_data")

def render_with_data(data):
    return {"text": data["text"], "degrees": data["degrees"]}

def main():
    # Check cache first
    cached_data = cache.get("weather_data")
    if cached_data:
        return render_with_data(cached_data)

    # Fetch new data
    data = fetch_weather_data()

    # Cache for 5 minutes
    cache.set("weather_data", data, ttl_seconds=300)

    return render_with_data(data)
"""


@pytest.fixture
def app(tmp_path: Path) -> Callable[..., Path]:
    """Writes an app whose main() has that body."""

    def write(*lines: str, name: str = "app.star") -> Path:
        body = "".join(f"    {line}\n" for line in lines)
        path = tmp_path / name
        path.write_text(
            f'load("cache.star", "cache")\ndef main():\n{body}', encoding="utf-8"
        )
        return path

    return write


@pytest.fixture(params=["redis", "engine", "memory", "nothing"])
def each_cache(
    request: pytest.FixtureRequest, redis_server: Server
) -> Iterator[tuple[Any, bool]]:
    """Each RuntimeCache, and whether it keeps what it gets."""
    if request.param == "memory":
        yield InMemoryCache(), True
    elif request.param == "nothing":
        yield NoOpCache(), False
    else:
        client = make_client(request.param, request)
        yield RedisCache.from_client(client).with_context("app", "device"), True
        client.close()


class Source:
    """Where the weather comes from."""

    def __init__(self) -> None:
        self.asked = 0

    def fetch(self) -> dict[str, Any]:
        self.asked += 1
        return {"text": "sun", "degrees": 21.5}

    @property
    def modules(self) -> dict[str, dict[str, Any]]:
        return {"weather.star": {"fetch_weather_data": self.fetch}}


def test_the_documents_app(each_cache: tuple[Any, bool], tmp_path: Path) -> None:
    """The same file, unchanged, on every RuntimeCache."""
    cache, keeps = each_cache
    path = tmp_path / "weather_app.star"
    path.write_text(WEATHER)
    source = Source()
    processor = Processor(None, modules=source.modules)
    for _ in range(3):
        found = processor.render_app_with_cache(path, cache)
        assert found == {"text": "sun", "degrees": 21.5}
    assert source.asked == (1 if keeps else 3)
    expected = (b'{"text":"sun","degrees":21.5}', True) if keeps else (None, False)
    assert cache.get("weather_data") == expected


@pytest.mark.parametrize("name", VALUES)
def test_values_round_trip(
    name: str, each_cache: tuple[Any, bool], app: Callable[..., Path]
) -> None:
    cache, keeps = each_cache
    value = VALUES[name]
    processor = Processor()
    processor.render_app_with_cache(
        _with_config(app, "cache.set('key', config['value'])"),
        cache,
        {"value": value},
    )
    found = processor.render_app_with_cache(
        app("return {'value': cache.get('key')}"), cache
    )["value"]
    assert found == (value if keeps else None)
    assert type(found) is (type(value) if keeps else type(None))
    if keeps:
        assert json.loads(cache.get("key")[0]) == value


def _with_config(app: Callable[..., Path], *lines: str) -> Path:
    path = app(*lines)
    path.write_text(path.read_text().replace("main()", "main(config)"))
    return path


def test_a_miss_is_none(each_cache: tuple[Any, bool], app: Callable[..., Path]) -> None:
    cache, _ = each_cache
    assert Processor().render_app_with_cache(
        app("return cache.get('no such key') == None"), cache
    )


def test_the_ttl(client: Any, app: Callable[..., Path]) -> None:
    cache = RedisCache.from_client(client).with_context("clock", "device123")
    path = app(
        "cache.set('default', 1)",
        "cache.set('named', 1, ttl_seconds = 60)",
        "cache.set('third', 1, 60.5)",
        "return cache.set('a/b', 1, 60)",
    )
    assert Processor().render_app_with_cache(path, cache) is None
    for name, most in (("default", 300), ("named", 60), ("third", 60.5), ("a_b", 60)):
        left = client.pttl(f"/clock/device123/{name}")
        assert (most - 45) * 1000 < left <= most * 1000 + 10, name


@pytest.mark.parametrize(
    "ttl",
    [
        *("0", "-1", "-0.5", "float('nan')", "float('inf')", "True", "None"),
        *("'60'", "'5m'", "[60]", "1 << 80", "1 << 62"),
    ],
)
def test_an_invalid_ttl_is_logged(
    ttl: str,
    each_cache: tuple[Any, bool],
    app: Callable[..., Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    cache, _ = each_cache
    path = app(f"cache.set('key', 'canary', ttl_seconds = {ttl})", "return 'done'")
    assert Processor().render_app_with_cache(path, cache) == "done"
    assert cache.get("key") == (None, False)
    (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert record.event == "redlane.starlark.uncached"  # type: ignore[attr-defined]
    assert record.getMessage().startswith("app.star: cache.set('key'): ttl_seconds ")
    assert record.getMessage().endswith("; not cached")
    assert "canary" not in caplog.text


@pytest.mark.parametrize(
    "stored",
    [
        *(b"", b"plain", b"\xff\xfe\x00", b"{", b"NaN", b"[Infinity]", b"1e999"),
        *(b'"\\ud800"', b'{"\\udfff":1}', b"[" * 5000 + b"]" * 5000),
        *(b"[" * 101 + b"]" * 101, b'{"a":' * 200 + b"1" + b"}" * 200, b"9" * 5000),
    ],
    ids=lambda data: repr(data[:12]),
)
def test_what_cannot_be_read_is_a_miss(
    stored: bytes,
    each_cache: tuple[Any, bool],
    app: Callable[..., Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    cache, keeps = each_cache
    cache.set("key", stored, 60)
    path = app(
        "found = cache.get('key')",
        "if found == None:",
        "    cache.set('key', 'anew')",
        "return [found, cache.get('key')]",
    )
    expected = [None, "anew" if keeps else None]
    assert Processor().render_app_with_cache(path, cache) == expected
    events = [r.event for r in caplog.records if r.levelno >= logging.WARNING]  # type: ignore[attr-defined]
    assert events == ["redlane.starlark.unreadable"] * keeps


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("cache.get(5)", "key"),
        ("cache.get(None)", "key"),
        ("cache.get()", "key"),
        ("cache.get('a', 1)", "positional"),
        ("cache.set('a')", "value"),
        ("cache.set(5, 1)", "key"),
        ("cache.set('a', 1, ttl = 5)", "ttl"),
        ("cache.set('a', {1: 2})", "keys of a dict must be strings"),
        ("cache.set('a', {'b': [{None: 2}]})", "keys of a dict must be strings"),
        ("cache.set('a', main)", "function"),
        ("cache.delete('a')", "delete"),
        ("fail('on purpose')", "on purpose"),
        ("1 // 0", "ivision by zero"),
        ("main()", "main"),
    ],
)
def test_errors_of_a_script(
    call: str, words: str, each_cache: tuple[Any, bool], app: Callable[..., Path]
) -> None:
    cache, _ = each_cache
    with pytest.raises(ScriptError, match=words) as caught:
        Processor().render_app_with_cache(app(f"return {call}"), cache)
    assert isinstance(caught.value, RedlaneError)
    assert not isinstance(caught.value, ScriptTimeoutError)
    assert str(caught.value).startswith("app.star: ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"def main(:", "Parse error"),
        (b"x = 1", "main"),
        (b"main = 5", "int"),
        (b"def main(config): return 1", "config"),
        (b"def main(): return main", "function"),
        (b"\xff", "utf-8"),
        (b"", "main"),
        (b"def main():\n    x = []\n    x.append(x)\n    return x", "Cycle"),
        (
            b"def main():\n    x = 0\n    for _ in range(9999): x = [x]\n    return x",
            "depth",
        ),
        (b"def main(): return d(900)\ndef d(n): return d(n - 1) if n else 0", "in d"),
    ],
)
def test_what_is_no_app(text: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "app.star"
    path.write_bytes(text)
    with pytest.raises(ScriptError, match=words):
        Processor().render_app_with_cache(path, NoOpCache())


def test_an_app_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Processor().render_app_with_cache(tmp_path / "none.star", NoOpCache())


def test_time_is_bounded(app: Callable[..., Path], tmp_path: Path) -> None:
    endless = app(
        "for i in range(1 << 30):",
        "    for j in range(1 << 30):",
        "        cache.get('key')",
    )
    with pytest.raises(ScriptTimeoutError, match=r"app.star: took longer than 0.2 s"):
        Processor(timeout=0.2).render_app_with_cache(endless, InMemoryCache())
    at_load = tmp_path / "at_load.star"
    at_load.write_text("x = [i for i in range(1 << 30) if i < 0]\ndef main(): pass")
    with pytest.raises(redlane.TimeoutError) as caught:
        Processor(timeout=0.2).render_app_with_cache(at_load, NoOpCache())
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, ScriptError)
    # what an app calls is not called any more once its time is over
    slow = Processor(
        modules={"slow.star": {"wait": lambda: time.sleep(0.3)}}, timeout=0.2
    )
    path = tmp_path / "slow_app.star"
    path.write_text('load("slow.star", "wait")\ndef main():\n wait()\n wait()')
    with pytest.raises(ScriptTimeoutError):
        slow.render_app_with_cache(path, NoOpCache())


def test_ctrl_c_ends_a_script(app: Callable[..., Path], tmp_path: Path) -> None:
    endless = tmp_path / "endless.star"
    endless.write_text(
        'load("tell.star", "tell")\n'
        "def main():\n tell()\n for i in range(1 << 30):\n"
        "  for j in range(1 << 30):\n   pass\n"
    )
    timer = threading.Timer(0.05, _thread.interrupt_main)
    processor = Processor(modules={"tell.star": {"tell": timer.start}}, timeout=120)
    with pytest.raises(KeyboardInterrupt):
        processor.render_app_with_cache(endless, NoOpCache())

    def interrupted() -> None:
        raise KeyboardInterrupt

    inside = Processor(modules={"tell.star": {"tell": interrupted}})
    with pytest.raises(KeyboardInterrupt):
        inside.render_app_with_cache(endless, NoOpCache())


# --- modules ----------------------------------------------------------------------


def test_modules_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "colors.star").write_text("RED = '#f00'\n")
    (tmp_path / "shapes.star").write_text(
        'load("cache.star", "cache")\nload("sub/colors.star", "RED")\n'
        "def dot():\n    cache.set('dots', 1)\n    return [RED]\n"
    )
    path = tmp_path / "app.star"
    path.write_text(
        'load("shapes.star", "dot")\nload("cache.star", store = "cache")\n'
        "def main():\n    return [dot(), store.get('dots')]\n"
    )
    found = Processor().render_app_with_cache(str(path), InMemoryCache())
    assert found == [["#f00"], 1]


@pytest.mark.parametrize(
    "name",
    [
        *("../outside.star", "sub/../../outside.star", "link.star", "none.star"),
        *("app.txt", "", ".hidden.star", "sub/", "//x.star", "a\\u0000.star"),
    ],
)
def test_modules_beyond_it(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "apps"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "outside.star").write_text("secret = 1\n")
    (folder / ".hidden.star").write_text("secret = 1\n")
    (folder / "app.txt").write_text("secret = 1\n")
    (folder / "link.star").symlink_to(tmp_path / "outside.star")
    path = folder / "app.star"
    names = [name, str(tmp_path / "outside.star")]
    for each in names:
        path.write_text(f'load("{each}", "secret")\ndef main():\n    return secret\n')
        with pytest.raises(ScriptError) as caught:
            Processor().render_app_with_cache(path, NoOpCache())
        if each == name:
            assert str(tmp_path) not in str(caught.value)


def test_modules_that_load_each_other(tmp_path: Path) -> None:
    for one, other in (("a", "b"), ("b", "a")):
        (tmp_path / f"{one}.star").write_text(f'load("{other}.star", "x")\nx = 1\n')
    (tmp_path / "app.star").write_text('load("a.star", "x")\ndef main(): return x\n')
    with pytest.raises(ScriptError, match="loads itself"):
        Processor().render_app_with_cache(tmp_path / "app.star", NoOpCache())


def test_functions_of_python(tmp_path: Path) -> None:
    def add(a: int, b: int = 5) -> dict[str, int]:
        return {"sum": a + b}

    def broken() -> None:
        raise LookupError("no such place")

    modules = {"sums.star": {"add": add, "broken": broken, "odd": object}}
    processor = Processor(modules=modules)
    path = tmp_path / "app.star"
    begin = 'load("sums.star", "add", "broken", "odd")\ndef main():\n    return '
    path.write_text(begin + "[add(1), add(1, b = 2)]")
    found = processor.render_app_with_cache(path, NoOpCache())
    assert found == [{"sum": 6}, {"sum": 3}]
    path.write_text(begin + "broken()")
    with pytest.raises(ScriptError, match="no such place") as caught:
        processor.render_app_with_cache(path, NoOpCache())
    assert isinstance(caught.value.__cause__, LookupError)


def test_what_is_no_processor() -> None:
    for name in ("cache.star", "../x.star", "x", "", ".star"):
        with pytest.raises(ValueError, match="cannot be a module's name"):
            Processor(modules={name: {}})
    for symbol in ("_private", "a b", ""):
        with pytest.raises(ValueError, match="cannot be loaded"):
            Processor(modules={"x.star": {symbol: print}})
    with pytest.raises(TypeError, match="must be callable"):
        Processor(modules={"x.star": {"x": 5}})  # type: ignore[dict-item]
    for timeout in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="timeout"):
            Processor(timeout=timeout)
    with pytest.raises(TypeError, match="shared must be"):
        Processor(InMemoryCache())  # type: ignore[arg-type]


def test_what_is_no_cache(app: Callable[..., Path]) -> None:
    for bad in (None, 5, "x"):
        with pytest.raises(TypeError, match="cache must be"):
            Processor().render_app_with_cache(app("return 1"), bad)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="needs a Processor of a RedisCache"):
        Processor().render_app(app("return 1"), "a", "b")


def test_without_its_package_the_extra_is_named() -> None:
    """And the rest of the library does without it."""
    program = """if True:
        import sys
        sys.modules["starlark"] = None
        import redlane
        redlane.InMemoryCache().set("key", b"value", 60)
        import redlane.starlark
    """
    done = run_program(program)
    last = done.stderr.splitlines()[-1]
    assert last == (
        "ImportError: redlane.starlark needs starlark-pyo3: "
        "pip install 'redlane[starlark]'"
    )


def test_the_library_does_not_load_it() -> None:
    done = run_program("import redlane, sys; print('starlark' in sys.modules)")
    assert done.stdout == "False\n", done


# --- the shared cache -------------------------------------------------------------


def test_apps_of_tenants(client: Any, run: Runner, app: Callable[..., Path]) -> None:
    shared = RedisCache.from_client(client)
    processor = Processor(shared)
    path = app(
        "count = (cache.get('count') or 0) + 1",
        "cache.set('count', count)",
        "return count",
    )
    assert processor.render_app(path, "clock", "one") == 1
    assert processor.render_app(path, "clock", "two") == 1
    assert processor.render_app(path, "stocks", "one") == 1
    context = shared.with_context("clock", "one")
    assert processor.render_app_with_cache(path, context) == 2
    assert client.get("/clock/one/count") == b"2"
    with pytest.raises(ValueError, match="app_id must not hold"):
        processor.render_app(path, "a/b", "one")

    async def awaited() -> list[Any]:
        twin = processor.aio
        return [
            await twin.render_app(path, "clock", "one"),
            await twin.render_app_with_cache(path, context),
            await twin.render_app_with_cache(path, context.aio),
            await AsyncProcessor(shared.aio).render_app(path, "clock", "one"),
        ]

    assert run(awaited()) == [3, 4, 5, 6]
    assert processor.render_app_with_cache(path, context.aio) == 7


def test_many_threads(redis_url: str, app: Callable[..., Path]) -> None:
    path = app("cache.set('key', [1, 2])", "return cache.get('key')")
    found: list[Any] = []
    with redlane.Client(redis_url) as client:
        processor = Processor(RedisCache.from_client(client))

        def work(number: int) -> None:
            for _ in range(5):
                found.append(processor.render_app(path, "app", f"device{number}"))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [[1, 2]] * 40
        assert client.dbsize() >= 8


def test_an_outage(switch: Switch, app: Callable[..., Path]) -> None:
    """No exception while the server is away, and no caching; on its return, caching."""
    with redlane.Client(switch.url, **PATIENT) as client:
        processor = Processor(RedisCache.from_client(client))
        path = app(
            "found = cache.get('key')",
            "cache.set('key', 'value')",
            "return [found, cache.get('key')]",
        )
        assert processor.render_app(path, "a", "b") == [None, "value"]
        switch.off(client)
        for _ in range(3):
            assert processor.render_app(path, "a", "b") == [None, None]
        switch.on(client)
        # what the app would have overwritten is gone
        assert processor.render_app(path, "a", "b") == [None, "value"]
        assert processor.render_app(path, "a", "b") == ["value", "value"]


def test_no_value_is_shown(
    redis_url: str, app: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "redlane")
    with redlane.Client(redis_url) as client:
        shared = RedisCache.from_client(client)
        processor = Processor(shared)
        shared.with_context("a", "b").set("bad", b"canary-bytes", 60)
        path = app(
            "cache.set('key', 'canary-' + 'text')",
            "cache.get('bad')",
            "return cache.get('key')",
        )
        assert processor.render_app(path, "a", "b") == "canary-text"
        assert "canary" not in repr(processor)
    assert any("cache.get('bad')" in r.getMessage() for r in caplog.records)
    assert not [r for r in caplog.records if "canary-" in r.getMessage()]
