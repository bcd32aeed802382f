"""Many clients at once never pass a limit; a kill leaves no key without a TTL."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from children import end, start, started
from redlane import Client
from servers import Server

WORKER = Path(__file__).parent / "limit_worker.py"
ALGORITHMS = ("sliding-window", "fixed-window", "sliding-log", "token-bucket")
SOAK = os.environ.get("REDLANE_SOAK") == "1"
PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}


def admitted_by_all(url: str, algorithm: str, processes: int, hits: int) -> int:
    """Each has eight threads; the window ends long after."""
    command = [sys.executable, WORKER, url, algorithm, "100/year", hits]
    with ExitStack() as stack:
        workers = [
            stack.enter_context(started(command, **PIPES)) for _ in range(processes)
        ]
        for worker in workers:
            assert worker.stdout
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:
            assert worker.stdin
            worker.stdin.write("\n")
            worker.stdin.flush()
        return sum(int(worker.stdout.readline()) for worker in workers if worker.stdout)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_limit_is_never_passed(algorithm: str, redis_url: str) -> None:
    assert admitted_by_all(redis_url, algorithm, 2, 20) == 100


@pytest.mark.soak
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_64_clients_never_pass_a_limit(algorithm: str, redis_server: Server) -> None:
    assert SOAK
    for _ in range(10):
        redis_server.cli("FLUSHALL")
        assert admitted_by_all(redis_server.patient_url, algorithm, 8, 100) == 100


def kill_at_random(url: str, algorithm: str, seconds: float) -> None:
    command = [sys.executable, WORKER, url, algorithm, "-", 0]
    worker = start(command, **PIPES)
    try:
        assert worker.stdout
        assert worker.stdout.readline() == "ready\n"
        time.sleep(random.uniform(0, seconds))
        worker.kill()
        worker.wait()
    finally:
        end(worker)


def check_ttls(url: str) -> None:
    with Client(url) as client:
        keys = list(client.scan_iter())
        assert keys
        assert [key for key in keys if client.pttl(key) == -1] == []


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_kill_leaves_no_key_without_a_ttl(algorithm: str, redis_url: str) -> None:
    kill_at_random(redis_url, algorithm, 0.2)
    check_ttls(redis_url)


@pytest.mark.soak
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_many_kills_leave_no_key_without_a_ttl(algorithm: str, redis_url: str) -> None:
    assert SOAK
    for _ in range(100):
        kill_at_random(redis_url, algorithm, 0.5)
        check_ttls(redis_url)
