"""Requests of WSGI, and answers ahead of the application's routing."""

from __future__ import annotations

from _thread import get_ident
from collections.abc import Callable, Iterable
from time import time
from typing import Any

from redlane._http.share import Key, Shared, Unshared, word
from redlane._http.stored import Stored, answer

__all__ = ["BOX", "Ahead", "Box", "WsgiRequest", "environ_names", "place_of"]

Environ = dict[str, Any]
Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

# Where a box stands in the environ: the request is one that fills it.
BOX = "redlane.box"
_MOST_PLACES = 4096
_SERVER_USERS = (
    *("REMOTE_USER", "SSL_CLIENT_S_DN", "SSL_CLIENT_CERT", "SSL_CLIENT_M_SERIAL"),
    *("HTTPS_DN", "HTTPS_CC"),  # as uWSGI calls them
)

_REASONS = {
    200: "200 OK",
    203: "203 Non-Authoritative Information",
    204: "204 No Content",
    300: "300 Multiple Choices",
    301: "301 Moved Permanently",
    304: "304 Not Modified",
    308: "308 Permanent Redirect",
}


def environ_name(name: str) -> str:
    return "HTTP_" + name.upper().replace("-", "_")


def environ_names(special: Iterable[str]) -> frozenset[str]:
    """The environ's names of fields, and what a server tells of who asks."""
    return frozenset({*map(environ_name, special), *_SERVER_USERS})


def host_of(environ: Environ) -> str:
    host: str | None = environ.get("HTTP_HOST")
    if host is None:
        host = f"{environ.get('SERVER_NAME', '')}:{environ.get('SERVER_PORT', '')}"
    return host


def place_of(environ: Environ) -> tuple[str, str]:
    """Host and path."""
    return host_of(environ), environ.get("SCRIPT_NAME", "") + environ.get(
        "PATH_INFO", ""
    )


class WsgiRequest:
    """A request as policies read it."""

    __slots__ = (
        *("body", "environ", "host", "known", "method", "path", "query", "scheme"),
    )

    def __init__(self, environ: Environ, known: bool = False) -> None:
        self.environ = environ
        self.known = known
        self.method: str = environ["REQUEST_METHOD"]
        self.scheme: str = environ["wsgi.url_scheme"]
        self.host, self.path = place_of(environ)
        self.query: str = environ.get("QUERY_STRING", "")
        self.body = environ.get("CONTENT_LENGTH") not in (None, "", "0") or (
            "HTTP_TRANSFER_ENCODING" in environ
        )

    def header(self, name: str) -> str | None:
        value: str | None = self.environ.get(environ_name(name))
        if name == "remote-user":  # who it is by the server itself
            told = [self.environ.get(user) or "" for user in _SERVER_USERS]
            if any(told):  # whatever the client says
                value = "\n".join((*told, value or ""))
        return value


class Box:
    """What a request that runs through the whole application stores for others."""

    __slots__ = ("answered", "final", "key", "stored")

    def __init__(self, key: Key | None) -> None:
        self.key = key  # where it is wanted
        self.answered = False
        self.final = False  # what is answered now ends what was stored before
        self.stored: Stored | None = None

    def put(self, key: Key, stored: Stored | None, final: bool = False) -> None:
        self.answered = True
        # The application may see another host or scheme than stands in front of it.
        if self.key is None or self.key == key:
            self.stored = stored
            self.final = final


class _Ahead:
    """The job of a request that is answered ahead: the application, if need be."""

    __slots__ = (
        *("again", "environ", "error", "inner", "key", "ran", "shared", "start"),
        "thread",
    )

    def __init__(
        self, shared: Shared, key: Key, environ: Environ, inner: Application, start: Any
    ) -> None:
        self.shared, self.key, self.environ = shared, key, environ
        self.inner, self.start = inner, start
        self.thread = get_ident()
        self.ran = False
        self.again: Iterable[bytes] | None = None
        self.error: Exception | None = None

    def __call__(self) -> Stored:
        if get_ident() != self.thread:
            return refill(self.inner, self.environ, self.key, self.shared)
        if self.shared.passing(self.key):
            raise Unshared
        self.ran = True
        box = self.environ[BOX] = Box(self.key)
        try:
            self.again = self.inner(self.environ, self.start)
        except Exception as error:  # noqa: BLE001 - raised again by its own request
            self.error = error
        if box.stored is None:
            self.shared.pass_on(self.key)
            raise Unshared
        return box.stored


