"""The demonstration's other process: the Mural on one executor, with a stopwatch.

Started by _demo, which sends its orders as one JSON line on standard input (a URL may
hold a password, and arguments can be seen by others) and ends it by closing that.
"""

from __future__ import annotations

import copy
import json
import random
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from importlib import import_module
from typing import Any

from flask import Flask, Response, jsonify, make_response
from werkzeug.serving import WSGIRequestHandler, make_server

from redlane import Cache

# Which of the Mural's views, and of those below, belongs to which row.
TIMED = {
    "canvas": "canvas_view",
    "place_pixel": "place",
    "stats": "total",
    "user_stats": "user",
    "uncached_canvas": "uncached_canvas",
    "uncached_user_stats": "uncached_user",
}


class Stopwatch:
    """Seconds from a call until the bytes of the body are in hand."""

    def __init__(self) -> None:
        self._times: defaultdict[str, list[float]] = defaultdict(list)

    def wrap_call(self, name: str, call: Callable[[], Any]) -> Callable[[], Any]:
        """Of what gives these bytes, or a value, itself."""

        def timed() -> Any:
            begin = time.perf_counter()
            result = call()
            self._times[name].append(time.perf_counter() - begin)
            return result

        return timed

    def wrap(self, name: str, view: Callable[..., Any]) -> Callable[..., Response]:
        def timed(**values: Any) -> Response:
            begin = time.perf_counter()
            response = make_response(view(**values))
            response.get_data()
            self._times[name].append(time.perf_counter() - begin)
            return response

        return timed

    def take(self) -> dict[str, list[float]]:
        taken, self._times = self._times, defaultdict(list)
        return taken


class QuietHandler(WSGIRequestHandler):
    disable_nagle_algorithm = True  # head and body are two writes

    def log_request(self, code: object = "-", size: object = "-") -> None:
        pass


def add_uncached_routes(
    app: Flask, canvas_data: dict[str, Any], stopwatch: Stopwatch
) -> None:
    """What each request did before there was a cache, and what json.dumps takes here,
    by which the goals are scaled."""
    dumps = stopwatch.wrap_call("json_dumps", lambda: json.dumps(canvas_data))

    @app.get("/demo/json-dumps")
    def json_dumps() -> dict[str, Any]:
        return {"size": len(dumps())}

    @app.get("/demo/uncached/canvas")
    def uncached_canvas() -> Response:
        return jsonify(canvas_data)

    @app.get("/demo/uncached/user-stats/<user_id>")
    def uncached_user_stats(user_id: str) -> Response:
        user_pixels = sum(1 for pixel in canvas_data.values() if pixel.get('user_id') == user_id)  # fmt: skip  # noqa: E501
        return jsonify(user_id=user_id, user_pixels=user_pixels)


def add_stored_route(app: Flask, mural: Any, stopwatch: Stopwatch) -> None:
    """The canvas from where it is stored, never from what this process keeps of it."""
    far = copy.copy(mural)
    far.bodies = Cache(
        mural.client,
        prefix=mural.settings.prefix,
        serializer=import_module("mural.canvas").GzipBody(),
        near=False,
    )
    far.canvas = stopwatch.wrap_call("stored_canvas", far.canvas)
    canvas_response = import_module("mural.app").canvas_response

    @app.get("/demo/stored/canvas")
    def stored_canvas() -> Any:
        return canvas_response(far.canvas())


def add_counter_routes(app: Flask, mural: Any, stopwatch: Stopwatch) -> None:
    clicks = mural.cache.counter("clicks", ttl=300, source=lambda: 0)
    get = stopwatch.wrap_call("counter_get", clicks.get)
    increment = stopwatch.wrap_call("counter_increment", clicks.increment)

    @app.get("/demo/counter")
    def counter() -> dict[str, Any]:
        return {"value": get()}

    @app.post("/demo/counter")
    def count() -> dict[str, Any]:
        return {"value": increment()}


def make_app(orders: dict[str, Any]) -> Flask:
    sys.path.insert(0, orders["examples"])
    create_app = import_module("mural.app").create_app
    Settings = import_module("mural.settings").Settings
    store_module = import_module("mural.store")

    dice = random.Random(1)
    store = store_module.PixelStore(orders["database"])
    store.place_many(
        store_module.Pixel(
            x=place % 500,
            y=place // 500,
            color=f"#{dice.randrange(1 << 24):06X}",
            user_id=f"user-{dice.randrange(orders['users']):04d}",
        )
        for place in range(orders["pixels"])
    )
    store.close()
    app: Flask = create_app(
        Settings(
            redis_url=orders["url"],
            database=orders["database"],
            prefix=orders["prefix"],
        )
    )
    mural = app.extensions["mural"]
    stopwatch = Stopwatch()
    add_uncached_routes(app, mural.canvas_data, stopwatch)
    views = app.view_functions
    for endpoint, name in TIMED.items():
        views[endpoint] = stopwatch.wrap(name, views[endpoint])
    add_stored_route(app, mural, stopwatch)
    add_counter_routes(app, mural, stopwatch)
    mural.canvas = stopwatch.wrap_call("canvas", mural.canvas)

    @app.get("/demo/times")
    def times() -> dict[str, list[float]]:
        return stopwatch.take()

    @app.get("/demo/health")
    def health() -> dict[str, Any]:
        health = mural.client.health()
        names = ("mode", "url", "server_version", "near")
        told = {name: health.get(name) for name in names}
        return {**told, "near_hits": mural.bodies.stats()["near_hits"]}

    return app


def main() -> None:
    orders = json.loads(sys.stdin.readline())
    app = make_app(orders)
    mural = app.extensions["mural"]
    server = make_server(
        "127.0.0.1", 0, app, threaded=True, request_handler=QuietHandler
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    print(json.dumps({"port": server.port}), flush=True)
    sys.stdin.read()  # until the driver closes it, or is gone
    server.shutdown()
    mural.cache.invalidate(f"{orders['prefix']}:*")
    mural.close()


if __name__ == "__main__":
    main()
