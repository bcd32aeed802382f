"""Puts the source of hiredis where setup.py compiles it: the ignored `vendor/hiredis`.

The source is the `vendor/hiredis` folder of the sdist of the Python package `hiredis`,
downloaded by pip, so that its index, mirror, proxy and certificate settings hold. pip
compares the archive with the hash below before anything is unpacked. To learn a
package's name pip asks its build backend; the one it meets here is the stub below, so
no code of the archive is run.

`REDLANE_HIREDIS_SRC` names an unpacked hiredis instead (for builds without a network).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

VERSION = "3.5.0"
SHA256 = "c227592cc56b7df247abe4755c26723965be68972be2149fa441ac33d82131ba"
FOLDER = Path(__file__).resolve().parent.parent / "vendor" / "hiredis"
STAMP = ".redlane-version"

# What the extension is compiled from. The rest of the folder is for the benchmarks,
# which measure hiredis' own client beside ours.
SOURCES = ("alloc.c", "read.c", "sds.c")
HEADERS = ("alloc.h", "fmacros.h", "read.h", "sds.h", "sdsalloc.h", "win32.h")
NEEDED = (*SOURCES, *HEADERS, "COPYING")

BACKEND = f"""\
import pathlib, sys

def get_requires_for_build_wheel(config_settings=None):
    return []

def prepare_metadata_for_build_wheel(folder, config_settings=None):
    info = pathlib.Path(folder) / "hiredis-{VERSION}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\\nName: hiredis\\nVersion: {VERSION}\\n")
    return info.name

__legacy__ = sys.modules[__name__]
"""


class HiredisError(SystemExit):
    """The source of hiredis cannot be had; the text says what to do."""


def provide() -> Path:
    """Makes sure that FOLDER holds the source, and gives FOLDER."""
    named = os.environ.get("REDLANE_HIREDIS_SRC")
    if named:
        copy_named(Path(named))
    elif not is_complete(FOLDER):
        with tempfile.TemporaryDirectory() as scratch:
            unpack(download(Path(scratch)), FOLDER)
    return FOLDER


def is_complete(folder: Path) -> bool:
    """True when every needed file is there, from the version named above (a folder
    without a stamp came with an sdist of ours, or was put there by hand)."""
    if not all((folder / name).is_file() for name in NEEDED):
        return False
    stamp = folder / STAMP
    return not stamp.exists() or stamp.read_text().strip() == VERSION


def copy_named(source: Path) -> None:
    """Copies what is needed from an unpacked hiredis, or from one release's root."""
    found = next(
        (f for f in (source, source / "vendor" / "hiredis") if is_complete(f)), None
    )
    if found is None:
        raise HiredisError(
            f"REDLANE_HIREDIS_SRC={source} does not hold hiredis: "
            f"{', '.join(NEEDED)} are needed."
        )
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in NEEDED:
        data = (found / name).read_bytes()
        target = FOLDER / name
        if not target.exists() or target.read_bytes() != data:
            target.write_bytes(data)


def download(scratch: Path) -> Path:
    """Has pip download the sdist; gives the archive."""
    backend = scratch / "backend" / "setuptools"
    backend.mkdir(parents=True)
    (backend / "__init__.py").touch()
    (backend / "build_meta.py").write_text(BACKEND)
    wanted = scratch / "wanted.txt"
    wanted.write_text(f"hiredis=={VERSION} --hash=sha256:{SHA256}\n")

    env = {
        name: value
        for name, value in os.environ.items()
        # Settings of an outer pip run that would forbid or change this one.
        if name not in ("PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT", "PIP_REQUIREMENT")
    }
    env["PIP_REQUIRE_VIRTUALENV"] = "0"
    paths = (str(backend.parent), env.get("PYTHONPATH"))
    env["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    arguments = ["--quiet", "--no-deps", "--no-build-isolation", "--use-pep517"]
    arguments += ["--no-binary=hiredis", "--require-hashes", f"--requirement={wanted}"]
    arguments += ["--disable-pip-version-check", f"--dest={scratch}"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", *arguments],
        env=env,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    archives = list(scratch.glob("hiredis-*.tar.gz"))
    if done.returncode != 0 or len(archives) != 1:
        sys.stderr.write(done.stderr)
        raise HiredisError(
            f"redlane is built with the C source of hiredis {VERSION}, which pip could "
            "not download (see above): build with a network, or set "
            "REDLANE_HIREDIS_SRC to an unpacked hiredis."
        )
    return archives[0]


def unpack(archive: Path, folder: Path) -> None:
    """Unpacks the plain files of the archive's vendor/hiredis, by their bare names, so
    that nothing in the archive decides where a file is written."""
    parent = f"hiredis-{VERSION}/vendor/hiredis"
    fresh = folder.with_name(f"{folder.name}.{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    with tarfile.open(archive) as tar:
        for member in tar:
            where, _, name = member.name.rpartition("/")
            if where != parent or not member.isfile() or name in ("", ".", ".."):
                continue
            content = tar.extractfile(member)
            if content is not None:
                (fresh / name).write_bytes(content.read())
    (fresh / STAMP).write_text(VERSION + "\n")
    if not is_complete(fresh):
        shutil.rmtree(fresh)
        raise HiredisError(f"{archive.name} does not hold the hiredis that is needed.")
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)


if __name__ == "__main__":
    print(f"hiredis (of hiredis-py {VERSION}): {provide()}")
