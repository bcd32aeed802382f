"""How much may be in flight at once: Concurrency and AsyncConcurrency.

The server holds a sorted set for each identity, of tokens by the end of their leases,
and one script changes it. A slot is one call of that script to take it and one to give
it back, so all else is done here.
"""

from __future__ import annotations

import os
from contextlib import suppress
from hashlib import sha256
from math import ceil
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from redlane._core import (
    AsyncClient,
    Client,
    ConfigurationError,
    RedlaneError,
    ToolHandle,
)
from redlane._limit import RateLimitExceeded, _hops_of, _Limited, _settle, _wrap
from redlane._logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from redlane._core import Decision
    from redlane._http.opened import Opened

    F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["AsyncConcurrency", "AsyncSlot", "Concurrency", "Slot"]

OnError = Literal["memory", "allow", "deny"]

LIMIT_MAX = 100_000  # its state has a token for each
LEASE_MAX = 366 * 86_400_000  # ms
IDENTITY_MAX = 200  # bytes; what is longer is hashed
PREFIX_MAX = 256
RETRY = 1.0  # seconds, when nobody counts
TOO_MANY = "too many at once"


def check_limit(limit: int) -> int:
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise TypeError(f"limit must be an int, not {type(limit).__name__}")
    if not 1 <= limit <= LIMIT_MAX:
        raise ConfigurationError(f"limit must be 1 to {LIMIT_MAX}")
    return limit


def check_lease(lease: float | str | timedelta) -> int:
    milliseconds = ToolHandle.milliseconds(lease, "lease")
    if milliseconds > LEASE_MAX:
        raise ConfigurationError("lease must be 366 days at most")
    return milliseconds


def check_prefix(prefix: str | None) -> str:
    if prefix is None:
        return "slots"
    if not isinstance(prefix, str):
        raise TypeError(f"prefix must be a str or None, not {type(prefix).__name__}")
    if not 1 <= len(prefix.encode()) <= PREFIX_MAX:
        raise ConfigurationError(f"prefix must have 1 to {PREFIX_MAX} bytes")
    return prefix


def name_of(identity: str | bytes | int, hashed: bool) -> bytes:
    """An identity as it stands in a key, as for rate limits."""
    if isinstance(identity, bool) or not isinstance(identity, (str, bytes, int)):
        kind = type(identity).__name__
        raise TypeError(f"identity must be str, bytes or int, not {kind}")
    given = identity if isinstance(identity, bytes) else str(identity).encode()
    if not given:
        raise ValueError("identity must not be empty")
    name = given.replace(b"%", b"%25").replace(b"}", b"%7D")
    if hashed or len(name) > IDENTITY_MAX:
        return sha256(given).hexdigest().encode()
    return name


def tell(error: RedlaneError) -> None:
    """A slot that could not be given back is free when its lease ends."""
    get_logger().debug("slot: %s", error, extra={"event": "redlane.concurrency.failed"})


class _Place:
    """What a slot is in any case. It reads as a Decision where one is asked for."""

    __slots__ = (
        "_key",
        "_owner",
        "_state",
        "allowed",
        "in_flight",
        "retry_after",
        "token",
    )

    def __init__(self, owner: Concurrency, key: bytes) -> None:
        self._owner = owner
        self._key = key
        self._state = "new"
        self.token = os.urandom(12).hex()
        self.allowed = False
        self.in_flight = 0
        self.retry_after = 0.0

    @property
    def limit(self) -> int:
        """How many may be held."""
        return self._owner.limit

    @property
    def remaining(self) -> int:
        """How many more could be taken, when this one was asked for."""
        return max(self.limit - self.in_flight, 0)

    @property
    def reset_after(self) -> float:
        """As retry_after."""
        return self.retry_after

    @property
    def limits(self) -> tuple[Decision, ...]:
        """None: it is no limit in a time."""
        return ()

    def headers(self) -> list[tuple[str, str]]:
        """What a response says of it: a refusal's Retry-After, in whole seconds."""
        if self.allowed:
            return []
        return [("Retry-After", str(max(ceil(self.retry_after), 1)))]

    def raw_headers(self) -> list[tuple[bytes, bytes]]:
        """The same as ASGI has it."""
        return [(name.lower().encode(), text.encode()) for name, text in self.headers()]

    def __bool__(self) -> bool:
        return self.allowed

    def __repr__(self) -> str:
        return f"<redlane.{type(self).__name__} {self._state} of {self.limit}>"

    def _script(self, mode: str, lease: int | None = None) -> tuple[Any, ...]:
        return self._owner._script(mode, self._key, self.token, lease)

    def _enter(self) -> bool:
        """Whether it is to be taken first."""
        if self._state == "ended":
            raise RedlaneError("a slot is for one use: ask for another one")
        return self._state == "new"

    def _taken(self, answer: tuple[list[int], str]) -> None:
        (done, held, retry), answered = answer
        self.allowed, self.in_flight = bool(done), held
        self.retry_after = 0.0 if done else max(retry, 1) / 1000
        if answered == "nobody":
            self.allowed = self._owner.on_error == "allow"
            self.in_flight = 0
            self.retry_after = 0.0 if self.allowed else RETRY
        self._state = "held" if self.allowed else "refused"

    def _refused(self) -> RateLimitExceeded:
        told = f"{TOO_MANY}: {self.limit} are in flight"
        refused: Any = self
        return RateLimitExceeded(refused, told)

    def _renewed(self, answer: tuple[list[int], str]) -> bool:
        return self._owner._done(answer, "extend")


