"""Run by test_memory_malloc.py with failing_malloc loaded first: a sliding log of the
engine that has to grow while there is no memory stays as it was, to the microsecond.

usage: failing_logs.py LIBRARY SHA1
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from failing_calls import load
from limit_model import START, US, Model, check_answers, check_retry
from redlane import Client, OutOfMemoryError

WINDOW = 60 * US
MOST = 50  # allocations of one call


class Log:
    """One limit on the engine, and what it should be."""

    def __init__(self, client: Any, sha1: str) -> None:
        self.client, self.sha1 = client, sha1
        self.model = Model("l", 40, WINDOW)
        client.flushall()

    def call(self, mode: str, cost: int, now: int) -> None:
        args = [mode, cost, now, "l", self.model.count, WINDOW, 0, 0, 0]
        reply = self.client.execute("EVALSHA", self.sha1, 1, "log", *args)
        if mode == "h" and self.model.admits(now, cost):
            self.model.charge(now, cost)
        check_answers([self.model], [reply[1:]], now)

    def check(self, now: int) -> None:
        for cost in range(1, self.model.count + 1):
            args = ["p", cost, now, "l", self.model.count, WINDOW, 0, 0, 0]
            reply = self.client.execute("EVALSHA", self.sha1, 1, "log", *args)
            check_answers([self.model], [reply[1:]], now)
            check_retry([self.model], [reply[1:]], now, cost)


def fail_once(library: Any, log: Log, gone: int, first: int) -> bool:
    """Fills the room for eight, has some of it end, and needs more than is there."""
    for i in range(8):
        log.call("h", 1, START + i * US)
    now = START + WINDOW + (gone - 1) * US
    error: Exception | None = None
    library.failing_arm(first, 1)
    try:
        log.call("h", gone + 1, now)
    except (MemoryError, OutOfMemoryError) as caught:
        error = caught
    failed: bool = library.failing_disarm() > 0
    assert failed or error is None
    for later in (0, US, 3 * US, WINDOW):
        log.check(now + later)
    return failed


def main() -> None:
    library = load(sys.argv[1])
    client: Any = Client("memory://")
    failures = 0
    for gone in range(8):
        for first in range(1, MOST):
            failed = fail_once(library, Log(client, sys.argv[2]), gone, first)
            failures += failed
            if not failed:
                break
        else:
            raise AssertionError("it never goes through")
    print(failures)
    assert failures >= 8


if __name__ == "__main__":
    main()
