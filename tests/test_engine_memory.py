"""What the memory engine counts is what its process takes: `max_memory` means malloc's
own bytes, and an emptied engine gives them back to the system."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from memory_tools import ALLOCATED

MB = 1 << 20
BOUND = 16 * MB
TOLERANCE = 0.04

# In an interpreter of its own, whose heap holds little else.
MEASURE = (
    ALLOCATED
    + """
import gc, json, random, resource, sys
from redlane import Client

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()

client = Client("memory://", max_memory=int(sys.argv[1]))
dice = random.Random(19)
text = b"x" * 100_000
client.set("warm", b"")
gc.collect()
gc.disable()
heap, pages, counted = allocated(), resident(), client.info("memory")["used_memory"]
FILL
full = allocated() - heap, client.info("memory")["used_memory"] - counted
assert full[1] > int(sys.argv[1]) * 0.5, full
entries = client.dbsize()
client.flushall()
print(json.dumps([*full, entries, resident() - pages]))
"""
)

FILLS = {
    "small strings": """
for i in range(120_000):
    client.set("%020d" % i, text[:100], ex=1000)
""",
    "strings of all sizes": """
for i in range(120_000):
    size = min(int(dice.paretovariate(0.9) * 20), len(text))
    client.set("k%d" % dice.randrange(60_000), text[:size])
""",
    "growing strings": """
for i in range(80_000):
    client.append("k%d" % (i % 8000), text[:dice.randrange(1, 400)])
""",
    "hashes": """
for i in range(100_000):
    client.hset("h%d" % (i % 5000), "f%d" % i, text[:dice.randrange(1, 200)])
""",
    "sets": """
for i in range(200_000):
    client.sadd("s%d" % (i % 5000), "member-%d" % i)
""",
    "sorted sets": """
for i in range(150_000):
    client.zadd("z%d" % (i % 5000), {"member-%d" % i: i})
""",
}


def measure(fill: str) -> tuple[int, int, int, int]:
    code = MEASURE.replace("FILL", fill)
    done = subprocess.run(
        [sys.executable, "-c", code, str(BOUND)],
        check=False,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    if "undefined symbol: mallinfo2" in done.stderr:
        pytest.skip("this libc has no mallinfo2 to measure with")
    assert done.returncode == 0, done.stderr
    heap, counted, entries, left = json.loads(done.stdout)
    return heap, counted, entries, left


@pytest.mark.parametrize("kind", FILLS)
def test_the_bound_is_in_bytes_of_malloc(kind: str) -> None:
    heap, counted, _, left = measure(FILLS[kind])
    assert counted <= BOUND
    assert abs(heap - counted) <= TOLERANCE * counted
    assert left < 4 * MB


def test_an_entry_takes_160_bytes_beside_key_and_value_at_most() -> None:
    heap, _, entries, _ = measure(
        "for i in range(60_000): client.set('%020d' % i, text[:100], ex=1000)"
    )
    assert entries == 60_001
    assert heap / entries - 120 <= 160
