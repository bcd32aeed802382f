"""MATRX over real HTTP: on Redis with two workers, on the engine, through an outage,
and in Chromium."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from browser import Page, browser
from outage_tools import Switch
from running_example import RunningExample, running_example, until
from servers import PASSWORD, Server, patient

PICTURE = "/api/devices/{}/apps/{}/picture.png"
DEVICES = ["kitchen", "hall", "desk"]
APPS = ["clock", "stocks", "weather"]


def matrx(
    folder: Path, url: str | None = None, workers: int = 1, **variables: str
) -> Any:
    variables = {"MATRX_SOURCE_SECONDS": "0", **variables}
    return running_example("matrx", folder, url, workers, **variables)


def picture(example: RunningExample, device: str, app: str) -> tuple[bytes, int]:
    """The PNG, and how often a source was asked for it."""
    answer = example.get(PICTURE.format(device, app))
    assert answer.status == 200, answer
    assert answer.headers.get_content_type() == "image/png"
    assert answer.headers["Cache-Control"] == "no-store"
    assert float(answer.headers["Matrx-Milliseconds"]) >= 0
    return answer.body, int(answer.headers["Matrx-Asked"])


def asked(example: RunningExample, device: str, app: str) -> int:
    return picture(example, device, app)[1]


def keys(example: RunningExample, device: str, app: str) -> Any:
    stats = example.get_json(f"/api/devices/{device}/apps/{app}/stats")
    assert (stats["app_id"], stats["device_id"]) == (app, device)
    return stats["keys"]


def flush(example: RunningExample, device: str, app: str | None = None) -> int:
    part = "" if app is None else f"/apps/{app}"
    answer = example.post_json(f"/api/devices/{device}{part}/flush")
    assert set(answer) == {"flushed"}
    return int(answer["flushed"])


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


def colors(rows: list[bytes]) -> set[bytes]:
    return {row[at : at + 3] for row in rows for at in range(0, len(row), 3)}


def play(example: RunningExample) -> None:
    """What is the same on each executor."""
    assert example.get_json("/api/devices") == {"devices": DEVICES, "apps": APPS}
    for app in APPS:
        assert len(colors(read_png(picture(example, "kitchen", app)[0]))) > 1
    # each app on each device has a cache of its own
    first, count = picture(example, "hall", "weather")
    assert count == 1
    assert picture(example, "hall", "weather") == (first, 0)
    assert asked(example, "desk", "weather") == 1
    assert [keys(example, d, "weather") for d in ("hall", "desk", "none")] == [1, 1, 0]
    # flushes end at the app and the device
    assert flush(example, "hall", "weather") == 1
    assert keys(example, "hall", "weather") == 0
    assert asked(example, "hall", "weather") == 1
    assert asked(example, "desk", "weather") == 0
    assert flush(example, "kitchen") == 3
    assert asked(example, "kitchen", "stocks") == 1
    assert asked(example, "hall", "weather") == 0
    assert flush(example, "nowhere") == 0
    # what is no app or device
    for path, status in (
        (PICTURE.format("hall", "render"), 404),
        (PICTURE.format("hall", "none"), 404),
        (PICTURE.format("d" * 65, "clock"), 400),
        (PICTURE.format("hall", "none").replace("picture.png", "stats"), 404),
    ):
        assert example.get(path).status == status, path
    assert example.post("/api/devices/a%2Fb/flush").status == 404
    assert "Traceback" not in example.log


def test_on_redis(password_server: Server, tmp_path: Path) -> None:
    """By the document's three variables."""
    password_server.cli("FLUSHALL")
    with matrx(
        tmp_path,
        REDIS_ADDR=f"127.0.0.1:{password_server.port}",
        REDIS_PASSWORD=PASSWORD,
        REDIS_DB="2",
    ) as example:
        play(example)
        health = example.get_json("/health/deep")
        assert (health["status"], health["mode"]) == ("ok", "redis")
        assert PASSWORD not in example.log
        assert PASSWORD not in str(health)


def test_on_the_engine(tmp_path: Path) -> None:
    with matrx(tmp_path) as example:
        play(example)
        assert example.get_json("/health/deep")["mode"] == "memory"


def test_workers_share(redis_server: Server, tmp_path: Path) -> None:
    with matrx(tmp_path, redis_server.patient_url, workers=2) as example:
        until(lambda: len(example.workers()) == 2, "both workers")
        first, count = picture(example, "hall", "stocks")
        assert count == 1
        for _ in range(6):
            assert picture(example, "hall", "stocks") == (first, 0)
        assert redis_server.cli("KEYS", "*") == [b"/stocks/hall/portfolio_quotes"]
        ttl = redis_server.cli("TTL", "/stocks/hall/portfolio_quotes")
        assert 0 < ttl <= 60
        for _ in range(4):
            assert flush(example, "hall") == 1
            # a worker may have to hear of the other's flush
            until(lambda: asked(example, "hall", "stocks") == 1, "the flush")


