"""Whose response may be given to whom: what of a request makes the key, and what keeps
a response from being shared.

A response is shared by the requests that agree in scheme, host, path, query and the
fields that `vary` names. One that brings credentials (Authorization, an identity
header, a cookie, a token in a query that is not part of the key) shares nothing, unless
they are named in `vary` or the route is public.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Collection, Iterable
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any, Literal, Protocol
from urllib.parse import parse_qsl, urlencode

from redlane._core import ConfigurationError
from redlane._http.fields import MOST_SECONDS, directives, names, read_cookies
from redlane._http.fields import seconds_of as argument_seconds

__all__ = [
    "IDENTITY_HEADERS",
    "Period",
    "Plan",
    "Policy",
    "Request",
    "Vary",
    "digest",
    "lifetime_of",
    "period",
    "vary_rest",
]

Period = float | int | str | timedelta
Vary = tuple[str, ...]

# Who asks, in the words of frameworks, gateways and clouds. In lower case.
IDENTITY_HEADERS = (
    "authorization",
    "proxy-authorization",
    "x-api-key",
    "x-apikey",
    "api-key",
    "apikey",
    "x-api-token",
    "x-auth",
    "x-auth-token",
    "x-auth-key",
    "x-auth-user",
    "x-auth-email",
    "x-access-token",
    "x-token",
    "x-user",
    "x-user-id",
    "x-session",
    "x-session-id",
    "x-session-token",
    "x-id-token",
    "x-jwt",
    "x-jwt-assertion",
    "x-client-cert",
    "x-ssl-cert",
    "x-ssl-client-cert",
    "x-forwarded-user",
    "x-forwarded-email",
    "x-forwarded-access-token",
    "x-forwarded-client-cert",
    "x-auth-request-user",
    "x-auth-request-email",
    "x-auth-request-access-token",
    "x-authenticated-userid",
    "x-remote-user",
    "remote-user",
    "x-amz-security-token",
    "x-amzn-oidc-data",
    "x-amzn-oidc-identity",
    "x-goog-iap-jwt-assertion",
    "x-goog-authenticated-user-email",
    "x-ms-client-principal",
    "x-ms-token-aad-access-token",
    "cf-access-jwt-assertion",
    "private-token",
    "dpop",
    "signature",
    "token",
    "client-cert",
    "ssl-client-cert",
    "ssl-client-subject-dn",
    "x-ssl-client-dn",
    "x-ssl-client-s-dn",
    "x-ssl-client-subject-dn",
    "x-arr-clientcert",
    "x-amzn-mtls-clientcert",
    "x-amzn-mtls-clientcert-leaf",
    "x-amzn-mtls-clientcert-subject",
    "x-amzn-oidc-accesstoken",
    "x-goog-api-key",
    "x-goog-authenticated-user-id",
    "x-serverless-authorization",
    "x-endpoint-api-userinfo",
    "x-apigateway-api-userinfo",
    "x-ms-client-principal-id",
    "x-ms-client-principal-name",
    "x-functions-key",
    "ocp-apim-subscription-key",
    "cf-access-authenticated-user-email",
    "tailscale-user-login",
    "x-consumer-id",
    "x-consumer-username",
    "x-credential-identifier",
    "x-rapidapi-key",
    "x-rapidapi-user",
    "x-pomerium-jwt-assertion",
    "x-vouch-user",
    "x-webauth-user",
    "x-authentik-username",
    "x-forwarded-preferred-username",
    "x-forwarded-groups",
    "x-auth-request-preferred-username",
    "x-auth-request-groups",
    "remote-email",
    "remote-groups",
    "x-username",
    "x-user-name",
    "x-user-email",
    "x-account-id",
    "x-tenant",
    "x-tenant-id",
    "x-org-id",
    "x-organization-id",
    "x-customer-id",
    "x-device-id",
    "x-vault-token",
    "x-gitlab-token",
    "x-shopify-access-token",
)
_ALWAYS = ("authorization", "proxy-authorization", "remote-user")
# … and in queries, for routes whose key does not hold all of the query.
IDENTITY_PARAMETERS = frozenset(
    [
        "access_token",
        "api_key",
        "apikey",
        "api-key",
        "auth",
        "authorization",
        "code",
        "jwt",
        "key",
        "password",
        "session",
        "session_id",
        "sessionid",
        "sid",
        "sig",
        "signature",
        "ticket",
        "token",
        "user",
        "user_id",
    ]
)
# Fields that ask for something else than the response itself. If-None-Match and
# If-Modified-Since are answered from what is stored.
_PRECONDITIONS = (
    *("if-match", "if-unmodified-since", "if-range", "range"),
    # … or for another method or URL, of applications that know them.
    *("x-http-method-override", "x-http-method", "x-method-override"),
    *("x-original-url", "x-rewrite-url"),
)
_ASKED = ("cache-control", "pragma", "if-none-match", "if-modified-since")

_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ms|[wdhms])")
_UNITS = {"w": 604800.0, "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


class Request(Protocol):
    """A request, as a framework's part describes it."""

    method: str
    scheme: str
    host: str
    path: str  # its bytes as Latin-1, with what the application is mounted at
    query: str
    body: bool  # whether it brings one
    known: bool  # whether the application, or the server, has found out who asks

    def header(self, name: str) -> str | None:
        """A field's value, by its name in lower case; lines joined by commas."""


