"""MATRX over real HTTP, from a process of its own: on Redis, on the engine, and through
an outage."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from outage_tools import wait_until
from servers import PASSWORD, Server, free_port

ROOT = Path(__file__).resolve().parent.parent
PICTURE = "/api/devices/{}/apps/{}/picture.png"
SECONDS = 60
OURS = ("REDIS_", "UPSTASH_", "MATRX_", "WEB_CONCURRENCY")

Start = Callable[..., "Service"]


class Service:
    """The service, started as its README says."""

    def __init__(self, log: Path, **variables: str) -> None:
        self.port = free_port()
        self._log = log
        kept = {k: v for k, v in os.environ.items() if not k.startswith(OURS)}
        kept.update(MATRX_SOURCE_SECONDS="0", **variables)
        program = ("uvicorn", "--factory", "matrx.app:create_app")
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *program, "--port", str(self.port)],
                cwd=ROOT / "examples",
                env=kept,
                stdout=file,
                stderr=file,
            )

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def wait(self) -> None:
        end = time.monotonic() + 2 * SECONDS
        while True:
            try:
                self.ask("/health")
                return
            except OSError:
                assert self._process.poll() is None, self.log
                assert time.monotonic() < end, self.log
                time.sleep(0.05)

    def ask(self, path: str, method: str = "GET") -> tuple[bytes, Any]:
        """Body and headers."""
        request = Request(f"http://127.0.0.1:{self.port}{path}", method=method)
        with urlopen(request, timeout=SECONDS) as answer:
            return answer.read(), answer.headers

    def json(self, path: str, method: str = "GET") -> Any:
        return json.loads(self.ask(path, method)[0])

    def picture(self, device: str, app: str) -> tuple[bytes, int]:
        """The PNG, and how often a source was asked for it."""
        body, headers = self.ask(PICTURE.format(device, app))
        assert headers["Content-Type"] == "image/png"
        return body, int(headers["Matrx-Asked"])

    def keys(self, device: str, app: str) -> Any:
        return self.json(f"/api/devices/{device}/apps/{app}/stats")["keys"]

    def flush(self, device: str, app: str | None = None) -> int:
        part = "" if app is None else f"/apps/{app}"
        flushed = self.json(f"/api/devices/{device}{part}/flush", "POST")["flushed"]
        return int(flushed)

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(SECONDS)
        finally:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[Service] = []

    def begin(**variables: str) -> Service:
        running.append(Service(tmp_path / f"{len(running)}.log", **variables))
        running[-1].wait()
        return running[-1]

    yield begin
    for service in running:
        service.close()


def read_png(data: bytes) -> list[bytes]:
    """Its rows, after a look at every part of it."""
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    found: dict[bytes, bytes] = {}
    place = 8
    while place < len(data):
        (length,) = struct.unpack_from(">I", data, place)
        name = data[place + 4 : place + 8]
        found[name] = data[place + 8 : place + 8 + length]
        (check,) = struct.unpack_from(">I", data, place + 8 + length)
        assert check == zlib.crc32(name + found[name])
        place += 12 + length
    assert list(found) == [b"IHDR", b"IDAT", b"IEND"]
    assert struct.unpack(">IIBBBBB", found[b"IHDR"]) == (64, 32, 8, 2, 0, 0, 0)
    lines = zlib.decompress(found[b"IDAT"])
    assert len(lines) == 32 * (1 + 3 * 64)
    rows = [lines[start : start + 193] for start in range(0, len(lines), 193)]
    assert all(row[0] == 0 for row in rows)
    return [row[1:] for row in rows]


def refused(service: Service, path: str, method: str = "GET") -> int:
    with pytest.raises(HTTPError) as caught:
        service.ask(path, method)
    caught.value.close()
    return caught.value.code


def play(service: Service) -> None:
    """What is the same on each executor."""
    described = service.json("/api/devices")
    assert described == {
        "devices": ["kitchen", "hall", "desk"],
        "apps": ["clock", "stocks", "weather"],
    }
    for app in described["apps"]:
        rows = read_png(service.picture("kitchen", app)[0])
        assert len({row[at : at + 3] for row in rows for at in range(0, 192, 3)}) > 1
    # each app on each device has a cache of its own
    first, asked = service.picture("hall", "weather")
    assert asked == 1
    assert service.picture("hall", "weather") == (first, 0)
    assert service.picture("desk", "weather")[1] == 1
    assert [service.keys(d, "weather") for d in ("hall", "desk", "none")] == [1, 1, 0]
    # flushes end at the app and the device
    assert service.flush("hall", "weather") == 1
    assert service.keys("hall", "weather") == 0
    assert service.picture("hall", "weather")[1] == 1
    assert service.picture("desk", "weather")[1] == 0
    assert service.flush("kitchen") == 3
    assert service.picture("kitchen", "stocks")[1] == 1
    assert service.picture("hall", "weather")[1] == 0
    # what is no app or device
    assert refused(service, PICTURE.format("hall", "render")) == 404
    assert refused(service, PICTURE.format("hall", "none")) == 404
    assert refused(service, PICTURE.format("d" * 65, "clock")) == 400
    assert refused(service, "/api/devices/a%2Fb/flush", "POST") == 404
    page = service.ask("/")[0].decode()
    assert "/static/matrx.js" in page
    assert b"picture.png" in service.ask("/static/matrx.js")[0]


def test_on_redis(start: Start, password_server: Server) -> None:
    service = start(
        REDIS_ADDR=f"127.0.0.1:{password_server.port}",
        REDIS_PASSWORD=PASSWORD,
        REDIS_DB="2",
    )
    play(service)
    assert service.json("/health/deep")["mode"] == "redis"
    assert PASSWORD not in service.log
    assert "Traceback" not in service.log


def test_on_the_engine(start: Start) -> None:
    service = start()
    play(service)
    assert "Traceback" not in service.log


def test_two_processes_share(start: Start, redis_server: Server) -> None:
    one, other = (start(REDIS_URL=redis_server.patient_url) for _ in range(2))
    picture, asked = one.picture("hall", "stocks")
    assert asked == 1
    assert other.picture("hall", "stocks") == (picture, 0)
    assert redis_server.cli("KEYS", "*") == [b"/stocks/hall/portfolio_quotes"]
    ttl = redis_server.cli("TTL", "/stocks/hall/portfolio_quotes")
    assert 0 < ttl <= 60
    assert other.flush("hall") == 1
    assert one.picture("hall", "stocks")[1] == 1


def test_an_outage(start: Start, fresh_server: Server) -> None:
    service = start(REDIS_ADDR=f"127.0.0.1:{fresh_server.port}")
    wait_until(lambda: service.keys("hall", "weather") is not None, "the server")
    wait_until(lambda: service.picture("hall", "weather")[1] == 0, "a hit")
    fresh_server.kill()
    for _ in range(3):
        picture, asked = service.picture("hall", "weather")
        assert asked == 1
        read_png(picture)
        assert service.keys("hall", "weather") is None
        assert service.flush("hall") == 0
    assert service.json("/health/deep")["status"] == "degraded"
    fresh_server.start()
    wait_until(lambda: service.keys("hall", "weather") is not None, "the return")
    wait_until(lambda: service.picture("hall", "weather")[1] == 0, "a hit")
    assert "Traceback" not in service.log
    assert "App failed" not in service.log


def test_settings_that_are_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from matrx.settings import Settings

    for name, bad in (
        ("MATRX_SOURCE_SECONDS", "x"),
        ("MATRX_SOURCE_SECONDS", "-1"),
        ("MATRX_DEVICES", "a/b"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, bad)
            with pytest.raises(ValueError, match=name):
                Settings.from_env()


@pytest.mark.parametrize(
    "wrong",
    [
        *(None, [], {}, {"background": "red", "children": []}),
        *({"background": "#000000"}, {"background": "#000000", "children": [5]}),
        {"background": "#000000", "children": [{"kind": "box", "x": 0, "y": 0}]},
        {
            "background": "#000000",
            "children": [{"kind": "?", "x": 0, "y": 0, "color": "#000000"}],
        },
    ],
)
def test_what_is_no_picture(wrong: Any) -> None:
    from matrx.pictures import PictureError, draw

    with pytest.raises(PictureError):
        draw(wrong)


def test_what_lies_outside_is_left_out() -> None:
    from matrx.pictures import draw

    box = {"kind": "box", "color": "#ff0000"}
    boxes = [
        {**box, "x": -5, "y": -5, "width": 6, "height": 6},
        {**box, "x": 63, "y": 31, "width": 10**9, "height": 10**9},
        {**box, "x": 100, "y": 100, "width": 5, "height": 5},
    ]
    rows = read_png(draw({"background": "#000000", "children": boxes}).png())
    red = [
        (x, y)
        for y, row in enumerate(rows)
        for x in range(64)
        if row[3 * x : 3 * x + 3] == b"\xff\0\0"
    ]
    assert red == [(0, 0), (63, 31)]


def test_the_tutorial_shows_the_example() -> None:
    text = (ROOT / "docs" / "tutorials" / "matrx.md").read_text(encoding="utf-8")
    shown = re.findall(r"^<!-- from (\S+) -->\n```\w*\n(.*?)^```$", text, re.M | re.S)
    assert len(shown) == 2
    for name, code in shown:
        lines = {line.strip() for line in (ROOT / name).read_text("utf-8").splitlines()}
        assert {line.strip() for line in code.splitlines()} <= lines, name
