"""Histories of counters and registers, and what no history may hold.

Threads and processes note each call before it leaves and after it has come back. A call
that never came back, or whose outcome an error leaves open, may have had its effect at
any time since it began, or have none. Times are of CLOCK_MONOTONIC, which all processes
of a machine share. The checks return what is wrong in words, with the events.

A counter that is counted at most once ends between what was acknowledged and that with
all that is open; any value seen on the way lies between what had been acknowledged
before the call began and what had begun before it ended.

A register's read returns a value that some write has begun to write, and none that a
later write, completed before the read began, had replaced: whoever wrote it (`check_
register`), or at least the reader's own process where an outage keeps others' apart.
"""

from __future__ import annotations

import bisect
import itertools
import json
import math
import os
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Interval = tuple[float, float]


@dataclass
class Event:
    """One call. `value`: written, added, or (once it has come) read; None for a delete
    and for a read that found nothing."""

    process: str
    kind: str  # "write", "read", "add"
    key: str
    value: Any
    begin: float
    end: float = math.inf
    outcome: str = "open"  # "ok", "open" or "failed": known to have had no effect
    result: Any = None  # of an add: the sum that it returned

    @property
    def happened_by(self) -> float:
        """When its effect was there at the latest."""
        return self.end if self.outcome == "ok" else math.inf

    def overlaps(self, intervals: Iterable[Interval]) -> bool:
        return any(self.begin <= end and begin <= self.end for begin, end in intervals)


class History:
    """Notes the calls of one process; any thread may. With a path each line is written
    at once, so that what a killed process had begun is known."""

    def __init__(self, process: str = "", path: Path | str | None = None) -> None:
        self.process = process
        self.events: list[Event] = []
        self._file = -1
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        if path is not None:
            flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC
            self._file = os.open(path, flags, 0o600)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _write(self, *fields: Any) -> None:
        if self._file >= 0:
            os.write(self._file, json.dumps(fields).encode() + b"\n")

    def begin(self, kind: str, key: str, value: Any = None) -> Call:
        """Notes that a call is about to be made."""
        event = Event(self.process, kind, key, value, 0)
        with self._lock:
            number = next(self._numbers)
            self.events.append(event)
        event.begin = time.monotonic()
        self._write(number, "begin", self.process, kind, key, value, event.begin)
        return Call(self, number, event)


@dataclass
class Call:
    """One call under way: exactly one of these ends it, or none does."""

    history: History
    number: int
    event: Event

    def _end(self, outcome: str, given: Any) -> None:
        event = self.event
        event.end = time.monotonic()
        if event.kind == "read":
            event.value = given
        else:
            event.result = given
        event.outcome = outcome
        self.history._write(self.number, outcome, given, event.end)

    def ok(self, given: Any = None) -> None:
        """It returned: what it read, or the sum after what it added."""
        self._end("ok", given)

    def failed(self) -> None:
        """It is known to have had no effect."""
        self._end("failed", None)

    def lost(self) -> None:
        """Nobody knows what came of it."""
        self._end("open", None)


def load(paths: Iterable[Path]) -> list[Event]:
    """The events of several processes' files, one history in each."""
    found = []
    for path in paths:
        open_calls: dict[int, Event] = {}
        for line in path.read_text().splitlines():
            number, word, *fields = json.loads(line)
            if word == "begin":
                process, kind, key, value, begin = fields
                event = open_calls[number] = Event(process, kind, key, value, begin)
                found.append(event)
                continue
            event = open_calls.pop(number)
            given, event.end = fields
            event.outcome = word
            if event.kind == "read":
                event.value = given
            else:
                event.result = given
    return found


# --- counters ---------------------------------------------------------------------


class Sums:
    """How much was added by a moment, of events sorted by when it counts."""

    def __init__(self, moments: Iterable[tuple[float, float]]) -> None:
        ordered = sorted(moments)
        self._at = [moment for moment, _ in ordered]
        self._sums = [0.0, *itertools.accumulate(amount for _, amount in ordered)]

    def before(self, moment: float) -> float:
        return self._sums[bisect.bisect_left(self._at, moment)]


