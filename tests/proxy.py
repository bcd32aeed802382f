"""A proxy on loopback in front of a real server, which spoils what passes.

It knows bytes, not RESP, and so serves TLS streams as well as plain ones. It listens
on a free TCP port, and on a unix socket if it is told where; the server behind it is a
port on loopback or a unix socket.

The settings are plain attributes. They hold for all connections, the open ones too,
from the next chunk on:

    proxy.delay = 0.05              # seconds before each chunk of the server's goes on
    proxy.drip = 0.25               # seconds after each piece of `drip_bytes`
    proxy.cut_after = k             # ends a connection after k bytes of the server's
    proxy.reset_after = k           # the same, with a TCP reset
    proxy.cut_requests_after = k    # ends it after k bytes of the client's
    proxy.swallow = True            # reads on, and forwards nothing in either direction
    proxy.refuse = True             # accepts a connection and resets it at once
    proxy.cut_in(k)                 # ends those open now after k more bytes; reset=True
    proxy.cut_requests_in(k)        # the same for the client's bytes
    proxy.inject(b"+unasked\r\n")   # into the reply stream of every open connection
    proxy.reset_all()               # a TCP reset on every open connection
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

from servers import PORTS, listen_on_loopback

CHUNK = 65536
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, with no time


def abort(link: socket.socket) -> None:
    """A reset instead of an end of file, once the last descriptor is closed."""
    with contextlib.suppress(OSError):
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def hang_up(link: socket.socket) -> None:
    with contextlib.suppress(OSError):
        link.shutdown(socket.SHUT_RDWR)


def is_reset(link: socket.socket) -> bool:
    """What its peer sent before that is still read, as late as this thread gets to run;
    but who has given it up has gone on, and it must not come after what follows."""
    number = link.fileno()
    if number < 0:  # closed by another thread
        return True
    poll = select.poll()
    poll.register(number, 0)  # errors are told unasked
    return any(event & select.POLLERR for _, event in poll.poll(0))


class Pair:
    """One connection: the client's end, and the one to the server."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.replied = 0  # bytes of the server's that went on
        self.requested = 0  # bytes of the client's
        self.sending = threading.Lock()  # one chunk at a time to the client
        self.threads: list[threading.Thread] = []
        self.running = 2  # of the threads that forward; under the proxy's lock
        self.closing = False
        self.cut_at: int | None = None  # of `replied`
        self.cut_requests_at: int | None = None  # of `requested`
        self.reset = False  # when that is reached

    def hang_up(self) -> None:
        """Ends both, unless somebody closes them in a way of his own."""
        if not self.closing:
            hang_up(self.client)
            hang_up(self.server)

    def close(self, reset: bool) -> None:
        self.closing = True
        for link in (self.client, self.server):
            if reset:
                abort(link)
                # Not for writing: that would send an end of file ahead of the reset.
                with contextlib.suppress(OSError):
                    link.shutdown(socket.SHUT_RD)
            else:
                hang_up(link)
            link.close()
        # A descriptor that a thread still receives on is closed when that returns.
        for thread in self.threads:
            if thread is not threading.current_thread():
                thread.join(timeout=30)


