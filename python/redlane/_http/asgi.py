"""Requests of ASGI, and answers ahead of the application's routing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from time import time
from typing import Any

from redlane._core import _look
from redlane._http.known import known_to_asgi
from redlane._http.share import Key, Shared, Unshared, word
from redlane._http.stored import Fields, Raw, Stored, answer
from redlane._http.wsgi import Box

__all__ = [
    "AHEAD",
    "BOX",
    "Ahead",
    "AsgiRequest",
    "Box",
    "Places",
    "raw_fields",
    "refill",
    "special_names",
]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# Where a box, and what learns places, stand in the scope.
BOX = "redlane.box"
AHEAD = "redlane.ahead"
_MOST_PLACES = 4096
_NOTHING: frozenset[bytes] = frozenset()
# What a request through the whole application begins with (ASGI's HTTP scope).
_SCOPE = (
    *("type", "asgi", "http_version", "method", "scheme", "path", "raw_path"),
    *(
        "query_string",
        "root_path",
        "headers",
        "client",
        "server",
        "extensions",
        "state",
    ),
)
_CONDITIONS = (b"if-none-match", b"if-modified-since", b"cache-control", b"pragma")


def special_names(special: frozenset[str]) -> frozenset[bytes]:
    """The names of fields as ASGI has them, and those that announce a body."""
    return frozenset({*(name.encode() for name in special), b"content-length"})


def _path(scope: Scope) -> str:
    path: str = scope["path"]
    root: str = (scope.get("root_path") or "").rstrip("/")
    if root and path != root and not path.startswith(f"{root}/"):
        path = root + path
    if path.isascii():
        return path
    return path.encode("utf-8", "surrogateescape").decode("latin-1")


def _server(scope: Scope) -> str:
    server = scope.get("server")
    return "" if not server else f"{server[0]}:{server[1]}"


class AsgiRequest:
    """A request as policies read it."""

    __slots__ = ("body", "fields", "host", "known", "method", "path", "query", "scheme")

    def __init__(self, scope: Scope) -> None:
        self.known = known_to_asgi(scope)
        fields: dict[str, str] = {}
        for raw, content in scope["headers"]:
            name = raw.decode("latin-1").lower()
            value = content.decode("latin-1")
            if name in fields:  # cookies may come in several lines over HTTP/2
                value = fields[name] + ("; " if name == "cookie" else ", ") + value
            fields[name] = value
        self.fields = fields
        self.method: str = scope["method"]
        self.scheme: str = scope.get("scheme", "http")
        host = fields.get("host")
        self.host: str = _server(scope) if host is None else host
        self.path = _path(scope)
        self.query: str = scope["query_string"].decode("latin-1")
        self.body = fields.get("content-length", "0") != "0" or (
            "transfer-encoding" in fields
        )

    @property
    def place(self) -> tuple[str, str]:
        return self.host, self.path

    def header(self, name: str) -> str | None:
        return self.fields.get(name)


def raw_fields(fields: Fields) -> Raw:
    return [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in fields
    ]


def hit_fields(stored: Stored, now: float) -> Raw:
    """The fields of a plain hit; the caller's own list."""
    age = max(int(now - stored.created), 0)
    told = stored.told_raw
    if told is None or told[0] != age:
        told = stored.told_raw = (age, raw_fields(stored.hit_fields(now)))
    return told[1].copy()


async def refill(app: App, scope: Scope, key: Key, shared: Shared) -> Stored:
    """What the application answers to this request now, as one of its own.

    Raises:
        Unshared: it may not be shared.
    """
    fresh = {name: scope[name] for name in _SCOPE if name in scope}
    fresh["method"] = "GET"
    fresh["headers"] = [
        pair for pair in scope["headers"] if pair[0].lower() not in _CONDITIONS
    ]
    if "state" in fresh:
        fresh["state"] = dict(fresh["state"])
    # Below a mount the root path is longer than that of the application around it.
    roots = dict.fromkeys((scope.get("root_path", ""), scope.get("app_root_path")))
    for root in roots:
        if root is None:
            continue
        box = Box(key)
        nobody = _Nobody(box)
        try:
            await app(
                {**fresh, "root_path": root, BOX: box}, nobody.receive, nobody.send
            )
        except Exception:
            if not nobody.left:
                raise
        if box.stored is not None:
            return box.stored
        if box.final:
            await shared.forget_async(key)
            break
    raise Unshared


