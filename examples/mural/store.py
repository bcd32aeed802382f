"""The durable store of placements: one SQLite file in WAL mode, for all workers.

Its transactions order the placements: each gets the next sequence number and learns
whose pixel it replaces. Nothing here knows about caching.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

SCHEMA = """
CREATE TABLE IF NOT EXISTS pixels (
    x INTEGER NOT NULL,
    y INTEGER NOT NULL,
    color TEXT NOT NULL,
    user_id TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (x, y)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS pixels_by_sequence ON pixels (sequence);
CREATE TABLE IF NOT EXISTS clock (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    sequence INTEGER NOT NULL
);
INSERT OR IGNORE INTO clock VALUES (1, 0);
"""
UPSERT = """
INSERT INTO pixels VALUES (?, ?, ?, ?, ?)
ON CONFLICT (x, y) DO UPDATE SET
    color = excluded.color, user_id = excluded.user_id, sequence = excluded.sequence
"""
LOCK_SECONDS = 30.0  # that a write waits for those of other workers


@dataclass(frozen=True)
class Pixel:
    x: int
    y: int
    color: str  # "#RRGGBB"
    user_id: str

    @property
    def key(self) -> str:
        return f"{self.x},{self.y}"


@dataclass(frozen=True)
class Placement:
    pixel: Pixel
    sequence: int  # 1, 2, 3 ... over all workers
    old_owner: str | None  # None: the pixel was empty


@dataclass(frozen=True)
class Changes:
    """What the pixels are that were placed since some sequence number, in order. One
    that was placed several times since is there once."""

    sequence: int  # of the last placement of all
    pixels: list[tuple[int, Pixel]]  # each with the number of its placement


def nothing(_: Placement) -> None:
    pass


class PixelStore:
    """One connection that writes and one that reads, each under a lock of its own.

    The order of locks: the file's (a transaction), then whatever `place` calls, then
    the reader's.
    """

    def __init__(self, path: str) -> None:
        self._writing = threading.Lock()
        self._reading = threading.Lock()
        self._link = connect(path)
        self._reader = connect(path)

    def place(
        self, pixel: Pixel, inside: Callable[[Placement], None] = nothing
    ) -> Placement:
        """Writes one pixel. `inside` is called before the transaction ends: nobody
        else places meanwhile. sqlite3.Error when nothing was written."""
        with self._transaction():
            row = self._link.execute(
                "SELECT user_id FROM pixels WHERE x = ? AND y = ?", (pixel.x, pixel.y)
            ).fetchone()
            sequence = self._advance(1)
            self._link.execute(
                UPSERT, (pixel.x, pixel.y, pixel.color, pixel.user_id, sequence)
            )
            placement = Placement(pixel, sequence, row[0] if row else None)
            inside(placement)
        return placement

    def place_many(self, pixels: Iterable[Pixel]) -> None:
        """Writes many pixels in one transaction: for imports, before any is served."""
        with self._transaction():
            rows = [(p.x, p.y, p.color, p.user_id) for p in pixels]
            last = self._advance(len(rows))
            first = last - len(rows) + 1
            self._link.executemany(
                UPSERT, [(*row, first + i) for i, row in enumerate(rows)]
            )

    @contextmanager
    def still(self) -> Iterator[None]:
        """Nobody places, in any worker, until it is left."""
        with self._transaction():
            yield

    def changes(self, since: int) -> Changes:
        """What was placed after that sequence number, 0: everything."""
        with self._reading:
            # Both statements see the same state of the file.
            self._reader.execute("BEGIN")
            try:
                sequence = clock(self._reader)
                rows = () if sequence <= since else self._rows(since)
            finally:
                self._reader.execute("COMMIT")
        return Changes(sequence, [(row[0], Pixel(*row[1:])) for row in rows])

    def _rows(self, since: int) -> list[tuple[int, int, int, str, str]]:
        return self._reader.execute(
            "SELECT sequence, x, y, color, user_id FROM pixels WHERE sequence > ? "
            "ORDER BY sequence",
            (since,),
        ).fetchall()

    def pixels(self) -> list[Pixel]:
        return [pixel for _, pixel in self.changes(0).pixels]

    def close(self) -> None:
        with self._writing, self._reading:
            self._link.close()
            self._reader.close()

    def _advance(self, count: int) -> int:
        self._link.execute("UPDATE clock SET sequence = sequence + ?", (count,))
        return clock(self._link)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """BEGIN IMMEDIATE to COMMIT under the lock, or ROLLBACK on any exception."""
        with self._writing:
            self._link.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._link.execute("COMMIT")
            except BaseException:
                if self._link.in_transaction:
                    self._link.execute("ROLLBACK")
                raise


def clock(link: sqlite3.Connection) -> int:
    (sequence,) = link.execute("SELECT sequence FROM clock").fetchone()
    return int(sequence)


def connect(path: str) -> sqlite3.Connection:
    # Transactions are begun by hand: a deferred one could lose its turn half-way.
    link = sqlite3.connect(
        path, timeout=LOCK_SECONDS, isolation_level=None, check_same_thread=False
    )
    end = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            link.execute("PRAGMA journal_mode = WAL")
            # A commit survives the process; a power cut leaves a whole, older file.
            link.execute("PRAGMA synchronous = NORMAL")
            link.executescript(SCHEMA)
        except sqlite3.OperationalError as error:
            # Workers that start at once: SQLite waits for no lock to change the mode.
            if "locked" not in str(error) or time.monotonic() > end:
                link.close()
                raise
            time.sleep(0.01)
        else:
            return link
