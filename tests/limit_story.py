"""Run by test_limit_story.py with set_clock loaded first: stories of every method of a
RateLimiter, told at once to the embedded engine, to a server and to an exact model, at
one time, which moves as the story says. All fields of each Decision are compared.

usage: limit_story.py LIBRARY CLOCK URL STORIES
"""

from __future__ import annotations

import asyncio
import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)
from limit_model import START, US, Model, check_answers, check_retry, moves, rate
from redlane import Client, Decision, RateLimiter
from set_clock import SetClock, rule_extension

ALGORITHMS = {
    "fixed-window": "f",
    "sliding-window": "s",
    "sliding-log": "l",
    "moving-window": "l",
    "token-bucket": "b",
    "gcra": "b",
}
PEOPLE = ("b}%b", "ö" * 150)
SPARE = 60_000  # microseconds for which a state may outlive what it counts, and more
LONGEST = US  # that a refusal is remembered
TIMES = {"timeout": 60.0, "connect_timeout": 60.0}

Answers = list[tuple[int, int, int]]  # remaining, reset, retry: one for each limit

costs = st.integers(1, 4) | st.just(100)
# Two of each: four refusals are what is remembered of all whose hashes are alike.
people = st.sampled_from(PEOPLE)
lists = st.integers(0, 1)  # which list of rates
waits = st.booleans()


@dataclass
class Remembered:
    """A refusal that needs no round trip, while it holds."""

    cost: int
    seen: int
    until: int
    answers: Answers

    def at(self, now: int) -> Answers:
        passed = now - self.seen
        return [
            (
                left,
                max(0, reset - passed),
                max(0, retry - 1 - passed) + 1 if retry else 0,
            )
            for left, reset, retry in self.answers
        ]


def microseconds(seconds: float) -> int:
    return round(seconds * 1e6)


def answers_of(decision: Decision) -> Answers:
    return [
        (part.remaining, microseconds(part.reset_after), microseconds(part.retry_after))
        for part in decision.limits
    ]


def check_decision(decision: Decision, models: list[Model]) -> None:
    """What it says of each limit fits, and what it says of all is the tightest's."""
    parts = decision.limits
    assert len(parts) == len(models)
    for part, model in zip(parts, models, strict=True):
        assert (part.limit, part.window * US) == (model.count, model.window)
        assert part.allowed is (part.retry_after == 0)
    tightest = parts[0]
    for part in parts[1:]:
        if (part.retry_after, -part.remaining) > (
            tightest.retry_after,
            -tightest.remaining,
        ):
            tightest = part
    fields = ("limit", "remaining", "reset_after", "retry_after", "allowed")
    for name in fields:
        assert getattr(decision, name) == getattr(tightest, name), name
    assert bool(decision) is decision.allowed is all(part.allowed for part in parts)


class World:
    """What all stories share: a clock, an engine, a server, a loop."""

    def __init__(self, clock: str, url: str) -> None:
        self.clock = SetClock(Path(clock), START + 123_457)
        self.loop = asyncio.new_event_loop()
        self.engine: Any = Client("memory://")
        self.server: Any = Client(url, **TIMES)

    def close(self) -> None:
        self.loop.run_until_complete(self.server.aio.close())
        self.loop.run_until_complete(self.engine.aio.close())
        self.loop.close()


