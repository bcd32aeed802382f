"""{% cache %} of Jinja: a part of a page that is made once.

    {% cache 300, "sidebar", user.id %} … {% endcache %}

First for how long ("5m" and None, without end, too), then what the part depends on.
Nothing of a request is part of the key: what is not named there is shared by all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from markupsafe import Markup

from redlane._core import Cache
from redlane._http.policy import digest, period

__all__ = ["FragmentCache"]


class FragmentCache(Extension):
    """The tag. Its Cache is the global `redlane_fragments` of the environment."""

    tags = {"cache"}  # noqa: RUF012 - as jinja2 has it

    def parse(self, parser: Parser) -> nodes.Node:
        token = next(parser.stream)
        given: list[nodes.Expr] = []
        while parser.stream.current.type != "block_end":
            given.append(parser.parse_expression())
            if not parser.stream.skip_if("comma"):
                break
        if not given:
            parser.fail("cache: for how long?", token.lineno)
        body = parser.parse_statements(("name:endcache",), drop_needle=True)
        # By what it says, too: two may stand in one line, templates made of texts have
        # no name, and another text is another part.
        told = digest((repr(body),))
        place = nodes.Const(f"{parser.name}:{token.lineno}:{told}")
        call = self.call_method("_cached", [place, *given])
        return nodes.CallBlock(call, [], [], body).set_lineno(token.lineno)

    def _cached(
        self, place: str, ttl: Any, *parts: object, caller: Callable[[], str]
    ) -> Markup:
        cache: Cache = self.environment.globals["redlane_fragments"]  # type: ignore[assignment]
        seconds = None if ttl is None else period(ttl, "cache")
        told = tuple(f"{type(part).__name__}:{part}" for part in parts)
        key = f"{place}:{digest(told)}"
        # The caller's text is escaped already.
        return Markup(cache.get_or_set(key, lambda: str(caller()), seconds))
