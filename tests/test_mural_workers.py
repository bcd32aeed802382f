"""The Mural under gunicorn, with three workers: what their WebSocket clients see, and
what is left when workers and Redis are killed under them."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from children import started
from mural.canvas import inflate
from mural.store import PixelStore
from servers import PORTS, Server, free_port
from websocket_client import Closed, WebSocket

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "examples" / "mural" / "gunicorn.conf.py"
WORKERS = 3
SECONDS = 60.0
NEVER = "3600"  # seconds, between two looks into the database

# Each worker answers the test by itself, too: which one a connection of gunicorn's gets
# is the system's affair.
APPLICATION = """
import json, os, threading
from pathlib import Path
from mural.app import create_app
from werkzeug.serving import make_server

app = create_app()
board = app.extensions["mural"].board

@app.get("/test/state")
def state():
    return {
        "sequence": board.sequence,
        "viewers": board.viewers,
        "canvas": board.canvas_data,
    }

side = make_server("127.0.0.1", 0, app, threaded=True)
threading.Thread(target=side.serve_forever, daemon=True).start()
path = Path(os.environ["WORKERS_FOLDER"], str(os.getpid()))
path.with_suffix(".new").write_text(str(side.port))
path.with_suffix(".new").rename(path)
"""


def until(condition: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + SECONDS
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"never came: {what}"
        time.sleep(0.01)


def ask(port: int, path: str, body: Any = None) -> tuple[int, Any]:
    """The status and the decoded JSON; OSError or HTTPException when a worker dies."""
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        if body is None:
            link.request("GET", path)
        else:
            head = {"Content-Type": "application/json"}
            link.request("POST", path, json.dumps(body), head)
        answer = link.getresponse()
        data = answer.read()
        zipped = answer.headers.get("Content-Encoding") == "gzip"
        return answer.status, json.loads(inflate(data) if zipped else data)
    finally:
        link.close()


class Workers:
    """gunicorn, by the settings that the example has."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.database = str(folder / "mural.db")

    def ports(self) -> dict[int, int]:
        """Where each worker that is not killed answers for itself, by process."""
        found = {}
        for path in (self.folder / "workers").iterdir():
            if not path.suffix:
                found[int(path.name)] = int(path.read_text())
        return found

    def kill(self, process: int) -> None:
        (self.folder / "workers" / str(process)).unlink()
        os.kill(process, signal.SIGKILL)

    def all_ports(self) -> dict[int, int]:
        """Those of all, when all are there."""

        def all_there() -> Any:
            ports = self.ports()
            return ports if len(ports) == WORKERS else None

        found: dict[int, int] = until(all_there, "all workers")
        return found

    def states(self) -> list[Any]:
        return [ask(port, "/test/state")[1] for port in self.all_ports().values()]

    def place(self, x: int, y: int, user: str, port: int | None = None) -> int:
        """A placement that is answered; its sequence number."""
        pixel = {"x": x, "y": y, "color": f"#{x:03x}{y:03x}", "user_id": user}
        status, answer = ask(port or self.port, "/api/place-pixel", pixel)
        assert status == 200, answer
        sequence: int = answer["sequence"]
        return sequence

    def watch(self, since: int | None = None) -> WebSocket:
        query = "" if since is None else f"?since={since}"
        return WebSocket(self.port, f"/api/placements{query}")

    def truth(self) -> dict[str, Any]:
        store = PixelStore(self.database)
        try:
            return {
                pixel.key: {"color": pixel.color, "user_id": pixel.user_id}
                for pixel in store.pixels()
            }
        finally:
            store.close()


def gunicorn(port: int) -> list[Any]:
    command = [sys.executable, "-m", "gunicorn", "--config", CONFIG]
    return [*command, "--no-control-socket", "--bind", f"127.0.0.1:{port}"]


