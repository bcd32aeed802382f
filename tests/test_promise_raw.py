"""Raw commands never answer from an empty engine unless asked to: whatever the outage,
and whatever the tools on the same client keep in the meantime."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
import redlane
from redlane import Cache, Client
from scripted import HELLO_ANSWER, Peer, scripted
from servers import PATIENT, Server
from test_hostile_replies import client_calls
from toolset import eventually, wait_until

NO_COMMANDS = {"health", "pipeline keeping", "transaction keeping"}
TYPED = (redlane.ConnectionError, redlane.TimeoutError, redlane.ReplyError)


def loads(peer: Peer) -> None:
    while True:
        if peer.read()[0] == b"HELLO":
            peer.send(HELLO_ANSWER)
        else:
            peer.send(b"-LOADING Redis is loading the dataset in memory\r\n")


@contextmanager
def away(kind: str, server: Server) -> Iterator[str]:
    """A URL from where, once the server is killed or frozen, nothing good comes."""
    if kind == "loading":
        with scripted(loads) as peer:
            yield peer.url
    elif kind == "refused":
        yield f"redis://nobody:nothing@127.0.0.1:{server.port}"
    else:
        yield server.url


@pytest.mark.parametrize("kind", ["killed", "frozen", "refused", "loading"])
@pytest.mark.parametrize("tools", [False, True])
def test_every_command_raises(kind: str, tools: bool, fresh_server: Server) -> None:
    with away(kind, fresh_server) as url:
        client = Client(url, timeout=0.2, connect_timeout=0.2)
        if kind in ("killed", "frozen"):
            assert eventually(lambda: client.set("k", "on the server")) is True
            (fresh_server.kill if kind == "killed" else fresh_server.pause)()
            with pytest.raises(TYPED):
                client.get("k")
        if tools:
            # They go on in memory, under the very key that is asked for below.
            cache = Cache(client, prefix="")
            wait_until(
                lambda: cache.set("k", 1, 60) and cache.get("k") == 1, "the engine"
            )
        answered = {}
        for name, (call, _) in client_calls(client).items():
            if name in NO_COMMANDS:
                continue
            with suppress(*TYPED):
                answered[name] = call()
        assert answered == {}
        if kind in ("killed", "frozen"):
            assert client.health()["connected"] is False
            (fresh_server.start if kind == "killed" else fresh_server.resume)()
            wait_until(lambda: client.health()["mode"] == "redis", "the return")
            expected = None if kind == "killed" or tools else b"on the server"
            assert eventually(lambda: client.get("k")) == expected
        client.close()


def test_unless_asked_to(fresh_server: Server) -> None:
    raw = Client(fresh_server.url, **PATIENT)
    memory = Client(fresh_server.url, fallback="memory", **PATIENT)
    nothing = Client(fresh_server.url, fallback="none", **PATIENT)
    strict = Cache(memory, prefix="s", fallback="raise")
    for client in (raw, memory, nothing):
        assert client.set("k", "on the server") is True
    fresh_server.kill()
    assert memory.get("k") is None
    assert memory.incr("n") == 1
    assert memory.incr("n") == 2
    assert nothing.incr("n") == 1
    assert nothing.incr("n") == 1
    assert nothing.get("k") is None
    for call in (
        lambda: raw.get("k"),
        lambda: raw.incr("n"),
        lambda: strict.get("k"),
        lambda: strict.set("k", 1),
        lambda: strict.get_or_set("k", lambda: 1),
        lambda: strict.invalidate("s:*"),
    ):
        with pytest.raises(redlane.ConnectionError):
            call()
