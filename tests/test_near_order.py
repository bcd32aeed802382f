"""Replies and invalidations in every order, as a scripted server sends them, on links
of RESP3 and of RESP2; and own writes whose end nobody knows."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redlane
from children import wait_until_asleep
from near_story import Story, told
from near_tools import near_hits, near_state, settle, wait_for_near, warm
from outage_tools import BOUND, wait_until
from redlane import Cache, Client
from servers import Server
from test_near_races import Holding

KEY = b"cache:k"
SILENCE = 2.0  # seconds: two ping intervals
PATIENCE = {"timeout": BOUND, "connect_timeout": BOUND}


@pytest.fixture(params=[True, False], ids=["resp3", "resp2"])
def story(request: pytest.FixtureRequest) -> Iterator[Story]:
    with told(request.param) as made:
        yield made


@pytest.fixture
def client(story: Story) -> Iterator[Client[bytes]]:
    with Client(story.url, **PATIENCE) as made:
        yield made


@pytest.fixture
def cache(client: Client[bytes], story: Story) -> Cache:
    made = Cache(client, fallback="raise")
    made.get("nothing")
    wait_for_near(client)
    protocol = "RESP3" if story.resp3 else "RESP2"
    assert near_state(client)["protocol"] == protocol
    return made


class Read:
    """A way to read KEY, and the command that brings its value."""

    def __init__(self, cache: Cache, name: str) -> None:
        @cache(key="k")
        def function() -> str:
            return "computed"

        self.call: Callable[[], Any] = {
            "get": lambda: cache.get("k"),
            "get_many": lambda: cache.get_many(["k"])["k"],
            "get_or_set": lambda: cache.get_or_set("k", list),
            "function": function,
        }[name]
        self.command = {"get": b"GET", "get_many": b"MGET"}.get(name, b"SET")


WAYS = ("get", "get_many", "get_or_set", "function")


@pytest.fixture(params=WAYS)
def read(request: pytest.FixtureRequest, cache: Cache) -> Read:
    return Read(cache, request.param)


class Caller:
    """One call in a thread of its own."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.results: list[Any] = []
        self.thread = threading.Thread(target=lambda: self.results.append(call()))
        self.thread.start()

    def result(self) -> Any:
        self.thread.join(BOUND)
        (result,) = self.results
        return result


def hear(client: Client[bytes], say: Callable[[], object], what: str) -> None:
    """Has the server say something, until this process has heard it."""
    before = near_state(client)[what]
    say()
    wait_until(lambda: near_state(client)[what] > before, f"a change of {what}")


NEWS: dict[str, tuple[str, Callable[[Story], None]]] = {
    "key": ("invalidations", lambda story: story.tell(KEY)),
    "several": ("invalidations", lambda story: story.tell(b"cache:a", KEY)),
    "all": ("flushes", lambda story: story.tell()),
    "no link": ("links", lambda story: story.lose_link()),
}


@pytest.mark.parametrize("news", NEWS)
@pytest.mark.parametrize("between", [False, True], ids=["before", "between"])
def test_the_message_is_read_before_the_reply(
    story: Story, client: Client[bytes], read: Read, news: str, between: bool
) -> None:
    """Or after the value and before what PTTL says: it is handed out, and not kept."""
    counted, say = NEWS[news]
    story.values[KEY] = b'"old"'
    hold = story.hold(b"PTTL" if between else read.command)
    caller = Caller(read.call)
    hold.wait()  # the server has read the old value
    story.change(KEY, b'"new"', tell=False)
    hear(client, lambda: say(story), counted)
    hold.let_go()
    assert caller.result() == "old"  # it was called before
    assert near_state(client)["stores"] == 0
    asked = story.count(read.command)
    assert read.call() == "new"
    assert story.count(read.command) == asked + 1
    assert warm_up(story, read) == "new"


def warm_up(story: Story, read: Read) -> Any:
    """Reads until the server is not asked."""
    values = []

    def is_near() -> bool:
        asked = story.count(read.command)
        values.append(read.call())
        return story.count(read.command) == asked

    wait_until(is_near, "a near hit")
    return values[-1]


@pytest.mark.parametrize("news", NEWS)
def test_the_reply_is_read_before_the_message(
    story: Story, client: Client[bytes], read: Read, news: str
) -> None:
    """It is kept until that comes."""
    story.values[KEY] = b'"old"'
    assert warm_up(story, read) == "old"
    story.change(KEY, b'"new"', tell=False)
    asked = story.count(read.command)
    assert [read.call() for _ in range(3)] == ["old"] * 3  # nobody has heard of it
    assert story.count(read.command) == asked
    counted, say = NEWS[news]
    hear(client, lambda: say(story), counted)
    assert read.call() == "new"
    assert warm_up(story, read) == "new"


