"""Events on their way: published for everybody, heard by every worker, told to the
pages that watch.

An event that the application publishes is stored by the worker that publishes it, so
that it is there once the request is answered. What other programs publish is stored by
one worker of all: the one that has the slot. To tell one from the other, the
application announces its events on a channel of its own.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from redlane import Client, Concurrency, Listener, RedlaneError, Slot

from .history import Event, History
from .utils import RedisPubSub

OWN = "krowoc:"  # what the channels of the application itself begin with
ANNOUNCED = f"{OWN}published"
SERVER_OWN = "__"  # what those of the server begin with
TICK = 1.0  # seconds
LEASE = 5.0  # seconds, after which another worker stores in the place of a dead one
WAITING = 1000  # events for a page that is slow

logger = logging.getLogger("krowoc")

Viewer = queue.Queue[Event]


class Bus:
    """Its threads run from `start` to `close`."""

    def __init__(self, client: Client[Any], history: History) -> None:
        self.history = history
        self._slots = Concurrency(client, limit=1, lease=LEASE)
        self._slot: Slot | None = None
        self._announced: Counter[tuple[str, bytes]] = Counter()
        self._viewers: set[Viewer] = set()
        self._lock = threading.Lock()
        self._listener: Listener | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="krowoc", daemon=True)
        self.leaving = False

    def start(self) -> None:
        self._thread.start()

    def leave(self) -> None:
        """Lets the pages that watch go, soon. A signal handler may call it."""
        self.leaving = True

    def close(self) -> None:
        self.leave()
        self._ended.set()
        self._thread.join()
        if self._listener is not None:
            self._listener.stop()
        if self._slot is not None:
            self._slot.release()

    def publish(self, channel: str, message: Any) -> tuple[Event, int]:
        """The event, and how many connections got it."""
        event = Event.now(channel, message)
        self.history.add(event)
        RedisPubSub.publish(ANNOUNCED, msgspec.to_builtins(event))
        return event, RedisPubSub.publish(channel, message)

    @contextmanager
    def watched(self) -> Iterator[Viewer]:
        """A queue of the events from now on."""
        viewer: Viewer = queue.Queue(WAITING)
        with self._lock:
            self._viewers.add(viewer)
        try:
            yield viewer
        finally:
            with self._lock:
                self._viewers.discard(viewer)

    def watches(self, viewer: Viewer) -> bool:
        """False for a page that was too slow."""
        with self._lock:
            return viewer in self._viewers

    # --- in threads of its own ----------------------------------------------------

    def _run(self) -> None:
        said = ""
        while True:
            try:
                self._listen()
                self._hold_slot()
                said = ""
            except RedlaneError as error:
                if str(error) != said:
                    said = str(error)
                    logger.error("Events are not heard: %s", error)
            self.history.send()
            if self._ended.wait(TICK):
                return

    def _listen(self) -> None:
        if self._listener is None or not self._listener.running:
            self._listener = RedisPubSub.start(
                [], self._hear, patterns=["*"], on_gap=self._forget
            )

    def _hold_slot(self) -> None:
        if self._slot is None or not self._slot.extend():
            slot = self._slots.acquire("krowoc:recorder")
            self._slot = slot if slot else None

    def _forget(self, gap: object) -> None:
        """What was announced may never come."""
        self._announced.clear()

    def _hear(self, channel: str, message: Any) -> None:
        if channel == ANNOUNCED:
            event = msgspec.convert(message, Event)
            self._announced[event.channel, msgspec.json.encode(event.message)] += 1
            self.history.remember(event)
            self._tell(event)
        elif not channel.startswith((OWN, SERVER_OWN)):
            self._hear_other(channel, readable(message))

    def _hear_other(self, channel: str, message: Any) -> None:
        """Ours, which was announced and stored, or another program's."""
        seen = channel, msgspec.json.encode(message)
        if self._announced[seen] > 0:  # a Counter does not keep what is asked for
            self._announced[seen] -= 1
            self._announced += Counter()  # drops what is 0
            return
        event = Event.now(channel, message)
        self._tell(event)
        if self._slot is not None:
            self.history.add(event)

    def _tell(self, event: Event) -> None:
        with self._lock:
            for viewer in list(self._viewers):
                try:
                    viewer.put_nowait(event)
                except queue.Full:
                    self._viewers.discard(viewer)


def readable(message: Any) -> Any:
    """Bytes that are no text cannot be told in JSON."""
    if isinstance(message, str):
        return message.encode(errors="replace").decode()
    return message