class _Nothing:
    """An empty request body."""

    def read(self, size: int = -1) -> bytes:
        return b""

    def readline(self, size: int = -1) -> bytes:
        return b""

    def readlines(self, hint: int = -1) -> list[bytes]:
        return []

    def __iter__(self) -> Any:
        return iter(())


_ONE_REQUEST = ("werkzeug.", "flask.", "redlane.", "gunicorn.socket", "wsgi.input")


def refill(inner: Application, environ: Environ, key: Key, shared: Shared) -> Stored:
    """What the application answers to this request now, as one of its own.

    Raises:
        Unshared: it may not be shared.
    """
    fresh = {
        name: value
        for name, value in environ.items()
        if not name.startswith(_ONE_REQUEST) and name not in _CONDITIONS
    }
    fresh["REQUEST_METHOD"] = "GET"
    fresh["wsgi.input"] = _Nothing()
    box = fresh[BOX] = Box(key)
    body = inner(fresh, _start)
    try:
        # A middleware may call the application when its body is first asked for. No
        # more than that is: what is not stored may be a stream without an end.
        if not box.answered:
            next(iter(body), None)
    finally:
        close = getattr(body, "close", None)
        if close is not None:
            close()
    if box.stored is None:
        if box.final:
            shared.forget(key)
        raise Unshared
    return box.stored


_CONDITIONS = (
    "HTTP_IF_NONE_MATCH",
    "HTTP_IF_MODIFIED_SINCE",
    "HTTP_CACHE_CONTROL",
    "HTTP_PRAGMA",
)


def _start(
    status: str, fields: object, error: object = None
) -> Callable[[bytes], None]:
    def write(data: bytes) -> None:
        """Nobody is there to read it."""

    return write


class Ahead:
    """A WSGI application that answers from the cache, for routes that have asked for
    it, before the one that it wraps sees the request."""

    def __init__(self, inner: Application) -> None:
        self.inner = inner
        # The route of a place is known once it has stored a response there.
        self.places: dict[tuple[str, str], tuple[Shared, frozenset[str]]] = {}

    def learn(
        self, place: tuple[str, str], shared: Shared, special: frozenset[str]
    ) -> None:
        if len(self.places) >= _MOST_PLACES and place not in self.places:
            self.places.clear()
        self.places[place] = (shared, special)

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        places = self.places
        if places:
            found = places.get(
                (
                    environ.get("HTTP_HOST") or host_of(environ),
                    environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", ""),
                )
            )
            if found is not None and environ["REQUEST_METHOD"] in ("GET", "HEAD"):
                return self._serve(found[0], found[1], environ, start_response)
        return self.inner(environ, start_response)

    def _serve(
        self, shared: Shared, special: frozenset[str], environ: Environ, start: Any
    ) -> Iterable[bytes]:
        rest = shared.policy.plain(environ.get("QUERY_STRING", ""))
        if (
            rest is not None
            and environ["REQUEST_METHOD"] == "GET"
            and environ.keys().isdisjoint(special)
            and environ.get("CONTENT_LENGTH") in (None, "", "0")
        ):
            host, path = place_of(environ)
            key = (environ["wsgi.url_scheme"], host, path, rest)
            stored = shared.peek(key)
            if stored is None:
                job = _Ahead(shared, key, environ, self.inner, start)
                try:
                    stored = shared.fetch(*key, job)
                except Unshared:
                    return self._own(job)
                if job.ran:
                    return self._own(job)
            now = time()
            if stored.plain and now < stored.end:
                start(_REASONS[stored.status], stored.hit_fields(now))
                return [stored.body]
        return self._serve_planned(shared, environ, start)

    def _serve_planned(
        self, shared: Shared, environ: Environ, start: Any
    ) -> Iterable[bytes]:
        request = WsgiRequest(environ)
        plan = shared.policy.plan(request)
        if plan.bypass or plan.only or request.method == "HEAD":
            return self.inner(environ, start)
        key = shared.key_of(request, plan)
        job = _Ahead(shared, key, environ, self.inner, start)
        stored = shared.find(request, plan, key, job)
        if job.ran or stored is None:
            return self._own(job)
        status, fields, body = answer(stored, request, word(stored, False))
        start(_REASONS[status], fields)
        return [body]

    def _own(self, job: _Ahead) -> Iterable[bytes]:
        """What the application has answered to this request itself, or does now."""
        if job.error is not None:
            raise job.error
        if job.again is not None:
            return job.again
        job.environ[BOX] = Box(None)
        return self.inner(job.environ, job.start)
