"""What the leak scripts share: run one thing many times and see what has grown.

Each script is a process of its own, so that nothing another test leaves behind counts.
It prints the types whose references it counts and a line for each case, and exits with
1 if one of them leaks; with no rounds it prints the types alone. Usage:

    python tests/leaks/client.py URL [ROUNDS]
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

ROUNDS = 2000
# What may grow over all rounds, whatever their number: caches of the interpreter's own
# and of the allocator's, which fill up once.
SLACK_BLOCKS = 250
SLACK_BYTES = 16 << 10
# A probe that the background thread had begun holds what it needs until its end.
SETTLE_SECONDS = 1.0

Once = Callable[[], Any]


MALLINFO_FIELDS = """\
arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"""


class Mallinfo(ctypes.Structure):
    """The C library's struct mallinfo2."""

    _fields_ = [(name, ctypes.c_size_t) for name in MALLINFO_FIELDS.split()]


def heap_bytes() -> int:
    """Bytes that C code has from malloc; 0 where the C library does not tell."""
    if os.environ.get("LD_PRELOAD"):  # a sanitizer's malloc
        return 0
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError):
        return 0
    mallinfo2.restype = Mallinfo
    info = mallinfo2()
    return int(info.uordblks + info.hblkhd)


def open_files() -> int:
    for folder in ("/proc/self/fd", "/dev/fd"):
        if os.path.isdir(folder):
            return len(os.listdir(folder))
    return 0


def thread_count() -> int:
    """All threads of the process, those that Python does not know included."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return threading.active_count()


@dataclass
class Sample:
    """What a process holds. Counts are of Python objects unless said otherwise."""

    references: dict[str, int]  # to each type under test
    objects: int  # tracked by the collector
    blocks: int  # of Python's allocator
    total: int  # sys.gettotalrefcount, where there is one
    heap: int  # bytes
    files: int
    threads: int

    @classmethod
    def take(cls, types: Iterable[type]) -> Sample:
        for _ in range(3):
            gc.collect()
        total = getattr(sys, "gettotalrefcount", lambda: 0)
        return cls(
            {made.__name__: sys.getrefcount(made) for made in types},
            len(gc.get_objects()),
            sys.getallocatedblocks(),
            total(),
            heap_bytes(),
            open_files(),
            thread_count(),
        )


def take_settled(types: list[type]) -> Sample:
    """Once a background thread holds no more of what the last run has begun."""
    end = time.monotonic() + SETTLE_SECONDS
    last = Sample.take(types)
    while (now := Sample.take(types)).references != last.references:
        if time.monotonic() > end:
            break
        last = now
    return now


def growth(once: Once, types: Iterable[type], rounds: int, times: int = 1) -> list[str]:
    """What `rounds` runs of `once` leave behind, in words; each run does what may leak
    so many times."""
    types = list(types)
    for _ in range(max(50, rounds // 4)):
        once()
    before = take_settled(types)
    for _ in range(rounds):
        once()
    end = time.monotonic() + SETTLE_SECONDS
    while found := differences(before, Sample.take(types), rounds * times):
        if time.monotonic() > end:
            break
        time.sleep(0.1)
    return found


def differences(before: Sample, after: Sample, rounds: int) -> list[str]:
    found = [
        f"{after.references[name] - count:+} references to {name}"
        for name, count in before.references.items()
        if after.references[name] != count
    ]
    # A leak is at least one a round; half of that tells it from what comes once.
    for name, was, now, slack in (
        ("objects", before.objects, after.objects, min(SLACK_BLOCKS, rounds // 2)),
        ("blocks", before.blocks, after.blocks, min(SLACK_BLOCKS, rounds // 2)),
        ("references in all", before.total, after.total, rounds // 2),
        ("bytes of C memory", before.heap, after.heap, max(SLACK_BYTES, rounds * 8)),
        ("open files", before.files, after.files, 0),
        ("threads", before.threads, after.threads, 0),
    ):
        if now - was > slack:
            found.append(f"{now - was:+} {name} ({was} → {now})")
    return found


def main(
    types: Iterable[type], cases: Callable[[str], Iterable[tuple[str, Once]]]
) -> None:
    """Runs a script's cases; `cases(url)` gives a name and a function for each."""
    types = list(types)
    print("types:", *(made.__name__ for made in types), flush=True)
    url = sys.argv[1]
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else ROUNDS
    if rounds == 0:
        return
    failed = False
    for name, once in cases(url):
        # What fills up once, and late, is no leak: a leak is there each time.
        for _ in range(4):
            found = growth(once, types, rounds)
            if not found:
                break
        print(f"{name}: {'; '.join(found) or 'clean'}", flush=True)
        failed = failed or bool(found)
    sys.exit(failed)
