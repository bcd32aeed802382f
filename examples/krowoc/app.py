"""The Flask application: `gunicorn --config examples/krowoc/gunicorn.conf.py`."""

from __future__ import annotations

import logging
import os
import queue
import time
from collections.abc import Iterator
from typing import Any

import msgspec
from flask import Flask, Response, jsonify, render_template, request
from redlane import Client, RedlaneError, default_client
from werkzeug.exceptions import BadRequest, HTTPException, TooManyRequests

from .bus import OWN, SERVER_OWN, Bus
from .history import Event, History
from .settings import Settings
from .utils import RateLimiter, cache, invalidate_cache

CHANNEL_LENGTH = 200
USER_ID_LENGTH = 128
MESSAGE_BYTES = 4096
DEFAULT_LIMIT, MOST = 20, 100
POLL_SECONDS = 0.5  # after which a stream looks whether it is to end
SILENCE_SECONDS = 10  # after which it says something, to learn whether a page is there

logger = logging.getLogger("krowoc")


def create_app(settings: Settings | None = None) -> Flask:
    """The application, in the process that is to serve it: not before a fork."""
    show_info()
    settings = settings or Settings.from_env()
    client = default_client()
    bus = Bus(client, History(Client.from_env(fallback="raise")))
    warn_of_workers(client)
    bus.start()

    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = 16_384
    app.extensions["krowoc"] = bus
    add_cached_data(app, settings)
    add_events(app, bus)
    add_limited(app)
    add_pages(app, bus)
    add_error_handlers(app)
    return app


def show_info() -> None:
    logging.basicConfig(format="%(levelname)s - %(message)s")
    for name in ("krowoc", "redlane"):
        logging.getLogger(name).setLevel(logging.INFO)


def warn_of_workers(client: Client[Any]) -> None:
    workers = os.environ.get("WEB_CONCURRENCY", "")
    if not workers.isdecimal() or int(workers) < 2:
        return
    if client.health()["mode"] == "memory":
        logger.warning(
            "Each of %s workers has an engine of its own: start Redis, or run one",
            workers,
        )


# --- caching ----------------------------------------------------------------------


def add_cached_data(app: Flask, settings: Settings) -> None:
    @cache(ttl=60)  # seconds
    def expensive_function(user_id: str) -> dict[str, Any]:
        time.sleep(settings.slow_seconds)
        return {"user_id": user_id, "computed_at": time.time(), "by": os.getpid()}

    @app.get("/api/cached-data")
    def cached_data() -> Response:
        user_id = check_user_id(request.args.get("user_id", "default"))
        return jsonify(expensive_function(user_id))

    @app.post("/api/invalidate-cache")
    def invalidate() -> Response:
        user_id = read_body(optional=True).get("user_id")
        if user_id is None:
            count = invalidate_cache("cache:expensive_function:*")
        else:
            count = int(expensive_function.invalidate(check_user_id(user_id)))
        return jsonify(invalidated=count)


# --- events -----------------------------------------------------------------------


def add_events(app: Flask, bus: Bus) -> None:
    @app.post("/api/publish-event")
    def publish_event() -> Response:
        body = read_body()
        channel = check_channel(body.get("channel"))
        event, receivers = bus.publish(channel, check_message(body.get("message")))
        return jsonify(published=True, event=shown(event), receivers=receivers)

    @app.get("/api/recent-events")
    def recent_events() -> Response:
        limit = read_limit(request.args.get("limit"))
        channel = request.args.get("channel") or None
        events = bus.history.newest(limit, channel)
        return jsonify(events=[shown(event) for event in events], count=len(events))

    @app.get("/api/events")
    def events() -> Response:
        return Response(
            stream(bus),
            mimetype="text/event-stream",
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )


def stream(bus: Bus) -> Iterator[str]:
    """Server-sent events, from now on, until the page or the worker goes away. A page
    that was too slow comes back and loads what it missed."""
    with bus.watched() as viewer:
        yield "retry: 1000\n\n"
        said = time.monotonic()
        while not bus.leaving and bus.watches(viewer):
            try:
                event = viewer.get(timeout=POLL_SECONDS)
            except queue.Empty:
                if time.monotonic() - said < SILENCE_SECONDS:
                    continue
                yield ":\n\n"
            else:
                yield f"data: {msgspec.json.encode(event).decode()}\n\n"
            said = time.monotonic()


