"""A limited function's call as part of a request to Flask."""

from __future__ import annotations

import sys
from typing import Any

from flask import Response, after_this_request, request
from flask.globals import request_ctx
from werkzeug.exceptions import TooManyRequests

from redlane._core import RedlaneError
from redlane._http.address import client_address
from redlane._http.asked import HOPS, hops_of, reason_of
from redlane._http.limits import add_fields, body_of
from redlane._limit import RateLimitExceeded

__all__ = ["Asked", "Refused", "closed", "find", "socket_of"]

POLICY_VIOLATION = 1008  # a WebSocket's code for it


class _Answer(TooManyRequests, RedlaneError):
    """Puts RedlaneError last: Flask looks for a handler in the order of the bases, and
    an application's handler of outages is not for who is over a limit."""


class Refused(RateLimitExceeded, _Answer):  # type: ignore[misc] # retry_after
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
        add_fields(made.headers, told)
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

    __slots__ = ("context", "socket")

    def __init__(self, context: Any, socket: Any) -> None:
        self.context = context
        self.socket = socket

    @property
    def request(self) -> Any:
        return request

    @property
    def method(self) -> str | None:
        method: str = self.context.request.method
        return method

    @property
    def endpoint(self) -> str:
        return self.context.request.endpoint or ""

    @property
    def counts(self) -> bool:
        return self.setting("limits_enabled")

    def setting(self, name: str) -> bool:
        """What the application's Redlane says, if it has one."""
        lane = self.context.app.extensions.get("redlane")
        return lane is None or bool(getattr(lane.settings, name))

    def address(self, hops: int | None) -> str:
        environ = self.context.request.environ
        peer = environ.get("REMOTE_ADDR")
        forwarded = environ.get("HTTP_X_FORWARDED_FOR")
        if not forwarded:
            return client_address(peer)
        if hops is None:
            hops = self.context.app.config.get(HOPS)
        return client_address(peer, forwarded, hops_of(hops))

    def tell(self, decision: Any, result: Any, limited: Any) -> None:
        if self.socket is not None or not self.setting("limit_headers"):
            return
        context = self.context
        if (
            isinstance(result, Response)
            and not context._after_request_functions
            and context.app.view_functions.get(self.endpoint) is limited
        ):
            _tell(result, decision)  # nothing comes between the view and its response
            return

        def add(response: Response) -> Response:
            _tell(response, decision)
            return response

        add._redlane_limit = True  # type: ignore[attr-defined]
        after_this_request(add)

    def refusal(self, decision: Any, message: str | None) -> RateLimitExceeded:
        if self.socket is not None:
            return closed(decision, message, self.socket)
        return Refused(decision, message)


def _tell(response: Response, decision: Any) -> None:
    if response.status_code != 429:  # another limit has refused
        add_fields(response.headers, decision)


_current: Any = request_ctx._get_current_object  # type: ignore[attr-defined]


def socket_of(args: tuple[Any, ...]) -> Any | None:
    """The WebSocket of flask-sock that a function is called for."""
    sockets = sys.modules.get("simple_websocket") if args else None
    if sockets is None:
        return None
    return next((one for one in args if isinstance(one, sockets.Server)), None)


def find(args: tuple[Any, ...]) -> Asked | None:
    try:
        context = _current()
    except RuntimeError:  # outside of a request
        return None
    return Asked(context, socket_of(args))
