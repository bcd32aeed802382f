"""Krowoc's settings of gunicorn: --config examples/krowoc/gunicorn.conf.py

What is given on the command line wins.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import FrameType
from typing import Any

wsgi_app = "krowoc.app:create_app()"
pythonpath = str(Path(__file__).resolve().parents[1])
bind = f"{os.environ.get('HOST') or '127.0.0.1'}:{os.environ.get('PORT') or 8000}"
worker_class = "gthread"
workers = int(os.environ.get("WEB_CONCURRENCY") or 2)
threads = 50  # each page that watches has one
control_socket_disable = True  # all gunicorns of a user would share one


def when_ready(server: Any) -> None:
    """Lets the application know how many workers it has."""
    os.environ["WEB_CONCURRENCY"] = str(server.cfg.workers)


def post_worker_init(worker: Any) -> None:
    """A worker that is told to end lets the pages that watch go first."""
    bus = worker.wsgi.extensions["krowoc"]
    end = signal.getsignal(signal.SIGTERM)
    assert callable(end)

    def leave(number: int, frame: FrameType | None) -> None:
        bus.leave()
        end(number, frame)

    signal.signal(signal.SIGTERM, leave)
    signal.siginterrupt(signal.SIGTERM, False)


def worker_exit(server: Any, worker: Any) -> None:
    if worker.booted:
        worker.wsgi.extensions["krowoc"].close()