def test_a_value_that_has_expired_by_then_is_not_kept(
    story: Story, client: Client[bytes], read: Read
) -> None:
    """The time that PTTL tells is of after the value was read."""
    story.values[KEY] = b'"old"'
    for left in (-2, 0):
        story.lives[KEY] = left
        assert [read.call(), read.call()] == ["old"] * 2
    assert near_state(client)["stores"] == 0
    story.lives[KEY] = 3_600_000
    assert warm_up(story, read) == "old"


def test_the_epoch_is_of_before_the_sending(story: Story) -> None:
    """A read that waits for its turn on the only connection has it already. A message
    that comes meanwhile may be of later than the value, for all that it knows."""
    with Client(story.url, pool_size=1, **PATIENCE) as client:
        cache = Cache(client)
        cache.get("nothing")
        wait_for_near(client)
        hold = story.hold(b"GET")
        first = Caller(lambda: cache.get("another"))
        hold.wait()
        second = Caller(lambda: cache.get("k"))
        assert second.thread.native_id
        wait_until_asleep(os.getpid(), second.thread.native_id)
        story.change(KEY, b'"new"')
        # Who asks twice has read what was there before the first time.
        pings = story.pings
        wait_until(lambda: story.pings >= pings + 2, "two pings")
        hold.let_go()
        assert (first.result(), second.result()) == (None, "new")
        gets = story.count(b"GET")
        assert cache.get("k") == "new"
        assert story.count(b"GET") == gets + 1  # it was not kept
        assert cache.get("k") == "new"
        assert story.count(b"GET") == gets + 1


# --- own writes -------------------------------------------------------------------


def write_refused(story: Story, client: Client[bytes]) -> None:
    story.writes.append("refused")
    with pytest.raises(redlane.ReplyError):
        Cache(client, fallback="raise").set("k", "own")


def write_lost(story: Story, client: Client[bytes]) -> None:
    story.writes.append("lost")
    with pytest.raises(redlane.ConnectionError):
        Cache(client, fallback="raise").set("k", "own")


def write_late(story: Story, client: Client[bytes], seconds: float = 0.3) -> None:
    story.writes.append("late")
    with Client(story.url, timeout=seconds, connect_timeout=BOUND) as hasty:
        with pytest.raises(redlane.TimeoutError):
            Cache(hasty, fallback="raise", near=False).set("k", "own")


FAILURES = {"refused": write_refused, "lost": write_lost, "late": write_late}


@pytest.mark.parametrize("name", FAILURES)
def test_an_own_write_that_failed_ends_what_is_near(
    story: Story, client: Client[bytes], cache: Cache, name: str
) -> None:
    """And what was being read meanwhile is not kept: perhaps it was done."""
    story.values[KEY] = b'"old"'
    read = Read(cache, "get")
    assert warm_up(story, read) == "old"
    story.change(KEY, b'"older"', tell=False)  # so that one sees what is asked for
    FAILURES[name](story, client)
    wait_until(lambda: client.health()["breaker"] == "closed", "the verdict")
    assert cache.get("k") == "older"
    hear(client, lambda: story.tell(KEY), "invalidations")

    hold = story.hold(b"GET")
    caller = Caller(lambda: cache.get("k"))
    hold.wait()
    stores = near_state(client)["stores"]
    with Client(story.url, **PATIENCE) as other:  # a link that is in no doubt
        FAILURES[name](story, other)
    hold.let_go()
    assert caller.result() == "older"
    assert near_state(client)["stores"] == stores
    assert warm_up(story, read) == "older"
    # What was sent is executed at last: everybody is told, its writer too.
    story.change(KEY, b'"own"')
    wait_until(lambda: cache.get("k") == "own", "the write")
    assert warm_up(story, read) == "own"


@pytest.mark.parametrize("name", ["done", *FAILURES])
def test_what_was_read_during_an_own_write_is_not_believed(
    story: Story, client: Client[bytes], cache: Cache, name: str
) -> None:
    """What was near ends before it is sent. What is read meanwhile may be kept; when
    the write has ended, however it has, it is not, though no message has come."""
    story.values[KEY] = b'"old"'
    read = Read(cache, "get")
    assert warm_up(story, read) == "old"
    with Client(story.url, **PATIENCE) as other:
        hold = story.hold(b"SET", after=False)
        ways: dict[str, Callable[[], object]] = {
            "done": lambda: Cache(other).set("k", "own"),
            "refused": lambda: write_refused(story, other),
            "lost": lambda: write_lost(story, other),
            "late": lambda: write_late(story, other, 1.5),  # when all is read
        }
        writer = Caller(ways[name])
        hold.wait()
        asked = story.count(b"GET")
        assert cache.get("k") == "old"
        assert story.count(b"GET") == asked + 1
        assert warm_up(story, read) == "old"
        hits = near_hits(cache)
        hold.let_go()
        writer.result()
        asked = story.count(b"GET")
        assert cache.get("k") == ("own" if name == "done" else "old")
        assert story.count(b"GET") == asked + 1
        assert near_hits(cache) == hits


