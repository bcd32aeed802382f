"""Hubs, feeds and bells without Python: threads in trouble under TSan."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from near_driver import FLAGS, HIREDIS, ROOT, TESTS, TSAN, WITH_PYTHON
from servers import Server

PUBSUB = TESTS / "pubsub"
LAYERS = ("pubsub", "wire", "core")


def pubsub_sources() -> list[Path]:
    """The hubs and all that they use; no file of them includes Python.h."""
    folders = [sorted((ROOT / "src" / name).glob("*.c")) for name in LAYERS]
    return [path for paths in folders for path in paths if path.name not in WITH_PYTHON]


@pytest.fixture(scope="session")
def stress(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("pubsub") / "stress"
    sources = [PUBSUB / "stress.c", *pubsub_sources()]
    sources += [ROOT / "vendor" / "hiredis" / name for name in HIREDIS]
    command = ["gcc", *FLAGS, *TSAN, *map(str, sources), "-o", str(target)]
    command += ["-lm", "-lpthread", "-lssl", "-lcrypto"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def run_stress(program: Path, host: str, port: int, seconds: int) -> None:
    words = [str(program), host, str(port), str(seconds)]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=seconds + 180, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = done.stdout.split()
    counts = dict(zip(told[::2], map(int, told[1::2]), strict=True))
    for name in ("sent", "messages", "gaps", "dropped", "feeds", "kills"):
        assert counts[name] > 0, counts


def test_threads_in_trouble(stress: Path, fresh_server: Server) -> None:
    run_stress(stress, "127.0.0.1", fresh_server.port, 3)


@pytest.mark.soak
def test_threads_in_long_trouble(stress: Path, fresh_server: Server) -> None:
    run_stress(stress, fresh_server.socket_path, 0, 600)
