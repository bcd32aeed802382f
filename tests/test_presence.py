"""Presence: who is online, by connections, through crashes and outages."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
import redlane
from aio import Runner
from conftest import make_client
from outage_tools import Switch, wait_until
from redlane import AsyncPresence, Presence
from redlane._core import ToolHandle
from servers import PATIENT, Server

KEY = "ws:active_users"
BESIDE = [f"{{{KEY}}}:{name}" for name in ("connections", "counts", "servers")]


def test_join_and_leave(client: Any) -> None:
    presence = Presence(client)
    assert (presence.members(), presence.count()) == (set(), 0)
    assert presence.join("ann") is True
    assert presence.join(7) is True
    assert presence.join("bob", connection="ws1") is True
    assert presence.members() == {"ann", "7", "bob"}
    assert presence.count() == 3
    assert (presence.online("ann"), presence.online(7), presence.online("zed")) == (
        True,
        True,
        False,
    )
    assert presence.leave("ann") is True
    assert presence.leave("bob", connection="ws1") is True
    assert presence.leave(7) is True
    assert [*client.scan_iter()] == []  # nothing stays behind


def test_the_set_is_plain(client: Any) -> None:
    presence = Presence(client, lease=60)
    presence.join("ann")
    presence.join("bob")
    assert client.smembers(KEY) == {b"ann", b"bob"}
    assert client.ttl(KEY) == -1
    assert client.sismember(KEY, "ann")
    assert sorted(key.decode() for key in client.scan_iter()) == sorted([KEY, *BESIDE])
    presence.close()


def test_two_connections(client: Any) -> None:
    presence = Presence(client)
    assert presence.join("ann", "ws1") is True
    assert presence.join("ann", "ws2") is False
    assert presence.join("ann", "ws2") is False  # the same one
    assert presence.leave("ann", "ws1") is False
    assert presence.online("ann")
    assert presence.leave("ann", "ws1") is False  # it has gone
    assert presence.online("ann")
    assert presence.leave("ann", "ws2") is True
    assert not presence.online("ann")


def test_connections_without_a_name(client: Any) -> None:
    presence = Presence(client)
    assert [presence.join("ann") for _ in range(3)] == [True, False, False]
    presence.join("ann", 1)
    assert [presence.leave("ann") for _ in range(4)] == [False] * 4
    assert presence.online("ann")  # by the one with a name
    assert presence.leave("ann", "1") is True


def test_two_processes(client: Any) -> None:
    one, two = Presence(client), Presence(client)
    assert one.join("ann", "1") is True
    assert two.join("ann", "1") is False  # names are each process' own
    assert one.leave("ann", "1") is False
    assert one.online("ann")
    assert one.leave("ann", "1") is False
    assert two.leave("ann", "1") is True
    assert one.count() == 0


def test_close_takes_its_own_along(client: Any) -> None:
    with Presence(client, lease="1m") as one:
        two = Presence(client)
        one.join("ann")
        one.join("bob", 1)
        two.join("bob")
    assert two.members() == {"bob"}
    with pytest.raises(redlane.RedlaneError, match="closed"):
        one.join("ann")
    assert one.leave("ann") is False


def test_arguments(client: Any) -> None:
    presence = Presence(client, "users:{here}", lease="30s")
    assert (presence.key, presence.lease) == ("users:{here}", 30.0)
    assert Presence(client).lease is None
    presence.join("a:b\0é", "c:d")
    assert presence.members() == {"a:b\0é"}
    assert client.exists("users:{here}:connections") == 1
    assert presence.leave("a:b\0é", "c:d") is True
    for bad in (None, True, 1.5, b"x", (1,)):
        with pytest.raises(TypeError):
            presence.join(bad)
        with pytest.raises(TypeError):
            presence.online(bad)
    with pytest.raises(TypeError, match="connection"):
        presence.join("ann", b"x")
    with pytest.raises(UnicodeEncodeError):
        presence.join("\ud800")
    assert presence.count() == 0
    with pytest.raises(TypeError, match="key"):
        Presence(client, b"x")  # type: ignore[arg-type]
    for lease in (0, -1, float("nan"), True, "soon"):
        with pytest.raises((TypeError, ValueError), match="lease"):
            Presence(client, lease=lease)
    with pytest.raises(ValueError, match="fallback"):
        Presence(client, fallback="maybe")  # type: ignore[arg-type]
    assert repr(presence) == "<redlane.Presence 'users:{here}' lease=30.0>"
    assert repr(presence.aio) == f"{presence!r}.aio"


def test_async(client: Any, run: Runner) -> None:
    async def main() -> list[Any]:
        async with AsyncPresence(client, lease=60) as presence:
            twin = presence.sync.aio
            return [
                await presence.join("ann", 1),
                await twin.join("ann", 2),
                await presence.members(),
                await presence.count(),
                await presence.leave("ann", 2),
                await presence.online("ann"),
                await presence.leave("ann", 1),
                await presence.join("left"),
                (presence.key, presence.lease),
            ]

    expected = [True, False, {"ann"}, 1, False, True, True, True, (KEY, 60.0)]
    assert run(main()) == expected
    assert client.exists(KEY) == 0


def test_many_at_once(client: Any) -> None:
    presences = [Presence(client) for _ in range(4)]
    together = threading.Barrier(4)
    came: list[bool] = []
    went: list[bool] = []

    def live(presence: Presence) -> None:
        together.wait()
        came.extend([presence.join(user, "ws") for user in range(25)])
        together.wait()
        went.extend([presence.leave(user, "ws") for user in range(25)])

    threads = [threading.Thread(target=live, args=(p,)) for p in presences]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (came.count(True), went.count(True)) == (25, 25)
    assert presences[0].count() == 0
    assert [*client.scan_iter()] == []


def expire_servers(client: Any, except_for: Presence | None = None) -> None:
    """As if their leases had ended by the server's clock."""
    for owner in client.zrange(BESIDE[2], 0, -1):
        if except_for is None or owner.decode() != except_for._registry.owner:
            client.zadd(BESIDE[2], {owner: 1})


