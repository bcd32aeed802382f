"""Interleaved measurement: contestants take turns for many rounds.

A machine's speed drifts from second to second, so two figures are comparable only when
they were taken side by side. Each round measures every contestant once, in an order
that rotates. Ratios are taken within a round; a goal is judged by their median, and
their quartiles are the spread.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from statistics import median, quantiles
from timeit import Timer
from typing import Any, Literal

from benchmarks.floor import Floor
from benchmarks.server import Server, find_redis
from benchmarks.tls_server import TlsServer

Measure = Callable[[], float]
"""Runs one batch and returns the seconds (or bytes) that one operation took."""

Unit = Literal["time", "rate", "bytes"]
"""What a figure is: seconds, seconds shown as operations a second, or bytes."""

Role = Literal["ours", "peer", "floor"]
OURS = "redlane"


class Unavailable(Exception):
    """A contestant cannot take part here; the message says why."""


@dataclass(frozen=True)
class Goal:
    """What redlane must reach against one contestant.

    cost: ours / theirs <= limit. speedup: theirs / ours >= limit.
    excess: ours - theirs <= limit, in seconds or bytes.
    beyond: what this contestant takes is first taken off ours.
    """

    against: str
    kind: Literal["cost", "speedup", "excess"]
    limit: float
    text: str
    beyond: str | None = None

    def value(self, ours: float, theirs: float) -> float:
        if self.kind == "cost":
            return ours / theirs
        return theirs / ours if self.kind == "speedup" else ours - theirs

    def met(self, value: float) -> bool:
        return value >= self.limit if self.kind == "speedup" else value <= self.limit


def at_most(limit: float, against: str) -> Goal:
    return Goal(against, "cost", limit, f"≤ {limit:g} ×")


def at_least(limit: float, against: str) -> Goal:
    return Goal(against, "speedup", limit, f"≥ {limit:g} × faster")


def within(
    seconds: float, against: str, quoted: float, beyond: str | None = None
) -> Goal:
    """A time, scaled: it holds on a machine where `against` takes `quoted` seconds."""
    plus = "" if beyond is None else "+ "
    text = f"≤ {plus}{format_seconds(seconds)} (at {format_seconds(quoted)})"
    return Goal(against, "cost", seconds / quoted, text, beyond)


def at_most_over(seconds: float, against: str) -> Goal:
    return Goal(against, "excess", seconds, f"≤ + {format_seconds(seconds)}")


def at_most_bytes_over(size: int, against: str) -> Goal:
    return Goal(against, "excess", size, f"≤ + {size} B")


@dataclass(frozen=True)
class Spread:
    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Median and quartiles."""
        if len(values) < 2:
            return cls(values[0], values[0], values[0])
        low, _, high = quantiles(values, n=4, method="inclusive")
        return cls(median(values), low, high)


@dataclass(frozen=True)
class Comparison:
    """redlane against one contestant; without a goal the row promises nothing."""

    against: str
    kind: str
    spread: Spread
    goal: Goal | None

    @property
    def met(self) -> bool | None:
        return self.goal.met(self.spread.median) if self.goal else None


@dataclass(frozen=True)
class Fact:
    """A part of a row that is true or not, without a time."""

    text: str
    met: bool


@dataclass
class Result:
    row: int
    what: str
    unit: Unit
    roles: dict[str, Role] = field(default_factory=dict)
    times: dict[str, Spread] = field(default_factory=dict)
    comparisons: list[Comparison] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)

    def verdicts(self) -> list[bool]:
        judged = [c.met for c in self.comparisons if c.met is not None]
        return judged + [fact.met for fact in self.facts]


@dataclass(frozen=True)
class Size:
    """How much is measured: factors on the rounds and on the operations of a batch."""

    rounds: float
    batch: float


SIZES = {"full": Size(1, 1), "quick": Size(0.2, 1), "smoke": Size(0.01, 0.01)}


