"""The return of the server: a process tells what it did meanwhile before it reads, so
that the first answer from the server is right; whoever heals first, and whatever
happens to the replay."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from children import started
from outage_tools import Switch, is_well, switched, wait_until
from redlane import Cache, Client, Counter
from servers import PATIENT, Server

ROUNDS = 5
KEYS = ("deleted", "matched:1", "dropped", "durable")


@pytest.fixture
def switches(redis_server: Server) -> Iterator[Callable[[], Switch]]:
    """Each one stands for the link of a process of its own."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(switched(redis_server))


@pytest.fixture
def switch(switches: Callable[[], Switch]) -> Switch:
    return switches()


@pytest.fixture
def client(switch: Switch) -> Iterator[Client[Any]]:
    made = Client(switch.url, **PATIENT)
    made.ping()
    yield made
    made.close()


class Pollers:
    """Threads that read all the time, and check what they are given."""

    def __init__(
        self, *readers: tuple[Callable[[], Any], Callable[[Any], bool]]
    ) -> None:
        self.wrong: list[object] = []
        self.reads = 0
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._poll, args=reader) for reader in readers
        ]

    def _poll(self, read: Callable[[], Any], right: Callable[[Any], bool]) -> None:
        while not self._stop.is_set():
            try:
                value = read()
                if not right(value):
                    self.wrong.append(value)
            except Exception as error:
                self.wrong.append(error)
            self.reads += 1
            time.sleep(0.001)  # the switch is Python too, and wants the GIL

    def __enter__(self) -> Pollers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_the_first_answers_are_right(switch: Switch, client: Client[Any]) -> None:
    cache = Cache(client, prefix="c")
    counter = Counter(client, "n:{id}", ttl=300, source=lambda id: truth)
    server, truth, version = switch.server, 0, 0

    @cache(ttl=300)
    def f() -> int:
        return version

    for number in range(ROUNDS):
        old = json.dumps("old")
        for key in ("deleted", "dropped", "matched:1", "durable"):
            server.cli("SET", f"c:{key}", old)
        server.cli("SET", "c:amount", "100")
        truth = version = 10 * number
        server.cli("DEL", "n:1")
        assert counter.get("1") == truth
        f.invalidate()
        assert f() == version
        switch.off(client)
        truth += 1
        version += 1
        counter.increment("1")
        f.invalidate()
        cache.delete("deleted")
        cache.set("dropped", "new", ttl=60)
        cache.invalidate("c:matched:*")
        cache.delete("durable")
        cache.set("durable", "new")
        cache.increment("amount", 7)
        with Pollers(
            (lambda: cache.get("deleted"), lambda v: v is None),
            (lambda: cache.get("matched:1"), lambda v: v is None),
            (lambda: cache.get("dropped"), lambda v: v in (None, "new")),
            # A cache may miss; in the doubt before the verdict it does.
            (lambda: cache.get("durable"), lambda v: v in (None, "new")),
            (lambda: cache.get_many(KEYS), lambda v: "old" not in v.values()),
            (lambda: cache.get("amount"), lambda v: v in (None, 7, 107)),
            (lambda: counter.get("1"), lambda v, n=truth: v == n),
            (f, lambda v, n=version: v == n),
        ) as pollers:
            switch.on(client)
            reads = pollers.reads
            wait_until(lambda p=pollers, r=reads: p.reads > r + 50, "reads after it")
        assert pollers.wrong == []
        assert server.cli("GET", "c:durable") == b'"new"'
        assert server.cli("GET", "c:amount") == b"107"


