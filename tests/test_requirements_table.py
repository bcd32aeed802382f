"""The page that leads from what must work to the tests of it: each line has tests, and
those that are named exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from test_docs import DOCS, read_table

TESTS = Path(__file__).parent
PAGE = DOCS / "requirements.md"
APPLICATIONS = ("mural", "video", "matrx", "ludo", "krowoc", "shared")


@cache
def names_in(file: str) -> frozenset[str]:
    """`file::test_name` and `file::Class::test_name`, as pytest has them."""
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    found: set[str] = set()

    def look(body: list[ast.stmt], place: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
                look(node.body, f"{place}::{node.name}")
            elif isinstance(
                node, (ast.FunctionDef, ast.AsyncFunctionDef)
            ) and node.name.startswith("test_"):
                found.add(f"{place}::{node.name}")

    look(tree.body, file)
    return frozenset(found)


def lines_of(application: str) -> dict[str, list[str]]:
    """The tests of each line."""
    found: dict[str, list[str]] = {}
    for line, text, tests in read_table(PAGE, f"requirements: {application}"):
        assert line not in found, f"{application}: two lines are called {line}"
        assert text, line
        found[line] = re.findall(r"`([^`]+)`", tests)
    return found


def test_every_application_has_its_table() -> None:
    marks = re.findall(r"<!-- requirements: (\w+) -->", PAGE.read_text("utf-8"))
    assert tuple(marks) == APPLICATIONS


@pytest.mark.parametrize("application", APPLICATIONS)
def test_every_line_has_tests_that_exist(application: str) -> None:
    for line, tests in lines_of(application).items():
        assert tests, f"{application}: nothing proves {line}"
        assert len(set(tests)) == len(tests), line
        for name in tests:
            file = name.partition("::")[0]
            assert (TESTS / file).is_file(), name
            known = names_in(file)
            assert known, f"no test in {file}"
            assert name == file or name in known, name


@pytest.mark.parametrize("application", APPLICATIONS)
def test_tests_that_are_named_after_a_line_stand_in_it(application: str) -> None:
    """And first: `test_requirement_ludo.py::test_presence` in the line `presence`."""
    file = f"test_requirement_{application}.py"
    made = names_in(file) if (TESTS / file).exists() else frozenset()
    named = {
        name
        for tests in lines_of(application).values()
        for name in tests
        if name.startswith("test_requirement_")
    }
    assert named == made
    for line, tests in lines_of(application).items():
        own = f"{file}::test_{line}"
        assert (tests[0] == own) == (own in made), line
