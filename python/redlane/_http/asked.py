"""The request that a limited function is called in, whatever the framework."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, Protocol

from redlane._core import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from redlane._http.opened import Opened
    from redlane._limit import RateLimitExceeded

__all__ = ["Asked", "asked_in", "hops_of", "reason_of"]

HOPS = "REDLANE_TRUSTED_HOPS"
_MOST_HOPS = 100
_REASON = 123  # bytes that a WebSocket's close has for it


class Asked(Protocol):
    """What a framework knows of the call of a limited function."""

    @property
    def waits(self) -> bool:
        """Whether a coroutine awaits the limiter."""
        ...

    @property
    def request(self) -> Any: ...

    @property
    def method(self) -> str | None: ...

    @property
    def endpoint(self) -> str: ...

    @property
    def counts(self) -> bool:
        """False: the application has limits turned off."""
        ...

    def address(self, hops: int | None) -> str: ...

    def tell(self, decision: Any, result: Any, limited: Any) -> None:
        """The response gets the fields of the limit; this is the result of `limited`,
        the function with its limit."""
        ...

    def refusal(self, decision: Any, message: str | None) -> RateLimitExceeded:
        """What the framework answers with 429 if nobody catches it."""
        ...


def asked_in(
    opened: Opened, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Asked | None:
    """The request of a call; None: there is none. What FastAPI gave for it goes out of
    the arguments."""
    modules = sys.modules  # only of a framework that is there already
    if "starlette.requests" in modules:
        connection, response = opened.take(kwargs)
        found = (_find_asgi or _load_asgi())(connection, response, args, kwargs)
        if found is not None:
            return found
    if "flask.globals" in modules:
        return (_find_flask or _load_flask())(args)
    return None


_find_asgi: Callable[..., Asked | None] | None = None
_find_flask: Callable[..., Asked | None] | None = None


def _load_asgi() -> Callable[..., Asked | None]:
    global _find_asgi
    from redlane._http.asked_asgi import find

    _find_asgi = find
    return find


def _load_flask() -> Callable[..., Asked | None]:
    global _find_flask
    from redlane._http.asked_flask import find

    _find_flask = find
    return find


def hops_of(given: Any) -> int:
    """How many proxies of ours a request has come through: as given, or else by the
    environment.

    Raises:
        ConfigurationError: it is no such number.
    """
    if given is None:
        given = os.environ.get("REDLANE_TRUSTED_HOPS") or 0
    try:
        hops = int(given)
    except (TypeError, ValueError):
        hops = -1
    if not 0 <= hops <= _MOST_HOPS:
        raise ConfigurationError(f"{HOPS}: a number from 0 to {_MOST_HOPS}")
    return hops


def reason_of(message: str | None) -> str:
    """What a WebSocket is told when it is closed."""
    told = "rate limit exceeded" if message is None else message
    return told.encode("utf-8", "replace")[:_REASON].decode("utf-8", "ignore")