def test_writers_across_the_return(switch: Switch, client: Client[Any]) -> None:
    """Each thread has a key of its own, and always reads what it wrote or deleted last,
    or a miss; never what stood there before."""
    cache = Cache(client, prefix="c")
    stop = threading.Event()
    wrong: list[object] = []

    def work(name: str) -> None:
        dice, number = random.Random(name), 0
        try:
            while not stop.is_set():
                number += 1
                kind = dice.randrange(4)
                if kind == 0:
                    cache.set(name, number, ttl=60)
                elif kind == 1:
                    cache.delete(name)
                    cache.set(name, number)
                elif kind == 2:
                    cache.delete(name)
                else:
                    cache.invalidate(f"c:{name}")
                time.sleep(0.001)  # the switch is Python too, and wants the GIL
                allowed = [None, number] if kind < 2 else [None]
                for _ in range(3):
                    value = cache.get(name)
                    if value not in allowed:
                        wrong.append((name, kind, number, value))
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(f"k{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(ROUNDS):
            switch.off(client)
            switch.proxy.refuse = False
            wait_until(lambda: client.health()["breaker"] == "closed", "the return")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    switch.on(client)


def test_one_process_heals_before_another(
    redis_server: Server, switches: Callable[[], Switch]
) -> None:
    one, other = switches(), switches()
    clients = [Client(one.url, **PATIENT), Client(other.url, **PATIENT)]
    mine, theirs = (Cache(client, prefix="c") for client in clients)
    for key in ("a", "b", "c:1"):
        mine.set(key, "old", ttl=300)
    assert theirs.get("a") == "old"
    one.off(clients[0])
    other.off(clients[1])
    mine.delete("a")
    mine.set("b", "new", ttl=300)
    mine.invalidate("c:c:*")
    other.on(clients[1])
    # The other has nothing to tell: it may see what this one has not told yet.
    assert theirs.get_many(["a", "b", "c:1"]) == dict.fromkeys(["a", "b", "c:1"], "old")
    one.on(clients[0])
    for cache in (theirs, mine):
        assert cache.get_many(["a", "b", "c:1"]) == {}
    for client in clients:
        client.close()


KILLED_WITH_A_JOURNAL = """
import os, signal, sys, time
from redlane import Cache, Client
client = Client(sys.argv[1], timeout=30, connect_timeout=30)
cache = Cache(client, prefix="c")
assert cache.get("k") == "old"
print("ready", flush=True)
sys.stdin.readline()
while client.health()["breaker"] != "open":
    time.sleep(0.01)
cache.delete("k")
assert cache.get("k") is None
assert client.health()["journal"]["keys"] == 1
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_one_is_killed_with_its_journal(
    redis_server: Server, switches: Callable[[], Switch]
) -> None:
    """Nobody hears of what it deleted: the TTL is the bound."""
    switch = switches()
    cache = Cache(Client(redis_server.url, **PATIENT), prefix="c")
    cache.set("k", "old", ttl=300)
    assert killed_with_a_journal(switch) == -signal.SIGKILL
    switch.on()
    assert cache.get("k") == "old"
    assert 0 < redis_server.cli("TTL", "c:k") <= 300
    redis_server.cli("PEXPIRE", "c:k", 1)
    wait_until(lambda: cache.get("k") is None, "the end of its TTL")


def killed_with_a_journal(switch: Switch) -> int:
    """Runs the program above; its link goes once it is ready."""
    command = [sys.executable, "-c", KILLED_WITH_A_JOURNAL, switch.url]
    with started(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n", child.communicate()[1]
        switch.off()
        child.communicate("go\n", timeout=300)
        return child.returncode


def test_two_outages_in_a_row(switch: Switch, client: Client[Any]) -> None:
    cache = Cache(client, prefix="c")
    numbers = iter(range(1000))

    @cache(ttl=300)
    def f() -> int:
        return next(numbers)

    for number in range(ROUNDS):
        switch.off(client)
        assert cache.get("temporary") is None
        assert cache.get("permanent") is None
        assert cache.increment("amount") == 1
        first = f()
        assert f() == first
        cache.set("temporary", number, ttl=300)
        cache.set("permanent", number)
        switch.on(client)
        assert cache.get("temporary") is None
        assert cache.get("permanent") == 0
        assert f() > first
    assert cache.get("amount") == ROUNDS


def connections(server: Server) -> set[bytes]:
    """The ids of those that there are beside the one that asks."""
    lines: list[bytes] = server.cli("CLIENT", "LIST").splitlines()
    return {line.split()[0] for line in lines if b"cmd=client" not in line}


def test_a_short_return(switch: Switch, client: Client[Any]) -> None:
    """It is away again before anybody has asked it for anything."""
    cache = Cache(client, prefix="c")
    before = connections(switch.server)
    for _ in range(ROUNDS):
        switch.server.cli("SET", "c:k", '"old"')
        switch.off(client)
        cache.delete("k")
        cache.set("left", "of the first outage", ttl=300)
        switch.proxy.refuse = False
        wait_until(lambda: switch.server.cli("GET", "c:k") is None, "the replay")
        # Its connection ends once the breaker has closed.
        wait_until(lambda: connections(switch.server) <= before, "its end")
        switch.off(client)
        assert cache.get("left") is None
        switch.on(client)


def test_a_placement_while_another_process_rebuilds_the_counter(
    redis_server: Server, switches: Callable[[], Switch]
) -> None:
    """As examples/mural places a pixel: the owner is changed in the database, then both
    owners' counters and the canvas are told."""
    owners = dict.fromkeys(range(5), "ann") | {9: "bob"}

    def pixels(user: str) -> int:
        return list(owners.values()).count(user)

    one, other = switches(), switches()
    away, there = Client(one.url, **PATIENT), Client(other.url, **PATIENT)
    tools = []
    for client in (away, there):
        cache = Cache(client, prefix="mural")
        counter = cache.counter("pixels:{id}", ttl=300, source=pixels)
        tools.append((cache, counter))

    def place(process: int, spot: int, user: str) -> None:
        former, owners[spot] = owners[spot], user
        cache, counter = tools[process]
        counter.transfer(former, user)
        cache.delete("canvas")

    def canvas(process: int) -> Any:
        return tools[process][0].get_or_set(
            "canvas", lambda: sorted(owners.values()), ttl=300
        )

    for process in (0, 1):
        assert [tools[process][1].get(user) for user in ("ann", "bob")] == [5, 1]
        assert canvas(process) == sorted(owners.values())
    one.off(away)
    place(0, 0, "bob")
    assert [tools[0][1].get(user) for user in ("ann", "bob")] == [4, 2]
    redis_server.cli("DEL", "mural:pixels:ann")  # its TTL ends, say
    assert tools[1][1].get("ann") == 4  # the other rebuilds it: the database knows
    place(1, 1, "bob")
    place(0, 2, "bob")
    place(1, 0, "ann")
    one.on(away)
    for process in (0, 1):
        for user in ("ann", "bob"):
            assert tools[process][1].get(user) == pixels(user)
        assert canvas(process) == sorted(owners.values())
    away.close()
    there.close()


def test_placements_at_random(switches: Callable[[], Switch]) -> None:
    """Three processes place, read and lose their links; all healed, counters equal the
    truth."""
    owners = {spot: f"u{spot % 4}" for spot in range(40)}
    users = ["u0", "u1", "u2", "u3"]
    database = threading.Lock()

    def pixels(user: str) -> int:
        with database:
            return list(owners.values()).count(user)

    links = [switches() for _ in range(3)]
    clients = [Client(link.url, **PATIENT) for link in links]
    counters = [Counter(c, "px:{id}", ttl=300, source=pixels) for c in clients]
    stop, failures = threading.Event(), []

    def work(number: int) -> None:
        dice, counter = random.Random(number), counters[number % 3]
        try:
            while not stop.is_set():
                if dice.random() < 0.5:
                    spot, user = dice.randrange(40), dice.choice(users)
                    with database:  # one step, for who rebuilds a counter meanwhile
                        former, owners[spot] = owners[spot], user
                        counter.transfer(former, user)
                else:
                    assert counter.get(dice.choice(users)) >= 0
                time.sleep(0.001)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    dice = random.Random(1)
    try:
        for _ in range(3 * ROUNDS):
            number = dice.randrange(3)
            links[number].off(clients[number])
            if dice.random() < 0.7:
                number = dice.randrange(3)
            links[number].proxy.refuse = False
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    for link, client in zip(links, clients, strict=True):
        link.on(client)
    assert failures == []
    for counter in counters:
        assert {user: counter.get(user) for user in users} == {
            user: pixels(user) for user in users
        }
    for client in clients:
        client.close()


def replay_cut(switch: Switch, cut: Callable[[], None]) -> dict[str, Any]:
    """An outage with changes of each kind, whose replay is spoilt by `cut` until one
    connection has ended by it; what the server holds in the end."""
    server = switch.server
    server.cli("FLUSHALL")
    client = Client(switch.url, **PATIENT)
    cache = Cache(client, prefix="c")
    for n in range(4):
        server.cli("SET", f"c:old:{n}", '"old"')
        server.cli("SET", f"c:match:{n}", '"old"')
        server.cli("SET", f"c:amount:{n}", "100")
    assert cache.get("old:0") == "old"
    switch.off(client)
    for n in range(4):
        cache.delete(f"old:{n}")
        cache.increment(f"amount:{n}", 7)
        cache.set(f"new:{n}", n)
    cache.invalidate("c:match:*")
    before = switch.proxy.connections
    cut()
    switch.proxy.refuse = False
    wait_until(
        lambda: switch.proxy.connections > before + 1 or is_well(client), "a cut"
    )
    switch.proxy.heal()
    switch.on(client)
    found = {key: cache.get(key) for key in ("old:0", "match:3", "amount:0", "new:0")}
    found["lost"] = client.health()["journal"]["lost"]
    found["amounts"] = [int(server.cli("GET", f"c:amount:{n}")) for n in range(4)]
    found["keys"] = sorted(server.cli("KEYS", "c:*"))
    client.close()
    return found


@pytest.mark.parametrize("side", ["replies", "requests"])
def test_the_server_dies_again_in_the_middle_of_the_replay(
    switch: Switch, side: str
) -> None:
    """After byte k, of either side: nothing twice, nothing forgotten."""
    kept = sorted(
        f"c:{kind}:{n}".encode() for kind in ("amount", "new") for n in range(4)
    )
    setting = "cut_after" if side == "replies" else "cut_requests_after"
    counted, step = 0, 7 if "REDLANE_SOAK" in os.environ else 97
    for k in range(0, 1200 if side == "replies" else 2600, step):
        found = replay_cut(switch, lambda k=k: setattr(switch.proxy, setting, k))
        assert found["keys"] == kept, k
        assert set(found["amounts"]) <= {100, 107}, k
        assert found["amounts"].count(100) <= found["lost"], k
        assert found["old:0"] is None and found["match:3"] is None, k
        assert found["new:0"] == 0, k
        counted += found["amounts"].count(107)
    assert counted > 0


def test_a_value_set_again_after_a_replay_of_unknown_outcome(switch: Switch) -> None:
    """The server has stored the first one, but its answer is lost: what was set after
    it overwrites it."""
    proxy, server = switch.proxy, switch.server
    before = connections(server)
    proxy.refuse = True
    client = Client(switch.url, **PATIENT)
    Cache(client, prefix="c").set("x", "first")
    proxy.refuse = False
    wait_until(lambda: server.cli("EXISTS", "c:x"), "the replay")
    wait_until(lambda: connections(server) <= before, "its end")
    whole = proxy._pairs[-1].replied  # of a probe and its replay, ":1" at its end
    client.close()
    proxy.refuse = True
    client = Client(switch.url, **PATIENT)
    cache = Cache(client, prefix="c")
    cache.set("k", "first")
    proxy.cut_after = whole - 2
    proxy.refuse = False
    wait_until(lambda: server.cli("EXISTS", "c:k"), "the replay")
    wait_until(lambda: proxy.cuts, "the cut")
    proxy.refuse = True
    cache.set("k", "second")
    cache.set("k", "third")
    assert cache.get("k") == "third"
    proxy.heal()
    switch.on(client)
    assert cache.get("k") == "third"
    client.close()
