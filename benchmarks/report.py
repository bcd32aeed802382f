"""The table for people, the JSON for programs and the plots for the docs."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.harness import (
    OURS,
    Comparison,
    Result,
    Spread,
    Unit,
    format_seconds,
)

HEADINGS = ("row", "what", "redlane", "against", "", "ratio", "middle half", "goal", "")
PACKAGES = (
    "redlane",
    "redis",
    "hiredis",
    "valkey-glide-sync",
    "valkey-glide",
    "coredis",
    "uvloop",
    "cachebox",
    "cachetools",
    "theine",
    "dogpile.cache",
    "cashews",
    "aiocache",
    "msgspec",
    "flask",
    "flask-caching",
    "fastapi",
    "limits",
    "throttled-py",
    "flask-limiter",
    "slowapi",
    "fastapi-limiter",
    "pyrate-limiter",
)
COLOURS = {"ours": "#c0392b", "peer": "#7f8c8d", "floor": "#2c3e50"}


def format_value(unit: Unit, value: float) -> str:
    if unit == "bytes":
        return f"{value:.0f} B"
    return f"{1 / value:,.0f}/s" if unit == "rate" else format_seconds(value)


def table(results: list[Result]) -> str:
    """A line for each comparison; below it what has no time."""
    rows: list[tuple[str, ...]] = [HEADINGS]
    below = []
    for result in results:
        rows += _lines(result)
        below += [
            f"row {result.row}, {result.what}: {fact.text}: {_verdict(fact.met)}"
            for fact in result.facts
        ]
        below += [
            f"row {result.row}, {result.what}: {name} is absent: {why}"
            for name, why in result.absent.items()
        ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADINGS))]
    shown = [
        "  ".join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]
    return "\n".join([*shown, *below])


def _lines(result: Result) -> list[tuple[str, ...]]:
    ours = result.times.get(OURS)
    if ours:
        return [_line(result, ours, comparison) for comparison in result.comparisons]
    head = (str(result.row), result.what, "absent")
    return [
        (*head, n, format_value(result.unit, t.median), "", "", "", "")
        for n, t in result.times.items()
    ]


def _line(result: Result, ours: Spread, comparison: Comparison) -> tuple[str, ...]:
    theirs = result.times[comparison.against]
    spread = comparison.spread
    if comparison.kind == "excess":
        unit: Unit = "bytes" if result.unit == "bytes" else "time"
        ratio = f"+ {format_value(unit, spread.median)}"
        middle = (
            f"{format_value(unit, spread.low)} to {format_value(unit, spread.high)}"
        )
    else:
        better = " smaller" if result.unit == "bytes" else " faster"
        ratio = f"{spread.median:.3g} ×" + (
            better if comparison.kind == "speedup" else ""
        )
        middle = f"{spread.low:.3g} to {spread.high:.3g}"
    return (
        str(result.row),
        result.what,
        format_value(result.unit, ours.median),
        comparison.against,
        format_value(result.unit, theirs.median),
        ratio,
        middle,
        comparison.goal.text if comparison.goal else "",
        _verdict(comparison.met),
    )


def _verdict(met: bool | None) -> str:
    return "" if met is None else "met" if met else "NOT MET"


def document(
    results: list[Result], failed: dict[int, str], server_version: str | None
) -> dict[str, Any]:
    """Times in seconds for one operation, also where the table shows a rate; memory in
    bytes for one entry."""
    rows = []
    for result in results:
        row = asdict(result)
        for plain, comparison in zip(
            row["comparisons"], result.comparisons, strict=True
        ):
            plain["met"] = comparison.met
        rows.append(row)
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "load": os.getloadavg(),
        "server": server_version,
        "packages": {name: _version(name) for name in PACKAGES},
        "failed": failed,
        "rows": rows,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def plot(results: list[Result], folder: Path) -> None:
    """One SVG for each result: medians as bars, quartiles as whiskers."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "redlane"  # same input, same file
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    for result in results:
        figure, axes = pyplot.subplots(
            figsize=(7, 0.5 + 0.45 * len(result.times)), layout="constrained"
        )
        for place, (name, time) in enumerate(result.times.items()):
            values = [
                1 / s if result.unit == "rate" else s
                for s in (time.median, time.low, time.high)
            ]
            middle, low, high = values[0], min(values), max(values)
            axes.barh(
                place,
                middle,
                color=COLOURS[result.roles[name]],
                xerr=[[middle - low], [high - middle]],
            )
            axes.text(
                high, place, "  " + format_value(result.unit, time.median), va="center"
            )
        axes.set_yticks(range(len(result.times)), list(result.times))
        axes.invert_yaxis()
        axes.margins(x=0.2)
        axes.set_xticks([])
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        axes.set_title(
            f"{result.what} ({'more' if result.unit == 'rate' else 'less'} is better)",
            loc="left",
        )
        name = re.sub("[^a-z0-9]+", "-", result.what.lower())
        figure.savefig(
            folder / f"row-{result.row:02}-{name}.svg", metadata={"Date": None}
        )
        pyplot.close(figure)
