"""Memory that is not there, and memory that must not grow.

The short sizes take seconds; `make soak` runs the full ones.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from operator import gt
from pathlib import Path

import pytest
import redlane
from kept_code import environment
from proxy import Proxy
from redlane import Cache, Client
from scripted import Gone, Peer, scripted
from servers import Server

# Each call is made with its n-th allocation failing, for n = 1, 2, … until it succeeds.
# msgspec and PyContextVar_Set end the process themselves, so neither is called.
NO_MEMORY = """
import contextvars, faulthandler, functools, logging, sys
faulthandler.enable()
import _testcapi, msgspec.json
from kept_code import keep_code
msgspec.json.encode, msgspec.json.decode = lambda value: b"[1]", lambda data: [1, "a"]
import redlane
from redlane import Cache, Client, Counter, VideoCache, content_key
from redlane import Cooldown, Presence, RateLimiter, RedisCache

contextvars.ContextVar("made").set(1)  # the thread's context too
logging.disable(logging.CRITICAL)
url, together, most = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
client = Client(url, timeout=60, connect_timeout=60)
text = Client(url, timeout=60, connect_timeout=60, decode_responses=True)
cache = Cache(client, ttl=60)
counter = Counter(client, "n:{id}", ttl=60, source=lambda id: 5)
video = VideoCache(client)

class Serializer:
    def dumps(self, value):
        return b"xyz"
    def loads(self, data):
        return [1, 2]

class Long(Serializer):
    def dumps(self, value):
        return b"xyz" * 50

KEYS = ["k" * 16, "l" * 16]
other = Cache(client, prefix="s", serializer=Serializer())
sealed = Cache(
    client, "sealed", 60, Long(), seal=KEYS, compress="zlib", compress_above=100
)

@cache
def cached(a, b=2, *, k="x"):
    return [a]

def fail(a):
    raise LookupError

def failing():
    try:
        cache(name="bad")(fail)(1)
    except LookupError:
        pass

def pipeline(transaction):
    pipe = client.pipeline(transaction=transaction)
    pipe.set("k", 1).get("k").hset("h", mapping={"a": 1}).hgetall("h")
    pipe.zadd("z", {"a": 1}).zrange("z", 0, -1, withscores=True).incr("h")
    results = pipe.execute(raise_on_error=False)
    assert results[:2] + results[3:4] == [True, b"1", {b"a": b"1"}], results

def plain(a, b=3, *c, **d):
    return a

def three():
    return 3

def decorated():
    # No function is made in here: where that finds no memory, CPython 3.12 and 3.13
    # release its code object once too often.
    function = cache(ttl=300, name="n", ignore=["b"])(plain)
    function(1, 2, 3, z=1)
    function.invalidate(1)
    function.invalidate_all()
    repr(function)

def minute(result):
    return "1m"

class Thing:
    def __cache_key__(self):
        return 1
    @cache
    def method(self, a, b=2):
        return [a]
    @cache
    @classmethod
    def of_class(cls, a):
        return [a]
    def plain(self, a):
        return [a]

thing = Thing()
template = cache(plain, key="{a}-{b}/{c}:{d}", namespace="n", ttl=minute, jitter=0.5)
made = cache(plain, key=repr)
negative = cache(fail, name="negative", cache_exceptions={LookupError: "1m"})
partial = functools.partial(plain, 1, z=2)

def options():
    assert template(1, "-", 3, z="x" * 300) == [1, "a"]
    template.invalidate(1, "-", 3, z="x" * 300)
    made(5)
    made.invalidate(5)

def raised():
    try:
        negative(1)
    except LookupError:
        pass

def decorated_more():
    cache(key="{a}:{b}:{c}:{d}", cache_exceptions={LookupError: 1})(plain)
    assert cache(partial)(5, 6) == [1, "a"]
    cache(thing.plain)(1)
    for wrong in ({"key": "{x}"}, {"ttl": "x"}, {"cache_exceptions": {int: 1}}):
        try:
            cache(plain, **wrong)
        except (TypeError, ValueError):
            pass

def methods():
    thing.method(1)
    bound = thing.method
    bound(1, b=2)
    bound.cache_key(1)
    bound.invalidate(1)
    bound == thing.method
    thing.of_class(1)
    Thing.of_class.invalidate(1)

limiters = [
    RateLimiter(client, name, hashed=name == "gcra")
    for name in ("sliding-window", "fixed-window", "sliding-log", "gcra")
]
cooldown = Cooldown(client, 3600)
presence = Presence(client, "here")
tenant = RedisCache.from_client(client).with_context("app", "device")
RATES = ["3/minute", (4, 3600)]

def limited(limiter):
    decision = limiter.hit("u", RATES, 2)
    decision.limits, decision.remaining, repr(decision)
    limiter.hit(7, "3/minute")
    limiter.peek("u", RATES)
    limiter.refund("u", RATES, cost=2)
    limiter.reset("u", RATES)
    limiter.stats()
    repr(limiter)
    for wrong in ("never", (0, 1), [], "5/minute burst 9"):
        try:
            limiter.hit("u", wrong)
        except redlane.ConfigurationError:
            pass

