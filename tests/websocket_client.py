"""A WebSocket client of a few lines, which reads when the test asks it to."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)

SECONDS = 60.0  # that a test waits for what must come


class Refused(Exception):
    """No WebSocket there; the HTTP status is its argument."""


class Closed(Exception):
    """By the server."""


class WebSocket:
    """A context manager."""

    def __init__(self, port: int, path: str) -> None:
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self._messages: list[Any] = []
        self._part = ""
        self._accepted = False
        self._socket = socket.socket()
        try:
            self._socket.settimeout(SECONDS)
            self._socket.connect(("127.0.0.1", port))
            self._send(Request(host=f"127.0.0.1:{port}", target=path))
            end = time.monotonic() + SECONDS
            while not self._accepted:
                self._read(end)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> WebSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def get(self, seconds: float = SECONDS) -> Any:
        """The next message, decoded. Closed when none is to come, TimeoutError when
        none comes."""
        end = time.monotonic() + seconds
        while not self._messages:
            self._read(end)
        return self._messages.pop(0)

    def send(self, message: Any) -> None:
        """As JSON."""
        self._send(TextMessage(json.dumps(message)))

    def say_goodbye(self) -> None:
        """Begins the end; `get` goes on until the server answers."""
        self._send(CloseConnection(1000))

    def _send(self, event: Any) -> None:
        self._socket.sendall(self._protocol.send(event))

    def _read(self, end: float) -> None:
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)
        try:
            data = self._socket.recv(65536)
        except ConnectionError as error:
            raise Closed from error
        if not data:
            raise Closed
        self._protocol.receive_data(data)
        for event in self._protocol.events():
            self._take(event)

    def _take(self, event: Any) -> None:
        if isinstance(event, AcceptConnection):
            self._accepted = True
        elif isinstance(event, RejectConnection):
            raise Refused(event.status_code)
        elif isinstance(event, TextMessage):
            self._part += event.data
            if event.message_finished:
                self._messages.append(json.loads(self._part))
                self._part = ""
        elif isinstance(event, Ping):
            self._send(event.response())
        elif isinstance(event, CloseConnection) and not self._messages:
            raise Closed(event.code)
