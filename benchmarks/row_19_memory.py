"""Row 19: memory that an entry, near or of the engine, takes beside key and value.

Each contestant fills a fresh interpreter; what counts is by how much the process has
grown (its resident pages), not what anybody reports of itself.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from functools import partial
from importlib import import_module

from benchmarks import clients
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

NEAR_ENTRIES = 50_000  # within what is kept near unless told otherwise
NEAR_PREFIX = "near"
NEAR_SIZE = 100  # bytes of a value
CHUNK = 1000  # sets in one pipeline

RESIDENT = """
import gc, os, resource, sys

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()
"""

# Prints the bytes of an entry: of the process, of malloc, and as the engine counts.
FILL = (
    RESIDENT
    + """
count, key_size, value_size = map(int, sys.argv[1:])
value = b"x" * value_size

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
)
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

# Reads every value once, which brings it near, then each again. Prints the bytes of an
# entry and how many of the second reads were near hits.
NEAR_FILL = (
    RESIDENT
    + """
from benchmarks import near
from redlane import Cache, Client
url, prefix, warm, digits, count = sys.argv[1:4] + list(map(int, sys.argv[4:]))
cache = Cache(Client(url, timeout=5), prefix=prefix, serializer="raw")
near.wait_until_near(cache, lambda: cache.get(warm))

def read():
    for i in range(count):
        if cache.get("%0*d" % (digits, i)) is None:
            sys.exit("a value is not there")

gc.collect()
gc.disable()
before = resident()
read()
grown = resident() - before
hits = near.hits(cache)
read()
print(grown / count, near.hits(cache) - hits)
"""
)
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
        race_near(bench, bench.batch(NEAR_ENTRIES)),
        # Just after all of its tables have grown.
        race_near(bench, bench.batch(NEAR_ENTRIES) * 9 // 10),
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
    process, heap, counted = map(float, run_python(code, sizes).split())
    return process, heap, counted


def race_near(bench: Bench, count: int) -> Result:
    """Values of `NEAR_SIZE` bytes that a cache has read from Redis and keeps."""
    lineup = Lineup(ROW, f"{count:,} near entries, 100 bytes", "bytes")
    kept: list[int] = []  # how many entries were near, in the last round
    digits = KEY_SIZE - len(NEAR_PREFIX) - 1
    warm = "warm"

    def ours() -> Measure:
        fill_server(bench, [warm, *(f"{i:0{digits}}" for i in range(count))])

        def measure() -> float:
            told = [bench.server.url, NEAR_PREFIX, warm, str(digits), str(count)]
            grown, hits = map(float, run_python(NEAR_FILL, told).split())
            kept[:] = [int(hits)]
            return grown

        return measure

    lineup.add(OURS, "ours", ours)
    lineup.add(PAYLOAD, "floor", lambda: lambda: float(KEY_SIZE + NEAR_SIZE))
    result = lineup.race(bench.rounds(3), [at_most_bytes_over(160, PAYLOAD)])
    result.facts += [
        Fact(f"{near_count:,} of {count:,} entries were near", near_count == count)
        for near_count in kept
    ]
    return result


def fill_server(bench: Bench, names: list[str]) -> None:
    value = b"x" * NEAR_SIZE
    with ExitStack() as stack:
        client = clients.redlane_client(bench, stack)
        for start in range(0, len(names), CHUNK):
            pipe = client.pipeline(transaction=False)
            for name in names[start : start + CHUNK]:
                pipe.set(f"{NEAR_PREFIX}:{name}", value, ex=3600)
            pipe.execute()


def run_python(code: str, arguments: list[str]) -> str:
    """What a fresh interpreter prints; Unavailable: why it fails."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    if done.returncode:
        raise Unavailable(done.stderr.strip().splitlines()[-1])
    return done.stdout
