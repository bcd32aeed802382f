"""A response as it is stored, and what is sent of it (RFC 9111, RFC 9110).

    "RLH2" | digest of the head, 16 bytes | length of the head, 4 | head, JSON | body

The head holds status, fields, when it was made, for how long it is good, and a digest
of the body. What every hit sends is put together once, when the bytes are read.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterable
from time import time

import msgspec

from redlane._http.fields import (
    MOST_SECONDS,
    accepts_gzip,
    directives,
    names,
    read_date,
    seconds_of,
    tags_match,
)
from redlane._http.policy import Policy, Request, lifetime_of, vary_rest

__all__ = [
    "STORABLE",
    "Answer",
    "Fields",
    "Raw",
    "Serializer",
    "Stored",
    "answer",
    "store",
]

Fields = list[tuple[str, str]]
Raw = list[tuple[bytes, bytes]]
Answer = tuple[int, Fields, bytes]

# Complete, and the same for whoever asks again. Redirects that are not permanent often
# depend on who asks; errors are left alone.
STORABLE = frozenset((200, 203, 204, 300, 301, 308))

_MAGIC = b"RLH2"
_NAMED = 20  # bytes that tell a response from all others
# Of one connection or one moment; what is sent of them is made for each answer.
_DROPPED = frozenset(
    (
        *("age", "connection", "content-length", "date", "keep-alive", "te", "trailer"),
        *("proxy-authenticate", "proxy-authentication-info", "proxy-connection"),
        "authentication-info",
        *("transfer-encoding", "upgrade", "x-cache"),
        # … or of one client.
        *("ratelimit", "ratelimit-policy", "x-ratelimit-limit"),
        *("x-ratelimit-remaining", "x-ratelimit-reset"),
    )
)
_COOKIES = ("set-cookie", "set-cookie2")
_NEVER = _DROPPED.union(_COOKIES, ("content-range",))
_LINES = re.compile(
    r"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\x00-\x08\n-\x1f\x7f\u0100-\U0010ffff]*\n)*"
)
_ETAG = re.compile(r'(?:W/)?"[!#-~\x80-\xff]*"')
_MOST_TIME = 2.0**40
_KEPT_BY_304 = frozenset(
    ["cache-control", "content-location", "etag", "expires", "vary", "last-modified"]
)
# Below this, gzip makes a body no smaller.
_GZIP_ABOVE = 512


class _Head(msgspec.Struct, array_like=True):
    status: int
    fields: list[tuple[str, str]]
    created: float  # Unix seconds, less the Age that it came with
    lifetime: float | None  # None: no end
    etag: str
    vary: list[str]
    varied: list[str]
    strict: bool  # never served past its time
    digest: str  # of the body


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Head).decode


class Stored:
    """A stored response. Not changed once it is made: it is handed out many times."""

    __slots__ = (
        "body",
        "created",
        "end",
        "gzipped",
        "head",
        "lifetime",
        "plain",
        "sent",
        "status",
        "told",
        "told_raw",
        "vary",
    )

    def __init__(self, head: _Head, body: bytes) -> None:
        self.head = head
        self.body = body
        self.status = head.status
        self.created = head.created
        self.lifetime = head.lifetime
        self.end = (
            float("inf") if head.lifetime is None else head.created + head.lifetime
        )
        self.vary = tuple(head.vary)
        self.sent: Fields = [(name, value) for name, value in head.fields]
        if head.status != 204:
            self.sent.append(("Content-Length", str(len(body))))
        # What a plain hit sends at one Age, also as ASGI has it.
        self.told: tuple[int, Fields] | None = None
        self.told_raw: tuple[int, Raw] | None = None
        self.gzipped = any(
            name.lower() == "content-encoding" and value.strip().lower() == "gzip"
            for name, value in head.fields
        )
        # Whether it answers each request that has its key, as it is.
        self.plain = not (self.vary or self.gzipped)

    def hit_fields(self, now: float) -> Fields:
        """The fields of a plain hit; the caller's own list."""
        age = max(int(now - self.created), 0)
        told = self.told
        if told is None or told[0] != age:
            tail = [("Age", str(age)), ("X-Cache", "HIT")]
            told = self.told = (age, self.sent + tail)
        return told[1].copy()

    def matches(self, request: Request) -> bool:
        """Whether its own Vary lets it answer this request."""
        return list(vary_rest(request, self.vary)) == self.head.varied


