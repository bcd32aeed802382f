"""The demonstration's other process: the Mural on one executor, with a stopwatch.

Started by _demo, which sends its orders as one JSON line on standard input (a URL may
hold a password, and arguments can be seen by others) and ends it by closing that.
"""

from __future__ import annotations

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

# Which of the Mural's views, and of the two below, belongs to which row.
TIMED = {
    "canvas": "canvas",
    "place_pixel": "place",
    "stats": "total",
    "user_stats": "user",
    "uncached_canvas": "uncached_canvas",
    "uncached_user_stats": "uncached_user",
}


class Stopwatch:
    """Seconds from the call of a view until the bytes of its body are in hand."""

    def __init__(self) -> None:
        self._times: defaultdict[str, list[float]] = defaultdict(list)

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


def add_uncached_routes(app: Flask, canvas_data: dict[str, Any]) -> None:
    """What each request did before there was a cache."""

    @app.get("/demo/uncached/canvas")
    def uncached_canvas() -> Response:
        return jsonify(canvas_data)

    @app.get("/demo/uncached/user-stats/<user_id>")
    def uncached_user_stats(user_id: str) -> Response:
        user_pixels = sum(1 for pixel in canvas_data.values() if pixel.get('user_id') == user_id)  # fmt: skip  # noqa: E501
        return jsonify(user_id=user_id, user_pixels=user_pixels)


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
    add_uncached_routes(app, mural.canvas_data)
    views = app.view_functions
    for endpoint, name in TIMED.items():
        views[endpoint] = stopwatch.wrap(name, views[endpoint])

    @app.get("/demo/times")
    def times() -> dict[str, list[float]]:
        return stopwatch.take()

    @app.get("/demo/health")
    def health() -> dict[str, Any]:
        return {**mural.client.health(), "pixels": len(mural.canvas_data)}

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
