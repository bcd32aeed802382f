"""An example, started as its README says, in processes of its own, and asked over real
HTTP."""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from children import started
from servers import PORTS, free_port

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
SECONDS = 60.0  # that a test waits for what must come; far above what it takes

# What of the test's own environment could name a server, or a number of workers.
FOREIGN = (
    *("DEBUG", "HOST", "PORT", "REDIS_ADDR", "REDIS_DB", "REDIS_PASSWORD"),
    *("REDIS_URL", "UPSTASH_REDIS_REST_TOKEN", "UPSTASH_REDIS_REST_URL"),
    *("WEB_CONCURRENCY", "WORKERS"),
)


def until(condition: Callable[[], Any], what: str) -> Any:
    """The first answer that is true."""
    end = time.monotonic() + SECONDS
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"never came: {what}"
        time.sleep(0.02)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers.get_content_type() == "application/json", self
        return json.loads(self.body)


class Example:
    def __init__(self, port: int, log: Path, process: int) -> None:
        self.port = port
        self.process = process
        self._log = log

    def ask(self, method: str, path: str, body: Any = None) -> Answer:
        """On a connection of its own, so that any worker may answer. The body is sent
        as JSON, bytes as they are."""
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        try:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            head = {"Content-Type": "application/json"}
            link.request(method, path, None if body is None else data, head)
            answer = link.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            link.close()

    def get(self, path: str, status: int = 200) -> Any:
        answer = self.ask("GET", path)
        assert answer.status == status, answer
        return answer.json

    def post(self, path: str, body: Any = None, status: int = 200) -> Any:
        answer = self.ask("POST", path, body)
        assert answer.status == status, answer
        return answer.json

    def lines(self) -> list[str]:
        return self._log.read_text(encoding="utf-8").splitlines()

    def workers(self) -> list[int]:
        """The processes of its workers."""
        path = Path(f"/proc/{self.process}/task/{self.process}/children")
        return [int(number) for number in path.read_text().split()]


@contextmanager
def running_example(
    command: Sequence[object], folder: Path, log: Path, **variables: str
) -> Iterator[Example]:
    """The command is given the port in the place of "PORT"."""
    port = free_port()
    words = [str(port) if word == "PORT" else word for word in command]
    environment = {k: v for k, v in os.environ.items() if k not in FOREIGN}
    environment |= {"PORT": str(port), "PYTHONUNBUFFERED": "1", **variables}
    try:
        with log.open("wb") as file:
            process = started(
                words, cwd=folder, env=environment, stdout=file, stderr=file
            )
            with process as child:
                example = Example(port, log, child.pid)

                def answers() -> bool:
                    assert child.poll() is None, "\n".join(example.lines())
                    try:
                        return example.ask("GET", "/health/deep").status == 200
                    except (OSError, http.client.HTTPException):
                        return False

                until(answers, "an answer")
                yield example
    finally:
        PORTS.release(port)
