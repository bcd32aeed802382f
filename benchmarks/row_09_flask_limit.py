"""Row 9: what a limit adds to a route of a Flask application.

The application is called with an environ, as a server calls it. All tell the client of
its limit in the response's fields. The bare route's time is taken off everybody's.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from benchmarks import clients, limited, web
from benchmarks.harness import OURS, Bench, Goal, Lineup, Measure, Result, within

ROW = 9
FLASK_LIMITER = "Flask-Limiter"
PATH = "/api/items"
BATCH = 40

View = Callable[[], Any]
Decorate = Callable[[Any, Any], Callable[[View], View]]
"""The decorator of the views of an application, with a client."""


def run(bench: Bench) -> list[Result]:
    return [
        race(bench, place, how)
        for place in limited.PLACES
        for how in ("@lane.limit", "@limiter.limit")
    ]


def race(bench: Bench, place: str, how: str) -> Result:
    lineup = Lineup(ROW, f"added to a Flask route by a limit, {place}, {how}")
    count = bench.batch(BATCH)
    with ExitStack() as stack:

        def ours() -> Measure:
            url = limited.url_of(bench, place)
            client = clients.redlane_client(bench, stack, url)
            return timed(redlane_app(client, DECORATORS[how]), count)

        def peer() -> Measure:
            return timed(flask_limiter_app(limited.url_of(bench, place)), count)

        def round_trip() -> Measure:
            app, trip = bare_app(), limited.script_call(bench, stack, "floor")

            def after_it(environ: Any, start: Any) -> Any:
                trip()
                return app(environ, start)

            return partial(web.wsgi_batch, after_it, PATH, count)

        lineup.add(OURS, "ours", ours)
        lineup.add(
            web.BARE, "floor", lambda: partial(web.wsgi_batch, bare_app(), PATH, count)
        )
        if place == limited.REDIS:
            lineup.add(limited.ROUND_TRIP, "floor", round_trip)
        lineup.add(FLASK_LIMITER, "peer", peer)
        return lineup.race(bench.rounds(100), [goal(place)], over=web.BARE)


def goal(place: str) -> Goal:
    if place == limited.REDIS:
        return within(15e-6, FLASK_LIMITER, quoted=398e-6, beyond=limited.ROUND_TRIP)
    return within(10e-6, FLASK_LIMITER, quoted=95e-6)


def timed(app: Any, count: int) -> Measure:
    limited.check(*web.wsgi_answer(app, PATH)[:2])
    return partial(web.wsgi_batch, app, PATH, count)


def view() -> Any:
    from flask import jsonify

    return jsonify(web.DATA)


def bare_app() -> Any:
    from flask import Flask

    app = Flask("bench")
    app.get(PATH)(view)
    return app


def redlane_app(client: Any, decorator: Decorate) -> Any:
    from flask import Flask

    app = Flask("bench")
    app.get(PATH)(decorator(app, client)(view))
    return app


def lane_limit(app: Any, client: Any) -> Callable[[View], View]:
    from redlane.flask import Redlane

    app.config["REDLANE_CLIENT"] = client
    app.config["REDLANE_LIMIT_ALGORITHM"] = limited.ALGORITHM
    return Redlane(app).limit(limited.RATE)


def limiter_limit(_: Any, client: Any) -> Callable[[View], View]:
    from redlane import RateLimiter

    return RateLimiter(client, limited.ALGORITHM).limit(limited.RATE)  # type: ignore[arg-type]


DECORATORS: dict[str, Decorate] = {
    "@lane.limit": lane_limit,
    "@limiter.limit": limiter_limit,
}


def flask_limiter_app(url: str) -> Any:
    from flask import Flask
    from flask_limiter import Limiter
    from flask_limiter.util import get_remote_address

    app = Flask("bench")
    limiter = Limiter(
        get_remote_address, app=app, storage_uri=url, headers_enabled=True
    )
    app.get(PATH)(limiter.limit(limited.RATE)(view))
    return app
