"""Puts a Redis 8 and a Valkey 8 where the tests find them: the ignored `.servers`.

Both come from Debian, of which neither belongs to the stable release that the tests run
on: Valkey 8 from the backports, Redis 8 from the next release. Nothing is installed.
apt downloads into folders of its own, from the mirror that this machine is configured
for (else from deb.debian.org), and verifies: the release file by Debian's keyring, the
package list by the release file, each package by the list. `dpkg-deb` unpacks them.

Redis 8 needs a newer C library than this release has. So its libraries are unpacked
beside it, and the `redis-server` that is started is a script that runs the program
under its own `ld-linux`. `exec` keeps the process id, so signals reach the server.

usage: fetch_servers.py [NAME…]     prints the path of each; all of them by default
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / ".servers"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MIRROR = "http://deb.debian.org/debian"
ATTEMPTS = 3  # of a download


@dataclass(frozen=True)
class Wanted:
    """A server: where in Debian it is, and what it says of its version."""

    name: str  # the folder in FOLDER
    program: str
    packages: tuple[
        str, ...
    ]  # the program, which is a link in one to a file in another
    suite: str
    version: str  # what --version must say
    own_libraries: bool


SERVERS = (
    Wanted(
        name="redis-8",
        program="redis-server",
        packages=("redis-server", "redis-tools"),
        suite="trixie",
        version="v=8.",
        own_libraries=True,
    ),
    Wanted(
        name="valkey-8",
        program="valkey-server",
        packages=("valkey-server", "valkey-tools"),
        suite="bookworm-backports",
        version="v=8.",
        own_libraries=False,
    ),
)

WRAPPER = """\
#!/bin/sh
# Made by tools/fetch_servers.py: {version}, under the C library of its own release.
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd) || exit
exec "$here/lib/{loader}" --argv0 {program} --library-path "$here/lib" \\
    "$here/bin/{program}" "$@"
"""


class ServersError(SystemExit):
    """A server cannot be had; the text says why and what to do."""


def run(*command: str | Path, folder: Path | None = None) -> str:
    """The output of a command in a working folder; a failure shows the line that says
    why."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "LC_ALL": "C"},
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.splitlines() or [f"exit code {done.returncode}"]
        why = next((line for line in lines if line.startswith("E:")), lines[-1])
        raise RuntimeError(f"{Path(command[0]).name}: {why.removeprefix('E:').strip()}")
    return done.stdout


def configured_mirror() -> str:
    """The Debian archive that this machine's apt uses."""
    with contextlib.suppress(RuntimeError):
        listed = run("apt-get", "indextargets", "--format", "$(REPO_URI)")
        for uri in listed.split():
            if re.fullmatch(r"https?://\S+/debian/", uri):
                return uri.rstrip("/")
    return MIRROR


class Apt:
    """apt on folders of its own, which knows one suite and no installed package."""

    def __init__(self, scratch: Path, suite: str) -> None:
        self.folder = scratch
        for part in ("state/lists/partial", "cache/archives/partial", "packages"):
            (scratch / part).mkdir(parents=True)
        (scratch / "state/status").touch()
        source = f"deb [signed-by={KEYRING}] {configured_mirror()} {suite} main\n"
        (scratch / "sources.list").write_text(source)
        settings = {
            "Dir::State": scratch / "state",
            "Dir::State::status": scratch / "state/status",
            "Dir::Cache": scratch / "cache",
            "Dir::Etc::sourcelist": scratch / "sources.list",
            "Dir::Etc::sourceparts": "-",
            "Acquire::Languages": "none",
            "Acquire::Retries": ATTEMPTS,
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
            "APT::Sandbox::User": "root",  # _apt could not write into our folders
            "APT::Update::Error-Mode": "any",
        }
        self.options = [f"-o{name}={value}" for name, value in settings.items()]
        run("apt-get", *self.options, "--quiet", "update")

    def libraries_of(self, packages: Iterable[str]) -> set[str]:
        """The library packages that they depend on, and those that these do."""
        found: set[str] = set()
        todo = sorted(packages)
        while todo:
            listed = run(
                *("apt-cache", *self.options, "depends", "--important"),
                *("--no-recommends", "--no-suggests"),
                *todo,
            )
            named = set(re.findall(r"Depends: (z?lib[^\s<]+)", listed))
            todo = sorted(named - found)
            found |= named
        return found

    def unpack(self, packages: Iterable[str], target: Path) -> None:
        """Downloads packages and unpacks all of them into one folder."""
        folder = self.folder / "packages"
        # `download` writes into the working folder.
        run(
            *("apt-get", *self.options, "--quiet", "download", *sorted(packages)),
            folder=folder,
        )
        for archive in sorted(folder.glob("*.deb")):
            run("dpkg-deb", "--extract", archive, target)


