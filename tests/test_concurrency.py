"""Concurrency: no more in flight than the limit, on each executor, through crashes,
cancellations and outages."""

from __future__ import annotations

import asyncio
import math
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redlane
from aio import Runner
from children import started
from conftest import make_client
from flask import Flask
from http_tools import Asgi, Wsgi
from outage_tools import Switch, wait_until
from redlane import (
    AsyncConcurrency,
    AsyncSlot,
    Client,
    Concurrency,
    RateLimitExceeded,
    Slot,
)
from redlane._core import ToolHandle
from servers import PATIENT, Server

KEY = "slots:{u}"
HOUR = 3600.0
WORKER = Path(__file__).parent / "slot_worker.py"
PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
SOAK = os.environ.get("REDLANE_SOAK") == "1"


def test_so_many_and_no_more(client: Any) -> None:
    slots = Concurrency(client, limit=2, lease=HOUR)
    first, second = slots.acquire("u"), slots.acquire("u")
    assert (first.allowed, first.in_flight, first.remaining) == (True, 1, 1)
    assert (second.allowed, second.in_flight, second.remaining) == (True, 2, 0)
    assert (first.limit, first.retry_after, first.reset_after) == (2, 0.0, 0.0)
    third = slots.acquire("u")
    assert not third
    assert (third.in_flight, third.remaining, third.limits) == (2, 0, ())
    assert HOUR - 60 < third.retry_after <= HOUR
    assert first.headers() == first.raw_headers() == []
    assert [(b"retry-after", value.encode()) for _, value in third.headers()] == (
        third.raw_headers()
    )
    assert HOUR - 60 < int(dict(third.headers())["Retry-After"]) <= HOUR
    assert slots.acquire("other")
    assert third.release() is False
    assert third.extend() is False
    assert slots.in_flight("u") == 2
    assert first.release() is True
    assert first.release() is False
    assert slots.in_flight("u") == 1
    assert slots.acquire("u")


def test_with(client: Any) -> None:
    slots = Concurrency(client, 1, lease=HOUR)
    with slots.slot("u") as slot:
        assert isinstance(slot, Slot)
        assert slot
        assert slots.in_flight("u") == 1
        with pytest.raises(RateLimitExceeded) as caught, slots.slot("u"):
            pytest.fail("a second one")
        assert HOUR - 60 < caught.value.retry_after <= HOUR
        assert "1 are in flight" in str(caught.value)
        refused: Any = caught.value.decision
        assert (refused.allowed, refused.limit, refused.in_flight) == (False, 1, 1)
        with pytest.raises(RateLimitExceeded), slots.acquire("u"):
            pytest.fail("a second one")
    assert slots.in_flight("u") == 0
    assert client.exists(KEY) == 0
    with pytest.raises(redlane.RedlaneError, match="one use"), slot:
        pytest.fail("again")
    with pytest.raises(KeyError), slots.acquire("u"):
        raise KeyError("what the body raises")
    assert slots.in_flight("u") == 0


def test_leases_end(client: Any) -> None:
    slots = Concurrency(client, 1, lease=0.05)
    lost = slots.acquire("u")
    assert lost
    taken: list[Slot] = []

    def try_again() -> bool:
        taken[:] = [Concurrency(client, 1, lease=HOUR).acquire("u")]
        return bool(taken[0])

    wait_until(try_again, "the end of a lease")
    assert lost.extend() is False
    assert lost.release() is False  # frees nothing of another's
    assert slots.in_flight("u") == 1
    assert taken[0].release() is True


def test_extend(client: Any) -> None:
    slots = Concurrency(client, 2, lease=60)
    slot = slots.acquire("u")
    other = slots.acquire("u")
    assert client.pttl(KEY) <= 61_000
    assert slot.extend("1h") is True
    assert 3_590_000 < client.pttl(KEY) <= 3_601_000  # as long as the longest
    assert other.extend() is True
    assert client.pttl(KEY) > 3_590_000
    assert slot.extend(timedelta(seconds=60)) is True
    assert client.pttl(KEY) <= 61_000
    assert slots.in_flight("u") == 2
    assert slot.release()
    assert slot.extend() is False
    assert slots.in_flight("u") == 1