@contextmanager
def running_workers(
    url: str,
    folder: Path,
    complaints: tuple[str, ...] = ("Traceback", "ERROR", "WARN"),
    **variables: str,
) -> Iterator[Workers]:
    """Ends them as a service is ended, and looks into what they logged."""
    (folder / "workers").mkdir()
    (folder / "side_app.py").write_text(APPLICATION)
    port = free_port()
    workers = Workers(folder, port)
    environment = {
        **os.environ,
        "REDIS_URL": url,
        "MURAL_DB": workers.database,
        "MURAL_COOLDOWN": "0",
        "WORKERS_FOLDER": str(folder / "workers"),
        "PYTHONPATH": str(folder),
        **variables,
    }
    command = gunicorn(port)
    command += ["--workers", WORKERS, "side_app:app"]
    log = folder / "log"
    try:
        with log.open("w") as output:
            with started(
                command, env=environment, cwd=folder, stdout=output, stderr=output
            ) as master:
                try:
                    workers.all_ports()
                    yield workers
                except BaseException:
                    print(log.read_text()[-4000:])
                    raise
                master.send_signal(signal.SIGTERM)
                assert master.wait(SECONDS) == 0, log.read_text()
    finally:
        PORTS.release(port)
    text = log.read_text()
    for complaint in complaints:
        assert complaint not in text, text


def watch_every_worker(workers: Workers, stack: ExitStack) -> list[WebSocket]:
    """WebSocket clients, so many that each worker has some."""
    clients: list[WebSocket] = []
    end = time.monotonic() + SECONDS
    while True:
        clients += [stack.enter_context(workers.watch()) for _ in range(WORKERS)]
        count = len(clients)
        until(
            lambda n=count: sum(s["viewers"] for s in workers.states()) == n,
            "the clients",
        )
        if all(state["viewers"] for state in workers.states()):
            return clients
        assert time.monotonic() < end, workers.states()


def until_heard(port: int, sequence: int) -> Any:
    """The state of a worker that has heard of that placement."""

    def has_heard() -> Any:
        state = ask(port, "/test/state")[1]
        return state if state["sequence"] >= sequence else None

    return until(has_heard, f"placement {sequence}")


def test_every_client_of_every_worker_is_told_each_placement(
    redis_server: Server, tmp_path: Path
) -> None:
    """By publish and subscribe: nobody looks into the database by himself. And whoever
    was told finds it in the canvas."""
    with (
        running_workers(
            redis_server.patient_url, tmp_path, MURAL_CHECK=NEVER
        ) as workers,
        ExitStack() as stack,
    ):
        clients = watch_every_worker(workers, stack)
        ports = list(workers.all_ports().values())
        count = 60

        def place(start: int) -> None:
            for x in range(start, count, 4):
                workers.place(x, 1, f"user-{start}", ports[x % WORKERS])

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(place, range(4)))
        for client in clients:
            seen = [client.get() for _ in range(count)]
            assert [news["sequence"] for news in seen] == list(range(1, count + 1))
            assert {news["x"] for news in seen} == set(range(count))
        truth = workers.truth()
        for state in workers.states():
            assert state["canvas"] == truth
        for step in range(10):
            sequence = workers.place(step, 2, "ann", ports[step % WORKERS])
            assert clients[0].get()["sequence"] == sequence
            for port in ports:
                until_heard(port, sequence)
                assert f"{step},2" in ask(port, "/api/canvas")[1]
                assert ask(port, "/api/user-stats/ann")[1]["user_pixels"] == step + 1
        assert ask(ports[0], "/api/stats")[1]["total_pixels"] == count + 10


class Follower(threading.Thread):
    """What the page does: draws what it is told, and connects again from there."""

    def __init__(self, workers: Workers) -> None:
        super().__init__(daemon=True)
        self.sequence = 0
        self.canvas: dict[str, Any] = {}
        self.out_of_order: list[tuple[int, int]] = []
        self.links = 0
        self.done = threading.Event()
        self._workers = workers
        self.start()

    def run(self) -> None:
        while not self.done.is_set():
            with suppress(Closed, OSError):
                with self._workers.watch(self.sequence) as link:
                    self.links += 1
                    self._follow(link)
            time.sleep(0.02)

    def _follow(self, link: WebSocket) -> None:
        while not self.done.is_set():
            try:
                news = link.get(0.2)
            except TimeoutError:
                continue
            number = news.pop("sequence")
            if number <= self.sequence:
                self.out_of_order.append((self.sequence, number))
            self.sequence = number
            self.canvas[f"{news.pop('x')},{news.pop('y')}"] = news


