"""Caching, counters and limits on Redis or Valkey, in C.

`cache`, `invalidate_cache`, `pubsub`, `rate_limit` and `video_cache` are ready-made:
they act on the default client (default_client()), which is made from the environment on
first use.
"""

from __future__ import annotations

from redlane._core import (
    AsyncCache,
    AsyncClient,
    AsyncCooldown,
    AsyncCounter,
    AsyncPipeline,
    AsyncRateLimiter,
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
    Cooldown,
    CooldownState,
    Counter,
    Decision,
    ExecAbortError,
    Gap,
    LimitStatus,
    LoadingError,
    Message,
    NoScriptError,
    OutOfMemoryError,
    PermissionDeniedError,
    Pipeline,
    RateLimiter,
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
    from redlane._concurrency import AsyncConcurrency, AsyncSlot, Concurrency, Slot
    from redlane._limit import RateLimitExceeded, rate_limit
    from redlane._presence import AsyncPresence, Presence
    from redlane._pubsub import Listener, PubSub, RedisPubSub, pubsub
    from redlane._ready import cache, invalidate_cache, video_cache
    from redlane._tenants import (
        AsyncContextualRedisCache,
        AsyncRedisCache,
        ContextualRedisCache,
        InMemoryCache,
        NoOpCache,
        RedisCache,
        RuntimeCache,
        TenantCache,
    )

__all__ = [
    "AsyncCache",
    "AsyncClient",
    "AsyncConcurrency",
    "AsyncContextualRedisCache",
    "AsyncCooldown",
    "AsyncCounter",
    "AsyncListener",
    "AsyncPipeline",
    "AsyncPresence",
    "AsyncPubSub",
    "AsyncRateLimiter",
    "AsyncRedisCache",
    "AsyncSlot",
    "AsyncVideoCache",
    "AuthenticationError",
    "BusyError",
    "BytesMessage",
    "Cache",
    "CacheInfo",
    "CachedFunction",
    "Client",
    "Concurrency",
    "ConfigurationError",
    "ConnectionError",
    "ContextualRedisCache",
    "Cooldown",
    "CooldownState",
    "Counter",
    "Decision",
    "ExecAbortError",
    "Gap",
    "InMemoryCache",
    "LimitStatus",
    "Listener",
    "LoadingError",
    "Message",
    "NoOpCache",
    "NoScriptError",
    "OutOfMemoryError",
    "PermissionDeniedError",
    "Pipeline",
    "Presence",
    "PubSub",
    "RateLimitExceeded",
    "RateLimiter",
    "ReadOnlyError",
    "RedisCache",
    "RedisPubSub",
    "RedlaneError",
    "ReplyError",
    "RuntimeCache",
    "SerializationError",
    "Slot",
    "Subscription",
    "TenantCache",
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
    "rate_limit",
    "video_cache",
]

__version__ = "0.1.0"

# Where it is: what is imported or made when it is first asked for.
_LATE = {
    "AsyncConcurrency": "_concurrency",
    "AsyncContextualRedisCache": "_tenants",
    "AsyncListener": "_async_pubsub",
    "AsyncPresence": "_presence",
    "AsyncPubSub": "_async_pubsub",
    "AsyncRedisCache": "_tenants",
    "AsyncSlot": "_concurrency",
    "Concurrency": "_concurrency",
    "ContextualRedisCache": "_tenants",
    "InMemoryCache": "_tenants",
    "Listener": "_pubsub",
    "NoOpCache": "_tenants",
    "Presence": "_presence",
    "PubSub": "_pubsub",
    "RedisCache": "_tenants",
    "RateLimitExceeded": "_limit",
    "RedisPubSub": "_pubsub",
    "RuntimeCache": "_tenants",
    "Slot": "_concurrency",
    "TenantCache": "_tenants",
    "cache": "_ready",
    "invalidate_cache": "_ready",
    "pubsub": "_pubsub",
    "rate_limit": "_limit",
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
