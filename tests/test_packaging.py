"""The package builds, installs and works in empty environments, by every road."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import fetch_hiredis  # noqa: E402

packaging = pytest.mark.packaging
# In one worker, where one sdist is made for all, and one wheel.
of_one_sdist = pytest.mark.xdist_group("sdist")

# Each is what the module of its name needs.
EXTRAS = ("flask", "fastapi", "metrics", "otel", "starlark")

WORKS = """\
import pathlib, sys, redlane
from redlane import Client
assert pathlib.Path(redlane.__file__).is_relative_to(sys.prefix), redlane.__file__
with Client("memory://") as client:
    client.set("key", "value", ex=60)
    assert client.get("key") == b"value"
assert redlane.content_key("video", "a", ["b"]).startswith("video:")
print("works")
"""


RENDERS = """\
import pathlib
from redlane import InMemoryCache
from redlane.starlark import Processor
pathlib.Path("app.star").write_text('''
load("cache.star", "cache")
def main():
    cache.set("key", (cache.get("key") or 0) + 1)
    return cache.get("key")
''')
cache = InMemoryCache()
found = [Processor().render_app_with_cache("app.star", cache) for _ in range(2)]
assert found == [1, 2], found
"""


# Compiled without being made fast, in a third of the time: for the roads on which the
# sources go, and not what comes of them. The wheel is the release build.
QUICKLY = {"REDLANE_BUILD": "debug"}


def run(
    *command: str | Path, cwd: Path, **env: str
) -> subprocess.CompletedProcess[str]:
    """Runs with the settings of the outer pip and build taken away."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("REDLANE_", "PYTHON")) and name != "LD_PRELOAD"
    }
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**kept, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **env},
        capture_output=True,
        text=True,
        check=False,
    )


