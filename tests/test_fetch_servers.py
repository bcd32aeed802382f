"""The script that fetches servers, as far as it goes without a network: what is there
is kept, and what cannot be had is said in one sentence."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent.parent / "tools" / "fetch_servers.py"


def run_script(
    tree: Path, *names: str, path: str = "/nowhere"
) -> subprocess.CompletedProcess[str]:
    """The script in a tree of its own, with these programs on its path."""
    (tree / "tools").mkdir(exist_ok=True)
    script = shutil.copy(SCRIPT, tree / "tools" / SCRIPT.name)
    return subprocess.run(
        [sys.executable, script, *names],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path},
    )


def put_server(tree: Path, says: str) -> Path:
    program = tree / ".servers" / "redis-8" / "redis-server"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho 'Redis server {says} sha=0'\n")
    program.chmod(0o755)
    return program


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def test_what_is_there_is_kept(tmp_path: Path) -> None:
    program = put_server(tmp_path, "v=8.0.2")
    done = run_script(tmp_path, "redis-8")
    assert (done.returncode, done.stdout) == (0, f"{program}\n"), done.stderr


def test_another_version_is_fetched_anew(tmp_path: Path) -> None:
    put_server(tmp_path, "v=7.0.15")
    assert "redis-8 is fetched from Debian" in one_line(run_script(tmp_path, "redis-8"))


def test_without_apt_one_sentence_says_so(tmp_path: Path) -> None:
    said = one_line(run_script(tmp_path, "valkey-8"))
    assert "apt-get and dpkg-deb" in said
    assert "valkey-8" in said


def test_a_server_that_there_is_not(tmp_path: Path) -> None:
    assert "there are redis-8, valkey-8" in one_line(run_script(tmp_path, "redis-9"))


def test_a_mirror_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    """With a stand-in for apt: no test needs a network."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("apt-get", "dpkg-deb"):
        (programs / name).write_text(
            "#!/bin/sh\necho 'E: no such mirror' >&2\nexit 100\n"
        )
        (programs / name).chmod(0o755)
    done = run_script(tmp_path, "redis-8", path=str(programs))
    said = one_line(done)
    assert "no such mirror" in said or "keyring" in said
    left = tmp_path / ".servers"
    assert not left.exists() or list(left.iterdir()) == []