class Slot(_Place):
    """A slot, or that there was none: true where it was given.

    ``allowed``, ``limit``, ``in_flight`` (how many were held then, this one too),
    ``remaining``, ``retry_after`` (seconds until a lease ends: there is a slot then, if
    not before) and ``token``, by which another process may release or extend it.
    """

    __module__ = "redlane"
    __slots__ = ("_pid",)

    def _take(self) -> Slot:
        handle = self._owner._handle
        self._pid = os.getpid()
        try:
            self._taken(handle.script(*self._script("a")))
        except RedlaneError:
            raise
        except BaseException:  # Ctrl-C: it may have been given
            with suppress(RedlaneError):
                handle.script(*self._script("r"))
            raise
        return self

    def extend(self, lease: float | str | timedelta | None = None) -> bool:
        """A new lease, from now on; False: it was not given, since this one has run
        out, or since the server that knows it is away.

        lease: seconds, a timedelta or a text such as "30s"; None: as the first.
        """
        milliseconds = None if lease is None else check_lease(lease)
        if self._state != "held":
            return False
        return self._renewed(
            self._owner._handle.script(*self._script("x", milliseconds))
        )

    def release(self) -> bool:
        """Gives it back; False where it was not held any more. Frees nobody else's."""
        if self._state != "held":
            return False
        answer = self._owner._handle.script(*self._script("r"))
        self._state = "ended"
        return self._owner._done(answer, "release")

    def _leave(self) -> None:
        if self._state == "held" and self._pid != os.getpid():
            return  # a fork's: it is the parent's
        try:
            self.release()
        except RedlaneError as error:
            tell(error)

    def __enter__(self) -> Slot:
        if self._enter():
            self._take()
        if not self.allowed:
            raise self._refused()
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()


class AsyncSlot(_Place):
    """A Slot whose methods are awaited."""

    __module__ = "redlane"
    __slots__ = ()

    async def _take(self) -> AsyncSlot:
        try:
            self._taken(await self._owner._handle.aio.script(*self._script("a")))
        except RedlaneError:
            raise
        except BaseException:  # cancelled: it may have been given
            self._free_behind()
            raise
        return self

    async def extend(self, lease: float | str | timedelta | None = None) -> bool:
        """As Slot.extend."""
        milliseconds = None if lease is None else check_lease(lease)
        if self._state != "held":
            return False
        return self._renewed(
            await self._owner._handle.aio.script(*self._script("x", milliseconds))
        )

    async def release(self) -> bool:
        """As Slot.release. One that is cancelled gives the slot back all the same."""
        if self._state != "held":
            return False
        try:
            answer = await self._owner._handle.aio.script(*self._script("r"))
        except RedlaneError:
            raise
        except BaseException:
            self._free_behind()
            raise
        self._state = "ended"
        return self._owner._done(answer, "release")

    def _free_behind(self) -> None:
        """Gives it back, held or not, when nobody waits for that."""
        from redlane._tasks import BEHIND, keep_task

        self._state = "ended"
        job = self._free()
        try:
            keep_task(job, 0, BEHIND)
        except RuntimeError:  # the loop is gone
            job.close()

    async def _free(self) -> None:
        try:
            await self._owner._handle.aio.script(*self._script("r"))
        except RedlaneError as error:
            tell(error)

    async def _leave(self) -> None:
        try:
            await self.release()
        except RedlaneError as error:
            tell(error)

    async def __aenter__(self) -> AsyncSlot:
        if self._enter():
            await self._take()
        if not self.allowed:
            raise self._refused()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._leave()


