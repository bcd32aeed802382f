"""The extension's configuration: REDLANE_* keys, and those that applications have from
Flask-Caching and Flask-Limiter."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import quote

from redlane._core import (
    Cache,
    Client,
    ConfigurationError,
    RateLimiter,
    _check_url,
)
from redlane._http.policy import IDENTITY_HEADERS, period

__all__ = ["Settings", "read_settings"]

# Flask-Caching's, by what they are here.
_MEMORY = ("simplecache", "simple", "flask_caching.backends.simplecache")
_REDIS = ("rediscache", "redis", "flask_caching.backends.rediscache")
_NULL = ("nullcache", "null", "flask_caching.backends.nullcache")
_CACHE_READ = frozenset(
    [
        "CACHE_TYPE",
        "CACHE_DEFAULT_TIMEOUT",
        "CACHE_KEY_PREFIX",
        "CACHE_REDIS_URL",
        "CACHE_REDIS_HOST",
        "CACHE_REDIS_PORT",
        "CACHE_REDIS_USERNAME",
        "CACHE_REDIS_PASSWORD",
        "CACHE_REDIS_DB",
        "CACHE_NO_NULL_WARNING",
        "CACHE_IGNORE_ERRORS",
        "CACHE_SOURCE_CHECK",
    ]
)
_CACHE_HINTS = {
    "CACHE_THRESHOLD": "the memory engine is bounded in bytes: max_memory of a Client",
    "CACHE_DIR": "nothing is kept in files",
    "CACHE_OPTIONS": "options of the connection stand in its URL, or in a Client",
    "CACHE_ARGS": "options of the connection stand in its URL, or in a Client",
    "CACHE_MEMCACHED_SERVERS": "Memcached is not spoken here",
    "CACHE_REDIS_SENTINELS": "Sentinel is not spoken here",
    "CACHE_REDIS_CLUSTER": "Cluster is not spoken here",
}
_ALGORITHMS = (
    *("sliding-window", "fixed-window", "sliding-log", "moving-window"),
    *("token-bucket", "gcra"),
)
# Flask-Limiter's.
_STRATEGIES = {
    "fixed-window": "fixed-window",
    "fixed-window-elastic-expiry": "fixed-window",
    "moving-window": "moving-window",
    "sliding-window-counter": "sliding-window",
}
_ALGORITHMS = (
    *("sliding-window", "fixed-window", "sliding-log", "moving-window"),
    *("token-bucket", "gcra"),
)
_LIMIT_READ = frozenset(
    [
        "RATELIMIT_ENABLED",
        "RATELIMIT_DEFAULT",
        "RATELIMIT_APPLICATION",
        "RATELIMIT_STORAGE_URI",
        "RATELIMIT_STORAGE_URL",
        "RATELIMIT_STRATEGY",
        "RATELIMIT_HEADERS_ENABLED",
        "RATELIMIT_KEY_PREFIX",
        "RATELIMIT_SWALLOW_ERRORS",
        "RATELIMIT_IN_MEMORY_FALLBACK_ENABLED",
        "RATELIMIT_FAIL_ON_FIRST_BREACH",
    ]
)
_LIMIT_HINTS = {
    "RATELIMIT_STORAGE_OPTIONS": "options of the connection stand in its URL",
    "RATELIMIT_IN_MEMORY_FALLBACK": "without Redis the same limits hold in memory",
    "RATELIMIT_HEADER_LIMIT": "the fields have their usual names",
    "RATELIMIT_HEADER_REMAINING": "the fields have their usual names",
    "RATELIMIT_HEADER_RESET": "the fields have their usual names",
    "RATELIMIT_HEADER_RETRY_AFTER": "the fields have their usual names",
    "RATELIMIT_HEADER_RETRY_AFTER_VALUE": "Retry-After is in seconds",
    "RATELIMIT_DEFAULTS_PER_METHOD": "a limit counts all methods of its view",
    "RATELIMIT_DEFAULTS_EXEMPT_WHEN": "exempt_when= of each limit says it",
    "RATELIMIT_DEFAULTS_DEDUCT_WHEN": "deduct_when= of each limit says it",
    "RATELIMIT_DEFAULTS_COST": "cost= of each limit says it",
    "RATELIMIT_REQUEST_IDENTIFIER": "key= of each limit says it",
}
_OWN = frozenset(
    [
        "REDLANE_URL",
        "REDLANE_CLIENT",
        "REDLANE_PREFIX",
        "REDLANE_DEFAULT_TTL",
        "REDLANE_ENABLED",
        "REDLANE_FALLBACK",
        "REDLANE_NEAR",
        "REDLANE_SEAL",
        "REDLANE_IGNORE_COOKIES",
        "REDLANE_IDENTITY_HEADERS",
        "REDLANE_OBEY_CLIENT",
        "REDLANE_GZIP",
        "REDLANE_TRUSTED_HOPS",
        "REDLANE_LIMITS",
        "REDLANE_LIMITS_ENABLED",
        "REDLANE_LIMIT_ALGORITHM",
        "REDLANE_LIMIT_HEADERS",
        "REDLANE_LIMIT_PREFIX",
        "REDLANE_LIMIT_ON_ERROR",
    ]
)


class Settings:
    """What an application's configuration says."""

    def __init__(self) -> None:
        self.url: str | None = None
        self.client: Client[Any] | None = None
        self.prefix = "http"
        self.enabled = True
        self.fallback = "memory"
        self.near = True
        self.seal: Any = None
        self.defaults: dict[str, Any] = {}
        self.trusted_hops = 0
        self.limit_url: str | None = None
        self.limits: str | None = None  # of each view that has none of its own
        self.app_limits: str | None = None  # of all views together
        self.limits_enabled = True
        self.limit_algorithm = "sliding-window"
        self.limit_headers = True
        self.limit_prefix = "ratelimit"
        self.limit_on_error = "memory"

    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """A view's options, with the application's where it has none."""
        return {**self.defaults, **given}

    def _cache(self, prefix: str, **options: Any) -> Cache:
        target: Any = self.client if self.client is not None else self.url
        return Cache(
            target,
            prefix=prefix,
            fallback=self.fallback,  # type: ignore[arg-type]
            near=self.near,
            seal=self.seal,
            **options,
        )

    def make_cache(self, serializer: Any) -> Cache:
        return self._cache(self.prefix, serializer=serializer)

    def make_limiter(self) -> RateLimiter:
        target: Any = self.client if self.client is not None else self.url
        return RateLimiter(
            self.limit_url or target,
            self.limit_algorithm,  # type: ignore[arg-type]
            self.limit_on_error,  # type: ignore[arg-type]
            prefix=self.limit_prefix,
        )

    def make_fragments(self) -> Cache:
        return self._cache(f"{self.prefix}-fragment")


