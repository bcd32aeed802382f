"""Running `python -m redlane` as a user does: in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from children import started
from servers import free_port

Done = subprocess.CompletedProcess[str]
ENGINE = "memory://"


def environment(more: dict[str, str] | None = None) -> dict[str, str]:
    """Ours with none of the variables that the library reads but those in `more`."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("REDIS_", "UPSTASH_", "WEB_CONCURRENCY"))
    }
    return {**kept, **(more or {})}


def command(*args: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "redlane", *args]


def run(
    *args: str, answer: str | None = None, env: dict[str, str] | None = None
) -> Done:
    return subprocess.run(
        command(*args),
        input=answer or "",
        capture_output=True,
        text=True,
        timeout=900,
        env=environment(env),
        check=False,
    )


def run_json(*args: str, env: dict[str, str] | None = None) -> Any:
    done = run(*args, "--json", env=env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def run_json_lines(*args: str) -> list[Any]:
    done = run(*args, "--json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@contextlib.contextmanager
def running(*args: str) -> Iterator[subprocess.Popen[str]]:
    """The program, with its output in pipes, for as long as the block lasts."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with started(command(*args), env=environment(), **pipes) as child:
        yield child


def assert_failed(done: Done, *words: str) -> None:
    """Exit code 1 and one clear line."""
    assert done.returncode == 1, done
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("redlane: ")
    for word in words:
        assert word in done.stderr


def unused_url() -> str:
    return f"redis://127.0.0.1:{free_port()}/0"