def check_counter(
    events: Iterable[Event],
    key: str,
    final: float | None = None,
    *,
    initial: float = 0,
    outages: Sequence[Interval] = (),
    losses: Sequence[Interval] = (),
) -> list[str]:
    """What is wrong with one counter. `outages`: when some process may have counted on
    its own; what is seen from then on, but for the end, may lack what others hold back.
    `losses`: when the server lost what it held, or a process its journal; nothing that
    began before the end of a loss counts towards the least any more."""
    own = [event for event in events if event.key == key and event.outcome != "failed"]
    adds = [event for event in own if event.kind == "add"]
    kept_from = max((end for _, end in losses), default=-math.inf)
    least: list[tuple[float, float]] = []
    most: list[tuple[float, float]] = []
    for add in adds:
        sure = add.happened_by if add.begin > kept_from else math.inf
        # An amount below nothing lowers the least at once and the most when it is sure.
        low, high = (sure, add.begin) if add.value > 0 else (add.begin, sure)
        least.append((low, add.value))
        most.append((high, add.value))
    lower, upper = Sums(least), Sums(most)
    floor = min(initial, 0) if losses else initial
    ceiling = max(initial, 0) if losses else initial
    first_outage = min((begin for begin, _ in outages), default=math.inf)

    wrong = []
    for event in own:
        seen = event.value if event.kind == "read" else event.result
        if event.outcome != "ok" or seen is None:
            continue
        low = floor + lower.before(event.begin)
        high = ceiling + upper.before(event.end)
        # What an add returns counts itself in.
        if event.kind == "add" and event.begin > kept_from and event.value > 0:
            low += event.value
        if event.end >= first_outage:
            low = -math.inf
        if not low <= seen <= high:
            wrong.append(f"{key} was {seen}, not in {low:g}…{high:g}: {event}")
    if final is not None:
        low, high = floor + lower.before(math.inf), ceiling + upper.before(math.inf)
        if not low <= final <= high:
            wrong.append(f"{key} ended at {final}, not in {low:g}…{high:g}")
    return wrong


def check_unique_sums(events: Iterable[Event], key: str) -> list[str]:
    """Two additions of one counter that never falls cannot return one sum."""
    wrong, seen = [], {}
    for event in events:
        if event.key == key and event.kind == "add" and event.result is not None:
            if event.result in seen:
                wrong.append(f"{key}: one sum twice: {seen[event.result]}, {event}")
            seen[event.result] = event
    return wrong


# --- registers --------------------------------------------------------------------


class Writes:
    """Completed writes, asked which of them a read had to know."""

    def __init__(self, writes: Iterable[Event]) -> None:
        done = sorted(
            (write for write in writes if write.outcome == "ok"),
            key=lambda write: write.end,
        )
        self._ends = [write.end for write in done]
        self._latest = list(
            itertools.accumulate(done, lambda a, b: a if a.begin >= b.begin else b)
        )

    def known_at(self, moment: float) -> Event | None:
        """The one that began last, of those that had ended before this moment."""
        count = bisect.bisect_left(self._ends, moment)
        return self._latest[count - 1] if count else None


class Sources:
    """The writes of one value, asked which of them a read may have seen."""

    def __init__(self, writes: Iterable[Event]) -> None:
        begun = sorted(writes, key=lambda write: write.begin)
        self._begins = [write.begin for write in begun]
        self._lasting = list(
            itertools.accumulate(
                begun, lambda a, b: a if a.happened_by >= b.happened_by else b
            )
        )

    def before(self, moment: float) -> Event | None:
        """The one that may have come last, of those begun before this moment."""
        count = bisect.bisect_right(self._begins, moment)
        return self._lasting[count - 1] if count else None


def grouped(events: Iterable[Event], field: str) -> dict[Any, list[Event]]:
    groups: dict[Any, list[Event]] = {}
    for event in events:
        groups.setdefault(getattr(event, field), []).append(event)
    return groups


def check_register(
    events: Iterable[Event],
    key: str,
    *,
    initial: Any = None,
    lossy: bool = False,
    lag: float = 0,
    outages: Sequence[Interval] = (),
    losses: Sequence[Interval] = (),
) -> list[str]:
    """What is wrong with one register, whose values are each written once (None, a
    delete, as often as one likes). `lossy`: a cache, where nothing is always an answer.
    `lag`: seconds for which a read may still miss what another process wrote.
    `outages`: when some process may have been on its own; what was written then binds
    the reads of its own process only, and reads made then are bound by those alone.
    `losses`: when the server lost what it held."""
    own = [event for event in events if event.key == key and event.outcome != "failed"]
    writes = [event for event in own if event.kind == "write"]
    writes.append(Event("", "write", key, initial, -math.inf, -math.inf, "ok"))
    writes += [Event("", "write", key, None, begin) for begin, _ in losses]
    sources = {
        value: Sources(group) for value, group in grouped(writes, "value").items()
    }
    of_process = {
        name: Writes(group) for name, group in grouped(writes, "process").items()
    }
    of_all = Writes(write for write in writes if not write.overlaps(outages))

    wrong = []
    for read in own:
        if read.kind != "read" or read.outcome != "ok":
            continue
        if read.value is None and lossy:
            continue
        if read.value not in sources:
            wrong.append(f"{key}: a value that nobody wrote: {read}")
            continue
        source = sources[read.value].before(read.end)
        if source is None:
            wrong.append(f"{key}: a value before it was written: {read}")
            continue
        bounds = [(of_process.get(read.process), read.begin)]
        if not read.overlaps(outages):
            bounds.append((of_all, read.begin - lag))
        for bound, moment in bounds:
            newer = bound.known_at(moment) if bound else None
            if newer is not None and source.happened_by < newer.begin:
                wrong.append(f"{key}: replaced by {newer} and still read: {read}")
                break
    return wrong