def is_within(path: Path, root: Path) -> bool:
    """True for a file that no symbolic link takes out of root."""
    return path.is_file() and path.resolve().is_relative_to(root.resolve())


def find_one(root: Path, pattern: str) -> Path:
    """The one file of that name below root, through its symbolic links."""
    found = {path.resolve() for path in root.rglob(pattern) if is_within(path, root)}
    if len(found) != 1:
        raise RuntimeError(f"{len(found)} files {pattern} in the packages, not one")
    return found.pop()


def copy_libraries(root: Path, program: Path, folder: Path) -> str:
    """The shared libraries below root that the program loads, by the names that it asks
    for; gives the name of the loader."""
    loader = find_one(root, "ld-linux*.so.*")
    everything = root / "all-libraries"
    everything.mkdir()
    for path in sorted(root.rglob("lib*.so.*")):
        if is_within(path, root) and not (everything / path.name).exists():
            shutil.copy2(path, everything / path.name)
    listed = run(loader, "--library-path", everything, "--list", program)
    folder.mkdir()
    shutil.copy2(loader, folder / loader.name)
    for name in re.findall(r"^\s*(lib\S+) => ", listed, re.MULTILINE):
        if not (everything / name).exists():  # not found, or the system's own
            raise RuntimeError(f"{name} is in none of the packages")
        shutil.copy2(everything / name, folder / name)
    return loader.name


def version_of(program: Path) -> str:
    return run(program, "--version").strip()


def assemble(wanted: Wanted, scratch: Path, target: Path) -> None:
    """Makes the folder of one server."""
    apt = Apt(scratch / "apt", wanted.suite)
    packages = set(wanted.packages)
    if wanted.own_libraries:
        packages |= apt.libraries_of(packages)
    root = scratch / "root"
    apt.unpack(packages, root)

    target.mkdir()
    program = find_one(root / "usr/bin", wanted.program)
    if wanted.own_libraries:
        (target / "bin").mkdir()
        shutil.copy2(program, target / "bin" / wanted.program)
        loader = copy_libraries(root, program, target / "lib")
        script = WRAPPER.format(
            version=wanted.name, loader=loader, program=wanted.program
        )
        (target / wanted.program).write_text(script)
        (target / wanted.program).chmod(0o755)
    else:
        shutil.copy2(program, target / wanted.program)
    said = version_of(target / wanted.program)
    if wanted.version not in said:
        raise RuntimeError(
            f"{wanted.program} is not the version that is wanted: {said}"
        )


def is_there(wanted: Wanted) -> bool:
    program = FOLDER / wanted.name / wanted.program
    try:
        return wanted.version in version_of(program)
    except (OSError, RuntimeError):
        return False


def provide(wanted: Wanted) -> Path:
    """Makes sure that the server is in FOLDER, and gives its program."""
    place = FOLDER / wanted.name
    if not is_there(wanted):
        missing = [name for name in ("apt-get", "dpkg-deb") if not shutil.which(name)]
        if missing or not KEYRING.exists():
            what = " and ".join(missing) or str(KEYRING)
            raise ServersError(
                f"{wanted.name} is fetched from Debian, for which {what} is missing: "
                f"put a {wanted.program} into {place} by hand, or test on the server "
                "that is installed."
            )
        FOLDER.mkdir(exist_ok=True)
        # Beside its place, so that it is moved there in one step.
        with tempfile.TemporaryDirectory(dir=FOLDER, prefix=".fetching-") as scratch:
            try:
                assemble(wanted, Path(scratch), Path(scratch) / "made")
            except (OSError, RuntimeError) as error:
                raise ServersError(
                    f"{wanted.name} could not be fetched from Debian's "
                    f"{wanted.suite}: {error}"
                ) from error
            shutil.rmtree(place, ignore_errors=True)
            (Path(scratch) / "made").rename(place)
    return place / wanted.program


def main(names: list[str]) -> None:
    known = {wanted.name: wanted for wanted in SERVERS}
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ServersError(
            f"there is no server {', '.join(unknown)}; there are {', '.join(known)}"
        )
    for name in names or known:
        print(provide(known[name]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
