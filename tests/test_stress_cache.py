"""Caches and counters under four processes: nothing stale is given out, nothing is
counted twice or lost. The short sizes take seconds; `make soak` runs the full ones."""

from __future__ import annotations

import collections
import contextlib
import subprocess
import sys
import threading
from typing import Any

import pytest
from children import started
from redlane import Cache, Client
from servers import Server

PROCESSES = 4

# Each reader asks which version's invalidation has returned, anywhere, and then for the
# value: an older one would be stale. Near values hear of another process's invalidation
# a little later, within two seconds whatever happens: only what has returned in
# this process, or a while ago, counts.
LEASES = """
import collections, random, sys, threading, time
from redlane import Cache, Client

url, number, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
near = sys.argv[4] == "near"
client = Client(url, timeout=60, connect_timeout=60)
cache = Cache(client, prefix="L", ttl=60, near=near)
wrong, running = [], True
own, old, lock = collections.Counter(), collections.Counter(), threading.Lock()
heard = collections.defaultdict(collections.deque)
raise_to = (
    "if tonumber(redis.call('get', KEYS[1]) or '0') < tonumber(ARGV[1]) then "
    "redis.call('set', KEYS[1], ARGV[1]) end"
)

def load(key):
    version = int(client.get(f"truth:{key}") or 0)
    time.sleep(random.random() * 0.004)
    return version

cached = cache(name="v")(load)

def what_counts(key, floor):
    now = time.monotonic()
    with lock:
        heard[key].append((now, floor))
        while heard[key][0][0] < now - 4:
            old[key] = max(old[key], heard[key].popleft()[1])
        return max(own[key], old[key])

def read(seed):
    chance = random.Random(seed)
    while running:
        key = chance.randrange(4)
        floor = int(client.get(f"done:{key}") or 0)
        if near:
            floor = what_counts(key, floor)
        way = chance.randrange(10)
        if way == 0:
            got = cached.refresh(key)
        elif way < 5:
            got = cache.get_or_set(f"g{key}", lambda: load(key))
        else:
            got = cached(key)
        if got < floor:
            wrong.append((key, way, got, floor))

def write():
    chance = random.Random(number)
    for _ in range(rounds):
        key = chance.randrange(4)
        version = client.incr(f"truth:{key}")
        way = chance.randrange(3)
        if way == 0:
            cached.invalidate(key)
            cache.delete(f"g{key}")
        elif way == 1:
            cache.invalidate("L:*")
        else:
            cache.delete_many([f"g{key}"])
            cached.invalidate_all()
        own[key] = version
        client.eval(raise_to, 1, f"done:{key}", version)
        time.sleep(chance.random() * 0.01)

threads = [threading.Thread(target=read, args=(number * 10 + n,)) for n in range(4)]
for thread in threads:
    thread.start()
try:
    write()
finally:
    running = False
for thread in threads:
    thread.join()
assert not wrong, (len(wrong), wrong[:5])
if near:
    assert cache.stats()["near_hits"] > 0
"""

COUNTS = """
import random, sys, threading
from redlane import Cache, Client, Counter

url, number, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
client = Client(url, timeout=60, connect_timeout=60)
counter, cache = Counter(client, "n:{id}", ttl=300), Cache(client, prefix="C")
added, lock = [0, 0, 0, 0], threading.Lock()

def work(seed):
    chance = random.Random(seed)
    for _ in range(rounds):
        key, way, amount = chance.randrange(3), chance.randrange(4), chance.randrange(9)
        change = [0, 0, 0, 0]
        if way == 0:
            counter.increment(key, amount=amount)
            change[key] = amount
        elif way == 1:
            counter.decrement(key, amount=amount)
            change[key] = -amount
        elif way == 2:
            other = (key + 1) % 3
            counter.transfer(key, other)
            change[key], change[other] = -1, 1
        else:
            cache.increment("plain", amount)
            change[3] = amount
        with lock:
            added[:] = [a + b for a, b in zip(added, change)]

threads = [threading.Thread(target=work, args=(number * 10 + n,)) for n in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(*added)
"""


def run_processes(program: str, url: str, rounds: int, *more: str) -> list[str]:
    outputs = []
    with contextlib.ExitStack() as stack:
        running = [
            stack.enter_context(
                started(
                    [
                        sys.executable,
                        "-W",
                        "error",
                        "-c",
                        program,
                        url,
                        n,
                        rounds,
                        *more,
                    ],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                )
            )
            for n in range(PROCESSES)
        ]
        for process in running:
            output, complaint = process.communicate(timeout=3600)
            assert process.returncode == 0, complaint
            outputs.append(output)
    return outputs


@pytest.mark.parametrize("near", ["near", "far"])
@pytest.mark.parametrize("rounds", [150, pytest.param(20_000, marks=pytest.mark.soak)])
def test_nothing_computed_before_an_invalidation_comes_after_it(
    fresh_server: Server, rounds: int, near: str
) -> None:
    run_processes(LEASES, fresh_server.url, rounds, near)


@pytest.mark.parametrize("rounds", [500, pytest.param(50_000, marks=pytest.mark.soak)])
def test_counts_are_exact(fresh_server: Server, rounds: int) -> None:
    with Client(fresh_server.url, timeout=60, connect_timeout=60) as client:
        client.mset({"n:0": 0, "n:1": 0, "n:2": 0})
        outputs = run_processes(COUNTS, fresh_server.url, rounds)
        added = [[int(word) for word in output.split()] for output in outputs]
        wanted = [sum(column) for column in zip(*added, strict=True)]
        found = [int(client.get(key) or 0) for key in ("n:0", "n:1", "n:2", "C:plain")]
        assert found == wanted


@pytest.mark.parametrize("end", [None, ValueError, SystemExit, KeyboardInterrupt])
def test_a_herd_and_its_leader(client: Any, end: type[BaseException] | None) -> None:
    """Of 200 threads one computes; when it is interrupted, one other does."""
    go, entered = threading.Event(), threading.Event()
    lock = threading.Lock()
    calls: list[int] = []
    results: list[object] = []

    @Cache(client, ttl=60)
    def compute() -> list[int]:
        with lock:
            calls.append(1)
            first = len(calls) == 1
        entered.set()
        assert go.wait(30)
        if first and end is not None:
            raise end
        return [len(calls)]

    def ask() -> None:
        try:
            results.append(str(compute()))
        except BaseException as error:
            results.append(type(error))

    threads = [threading.Thread(target=ask) for _ in range(200)]
    for thread in threads:
        thread.start()
    assert entered.wait(30)
    go.set()
    for thread in threads:
        thread.join()
    found = collections.Counter(results)
    if end is None:
        assert found == {"[1]": 200}
    elif end is ValueError:
        assert found[ValueError] >= 1
        assert set(found) <= {ValueError, f"[{len(calls)}]"}
    else:
        assert found == {end: 1, "[2]": 199}
