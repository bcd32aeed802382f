"""Starlark apps with a cache; ``pip install 'redlane[starlark]'``.

    shared = RedisCache()
    processor = Processor(shared)
    cache = shared.with_context("clock", "device123")
    picture = processor.render_app_with_cache("apps/clock.star", cache)

In the app: ``load("cache.star", "cache")``, then ``cache.get(key)`` and
``cache.set(key, value, ttl_seconds=300)``.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

try:
    from starlark import (
        EvalOptions,
        FileLoader,
        FrozenModule,
        Globals,
        LibraryExtension,
        Module,
        StarlarkError,
        eval_with,
        parse,
    )
except ImportError as error:  # pragma: no cover - an environment of its own
    raise ImportError(
        "redlane.starlark needs starlark-pyo3: pip install 'redlane[starlark]'"
    ) from error

from redlane._core import AsyncTenantContext, RedlaneError, TimeoutError, ToolHandle
from redlane._logging import get_logger
from redlane._tenants import AsyncRedisCache

if TYPE_CHECKING:
    from redlane._tenants import AsyncContextualRedisCache, RuntimeCache

__all__ = ["AsyncProcessor", "Processor", "ScriptError", "ScriptTimeoutError"]

DEPTH = 100  # lists in lists; beyond 1000 starlark-pyo3 refuses, and Python recurses
MODULE_NAME = re.compile(r"(?!\.)[\w.-]+(?:/(?!\.)[\w.-]+)*\.star", re.ASCII)

GLOBALS = Globals.extended_by(
    [
        LibraryExtension.StructType,
        LibraryExtension.Json,
        LibraryExtension.Map,
        LibraryExtension.Filter,
    ]
)
CACHE_MODULE = "cache.star"
# A method with a default, which a callable of Python's could have too; but this one's
# wrong calls are told as those of any Starlark function.
CACHE_SOURCE = parse(
    CACHE_MODULE,
    "def _get_value(key):\n"
    "    return _get(key)\n"
    "def _set_value(key, value, ttl_seconds = 300):\n"
    "    _set(key, value, ttl_seconds)\n"
    "cache = struct(get = _get_value, set = _set_value)\n",
)

Functions = Mapping[str, Callable[..., Any]]


class SharedCache(Protocol):
    """What makes the caches of apps: a RedisCache."""

    def with_context(self, app_id: str, device_id: str) -> RuntimeCache: ...


class ScriptError(RedlaneError):
    """An app cannot be read, or failed.

    The text is Starlark's, with the line of the app. What a function of Python's raised
    is the ``__cause__``.
    """


class ScriptTimeoutError(ScriptError, TimeoutError):
    """An app took longer than it may."""


def finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("no number of JSON's")
    return number


def refuse(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def check_depth(value: Any, left: int = DEPTH) -> None:
    if not isinstance(value, (list, dict)):
        return
    if left == 0:
        raise ValueError("the value is nested too deeply")
    for item in value.values() if isinstance(value, dict) else value:
        check_depth(item, left - 1)


def load_value(data: bytes) -> Any:
    """The value; ValueError or RecursionError where Starlark has none for it."""
    value = json.loads(data, parse_constant=refuse, parse_float=finite)
    if data.count(b"[") + data.count(b"{") > DEPTH:
        check_depth(value)
    if b"\\u" in data:  # half of a surrogate pair, perhaps, which is no text
        json.dumps(value, ensure_ascii=False).encode()
    return value


def dump_value(value: Any) -> bytes:
    """JSON; ValueError or TypeError where reading it gives another value."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    data = text.encode()
    if load_value(data) != value:
        raise TypeError("the keys of a dict must be strings to be cached")
    return data


def check_ttl(ttl: Any) -> None:
    """TypeError, ValueError or OverflowError for what is no number of seconds."""
    if not isinstance(ttl, (int, float)):
        raise TypeError(f"ttl_seconds must be a number, not {type(ttl).__name__}")
    ToolHandle.milliseconds(ttl, "ttl_seconds")


