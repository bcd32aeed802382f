"""The default client: one for each process, made on first use from the environment."""

from __future__ import annotations

import os
from _thread import allocate_lock

from redlane import _core
from redlane._core import Client

TYPE_CHECKING = False  # importing typing takes 5 ms
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "aclose_default_client",
    "close_default_client",
    "configure",
    "default_client",
]

_lock = allocate_lock()
_client: Client | None = None


def _renew_lock() -> None:
    """In a forked child: a thread that is not there any more may have held the lock."""
    global _lock
    _lock = allocate_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def default_client() -> Client:
    """The client that the ready-made tools use, made on first use.

    From the environment, as Client.from_env(fallback="memory"): while no server answers
    at its address the memory engine does. configure() sets another one.
    """
    global _client
    client = _client
    if client is not None and not client.closed:
        return client
    # Not under the lock: it may log, and a handler may come here.
    made = Client.from_env(fallback="memory")
    with _lock:
        client = _client
        if client is None or client.closed:
            _client = made
            return made
    made.close()  # another thread was first
    return client


def configure(client: Client | str | None = None, /, **options: Any) -> Client:
    """Set the default client: a Client, or a URL (None: the environment's) and options.

    Tools on the default client move to it at their next use.

    :raises ConfigurationError: for a URL or an option that is not usable
    """
    global _client
    if isinstance(client, Client):
        if options:
            raise TypeError("options go with a URL, not with a Client")
        chosen = client
    else:
        options.setdefault("fallback", "memory")
        chosen = Client(client, **options)
    with _lock:
        old, _client = _client, chosen
        _core._default_changed()
    del old  # after the lock: a subclass may end with code of its own
    return chosen


def _take_client() -> Client | None:
    global _client
    with _lock:
        client, _client = _client, None
    return client


def close_default_client() -> None:
    """Close the default client, if there is one; the next use makes a new one.

    In an event loop use :func:`aclose_default_client`, which waits for its tasks.
    """
    client = _take_client()
    if client is not None:
        client.close()


async def aclose_default_client() -> None:
    """close_default_client() for an event loop, at the end of a lifespan.

    Refreshes behind and listeners of this loop have ended when it is over, and its
    connection is closed: see :meth:`AsyncClient.close`.
    """
    client = _take_client()
    if client is not None:
        await client.aio.close()
