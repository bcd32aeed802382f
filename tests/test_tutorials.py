"""The code that tutorials show is that of the examples. Of videocache, krowoc and
matrx: their variables are told, and read from `.env`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from children import started
from running_example import EXAMPLES, OURS, ROOT
from test_docs import read_blocks

NAMES = ("krowoc", "matrx", "videocache")
PAGES = ("krowoc", "ludo", "matrx", "mural", "videocache")
MODULES = {"videocache": "app.settings"}


def bare(text: str) -> str:
    """Without what a formatter may have its own way with."""
    return "".join(text.split())


@pytest.mark.parametrize("name", PAGES)
def test_code_is_the_examples(name: str) -> None:
    blocks = read_blocks(ROOT / "docs" / "tutorials" / f"{name}.md")
    blocks = [block for block in blocks if block.note.startswith("from ")]
    assert len(blocks) >= 2
    for block in blocks:
        source = (ROOT / block.note.removeprefix("from ")).read_text(encoding="utf-8")
        assert bare(block.text) in bare(source), f"{name}:{block.line}"


def variables(name: str) -> dict[str, str]:
    """Those of its `.env.example`."""
    text = (EXAMPLES / name / ".env.example").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.parametrize("name", NAMES)
def test_variables_are_told(name: str) -> None:
    readme = (EXAMPLES / name / "README.md").read_text(encoding="utf-8")
    assert variables(name)
    for variable in variables(name):
        assert f"`{variable}`" in readme, variable


def settings(folder: Path, name: str, **own: str) -> tuple[str, dict[str, str]]:
    """What Settings.from_env() and Settings() are in a copy of the example that has the
    `.env` of the folder, and the environment afterwards."""
    module = MODULES.get(name, f"{name}.settings")
    program = f"""if True:
        import os
        from {module} import Settings
        print(Settings.from_env() == Settings() or Settings.from_env())
        for name in {list(variables(name))!r}:
            print(name + "=" + os.environ.get(name, ""))
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith(OURS)}
    path = folder / name if name in MODULES else folder
    kept |= {"PYTHONPATH": str(path), **own}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with started(
        (sys.executable, "-c", program), cwd=folder, env=kept, **pipes
    ) as child:
        out, complaint = child.communicate(timeout=120)
    assert child.returncode == 0, complaint
    found, *lines = out.splitlines()
    return found, dict(line.split("=", 1) for line in lines)


@pytest.mark.parametrize("name", NAMES)
def test_variables_are_read_from_a_file(name: str, tmp_path: Path) -> None:
    """`cp .env.example .env` gives the defaults; what is set in the environment wins
    over the file, but not what is empty there."""
    copy = tmp_path / name
    shutil.copytree(
        EXAMPLES / name, copy, ignore=shutil.ignore_patterns("media", ".env")
    )
    assert settings(tmp_path, name)[0] == "True"
    shutil.copy(copy / ".env.example", copy / ".env")
    found, environment = settings(tmp_path, name)
    assert found == "True"
    assert environment == variables(name)
    seconds = next(v for v in variables(name) if v.endswith("_SECONDS"))
    text = (copy / ".env").read_text(encoding="utf-8")
    value = variables(name)[seconds]
    text = text.replace(f"{seconds}={value}", f"{seconds}=2.75")
    (copy / ".env").write_text(text, encoding="utf-8")
    assert "=2.75" in settings(tmp_path, name)[0]
    assert "=2.75" in settings(tmp_path, name, **{seconds: ""})[0]
    found, environment = settings(tmp_path, name, **{seconds: "3.25"})
    assert "=3.25" in found
    assert environment[seconds] == "3.25"
