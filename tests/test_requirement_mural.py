"""What the canvas asks for that many paint on, a test to a line of the page
docs/requirements.md."""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requirement_tools
from flask import jsonify
from mural.canvas import inflate
from mural.settings import Settings
from mural.store import Pixel
from outage_tools import wait_until
from redlane import Counter
from requirement_tools import Stage, only
from running_mural import RunningMural
from servers import ACL_PASSWORD, ACL_USER, Server, patient
from tls import TlsServer

stage = requirement_tools.stage

GOOD = {"x": 499, "y": 0, "color": "#00ff7F", "user_id": "ann"}
BAD = (
    *({"x": 500}, {"x": -1}, {"x": "1"}, {"y": 500}, {"y": 1.5}, {"y": None}),
    *({"color": "red"}, {"color": "#12345"}, {"color": "#GGGGGG"}, {"user_id": ""}),
)
LOG_LINE = "Serving canvas from cache"


@contextmanager
def workers(
    stage: Stage, folder: Path, **settings: Any
) -> Iterator[tuple[RunningMural, RunningMural]]:
    """Two, which share the database and, where there is one, the server. On the engine
    there can be one only."""
    settings = {"cooldown": 0, "check": 0.1, **settings}
    with ExitStack() as stack:
        one = stack.enter_context(RunningMural(stage.url, folder, **settings))
        if stage.way == "engine":
            yield one, one
        else:
            other = RunningMural(stage.url, folder, **settings)
            yield one, stack.enter_context(other)


def phases(stage: Stage, *murals: RunningMural) -> Iterator[str]:
    return stage.phases(*(running.mural.client for running in murals))


def everywhere(running: RunningMural) -> dict[str, Any]:
    """The pixels in the database of all workers."""
    return {
        pixel.key: {"color": pixel.color, "user_id": pixel.user_id}
        for pixel in running.mural._store.pixels()
    }


def addresses(stage: Stage, request: pytest.FixtureRequest) -> Iterator[str]:
    """What REDIS_URL can be there."""
    yield stage.url
    if stage.way != "server":
        return
    assert stage.server is not None
    yield patient(stage.server.unix_url)
    closed: Server = request.getfixturevalue("password_server")
    login = f"{quote(ACL_USER, safe='')}:{quote(ACL_PASSWORD, safe='')}"
    yield patient(f"redis://{login}@127.0.0.1:{closed.port}/3")
    encrypted: TlsServer = request.getfixturevalue("tls_server")
    yield patient(encrypted.url)


