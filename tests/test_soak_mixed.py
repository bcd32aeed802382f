"""Every tool in several processes through one bad half hour: no wrong value, no
exception where the policy says none, nothing that grows, and all of them on Redis again
at the end.

The short size takes seconds; `make soak` runs the full one, of REDLANE_SOAK_SECONDS
(half an hour).
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from children import started
from proxy import Proxy
from servers import Server
from trouble import PLAIN, Trouble

WORKER = Path(__file__).with_name("soak_worker.py")
HALF_AN_HOUR = float(os.environ.get("REDLANE_SOAK_SECONDS", 1800))

# What may grow in half an hour. A leak of anything that the faults or the calls make is
# far above: there are thousands of the former and millions of the latter.
SLACK = {"kilobytes": 24 << 10, "blocks": 20_000, "files": 24, "threads": 4}


@contextlib.contextmanager
def workers(
    server: Server, proxy: Proxy, processes: int, threads: int, errors: Path
) -> Iterator[list[subprocess.Popen[str]]]:
    strict = [sys.executable, "-W", "error"]
    environment = {**os.environ, "MALLOC_ARENA_MAX": "2"}  # or each thread has a heap
    with contextlib.ExitStack() as stack:
        complaints = stack.enter_context(errors.open("w"))
        running = [
            stack.enter_context(
                started(
                    [*strict, WORKER, server.url, proxy.url, number, threads],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=complaints,
                    env=environment,
                )
            )
            for number in range(processes)
        ]
        for process in running:
            assert process.stdout is not None
            assert process.stdout.readline() == "running\n", errors.read_text()
        yield running


def report_of(process: subprocess.Popen[str], errors: Path) -> dict[str, Any]:
    out, _ = process.communicate("calm\n" if process.poll() is None else None, 300)
    assert process.returncode == 0, errors.read_text()
    report: dict[str, Any] = json.loads(out)
    return report


def find_wrong(report: dict[str, Any]) -> list[str]:
    wrong = list(report["wrong"])
    if report["mode"] != "redis":
        wrong.append(f"ended in mode {report['mode']}")
    for name, slack in SLACK.items():
        first, last = report["growth"][name]["first"], report["growth"][name]["last"]
        sanitized = "REDLANE_SANITIZED" in os.environ and name == "kilobytes"
        if last - first > slack and not sanitized:
            wrong.append(f"{name} grew from {first:g} to {last:g}")
    return wrong


@pytest.mark.parametrize(
    ("processes", "threads", "seconds"),
    [
        pytest.param(2, 4, 6.0, id="short"),
        pytest.param(4, 8, HALF_AN_HOUR, id="long", marks=pytest.mark.soak),
    ],
)
def test_mixed_faults(
    fresh_server: Server, tmp_path: Path, processes: int, threads: int, seconds: float
) -> None:
    errors = tmp_path / "errors"
    with (
        Proxy(fresh_server.port) as proxy,
        workers(fresh_server, proxy, processes, threads, errors) as users,
    ):
        trouble = Trouble(fresh_server, proxy, users)
        trouble.make_counters()
        trouble.run(seconds)
        reports = [report_of(user, errors) for user in users]
        counted = [
            int(fresh_server.cli("GET", f"plain:{number}") or 0)
            for number in range(PLAIN)
        ]
    print(json.dumps({"faults": trouble.count, "reports": reports}, indent=1))
    wrong = [text for report in reports for text in find_wrong(report)]
    assert not wrong, "\n".join([*wrong, "last faults:", *trouble.events])
    begun = [sum(column) for column in zip(*(r["plain"] for r in reports), strict=True)]
    assert all(0 <= got <= most for got, most in zip(counted, begun, strict=True))
    assert all(report["calls"] > report["refused"] for report in reports)
