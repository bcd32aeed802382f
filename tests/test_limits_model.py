"""Every algorithm against an exact model, with injected time, on engine and Redis.

The script takes the time as an argument that only these tests give: the library always
passes 0, for the server's own clock.
"""

from __future__ import annotations

import math
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from limit_model import KINDS, START, US, Model, check_answers, check_retry, moves, rate
from test_scripts import texts  # noqa: F401


def scaled(model: Model) -> list[int]:
    """The script's numbers for a limit that needs no rounding."""
    if model.kind == "s":
        assert model.count * model.window <= 1 << 51
        return [1, model.window, 0]
    if model.kind == "b":
        divisor = math.gcd(model.count, model.window)
        assert model.window // divisor * model.most <= 1 << 51
        return [model.window // divisor, model.count // divisor, model.most]
    return [0, 0, 0]


class Limits:
    """The script on one executor; states stay until they are cleared, whatever the
    injected time: their TTL, of real time, is looked at and then taken away."""

    def __init__(self, client: Any, text: bytes, models: list[Model]) -> None:
        self.client = client
        self.text = text
        self.models = models

    def call(self, mode: str, cost: int, now: int) -> list[list[int]] | None:
        keys, args = [], []
        for i, model in enumerate(self.models):
            numbers = scaled(model)
            keys.append(f"limit{i}")
            if model.kind == "f":
                numbers = [now // model.window, 0, 0]
                keys[-1] += f":{numbers[0]}"
            args += [model.kind, model.count, model.window, *numbers]
        pipe = self.client.pipeline(transaction=True)
        pipe.eval(self.text, len(keys), *keys, mode, cost, now, *args)
        for key in keys:
            pipe.pttl(key)
        for key in keys:
            pipe.persist(key)
        reply, *rest = pipe.execute()
        assert reply[0] == now
        if mode == "h":
            assert all(ttl == -2 or ttl == -1 or ttl > 0 for ttl in rest[: len(keys)])
        return [reply[i : i + 3] for i in range(1, len(reply), 3)]


def run_history(limits: Limits, steps: list[tuple[str, int, int]], back: bool) -> None:
    models, now = limits.models, START + 123_457
    for mode, cost, move in steps:
        now += move
        assert back or move >= 0
        for model in models:
            model.look(now)
        cost = min(cost, *(model.most for model in models))
        admitted = all(model.admits(now, cost) for model in models)
        before = [list(one) for one in limits.call("p", cost, now) or []]
        check_retry(models, before, now, cost)
        answers = limits.call(mode, cost, now)
        if mode == "h":
            check_retry(models, answers, now, cost)
            if admitted:
                for model in models:
                    model.charge(now, cost)
        elif mode == "r":
            for model in models:
                model.refund(now, cost)
            check_retry(models, answers, now, cost)
        check_answers(models, answers, now)


@st.composite
def histories(draw: Any, back: bool, kinds: str, many: int) -> Any:
    models = [
        draw(rate(draw(st.sampled_from(kinds))))
        for _ in range(draw(st.integers(1, many)))
    ]
    mode = st.sampled_from("hhhhhhpr")
    move = moves(draw(st.sampled_from(models)).window, back)
    cost = st.integers(1, 4) | st.just(100)
    return models, draw(st.lists(st.tuples(mode, cost, move), max_size=15))


SETTINGS = settings(
    max_examples=1000 if os.environ.get("REDLANE_SOAK") == "1" else 12,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def play(client: Any, text: bytes, history: Any, back: bool) -> None:
    client.flushdb()
    models, steps = history
    run_history(Limits(client, text, models), steps, back)


@pytest.mark.parametrize("kind", KINDS)
def test_one_limit(client: Any, texts: dict[str, bytes], kind: str) -> None:  # noqa: F811
    @SETTINGS
    @given(histories(False, kind, 1))
    def run(history: Any) -> None:
        play(client, texts["limit"], history, False)

    run()


def test_several_limits(client: Any, texts: dict[str, bytes]) -> None:  # noqa: F811
    @SETTINGS
    @given(histories(False, "fslb", 4))
    def run(history: Any) -> None:
        play(client, texts["limit"], history, False)

    run()


@pytest.mark.parametrize("kind", KINDS)
def test_a_clock_that_is_set_back(
    client: Any,
    texts: dict[str, bytes],  # noqa: F811
    kind: str,
) -> None:
    @SETTINGS
    @given(histories(True, kind, 1))
    def run(history: Any) -> None:
        play(client, texts["limit"], history, True)

    run()


def test_a_key_that_names_another_window(
    client: Any,
    texts: dict[str, bytes],  # noqa: F811
) -> None:
    def call(index: int, lenient: int) -> Any:
        now = START + 5 * US
        args = ["h", 1, now, "f", 10, US, index, lenient, 0]
        return client.execute("EVAL", texts["limit"], 1, "k", *args)

    present = START // US + 5
    for index, lenient in ((present - 1, 0), (present + 1, 0), (present + 2, 1)):
        assert call(index, lenient) == [START + 5 * US]
        assert client.exists("k") == 0
    assert len(call(present - 1, 1)) == 4
    assert len(call(present, 0)) == 4


@pytest.mark.parametrize("value", [b"", b"x", b"1 2", b"9" * 100, b"-5", b"1 2 3 4"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_unreadable_state_is_none(
    client: Any,
    texts: dict[str, bytes],  # noqa: F811
    kind: str,
    value: bytes,
) -> None:
    model = Model(kind, 3, 60 * US)
    key = "limit0" + (f":{START // model.window}" if kind == "f" else "")
    client.set(key, value)
    answers = Limits(client, texts["limit"], [model]).call("h", 1, START)
    if not (kind == "b" and value == b"1 2"):  # drained long ago
        assert answers
        assert answers[0][0] == 2
        assert answers[0][2] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_another_type_is_no_state(
    client: Any,
    texts: dict[str, bytes],  # noqa: F811
    kind: str,
) -> None:
    model = Model(kind, 3, 60 * US)
    key = "limit0" + (f":{START // model.window}" if kind == "f" else "")
    client.hset(key, "a", "b")
    answers = Limits(client, texts["limit"], [model]).call("h", 2, START)
    assert answers
    assert answers[0][0] == 1
