"""The Mural itself: the canvas, what is cached of it, and what a placement does.

`canvas_data` is what this process serves from. Redis, or the embedded engine, holds
only what can be made again: the compressed canvas, the counters and the cooldowns.
"""

from __future__ import annotations

import logging
import math
import struct
import zlib

import msgspec
from redlane import Cache, Client, RedlaneError

from .board import Board, Cell
from .live import Live
from .settings import Settings
from .store import Pixel, PixelStore, Placement

WIDTH = HEIGHT = 500
USER_TTL = 300  # seconds
TOTAL_TTL = 60  # seconds
COOLDOWN_ATTEMPTS = 3
CANVAS_ATTEMPTS = 3
GZIP = 31  # zlib's wbits for the gzip format
RAW = -15  # and for what is between the head and the trailer of that
# Magic number, deflate, "a comment follows", no time, no level, unknown system.
GZIP_HEAD = b"\x1f\x8b\x08\x10" + bytes(5) + b"\xff"
SEQUENCE_DIGITS = 20
# 2.5 MB in 170 ms for 250,000 random pixels. Level 1 makes 3.0 MB in 80 ms, but each
# hit carries them; level 6 saves nothing more.
LEVEL = 5

logger = logging.getLogger("mural")


class CooldownError(Exception):
    """The user must wait; `seconds` says how long."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"wait {seconds:.1f} seconds")
        self.seconds = seconds


class GzipBody:
    """Serializer of the cached canvas: gzip bytes as they are, whole or not at all.

    Whether bytes are a whole canvas is found out once, by inflating them (30 ms). The
    same canvas is then known by its size and by what gzip ends with, the CRC-32 and the
    length of what is inside: comparing all of it took 0.2 ms of a hit's 0.7.
    """

    def __init__(self) -> None:
        self._known: tuple[int, bytes] | None = None

    def dumps(self, body: bytes) -> bytes:
        self._known = identify(body)
        return body

    def loads(self, stored: bytes) -> bytes:
        """`stored`; ValueError or zlib.error if it is no canvas."""
        sequence_of(stored)
        found = identify(stored)
        if found != self._known:
            msgspec.json.decode(inflate(stored))
            self._known = found
        return stored


def identify(body: bytes) -> tuple[int, bytes]:
    """The size of a gzip stream and its trailer."""
    return len(body), body[-8:]


def inflate(body: bytes) -> bytes:
    """What `body` holds; ValueError or zlib.error if it is not one gzip stream."""
    stream = zlib.decompressobj(GZIP)
    data = stream.decompress(body)
    if not stream.eof or stream.unused_data:
        raise ValueError("not one whole gzip stream")
    return data


def deflate(sequence: int, data: bytes) -> bytes:
    """A gzip stream, whose comment is the number of the canvas' last placement."""
    stream = zlib.compressobj(LEVEL, wbits=RAW)
    head = GZIP_HEAD + b"%d\0" % sequence
    trailer = struct.pack("<II", zlib.crc32(data), len(data))
    return b"".join([head, stream.compress(data), stream.flush(), trailer])


def sequence_of(body: bytes) -> int:
    """The number in the comment; ValueError if it has none."""
    start = len(GZIP_HEAD)
    end = body.find(b"\0", start, start + SEQUENCE_DIGITS)
    digits = body[start:end]
    if not (body.startswith(GZIP_HEAD) and end > 0 and digits.isdigit()):
        raise ValueError("not a canvas with a sequence number")
    return int(digits)


