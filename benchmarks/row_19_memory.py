"""Row 19: memory that an entry of the engine takes beside its key and value.

Each contestant fills a fresh interpreter; what counts is by how much the process has
grown (its resident pages), not what anybody reports of itself.
"""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from importlib import import_module

from benchmarks.floor import ROOT
from benchmarks.harness import (
    OURS,
    Bench,
    Fact,
    Lineup,
    Measure,
    Result,
    Unavailable,
    at_most_bytes_over,
)

ROW = 19
KEY_SIZE = 20
MILLION = 1_000_000
CACHEBOX = "cachebox.TTLCache"
DICT = "dict"
PAYLOAD = "key and value"
TOLERANCE = 0.02

# Prints the bytes of an entry: of the process, of malloc, and as the engine counts.
FILL = """
import gc, os, resource, sys
count, key_size, value_size = map(int, sys.argv[1:])
value = b"x" * value_size

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()

def allocated():
    import ctypes
    class Info(ctypes.Structure):
        names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks"
        _fields_ = [(name, ctypes.c_size_t) for name in [*names.split(), "keepcost"]]
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = Info
    info = libc.mallinfo2()
    return info.uordblks + info.hblkhd

{setup}
put("warm", value)
gc.collect()
gc.disable()
heap, counted = {heap}, {counted}
before = resident()
for i in range(count):
    put("%0*d" % (key_size, i), value {copy})
grown = resident() - before
print(grown / count, ({heap} - heap) / count, ({counted} - counted) / count)
"""
SETUPS = {
    OURS: """
from redlane import Client
client = Client("memory://", max_memory=1 << 40)
def put(key, value):
    client.set(key, value, ex=3600)
""",
    CACHEBOX: """
from cachebox import TTLCache
cache = TTLCache(count + 1, 3600)
put = cache.insert
""",
    DICT: """
put = {}.__setitem__
""",
}
MODULES = {OURS: "redlane", CACHEBOX: "cachebox", DICT: "builtins"}


def run(bench: Bench) -> list[Result]:
    count = bench.batch(MILLION)
    return [
        race(
            bench, f"{count:,} entries, 100 bytes", count, 100, (OURS, CACHEBOX, DICT)
        ),
        race(bench, f"{count:,} entries, 10 bytes", count, 10, (OURS,)),
        # Just after the key table has grown: the most that it takes an entry.
        race(
            bench,
            f"{count * 4 // 5:,} entries, 100 bytes",
            count * 4 // 5,
            100,
            (OURS,),
        ),
    ]


def race(
    bench: Bench, what: str, count: int, value_size: int, names: tuple[str, ...]
) -> Result:
    lineup = Lineup(ROW, what, "bytes")
    heaps: list[tuple[float, float]] = []  # of malloc, and as the engine counts

    def start(name: str) -> Measure:
        import_module(MODULES[name])  # ImportError: it is not to be had here

        def measure() -> float:
            grown, *heap = fill(name, count, value_size)
            if name == OURS:
                heaps.append((heap[0], heap[1]))
            return grown

        return measure

    for name in names:
        lineup.add(name, "ours" if name == OURS else "peer", partial(start, name))
    lineup.add(PAYLOAD, "floor", lambda: lambda: float(KEY_SIZE + value_size))
    result = lineup.race(bench.rounds(3), [at_most_bytes_over(160, PAYLOAD)])
    result.facts += [honesty(*heap) for heap in heaps[-1:]]
    return result


def honesty(heap: float, counted: float) -> Fact:
    text = f"an entry takes {heap:.1f} bytes of malloc, the engine counts {counted:.1f}"
    return Fact(text, abs(counted - heap) <= TOLERANCE * heap)


def fill(name: str, count: int, value_size: int) -> tuple[float, float, float]:
    """Bytes for an entry: of the process, of malloc, and as the engine counts."""
    ours = name == OURS
    code = FILL.format(
        setup=SETUPS[name],
        heap="allocated()" if ours else 0,
        counted='client.info("memory")["used_memory"]' if ours else 0,
        # The others keep the object that they are given: each entry gets its own.
        copy="" if ours else "[:-1] + b'x'",
    )
    sizes = [str(count), str(KEY_SIZE), str(value_size)]
    done = subprocess.run(
        [sys.executable, "-c", code, *sizes],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    if done.returncode:
        raise Unavailable(done.stderr.strip().splitlines()[-1])
    process, heap, counted = map(float, done.stdout.split())
    return process, heap, counted
