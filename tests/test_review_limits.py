"""Faults that a review of the limits and what came with them found."""

from __future__ import annotations

import asyncio
import gc
import itertools
import socket
import struct
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from outage_tools import Switch
from redlane import (
    Cache,
    Client,
    ConfigurationError,
    Cooldown,
    Counter,
    Decision,
    Presence,
    RateLimiter,
    RedisCache,
    RedlaneError,
    ReplyError,
)
from scripted import Peer, scripted
from servers import PATIENT

LEAST, MOST = -(2**63), 2**63 - 1
KINDS = {"sliding-window": "s", "token-bucket": "b", "sliding-log": "l"}


def is_sound(decision: Decision, limit: int) -> bool:
    return (
        0 <= decision.remaining <= limit
        and 0 <= decision.retry_after <= 2 * 60
        and 0 <= decision.reset_after <= 2 * 60
        and decision.allowed == (decision.retry_after == 0)
    )


@pytest.mark.parametrize("algorithm", KINDS)
def test_a_state_that_another_program_wrote_is_bounded(algorithm: str) -> None:
    """Not a limit that is never reached, nor one that never ends, and no number beyond
    what 64 bits hold on the way."""
    with Client("memory://") as client:
        limiter = RateLimiter(client, algorithm)
        for numbers in itertools.product((LEAST, 0, MOST), (LEAST, MOST), (LEAST, 7)):
            state = struct.pack("=qqq", *numbers)
            client.set(f"limit:{{u}}:{KINDS[algorithm]}5/60", state)
            limiter.peek("u", "5/minute")
            said = [limiter.hit("u", "5/minute") for _ in range(7)]
            assert all(is_sound(one, 5) for one in said), (numbers, said)
            assert not said[-1], numbers


def test_times_that_another_program_wrote_are_bounded() -> None:
    with Client("memory://") as client:
        limiter = RateLimiter(client, "sliding-log")
        times = (MOST, 5, LEAST, MOST, 0, LEAST, 1)
        for count in range(1, len(times) + 1):
            log = struct.pack(f"=II{count}q", 0, count, *times[:count])
            client.set("limit:{u}:l5/60", log)
            for call in (limiter.peek, limiter.hit, limiter.refund):
                decision = call("u", "5/minute", cost=2)
                assert is_sound(decision, 5), (count, decision)


@pytest.mark.parametrize("wrong", range(4))
def test_numbers_beyond_all_bounds_are_not_believed(wrong: int) -> None:
    """A server's clock above all: the next window would be its sum with ours."""
    numbers = [10**15, 1, 1, 0]
    numbers[wrong] = MOST
    reply = b"*4\r\n" + b"".join(b":%d\r\n" % number for number in numbers)

    def script(peer: Peer) -> None:
        peer.greet()
        while True:
            peer.read()
            peer.send(reply)

    with scripted(script) as server, Client(server.url, **PATIENT) as client:
        limiter = RateLimiter(client, "fixed-window")
        for _ in range(3):
            with pytest.raises(ReplyError, match="not the script's reply"):
                limiter.hit("u", "5/minute")
        assert limiter.stats()["errors"] == 3


def limit_script() -> str:
    """Its text, as a client sends it to a server that has not got it."""
    with scripted(refuse_digests) as server, Client(server.url, **PATIENT) as client:
        with pytest.raises(ReplyError):
            RateLimiter(client).hit("u", "5/minute")
        (text,) = (one[1] for one in server.commands if one[0] == b"EVAL")
    return text.decode()


def refuse_digests(peer: Peer) -> None:
    peer.greet()
    while True:
        whole = peer.read()[0] == b"EVAL"
        peer.send(b"-ERR no\r\n" if whole else b"-NOSCRIPT no\r\n")


def numbers_of(kind: str, count: int) -> list[int | str]:
    """A limit of 60 seconds, as the script takes it."""
    window = 60_000_000
    x, y, z = {
        "l": (0, 0, 0),
        "s": (1, window, 0),
        "b": (window, count, count),
    }[kind]
    return [kind, count, window, x, y, z]


def test_a_key_stands_once_in_a_call_of_the_script() -> None:
    """The engine would go on with what the first of them had removed."""
    text = limit_script()
    with Client("memory://") as client:
        one, two = numbers_of("s", 5), numbers_of("l", 5)
        client.set("k", struct.pack("=IIqq", 0, 2**31, 0, 0))
        for mode in "hpr":
            with pytest.raises(ReplyError, match="bad arguments"):
                client.eval(text, 2, "k", "k", mode, 1, 0, *one, *two)
        assert len(client.eval(text, 2, "k", "l", "h", 1, 0, *one, *two)) == 7


def test_a_key_of_two_limits_is_charged_for_the_first(switch: Switch) -> None:
    """A log's times have no room in what is kept of a bucket, or of a shorter log."""
    text = limit_script()
    with (
        Client(switch.url, **PATIENT) as direct,
        Client(switch.url, fallback="memory", **PATIENT) as client,
    ):
        client.ping()
        switch.off(client, direct)
        for kinds in ("bl", "lb", "ll", "sl", "ls"):
            for number, kind in enumerate(kinds):
                limit = numbers_of(kind, (9, 4, 500)[number + kinds.count("l") - 1])
                client.delete("k")
                for _ in range(4):
                    client.eval(text, 1, kinds, "h", 1, 0, *limit)
                    client.eval(text, 1, kinds, "r", 3, 0, *limit)
        assert client.health()["journal"]["lost"] > 0
        switch.on(client)


class Name(str):
    """A str that can lead anywhere."""

    limiter: Any