class _Held(_Limited):
    """What a decorator makes of a call that needs a slot."""

    def made(self, opened: Opened) -> Any:
        function, owner = opened.function, self._owner

        def called(*args: Any, **kwargs: Any) -> Any:
            asked = self.asked_in(opened, args, kwargs)
            if self.passes(asked) or (
                self.exempt_when is not None and self.exempt_when(asked, args, kwargs)
            ):
                return function(*args, **kwargs)
            given = [part(asked, args, kwargs) for part in self.parts]
            slot = owner.acquire(self.target(asked, given)[0])
            if not slot:
                raise self.refuse(asked, slot)
            with slot:
                return function(*args, **kwargs)

        return called

    def made_async(self, opened: Opened) -> Any:
        function, owner = opened.function, self._owner

        async def awaited(*args: Any, **kwargs: Any) -> Any:
            asked = self.asked_in(opened, args, kwargs)
            if self.passes(asked) or (
                self.exempt_when is not None
                and await _settle(self.exempt_when(asked, args, kwargs))
            ):
                return await function(*args, **kwargs)
            given = [await _settle(part(asked, args, kwargs)) for part in self.parts]
            name = self.target(asked, given)[0]
            if asked is not None and not asked.waits:
                slot = owner.acquire(name)
                if not slot:
                    raise self.refuse(asked, slot)
                with slot:
                    return await function(*args, **kwargs)
            slot = await owner.aio.acquire(name)
            if not slot:
                raise self.refuse(asked, slot)
            async with slot:
                return await function(*args, **kwargs)

        return awaited

    @property
    def _owner(self) -> Any:
        """The Concurrency, which stands in a limiter's place."""
        return self.limiter


class Concurrency:
    """Limits how much may be in flight at once, for each identity.

    client: a Client, a URL, or None for the default client.
    limit: how many slots an identity has, 1 to 100,000.
    lease: after which a slot is free though nobody gave it back: seconds, a timedelta
    or a text such as "30s", by the server's clock; 366 days at most.
    on_error: who counts while the server is away: "memory", this process alone; or
    "allow" or "deny", always.
    prefix: of its keys, {prefix}:{{identity}}; "slots" if None. Limiters with one
    prefix share the slots.
    hashed: identities stand in keys, and in logs, as their SHA-256.
    """

    __module__ = "redlane"

    def __init__(
        self,
        client: Client[Any] | AsyncClient[Any] | str | None = None,
        limit: int = 3,
        lease: float | str | timedelta = 30,
        on_error: OnError = "memory",
        *,
        prefix: str | None = None,
        hashed: bool = False,
    ) -> None:
        if on_error not in ("memory", "allow", "deny"):
            raise ConfigurationError(
                f"on_error must be 'memory', 'allow' or 'deny', not {on_error!r}"
            )
        self._limit = check_limit(limit)
        self._lease = check_lease(lease)
        self._prefix = check_prefix(prefix)
        self._hashed = bool(hashed)
        self._on_error: OnError = on_error
        self._handle = ToolHandle(client, "memory" if on_error == "memory" else "none")

    @property
    def limit(self) -> int:
        """How many slots an identity has."""
        return self._limit

    @property
    def lease(self) -> float:
        """Seconds."""
        return self._lease / 1000

    @property
    def prefix(self) -> str:
        """What its keys begin with."""
        return self._prefix

    @property
    def on_error(self) -> OnError:
        """Who counts while the server is away."""
        return self._on_error

    @property
    def aio(self) -> AsyncConcurrency:
        """The AsyncConcurrency of the same slots."""
        return AsyncConcurrency._of(self)

    def slot(self, identity: str | bytes | int) -> Slot:
        """A slot for ``with``, which takes it and gives it back.

        Entering raises RateLimitExceeded where there is none.
        """
        return Slot(self, self._key(identity))

    def acquire(self, identity: str | bytes | int) -> Slot:
        """Takes a slot, if there is one: the Slot is true then. It is to be released,
        also by ``with``."""
        return self.slot(identity)._take()

    def release(self, identity: str | bytes | int, token: str) -> bool:
        """As Slot.release, by the slot's token."""
        key = self._key(identity)
        return self._done(
            self._handle.script(*self._script("r", key, text_of(token))), "release"
        )

    def extend(
        self,
        identity: str | bytes | int,
        token: str,
        lease: float | str | timedelta | None = None,
    ) -> bool:
        """As Slot.extend, by the slot's token."""
        key = self._key(identity)
        milliseconds = None if lease is None else check_lease(lease)
        script = self._script("x", key, text_of(token), milliseconds)
        return self._done(self._handle.script(*script), "extend")

    def in_flight(self, identity: str | bytes | int) -> int:
        """How many slots are held now."""
        key = self._key(identity)
        return self._count(self._handle.script(*self._script("p", key, "")))

    def limited(
        self,
        key: Any = None,
        *,
        exempt_when: Callable[..., object] | None = None,
        scope: str | None = None,
        error_message: str | Callable[[Any], str] | None = None,
        trusted_hops: int | None = None,
    ) -> Callable[[F], F]:
        """Has each call of a function, or a coroutine function, hold a slot: a view of
        Flask, an endpoint of FastAPI or Starlette, or any other.

        The options are those of RateLimiter.limit; an ``error_message`` that is a
        callable is given the Slot.

        Raises RateLimitExceeded, from a call for which there is no slot; in a request
        that is answered with 429.
        """
        options = {
            "key": key,
            "cost": 1,
            "exempt_when": exempt_when,
            "deduct_when": None,
            "scope": scope,
            "methods": None,
            "error_message": TOO_MANY if error_message is None else error_message,
            "trusted_hops": _hops_of(trusted_hops),
        }
        owner: Any = self

        def decorate(function: Any) -> Any:
            return _wrap(function, owner, None, options, _Held)

        return decorate

    def __repr__(self) -> str:
        return (
            f"<redlane.Concurrency {self._limit} lease={self.lease:g}"
            f" prefix={self._prefix!r} on_error={self._on_error!r}>"
        )

    def _key(self, identity: str | bytes | int) -> bytes:
        return b"%b:{%b}" % (self._prefix.encode(), name_of(identity, self._hashed))

    def _script(
        self, mode: str, key: bytes, token: str, lease: int | None = None
    ) -> tuple[Any, ...]:
        milliseconds = self._lease if lease is None else lease
        return "slot", (key,), (mode, token, self._limit, milliseconds)

    def _done(self, answer: tuple[list[int], str], what: str) -> bool:
        (done, _, _), answered = answer
        if answered == "nobody":
            return what == "extend" and self._on_error == "allow"
        return bool(done)

    def _count(self, answer: tuple[list[int], str]) -> int:
        (_, held, _), _ = answer
        return held


