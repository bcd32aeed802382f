"""Computations that outages begin and end around: what was computed before an
invalidation is never stored after it, nor given to a caller that came after it."""

from __future__ import annotations

import os
import random
import threading
import time
from typing import Any

import pytest
from outage_tools import Switch, wait_until
from redlane import Cache, Client
from servers import PATIENT, Server

SECONDS = 15.0 if "REDLANE_SOAK" in os.environ else 0.8


class Truth:
    """A number to each key that only grows. Who changes it invalidates after that; who
    reads after the invalidation must not see an older one."""

    def __init__(self, keys: int) -> None:
        self.numbers = [0] * keys
        self.announced = [0] * keys  # invalidated, and the call has returned
        self.locks = [threading.Lock() for _ in range(keys)]


def flap(switch: Switch, server: Server, stop: threading.Event, full: bool) -> None:
    """The link goes and comes at random; the server is full now and then."""
    dice = random.Random(3)
    while not stop.is_set():
        choice = dice.random()
        if choice < 0.4:
            switch.proxy.refuse = True
            switch.proxy.reset_all()
        elif choice < 0.8 or not full:
            switch.proxy.refuse = False
        else:
            server.cli("CONFIG", "SET", "maxmemory", dice.randrange(2))
        time.sleep(dice.random() * 0.15)
    server.cli("CONFIG", "SET", "maxmemory", "0")
    switch.proxy.refuse = False


@pytest.mark.parametrize("full", [False, True], ids=["link", "link and memory"])
@pytest.mark.parametrize("way", ["key", "pattern", "function", "delete"])
def test_invalidations_while_the_link_comes_and_goes(
    switch: Switch, redis_server: Server, way: str, full: bool
) -> None:
    client = Client(switch.url, **PATIENT)
    cache = Cache(client, prefix="c")
    truth = Truth(4)
    failures: list[object] = []
    stop = threading.Event()

    @cache(ttl=300)
    def f(n: int) -> int:
        number = truth.numbers[n]
        time.sleep(random.random() * 0.004)
        return number

    def read(n: int) -> int:
        if way == "delete":
            return int(cache.get_or_set(f"f:{n}", lambda: f.uncached(n), ttl=300))
        return f(n)

    def invalidate(n: int) -> None:
        if way == "key":
            f.invalidate(n)
        elif way == "pattern":
            cache.invalidate(f"{f.cache_key(n)[:-1]}[{n}]")
        elif way == "function":
            f.invalidate_all()
        else:
            cache.delete(f"f:{n}")

    def work(seed: int) -> None:
        dice = random.Random(seed)
        try:
            while not stop.is_set():
                n = dice.randrange(4)
                if dice.random() < 0.3:
                    with truth.locks[n]:
                        truth.numbers[n] += 1
                        invalidate(n)
                        truth.announced[n] = truth.numbers[n]
                else:
                    least = truth.announced[n]
                    value = read(n)
                    if value < least:
                        failures.append((n, value, least, client.health()["breaker"]))
                time.sleep(0.0005)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    threads.append(
        threading.Thread(target=flap, args=(switch, redis_server, stop, full))
    )
    for thread in threads:
        thread.start()
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and not failures:
        time.sleep(0.02)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    switch.on(client)
    for n in range(4):
        assert read(n) == truth.numbers[n]
    client.close()


@pytest.mark.parametrize("changes_first", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("begins", ["well", "away"])
@pytest.mark.parametrize("ends", ["well", "away"])
@pytest.mark.parametrize("way", ["key", "pattern", "clear", "set"])
def test_an_invalidation_in_the_midst(
    switch: Switch, way: str, ends: str, begins: str, changes_first: bool
) -> None:
    """Step by step: a computation begins, its key is invalidated, it ends; the link
    changes before or after the invalidation."""
    client = Client(switch.url, **PATIENT)
    client.ping()
    cache = Cache(client, prefix="c")
    started, go = threading.Event(), threading.Event()
    version = "old"

    @cache(ttl=300)
    def f() -> str:
        value = version
        started.set()
        assert go.wait(120)
        return value

    given: list[str] = []

    def call() -> threading.Thread:
        started.clear()
        thread = threading.Thread(target=lambda: given.append(f()))
        thread.start()
        # It computes for itself, or finds a value; it does not wait for another.
        wait_until(lambda: started.is_set() or not thread.is_alive(), "a computation")
        return thread

    turn(switch, client, begins)
    threads = [call()]
    if changes_first:
        turn(switch, client, ends)
    version = "new"
    if way == "key":
        f.invalidate()
    elif way == "pattern":
        cache.invalidate("c:f:*")
    elif way == "clear":
        cache.clear()
    else:
        cache.set(f.cache_key().removeprefix("c:"), "new", ttl=300)
    if not changes_first:
        turn(switch, client, ends)
    threads.append(call())
    go.set()
    for thread in threads:
        thread.join()
    assert sorted(given) == ["new", "old"]
    assert f() == "new"
    turn(switch, client, "well")
    assert f() == "new"
    client.close()


def turn(switch: Switch, client: Client[Any], state: str) -> None:
    if state == "well":
        switch.on(client)
    else:
        switch.off(client)
