"""What the rows of rate limits share: the limit that all have, and the least that one
on a server can take."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from benchmarks import clients
from benchmarks.harness import Bench, Measure

ALGORITHM = "gcra"
COUNT = 1_000_000  # a second: nobody is refused
RATE = f"{COUNT}/second"
MEMORY, REDIS = PLACES = ("memory", "Redis")
ROUND_TRIP = "bare route + the script by C"
SCRIPTS = Path(__file__).resolve().parent.parent / "src" / "core" / "script.c"


def url_of(bench: Bench, place: str) -> str:
    return "memory://" if place == MEMORY else bench.server.url


def script_loop(bench: Bench, stack: ExitStack, user: str, count: int) -> Measure:
    """One decision after another, by the library's own script called from C."""
    context = clients.floor_connection(bench, stack)
    return lambda: bench.floor.array(context, _argv(user), 4, count)


def script_call(bench: Bench, stack: ExitStack, user: str) -> Callable[[], None]:
    """One decision, likewise."""
    context = clients.floor_connection(bench, stack)
    return bench.floor.array_call(context, _argv(user), 4)


def _argv(user: str) -> list[str]:
    argv = ["EVALSHA", _script(), "1", f"limit:{{{user}}}:b{COUNT}/1", "h", "1"]
    return [*argv, "0", "b", str(COUNT), "1000000", "1", "1", str(COUNT)]


def check(status: int | str, fields: Mapping[str, str]) -> None:
    """Refuses an application that does not limit, or does not say so."""
    if not str(status).startswith("200") or fields.get("x-ratelimit-limit") is None:
        raise RuntimeError(f"{status}, and the limit is not told: {fields}")


def _script() -> str:
    """The hash of the script, as the library has it."""
    found = re.search(
        r'\[REDLANE_SCRIPT_LIMIT\].*?\.sha1 = "(\w+)"', SCRIPTS.read_text(), re.DOTALL
    )
    if not found:
        raise RuntimeError("script.c does not tell the script's hash")
    return found[1]