def text_of(token: str) -> str:
    if not isinstance(token, str):
        raise TypeError(f"token must be a str, not {type(token).__name__}")
    if not token:
        raise ValueError("token must not be empty")
    return token


class AsyncConcurrency:
    """A Concurrency whose methods are awaited; also limiter.aio."""

    __module__ = "redlane"

    def __init__(
        self,
        client: Client[Any] | AsyncClient[Any] | str | None = None,
        limit: int = 3,
        lease: float | str | timedelta = 30,
        on_error: OnError = "memory",
        *,
        prefix: str | None = None,
        hashed: bool = False,
    ) -> None:
        self.sync = Concurrency(
            client, limit, lease, on_error, prefix=prefix, hashed=hashed
        )

    @classmethod
    def _of(cls, sync: Concurrency) -> AsyncConcurrency:
        self = cls.__new__(cls)
        self.sync = sync
        return self

    @property
    def limit(self) -> int:
        """How many slots an identity has."""
        return self.sync.limit

    @property
    def lease(self) -> float:
        """Seconds."""
        return self.sync.lease

    @property
    def prefix(self) -> str:
        """What its keys begin with."""
        return self.sync.prefix

    @property
    def on_error(self) -> OnError:
        """Who counts while the server is away."""
        return self.sync.on_error

    def slot(self, identity: str | bytes | int) -> AsyncSlot:
        """A slot for ``async with``, as Concurrency.slot."""
        return AsyncSlot(self.sync, self.sync._key(identity))

    async def acquire(self, identity: str | bytes | int) -> AsyncSlot:
        """As Concurrency.acquire. One that is cancelled keeps no slot."""
        return await self.slot(identity)._take()

    async def release(self, identity: str | bytes | int, token: str) -> bool:
        """As Concurrency.release."""
        sync = self.sync
        script = sync._script("r", sync._key(identity), text_of(token))
        return sync._done(await sync._handle.aio.script(*script), "release")

    async def extend(
        self,
        identity: str | bytes | int,
        token: str,
        lease: float | str | timedelta | None = None,
    ) -> bool:
        """As Concurrency.extend."""
        sync = self.sync
        milliseconds = None if lease is None else check_lease(lease)
        script = sync._script("x", sync._key(identity), text_of(token), milliseconds)
        return sync._done(await sync._handle.aio.script(*script), "extend")

    async def in_flight(self, identity: str | bytes | int) -> int:
        """As Concurrency.in_flight."""
        sync = self.sync
        script = sync._script("p", sync._key(identity), "")
        return sync._count(await sync._handle.aio.script(*script))

    def limited(
        self,
        key: Any = None,
        *,
        exempt_when: Callable[..., object] | None = None,
        scope: str | None = None,
        error_message: str | Callable[[Any], str] | None = None,
        trusted_hops: int | None = None,
    ) -> Callable[[F], F]:
        """As Concurrency.limited: for functions of both kinds."""
        return self.sync.limited(
            key,
            exempt_when=exempt_when,
            scope=scope,
            error_message=error_message,
            trusted_hops=trusted_hops,
        )

    def __repr__(self) -> str:
        return f"{self.sync!r}.aio"
