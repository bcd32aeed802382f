"""The Mural as its README starts it: gunicorn's workers, a real Redis or none, and two
people in Chromium."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from browser import Page, browser
from outage_tools import wait_until
from running_example import EXAMPLES, RunningExample, running_example
from servers import Server

RED, GREEN = "228,0,43,255", "0,165,80,255"  # of the palette
SIZE = 500


def middle_of(x: int, y: int) -> tuple[float, float]:
    """Of a place of the canvas, as parts of its width and height."""
    return (x + 0.5) / SIZE, (y + 0.5) / SIZE


def is_drawn(x: int, y: int, color: str) -> str:
    """An expression."""
    pixel = f"context.getImageData({x}, {y}, 1, 1).data"
    return f"[...{pixel}].join() === '{color}'"


def is_shown(element: str, text: str) -> str:
    return f"document.getElementById('{element}').textContent === '{text}'"


def enter(page: Page, mural: RunningExample) -> None:
    page.open(mural.url)
    page.wait_for(is_shown("link", "live"))


def test_two_people_see_each_others_pixels(
    redis_server: Server, tmp_path: Path
) -> None:
    """Two browsers and two workers: each draws what the other places, and both are
    told the counts; the cooldown runs; zoom and drag place nothing."""
    with (
        running_example(
            "mural",
            tmp_path,
            redis_server.patient_url,
            workers=2,
            MURAL_DB=str(tmp_path / "mural.db"),
            MURAL_COOLDOWN="600",
        ) as mural,
        browser() as first,
    ):
        second = first.another()
        pages = first, second
        for page in pages:
            enter(page, mural)
        first.click("#palette button[value='#e4002b']")
        first.click("#canvas", middle_of(250, 250))
        for page in pages:
            page.wait_for(is_drawn(250, 250, RED))
        first.wait_for("/^Wait (600|5..) s.$/.test(element('cooldown').textContent)")
        assert second.text("#cooldown") == "Click to place a pixel."
        for page, mine in ((first, "1"), (second, "0")):
            page.wait_for(is_shown("total", "1"))
            page.wait_for(is_shown("mine", mine))
            assert "250, 250" in page.text("#latest")
        left = first.text("#cooldown")
        first.wait_for(f"element('cooldown').textContent !== '{left}'")

        zoom_and_drag(second)
        assert mural.get_json("/api/stats")["total_pixels"] == 1
        second.fill("#color", "#00a550")
        second.click("#canvas", middle_of(125, 130))  # of what is zoomed and moved
        for page in pages:
            page.wait_for(is_drawn(125, 130, GREEN))
        for page in pages:
            page.wait_for(is_shown("total", "2"))
            page.wait_for(is_shown("mine", "1"))
        second.hover("#canvas", middle_of(125, 130))
        second.wait_for(is_shown("where", "125, 130 · you"))

        first.open(mural.url)  # who it is, and its cooldown, outlast a reload
        first.wait_for(is_shown("mine", "1"))
        first.wait_for(is_drawn(125, 130, GREEN))
        assert first.text("#cooldown").startswith("Wait ")
        first.evaluate("cooldown.readyAt = 1")
        first.click("#canvas", middle_of(10, 10))
        first.wait_for("cooldown.readyAt > Date.now()")  # it was told to wait
        assert mural.get_json("/api/stats")["total_pixels"] == 2
        for page in pages:
            assert page.errors == []


def zoom_and_drag(page: Page) -> None:
    for _ in range(4):
        page.wheel("#frame", (0.25, 0.25), -100)
    page.wait_for("view.zoom > 2.4")
    assert page.text("#scale") == "244 %"
    left, top = page.evaluate("[view.left, view.top]")
    page.drag("#frame", (0.5, 0.5), (-60, -40))
    page.wait_for(f"view.left === {left - 60} && view.top === {top - 40}")
    page.drag("#frame", (0.5, 0.5), (100, 70))
    page.wait_for(f"view.left === {left + 40} && view.top === {top + 30}")
    page.click("#farther")
    page.click("#closer")
    page.wait_for("Math.round(view.zoom * 100) === 244")


@pytest.mark.parametrize("place", ["redis", "engine"])
def test_it_serves_and_counts(place: str, redis_server: Server, tmp_path: Path) -> None:
    url = redis_server.patient_url if place == "redis" else None
    database = str(tmp_path / "mural.db")
    with running_example("mural", tmp_path, url, MURAL_DB=database) as mural:
        pixel = {"x": 1, "y": 2, "color": "#00FF00", "user_id": "ann"}
        assert mural.post("/api/place-pixel", pixel).status == 200
        again = mural.post("/api/place-pixel", pixel)
        assert again.status == 429
        assert 1 <= again.json["retry_after"] <= 5
        assert mural.get_json("/api/canvas") == {
            "1,2": {"color": "#00FF00", "user_id": "ann"}
        }
        assert mural.get_json("/api/user-stats/ann")["user_pixels"] == 1


def test_it_outlives_its_redis(fresh_server: Server, tmp_path: Path) -> None:
    """Killed, it serves; back again, nothing is lost or counted twice."""
    database = str(tmp_path / "mural.db")
    with running_example(
        "mural", tmp_path, fresh_server.url, workers=2, MURAL_DB=database
    ) as mural:
        for number in range(3):
            if number == 1:
                fresh_server.kill()
            if number == 2:
                fresh_server.start()
            pixel = {"x": number, "y": 0, "color": "#00FF00", "user_id": f"u{number}"}
            assert mural.post("/api/place-pixel", pixel).status == 200
        # The worker that was not told looks into the file after a second.
        wait_until(
            lambda: set(mural.get_json("/api/canvas")) == {"0,0", "1,0", "2,0"},
            "every placement",
        )
        assert "Traceback" not in mural.log


def test_settings_are_told() -> None:
    readme = (EXAMPLES / "mural" / "README.md").read_text(encoding="utf-8")
    example = (EXAMPLES / "mural" / ".env.example").read_text(encoding="utf-8")
    settings = (EXAMPLES / "mural" / "settings.py").read_text(encoding="utf-8")
    variables = re.findall(r"^([A-Z_]+)=", example, re.MULTILINE)
    assert len(variables) == 5
    for variable in variables:
        assert f"| `{variable}` |" in readme
        assert f'"{variable}"' in settings
