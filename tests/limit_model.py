"""What limits come to, with exact numbers: the reference for engine and server."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

US = 1_000_000
START = 1_800_000_000 * US
KINDS = ("f", "s", "l", "b")


@dataclass
class Model:
    """One limit, decided with exact numbers."""

    kind: str
    count: int
    window: int  # microseconds
    burst: int = 0
    hits: list[int] = field(default_factory=list)  # log: a time for each unit
    windows: dict[int, int] = field(default_factory=dict)  # fixed
    state: tuple[int, int, int] = (0, 0, 0)  # sliding: window, units, those before
    drained: Fraction = Fraction(0)  # bucket: when nothing is left

    @property
    def most(self) -> int:
        return self.burst or self.count

    def index(self, now: int) -> int:
        return now // self.window

    def look(self, now: int) -> None:
        """Where the clock was set back: what lies in the future counts as of now."""
        self.hits = [min(time, now) for time in self.hits]
        if self.kind == "s" and self.index(now) < self.state[0]:
            self.state = self.index(now), *self.counts(now)
        if self.kind == "b":
            full = Fraction(self.most * self.window, self.count)
            self.drained = min(self.drained, now + full)

    def trim(self, now: int) -> None:
        """What is written to has lost what does not count any more."""
        if self.used(now):
            self.hits = [time for time in self.hits if time > now - self.window]

    def counts(self, now: int) -> tuple[int, int]:
        """Sliding: of this window and the one before; also where the clock was set
        back, so that they are of a later one."""
        index, current, previous = self.state
        ahead = self.index(now) - index
        if ahead < 0:
            return min(self.count, current + previous), 0
        return {0: (current, previous), 1: (0, current)}.get(ahead, (0, 0))

    def used(self, now: int) -> Fraction:
        if self.kind == "f":
            return Fraction(self.windows.get(self.index(now), 0))
        if self.kind == "l":
            return Fraction(sum(time > now - self.window for time in self.hits))
        if self.kind == "b":
            left = (self.drained - now) * self.count / self.window
            return min(Fraction(self.most), max(Fraction(0), left))
        current, previous = self.counts(now)
        left = Fraction(self.window - now % self.window, self.window)
        return Fraction(current + math.ceil(previous * left))

    def admits(self, now: int, cost: int) -> bool:
        return self.used(now) + cost <= self.most

    def is_idle(self, now: int) -> bool:
        return self.used(now) == 0

    def charge(self, now: int, cost: int) -> None:
        if self.kind == "l":
            self.hits += [now] * cost
            self.trim(now)
        elif self.kind == "b":
            self.set_debt(now, self.used(now) + cost)
        elif self.kind == "f":
            self.windows[self.index(now)] = self.windows.get(self.index(now), 0) + cost
        else:
            current, previous = self.counts(now)
            self.state = self.index(now), current + cost, previous

    def refund(self, now: int, cost: int) -> None:
        if not self.used(now):
            return
        self.give_back(now, cost)
        if not self.used(now):  # nothing is kept
            self.state, self.drained = (0, 0, 0), Fraction(0)

    def give_back(self, now: int, cost: int) -> None:
        if self.kind == "l":
            self.trim(now)
            here = int(min(cost, self.used(now)))
            if here:
                del self.hits[-here:]
        elif self.kind == "b":
            self.set_debt(now, max(Fraction(0), self.used(now) - cost))
        elif self.kind == "f":
            here = self.windows.get(self.index(now), 0)
            self.windows[self.index(now)] = max(0, here - cost)
        else:
            current, previous = self.counts(now)
            here = min(cost, current)
            left = max(0, previous - (cost - here))
            self.state = self.index(now), current - here, left

    def set_debt(self, now: int, debt: Fraction) -> None:
        self.drained = now + debt * self.window / self.count


def check_answers(models: list[Model], answers: Any, now: int) -> None:
    for model, (remaining, reset, _) in zip(models, answers, strict=True):
        used = model.used(now)
        assert remaining == max(0, math.floor(model.most - used)), model
        if model.kind == "f":
            assert reset == (0 if used == 0 else model.window - now % model.window)
        elif reset == 0:
            assert model.is_idle(now)
        else:
            assert model.is_idle(now + reset)
            assert not model.is_idle(now + reset - 1)


def check_retry(models: list[Model], answers: Any, now: int, cost: int) -> None:
    for model, (_, _, retry) in zip(models, answers, strict=True):
        assert (retry == 0) == model.admits(now, cost), model
        if retry:
            # The next window may be used already where the clock was set back.
            assert model.admits(now + retry, cost) or model.kind == "f", model
            assert not model.admits(now + retry - 1, cost), model


@st.composite
def rate(draw: Any, kind: str) -> Model:
    seconds = draw(st.sampled_from([1, 2, 7, 60, 3600, 86400]))
    count = draw(st.sampled_from([1, 2, 3, 5, 7, 10, 100]))
    burst = draw(st.sampled_from([0, 1, 4, 20])) if kind == "b" else 0
    return Model(kind, count, seconds * US, burst)


def moves(window: int, back: bool) -> Any:
    """Steps of time: none, of a microsecond, of parts of a window, of whole ones."""
    steps = [0, 1, 2, window // 7, window // 2, window - 1, window, window + 1]
    steps += [window * 2, window * 5]
    chosen = st.sampled_from(steps) | st.integers(0, window)
    if back:
        chosen |= st.sampled_from([-1, -(window // 3), -window, -7 * window])
    return chosen
