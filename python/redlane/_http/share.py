"""One route's responses in the cache: who computes, who waits, who is served what.

    request ── plan ──▶ bypass: the route answers, nothing is read or stored
                  └───▶ fetch ──▶ hit, perhaps stale: stored bytes
                             └──▶ the job: the route answers, and what it answers is
                                  stored, or belongs to this request alone (Unshared)

Nobody is given what another's job raised or kept for itself: who waited for a response
that may not be shared asks the route for his own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from time import monotonic, time
from typing import Any

from redlane import Cache
from redlane._core import _peek
from redlane._http.policy import Plan, Policy, Request, digest, query_digest, vary_rest
from redlane._http.stored import Stored

__all__ = [
    "Key",
    "RouteError",
    "Shared",
    "Unshared",
    "is_final",
    "pattern_of",
    "word",
]

Key = tuple[str, str, str, str]  # scheme, host, path, digest of what else

_TEMPLATE = "{scheme}:{host}:{path}:{rest}"

# So long after a response that may not be shared, whoever has waited for it goes to the
# route by himself, and all of them at once instead of one after the other.
_PASS = 0.25
_PASSES = 1024


class Unshared(Exception):
    """The response is this request's alone, or there is none."""


class RouteError(Unshared):
    """The route has failed: an old response may stand in."""


def is_final(status: int) -> bool:
    """Whether a response that is not stored says that an old one is no longer good:
    what has failed, or was asked too soon, says nothing."""
    return status < 500 and status not in (408, 425, 429)


def _lifetime(stored: Stored) -> float | None:
    """What is left of it: it may have been old when it came."""
    if stored.lifetime is None:
        return None
    return min(max(stored.end - time(), 0.001), stored.lifetime)


def cached_response(scheme: str, host: str, path: str, rest: str, job: Any) -> Stored:
    stored: Stored = job()
    return stored


async def cached_response_async(
    scheme: str, host: str, path: str, rest: str, job: Any
) -> Stored:
    stored: Stored = await job()
    return stored


