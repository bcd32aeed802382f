"""The durable store of placements: one SQLite file in WAL mode.

Its transactions order the placements: each gets the next sequence number and learns
whose pixel it replaces. Nothing here knows about caching.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator
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


class PixelStore:
    """One connection under one lock; a write waits up to 5 s for another process."""

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()
        # Transactions are begun by hand: a deferred one could lose its turn half-way.
        self._link = sqlite3.connect(
            path, timeout=5, isolation_level=None, check_same_thread=False
        )
        self._link.execute("PRAGMA journal_mode = WAL")
        # A commit survives the process, and a power cut leaves a whole, older file.
        self._link.execute("PRAGMA synchronous = NORMAL")
        self._link.executescript(SCHEMA)

    def place(self, pixel: Pixel) -> Placement:
        """Writes one pixel. sqlite3.Error when nothing was written."""
        with self._transaction():
            row = self._link.execute(
                "SELECT user_id FROM pixels WHERE x = ? AND y = ?", (pixel.x, pixel.y)
            ).fetchone()
            sequence = self._advance(1)
            self._link.execute(
                UPSERT, (pixel.x, pixel.y, pixel.color, pixel.user_id, sequence)
            )
        return Placement(pixel, sequence, row[0] if row else None)

    def place_many(self, pixels: Iterable[Pixel]) -> None:
        """Writes many pixels in one transaction: for imports, before any is served."""
        with self._transaction():
            rows = [(p.x, p.y, p.color, p.user_id) for p in pixels]
            last = self._advance(len(rows))
            first = last - len(rows) + 1
            self._link.executemany(
                UPSERT, [(*row, first + i) for i, row in enumerate(rows)]
            )

    def pixels(self) -> list[Pixel]:
        with self._lock:
            rows = self._link.execute("SELECT x, y, color, user_id FROM pixels")
            return [Pixel(*row) for row in rows]

    def close(self) -> None:
        with self._lock:
            self._link.close()

    def _advance(self, count: int) -> int:
        self._link.execute("UPDATE clock SET sequence = sequence + ?", (count,))
        (sequence,) = self._link.execute("SELECT sequence FROM clock").fetchone()
        return int(sequence)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """BEGIN IMMEDIATE to COMMIT under the lock, or ROLLBACK on any exception."""
        with self._lock:
            self._link.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._link.execute("COMMIT")
            except BaseException:
                if self._link.in_transaction:
                    self._link.execute("ROLLBACK")
                raise
