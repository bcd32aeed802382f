"""Row 11: a cached response of a Flask application.

The application is called with an environ, as a server calls it. Beside it stands the
same view without a cache: a small JSON answer by `jsonify`, and a text that is one
already, of which a cache can save next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from benchmarks import clients, near, web
from benchmarks.harness import (
    OURS,
    Bench,
    Goal,
    Lineup,
    Measure,
    Result,
    at_most,
    within,
)
from benchmarks.server import HOST

ROW = 11
FLASK_CACHING = "Flask-Caching, memory"
FLASK_CACHING_REDIS = "Flask-Caching, Redis"
PATH = "/api/items"
BATCH = 40
BATCH_AHEAD = 400  # so that it takes about as long

ENGINE = "memory://"


def run(bench: Bench) -> list[Result]:
    return [
        race(bench, kind, place, ahead)
        for ahead in (False, True)
        for kind in (web.KINDS[:1] if ahead else web.KINDS)
        for place in ("near", "engine")
    ]


def race(bench: Bench, kind: str, place: str, ahead: bool) -> Result:
    how = "ahead of routing" if ahead else "by the view"
    lineup = Lineup(ROW, f"cached response of Flask, {kind}, {place}, {how}")
    prefix = f"bench:{ROW}:{kind}:{place}:{how}"  # each race stores anew
    count = bench.batch(BATCH)
    ran = web.Ran()
    watched: list[near.Watched] = []
    with ExitStack() as stack:

        def ours() -> Measure:
            url = bench.server.url if place == "near" else ENGINE
            client = clients.redlane_client(bench, stack, url)
            app, cache = redlane_app(kind, client, ahead, prefix, ran)
            own = bench.batch(BATCH_AHEAD if ahead else BATCH)
            return warm(app, cache, place, own, watched)

        lineup.add(OURS, "ours", ours)
        lineup.add(web.BARE, "floor", lambda: timed(bare_app(kind), count))
        for name, backend in (
            (FLASK_CACHING, {"CACHE_TYPE": "SimpleCache"}),
            (FLASK_CACHING_REDIS, redis_backend(bench)),
        ):
            set_up = partial(flask_caching, kind, prefix, backend, count)
            lineup.add(name, "peer", set_up)
        result = lineup.race(bench.rounds(100), goals(kind, ahead))
        result.facts += [measure.fact() for measure in watched]
        result.facts.append(ran.fact())
        return result


def goals(kind: str, ahead: bool) -> list[Goal]:
    if ahead:
        return [within(10e-6, FLASK_CACHING, quoted=56e-6)]
    return [at_most(1.1, web.BARE)] if kind == "JSON" else []


def view(kind: str, ran: web.Ran) -> Callable[[], Any]:
    from flask import jsonify

    def as_json() -> Any:
        ran.times += 1
        return jsonify(web.DATA)

    def as_text() -> str:
        ran.times += 1
        return web.TEXT

    return as_json if kind == "JSON" else as_text


def timed(app: web.Wsgi, count: int) -> Measure:
    return lambda: web.wsgi_batch(app, PATH, count)


def bare_app(kind: str) -> Any:
    from flask import Flask

    app = Flask("bench")
    app.get(PATH)(view(kind, web.Ran()))
    return app


def redlane_app(
    kind: str, client: Any, ahead: bool, prefix: str, ran: web.Ran
) -> tuple[Any, Any]:
    from flask import Flask
    from redlane.flask import Redlane

    app = Flask("bench")
    app.config["REDLANE_CLIENT"] = client
    app.config["REDLANE_PREFIX"] = prefix
    lane = Redlane(app)
    decorate = lane.cached(ttl=web.TTL, ahead=ahead)
    app.get(PATH)(decorate(view(kind, ran)))
    with app.app_context():
        return app, lane.cache


def warm(
    app: Any, cache: Any, place: str, count: int, watched: list[near.Watched]
) -> Measure:
    for word in ("MISS", "HIT"):
        _, fields, _ = web.wsgi_answer(app, PATH)
        if fields["x-cache"] != word:
            raise RuntimeError(f"X-Cache is {fields['x-cache']}, not {word}")
    measure = timed(app, count)
    if place == "engine":
        return measure
    ask = partial(web.wsgi_answer, app, PATH)
    return web.counted_near(cache, ask, measure, count, watched)


# --- the peer -------------------------------------------------------------------------


def redis_backend(bench: Bench) -> dict[str, Any]:
    return {
        "CACHE_TYPE": "RedisCache",
        "CACHE_REDIS_HOST": HOST,
        "CACHE_REDIS_PORT": bench.server.port,
    }


def flask_caching(
    kind: str, prefix: str, backend: dict[str, Any], count: int
) -> Measure:
    from flask import Flask
    from flask_caching import Cache

    app = Flask("bench")
    cache = Cache(app, config={**backend, "CACHE_KEY_PREFIX": prefix})
    ran = web.Ran()
    app.get(PATH)(cache.cached(timeout=web.TTL)(view(kind, ran)))
    for _ in range(3):
        web.wsgi_answer(app, PATH)
    ran.once("the peer")
    return timed(app, count)
