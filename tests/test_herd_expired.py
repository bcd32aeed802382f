"""A hot key that all have near expires for all at once: again and again, one of all the
threads in all the processes computes it, and the others wait for it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time

import pytest
from children import started
from servers import Server

TTL = 1.0

PROGRAM = """
import sys, threading, time
from redlane import Cache, Client

url, threads, ttl = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
client = Client(url, timeout=60, connect_timeout=60)
cache = Cache(client, prefix="herd")
wrong = []

@cache(name="hot", ttl=ttl)
def hot():
    number = client.incr("runs")
    if client.incr("running") != 1:
        wrong.append(f"{number} was not alone")
    time.sleep(0.2)
    client.decr("running")
    return number

def call():
    last = 0
    while running:
        found = hot()
        if found < last:
            wrong.append(f"{found} after {last}")
        last = found
        time.sleep(0.002)

running = True
callers = [threading.Thread(target=call) for _ in range(threads)]
for caller in callers:
    caller.start()
print("ready", flush=True)
sys.stdin.readline()
running = False
for caller in callers:
    caller.join()
info = hot.cache_info()
print(len(wrong), info.misses, info.near_hits > 0, wrong[:3], flush=True)
"""


@pytest.mark.parametrize(
    ("processes", "threads", "rounds"),
    [(3, 15, 3), pytest.param(8, 500, 60, marks=pytest.mark.soak)],
)
def test_one_computation_each_time_it_expires(
    fresh_server: Server, processes: int, threads: int, rounds: int
) -> None:
    command = [sys.executable, "-c", PROGRAM, fresh_server.url, threads, TTL]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with contextlib.ExitStack() as stack:
        members = [
            stack.enter_context(started(command, **pipes)) for _ in range(processes)
        ]
        for member in members:
            assert member.stdout
            assert member.stdout.readline() == "ready\n"
        while int(fresh_server.cli("GET", "runs") or 0) < rounds:
            assert all(member.poll() is None for member in members)
            time.sleep(0.05)
        misses = 0
        for member in members:
            told, _ = member.communicate("end\n", timeout=600)
            count, missed, was_near, complaints = told.split(maxsplit=3)
            assert (count, was_near) == ("0", "True"), complaints
            misses += int(missed)
    # Whoever missed has computed, and nobody else did.
    assert misses == int(fresh_server.cli("GET", "runs")) >= rounds