def test_retry_after_is_of_the_lease_that_makes_room(client: Any) -> None:
    for lease in (100, 200, 300):
        assert Concurrency(client, 9, lease=lease).acquire("u")
    assert 100 < Concurrency(client, 2).acquire("u").retry_after <= 200
    assert 0 < Concurrency(client, 3).acquire("u").retry_after <= 100


def test_by_token(client: Any) -> None:
    slots = Concurrency(client, 1, lease=HOUR)
    slot = slots.acquire("u")
    elsewhere = Concurrency(client, 1, lease=60)
    assert elsewhere.extend("u", slot.token) is True
    assert elsewhere.extend("u", slot.token, HOUR) is True
    assert elsewhere.release("u", "another") is False
    assert elsewhere.extend("u", "another") is False
    assert elsewhere.release("u", slot.token) is True
    assert slots.in_flight("u") == 0
    for call in (elsewhere.release, elsewhere.extend):
        with pytest.raises(ValueError, match="token"):
            call("u", "")
        with pytest.raises(TypeError, match="token"):
            call("u", b"x")  # type: ignore[arg-type]


def test_keys(client: Any) -> None:
    slots = Concurrency(client, 1, prefix="p")
    hashed = Concurrency(client, 1, hashed=True)
    for one in (slots, hashed):
        for identity in ("a}%", 7, b"\xff", "é" * 300):
            assert one.acquire(identity)
            assert not one.acquire(identity)
    keys = {key for key in client.scan_iter() if key.startswith(b"p:")}
    assert {b"p:{a%7D%25}", b"p:{7}", b"p:{\xff}"} < keys
    assert len(keys) == 4
    assert all(len(key) == 68 for key in keys if len(key) > 20)
    names = [key for key in client.scan_iter() if key.startswith(b"slots:{")]
    assert sorted(map(len, names)) == [72] * 4
    assert all(client.pttl(key) > 0 for key in client.scan_iter())


@pytest.mark.parametrize("wrong", ["str", "hash"])
def test_a_key_of_another_type(client: Any, wrong: str) -> None:
    if wrong == "str":
        client.set(KEY, "x")
    else:
        client.hset(KEY, "a", "b")
    slots = Concurrency(client)
    for call in (slots.acquire, slots.in_flight, lambda u: slots.extend(u, "t")):
        with pytest.raises(redlane.WrongTypeError):
            call("u")


def test_a_key_without_a_ttl_gets_one(client: Any) -> None:
    client.execute("ZADD", KEY, 10**15, "for ever")
    slots = Concurrency(client, 2, lease=60)
    assert slots.acquire("u")
    assert client.pttl(KEY) > 0


@pytest.mark.parametrize("limit", [0, -1, 100_001, 2**70])
def test_what_is_no_limit(limit: int) -> None:
    with pytest.raises(ValueError, match="limit must be"):
        Concurrency("memory://", limit)


@pytest.mark.parametrize("limit", [True, 1.5, "3", None])
def test_what_no_limit_is_made_of(limit: Any) -> None:
    with pytest.raises(TypeError, match="limit must be"):
        Concurrency("memory://", limit)


BAD_LEASES = [0, -1, math.nan, math.inf, True, None, "soon", 10**20, 367 * 86_400]


@pytest.mark.parametrize("lease", [*BAD_LEASES, timedelta(0)], ids=repr)
def test_what_is_no_lease(lease: Any) -> None:
    errors = (ValueError, TypeError, OverflowError)
    with pytest.raises(errors, match="lease"):
        Concurrency("memory://", 3, lease)
    if lease is not None:
        slots = Concurrency("memory://")
        slot = slots.acquire("u")
        with pytest.raises(errors, match="lease"):
            slot.extend(lease)
        with pytest.raises(errors, match="lease"):
            slots.extend("u", slot.token, lease)
        assert slot.release()


