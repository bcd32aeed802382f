"""Puts measured figures into the README and docs/benchmarks.md.

    python -m benchmarks --json bench.json
    python -m redlane demo --json > demo.json
    python tools/readme_figures.py bench.json demo.json [--note "How it was measured."]

The README has what has a goal, the page all comparisons. Several files of benchmarks
may be named: later ones win, row by row. Both then say which rows come from which run,
with its load and with what failed in it.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGE = ROOT / "docs" / "benchmarks.md"


def show_time(seconds: float) -> str:
    for unit, size in (("s", 1), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def show_value(unit: str, value: float) -> str:
    if unit == "bytes":
        return f"{value:.0f} B"
    return f"{1 / value:,.0f}/s" if unit == "rate" else show_time(value)


def show_difference(unit: str, value: float) -> str:
    return show_value("bytes" if unit == "bytes" else "time", value)


def show_ratio(unit: str, comparison: dict[str, Any]) -> str:
    median = comparison["spread"]["median"]
    if comparison["kind"] == "excess":
        return f"+ {show_difference(unit, median)}"
    better = " smaller" if unit == "bytes" else " faster"
    return f"{median:.3g} ×" + (better if comparison["kind"] == "speedup" else "")


def show_middle(unit: str, comparison: dict[str, Any]) -> str:
    low, high = comparison["spread"]["low"], comparison["spread"]["high"]
    if comparison["kind"] == "excess":
        return f"{show_difference(unit, low)} to {show_difference(unit, high)}"
    return f"{low:.3g} to {high:.3g}"


def show_goal(comparison: dict[str, Any]) -> str:
    if not comparison["goal"]:
        return ""
    met = "met" if comparison["met"] else "**not met**"
    return f"{comparison['goal']['text']}: {met}"


def describe_run(document: dict[str, Any], rows: list[int], only: bool) -> str:
    """What the rows of one run were measured on, and what failed in that run."""
    many = "s" if len(rows) > 1 else ""
    text = "" if only else f"Row{many} {', '.join(map(str, rows))}: "
    text += (
        f"{document['machine']}, CPython {document['python']}, Redis "
        f"{document['server']}, load average {document['load'][0]:.1f} at the end."
    )
    for number, error in document["failed"].items():
        text += f" Row {number} failed in this run: `{error.partition('(')[0]}`."
    return text


def latest_rows(
    documents: list[dict[str, Any]],
) -> tuple[dict[int, list[dict[str, Any]]], list[str]]:
    """Each row as the last run has it, and what is to be said of the runs."""
    rows: dict[int, list[dict[str, Any]]] = {}
    source: dict[int, int] = {}
    for place, document in enumerate(documents):
        for number in {row["row"] for row in document["rows"]}:
            rows[number] = [row for row in document["rows"] if row["row"] == number]
            source[number] = place
    runs: list[str] = []
    for place, document in enumerate(documents):
        own = sorted(number for number in rows if source[number] == place)
        if own:
            runs += [describe_run(document, own, len(documents) == 1), ""]
    return rows, runs


def write_table(rows: dict[int, list[dict[str, Any]]], goals_only: bool) -> list[str]:
    titles = ["row", "work", "redlane", "against", "", "ratio", "middle half", "goal"]
    if goals_only:
        titles.remove("middle half")
    lines = [f"| {' | '.join(titles)} |".replace("|  |", "| |")]
    lines.append("|---" * len(titles) + "|")
    for number in sorted(rows):
        for row in rows[number]:
            for comparison in row["comparisons"]:
                if goals_only and not comparison["goal"]:
                    continue
                other = comparison["against"]
                cells = [
                    str(number),
                    row["what"],
                    show_value(row["unit"], row["times"]["redlane"]["median"]),
                    other,
                    show_value(row["unit"], row["times"][other]["median"]),
                    show_ratio(row["unit"], comparison),
                    show_middle(row["unit"], comparison),
                    show_goal(comparison),
                ]
                if goals_only:
                    del cells[6]
                lines.append(f"| {' | '.join(cells)} |".replace("|  |", "| |"))
    return lines


def write_bench(documents: list[dict[str, Any]], note: str, goals_only: bool) -> str:
    rows, runs = latest_rows(documents)
    lines = [note, ""] if note else []
    lines += runs + write_table(rows, goals_only)
    failed = [
        f"- Row {number}, {row['what']}: {fact['text']}."
        for number in sorted(rows)
        for row in rows[number]
        for fact in row["facts"]
        if not fact["met"]
    ]
    if failed:
        lines += ["", "What was to hold beside these and did not:", "", *failed]
    return "\n".join(lines)


def milliseconds(value: float) -> str:
    return f"{value:,.3f}" if value < 10 else f"{value:,.1f}"


def write_demo(document: dict[str, Any], note: str) -> str:
    lines = [note, ""] if note else []
    lines += [
        "| request | served by | in hand: median | p99 | over HTTP: median | p99 "
        "| faster: in hand | over HTTP | goal in hand |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in document["rows"]:
        times = (
            milliseconds(row[f"{where}_{what}_ms"])
            for where in ("hand", "http")
            for what in ("median", "p99")
        )
        factors = (
            f"{row[name]:,.1f} ×" if row[name] else ""
            for name in ("faster_in_hand", "faster_over_http")
        )
        goal = ""
        if row["goal_ms"]:
            met = "met" if row["met"] else "**not met**"
            goal = f"≤ {row['goal_ms']:g} ms × {row['slower']:.2f}: {met}"
        timed = (f"{time} ms" for time in times)
        cells = (row["name"], row["served_by"], *timed, *factors, goal)
        lines.append(re.sub(r"(?<=\|)  (?=\|)", " ", f"| {' | '.join(cells)} |"))
    return "\n".join(lines)


def replace_part(path: Path, name: str, part: str) -> None:
    text = path.read_text(encoding="utf-8")
    pattern = rf"(<!-- figures: {name} -->\n).*?(<!-- end -->)"
    changed, count = re.subn(
        pattern, lambda match: f"{match[1]}\n{part}\n\n{match[2]}", text, flags=re.S
    )
    if count != 1:
        raise SystemExit(f"{path.name}: no place for the figures of {name}")
    path.write_text(changed, encoding="utf-8")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+", metavar="FILE.json")
    parser.add_argument("--note", default="", help="stands above each table")
    options = parser.parse_args(arguments)
    names, note = options.names, options.note
    documents = [json.loads(Path(name).read_text(encoding="utf-8")) for name in names]
    bench = [document for document in documents if "packages" in document]
    demos = [document for document in documents if "size" in document]
    if len(bench) + len(demos) != len(documents):
        raise SystemExit("not the JSON of benchmarks or of demo")
    if bench:
        replace_part(README, "bench", write_bench(bench, note, goals_only=True))
        replace_part(PAGE, "bench", write_bench(bench, note, goals_only=False))
    for document in demos:
        replace_part(README, "demo", write_demo(document, note))


if __name__ == "__main__":
    main(sys.argv[1:])
