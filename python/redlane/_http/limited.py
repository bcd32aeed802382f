"""What the decorators of Flask and FastAPI share of a rate limit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from redlane._core import RateLimiter
from redlane._http.limits import body_of

__all__ = ["Limit", "methods_of", "place_of"]


class Limit:
    """The options of a limit, checked.

    Args:
        rates: "5/minute", several with ";", or a callable that gives them
        key: a callable that says who asks, or a text that all share; without it the
            client's address
        scope: limits of one scope count together; without it each endpoint has its own
        cost: how much a request counts, or a callable that says so
        methods: only requests with these methods count; with GET, HEAD does too
        exempt_when: a callable; true: the request does not count
        deduct_when: a callable of the response; false: the request is given back
        error_message: the text of a refusal, or a callable of the Decision

    Raises:
        ConfigurationError: rates that are none.
        TypeError: another option that is not usable.
    """

    def __init__(
        self,
        rates: Any,
        *,
        key: Any = None,
        scope: str | None = None,
        cost: int | Callable[..., int] = 1,
        methods: Iterable[str] | None = None,
        exempt_when: Callable[..., object] | None = None,
        deduct_when: Callable[[Any], object] | None = None,
        error_message: str | Callable[[Any], str] | None = None,
    ) -> None:
        for name, value in (("exempt_when", exempt_when), ("deduct_when", deduct_when)):
            if value is not None and not callable(value):
                raise TypeError(f"{name} must be a callable")
        if not callable(rates):
            RateLimiter("memory://").peek("check", rates)
        self.rates = rates
        self.key = key
        self.scope = scope
        self.cost = cost
        self.methods = methods_of(methods)
        self.exempt_when = exempt_when
        self.deduct_when = deduct_when
        self.error_message = error_message

    def applies(self, method: str) -> bool:
        return self.methods is None or method in self.methods

    def message(self, decision: Any) -> str | None:
        """What a refusal says; None: what it says by itself."""
        message = self.error_message
        return message(decision) if callable(message) else message

    def body(self, decision: Any) -> bytes:
        message = self.message(decision)
        return body_of(decision) if message is None else body_of(decision, message)

    def scope_at(self, place: str) -> str:
        """What the limiter's identities begin with: the scope, whose end is told."""
        return (self.scope or place).replace("%", "%25").replace(":", "%3A") + ":"

    def identity(self, who: Any, scope: str) -> str | bytes:
        """The limiter's identity of who asks, in what scope_at gave."""
        if isinstance(who, bytes):
            return scope.encode() + who
        # An object's text may hold its address: each would be somebody else.
        if isinstance(who, bool) or not isinstance(who, (str, int)):
            raise TypeError(
                f"key must give a str, bytes or int, not {type(who).__name__}"
            )
        return f"{scope}{who}"


def methods_of(methods: Iterable[str] | None) -> set[str] | None:
    """The names of methods; with GET goes HEAD, which runs the same function.

    Raises:
        TypeError: one text, not a list.
    """
    if isinstance(methods, str):
        raise TypeError("methods takes a list of names")
    if methods is None:
        return None
    found = {name.upper() for name in methods}
    return found | {"HEAD"} if "GET" in found else found


def place_of(function: Any) -> str:
    """The scope of a function that has none."""
    return f"{function.__module__}.{function.__qualname__}"
