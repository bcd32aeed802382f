"""Whether an application, or the server before it, has found out who asks.

Fields of a request say it by their names (policy.py). Some applications go by
something else, an address or a field of their own, and leave what they have found where
views look for it: in Flask's `g`, in `request.state`, in the user that Starlette's
authentication gives. A response to somebody who is known is not shared any more than
one to somebody who has sent a cookie.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["NAMES", "known_in", "known_to_asgi"]

NAMES = frozenset(
    [
        "user",
        "user_id",
        "current_user",
        "current_user_id",
        "_login_user",  # Flask-Login
        "flask_httpauth_user",
        "_jwt_extended_jwt",
        "account",
        "account_id",
        "tenant",
        "tenant_id",
    ]
)


def somebody(user: object) -> bool:
    """False for nobody, and for objects that stand for nobody."""
    return not (user is None or user is False or user == "") and bool(
        getattr(user, "is_authenticated", True)
    )


def known_in(found: Mapping[str, Any]) -> bool:
    """By the names that are set there."""
    return not NAMES.isdisjoint(found) and any(
        somebody(found[name]) for name in NAMES if name in found
    )


def known_to_asgi(scope: Mapping[str, Any]) -> bool:
    """By the user and the state of a scope, and by a client's certificate."""
    user = scope.get("user")
    if user is not None and somebody(user):
        return True
    state = scope.get("state")
    if state and known_in(state):
        return True
    extensions = scope.get("extensions")
    if not extensions or "tls" not in extensions:
        return False
    tls = extensions["tls"] or {}
    return bool(tls.get("client_cert_name") or tls.get("client_cert_chain"))