def kill_and_restart(rounds: int, server: Server, workers: Workers, seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(rounds):
        process = dice.choice(list(workers.all_ports()))
        if dice.random() < 0.6:
            workers.kill(process)
        if dice.random() < 0.6:
            server.kill()
            time.sleep(dice.random() * 0.2)
            server.start()
        time.sleep(dice.random() * 0.2)
    workers.kill(next(iter(workers.all_ports())))
    server.kill()
    server.start()


def survive(server: Server, folder: Path, rounds: int, seed: int) -> None:
    # gunicorn and redlane say what died, and that is all.
    with running_workers(
        server.url, folder, complaints=("Traceback",), MURAL_CHECK="0.5"
    ) as workers:
        followers = [Follower(workers) for _ in range(4)]
        end = threading.Event()
        answered: list[int] = []

        def place(number: int) -> None:
            dice = random.Random(seed + number)
            while not end.is_set():
                with suppress(OSError, http.client.HTTPException):  # its worker died
                    sequence = workers.place(
                        dice.randrange(30), dice.randrange(30), f"u{number}"
                    )
                    answered.append(sequence)

        def read() -> None:
            while not end.is_set():
                with suppress(OSError, http.client.HTTPException):
                    assert ask(workers.port, "/api/canvas")[0] == 200
                    assert ask(workers.port, "/api/stats")[0] == 200

        with ThreadPoolExecutor(4) as pool:
            tasks = [pool.submit(place, number) for number in range(3)]
            tasks.append(pool.submit(read))
            try:
                kill_and_restart(rounds, server, workers, seed)
            finally:
                end.set()
            for task in tasks:
                task.result()

        truth = workers.truth()
        store = PixelStore(workers.database)
        last = store.changes(0).sequence
        store.close()
        assert len(set(answered)) == len(answered)
        assert answered
        assert max(answered) <= last
        for port in workers.all_ports().values():
            state = until_heard(port, last)
            assert state["canvas"] == truth
            until(lambda p=port: ask(p, "/api/canvas")[1] == truth, "the canvas")
        for follower in followers:
            until(lambda f=follower: f.sequence == last, "the last placement")
            follower.done.set()
            follower.join(SECONDS)
            assert follower.out_of_order == []
            assert follower.canvas == truth


def test_workers_and_redis_are_killed(fresh_server: Server, tmp_path: Path) -> None:
    survive(fresh_server, tmp_path, rounds=3, seed=random.randrange(1 << 30))


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(20))
def test_workers_and_redis_are_killed_many_times(
    fresh_server: Server, tmp_path: Path, seed: int
) -> None:
    survive(fresh_server, tmp_path, rounds=20, seed=seed)


def test_runs_as_its_readme_says(tmp_path: Path) -> None:
    """On the engine, of which several workers are warned."""
    command = f"gunicorn --config {CONFIG.relative_to(ROOT)}\n"
    assert command in (CONFIG.parent / "README.md").read_text()
    port = free_port()
    log = tmp_path / "log"
    environment = {**os.environ, "REDIS_URL": "memory://", "MURAL_DB": ""}
    with log.open("w") as output:
        with started(
            gunicorn(port), env=environment, cwd=tmp_path, stdout=output, stderr=output
        ) as master:

            def answer() -> Any:
                with suppress(OSError):
                    return ask(port, "/api/stats")
                return None

            assert until(answer, "an answer") == (
                200,
                {"total_pixels": 0, "width": 500, "height": 500},
            )
            with WebSocket(port, "/api/placements?since=0") as client:
                pixel = {"x": 1, "y": 2, "color": "#000000", "user_id": "ann"}
                assert ask(port, "/api/place-pixel", pixel)[0] == 200
                assert client.get()["x"] == 1
                master.send_signal(signal.SIGTERM)
                with pytest.raises(Closed):
                    client.get()
                assert master.wait(SECONDS) == 0
    PORTS.release(port)
    text = log.read_text()
    assert "Traceback" not in text
    assert "Each of 3 workers has an engine of its own: set REDIS_URL" in text