@pytest.mark.parametrize("what", ["prefix", "algorithm", "cooldown"])
def test_a_name_that_leads_back_is_collected(what: str) -> None:
    name = Name("fixed-window")
    with Client("memory://") as client:
        if what == "cooldown":
            name.limiter = Cooldown(client, 1, prefix=name)
        else:
            options: dict[str, Any] = {what: name}
            name.limiter = RateLimiter(client, **options)
        gone = weakref.ref(name)
        del name
        options = {}
        gc.collect()
        assert gone() is None


class Ender:
    """A cycle whose finaliser takes the observer away."""

    def __init__(self, client: Client[Any]) -> None:
        self.client, self.itself = client, self

    def __del__(self) -> None:
        self.client._observe(None, False)


def test_an_observer_may_go_while_its_trip_is_told(redis_url: str) -> None:
    """Making the error that it hears of may run the collector, and so anything: here at
    each of the objects that such a call makes, in turn."""
    threshold = gc.get_threshold()
    told: list[str] = []
    with Client(redis_url, **PATIENT) as client:
        client.delete("k")
        gc.freeze()  # so that a collection takes no time
        try:
            for number in range(1, 40):
                client._observe(lambda name, *_: told.append(name), True)
                gc.collect()
                Ender(client)
                gc.set_threshold(number)
                with pytest.raises(RedlaneError):
                    client.execute("LPUSH", "k")
                gc.set_threshold(0)
                gc.collect()
        finally:
            gc.set_threshold(*threshold)
            gc.unfreeze()
    assert told
    assert set(told) == {"LPUSH"}


def test_a_tuple_is_no_key_of_a_tenant() -> None:
    with Client("memory://") as client:
        context = RedisCache.from_client(client).with_context("a", "d")
        wrong: Any = ("name",)
        with pytest.raises(TypeError):
            context.key(wrong)
        with pytest.raises(TypeError):
            context.aio.key(wrong)
        assert context.aio.key("name") == context.key("name")


CALLS: dict[str, Callable[[Any], Any]] = {
    "limiter": lambda client: RateLimiter(client).aio.hit("u", "5/minute"),
    "cooldown": lambda client: Cooldown(client, 5).aio.acquire(id="u"),
    "tenant": lambda client: (
        RedisCache.from_client(client).with_context("a", "d").aio.get("k")
    ),
    "presence": lambda client: Presence(client).aio.count(),
    "cache": lambda client: Cache(client).aio.get("k"),
    "clear": lambda client: Cache(client).aio.clear(),
    "tags": lambda client: Cache(client).aio.invalidate_tags("a"),
    "counter": lambda client: Counter(client, "n:{id}").aio.increment(1),
    "function": lambda client: Cache(client)(name="f")(asyncio.sleep)(0),
}


@pytest.mark.parametrize("call", CALLS)
def test_what_waits_may_be_ended_by_another_thread(call: str) -> None:
    """What a loop that was closed has left is collected where the collector runs next.
    The thread that the loop ran in hears nothing of that."""
    left: list[Any] = []

    async def leave(url: str) -> None:
        client: Any = Client(url, timeout=60, connect_timeout=60)
        left.append(asyncio.ensure_future(CALLS[call](client)))
        await asyncio.sleep(0.01)
        assert not left[0].done()

    def collect() -> None:
        left.clear()
        gc.collect()

    gc.collect()
    gc.disable()
    try:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            loop = asyncio.new_event_loop()
            loop.set_exception_handler(lambda *_: None)  # a task was left pending
            port = silent.getsockname()[1]
            loop.run_until_complete(leave(f"redis://127.0.0.1:{port}"))
            loop.close()
            thread = threading.Thread(target=collect)
            thread.start()
            thread.join()  # raised a SystemError of the call
    finally:
        gc.enable()


def test_a_finaliser_may_leave_in_the_middle_of_a_join() -> None:
    """Or a signal's handler: it runs in whatever its thread is about."""
    with Client("memory://") as client:
        presence = Presence(client)
        presence.join("u", "a")
        done: list[bool] = []

        def join() -> None:
            with presence._registry.lock:
                done.append(presence.leave("u", "a"))

        thread = threading.Thread(target=join, daemon=True)
        thread.start()
        thread.join(30)
        assert done == [True]
        assert presence.count() == 0


def test_names_that_are_none_of_presence_are_passed_over(redis_url: str) -> None:
    with Client(redis_url, **PATIENT) as client:
        client.delete("p", "{p}:connections", "{p}:counts", "{p}:servers")
        for name in (b"x", b"", b"2:\xff\xff", b"9" * 5000 + b":", b"1:u:o:=a"):
            client.hset("{p}:connections", name, "gone")
        client.zadd("{p}:servers", {"gone": 1})
        client.hset("{p}:counts", "u", 1)
        client.sadd("p", "u")
        presence = Presence(client, "p")
        assert presence.join("v")
        assert presence.members() == {"v"}


def limiters() -> dict[int, Any]:
    return {id(one): one for one in gc.get_objects() if type(one) is RateLimiter}


class Shown:
    """A wrong option, in the error of which it looks for what is being made."""

    def __init__(self) -> None:
        self.others = limiters()
        self.found: list[object] = []

    def __repr__(self) -> str:
        for number, one in limiters().items():
            if number not in self.others:
                self.found.append(repr(one))
        return "shown"


@pytest.mark.parametrize("option", ["algorithm", "on_error"])
def test_no_limiter_is_seen_that_is_not_ready(option: str) -> None:
    shown: Any = Shown()
    with pytest.raises(ConfigurationError, match="shown"):
        RateLimiter("memory://", **{option: shown})
    assert shown.found == []