def test_users_of_a_dead_process_go(client: Any) -> None:
    dead, alive = Presence(client, lease=3600), Presence(client, lease=3600)
    for user in range(250):
        dead.join(user)
    dead.join("ann", "ws")
    alive.join("ann", "ws")
    assert alive.count() == 251
    expire_servers(client, except_for=alive)
    assert alive.members() == {"ann"}
    assert client.zcard(BESIDE[2]) == 1
    assert client.hlen(BESIDE[0]) == client.hlen(BESIDE[1]) == 1
    # one that only looks sees it too
    expire_servers(client)
    dead._told = "server"
    assert Presence(client).count() == 0


def test_one_that_stood_still_comes_back(client: Any) -> None:
    asleep, other = Presence(client, lease=3600), Presence(client, lease=3600)
    asleep.join("ann")
    asleep.join("bob", 5)
    expire_servers(client)
    assert other.members() == set()
    assert asleep.members() == {"ann", "bob"}
    assert other.members() == {"ann", "bob"}
    expire_servers(client)  # it sees that itself
    assert asleep.members() == {"ann", "bob"}
    assert asleep.leave("ann") is True
    assert asleep.leave("bob", 5) is True
    assert [*client.scan_iter()] == []


def test_a_lease_is_renewed_by_itself(client: Any) -> None:
    presence = Presence(client, lease=0.3)
    presence.join("ann")
    owner = presence._registry.owner
    first = client.zscore(BESIDE[2], owner)
    wait_until(lambda: client.zscore(BESIDE[2], owner) > first + 300, "renewals")
    assert presence.online("ann")
    presence.close()


def test_the_thread_ends_with_its_work(client: Any) -> None:
    presence = Presence(client, lease=0.1)
    presence.join("ann")
    assert presence._thread is not None
    presence.leave("ann")
    wait_until(lambda: presence._thread is None, "the end of the thread")
    assert Presence(client)._thread is None


def test_the_thread_ends_with_its_object(client: Any) -> None:
    presence = Presence(client, lease=3600)
    presence.join("ann")
    thread = presence._thread
    assert thread is not None
    del presence
    wait_until(lambda: not thread.is_alive(), "the end of the thread")


