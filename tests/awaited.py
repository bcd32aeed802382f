"""The asynchronous half behind the face of the blocking one: what blocking code calls,
a loop in a thread of its own awaits. So the tests of Client, Cache, Counter and
VideoCache are those of AsyncClient, AsyncCache, AsyncCounter and AsyncVideoCache too:

    with awaited("uvloop", toolset, test_link_faults): …

makes those modules find the asynchronous halves where they look for the blocking ones.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any
from zlib import crc32

import pytest
import redlane
from aio import KINDS, Complaints, end
from redlane._core import AsyncTenantContext

TWINS = {
    "Client": redlane.AsyncClient,
    "Cache": redlane.AsyncCache,
    "Counter": redlane.AsyncCounter,
    "VideoCache": redlane.AsyncVideoCache,
    "RateLimiter": redlane.AsyncRateLimiter,
    "Cooldown": redlane.AsyncCooldown,
    "Presence": redlane.AsyncPresence,
}
WRAPPED = (*TWINS.values(), redlane.AsyncPipeline, AsyncTenantContext)


class Portal:
    """A loop of one kind that runs in a thread of its own, until it is closed."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.complaints: list[dict[str, Any]] = []
        self.loop = KINDS[kind]()
        self.loop.set_exception_handler(lambda _, what: self.complaints.append(what))
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    @property
    def inside(self) -> bool:
        """Whether it is the loop that asks: a callback, which must not wait for it."""
        return threading.current_thread() is self.thread

    def __call__(self, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """What a call gives there; awaited, where that can be."""

        async def main() -> Any:
            made = call(*args, **options)
            return await made if inspect.isawaitable(made) else made

        if self.inside:
            return call(*args, **options)
        return asyncio.run_coroutine_threadsafe(main(), self.loop).result()

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(60)
        end(self.loop)
        gc.collect()  # what nobody retrieved is told when it is freed
        if self.complaints:
            raise Complaints(self.complaints)

    def wrap(self, value: Any) -> Any:
        """As blocking code would have it."""
        if isinstance(value, WRAPPED):
            return Blocking(self, value)
        if hasattr(value, "__anext__"):
            return Iteration(self, value)
        return value

    def make(self, twin: Callable[..., Any], *args: Any, **options: Any) -> Blocking:
        """An asynchronous half, of what its blocking one would be made from."""
        given = [arg.sync if isinstance(arg, Blocking) else arg for arg in args]
        return Blocking(self, self(twin, *given, **options))


class Blocking:
    """The face. Inside the loop it is that of the blocking half itself, which is all
    that code which cannot await may use."""

    def __init__(self, portal: Portal, twin: Any) -> None:
        self._portal = portal
        self._twin = twin

    @property
    def sync(self) -> Any:
        return self._twin.sync

    def __getattr__(self, name: str) -> Any:
        portal, twin = self._portal, self._twin
        if portal.inside and hasattr(twin, "sync"):
            twin = twin.sync
        value = getattr(twin, name)
        if not callable(value):
            return value

        @functools.wraps(value)
        def call(*args: Any, **options: Any) -> Any:
            return portal.wrap(portal(value, *args, **options))

        return call

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Of a cache: decorates a function, as a coroutine; of such one: calls it."""
        portal, twin = self._portal, self._twin
        if not isinstance(twin, redlane.AsyncCache):
            return portal(twin, *args, **options)

        def decorate(function: Callable[..., Any]) -> Blocking:
            @functools.wraps(function)
            async def coroutine(*args: Any, **options: Any) -> Any:
                return function(*args, **options)

            made = twin(**options)(coroutine) if options else twin(coroutine)
            return Blocking(portal, made)

        return decorate(args[0]) if args else decorate

    def __enter__(self) -> Blocking:
        self._portal(self._twin.__aenter__)
        return self

    def __exit__(self, *_: object) -> None:
        self._portal(self._twin.close)

    def __repr__(self) -> str:
        return repr(self._twin)


class Iteration:
    """An asynchronous iterator, stepped through."""

    def __init__(self, portal: Portal, iterator: Any) -> None:
        self._portal = portal
        self._iterator = iterator

    def __iter__(self) -> Iteration:
        return self

    def __next__(self) -> Any:
        try:
            return self._portal(self._iterator.__anext__)
        except StopAsyncIteration:
            raise StopIteration from None


class Namespace:
    """The module, but for the names that are given."""

    def __init__(self, **names: Any) -> None:
        vars(self).update(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(redlane, name)


def one_loop_each(metafunc: pytest.Metafunc, fixture: str) -> None:
    """For pytest_generate_tests: a test on one kind of loop, those of a module in
    turns, and on the other one in the full size."""
    kinds = sorted(KINDS, reverse=crc32(metafunc.function.__name__.encode()) % 2 == 1)
    soak = [pytest.param(kind, marks=pytest.mark.soak) for kind in kinds[1:]]
    metafunc.parametrize(fixture, [kinds[0], *soak], indirect=True)


@contextmanager
def awaited(kind: str, *modules: ModuleType) -> Iterator[Portal]:
    """In these modules, each name of a blocking half is one of the asynchronous one."""
    portal = Portal(kind)
    names: dict[str, Any] = {
        name: functools.partial(portal.make, twin) for name, twin in TWINS.items()
    }
    tenants = functools.partial(portal.make, redlane.AsyncRedisCache.from_client)
    names["redlane"] = Namespace(**names, RedisCache=Namespace(from_client=tenants))
    try:
        with pytest.MonkeyPatch.context() as patch:
            for module in modules:
                for name in names.keys() & vars(module).keys():
                    patch.setattr(module, name, names[name])
            yield portal
    finally:
        portal.close()
