"""The Mural as its README starts it: gunicorn's workers, a real Redis or none, and two
people in Chromium."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import Page, browser
from outage_tools import wait_until
from running_example import RunningExample, running_example
from servers import Server

RED = [228, 0, 43, 255]  # of the palette
MIDDLE = [250, 250]
QUARTER = [125, 125]


def color_at(page: Page, place: list[int]) -> str:
    """An expression: what is drawn there."""
    return f"[...context.getImageData({place[0]}, {place[1]}, 1, 1).data].join()"


def enter(page: Page, mural: RunningExample) -> None:
    page.open(mural.url)
    page.wait_for("document.getElementById('link').textContent === 'live'")


def test_two_people_see_each_others_pixels(
    redis_server: Server, tmp_path: Path
) -> None:
    """Two browsers and two workers: each draws what the other places; the cooldown
    shows; zoom and drag place nothing, and a click lands where it is aimed."""
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
        for page in (first, second):
            enter(page, mural)
        first.click("#palette button[value='#e4002b']")
        first.click("#canvas", (0.501, 0.501))
        for page in (first, second):
            page.wait_for(f"{color_at(page, MIDDLE)} === '{','.join(map(str, RED))}'")
        first.wait_for("cooldown.textContent.startsWith('Wait ')")
        assert second.text("#cooldown") == "Click to place a pixel."

        first.click("#canvas", (0.2, 0.2))
        first.wait_for("readyAt > Date.now()")
        second.wheel("#frame", (0.25, 0.25), -100)
        second.wait_for("view.zoom > 1")
        left = second.evaluate("view.left")
        second.drag("#frame", (0.5, 0.5), (-60, -40))
        second.wait_for(f"view.left < {left}")
        second.drag("#frame", (0.5, 0.5), (60, 40))
        second.wait_for(f"Math.abs(view.left - {left}) < 1")
        assert mural.get_json("/api/stats")["total_pixels"] == 1

        second.click("#frame", (0.2504, 0.2504))
        for page in (first, second):
            page.wait_for(f"{color_at(page, QUARTER)} === '255,0,0,255'")
        for page in (first, second):
            page.wait_for("total.textContent === '2' && mine === 1")
            assert page.errors == []
        assert mural.get_json("/api/stats")["total_pixels"] == 2


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
