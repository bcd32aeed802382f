"""The libFuzzer targets: what each is built of, and how to build one by hand:

python tests/fuzz_targets.py NAME FILE
FILE -max_len=4096 FOLDER tests/fuzz/corpus/NAME
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FUZZ = ROOT / "tests" / "fuzz"
HIREDIS = ["read.c", "sds.c", "alloc.c"]


@dataclass(frozen=True)
class Target:
    sources: list[str]  # of src/, without ".c"
    max_len: int = 512
    hiredis: bool = False
    python: bool = False  # with an embedded interpreter


TARGETS = {
    "url": Target(["core/url", "core/url_redact", "core/number", "core/buffer"]),
    "glob": Target(["core/glob"]),
    "envelope": Target(["core/envelope"]),
    "json": Target(["core/json", "core/buffer"]),
    "command": Target(["core/command", "core/command_rules", "core/number"]),
    "journal": Target(
        [
            *(
                "core/journal",
                "core/journal_charge",
                "core/journal_replay",
                "core/limit",
            ),
            *("core/table", "core/glob"),
        ]
    ),
    "reply": Target(
        [
            *("core/buffer", "core/error_line", "core/fault", "core/reply"),
            *("py/convert", "py/errors", "py/state"),
            *("wire/reader", "wire/reader_bulk", "wire/reply_bulk"),
            *("wire/reply_check", "wire/reply_object", "wire/reply_plain"),
        ],
        max_len=4096,
        hiredis=True,
        python=True,
    ),
    "message": Target(
        [
            *("core/buffer", "core/error_line", "core/fault"),
            *("wire/reader", "wire/reader_bulk", "wire/reply_check"),
            "wire/reply_message",
        ],
        max_len=1024,
        hiredis=True,
    ),
    "push": Target(
        [
            *("core/error_line", "core/fault"),
            *("wire/reader", "wire/reader_bulk"),
            *("wire/reply_check", "wire/reply_push"),
        ],
        max_len=1024,
        hiredis=True,
    ),
}


def find_clang() -> str:
    names = [os.environ.get("REDLANE_CLANG", "clang-14"), "clang"]
    found = next(filter(None, map(shutil.which, names)), None)
    assert found, "no clang: install clang-14 and libclang-rt-14-dev"
    return found


def hiredis_flags() -> list[str]:
    flags = [f"-isystem{ROOT / 'vendor'}", "-DHIREDIS_FLOAT_STRTOD"]
    flags += ["-DREDLANE_MAX_LINE=512", "-DREDLANE_BULK_LARGE=8"]  # soon reached
    return flags + [str(ROOT / "vendor" / "hiredis" / name) for name in HIREDIS]


def python_flags() -> list[str]:
    """What an embedded interpreter needs: the one that runs this."""
    config = sysconfig.get_config_var
    flags = [f"-isystem{sysconfig.get_path('include')}"]
    flags += [f'-DREDLANE_PYTHON_HOME="{sys.base_prefix}"']
    if config("Py_ENABLE_SHARED"):
        library = f"{config('LIBDIR')}"
        flags += [f"-L{library}", f"-Wl,-rpath,{library}"]
        flags += [f"-lpython{config('LDVERSION')}"]
    else:
        flags += [f"{config('LIBPL')}/{config('LIBRARY')}", "-Wl,-export-dynamic"]
        flags += [*str(config("LIBS")).split(), *str(config("SYSLIBS")).split()]
    return flags


def build_target(name: str, result: Path) -> None:
    target = TARGETS[name]
    command = [find_clang(), "-std=gnu11", "-g", "-O1", "-D_GNU_SOURCE"]
    command += ["-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"]
    command += [f"-fsanitize-ignorelist={FUZZ / 'ignored.txt'}"]
    command += [f"-I{ROOT / 'src'}", f"-I{FUZZ}", str(FUZZ / f"fuzz_{name}.c")]
    command += [str(ROOT / "src" / f"{source}.c") for source in target.sources]
    if target.hiredis:
        command += hiredis_flags()
    if target.python:
        command += python_flags()
    done = subprocess.run(
        [*command, "-o", str(result)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    build_target(sys.argv[1], Path(sys.argv[2]))
