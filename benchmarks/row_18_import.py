"""Row 18: what `import redlane` adds to the start of an interpreter."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from time import perf_counter

from benchmarks.harness import (
    OURS,
    Bench,
    Fact,
    Lineup,
    Measure,
    Result,
    Unavailable,
    at_most_over,
)

ROW = 18
BARE = "bare interpreter"
LATE = ("asyncio", "ssl", "msgspec", "flask", "fastapi", "starlette", "httpx")


def run(bench: Bench) -> list[Result]:
    lineup = Lineup(ROW, "import redlane")
    with tempfile.TemporaryDirectory(prefix="redlane-bench-") as folder:

        def start(code: str) -> Measure:
            if code != "pass":
                _python(folder, code)

            def measure() -> float:
                begin = perf_counter()
                _python(folder, code)
                return perf_counter() - begin

            return measure

        lineup.add(OURS, "ours", lambda: start("import redlane"))
        lineup.add("import redis", "peer", lambda: start("import redis"))
        lineup.add(BARE, "floor", lambda: start("pass"))
        result = lineup.race(bench.rounds(60), [at_most_over(0.015, BARE)])
        if OURS in result.times:
            result.facts.append(_late_modules(folder))
        return [result]


def _late_modules(folder: str) -> Fact:
    code = f"import sys, redlane; print(*(m for m in {LATE!r} if m in sys.modules))"
    early = _python(folder, code).split()
    return Fact(
        f"late modules that `import redlane` loads: {', '.join(early) or 'none'}",
        not early,
    )


def _python(folder: str, code: str) -> str:
    """Runs code in a new interpreter, away from the source tree."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        cwd=folder,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise Unavailable(done.stderr.strip().splitlines()[-1])
    return done.stdout
