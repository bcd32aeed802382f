"""limiter.limit(...) and rate_limit(...): decorators for functions, for coroutine
functions, and for the views and endpoints of Flask, FastAPI and Starlette.

They know a request when they are called in one: whose it is, and how to refuse it. A
refusal is a RateLimitExceeded in any case; in a request it is also what the framework
answers with 429.
"""

from __future__ import annotations

from redlane._core import (
    AsyncRateLimiter,
    ConfigurationError,
    RateLimiter,
    RedlaneError,
)

TYPE_CHECKING = False  # importing typing takes 5 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, TypeVar

    from redlane._core import Decision, _Limit
    from redlane._http.asked import Asked
    from redlane._http.opened import Opened

    F = TypeVar("F", bound=Callable[..., Any])
    Message = str | Callable[[Decision], str] | None

__all__ = ["RateLimitExceeded", "bind", "default_limiter", "rate_limit"]

_ASKED = ("request", "websocket", "connection")  # names of what is given of a request


class RateLimitExceeded(RedlaneError):
    """A call was over its limit.

    ``decision`` is the Decision, of a Concurrency the Slot; ``retry_after`` the seconds
    until the same call would be admitted. Neither it nor the message tells whose call
    it was.
    """

    __module__ = "redlane"

    def __init__(self, decision: Decision, message: str | None = None) -> None:
        if message is None:
            message = f"rate limit exceeded: try again in {decision.retry_after:.3g} s"
        # By name: a subclass for a framework has other bases, whose turn it is not.
        RedlaneError.__init__(self, message)
        self.decision = decision

    @property
    def retry_after(self) -> float:
        return self.decision.retry_after


_default: RateLimiter | None = None


def default_limiter() -> RateLimiter:
    """The limiter of RateLimiter.limit(...), on the default client."""
    global _default
    if _default is None:
        _default = RateLimiter(None)
    return _default