class Mural:
    def __init__(self, client: Client, store: PixelStore, settings: Settings) -> None:
        self.client = client
        self.cache = Cache(client, prefix=settings.prefix)
        self.bodies = Cache(client, prefix=settings.prefix, serializer=GzipBody())
        self.user_pixels = self.cache.counter(
            "user_pixels:{id}", ttl=USER_TTL, source=self._count_user
        )
        self.total_pixels = self.cache.counter(
            "total_pixels", ttl=TOTAL_TTL, source=self._count_all
        )
        self.settings = settings
        self.board = Board(store)
        self.live = Live(client, self.board, settings)
        self._store = store
        self.live.start()

    @property
    def canvas_data(self) -> dict[str, Cell]:
        return self.board.canvas_data

    def canvas(self) -> bytes:
        """The whole canvas as gzip bytes of JSON, from the cache or fresh; no older
        than what this worker has heard of."""
        heard = self.board.sequence
        for _ in range(CANVAS_ATTEMPTS):
            body, built = self._cached_canvas()
            if sequence_of(body) >= heard:
                if not built:
                    logger.info("Serving canvas from cache")
                return body
            # The news of a placement came before that of the canvas' end, or the other
            # worker could not tell Redis of it.
            self.bodies.delete("canvas")
        return self._render()

    def place(self, pixel: Pixel) -> Placement:
        """Places a pixel and starts the user's cooldown. CooldownError while one runs;
        when the placement fails, the cooldown is given back."""
        self._start_cooldown(pixel.user_id)
        counted: list[Placement] = []

        def count(placement: Placement) -> None:
            counted.append(placement)
            self._count(placement)

        try:
            # Counted inside of the transaction: see _count_user.
            placement = self._store.place(pixel, count)
        except BaseException:
            for lost in counted:
                self._drop_counters(lost)
            self.cache.delete(_cooldown_key(pixel.user_id))
            raise
        # A rebuild that is under way holds a lease in the key's place: it goes too. One
        # that begins later sees this placement.
        self.bodies.delete("canvas")
        self.board.hear(placement.sequence, pixel)
        self.live.publish(placement)
        return placement

    def close(self) -> None:
        self.live.close()
        self._store.close()
        self.client.close()

    def _cached_canvas(self) -> tuple[bytes, bool]:
        """The canvas, and whether it was made for this call."""
        built = False

        def build() -> bytes:
            nonlocal built
            built = True
            return self._render()

        body: bytes = self.bodies.get_or_set("canvas", build, self.settings.canvas_ttl)
        return body, built

    def _render(self) -> bytes:
        # Of what other workers have placed some may not have been heard here, and the
        # canvas that they took out of the cache for it must not come back.
        self.board.catch_up()
        sequence, snapshot = self.board.snapshot()
        return deflate(sequence, msgspec.json.encode(snapshot))

    def _count_user(self, user_id: str) -> int:
        return sum(1 for cell in self._counted_cells() if cell["user_id"] == user_id)

    def _count_all(self) -> int:
        return len(self._counted_cells())

    def _counted_cells(self) -> list[Cell]:
        """The canvas between two placements of any worker, so that each is either in it
        and has been counted, or neither: else a counter that is made from it could miss
        one, or get it twice."""
        with self._store.still():
            self.board.catch_up()
            return self.board.cells()

    def _count(self, placement: Placement) -> None:
        """Adjusts the counters; one that cannot be is dropped, to be counted afresh."""
        user, old_owner = placement.pixel.user_id, placement.old_owner
        if old_owner == user:
            return
        try:
            if old_owner is None:
                self.total_pixels.increment()
                self.user_pixels.increment(user)
            else:
                self.user_pixels.transfer(old_owner, user)
        except RedlaneError as error:
            logger.warning("Counters dropped: %s", error)
            self._drop_counters(placement)

    def _drop_counters(self, placement: Placement) -> None:
        users = {placement.pixel.user_id, placement.old_owner} - {None}
        self.cache.delete_many(
            ["total_pixels", *(f"user_pixels:{name}" for name in users)]
        )

    def _start_cooldown(self, user_id: str) -> None:
        seconds = self.settings.cooldown
        key = _cooldown_key(user_id)
        if not seconds:
            return
        for _ in range(COOLDOWN_ATTEMPTS):
            if self.cache.add(key, 1, ttl=seconds):
                return
            remaining = self.cache.ttl(key)  # None: it ended in between
            if remaining is not None and not math.isinf(remaining):
                raise CooldownError(remaining)
            if remaining is not None:
                self.cache.delete(key)  # without an end: nothing that we wrote
        raise CooldownError(seconds)


def _cooldown_key(user_id: str) -> str:
    return f"cooldown:{user_id}"