class Shared:
    """A route's policy on a cache."""

    def __init__(self, cache: Cache, policy: Policy) -> None:
        self.cache = cache
        self.policy = policy
        self.varies = False  # a response had a Vary of its own
        self._passes: dict[Key, float] = {}
        options: dict[str, Any] = {
            "ttl": _lifetime,
            "key": _TEMPLATE,
            "ignore": ["job"],
            "share": True,
        }
        if policy.stale is not None:
            options["stale"] = policy.stale
        if policy.on_error is not None:
            options["on_error"] = policy.on_error
        if policy.tags:
            options["tags"] = list(policy.tags)
        fetch: Any = cache(**options)(cached_response)
        self._fetch = fetch
        self.fetch: Callable[..., Stored] = fetch
        self.renew: Callable[..., Stored] = fetch.refresh
        self.key_text: Callable[..., str] = fetch.cache_key
        afetch: Any = cache(**options)(cached_response_async)
        self._afetch = afetch
        self.fetch_async: Callable[..., Coroutine[Any, Any, Stored]] = afetch
        self.renew_async: Callable[..., Coroutine[Any, Any, Stored]] = afetch.refresh
        # The engine of this process makes nobody wait: a look at it is a call.
        self._embedded = (
            policy.stale is None and policy.on_error is None and not policy.tags
        )
        self.keeps = policy.stale is not None or policy.on_error is not None
        self._skip = len(cache.prefix) + 1 if cache.prefix else 0
        self._client: Any = None  # whose engine that is
        self._reads = False

    def peek(self, key: Key) -> Stored | None:
        """What is stored, where that is at hand in this process; else fetch() tells."""
        reads = self._reads if self.cache.client is self._client else self._look()
        found: Stored | None = _peek(self._fetch, reads, *key, None)
        return found

    def peek_async(self, key: Key) -> Stored | None:
        """peek(), for who calls fetch_async()."""
        reads = self._reads if self.cache.client is self._client else self._look()
        found: Stored | None = _peek(self._afetch, reads, *key, None)
        return found

    def _look(self) -> bool:
        """configure() may have set another default client."""
        self._client = self.cache.client
        self._reads = self._embedded and self._client.url.startswith("memory:")
        return self._reads

    def _name(self, key: Key) -> str:
        """As the cache's own methods have it, without the prefix."""
        return self.key_text(*key, None)[self._skip :]

    def _learn(self, stored: Stored | None) -> None:
        """What another worker has stored may have a Vary that was not seen here."""
        if stored is not None and stored.vary:
            self.varies = True

    # What was found not to be shared a moment ago.

    def passing(self, key: Key) -> bool:
        until = self._passes.get(key)
        return until is not None and monotonic() < until

    def pass_on(self, key: Key) -> None:
        if len(self._passes) >= _PASSES:
            self._passes.clear()
        self._passes[key] = monotonic() + _PASS

    def usable(self, stored: Stored, plan: Plan, now: float) -> bool:
        """Whether it may answer: the client takes its age, and so does the response."""
        if stored.head.strict and now >= stored.end:
            return False
        return plan.accepts(now - stored.created, stored.end - stored.created)

    def key_of(self, request: Request, plan: Plan) -> Key:
        return (request.scheme, request.host, request.path, plan.rest)

    def vary_key(self, key: Key, stored: Stored, request: Request) -> Key:
        """Where the response lies that this request gets, by the stored one's Vary."""
        return (*key[:3], digest((key[3], *vary_rest(request, stored.vary))))

    def find(self, request: Request, plan: Plan, key: Key, job: Any) -> Stored | None:
        """What answers; None: nothing may, `job` says what to do instead."""
        try:
            stored = self.fetch(*key, job) if plan.use else self.renew(*key, job)
            if stored.vary and not stored.matches(request):
                self.varies = True
                key = self.vary_key(key, stored, request)
                stored = self.fetch(*key, job) if plan.use else self.renew(*key, job)
                if not stored.matches(request):
                    return None
            if not job.ran and not self.usable(stored, plan, time()):
                stored = self.renew(*key, job)
        except Unshared:
            return None
        return stored

    async def find_async(
        self, request: Request, plan: Plan, key: Key, job: Any
    ) -> Stored | None:
        """find(), awaited."""
        fetch, renew = self.fetch_async, self.renew_async
        try:
            stored = await (fetch(*key, job) if plan.use else renew(*key, job))
            if stored.vary and not stored.matches(request):
                self.varies = True
                key = self.vary_key(key, stored, request)
                stored = await (fetch(*key, job) if plan.use else renew(*key, job))
                if not stored.matches(request):
                    return None
            if not job.ran and not self.usable(stored, plan, time()):
                stored = await renew(*key, job)
        except Unshared:
            return None
        return stored

    def forget(self, key: Key) -> None:
        """What is stored there is no longer good, not even for want of better."""
        if self.keeps:
            self._fetch.invalidate(*key, None)

    async def forget_async(self, key: Key) -> None:
        """forget(), awaited."""
        if self.keeps:
            await self._afetch.invalidate(*key, None)

    def drop(self, request: Request) -> None:
        """After a change by way of this URL (RFC 9111, 4.4): what is stored of it is no
        longer good. Where the route varies, all of its variants go, and queries too."""
        key = self._url_key(request)
        self._learn(self.cache.get(self._name(key)))
        self._fetch.invalidate(*key, None)
        for pattern in self._variants(request):
            self.cache.invalidate(pattern)

    async def drop_async(self, request: Request) -> None:
        """drop(), awaited."""
        key = self._url_key(request)
        self._learn(await self.cache.aio.get(self._name(key)))
        await self._afetch.invalidate(*key, None)
        for pattern in self._variants(request):
            await self.cache.aio.invalidate(pattern)

    def _url_key(self, request: Request) -> Key:
        rest = query_digest(request.query)
        return (request.scheme, request.host, request.path, rest)

    def _variants(self, request: Request) -> list[str]:
        policy = self.policy
        if policy.is_plain and not self.varies:
            return []
        text = self.key_text(request.scheme, request.host, request.path, "", None)
        return [escape(text.removesuffix('""')) + "*"]


def escape(text: str) -> str:
    """A pattern that matches this text only."""
    return "".join("\\" + c if c in "*?[]\\" else c for c in text)


def pattern_of(cache: Cache, path: str) -> str:
    """That of the keys of a path, on all hosts and with all variants; `*` in it stands
    for any text."""

    def field(path: str) -> str:
        return path

    raw = path.encode("utf-8", "surrogateescape").decode("latin-1")
    if "*" in raw:
        quoted = "*".join(
            escape(json.dumps(part, ensure_ascii=False)[1:-1])
            for part in raw.split("*")
        )
        text = f'"{quoted}"'
    else:
        named: Any = cache(key="{path}")(field)
        text = escape(named.cache_key(raw).removeprefix(f"{cache.prefix}:"))
    return f"{escape(cache.prefix)}:*:*:{text}:*"


def word(stored: Stored, ran: bool) -> str:
    """X-Cache of a response that was found."""
    if ran:
        return "MISS"
    return "STALE" if time() >= stored.end else "HIT"