def made_limiters():
    RateLimiter(client, "gcra", "deny", prefix="p", hashed=True).aio
    Cooldown(client, "5m", prefix="q").aio

def cooled():
    repr(cooldown.acquire("u"))
    cooldown.peek("u")
    cooldown.reset("u")

def met():
    presence.join("ann", 1)
    presence.online("ann")
    presence.members()
    presence.leave("ann", 1)

def shared():
    tenant.set("k", b"v", 60)
    tenant.get("k")
    tenant.stats()
    tenant.flush_app()

def opened():
    with Client(url, timeout=60, connect_timeout=60, name="n") as made:
        made.get("k")
        made.health()

calls = [
    lambda: client.set("k", "v", ex=10),
    lambda: client.get("k"),
    lambda: text.get("k"),
    lambda: client.mget(["k", "none", "k"]),
    lambda: client.mset({"k": 1, "l": 2}),
    lambda: text.hgetall("h"),
    lambda: client.info(),
    lambda: list(client.scan_iter(count=2)),
    lambda: client.time(),
    lambda: client.health(),
    lambda: pipeline(False),
    lambda: pipeline(True),
    lambda: cached(1, k="\\xe9"),
    lambda: cached.refresh(1),
    lambda: cached.invalidate(1),
    lambda: cached.invalidate_all(),
    lambda: cached.cache_key({"a": [1, 2]}, "x" * 500),
    lambda: cached.cache_info(),
    failing,
    decorated,
    options,
    raised,
    decorated_more,
    methods,
    opened,
    lambda: cache.set("a", 1, ttl=60),
    lambda: cache.get("a"),
    lambda: cache.add("a", 1),
    lambda: cache.get_or_set("b", three),
    lambda: cache.get_many(["a", "b", "c"]),
    lambda: cache.set_many({"a": 1, "b": [2]}, ttl=9),
    lambda: cache.delete_many(["a", "b"]),
    lambda: cache.invalidate("cache:*"),
    lambda: cache.increment("i"),
    lambda: cache.stats(),
    lambda: other.set("a", (1,)),
    lambda: other.get("a"),
    lambda: Cache(client, serializer=Long(), seal=KEYS, compress="zlib"),
    lambda: sealed.set("a", 1),
    lambda: sealed.get("a"),
    lambda: sealed.touch("a", 50),
    lambda: (client.set("sealed:a", b"x"), sealed.get("a")),
    lambda: counter.get(1),
    lambda: counter.increment(1),
    lambda: counter.transfer(1, 2),
    lambda: video.set("b", ["w"], "u"),
    lambda: video.get("b", ["w"]),
    lambda: video.get_stats(),
    lambda: content_key("video", "b", ["a", "\\xfc"]),
    *(functools.partial(limited, one) for one in limiters),
    made_limiters,
    cooled,
    met,
    shared,
]
assert client.hset("h", mapping={"a": 1}) >= 0
failures = 0
for number, call in enumerate(calls):
    call()
    keep_code(sys._getframe().f_code)
    for first in range(1, most):
        error = None
        try:  # to enter a handler takes memory too: one of these has some again
            try:
                try:
                    _testcapi.set_nomemory(first, first + together)
                    call()
                except BaseException as caught:
                    error = caught
            except MemoryError as caught:
                error = caught
        except MemoryError as caught:
            error = caught
        _testcapi.remove_mem_hooks()
        if error is None:
            break
        assert isinstance(error, MemoryError), (number, first, repr(error))
        failures += 1
    call()
assert failures > len(calls)
"""


@pytest.mark.parametrize("together", [1, 3])
@pytest.mark.parametrize("executor", ["engine", "redis"])
def test_no_memory_is_a_memory_error(
    executor: str, together: int, redis_server: Server
) -> None:
    pytest.importorskip("_testcapi")  # not every Python is built with it
    url = "memory://" if executor == "engine" else redis_server.url
    done = subprocess.run(
        [sys.executable, "-c", NO_MEMORY, url, str(together), "3000"],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


# What is looked up by a name is there, or there is no memory to look: never is it taken
# for missing. Each call gives the same as ever, or a MemoryError.
LOOKED_UP = """
import contextvars, dataclasses, faulthandler, logging, sys
faulthandler.enable()
import _testcapi, msgspec.json
from kept_code import keep_code
msgspec.json.decode = lambda data: {"video_url": "u"}  # its own ends the process
from redlane import Cache, Client, VideoCache

contextvars.ContextVar("made").set(1)  # the thread's context too

logging.disable(logging.CRITICAL)
engine = Client("memory://")
video = VideoCache(engine)
video.set("a", ["b"], "u")
scripted = Client(sys.argv[1], timeout=60, connect_timeout=60)
cache = Cache(engine)

@dataclasses.dataclass
class Point:
    x: int

def point(x: int) -> Point:
    return Point(x)

async def awaited():
    return 1

awaited.__name__ = "renamed"
made = []

def decorate():
    made[:] = [cache(point, name="p", ttl=60)]
    return True

def typed():
    made[0].invalidate_all()
    return [type(made[0](1)) for _ in range(2)]

