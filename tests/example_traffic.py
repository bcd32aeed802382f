"""People who use two examples at once, over HTTP and WebSocket, for as long as a test
lets them, and who know what each answer may be.

A request may be cut off only while a worker of its example is killed, and has one of
the statuses that its path can have. Whatever else comes is noted as wrong.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from running_example import Answer, RunningExample
from websocket_client import Closed, WebSocket

SECONDS = 60.0  # that an answer may take on a busy machine
SIDE = 40  # pixels are placed in a square of these, which is soon full: then the
# workers' memory has no reason to grow
PEOPLE = tuple(f"u{number}" for number in range(12))
READERS = 50  # users of cached-data
ADDRESSES = [f"127.0.0.{number}" for number in range(2, 22)]  # that limits tell apart
PAUSE = 0.05  # seconds between two requests of one client, on average


class Notes:
    """What all clients have seen, in all threads."""

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()
        self.cut: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.slowest = 0.0
        self.placed: dict[int, tuple[Any, ...]] = {}  # x, y, color and user by sequence
        self._lock = threading.Lock()

    def answered(self, kind: str, status: int, seconds: float) -> None:
        with self._lock:
            self.answers[f"{kind} {status}"] += 1
            self.slowest = max(self.slowest, seconds)

    def cut_off(self, kind: str) -> None:
        with self._lock:
            self.cut[kind] += 1

    def complain(self, text: str) -> None:
        with self._lock:
            self.wrong.append(text[:3000])

    def note_placement(self, sequence: int, pixel: dict[str, Any]) -> None:
        with self._lock:
            twice = sequence in self.placed
            self.placed[sequence] = tuple(pixel.values())
        if twice:
            self.complain(f"two placements were given the number {sequence}")


class Site:
    """One example that runs, and when its workers were killed."""

    def __init__(self, name: str, example: RunningExample, workers: int) -> None:
        self.name = name
        self.example = example
        self.count = workers
        self.deaths: list[tuple[float, float]] = []

    @property
    def port(self) -> int:
        return self.example.port

    def workers(self) -> list[int]:
        """The processes that gunicorn's master has."""
        master = self.example.process.pid
        path = Path(f"/proc/{master}/task/{master}/children")
        return sorted(int(number) for number in path.read_text().split())

    def kill(self, worker: int) -> None:
        before = time.monotonic()
        # While it is being killed it has no end yet.
        self.deaths.append((before, float("inf")))
        os.kill(worker, signal.SIGKILL)
        with suppress(OSError):  # its sockets are closed when it is no more
            while b"\nState:\tZ" not in Path(f"/proc/{worker}/status").read_bytes():
                time.sleep(0.001)
        self.deaths[-1] = (before, time.monotonic())

    def died_between(self, begin: float, end: float) -> bool:
        return any(begin <= last and first <= end for first, last in self.deaths)

    def owner(self, link: socket.socket | None) -> int | None:
        """The worker that has the other end of a connection, if it is open."""
        if link is None:
            return None
        here = link.getsockname()[1]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            ports = [int(end.rpartition(":")[2], 16) for end in fields[1:3]]
            if ports == [self.port, here]:
                return self._process_with(f"socket:[{fields[9]}]")
        return None

    def _process_with(self, file: str) -> int | None:
        for worker in self.workers():
            with suppress(OSError):  # it was killed, or has closed what was there
                names = list(Path(f"/proc/{worker}/fd").iterdir())
                if any(os.path.realpath(name).endswith(file) for name in names):
                    return worker
        return None


class Link:
    """A connection to one of a site's workers."""

    def __init__(self, site: Site, address: str = "127.0.0.1") -> None:
        self.http = http.client.HTTPConnection(
            "127.0.0.1", site.port, timeout=SECONDS, source_address=(address, 0)
        )
        self.http.connect()
        self.http.auto_open = False  # it would be to another worker

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        head: dict[str, str] | None = None,
    ) -> Answer:
        data = None if body is None else json.dumps(body).encode()
        typed = {"Content-Type": "application/json", **(head or {})}
        self.http.request(method, path, data, typed)
        answer = self.http.getresponse()
        return Answer(answer.status, answer.headers, answer.read())

    def get_json(self, path: str) -> Any:
        answer = self.ask("GET", path)
        assert answer.status == 200, answer
        return answer.json


