"""Faults that a review of hits, of batches and of slots found."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import redlane
from redlane import Client, Concurrency, RateLimiter
from redlane._core import _look
from scripted import HELLO_ANSWER, Peer, scripted
from servers import PATIENT

FAR = (1 << 50) / 1000  # seconds


class Emptying(Mapping[str, Any]):
    """A scope that drops its fields when it is asked for something else."""

    def __init__(self, fields: list[Any], rest: dict[str, Any]) -> None:
        self.fields, self.rest = fields, rest

    def __getitem__(self, name: str) -> Any:
        if name == "headers":
            return self.fields
        self.fields.clear()
        return self.rest[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.rest)

    def __len__(self) -> int:
        return len(self.rest)


def test_a_scope_that_empties_its_fields_while_it_is_read() -> None:
    rest = {"path": "/a", "query_string": b"q=1", "root_path": "", "scheme": "http"}
    fields = [(b"host", b"host-%d.example" % 17)]
    seen = _look(Emptying(fields, rest), frozenset())
    assert seen == ("http", "host-17.example", "/a", "q=1")
    assert fields == []


@pytest.mark.parametrize("score", ["inf", "1e300", "9.3e18", str(2**63 - 1)])
def test_a_score_that_is_no_time(score: str) -> None:
    """What another program wrote among the slots holds one for the longest lease."""
    with Client("memory://") as client:
        client.execute("ZADD", "slots:{u}", score, "foreign")
        one, two = Concurrency(client, 1), Concurrency(client, 2)
        refused = one.acquire("u")
        assert not refused
        assert refused.retry_after == 366 * 86_400
        with two.slot("u") as slot:
            assert slot.in_flight == 2
            assert 0.99 * FAR < client.pttl("slots:{u}") / 1000 <= FAR + 1
        assert two.in_flight("u") == 1


def test_a_short_ttl_of_another_program() -> None:
    """The key may end at any moment of a call: a slot that was given is held then."""
    with Client("memory://") as client:
        slots = Concurrency(client, 5, lease=3600)
        for _ in range(200):
            client.execute("ZADD", "slots:{u}", "1e15", "foreign")
            client.execute("PEXPIRE", "slots:{u}", 1)
            while client.exists("slots:{u}") and not slots.acquire("u"):
                pass
            assert client.pttl("slots:{u}") > 3000_000 or not client.exists("slots:{u}")
            client.delete("slots:{u}")


@pytest.mark.parametrize("algorithm", ["sliding-window", "fixed-window"])
def test_a_server_that_says_there_is_more_than_the_limit(algorithm: Any) -> None:
    """No more is asked for than the limits could ever admit."""
    costs: list[int] = []
    most = 1 << 52

    def serve(peer: Peer) -> None:
        while True:
            command = peer.read()
            if command[0] == b"HELLO":
                peer.send(HELLO_ANSWER)
            elif command[0] == b"EVALSHA":
                costs.append(int(command[6]))
                peer.send(b"*7\r\n" + b":%d\r\n" % most * 3 + b":0\r\n")
                peer.send(b":%d\r\n" % most * 2 + b":0\r\n")
            else:
                peer.send(b"+PONG\r\n")

    with scripted(serve) as server, Client(server.url, **PATIENT) as c:
        limiter = RateLimiter(c, algorithm, batch=1000)
        for _ in range(4):
            assert limiter.hit("u", "1000/minute;9/hour", 2)
    assert costs[0] == 2
    assert max(costs) == 9


def test_without_room_for_all_limits_none_is_charged() -> None:
    """The second log alone would be larger than the engine."""
    with Client("memory://", max_memory=600_000) as client:
        limiter = RateLimiter(client, "sliding-log")
        limiter.hit("u", "50000/hour", 3)
        rates = "50000/hour;100000/day"
        with pytest.raises(redlane.OutOfMemoryError):
            limiter.hit("u", rates, 40_000)
        assert client.exists("limit:{u}:l50000/3600")

        async def awaited() -> None:
            waits = limiter.aio.hit("u", rates, 40_000)
            with pytest.raises(redlane.OutOfMemoryError):
                await waits

        asyncio.run(awaited())
        assert limiter.stats()["errors"] == 2
        assert limiter.peek("u", "50000/hour").remaining == 49_997


OUTLIVES = """
import builtins, gc, sys
import redlane
from redlane import Client, RateLimiter

class Late:
    def __init__(self, decision):
        self.decision = decision
    def __del__(self, write=sys.stdout.write):
        d = self.decision
        write(f"{len(d.headers())} {len(d.raw_headers())} {d.limits[0].limit}\\n")

client = Client("memory://")
late = Late(RateLimiter(client).hit("u", "5/minute"))
builtins.late = late
late.itself = late  # a cycle, which the last collection ends
sys.late = Late(late.decision)
client.close()
del client, late, Late, RateLimiter, Client, redlane
for name in [name for name in sys.modules if name.startswith("redlane")]:
    del sys.modules[name]
gc.collect()
d = builtins.late.decision
print(len(d.headers()), len(d.raw_headers()), d.limits[0].limit, flush=True)
"""


def test_a_decision_outlives_the_module() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", OUTLIVES], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines()[0] == "5 5 5"
    assert set(ran.stdout.splitlines()) == {"5 5 5"}
