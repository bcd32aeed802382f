"""A limited function's call as part of a request to FastAPI or Starlette."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketState

from redlane._http.address import client_address
from redlane._http.asked import hops_of, reason_of
from redlane._http.fastapi_route import route_of
from redlane._http.limits import add_raw_fields, body_of
from redlane._limit import RateLimitExceeded

__all__ = ["Asked", "Refused", "answered_by_us", "find", "forwarded_in"]

POLICY_VIOLATION = 1008  # a WebSocket's code for it


class Refused(RateLimitExceeded, HTTPException):
    """Over the limit in a request; `response` is what it is answered with."""

    def __init__(
        self, decision: Any, message: str | None, connection: HTTPConnection
    ) -> None:
        RateLimitExceeded.__init__(self, decision, message)
        self.response = response_of(decision, message)
        self.told = message
        self.connection = connection
        self.status_code = self.response.status_code
        self.detail = str(self.args[0])
        self.headers = dict(decision.headers())


def response_of(decision: Any, message: str | None) -> Response:
    body = body_of(decision) if message is None else body_of(decision, message)
    fields = dict(decision.headers())
    return Response(body, 429, fields, media_type="application/json")


async def _answer(connection: Any, error: Exception) -> Response | None:
    assert isinstance(error, Refused)
    socket = error.connection
    if not isinstance(socket, WebSocket):
        return error.response
    denies = "websocket.http.response" in socket.scope.get("extensions", {})
    if (
        denies
        and socket.application_state is WebSocketState.CONNECTING
        and hasattr(socket, "send_denial_response")  # not in older versions
    ):
        await socket.send_denial_response(error.response)
    elif socket.application_state is not WebSocketState.DISCONNECTED:
        await socket.close(POLICY_VIOLATION, reason_of(error.told))
    return None


def _handlers_of(connection: HTTPConnection) -> dict[Any, Any] | None:
    """Where the application looks up what to do about an exception."""
    known = connection.scope.get("starlette.exception_handlers")
    if known:
        handlers: dict[Any, Any] = known[0]
        return handlers
    # Older versions tell nobody, but have them all the same.
    part = getattr(connection.scope.get("app"), "middleware_stack", None)
    while part is not None and not isinstance(part, ExceptionMiddleware):
        part = getattr(part, "app", None)
    return None if part is None else part._exception_handlers


def answered_by_us(error: Refused) -> Refused:
    """The same; its body will be JSON of ours, not what the framework makes of its
    exceptions, unless the application says what to do about RateLimitExceeded."""
    handlers = _handlers_of(error.connection)
    if handlers is not None and RateLimitExceeded not in handlers:
        handlers.setdefault(Refused, _answer)
    return error


def forwarded_in(scope: Any) -> str | None:
    """X-Forwarded-For, its lines joined; None: there is none, as mostly."""
    fields = scope["headers"]
    for name, _ in fields:
        if name == b"x-forwarded-for":
            lines = [value for name, value in fields if name == b"x-forwarded-for"]
            return b",".join(lines).decode("latin-1")
    return None


class Asked:
    """A call in the course of a request."""

    waits = True  # for the limiter: others have the loop meanwhile

    __slots__ = ("request", "response")

    def __init__(self, request: HTTPConnection, response: Response | None) -> None:
        self.request = request
        self.response = response

    @property
    def method(self) -> str | None:
        method: str | None = self.request.scope.get("method")
        return method

    @property
    def endpoint(self) -> str:
        scope = self.request.scope
        route = route_of(scope) or scope.get("route")
        return str(getattr(route, "path", ""))

    @property
    def counts(self) -> bool:
        return True

    def address(self, hops: int | None) -> str:
        scope = self.request.scope
        peer = scope.get("client")
        host = None if peer is None else peer[0]
        forwarded = forwarded_in(scope)
        if forwarded is None:
            return client_address(host)
        return client_address(host, forwarded, hops_of(hops))

    def tell(self, decision: Any, result: Any, limited: Any) -> None:
        """The fields of the limit, into the response."""
        response = result if isinstance(result, Response) else self.response
        if response is not None:
            add_raw_fields(response.raw_headers, decision)

    def refusal(self, decision: Any, message: str | None) -> RateLimitExceeded:
        return answered_by_us(Refused(decision, message, self.request))


def find(
    connection: Any, response: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Asked | None:
    """The request of a call: what FastAPI gave, or else what is among the arguments,
    as Starlette does it."""
    if connection is None:
        for part in (*args, *kwargs.values()):
            if isinstance(part, HTTPConnection):
                connection = part
                break
        else:
            return None
    return Asked(connection, response)
