"""The tutorials of videocache and krowoc: the code that they show is the examples'."""

from __future__ import annotations

import textwrap

import pytest
from started_example import EXAMPLES, ROOT
from test_docs import read_blocks


@pytest.mark.parametrize("name", ["videocache", "krowoc"])
def test_code_is_the_examples(name: str) -> None:
    page = ROOT / "docs" / "tutorials" / f"{name}.md"
    blocks = [block for block in read_blocks(page) if block.kind == "py"]
    assert blocks
    for block in blocks:
        where = f"{name}:{block.line}"
        assert block.note.startswith("from "), where
        source = (EXAMPLES / name / block.note[5:]).read_text()
        lines = [line.strip() for line in source.splitlines()]
        shown = [line.strip() for line in textwrap.dedent(block.text).splitlines()]
        starts = range(len(lines) - len(shown) + 1)
        assert any(lines[n : n + len(shown)] == shown for n in starts), where


@pytest.mark.parametrize("name", ["videocache", "krowoc"])
def test_variables_are_told(name: str) -> None:
    folder = EXAMPLES / name
    readme = (folder / "README.md").read_text()
    lines = (folder / ".env.example").read_text().splitlines()
    variables = [line.partition("=")[0] for line in lines if "=" in line[:40]]
    assert variables
    for variable in variables:
        if not variable.startswith("#"):
            assert f"`{variable}`" in readme, variable
