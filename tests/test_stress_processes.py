"""Processes that end, fork or are interrupted at any moment, with threads in calls.

The short sizes take seconds; `make soak` runs the full ones.
"""

from __future__ import annotations

import json
import statistics
import subprocess

import pytest
from children import forks_among_busy_threads, run_program
from servers import Server

# Eight threads in every kind of call.
BUSY = """
import faulthandler, logging, os, random, sys, threading, time
import redlane
from redlane import Cache, Client

faulthandler.enable()
logging.disable(logging.CRITICAL)
url, number = sys.argv[1], int(sys.argv[2])
chance = random.Random(number)
client = Client(url, timeout=60, connect_timeout=60)
engine = Client("memory://")
away = Client("redis://127.0.0.1:1", timeout=0.2, fallback="memory")
cache = Cache(client, prefix=f"x{number}", ttl=1)
away_cache = Cache(away, prefix="y")
for key in range(50):
    client.set(f"k{key}", f"tag{key}")
    engine.set(f"k{key}", f"tag{key}")

@cache
def slow(key):
    time.sleep(chance.random() * 0.005)
    return key

@away_cache
def quick(key):
    return [key]

def call(way, key):
    if way == 0:
        assert client.get(f"k{key}") == b"tag%d" % key
    elif way == 1:
        assert engine.get(f"k{key}") == b"tag%d" % key
    elif way == 2:
        assert slow(key) == key
    elif way == 3:
        assert quick(key) == [key]
    elif way == 4:
        slow.invalidate(key)
    elif way == 5:
        client.pipeline().set("big", "x" * 200_000).get("big").execute()
    elif way == 6:
        client.execute_command("BLPOP", "nothing", "0.1")
    elif way == 7:
        away.get("a")
    else:
        with Client(url, timeout=60, connect_timeout=60) as other:
            other.ping()

def work(seed):
    own = random.Random(seed)
    while running:
        try:
            call(own.randrange(9), own.randrange(50))
        except redlane.RedlaneError:
            pass

running = True
threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(8)]
for thread in threads:
    thread.start()
"""

EXIT = """
class Late:
    def __del__(self):
        try:
            engine.get("k1")
            client.get("k1")
        except redlane.RedlaneError:
            pass

time.sleep(chance.random() * 0.1)
way = number % 5
if way == 1:
    os._exit(7)
if way == 2:
    client.close()
    away.close()
if way == 3:
    sys.modules["late"] = Late()
if way == 4:  # tools in a cycle that only the last collection ends
    cycle = [client, cache, away_cache, slow, client.pipeline()]
    cycle.append(cycle)
sys.exit(7)
"""

FORK = """
for count in range(int(sys.argv[3])):
    faulthandler.dump_traceback_later(300, exit=True)
    time.sleep(chance.random() * 0.004)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for key in range(5):
                for way in (0, 1, 2, 3):
                    call(way, key)
            found = []
            more = [
                threading.Thread(target=lambda: found.append(client.get("k9")))
                for _ in range(3)
            ]
            for thread in more:
                thread.start()
            for thread in more:
                thread.join()
            assert found == [b"tag9"] * 3
            grandchild = os.fork()
            if grandchild == 0:
                call(2, 7)
                os._exit(0)
            assert os.waitpid(grandchild, 0)[1] == 0
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0, count
running = False
for thread in threads:
    thread.join()
"""

# Every call is blocked when the signal comes; a watchdog ends a process that stays.
INTERRUPT = """
import _thread, faulthandler, json, os, random, signal, socket, sys, threading, time
import redlane
from redlane import Cache, Client

url, rounds = sys.argv[1], int(sys.argv[2])
chance = random.Random(3)
listener = socket.create_server(("127.0.0.1", 0))
silent = f"redis://127.0.0.1:{listener.getsockname()[1]}"
client = Client(url, timeout=60, connect_timeout=60)
frozen = Client(silent, timeout=60, connect_timeout=60)
cache, frozen_cache = Cache(client, prefix="s", ttl=30), Cache(frozen, prefix="z")
go = threading.Event()

@cache
def wait():
    go.wait()
    return 1

def follow():
    leader = threading.Thread(target=wait, daemon=True)
    leader.start()
    while not client.exists(wait.cache_key()):
        time.sleep(0.001)
    signals.start()
    wait()

calls = [
    lambda: client.execute_command("BLPOP", "nothing", "60"),
    lambda: frozen.get("a"),
    lambda: frozen.pipeline().get("a").execute(),
    lambda: frozen.health(),
    lambda: frozen_cache.get("a"),
    lambda: frozen_cache.set("a", 1),
    follow,
]

def by_signal():
    global sent
    sent = time.monotonic()
    os.kill(os.getpid(), signal.SIGINT)

def by_flag():
    # As a signal that comes just before a wait begins: noted, and it ends no wait.
    global sent
    sent = time.monotonic()
    _thread.interrupt_main()

took = [[] for _ in range(2 * len(calls))]

def are_late(times):
    return len(times) < 40 and min(times) > 0.1

def counts():
    yield from range(rounds)
    # On a machine that has more to do: once more those that were late each time.
    for count, times in enumerate(took):
        while are_late(times):
            yield count

for count in counts():
    faulthandler.dump_traceback_later(120, exit=True)
    delay = 0.002 + chance.random() * 0.03
    way = (by_signal, by_flag)[count % len(took) // len(calls)]
    signals = threading.Timer(delay, way)
    call = calls[count % len(calls)]
    try:
        if call is not follow:
            signals.start()
        call()
        raise SystemExit(f"call {count % len(calls)} returned")
    except KeyboardInterrupt:
        took[count % len(took)].append(time.monotonic() - sent)
        signals.join()
    go.set()
    cache.clear()
    go = threading.Event()
faulthandler.cancel_dump_traceback_later()
print(json.dumps(took))
"""


def run(program: str, *args: object) -> subprocess.CompletedProcess[str]:
    # -W: from 3.12 on, fork with threads alive is a warning of Python's own
    strict = ("-W", "error", "-W", "ignore::DeprecationWarning")
    return run_program(program, *args, options=strict)


@pytest.mark.parametrize("count", [20, pytest.param(2_000, marks=pytest.mark.soak)])
def test_exit_at_any_moment(fresh_server: Server, count: int) -> None:
    for number in range(count):
        done = run(BUSY + EXIT, fresh_server.url, number)
        assert done.returncode == 7, (number, done.stderr)
        assert done.stderr == "", number


@forks_among_busy_threads
@pytest.mark.parametrize("forks", [30, pytest.param(10_000, marks=pytest.mark.soak)])
def test_fork_at_any_moment(fresh_server: Server, forks: int) -> None:
    for start in range(0, forks, 500):
        done = run(BUSY + FORK, fresh_server.url, start, min(500, forks - start))
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""


@pytest.mark.parametrize("rounds", [28, pytest.param(2_100, marks=pytest.mark.soak)])
def test_ctrl_c_at_any_moment(fresh_server: Server, rounds: int) -> None:
    done = run(INTERRUPT, fresh_server.url, rounds)
    assert done.returncode == 0, done.stderr
    for times in json.loads(done.stdout):
        # Of each call by each way; half of them, on a machine that has more to do, or
        # one of those few that a short run makes.
        assert (statistics.median_low(times) if rounds > 100 else min(times)) <= 0.1