def read_settings(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> Settings:
    """The settings of an application.

    Raises:
        ConfigurationError: a value is not usable.
    """
    try:
        return _read(config, defaults)
    except Exception as error:  # noqa: BLE001 - raised again
        # Without the frames within: what shows a traceback may show a frame's
        # variables, and theirs are an application's secrets.
        del config
        error.__context__ = None
        raise error.with_traceback(None) from None


def _read(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> Settings:
    settings = Settings()
    if any(name.startswith("CACHE_") for name in config):
        _read_caching(config, settings)
    if any(name.startswith("RATELIMIT_") for name in config):
        _read_limiter(config, settings)
    _read_own(config, settings)
    # What the program says goes before what is configured.
    settings.defaults.update(defaults)
    _warn_unknown(config)
    return settings


def _checked(name: str, wanted: str, read: Callable[[], Any]) -> Any:
    """What is wrong is not told: it may be a secret in the wrong place."""
    try:
        return read()
    except (TypeError, ValueError):
        raise ConfigurationError(f"{name}: {wanted}") from None


def _seal(config: Mapping[str, Any]) -> Any:
    seal = config["REDLANE_SEAL"]
    try:
        Cache("memory://", seal=seal)
    except (TypeError, ValueError) as error:  # which tells no key
        raise ConfigurationError(f"REDLANE_SEAL: {error}") from None
    return seal


def _flag(config: Mapping[str, Any], name: str) -> bool:
    value = config[name]
    if isinstance(value, str):
        lower = value.strip().lower()
        if lower in ("1", "true", "yes", "on"):
            return True
        if lower in ("0", "false", "no", "off", ""):
            return False
        raise ConfigurationError(f"{name}: neither true nor false")
    return bool(value)


def _url(config: Mapping[str, Any], name: str) -> str:
    return _usable(str(config[name]), name)


def _usable(url: str, name: str) -> str:
    """The URL, checked; what _check_url gives back is only for showing."""
    _check_url(url, name)
    return url


def _listed(config: Mapping[str, Any], name: str) -> list[str]:
    value = config[name]
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, Iterable) or isinstance(value, (bytes, Mapping)):
        raise ConfigurationError(f"{name}: a list, or a text with commas")
    return [str(part) for part in value]


def _rates(text: str, name: str) -> str:
    _checked(
        name,
        "no rate limits, such as '100 per minute'",
        lambda: RateLimiter("memory://").peek("check", text),
    )
    return text


def _read_own(config: Mapping[str, Any], settings: Settings) -> None:
    given = {name for name in _OWN if config.get(name) not in (None, "")}
    client = config.get("REDLANE_CLIENT")
    if client is not None:
        if not isinstance(client, Client):
            raise ConfigurationError("REDLANE_CLIENT: no Client")
        settings.client = client
        settings.limit_url = None
    if "REDLANE_URL" in given:
        settings.url = _url(config, "REDLANE_URL")
        settings.limit_url = None
    for name, attribute, allowed in (
        ("REDLANE_PREFIX", "prefix", None),
        ("REDLANE_FALLBACK", "fallback", ("memory", "none", "raise")),
        ("REDLANE_LIMITS", "limits", None),
        ("REDLANE_LIMIT_ALGORITHM", "limit_algorithm", _ALGORITHMS),
        ("REDLANE_LIMIT_PREFIX", "limit_prefix", None),
        ("REDLANE_LIMIT_ON_ERROR", "limit_on_error", ("memory", "allow", "deny")),
    ):
        if name in given:
            value = str(config[name])
            if allowed is not None and value not in allowed:
                raise ConfigurationError(f"{name}: one of {', '.join(allowed)}")
            if name == "REDLANE_LIMITS":
                _rates(value, name)
            setattr(settings, attribute, value)
    for name, attribute in (
        ("REDLANE_ENABLED", "enabled"),
        ("REDLANE_NEAR", "near"),
        ("REDLANE_LIMITS_ENABLED", "limits_enabled"),
        ("REDLANE_LIMIT_HEADERS", "limit_headers"),
    ):
        if name in given:
            setattr(settings, attribute, _flag(config, name))
    if "REDLANE_SEAL" in given:
        settings.seal = _seal(config)
    if "REDLANE_TRUSTED_HOPS" in given:
        name, wanted = "REDLANE_TRUSTED_HOPS", "a number from 0 to 100"
        hops = _checked(name, wanted, lambda: int(config[name]))
        if not 0 <= hops <= 100:
            raise ConfigurationError(f"{name}: {wanted}")
        settings.trusted_hops = hops
    read: dict[str, Any] = {}
    if "REDLANE_DEFAULT_TTL" in given:
        read["ttl"] = config["REDLANE_DEFAULT_TTL"]
        _checked(
            "REDLANE_DEFAULT_TTL",
            "no period, such as 60 or '10m'",
            lambda: period(read["ttl"], "a TTL"),
        )
    if "REDLANE_IGNORE_COOKIES" in given:
        read["ignore_cookies"] = _listed(config, "REDLANE_IGNORE_COOKIES")
    if "REDLANE_IDENTITY_HEADERS" in given:  # beside those that are known
        more = _listed(config, "REDLANE_IDENTITY_HEADERS")
        read["identity_headers"] = [*IDENTITY_HEADERS, *more]
    for name, option in (
        ("REDLANE_OBEY_CLIENT", "obey_client"),
        ("REDLANE_GZIP", "gzip"),
    ):
        if name in given:
            read[option] = _flag(config, name)
    settings.defaults.update(read)


def _read_caching(config: Mapping[str, Any], settings: Settings) -> None:
    kind = str(config.get("CACHE_TYPE") or "").lower()
    if kind in _MEMORY:
        settings.url = "memory://"
    elif kind in _NULL:
        settings.enabled = False
    elif kind in _REDIS or (not kind and config.get("CACHE_REDIS_URL")):
        settings.url = _caching_url(config)
    elif kind:
        _warn(f"CACHE_TYPE={config['CACHE_TYPE']!r} is not known here: Redis or memory")
    timeout = config.get("CACHE_DEFAULT_TIMEOUT")
    if timeout is not None:
        name, wanted = "CACHE_DEFAULT_TIMEOUT", "no number of seconds"
        seconds = _checked(name, wanted, lambda: float(timeout))
        if not math.isfinite(seconds) or seconds < 0:
            raise ConfigurationError(f"{name}: {wanted}")
        if seconds > 0:  # 0 is without end there, as no TTL is here
            settings.defaults["ttl"] = seconds
    prefix = config.get("CACHE_KEY_PREFIX")
    if isinstance(prefix, str) and prefix.rstrip(":"):
        settings.prefix = prefix.rstrip(":")
    elif prefix is not None and not isinstance(prefix, str):
        _warn("CACHE_KEY_PREFIX: a callable is not honoured")


def _caching_url(config: Mapping[str, Any]) -> str | None:
    if config.get("CACHE_REDIS_URL"):
        return _url(config, "CACHE_REDIS_URL")
    host = config.get("CACHE_REDIS_HOST")
    if not isinstance(host, str):
        if host is not None:
            _warn("CACHE_REDIS_HOST: a client of another library is not honoured")
        return None  # the environment's
    user = quote(str(config.get("CACHE_REDIS_USERNAME") or ""), safe="")
    password = quote(str(config.get("CACHE_REDIS_PASSWORD") or ""), safe="")
    login = f"{user}:{password}@" if user or password else ""
    place = f"[{host}]" if ":" in host else host
    port = _whole(config, "CACHE_REDIS_PORT", 6379)
    number = _whole(config, "CACHE_REDIS_DB", 0)
    url = f"redis://{login}{place}:{port}/{number}"
    return _usable(url, "CACHE_REDIS_HOST")


def _whole(config: Mapping[str, Any], name: str, default: int) -> int:
    value = config.get(name) or default
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ConfigurationError(f"{name}: no number") from None


def _read_limiter(config: Mapping[str, Any], settings: Settings) -> None:
    if config.get("RATELIMIT_ENABLED") is not None:
        settings.limits_enabled = _flag(config, "RATELIMIT_ENABLED")
    if config.get("RATELIMIT_HEADERS_ENABLED") is not None:
        settings.limit_headers = _flag(config, "RATELIMIT_HEADERS_ENABLED")
    for name in ("RATELIMIT_STORAGE_URI", "RATELIMIT_STORAGE_URL"):
        uri = config.get(name)
        if not uri:
            continue
        scheme, told, _ = str(uri).partition("://")
        scheme = scheme.replace("async+", "")
        if not told:  # it may be anything, a password too
            raise ConfigurationError(f"{name}: no URL")
        if scheme in ("memory", "redis", "rediss", "unix", "valkey", "redis+unix"):
            plain = str(uri).replace("async+", "")
            for old, new in (("valkey://", "redis://"), ("redis+unix://", "unix://")):
                if plain.startswith(old):
                    plain = new + plain[len(old) :]
            settings.limit_url = _usable(plain, name)
        else:
            _warn(f"{name}: {scheme}:// is not spoken here: Redis or memory")
        break
    strategy = config.get("RATELIMIT_STRATEGY")
    if strategy:
        known = _STRATEGIES.get(str(strategy))
        if known is None:
            raise ConfigurationError(f"RATELIMIT_STRATEGY: {strategy!r} is not known")
        settings.limit_algorithm = known
    for name, attribute in (
        ("RATELIMIT_DEFAULT", "limits"),
        ("RATELIMIT_APPLICATION", "app_limits"),
    ):
        limits = config.get(name)
        if isinstance(limits, str) and limits:
            setattr(settings, attribute, _rates(limits, name))
        elif limits:
            _warn(f"{name}: a callable is not honoured")
    prefix = config.get("RATELIMIT_KEY_PREFIX")
    if isinstance(prefix, str) and prefix.rstrip(":"):
        settings.limit_prefix = prefix.rstrip(":")
    if config.get("RATELIMIT_SWALLOW_ERRORS"):
        settings.limit_on_error = "allow"
    if config.get("RATELIMIT_IN_MEMORY_FALLBACK_ENABLED"):
        settings.limit_on_error = "memory"


def _warn(text: str) -> None:
    warnings.warn(f"redlane: {text}", RuntimeWarning, stacklevel=2)


def _unknown(
    config: Mapping[str, Any],
    prefix: str,
    known: Iterable[str],
    hints: Mapping[str, str],
) -> None:
    for name in sorted(config):
        if not name.startswith(prefix) or name in known or config[name] in (None, ""):
            continue
        hint = next((hints[key] for key in hints if name.startswith(key)), None)
        if hint is None:
            _warn(f"{name} is not known: nothing is read from it")
        else:
            _warn(f"{name} is not honoured: {hint}")


def _warn_unknown(config: Mapping[str, Any]) -> None:
    _unknown(config, "REDLANE_", _OWN, {})
    _unknown(config, "CACHE_", _CACHE_READ, _CACHE_HINTS)
    _unknown(config, "RATELIMIT_", _LIMIT_READ, _LIMIT_HINTS)
