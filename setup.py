"""Builds redlane._core: every C file of src/, and the reply reader of hiredis.

REDLANE_BUILD   release (default), debug, sanitize (ASan and UBSan) or coverage
REDLANE_WERROR  1: a warning in one of our own files ends the build
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "tools"))

import fetch_hiredis  # noqa: E402

SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]

# mode: (flags of the compiler, flags of our own files only, flags of the linker)
MODES: dict[str, tuple[list[str], list[str], list[str]]] = {
    "release": (["-O3", "-DNDEBUG"], [], []),
    "debug": (["-O0", "-g3", "-U_FORTIFY_SOURCE"], ["-UNDEBUG"], []),
    # -fno-wrapv: CPython compiles with -fwrapv, which hides signed overflow.
    "sanitize": (
        [*SANITIZE, "-O1", "-g", "-fno-omit-frame-pointer", "-U_FORTIFY_SOURCE"],
        ["-UNDEBUG", "-fno-wrapv"],
        SANITIZE,
    ),
    "coverage": (["-O0", "-g", "--coverage", "-U_FORTIFY_SOURCE"], [], ["--coverage"]),
}
COMMON = ["-std=gnu11", "-fvisibility=hidden", "-fno-plt"]
OURS = ["-Wall", "-Wextra", "-Wstrict-prototypes", "-Wconversion"]
# hiredis warns under our flags, and adds to the largest lengths that a server can
# announce; it reads no RESP3 double for us, so ffc.h stays out.
THEIRS = ["-w", "-DNDEBUG", "-fwrapv", "-DHIREDIS_FLOAT_STRTOD"]


def chosen_mode() -> str:
    mode = os.environ.get("REDLANE_BUILD", "release")
    if mode not in MODES:
        raise SystemExit(f"REDLANE_BUILD={mode}: choose one of {', '.join(MODES)}.")
    return mode


def is_fresh(target: Path, command: list[str]) -> bool:
    """True when `target` was made by this very command and no file that its .d file
    names is newer."""
    note = target.with_suffix(".cmd")
    deps = target.with_suffix(".d")
    if not (target.exists() and note.exists() and deps.exists()):
        return False
    if note.read_text() != "\n".join(command):
        return False
    made = target.stat().st_mtime_ns
    text = deps.read_text().replace("\\\n", " ")
    names = text.partition(": ")[2].replace("\\ ", "\0").split()
    for name in names:
        path = Path(name.replace("\0", " "))
        if not path.exists() or path.stat().st_mtime_ns >= made:
            return False
    return bool(names)


def compile_one(job: tuple[Path, list[str]]) -> bool:
    target, command = job
    target.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    sys.stderr.write(done.stderr)
    if done.returncode == 0:
        target.with_suffix(".cmd").write_text("\n".join(command))
    return done.returncode == 0


def describe(result: Path, objects: list[str]) -> str:
    """Which file was linked of what: another mode writes to the same place."""
    stat = result.stat()
    return "\n".join([f"{result} {stat.st_mtime_ns} {stat.st_size}", *objects])


class BuildByMode(build):
    """Each mode has a folder of its own, so that they never mix."""

    def initialize_options(self) -> None:
        super().initialize_options()
        self.build_base = f"build/{chosen_mode()}"


class BuildCore(build_ext):
    """Compiles what has changed, in parallel; their files by flags of their own."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.force = True  # what is in place may be another mode's, though newer

    def build_extension(self, ext: Extension) -> None:
        common, ours, link = MODES[chosen_mode()]
        theirs = [*COMMON, *common, *THEIRS]
        ours = [*COMMON, *common, *OURS, *ours]
        variant = chosen_mode()
        if os.environ.get("REDLANE_WERROR") == "1":
            ours.append("-Werror")
            variant += "-werror"
        # As system headers, Python's and hiredis' own cannot trip our warnings.
        includes = ["-Isrc", "-isystemvendor"]
        includes += [f"-isystem{path}" for path in self.compiler.include_dirs]
        tag = sysconfig.get_config_var("SOABI") or sys.implementation.cache_tag
        folder = Path("build", variant, "objects", tag)

        jobs, objects = [], []
        for source in ext.sources:
            target = folder / Path(source).with_suffix(".o")
            flags = theirs if source.startswith("vendor") else ours
            command = [*self.compiler.compiler_so, *flags, *includes, "-MD"]
            jobs.append((target, [*command, "-c", source, "-o", str(target)]))
            objects.append(str(target))
        jobs = [job for job in jobs if not is_fresh(*job)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            failed = list(pool.map(compile_one, jobs)).count(False)
        if failed:
            raise SystemExit(f"{failed} of {len(ext.sources)} C files do not compile.")

        result = Path(self.get_ext_fullpath(ext.name))
        note = folder / "linked"
        made = not jobs and result.exists() and note.exists()
        if made and note.read_text() == describe(result, objects):
            return
        result.unlink(missing_ok=True)  # else the linker is not run for an older file
        self.compiler.link_shared_object(
            objects,
            str(result),
            libraries=self.get_libraries(ext),
            extra_postargs=link,
            build_temp=str(folder),
        )
        note.write_text(describe(result, objects))


os.chdir(ROOT)
fetch_hiredis.provide()
sources = [path.as_posix() for path in sorted(Path("src").rglob("*.c"))]
sources += [f"vendor/hiredis/{name}" for name in fetch_hiredis.SOURCES]
setup(
    ext_modules=[Extension("redlane._core", sources, libraries=["ssl", "crypto", "m"])],
    cmdclass={"build": BuildByMode, "build_ext": BuildCore},
)
