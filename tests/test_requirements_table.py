"""The page that leads from what must work to the tests of it: each line has a test that
is named after it, which runs where the line's columns say, and those that are named
exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest
from requirement_tools import WAYS
from selection import is_for_servers
from test_docs import DOCS, read_table
from test_selection import chosen

TESTS = Path(__file__).parent
PAGE = DOCS / "requirements.md"
APPLICATIONS = ("mural", "video", "matrx", "ludo", "krowoc", "shared")
NAMED = {f"test_requirement_{application}.py" for application in APPLICATIONS}
TICKS = {"✓": True, "–": False}


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


def ways_of(tests: Iterable[str]) -> dict[str, set[str]]:
    """Where each test named after a line is run."""
    found: dict[str, set[str]] = {}
    for test in tests:
        match = re.fullmatch(r"tests/(\S+)\[(\w+)\]", test)
        assert match, f"{test} is run once, and not on each stage"
        found.setdefault(match[1], set()).add(match[2])
    return found


def collected(session: pytest.Session) -> tuple[set[str], set[str]]:
    """The tests named after lines, as pytest collects them: all, and those that are for
    another server, too."""
    items = [item for item in session.items if item.path.name in NAMED]
    if {
        item.path.name for item in items
    } == NAMED and not session.config.option.keyword:
        served = {item.nodeid for item in items if is_for_servers(item)}
        return {item.nodeid for item in items}, served
    # This run is of a part of the tests.
    files = sorted(name.removesuffix(".py") for name in NAMED)
    return chosen(*files), chosen(*files, REDLANE_TEST_SERVERS="redis-server")


def rows_of(application: str) -> dict[str, tuple[set[str], list[str]]]:
    """Where each line has a meaning, and its tests."""
    found: dict[str, tuple[set[str], list[str]]] = {}
    rows = read_table(PAGE, f"requirements: {application}")
    for line, text, *ticks, tests in rows:
        assert line not in found, f"{application}: two lines are called {line}"
        assert text, line
        ways = {
            way for way, tick in zip(WAYS, ticks, strict=True) if TICKS[tick.strip()]
        }
        found[line] = ways, re.findall(r"`([^`]+)`", tests)
    return found


def test_every_application_has_its_table() -> None:
    marks = re.findall(r"<!-- requirements: (\w+) -->", PAGE.read_text("utf-8"))
    assert tuple(marks) == APPLICATIONS


@pytest.mark.parametrize("application", APPLICATIONS)
def test_every_line_has_tests_that_exist(application: str) -> None:
    for line, (_, tests) in rows_of(application).items():
        assert len(set(tests)) == len(tests), line
        for name in tests:
            file = name.partition("::")[0]
            assert (TESTS / file).is_file(), name
            assert name == file or name in names_in(file), name


@pytest.mark.parametrize("application", APPLICATIONS)
def test_every_line_has_the_test_that_is_named_after_it(application: str) -> None:
    """`test_requirement_ludo.py::test_presence` for the line `presence`: its first."""
    file = f"test_requirement_{application}.py"
    rows = rows_of(application)
    assert names_in(file) == {f"{file}::test_{line}" for line in rows}
    for line, (_, tests) in rows.items():
        assert tests[0] == f"{file}::test_{line}", line


def test_the_columns_say_where_it_is_run(request: pytest.FixtureRequest) -> None:
    every, for_servers = map(ways_of, collected(request.session))
    for application in APPLICATIONS:
        for line, (ways, (test, *_)) in rows_of(application).items():
            assert ways, line
            assert every[test] == ways, line
            # The engine is the same, whatever server there is.
            assert for_servers[test] == ways - {"engine"}, line
