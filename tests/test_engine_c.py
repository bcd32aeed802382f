"""The engine and its table as plain C: unit tests under ASan and UBSan, threads under
TSan, and no Python.h anywhere in it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from engine_driver import (
    ASAN,
    TESTS,
    TSAN,
    DriverLink,
    compile_driver,
    compile_engine,
    engine_sources,
)
from servers import ReplyError


def run_program(program: Path) -> str:
    done = subprocess.run(
        [program], capture_output=True, text=True, check=False, timeout=1200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_unit_tests_pass(tmp_path: Path) -> None:
    names = ("main", "test_table", "test_engine", "test_engine_memory")
    sources = [TESTS / "engine" / f"{name}.c" for name in names]
    program = compile_engine(tmp_path / "tests", sources, *ASAN)
    printed = run_program(program)
    counts = re.search(r"(\d+) checks, 0 failures", printed)
    assert counts, printed
    assert int(counts[1]) > 100_000


def test_threads_are_clean_under_tsan(tmp_path: Path) -> None:
    sources = [TESTS / "engine" / "stress.c"]
    program = compile_engine(tmp_path / "stress", sources, *TSAN)
    assert run_program(program) == "ok\n"


def test_the_engine_does_not_know_python() -> None:
    for path in engine_sources():
        assert not re.search(r'#include ["<](Python\.h|py/)', path.read_text()), path


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_driver(tmp_path_factory.mktemp("driver"))


@pytest.mark.parametrize("kept", [10, 300])
def test_scan_gives_what_was_there_throughout(driver: Path, kept: int) -> None:
    link = DriverLink(driver)
    names = {b"kept:%d" % i for i in range(kept)}
    for name in names:
        link.ask("SET", name, "v")
    found: list[bytes] = []
    cursor, turn = b"0", 0
    while True:
        cursor, page = link.ask("SCAN", cursor, "COUNT", "3", "MATCH", "kept:*")
        found += page
        if cursor == b"0":
            break
        turn += 1
        for i in range(40):  # grows the table for a while, then empties it again
            word = "SET" if turn % 20 < 10 else "DEL"
            link.ask(
                word, b"other:%d:%d" % (turn % 10, i), *(["v"] if word == "SET" else [])
            )
    assert sorted(found) == sorted(names)  # each once
    link.close()


@pytest.mark.soak  # half a minute and 2 GB under ASan
def test_strings_end_at_512_mb(driver: Path) -> None:
    link = DriverLink(driver, max_bytes=2 << 30)
    assert link.ask("SET", "k", b"v" * (300 << 20)) == b"OK"
    refused = link.ask("APPEND", "k", b"v" * (300 << 20))
    assert isinstance(refused, ReplyError)
    assert str(refused) == (
        "ERR string exceeds maximum allowed size (proto-max-bulk-len)"
    )
    assert link.ask("STRLEN", "k") == 300 << 20
    link.close()
