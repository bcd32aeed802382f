"""Replies of a real server that end too early: after every byte k, by an end of file
and by a reset, and those that come a byte at a time.

The proxy counts from the end of what has been read, so that only the reply of the call
is cut, never the handshake. k runs until the call is not cut any more: its whole reply
has come, and the byte after it would have been next.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator

import pytest
import redlane
from proxy import Proxy
from servers import Server
from toolset import SOURCE, Toolset, is_connected, toolset, wait_until


@pytest.fixture
def proxy(redis_server: Server) -> Iterator[Proxy]:
    with Proxy(redis_server.port) as made:
        yield made


def every_cut(proxy: Proxy, tools: Toolset, reset: bool) -> Iterator[int]:
    """Each k in turn, on a link that is well; ends after the first that cut nothing."""
    for k in itertools.count():
        wait_until(lambda: open_connection(tools), "a connection")
        before = proxy.cuts
        proxy.cut_in(k, reset)
        yield k
        if proxy.cuts == before:
            assert k > 3  # or nothing was ever cut
            return


def open_connection(tools: Toolset) -> bool:
    """True once the breaker is closed and a connection stands in the pool."""
    return is_connected(tools.client)


REPLIES: dict[str, tuple[Callable[[redlane.Client], object], object]] = {
    "bulk": (lambda client: client.get("bulk"), b"hello"),
    "array": (
        lambda client: client.mget("bulk", "none", "one"),
        [b"hello", None, b"1"],
    ),
    "integer": (lambda client: client.strlen("bulk"), 5),
    "nil": (lambda client: client.get("none"), None),
    "status": (lambda client: client.set("other", "x"), True),
}


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("name", [*REPLIES, "error"])
def test_a_raw_reply_cut_after_every_byte(
    redis_server: Server, proxy: Proxy, name: str, reset: bool
) -> None:
    redis_server.cli("MSET", "bulk", "hello", "one", "1")
    redis_server.cli("LPUSH", "list", "x")

    def ask(client: redlane.Client) -> object:
        if name != "error":
            return REPLIES[name][0](client)
        with pytest.raises(redlane.WrongTypeError) as caught:
            client.get("list")
        return type(caught.value)

    expected = redlane.WrongTypeError if name == "error" else REPLIES[name][1]
    answered = []
    with toolset(proxy.url, timeout=30) as tools:
        for k in every_cut(proxy, tools, reset):
            try:
                assert ask(tools.client) == expected
                answered.append(k)
            except redlane.ConnectionError:
                assert len(answered) <= 1
    # Where no byte had come, a read went once more. Then only whole replies count.
    first = [] if name == "status" else [0]
    whole = [*first, k - 1, k]
    # A reset that overtakes what was not read yet takes it away.
    assert answered in ((whole, [*first, k]) if reset else (whole,))


def test_a_write_cut_after_every_byte_goes_once(
    redis_server: Server, proxy: Proxy
) -> None:
    sent = raised = 0
    with toolset(proxy.url, timeout=30) as tools:
        for _ in every_cut(proxy, tools, False):
            sent += 1
            try:
                assert tools.client.incr("n") == sent
            except redlane.ConnectionError:
                raised += 1
            assert int(redis_server.cli("GET", "n")) == sent
    assert raised == 4  # cut in each place of ":1\r\n"
    # Cut behind the reply, and not at all; and where what was cut was a probe's.
    assert sent - raised >= 2


def test_a_request_cut_after_every_byte_is_none(
    redis_server: Server, proxy: Proxy
) -> None:
    """The server never runs a part of it; of a whole one the fate is unknown."""
    request = b"*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n"
    with toolset(proxy.url, timeout=30) as tools:
        for k in range(len(request)):
            wait_until(lambda: open_connection(tools), "a connection")
            proxy.cut_requests_in(k)
            with pytest.raises(redlane.ConnectionError):
                tools.client.execute("INCR", "n")
            assert redis_server.cli("EXISTS", "n") == 0
        wait_until(lambda: open_connection(tools), "a connection")
        proxy.cut_requests_in(len(request))
        with contextlib.suppress(redlane.ConnectionError):
            assert tools.client.execute("INCR", "n") == 1
        wait_until(lambda: redis_server.cli("GET", "n") == b"1", "the whole request")


# What is done, and what may come out of it.
CALLS: dict[str, tuple[Callable[[Toolset, str], object], tuple[object, ...]]] = {
    "cache.get": (lambda tools, key: tools.cache.get("kept"), ("of before", None)),
    "cache.get_many": (
        lambda tools, key: tools.cache.get_many(["kept", key]),
        ({"kept": "of before"}, {}),
    ),
    "cache.has": (lambda tools, key: tools.cache.has("kept"), (True, False)),
    "cache.set": (lambda tools, key: tools.cache.set(key, 1), (True,)),
    "cache.delete": (lambda tools, key: tools.cache.delete("none"), (False,)),
    "get_or_set": (lambda tools, key: tools.cache.get_or_set(key, lambda: 7), (7,)),
    "function": (lambda tools, key: tools.double(int(key) + 5) - 2 * int(key), (10,)),
    "function, a hit": (lambda tools, key: tools.double(1), (2,)),
    "counter.get": (lambda tools, key: tools.counter.get(key), (SOURCE,)),
    "counter.increment": (lambda tools, key: tools.counter.increment(key), (None,)),
    "videos.get": (
        lambda tools, key: tools.videos.get("black", ["white"]),
        ("https://before", None),
    ),
    "videos.set": (lambda tools, key: tools.videos.set("b", [key], "u"), (True, False)),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_tool_never_raises_whatever_is_cut(
    redis_server: Server, proxy: Proxy, name: str
) -> None:
    call, outcomes = CALLS[name]
    with toolset(proxy.url, timeout=30) as tools:
        tools.warm()
        for k in every_cut(proxy, tools, reset=len(name) % 2 == 0):
            outcome = call(tools, f"{k:05}")
            assert outcome in outcomes, k
        tools.assert_healed(redis_server)


def test_an_increment_that_is_cut_counts_at_most_once(
    redis_server: Server, proxy: Proxy
) -> None:
    with toolset(proxy.url, timeout=30) as tools:
        assert tools.counter.get("x") == SOURCE
        for k in every_cut(proxy, tools, reset=False):
            tools.counter.increment("x")
            stored = redis_server.cli("GET", "n:x")
            # Or it is gone: an increment of unknown fate is no count to keep.
            assert stored is None or SOURCE <= int(stored) <= SOURCE + k + 1


def test_a_byte_each_quarter_of_a_second(redis_server: Server, proxy: Proxy) -> None:
    """Slow, but within the deadline."""
    with toolset(proxy.url, timeout=30) as tools:
        tools.client.ping()
        proxy.drip = 0.25
        assert tools.client.incr("n") == 1
        proxy.heal()
        assert tools.mode == "redis"