class Gate:
    """Placements pass it; who closes it waits until none is under way."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._shut = False
        self._inside = 0

    @contextmanager
    def passing(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._shut)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @contextmanager
    def closed(self) -> Iterator[None]:
        with self._changed:
            self._shut = True
            self._changed.wait_for(lambda: self._inside == 0)
        try:
            yield
        finally:
            with self._changed:
                self._shut = False
                self._changed.notify_all()


class User(threading.Thread):
    """Goes on until `ended` is set."""

    def __init__(self, site: Site, notes: Notes, seed: int) -> None:
        super().__init__(daemon=True)
        self.site, self.notes = site, notes
        self.dice = random.Random(seed)
        self.ended = threading.Event()

    def run(self) -> None:
        try:
            self.live()
        except BaseException:
            self.notes.complain(traceback.format_exc())

    def live(self) -> None:
        """Until `ended` is set."""
        raise NotImplementedError

    def leave(self) -> None:
        self.ended.set()

    def ask(
        self,
        kind: str,
        path: str,
        *statuses: int,
        body: Any = None,
        address: str = "127.0.0.1",
        head: dict[str, str] | None = None,
    ) -> Answer | None:
        """None where the worker was killed meanwhile. GET, or POST with a body."""
        method = "GET" if body is None else "POST"
        begin = time.monotonic()
        try:
            with Link(self.site, address) as link:
                answer = link.ask(method, path, body, head)
        except (OSError, http.client.HTTPException) as error:
            self.cut_off(kind, begin, error)
            return None
        self.notes.answered(kind, answer.status, time.monotonic() - begin)
        if answer.status not in statuses:
            self.notes.complain(f"{method} {path} {body}: {answer}")
            return None
        return answer

    def cut_off(self, kind: str, begin: float, error: Exception) -> None:
        if self.site.died_between(begin, time.monotonic()):
            self.notes.cut_off(kind)
        else:
            self.notes.complain(f"{kind}: {error!r}, though no worker was killed")


class Surfer(User):
    """One request after the other, of the kinds in `ways`, by weight."""

    def __init__(self, site: Site, notes: Notes, seed: int) -> None:
        super().__init__(site, notes, seed)
        self.ways: dict[Callable[[], None], int] = {}

    def live(self) -> None:
        ways, weights = list(self.ways), list(self.ways.values())
        while not self.ended.wait(self.dice.uniform(0, 2 * PAUSE)):
            (way,) = self.dice.choices(ways, weights)
            way()


class Painter(Surfer):
    """Uses the Mural."""

    def __init__(self, site: Site, notes: Notes, seed: int, gate: Gate) -> None:
        super().__init__(site, notes, seed)
        self.gate = gate
        self.ways = {
            self.place: 40,
            self.see: 10,
            self.see_again: 10,
            self.count_all: 15,
            self.count_one: 15,
            self.err: 3,
        }

    def place(self) -> None:
        pixel = {
            "x": self.dice.randrange(SIDE),
            "y": self.dice.randrange(SIDE),
            "color": f"#{self.dice.randrange(1 << 24):06x}",
            "user_id": self.dice.choice(PEOPLE),
        }
        with self.gate.passing():
            answer = self.ask("place-pixel", "/api/place-pixel", 200, 429, body=pixel)
        if answer is not None and answer.status == 200:
            self.notes.note_placement(answer.json["sequence"], pixel)

    def see(self) -> None:
        head = self.dice.choice([{}, {"Accept-Encoding": "identity"}])
        answer = self.ask("canvas", "/api/canvas", 200, head=head)
        if answer is not None and len(answer.json) > SIDE * SIDE:
            self.notes.complain(f"a canvas of {len(answer.json)} pixels")

    def see_again(self) -> None:
        answer = self.ask("canvas", "/api/canvas", 200)
        if answer is not None:
            head = {"If-None-Match": answer.headers["ETag"]}
            self.ask("canvas", "/api/canvas", 200, 304, head=head)

    def count_all(self) -> None:
        self.ask("stats", "/api/stats", 200)

    def count_one(self) -> None:
        path = f"/api/user-stats/{self.dice.choice(PEOPLE)}"
        self.ask("user-stats", path, 200)

    def err(self) -> None:
        bad = self.dice.choice([{}, [], {"x": -1, "y": 0, "color": "#000000"}])
        self.ask("bad pixel", "/api/place-pixel", 400, body=bad)


class Follower(User):
    """What the Mural's page does: draws what it is told, and connects again from there
    when it is cut off."""

    def __init__(self, site: Site, notes: Notes, seed: int) -> None:
        super().__init__(site, notes, seed)
        self.sequence = 0
        self.canvas: dict[str, Any] = {}

    def live(self) -> None:
        while not self.ended.is_set():
            begin = time.monotonic()
            try:
                path = f"/api/placements?since={self.sequence}"
                with WebSocket(self.site.port, path) as link:
                    self.notes.answered("placements", 101, time.monotonic() - begin)
                    self.follow(link)
            except (Closed, OSError) as error:
                self.cut_off("placements", begin, error)

    def follow(self, link: WebSocket) -> None:
        while not self.ended.is_set():
            try:
                news = link.get(0.2)
            except TimeoutError:
                continue
            number = news.pop("sequence")
            if number <= self.sequence:
                self.notes.complain(f"was told {number} after {self.sequence}")
            self.sequence = number
            self.canvas[f"{news.pop('x')},{news.pop('y')}"] = news


class Caller(Surfer):
    """Uses krowoc."""

    def __init__(self, site: Site, notes: Notes, seed: int) -> None:
        super().__init__(site, notes, seed)
        self.ways = {
            self.read: 35,
            self.invalidate: 5,
            self.publish: 20,
            self.look_back: 15,
            self.limited: 15,
            self.look_at_health: 5,
            self.err: 3,
        }

    def read(self) -> None:
        user = f"r{self.dice.randrange(READERS)}"
        path = f"/api/cached-data?user_id={user}"
        answer = self.ask("cached-data", path, 200)
        if answer is not None and answer.json["user_id"] != user:
            self.notes.complain(f"{path} gave {answer.json}")

    def invalidate(self) -> None:
        body = {}
        if self.dice.random() < 0.7:
            body["user_id"] = f"r{self.dice.randrange(READERS)}"
        self.ask("invalidate-cache", "/api/invalidate-cache", 200, body=body)

    def publish(self) -> None:
        body = {
            "channel": f"c{self.dice.randrange(8)}",
            "message": {"by": self.ident, "text": "x" * self.dice.randrange(300)},
        }
        self.ask("publish-event", "/api/publish-event", 200, body=body)

    def look_back(self) -> None:
        channel = self.dice.choice(["", f"&channel=c{self.dice.randrange(8)}"])
        path = f"/api/recent-events?limit=50{channel}"
        answer = self.ask("recent-events", path, 200)
        if answer is not None:
            stamps = [event["timestamp"] for event in answer.json["events"]]
            if stamps != sorted(stamps, reverse=True) or len(stamps) > 50:
                self.notes.complain(f"{path} gave {answer.json}")

    def limited(self) -> None:
        path = self.dice.choice(["/api/rate-limited", "/api/slow-limited"])
        address = self.dice.choice(ADDRESSES)
        self.ask("limits", path, 200, 429, address=address)

    def look_at_health(self) -> None:
        answer = self.ask("health/deep", "/health/deep", 200)
        if answer is not None and answer.json["status"] not in ("ok", "degraded"):
            self.notes.complain(f"/health/deep gave {answer.json}")

    def err(self) -> None:
        self.ask("bad event", "/api/publish-event", 400, body={"channel": 5})


class Watcher(User):
    """What krowoc's page does: reads server-sent events, and connects again."""

    def __init__(self, site: Site, notes: Notes, seed: int) -> None:
        super().__init__(site, notes, seed)
        self.last: Any = None
        self.events = 0
        self._socket: socket.socket | None = None

    def live(self) -> None:
        while not self.ended.is_set():
            begin = time.monotonic()
            try:
                with socket.create_connection(
                    ("127.0.0.1", self.site.port), SECONDS
                ) as link:
                    self._socket = link
                    self.watch(link)
                error: Exception = ConnectionError("the stream ended")
            except OSError as caught:
                error = caught
            if not self.ended.is_set():
                self.cut_off("events", begin, error)

    def watch(self, link: socket.socket) -> None:
        link.sendall(b"GET /api/events HTTP/1.1\r\nHost: a\r\n\r\n")
        with link.makefile("rb") as lines:
            for line in lines:
                if line.startswith(b"HTTP/1.1 "):
                    self.notes.answered("events", int(line[9:12]), 0.0)
                if line.startswith(b"data: ") and line.endswith(b"\n"):
                    self.last = json.loads(line[6:])
                    self.events += 1

    def leave(self) -> None:
        super().leave()
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
