"""Allocations of the extension's own C code that fail, one after the other: hiredis',
the engine's, the buffers'. Python's allocators are test_stress_memory.py's."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from servers import Server
from test_scripts import texts  # noqa: F401

MEMORY = Path(__file__).resolve().parent / "memory"

pytestmark = pytest.mark.skipif(
    "REDLANE_SANITIZED" in os.environ,
    reason="the sanitizer's malloc stands where ours would",
)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("memory") / "failing_malloc.so"
    command = ["gcc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-fPIC"]
    command += ["-fno-builtin", "-shared", "-o", str(target)]
    done = subprocess.run(
        [*command, str(MEMORY / "failing_malloc.c")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return target


@pytest.mark.parametrize("together", [1, pytest.param(3, marks=pytest.mark.soak)])
@pytest.mark.parametrize("executor", ["engine", "redis"])
def test_every_allocation_may_fail(
    library: Path, executor: str, together: int, redis_server: Server
) -> None:
    """A MemoryError, a client that goes on, and not a block that stays."""
    url = "memory://" if executor == "engine" else redis_server.url
    done = subprocess.run(
        [sys.executable, MEMORY / "failing_calls.py", library, url, str(together)],
        env={**os.environ, "LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    warm, cold = (int(line.split()[0]) for line in done.stdout.splitlines())
    assert warm > 40
    assert cold > (1000 if executor == "redis" else 40)


def test_a_log_that_cannot_grow(library: Path, texts: dict[str, bytes]) -> None:  # noqa: F811
    """It refuses, and knows what it knew before."""
    sha1 = hashlib.sha1(texts["limit"], usedforsecurity=False).hexdigest()
    done = subprocess.run(
        [sys.executable, MEMORY / "failing_logs.py", library, sha1],
        env={**os.environ, "LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
