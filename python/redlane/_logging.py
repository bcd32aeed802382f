"""The logger ``redlane``, made ready on first use: logging takes 8 ms to import."""

from __future__ import annotations

import logging
import os

__all__ = ["get_logger"]

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
