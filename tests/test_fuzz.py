"""libFuzzer on core: each target for REDLANE_FUZZ_SECONDS, 5 by default."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "src" / "core"
FUZZ = ROOT / "tests" / "fuzz"
SOURCES = {
    "url": ["url.c", "url_redact.c", "number.c", "buffer.c"],
    "glob": ["glob.c"],
    "json": ["json.c", "buffer.c"],
}


def find_clang() -> str:
    names = [os.environ.get("REDLANE_CLANG", "clang-14"), "clang"]
    found = next(filter(None, map(shutil.which, names)), None)
    assert found, "no clang: install clang-14 and libclang-rt-14-dev"
    return found


def build_target(name: str, target: Path) -> None:
    command = [find_clang(), "-std=gnu11", "-g", "-O1", "-D_GNU_SOURCE"]
    command += ["-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"]
    command += [f"-I{ROOT / 'src'}", f"-I{FUZZ}", str(FUZZ / f"fuzz_{name}.c")]
    command += [str(CORE / source) for source in SOURCES[name]]
    done = subprocess.run(
        [*command, "-o", str(target)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_fuzz_finds_nothing(name: str, tmp_path: Path) -> None:
    target = tmp_path / f"fuzz_{name}"
    build_target(name, target)
    found = tmp_path / "corpus"
    found.mkdir()
    seconds = int(os.environ.get("REDLANE_FUZZ_SECONDS", "5"))
    done = subprocess.run(
        [
            target,
            f"-max_total_time={seconds}",
            f"-artifact_prefix={tmp_path}/",
            "-max_len=512",
            "-print_final_stats=1",
            found,
            FUZZ / "corpus" / name,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + 120,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    executed = re.search(r"number_of_executed_units:\s*(\d+)", done.stderr)
    assert executed, done.stderr[-4000:]
    assert int(executed[1]) > 1000
