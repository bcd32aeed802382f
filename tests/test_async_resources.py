"""The tests of what a link needs of its own machine once more, with everything awaited:
a name in time, a descriptor; and whatever a hostile server streams at a loop."""

from __future__ import annotations

import textwrap

import pytest
import test_hostile_streams
import test_link_resources
from awaited import one_loop_each
from test_hostile_streams import test_no_stream_ends_the_process
from test_link_resources import (
    run_child,
    slow_resolver,
    test_a_resolver_that_does_not_answer,
    test_descriptors_run_out_while_connections_stand,
    test_descriptors_that_are_exhausted,
)

__all__ = [
    "slow_resolver",
    "test_a_resolver_that_does_not_answer",
    "test_descriptors_run_out_while_connections_stand",
    "test_descriptors_that_are_exhausted",
    "test_no_stream_ends_the_process",
]

BEFORE = """
import toolset
from awaited import awaited

loop = awaited({kind!r}, toolset)
loop.__enter__()
"""
AFTER = """
tools.close()
loop.__exit__(None, None, None)
"""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    one_loop_each(metafunc, "kind")


@pytest.fixture(autouse=True)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The children await too."""

    def run_awaiting(body: str, *arguments: str) -> str:
        program = BEFORE.format(kind=request.param) + textwrap.dedent(body) + AFTER
        return run_child(program, *arguments)

    monkeypatch.setattr(test_link_resources, "run_child", run_awaiting)
    monkeypatch.setattr(test_hostile_streams, "LOOP", [request.param])
