"""Cooldown: once in so many seconds, on each executor and through outages."""

from __future__ import annotations

import subprocess
import sys
import threading
import uuid
from datetime import timedelta
from typing import Any

import pytest
import redlane
from aio import Runner
from outage_tools import Switch, wait_until
from redlane import AsyncCooldown, Cooldown, CooldownState
from servers import PATIENT, Server

HOUR = 3600.0


def test_one_is_ready_and_the_others_wait(client: Any) -> None:
    cooldown = Cooldown(client, seconds=HOUR)
    first = cooldown.acquire("ann")
    assert (first.ready, first.remaining) == (True, 0.0)
    assert first
    second = cooldown.acquire("ann")
    assert not second
    assert 0.0 < HOUR - 60 < second.remaining <= HOUR
    assert cooldown.acquire("bob").ready
    assert client.get("cooldown:ann") == b"1"
    assert 0 < client.ttl("cooldown:ann") <= HOUR


def test_peek_begins_nothing(client: Any) -> None:
    cooldown = Cooldown(client, HOUR)
    assert cooldown.peek("ann") == CooldownState(True)
    assert client.exists("cooldown:ann") == 0
    cooldown.acquire("ann")
    ready, remaining = cooldown.peek("ann")
    assert ready is False
    assert HOUR - 60 < remaining <= HOUR


def test_reset(client: Any) -> None:
    cooldown = Cooldown(client, HOUR)
    assert cooldown.reset("ann") is False
    cooldown.acquire("ann")
    assert cooldown.reset("ann") is True
    assert cooldown.acquire("ann").ready


def test_it_ends(client: Any) -> None:
    cooldown = Cooldown(client, 0.05)
    assert cooldown.acquire("ann").ready
    wait_until(lambda: cooldown.acquire("ann").ready, "the end of a cooldown")


def test_of_many_at_once_one_is_ready(client: Any) -> None:
    cooldown = Cooldown(client, HOUR)
    together = threading.Barrier(8)
    seen: list[bool] = []

    def ask() -> None:
        together.wait()
        seen.extend(cooldown.acquire(user).ready for user in range(20))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(seen), seen.count(True)) == (160, 20)


def test_a_key_without_a_ttl_gets_one(client: Any) -> None:
    cooldown = Cooldown(client, HOUR)
    client.set("cooldown:ann", "x")
    assert cooldown.peek("ann") == CooldownState(False, HOUR)
    state = cooldown.acquire("ann")
    assert state == CooldownState(False, HOUR)
    assert 0 < client.ttl("cooldown:ann") <= HOUR


def test_keys_of_any_type_block(client: Any) -> None:
    client.hset("cooldown:ann", "a", "b")
    client.expire("cooldown:ann", 60)
    assert 0 < Cooldown(client, HOUR).acquire("ann").remaining <= 60


@pytest.mark.parametrize("seconds", ["1h", timedelta(hours=1), 3600, 3600.0], ids=repr)
def test_durations(client: Any, seconds: Any) -> None:
    cooldown = Cooldown(client, seconds)
    assert cooldown.seconds == HOUR
    cooldown.acquire(1)
    assert 0 < client.ttl("cooldown:1") <= HOUR


@pytest.mark.parametrize(
    "seconds",
    [0, -1, float("nan"), float("inf"), True, None, "soon", 10**20, timedelta(0)],
    ids=repr,
)
def test_what_is_no_duration(seconds: Any) -> None:
    with pytest.raises((ValueError, TypeError, OverflowError), match="seconds"):
        Cooldown("memory://", seconds)


def test_ids(client: Any) -> None:
    cooldown = Cooldown(client, HOUR, prefix="api:place")
    some = uuid.uuid4()
    assert cooldown.key(some) == f"api:place:{some}"
    assert cooldown.key("é" * 200) == "api:place:" + "é" * 200
    for user in (some, 7, "é" * 200, ""):
        assert cooldown.acquire(user).ready
        assert not cooldown.acquire(user)
    assert client.exists("api:place:7") == 1
    for bad in (None, True, 1.5, b"x", (1,), [1]):
        with pytest.raises(TypeError, match="id must be"):
            cooldown.acquire(bad)
    with pytest.raises(UnicodeEncodeError):
        cooldown.acquire("\ud800")
    with pytest.raises(TypeError):
        cooldown.acquire()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Cooldown(client, HOUR, prefix=5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="fallback"):
        Cooldown(client, HOUR, fallback="maybe")  # type: ignore[arg-type]


def test_the_state() -> None:
    state = CooldownState(False, 2.5)
    assert repr(state) == "CooldownState(ready=False, remaining=2.5)"
    assert tuple(state) == (False, 2.5)
    assert hash(state) == hash(CooldownState(False, 2.5))
    assert state != CooldownState(True, 2.5)
    assert state != (False, 2.5)
    assert repr(Cooldown("memory://", 5)) == "<redlane.Cooldown 'cooldown' seconds=5.0>"