class Run:
    """One call of an app's main(), by one thread."""

    def __init__(
        self,
        processor: Processor,
        path: str | os.PathLike[str],
        cache: RuntimeCache,
        config: Mapping[str, Any] | None,
    ) -> None:
        self.processor = processor
        self.path = Path(path)
        self.cache = cache
        self.arguments = () if config is None else (dict(config),)
        timeout = processor.timeout
        self.end = math.inf if timeout is None else time.monotonic() + timeout
        self.late = False
        self.failure: BaseException | None = None  # what a function of Python's raised
        self.loading: list[str] = []  # the modules whose load() has not returned
        self.loaded: dict[str, FrozenModule] = {}
        self.options = EvalOptions(check_cancelled=self.is_over)
        self.loader = FileLoader(self.guarded(self.load))

    def result(self) -> Any:
        """What main() returns. ScriptError, ScriptTimeoutError; OSError for an app that
        is not there; what no app may stop, such as KeyboardInterrupt."""
        source = self.path.read_bytes()
        try:
            module = self.evaluate(self.path.name, source)
            return module.call_with(self.options, "main", *self.arguments).value
        except (StarlarkError, UnicodeDecodeError) as error:
            if self.late:
                raise ScriptTimeoutError(
                    f"{self.path.name}: took longer than {self.processor.timeout:g} s"
                ) from None
            cause = error if self.failure is None else self.failure
            if not isinstance(cause, Exception):
                raise cause from None
            raise ScriptError(f"{self.path.name}: {error}".rstrip()) from cause

    def is_over(self) -> bool:
        """Asked by Starlark every few thousand steps."""
        self.late = self.late or time.monotonic() >= self.end
        return self.late

    def guarded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Starlark makes an error of its own of whatever a function raises."""

        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                if self.is_over():
                    raise ScriptTimeoutError("no time is left")
                return function(*args, **kwargs)
            except BaseException as error:
                self.failure = error
                raise

        return call

    # --- modules ------------------------------------------------------------------

    def evaluate(self, name: str, source: bytes) -> FrozenModule:
        module = Module()
        tree = parse(name, source.decode())
        eval_with(self.options, module, tree, GLOBALS, self.loader)
        return module.freeze()

    def load(self, name: str) -> FrozenModule:
        """The module of a load(); each is evaluated once."""
        if name not in self.loaded:
            if name in self.loading:
                raise ValueError(f"{name} loads itself, by way of others perhaps")
            self.loading.append(name)
            self.loaded[name] = self.find(name)
            self.loading.pop()
        return self.loaded[name]

    def find(self, name: str) -> FrozenModule:
        if name == CACHE_MODULE:
            return self.cache_module()
        functions = self.processor.modules.get(name)
        if functions is not None:
            module = Module()
            for symbol, function in functions.items():
                module.add_callable(symbol, self.guarded(function))
            return module.freeze()
        return self.evaluate(name, self.read(name))

    def cache_module(self) -> FrozenModule:
        module = Module()
        module.add_callable("_get", self.guarded(self.get))
        module.add_callable("_set", self.guarded(self.set))
        eval_with(self.options, module, CACHE_SOURCE, GLOBALS)
        return module.freeze()

    def read(self, name: str) -> bytes:
        """A file of the app's folder, and of no other."""
        folder = self.path.resolve().parent
        path = (folder / name).resolve()
        if not MODULE_NAME.fullmatch(name) or not path.is_relative_to(folder):
            raise ValueError("only .star files of the app's folder can be loaded")
        if not path.is_file():
            raise FileNotFoundError(f"no module of the name {name}")
        return path.read_bytes()

    # --- the cache ----------------------------------------------------------------

    def get(self, key: Any) -> Any:
        data, found = self.cache.get(key)
        if not found or data is None:
            return None
        try:
            return load_value(data)
        except (ValueError, RecursionError):
            get_logger().warning(
                "%s: cache.get(%r): no JSON; a miss",
                self.path.name,
                key,
                extra={"event": "redlane.starlark.unreadable"},
            )
            return None

    def set(self, key: Any, value: Any, ttl: Any) -> None:
        data = dump_value(value)
        try:
            check_ttl(ttl)
        except (ValueError, TypeError, OverflowError) as error:
            get_logger().warning(
                "%s: cache.set(%r): %s; not cached",
                self.path.name,
                key,
                error,
                extra={"event": "redlane.starlark.uncached"},
            )
            return
        self.cache.set(key, data, ttl)


def check_modules(modules: Mapping[str, Functions]) -> dict[str, dict[str, Any]]:
    for name, functions in modules.items():
        if not MODULE_NAME.fullmatch(name) or name == CACHE_MODULE:
            raise ValueError(f"modules: {name!r} cannot be a module's name")
        for symbol, function in functions.items():
            if not symbol.isidentifier() or symbol.startswith("_"):
                raise ValueError(f"modules: {symbol!r} cannot be loaded by an app")
            if not callable(function):
                raise TypeError(f"modules: {symbol} must be callable")
    return {name: dict(functions) for name, functions in modules.items()}


