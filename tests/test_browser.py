"""What the tests of the examples' pages are driven with."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import browser

PAGE = (
    "data:text/html,<title>t</title><input id=a><button id=b"
    " onclick=\"b.textContent=a.value+b.textContent\">!</button>"
)


def test_pages_are_users_apart(tmp_path: Path) -> None:
    with browser() as page:
        other = page.another()
        for one, word in ((page, "left"), (other, "right")):
            one.open(PAGE)
            one.fill("#a", word)
            one.click("#b")
        page.wait_for("b.textContent === 'left!'")
        other.wait_for("b.textContent === 'right!'")
        assert page.text("#b") == "left!"
        assert page.errors == []
        page.screenshot(tmp_path / "page.png")
        assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
        with pytest.raises(AssertionError, match="never came: 1 === 2"):
            page.wait_for("1 === 2", seconds=0.1)
        page.evaluate("setTimeout(() => { throw new Error('seen') }, 0)")
        page.wait_for("new Promise((done) => setTimeout(() => done(true), 50))")
        assert [error.split("\n")[0] for error in page.errors] == ["Error: seen"]
