"""One route's responses in the cache: who computes, who waits, who is served what.

    request ── plan ──▶ bypass: the route answers, nothing is read or stored
                  └───▶ fetch ──▶ hit, perhaps stale: stored bytes
                             └──▶ the job: the route answers, and what it answers is
                                  stored, or belongs to this request alone (Unshared)

Nobody is given what another's job raised or kept for itself: who waited for a response
that may not be shared asks the route for his own.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from time import monotonic, time
from typing import Any

from redlane import Cache
from redlane._http.policy import Plan, Policy, Request, Vary, vary_rest, wire_key
from redlane._http.stored import Stored

__all__ = ["Key", "Shared", "Unshared", "patterns", "word"]

Key = tuple[str, str, str, Vary]  # scheme, host, path, what else

# So long after a response that may not be shared, whoever has waited for it goes to the
# route by himself, and all of them at once instead of one after the other.
_PASS = 0.25
_PASSES = 1024


class Unshared(Exception):
    """The response is this request's alone, or there is none."""


def _lifetime(stored: Stored) -> float | None:
    return stored.lifetime


def _run(scheme: str, host: str, path: str, rest: Vary, job: Any) -> Stored:
    stored: Stored = job()
    return stored


async def _run_async(scheme: str, host: str, path: str, rest: Vary, job: Any) -> Stored:
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
            "key": wire_key,
            "ignore": ["job"],
            "share": True,
        }
        if policy.stale is not None:
            options["stale"] = policy.stale
        if policy.on_error is not None:
            options["on_error"] = policy.on_error
        if policy.tags:
            options["tags"] = list(policy.tags)
        decorate = cache(**options)
        fetch: Any = decorate(_run)
        self.fetch: Callable[..., Stored] = fetch
        self.renew: Callable[..., Stored] = fetch.refresh
        afetch: Any = cache(**options)(_run_async)
        self.fetch_async: Callable[..., Coroutine[Any, Any, Stored]] = afetch
        self.renew_async: Callable[..., Coroutine[Any, Any, Stored]] = afetch.refresh

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
        return (*key[:3], (*key[3], *vary_rest(request, stored.vary)))

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

    def drop(self, request: Request) -> None:
        """After a change by way of this URL (RFC 9111, 4.4): what is stored of it is no
        longer good. Where the route varies, all of its variants go, and queries too."""
        key = wire_key(request.scheme, request.host, request.path, self._rest(request))
        self.cache.delete(key)
        for pattern in self._variants(request):
            self.cache.invalidate(pattern)

    async def drop_async(self, request: Request) -> None:
        """drop(), awaited."""
        key = wire_key(request.scheme, request.host, request.path, self._rest(request))
        await self.cache.aio.delete(key)
        for pattern in self._variants(request):
            await self.cache.aio.invalidate(pattern)

    def _rest(self, request: Request) -> Vary:
        return ("q", request.query) if request.query else ()

    def _variants(self, request: Request) -> list[str]:
        policy = self.policy
        if not (self.varies or policy.vary or policy.vary_cookies or policy.key):
            return []
        base = wire_key(request.scheme, request.host, request.path, ())
        return [escape(f"{self.cache.prefix}:{base}?") + "*"]


def escape(text: str) -> str:
    """A pattern that matches this text only."""
    return "".join("\\" + c if c in "*?[]\\" else c for c in text)


def patterns(prefix: str, path: str) -> list[str]:
    """Those of the keys of a path, with `*` in it, on all hosts, and its variants."""
    place = wire_key("", "", path, ()).removeprefix("://").replace("%2A", "*")
    base = escape(prefix) + ":*://*" + place
    return [base, base + "\\?*"]


def word(stored: Stored, ran: bool) -> str:
    """X-Cache of a response that was found."""
    if ran:
        return "MISS"
    return "STALE" if time() >= stored.end else "HIT"
