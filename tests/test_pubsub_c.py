"""Hubs, feeds and bells without Python: threads in trouble under TSan."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from near_driver import TESTS, TSAN, compile_layers, compile_near
from servers import Server


@pytest.fixture(scope="session")
def stress(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The hubs and all that they use; no file of them includes Python.h."""
    target = tmp_path_factory.mktemp("pubsub") / "stress"
    library = compile_layers("pubsub", "wire", "core", "hiredis", flags=TSAN)
    return compile_near(target, [TESTS / "pubsub" / "stress.c"], library, *TSAN)


def run_stress(program: Path, host: str, port: int, seconds: int) -> None:
    """Everything must have happened; on a busy machine that may take longer."""
    for longer in (1, 2, 4):
        counts = run_once(program, host, port, longer * seconds)
        if all(counts.values()):
            return
    raise AssertionError(counts)


def run_once(program: Path, host: str, port: int, seconds: int) -> dict[str, int]:
    words = [str(program), host, str(port), str(seconds)]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=seconds + 180, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = done.stdout.split()
    counts = dict(zip(told[::2], map(int, told[1::2]), strict=True))
    names = ("sent", "messages", "gaps", "dropped", "feeds", "kills")
    return {name: counts[name] for name in names}


def test_threads_in_trouble(stress: Path, fresh_server: Server) -> None:
    run_stress(stress, "127.0.0.1", fresh_server.port, 3)


@pytest.mark.soak
def test_threads_in_long_trouble(stress: Path, fresh_server: Server) -> None:
    run_stress(stress, fresh_server.socket_path, 0, 600)