class Serializer:
    """For Cache: Stored to bytes and back.

    The near cache keeps what was read from a server; what the memory engine gives is
    read anew at each hit. So small responses are kept here too, by their digests.
    """

    _MOST = 256
    _LARGEST = 16384

    def __init__(self) -> None:
        self._kept: dict[bytes, Stored] = {}

    def dumps(self, value: object, /) -> bytes:
        if not isinstance(value, Stored):
            raise TypeError(f"no response: {type(value).__name__}")
        head = _encode(value.head)
        digest = hashlib.sha256(head).digest()[:16]
        size = len(head).to_bytes(4, "big")
        return b"".join((_MAGIC, digest, size, head, value.body))

    def loads(self, data: bytes, /) -> Stored:
        named = data[:_NAMED]
        kept = self._kept.get(named)
        if kept is not None:
            return kept
        if named[:4] != _MAGIC:
            raise ValueError("no stored response")
        end = _NAMED + 4 + int.from_bytes(data[_NAMED : _NAMED + 4], "big")
        raw = data[_NAMED + 4 : end]
        head = _decode(raw)
        if not _sound(head):
            raise ValueError("no head of a response")
        body = bytes(data[end:])
        stored = Stored(head, body)
        # What is not as its digests say never stands in for what is.
        if (
            len(data) <= self._LARGEST
            and named[4:] == hashlib.sha256(raw).digest()[:16]
            and head.digest == hashlib.sha256(body).hexdigest()[:32]
        ):
            if len(self._kept) >= self._MOST:
                self._kept.clear()
            self._kept[named] = stored
        return stored


def _sound(head: _Head) -> bool:
    """Whether it could have been stored here: bytes on a server may be anybody's, and
    what is sent of them must be one response, whole and well-formed."""
    text = "".join([f"{name}:{value}\n" for name, value in head.fields])
    return (
        head.status in STORABLE
        and 0 < head.created < _MOST_TIME
        and (head.lifetime is None or head.lifetime > 0)
        and text.count("\n") == len(head.fields)
        and _LINES.fullmatch(text) is not None
        and ("ETag", head.etag) in head.fields
        and _NEVER.isdisjoint([name.lower() for name, _ in head.fields])
    )


def _inflated(body: bytes) -> bytes | None:
    """What was made gzip, in one piece or several; None: it is no such thing."""
    pieces = []
    try:
        while body:
            packer = zlib.decompressobj(31)
            pieces.append(packer.decompress(body))
            if not packer.eof:
                return None
            body = packer.unused_data
    except zlib.error:
        return None
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _allowed(fields: Fields, now: float) -> tuple[bool, int | None, bool, bool]:
    """Whether it may be stored, for how long at most, whether Cache-Control is set, and
    whether it must not be served past its time."""
    lines = [value for name, value in fields if name.lower() == "cache-control"]
    control = directives(",".join(lines))
    if control.keys() & {"no-store", "private", "no-cache"}:
        return False, 0, True, True
    allowed: int | None = None
    for name in ("s-maxage", "max-age"):
        if name in control:
            allowed = seconds_of(control[name])
            break
    else:
        expires = [value for name, value in fields if name.lower() == "expires"]
        if expires:
            at = read_date(expires[0])
            dates = [value for name, value in fields if name.lower() == "date"]
            since = (read_date(dates[0]) if dates else None) or now
            allowed = 0 if at is None else int(min(max(at - since, 0), MOST_SECONDS))
    strict = bool(control.keys() & {"must-revalidate", "proxy-revalidate", "s-maxage"})
    return allowed is None or allowed > 0, allowed, bool(lines), strict


def _control(policy: Policy, lifetime: float | None, identified: bool) -> str:
    """Cache-Control of a response that has none."""
    seconds = policy.max_age
    if seconds is None:
        seconds = MOST_SECONDS if lifetime is None else int(lifetime)
    parts = (
        ["private" if identified else "public"] if identified or policy.public else []
    )
    if seconds == 0:
        return ", ".join([*parts, "no-cache"])
    parts.append(f"max-age={seconds}")
    if policy.stale is not None:
        parts.append(f"stale-while-revalidate={int(policy.stale)}")
    return ", ".join(parts)


