"""A RESP server that says what a test tells it to: orderings and hostile replies that
no real server sends.

A script is a function that is called with a `Peer` for each connection, in a thread of
its own, and ends the connection by returning. A connection whose first command is PING
is a probe of the client's breaker: `Peer.greet` serves it and ends its script, so that
scripts and their counts see the calls of the test alone.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator

from servers import PORTS, listen_on_loopback

HELLO_ANSWER = (
    b"*14\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n"
    b"$5\r\nproto\r\n:2\r\n$2\r\nid\r\n:1\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n"
    b"$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n"
)


class Gone(Exception):
    """The client closed the connection."""


class Peer:
    """One connection, seen from the server."""

    def __init__(self, server: ScriptedServer, link: socket.socket) -> None:
        self.server = server
        self.number = -1  # after greet: 0 for the first connection of the server
        self._pending: list[list[bytes]] = []
        self.link = link
        self.stream = link.makefile("rb")

    def read(self) -> list[bytes]:
        """The next command; raises Gone at the end of the connection."""
        if self._pending:
            return self._pending.pop()
        try:
            head = self.stream.readline()
            if not head.startswith(b"*"):
                raise Gone
            command = []
            for _ in range(int(head[1:])):
                size = int(self.stream.readline()[1:])
                command.append(self.stream.read(size + 2)[:-2])
        except (OSError, ValueError) as error:
            raise Gone from error
        self.server.commands.append(command)
        return command

    def send(self, data: bytes) -> None:
        try:
            self.link.sendall(data)
        except OSError as error:
            raise Gone from error

    def greet(self) -> list[bytes]:
        """Answers the handshake as a Redis 7 does and awaits the first command, which
        `read` gives next; returns the HELLO command."""
        hello = self.read()
        self.send(HELLO_ANSWER)
        first = self.read()
        if first == [b"PING"]:
            self.send(b"+PONG\r\n")
            self.wait_until_gone()
            raise Gone
        self._pending.append(first)
        with self.server.lock:
            self.number = self.server.connections
            self.server.connections += 1
        return hello

    def reset(self) -> None:
        """Closes with a TCP reset instead of an end of file."""
        self.link.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        self.close()

    def close(self) -> None:
        self.stream.close()
        self.link.close()

    def wait_until_gone(self) -> bytes:
        """What else the client sends until it closes."""
        try:
            return self.stream.read()
        except OSError:
            return b""


Script = Callable[[Peer], None]


class ScriptedServer:
    """Listens on a free loopback port until it is closed."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.commands: list[list[bytes]] = []
        self.connections = 0  # greeted, probes not counted
        self.lock = threading.Lock()
        self.failures: list[Exception] = []
        self._open: list[Peer] = []
        self._threads: list[threading.Thread] = []
        self._listener = listen_on_loopback()
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer = Peer(self, link)
            self._open.append(peer)
            thread = threading.Thread(target=self._serve, args=(peer,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, peer: Peer) -> None:
        try:
            self.script(peer)
        except (Gone, OSError):  # the latter where a script uses the link itself
            pass
        except Exception as failure:
            self.failures.append(failure)
        finally:
            with contextlib.suppress(OSError):
                peer.close()

    def close(self) -> None:
        """Ends all connections and raises what a script raised."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join(30)
        for peer in self._open:
            with contextlib.suppress(OSError):
                peer.link.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(30)
        PORTS.release(self.port)
        if self.failures:
            raise self.failures[0]


@contextlib.contextmanager
def scripted(script: Script) -> Iterator[ScriptedServer]:
    server = ScriptedServer(script)
    try:
        yield server
    finally:
        server.close()


def answering(*replies: bytes) -> Script:
    """A script that greets and answers the commands of each connection in turn with
    these bytes; what comes after them is read and not answered."""

    def script(peer: Peer) -> None:
        peer.greet()
        for reply in replies:
            peer.read()
            peer.send(reply)
        peer.wait_until_gone()

    return script
