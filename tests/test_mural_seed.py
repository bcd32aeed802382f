"""The Python of the Mural's document, as it is written there, on both executors.

Each file of tests/seeds/ is one snippet; it runs as the body of a function whose
arguments are the names that the document leaves open.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, jsonify
from mural.settings import Settings
from mural.store import Pixel, PixelStore
from redlane import Client

SEEDS = Path(__file__).parent / "seeds"


def run_snippet(name: str, **names: Any) -> Any:
    """What the snippet returns, or else its names."""
    body = textwrap.indent((SEEDS / name).read_text(), "    ")
    source = f"def snippet({', '.join(names)}):\n{body}\n    return locals()\n"
    scope: dict[str, Any] = {}
    exec(compile(source, name, "exec"), scope)
    snippet: Callable[..., Any] = scope["snippet"]
    return snippet(**names)


@pytest.fixture
def mural(client: Client, tmp_path: Path) -> Iterator[Any]:
    from mural.canvas import Mural

    store = PixelStore(str(tmp_path / "mural.db"))
    made = Mural(client, store, Settings(cooldown=0))
    made.place(Pixel(1, 1, "#FF0000", "ann"))
    yield made
    made.close()


def test_counting(mural: Any) -> None:
    names = run_snippet("mural_before.py", canvas_data=mural.canvas_data, user_id="ann")
    assert names["user_pixels"] == mural.user_pixels.get("ann") == 1


@pytest.mark.parametrize("new_pixel", [True, False])
def test_counters(mural: Any, new_pixel: bool) -> None:
    assert mural.user_pixels.get("ann") == 1
    assert mural.total_pixels.get() == 1
    names = run_snippet(
        "mural_counters.py", cache=mural.cache, user_id="ann", new_pixel=new_pixel
    )
    assert names["user_pixels"] == 1
    assert mural.user_pixels.get("ann") == 1 + new_pixel
    assert mural.total_pixels.get() == 1 + new_pixel


def test_counters_that_are_not_there_are_not_made_up(mural: Any) -> None:
    run_snippet("mural_counters.py", cache=mural.cache, user_id="ann", new_pixel=True)
    assert mural.user_pixels.get("ann") == 1
    assert mural.total_pixels.get() == 1


def test_corruption(mural: Any) -> None:
    with Flask(__name__).app_context():
        response = run_snippet(
            "mural_corruption.py", canvas_data=mural.canvas_data, jsonify=jsonify
        )
    assert response.get_json() == mural.canvas_data
