"""The applications of examples/, started as their README says and asked over HTTP."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servers import PORTS, free_port

ROOT = Path(__file__).resolve().parent.parent
RUN = ROOT / "tools" / "run_example.sh"
START_SECONDS = 120.0  # imports on a busy machine
END_SECONDS = 60.0
ASK_SECONDS = 300.0
# Of the test's own environment they would lead the example elsewhere.
OURS = ("REDIS_", "REDLANE_", "UPSTASH_", "CACHE_")
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

    def __init__(self, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.process = process
        self._log = log

    @property
    def log(self) -> str:
        """All that it has written so far, to stdout and stderr."""
        return self._log.read_text(errors="replace")

    def ask(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> Answer:
        """`body` is sent as JSON unless it is bytes or None; an underscore in a
        header's name stands for a hyphen."""
        data = body
        if body is not None and not isinstance(body, bytes):
            data = json.dumps(body).encode()
            headers = {"Content_Type": "application/json", **headers}
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

    def get_json(self, path: str) -> Any:
        answer = self.get(path)
        assert answer.status == 200, answer
        return answer.json

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self.ask("POST", path, body, **headers)

    def _wait_until_ready(self, path: str) -> None:
        end = time.monotonic() + START_SECONDS
        while True:
            assert self.process.poll() is None, f"it ended:\n{self.log}"
            try:
                status = self.get(path).status
            except OSError:
                status = None
            if status == 200:
                return
            assert time.monotonic() < end, f"{path}: {status}\n{self.log}"
            time.sleep(0.05)


@contextmanager
def running_example(
    name: str,
    folder: Path,
    redis_url: str | None = None,
    workers: int = 1,
    ready: str = "/",
    **environment: str,
) -> Iterator[RunningExample]:
    """Runs tools/run_example.sh until it is left.

    `folder` takes its log; without `redis_url` it has the engine; it is ready once the
    path `ready` answers 200. What `environment` names is set for it."""
    port = free_port()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(OURS)}
    own = {"PORT": str(port), "WORKERS": str(workers), "PYTHON": sys.executable}
    if redis_url:
        own["REDIS_URL"] = redis_url
    log = folder / f"{name}-{port}.log"
    try:
        with log.open("wb") as output:
            process = subprocess.Popen(
                [RUN, name],
                env={**kept, **own, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            running = RunningExample(port, process, log)
            running._wait_until_ready(ready)
            yield running
        finally:
            process.terminate()
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    finally:
        PORTS.release(port)