class _Nobody:
    """The client of a request that is made for the cache's sake. It leaves when the
    response has come, or is found to be a stream, which may have no end."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self.asked = self.left = False
        self.done = asyncio.Event()

    async def receive(self) -> Message:
        if not self.asked:
            self.asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        # Never twice at once: who listens for the client's leaving asks again and
        # again, and would leave no turn to anybody else.
        await self.done.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] != "http.response.body":
            return
        more = message.get("more_body", False)
        if self.left and more:
            raise OSError("the client has left")
        if not more or self.box.stored is None:
            self.left = more
            self.done.set()
        await asyncio.sleep(0)


class _Job:
    """The job of a request that is answered ahead: the application, if need be."""

    __slots__ = (
        *("error", "inner", "key", "ran", "receive", "scope", "send", "shared"),
        "task",
    )

    def __init__(
        self,
        shared: Shared,
        key: Key,
        inner: App,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        self.shared, self.key, self.inner = shared, key, inner
        self.scope, self.receive, self.send = scope, receive, send
        self.task = asyncio.current_task()
        self.ran = False
        self.error: Exception | None = None

    async def __call__(self) -> Stored:
        if asyncio.current_task() is not self.task:
            return await refill(self.inner, self.scope, self.key, self.shared)
        if self.shared.passing(self.key):
            raise Unshared
        self.ran = True
        box = Box(self.key)
        try:
            await self.inner({**self.scope, BOX: box}, self.receive, self.send)
        except Exception as error:  # noqa: BLE001 - raised again by its own request
            self.error = error
        if box.stored is None:
            self.shared.pass_on(self.key)
            raise Unshared
        return box.stored

    async def own(self) -> None:
        """What the application answers to this request itself, if it has not yet."""
        if self.error is not None:
            raise self.error
        if not self.ran:
            scope = {**self.scope, BOX: Box(None)}
            await self.inner(scope, self.receive, self.send)


class Places:
    """Which route is at which place: known once it has stored a response there."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], tuple[Shared, frozenset[bytes]]] = {}

    def learn(
        self, place: tuple[str, str], shared: Shared, special: frozenset[bytes]
    ) -> None:
        if len(self.known) >= _MOST_PLACES and place not in self.known:
            self.known.clear()
        self.known[place] = (shared, special)


class Ahead:
    """Pure ASGI middleware: answers from the cache, for routes that have asked for it
    (``ahead=True``), before the application sees the request.

    ``app.add_middleware(Ahead)``
    """

    def __init__(self, app: App) -> None:
        self.app = app
        self.places = Places()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope[AHEAD] = self.places
        known = self.places.known
        if known and scope["method"] in ("GET", "HEAD"):
            seen = _look(scope, _NOTHING)
            # No host, or two: to be read with care.
            place = AsgiRequest(scope).place if seen is None else (seen[1], seen[2])
            found = known.get(place)
            if found is not None:
                await self._serve(found[0], found[1], scope, receive, send)
                return
        await self.app(scope, receive, send)

    async def _serve(
        self,
        shared: Shared,
        special: frozenset[bytes],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        seen = None
        if scope["method"] == "GET" and not known_to_asgi(scope):
            seen = _look(scope, special)
        rest = None if seen is None else shared.policy.plain(seen[3])
        if seen is None or rest is None:
            await self._serve_planned(shared, scope, receive, send)
            return
        key = (seen[0], seen[1], seen[2], rest)
        stored = shared.peek_async(key)
        if stored is None:
            job = _Job(shared, key, self.app, scope, receive, send)
            try:
                stored = await shared.fetch_async(*key, job)
            except Unshared:
                await job.own()
                return
            if job.ran:
                await job.own()
                return
        now = time()
        if not stored.plain or now >= stored.end:
            await self._serve_planned(shared, scope, receive, send)
            return
        start = {
            "type": "http.response.start",
            "status": stored.status,
            "headers": hit_fields(stored, now),
        }
        await send(start)
        await send({"type": "http.response.body", "body": stored.body})

    async def _serve_planned(
        self, shared: Shared, scope: Scope, receive: Receive, send: Send
    ) -> None:
        request = AsgiRequest(scope)
        plan = shared.policy.plan(request)
        if plan.bypass or plan.only or request.method == "HEAD":
            await self.app(scope, receive, send)
            return
        key = shared.key_of(request, plan)
        job = _Job(shared, key, self.app, scope, receive, send)
        stored = await shared.find_async(request, plan, key, job)
        if job.ran or stored is None:
            await job.own()
            return
        status, fields, body = answer(stored, request, word(stored, False))
        await _give(send, status, raw_fields(fields), body)


async def _give(send: Send, status: int, raw: Raw, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body, "more_body": False})
