"""The Mural's routes, on the embedded engine and on Redis, over real HTTP."""

from __future__ import annotations

import gzip
import json
import logging
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from mural.canvas import GzipBody, deflate, inflate
from mural.settings import Settings
from mural.store import Pixel, PixelStore, Placement
from running_mural import RunningMural
from servers import Server, free_port

GOOD = {"x": 3, "y": 4, "color": "#00ff7F", "user_id": "ann"}
LOG_LINE = "Serving canvas from cache"


@pytest.fixture
def url(executor: str, redis_url: str) -> str:
    return "memory://" if executor == "engine" else redis_url


@pytest.fixture
def running(url: str, tmp_path: Path) -> Iterator[RunningMural]:
    """Without cooldowns."""
    with RunningMural(url, tmp_path, cooldown=0) as running:
        yield running


@pytest.fixture
def cooling(url: str, tmp_path: Path) -> Iterator[RunningMural]:
    """With a cooldown that no test outlives."""
    with RunningMural(url, tmp_path, cooldown=3600) as running:
        yield running


def count_hits(caplog: pytest.LogCaptureFixture) -> int:
    return sum(
        1
        for record in caplog.records
        if record.name == "mural"
        and record.levelno == logging.INFO
        and record.getMessage() == LOG_LINE
    )


class TestCanvas:
    def test_shows_what_was_placed(self, running: RunningMural) -> None:
        assert running.get_json("/api/canvas") == {}
        assert running.post(GOOD).status == 200
        assert running.get_json("/api/canvas") == {
            "3,4": {"color": "#00ff7F", "user_id": "ann"}
        }

    def test_is_sent_as_it_is_stored(self, running: RunningMural) -> None:
        running.place(1, 2, "ann")
        first = running.get("/api/canvas", Accept_Encoding="gzip, br")
        stored = running.mural.client.get("mural:canvas")
        again = running.get("/api/canvas")
        for answer in (first, again):
            assert answer.headers["Content-Encoding"] == "gzip"
            assert answer.headers["Vary"] == "Accept-Encoding"
            assert answer.body == stored

    @pytest.mark.parametrize(
        "accepted", ["identity", "br", "gzip;q=0", "", "*;q=0", "gzip;q=0, *"]
    )
    def test_is_inflated_for_a_client_that_refuses_gzip(
        self, running: RunningMural, accepted: str
    ) -> None:
        running.place(1, 2, "ann")
        running.get("/api/canvas")
        answer = running.get("/api/canvas", Accept_Encoding=accepted)
        assert "Content-Encoding" not in answer.headers
        assert json.loads(answer.body) == running.mural.canvas_data

    def test_is_sent_once_to_a_client_that_has_it(self, running: RunningMural) -> None:
        etag = running.get("/api/canvas").headers["ETag"]
        unchanged = running.get("/api/canvas", If_None_Match=etag)
        assert (unchanged.status, unchanged.body) == (304, b"")
        running.place(1, 2, "ann")
        assert running.get("/api/canvas", If_None_Match=etag).status == 200

    def test_a_hit_is_logged(
        self, running: RunningMural, caplog: pytest.LogCaptureFixture
    ) -> None:
        running.get("/api/canvas")
        assert count_hits(caplog) == 0
        running.get("/api/canvas")
        running.get("/api/canvas")
        assert count_hits(caplog) == 2
        running.place(1, 2, "ann")
        running.get("/api/canvas")
        assert count_hits(caplog) == 2

    def test_lives_as_long_as_configured(self, url: str, tmp_path: Path) -> None:
        with RunningMural(url, tmp_path, canvas_ttl=45) as running:
            running.get("/api/canvas")
            left = running.mural.bodies.ttl("canvas")
            assert left is not None
            assert 0 < left <= 45

    def test_a_rebuild_begun_before_a_placement_is_not_stored(
        self, running: RunningMural, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rendered, go_on = threading.Event(), threading.Event()
        render = running.mural._render

        def slow_render() -> bytes:
            body = render()
            rendered.set()
            assert go_on.wait(30)
            return body

        monkeypatch.setattr(running.mural, "_render", slow_render)
        with ThreadPoolExecutor(1) as pool:
            old = pool.submit(running.get_json, "/api/canvas")
            assert rendered.wait(30)
            monkeypatch.setattr(running.mural, "_render", render)
            running.place(7, 8, "ann")
            newer = running.get_json("/api/canvas")
            go_on.set()
            old.result(30)
        assert "7,8" in newer
        assert "7,8" in running.get_json("/api/canvas")

    def test_the_page_is_there(self, running: RunningMural) -> None:
        page = running.get("/")
        assert page.status == 200
        assert b'width="500" height="500"' in page.body
        for name in ("mural.js", "mural.css"):
            assert f"/static/{name}".encode() in page.body
            assert running.get(f"/static/{name}").status == 200


class TestPlacing:
    @pytest.mark.parametrize(
        "change",
        [
            {"x": -1},
            {"x": 500},
            {"y": 500},
            {"x": 10**30},
            {"x": 1.0},
            {"x": "1"},
            {"x": True},
            {"y": None},
            {"color": "red"},
            {"color": "#FFF"},
            {"color": "#GG0000"},
            {"color": "#FF0000\n"},
            {"color": "#FF00000"},
            {"color": "#٠٠٠٠٠٠"},
            {"color": 0xFF0000},
            {"user_id": ""},
            {"user_id": 7},
            {"user_id": None},
            {"user_id": "x" * 129},
            {"user_id": "a\0b"},
            {"user_id": "a\r\nb"},
            {"user_id": "\ud800"},
        ],
        ids=ascii,
    )
    def test_bad_values_are_refused(
        self, cooling: RunningMural, change: dict[str, Any]
    ) -> None:
        answer = cooling.post({**GOOD, **change})
        assert answer.status == 400
        assert next(iter(change)) in answer.json["error"]
        assert cooling.mural.canvas_data == {}
        assert cooling.post(GOOD).status == 200  # and no cooldown was begun

    @pytest.mark.parametrize("missing", list(GOOD))
    def test_missing_values_are_refused(
        self, running: RunningMural, missing: str
    ) -> None:
        body = {name: value for name, value in GOOD.items() if name != missing}
        assert running.post(body).status == 400

    @pytest.mark.parametrize(
        "body",
        [b"", b"{", b"[]", b"7", b"null", b"\xff", b"[" * 4000, b"9" * 4000],
        ids=lambda body: ascii(body[:9]),
    )
    def test_what_is_no_json_object_is_refused(
        self, running: RunningMural, body: bytes
    ) -> None:
        assert running.post(body).status == 400

    def test_a_form_is_refused(self, running: RunningMural) -> None:
        form = b"x=1&y=2&color=%23FF0000&user_id=ann"
        kind = "application/x-www-form-urlencoded"
        answer = running.ask("POST", "/api/place-pixel", form, Content_Type=kind)
        assert answer.status == 400

    def test_a_huge_body_is_refused(self, running: RunningMural) -> None:
        assert running.post({**GOOD, "more": "x" * 5000}).status == 413

    @pytest.mark.parametrize("x", [0, 499])
    def test_the_corners_belong_to_the_canvas(
        self, running: RunningMural, x: int
    ) -> None:
        running.place(x, 499 - x, "ann")
        assert f"{x},{499 - x}" in running.get_json("/api/canvas")

    def test_each_placement_gets_the_next_number(self, running: RunningMural) -> None:
        numbers = [running.post({**GOOD, "x": x}).json["sequence"] for x in range(3)]
        assert numbers == [1, 2, 3]

    def test_placements_survive_a_restart(self, url: str, tmp_path: Path) -> None:
        with RunningMural(url, tmp_path) as running:
            running.place(1, 2, "ann")
            running.place(3, 4, "bob", "#123456")
            before = running.mural.canvas_data
        with RunningMural(url, tmp_path) as running:
            assert running.get_json("/api/canvas") == before
            assert running.get_json("/api/stats")["total_pixels"] == 2
            answer = running.post({**GOOD, "user_id": "cid"})
            assert answer.json["sequence"] == 3

    def test_a_store_that_refuses_is_no_page(
        self, fresh_server: Server, tmp_path: Path
    ) -> None:
        with RunningMural(fresh_server.patient_url, tmp_path) as running:
            running.place(1, 1, "ann")
            running.get("/api/canvas")
            fresh_server.cli("CONFIG", "SET", "maxmemory", "1")
            answer = running.post({**GOOD, "user_id": "bob"})
            assert answer.status in (200, 503)  # 200 once writes have a breaker
            assert (answer.status == 200) == ("3,4" in running.mural.canvas_data)
            assert running.get_json("/api/canvas") == running.mural.canvas_data
            fresh_server.cli("CONFIG", "SET", "maxmemory", "0")


class TestCooldown:
    def test_a_second_placement_waits(self, cooling: RunningMural) -> None:
        cooling.place(1, 1, "ann")
        answer = cooling.post({**GOOD, "user_id": "ann"})
        assert answer.status == 429
        left = answer.json["retry_after"]
        assert 3000 < left <= 3600
        assert answer.headers["Retry-After"] == str(left)
        assert "3,4" not in cooling.mural.canvas_data

    def test_others_do_not_wait(self, cooling: RunningMural) -> None:
        cooling.place(1, 1, "ann")
        cooling.place(1, 1, "bob")

    def test_ends_by_itself(self, url: str, tmp_path: Path) -> None:
        with RunningMural(url, tmp_path, cooldown=0.2) as running:
            running.place(1, 1, "ann")
            for _ in range(600):
                if running.post(GOOD).status == 200:
                    break
                threading.Event().wait(0.05)
            assert "3,4" in running.mural.canvas_data

    def test_is_given_back_when_nothing_was_placed(
        self, cooling: RunningMural, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(pixel: Pixel, inside: object) -> Placement:
            raise sqlite3.OperationalError("disk I/O error")

        with monkeypatch.context() as broken:
            broken.setattr(cooling.mural._store, "place", fail)
            answer = cooling.post(GOOD)
            assert answer.status == 503
            assert "disk" not in answer.json["error"]
        assert cooling.mural.canvas_data == {}
        assert cooling.post(GOOD).status == 200

    def test_one_of_many_at_once_gets_through(self, cooling: RunningMural) -> None:
        bodies = [{**GOOD, "x": x} for x in range(16)]
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(cooling.post, bodies))
        assert sorted(a.status for a in answers) == [200] + [429] * 15
        assert len(cooling.mural.canvas_data) == 1

    def test_survives_a_restart_on_redis(self, redis_url: str, tmp_path: Path) -> None:
        with RunningMural(redis_url, tmp_path, cooldown=3600) as running:
            running.place(1, 1, "ann")
        with RunningMural(redis_url, tmp_path, cooldown=3600) as running:
            assert running.post(GOOD).status == 429

    def test_a_key_without_an_end_blocks_nobody(self, cooling: RunningMural) -> None:
        cooling.mural.client.set("mural:cooldown:ann", "1")
        assert cooling.post(GOOD).status == 200
        assert cooling.post(GOOD).status == 429


class TestCounters:
    def test_follow_each_kind_of_placement(self, running: RunningMural) -> None:
        def counted() -> tuple[int, int, int]:
            total = running.get_json("/api/stats")["total_pixels"]
            return total, running.counted("ann"), running.counted("bob")

        assert counted() == (0, 0, 0)
        running.place(1, 1, "ann")
        running.place(2, 2, "ann")
        assert counted() == (2, 2, 0)
        running.place(1, 1, "bob")  # a replacement
        assert counted() == (2, 1, 1)
        running.place(1, 1, "bob", "#000000")  # by the same user
        assert counted() == (2, 1, 1)

    def test_are_read_by_the_cache(self, running: RunningMural) -> None:
        running.place(1, 1, "ann")
        assert running.counted("ann") == 1
        assert running.get_json("/api/stats")["total_pixels"] == 1
        running.place(2, 1, "ann")
        assert running.mural.cache.get("user_pixels:ann") == 2
        assert running.mural.cache.get("total_pixels") == 2

    def test_have_their_ttl(self, running: RunningMural) -> None:
        running.place(1, 1, "ann")
        running.counted("ann")
        running.get_json("/api/stats")
        for key, limit in (("user_pixels:ann", 300), ("total_pixels", 60)):
            left = running.mural.cache.ttl(key)
            assert left is not None
            assert limit - 30 < left <= limit

    def test_any_user_id_that_can_place_can_be_asked_for(
        self, running: RunningMural
    ) -> None:
        for user in ("a/b", "a b", "é", "{id}", "a:b", "*", "%2F"):
            running.place(1, 1, user)
            quoted = "".join(f"%{byte:02X}" for byte in user.encode())
            answer = running.get_json(f"/api/user-stats/{quoted}")
            assert answer == {"user_id": user, "user_pixels": 1}

    def test_a_bad_user_id_is_refused(self, running: RunningMural) -> None:
        for user in ("a%00b", "x" * 129, "a%1Bb"):
            assert running.get(f"/api/user-stats/{user}").status == 400

    def test_equal_the_truth_after_random_traffic(self, running: RunningMural) -> None:
        users = [f"user-{n}" for n in range(5)]

        def wander(seed: int) -> None:
            dice = random.Random(seed)
            for _ in range(60):
                user = dice.choice(users)
                match dice.randrange(6):
                    case 0:
                        running.counted(user)
                    case 1:
                        running.get_json("/api/stats")
                    case 2:
                        name = dice.choice(["total_pixels", f"user_pixels:{user}"])
                        running.mural.cache.delete(name)
                    case _:
                        running.place(dice.randrange(4), dice.randrange(4), user)

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(wander, range(6)))
        for user in users:
            assert running.counted(user) == running.truth(user)
        total = running.get_json("/api/stats")["total_pixels"]
        assert total == len(running.mural.canvas_data)
        assert running.get_json("/api/canvas") == running.mural.canvas_data


