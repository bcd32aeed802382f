"""Values and passwords show nowhere: not in what refreshes, time-outs, typed results,
tags and cached exceptions say when they fail, nor in what the near cache reports."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import pydantic
import redlane
from fresh_tools import grow_old
from near_tools import near_state, wait_for_near
from outage_tools import wait_until
from redlane import Cache, Client
from servers import Server
from test_hostile_secrets import PASSWORD, VALUE, Output, output, url_of

__all__ = ["output"]  # a fixture


class Leaky(Exception):
    """Its text, its arguments and its attributes are a value."""

    def __init__(self, text: str = VALUE) -> None:
        super().__init__(text)
        self.value = text


class Shown:
    def __repr__(self) -> str:
        return VALUE


class Model(pydantic.BaseModel):
    x: int


@dataclasses.dataclass
class Data:
    x: int


def fail() -> Any:
    raise Leaky


def typed(cache: Cache, kind: Any) -> Callable[[], object]:
    def f() -> Any:
        return {"x": VALUE}

    f.__annotations__["return"] = kind
    return cache(f, name=f"typed {kind.__name__}")


def calls_of(cache: Cache, strict: Cache) -> dict[str, Callable[[], object]]:
    tags: Any = lambda: [Shown()]  # noqa: E731
    return {
        "raises": cache(fail, name="plain"),
        "raises, cached": cache(fail, name="kept", cache_exceptions={Leaky: 60}),
        "raises, limited": cache(fail, name="limited", hard_timeout=30),
        "raises, tagged": cache(fail, name="tagged", tags="t"),
        "ttl is a text": cache(lambda: 1, name="ttl", ttl=lambda value: VALUE),
        "ttl is no period": cache(lambda: 1, name="t2", ttl=lambda value: Shown()),
        "tag is no text": cache(lambda: 1, name="tag", tags=tags),
        "key is no text": cache(lambda: 1, key=lambda: Shown()),  # type: ignore[arg-type,return-value]
        "model": typed(cache, Model),
        "dataclass": typed(cache, Data),
        "list of models": typed(cache, list[Model]),
        "model, strict": typed(strict, Model),
        "no json": cache(lambda: Shown(), name="shown"),
        "no json, strict": strict(lambda: Shown(), name="shown"),
        "too slow": cache(
            lambda: time.sleep(0.2) or VALUE, name="slow", hard_timeout=0.01
        ),
    }


def test_nothing_is_shown(redis_server: Server, output: Output) -> None:
    redis_server.cli("ACL", "SETUSER", "app", "on", f">{PASSWORD}", "~*", "&*", "+@all")
    raised: set[str] = set()
    with Client(
        url_of(redis_server.port, user="app"), timeout=30, connect_timeout=30
    ) as client:
        cache = Cache(client, ttl=60)
        strict = Cache(client, prefix="strict", strict=True)
        cache.set("k", VALUE, tags=["t"])
        cache.get("k")
        wait_for_near(client)
        for name, call in calls_of(cache, strict).items():
            for _ in range(2):
                try:
                    call()
                except Leaky:
                    raised.add(name)  # the function's own is its own
                except (redlane.RedlaneError, TypeError, ValueError) as error:
                    raised.add(name)
                    output.add_error(name, error)

        fails = [False]

        def load() -> str:
            return fail() if fails[0] else VALUE  # type: ignore[no-any-return]

        stale = cache(load, name="stale", ttl=100, stale=1000)
        kept = cache(load, name="kept stale", ttl=100, on_error="stale")
        assert stale() == kept() == VALUE
        fails[0] = True
        for function in (stale, kept):
            grow_old(client, function.cache_key(), 200)
            assert function() == VALUE
        wait_until(lambda: cache.stats()["refresh_errors"] >= 1, "a failed refresh")
        shown = [client, cache, stale, kept, stale.cache_info(), cache.stats()]
        shown += [client.health(), near_state(client), cache.namespace("n")]
        for what in shown:
            output.add("shown", f"{what!r} {what}")
    redis_server.cli("ACL", "DELUSER", "app")
    assert {"ttl is a text", "tag is no text", "model, strict", "too slow"} <= raised
    assert output.found() == []