def test_other_bad_arguments() -> None:
    for prefix, error in (("", redlane.ConfigurationError), (b"p", TypeError)):
        with pytest.raises(error, match="prefix"):
            Concurrency("memory://", prefix=prefix)  # type: ignore[arg-type]
    with pytest.raises(redlane.ConfigurationError, match="prefix"):
        Concurrency("memory://", prefix="x" * 257)
    with pytest.raises(redlane.ConfigurationError, match="on_error"):
        Concurrency("memory://", on_error="raise")  # type: ignore[arg-type]
    slots = Concurrency("memory://")
    identities: list[Any] = [None, True, 1.5, ("u",), bytearray(b"u")]
    for identity in identities:
        for call in (slots.acquire, slots.slot, slots.in_flight):
            with pytest.raises(TypeError, match="identity must be"):
                call(identity)
    for empty in ("", b""):
        with pytest.raises(ValueError, match="empty"):
            slots.acquire(empty)


def test_what_is_shown() -> None:
    slots = Concurrency("memory://", 2, "90s", "deny", prefix="p")
    assert (slots.limit, slots.lease, slots.prefix, slots.on_error) == (
        2,
        90.0,
        "p",
        "deny",
    )
    aio = slots.aio
    assert (aio.limit, aio.lease, aio.prefix, aio.on_error) == (2, 90.0, "p", "deny")
    slot = slots.acquire("canary")
    shown = [repr(one) for one in (slots, aio, slot, slots.slot("canary"))]
    assert shown[0] == "<redlane.Concurrency 2 lease=90 prefix='p' on_error='deny'>"
    assert shown[2] == "<redlane.Slot held of 2>"
    assert not any("canary" in text or slot.token in text for text in shown)


# --- many at once ------------------------------------------------------------------


def test_threads_never_pass_the_limit(client: Any) -> None:
    slots = Concurrency(client, 3, lease=HOUR)
    held, most, given = [0], [0], [0]
    lock = threading.Lock()
    gate = threading.Barrier(8)

    def work() -> None:
        gate.wait()
        for _ in range(40):
            slot = slots.acquire("u")
            if slot:
                with lock:
                    held[0] += 1
                    given[0] += 1
                    most[0] = max(most[0], held[0])
                with lock:
                    held[0] -= 1
                assert slot.release()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= most[0] <= 3
    assert given[0] >= 40
    assert slots.in_flight("u") == 0


def compete(url: str, processes: int, limit: int, tries: int) -> None:
    command = [sys.executable, WORKER, url, limit, tries]
    with ExitStack() as stack:
        workers = [
            stack.enter_context(started(command, **PIPES)) for _ in range(processes)
        ]
        for worker in workers:
            assert worker.stdout
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:
            assert worker.stdin
            worker.stdin.write("\n")
            worker.stdin.flush()
        for worker in workers:
            assert worker.stdout
            given, most = map(int, worker.stdout.readline().split())
            assert given == 0 or 1 <= most <= limit


def test_processes_never_pass_the_limit(redis_server: Server) -> None:
    compete(redis_server.patient_url, processes=4, limit=3, tries=12)
    with Client(redis_server.patient_url) as client:
        assert Concurrency(client, 3).in_flight("u") == 0
        assert client.get("held") == b"0"


@pytest.mark.soak
def test_many_processes_never_pass_the_limit(redis_server: Server) -> None:
    assert SOAK
    for limit in (1, 5, 20):
        redis_server.cli("FLUSHALL")
        compete(redis_server.patient_url, processes=8, limit=limit, tries=500)


def test_a_killed_holder(redis_server: Server) -> None:
    url = redis_server.patient_url
    with Client(url) as client:
        for lease in ("0.2", "300"):
            command = [sys.executable, WORKER, url, "hold", lease]
            with started(command, **PIPES) as child:
                assert child.stdout
                assert len(child.stdout.readline()) == 25
                assert client.pttl(f"slots:{{u{lease}}}") != -1
                child.kill()
                child.wait()
        slots = Concurrency(client, 1, lease=HOUR)
        wait_until(lambda: slots.acquire("u0.2"), "the end of a dead holder's lease")
        refused = slots.acquire("u300")
        assert not refused
        assert 0 < refused.retry_after <= 300
        assert all(client.pttl(key) > 0 for key in client.scan_iter())