def machine(world: World) -> type[RuleBasedStateMachine]:
    class Story(RuleBasedStateMachine):
        @initialize(data=st.data(), algorithm=st.sampled_from(sorted(ALGORITHMS)))
        def begin(self, data: Any, algorithm: str) -> None:
            kind = ALGORITHMS[algorithm]
            readable = kind == "f" and data.draw(st.booleans())
            options = {"prefix": "p"} if readable else {}
            options["hashed"] = data.draw(st.booleans())
            world.engine.flushall()
            world.server.flushall()
            self.engine = RateLimiter(world.engine, algorithm, **options)
            self.server = RateLimiter(world.server, algorithm, **options)
            drawn = [data.draw(rate(kind)) for _ in range(3)]
            if readable:  # windows of one length are one key
                of = {one.window: one for one in drawn}
                drawn = [of[one.window] for one in drawn]
            # The two share a limit.
            self.lists = [
                unlike(some, readable)
                for some in (
                    drawn[:2],
                    [drawn[0], *drawn[2 : data.draw(st.sampled_from([2, 3]))]],
                )
            ]
            self.models: dict[tuple[object, ...], Model] = {}
            self.kept: dict[int, int] = {}  # until when a state may be there, by model
            self.remembered: dict[tuple[object, ...], Remembered] = {}
            self.counts = [
                dict.fromkeys(("allowed", "refused", "remembered"), 0) for _ in range(2)
            ]

        def models_of(self, who: str, which: int) -> list[Model]:
            found = []
            for drawn in self.lists[which]:
                name = (who, drawn.count, drawn.window, drawn.burst)
                made = Model(drawn.kind, drawn.count, drawn.window, drawn.burst)
                found.append(self.models.setdefault(name, made))
            for model in found:
                model.look(world.clock.now)
            return found

        def ask(self, limiter: RateLimiter, awaits: bool, name: str, *args: Any) -> Any:
            if not awaits:
                return getattr(limiter, name)(*args)

            async def call() -> Any:
                return await getattr(limiter.aio, name)(*args)

            return world.loop.run_until_complete(call())

        def tell(
            self, name: str, awaits: bool, who: str, which: int, cost: int
        ) -> tuple[Answers, Answers]:
            """What the engine says, and the server."""
            models = self.models_of(who, which)
            rates = [
                (m.count, m.window // US, m.burst)
                if m.burst
                else (m.count, m.window // US)
                for m in models
            ]
            said = []
            for limiter in (self.engine, self.server):
                decision = self.ask(limiter, awaits, name, who, rates_text(rates), cost)
                check_decision(decision, models)
                said.append(answers_of(decision))
            return said[0], said[1]

        def cost_of(self, models: list[Model], cost: int) -> int:
            return min(cost, *(model.most for model in models), cost)

        @rule(move=st.data())
        def wait(self, move: Any) -> None:
            drawn = move.draw(st.sampled_from([m for some in self.lists for m in some]))
            world.clock.move(move.draw(moves(drawn.window, False)))

        @rule(
            who=people, which=lists, cost=costs, awaits=waits, times=st.integers(1, 4)
        )
        def hit(
            self, who: str, which: int, cost: int, awaits: bool, times: int
        ) -> None:
            for _ in range(times):
                self.hit_once(who, which, cost, awaits)

        def hit_once(self, who: str, which: int, cost: int, awaits: bool) -> None:
            now = world.clock.now
            models = self.models_of(who, which)
            cost = self.cost_of(models, cost)
            admitted = all(model.admits(now, cost) for model in models)
            name = (who, *((one.count, one.window, one.burst) for one in models))
            known = self.remembered.get(name)
            engine, server = self.tell("hit", awaits, who, which, cost)
            check_retry(models, engine, now, cost)
            if known and known.cost <= cost and now < known.until:
                assert not admitted  # what is remembered is true
                assert server == known.at(now)
                self.counts[1]["remembered"] += 1
            else:
                assert server == engine
                if not admitted:
                    longest = max(retry for _, _, retry in server)
                    until = now + min(longest, LONGEST)
                    known = Remembered(cost, now, until, server)
                    self.remembered[name] = known
            for count in self.counts:
                count["allowed" if admitted else "refused"] += 1
            if admitted:
                for model in models:
                    model.charge(now, cost)
            check_answers(models, engine, now)
            self.note_kept(models)

        @rule(who=people, which=lists, cost=costs, awaits=waits)
        def peek(self, who: str, which: int, cost: int, awaits: bool) -> None:
            now = world.clock.now
            models = self.models_of(who, which)
            cost = self.cost_of(models, cost)
            engine, server = self.tell("peek", awaits, who, which, cost)
            assert engine == server
            check_retry(models, engine, now, cost)
            check_answers(models, engine, now)

        @rule(who=people, which=lists, cost=costs, awaits=waits)
        def refund(self, who: str, which: int, cost: int, awaits: bool) -> None:
            now = world.clock.now
            models = self.models_of(who, which)
            cost = self.cost_of(models, cost)
            engine, server = self.tell("refund", awaits, who, which, cost)
            assert engine == server
            for model in models:
                model.refund(now, cost)
            check_retry(models, engine, now, cost)
            check_answers(models, engine, now)
            self.note_kept(models)
            self.forget(who)

        @rule(who=people, which=lists, awaits=waits)
        def reset(self, who: str, which: int, awaits: bool) -> None:
            now = world.clock.now
            models = self.models_of(who, which)
            rates = [
                (m.count, m.window // US, m.burst)
                if m.burst
                else (m.count, m.window // US)
                for m in models
            ]
            for limiter in (self.engine, self.server):
                found = self.ask(limiter, awaits, "reset", who, rates_text(rates))
                if any(model.used(now) for model in models):
                    assert found is True
                elif all(now > self.kept.get(id(model), 0) for model in models):
                    assert found is False
            for model in models:
                if model.kind == "f":
                    model.windows.pop(model.index(now), None)
                else:
                    model.hits, model.state = [], (0, 0, 0)
                    model.drained *= 0
                self.kept.pop(id(model), None)
            self.forget(who)

        def forget(self, who: str) -> None:
            for name in [name for name in self.remembered if name[0] == who]:
                del self.remembered[name]

        def note_kept(self, models: list[Model]) -> None:
            """Twice the window is longer than any state of these counts."""
            for model in models:
                longest = 2 * model.window * max(1, math.ceil(model.most / model.count))
                self.kept[id(model)] = world.clock.now + longest + SPARE

        @rule()
        def look_at_keys(self) -> None:
            for client in (world.engine, world.server):
                for key in client.scan_iter():
                    assert client.pttl(key) != -1, key

        def teardown(self) -> None:
            if not hasattr(self, "counts"):
                return
            limiters = (self.engine, self.server)
            for limiter, count in zip(limiters, self.counts, strict=True):
                expected = {**count, "ahead": 0, "away": 0, "errors": 0}
                assert limiter.stats() == expected
                assert world.loop.run_until_complete(stats_of(limiter)) == expected

    return Story


async def stats_of(limiter: RateLimiter) -> Any:
    return await limiter.aio.stats()


def rates_text(rates: list[Any]) -> Any:
    """As a text where that is no longer than a line, so that both forms occur."""
    if len(rates) == 2:
        return rates
    (one,) = rates
    burst = f" burst {one[2]}" if len(one) == 3 else ""
    return f"{one[0]} per {one[1]} seconds{burst}"


def unlike(some: list[Model], readable: bool) -> list[Model]:
    """Without what is one limit, and, of readable keys, what would be one key."""
    found: list[Model] = []
    for model in some:
        same = [
            other
            for other in found
            if other.window == model.window
            and (readable or (other.count, other.burst) == (model.count, model.burst))
        ]
        if not same:
            found.append(model)
    return found


def main(library: str, clock: str, url: str, stories: str) -> None:
    world = World(clock, url)
    rule_extension(library)
    run_state_machine_as_test(
        machine(world),
        settings=settings(
            max_examples=int(stories),
            stateful_step_count=30,
            deadline=None,
            report_multiple_bugs=False,
            derandomize=bool(os.environ.get("CI")),
            suppress_health_check=list(HealthCheck),
        ),
    )
    world.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
