"""What the Mural's WebSocket clients and workers are told, in one process."""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from mural.board import BACKLOG, VIEWER_MESSAGES, Board
from mural.canvas import deflate
from mural.settings import Settings
from mural.store import Pixel, PixelStore
from redlane import Client
from running_mural import RunningMural
from servers import Server
from websocket_client import Closed, Refused

SECONDS = 60.0
NEVER = 3600.0  # seconds, between two looks into the database


@pytest.fixture
def url(executor: str, redis_url: str) -> str:
    return "memory://" if executor == "engine" else redis_url


@pytest.fixture
def running(url: str, tmp_path: Path) -> Iterator[RunningMural]:
    with RunningMural(url, tmp_path, cooldown=0, check=NEVER) as running:
        yield running


def until(condition: Callable[[], Any], what: str) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, f"never came: {what}"
        time.sleep(0.005)


def news(sequence: int, x: int, y: int, user: str, color: str = "#FF0000") -> Any:
    return {"sequence": sequence, "x": x, "y": y, "color": color, "user_id": user}


class TestClients:
    def test_are_told_each_placement_in_order(self, running: RunningMural) -> None:
        with running.watch() as first, running.watch() as second:
            until(lambda: running.mural.board.viewers == 2, "the clients")
            for x in range(20):
                running.place(x, 0, "ann")
            running.place(0, 0, "bob", "#123456")
            expected = [news(x + 1, x, 0, "ann") for x in range(20)]
            expected.append(news(21, 0, 0, "bob", "#123456"))
            for client in (first, second):
                assert [client.get() for _ in expected] == expected
        until(lambda: running.mural.board.viewers == 0, "the clients' end")

    def test_are_told_what_happened_since_their_canvas(
        self, running: RunningMural
    ) -> None:
        running.place(1, 0, "ann")
        answer = running.get("/api/canvas")
        since = int(answer.headers["Mural-Sequence"])
        assert since == 1
        running.place(2, 0, "ann")
        running.place(3, 0, "ann")
        running.place(2, 0, "bob")
        with running.watch(since) as client:
            assert client.get() == news(3, 3, 0, "ann")
            assert client.get() == news(4, 2, 0, "bob")  # the second one was replaced
            running.place(5, 0, "ann")
            assert client.get() == news(5, 5, 0, "ann")

    def test_miss_nothing_and_get_nothing_twice_as_they_come(
        self, running: RunningMural
    ) -> None:
        """Each connects while placements are made, and has seen them all."""
        count, clients = 60, 8

        def place(start: int) -> None:
            for x in range(start, count, 3):
                running.place(x, 1, "ann")

        def watch(_: int) -> list[int]:
            with running.watch(0) as client:
                return [client.get()["sequence"] for _ in range(count)]

        with ThreadPoolExecutor(3 + clients) as pool:
            placing = [pool.submit(place, start) for start in range(3)]
            watching = [pool.submit(watch, number) for number in range(clients)]
            for done in placing:
                done.result()
            for seen in watching:
                assert seen.result() == list(range(1, count + 1))

    @pytest.mark.parametrize("since", [-1 - BACKLOG, 10**30, 7])
    def test_that_cannot_be_brought_forward_load_the_canvas(
        self, running: RunningMural, since: int
    ) -> None:
        running.place(1, 0, "ann")
        with running.watch(since) as client:
            assert client.get() == {"reload": True}
            with pytest.raises(Closed):
                client.get()

    def test_that_are_far_behind_load_the_canvas(self, running: RunningMural) -> None:
        pixels = [Pixel(n % 500, n // 500, "#000000", "u") for n in range(BACKLOG + 1)]
        running.mural._store.place_many(pixels)
        with running.watch(0) as client:
            assert client.get() == {"reload": True}
        with running.watch(1) as client:
            assert [client.get()["sequence"] for _ in pixels[1:]] == [
                *range(2, BACKLOG + 2)
            ]

    def test_without_a_number_are_told_what_comes(self, running: RunningMural) -> None:
        running.place(1, 0, "ann")
        with running.watch() as client:
            until(lambda: running.mural.board.viewers == 1, "the client")
            running.place(2, 0, "ann")
            assert client.get() == news(2, 2, 0, "ann")

    def test_that_take_nothing_are_let_go(self, running: RunningMural) -> None:
        """The others are told all the while; it comes back and misses nothing."""
        board = running.mural.board
        count = VIEWER_MESSAGES + 200
        with running.watch() as quick:
            with board.watched(None) as slow:  # nobody takes its messages
                until(lambda: board.viewers == 2, "the clients")
                for number in range(count):
                    place = number % 250_000
                    running.mural.place(
                        Pixel(place % 500, place // 500, "#00FF00", "ann")
                    )
                assert slow.lost
            numbers = [quick.get()["sequence"] for _ in range(count)]
        assert numbers == list(range(1, count + 1))

    def test_end_when_the_worker_does(self, running: RunningMural) -> None:
        with running.watch() as client:
            until(lambda: running.mural.board.viewers == 1, "the client")
            running.mural.live.leave()
            with pytest.raises(Closed):
                client.get()

    def test_say_goodbye(self, running: RunningMural) -> None:
        with running.watch() as client:
            client.say_goodbye()
            with pytest.raises(Closed):
                client.get()
        until(lambda: running.mural.board.viewers == 0, "the client's end")

    def test_what_is_no_websocket_is_refused(self, running: RunningMural) -> None:
        assert running.get("/api/placements").status == 400
        with pytest.raises(Refused):
            running.watch(path="/api/canvas")


class TestWorkers:
    """Two of them in one process, on one database and one Redis."""

    @pytest.fixture
    def other(
        self, running: RunningMural, redis_url: str, tmp_path: Path
    ) -> Iterator[RunningMural]:
        with RunningMural(redis_url, tmp_path, cooldown=0, check=NEVER) as other:
            yield other

    @pytest.fixture
    def executor(self) -> str:
        return "redis"

    def test_hear_of_each_other(
        self, running: RunningMural, other: RunningMural
    ) -> None:
        with running.watch() as client:
            until(lambda: running.mural.board.viewers == 1, "the client")
            for x in range(10):
                (running if x % 2 else other).place(x, 0, "ann")
            seen = [client.get() for _ in range(10)]
        assert seen == [news(x + 1, x, 0, "ann") for x in range(10)]
        until(lambda: other.mural.board.sequence == 10, "the last placement")
        assert running.mural.canvas_data == other.mural.canvas_data

    def test_serve_no_canvas_that_is_older_than_what_they_heard(
        self, running: RunningMural, other: RunningMural
    ) -> None:
        """Whoever sees a placement by WebSocket finds it in the canvas."""
        with running.watch() as client:
            until(lambda: running.mural.board.viewers == 1, "the client")
            for x in range(50):
                running.get("/api/canvas")
                other.place(x, 2, "ann")
                assert f"{x},2" in other.get_json("/api/canvas")
                assert client.get()["x"] == x
                assert f"{x},2" in running.get_json("/api/canvas")

    def test_do_not_take_an_old_canvas_from_the_cache(
        self, running: RunningMural
    ) -> None:
        """Whatever way it came to be there."""
        running.place(1, 1, "ann")
        old = deflate(0, b"{}")
        running.mural.client.set("mural:canvas", old, ex=60)
        assert running.get_json("/api/canvas") == running.mural.canvas_data
        assert running.mural.client.get("mural:canvas") != old

    def test_a_rebuild_by_a_worker_that_has_not_heard_is_not_old(
        self,
        running: RunningMural,
        other: RunningMural,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A canvas that is made after a placement has it, and so have the counters,
        also where nobody has been told."""
        running.counted("ann")
        monkeypatch.setattr(other.mural.live, "publish", lambda placement: None)
        other.place(5, 5, "ann")
        assert running.mural.board.sequence == 0
        assert "5,5" in running.get_json("/api/canvas")
        other.mural.client.delete("mural:user_pixels:ann", "mural:total_pixels")
        other.place(6, 5, "ann")
        assert running.counted("ann") == 2
        assert running.get_json("/api/stats")["total_pixels"] == 2
        other.place(7, 5, "ann")
        assert other.mural.user_pixels.get("ann") == 3

    def test_take_what_is_missing_from_the_database(
        self,
        running: RunningMural,
        other: RunningMural,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        with running.watch() as client:
            until(lambda: running.mural.board.viewers == 1, "the client")
            with monkeypatch.context() as quiet:
                quiet.setattr(other.mural.live, "publish", lambda placement: None)
                for x in range(5):
                    other.place(x, 0, "ann")
            other.place(5, 0, "ann")
            assert [client.get() for _ in range(6)] == [
                news(x + 1, x, 0, "ann") for x in range(6)
            ]

    def test_count_alike_under_traffic(
        self, running: RunningMural, other: RunningMural
    ) -> None:
        """Counters that are made again by one, while the other places."""
        murals = (running, other)
        end = threading.Event()

        def forget() -> None:
            while not end.is_set():
                running.mural.cache.delete_many(
                    ["total_pixels", "user_pixels:u0", "user_pixels:u1"]
                )
                for mural in murals:
                    mural.counted("u0")
                    mural.get_json("/api/stats")

        def place(number: int) -> None:
            mural = murals[number % 2]
            for step in range(40):
                mural.place((number * 7 + step * 3) % 20, 3, f"u{(number + step) % 2}")

        with ThreadPoolExecutor(5) as pool:
            forgetting = pool.submit(forget)
            list(pool.map(place, range(4)))
            end.set()
            forgetting.result()
        truth = PixelStore(running.mural.settings.database)
        owners = [pixel.user_id for pixel in truth.pixels()]
        truth.close()
        for mural in murals:
            until(lambda m=mural: m.mural.board.sequence == 160, "the last one")
            assert len(mural.mural.canvas_data) == len(owners)
            assert mural.get_json("/api/stats")["total_pixels"] == len(owners)
            for user in ("u0", "u1"):
                assert mural.counted(user) == owners.count(user)

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_count_no_placement_that_is_half_way(
        self,
        running: RunningMural,
        other: RunningMural,
        monkeypatch: pytest.MonkeyPatch,
        when: str,
    ) -> None:
        """A counter that is made while another worker counts its placement."""
        count = other.mural._count
        half_way, go_on = threading.Event(), threading.Event()

        def slow_count(placement: Any) -> None:
            if when == "after":
                count(placement)
            half_way.set()
            assert go_on.wait(SECONDS)
            if when == "before":
                count(placement)

        monkeypatch.setattr(other.mural, "_count", slow_count)
        with ThreadPoolExecutor(2) as pool:
            placing = pool.submit(other.place, 1, 1, "ann")
            assert half_way.wait(SECONDS)
            counting = pool.submit(running.counted, "ann")
            key = "mural:user_pixels:ann"
            until(lambda: running.mural.client.exists(key), "its lease, or a number")
            go_on.set()
            placing.result()
            assert counting.result() == 1
        assert running.counted("ann") == other.counted("ann") == 1

    def test_look_into_the_database_when_nothing_is_said(
        self, redis_url: str, tmp_path: Path
    ) -> None:
        """A worker that was killed before it could tell of its placement."""
        with RunningMural(redis_url, tmp_path, check=0.05) as running:
            store = PixelStore(running.mural.settings.database)
            store.place(Pixel(1, 1, "#000000", "ann"))
            store.close()
            until(lambda: running.mural.board.sequence == 1, "the placement")
            assert list(running.mural.canvas_data) == ["1,1"]

    def test_take_no_nonsense(
        self, running: RunningMural, caplog: pytest.LogCaptureFixture
    ) -> None:
        channel = "mural:placements"
        for bad in ("", "no JSON", "[]", '{"sequence": 1}', '{"sequence": "1"}'):
            running.mural.client.publish(channel, bad)
        running.place(1, 1, "ann")
        assert list(running.mural.canvas_data) == ["1,1"]
        until(lambda: "Not a placement" in caplog.text, "the warnings")
        running.mural.client.publish(channel, json.dumps(news(2, 9, 9, "eve")))
        until(lambda: running.mural.board.sequence == 2, "what is one")


class TestOutages:
    def test_what_was_placed_meanwhile_is_told_after_a_gap(
        self, fresh_server: Server, tmp_path: Path
    ) -> None:
        url = fresh_server.patient_url
        with RunningMural(url, tmp_path, cooldown=0, check=NEVER) as one:
            with RunningMural(url, tmp_path, cooldown=0, check=NEVER) as other:
                with one.watch() as near, other.watch() as far:
                    for mural in (one, other):
                        until(lambda m=mural: m.mural.board.viewers, "the client")
                    one.place(1, 1, "ann")
                    assert near.get() == far.get() == news(1, 1, 1, "ann")
                    fresh_server.kill()
                    one.place(2, 1, "ann")
                    assert near.get() == news(2, 2, 1, "ann")
                    assert one.get_json("/api/canvas") == one.mural.canvas_data
                    fresh_server.start()
                    assert far.get() == news(2, 2, 1, "ann")
                    other.place(3, 1, "ann")
                    assert near.get() == far.get() == news(3, 3, 1, "ann")
                    assert one.get_json("/api/canvas") == one.mural.canvas_data
                    assert one.mural.canvas_data == other.mural.canvas_data

    def test_who_may_not_subscribe_looks_into_the_database(
        self, fresh_server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        fresh_server.cli("ACL", "SETUSER", "default", "resetchannels")
        url = fresh_server.patient_url
        with RunningMural(url, tmp_path, cooldown=0, check=0.05) as running:
            store = PixelStore(running.mural.settings.database)
            store.place(Pixel(1, 1, "#000000", "ann"))
            store.close()
            until(lambda: running.mural.board.sequence == 1, "the placement")
            running.place(2, 1, "ann")
            assert len(running.get_json("/api/canvas")) == 2
        errors = [r for r in caplog.records if r.name == "mural" and r.exc_info]
        assert errors == []
        assert "come late" in caplog.text


class TestBoard:
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[PixelStore]:
        store = PixelStore(str(tmp_path / "mural.db"))
        yield store
        store.close()

    def test_takes_placements_in_any_order(self, store: PixelStore) -> None:
        board = Board(store)
        placed = [store.place(Pixel(1, 1, f"#00000{n}", "ann")) for n in range(4)]
        with board.watched(None) as viewer:
            for placement in (placed[0], placed[3], placed[1], placed[2], placed[3]):
                board.hear(placement.sequence, placement.pixel)
            told = [viewer.get(0.001) for _ in range(3)]
        assert board.sequence == 4
        assert board.canvas_data == {"1,1": {"color": "#000003", "user_id": "ann"}}
        numbers = [json.loads(message)["sequence"] for message in told if message]
        assert numbers == [1, 4]

    def test_nothing_is_placed_in_between(
        self, store: PixelStore, tmp_path: Path
    ) -> None:
        """Not by another process, either."""
        other = sqlite3.connect(tmp_path / "mural.db", timeout=0.01)
        with store.still():
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("BEGIN IMMEDIATE")
        other.execute("BEGIN IMMEDIATE")
        other.rollback()
        other.close()

    def test_stores_that_open_a_new_file_at_once(self, tmp_path: Path) -> None:
        path = str(tmp_path / "new.db")
        with ThreadPoolExecutor(8) as pool:
            stores = list(pool.map(lambda _: PixelStore(path), range(8)))
        numbers = [
            store.place(Pixel(1, 1, "#000000", "a")).sequence for store in stores
        ]
        assert numbers == list(range(1, 9))
        for store in stores:
            store.close()

    def test_a_commit_that_fails_leaves_no_count(
        self, redis_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from mural.canvas import Mural

        class Refusing(PixelStore):
            def place(self, pixel: Pixel, inside: Any = None) -> Any:
                def count(placement: Any) -> None:
                    inside(placement)
                    if pixel.user_id == "eve":
                        raise sqlite3.OperationalError("disk is full")

                return super().place(pixel, count)

        store = Refusing(str(tmp_path / "mural.db"))
        client = Client(redis_server.patient_url)
        mural = Mural(client, store, Settings(cooldown=3600))
        assert mural.user_pixels.get("eve") == mural.total_pixels.get() == 0
        for _ in range(2):  # and no cooldown was begun
            with pytest.raises(sqlite3.OperationalError):
                mural.place(Pixel(1, 1, "#000000", "eve"))
        assert mural.user_pixels.get("eve") == mural.total_pixels.get() == 0
        assert mural.board.sequence == 0
        mural.close()


def test_no_error_is_logged(
    url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with RunningMural(url, tmp_path, cooldown=0) as running:
        with running.watch() as client:
            running.place(1, 1, "ann")
            client.say_goodbye()
        with running.watch():
            pass
        running.place(2, 1, "ann")
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []
