"""The newest events, which all workers share and which outlive them.

They are a sorted set by time. What cannot be stored, for Redis is away, waits in the
worker and finds its place among the others later; meanwhile the worker answers with
what it knows.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Iterable
from typing import Any

import msgspec
from redlane import Client, RedlaneError

KEY = "krowoc:events"
KEPT = 1000

logger = logging.getLogger("krowoc")


class Event(msgspec.Struct, frozen=True):
    id: str
    channel: str
    message: Any
    timestamp: float  # seconds since 1970

    @classmethod
    def now(cls, channel: str, message: Any) -> Event:
        return cls(uuid.uuid4().hex, channel, message, time.time())


class History:
    """client: one whose commands raise while Redis is away, so that what could not be
    stored is known."""

    def __init__(self, client: Client[bytes]) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._known: dict[str, Event] = {}
        self._unsent: dict[str, Event] = {}
        self._away = False

    def add(self, event: Event) -> None:
        with self._lock:
            keep(self._unsent, event)
        self.send()

    def remember(self, event: Event) -> None:
        """An event that somebody else has stored, for the time when Redis is away."""
        with self._lock:
            keep(self._known, event)

    def send(self) -> None:
        """Stores what waits, if that can be done now. Done twice it changes nothing."""
        with self._lock:
            waiting = list(self._unsent.values())
        if not waiting:
            return
        entries = {msgspec.json.encode(event): event.timestamp for event in waiting}
        try:
            self._client.zadd(KEY, entries)
            surplus = self._client.zrange(KEY, 0, -KEPT - 1)
            if surplus:
                self._client.zrem(KEY, *surplus)
        except RedlaneError as error:
            self._complain(error)
            return
        self._away = False
        with self._lock:
            for event in waiting:
                self._unsent.pop(event.id, None)
                keep(self._known, event)

    def newest(self, limit: int, channel: str | None = None) -> list[Event]:
        """Newest first, of one channel or of all."""
        self.send()
        try:
            stored = read(self._client.zrange(KEY, 0, KEPT - 1, desc=True))
        except RedlaneError as error:
            self._complain(error)
            stored = None
        with self._lock:
            if stored is None:
                found = {**self._known, **self._unsent}
            else:
                for event in reversed(stored):
                    keep(self._known, event)
                found = {event.id: event for event in stored} | self._unsent
        events = sorted(found.values(), key=lambda event: event.timestamp, reverse=True)
        chosen = [e for e in events[:KEPT] if channel is None or e.channel == channel]
        return chosen[:limit]

    def _complain(self, error: RedlaneError) -> None:
        """Once for each outage."""
        if not self._away:
            self._away = True
            logger.warning("Events wait in this worker: %s", error)


def keep(events: dict[str, Event], event: Event) -> None:
    """As the newest; the oldest goes where there are too many."""
    events.pop(event.id, None)
    events[event.id] = event
    while len(events) > KEPT:
        del events[next(iter(events))]


def read(entries: Iterable[bytes]) -> list[Event]:
    """What is no event is left out."""
    events = []
    for entry in entries:
        try:
            events.append(msgspec.json.decode(entry, type=Event))
        except (msgspec.DecodeError, UnicodeDecodeError):
            logger.warning("Not an event in %s", KEY)
    return events
