"""Who is online: Presence and AsyncPresence.

The server holds a plain set of user ids, as anybody reads it, and three keys beside it:
which connections there are and whose, how many each user has, and which processes there
are, with the end of their leases. They change in scripts, together. What a process
itself has it remembers, and tells anew after an outage; each answer of the server says
whether that is needed.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal

from redlane._core import AsyncClient, Client, RedlaneError, ToolHandle
from redlane._logging import get_logger
from redlane._steps import Steps, check, is_texts, run, run_async

if TYPE_CHECKING:
    from datetime import timedelta

__all__ = ["AsyncPresence", "Presence"]

BATCH = 200  # connections told in one call
POLL_SECONDS = 1.0  # how often a process asks whether the server is back
ROUNDS = 3  # of asking again after putting things right

# (user, the connection's name on the server)
Place = tuple[str, str]


def text_of(value: object, what: str) -> str:
    """An id as it stands in Redis: as for counters and cooldowns."""
    if isinstance(value, str):
        text = str(value)
    elif value is None or isinstance(
        value, (bool, float, bytes, bytearray, tuple, list, dict, set, frozenset)
    ):
        raise TypeError(f"{what} must be str or int, not {type(value).__name__}")
    else:
        text = str(value)
    text.encode()  # a lone surrogate is told here, before anything changes
    return text


def sibling(key: str, name: str) -> str:
    """A key beside the set, in the same slot of a cluster."""
    return f"{key}:{name}" if "{" in key else f"{{{key}}}:{name}"


def place_of(name: bytes) -> Place | None:
    """A connection by its name on the server; None for what is none."""
    size, _, rest = name.partition(b":")
    try:
        return rest[: int(size)].decode(), name.decode()
    except ValueError:
        return None


def held_by(reply: Any) -> Iterator[tuple[Place, bytes]]:
    """Of all connections, as HGETALL gives them: each, and whose it is."""
    check(is_texts(reply) and len(reply) % 2 == 0, "HGETALL")
    for name, owner in zip(reply[::2], reply[1::2], strict=True):
        place = place_of(name)
        if place is not None:
            yield place, owner


def is_reply(reply: object, lists: bool) -> bool:
    """Of a script: two numbers, and a number or a list of strings."""
    return (
        isinstance(reply, list)
        and len(reply) == 3
        and all(isinstance(number, int) for number in reply[: 2 if lists else 3])
        and (not lists or is_texts(reply[2]))
    )


def batches(places: Iterable[Place]) -> Iterator[list[str]]:
    """Their arguments to a script, so many at a time."""
    batch: list[str] = []
    for user, place in places:
        batch += (user, place)
        if len(batch) == 2 * BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


class Registry:
    """The connections of this process, by user."""

    def __init__(self) -> None:
        self.owner = os.urandom(9).hex()
        self.lock = threading.RLock()  # a finaliser, or a signal's, may come here too
        self.users: dict[str, dict[str, str]] = {}
        self.unnamed: dict[str, list[str]] = {}
        self.count = 0

    def add(self, user: str, connection: str | None) -> Place:
        with self.lock:
            if connection is None:
                self.count += 1
                name = f"#{self.count}"
                self.unnamed.setdefault(user, []).append(name)
            else:
                name = f"={connection}"
            place = f"{len(user.encode())}:{user}:{self.owner}:{name}"
            mine = self.users.setdefault(user, {})
            mine[name] = place
            self.users[user] = mine
            return user, place

    def take(self, user: str, connection: str | None) -> tuple[Place, bool] | None:
        """The place that is left, and whether it was the last of all; or None."""
        with self.lock:
            if connection is None:
                unnamed = self.unnamed.get(user)
                if not unnamed:
                    return None
                name = unnamed.pop()
                if not unnamed:
                    self.unnamed.pop(user, None)
            else:
                name = f"={connection}"
            mine = self.users.get(user, {})
            place = mine.pop(name, None)
            if place is None:
                return None
            if not mine:
                self.users.pop(user, None)
            return (user, place), not self.users

    def take_all(self) -> list[Place]:
        with self.lock:
            places = self._places()
            self.users.clear()
            self.unnamed.clear()
            return places

    def _places(self) -> list[Place]:
        return [
            (user, place)
            for user, mine in self.users.copy().items()
            for place in mine.copy().values()
        ]

    def places(self) -> list[Place]:
        with self.lock:
            return self._places()


class Presence:
    """Users who are online, by their connections to any process.

    key: of the plain set of user ids, which has no TTL.
    lease: how long the users of a process that crashed stay: seconds, a timedelta or a
    text such as "30s", by the server's clock. The process renews it from a thread.
    None: for ever.
    fallback: "memory" (while the server is away a process sees its own users), "none"
    or "raise".

    Make one for a process. A connection leaves where it joined.
    """

    __module__ = "redlane"

    def __init__(
        self,
        client: Client[Any] | AsyncClient[Any] | str | None = None,
        key: str = "ws:active_users",
        lease: float | str | timedelta | None = None,
        *,
        fallback: Literal["memory", "none", "raise"] = "memory",
    ) -> None:
        if not isinstance(key, str):
            raise TypeError(f"key must be a str, not {type(key).__name__}")
        self._key = key
        self._lease = 0 if lease is None else ToolHandle.milliseconds(lease, "lease")
        self._handle = ToolHandle(client, fallback)
        self._client = client if isinstance(client, (Client, AsyncClient)) else None
        self._keys = [
            key,
            *(sibling(key, n) for n in ("connections", "counts", "servers")),
        ]
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._registry = Registry()
        self._told: str | None = "server"  # who knows of all in the registry
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._pace = 0.0  # how long it sleeps
        self._closed = False

    @property
    def key(self) -> str:
        """The key of the set of users."""
        return self._key

    @property
    def lease(self) -> float | None:
        """Seconds, or None."""
        return self._lease / 1000 if self._lease else None

    @property
    def aio(self) -> AsyncPresence:
        """The same presence with methods that are awaited."""
        return AsyncPresence._of(self)

    def join(self, id: object, connection: object = None) -> bool:
        """A connection of a user begins; True where the user was not online before.

        connection: str or int that names it in this process; the same one twice is one.
        None: one that has no name, and is ended by a leave() without one.
        """
        return run(self._join(id, connection), self._handle)

    def leave(self, id: object, connection: object = None) -> bool:
        """A connection of a user ends; True where the user is not online any more.

        What did not join in this process changes nothing.
        """
        return run(self._leave(id, connection), self._handle)

    def online(self, id: object) -> bool:
        """Whether a user is online in any process."""
        return run(self._online(id), self._handle)

    def members(self) -> set[str]:
        """The ids of all users who are online."""
        return run(self._members(), self._handle)

    def count(self) -> int:
        """How many users are online."""
        return run(self._count(), self._handle)

    def close(self) -> None:
        """All connections of this process leave, and the lease is renewed no more."""
        self._end()
        run(self._leave_all(), self._handle)

    def __enter__(self) -> Presence:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<redlane.Presence {self.key!r} lease={self.lease!r}>"

    # What the methods do, for threads and loops.

    def _join(self, id: object, connection: object) -> Steps[bool]:
        self._check()
        user = text_of(id, "a user's id")
        name = None if connection is None else text_of(connection, "connection")
        if self._closed:
            raise RedlaneError("the presence is closed")
        registry = self._registry
        place = registry.add(user, name)
        try:
            reply, _ = yield from self._ask(
                "presence_join", registry.owner, self._lease, *place
            )
        except BaseException:
            registry.take(user, name)  # who called does not think that it joined
            raise
        finally:
            self._watch()
        return bool(reply[2])

    def _leave(self, id: object, connection: object) -> Steps[bool]:
        self._check()
        user = text_of(id, "a user's id")
        name = None if connection is None else text_of(connection, "connection")
        taken = self._registry.take(user, name)
        if taken is None:
            return False
        place, last = taken
        owner = self._registry.owner
        try:
            reply, _ = yield from self._ask(
                "presence_leave", owner, owner, int(last), *place
            )
        finally:
            self._watch()
        return bool(reply[2])

    def _online(self, id: object) -> Steps[bool]:
        found = yield from self._read("online", text_of(id, "a user's id"))
        return bool(found)

    def _members(self) -> Steps[set[str]]:
        found = yield from self._read("members")
        return {user.decode(errors="surrogateescape") for user in found}

    def _count(self) -> Steps[int]:
        found: int = yield from self._read("count")
        return found

    def _read(self, what: str, user: str = "") -> Steps[Any]:
        self._check()
        reply: list[Any] = []
        for _ in range(ROUNDS):
            reply, settled = yield from self._ask(
                "presence_read", self._registry.owner, what, user
            )
            if reply[1]:
                yield from self._purge()
            elif settled:
                break
        self._watch()
        return reply[2]

    def _leave_all(self) -> Steps[None]:
        owner = self._registry.owner
        for batch in batches(self._registry.take_all()):
            yield from self._call("presence_leave", owner, owner, 1, *batch)

    def _call(self, script: str, *args: object) -> Steps[tuple[list[Any], str]]:
        lists = script == "presence_read" and args[1] in ("members", "dead")
        try:
            reply, answered = yield ("script", script, self._keys, args)
            check(is_reply(reply, lists), script)
        except BaseException:
            self._told = None  # it may have been done, or not
            raise
        return reply, answered

    def _ask(self, script: str, *args: object) -> Steps[tuple[list[Any], bool]]:
        """The reply, and whether it was given by who knows all of this process."""
        reply, answered = yield from self._call(script, *args)
        registry = self._registry
        if answered == "nobody":
            self._told = None
        elif self._told != answered or (not reply[0] and registry.users):
            begins = self._told == answered == "server" and script == "presence_join"
            if not (begins and len(registry.places()) == 1):
                yield from self._tell(answered)
                return reply, False
        return reply, True

    def _tell(self, answered: str) -> Steps[None]:
        """Makes the server, or the engine in its place, know what is in the registry:
        all of that, and nothing else of this process."""
        registry = self._registry
        owner = registry.owner
        self._told = None
        places = registry.places()
        for batch in [*batches(places)] or [[]]:
            _, who = yield from self._call("presence_join", owner, self._lease, *batch)
            if who != answered:
                return  # it went or came meanwhile: the next call sees to it
        held, who = yield ("run", "HGETALL", self._keys[1])
        if who != answered:
            return
        mine = [place for place, holder in held_by(held) if holder == owner.encode()]
        yield from self._settle({*mine, *places}, answered)

    def _settle(self, places: set[Place], answered: str) -> Steps[None]:
        """Ends what is not in the registry; what joined meanwhile is told again."""
        registry = self._registry
        owner = registry.owner
        gone = places - set(registry.places())
        for batch in batches(gone):
            _, who = yield from self._call("presence_leave", owner, owner, 0, *batch)
            if who != answered:
                return
        for batch in batches(gone & set(registry.places())):
            _, who = yield from self._call("presence_join", owner, self._lease, *batch)
            if who != answered:
                return
        if not registry.users:
            yield from self._call("presence_leave", owner, owner, 1)
        self._told = answered

    def _purge(self) -> Steps[None]:
        """Ends the connections of processes whose lease has ended."""
        owner = self._registry.owner
        reply, _ = yield from self._call("presence_read", owner, "dead", "")
        dead = set(reply[2])
        if owner.encode() in dead:  # this process stood still for so long
            dead.discard(owner.encode())
            yield from self._ask("presence_join", owner, self._lease)
        held, _ = yield ("run", "HGETALL", self._keys[1])
        theirs: dict[bytes, list[Place]] = {name: [] for name in dead}
        for place, holder in held_by(held):
            if holder in dead:
                theirs[holder].append(place)
        for name, places in theirs.items():
            for batch in batches(places):
                yield from self._call("presence_leave", owner, name, 0, *batch)
            yield from self._call("presence_leave", owner, name, 1)

    def _renew(self) -> Steps[None]:
        owner = self._registry.owner
        if not self._registry.users and self._told == "server":
            return
        reply, _ = yield from self._ask("presence_join", owner, self._lease)
        if reply[1]:
            yield from self._purge()
        if not self._registry.users:
            yield from self._call("presence_leave", owner, owner, 1)

    # The thread: while there is a lease to renew, or something to tell.

    def _check(self) -> None:
        if self._pid != os.getpid():  # the connections are the parent's
            self._begin()

    def _needs_thread(self) -> bool:
        if self._closed or (self._client is not None and self._client.closed):
            return False
        return self._told != "server" or bool(self._lease and self._registry.users)

    def _watch(self) -> None:
        if not self._needs_thread():
            return
        wake = self._wake
        with self._registry.lock:  # as keep() takes it to end
            if self._thread is None:
                self._thread = threading.Thread(
                    target=keep,
                    args=(weakref.ref(self, lambda _: wake.set()), wake),
                    name="redlane-presence",
                    daemon=True,
                )
                self._thread.start()
        if self._wait() < self._pace:  # it does not know yet that the server is away
            wake.set()

    def _wait(self) -> float:
        pace = self._lease / 3000 if self._lease else POLL_SECONDS
        return pace if self._told == "server" else min(pace, POLL_SECONDS)

    def _end(self) -> None:
        self._check()
        self._closed = True
        self._wake.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(5)


def keep(presence: weakref.ref[Presence], wake: threading.Event) -> None:
    """Renews a lease, and tells a server that is back, until there is neither."""
    while True:
        self = presence()
        if self is None:
            return
        with self._registry.lock:
            if not self._needs_thread():
                self._thread = None
                return
        self._pace = seconds = self._wait()
        del self
        if wake.wait(seconds):
            wake.clear()
            continue
        self = presence()
        if self is None:
            return
        try:
            run(self._renew(), self._handle)
        except RedlaneError as error:  # the server is away, or the client is closed
            get_logger().debug(
                "presence: %s", error, extra={"event": "redlane.presence.failed"}
            )
        except Exception:  # noqa: BLE001 - a thread of ours must not end an application
            get_logger().exception(
                "presence", extra={"event": "redlane.presence.failed"}
            )
        del self


class AsyncPresence:
    """A Presence whose methods are awaited; also presence.aio.

    The lease is renewed from a thread all the same, so that a loop that is busy keeps
    its users.
    """

    __module__ = "redlane"

    def __init__(
        self,
        client: Client[Any] | AsyncClient[Any] | str | None = None,
        key: str = "ws:active_users",
        lease: float | str | timedelta | None = None,
        *,
        fallback: Literal["memory", "none", "raise"] = "memory",
    ) -> None:
        self.sync = Presence(client, key, lease, fallback=fallback)

    @classmethod
    def _of(cls, presence: Presence) -> AsyncPresence:
        self = cls.__new__(cls)
        self.sync = presence
        return self

    @property
    def key(self) -> str:
        """The key of the set of users."""
        return self.sync.key

    @property
    def lease(self) -> float | None:
        """Seconds, or None."""
        return self.sync.lease

    async def join(self, id: object, connection: object = None) -> bool:
        """As Presence.join."""
        sync = self.sync
        return await run_async(sync._join(id, connection), sync._handle.aio)

    async def leave(self, id: object, connection: object = None) -> bool:
        """As Presence.leave."""
        sync = self.sync
        return await run_async(sync._leave(id, connection), sync._handle.aio)

    async def online(self, id: object) -> bool:
        """As Presence.online."""
        return await run_async(self.sync._online(id), self.sync._handle.aio)

    async def members(self) -> set[str]:
        """As Presence.members."""
        return await run_async(self.sync._members(), self.sync._handle.aio)

    async def count(self) -> int:
        """As Presence.count."""
        return await run_async(self.sync._count(), self.sync._handle.aio)

    async def close(self) -> None:
        """As Presence.close."""
        import asyncio

        await asyncio.to_thread(self.sync._end)
        await run_async(self.sync._leave_all(), self.sync._handle.aio)

    async def __aenter__(self) -> AsyncPresence:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"{self.sync!r}.aio"
