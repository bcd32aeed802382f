"""RedisCache and its contexts: one Redis for many tenants; and its stand-ins."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from redlane._config import _from_address, _variable
from redlane._core import (
    AsyncClient,
    AsyncTenantContext,
    Client,
    ConfigurationError,
    TenantContext,
    ToolHandle,
)
from redlane._core import TenantCache as SharedCache
from redlane._steps import Steps, check, run, run_async, scan

if TYPE_CHECKING:
    from datetime import timedelta

    from typing_extensions import Buffer, Self

__all__ = [
    "AsyncContextualRedisCache",
    "AsyncRedisCache",
    "ContextualRedisCache",
    "InMemoryCache",
    "NoOpCache",
    "RedisCache",
    "RuntimeCache",
    "TenantCache",
]

BATCH = 512  # keys in one UNLINK


@runtime_checkable
class RuntimeCache(Protocol):
    """What an app sees of its cache, whichever it is.

    ContextualRedisCache, InMemoryCache and NoOpCache have it.
    """

    def get(self, key: str) -> tuple[bytes | None, bool]:
        """The value and True, or None and False."""
        ...

    def set(self, key: str, value: Buffer, ttl: float | str | timedelta) -> bool:
        """Store a value for ttl seconds; whether it was stored."""
        ...


RuntimeCache.__module__ = "redlane"


def escape(text: str) -> bytes:
    """A glob that matches the text alone."""
    return b"".join(
        b"\\" + bytes([byte]) if byte in b"*?[]^-\\" else bytes([byte])
        for byte in text.encode()
    )


def parts_of(key: bytes) -> list[bytes] | None:
    """App, device and name of a key of any tenant's; None for what is none."""
    parts = key.split(b"/")
    if len(parts) != 4 or parts[0] or not (parts[1] and parts[2]):
        return None
    return parts[1:]


class Scope:
    """The keys of one device, in one app or in all."""

    def __init__(self, app_id: str | None, device_id: str) -> None:
        self.app = None if app_id is None else app_id.encode()
        self.device = device_id.encode()
        app = b"*" if app_id is None else escape(app_id)
        # A slash after a backslash: of tenants' keys alone, for those too that delete
        # what it matches when the server is back.
        self.pattern = rb"\/%b/%b/*" % (app, escape(device_id))

    def holds(self, key: bytes) -> bool:
        """Whether the key is one of these; a glob's star goes beyond a slash."""
        parts = parts_of(key)
        return (
            parts is not None
            and parts[1] == self.device
            and (self.app is None or parts[0] == self.app)
        )

    def flush(self) -> Steps[int]:
        keys, answered = yield from scan(self.pattern)
        mine = [key for key in keys if self.holds(key)]
        gone = 0
        for start in range(0, len(mine), BATCH):
            reply, who = yield ("run", "UNLINK", *mine[start : start + BATCH])
            check(reply is None or isinstance(reply, int), "UNLINK")
            gone += reply or 0
            if who != "server":
                answered = who
        yield ("forget", self.pattern, answered)
        return gone

    def count(self) -> Steps[int | None]:
        keys, answered = yield from scan(self.pattern)
        return sum(map(self.holds, keys)) if answered == "server" else None


class ContextualRedisCache(TenantContext):
    """The cache of one app on one device: RedisCache.with_context() gives it."""

    __slots__ = ()
    __module__ = "redlane"

    if TYPE_CHECKING:

        @property
        def cache(self) -> RedisCache: ...

    def flush_app(self) -> int:
        """Delete the keys of this app on this device; how many went.

        While the server is away it is told when it is back.
        """
        return run(Scope(self.app_id, self.device_id).flush(), self.cache._handle)

    def flush_device(self) -> int:
        """Delete the keys of this device in every app; how many went."""
        return run(Scope(None, self.device_id).flush(), self.cache._handle)

    def stats(self) -> int | None:
        """How many keys this app has on this device; None while the server is away."""
        return run(Scope(self.app_id, self.device_id).count(), self.cache._handle)

    @property
    def aio(self) -> AsyncContextualRedisCache:
        """The same cache with methods that are awaited."""
        return AsyncContextualRedisCache(self)


