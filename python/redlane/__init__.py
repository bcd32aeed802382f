"""Caching, counters and limits on Redis or Valkey, in C.

`cache`, `invalidate_cache` and `video_cache` are ready-made: they act on the default
client (default_client()), which is made from the environment on first use.
"""

from __future__ import annotations

from redlane._core import (
    AsyncCache,
    AsyncClient,
    AsyncCounter,
    AsyncPipeline,
    AsyncVideoCache,
    AuthenticationError,
    BusyError,
    Cache,
    CachedFunction,
    CacheInfo,
    Client,
    ConfigurationError,
    ConnectionError,
    Counter,
    ExecAbortError,
    LoadingError,
    NoScriptError,
    OutOfMemoryError,
    PermissionDeniedError,
    Pipeline,
    ReadOnlyError,
    RedlaneError,
    ReplyError,
    SerializationError,
    TimeoutError,
    VideoCache,
    WrongTypeError,
    content_key,
)
from redlane._default import close_default_client, configure, default_client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from redlane._ready import cache, invalidate_cache, video_cache

__all__ = [
    "AsyncCache",
    "AsyncClient",
    "AsyncCounter",
    "AsyncPipeline",
    "AsyncVideoCache",
    "AuthenticationError",
    "BusyError",
    "Cache",
    "CacheInfo",
    "CachedFunction",
    "Client",
    "ConfigurationError",
    "ConnectionError",
    "Counter",
    "ExecAbortError",
    "LoadingError",
    "NoScriptError",
    "OutOfMemoryError",
    "PermissionDeniedError",
    "Pipeline",
    "ReadOnlyError",
    "RedlaneError",
    "ReplyError",
    "SerializationError",
    "TimeoutError",
    "VideoCache",
    "WrongTypeError",
    "cache",
    "close_default_client",
    "configure",
    "content_key",
    "default_client",
    "invalidate_cache",
    "video_cache",
]

__version__ = "0.1.0"

_READY_MADE = frozenset({"cache", "invalidate_cache", "video_cache"})


def __getattr__(name: str) -> object:
    """The ready-made objects, made when they are first asked for."""
    if name in _READY_MADE:
        from redlane import _ready

        value: object = getattr(_ready, name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