def test_an_outage(redis_server: Server, tmp_path: Path) -> None:
    """No caching while the server is away; what was flushed meanwhile is gone when it
    is back, and what was not is there."""
    switch = Switch(redis_server)
    try:
        with matrx(tmp_path, patient(switch.url)) as example:
            for device in ("hall", "desk"):
                until(lambda d=device: asked(example, d, "weather") == 0, "a hit")
            switch.off()
            until(lambda: keys(example, "hall", "weather") is None, "the outage")
            for _ in range(3):
                drawn, count = picture(example, "hall", "weather")
                assert count == 1
                read_png(drawn)
                assert flush(example, "hall") == 0
            assert example.get_json("/health/deep")["status"] == "degraded"
            switch.on()
            until(lambda: keys(example, "desk", "weather") == 1, "the return")
            assert asked(example, "desk", "weather") == 0
            assert asked(example, "hall", "weather") == 1
            until(lambda: asked(example, "hall", "weather") == 0, "a hit")
            assert "Traceback" not in example.log
            assert "App failed" not in example.log
    finally:
        switch.proxy.close()


def test_a_server_that_is_killed(fresh_server: Server, tmp_path: Path) -> None:
    with matrx(tmp_path, fresh_server.url) as example:
        until(lambda: asked(example, "hall", "weather") == 0, "a hit")
        fresh_server.kill()
        until(lambda: keys(example, "hall", "weather") is None, "the outage")
        assert [asked(example, "hall", "weather") for _ in range(3)] == [1, 1, 1]
        fresh_server.start()
        until(lambda: keys(example, "hall", "weather") is not None, "the return")
        until(lambda: asked(example, "hall", "weather") == 0, "a hit")
        assert "Traceback" not in example.log


# --- the page ---------------------------------------------------------------------

# What the picture of an app on a device shows: its pixels, once it is drawn.
PIXELS = """((image) => {
    if (!image || !image.complete || !image.naturalWidth) return null;
    const canvas = document.createElement('canvas');
    canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
    const context = canvas.getContext('2d');
    context.drawImage(image, 0, 0);
    const size = [canvas.width, canvas.height];
    return [size, [...context.getImageData(0, 0, ...size).data]];
})(document.querySelector("img[alt='%s on %s']"))"""


def shown(page: Page, app: str, device: str) -> list[bytes]:
    """The rows of the picture in the page."""
    (width, height), data = page.wait_for(PIXELS % (app, device))
    assert (width, height) == (64, 32)
    pixels = [bytes(data[at : at + 3]) for at in range(0, len(data), 4)]
    return [b"".join(pixels[64 * y : 64 * (y + 1)]) for y in range(height)]


def is_sent(page: Page, example: RunningExample, app: str) -> bool:
    return shown(page, app, "hall") == read_png(picture(example, "hall", app)[0])


def caption(device: str, app: str) -> str:
    """An expression: what stands below the picture."""
    place = DEVICES.index(device), APPS.index(app)
    return (
        f"(document.querySelectorAll('section')[{place[0]}]"
        f"?.querySelectorAll('figcaption span')[{place[1]}]?.textContent ?? '')"
    )


def test_page_shows_pictures(redis_server: Server, tmp_path: Path) -> None:
    """In Chromium: each device's pictures, as they were sent; what the flush buttons
    do; and that Redis is away."""
    switch = Switch(redis_server)
    try:
        with matrx(tmp_path, patient(switch.url), 2) as example, browser() as page:
            for app in APPS:
                picture(example, "hall", app)
            page.open(example.url)
            for device in DEVICES:
                for app in APPS:
                    assert len(colors(shown(page, app, device))) > 1
                    page.wait_for(f"{caption(device, app)}.includes(' ms, ')")
            # the clock counts; the others were cached, or are when they are next drawn
            for app in ("stocks", "weather"):
                until(lambda app=app: is_sent(page, example, app), f"the same {app}")
                page.wait_for(f"{caption('hall', app)}.includes(', cached, 1 key')")
            button = "section[data-device=hall] figure:nth-child(3) figcaption button"
            page.click(button)
            page.wait_for(f"{caption('hall', 'weather')}.includes('source asked')")
            page.click("section[data-device=hall] figure:nth-child(3) .screen")
            page.wait_for(f"{caption('hall', 'weather')}.includes(', cached, ')")
            page.click("section[data-device=desk] h2 button")
            page.wait_for(f"{caption('desk', 'stocks')}.includes('source asked')")
            switch.off()
            page.click("section[data-device=hall] figure:nth-child(3) .screen")
            page.wait_for(f"{caption('hall', 'weather')}.includes('Redis is away')")
            assert len(colors(shown(page, "weather", "hall"))) > 1
            assert page.errors == []
            assert "Traceback" not in example.log
    finally:
        switch.proxy.close()


# --- in this process --------------------------------------------------------------


def test_settings_that_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.mark.parametrize("text", ["sun", "rain", "snow", "wind"])
def test_every_weather_has_a_picture(text: str) -> None:
    from matrx.app import APPS as PATHS
    from matrx.pictures import draw
    from redlane import NoOpCache
    from redlane.starlark import Processor

    def fetch(place: str) -> dict[str, Any]:
        return {"text": text, "degrees": 29.5}

    processor = Processor(modules={"sources.star": {"fetch_weather": fetch}})
    described = processor.render_app_with_cache(PATHS["weather"], NoOpCache())
    assert len(colors(read_png(draw(described).png()))) == (3 if text != "snow" else 2)
