"""The logger ``redlane``, made ready on first use: logging takes 8 ms to import."""

from __future__ import annotations

import logging
import os

__all__ = ["EVENTS", "get_logger"]

# What each record's `event` may be. Names stay as they are; texts may change.
EVENTS = {
    "redlane.command": "a client executed a command",
    "redlane.client.created": "the process made its one client",
    "redlane.rest.begin": "a client of a REST server is being made",
    "redlane.rest.ready": "it was made, for that URL",
    "redlane.config.database": "two variables of the environment name databases",
    "redlane.operation.failed": "an operation failed, or was answered otherwise",
    "redlane.link.up": "the server answers again",
    "redlane.link.suspect": "a call failed, and the server is being checked",
    "redlane.link.down": "the server is away",
    "redlane.link.refused": "the server refuses to serve, the login for instance",
    "redlane.link.readonly": "the server takes no writes",
    "redlane.link.writable": "the server takes writes again",
    "redlane.journal.lost": "changes of an outage did not reach the server",
    "redlane.journal.unsent": "a client was closed before they had",
    "redlane.near.off": "the near cache cannot be used",
    "redlane.cache.bad_seal": "a value without a valid seal was dropped",
    "redlane.cache.uncached": "a result cannot be serialised",
    "redlane.cache.refresh_failed": "a function failed, an old value is served",
    "redlane.cache.failed_late": "a function failed after its hard_timeout",
    "redlane.cache.undecoded": "a return annotation cannot be used",
    "redlane.concurrency.failed": "a slot could not be given back: its lease ends",
    "redlane.presence.failed": "presence could not be renewed",
    "redlane.pubsub.up": "subscriptions have a connection again",
    "redlane.pubsub.down": "subscriptions have no connection",
    "redlane.pubsub.gap": "messages may be missing",
    "redlane.pubsub.gap_handler_failed": "on_gap raised",
    "redlane.pubsub.handler_failed": "a handler of messages raised",
    "redlane.pubsub.ended": "the server refused a subscription",
    "redlane.starlark.uncached": "a script gave a TTL that is none",
    "redlane.starlark.unreadable": "what a script had cached cannot be read",
    "redlane.video.connected": "the video cache is on the server",
    "redlane.video.unconnected": "it is not, and why",
    "redlane.video.memory": "it is on the memory engine",
}

FORMAT = "%(levelname)s - %(message)s"

_TRUE = frozenset({"1", "true", "yes", "on"})


def get_logger() -> logging.Logger:
    """The logger; with DEBUG=true in the environment it shows every operation.

    DEBUG sets its level to DEBUG and gives it a handler, unless it has one already.
    """
    logger = logging.getLogger("redlane")
    if os.environ.get("DEBUG", "").strip().lower() in _TRUE:
        logger.setLevel(logging.DEBUG)
        if not logger.handlers:
            handler = logging.StreamHandler()
            handler.setFormatter(logging.Formatter(FORMAT))
            logger.addHandler(handler)
    return logger
