"""A limited function's call as part of a request to Flask."""

from __future__ import annotations

import sys
from typing import Any

from flask import (
    Response,
    after_this_request,
    current_app,
    has_request_context,
    request,
)
from werkzeug.exceptions import TooManyRequests

from redlane._http.address import client_address
from redlane._http.asked import HOPS, hops_of, reason_of
from redlane._http.limits import body_of, fields_of
from redlane._limit import RateLimitExceeded

__all__ = ["Asked", "Refused", "closed", "find", "socket_of"]

POLICY_VIOLATION = 1008  # a WebSocket's code for it


class Refused(RateLimitExceeded, TooManyRequests):  # type: ignore[misc] # retry_after
    """Over the limit in a request: Flask answers 429 with JSON."""

    def __init__(self, decision: Any, message: str | None) -> None:
        RateLimitExceeded.__init__(self, decision, message)
        self.told = message
        self.description = str(self.args[0])
        self.response = None

    def get_response(self, *given: Any, **more: Any) -> Any:
        """As werkzeug asks for it, whatever the version's arguments."""
        told, message = self.decision, self.told
        body = body_of(told) if message is None else body_of(told, message)
        made = Response(body, self.code, mimetype="application/json")
        made.headers.extend(fields_of(told))
        return made


def closed(decision: Any, message: str | None, socket: Any) -> RateLimitExceeded:
    """A WebSocket of flask-sock was accepted before its function could be called. That
    ends now as if the client had gone: flask-sock expects such an error."""
    gone: Any = sys.modules["simple_websocket"].ConnectionClosed
    kind: Any = type("Closed", (RateLimitExceeded, gone), {})
    if socket.connected:
        socket.close(POLICY_VIOLATION, reason_of(message))
    error: RateLimitExceeded = kind(decision, message)
    return error


class Asked:
    """A call in the course of a request."""

    waits = False  # the event loop of a coroutine is this request's alone

    __slots__ = ("socket",)

    def __init__(self, socket: Any) -> None:
        self.socket = socket

    @property
    def request(self) -> Any:
        return request

    @property
    def method(self) -> str | None:
        return request.method

    @property
    def endpoint(self) -> str:
        return request.endpoint or ""

    @property
    def counts(self) -> bool:
        return _setting("limits_enabled", True)

    def address(self, hops: int | None) -> str:
        environ = request.environ
        peer = environ.get("REMOTE_ADDR")
        forwarded = environ.get("HTTP_X_FORWARDED_FOR")
        if not forwarded:
            return client_address(peer)
        if hops is None:
            hops = current_app.config.get(HOPS)
        return client_address(peer, forwarded, hops_of(hops))

    def tell(self, decision: Any, result: Any) -> None:
        if self.socket is not None or not _setting("limit_headers", True):
            return

        def add(response: Response) -> Response:
            if response.status_code != 429:  # another limit has refused
                for name, value in fields_of(decision):
                    response.headers[name] = value
            return response

        add._redlane_limit = True  # type: ignore[attr-defined]
        after_this_request(add)

    def refusal(self, decision: Any, message: str | None) -> RateLimitExceeded:
        if self.socket is not None:
            return closed(decision, message, self.socket)
        return Refused(decision, message)


def _setting(name: str, default: bool) -> bool:
    """What the application's Redlane says, if it has one."""
    lane = current_app.extensions.get("redlane")
    return default if lane is None else bool(getattr(lane.settings, name))


def socket_of(args: tuple[Any, ...]) -> Any | None:
    """The WebSocket of flask-sock that a function is called for."""
    sockets = sys.modules.get("simple_websocket")
    if not args or sockets is None:
        return None
    return next((one for one in args if isinstance(one, sockets.Server)), None)


def find(args: tuple[Any, ...]) -> Asked | None:
    return Asked(socket_of(args)) if has_request_context() else None
