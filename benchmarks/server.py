"""A throwaway redis-server on loopback, on a core of its own."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOST = "127.0.0.1"
# What tools/fetch_servers.py puts there.
FETCHED = Path(__file__).resolve().parent.parent / ".servers/redis-8/redis-server"
_pinning = hasattr(os, "sched_setaffinity")
_allowed = sorted(os.sched_getaffinity(0)) if _pinning else []


def cores() -> tuple[int, int] | None:
    """The client's core and the server's; None where a process cannot be pinned."""
    return (_allowed[0], _allowed[-1]) if _allowed else None


def pin_to(core: int) -> None:
    if _pinning:
        os.sched_setaffinity(0, {core})


@contextmanager
def on_every_core() -> Iterator[None]:
    """Threads started inside may run on any core that the process was given."""
    if not _pinning:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, _allowed)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def find_redis(*at_least: int) -> str | None:
    """A redis-server of that version or a later one: installed, or fetched."""
    for program in (shutil.which("redis-server"), str(FETCHED)):
        if program is None or not os.access(program, os.X_OK):
            continue
        said = subprocess.run(
            [program, "--version"], capture_output=True, text=True, check=False
        ).stdout
        found = re.search(r"v=(\d+)\.(\d+)", said)
        if found and tuple(map(int, found.groups())) >= at_least:
            return program
    return None


class Server:
    """Nothing is stored on disk, and it ends with the context.

    Call it in a process that is pinned to the client's core, with `server_core` set.
    """

    server_core: int | None = None

    def __init__(self, program: str | None = None) -> None:
        """`program`: None for the server that is installed."""
        self._program = program

    def __enter__(self) -> Server:
        program = (
            self._program
            or shutil.which("redis-server")
            or shutil.which("valkey-server")
        )
        if program is None:
            raise RuntimeError("no redis-server (or valkey-server) on the PATH")
        self._folder = tempfile.TemporaryDirectory(prefix="redlane-bench-")
        for _ in range(5):  # the free port may be taken between the look and the start
            self.port = free_port()
            self._process = self._start(program)
            if self._answers():
                return self
            self._stop()
        raise RuntimeError("redis-server does not start")

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._folder.cleanup()

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def more_options(self) -> list[str]:
        """For the program, beside those that every server here has."""
        return []

    def fill(self, values: dict[str, bytes]) -> None:
        for key, value in values.items():
            answer = self._ask(
                b"*3\r\n" + _bulk(b"SET") + _bulk(key.encode()) + _bulk(value)
            )
            if answer != b"+OK\r\n":
                raise RuntimeError(f"SET answered {answer!r}")

    def version(self) -> str:
        info = self._ask(b"*2\r\n" + _bulk(b"INFO") + _bulk(b"server")).decode()
        return next(
            line[14:] for line in info.splitlines() if line.startswith("redis_version:")
        )

    def _start(self, program: str) -> subprocess.Popen[bytes]:
        options = [
            "--port",
            str(self.port),
            "--bind",
            HOST,
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        before = os.sched_getaffinity(0) if self.server_core is not None else None
        if self.server_core is not None:
            pin_to(self.server_core)  # a child inherits it, with every thread it starts
        try:
            return subprocess.Popen(
                [program, *options, *self.more_options(), "--dir", self._folder.name],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        finally:
            if before is not None:
                os.sched_setaffinity(0, before)

    def _answers(self) -> bool:
        for _ in range(200):
            if self._process.poll() is not None:
                return False
            try:
                return self._ask(b"*1\r\n" + _bulk(b"PING")) == b"+PONG\r\n"
            except OSError:
                time.sleep(0.02)
        return False

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask(self, command: bytes) -> bytes:
        with socket.create_connection((HOST, self.port), timeout=5) as link:
            link.sendall(command)
            return link.recv(1 << 16)


def _bulk(value: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value), value)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