def must(*command: str | Path, cwd: Path, **env: str) -> str:
    done = run(*command, cwd=cwd, **env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def git(*arguments: str) -> str:
    return must("git", "-c", f"safe.directory={ROOT}", *arguments, cwd=ROOT)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the tracked files: nothing fetched, nothing built."""
    copy = tmp_path / "tree"
    for name in git("ls-files").splitlines():
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    assert not (copy / "vendor").exists()
    return copy


class Environment:
    """An empty virtual environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "bin" / "python"
        self.empty = folder / "empty"  # a working directory without our tree
        must(sys.executable, "-m", "venv", folder, cwd=folder.parent)
        self.empty.mkdir()

    def install(self, *what: str | Path, **env: str) -> None:
        must(self.python, "-m", "pip", "install", "-q", *what, cwd=self.empty, **env)

    def check(self) -> None:
        assert "works" in must(self.python, "-I", "-c", WORKS, cwd=self.empty)
        assert "doctor" in must(
            self.folder / "bin" / "redlane", "--help", cwd=self.empty
        )
        must(self.python, "-m", "pip", "check", cwd=self.empty)


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(tmp_path / "environment")


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    copy = folder / "tree"
    for name in git("ls-files").splitlines():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy / name)
    program = f"import setuptools.build_meta as b; b.build_sdist({str(folder)!r})"
    must(sys.executable, "-c", program, cwd=copy)
    (archive,) = folder.glob("redlane-*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> Path:
    """Made from the sdist, with no index to take anything from."""
    pip = (sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-index")
    must(*pip, "--no-build-isolation", "-w", sdist.parent, sdist, cwd=sdist.parent)
    (archive,) = sdist.parent.glob("redlane-*.whl")
    return archive


@packaging
def test_install_from_a_folder(tree: Path, environment: Environment) -> None:
    environment.install(tree, **QUICKLY)
    environment.check()


@packaging
def test_install_from_git(environment: Environment) -> None:
    environment.install(f"git+file://{ROOT}", **QUICKLY)
    environment.check()


@packaging
@of_one_sdist
def test_sdist_carries_what_a_build_needs(sdist: Path) -> None:
    with tarfile.open(sdist) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    wanted = {f"vendor/hiredis/{name}" for name in fetch_hiredis.NEEDED}
    wanted |= set(git("ls-files", "src", "python").splitlines())
    wanted |= {"LICENSE", "README.md", "CHANGELOG.md", "setup.py", "pyproject.toml"}
    wanted |= {"tools/fetch_hiredis.py", "tests/conftest.py"}
    assert wanted - names == set()
    vendored = {name for name in names if name.startswith("vendor/hiredis/")}
    assert vendored <= wanted
    assert not [name for name in names if name.endswith((".so", ".o", ".pyc"))]


@packaging
@of_one_sdist
def test_wheel_carries_the_package_and_the_notices(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        notices = {
            name.partition("/licenses/")[2]: archive.read(name).decode()
            for name in names
            if "/licenses/" in name
        }
        (metadata,) = (name for name in names if name.endswith("/METADATA"))
        described = archive.read(metadata).decode()
    assert "Redistributions in binary form" in notices["vendor/hiredis/COPYING"]
    assert "redlane contributors" in notices["LICENSE"]
    package = {name for name in names if name.startswith("redlane/")}
    tracked = git("ls-files", "python/redlane").splitlines()
    wanted = {name.removeprefix("python/") for name in tracked}
    assert wanted >= {"redlane/py.typed", "redlane/_core.pyi", "redlane/grafana.json"}
    (core,) = package - wanted
    assert core.startswith("redlane/_core.cp")
    assert wanted - package == set()
    extras = {*EXTRAS, "starlette", "upstash", "examples"}
    assert set(re.findall("(?m)^Provides-Extra: (.*)$", described)) == extras
    assert not [name for name in names if name.endswith((".c", ".h", ".o"))]


@packaging
@of_one_sdist
def test_install_from_wheel(wheel: Path, environment: Environment) -> None:
    environment.install(wheel)
    environment.check()
    for module in ("metrics", "otel", "starlark"):
        refused = run(
            *(environment.python, "-I", "-c", f"import redlane.{module}"),
            cwd=environment.empty,
        )
        assert f"redlane[{module}]" in refused.stderr.splitlines()[-1]
    environment.install(f"{wheel}[{','.join((*EXTRAS, 'upstash'))}]")
    environment.check()
    imports = "\n".join(f"import redlane.{module}" for module in EXTRAS)
    program = f"{imports}\nimport httpx\n{RENDERS}"
    must(environment.python, "-I", "-W", "error", "-c", program, cwd=environment.empty)


@packaging
@of_one_sdist
def test_install_from_sdist_without_a_source_of_hiredis(
    sdist: Path, environment: Environment
) -> None:
    environment.install("setuptools>=77", "msgspec")
    offline = ("--no-build-isolation", "--no-index", sdist)
    environment.install(*offline, REDLANE_HIREDIS_SRC="", **QUICKLY)
    environment.check()


# --- where hiredis comes from ---------------------------------------------------------

OFFLINE = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_NO_CACHE_DIR": "1"}


@pytest.fixture
def fetcher(tmp_path: Path) -> Path:
    """A copy of the tool that fetches, so that it fetches into a folder of its own."""
    (tmp_path / "copy" / "tools").mkdir(parents=True)
    target = tmp_path / "copy" / "tools" / "fetch_hiredis.py"
    shutil.copy2(ROOT / "tools" / "fetch_hiredis.py", target)
    return target


def test_offline_says_so_in_a_sentence(fetcher: Path) -> None:
    done = run(sys.executable, fetcher, cwd=fetcher.parent, **OFFLINE)
    assert done.returncode == 1
    assert "set REDLANE_HIREDIS_SRC" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_named_source_needs_no_network(fetcher: Path) -> None:
    named = ROOT / "vendor" / "hiredis"
    must(
        sys.executable,
        fetcher,
        cwd=fetcher.parent,
        REDLANE_HIREDIS_SRC=str(named),
        **OFFLINE,
    )
    made = fetcher.parent.parent / "vendor" / "hiredis"
    for name in fetch_hiredis.NEEDED:
        assert (made / name).read_bytes() == (named / name).read_bytes()


def test_a_named_source_without_hiredis(fetcher: Path, tmp_path: Path) -> None:
    env = {"REDLANE_HIREDIS_SRC": str(tmp_path)}
    done = run(sys.executable, fetcher, cwd=fetcher.parent, **env)
    assert done.returncode == 1
    assert "does not hold hiredis" in done.stderr.splitlines()[-1]


@packaging
def test_another_archive_is_refused(fetcher: Path) -> None:
    text = fetcher.read_text()
    fetcher.write_text(text.replace(fetch_hiredis.SHA256, "0" * 64))
    done = run(sys.executable, fetcher, cwd=fetcher.parent)
    assert done.returncode == 1
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert not (fetcher.parent.parent / "vendor").exists()


def test_an_archive_cannot_write_elsewhere(tmp_path: Path) -> None:
    inside = f"hiredis-{fetch_hiredis.VERSION}/vendor/hiredis"
    archive = tmp_path / "hostile.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        names = [f"{inside}/{name}" for name in fetch_hiredis.NEEDED]
        for name in (
            *names,
            f"{inside}/../out.c",
            "/out.c",
            f"{inside}/..",
            "../out.c",
        ):
            member = tarfile.TarInfo(name)
            member.size = 1
            tar.addfile(member, io.BytesIO(b"x"))
        link = tarfile.TarInfo(f"{inside}/link.c")
        link.type, link.linkname = tarfile.SYMTYPE, "../../../out.c"
        tar.addfile(link)
    folder = tmp_path / "vendor" / "hiredis"
    fetch_hiredis.unpack(archive, folder)
    made = {path.name for path in folder.iterdir()}
    assert made == {*fetch_hiredis.NEEDED, fetch_hiredis.STAMP}
    assert list(tmp_path.rglob("out.c")) == []


def test_an_archive_without_hiredis_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "empty.tar.gz"
    with tarfile.open(archive, "w:gz"):
        pass
    folder = tmp_path / "vendor" / "hiredis"
    with pytest.raises(fetch_hiredis.HiredisError, match="does not hold"):
        fetch_hiredis.unpack(archive, folder)
    assert list(folder.parent.iterdir()) == []


# --- the build ------------------------------------------------------------------------


@packaging
def test_only_what_changed_is_compiled(tree: Path) -> None:
    build = (sys.executable, "setup.py", "-q", "build_ext", "--inplace")
    env = {"REDLANE_HIREDIS_SRC": str(ROOT / "vendor" / "hiredis"), **QUICKLY}
    must(*build, cwd=tree, **env)
    objects = {path: path.stat().st_mtime_ns for path in tree.glob("build/**/*.o")}
    assert len(objects) > 5

    must(*build, cwd=tree, **env)
    assert {path: path.stat().st_mtime_ns for path in objects} == objects

    (tree / "src" / "core" / "backoff.h").touch()
    must(*build, cwd=tree, **env)
    changed = {
        path.name for path in objects if path.stat().st_mtime_ns != objects[path]
    }
    assert "backoff.o" in changed
    assert "glob.o" not in changed


@packaging
def test_unknown_mode(tree: Path) -> None:
    env = {
        "REDLANE_BUILD": "fast",
        "REDLANE_HIREDIS_SRC": str(ROOT / "vendor" / "hiredis"),
    }
    done = run(sys.executable, "setup.py", "build_ext", cwd=tree, **env)
    assert done.returncode == 1
    assert "choose one of release" in done.stderr
