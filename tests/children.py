"""Processes that a test starts: ended with all that they started, and reaped, however
the test ends, so that none is left for another test to meet."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

# The sanitizers of GCC 12 and clang 14 take none of their allocator's locks around a
# fork. A child forked while another thread allocates (a call does, with the GIL given
# back) waits for ever for a lock whose holder it does not have. Threads that are
# blocked hold none: forks among those are tested under the sanitizers too.
forks_among_busy_threads = pytest.mark.skipif(
    "REDLANE_SANITIZED" in os.environ,
    reason="a sanitizer's malloc stays locked in a child of several busy threads",
)


def end(child: subprocess.Popen[Any]) -> None:
    """Kills what is left of a process made by `start`, its own children included."""
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe is not None:
            pipe.close()
    child.wait()


def start(command: Sequence[object], **options: Any) -> subprocess.Popen[str]:
    """A process in a group of its own; `end` it."""
    return subprocess.Popen(
        [str(word) for word in command], text=True, start_new_session=True, **options
    )


@contextlib.contextmanager
def started(
    command: Sequence[object], **options: Any
) -> Iterator[subprocess.Popen[str]]:
    child = start(command, **options)
    try:
        yield child
    finally:
        end(child)


def wait_until_asleep(process: int, thread: int | None = None) -> None:
    """Until a thread that is about to block does so, however long the machine lets it
    wait for its turn: one that waits for that is not asleep. By its native id, or the
    first one of the process."""
    stat_of = Path(f"/proc/{process}/task/{thread or process}/stat")
    end = time.monotonic() + 60
    seen = 0
    while seen < 5:
        stat = stat_of.read_text()
        seen = seen + 1 if stat.rpartition(")")[2].split()[0] == "S" else 0
        assert time.monotonic() < end, "it does not block"
        time.sleep(0.02)


def run_program(
    program: str,
    *args: object,
    options: Sequence[str] = (),
    timeout: float = 3600,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs Python code with its arguments in a process of its own to its end."""
    command = [sys.executable, *options, "-c", program, *args]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with started(command, **pipes, env=env) as child:
        out, complaint = child.communicate(timeout=timeout)
        return subprocess.CompletedProcess(command, child.returncode, out, complaint)
