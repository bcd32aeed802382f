"""A scripted server that knows strings and tracking, as one process meets it: a test
says in which order its replies and its messages leave, and may hold back either."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from outage_tools import BOUND
from scripted import HELLO_ANSWER, Gone, Peer, ScriptedServer

INFO = b"# Server\r\nredis_version:7.0.15\r\nrun_id:" + b"e" * 40 + b"\r\n"
CHANNEL = b"$20\r\n__redis__:invalidate\r\n"
NIL = b"$-1\r\n"
OK = b"+OK\r\n"


def bulk(value: bytes | None) -> bytes:
    return NIL if value is None else b"$%d\r\n%s\r\n" % (len(value), value)


class Hold:
    """The next command of a name: `reached` when it has come (or, `after`, when it has
    been executed), and gone on with when somebody says so."""

    def __init__(self, after: bool) -> None:
        self.after = after
        self.reached = threading.Event()
        self.gate = threading.Event()

    def stop(self) -> None:
        self.reached.set()
        assert self.gate.wait(BOUND)

    def wait(self) -> None:
        assert self.reached.wait(BOUND)

    def let_go(self) -> None:
        self.gate.set()


class Story:
    """Its `values` are what the server holds; `change` is somebody else's write."""

    def __init__(self, resp3: bool) -> None:
        self.resp3 = resp3
        self.values: dict[bytes, bytes] = {}
        self.lives: dict[bytes, int] = {}  # what PTTL says; -1 for those without
        self.commands: list[bytes] = []  # of data connections, without the handshake
        self.writes: list[str] = []  # what becomes of the next SETs: see _set
        self.silent = False  # the link answers no PING, and brings no message
        self.pings = 0  # of links
        self._lock = threading.Lock()
        self._holds: dict[bytes, Hold] = {}
        self._made: list[Hold] = []
        self._over = threading.Event()
        self._link: Peer | None = None
        self.server = ScriptedServer(self._serve)
        self.url = self.server.url

    # --- what a test says -----------------------------------------------------------

    def hold(self, name: bytes, after: bool = True) -> Hold:
        """Keeps back the next reply to this command (or the command itself), and all
        that come after it on its connection."""
        with self._lock:
            made = self._holds[name] = Hold(after)
            self._made.append(made)
        return made

    def change(self, key: bytes, value: bytes | None, tell: bool = True) -> None:
        with self._lock:
            self._put(key, value)
        if tell:
            self.tell(key)

    def tell(self, *keys: bytes) -> None:
        """A message that these keys have changed, or (of none) that all have."""
        link = self._link
        assert link is not None
        if self.silent:
            return
        head = b">2\r\n$10\r\ninvalidate\r\n"
        if not self.resp3:
            head = b"*3\r\n$7\r\nmessage\r\n" + CHANNEL
        body = b"*%d\r\n" % len(keys) + b"".join(map(bulk, keys))
        if not keys:
            body = b"_\r\n" if self.resp3 else NIL
        with suppress(Gone):
            link.send(head + body)

    def lose_link(self) -> None:
        assert self._link is not None
        self._link.link.shutdown(socket.SHUT_RDWR)

    def count(self, name: bytes) -> int:
        return self.commands.count(name)

    def close(self) -> None:
        self._over.set()
        for hold in self._made:
            hold.let_go()
        self.server.close()

    # --- what the server does -------------------------------------------------------

    def _serve(self, peer: Peer) -> None:
        while True:
            command = peer.read()
            name = command[0].upper()
            if name == b"HELLO" and command[1] == b"3":
                self._serve_link(peer)
            hold = self._holds.pop(name, None)
            if hold and not hold.after:
                hold.stop()
            reply = self._answer(name, command[1:])
            if hold and hold.after:
                hold.stop()
            if reply is None:
                peer.reset()
                raise Gone
            peer.send(reply)

    def _answer(self, name: bytes, args: list[bytes]) -> bytes | None:
        if name == b"HELLO":
            return HELLO_ANSWER
        if name == b"INFO":
            return bulk(INFO)
        if name == b"PING":
            return b"+PONG\r\n"
        with self._lock:
            self.commands.append(name)
            if name == b"GET":
                return bulk(self.values.get(args[0]))
            if name == b"MGET":
                found = [bulk(self.values.get(key)) for key in args]
                return b"*%d\r\n" % len(found) + b"".join(found)
            if name == b"PTTL":
                left = self.lives.get(args[0], -1) if args[0] in self.values else -2
                return b":%d\r\n" % left
            if name == b"SET":
                return self._set(args)
            if name == b"DEL":
                return b":%d\r\n" % sum(self._put(key, None) for key in args)
        return b"-ERR unknown command\r\n"

    def _put(self, key: bytes, value: bytes | None) -> bool:
        there = key in self.values
        if value is None:
            self.values.pop(key, None)
        else:
            self.values[key] = value
        return there

    def _set(self, args: list[bytes]) -> bytes | None:
        key, value = args[:2]
        if b"NX" in args and key in self.values:
            return bulk(self.values[key])
        fate = self.writes.pop(0) if self.writes else "done"
        if fate == "refused":
            return b"-ERR no, thank you\r\n"
        if fate in ("lost", "late"):  # it is not executed yet, and perhaps never
            return None if fate == "lost" else b""
        self._put(key, value)
        return NIL if b"GET" in args else OK

    def _serve_link(self, peer: Peer) -> None:
        if self.resp3:
            peer.send(b"%1\r\n$5\r\nproto\r\n:3\r\n")
        else:
            peer.send(b"-NOPROTO unsupported protocol version\r\n")
        while True:
            command = peer.read()
            name = command[0].upper()
            if name == b"SUBSCRIBE":
                peer.send(b"*3\r\n$9\r\nsubscribe\r\n" + CHANNEL + b":1\r\n")
            elif name == b"PING":
                self.pings += 1
                while self.silent and not self._over.wait(0.01):
                    pass
                peer.send(
                    b"+PONG\r\n" if self.resp3 else b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"
                )
            else:
                assert command[:3] == [b"CLIENT", b"TRACKING", b"ON"]
                assert (b"REDIRECT" in command) is not self.resp3
                self._link = peer
                peer.send(OK)


@contextmanager
def told(resp3: bool) -> Iterator[Story]:
    story = Story(resp3)
    try:
        yield story
    finally:
        story.close()