WHOLE = deflate(9, b'{"9,9":{"color":"#000000","user_id":"eve"}}')


class TestCorruptedValues:
    @pytest.mark.parametrize(
        "bad",
        [
            b"",
            b"garbage",
            b"{}",
            WHOLE[:-1],
            WHOLE + b"x",
            WHOLE[:-8] + bytes(8),
            WHOLE.replace(b"9\0", b"x\0", 1),
            WHOLE.replace(b"9\0", b"\0", 1),
            gzip.compress(b"{}"),
            deflate(9, b"no JSON"),
        ],
        ids=[
            *("empty", "text", "json", "cut", "longer", "checksum"),
            *("sequence", "no-sequence", "no-comment", "content"),
        ],
    )
    def test_a_bad_canvas_is_a_miss(self, running: RunningMural, bad: bytes) -> None:
        running.place(1, 2, "ann")
        running.get("/api/canvas")
        running.mural.client.set("mural:canvas", bad, ex=60)
        assert running.get_json("/api/canvas") == running.mural.canvas_data
        assert running.mural.client.get("mural:canvas") != bad
        assert running.mural.bodies.stats()["corrupted"] == 1

    def test_a_canvas_of_another_type_is_a_miss(self, running: RunningMural) -> None:
        running.place(1, 2, "ann")
        running.mural.client.delete("mural:canvas")
        running.mural.client.hset("mural:canvas", "a", "b")
        assert running.get_json("/api/canvas") == running.mural.canvas_data

    @pytest.mark.parametrize("bad", ["", "seven", "1.5", "[1]", "9" * 40, "\xff"])
    @pytest.mark.parametrize("key", ["user_pixels:ann", "total_pixels"])
    def test_a_bad_counter_is_a_miss(
        self, running: RunningMural, key: str, bad: str
    ) -> None:
        running.place(1, 2, "ann")
        running.mural.client.set(f"mural:{key}", bad, ex=60)
        assert running.counted("ann") == 1
        assert running.get_json("/api/stats")["total_pixels"] == 1
        assert running.mural.cache.stats()["corrupted"] == 1

    @pytest.mark.parametrize("key", ["user_pixels:ann", "total_pixels"])
    def test_a_bad_counter_does_not_stop_a_placement(
        self, running: RunningMural, key: str
    ) -> None:
        running.mural.client.set(f"mural:{key}", "seven", ex=60)
        running.place(1, 2, "ann")
        running.mural.client.delete(f"mural:{key}")
        running.mural.client.sadd(f"mural:{key}", "member")
        running.place(2, 2, "ann")
        running.place(2, 2, "bob")
        assert running.counted("ann") == 1
        assert running.counted("bob") == 1
        assert running.get_json("/api/stats")["total_pixels"] == 2


