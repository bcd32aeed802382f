"""What was computed before an invalidation of its key, tag or pattern is not stored
after it, nor given to a caller that came after it: with the loader held in one process
between its read and its store, the invalidation by another, and callers in the first
and in a third."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from children import started
from redlane import Cache, Client
from servers import Server

PATIENCE = {"timeout": 60.0, "connect_timeout": 60.0}

# A process that does what it is told by lines: each call is in a thread of its own.
# Where it has read a certain value it keeps that until it is told "go".
PROGRAM = """
import sys, threading
from redlane import Cache, Client

url, what, near, holds = sys.argv[1], sys.argv[2], sys.argv[3] == "near", sys.argv[4]
client = Client(url, timeout=60, connect_timeout=60)
cache = Cache(client, prefix="app", ttl=300, near=near)
view = cache.namespace("n") if what == "namespace" else cache
gate, lock = threading.Event(), threading.Lock()

def say(line):
    with lock:
        print(line, flush=True)

def load():
    value = client.get("source").decode()
    if value == holds and not gate.is_set():
        say("read")
        assert gate.wait(60)
    return value

@view(key="held", tags="t" if what == "tag" else None)
def f():
    return load()

reads = {"f": f, "get_or_set": lambda: view.get_or_set("set", load),
         "get": lambda: view.get("held"), "get set": lambda: view.get("set")}

def call(number, name):
    say(f"{number} {name} {reads[name]()}")

threads = []
for line in sys.stdin:
    word, _, rest = line.strip().partition(" ")
    if word == "go":
        gate.set()
    else:
        threads.append(threading.Thread(target=call, args=(word, rest)))
        threads[-1].start()
for thread in threads:
    thread.join()
"""


class Member:
    """One of the processes."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self.child = child

    def tell(self, line: str) -> None:
        assert self.child.stdin
        self.child.stdin.write(line + "\n")
        self.child.stdin.flush()

    def hear(self) -> str:
        assert self.child.stdout
        return self.child.stdout.readline().strip()


Start = Callable[..., Member]


@pytest.fixture
def start(redis_server: Server) -> Iterator[Start]:
    with ExitStack() as stack:

        def begin(what: str, near: str, holds: str = "") -> Member:
            command = [sys.executable, "-c", PROGRAM, redis_server.url]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            child = started([*command, what, near, holds], **pipes)
            return Member(stack.enter_context(child))

        yield begin


# How another process, with a cache of its own, invalidates both values.
WAYS: dict[str, Callable[[Cache], object]] = {
    "key": lambda cache: [cache.delete("held"), cache.delete("set")],
    "keys": lambda cache: cache.delete_many(["held", "set"]),
    "pattern": lambda cache: cache.invalidate("app:*"),
    "all": lambda cache: cache.clear(),
    "server": lambda cache: cache.client.flushdb(),
    "tag": lambda cache: [cache.invalidate_tags("t"), cache.delete("set")],
    "namespace": lambda cache: cache.namespace("n").clear(),
}


@pytest.mark.parametrize("near", ["near", "far"])
@pytest.mark.parametrize("what", WAYS)
def test_a_loader_that_is_held(
    redis_server: Server, start: Start, what: str, near: str
) -> None:
    redis_server.cli("SET", "source", "old")
    holder, other = start(what, near, "old"), start(what, near)
    holder.tell("1 f")
    holder.tell("1 get_or_set")
    assert [holder.hear(), holder.hear()] == ["read", "read"]
    # The new truth, and then the invalidation by this process.
    redis_server.cli("SET", "source", "new")
    with Client(redis_server.url, **PATIENCE) as client:
        WAYS[what](Cache(client, prefix="app", ttl=300, near=near == "near"))
        if what == "server":
            redis_server.cli("SET", "source", "new")
    # Callers that come after it, there and in the process that holds the old one.
    for member in (other, holder):
        for name in ("f", "get_or_set"):
            member.tell(f"2 {name}")
    if what in ("tag", "namespace"):
        # The key is not touched: who finds the lease there waits for its end first.
        holder.tell("go")
    assert {other.hear(), other.hear()} == {"2 f new", "2 get_or_set new"}
    holder.tell("go")
    answers = {holder.hear() for _ in range(4)}
    assert answers == {
        *("1 f old", "1 get_or_set old"),  # they came before
        *("2 f new", "2 get_or_set new"),
    }
    # What is there now is the new value, for all.
    for member in (holder, other):
        for name in ("f", "get_or_set", "get", "get set"):
            member.tell(f"3 {name}")
            assert member.hear() == f"3 {name} new"


@pytest.mark.parametrize("near", ["near", "far"])
@pytest.mark.parametrize("what", ["key", "pattern", "server"])
def test_a_caller_between_two_loaders(
    redis_server: Server, start: Start, what: str, near: str
) -> None:
    """One of its own process, begun before the invalidation, and one of another, begun
    after it: it waits for that."""
    redis_server.cli("SET", "source", "old")
    holder, other = start(what, near, "old"), start(what, near, "new")
    holder.tell("1 f")
    assert holder.hear() == "read"
    redis_server.cli("SET", "source", "new")
    with Client(redis_server.url, **PATIENCE) as client:
        WAYS[what](Cache(client, prefix="app", ttl=300, near=near == "near"))
        redis_server.cli("SET", "source", "new")
    other.tell("2 f")
    assert other.hear() == "read"
    for number in (3, 4):
        holder.tell(f"{number} f")
    time.sleep(0.3)  # time enough to be given the old one
    holder.tell("go")
    assert holder.hear() == "1 f old"  # it came before
    other.tell("go")
    assert other.hear() == "2 f new"
    assert {holder.hear(), holder.hear()} == {"3 f new", "4 f new"}