def period(value: Period, name: str) -> float:
    """Seconds of a number, a text such as "1h30m", or a timedelta.

    Raises:
        TypeError, ValueError: it is none, or not above zero and finite.
    """
    seconds: float
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, str):
        text = value.strip()
        parts = _PART.findall(text)
        if parts and "".join(number + unit for number, unit in parts) == text:
            seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
        else:
            try:
                seconds = float(text)
            except ValueError:
                raise ValueError(f"{name}: no period: {value!r}") from None
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(
            f"{name} must be seconds, a text such as '10m' or a timedelta,"
            f" not {type(value).__name__}"
        )
    else:
        seconds = float(value)
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"{name} must be greater than zero and finite")
    return seconds


_digests: dict[str, str] = {}
_MOST_DIGESTS = 4096


def digest(parts: Iterable[str]) -> str:
    """What follows the path in a key: a digest, since it may hold secrets; injective,
    for each part is told with its length."""
    found = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogateescape")
        found.update(b"%d:" % len(raw))
        found.update(raw)
    return found.hexdigest()[:32]


def query_digest(query: str) -> str:
    """digest(("q", query)), kept for queries that come again."""
    if not query:
        return ""
    found = _digests.get(query)
    if found is None:
        found = digest(("q", query))
        if len(_digests) >= _MOST_DIGESTS:
            _digests.clear()
        if len(query) <= 1024:
            _digests[query] = found
    return found


class Plan:
    """What to do with one request."""

    __slots__ = ("bypass", "identified", "max_age", "min_fresh", "only", "rest", "use")

    def __init__(self) -> None:
        self.bypass = False  # neither look nor store
        self.use = True  # what is stored may be given; else it is computed anew
        self.only = False  # only-if-cached
        self.identified = False  # the key holds whose it is
        self.max_age: int | None = None
        self.min_fresh = 0
        self.rest = ""

    def accepts(self, age: float, lifetime: float) -> bool:
        """Whether the client takes a stored response of this age."""
        if not self.use or (self.max_age is not None and age > self.max_age):
            return False
        return not self.min_fresh or lifetime - age >= self.min_fresh