class TestErrors:
    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/nowhere", 404),
            ("GET", "/api/place-pixel", 405),
            ("POST", "/api/canvas", 405),
        ],
    )
    def test_are_json(
        self, running: RunningMural, method: str, path: str, status: int
    ) -> None:
        answer = running.ask(method, path)
        assert answer.status == status
        assert isinstance(answer.json["error"], str)
        assert (status == 405) == ("Allow" in answer.headers)

    def test_show_nothing_from_inside(
        self,
        running: RunningMural,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def fail() -> bytes:
            raise RuntimeError("canary")

        monkeypatch.setattr(running.mural, "_render", fail)
        answer = running.get("/api/canvas")
        assert answer.status == 500
        assert answer.json == {"error": "internal error"}
        assert any(record.exc_info for record in caplog.records)


def test_runs_as_its_readme_says(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[1]
    app = root / "examples/mural/app"
    assert (
        f"flask --app {app.relative_to(root)} run"
        in (root / "examples/mural/README.md").read_text()
    )
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "flask", "--app", str(app), "run", "--port", str(port)],
        cwd=tmp_path,
        env={**os.environ, "REDIS_URL": "memory://", "MURAL_DB": ""},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(3600):
            try:
                page = urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60)
            except urllib.error.URLError:
                assert process.poll() is None
                time.sleep(0.05)
            else:
                break
        with page:
            assert b"<canvas" in page.read()
        assert (tmp_path / "mural.db").exists()
    finally:
        process.kill()
        process.wait()


