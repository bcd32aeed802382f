"""Plain programs in C. What they share of src/ is compiled once for all that want it by
the same flags, in this run and in later ones, until it or a header is changed."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "build" / "tests"


def compile_objects(sources: Iterable[Path], *flags: str) -> list[Path]:
    """The objects of these files, made by as many compilers as there are cores."""
    kind = hashlib.sha256(repr(flags).encode()).hexdigest()[:8]
    headers = hashlib.sha256()
    for path in sorted(ROOT.glob("src/*/*")):
        if path.suffix in (".h", ".def"):
            headers.update(path.read_bytes())

    def compile_object(source: Path) -> Path:
        state = headers.copy()
        state.update(source.read_bytes())
        name = f"{source.parent.name}-{source.stem}-{kind}"
        target = HOME / f"{name}-{state.hexdigest()[:16]}.o"
        if not target.exists():
            for old in HOME.glob(f"{name}-*"):
                old.unlink()
            made = HOME / f"{name}-made"
            run_compiler(*flags, "-c", source, "-o", made)
            made.rename(target)
        return target

    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / f"{kind}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(compile_object, sources))


def compile_program(target: Path, sources: Iterable[Path], *flags: str) -> Path:
    """A program at `target`; those of its sources that are in src/ are shared."""
    sources = list(sources)
    shared = [path for path in sources if path.is_relative_to(ROOT / "src")]
    own = [path for path in sources if path not in shared]
    # What is for the linker alone makes no other objects.
    compiling = [flag for flag in flags if not flag.startswith("-Wl,")]
    objects = compile_objects(shared, *compiling)
    run_compiler(*flags, *own, *objects, "-o", target, "-lm", "-lpthread")
    return target


def run_compiler(*words: str | Path) -> None:
    """A failure shows the compiler's words."""
    command = ["gcc", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
