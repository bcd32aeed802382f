"""The table that `redlane demo` ends with: one row for each kind of request."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from redlane._cli.output import print_json, print_table

# What the median in hand is to stay below, in milliseconds, on a machine whose
# json.dumps takes DUMPS_MS for a canvas of DUMPS_PIXELS. On another one they are
# multiplied by how much longer it takes there, in the same run.
GOALS = {
    "canvas, cached": 1.0,
    "canvas, near": 0.05,
    "user stats, cached": 0.1,
    "total stats, cached": 0.1,
}
DUMPS_MS = 230.0
DUMPS_PIXELS = 250_000


@dataclass(frozen=True)
class Size:
    pixels: int
    users: int
    posts: int
    cached: int  # requests for each cached row
    uncached: int  # and for each uncached one


@dataclass(frozen=True)
class Times:
    in_hand: list[float]  # seconds
    over_http: list[float]


@dataclass(frozen=True)
class Row:
    name: str
    served_by: str
    requests: int
    hand_median_ms: float  # in the application, until the body's bytes are in hand
    hand_p99_ms: float
    http_median_ms: float  # as the client saw it
    http_p99_ms: float
    faster_in_hand: float | None  # times, against the uncached row
    faster_over_http: float | None
    goal_ms: float | None  # for the median in hand, times `slower`
    slower: float  # this machine, than the one of the goals
    met: bool | None


def slower_than_quoted(dumps: list[float], pixels: int) -> float:
    """How many times longer json.dumps took here; `dumps` in seconds."""
    quoted = DUMPS_MS / 1000 * pixels / DUMPS_PIXELS
    return statistics.median(dumps) / quoted


def make_row(
    name: str,
    served_by: str,
    times: Times,
    slower: float,
    against: Times | None = None,
) -> Row:
    hand = statistics.median(times.in_hand)
    http = statistics.median(times.over_http)
    goal = GOALS.get(name)
    return Row(
        name=name,
        served_by=served_by,
        requests=len(times.over_http),
        hand_median_ms=hand * 1000,
        hand_p99_ms=p99(times.in_hand) * 1000,
        http_median_ms=http * 1000,
        http_p99_ms=p99(times.over_http) * 1000,
        faster_in_hand=statistics.median(against.in_hand) / hand if against else None,
        faster_over_http=(
            statistics.median(against.over_http) / http if against else None
        ),
        goal_ms=goal,
        slower=slower,
        met=None if goal is None else hand * 1000 <= goal * slower,
    )


def p99(times: list[float]) -> float:
    return sorted(times)[math.ceil(0.99 * len(times)) - 1]


def print_rows(
    rows: list[Row], size: Size, examples: Iterable[str], as_json: bool
) -> None:
    if as_json:
        print_json({"size": asdict(size), "rows": [asdict(row) for row in rows]})
        return
    print("Each example starts with one command; it is at http://127.0.0.1:8000/ then:")
    for name in examples:
        print(f"  make run-{name}")
    print(
        f"\nThe Mural with {size.pixels:,} pixels; {size.cached:,} requests of each "
        f"kind, {size.uncached:,} uncached ones,\n{size.posts:,} placements. Times are "
        "in milliseconds.\n"
        "In hand: inside the process, until the bytes of the body are there.\n"
        "HTTP: as a client on loopback saw it.\n"
        f"Goals are for the median in hand where json.dumps takes {DUMPS_MS:g} ms for "
        f"{DUMPS_PIXELS:,} pixels, times how\nmuch longer it took here.\n"
    )
    times = ("in hand: median", "p99", "HTTP: median", "p99")
    print_table(
        ("", "served by", *times, "faster: in hand", "over HTTP", "goal in hand"),
        (
            (
                row.name,
                row.served_by,
                milliseconds(row.hand_median_ms),
                milliseconds(row.hand_p99_ms),
                milliseconds(row.http_median_ms),
                milliseconds(row.http_p99_ms),
                times_faster(row.faster_in_hand),
                times_faster(row.faster_over_http),
                goal_of(row),
            )
            for row in rows
        ),
        right=range(2, 8),
    )


def milliseconds(value: float) -> str:
    return f"{value:,.3f}" if value < 10 else f"{value:,.1f}"


def times_faster(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f} ×"


def goal_of(row: Row) -> str:
    if row.goal_ms is None:
        return ""
    met = "met" if row.met else "not met"
    return f"≤ {row.goal_ms:g} × {row.slower:.2f}: {met}"