PROGRAM = """
import os, sys, time
import redlane
presence = redlane.Presence(redlane.Client(sys.argv[1]), lease=float(sys.argv[2]))
presence.join("crashed")
presence.join("both", "x")
print("joined", flush=True)
time.sleep(600)
"""


def test_a_process_that_was_killed(redis_server: Server) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, redis_server.patient_url, "1"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "joined\n"
        client = redlane.Client(redis_server.url, **PATIENT)
        presence = Presence(client, lease=60)
        presence.join("both", "x")
        assert presence.members() == {"crashed", "both"}
        child.send_signal(signal.SIGKILL)
        wait_until(lambda: presence.members() == {"both"}, "the end of its lease")
        presence.close()
        client.close()
    finally:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


def test_a_fork_has_connections_of_its_own(redis_server: Server) -> None:
    client = redlane.Client(redis_server.url, **PATIENT)
    presence = Presence(client)
    presence.join("parent")
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            if presence.leave("parent") is False and presence.join("child"):
                status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert presence.members() == {"parent", "child"}
    presence.close()
    client.close()


def test_an_outage(switch: Switch, run: Runner) -> None:
    client = redlane.Client(switch.url, **PATIENT)
    presence = Presence(client)
    other = Presence(redlane.Client(switch.server.url, **PATIENT))
    for user in ("stays", "leaves", "both"):
        presence.join(user, "ws")
    other.join("elsewhere")
    other.join("both")
    switch.off(client)
    assert presence.members() == {"stays", "leaves", "both"}  # its own
    assert presence.online("stays")
    assert not presence.online("elsewhere")
    assert presence.leave("leaves", "ws") is True
    assert run(presence.aio.leave("both", "ws")) is True
    assert presence.join("new", "ws") is True
    assert presence.members() == {"stays", "new"}
    assert other.members() == {"stays", "leaves", "both", "elsewhere"}
    switch.on(client)
    # told before the first read
    assert presence.members() == {"stays", "new", "both", "elsewhere"}
    assert other.members() == {"stays", "new", "both", "elsewhere"}
    assert presence.leave("stays", "ws") is True
    other.close()
    presence.close()
    assert switch.server.cli("DBSIZE") == 0
    client.close()


def test_it_is_told_without_a_call(switch: Switch) -> None:
    client = redlane.Client(switch.url, **PATIENT)
    presence = Presence(client)
    presence.join("leaves")
    switch.off(client)
    presence.leave("leaves")
    presence.join("new")
    switch.on(client)
    wait_until(
        lambda: switch.server.cli("SMEMBERS", KEY) == [b"new"], "what it has to tell"
    )
    presence.close()
    client.close()


def test_a_server_that_lost_everything(fresh_server: Any) -> None:
    client = redlane.Client(fresh_server.url, **PATIENT)
    presence = Presence(client, lease=60)
    for user in range(230):  # more than one call takes
        presence.join(user)
    fresh_server.kill()
    presence.leave(0)
    presence.join("new")
    assert presence.count() == 230
    fresh_server.start()
    wait_until(lambda: fresh_server.cli("SCARD", KEY) == 230, "all of them")
    assert fresh_server.cli("SISMEMBER", KEY, "new") == 1
    assert fresh_server.cli("SISMEMBER", KEY, "0") == 0
    fresh_server.cli("FLUSHALL")  # unseen
    assert presence.members() == {str(n) for n in range(1, 230)} | {"new"}
    presence.close()
    client.close()


def test_fallback_none_and_raise(switch: Switch) -> None:
    client = redlane.Client(switch.url, **PATIENT)
    nobody = Presence(client, "a", fallback="none")
    loud = Presence(client, "b", fallback="raise")
    nobody.join("ann")
    loud.join("ann", 1)
    switch.off(client)
    assert nobody.members() == set()
    for call in (loud.members, lambda: loud.join("bob"), lambda: loud.leave("ann", 1)):
        with pytest.raises(redlane.ConnectionError):
            call()
    switch.on(client)
    assert nobody.members() == {"ann"}
    assert loud.members() == set()  # what left has left; what failed did not join
    client.close()


def test_a_client_that_is_closed() -> None:
    client = redlane.Client("memory://")
    presence = Presence(client, lease=0.1)
    presence.join("ann")
    client.close()
    with pytest.raises(redlane.ConnectionError, match="closed"):
        presence.members()
    wait_until(lambda: presence._thread is None, "the end of the thread")