class TestParts:
    def test_store_orders_placements_of_two_processes(self, tmp_path: Path) -> None:
        path = str(tmp_path / "mural.db")
        one, other = PixelStore(path), PixelStore(path)
        pixel = Pixel(1, 2, "#000000", "ann")
        placements = [one.place(pixel), other.place(pixel), one.place(pixel)]
        assert [p.sequence for p in placements] == [1, 2, 3]
        assert [p.old_owner for p in placements] == [None, "ann", "ann"]
        other.place_many([Pixel(0, n, "#111111", "bob") for n in range(5)])
        assert one.place(pixel).sequence == 9
        assert len(one.pixels()) == 6
        one.close()
        other.close()

    def test_store_keeps_nothing_of_a_failed_placement(self, tmp_path: Path) -> None:
        store = PixelStore(str(tmp_path / "mural.db"))
        with pytest.raises(sqlite3.Error):
            store.place(Pixel(1, 2, None, "ann"))  # type: ignore[arg-type]
        assert store.pixels() == []
        assert store.place(Pixel(1, 2, "#000000", "ann")).sequence == 1
        store.close()

    def test_store_is_in_wal_mode(self, tmp_path: Path) -> None:
        path = tmp_path / "mural.db"
        store = PixelStore(str(path))
        link = sqlite3.connect(path)
        assert link.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        link.close()
        store.close()

    def test_settings_come_from_the_environment(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REDIS_URL", "")
        monkeypatch.setenv("MURAL_DB", "other.db")
        monkeypatch.setenv("CACHE_CANVAS_TTL", "2.5")
        monkeypatch.setenv("MURAL_COOLDOWN", "0")
        monkeypatch.setenv("MURAL_CHECK", "7")
        assert Settings.from_env() == Settings(
            redis_url=None, database="other.db", canvas_ttl=2.5, cooldown=0, check=7
        )

    def test_settings_come_from_a_file_where_the_environment_has_none(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr("mural.settings.__file__", str(tmp_path / "settings.py"))
        (tmp_path / ".env").write_text("MURAL_DB=file.db\nMURAL_COOLDOWN=7\n")
        monkeypatch.setenv("MURAL_DB", "environment.db")
        monkeypatch.setenv("MURAL_COOLDOWN", "")
        settings = Settings.from_env()
        assert (settings.database, settings.cooldown) == ("environment.db", 7)

    def test_the_example_file_names_every_setting(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = Path(__file__).resolve().parents[1] / "examples/mural/.env.example"
        for line in path.read_text().splitlines():
            name, equals, value = line.partition("=")
            if equals:
                monkeypatch.setenv(name, value)
        assert Settings.from_env() == Settings(redis_url="redis://localhost:6379/0")

    @pytest.mark.parametrize("bad", ["soon", "-1", "nan", "inf", "1e99"])
    @pytest.mark.parametrize(
        "name", ["CACHE_CANVAS_TTL", "MURAL_COOLDOWN", "MURAL_CHECK"]
    )
    def test_a_bad_setting_is_named(
        self, monkeypatch: pytest.MonkeyPatch, name: str, bad: str
    ) -> None:
        monkeypatch.setenv(name, bad)
        with pytest.raises(ValueError, match=name):
            Settings.from_env()

    def test_the_same_bytes_are_inflated_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls = []

        def counted_inflate(body: bytes) -> bytes:
            calls.append(body)
            return inflate(body)

        monkeypatch.setattr("mural.canvas.inflate", counted_inflate)
        body = GzipBody()
        for _ in range(3):
            assert body.loads(bytes(bytearray(WHOLE))) == WHOLE
        assert len(calls) == 1


@pytest.mark.parametrize("workers", ["1", "3"])
def test_several_workers_without_redis_are_warned_of(
    executor: str,
    url: str,
    workers: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", workers)
    with RunningMural(url, tmp_path):
        warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
        assert len(warnings) == (executor == "engine" and workers == "3")
        assert all("set REDIS_URL" in r.getMessage() for r in warnings)
