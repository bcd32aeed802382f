"""A million distinct values go through the near cache, and what it takes of memory
stays what it says: with the arguments and the objects of Python counted in."""

from __future__ import annotations

import json
import os

import pytest
from children import run_program
from servers import Server

MOST = 32 << 20  # bytes that the near cache of one client takes
# What the allocators keep beside that, and what else a process comes to need.
BESIDE = 40 << 20

PROGRAM = """
import gc, json, sys
from redlane import Cache, Client

url, way, count, size = *sys.argv[1:3], int(sys.argv[3]), int(sys.argv[4])
client = Client(url, timeout=60, connect_timeout=60)
cache = Cache(client, ttl=3600)

def resident():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

@cache(name="text")
def text(number):
    return f"{number:0{size}}"

@cache(name="shared", share=True)
def shared(number):
    return [number, "x" * size]

@cache(name="afresh")
def afresh(number):
    return [number, "x" * size]

def by_function(function):
    def run(numbers):
        # Computed and stored; read, once the message of that has come; a near hit.
        results = [function(number) for number in numbers]
        for _ in range(2):
            assert [function(number) for number in numbers] == results
    return run

def by_key(numbers):
    names = [f"k{number}" for number in numbers]
    cache.set_many({name: f"{name:>{size}}" for name in names})
    for _ in range(2):
        found = cache.get_many(names)
        assert len(found) == len(names)
    for name in names[-10:]:
        assert cache.get(name) == f"{name:>{size}}"

run = {"text": by_function(text), "shared": by_function(shared),
       "afresh": by_function(afresh), "keys": by_key}[way]
while client.health()["near"] is None or client.health()["near"]["state"] != "on":
    cache.get("nothing")
run(range(200))
before, most = resident(), 0
for start in range(200, count, 500):
    run(range(start, min(start + 500, count)))
    most = max(most, client.health()["near"]["bytes"])
near = client.health()["near"]
del run
print(json.dumps([near, most, resident() - before, cache.stats()["near_hits"]]))
"""


@pytest.mark.parametrize("way", ["text", "shared", "afresh", "keys"])
@pytest.mark.parametrize(
    ("count", "size"),
    [(2000, 24_000), pytest.param(10**6, 100, marks=pytest.mark.soak)],
)
def test_distinct_values(fresh_server: Server, way: str, count: int, size: int) -> None:
    done = run_program(PROGRAM, fresh_server.url, way, count, size)
    assert done.returncode == 0, done.stderr
    near, most, grown, hits = json.loads(done.stdout)
    assert near["max_bytes"] == MOST
    assert most <= MOST
    assert hits >= count / 2
    # A link that was lost on a busy machine takes the values along.
    assert near["evictions"] > 0 or near["flushes"] > 1
    if "REDLANE_SANITIZED" not in os.environ:  # ASan keeps what is freed for a while
        assert grown < MOST + BESIDE, grown