class _Part:
    """An option that a callable may give, and what that is called with."""

    __slots__ = ("of_request", "takes_nothing", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self.of_request = self.takes_nothing = False
        if callable(value):
            from inspect import signature

            try:
                names = list(signature(value).parameters)
            except (TypeError, ValueError):  # in C, without a signature
                return
            self.takes_nothing = not names
            self.of_request = len(names) == 1 and names[0] in _ASKED

    def __call__(self, asked: Asked | None, args: Any, kwargs: Any) -> Any:
        value = self.value
        if not callable(value):
            return value
        if self.takes_nothing:
            return value()
        if self.of_request and asked is not None:
            return value(asked.request)
        return value(*args, **kwargs)


class _Limited:
    """What one decorator was given for one function, and what it makes of a call."""

    def __init__(
        self, limiter: RateLimiter, rates: Any, options: dict[str, Any], function: Any
    ) -> None:
        from redlane._http.asked import asked_in

        self.asked_in = asked_in
        self.name = f"{function.__module__}.{function.__qualname__}"
        self.limiter = limiter
        self.aio = limiter.aio
        self.keyed = options["key"] is not None
        self.parts = [_Part(part) for part in (options["key"], rates, options["cost"])]
        self.given = [part.value for part in self.parts]
        self.varies = any(callable(value) for value in self.given)
        exempt_when = options["exempt_when"]
        self.exempt_when = None if exempt_when is None else _Part(exempt_when)
        self.deduct_when = options["deduct_when"]
        scope = options["scope"]
        self.scope = _escaped(self.name if scope is None else scope) + ":"
        # One that is made by another, as Flask makes the views of classes, is told
        # apart by its endpoint.
        self.shares_name = scope is None and not self.keyed and "<" in self.name
        self.by_address = not self.keyed and not self.shares_name
        self.methods = options["methods"]
        self.trusted_hops = options["trusted_hops"]
        self.error_message: Message = options["error_message"]

    def whose(self, asked: Asked | None, key: Any) -> Any:
        if self.keyed:
            return key
        if asked is None:
            raise ConfigurationError(
                f"{self.name}() is limited by the client's address, and was called"
                " outside of a request: say with key= whose calls count together"
            )
        return asked.address(self.trusted_hops)

    def target(self, asked: Asked | None, given: list[Any]) -> tuple[Any, ...]:
        key, rates, cost = given
        if asked is not None and self.by_address:
            return self.scope + asked.address(self.trusted_hops), rates, cost
        key, scope = self.whose(asked, key), self.scope
        if self.shares_name and asked is not None:
            scope = _escaped(f"{self.name}@{asked.endpoint}") + ":"
        if isinstance(key, bytes):
            return scope.encode() + key, rates, cost
        if isinstance(key, bool) or not isinstance(key, (str, int)):
            raise TypeError(
                f"key must give a str, bytes or int, not {type(key).__name__}"
            )
        return f"{scope}{key}", rates, cost

    def passes(self, asked: Asked | None) -> bool:
        """Whether the call is of a kind that does not count."""
        if asked is None:
            return False
        if self.methods is not None:
            method = asked.method
            if method is not None and method not in self.methods:
                return True
        return not asked.counts

    def refuse(self, asked: Asked | None, decision: Decision) -> RateLimitExceeded:
        given = self.error_message
        message: str | None = given(decision) if callable(given) else given
        if asked is None:
            return RateLimitExceeded(decision, message)
        return asked.refusal(decision, message)

    def made(self, opened: Opened) -> Any:
        """The function with its limit, in one frame, since each costs."""
        function, asked_in = opened.function, self.asked_in

        def called(*args: Any, **kwargs: Any) -> Any:
            asked = asked_in(opened, args, kwargs)
            if self.passes(asked) or (
                self.exempt_when is not None and self.exempt_when(asked, args, kwargs)
            ):
                return function(*args, **kwargs)
            given = self.given
            if self.varies:
                given = [part(asked, args, kwargs) for part in self.parts]
            target = self.target(asked, given)
            # Charged beforehand, so that many at once cannot pass, and given back.
            decision = self.limiter.hit(*target)
            if not decision:
                raise self.refuse(asked, decision)
            result = function(*args, **kwargs)
            if self.deduct_when is not None and not self.deduct_when(result):
                self.limiter.refund(*target)
            if asked is not None:
                asked.tell(decision, result, called)
            return result

        return called

    def made_async(self, opened: Opened) -> Any:
        """The same for a coroutine function."""
        function, asked_in = opened.function, self.asked_in

        async def awaited(*args: Any, **kwargs: Any) -> Any:
            asked = asked_in(opened, args, kwargs)
            if self.passes(asked) or (
                self.exempt_when is not None
                and await _settle(self.exempt_when(asked, args, kwargs))
            ):
                return await function(*args, **kwargs)
            given = self.given
            if self.varies:
                given = [
                    await _settle(part(asked, args, kwargs)) for part in self.parts
                ]
            target = self.target(asked, given)
            waits = asked is None or asked.waits
            if waits:
                decision = await self.aio.hit(*target)
            else:
                decision = self.limiter.hit(*target)
            if not decision:
                raise self.refuse(asked, decision)
            result = await function(*args, **kwargs)
            if self.deduct_when is not None and not await _settle(
                self.deduct_when(result)
            ):
                if waits:
                    await self.aio.refund(*target)
                else:
                    self.limiter.refund(*target)
            if asked is not None:
                asked.tell(decision, result, awaited)
            return result

        return awaited


def _escaped(scope: str) -> str:
    """With an end that can be told, behind a colon."""
    return scope.replace("%", "%25").replace(":", "%3A")


async def _settle(value: Any) -> Any:
    """What an awaitable gives; anything else itself."""
    return await value if hasattr(value, "__await__") else value


def _rates_of(rates: Any, requests_limit: Any, time_window: Any) -> Any:
    if requests_limit is None and time_window is None:
        if rates is None:
            raise ConfigurationError("limit() needs rates, such as '5/minute'")
        return rates
    if rates is not None or requests_limit is None or time_window is None:
        raise ConfigurationError(
            "limit() takes rates, or requests_limit and time_window (seconds)"
        )
    return (requests_limit, time_window)


def _refuse_kind(function: Any) -> None:
    """What cannot be limited by being called."""
    from inspect import isasyncgenfunction, isclass, isgeneratorfunction

    name = getattr(function, "__qualname__", repr(function))
    if isclass(function):
        raise TypeError(f"limit: {name} is a class: limit its methods")
    if isgeneratorfunction(function) or isasyncgenfunction(function):
        raise TypeError(
            f"limit: {name}() is a generator function, and calling it does nothing yet:"
            " limit what calls it"
        )


def _wrap(
    function: Any,
    limiter: RateLimiter,
    rates: Any,
    options: Any,
    kind: type[_Limited] = _Limited,
) -> Any:
    from functools import wraps
    from inspect import iscoroutinefunction

    from redlane._http.opened import Opened, OpenSignature

    _refuse_kind(function)
    limited = kind(limiter, rates, options, function)
    opened = Opened(function)
    is_coroutine = iscoroutinefunction(function)
    made = limited.made_async(opened) if is_coroutine else limited.made(opened)
    wrapper: Any = wraps(function)(made)
    wrapper.__signature__ = OpenSignature.of(opened)
    return wrapper


def bind(owner: RateLimiter | AsyncRateLimiter | None) -> Callable[..., Any]:
    """The method `limit` of a limiter; of the class (None) it is the default one's."""

    def limit(
        rates: Any = None,
        *,
        key: Any = None,
        cost: Any = 1,
        exempt_when: Callable[..., object] | None = None,
        deduct_when: Callable[[Any], object] | None = None,
        scope: str | None = None,
        methods: Iterable[str] | None = None,
        error_message: Message = None,
        trusted_hops: int | None = None,
        requests_limit: int | None = None,
        time_window: int | None = None,
    ) -> Callable[[F], F]:
        """Limit how often a function, or a coroutine function, is called: a view of
        Flask, an endpoint or a dependency of FastAPI or Starlette, a WebSocket's, or
        any other.

        The callables are given what the function is; or nothing, where they have no
        parameter; or the request, where they have one alone, named `request`,
        `websocket` or `connection`. On coroutine functions they may be such too.

        :param rates: as for :meth:`hit`, or a callable that gives them
        :param key: whose calls are counted together: a str, bytes or int, or a callable
            that gives one; by default the address of the request's client
        :param cost: an int, or a callable
        :param exempt_when: a callable; true: this call is not limited
        :param deduct_when: a callable of the result; false: the call costs nothing
        :param scope: functions with the same one share a limit; by default each has its
            own, by module and qualified name
        :param methods: only requests with these methods count; with GET, HEAD does too
        :param error_message: of the error, or a callable of the Decision that gives it
        :param trusted_hops: how many proxies of ours a request has come through, so
            that X-Forwarded-For counts; by default as REDLANE_TRUSTED_HOPS says, in
            Flask's configuration or the environment, else 0
        :param requests_limit: with `time_window` in seconds, in the place of `rates`

        :raises RateLimitExceeded: from a call that is over the limit. In a request, if
            nobody catches it, it is answered with 429 and JSON, a WebSocket's with 429
            or the code 1008
        :raises ConfigurationError: for rates that are none; from a call without a
            request, where no key is given
        :raises TypeError: on a class or a generator function
        """
        from redlane._http.limited import methods_of

        chosen = _rates_of(rates, requests_limit, time_window)
        if owner is None:
            limiter = default_limiter()
        else:
            limiter = owner.sync if isinstance(owner, AsyncRateLimiter) else owner
        if not callable(chosen):
            _check(limiter, chosen)
        options = {
            "key": key,
            "cost": cost,
            "exempt_when": exempt_when,
            "deduct_when": deduct_when,
            "scope": scope,
            "methods": methods_of(methods),
            "error_message": error_message,
            "trusted_hops": _hops_of(trusted_hops),
        }

        def decorate(function: Any) -> Any:
            return _wrap(function, limiter, chosen, options)

        return decorate

    return limit


def _hops_of(given: int | None) -> int | None:
    """Checked where it is written; None: as the application or the environment says."""
    if given is None:
        return None
    from redlane._http.asked import hops_of

    return hops_of(given)


def _check(limiter: RateLimiter, rates: Any) -> None:
    """A bad rate is told where it is written, before anything is sent."""
    RateLimiter("memory://", limiter.algorithm).peek("check", rates)


_ready_made: Any = bind(None)
_ready_made.__name__ = _ready_made.__qualname__ = "rate_limit"
rate_limit: _Limit = _ready_made
