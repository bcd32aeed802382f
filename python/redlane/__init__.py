"""Caching, counters and limits on Redis or Valkey, in C.

`cache`, `invalidate_cache`, `pubsub` and `video_cache` are ready-made: they act on the
default client (default_client()), which is made from the environment on first use.
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
    BytesMessage,
    Cache,
    CachedFunction,
    CacheInfo,
    Client,
    ConfigurationError,
    ConnectionError,
    Counter,
    ExecAbortError,
    Gap,
    LoadingError,
    Message,
    NoScriptError,
    OutOfMemoryError,
    PermissionDeniedError,
    Pipeline,
    ReadOnlyError,
    RedlaneError,
    ReplyError,
    SerializationError,
    Subscription,
    TimeoutError,
    VideoCache,
    WrongTypeError,
    content_key,
)
from redlane._default import (
    aclose_default_client,
    close_default_client,
    configure,
    default_client,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from redlane._async_pubsub import AsyncListener, AsyncPubSub
    from redlane._pubsub import Listener, PubSub, RedisPubSub, pubsub
    from redlane._ready import cache, invalidate_cache, video_cache

__all__ = [
    "AsyncCache",
    "AsyncClient",
    "AsyncCounter",
    "AsyncListener",
    "AsyncPipeline",
    "AsyncPubSub",
    "AsyncVideoCache",
    "AuthenticationError",
    "BusyError",
    "BytesMessage",
    "Cache",
    "CacheInfo",
    "CachedFunction",
    "Client",
    "ConfigurationError",
    "ConnectionError",
    "Counter",
    "ExecAbortError",
    "Gap",
    "Listener",
    "LoadingError",
    "Message",
    "NoScriptError",
    "OutOfMemoryError",
    "PermissionDeniedError",
    "Pipeline",
    "PubSub",
    "ReadOnlyError",
    "RedisPubSub",
    "RedlaneError",
    "ReplyError",
    "SerializationError",
    "Subscription",
    "TimeoutError",
    "VideoCache",
    "WrongTypeError",
    "aclose_default_client",
    "cache",
    "close_default_client",
    "configure",
    "content_key",
    "default_client",
    "invalidate_cache",
    "pubsub",
    "video_cache",
]

__version__ = "0.1.0"

# Where it is: what is imported or made when it is first asked for.
_LATE = {
    "AsyncListener": "_async_pubsub",
    "AsyncPubSub": "_async_pubsub",
    "Listener": "_pubsub",
    "PubSub": "_pubsub",
    "RedisPubSub": "_pubsub",
    "cache": "_ready",
    "invalidate_cache": "_ready",
    "pubsub": "_pubsub",
    "video_cache": "_ready",
}


def __getattr__(name: str) -> object:
    """What is imported, or made, when it is first asked for."""
    if name in _LATE:
        from importlib import import_module

        value: object = getattr(import_module(f"redlane.{_LATE[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
