"""The Mural's settings of gunicorn: --config examples/mural/gunicorn.conf.py

What is given on the command line wins.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import FrameType
from typing import Any

wsgi_app = "mural.app:create_app()"
pythonpath = str(Path(__file__).resolve().parents[1])
worker_class = "gthread"
workers = int(os.environ.get("WEB_CONCURRENCY") or 3)
threads = 100  # each WebSocket client has one


def when_ready(server: Any) -> None:
    """Lets the application know how many workers it has."""
    os.environ["WEB_CONCURRENCY"] = str(server.cfg.workers)


def post_worker_init(worker: Any) -> None:
    """A worker that is told to end lets its WebSocket clients go first."""
    live = worker.wsgi.extensions["mural"].live
    end = signal.getsignal(signal.SIGTERM)
    assert callable(end)

    def leave(number: int, frame: FrameType | None) -> None:
        live.leave()
        end(number, frame)

    signal.signal(signal.SIGTERM, leave)
    signal.siginterrupt(signal.SIGTERM, False)


def worker_exit(server: Any, worker: Any) -> None:
    if worker.booted:
        worker.wsgi.extensions["mural"].close()
