"""No hostile reply ends the process: a child with Python's debugging allocator asks a
server that says anything at all, in pieces of any size."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scripted import HELLO_ANSWER, Gone, Peer, Script, scripted
from test_hostile_replies import FATAL, WELL_FORMED
from test_stress_replies import SEEDS, mutate

CHILD = Path(__file__).resolve().parent / "hostile_child.py"
LOOP: list[str] = []  # the kind of the event loop on which all is awaited, if it is
REPLIES = (*WELL_FORMED.values(), *(reply for reply in FATAL.values() if reply), *SEEDS)


class Forgetful(list[list[bytes]]):
    """What was asked is of no interest here, and would not fit in memory."""

    def append(self, command: list[bytes]) -> None:
        pass


def anything(chance: random.Random) -> bytes:
    """One reply or a few, mutated or sound, or plain noise."""
    if chance.random() < 0.1:
        return chance.randbytes(chance.randrange(1, 300))
    if chance.random() < 0.3:
        return chance.choice(REPLIES)
    return b"".join(
        mutate(chance.choice(REPLIES), chance)
        for _ in range(chance.choice([1, 1, 1, 2, 5]))
    )


def send_in_pieces(peer: Peer, data: bytes, chance: random.Random) -> None:
    """Mostly whole; else cut anywhere, perhaps with a pause between."""
    while data:
        size = (
            len(data) if chance.random() < 0.7 else chance.randrange(1, len(data) + 1)
        )
        peer.send(data[:size])
        data = data[size:]
        if data and chance.random() < 0.1:
            time.sleep(0.002)


def hostile(chance: random.Random) -> Script:
    def script(peer: Peer) -> None:
        while True:
            command = peer.read()
            if command[0] == b"HELLO":
                greeting = HELLO_ANSWER
                if chance.random() < 0.05:
                    greeting = mutate(greeting, chance)
                send_in_pieces(peer, greeting, chance)
            elif command == [b"PING"] and chance.random() < 0.9:
                peer.send(b"+PONG\r\n")
            else:
                send_in_pieces(peer, anything(chance), chance)
                if chance.random() < 0.02:
                    if chance.random() < 0.5:
                        peer.reset()
                    raise Gone

    return script


@pytest.mark.parametrize(
    "rounds", [2_000, pytest.param(1_000_000, marks=pytest.mark.soak)]
)
def test_no_stream_ends_the_process(rounds: int) -> None:
    seed = 17 if os.environ.get("CI") else random.randrange(1 << 30)
    with scripted(hostile(random.Random(seed))) as server:
        server.commands = Forgetful()
        arguments = [server.url, str(rounds), str(seed), *LOOP]
        done = subprocess.run(
            [sys.executable, "-X", "dev", CHILD, *arguments],
            env={"PYTHONMALLOC": "debug", **os.environ},
            capture_output=True,
            text=True,
            check=False,
            timeout=120 + rounds,
        )
    assert done.returncode == 0, f"seed {seed}\n{done.stderr[-4000:]}"
    assert done.stdout == "alive\n"
    assert done.stderr == ""
