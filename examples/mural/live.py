"""What the workers tell each other, by publish and subscribe, and their WebSocket
clients.

Each placement is published with its sequence number once it is in the file. Each worker
has a thread that hears them all. What it did not hear (the connection was lost, or a
worker was killed before it could say it) it takes from the file: at a gap, and whenever
nothing was said for a while.
"""

from __future__ import annotations

import logging
import socket
import sqlite3
import struct
import threading
from dataclasses import dataclass

import msgspec
from redlane import Client, PubSub, RedlaneError, Subscription
from simple_websocket import ConnectionClosed
from simple_websocket import Server as WebSocket

from .board import Board, describe
from .settings import Settings
from .store import Pixel, Placement

POLL_SECONDS = 0.5  # after which a thread looks whether its client is there
SEND_TIMEOUT = struct.pack("ll", 10, 0)  # seconds, microseconds that a client is given

logger = logging.getLogger("mural")


@dataclass(frozen=True)
class News:
    sequence: int
    x: int
    y: int
    color: str
    user_id: str


class Live:
    """Its thread runs from `start` to `close`."""

    def __init__(self, client: Client, board: Board, settings: Settings) -> None:
        self._client = client
        self._board = board
        self._check = settings.check
        self._channel = f"{settings.prefix}:placements"
        self._events = PubSub(client)
        self._subscription: Subscription | None = None
        self._leaving = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mural", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def leave(self) -> None:
        """Lets the WebSocket clients go, soon. A signal handler may call it."""
        self._leaving = True

    def close(self) -> None:
        self.leave()
        self._ended.set()
        if self._subscription is not None:
            self._subscription.close()
        if self._thread.is_alive():
            self._thread.join()

    def publish(self, placement: Placement) -> None:
        """Tells all workers. What cannot be told is in the file."""
        message = describe(placement.sequence, placement.pixel)
        try:
            self._events.publish(self._channel, message.encode())
        except RedlaneError as error:
            logger.warning("Placement %d not told: %s", placement.sequence, error)

    def serve(self, link: WebSocket, since: int | None) -> None:
        """Tells a client what happened after `since`, until either goes away."""
        link.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, SEND_TIMEOUT)
        try:
            with self._board.watched(since) as viewer:
                for message in viewer.backlog:
                    link.send(message)
                # One that was too slow comes back, and says how far it came.
                while link.connected and not (viewer.lost or self._leaving):
                    news = viewer.get(POLL_SECONDS)
                    if news is not None:
                        link.send(news)
        except (ConnectionClosed, OSError) as error:
            logger.debug("A client went away: %s", error)

    def _run(self) -> None:
        said = ""
        while not self._ended.is_set():
            try:
                self._listen()
            except (RedlaneError, sqlite3.Error) as error:
                if str(error) != said:
                    said = str(error)
                    logger.error("Other workers' placements come late: %s", said)
                self._ended.wait(self._check)

    def _listen(self) -> None:
        """Hears what is published, until the subscription is closed."""
        self._board.catch_up()  # for as long as subscribing may take, or is refused
        with self._client.subscribe(
            self._channel, on_gap=lambda _: self._board.catch_up()
        ) as subscription:
            self._subscription = subscription
            self._board.catch_up()
            while not (subscription.closed or self._ended.is_set()):
                message = subscription.get(timeout=self._check)
                if message is not None:
                    self._hear(message)
                elif not self._ended.is_set():
                    self._board.catch_up()

    def _hear(self, message: bytes) -> None:
        try:
            news = msgspec.json.decode(message, type=News)
        except msgspec.DecodeError as error:
            logger.warning("Not a placement: %s", error)
            return
        pixel = Pixel(news.x, news.y, news.color, news.user_id)
        self._board.hear(news.sequence, pixel)
