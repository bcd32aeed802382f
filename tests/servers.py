"""Throwaway servers, Redis or Valkey, on loopback: one process, one temporary folder
each.

Nothing here knows redlane: what a test asks the server goes through `cli`, a RESP
client of a few lines, so that a fault of the library cannot hide itself.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

START_SECONDS = 20.0
PASSWORD = "canary p@ss:w/ord#1"
ACL_USER = "us:er@1"
ACL_PASSWORD = "s3cret/?#[]@%:canary"


def server_binaries() -> list[str]:
    """Server programs to test with: REDLANE_TEST_SERVERS (separated as PATH is), else
    the redis-server on PATH."""
    named = os.environ.get("REDLANE_TEST_SERVERS", "")
    return [name for name in named.split(os.pathsep) if name] or ["redis-server"]


def server_name(binary: str) -> str:
    """How a test's id names a server: "redis-8" for what tools/fetch_servers.py puts
    there, else the program's own name."""
    path = Path(binary)
    return path.parent.name if path.parent.parent.name == ".servers" else path.name


def find_binary(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise RuntimeError(
            f"the tests need the server program {name!r}, which is not installed: "
            "run `make test`, which installs it, or `apt-get install redis-server` "
            "(`make servers` fetches those of .servers)"
        )
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class ReplyError(Exception):
    """An error line of the server, as `Server.cli` raises it."""


def encode_command(*args: object) -> bytes:
    """A command in RESP; str is UTF-8, bytes stay, anything else goes by str()."""
    parts = [a if isinstance(a, bytes) else str(a).encode() for a in args]
    body = b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)
    return b"*%d\r\n%s" % (len(parts), body)


def read_reply(stream: Any) -> Any:
    """One RESP2 reply from a binary file."""
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionError("the server closed the connection")
    kind, rest = line[:1], line[1:-2]
    if kind == b"+":
        return rest.decode()
    if kind == b"-":
        raise ReplyError(rest.decode())
    if kind == b":":
        return int(rest)
    if kind == b"$":
        return None if rest == b"-1" else stream.read(int(rest) + 2)[:-2]
    if kind == b"*":
        return None if rest == b"-1" else [read_reply(stream) for _ in range(int(rest))]
    raise AssertionError(f"not RESP2: {line!r}")


class Server:
    """One redis-server that a test may kill, start again, freeze and thaw."""

    def __init__(
        self,
        *options: str,
        binary: str | None = None,
        username: str | None = None,
        password: str | None = None,
    ) -> None:
        self.binary = find_binary(binary or server_binaries()[0])
        self.options = options
        self.username = username
        self.password = password
        self.folder = Path(tempfile.mkdtemp(prefix="redlane-test-"))
        self.socket_path = str(self.folder / "redis.sock")
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def unix_url(self) -> str:
        return f"unix://{self.socket_path}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Starts it; a second start takes the port of the first."""
        for _ in range(5):
            port = self.port or free_port()
            self.process = self._spawn(port)
            if self._wait_until_ready(port):
                self.port = port
                return
            self._reap()
        log = (self.folder / "log").read_text(errors="replace")
        raise RuntimeError(f"{self.binary} did not start:\n{log[-2000:]}")

    def _spawn(self, port: int) -> subprocess.Popen[bytes]:
        command = [
            self.binary,
            *("--port", str(port), "--bind", "127.0.0.1"),
            *("--unixsocket", self.socket_path, "--unixsocketperm", "700"),
            *("--dir", str(self.folder), "--save", "", "--appendonly", "no"),
            *("--daemonize", "no", "--enable-debug-command", "yes"),
            *("--enable-protected-configs", "yes"),
            *self.options,
        ]
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def _wait_until_ready(self, port: int) -> bool:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            assert self.process is not None
            if self.process.poll() is not None:
                return False
            try:
                if self._ask(port, "PING") == "PONG":
                    return True
            except (OSError, ReplyError):
                pass
            time.sleep(0.01)
        return False

    def _ask(self, port: int, *args: object) -> Any:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as link:
            stream = link.makefile("rb")
            if self.password is not None:
                login = [self.username] if self.username else []
                link.sendall(encode_command("AUTH", *login, self.password))
                read_reply(stream)
            link.sendall(encode_command(*args))
            return read_reply(stream)

    def cli(self, *args: object) -> Any:
        """Runs one command on a connection of its own: str for status lines, bytes for
        strings, int, None or list; an error line raises ReplyError."""
        return self._ask(self.port, *args)

    def kill(self) -> None:
        """SIGKILL: no goodbye to the clients."""
        if self.process is not None:
            self.resume()
            self.process.kill()
            self._reap()

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGCONT)

    def _reap(self) -> None:
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait()
            self.process = None

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
