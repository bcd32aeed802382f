"""Forks, threads and the end of processes, with changes that no server has heard."""

from __future__ import annotations

import logging
import os
import random
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from children import forks_among_busy_threads, started
from outage_tools import Switch, is_well, messages, wait_until
from redlane import Cache, Client
from servers import PATIENT, Server

SOAK = "REDLANE_SOAK" in os.environ


FORKS = """
import os, sys, time
from redlane import Cache, Client
client = Client(sys.argv[1], timeout=30, connect_timeout=30)
cache = Cache(client, prefix="c")
assert cache.get("deleted") == "old"
print("ready", flush=True)
sys.stdin.readline()

def well():
    health = client.health()
    return health["breaker"] == "closed" and health["journal"]["keys"] == 0

def wait(condition):
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)

wait(lambda: client.health()["breaker"] == "open")
cache.delete("deleted")
cache.increment("amount", 5)
cache.set("durable", "v")
cache.delete("replaced")
cache.set("replaced", "v")
children = []
for number in range(3):
    child = os.fork()
    if child == 0:
        try:
            assert cache.get("deleted") is None
            cache.increment("amount", 100)
            cache.increment("amount", 100)
            cache.delete("child")
            wait(well)
            assert cache.get("deleted") is None
            assert cache.get("child") is None
            assert client.health()["journal"]["lost"] == 0
            os._exit(0)
        finally:
            os._exit(1)
    children.append(child)
print("forked", flush=True)
wait(well)
assert [os.waitstatus_to_exitcode(os.waitpid(c, 0)[1]) for c in children] == [0] * 3
print(client.health()["journal"]["lost"], flush=True)
"""


@forks_among_busy_threads
def test_parent_and_children_heal(switch: Switch) -> None:
    """Each sends its own amounts, once; the parent what it had before the fork."""
    cli = switch.server.cli
    for key in ("deleted", "replaced", "child"):
        cli("SET", f"c:{key}", '"old"')
    cli("SET", "c:amount", "1000")
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with started([sys.executable, "-c", FORKS, switch.url], **pipes) as child:
        assert child.stdin is not None and child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        switch.off()
        child.stdin.write("go\n")
        child.stdin.flush()
        assert child.stdout.readline() == "forked\n"
        time.sleep(0.2)  # the children count
        switch.on()
        out, complaint = child.communicate(timeout=300)
        assert (child.returncode, out) == (0, "0\n"), complaint
    assert cli("GET", "c:amount") == b"1605"
    assert cli("EXISTS", "c:deleted", "c:child") == 0
    # A child deletes again what the parent may have set by then: a miss at worst.
    assert cli("GET", "c:replaced") in (None, b'"v"')
    assert cli("GET", "c:durable") == b'"v"'


def test_close_with_a_journal(switch: Switch, caplog: pytest.LogCaptureFixture) -> None:
    client = Client(switch.url, **PATIENT)
    cache = Cache(client, prefix="c")
    client.ping()
    switch.off(client)
    cache.delete("a")
    cache.increment("n")
    cache.invalidate("c:x:*")
    client.close()
    client.close()
    assert messages(caplog.records, "closed before") == [
        f"closed before Redis has heard of 3 changes: {switch.url}"
    ]
    switch.on()
    other = Client(switch.url, **PATIENT)
    switch.off(other)
    other.close()
    assert len(messages(caplog.records, "closed before")) == 1


@pytest.mark.parametrize("how", ["pass", "os._exit(0)", "client.close()", "del client"])
def test_exit_with_a_journal(switch: Switch, how: str) -> None:
    program = f"""
import os, sys, time
from redlane import Cache, Client
client = Client(sys.argv[1], timeout=30, connect_timeout=30)
cache = Cache(client, prefix="c")
cache.delete("a")
cache.set("b", "v")
cache.invalidate("c:*")
assert client.health()["journal"]["patterns"] == 1
{how}
"""
    switch.off()
    with started(
        [sys.executable, "-c", program, switch.url], stderr=subprocess.PIPE
    ) as child:
        _, complaint = child.communicate(timeout=300)
        assert child.returncode == 0, complaint


