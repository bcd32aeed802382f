"""A clock that stands where a test sets it: for a server, and for the extension's own
code in a process that was started with it (clock/set_clock.c says how)."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import subprocess
import time
from pathlib import Path

from servers import Server

SOURCE = Path(__file__).resolve().parent / "clock" / "set_clock.c"


def compile_clock(folder: Path) -> Path:
    target = folder / "set_clock.so"
    command = ["gcc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-fPIC"]
    command += ["-shared", "-o", str(target), str(SOURCE)]
    subprocess.run(command, check=True, timeout=120)
    return target


def environment(library: Path, file: Path) -> dict[str, str]:
    return {"LD_PRELOAD": str(library), "SET_CLOCK": str(file)}


class ClockServer(Server):
    """A server whose Unix time is what the clock in the file says."""

    def __init__(self, library: Path, file: Path, binary: str) -> None:
        self.words = {**environment(library, file), "SET_CLOCK_OF_SERVER": "1"}
        super().__init__(binary=binary)

    def command(self, port: int) -> list[str]:
        words = [f"{name}={value}" for name, value in self.words.items()]
        return ["env", *words, *super().command(port)]


class SetClock:
    """The clock in a file. Time is in microseconds, since 1970."""

    def __init__(self, file: Path, now: int) -> None:
        if not file.exists():
            file.write_bytes(bytes(16))
        with file.open("r+b") as shared:
            self._map = mmap.mmap(shared.fileno(), 16)
        self.now = now
        self._monotonic = time.monotonic_ns()
        self.move(0)

    def move(self, microseconds: int) -> None:
        self.now += microseconds
        self._monotonic += microseconds * 1000
        self._map[:] = struct.pack("=qq", self.now * 1000, self._monotonic)


def rule_extension(library: str) -> None:
    """From now on the extension's code in this process goes by the set clock."""
    bounds = [
        [int(part, 16) for part in line.split()[0].split("-")]
        for line in Path(f"/proc/{os.getpid()}/maps").read_text().splitlines()
        if "/_core." in line
    ]
    assert bounds
    ctypes.CDLL(library).set_clock_range(
        ctypes.c_size_t(min(start for start, _ in bounds)),
        ctypes.c_size_t(max(end for _, end in bounds)),
    )
