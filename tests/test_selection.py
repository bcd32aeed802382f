"""What the runs under sanitizers and on other servers leave out is there to be left
out, and those runs keep what only they can show."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from selection import ON_EACH_LOOP, SERVERLESS, UNSANITIZED, left_out

TESTS = Path(__file__).parent


@pytest.mark.parametrize("table", [UNSANITIZED, SERVERLESS])
def test_each_name_is_a_file_and_stands_once(table: dict[str, tuple[str, ...]]) -> None:
    names = [name for group in table.values() for name in group]
    assert sorted(names) == sorted(set(names))
    assert unknown(names) == []


def unknown(names: Iterable[str]) -> list[str]:
    return [name for name in names if not (TESTS / f"test_{name}.py").exists()]


def chosen(*files: str, **settings: str) -> set[str]:
    """The tests that a run with these settings chooses of these files."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("REDLANE_")}
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q"]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", *(TESTS / f"{name}.py" for name in files)],
        env={**env, **settings},
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {line for line in done.stdout.splitlines() if "::" in line}


def test_the_sanitized_run_leaves_out_whole_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("REDLANE_SANITIZED", raising=False)
    monkeypatch.delenv("REDLANE_TEST_SERVERS", raising=False)
    assert list(left_out()) == []
    monkeypatch.setenv("REDLANE_SANITIZED", "1")
    assert "test_twins.py" in left_out()
    assert "test_async_values.py" not in left_out()
    monkeypatch.setenv("REDLANE_TEST_SERVERS", "redis-server")
    assert "test_async_values.py" in left_out()


def test_the_sanitized_run_keeps_both_loops_where_they_are_driven() -> None:
    assert unknown(ON_EACH_LOOP) == []
    driven, called = "test_task_ends", "test_tenants"
    sanitized = chosen(driven, called, REDLANE_SANITIZED="1")
    everything = chosen(driven, called)
    lost = everything - sanitized
    assert lost
    assert [name for name in lost if "uvloop" not in name or driven in name] == []
    assert [name for name in sanitized if called in name and "uvloop" in name] == []


def test_other_servers_get_what_asks_for_a_server() -> None:
    files = ("test_client_commands", "test_async_client", "test_wire_scripts")
    served = chosen(*files, REDLANE_TEST_SERVERS="redis-server")
    asking = {"tests/test_client_commands.py", "tests/test_async_client.py"}
    assert {name.partition("::")[0] for name in served} == asking
    assert [name for name in served if "engine" in name or "uvloop" in name] == []
    assert [name for name in served if "asyncio" in name] != []
