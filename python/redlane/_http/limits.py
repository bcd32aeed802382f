"""The fields that tell a client of its rate limits.

RateLimit and RateLimit-Policy are those of draft-ietf-httpapi-ratelimit-headers-11;
X-RateLimit-* are what most clients know; Retry-After goes with a 429 only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import ceil
from time import time
from typing import Protocol

__all__ = ["Decision", "Limit", "body_of", "fields_of"]


class Limit(Protocol):
    """One limit's part of a decision."""

    @property
    def allowed(self) -> bool: ...
    @property
    def limit(self) -> int: ...
    @property
    def window(self) -> float: ...
    @property
    def remaining(self) -> int: ...
    @property
    def reset_after(self) -> float: ...


class Decision(Protocol):
    """What RateLimiter.hit gives."""

    @property
    def allowed(self) -> bool: ...
    @property
    def limit(self) -> int: ...
    @property
    def remaining(self) -> int: ...
    @property
    def reset_after(self) -> float: ...
    @property
    def retry_after(self) -> float: ...
    @property
    def limits(self) -> Sequence[Limit]: ...


def _seconds(value: float) -> int:
    """Whole seconds, never too early; what is no number of them is none."""
    return ceil(value) if 0 < value < 2**53 else 0


def retry_after(decision: Decision) -> int:
    """For a refusal: whole seconds until it is worth to ask again, at least one."""
    return max(_seconds(decision.retry_after), 1)


# What of the fields does not change from one decision to the next: names, and
# RateLimit-Policy. Few programs have more than a handful of limits.
_policies: dict[tuple[tuple[int, float], ...], tuple[str, list[str]]] = {}
_MOST_POLICIES = 1024


def _policy(shape: tuple[tuple[int, float], ...]) -> tuple[str, list[str]]:
    told, names = [], []
    for limit, window in shape:
        quota, seconds = max(limit, 0), max(_seconds(window), 1)
        name = f'"{quota}-in-{seconds}s"'
        names.append(name)
        told.append(f"{name};q={quota};w={seconds}")
    if len(_policies) >= _MOST_POLICIES:
        _policies.clear()
    _policies[shape] = made = (", ".join(told), names)
    return made


def fields_of(decision: Decision, now: float | None = None) -> list[tuple[str, str]]:
    """The fields of a response on which this was decided."""
    reset = (time() if now is None else now) + max(decision.reset_after, 0)
    remaining = decision.remaining
    fields = [
        ("X-RateLimit-Limit", str(decision.limit)),
        ("X-RateLimit-Remaining", str(remaining if remaining > 0 else 0)),
        ("X-RateLimit-Reset", str(_seconds(reset))),
    ]
    limits = decision.limits
    if limits:
        shape = tuple([(limit.limit, limit.window) for limit in limits])
        policy, names = _policies.get(shape) or _policy(shape)
        states = [
            f"{name};r={max(limit.remaining, 0)};t={_seconds(limit.reset_after)}"
            for name, limit in zip(names, limits, strict=True)
        ]
        fields.append(("RateLimit-Policy", policy))
        fields.append(("RateLimit", ", ".join(states)))
    if not decision.allowed:
        fields.append(("Retry-After", str(retry_after(decision))))
    return fields


def body_of(decision: Decision, message: str = "rate limit exceeded") -> bytes:
    """The JSON of a 429."""
    told = {"error": message, "retry_after": retry_after(decision)}
    return json.dumps(told).encode()
