"""The plain-C unit tests of src/core, built with the sanitizers and run."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

import pytest
from compiled import compile_objects
from engine_driver import FLAGS, compile_core

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "src" / "core"
TESTS = ROOT / "tests" / "core"
WARNINGS = ["-Wall", "-Wextra", "-Wstrict-prototypes", "-Wconversion", "-Werror"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def run_program(program: Path) -> str:
    done = subprocess.run(
        [program], capture_output=True, text=True, check=False, timeout=1200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "variant",
    [[], ["-U__SSE2__", "-DREDLANE_FIBER_UCONTEXT"]],
    ids=["native", "portable"],
)
def test_unit_tests_pass(tmp_path: Path, variant: list[str]) -> None:
    sources = sorted(CORE.glob("*.c"))
    sources += sorted(set(TESTS.glob("*.c")) - {TESTS / "print_scripts.c"})
    program = compile_core(tmp_path / "runner", sources, *SANITIZERS, *variant)
    printed = run_program(program)
    counts = re.search(r"(\d+) checks, 0 failures", printed)
    assert counts, printed
    assert int(counts[1]) > 1000


def test_journal_survives_exhausted_memory(tmp_path: Path) -> None:
    sources = [CORE / name for name in ("table.c", "glob.c", "limit.c")]
    sources += sorted(CORE.glob("journal*.c"))
    sources += [TESTS / "memory" / "journal.c"]
    wrapped = [f"-Wl,--wrap={name}" for name in ("malloc", "calloc", "realloc")]
    program = compile_core(tmp_path / "memory", sources, *SANITIZERS, *wrapped)
    refused = re.fullmatch(r"(\d+) allocations refused\n", run_program(program))
    assert refused
    assert int(refused[1]) > 100


def test_core_compiles_without_warnings() -> None:
    assert compile_objects(sorted(CORE.glob("*.c")), *FLAGS, *WARNINGS)


def test_locks_and_counts_are_clean_under_tsan(tmp_path: Path) -> None:
    source = tmp_path / "main.c"
    source.write_text(
        '#include "harness.h"\n'
        "static int failed;\n"
        "void check_true(bool ok, const char *what, const char *file, int line)\n"
        "{ (void)what; (void)file; (void)line; failed |= !ok; }\n"
        "void check_integer(int64_t got, int64_t wanted, const char *what,\n"
        "                   const char *file, int line)\n"
        "{ check_true(got == wanted, what, file, line); }\n"
        "int main(void) { test_lock(); return failed; }\n"
    )
    program = compile_core(
        tmp_path / "lock", [TESTS / "test_lock.c", source], "-fsanitize=thread"
    )
    assert run_program(program) == ""


def test_script_hashes(tmp_path: Path) -> None:
    sources = [TESTS / "print_scripts.c", *sorted(CORE.glob("script*.c"))]
    lines = run_program(compile_core(tmp_path / "print", sources)).splitlines()
    assert len(lines) == 19
    for line in lines:
        name, sha1, text = line.split()
        assert sha1 == hashlib.sha1(bytes.fromhex(text)).hexdigest(), name
