"""What one worker knows of the canvas, and who watches it.

The SQLite file is the authority of all workers together; `canvas_data` is the copy that
this one serves from. It is brought forward by placements, in sequence, and by the file
wherever one is missing.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypedDict

import msgspec

from .store import Pixel, PixelStore

VIEWER_MESSAGES = 1000  # that a viewer may be behind
BACKLOG = 10_000  # placements that a viewer is told of; with more it loads the canvas
RELOAD = '{"reload": true}'


class Cell(TypedDict):
    color: str
    user_id: str


class Viewer:
    """What one WebSocket client has still to be told."""

    def __init__(self) -> None:
        self.backlog: list[str] = []  # what happened before the first message
        self.lost = False  # it was too slow, and misses something
        self.told = 0  # the backlog has everything up to here
        self._messages: queue.Queue[tuple[int, str]] = queue.Queue(VIEWER_MESSAGES)

    def tell(self, sequence: int, message: str) -> None:
        try:
            self._messages.put_nowait((sequence, message))
        except queue.Full:
            self.lost = True

    def get(self, timeout: float) -> str | None:
        """The next message, or None when the time is over."""
        try:
            sequence, message = self._messages.get(timeout=timeout)
        except queue.Empty:
            return None
        return message if sequence > self.told else None


class Board:
    """`canvas_data` as it was after the placement `sequence`.

    The lock is held for moments: nothing waits in it but for the processor.
    """

    def __init__(self, store: PixelStore) -> None:
        self.canvas_data: dict[str, Cell] = {}
        self.sequence = 0
        self._store = store
        self._lock = threading.Lock()
        self._viewers: set[Viewer] = set()
        self.catch_up()

    def hear(self, sequence: int, pixel: Pixel) -> None:
        """Takes one placement, from whichever worker; what is missing before it comes
        from the file, with it."""
        with self._lock:
            if sequence == self.sequence + 1:
                self._apply(sequence, pixel)
            gap = sequence > self.sequence
        if gap:
            self.catch_up()

    def catch_up(self) -> None:
        """Takes all that is in the file. When it returns, nothing is missing that was
        placed before it was called."""
        changes = self._store.changes(self.sequence)
        with self._lock:
            for sequence, pixel in changes.pixels:
                # Another thread may have been faster.
                if sequence > self.sequence:
                    self._apply(sequence, pixel)
            # The last ones may have been replaced since they were placed.
            self.sequence = max(self.sequence, changes.sequence)

    def snapshot(self) -> tuple[int, dict[str, Cell]]:
        with self._lock:
            return self.sequence, self.canvas_data.copy()

    def cells(self) -> list[Cell]:
        with self._lock:
            return list(self.canvas_data.values())

    @contextmanager
    def watched(self, since: int | None) -> Iterator[Viewer]:
        """A viewer that is told everything after `since`; None: from now on."""
        viewer = Viewer()
        with self._lock:
            self._viewers.add(viewer)
        try:
            if since is not None:
                self._fill_backlog(viewer, since)
            yield viewer
        finally:
            with self._lock:
                self._viewers.discard(viewer)

    @property
    def viewers(self) -> int:
        return len(self._viewers)

    def _fill_backlog(self, viewer: Viewer, since: int) -> None:
        changes = self._store.changes(max(since, self.sequence - BACKLOG))
        if changes.sequence - BACKLOG <= since <= changes.sequence:
            viewer.told = changes.sequence
            viewer.backlog = [describe(*change) for change in changes.pixels]
        else:
            viewer.backlog = [RELOAD]
            viewer.lost = True

    def _apply(self, sequence: int, pixel: Pixel) -> None:
        self.canvas_data[pixel.key] = {"color": pixel.color, "user_id": pixel.user_id}
        self.sequence = sequence
        if self._viewers:
            message = describe(sequence, pixel)
            for viewer in self._viewers:
                viewer.tell(sequence, message)


def describe(sequence: int, pixel: Pixel) -> str:
    """A placement as workers and clients tell it."""
    return msgspec.json.encode({"sequence": sequence, **vars(pixel)}).decode()