video.get("a", ["b"]), cache(awaited), decorate(), typed(), scripted.info()
calls = [
    (lambda: scripted.info()["modules"], [{"name": "a"}, {"name": "b"}], None),
    (lambda: Client.from_env(default="memory://").url, "memory://", None),
    (lambda: video.get("a", ["b"]), "u", None),
    (lambda: cache(awaited).__name__, "renamed", None),
    (decorate, True, lambda: typed() == [Point, Point]),
]
failures = 0
for number, (call, wanted, check) in enumerate(calls):
    call()  # what it imports is there
    keep_code(sys._getframe().f_code)
    fine = 0
    for first in range(1, 3000):
        error = result = None
        try:
            _testcapi.set_nomemory(first, first + 1)
            result = call()
        except BaseException as caught:
            error = caught
        _testcapi.remove_mem_hooks()
        if error is not None:
            # CPython says so where there is no room for one more frame.
            room = "error return without exception set" in str(error)
            assert room or isinstance(error, MemoryError), (number, first, repr(error))
            failures += 1
            fine = 0
            continue
        assert result == wanted, (number, first, result)
        assert check is None or check(), (number, first)
        fine += 1
        if fine == 40:
            break
assert failures > 2 * len(calls), failures
"""


def tell_info(peer: Peer) -> None:
    text = b"module:name=a\r\nmodule:name=b\r\n"
    peer.greet()
    with contextlib.suppress(Gone):
        while True:
            assert peer.read() == [b"INFO"]
            peer.send(b"$%d\r\n%b\r\n" % (len(text), text))


def test_no_memory_is_not_taken_for_nothing_there() -> None:
    pytest.importorskip("_testcapi")  # not every Python is built with it
    with scripted(tell_info) as server:
        done = subprocess.run(
            [sys.executable, "-c", LOOKED_UP, server.url],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 0, done.stderr


# --- what must not grow -----------------------------------------------------------


def fault_cycles(server: Server, proxy: Proxy) -> list[Callable[[int], object]]:
    """Clients and tools that meet a fault and are dropped."""

    def refused(number: int) -> None:
        with Client("redis://127.0.0.1:1", timeout=0.05) as client:
            client.get("a")

    def cut(number: int) -> None:
        proxy.cut_after = 400
        client = Client(proxy.url, timeout=0.5)
        client.set("a", "x" * 500)
        client.get("a")

    def reset(number: int) -> None:
        proxy.cut_after = None
        client = Client(proxy.url, timeout=0.5, fallback="memory")
        client.get("a")
        proxy.reset_all()
        client.get("a")
        client.set("a", 1)

    def late(number: int) -> None:
        client = Client(server.url, timeout=0.002)
        client.execute_command("DEBUG", "SLEEP", "0.003")

    def computed(number: int) -> None:
        cache = Cache(server.url, prefix="l", ttl=1)
        cache(name="q")(lambda number: [number])(number)

    def computed_away(number: int) -> None:
        cache = Cache("redis://127.0.0.1:1", prefix="l", ttl=1)
        cache(name="q")(lambda number: [number])(number)
        cache.set("a", 1)

    def forbidden(number: int) -> None:
        Client(f"redis://user:pw@127.0.0.1:{server.port}", timeout=0.5).get("a")

    return [refused, cut, reset, late, computed, computed_away, forbidden]


def measure() -> tuple[int, int, int, int]:
    """Descriptors, threads of Python and of all, kilobytes."""
    gc.collect()
    time.sleep(0.2)
    kilobytes = int(Path("/proc/self/statm").read_text().split()[1]) * 4
    return (
        len(os.listdir("/proc/self/fd")),
        threading.active_count(),
        len(os.listdir("/proc/self/task")),
        kilobytes,
    )


@pytest.fixture
def unkept_records() -> Iterator[None]:
    """Lines are made as ever, and dropped: pytest would keep each until the end of the
    test, tens of thousands in the long run."""

    def drop(record: logging.LogRecord) -> bool:
        return False

    logger = logging.getLogger("redlane")
    logger.addFilter(drop)
    yield
    logger.removeFilter(drop)


@pytest.mark.usefixtures("unkept_records")
@pytest.mark.parametrize("cycles", [700, pytest.param(100_000, marks=pytest.mark.soak)])
def test_faults_leave_nothing_behind(fresh_server: Server, cycles: int) -> None:
    with Proxy(fresh_server.port) as proxy:
        ways = fault_cycles(fresh_server, proxy)

        def run(count: int) -> None:
            for number in range(count):
                with contextlib.suppress(redlane.RedlaneError):
                    ways[number % len(ways)](number)

        # A sanitizer keeps what is freed, for a while.
        most = 1 << 40 if os.environ.get("REDLANE_SANITIZED") else 8 * 1024
        limits = (2, 2, 2, most)

        def grown() -> list[int]:
            return [now - was for now, was in zip(measure(), before, strict=True)]

        run(700)
        before = measure()
        run(cycles)
        end = time.monotonic() + 60
        # The threads of the proxy and the probes end a little later.
        while any(map(gt, left := grown(), limits)):
            assert time.monotonic() < end, left