@pytest.mark.parametrize("ends", ["leaves", "dies"])
def test_a_fork_frees_nothing_of_its_parents(client: Any, ends: str) -> None:
    slots = Concurrency(client, 1, lease=HOUR)
    with slots.slot("u") as slot:
        pid = os.fork()
        if not pid:
            if ends == "leaves":
                slot.__exit__(None, None, None)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert slots.in_flight("u") == 1
    assert slots.in_flight("u") == 0


def test_interrupted(redis_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with Client(redis_server.patient_url) as client:
        slots = Concurrency(client, 1, lease=HOUR)
        script = slots._handle.script

        class Handle:
            """Ctrl-C comes when the server has answered already."""

            def script(self, *args: Any) -> Any:
                answer = script(*args)
                if args[2][0] == "a":
                    raise KeyboardInterrupt
                return answer

        monkeypatch.setattr(slots, "_handle", Handle())
        with pytest.raises(KeyboardInterrupt):
            slots.acquire("u")
        assert slots.in_flight("u") == 0


# --- event loops -------------------------------------------------------------------


def test_awaited(client: Any, run: Runner) -> None:
    async def main() -> None:
        slots = AsyncConcurrency(client, 1, lease=HOUR)
        async with slots.slot("u") as slot:
            assert isinstance(slot, AsyncSlot)
            assert await slots.in_flight("u") == 1
            assert not await slots.acquire("u")
            with pytest.raises(RateLimitExceeded):
                async with slots.slot("u"):
                    pytest.fail("a second one")
            assert await slot.extend("2h") is True
            assert await slots.extend("u", slot.token) is True
        assert await slots.in_flight("u") == 0
        assert await slot.release() is False
        assert await slot.extend() is False
        taken = await slots.sync.aio.acquire("u")
        assert await slots.release("u", taken.token) is True

    run(main())


def test_tasks_never_pass_the_limit(client: Any, run: Runner) -> None:
    held, most, given = [0], [0], [0]

    async def main() -> None:
        slots = AsyncConcurrency(client, 3, lease=HOUR)

        async def work() -> None:
            for _ in range(10):
                slot = await slots.acquire("u")
                if slot:
                    async with slot:
                        given[0] += 1
                        held[0] += 1
                        most[0] = max(most[0], held[0])
                        await asyncio.sleep(0)
                        held[0] -= 1

        await asyncio.gather(*(work() for _ in range(30)))
        assert await slots.in_flight("u") == 0

    run(main())
    assert 1 <= most[0] <= 3
    assert given[0] >= 10


def test_what_is_cancelled_keeps_no_slot(redis_server: Server, run: Runner) -> None:
    """At any moment of taking, holding and giving back."""

    async def main() -> None:
        client = redlane.AsyncClient(redis_server.patient_url)
        slots = AsyncConcurrency(client, 50, lease=HOUR)

        async def hold() -> None:
            async with slots.slot("u"):
                await asyncio.sleep(0)

        dice = random.Random(7)
        for _ in range(120):
            task = asyncio.ensure_future(hold())
            if dice.random() < 0.5:
                for _ in range(dice.randrange(8)):
                    await asyncio.sleep(0)
            else:
                await asyncio.sleep(dice.random() * 4e-4)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        end = time.monotonic() + 60
        while await slots.in_flight("u"):
            assert time.monotonic() < end, "a slot was kept"
            await asyncio.sleep(0.01)
        await client.aclose()

    run(main())


# --- decorators --------------------------------------------------------------------


def test_functions(client: Any, run: Runner) -> None:
    slots = Concurrency(client, 1, lease=HOUR)

    @slots.limited(key=lambda user: user)
    def plain(user: str) -> int:
        """What it does."""
        with pytest.raises(RateLimitExceeded, match="too many at once"):
            plain(user)
        return slots.in_flight(f"{__name__}.test_functions.<locals>.plain:{user}")

    @slots.aio.limited(key="all", scope="s", exempt_when=lambda deep: deep > 1)
    async def awaited(deep: int) -> int:
        if deep == 0:
            with pytest.raises(RateLimitExceeded):
                await awaited(1)
            return await awaited(2)
        return await slots.aio.in_flight("s:all")

    assert plain("ann") == 1
    assert plain("ann") == 1
    assert plain.__doc__ == "What it does."
    assert run(awaited(0)) == 1
    assert slots.in_flight("s:all") == 0

    @slots.limited()
    def nobody() -> None: ...

    with pytest.raises(redlane.ConfigurationError, match="key="):
        nobody()
    with pytest.raises(TypeError, match="generator"):

        @slots.limited(key="all")
        def items() -> Iterator[int]:
            yield 1


def test_a_function_that_raises_gives_its_slot_back(client: Any) -> None:
    slots = Concurrency(client, 1, lease=HOUR)

    @slots.limited(key="all", scope="s", error_message="come again")
    def fail() -> None:
        with pytest.raises(RateLimitExceeded, match="come again"):
            fail()
        raise KeyError

    for _ in range(3):
        with pytest.raises(KeyError):
            fail()
    assert slots.in_flight("s:all") == 0


def views(kind: str, slots: Concurrency) -> Any:
    """A route "/x" that asks for a slot, and answers with how many are in flight."""
    limited = slots.limited(scope="s")
    if kind == "flask":
        app = Flask("site")
        app.add_url_rule(
            "/x",
            view_func=limited(lambda: str(slots.in_flight("s:127.0.0.1"))),
        )
        return Wsgi(app)
    from fastapi import FastAPI

    api = FastAPI()
    if kind == "fastapi":

        @api.get("/x")
        @limited
        async def awaited() -> int:
            return await slots.aio.in_flight("s:127.0.0.1")

    else:

        @api.get("/x")
        @limited
        def plain() -> int:
            return slots.in_flight("s:127.0.0.1")

    return Asgi(api)


@pytest.mark.parametrize("kind", ["flask", "fastapi", "fastapi def"])
def test_views(client: Any, kind: str) -> None:
    slots = Concurrency(client, 1, lease=60)
    site = views(kind, slots)
    for _ in range(2):
        reply = site("/x")
        assert (reply.status, reply.text) == (200, "1")
    with slots.slot("s:127.0.0.1"):
        reply = site("/x")
    assert reply.status == 429
    assert 1 <= int(reply["Retry-After"] or 0) <= 60
    assert '"error": "too many at once"' in reply.text
    assert '"retry_after": ' in reply.text
    assert site("/x").status == 200
    if kind != "flask":
        site.close()


# --- outages -----------------------------------------------------------------------


@pytest.fixture
def near(switch: Switch) -> Iterator[Client[Any]]:
    """Of a process that the outage meets."""
    made = Client(switch.url, **PATIENT)
    made.ping()
    yield made
    made.close()


def test_memory(switch: Switch, near: Client[Any], redis_server: Server) -> None:
    slots = Concurrency(near, 2, lease=HOUR)
    old = slots.acquire("u")
    switch.off(near)
    fresh = [slots.acquire("u") for _ in range(3)]
    assert [bool(slot) for slot in fresh] == [True, True, False]
    assert slots.in_flight("u") == 2
    assert fresh[0].release() is True
    assert fresh[1].extend() is True
    assert old.extend() is False  # whoever knows it is away
    switch.on(near)
    assert slots.in_flight("u") == 1  # the old one
    with Client(redis_server.patient_url) as direct:
        other = Concurrency(direct, 2, lease=HOUR).acquire("u")
        assert other
        assert fresh[1].extend() is False
        assert fresh[1].release() is False  # nor anything of another's
        assert slots.in_flight("u") == 2
        assert old.extend() is True
        assert old.release() is True
        assert other.release() is True


def test_released_while_away(switch: Switch, near: Client[Any]) -> None:
    slots = Concurrency(near, 1, lease=0.5)
    with slots.slot("u"):
        switch.off(near)
    switch.on(near)
    wait_until(lambda: slots.acquire("u"), "the end of what nobody could give back")


@pytest.mark.parametrize("on_error", ["allow", "deny"])
def test_allow_and_deny(switch: Switch, near: Client[Any], on_error: Any) -> None:
    allows = on_error == "allow"
    slots = Concurrency(near, 1, HOUR, on_error)
    old = slots.acquire("u")
    assert old
    switch.off(near)
    for _ in range(3):
        slot = slots.acquire("u")
        assert bool(slot) is allows
        assert slot.in_flight == 0
        assert slot.retry_after == (0.0 if allows else 1.0)
        assert slot.extend() is allows
        assert slot.release() is False
    assert slots.in_flight("u") == 0
    assert old.extend() is allows
    switch.on(near)
    assert not slots.acquire("u")
    assert old.release() is True
    assert slots.acquire("u")


def test_awaited_through_an_outage(switch: Switch, run: Runner) -> None:
    async def main() -> None:
        client = redlane.AsyncClient(switch.url, **PATIENT)
        slots = AsyncConcurrency(client, 1, lease=HOUR)
        async with slots.slot("u"):
            await asyncio.to_thread(switch.off, client.sync)
            async with slots.slot("u"):
                assert await slots.in_flight("u") == 1
                await asyncio.to_thread(switch.on, client.sync)
            assert await slots.in_flight("u") == 1
        assert await slots.in_flight("u") == 0
        await client.aclose()

    run(main())


def test_a_client_that_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    client = Client("memory://")
    slots = Concurrency(client, 1)
    with slots.slot("u"):
        client.close()
        with pytest.raises(redlane.ConnectionError, match="closed"):
            slots.acquire("v")
    slot = slots.slot("u")
    with pytest.raises(redlane.ConnectionError, match="closed"):
        slot.release() or slots.in_flight("u")


# --- one script, two executors -----------------------------------------------------


def observed(handle: ToolHandle, client: Any, seed: int) -> list[Any]:
    dice = random.Random(seed)
    seen: list[Any] = []
    for _ in range(60):
        mode, token = dice.choice("aaaxrp"), dice.choice("abcdef")
        limit, lease = dice.choice([1, 2, 3, 4]), dice.choice([1, 10**6, 2 * 10**6])
        (done, held, retry), _ = handle.script(
            "slot", [KEY], [mode, token, limit, lease]
        )
        if mode in "ax" and lease == 1:
            time.sleep(0.004)
        seen.append((mode, token, limit, lease, done, held, round(retry / 10**6)))
        left = client.pttl(KEY)
        counted = handle.script("slot", [KEY], ["p", "", 1, 1])[0][1]
        seen.append((counted, round(left / 10**6) if counted else left != -1))
    return seen


def test_engine_and_server_agree(request: pytest.FixtureRequest) -> None:
    clients = [make_client(name, request) for name in ("engine", "redis")]
    for seed in range(8):
        engine, server = (
            observed(ToolHandle(client, "raise"), client, seed) for client in clients
        )
        assert engine == server
        for client in clients:
            client.flushdb()
    for client in clients:
        client.close()


@pytest.mark.parametrize("bad", [[0, 1], [1, 0], [1, 2**51], ["x", 1], [1, "x"]])
def test_arguments_that_nobody_sends(bad: list[Any]) -> None:
    with Client("memory://") as client, pytest.raises(redlane.ReplyError):
        ToolHandle(client, "raise").script("slot", [KEY], ["a", "t", *bad])


def test_an_engine_without_room() -> None:
    with Client("memory://", max_memory=250) as client:
        slots = Concurrency(client, lease=HOUR)
        with pytest.raises(redlane.OutOfMemoryError):
            slots.acquire("u")
        assert slots.in_flight("u") == 0
        assert client.exists(KEY) == 0
