"""Every example starts by the one command of its README, `make run-<name>`, which runs
the script that is run here, with two workers on Redis."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from running_example import EXAMPLES, READY, ROOT, running_example, until
from servers import Server

NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/.env.example"))


def test_all_are_known() -> None:
    assert sorted(READY) == NAMES
    makefile = (ROOT / "Makefile").read_text()
    assert f"\nEXAMPLES := {' '.join(NAMES)}\n" in makefile


@pytest.mark.parametrize("name", NAMES)
class TestExample:
    def test_readme_has_the_command(self, name: str) -> None:
        readme = (EXAMPLES / name / "README.md").read_text(encoding="utf-8")
        assert re.search(rf"^make run-{name}$", readme, re.MULTILINE)

    def test_starts_and_shows_its_page(
        self, name: str, redis_server: Server, tmp_path: Path
    ) -> None:
        own = {
            "MURAL_DB": str(tmp_path / "mural.db"),
            "VIDEOCACHE_MEDIA": str(tmp_path),
        }
        with running_example(
            name, tmp_path, redis_server.patient_url, workers=2, **own
        ) as example:
            until(lambda: len(example.workers()) == 2, "both workers")
            page = example.get("/")
            assert page.status == 200
            assert page.headers.get_content_type() == "text/html"
            assert "Traceback" not in example.log
