"""What a near entry takes: of malloc's own bytes, the value's object included."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from memory_tools import ALLOCATED
from redlane import Client
from servers import Server

SIZE = 100  # bytes of a value; its key has 20
# Around where the slots of each of the 16 shards have just grown, and else.
COUNTS = (20_000, 30_000, 36_000)

# With PYTHONMALLOC=malloc the objects are malloc's too.
MEASURE = (
    ALLOCATED
    + """
import gc, sys, time
from redlane import Cache, Client

cache = Cache(Client(sys.argv[1], timeout=30), prefix="near", serializer="raw")

def read(start, stop):
    for first in range(start, stop, 200):
        cache.get_many(["%015d" % i for i in range(first, min(first + 200, stop))])

def entries():
    return cache.client.health()["near"]["entries"]

read(0, 1)
end = time.monotonic() + 30
while entries() == 0 and time.monotonic() < end:
    read(0, 1)
read(0, 200)
gc.collect()
before, had, start = allocated(), entries(), 200
for count in map(int, sys.argv[2:]):
    read(start, count)
    start = count
    gc.collect()
    print(entries() - had, allocated() - before)
"""
)


@pytest.mark.skipif(
    "REDLANE_SANITIZED" in os.environ, reason="the sanitizer's malloc takes more"
)
def test_an_entry_takes_160_bytes_beside_key_and_value_at_most(
    redis_server: Server,
) -> None:
    with Client(redis_server.url, timeout=30.0) as client:
        for first in range(0, COUNTS[-1], 1000):
            pipe = client.pipeline(transaction=False)
            for i in range(first, first + 1000):
                pipe.set(f"near:{i:015}", b"x" * SIZE, ex=3600)
            pipe.execute()
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, redis_server.url, *map(str, COUNTS)],
        env=os.environ | {"PYTHONMALLOC": "malloc"},
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
    )
    if "undefined symbol: mallinfo2" in done.stderr:
        pytest.skip("this libc has no mallinfo2 to measure with")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(COUNTS)
    for line, count in zip(lines, COUNTS, strict=True):
        entries, taken = map(int, line.split())
        assert count - 400 < entries <= count
        assert 100 <= taken / entries - (20 + SIZE) <= 160, line
