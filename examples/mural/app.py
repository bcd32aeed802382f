"""The Mural's Flask application: `flask --app examples/mural/app run`."""

from __future__ import annotations

import logging
import math
import os
import re
import sqlite3
from collections.abc import Mapping
from functools import partial
from threading import Thread
from typing import Any

from flask import Flask, Response, jsonify, render_template, request
from flask_sock import Sock
from redlane import Client, RedlaneError
from simple_websocket import Server as WebSocket
from werkzeug.exceptions import BadRequest, HTTPException

from .canvas import (
    HEIGHT,
    WIDTH,
    CooldownError,
    Mural,
    inflate,
    sequence_of,
)
from .settings import Settings
from .store import Pixel, PixelStore

COLOR = re.compile(r"#[0-9A-Fa-f]{6}")
USER_ID_LENGTH = 128
PALETTE = (
    *("#ffffff", "#d4d7d9", "#898d90", "#3a3f47", "#000000"),
    *("#e4002b", "#ff6a3d", "#ff9900", "#ffd500", "#fff3a3"),
    *("#00a550", "#7ed957", "#00b5a5", "#5fd4f4", "#0057b8"),
    *("#3b2fa0", "#8a3ffc", "#ff5cc4", "#ffb3d1", "#8b5a2b"),
)
WEBSOCKET_OPTIONS = {
    "ping_interval": 25,  # seconds
    "max_message_size": 1024,
    # A client that does not answer should not keep the process from ending.
    "thread_class": partial(Thread, daemon=True),
}

logger = logging.getLogger("mural")


def create_app(settings: Settings | None = None) -> Flask:
    """The application, in the process that is to serve it: not before a fork."""
    show_info()
    settings = settings or Settings.from_env()
    client = (
        Client(settings.redis_url)
        if settings.redis_url
        else Client.from_env(default="memory://")
    )
    mural = Mural(client, PixelStore(settings.database), settings)
    logger.info("Mural on %s, %d pixels", client, len(mural.canvas_data))
    warn_of_workers(client)

    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = 4096
    app.config["SOCK_SERVER_OPTIONS"] = WEBSOCKET_OPTIONS
    app.extensions["mural"] = mural
    add_routes(app, mural)
    add_error_handlers(app)
    return app


def show_info() -> None:
    logging.basicConfig(format="%(levelname)s - %(message)s")
    for name in ("mural", "redlane"):
        logging.getLogger(name).setLevel(logging.INFO)


def warn_of_workers(client: Client) -> None:
    workers = os.environ.get("WEB_CONCURRENCY", "")
    shared = client.health()["url"] != "memory://"
    if workers.isdecimal() and int(workers) > 1 and not shared:
        logger.warning(
            "Each of %s workers has an engine of its own: set REDIS_URL, or run one",
            workers,
        )


def add_routes(app: Flask, mural: Mural) -> None:
    @app.get("/")
    def index() -> str:
        return render_template(
            "index.html", width=WIDTH, height=HEIGHT, palette=PALETTE
        )

    @app.get("/api/canvas")
    def canvas() -> Response:
        return canvas_response(mural.canvas())

    @app.post("/api/place-pixel")
    def place_pixel() -> Response:
        placement = mural.place(read_pixel())
        return jsonify(
            success=True,
            sequence=placement.sequence,
            cooldown=mural.settings.cooldown,
        )

    @app.get("/api/stats")
    def stats() -> Response:
        return jsonify(
            total_pixels=mural.total_pixels.get(), width=WIDTH, height=HEIGHT
        )

    @app.get("/api/user-stats/<path:user_id>")
    def user_stats(user_id: str) -> Response:
        user_id = check_user_id(user_id)
        return jsonify(user_id=user_id, user_pixels=mural.user_pixels.get(user_id))

    @Sock(app).route("/api/placements")
    def placements(link: WebSocket) -> None:
        mural.live.serve(link, request.args.get("since", type=int))


def canvas_response(body: bytes) -> Response:
    """The stored gzip bytes as they are, or inflated for a client that refuses gzip."""
    # The last eight bytes of a gzip stream are the checksum and length of its content.
    etag = body[-8:].hex()
    response = Response(mimetype="application/json")
    response.headers["Vary"] = "Accept-Encoding"
    response.headers["Cache-Control"] = "no-cache"
    # What a client must be told of begins after this one.
    response.headers["Mural-Sequence"] = str(sequence_of(body))
    response.set_etag(etag, weak=True)
    if request.if_none_match.contains_weak(etag):
        response.status_code = 304
    elif refuses_gzip():
        response.set_data(inflate(body))
    else:
        response.headers["Content-Encoding"] = "gzip"
        response.set_data(body)
    return response


def refuses_gzip() -> bool:
    # Without the header any coding is acceptable (RFC 9110, 12.5.3).
    named = "Accept-Encoding" in request.headers
    return named and request.accept_encodings.quality("gzip") <= 0


def read_pixel() -> Pixel:
    """The pixel that the request's JSON names; BadRequest for anything else."""
    try:
        body = request.get_json(silent=True)
    except RecursionError:
        body = None
    if not isinstance(body, Mapping):
        raise BadRequest("a JSON object with x, y, color and user_id is needed")
    color = body.get("color")
    if not isinstance(color, str) or not COLOR.fullmatch(color):
        raise BadRequest("color must be #RRGGBB")
    return Pixel(
        x=check_coordinate("x", body.get("x"), WIDTH),
        y=check_coordinate("y", body.get("y"), HEIGHT),
        color=color,
        user_id=check_user_id(body.get("user_id")),
    )


def check_coordinate(name: str, value: Any, size: int) -> int:
    if type(value) is not int or not 0 <= value < size:  # bool is an int, but no place
        raise BadRequest(f"{name} must be an integer from 0 to {size - 1}")
    return value


def check_user_id(value: Any) -> str:
    if (
        not isinstance(value, str)
        or not 0 < len(value) <= USER_ID_LENGTH
        or not value.isprintable()
    ):
        raise BadRequest(f"user_id must be 1 to {USER_ID_LENGTH} printable characters")
    return value


def add_error_handlers(app: Flask) -> None:
    """Every error is JSON, and none shows what went wrong inside."""

    @app.errorhandler(CooldownError)
    def cooling_down(error: CooldownError) -> Response:
        seconds = max(1, math.ceil(error.seconds))
        response = jsonify(error="cooling down", retry_after=seconds)
        response.status_code = 429
        response.headers["Retry-After"] = str(seconds)
        return response

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> Response:
        response = jsonify(error=error.description)
        response.status_code = error.code or 500
        response.headers.extend(
            (name, value)
            for name, value in error.get_headers()
            if name not in ("Content-Type", "Content-Length")
        )
        return response

    @app.errorhandler(sqlite3.Error)
    @app.errorhandler(RedlaneError)
    def unavailable(error: Exception) -> Response:
        logger.error("Request refused by a store: %s", error)
        response = jsonify(error="not available now, try again")
        response.status_code = 503
        return response

    @app.errorhandler(Exception)
    def failed(error: Exception) -> Response:
        logger.error("Request failed", exc_info=error)
        response = jsonify(error="internal error")
        response.status_code = 500
        return response
