"""The near cache as plain C programs, without Python: what they are built of, and a
driver that does what it is told by lines. Nothing here knows the Python package."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compiled import compile_objects, run_compiler

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests" / "core"
HIREDIS = ("read.c", "sds.c", "alloc.c")
ASAN = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
TSAN = ["-fsanitize=thread"]
WITH_PYTHON = {"exchange.c", "pool.c", "reply_bulk.c", "reply_object.c"}
WITH_PYTHON |= {"channel.c", "loop.c", "stream.c", "stream_io.c", "stream_open.c"}
FLAGS = ["-std=gnu11", "-g1", "-O0", "-DNDEBUG", "-DHIREDIS_FLOAT_STRTOD"]
FLAGS += [f"-I{ROOT / 'src'}", f"-I{TESTS}", f"-isystem{ROOT / 'vendor'}"]
LIMIT = 30.0  # seconds to wait for what must come


def sources_of(layer: str) -> list[Path]:
    """Those of a layer's files that do not include Python.h."""
    found = sorted((ROOT / "src" / layer).glob("*.c"))
    return [path for path in found if path.name not in WITH_PYTHON]


def compile_layer(layer: str, *flags: str) -> list[Path]:
    """A layer as objects; "hiredis" is one too."""
    sources = sources_of(layer)
    if layer == "hiredis":
        sources = [ROOT / "vendor" / "hiredis" / name for name in HIREDIS]
    return compile_objects(sources, *FLAGS, *flags)


def compile_layers(*layers: str, flags: list[str]) -> list[Path]:
    return [path for layer in layers for path in compile_layer(layer, *flags)]


def compile_library(*flags: str) -> list[Path]:
    """The near cache and all that it uses as objects, for compile_near."""
    return compile_layers("near", "wire", "core", "hiredis", flags=[*flags])


def compile_near(
    target: Path, sources: list[Path], library: list[Path], *flags: str
) -> Path:
    """A program of `sources` and the near cache, at `target`."""
    libraries = ("-lm", "-lpthread", "-lssl", "-lcrypto")
    run_compiler(*FLAGS, *flags, *sources, *library, "-o", target, *libraries)
    return target


class Driver:
    """One near cache in a process of its own: `near("find k:1")` gives the answer."""

    def __init__(self, program: Path, host: str, port: int, **options: object) -> None:
        words = [f"{name}={value}" for name, value in options.items()]
        self.process = subprocess.Popen(
            [program, host, str(port), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, line: str) -> str:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer.endswith("\n"), "the driver ended"
        return answer[:-1]

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("stats"))
        return found

    def until(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The statistics, once they are so."""
        end = time.monotonic() + LIMIT
        while not holds(stats := self.stats()):
            assert time.monotonic() < end, stats
            time.sleep(0.005)
        return stats

    def confirmed(self, links: int = 1) -> dict[str, Any]:
        """The statistics, once that many links have been confirmed and one is."""
        return self.until(
            lambda stats: stats["state"] == "confirmed" and stats["links"] >= links
        )

    def gone(self, key: str) -> None:
        """Waits until a key is no hit."""
        end = time.monotonic() + LIMIT
        while self(f"find {key}") != "-":
            assert time.monotonic() < end
            time.sleep(0.001)

    def keep(self, key: str, value: str, pttl: int = 3_600_000) -> None:
        """Stores a value as if it had been read; a message that comes in between has it
        tried again."""
        end = time.monotonic() + LIMIT
        while True:
            good = self(f"ticket 0 {key}") == "good"
            if good and self(f"store 0 {key} {value} {pttl}") == "stored":
                return
            assert time.monotonic() < end, self.stats()

    def close(self) -> None:
        """Ends it as a program ends; the sanitizers must have found nothing."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        try:
            assert self.process.wait(60) == 0
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
