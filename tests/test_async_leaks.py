"""Nothing leaks through faults that meet loops: references, blocks, C memory,
descriptors, threads, tasks.

The short sizes take seconds; `make soak` runs 100,000 cycles in all.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from subprocess import PIPE

import pytest
from aio import KINDS
from children import started
from scripted import scripted
from servers import Server, free_port
from test_promise_leaks import SCRIPTS, cut_by_the_proxy, killed

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
    """Each kind of fault in one of the processes, which wait most of the time."""
    with contextlib.ExitStack() as stack:
        urls = {
            name: stack.enter_context(scripted(s)).url for name, s in SCRIPTS.items()
        }
        urls["refused"] = f"redis://127.0.0.1:{free_port()}"
        urls["killed"] = stack.enter_context(killed(fresh_server))
        urls["cut"] = stack.enter_context(cut_by_the_proxy(redis_server))
        words = [f"{fault}={url}" for fault, url in urls.items()]
        command = [sys.executable, "-W", "error", PROGRAM, kind, rounds, batch]
        children = [
            stack.enter_context(
                started([*command, *words[first::processes]], stdout=PIPE, stderr=PIPE)
            )
            for first in range(processes)
        ]
        said: list[str] = []
        for child in children:
            out, complaint = child.communicate(timeout=5400)
            assert child.returncode == 0, complaint
            said += out.splitlines()
    assert sorted(said) == sorted(f"{fault}: clean" for fault in urls)
