"""Throwaway servers, Redis or Valkey, on loopback: one process, one temporary folder
each.

Nothing here knows redlane: what a test asks the server goes through `cli`, a RESP
client of a few lines, so that a fault of the library cannot hide itself.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Far above what it takes: the machine may have more to do, and stand still for a while.
START_SECONDS = 60.0
ANSWER_SECONDS = 60.0

# Of a client whose time-outs are not what a test is about: a call that such a machine
# delays by a second must not look like an outage.
PATIENT: dict[str, Any] = {"timeout": 30.0, "connect_timeout": 30.0}

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


def patient(url: str) -> str:
    """The URL for programs that make their clients themselves, with those time-outs."""
    options = "&".join(f"{name}={seconds:g}" for name, seconds in PATIENT.items())
    return f"{url}{'&' if '?' in url else '?'}{options}"


LOCAL_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")


def ports_to_listen_on() -> Iterator[int]:
    """Those that the system gives to nobody who does not ask for them by number, in
    turn, so that none comes again soon: who still looks for a server that has gone does
    not meet another one."""
    low, high = 32768, 65535
    if LOCAL_PORTS.exists():
        low, high = map(int, LOCAL_PORTS.read_text().split())
    every = range(10_000, 65_536)
    ports = [port for port in every if not low <= port <= high]
    if len(ports) < 1000:
        ports = list(every)
    first = random.SystemRandom().randrange(len(ports))
    return itertools.cycle(ports[first:] + ports[:first])


class Ports:
    """Gives ports of loopback to the tests, each to one at a time in all processes."""

    def __init__(self) -> None:
        self._turn = ports_to_listen_on()
        self._taken: set[int] = set()
        self._lock = threading.Lock()
        # A byte of it is locked for each port that is taken.
        path = Path(tempfile.gettempdir()) / f"redlane-test-ports-{os.getuid()}"
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take(self) -> int:
        with self._lock:
            for port in itertools.islice(self._turn, 5000):
                if port not in self._taken and self._try(port):
                    self._taken.add(port)
                    return port
        raise RuntimeError("no port is free")

    def _try(self, port: int) -> bool:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except OSError:
            return False
        try:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, port)
            return False
        return True

    def release(self, port: int) -> None:
        with self._lock:
            if port in self._taken:
                self._taken.remove(port)
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, port)


PORTS = Ports()


def free_port() -> int:
    """A port on loopback where nothing listens, and nothing will but who asked for it,
    also while a server has left it for a while."""
    return PORTS.take()


def listen_on_loopback() -> socket.socket:
    """Its port is to be released when it is closed."""
    return socket.create_server(("127.0.0.1", free_port()), backlog=256)


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
    def patient_url(self) -> str:
        return patient(self.url)

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
            if not self.port:
                PORTS.release(port)
        log = (self.folder / "log").read_text(errors="replace")
        raise RuntimeError(f"{self.binary} did not start:\n{log[-2000:]}")

    def command(self, port: int) -> list[str]:
        return [
            self.binary,
            *("--port", str(port), "--bind", "127.0.0.1"),
            *("--unixsocket", self.socket_path, "--unixsocketperm", "700"),
            *("--dir", str(self.folder), "--save", "", "--appendonly", "no"),
            *("--daemonize", "no", "--enable-debug-command", "yes"),
            *("--enable-protected-configs", "yes"),
            *self.options,
        ]

    def _spawn(self, port: int) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                self.command(port), stdin=subprocess.DEVNULL, stdout=log, stderr=log
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
        with socket.create_connection(
            ("127.0.0.1", port), timeout=ANSWER_SECONDS
        ) as link:
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
        PORTS.release(self.port)
        shutil.rmtree(self.folder, ignore_errors=True)