def test_threads_write_while_the_link_flaps(
    switch: Switch, caplog: pytest.LogCaptureFixture
) -> None:
    """Every 200 ms it goes or comes: nothing raises, nothing counts twice, and nothing
    is left in the end."""
    caplog.set_level(logging.INFO, logger="redlane")
    client = Client(switch.url, **PATIENT)
    cache = Cache(client, prefix="c")
    stop = threading.Event()
    failures: list[BaseException] = []
    counted = [0] * 16

    def work(number: int) -> None:
        dice = random.Random(number)
        try:
            while not stop.is_set():
                cache.increment("shared")
                counted[number] += 1
                cache.set(f"k{number}", counted[number], ttl=300)
                assert cache.get(f"k{number}") in (None, counted[number])
                cache.set_many({f"m{number}": 1, f"n{number}": 2}, ttl=300)
                if dice.random() < 0.3:
                    cache.delete(f"k{number}")
                    assert cache.get(f"k{number}") is None
                if dice.random() < 0.05:
                    cache.invalidate(f"c:[mn]{number}")
                    assert cache.get_many([f"m{number}", f"n{number}"]) == {}
                time.sleep(0.002)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + (60 if SOAK else 3)
    while time.monotonic() < end and not failures:
        switch.proxy.refuse = not switch.proxy.refuse
        if switch.proxy.refuse:
            switch.proxy.reset_all()
        time.sleep(0.2)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    switch.on(client)
    held = int(switch.server.cli("GET", "c:shared"))
    assert 0 < held <= sum(counted)
    health: dict[str, Any] = client.health()
    assert health["engine"]["keys"] == 0
    journal = health["journal"]
    assert (journal["keys"], journal["patterns"], journal["bytes"]) == (0, 0, 0)
    # What a broken connection took with it is not known to the journal; what it
    # counts as lost was counted here.
    assert journal["lost"] <= sum(counted)
    assert (
        cache.get_many([f"k{n}" for n in range(16)]).items()
        <= {f"k{n}": counted[n] for n in range(16)}.items()
    )
    client.close()


def test_a_slow_call_loses_nothing(fresh_server: Server) -> None:
    """The server stands still for less than it takes to be away: who writes meanwhile
    waits, or is answered elsewhere and kept."""
    client = Client(fresh_server.url, timeout=0.3)
    cache = Cache(client, prefix="c")
    cache.set("deleted", "old")
    cache.set("shared", 0)
    failures: list[BaseException] = []

    def write(number: int) -> None:
        try:
            for n in range(5):
                cache.increment(f"n{number}")
                cache.set(f"k{number}:{n}", n)
        except BaseException as error:
            failures.append(error)

    sleeper = threading.Thread(
        target=fresh_server.cli, args=("DEBUG", "SLEEP", "0.5"), daemon=True
    )
    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in [sleeper, *threads]:
        thread.start()
    time.sleep(0.05)
    cache.delete("deleted")
    assert cache.get("deleted") is None
    for thread in [sleeper, *threads]:
        thread.join()
    assert failures == []
    wait_until(lambda: is_well(client), "the end of the doubt")
    assert cache.get("deleted") is None
    for number in range(8):
        assert cache.get(f"n{number}", 0) <= 5
        there = {f"k{number}:{n}": n for n in range(5)}
        # A read that a busy machine delays is a miss.
        wait_until(lambda t=there: cache.get_many(list(t)) == t, "what was set")
    client.close()


def test_a_frozen_server_wakes_up_to_old_requests(fresh_server: Server) -> None:
    """What it had received before it was frozen it may do when it wakes up; what came
    after that, here, is what counts."""
    client = Client(fresh_server.url, timeout=0.15)
    cache = Cache(client, prefix="c")
    counted = 0
    for _ in range(4):
        wait_until(lambda: is_well(client), "the return")
        cache.set("k", "old")
        cache.get("k")
        fresh_server.pause()
        try:
            counted += 1
            cache.increment("amount")  # sent, of unknown outcome
            cache.set("k", "late")
            counted += 1
            cache.increment("amount")
            cache.delete("k")
            assert cache.get("k") is None
        finally:
            fresh_server.resume()
        while not is_well(client):
            assert cache.get("k") is None
        for _ in range(20):
            assert cache.get("k") is None
            time.sleep(0.005)
    assert int(fresh_server.cli("GET", "c:amount") or 0) <= counted
    client.close()