# --- a link that says nothing -----------------------------------------------------


def test_a_silent_link_is_believed_for_two_intervals(
    story: Story, client: Client[bytes], cache: Cache
) -> None:
    """The server answers every question, but does not tell what changes."""

    @cache(key="k")
    def function() -> str:
        return "computed"

    story.values[KEY] = b'"old"'
    reads = {name: Read(cache, name) for name in WAYS}
    for read in reads.values():
        assert warm_up(story, read) == "old"
    links = near_state(client)["links"]
    story.silent = True
    story.change(KEY, b'"new"')
    written = time.monotonic()
    seen: set[str] = set()
    while len(seen) < len(reads):
        for name, read in reads.items():
            begun = time.monotonic()
            value = read.call()
            if value == "new":
                seen.add(name)
            else:
                assert value == "old"
                assert name not in seen
                assert begun < written + SILENCE
        time.sleep(0.01)
    # Hits end a moment before the link does: an answer in between would keep it.
    wait_until(
        lambda: (
            near_state(client)["state"] != "on" or near_state(client)["links"] > links
        ),
        "the end of the link",
    )
    story.silent = False
    wait_until(lambda: near_state(client)["links"] > links, "another link")
    for read in reads.values():
        assert warm_up(story, read) == "new"


# --- tags -------------------------------------------------------------------------


@pytest.fixture
def proxy(redis_server: Server) -> Iterator[Holding]:
    with Holding(redis_server.port) as made:
        assert isinstance(made, Holding)
        yield made
        made.let_go()


def tagged(
    cache: Cache, what: str, way: str = "function"
) -> tuple[Cache, bytes, Callable[[], Any]]:
    """A cache, the key of a generation, and a read of a value that carries it."""
    view = cache.namespace("n") if what == "namespace" else cache
    key = b"cache:n:@namespace" if what == "namespace" else b"cache:@tag:t"
    if way == "get":
        view.set("set", "old value", tags="t")
        return view, key, lambda: view.get("set")

    @view(tags="t", key="held")
    def function() -> str:
        source = view.client.get("source")
        return str(source.decode())

    return view, key, function


@pytest.mark.parametrize("way", ["function", "get"])
@pytest.mark.parametrize("what", ["tag", "namespace"])
def test_a_generation_ends_while_its_value_is_read(
    redis_server: Server, proxy: Holding, what: str, way: str
) -> None:
    """The message of that overtakes the value: it is handed out, and not kept."""
    with (
        Client(proxy.url, **PATIENCE) as client,
        Client(redis_server.url, **PATIENCE) as other,
    ):
        cache = Cache(client, ttl=300)
        other.set("source", "old value")
        view, key, read = tagged(cache, what, way)
        assert read() == "old value"
        settle(client)  # on the server alone
        proxy.hold(b"old value")
        caller = Caller(read)
        assert proxy.held.wait(BOUND)
        other.set("source", "new value")
        hear(client, lambda: redis_server.cli("DEL", key), "invalidations")
        proxy.let_go()
        # It was called before. (The generations that a key has are asked for later,
        # unless the cache knows them beforehand.)
        result = caller.result()
        assert result == "old value" or (way, result) == ("get", None)
        after = "new value" if way == "function" else None
        assert [read(), read()] == [after] * 2
        if way == "function":
            assert warm(view, read) == "new value"


@pytest.mark.parametrize("what", ["tag", "namespace"])
def test_a_generation_ends_after_its_value_was_read(
    redis_server: Server, proxy: Holding, what: str
) -> None:
    with (
        Client(proxy.url, **PATIENCE) as client,
        Client(redis_server.url, **PATIENCE) as other,
    ):
        cache = Cache(client, ttl=300)
        other.set("source", "old")
        view, key, read = tagged(cache, what)
        assert read() == "old"
        assert warm(view, read) == "old"
        other.set("source", "new")
        proxy.hold(b"invalidate", key)
        assert redis_server.cli("DEL", key) == 1
        assert proxy.held.wait(BOUND)
        hits = near_hits(view)
        assert read() == "old"  # nobody has heard of it
        assert near_hits(view) == hits + 1
        proxy.let_go()
        wait_until(lambda: read() == "new", "the message")
        assert warm(view, read) == "new"
