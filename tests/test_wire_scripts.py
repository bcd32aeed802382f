"""Scripts: EVALSHA, and the text once where the server does not know the hash."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
import redlane
from scripted import Peer, answering, scripted

SOURCE = Path(__file__).parent.parent / "src" / "core" / "script.c"
HASHES = re.findall(r'\.sha1 = "([0-9a-f]{40})"', SOURCE.read_text())
NOSCRIPT = b"-NOSCRIPT No matching script. Please use EVAL.\r\n"


def forgetful(peer: Peer) -> None:
    """Knows no script by its hash, and answers other commands with their name."""
    peer.greet()
    while True:
        command = peer.read()
        if command[0] == b"EVALSHA":
            peer.send(NOSCRIPT)
        else:
            peer.send(b"+%s\r\n" % command[0])


@pytest.mark.parametrize("sha1", HASHES)
def test_the_text_follows_a_hash_that_is_unknown(sha1: str) -> None:
    with scripted(forgetful) as server:
        client = redlane.Client(server.url, timeout=60, connect_timeout=60)
        assert client.execute("EVALSHA", sha1, "1", "key", "x") == b"EVAL"
        name, text, *rest = server.commands[-1]
        assert name == b"EVAL"
        assert hashlib.sha1(text).hexdigest() == sha1
        assert rest == [b"1", b"key", b"x"]
        client.close()


def test_a_hash_that_is_not_ours_is_an_error() -> None:
    with scripted(forgetful) as server:
        client = redlane.Client(server.url, timeout=60, connect_timeout=60)
        with pytest.raises(redlane.NoScriptError):
            client.execute("EVALSHA", "0" * 40, "0")
        with pytest.raises(redlane.NoScriptError):
            client.execute("EVALSHA")
        assert b"EVAL" not in [command[0] for command in server.commands]
        client.close()


def test_the_text_goes_once() -> None:
    with scripted(answering(NOSCRIPT, NOSCRIPT)) as server:
        client = redlane.Client(server.url, timeout=60, connect_timeout=60)
        with pytest.raises(redlane.NoScriptError):
            client.execute("EVALSHA", HASHES[0], "1", "key")
        names = [command[0] for command in server.commands]
        assert names == [b"HELLO", b"EVALSHA", b"EVAL"]
        client.close()
