"""Nothing leaks: each type has a script under leaks/, run in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent / "leaks"
NAMES = sorted(path.stem for path in SCRIPTS.glob("*.py") if path.stem != "measure")

# Half as many objects are what measure.py takes for the interpreter's own, up to a
# bound. What leaks does so without the sanitizers too, and they count no memory: there
# the scripts only run.
ROUNDS = 100 if "REDLANE_SANITIZED" in os.environ else 500

# What a subscription gives out and needs has its script with it.
SUBSCRIPTIONS = {"Message", "BytesMessage", "Gap", "LoopBell", "SubscriptionWait"}
LIMITS = {"Decision", "LimitStatus", "LimitMethod"}


def run_script(name: str, url: str, rounds: int) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", SCRIPTS / f"{name}.py", url, str(rounds)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert ": clean" in done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_nothing_leaks_on_the_engine(name: str) -> None:
    run_script(name, "memory://", ROUNDS)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_leaks_on_redis(name: str, redis_url: str) -> None:
    run_script(name, redis_url, ROUNDS)


@pytest.mark.soak
@pytest.mark.parametrize("name", NAMES)
def test_nothing_leaks_in_the_long_run(name: str, redis_url: str) -> None:
    assert os.environ.get("REDLANE_SOAK") == "1"
    run_script(name, "memory://", 100_000)
    run_script(name, redis_url, 20_000)


def own_types() -> set[str]:
    """The module's types, those included that only calls give out. By repr: a type may
    have a __module__ for its objects."""
    program = (
        "import gc, redlane._core\n"
        "for made in gc.get_objects():\n"
        "    if isinstance(made, type): print(repr(made))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(re.findall(r"<class 'redlane\.(?:_core\.)?(\w+)'>", done.stdout))


def measured_types(name: str) -> set[str]:
    """The types whose references a script counts."""
    done = subprocess.run(
        [sys.executable, SCRIPTS / f"{name}.py", "memory://", "0"],
        capture_output=True,
        text=True,
        check=False,
    )
    return set(done.stdout.splitlines()[0].removeprefix("types: ").split())


def test_every_type_has_a_script() -> None:
    """One by its name (errors have one together), in which its references count."""
    wanted = own_types()
    assert wanted >= {"Client", "CacheInfo", "ScanIterator", "CommandMethod"}
    by_script: dict[str, set[str]] = {}
    for name in wanted:
        script = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
        if script.endswith("_error"):
            script = "errors"
        if script == "cache_info":
            script = "cached_function"
        if name in SUBSCRIPTIONS:
            script = "subscription"
        if name in LIMITS:
            script = "rate_limiter"
        if script == "cached_class_method":
            script = "cached_method"
        by_script.setdefault(script, set()).add(name)
    assert set(by_script) - set(NAMES) == set()
    for script, types in by_script.items():
        assert types - measured_types(script) == set(), script


@pytest.mark.parametrize(
    ("leak", "words"),
    [
        ("kept.append(object())", "blocks"),
        ("kept.append([])", "objects"),
        ("kept.append(Thing())", "references to Thing"),
        ("kept.append(os.dup(0))", "open files"),
        ("ctypes.CDLL(None).malloc(64)", "bytes of C memory"),
    ],
)
def test_a_leak_is_seen(leak: str, words: str) -> None:
    if words != "objects" and os.environ.get("REDLANE_SANITIZED"):
        leak, words = (
            "kept.append([])",
            "objects",
        )  # a sanitizer's malloc counts nothing
    program = (
        "import ctypes, os, sys\n"
        f"sys.path.insert(0, {str(SCRIPTS)!r})\n"
        "from measure import growth\n"
        "class Thing: pass\n"
        "kept = []\n"
        f"print(growth(lambda: {leak}, [Thing], 300))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert words in done.stdout