class Proxy:
    """Forwards a free port, and `listen` if it is a path, to `target`: a port on
    loopback, or the path of a unix socket."""

    def __init__(self, target: int | str, listen: str | None = None) -> None:
        self.target = target
        self.delay = 0.0
        self.drip = 0.0
        self.drip_bytes = 1
        self.cut_after: int | None = None
        self.reset_after: int | None = None
        self.cut_requests_after: int | None = None
        self.swallow = False
        self.refuse = False
        self.connections = 0  # forwarded ones
        self.refused = 0
        self.cuts = 0  # connections that a limit on replies has ended
        self._lock = threading.Lock()
        self._pairs: list[Pair] = []
        self._closed = False
        self._listeners = [listen_on_loopback()]
        self.port: int = self._listeners[0].getsockname()[1]
        self.path = listen
        if listen is not None:
            unix = socket.socket(socket.AF_UNIX)
            unix.bind(listen)
            unix.listen(256)
            self._listeners.append(unix)
        for listener in self._listeners:
            self._start(self._accept, listener)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def unix_url(self) -> str:
        assert self.path is not None
        return f"unix://{self.path}"

    def _start(self, body: Callable[..., None], *args: Any) -> threading.Thread:
        thread = threading.Thread(target=body, args=args, daemon=True)
        thread.start()
        return thread

    def _accept(self, listener: socket.socket) -> None:
        while not self._closed:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            if self.refuse:
                self._refuse(client)
                continue
            try:
                server = self._connect()
            except OSError:
                client.close()
                continue
            pair = Pair(client, server)
            with self._lock:
                # Asked again: who refuses and then ends all pairs ends this one too.
                refuse = self.refuse
                if not refuse:
                    self.connections += 1
                    self._pairs.append(pair)
                    pair.threads += [
                        self._start(self._forward_requests, pair),
                        self._start(self._forward_replies, pair),
                    ]
            if refuse:
                self._refuse(client)
                server.close()
            elif self._closed:
                self._end_pairs(reset=False)

    def _refuse(self, client: socket.socket) -> None:
        self.refused += 1
        abort(client)
        client.close()

    def _connect(self) -> socket.socket:
        if isinstance(self.target, str):
            server = socket.socket(socket.AF_UNIX)
            server.connect(self.target)
        else:
            server = socket.create_connection(("127.0.0.1", self.target), timeout=30)
            server.settimeout(None)
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return server

    def _forward_requests(self, pair: Pair) -> None:
        with contextlib.suppress(OSError):
            while data := pair.client.recv(CHUNK):
                if self.swallow:
                    continue
                limit = smallest(self.cut_requests_after, pair.cut_requests_at)
                part = within(data, pair.requested, limit)
                pair.requested += len(part)
                if is_reset(pair.client):
                    break
                pair.server.sendall(part)
                if limit is not None and pair.requested >= limit:
                    break
        self._end(pair)

    def _forward_replies(self, pair: Pair) -> None:
        cut = False
        nodelay = pair.client.family != socket.AF_UNIX
        with contextlib.suppress(OSError):
            if nodelay:
                pair.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := pair.server.recv(CHUNK):
                if self.swallow:
                    continue
                limit = self._limit(pair)
                part = within(data, pair.replied, limit)
                # Counted first: once the client has it, cut_in counts from its end, and
                # who asks whether that was a cut is told so.
                pair.replied += len(part)
                cut = limit is not None and pair.replied >= limit
                with self._lock:
                    self.cuts += cut
                self._send_slowly(pair, part)
                if cut:
                    break
        if cut and (pair.reset or self.reset_after is not None):
            self._reset_after_what_was_sent(pair)
        self._end(pair)

    def _end(self, pair: Pair) -> None:
        """One direction is over, and so is the other; with the last of them the
        descriptors go, of which a long run would have too many."""
        pair.hang_up()
        with self._lock:
            pair.running -= 1
            last = pair.running == 0
        if last and not pair.closing:
            pair.client.close()
            pair.server.close()

    def _limit(self, pair: Pair) -> int | None:
        return smallest(self.cut_after, self.reset_after, pair.cut_at)

    def _reset_after_what_was_sent(self, pair: Pair) -> None:
        """A reset discards what its receiver has not read yet, so that waits a little:
        what was sent is to arrive, as it does when a server dies in mid-reply."""
        time.sleep(0.02)
        with self._lock:
            if pair in self._pairs:
                self._pairs.remove(pair)
        pair.close(reset=True)

    def _send_slowly(self, pair: Pair, data: bytes) -> None:
        if self.delay:
            time.sleep(self.delay)
        size = self.drip_bytes if self.drip else max(1, len(data))
        for begin in range(0, len(data), size):
            with pair.sending:
                pair.client.sendall(data[begin : begin + size])
            if self.drip:
                time.sleep(self.drip)

    def _end_pairs(self, reset: bool) -> None:
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            pair.close(reset)

    def inject(self, data: bytes) -> int:
        """Bytes that the server never sent, between two of its chunks, to every client;
        gives how many clients there are."""
        with self._lock:
            pairs = list(self._pairs)
        sent = 0
        for pair in pairs:
            with contextlib.suppress(OSError), pair.sending:
                pair.client.sendall(data)
                sent += 1
        return sent

    def cut_in(self, size: int, reset: bool = False) -> None:
        """Ends each connection that is open now after `size` more bytes of the
        server's; 0: instead of the next one."""
        with self._lock:
            for pair in self._pairs:
                pair.reset = reset
                pair.cut_at = pair.replied + size

    def cut_requests_in(self, size: int) -> None:
        """The same for the client's bytes."""
        with self._lock:
            for pair in self._pairs:
                pair.cut_requests_at = pair.requested + size

    def reset_all(self) -> None:
        """A TCP reset on every connection."""
        self._end_pairs(reset=True)

    def heal(self) -> None:
        """No more faults. What was swallowed is lost: the connections end."""
        self.delay = self.drip = 0.0
        self.cut_after = self.reset_after = self.cut_requests_after = None
        self.refuse = False
        if self.swallow:
            self.swallow = False
            self._end_pairs(reset=False)

    def close(self) -> None:
        self._closed = True
        for listener in self._listeners:
            hang_up(listener)
            listener.close()
        self._end_pairs(reset=False)
        PORTS.release(self.port)

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def smallest(*limits: int | None) -> int | None:
    """Of those that are set."""
    return min((limit for limit in limits if limit is not None), default=None)


def within(data: bytes, passed: int, limit: int | None) -> bytes:
    """What of the data lies before `limit`, of which `passed` bytes have gone by."""
    return data if limit is None else data[: max(0, limit - passed)]