class Policy:
    """The options of a route, checked."""

    def __init__(
        self,
        *,
        ttl: Period | None = None,
        vary: str | Iterable[str] = (),
        query: bool | Collection[str] = True,
        public: bool = False,
        ignore_cookies: Iterable[str] = (),
        key: str | Callable[..., str] | None = None,
        identity_headers: Iterable[str] = IDENTITY_HEADERS,
        stale: Period | None = None,
        on_error: Literal["stale"] | None = None,
        max_age: Period | Literal[0] | None = None,
        gzip: bool = False,
        obey_client: bool = True,
        ahead: bool = False,
        tags: Any = None,
    ) -> None:
        self.ttl = None if ttl is None else period(ttl, "ttl")
        self.stale = None if stale is None else period(stale, "stale")
        if max_age is None or max_age == 0:
            self.max_age = max_age
        else:
            self.max_age = int(period(max_age, "max_age"))
        if on_error not in (None, "stale"):
            raise ValueError("on_error must be 'stale' or None")
        if isinstance(ignore_cookies, str) or isinstance(query, str):
            raise TypeError("ignore_cookies and query take lists of names")
        if key is not None and not (isinstance(key, str) or callable(key)):
            raise TypeError("key must be a text or a callable that returns one")
        if ahead and on_error is not None:
            raise ConfigurationError(
                "ahead=True and on_error: a failure is found behind hooks"
            )
        if ahead and callable(key):
            raise ConfigurationError(
                "ahead=True: a callable key needs the view's arguments, which only"
                " routing finds"
            )
        self.on_error = on_error
        self.gzip = gzip
        self.public = public
        self.obey_client = obey_client
        self.ahead = ahead
        self.tags = tags
        self.key = key
        self.query = query if isinstance(query, bool) else frozenset(query)
        self.ignore_cookies = tuple(ignore_cookies)
        lines = [vary] if isinstance(vary, str) else list(vary)
        listed = names(lines)
        if "*" in listed:
            raise ValueError("vary='*' would cache nothing")
        self.vary_cookies = tuple(
            part.strip()[7:].strip()
            for line in lines
            for part in line.split(",")
            if part.strip().lower().startswith("cookie:")
        )
        self.vary = tuple(name for name in listed if not name.startswith("cookie:"))
        self.vary_cookie = "cookie" in self.vary
        # Whatever list is given, these remain: they have no other meaning.
        self.identity = frozenset((*names(list(identity_headers)), *_ALWAYS))
        self.bars = () if public else tuple(self.identity - set(self.vary))
        # A request without any of these has the plan that its URL makes.
        special = {*_PRECONDITIONS, "cookie", "transfer-encoding", *self.bars}
        self.special = frozenset({*special, *_ASKED, *self.vary})
        self.is_plain = (
            key is None
            and self.query is True
            and not self.vary
            and not self.vary_cookies
        )
        # Told to caches downstream: who has credentials is answered otherwise.
        others = () if public else ("cookie", "authorization")
        if self.vary_cookies:
            others = ("cookie", *others)
        self.sent_vary = tuple(dict.fromkeys((*self.vary, *others)))

    def plain(self, query: str) -> str | None:
        """The rest of the key of a request with no special field; None: plan() says."""
        return query_digest(query) if self.is_plain else None

    def plan(self, request: Request, key: str | None = None) -> Plan:
        """What to do with a request; `key`: what the route's `key` option made."""
        plan = Plan()
        if key is None and isinstance(self.key, str):
            key = self.key
        if self.key is not None and not (key is None or isinstance(key, str)):
            raise TypeError(f"key must give a text, not {type(key).__name__}")
        if (
            request.method not in ("GET", "HEAD")
            or request.body
            or any(request.header(name) is not None for name in _PRECONDITIONS)
        ):
            plan.bypass = True
            return plan
        if self._barred(request, plan):
            plan.bypass = True
            return plan
        if self.obey_client:
            self._obey(request, plan)
        rest = self._query_rest(request.query, key)
        if rest is None:
            plan.bypass = True
            return plan
        rest = (*rest, *self._vary_rest(request, plan))
        plan.rest = digest(rest) if rest else ""
        return plan

    def _barred(self, request: Request, plan: Plan) -> bool:
        if any(request.header(name) is not None for name in self.bars):
            return True
        if self.public:
            return False
        if request.known and not self._tells(request):
            return True
        if self.vary_cookie:
            return False
        cookies = request.header("cookie")
        return cookies is not None and any(
            name not in self.vary_cookies and not self._harmless(name)
            for name, _ in read_cookies(cookies)
        )

    def _tells(self, request: Request) -> bool:
        """Whether something in the key says who asks."""
        sent = {name for name, _ in read_cookies(request.header("cookie"))}
        return not sent.isdisjoint(self.vary_cookies) or any(
            request.header(name) is not None
            for name in self.vary
            if name == "cookie" or name in self.identity
        )

    def _harmless(self, cookie: str) -> bool:
        return any(fnmatchcase(cookie, pattern) for pattern in self.ignore_cookies)

    def _obey(self, request: Request, plan: Plan) -> None:
        control = request.header("cache-control")
        if control is None:
            pragma = request.header("pragma")
            plan.use = pragma is None or "no-cache" not in directives(pragma)
            return
        asked = directives(control)
        if "no-store" in asked:
            plan.bypass = True
        plan.use = "no-cache" not in asked
        plan.only = "only-if-cached" in asked
        if "max-age" in asked:
            plan.max_age = argument_seconds(asked["max-age"])
        if "min-fresh" in asked:
            plan.min_fresh = argument_seconds(asked["min-fresh"])

    def _query_rest(self, query: str, key: str | None) -> Vary | None:
        """None: the query holds somebody's token, and the key would not."""
        if self.key is None and self.query is True:
            return ("q", query) if query else ()
        kept: frozenset[str] = frozenset()
        if self.query is True:
            chosen = query
        else:
            # As bytes: what stands there unquoted is UTF-8 like what is quoted.
            raw = query.encode("latin-1", "replace").decode("utf-8", "surrogateescape")
            pairs = parse_qsl(raw, keep_blank_values=True, errors="surrogateescape")
            if self.query is not False:
                kept = self.query
            if not self.public and any(
                name not in kept and name.lower() in IDENTITY_PARAMETERS
                for name, _ in pairs
            ):
                return None
            chosen = urlencode(
                [pair for pair in pairs if pair[0] in kept], errors="surrogateescape"
            )
        if self.key is not None:
            return ("k", key or "", "q", chosen if self.query is not True else "")
        return ("q", chosen) if chosen else ()

    def _vary_rest(self, request: Request, plan: Plan) -> Vary:
        parts: list[str] = []
        for name in self.vary:
            value = request.header(name)
            if name == "cookie" and value is not None:
                value = "; ".join(
                    part
                    for part in map(str.strip, value.split(";"))
                    if part and not self._harmless(part.partition("=")[0].strip())
                )
            plan.identified |= value is not None and (
                name == "cookie" or name in self.identity
            )
            parts += ("h", name, "-" if value is None else "+" + value)
        if self.vary_cookies:
            sent = read_cookies(request.header("cookie"))
            for name in self.vary_cookies:
                values = [content for key, content in sent if key == name]
                plan.identified |= bool(values)
                parts += ("c", name, str(len(values)), *values)
        return tuple(parts)


def vary_rest(request: Request, listed: Iterable[str]) -> Vary:
    """What a request says to the fields of a response's own Vary."""
    parts: list[str] = ["v"]
    for name in listed:
        value = request.header(name)
        parts += (name, "-" if value is None else "+" + value)
    return tuple(parts)


def lifetime_of(ttl: float | None, allowed: int | None) -> float | None:
    """The shorter of both; None: no end."""
    if ttl is None:
        return None if allowed is None else float(min(allowed, MOST_SECONDS))
    return ttl if allowed is None else min(ttl, allowed)
