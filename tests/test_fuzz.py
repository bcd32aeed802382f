"""Each libFuzzer target for REDLANE_FUZZ_SECONDS, 3 by default; `make soak` runs each
for an hour. As many run at a time as the machine has cores."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from fuzz_targets import FUZZ, TARGETS, build_target

SHORT = int(os.environ.get("REDLANE_FUZZ_SECONDS", "3"))
HOUR = int(os.environ.get("REDLANE_FUZZ_SECONDS", "3600"))


def run_target(name: str, seconds: int, folder: Path) -> str:
    """What libFuzzer says to a run that found nothing."""
    binary = folder / f"fuzz_{name}"
    found = folder / f"corpus_{name}"
    found.mkdir()
    build_target(name, binary)
    for more in (1, 4, 16):  # for a machine that stands still for most of the time
        done = subprocess.run(
            [
                binary,
                f"-max_total_time={more * seconds}",
                f"-artifact_prefix={folder}/{name}-",
                f"-max_len={TARGETS[name].max_len}",
                "-print_final_stats=1",
                found,
                FUZZ / "corpus" / name,
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=more * seconds + 600,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        if executed_units(done.stderr) > 1000:
            break
    return done.stderr


def executed_units(said: str) -> int:
    executed = re.search(r"number_of_executed_units:\s*(\d+)", said)
    assert executed, said[-4000:]
    return int(executed[1])


@pytest.fixture(scope="module")
def runs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Runs]:
    """Runs under way: those whose tests were chosen, by the names of the tests."""
    folder = tmp_path_factory.mktemp("fuzz")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = Runs(pool, folder)
        # A worker of several would start what is the others'.
        if "PYTEST_XDIST_WORKER" not in os.environ:
            for item in request.session.items:
                if item.path == request.path and isinstance(item, pytest.Function):
                    made.start(item)
        yield made


class Runs:
    """One to each test, by its id."""

    def __init__(self, pool: ThreadPoolExecutor, folder: Path) -> None:
        self.pool, self.folder = pool, folder
        self.runs: dict[str, Future[str]] = {}

    def start(self, item: pytest.Function) -> Future[str]:
        if item.nodeid not in self.runs:
            self.runs[item.nodeid] = self.pool.submit(
                run_target,
                item.callspec.params["name"],
                HOUR if item.get_closest_marker("soak") else SHORT,
                self.folder,
            )
        return self.runs[item.nodeid]


def check_run(run: Future[str]) -> None:
    assert executed_units(run.result()) > 1000


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_fuzz_finds_nothing(
    name: str, runs: Runs, request: pytest.FixtureRequest
) -> None:
    check_run(runs.start(request.node))


@pytest.mark.soak
@pytest.mark.parametrize("name", sorted(TARGETS))
def test_fuzz_finds_nothing_in_an_hour(
    name: str, runs: Runs, request: pytest.FixtureRequest
) -> None:
    check_run(runs.start(request.node))