class AsyncContextualRedisCache(AsyncTenantContext):
    """A ContextualRedisCache whose methods are awaited."""

    __slots__ = ()
    __module__ = "redlane"

    if TYPE_CHECKING:

        @property
        def sync(self) -> ContextualRedisCache: ...

    async def flush_app(self) -> int:
        """As ContextualRedisCache.flush_app."""
        handle = self.sync.cache._handle.aio
        return await run_async(Scope(self.app_id, self.device_id).flush(), handle)

    async def flush_device(self) -> int:
        """As ContextualRedisCache.flush_device."""
        handle = self.sync.cache._handle.aio
        return await run_async(Scope(None, self.device_id).flush(), handle)

    async def stats(self) -> int | None:
        """As ContextualRedisCache.stats."""
        handle = self.sync.cache._handle.aio
        return await run_async(Scope(self.app_id, self.device_id).count(), handle)


def make_client(
    addr: str | None, password: str | None, db: int | None, options: dict[str, Any]
) -> Client[Any]:
    """A client of that address; what is not given comes from the environment."""
    if addr is None:
        addr = _variable("REDIS_ADDR") or "localhost:6379"
        source = "REDIS_ADDR"
    else:
        source = "addr"
        if addr == "":
            raise ConfigurationError("addr: must be host:port")
        if not isinstance(addr, str):
            raise TypeError(f"addr must be a str, not {type(addr).__name__}")
    if db is not None and (isinstance(db, bool) or not isinstance(db, int) or db < 0):
        raise ConfigurationError("db: must be a database number, such as 0")
    url = _from_address(addr, source, password=password, database=db)
    return Client(url, **options)


class RedisCache(SharedCache):
    """One client for all tenants, each with a cache of its own: with_context().

    addr: host:port; None: REDIS_ADDR, else localhost:6379.
    password, db: None: REDIS_PASSWORD, REDIS_DB.
    options: as for Client, such as timeout.

    Nothing raises because the server is away: there is no caching then.
    ConfigurationError for an address or a database that is none.
    """

    __module__ = "redlane"

    _handle: ToolHandle
    _client: Client[Any]
    _owned: bool

    def __new__(
        cls,
        addr: str | None = None,
        password: str | None = None,
        db: int | None = None,
        **options: Any,
    ) -> Self:
        try:
            client = make_client(addr, password, db, options)
        except Exception as error:  # noqa: BLE001 - raised again
            # What shows a traceback may show the variables of its frames.
            del addr, password, options
            raise error.with_traceback(None) from None
        return cls._make(client, owned=True)

    @classmethod
    def from_client(cls, client: Client[Any] | AsyncClient[Any]) -> Self:
        """The same on a client that is there; close() leaves it open."""
        if isinstance(client, AsyncClient):
            client = client.sync
        if not isinstance(client, Client):
            raise TypeError(f"expected a Client, not {type(client).__name__}")
        return cls._make(client, owned=False)

    @classmethod
    def _make(cls, client: Client[Any], owned: bool) -> Self:
        self = super().__new__(cls, client, ContextualRedisCache)
        self._client = client
        self._owned = owned
        self._handle = ToolHandle(client, "none", rb"\/*")
        return self

    if TYPE_CHECKING:

        def with_context(self, app_id: str, device_id: str) -> ContextualRedisCache: ...

    @property
    def client(self) -> Client[Any]:
        """The client that all contexts share."""
        return self._client

    @property
    def aio(self) -> AsyncRedisCache:
        """The same cache with methods that are awaited."""
        return AsyncRedisCache._of(self)

    def close(self) -> None:
        """Close the client, unless it came by from_client()."""
        if self._owned:
            self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<redlane.RedisCache {self._client!r}>"


