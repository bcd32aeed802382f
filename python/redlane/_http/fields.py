"""Reading HTTP fields: what may come from anybody, so nothing here raises."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timezone
from email.utils import parsedate_to_datetime

__all__ = [
    "MOST_SECONDS",
    "accepts_gzip",
    "directives",
    "names",
    "read_cookies",
    "read_date",
    "seconds_of",
    "tags_match",
]

MOST_SECONDS = 2**31  # RFC 9111, 1.2.2: what is larger counts as this

_DIRECTIVE = re.compile(
    r"""\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)          # a token
        (?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,;]*)))?  # its argument, quoted or not
    """,
    re.VERBOSE,
)
_SEPARATOR = re.compile("[,;]")
_TAG = re.compile(r'\s*(?:W/)?("[^"]*")\s*(?:,|$)')


def directives(value: str | None) -> dict[str, str | None]:
    """Cache-Control's directives by their names in lower case; of several alike the
    first counts. What cannot be read is skipped."""
    found: dict[str, str | None] = {}
    at = 0
    while value and at < len(value):
        match = _DIRECTIVE.match(value, at)
        if match:
            quoted, plain = match[2], match[3]
            if quoted is not None:
                quoted = re.sub(r"\\(.)", r"\1", quoted)
            found.setdefault(match[1].lower(), plain if quoted is None else quoted)
            at = match.end()
        # Some write semicolons: rather read one too many than miss a "private".
        separator = _SEPARATOR.search(value, at)
        if separator is None:
            break
        at = separator.end()
    return found


def seconds_of(argument: str | None) -> int:
    """The argument of max-age and its like; one that is none counts as 0, so that what
    it speaks of is stale rather than fresh (RFC 9111, 4.2.1)."""
    if argument is None or not (argument.isascii() and argument.isdigit()):
        return 0
    return MOST_SECONDS if len(argument) > 10 else min(int(argument), MOST_SECONDS)


def names(value: str | Iterable[str] | None) -> list[str]:
    """The members of a list of field names, in lower case, each once."""
    if value is None:
        return []
    lines = [value] if isinstance(value, str) else value
    members = (name.strip().lower() for line in lines for name in line.split(","))
    return list(dict.fromkeys(name for name in members if name))


def read_cookies(value: str | None) -> list[tuple[str, str]]:
    """The pairs of a Cookie field, as they stand there."""
    pairs = []
    for part in (value or "").split(";"):
        name, equals, content = part.strip().partition("=")
        if name or equals:
            pairs.append((name.strip(), content.strip()))
    return pairs


def read_date(value: str | None) -> float | None:
    """Unix seconds of an HTTP date; None for what is none."""
    if not value:
        return None
    try:
        date = parsedate_to_datetime(value)
        if date.tzinfo is None:  # as that of asctime: all of HTTP's are in UTC
            date = date.replace(tzinfo=timezone.utc)
        return date.timestamp()
    except (TypeError, ValueError, IndexError, OverflowError):
        return None


def tags_match(value: str, tag: str) -> bool:
    """Whether If-None-Match names this entity tag; W/ makes no difference there."""
    if value.strip() == "*":
        return True
    bare = tag[2:] if tag.startswith("W/") else tag
    return any(match[1] == bare for match in _TAG.finditer(value))


def accepts_gzip(value: str | None) -> bool:
    """Whether Accept-Encoding lets gzip be sent; without the field it does not."""
    wildcard = False
    for part in (value or "").split(","):
        coding, *parameters = (item.strip().lower() for item in part.split(";"))
        weight = 1.0
        for parameter in parameters:
            key, _, number = parameter.partition("=")
            if key.strip() == "q":
                try:
                    weight = float(number)
                except ValueError:
                    weight = 0.0
        if coding in ("gzip", "x-gzip"):
            return weight > 0
        if coding == "*":
            wildcard = weight > 0
    return wildcard
