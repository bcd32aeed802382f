"""Counters are at most once, and a register is read as it was written last: what four
processes were told, and what they could not know, bounds what the server holds at the
end and what anybody saw on the way.

The short size takes seconds; `make soak` runs the full one.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest
from children import started
from history import check_counter, check_register, check_unique_sums, load
from proxy import Proxy
from servers import Server
from trouble import Trouble

PROCESSES = 4
KEYS = ("raw", "counter", "cache", "pipeline", "hash")

REGISTERS = ("r0", "r1", "r2")

# Threads that count, write and read, note what they know, and end when a line comes.
PROGRAM = """
import random, sys, threading, time
sys.path.insert(0, sys.argv[1])
import redlane
from history import History
from redlane import Cache, Client, Counter

url, name, log, pause = *sys.argv[2:5], float(sys.argv[5])
history = History(name, log)
client = Client(url, timeout=0.1, connect_timeout=0.2)
counter = Counter(client, "{id}", fallback="raise")
cache = Cache(client, prefix="c", fallback="raise")

def pipelined(amount):
    return client.pipeline().get("x").incrby("pipeline", amount).execute()[1]

ways = {
    "raw": lambda amount: client.incrby("raw", amount),
    "counter": lambda amount: counter.increment("counter", amount=amount),
    "cache": lambda amount: cache.increment("cache", amount),
    "pipeline": pipelined,
    "hash": lambda amount: client.hincrby("hash", "field", amount),
}
reads = {
    "raw": lambda: client.get("raw"),
    "counter": lambda: counter.get("counter"),
    "hash": lambda: client.hget("hash", "field"),
}

def count(chance):
    key = chance.choice(list(ways))
    if chance.random() < 0.2 and key in reads:
        return history.begin("read", key), lambda: int(reads[key]() or 0)
    amount = chance.randrange(1, 4)
    return history.begin("add", key, amount), lambda: ways[key](amount)

def register(chance, value):
    key, way = f"r{chance.randrange(3)}", chance.random()
    if way < 0.5:
        return history.begin("read", key), lambda: text(client.get(key))
    if way < 0.6:
        return history.begin("write", key, None), lambda: client.delete(key)
    return history.begin("write", key, value), lambda: client.set(key, value)

def text(value):
    return value and value.decode()

def work(seed):
    chance = random.Random(f"{name} {seed}")
    number = 0
    while running:
        number += 1
        if chance.random() < 0.6:
            call, run = count(chance)
        else:
            call, run = register(chance, f"{name}:{seed}:{number}")
        try:
            call.ok(run())
        except (redlane.ConnectionError, redlane.TimeoutError):
            call.lost()
        time.sleep(pause)  # the history has to fit into memory

running = True
threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
for thread in threads:
    thread.start()
print("running", flush=True)
sys.stdin.readline()
running = False
for thread in threads:
    thread.join()
history.close()
"""


@pytest.mark.parametrize(
    ("seconds", "pause"), [(3, 0.001), pytest.param(600, 0.01, marks=pytest.mark.soak)]
)
def test_counters_and_registers(
    fresh_server: Server, tmp_path: Path, seconds: float, pause: float
) -> None:
    """The last process is killed on the way, with calls under way."""
    fresh_server.cli("SET", "counter", 0)
    logs = [tmp_path / f"{number}.log" for number in range(PROCESSES)]
    with Proxy(fresh_server.port) as proxy, contextlib.ExitStack() as stack:
        program = [sys.executable, "-W", "error", "-c", PROGRAM, Path(__file__).parent]
        urls = [fresh_server.url, proxy.url]
        users = [
            stack.enter_context(
                started(
                    [*program, urls[number % 2], number, log, pause],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
            )
            for number, log in enumerate(logs)
        ]
        for user in users:
            assert user.stdout is not None
            assert user.stdout.readline() == "running\n"
        trouble = Trouble(fresh_server, proxy, users, lossless=True)
        trouble.run(seconds * 0.7)
        users.pop().kill()
        trouble.run(seconds * 0.3)
        for user in users:
            user.communicate("end\n", timeout=300)
            assert user.returncode == 0
    final = {
        "raw": fresh_server.cli("GET", "raw"),
        "counter": fresh_server.cli("GET", "counter"),
        "cache": fresh_server.cli("GET", "c:cache"),
        "pipeline": fresh_server.cli("GET", "pipeline"),
        "hash": fresh_server.cli("HGET", "hash", "field"),
    }
    events = load(logs)
    assert {event.key for event in events} == {*KEYS, *REGISTERS}
    assert {event.outcome for event in events} == {"ok", "open"}
    for key in KEYS:
        wrong = check_counter(events, key, int(final[key]))
        wrong += check_unique_sums(events, key)
        assert not wrong, "\n".join([*wrong[:5], *trouble.events])
    for key in REGISTERS:
        wrong = check_register(events, key)
        assert not wrong, "\n".join([*wrong[:5], *trouble.events])
