"""Redis dies under a running Mural and comes back: nobody sees an error."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from running_mural import RunningMural
from servers import Server

# The promise is two seconds; a busy test machine gets more.
RETURN_SECONDS = 60.0


@pytest.fixture
def running(fresh_server: Server, tmp_path: Path) -> Iterator[RunningMural]:
    with RunningMural(fresh_server.patient_url, tmp_path, cooldown=0) as running:
        yield running


class Traffic:
    """Threads that use every route until they are told to stop."""

    def __init__(self, running: RunningMural, threads: int = 3) -> None:
        self.statuses: Counter[int] = Counter()
        self.failures: list[str] = []
        self._running = running
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._wander, args=(seed,))
            for seed in range(threads)
        ]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait(self, requests: int) -> None:
        """Until so many more were answered."""
        goal = self.statuses.total() + requests
        while self.statuses.total() < goal and not self.failures:
            time.sleep(0.01)

    def _wander(self, seed: int) -> None:
        dice = random.Random(seed)
        while not self._stop.is_set():
            user = f"user-{dice.randrange(5)}"
            pixel = {"x": dice.randrange(9), "y": 1, "color": "#000000"}
            match dice.randrange(4):
                case 0:
                    answer = self._running.post({**pixel, "user_id": user})
                case 1:
                    answer = self._running.get(f"/api/user-stats/{user}")
                case 2:
                    answer = self._running.get("/api/stats")
                case _:
                    answer = self._running.get("/api/canvas")
            self.statuses[answer.status] += 1
            if answer.status != 200:
                self.failures.append(repr(answer))


def wait_for_mode(running: RunningMural, mode: str) -> None:
    end = time.monotonic() + RETURN_SECONDS
    while running.mural.client.health()["mode"] != mode:
        assert time.monotonic() < end, running.mural.client.health()
        time.sleep(0.02)


def test_redis_dies_and_returns_under_traffic(
    running: RunningMural, fresh_server: Server
) -> None:
    assert running.mural.client.health()["mode"] == "redis"
    with Traffic(running) as traffic:
        traffic.wait(30)
        fresh_server.kill()
        traffic.wait(60)
        fresh_server.start()
        wait_for_mode(running, "redis")
        traffic.wait(30)
    assert traffic.failures == []
    assert set(traffic.statuses) == {200}
    running.place(400, 400, "last")
    assert running.get_json("/api/canvas") == running.mural.canvas_data
    running.get("/api/stats")
    assert fresh_server.cli("EXISTS", "mural:canvas", "mural:total_pixels") == 2


def test_counters_equal_the_truth_after_an_outage_that_lost_everything(
    running: RunningMural, fresh_server: Server
) -> None:
    for number in range(6):
        running.place(number, 0, f"user-{number % 2}")
    running.counted("user-0")
    fresh_server.kill()
    running.place(0, 0, "user-1")
    assert running.counted("user-0") == 2
    assert running.counted("user-1") == 4
    fresh_server.start()
    wait_for_mode(running, "redis")
    assert running.counted("user-0") == 2
    assert running.counted("user-1") == 4
    assert running.get_json("/api/stats")["total_pixels"] == 6


def test_starts_without_redis(fresh_server: Server, tmp_path: Path) -> None:
    fresh_server.kill()
    with RunningMural(fresh_server.patient_url, tmp_path, cooldown=0) as running:
        running.place(1, 1, "ann")
        assert running.get_json("/api/canvas") == running.mural.canvas_data
        assert running.counted("ann") == 1
        fresh_server.start()
        wait_for_mode(running, "redis")
        assert running.get_json("/api/canvas") == running.mural.canvas_data


def test_a_frozen_redis_is_an_outage_too(fresh_server: Server, tmp_path: Path) -> None:
    """With the time-outs that a client has by itself."""
    with RunningMural(fresh_server.url, tmp_path, cooldown=0) as running:
        running.place(1, 1, "ann")
        fresh_server.pause()
        try:
            running.place(2, 2, "ann")
            assert running.get_json("/api/canvas") == running.mural.canvas_data
        finally:
            fresh_server.resume()
        wait_for_mode(running, "redis")
        running.place(3, 3, "ann")
        assert running.get_json("/api/canvas") == running.mural.canvas_data