def test_of_an_address(redis_server: Server) -> None:
    presence = Presence(redis_server.patient_url)
    presence.join("ann")
    assert redis_server.cli("SMEMBERS", KEY) == [b"ann"]
    presence.close()


def observed(handle: ToolHandle, client: Any) -> list[Any]:
    """The scripts by themselves."""
    keys = [KEY, *BESIDE]

    def script(name: str, *args: object) -> Any:
        reply, who = handle.script(f"presence_{name}", keys, args)  # type: ignore[arg-type]
        assert who == "server"
        return sorted(reply) if isinstance(reply, list) and not reply else reply

    def state() -> Any:
        owners = client.zrange(BESIDE[2], 0, -1)
        return (
            client.smembers(KEY),
            client.hgetall(BESIDE[0]),
            client.hgetall(BESIDE[1]),
            set(owners),
        )

    seen: list[Any] = []
    for step in [
        ("join", "o1", 0),
        ("join", "o1", 60_000, "ann", "c1", "ann", "c2", "bob", "c3"),
        ("join", "o2", 60_000, "ann", "c4", "ann", "c1"),
        ("read", "o3", "count", ""),
        ("read", "o1", "online", "ann"),
        ("read", "o1", "online", "zed"),
        ("read", "o1", "dead", ""),
        ("leave", "o3", "o1", 1, "bob", "c3"),
        ("leave", "o1", "o1", 0, "ann", "c1", "ann", "c2", "bob", "none"),
        ("leave", "o1", "o1", 1, "bob", "c3"),
        ("join", "o4", 1, "dan", "c5"),
    ]:
        seen.append((script(*step), state()))
    wait_until(lambda: script("read", "o2", "dead", "")[2] == [b"o4"], "its end")
    seen.append(script("join", "o2", 60_000))
    seen.append((script("leave", "o2", "o4", 1, "dan", "c5"), state()))
    client.set(BESIDE[0], "not a hash")
    for step in [("join", "o1", 0, "x", "y"), ("leave", "o2", "o2", 0, "x", "y")]:
        with pytest.raises(redlane.WrongTypeError):
            script(*step)
    client.set(KEY, "not a set")
    with pytest.raises(redlane.WrongTypeError):
        script("read", "o1", "members", "")
    return seen


def test_engine_and_server_agree(
    redis_server: Server, request: pytest.FixtureRequest
) -> None:
    seen = []
    for executor in ("engine", "redis"):
        client = make_client(executor, request)
        seen.append(observed(ToolHandle(client, "raise"), client))
        client.close()
    assert seen[0] == seen[1]


def test_leases_are_by_the_servers_clock(client: Any) -> None:
    presence = Presence(client, lease=100)
    presence.join("ann")
    seconds, micros = client.execute("TIME")
    now = int(seconds) * 1000 + int(micros) // 1000
    till = client.zscore(BESIDE[2], presence._registry.owner)
    assert now + 90_000 < till <= now + 100_000
    presence.close()


@pytest.mark.soak
def test_traffic_through_outages(fresh_server: Any) -> None:
    """At the end the set is what the processes have."""
    client = redlane.Client(fresh_server.url, **PATIENT)
    presences = [Presence(client, lease=5) for _ in range(3)]
    stop = time.monotonic() + 60
    held: list[dict[int, int]] = [{} for _ in presences]

    def live(index: int) -> None:
        mine, presence, n = held[index], presences[index], 0
        while time.monotonic() < stop:
            n += 1
            user = (n * 7919) % 50
            if mine.get(user):
                presence.leave(user)
                mine[user] -= 1
            else:
                presence.join(user)
                mine[user] = mine.get(user, 0) + 1

    threads = [threading.Thread(target=live, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    while time.monotonic() < stop:
        time.sleep(5)
        fresh_server.kill()
        time.sleep(2)
        fresh_server.start()
    for thread in threads:
        thread.join()
    wanted = {str(u) for mine in held for u, count in mine.items() if count}
    wait_until(lambda: presences[0].members() == wanted, "agreement")
    for presence in presences:
        presence.close()
    client.close()
