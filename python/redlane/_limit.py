"""limiter.limit(...): a decorator for functions and coroutine functions."""

from __future__ import annotations

from redlane._core import (
    AsyncRateLimiter,
    ConfigurationError,
    RateLimiter,
    RedlaneError,
)

TYPE_CHECKING = False  # importing typing takes 5 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from redlane._core import Decision

    F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["RateLimitExceeded", "bind", "default_limiter"]


class RateLimitExceeded(RedlaneError):
    """A call was over its limit.

    ``decision`` is the Decision, ``retry_after`` the seconds until the same call would
    be admitted. Neither it nor the message tells whose call it was.
    """

    __module__ = "redlane"

    def __init__(self, decision: Decision, message: str | None = None) -> None:
        if message is None:
            message = f"rate limit exceeded: try again in {decision.retry_after:.3g} s"
        super().__init__(message)
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


class _Limited:
    """What one decorator was given, and what it makes of a call."""

    def __init__(
        self,
        limiter: RateLimiter,
        rates: Any,
        key: Any,
        cost: Any,
        exempt_when: Callable[..., object] | None,
        deduct_when: Callable[[Any], object] | None,
        scope: str,
        error_message: Any,
    ) -> None:
        self.limiter = limiter
        self.aio = limiter.aio
        self.rates = rates
        self.key = key
        self.cost = cost
        self.exempt_when = exempt_when
        self.deduct_when = deduct_when
        self.scope = scope.replace("%", "%25").replace(":", "%3A")
        self.error_message = error_message

    def target(self, key: Any, rates: Any, cost: Any) -> tuple[Any, ...]:
        if isinstance(key, bytes):
            return self.scope.encode() + b":" + key, rates, cost
        if isinstance(key, bool) or not isinstance(key, (str, int)):
            raise TypeError(
                f"key must give a str, bytes or int, not {type(key).__name__}"
            )
        return f"{self.scope}:{key}", rates, cost

    def refuse(self, decision: Decision) -> RateLimitExceeded:
        message = self.error_message
        return RateLimitExceeded(
            decision, message(decision) if callable(message) else message
        )

    def call(self, function: Any, args: Any, kwargs: Any) -> Any:
        if self.exempt_when is not None and self.exempt_when(*args, **kwargs):
            return function(*args, **kwargs)
        given = [
            part(*args, **kwargs) if callable(part) else part
            for part in (self.key, self.rates, self.cost)
        ]
        target = self.target(*given)
        # Charged beforehand, so that many at once cannot pass, and given back.
        decision = self.limiter.hit(*target)
        if not decision:
            raise self.refuse(decision)
        if self.deduct_when is None:
            return function(*args, **kwargs)
        keep = True
        try:
            result = function(*args, **kwargs)
            keep = bool(self.deduct_when(result))
            return result
        finally:
            if not keep:
                self.limiter.refund(*target)

    async def call_async(self, function: Any, args: Any, kwargs: Any) -> Any:
        if self.exempt_when is not None and await _settle(
            self.exempt_when(*args, **kwargs)
        ):
            return await function(*args, **kwargs)
        given = [
            await _settle(part(*args, **kwargs)) if callable(part) else part
            for part in (self.key, self.rates, self.cost)
        ]
        target = self.target(*given)
        decision = await self.aio.hit(*target)
        if not decision:
            raise self.refuse(decision)
        if self.deduct_when is None:
            return await function(*args, **kwargs)
        keep = True
        try:
            result = await function(*args, **kwargs)
            keep = bool(await _settle(self.deduct_when(result)))
            return result
        finally:
            if not keep:
                await self.aio.refund(*target)


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
        error_message: str | Callable[[Decision], str] | None = None,
        requests_limit: int | None = None,
        time_window: int | None = None,
    ) -> Callable[[F], F]:
        """Limit how often a function, or a coroutine function, is called.

        :param rates: as for :meth:`hit`, or a callable that gives them
        :param key: whose calls are counted together: a str, bytes or int, or a callable
            of the call's arguments that gives one; by default all calls are
        :param cost: an int, or a callable of the arguments
        :param exempt_when: a callable of the arguments; true: this call is not limited
        :param deduct_when: a callable of the result; false: the call costs nothing
        :param scope: functions with the same one share a limit; by default each has its
            own, by module and qualified name
        :param error_message: of the error, or a callable of the Decision that gives it
        :param requests_limit: with `time_window` in seconds, in the place of `rates`

        :raises RateLimitExceeded: from a call that is over the limit
        :raises ConfigurationError: for rates that are none
        """
        chosen = _rates_of(rates, requests_limit, time_window)
        if owner is None:
            limiter = default_limiter()
        else:
            limiter = owner.sync if isinstance(owner, AsyncRateLimiter) else owner
        if not callable(chosen):
            _check(limiter, chosen)

        def decorate(function: Any) -> Any:
            from functools import wraps
            from inspect import iscoroutinefunction

            name = f"{function.__module__}.{function.__qualname__}"
            limited = _Limited(
                limiter,
                chosen,
                "all" if key is None else key,
                cost,
                exempt_when,
                deduct_when,
                name if scope is None else scope,
                error_message,
            )
            if iscoroutinefunction(function):

                @wraps(function)
                async def awaited(*args: Any, **kwargs: Any) -> Any:
                    return await limited.call_async(function, args, kwargs)

                return awaited

            @wraps(function)
            def called(*args: Any, **kwargs: Any) -> Any:
                return limited.call(function, args, kwargs)

            return called

        return decorate

    return limit


def _check(limiter: RateLimiter, rates: Any) -> None:
    """A bad rate is told where it is written, before anything is sent."""
    RateLimiter("memory://", limiter.algorithm).peek("check", rates)