def test_async(client: Any, run: Runner) -> None:
    cooldown = AsyncCooldown(client, HOUR)

    async def main() -> list[Any]:
        twin = cooldown.sync.aio
        return [
            await cooldown.acquire("ann"),
            bool(await twin.acquire("ann")),
            (await cooldown.peek("ann")).ready,
            await twin.reset("ann"),
            await cooldown.acquire("ann"),
            cooldown.key("ann"),
            (cooldown.seconds, cooldown.prefix),
        ]

    ready = CooldownState(True)
    expected = [ready, False, False, True, ready, "cooldown:ann", (HOUR, "cooldown")]
    assert run(main()) == expected


def test_it_is_one_round_trip(redis_server: Server) -> None:
    client = redlane.Client(redis_server.url, **PATIENT)
    cooldown = Cooldown(client, HOUR)
    cooldown.acquire("warm")
    before = redis_server.cli("INFO", "commandstats")
    cooldown.acquire("ann")
    cooldown.acquire("ann")
    after = redis_server.cli("INFO", "commandstats")
    assert calls(after, "evalsha") - calls(before, "evalsha") == 2
    for name in ("get", "eval"):
        assert calls(after, name) == calls(before, name)
    client.close()


def calls(info: Any, name: str) -> int:
    text = info.decode() if isinstance(info, bytes) else info
    for line in text.splitlines():
        if line.startswith(f"cmdstat_{name}:calls="):
            return int(line.partition("calls=")[2].partition(",")[0])
    return 0


def test_it_survives_a_restart_of_the_process(redis_server: Server) -> None:
    program = (
        "import sys, redlane\n"
        "state = redlane.Cooldown(sys.argv[1], 3600).acquire('ann')\n"
        "print(state.ready, state.remaining > 0)"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", program, redis_server.patient_url],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for _ in range(2)
    ]
    assert said == [["True", "False"], ["False", "True"]]


def test_what_began_meanwhile_is_charged_to_the_server(switch: Switch) -> None:
    client = redlane.Client(switch.url, **PATIENT)
    cooldown = Cooldown(client, HOUR)
    cooldown.acquire("old")
    switch.server.cli("PEXPIRE", "cooldown:old", 600_000)
    switch.off(client)
    assert cooldown.acquire("new").ready
    assert not cooldown.acquire("new")
    assert cooldown.acquire("old").ready  # nobody here knows of it
    cooldown.acquire("ended")
    assert cooldown.reset("ended")
    switch.on(client)
    assert not cooldown.acquire("new")
    assert cooldown.acquire("new").remaining <= HOUR
    # the longer of the two holds
    assert cooldown.peek("old").remaining > 1000
    assert switch.server.cli("EXISTS", "cooldown:ended") == 0
    client.close()


def test_what_the_server_has_is_not_made_shorter(switch: Switch) -> None:
    client = redlane.Client(switch.url, **PATIENT)
    cooldown = Cooldown(client, 600)
    switch.off(client)
    assert cooldown.acquire("ann").ready
    switch.server.cli("SET", "cooldown:ann", "1", "PX", 7_200_000)
    switch.on(client)
    assert cooldown.peek("ann").remaining > 7000
    client.close()


def test_a_server_that_was_killed(fresh_server: Any) -> None:
    client = redlane.Client(fresh_server.url, **PATIENT)
    cooldown = Cooldown(client, HOUR)
    cooldown.acquire("ann")
    fresh_server.kill()
    assert cooldown.acquire("bob").ready
    assert not cooldown.acquire("bob")
    fresh_server.start()
    wait_until(lambda: client.health()["breaker"] == "closed", "the return")
    assert not cooldown.acquire("bob")
    assert fresh_server.cli("PTTL", "cooldown:bob") > 0
    client.close()


def test_fallback_none_makes_everybody_ready(switch: Switch) -> None:
    client = redlane.Client(switch.url, **PATIENT)
    cooldown = Cooldown(client, HOUR, fallback="none")
    cooldown.acquire("ann")
    switch.off(client)
    assert [cooldown.acquire("ann").ready for _ in range(3)] == [True] * 3
    switch.on(client)
    assert not cooldown.acquire("ann")
    client.close()


def test_fallback_raise(switch: Switch) -> None:
    client = redlane.Client(switch.url, **PATIENT)
    cooldown = Cooldown(client, HOUR, fallback="raise")
    cooldown.acquire("ann")
    switch.off(client)
    with pytest.raises(redlane.ConnectionError):
        cooldown.acquire("ann")
    client.close()


def test_a_server_that_takes_no_writes_still_says_who_waits(fresh_server: Any) -> None:
    client = redlane.Client(fresh_server.url, **PATIENT)
    cooldown = Cooldown(client, HOUR)
    cooldown.acquire("ann")
    fresh_server.cli("CONFIG", "SET", "maxmemory", "1")
    assert not cooldown.acquire("ann")  # by the server: the engine knows nothing
    assert cooldown.acquire("bob").ready
    assert not cooldown.acquire("bob")
    fresh_server.cli("CONFIG", "SET", "maxmemory", "0")
    wait_until(lambda: fresh_server.cli("EXISTS", "cooldown:bob") == 1, "the charge")
    client.close()
