"""The benchmarks run and reckon rightly; how fast anything is, they say themselves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import harness, report  # noqa: E402
from benchmarks.harness import Lineup, Unavailable  # noqa: E402

GETS = {"redis-py + hiredis", "Flask-Caching on Redis", "hiredis C loop"}
# For each row: who stands beside redlane in each of its results.
ROWS = {
    1: [
        {"redis-py + hiredis", "valkey-glide-sync", "hiredis C loop"},
        {"redis-py + hiredis"},
    ],
    2: [{"redis-py + hiredis"}] * 5,
    13: [
        {"json.dumps", "msgspec", *GETS},
        {"zlib.decompress"},
        GETS,
        {"jsonify, uncached"},
    ],
    14: [{"hashlib + json.dumps", "hashlib + a kept encoder"}],
    15: [{"cachebox.TTLCache"}],
    17: [{"redis-py + hiredis", "hiredis C loop"}, {"redis-py + hiredis"}],
    18: [{"import redis", "bare interpreter"}],
    19: [
        {"cachebox.TTLCache", "dict", "key and value"},
        {"key and value"},
        {"key and value"},
    ],
}


@pytest.mark.parametrize("row", ROWS)
def test_each_row_runs_and_names_everyone(row: int, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    command = [sys.executable, "-m", "benchmarks", "--smoke", "--json", str(file)]
    done = subprocess.run(
        [*command, str(row)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(file.read_text())
    assert document["failed"] == {}
    assert [result["row"] for result in document["rows"]] == [row] * len(ROWS[row])
    for result, others in zip(document["rows"], ROWS[row], strict=True):
        assert set(result["times"]) | set(result["absent"]) == others | {"redlane"}
        assert all(spread["median"] > 0 for spread in result["times"].values())
        assert all(result["absent"].values())
        assert "redlane" in result["times"], result["absent"]
        assert result["what"] in done.stdout


def turns(name: str, seconds: list[float], log: list[str]) -> harness.Measure:
    left = iter([seconds[0], *seconds])  # the first is the warm-up

    def measure() -> float:
        log.append(name)
        return next(left)

    return measure


def race(goals: list[harness.Goal]) -> tuple[harness.Result, list[str]]:
    log: list[str] = []
    lineup = Lineup(99, "test")
    lineup.add("redlane", "ours", lambda: turns("redlane", [2, 3, 20], log))
    lineup.add("peer", "peer", lambda: turns("peer", [4, 9, 80], log))
    return lineup.race(3, goals), log


def test_ratios_are_taken_within_a_round_and_the_order_rotates() -> None:
    result, log = race([])
    (comparison,) = result.comparisons
    assert comparison.spread == harness.Spread(median=3, low=2.5, high=3.5)
    assert comparison.met is None
    assert log == ["redlane", "peer"] * 2 + ["peer", "redlane"] + ["redlane", "peer"]


@pytest.mark.parametrize(
    ("goal", "value", "met"),
    [
        (harness.at_least(3, "peer"), 3, True),
        (harness.at_least(3.1, "peer"), 3, False),
        (harness.at_most(0.34, "peer"), 1 / 3, True),
        (harness.at_most(0.33, "peer"), 1 / 3, False),
        (harness.within(2, "peer", quoted=5), 1 / 3, True),
        (harness.within(2, "peer", quoted=8), 1 / 3, False),
        (harness.at_most_over(-6, "peer"), -6, True),
        (harness.at_most_over(-7, "peer"), -6, False),
    ],
)
def test_goals(goal: harness.Goal, value: float, met: bool) -> None:
    result, _ = race([goal])
    (comparison,) = result.comparisons
    assert comparison.spread.median == pytest.approx(value)
    assert comparison.met is met
    assert result.verdicts() == [met]
    assert ("NOT MET" in report.table([result])) is not met


@pytest.mark.parametrize("error", [ImportError("not here"), Unavailable("not here")])
def test_who_cannot_take_part_is_named_with_the_reason(error: Exception) -> None:
    def fail() -> harness.Measure:
        raise error

    lineup = Lineup(99, "test")
    lineup.add("redlane", "ours", lambda: turns("redlane", [1, 1, 1], []))
    lineup.add("peer", "peer", fail)
    result = lineup.race(3, [harness.at_most(1, "peer")])
    assert result.absent == {"peer": "not here"}
    assert "row 99: peer is absent: not here" in report.table([result])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(2.5, "2.5 s"), (0.012, "12 ms"), (61.23e-6, "61.2 µs"), (5e-8, "50 ns")],
)
def test_times_are_shown_with_three_digits(seconds: float, text: str) -> None:
    assert harness.format_seconds(seconds) == text
