"""Nothing leaks through faults that meet loops: references, blocks, C memory,
descriptors, threads, tasks.

The short sizes take seconds; `make soak` runs 100,000 cycles in all.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from aio import KINDS
from servers import Server
from test_promise_leaks import check_faults_leave_nothing

PROGRAM = Path(__file__).with_name("async_fault_cycles.py")


SOAK = [
    pytest.param(kind, 1_400, 8, 2, marks=pytest.mark.soak) for kind in sorted(KINDS)
]


@pytest.mark.parametrize(
    ("kind", "rounds", "batch", "processes"), [("asyncio", 24, 4, 1), *SOAK]
)
def test_faults_leave_nothing(
    kind: str,
    rounds: int,
    batch: int,
    processes: int,
    fresh_server: Server,
    redis_server: Server,
) -> None:
    program: list[object] = [PROGRAM, kind, rounds, batch]
    check_faults_leave_nothing(program, processes, fresh_server, redis_server)