class Bench:
    """What the rows share: the size, and a server and a floor made on first use."""

    def __init__(self, size: Size) -> None:
        self._size = size
        self._stack = ExitStack()

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def rounds(self, count: int) -> int:
        return max(3, round(count * self._size.rounds))

    def batch(self, count: int) -> int:
        return max(2, round(count * self._size.batch))

    def seconds(self, duration: float) -> float:
        return max(0.02, duration * self._size.batch)

    @cached_property
    def server(self) -> Server:
        return self._stack.enter_context(Server())

    @cached_property
    def newer_server(self) -> Server:
        """One that redis-py's client-side cache accepts."""
        program = find_redis(7, 4)
        if program is None:
            raise Unavailable("no Redis 7.4 or later here: `make servers` fetches one")
        return self._stack.enter_context(Server(program))

    @cached_property
    def tls_server(self) -> TlsServer:
        return self._stack.enter_context(TlsServer())

    @cached_property
    def floor(self) -> Floor:
        try:
            return Floor()
        except (OSError, RuntimeError) as error:
            raise Unavailable(f"the C loop cannot be built: {error}") from error


class Lineup:
    """The contestants of a result; one that cannot take part is named with why."""

    def __init__(self, row: int, what: str, unit: Unit = "time") -> None:
        self._result = Result(row, what, unit)
        self._measures: dict[str, Measure] = {}

    def add(self, name: str, role: Role, make: Callable[[], Measure]) -> None:
        """`make` sets it up; ImportError or Unavailable: it is not to be had here.

        Whatever else a peer raises is its own affair, and the others still run.
        """
        try:
            self._measures[name] = make()
            self._result.roles[name] = role
        except (ImportError, Unavailable) as error:
            self._result.absent[name] = str(error)
        except Exception as error:
            if role != "peer":
                raise
            self._result.absent[name] = f"cannot be set up: {error!r}"

    def race(self, rounds: int, goals: list[Goal], over: str | None = None) -> Result:
        """`over`: the others' figures are what they take more than this contestant."""
        result = self._result
        times = _take_turns(self._measures, rounds, self._drop)
        if over is not None:
            times = _added(times, over)
        result.times = {name: Spread.of(values) for name, values in times.items()}
        if OURS in times:
            for name in times:
                if name not in (OURS, over):
                    result.comparisons += _compare(times, name, goals)
        return result

    def _drop(self, name: str, error: Exception) -> None:
        """A peer that fails while it is measured is out of the race."""
        if self._result.roles[name] != "peer":
            raise error
        del self._result.roles[name]
        self._result.absent[name] = f"failed while it was measured: {error!r}"


def _added(times: dict[str, list[float]], over: str) -> dict[str, list[float]]:
    base = times[over]
    return {
        name: values
        if name == over
        else [value - least for value, least in zip(values, base, strict=True)]
        for name, values in times.items()
    }


def _compare(
    times: dict[str, list[float]], name: str, goals: list[Goal]
) -> list[Comparison]:
    own: list[Goal | None] = [goal for goal in goals if goal.against == name]
    comparisons = []
    for goal in own or [None]:
        rule = goal or at_least(1, name)
        ours = times[OURS]
        if rule.beyond is not None:
            ours = [a - b for a, b in zip(ours, times[rule.beyond], strict=True)]
        values = [rule.value(a, b) for a, b in zip(ours, times[name], strict=True)]
        comparisons.append(Comparison(name, rule.kind, Spread.of(values), goal))
    return comparisons


def _take_turns(
    measures: dict[str, Measure],
    rounds: int,
    failed: Callable[[str, Exception], None],
) -> dict[str, list[float]]:
    """`failed` is told who leaves the race, and raises where nobody may."""
    times: dict[str, list[float]] = {name: [] for name in measures}

    def measure(name: str) -> None:
        try:
            times[name].append(measures[name]())
        except Exception as error:  # noqa: BLE001  judged by `failed`
            failed(name, error)
            del times[name]

    with _no_collector():
        for name in measures:  # connections, caches and bytecode warm up
            measure(name)
        for values in times.values():
            values.clear()
        for turn in range(rounds):
            names = list(times)
            shift = turn % len(names) if names else 0
            for name in names[shift:] + names[:shift]:
                measure(name)
            gc.collect()
    return times


@contextmanager
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def loop(statement: str, count: int, **names: Any) -> Measure:
    """`statement` in a for loop over locals; the empty loop, some 4 ns, is included."""
    setup = "; ".join(f"{name} = names[{name!r}]" for name in names) or "pass"
    timer = Timer(statement, setup, globals={"names": names})
    return lambda: timer.timeit(count) / count


def calls_within(seconds: float, statement: str, **names: Any) -> int:
    """How many calls take about that long; at least one."""
    count = 1
    while loop(statement, count, **names)() * count < seconds / 2:
        count *= 2
    return count


def format_seconds(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if abs(seconds) >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"
