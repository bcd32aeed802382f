"""What tells a client of its rate limits: fields of a response, a refusal's body.

A Decision itself knows the fields; what is here puts them where they belong.
"""

from __future__ import annotations

import json
from math import ceil
from typing import Any, Protocol

__all__ = ["Decision", "add_fields", "add_raw_fields", "body_of"]

NAMES = (
    *("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"),
    *("RateLimit-Policy", "RateLimit", "Retry-After"),
)
_LOWER = frozenset(name.lower() for name in NAMES)
_RAW = frozenset(name.encode() for name in _LOWER)


class Decision(Protocol):
    """What of RateLimiter.hit's answer is told."""

    @property
    def retry_after(self) -> float: ...

    def headers(self) -> list[tuple[str, str]]: ...

    def raw_headers(self) -> list[tuple[bytes, bytes]]: ...


def add_fields(headers: Any, decision: Decision) -> None:
    """Puts them into a werkzeug response's headers, in the place of those of another
    limit."""
    told = headers._list  # setting them one by one looks for each, and checks it
    for name, _ in told:
        if name.lower() in _LOWER:
            for ours, value in decision.headers():
                headers[ours] = value
            return
    told += decision.headers()


def add_raw_fields(told: list[tuple[bytes, bytes]], decision: Decision) -> None:
    """The same for Starlette's `raw_headers`, whose names are in lower case."""
    fields = decision.raw_headers()
    for name, _ in told:
        if name in _RAW:
            ours = {name for name, _ in fields}
            told[:] = [pair for pair in told if pair[0] not in ours]
            break
    told += fields


def body_of(decision: Decision, message: str = "rate limit exceeded") -> bytes:
    """The JSON of a 429."""
    seconds = max(ceil(decision.retry_after), 1)
    return json.dumps({"error": message, "retry_after": seconds}).encode()