def test_address(
    stage: Stage,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number, url in enumerate(addresses(stage, request)):
        monkeypatch.setenv("REDIS_URL", url)
        folder = tmp_path / str(number)
        folder.mkdir()
        read = Settings.from_env().redis_url
        assert read == url
        with RunningMural(read, folder, cooldown=0) as running:
            client = running.mural.client
            for phase in phases(stage, running):
                user = f"{phase}-{number}"
                running.place(1, 2, user)
                assert running.counted(user) == 1
                assert running.get("/api/canvas").status == 200
                if phase != "away":
                    assert client.exists("mural:canvas") == 1
                    assert client.delete("mural:canvas") == 1
            if "/3?" in url:
                assert b" db=3 " in client.execute("CLIENT", "INFO")
            assert ACL_PASSWORD not in repr(client)


def test_routes(stage: Stage, tmp_path: Path) -> None:
    with workers(stage, tmp_path, cooldown=3600) as (one, _):
        for phase in phases(stage, one):
            assert isinstance(one.get_json("/api/canvas"), dict)
            before = one.get_json("/api/stats")["total_pixels"]
            for bad in BAD:
                assert one.post({**GOOD, **bad}).status == 400, bad
            assert one.post(b"[1, 2").status == 400
            assert one.get_json("/api/stats")["total_pixels"] == before
            answer = one.post({**GOOD, "user_id": phase})
            assert answer.status == 200, answer
            again = one.post({**GOOD, "user_id": phase})
            assert again.status == 429
            assert 0 < again.json["retry_after"] <= 3600
            assert again.headers["Retry-After"] == str(again.json["retry_after"])
            assert one.get_json("/api/canvas") == {
                "499,0": {"color": "#00ff7F", "user_id": phase}
            }
            assert one.get_json("/api/stats")["total_pixels"] == 1
            assert (one.counted(phase), one.counted("nobody")) == (1, 0)
        assert one.get("/api/user-stats/").status == 404


def test_canvas(stage: Stage, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def hits() -> int:
        told = [r for r in caplog.records if r.getMessage() == LOG_LINE]
        assert all((r.name, r.levelno) == ("mural", logging.INFO) for r in told)
        return len(told)

    with workers(stage, tmp_path) as (one, _):
        for number, phase in enumerate(phases(stage, one)):
            one.place(number, 3, phase, "#ABCDEF")
            before = hits()
            built = one.get("/api/canvas")
            assert hits() == before
            cached = one.get("/api/canvas")
            assert hits() == before + 1
            plain = one.get("/api/canvas", Accept_Encoding="identity")
            assert "Content-Encoding" not in plain.headers
            for answer in (built, cached):
                assert answer.headers["Content-Encoding"] == "gzip"
                assert inflate(answer.body) == plain.body
            canvas = json.loads(plain.body)
            assert canvas == one.mural.canvas_data
            assert canvas[f"{number},3"] == {"color": "#ABCDEF", "user_id": phase}
            if phase != "away":
                client = one.mural.client
                assert client.get("mural:canvas") == built.body == cached.body
                assert 0 < client.ttl("mural:canvas") <= 60


def test_authority(stage: Stage, tmp_path: Path) -> None:
    with workers(stage, tmp_path) as (one, two):
        for number, phase in enumerate(phases(stage, one, two)):
            with ThreadPoolExecutor(2) as pool:
                made = [
                    pool.submit(worker.mural.place, Pixel(x, number, "#112233", who))
                    for x in range(10)
                    for worker, who in ((one, "ann"), (two, "bob"))
                ]
            told = [future.result() for future in made]
            first = 20 * number + 1
            assert sorted(p.sequence for p in told) == list(range(first, first + 20))
            # Of two on one place, one was first, and the other knows whose it was.
            for x in range(10):
                pair = [p for p in told if p.pixel.x == x]
                pair.sort(key=lambda p: p.sequence)
                assert pair[0].old_owner is None
                assert pair[1].old_owner == pair[0].pixel.user_id
            # While Redis is away nobody is told, and they look.
            for worker in (one, two):
                wait_until(
                    lambda w=worker, n=first + 19: w.mural.board.sequence == n,
                    f"all placements, {phase}",
                )
                assert worker.mural.canvas_data == everywhere(one)
        link = sqlite3.connect(tmp_path / "mural.db")
        assert link.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        link.close()
        with RunningMural(stage.url, tmp_path) as late:
            assert late.mural.canvas_data == everywhere(one)


def test_placing(stage: Stage, tmp_path: Path) -> None:
    with (
        workers(stage, tmp_path, cooldown=3600) as (one, two),
        one.watch() as near,
        two.watch() as far,
    ):
        wait_until(lambda: one.mural.board.viewers == 2 - (one is not two), "the first")
        wait_until(lambda: two.mural.board.viewers > 0, "the other")
        for number, phase in enumerate(phases(stage, one, two), 1):
            assert one.post({**GOOD, "color": "none"}).status == 400
            one.place(number, 7, phase, "#010203")
            assert one.post({**GOOD, "user_id": phase}).status == 429
            news = {"sequence": number, "x": number, "y": 7, "color": "#010203"}
            for client in (near, far):
                assert client.get() == {**news, "user_id": phase}
            assert f"{number},7" in one.get_json("/api/canvas")
            assert one.counted(phase) == 1
            assert one.get_json("/api/stats")["total_pixels"] == number


def rebuild_meanwhile(running: RunningMural, place: Callable[[], None]) -> None:
    """`place` is called while a canvas is made that does not have it."""
    mural, render = running.mural, running.mural._render
    rendered, go_on = threading.Event(), threading.Event()

    def slow_render() -> bytes:
        body = render()
        rendered.set()
        assert go_on.wait(30)
        return body

    mural._render = slow_render  # type: ignore[method-assign]
    try:
        with ThreadPoolExecutor(1) as pool:
            old = pool.submit(mural.canvas)
            assert rendered.wait(30)
            mural._render = render  # type: ignore[method-assign]
            place()
            go_on.set()
            old.result(30)
    finally:
        go_on.set()
        mural._render = render  # type: ignore[method-assign]


def test_freshness(stage: Stage, tmp_path: Path) -> None:
    with workers(stage, tmp_path) as (one, two):
        for number, phase in enumerate(phases(stage, one, two), 1):
            for worker in (one, two):
                worker.get("/api/canvas")
            one.place(number, 1, phase)
            assert f"{number},1" in one.get_json("/api/canvas")
            wait_until(
                lambda n=one.mural.board.sequence: two.mural.board.sequence >= n,
                "the news",
            )
            assert f"{number},1" in two.get_json("/api/canvas")
            one.mural.bodies.delete("canvas")
            rebuild_meanwhile(one, lambda n=number: one.place(n, 2, "bob"))
            assert f"{number},2" in one.get_json("/api/canvas")


def test_counters(stage: Stage, tmp_path: Path) -> None:
    with workers(stage, tmp_path) as (one, two):
        for number, phase in enumerate(phases(stage, one, two)):
            ann, bob = f"ann {phase}", f"bob {phase}"
            cache = one.mural.cache

            def told(ann: str = ann, bob: str = bob) -> tuple[int, int, int]:
                total = one.get_json("/api/stats")["total_pixels"]
                return one.counted(quote(ann)), one.counted(quote(bob)), total

            assert told() == (0, 0, number)
            one.place(number, 0, ann)
            assert told() == (1, 0, number + 1)
            one.place(number, 0, ann, "#000000")
            assert told() == (1, 0, number + 1)
            one.place(number, 0, bob)
            assert told() == (0, 1, number + 1)
            if phase != "away":  # then each has counters of its own
                assert two.counted(quote(bob)) == 1
                assert two.get_json("/api/stats")["total_pixels"] == number + 1
            assert cache.get(f"user_pixels:{bob}") == 1
            assert cache.get("total_pixels") == number + 1
            assert 240 < (cache.ttl(f"user_pixels:{bob}") or 0) <= 300
            assert 0 < (cache.ttl("total_pixels") or 0) <= 60


def test_healing(stage: Stage) -> None:
    truth = {"ann": 3, "bob": 5}
    meanwhile: list[str] = []
    client: Any = stage.client()

    def source(user: str) -> int:
        counted = truth[user]
        while meanwhile:
            change(meanwhile.pop())
        return counted

    counter = Counter(client, "user_pixels:{id}", ttl=300, source=source)

    def change(user: str) -> int | None:
        truth[user] += 1
        return counter.increment(user)

    for phase in stage.phases(client):
        # After an outage they equal the truth at once.
        assert (counter.get("ann"), counter.get("bob")) == (truth["ann"], truth["bob"])
        assert change("ann") == truth["ann"]
        truth["ann"] -= 1
        truth["bob"] += 1
        assert counter.transfer("ann", "bob") == (truth["ann"], truth["bob"])
        if phase != "away":
            key = counter.key("ann")
            client.expire(key, 100)
            change("ann")
            counter.get("ann")
            assert 0 < client.ttl(key) <= 100
        counter.delete("ann")
        assert change("ann") is None  # there is nothing to change
        assert counter.get("ann") == truth["ann"]
        counter.delete("bob")
        meanwhile.append("bob")
        counter.get("bob")  # may be what it was when it was asked for
        assert counter.get("bob") == truth["bob"]
        change("ann")
        change("bob")


def test_cooldown(stage: Stage, tmp_path: Path) -> None:
    def seconds_left(running: RunningMural, user: str) -> int:
        """0: the pixel was placed."""
        answer = running.post({**GOOD, "user_id": user})
        assert answer.status in (200, 429)
        left: int = answer.json["retry_after"] if answer.status == 429 else 0
        return left

    phase = ""
    with workers(stage, tmp_path, cooldown=3600) as (one, two):
        for phase in phases(stage, one, two):
            assert seconds_left(one, phase) == 0
            assert 3000 < seconds_left(one, phase) <= 3600
            if phase != "away":  # then each has cooldowns of its own
                assert 3000 < seconds_left(two, phase) <= 3600
    with workers(stage, tmp_path, cooldown=3600) as (one, _):
        kept = stage.way != "engine"  # which ends with its process
        assert (seconds_left(one, phase) > 0) is kept


def test_corruption(stage: Stage, tmp_path: Path) -> None:
    with workers(stage, tmp_path) as (one, _):
        mural = one.mural
        for number, phase in enumerate(phases(stage, one)):
            one.place(number, 0, "ann")
            one.get("/api/canvas")
            assert one.counted("ann") == number + 1
            if phase == "away":
                continue
            for key in ("canvas", "user_pixels:ann", "total_pixels"):
                mural.client.set(f"mural:{key}", b"\xffgarbage", ex=60)
            before = mural.bodies.stats()["corrupted"], mural.cache.stats()["corrupted"]
            assert one.get_json("/api/canvas") == mural.canvas_data
            assert one.counted("ann") == number + 1
            assert one.get_json("/api/stats")["total_pixels"] == number + 1
            assert mural.bodies.stats()["corrupted"] == before[0] + 1
            assert mural.cache.stats()["corrupted"] == before[1] + 2
            assert mural.client.get("mural:total_pixels") == b"%d" % (number + 1)


def fastest(times: int, work: Callable[[], object]) -> float:
    """Seconds."""
    took = []
    for _ in range(times):
        begin = time.perf_counter()
        work()
        took.append(time.perf_counter() - begin)
    return min(took)


# Over HTTP to the gateway nothing is to be won.
@only("server", "engine", "outage")
def test_numbers(stage: Stage, tmp_path: Path) -> None:
    """The canvas and the statistics are faster by far than without a cache; `make demo`
    measures how much."""
    pixels = 100_000 if stage.way == "server" else 25_000
    with workers(stage, tmp_path, canvas_ttl=3600) as (one, _):
        mural, canvas = one.mural, one.mural.canvas_data
        for n in range(pixels):
            canvas[f"{n % 500},{n // 500}"] = {
                "color": f"#{n * 7919 % (1 << 24):06X}",
                "user_id": f"user-{n % 1000:04d}",
            }

        def uncached() -> object:
            with one.app.test_request_context():
                return jsonify(canvas).get_data()

        def count() -> int:
            cells = canvas.values()
            return sum(1 for cell in cells if cell["user_id"] == "user-0007")

        for _ in phases(stage, one):
            body = mural.canvas()
            assert len(inflate(body)) > pixels * 45  # 250,000 make 12 MB
            assert len(body) < pixels * 15
            assert fastest(20, mural.canvas) < fastest(2, uncached) / 5
            assert mural.user_pixels.get("user-0007") == count() == pixels // 1000
            get = lambda: mural.user_pixels.get("user-0007")  # noqa: E731
            assert fastest(20, get) < fastest(3, count) / 2
            assert mural.total_pixels.get() == pixels
