"""The applications of examples/, started as `make run-<name>` does, in processes of
their own, and asked over HTTP."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from children import started
from servers import PORTS, free_port
from websocket_client import WebSocket

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
RUN = ROOT / "tools" / "run_example.sh"
# Far above what it takes, for a busy machine.
START_SECONDS = 120.0
ASK_SECONDS = 120.0
WAIT_SECONDS = 60.0
END_SECONDS = 30.0
# What answers 200 as soon as the application is there.
READY = {
    "krowoc": "/health/deep",
    "ludo": "/health",
    "matrx": "/health",
    "mural": "/api/stats",
    "videocache": "/health/deep",
}
# Of the test's own environment they would lead the example elsewhere.
OURS = (
    *("CACHE_", "GENERATE_", "KROWOC_", "LUDO_", "MATRX_", "MURAL_", "PREGENERATE_"),
    *("REDIS_", "REDLANE_", "UPSTASH_", "VIDEOCACHE_", "WEB_CONCURRENCY"),
    *("DEBUG", "HOST", "PORT", "WORKERS"),
)
GZIP = 31  # zlib's wbits for the gzip format


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def content(self) -> bytes:
        """The body, inflated where it came as gzip."""
        zipped = self.headers.get("Content-Encoding") == "gzip"
        return zlib.decompress(self.body, GZIP) if zipped else self.body

    @property
    def json(self) -> Any:
        assert self.headers.get_content_type() == "application/json", self
        return json.loads(self.content)


class RunningExample:
    """One that runs; `port`, `url`, and `process` (its leader) are its own."""

    def __init__(self, port: int, process: subprocess.Popen[str], log: Path) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.process = process
        self._log = log

    @property
    def log(self) -> str:
        """All that it has written so far, to stdout and stderr."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def lines(self) -> list[str]:
        return self.log.splitlines()

    def workers(self) -> list[int]:
        """The worker processes below the leader; none where that serves itself."""
        leader = self.process.pid
        path = Path(f"/proc/{leader}/task/{leader}/children")
        workers = []
        for number in path.read_text().split():
            with suppress(OSError):  # it has ended meanwhile
                command = Path(f"/proc/{number}/cmdline").read_bytes()
                if b"resource_tracker" not in command:  # multiprocessing's own
                    workers.append(int(number))
        return workers

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """On a connection of its own, so that any worker may answer. `body` is sent as
        JSON unless it is bytes or None; an underscore in a header's name stands for a
        hyphen."""
        data = body
        if body is not None:
            headers = {"Content_Type": "application/json", **headers}
        if body is not None and not isinstance(body, bytes):
            data = json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ASK_SECONDS)
        try:
            link.request(method, path, data, named)
            response = link.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            link.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, None, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self.ask("POST", path, body, **headers)

    def get_json(self, path: str, status: int = 200) -> Any:
        answer = self.get(path)
        assert answer.status == status, answer
        return answer.json

    def post_json(self, path: str, body: Any = None, status: int = 200) -> Any:
        answer = self.post(path, body)
        assert answer.status == status, answer
        return answer.json

    def watch(self, path: str) -> WebSocket:
        """A WebSocket client, as a context manager."""
        return WebSocket(self.port, path)

    def answers(self, path: str) -> bool:
        assert self.process.poll() is None, f"it ended:\n{self.log}"
        try:
            return self.get(path).status == 200
        except (OSError, http.client.HTTPException):
            return False


def until(
    condition: Callable[[], Any], what: str, seconds: float = WAIT_SECONDS
) -> Any:
    """The first answer that is true."""
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"never came: {what}"
        time.sleep(0.02)


@contextmanager
def running_example(
    name: str,
    folder: Path,
    redis_url: str | None = None,
    workers: int = 1,
    ready: str | None = None,
    **environment: str,
) -> Iterator[RunningExample]:
    """Runs tools/run_example.sh until it is left.

    `folder` takes its log. Without `redis_url` none is set: the example has the engine,
    krowoc and videocache look for a server on localhost:6379. It is ready once the path
    `ready` answers 200, by default the one that READY names. What `environment` names
    is set for it."""
    port = free_port()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(OURS)}
    own = {
        "PORT": str(port),
        "WORKERS": str(workers),
        "PYTHON": sys.executable,
        "PYTHONUNBUFFERED": "1",
    }
    if redis_url:
        own["REDIS_URL"] = redis_url
    variables = {**kept, **own, **environment}
    path = ready or READY[name]
    log = folder / f"{name}-{port}.log"
    try:
        with (
            log.open("wb") as output,
            started(
                [RUN, name],
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            ) as process,
        ):
            running = RunningExample(port, process, log)
            try:
                until(lambda: running.answers(path), f"{name} at {path}", START_SECONDS)
                yield running
            finally:
                process.terminate()
                with suppress(subprocess.TimeoutExpired):  # `started` ends it then
                    process.wait(END_SECONDS)
    finally:
        PORTS.release(port)