def store(
    policy: Policy,
    request: Request,
    identified: bool,
    status: int,
    fields: Iterable[tuple[str, str]],
    body: bytes,
    now: float | None = None,
) -> Stored | None:
    """The response as it is to be stored; None: it must not be shared.

    `identified`: the key says whose it is. `fields` are those of the response.
    """
    now = time() if now is None else now
    given = [(str(name), str(value)) for name, value in fields]
    present = {name.lower() for name, _ in given}
    if status not in STORABLE or present & {*_COOKIES, "content-range"}:
        return None
    may, allowed, controlled, strict = _allowed(given, now)
    listed = names([value for name, value in given if name.lower() == "vary"])
    if not may or "*" in listed:
        return None
    age = max(
        (seconds_of(v.strip()) for n, v in given if n.lower() == "age"), default=0
    )
    lifetime = lifetime_of(policy.ttl, allowed)
    if lifetime is not None and lifetime <= age:
        return None
    dropped = _DROPPED | set(names([v for n, v in given if n.lower() == "connection"]))
    kept = [
        pair for pair in given if (lower := pair[0].lower()) not in dropped
        and lower not in ("vary", "etag")
    ]  # fmt: skip
    body, coded = _compress(policy, kept, status, body)
    if coded:
        kept.append(("Content-Encoding", "gzip"))
    etag = next((v for n, v in given if n.lower() == "etag"), None)
    digest = hashlib.sha256(body).hexdigest()[:32]
    if etag is None or coded or not _ETAG.fullmatch(etag):
        etag = f'"{digest}"'
    sent_vary = list(dict.fromkeys((*listed, *policy.sent_vary)))
    if coded:
        sent_vary = list(dict.fromkeys((*sent_vary, "accept-encoding")))
    kept.append(("ETag", etag))
    if sent_vary:
        kept.append(("Vary", ", ".join(name.title() for name in sent_vary)))
    if not controlled:
        kept.append(("Cache-Control", _control(policy, lifetime, identified)))
    own = [name for name in listed if name not in policy.vary]
    varied = list(vary_rest(request, own))
    head = _Head(status, kept, now - age, lifetime, etag, own, varied, strict, digest)
    return Stored(head, body)


def _compress(
    policy: Policy, fields: Fields, status: int, body: bytes
) -> tuple[bytes, bool]:
    if not policy.gzip or status == 204 or len(body) < _GZIP_ABOVE:
        return body, False
    if any(name.lower() == "content-encoding" for name, _ in fields):
        return body, False
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    packed = packer.compress(body) + packer.flush()
    return (packed, True) if len(packed) < len(body) else (body, False)


def _unmodified(stored: Stored, request: Request, etag: str) -> bool:
    match = request.header("if-none-match")
    if match is not None:
        return tags_match(match, etag)
    since = read_date(request.header("if-modified-since"))
    if since is None:
        return False
    modified = [v for n, v in stored.sent if n.lower() == "last-modified"]
    changed = read_date(modified[0]) if modified else None
    return changed is not None and changed <= since


def answer(
    stored: Stored, request: Request, word: str, now: float | None = None
) -> Answer:
    """Status, fields and body that answer this request; `word` is X-Cache's."""
    fields, body, etag = stored.sent, stored.body, stored.head.etag
    plain = None
    if stored.gzipped and not accepts_gzip(request.header("accept-encoding")):
        plain = _inflated(body)  # None: as the view has made it
    if plain is not None:
        body = plain
        etag = etag[:-1] + '-i"'
        fields = [
            ("ETag", etag) if (lower := name.lower()) == "etag"
            else ("Content-Length", str(len(body))) if lower == "content-length"
            else (name, value)
            for name, value in fields
            if name.lower() != "content-encoding"
        ]  # fmt: skip
    status = stored.status
    if status == 200 and _unmodified(stored, request, etag):
        status, body = 304, b""
        fields = [pair for pair in fields if pair[0].lower() in _KEPT_BY_304]
    elif request.method == "HEAD":
        body = b""
    tail = [("X-Cache", word)]
    if word != "MISS":
        age = int((time() if now is None else now) - stored.created)
        tail.insert(0, ("Age", str(max(age, 0))))
    return status, fields + tail, body
