"""The benchmarks run and reckon rightly; how fast anything is, they say themselves."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redlane

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import aio, harness, near, report  # noqa: E402
from benchmarks.harness import Lineup, Unavailable  # noqa: E402

LRU = {"functools.lru_cache"}
IN_PROCESS = LRU | {"cachetools.TTLCache + lock", "cachebox.TTLCache", "theine.Memoize"}
FLASK = {"bare route", "Flask-Caching, memory", "Flask-Caching, Redis"}
FASTAPI = {
    *("bare route", "fastapi-cache2, memory", "fastapi-cache2, Redis"),
    "fastapi-redis-sdk, Redis 8",
}
GETS = {"redis-py + hiredis", "Flask-Caching on Redis", "hiredis C loop"}
LIMITED_ON_REDIS = {"bare route + the script by C", "slowapi", "fastapi-limiter"}
DIFFERENCES = (9, 10)  # on a machine that is busy they may come out below nothing
# For each row: who stands beside redlane in each of its results.
ROWS = {
    1: [
        {"redis-py + hiredis", "valkey-glide-sync", "hiredis C loop"},
        {"redis-py + hiredis"},
    ],
    2: [{"redis-py + hiredis"}] * 5,
    3: [{"redis.asyncio + hiredis", "coredis", "valkey-glide"}] * 2,
    4: [{"redis.asyncio + hiredis", "coredis", "valkey-glide"}] * 2,
    5: [
        IN_PROCESS
        | {"dogpile.cache, memory", "dogpile.cache, Redis"}
        | {"Flask-Caching, memory", "Flask-Caching, Redis"}
        | {"cashews, memory, awaited", "redis-py client-side cache, GET"},
        *[IN_PROCESS] * 3,
        *[LRU] * 2,
        LRU
        | {"cachebox.TTLCache", "Flask-Caching, memory", "msgspec.json.decode alone"},
        LRU,
    ],
    6: [{"empty coroutine", "aiocache, memory", "cashews, memory"}] * 2,
    7: [
        {"limits", "throttled-py"},
        {"limits", "throttled-py"},
        {"limits"},
        *[{"throttled-py"}] * 2,
    ],
    8: [
        {"hiredis C loop", "limits, fixed window", "throttled-py, GCRA"},
        {"limits, in memory"},
    ],
    9: [
        *[{"bare route", "Flask-Limiter"}] * 2,
        *[{"bare route", "bare route + the script by C", "Flask-Limiter"}] * 2,
    ],
    10: [
        *[{"bare route", "slowapi"}] * 2,
        {"route with an empty dependency", "slowapi"},
        *[{"bare route", *LIMITED_ON_REDIS}] * 2,
        {"route with an empty dependency", *LIMITED_ON_REDIS},
    ],
    11: [FLASK] * 6,
    12: [FASTAPI] * 6,
    13: [
        {"json.dumps", "msgspec", *GETS},
        {"zlib.decompress"},
        {"json.dumps", "msgspec"},
        GETS,
        {"jsonify, uncached"},
    ],
    14: [{"hashlib + json.dumps", "hashlib + a kept encoder"}],
    15: [{"cachebox.TTLCache"}],
    16: [{"redis-py + hiredis"}, *[{"redis.asyncio + hiredis"}] * 2] * 2,
    17: [{"redis-py + hiredis", "hiredis C loop"}, {"redis-py + hiredis"}],
    18: [{"import redis", "bare interpreter"}],
    19: [
        {"cachebox.TTLCache", "dict", "key and value"},
        *({"key and value"} for _ in range(4)),
    ],
}


def measure(row: int, file: Path) -> tuple[dict[str, Any], str]:
    """What the row writes and prints. A machine that lets the thread wait that confirms
    near values has some calls, of a few, not answered near: it may try again."""
    command = [sys.executable, "-m", "benchmarks", "--smoke", "--json", str(file)]
    for _ in range(3):
        done = subprocess.run(
            [*command, str(row)], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        document: dict[str, Any] = json.loads(file.read_text())
        late = any(not fact["met"] for fact in near_facts(document))
        if not late and "no near hit" not in str(document["failed"]):
            break
    return document, done.stdout


@pytest.mark.parametrize("row", ROWS)
def test_each_row_runs_and_names_everyone(row: int, tmp_path: Path) -> None:
    document, printed = measure(row, tmp_path / "result.json")
    assert document["failed"] == {}
    assert [result["row"] for result in document["rows"]] == [row] * len(ROWS[row])
    for fact in near_facts(document):
        assert fact["met"], fact["text"]
    for result, others in zip(document["rows"], ROWS[row], strict=True):
        assert set(result["times"]) | set(result["absent"]) == others | {"redlane"}
        if row not in DIFFERENCES:
            assert all(spread["median"] > 0 for spread in result["times"].values())
        assert all(result["absent"].values())
        assert result["what"] in printed
        assert "redlane" in result["times"], result["absent"]


def near_facts(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        fact
        for result in document["rows"]
        for fact in result["facts"]
        if "near hit" in fact["text"]
    ]


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
    assert "row 99, test: peer is absent: not here" in report.table([result])


def test_a_peer_that_cannot_be_set_up_is_named_and_ours_ends_the_row() -> None:
    def fail() -> harness.Measure:
        raise ConnectionError("refused")

    lineup = Lineup(99, "test")
    lineup.add("redlane", "ours", lambda: turns("redlane", [1, 1, 1], []))
    lineup.add("peer", "peer", fail)
    with pytest.raises(ConnectionError):
        lineup.add("floor", "floor", fail)
    result = lineup.race(3, [])
    assert result.absent == {"peer": "cannot be set up: ConnectionError('refused')"}


def test_a_peer_that_fails_leaves_the_race() -> None:
    lineup = Lineup(99, "test")
    lineup.add("redlane", "ours", lambda: turns("redlane", [1, 1, 1], []))
    lineup.add("peer", "peer", lambda: turns("peer", [1], []))
    result = lineup.race(3, [harness.at_most(1, "peer")])
    assert list(result.times) == list(result.roles) == ["redlane"]
    assert result.comparisons == []
    assert "failed while it was measured" in result.absent["peer"]


def test_a_failure_of_ours_ends_the_row() -> None:
    lineup = Lineup(99, "test")
    lineup.add("redlane", "ours", lambda: turns("redlane", [1], []))
    with pytest.raises(StopIteration):
        lineup.race(3, [])


def test_what_hangs_on_a_loop_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aio, "PATIENCE", 0.02)
    cancelled = False

    async def hang() -> None:
        nonlocal cancelled
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled = True
            await asyncio.sleep(0)

    loop = asyncio.new_event_loop()
    with pytest.raises(Unavailable, match="connecting a peer was not over within 0 s"):
        aio.run_within(loop, hang(), "connecting a peer")
    assert aio.run_within(loop, asyncio.sleep(0, "on"), "another") == "on"
    loop.close()
    assert cancelled


class Answers:
    """Of a cache only how many of its answers were near."""

    near_hits = 5

    def stats(self) -> dict[str, int]:
        return {"near_hits": self.near_hits}


@pytest.mark.parametrize(("answered", "met"), [(3000, True), (2996, False), (0, False)])
def test_what_was_timed_must_be_near_hits(answered: int, met: bool) -> None:
    cache = Answers()
    watched = near.Watched(cache, lambda: 2e-8, 1000)
    assert [watched() for _ in range(3)] == [2e-8] * 3
    cache.near_hits += answered
    fact = watched.fact()
    assert fact.text == f"{answered:,} of 3,000 timed calls were near hits"
    assert fact.met is met


def test_a_call_that_is_never_a_near_hit_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(near, "PATIENCE", 0.02)
    cache = redlane.Cache("memory://")
    monkeypatch.setattr(near, "hits", lambda cache: 0)
    with pytest.raises(Unavailable, match="no near hit"):
        near.wait_until_near(cache, lambda: cache.get("k"))


def test_the_calls_of_a_loop_fill_the_time() -> None:
    assert harness.calls_within(0, "f()", f=dict) == 1
    assert harness.calls_within(1e-3, "f()", f=dict) > 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(2.5, "2.5 s"), (0.012, "12 ms"), (61.23e-6, "61.2 µs"), (5e-8, "50 ns")],
)
def test_times_are_shown_with_three_digits(seconds: float, text: str) -> None:
    assert harness.format_seconds(seconds) == text
