"""Row 5: a call of a decorated function whose result is near, with a TTL.

Whoever has no such form, or takes no keywords, is left out of it. The Redis of the
peers that ask one at each call is on loopback; so is that of redlane, which then says
how many of its timed calls were near hits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache, lru_cache, partial
from itertools import repeat
from threading import Lock
from time import perf_counter
from typing import Any

from benchmarks import clients, near
from benchmarks.harness import (
    OURS,
    Bench,
    Goal,
    Lineup,
    Measure,
    Result,
    Role,
    at_most,
    calls_within,
    loop,
)
from benchmarks.server import HOST

ROW = 5
TTL = 3600  # seconds: nothing ends while the row runs
SIZE = 1000  # entries, where a peer wants to know
NAME = "Ada Lovelace"
PROFILE = {"id": 1, "name": NAME, "roles": ["author", "reader"], "active": True}
PREFIX = "bench:near"

LRU_CACHE = "functools.lru_cache"
CACHETOOLS = "cachetools.TTLCache + lock"
CACHEBOX = "cachebox.TTLCache"
THEINE = "theine.Memoize"
DOGPILE = "dogpile.cache, memory"
DOGPILE_REDIS = "dogpile.cache, Redis"
FLASK_CACHING = "Flask-Caching, memory"
FLASK_CACHING_REDIS = "Flask-Caching, Redis"
CASHEWS = "cashews, memory, awaited"
CLIENT_SIDE = "redis-py client-side cache, GET"
DECODE = "msgspec.json.decode alone"

Decorator = Callable[[Callable[..., Any]], Any]
Subject = Callable[[Decorator, list[int]], Any]
"""Makes what the statement calls `f`: decorated, and noting each time that it ran."""


def user_name(decorate: Decorator, ran: list[int]) -> Any:
    @decorate
    def user_name(user_id: object) -> str:
        ran.append(1)
        return NAME

    return user_name


def user_field(decorate: Decorator, ran: list[int]) -> Any:
    @decorate
    def user_field(user_id: int, field: str) -> str:
        ran.append(1)
        return NAME

    return user_field


def profile(decorate: Decorator, ran: list[int]) -> Any:
    @decorate
    def profile(user_id: int) -> dict[str, Any]:
        ran.append(1)
        return PROFILE

    return profile


def plain_method(decorate: Decorator, ran: list[int]) -> Any:
    class Users:
        @decorate
        def name(self, user_id: int) -> str:
            ran.append(1)
            return NAME

    return Users()


def keyed_method(decorate: Decorator, ran: list[int]) -> Any:
    class Tenant:
        def __cache_key__(self) -> int:
            return 7

        @decorate
        def name(self, user_id: int) -> str:
            ran.append(1)
            return NAME

    return Tenant()


@dataclass(frozen=True)
class Form:
    """One way to call a decorated function."""

    what: str
    statement: str
    subject: Subject
    value: object = NAME
    peers: tuple[str, ...] = (LRU_CACHE,)
    goals: tuple[Goal, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)  # redlane's decorator's


IN_PROCESS = (LRU_CACHE, CACHETOOLS, CACHEBOX, THEINE)
EVERYONE = (
    *IN_PROCESS,
    *(DOGPILE, DOGPILE_REDIS, FLASK_CACHING, FLASK_CACHING_REDIS),
    *(CASHEWS, CLIENT_SIDE),
)
GOAL = (at_most(0.75, LRU_CACHE),)
FORMS = (
    Form("near hit, f(1)", "f(1)", user_name, peers=EVERYONE, goals=GOAL),
    Form("near hit, f('abc')", "f('abc')", user_name, peers=IN_PROCESS, goals=GOAL),
    Form("near hit, f(1, 'x')", "f(1, 'x')", user_field, peers=IN_PROCESS, goals=GOAL),
    Form(
        "near hit, f(user_id=1)",
        "f(user_id=1)",
        user_name,
        peers=IN_PROCESS,
        goals=(at_most(0.4, LRU_CACHE),),
    ),
    Form(
        "near hit, o.f(1), self ignored",
        "f.name(1)",
        plain_method,
        options={"ignore": ["self"]},
    ),
    Form("near hit, o.f(1), self in the key", "f.name(1)", keyed_method),
    Form(
        "near hit, f(1), a dict decoded afresh",
        "f(1)",
        profile,
        PROFILE,
        peers=(LRU_CACHE, CACHEBOX, FLASK_CACHING, DECODE),
    ),
    Form(
        "near hit, f(1), a dict with share=True",
        "f(1)",
        profile,
        PROFILE,
        goals=GOAL,
        options={"share": True},
    ),
)


def run(bench: Bench) -> list[Result]:
    return [race(bench, form) for form in FORMS]


def race(bench: Bench, form: Form) -> Result:
    lineup = Lineup(ROW, form.what)
    watched: list[near.Watched] = []
    with ExitStack() as stack:

        def ours() -> Measure:
            watched.append(enter_redlane(bench, stack, form))
            return watched[0]

        lineup.add(OURS, "ours", ours)
        for name in form.peers:
            role: Role = "floor" if name == DECODE else "peer"
            lineup.add(name, role, partial(PEERS[name], bench, stack, form))
        result = lineup.race(bench.rounds(200), list(form.goals))
        result.facts += [measure.fact() for measure in watched]
        return result


def enter_redlane(bench: Bench, stack: ExitStack, form: Form) -> near.Watched:
    from redlane import Cache

    kept = Cache(clients.redlane_client(bench, stack), prefix=PREFIX)
    f, call = checked(form, kept(ttl=TTL, **form.options))
    near.wait_until_near(kept, call)
    measure, count = timed(bench, form.statement, f=f)
    return near.Watched(kept, measure, count)


def checked(form: Form, decorate: Decorator) -> tuple[Any, Callable[[], object]]:
    """The subject, decorated, and its call. It must give the value and run once."""
    ran: list[int] = []
    f = form.subject(decorate, ran)
    call = eval(f"lambda: {form.statement}", {"f": f})
    values = [call() for _ in range(3)]
    if any(value != form.value for value in values) or len(ran) > 1:
        raise RuntimeError(f"{form.statement} ran {len(ran)} times, gave {values!r}")
    return f, call


def timed(bench: Bench, statement: str, **names: Any) -> tuple[Measure, int]:
    """A loop of about a millisecond, whoever runs it."""
    count = calls_within(bench.batch(1000) * 1e-6, statement, **names)
    return loop(statement, count, **names), count


# --- the peers ------------------------------------------------------------------------

Peer = Callable[[Bench, ExitStack, Form], Measure]


def decorated(make: Callable[[Bench, ExitStack], Decorator]) -> Peer:
    """A peer that decorates functions as redlane does."""

    def enter(bench: Bench, stack: ExitStack, form: Form) -> Measure:
        f, _ = checked(form, make(bench, stack))
        return timed(bench, form.statement, f=f)[0]

    return enter


def cachetools_decorator(_: Bench, __: ExitStack) -> Decorator:
    from cachetools import TTLCache, cached

    decorate: Decorator = cached(TTLCache(SIZE, TTL), lock=Lock())
    return decorate


def cachebox_decorator(_: Bench, __: ExitStack) -> Decorator:
    from cachebox import TTLCache, cached

    return cached(TTLCache(SIZE, TTL))


def theine_decorator(_: Bench, stack: ExitStack) -> Decorator:
    from theine import Memoize

    memoize = Memoize(SIZE, timedelta(seconds=TTL))
    stack.callback(memoize.cache.close)
    return memoize


def dogpile_decorator(_: Bench, __: ExitStack) -> Decorator:
    from dogpile.cache import make_region

    region = make_region().configure("dogpile.cache.memory", expiration_time=TTL)
    decorate: Decorator = region.cache_on_arguments()
    return decorate


def dogpile_redis_decorator(bench: Bench, _: ExitStack) -> Decorator:
    from dogpile.cache import make_region

    region = make_region().configure(
        "dogpile.cache.redis",
        expiration_time=TTL,
        arguments={"host": HOST, "port": bench.server.port},
    )
    decorate: Decorator = region.cache_on_arguments()
    return decorate


@cache
def flask_app() -> Any:
    """One for both caches: they look for themselves in the application at hand."""
    from flask import Flask

    return Flask("bench")


def flask_caching_decorator(
    backend: dict[str, Any], _: Bench, stack: ExitStack
) -> Decorator:
    from flask_caching import Cache

    app = flask_app()
    cache = Cache(app, config=backend)
    stack.enter_context(app.app_context())  # as in a request
    decorate: Decorator = cache.memoize(TTL)
    return decorate


def flask_caching_redis_decorator(bench: Bench, stack: ExitStack) -> Decorator:
    backend = {
        "CACHE_TYPE": "RedisCache",
        "CACHE_REDIS_HOST": HOST,
        "CACHE_REDIS_PORT": bench.server.port,
    }
    return flask_caching_decorator(backend, bench, stack)


def cashews_awaited(bench: Bench, stack: ExitStack, form: Form) -> Measure:
    """It caches coroutine functions alone: awaited in a loop of its own, one after
    another, without the start of a task."""
    from cashews import Cache

    cache = Cache()
    cache.setup("mem://", size=SIZE)
    ran: list[int] = []

    @cache(ttl=TTL, key="user:{user_id}")
    async def user_name(user_id: int) -> str:
        ran.append(1)
        return NAME

    async def batch(count: int) -> float:
        start = perf_counter()
        for _ in repeat(None, count):
            await user_name(1)
        return (perf_counter() - start) / count

    event_loop = asyncio.new_event_loop()
    stack.callback(event_loop.close)
    stack.callback(lambda: event_loop.run_until_complete(cache.close()))
    count = bench.batch(50)
    event_loop.run_until_complete(batch(3))
    if len(ran) != 1:
        raise RuntimeError(f"cashews called the function {len(ran)} times")
    return lambda: event_loop.run_until_complete(batch(count))


def client_side_get(bench: Bench, stack: ExitStack, _: Form) -> Measure:
    """redis-py decorates nothing: a GET that its client-side cache answers."""
    import hiredis  # noqa: F401  the peer with its C parser, not without
    import redis
    from redis.cache import CacheConfig

    client = redis.Redis(
        host=HOST,
        port=bench.newer_server.port,
        protocol=3,
        cache_config=CacheConfig(),
    )
    stack.callback(client.close)
    key, value = f"{PREFIX}:client-side", NAME.encode()
    client.set(key, value, ex=TTL)
    kept = client.get_cache()
    if client.get(key) != value or kept is None or kept.size != 1:
        raise RuntimeError("redis-py keeps nothing in the process")
    return timed(bench, "client.get(key)", client=client, key=key)[0]


def decode_alone(bench: Bench, _: ExitStack, form: Form) -> Measure:
    """The least that a result decoded afresh takes."""
    import msgspec

    text = msgspec.json.encode(form.value)
    return timed(bench, "decode(text)", decode=msgspec.json.decode, text=text)[0]


PEERS: dict[str, Peer] = {
    LRU_CACHE: decorated(lambda _, __: lru_cache(maxsize=SIZE)),
    CACHETOOLS: decorated(cachetools_decorator),
    CACHEBOX: decorated(cachebox_decorator),
    THEINE: decorated(theine_decorator),
    DOGPILE: decorated(dogpile_decorator),
    DOGPILE_REDIS: decorated(dogpile_redis_decorator),
    FLASK_CACHING: decorated(
        partial(flask_caching_decorator, {"CACHE_TYPE": "SimpleCache"})
    ),
    FLASK_CACHING_REDIS: decorated(flask_caching_redis_decorator),
    CASHEWS: cashews_awaited,
    CLIENT_SIDE: client_side_get,
    DECODE: decode_alone,
}