class AsyncRedisCache:
    """A RedisCache whose contexts have methods that are awaited."""

    __module__ = "redlane"

    def __init__(
        self,
        addr: str | None = None,
        password: str | None = None,
        db: int | None = None,
        **options: Any,
    ) -> None:
        try:
            self.sync = RedisCache(addr, password, db, **options)
        except Exception as error:  # noqa: BLE001 - raised again
            del self, addr, password, options  # as RedisCache
            raise error.with_traceback(None) from None

    @classmethod
    def from_client(cls, client: Client[Any] | AsyncClient[Any]) -> AsyncRedisCache:
        """The same on a client that is there; close() leaves it open."""
        return cls._of(RedisCache.from_client(client))

    @classmethod
    def _of(cls, cache: RedisCache) -> AsyncRedisCache:
        """The twin of a RedisCache."""
        self = cls.__new__(cls)
        self.sync = cache
        return self

    @property
    def client(self) -> AsyncClient[Any]:
        """The client that all contexts share."""
        return self.sync.client.aio

    @property
    def errors(self) -> int:
        """As RedisCache.errors."""
        return self.sync.errors

    def with_context(self, app_id: str, device_id: str) -> AsyncContextualRedisCache:
        """The cache of one app on one device; nothing is connected, or awaited."""
        return AsyncContextualRedisCache(self.sync.with_context(app_id, device_id))

    async def close(self) -> None:
        """Close the client, unless it came by from_client()."""
        if self.sync._owned:
            await self.sync.client.aio.close()

    async def __aenter__(self) -> AsyncRedisCache:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"{self.sync!r}.aio"


TenantCache = RedisCache


def text_of(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"key must be a str, not {type(key).__name__}")
    return key.replace("/", "_")


def check_value(value: Buffer) -> bytes:
    if isinstance(value, str):
        raise TypeError("value must be bytes, not str")
    return bytes(memoryview(value))


class InMemoryCache:
    """A RuntimeCache in this process, for tests and for programs without a server.

    max_entries: the least used go beyond it. Each context, or app, has one of its own.
    """

    __module__ = "redlane"

    def __init__(self, max_entries: int = 10_000) -> None:
        if max_entries < 1:
            raise ValueError("max_entries must be at least 1")
        self._max = max_entries
        self._lock = threading.Lock()
        self._values: OrderedDict[str, tuple[bytes, float]] = OrderedDict()

    def get(self, key: str) -> tuple[bytes | None, bool]:
        """The value and True, or None and False."""
        name = text_of(key)
        with self._lock:
            found = self._values.get(name)
            if found is None:
                return None, False
            if found[1] <= time.monotonic():
                del self._values[name]
                return None, False
            self._values.move_to_end(name)
            return found[0], True

    def set(self, key: str, value: Buffer, ttl: float | str | timedelta) -> bool:
        """Store a value for ttl; True. ValueError, TypeError for a TTL that is none."""
        name, seconds = text_of(key), ToolHandle.milliseconds(ttl, "ttl") / 1000
        data = check_value(value)
        with self._lock:
            self._values[name] = data, time.monotonic() + seconds
            self._values.move_to_end(name)
            while len(self._values) > self._max:
                self._values.popitem(last=False)
        return True

    def __repr__(self) -> str:
        return f"<redlane.InMemoryCache {len(self._values)} entries>"


class NoOpCache:
    """A RuntimeCache that keeps nothing; what is wrong is an error all the same."""

    __module__ = "redlane"

    def get(self, key: str) -> tuple[bytes | None, bool]:
        """None and False."""
        text_of(key)
        return None, False

    def set(self, key: str, value: Buffer, ttl: float | str | timedelta) -> bool:
        """False."""
        text_of(key)
        ToolHandle.milliseconds(ttl, "ttl")
        check_value(value)
        return False

    def __repr__(self) -> str:
        return "<redlane.NoOpCache>"