def shown(event: Event) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(event)
    return told


# --- limits -----------------------------------------------------------------------


def add_limited(app: Flask) -> None:
    @app.get("/api/rate-limited")
    @RateLimiter.limit(requests_limit=5, time_window=60)
    def rate_limited() -> Response:
        return jsonify(message="one of 5 requests a minute")

    @app.get("/api/slow-limited")
    @RateLimiter.limit(requests_limit=2, time_window=300)
    def slow_limited() -> Response:
        return jsonify(message="one of 2 requests in 5 minutes")


# --- pages ------------------------------------------------------------------------


def add_pages(app: Flask, bus: Bus) -> None:
    @app.get("/")
    def index() -> str:
        return render_template("index.html")

    @app.get("/health/deep")
    def health() -> Response:
        return jsonify(deep_health(default_client().health()))


def deep_health(health: dict[str, Any]) -> dict[str, Any]:
    """200 also when degraded: the application goes on without Redis."""
    embedded = str(health["url"]).startswith("memory:")
    reachable = bool(health["connected"]) and not embedded
    serving = health["breaker"] == health["write_breaker"] == "closed"
    redis = {name: health[name] for name in ("used_memory", "used_memory_human")}
    return {
        "status": "ok" if embedded or (reachable and serving) else "degraded",
        "mode": health["mode"],
        "redis": {
            "connected": reachable,
            **redis,
            "latency_ms": health["latency_ms"],
        },
    }


# --- what requests bring ----------------------------------------------------------


def read_body(optional: bool = False) -> dict[str, Any]:
    """The request's JSON object; BadRequest for anything else."""
    if optional and not request.get_data(cache=True):
        return {}
    try:
        body = request.get_json(force=True, silent=True)
    except RecursionError:
        body = None
    if not isinstance(body, dict):
        raise BadRequest("a JSON object is needed")
    return body


def check_user_id(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # as it stands in a URL
    if (
        not isinstance(value, str)
        or not 0 < len(value) <= USER_ID_LENGTH
        or not value.isprintable()
    ):
        raise BadRequest(f"user_id must be 1 to {USER_ID_LENGTH} printable characters")
    return value


def check_channel(value: Any) -> str:
    if (
        not isinstance(value, str)
        or not 0 < len(value) <= CHANNEL_LENGTH
        or not value.isprintable()
    ):
        raise BadRequest(f"channel must be 1 to {CHANNEL_LENGTH} printable characters")
    if value.startswith((OWN, SERVER_OWN)):
        raise BadRequest(f"channel must not begin with {OWN} or {SERVER_OWN}")
    return value


def check_message(value: Any) -> Any:
    if value is None:
        raise BadRequest("message is missing")
    try:
        size = len(msgspec.json.encode(value))
    except (ValueError, RecursionError, msgspec.MsgspecError):
        raise BadRequest("message must be text in UTF-8") from None
    if size > MESSAGE_BYTES:
        raise BadRequest(f"message must have {MESSAGE_BYTES} bytes at most")
    return value


def read_limit(text: str | None) -> int:
    if not text:
        return DEFAULT_LIMIT
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= MOST):
        raise BadRequest(f"limit must be an integer from 1 to {MOST}")
    return int(text)


def add_error_handlers(app: Flask) -> None:
    """Every error is JSON, and none shows what went wrong inside."""

    @app.errorhandler(TooManyRequests)  # and a RedlaneError too: told to neither below
    def over_limit(error: TooManyRequests) -> Any:
        return error.get_response()  # JSON already

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> Response:
        response = jsonify(error=error.description)
        response.status_code = error.code or 500
        return response

    @app.errorhandler(RedlaneError)
    def unavailable(error: Exception) -> Response:
        logger.error("Request refused by Redis: %s", error)
        response = jsonify(error="not available now, try again")
        response.status_code = 503
        return response

    @app.errorhandler(Exception)
    def failed(error: Exception) -> Response:
        logger.error("Request failed", exc_info=error)
        response = jsonify(error="internal error")
        response.status_code = 500
        return response
