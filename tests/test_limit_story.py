"""RateLimiter's methods on engine and server against an exact model, at a time that the
test sets for both: each field of each Decision, what is remembered to be blocked, the
counts, on threads and on a loop."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from servers import Server
from set_clock import ClockServer, compile_clock, environment

STORY = Path(__file__).with_name("limit_story.py")


def tell(library: Path, folder: Path, binary: str, stories: int) -> None:
    clock = folder / "clock"
    clock.write_bytes(bytes(16))
    server: Server = ClockServer(library, clock, binary)
    try:
        server.start()
        command = [sys.executable, STORY, library, clock, server.url, str(stories)]
        done = subprocess.run(
            command,
            env={**os.environ, **environment(library, clock)},
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        server.close()
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]


@pytest.mark.skipif(
    "REDLANE_SANITIZED" in os.environ,
    reason="the sanitizer's library has to be the first that is loaded",
)
@pytest.mark.parametrize("stories", [40, pytest.param(5000, marks=pytest.mark.soak)])
def test_stories(tmp_path: Path, server_binary: str, stories: int) -> None:
    tell(compile_clock(tmp_path), tmp_path, server_binary, stories)
