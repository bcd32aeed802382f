"""A TCP proxy on loopback in front of a real server, which spoils the way back.

Settings apply to bytes that pass after they are set, for all connections.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time

CHUNK = 65536


class Proxy:
    """Forwards a free port to `port`."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.delay = 0.0  # seconds before each chunk of the server's goes on
        self.drip = 0.0  # seconds between single bytes of the server's
        self.cut_after: int | None = None  # bytes of the server's on each connection
        self.connections = 0
        self._lock = threading.Lock()
        self._links: list[socket.socket] = []
        self._forwarders: list[threading.Thread] = []
        self._closed = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def _start(self, body: object, *args: object) -> threading.Thread:
        thread = threading.Thread(target=body, args=args, daemon=True)  # type: ignore[arg-type]
        thread.start()
        return thread

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(
                    ("127.0.0.1", self.target), timeout=10
                )
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            for link in (client, server):
                link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self.connections += 1
                self._links += [client, server]
                late = self._closed
            if late:
                self._end_links(struct.pack("ii", 0, 0))
                return
            both = [
                self._start(self._forward, client, server, False),
                self._start(self._forward, server, client, True),
            ]
            with self._lock:
                self._forwarders += both

    def _forward(
        self, source: socket.socket, sink: socket.socket, spoiled: bool
    ) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                if spoiled:
                    data = self._cut(data, passed)
                    self._send_spoiled(sink, data)
                    passed += len(data)
                    if self.cut_after is not None and passed >= self.cut_after:
                        break
                else:
                    sink.sendall(data)
        for link in (source, sink):
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)

    def _cut(self, data: bytes, passed: int) -> bytes:
        if self.cut_after is None:
            return data
        return data[: max(0, self.cut_after - passed)]

    def _send_spoiled(self, sink: socket.socket, data: bytes) -> None:
        if self.delay:
            time.sleep(self.delay)
        if not self.drip:
            sink.sendall(data)
            return
        for byte in data:
            sink.sendall(bytes((byte,)))
            time.sleep(self.drip)

    def _end_links(self, option: bytes) -> None:
        with self._lock:
            links, self._links = self._links, []
            forwarders, self._forwarders = self._forwarders, []
        for link in links:
            with contextlib.suppress(OSError):
                link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RD)
            link.close()
        # A descriptor that a thread still receives on is closed when that returns.
        for thread in forwarders:
            thread.join(timeout=10)

    def reset_all(self) -> None:
        """A TCP reset on every connection."""
        self._end_links(struct.pack("ii", 1, 0))

    def close(self) -> None:
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._end_links(struct.pack("ii", 0, 0))

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