class Processor:
    """Runs Starlark apps, each with the cache that it is given.

    Args:
        shared: the RedisCache, or its awaited twin, of which render_app() makes the
            contexts; None where render_app_with_cache() alone is used.
        modules: what apps can load besides ``cache.star`` and the ``.star`` files of
            their own folder: functions by the names of modules. They take and return
            what JSON has: strings, numbers, bools, lists, dicts and None.
        timeout: seconds that an app may take; None: any number. A call of Python's, or
            one step of Starlark's, is not interrupted.

    Raises:
        TypeError, ValueError: an argument that is none.
    """

    def __init__(
        self,
        shared: SharedCache | AsyncRedisCache | None = None,
        *,
        modules: Mapping[str, Functions] | None = None,
        timeout: float | None = 5.0,
    ) -> None:
        if isinstance(shared, AsyncRedisCache):
            shared = shared.sync
        if shared is not None and not callable(getattr(shared, "with_context", None)):
            raise TypeError(f"shared must be a RedisCache, not {type(shared).__name__}")
        if timeout is not None and not 0 < timeout < math.inf:
            raise ValueError("timeout must be a number of seconds above 0")
        self.shared: SharedCache | None = shared
        self.modules = check_modules(modules or {})
        self.timeout = timeout

    def render_app_with_cache(
        self,
        app_path: str | os.PathLike[str],
        cache: RuntimeCache | AsyncContextualRedisCache,
        config: Mapping[str, Any] | None = None,
    ) -> Any:
        """Runs the app's main().

        Args:
            app_path: a ``.star`` file; it is read at each call.
            cache: what its ``cache`` is: of a tenant, an InMemoryCache, a NoOpCache.
            config: what main() is called with; None: without arguments.

        Returns:
            What main() returned: strings, numbers, lists, dicts, None.

        Raises:
            ScriptError: the app cannot be read, or failed. Never because Redis is away.
            ScriptTimeoutError: it took longer than `timeout`.
            OSError: there is no such file.
            TypeError: `cache` is none.
        """
        context: Any = cache
        if isinstance(cache, AsyncTenantContext):
            context = cache.sync
        if not (hasattr(context, "get") and hasattr(context, "set")):
            raise TypeError(f"cache must be a RuntimeCache, not {type(cache).__name__}")
        return Run(self, app_path, context, config).result()

    def render_app(
        self,
        app_path: str | os.PathLike[str],
        app_id: str,
        device_id: str,
        config: Mapping[str, Any] | None = None,
    ) -> Any:
        """render_app_with_cache() with the cache of that app on that device.

        Raises:
            ValueError: an id is empty or holds a slash.
            TypeError: the processor has no shared cache.
        """
        if self.shared is None:
            raise TypeError("render_app needs a Processor of a RedisCache")
        cache = self.shared.with_context(app_id, device_id)
        return self.render_app_with_cache(app_path, cache, config)

    @property
    def aio(self) -> AsyncProcessor:
        """The same processor with methods that are awaited."""
        return AsyncProcessor._of(self)

    def __repr__(self) -> str:
        return f"<redlane.starlark.Processor {self.shared!r}>"


class AsyncProcessor:
    """A Processor whose methods are awaited; apps run in threads of the loop.

    One that is cancelled goes on in its thread until it is done, or its time is over.
    """

    def __init__(
        self,
        shared: SharedCache | AsyncRedisCache | None = None,
        *,
        modules: Mapping[str, Functions] | None = None,
        timeout: float | None = 5.0,
    ) -> None:
        self.sync = Processor(shared, modules=modules, timeout=timeout)

    @classmethod
    def _of(cls, processor: Processor) -> AsyncProcessor:
        self = cls.__new__(cls)
        self.sync = processor
        return self

    async def render_app_with_cache(
        self,
        app_path: str | os.PathLike[str],
        cache: RuntimeCache | AsyncContextualRedisCache,
        config: Mapping[str, Any] | None = None,
    ) -> Any:
        """As Processor.render_app_with_cache."""
        return await asyncio.to_thread(
            self.sync.render_app_with_cache, app_path, cache, config
        )

    async def render_app(
        self,
        app_path: str | os.PathLike[str],
        app_id: str,
        device_id: str,
        config: Mapping[str, Any] | None = None,
    ) -> Any:
        """As Processor.render_app."""
        return await asyncio.to_thread(
            self.sync.render_app, app_path, app_id, device_id, config
        )

    def __repr__(self) -> str:
        return f"{self.sync!r}.aio"
