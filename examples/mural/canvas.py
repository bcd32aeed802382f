"""The Mural itself: the canvas, what is cached of it, and what a placement does.

`canvas_data` is the authority that this process serves from. Redis, or the embedded
engine, holds only what can be made again from it: the compressed canvas, the counters
and the cooldowns.
"""

from __future__ import annotations

import logging
import math
import threading
import zlib
from collections.abc import Callable
from typing import TypedDict

import msgspec
from redlane import Cache, Client, RedlaneError

from .settings import Settings
from .store import Pixel, PixelStore, Placement

WIDTH = HEIGHT = 500
USER_TTL = 300  # seconds
TOTAL_TTL = 60  # seconds
COOLDOWN_ATTEMPTS = 3
GZIP = 31  # zlib's wbits for the gzip format
# 2.5 MB in 170 ms for 250,000 random pixels. Level 1 makes 3.0 MB in 80 ms, but each
# hit carries them; level 6 saves nothing more.
LEVEL = 5

logger = logging.getLogger("mural")


class Cell(TypedDict):
    color: str
    user_id: str


Broadcast = Callable[[Placement], None]


def log_placement(placement: Placement) -> None:
    """The broadcast of a single worker, whose page polls: a DEBUG line."""
    logger.debug("placement %d at %s", placement.sequence, placement.pixel.key)


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
        """`stored`; ValueError or zlib.error if it is not one gzip stream of JSON."""
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


class Mural:
    def __init__(
        self,
        client: Client,
        store: PixelStore,
        settings: Settings,
        broadcast: Broadcast = log_placement,
    ) -> None:
        self.client = client
        self.cache = Cache(client, prefix=settings.prefix)
        self.bodies = Cache(client, prefix=settings.prefix, serializer=GzipBody())
        self.user_pixels = self.cache.counter(
            "user_pixels:{id}", ttl=USER_TTL, source=self._count_user
        )
        self.total_pixels = self.cache.counter(
            "total_pixels", ttl=TOTAL_TTL, source=self._count_all
        )
        self._store = store
        self.settings = settings
        self._broadcast = broadcast
        # Orders placement and counting against each other: a source either sees a
        # placement that is counted already, or one whose count is still to come.
        self._lock = threading.Lock()
        self.canvas_data: dict[str, Cell] = {
            pixel.key: {"color": pixel.color, "user_id": pixel.user_id}
            for pixel in store.pixels()
        }

    def canvas(self) -> bytes:
        """The whole canvas as gzip bytes of JSON, from the cache or fresh."""
        built = False

        def build() -> bytes:
            nonlocal built
            built = True
            return self._render()

        body: bytes = self.bodies.get_or_set("canvas", build, self.settings.canvas_ttl)
        if not built:
            logger.info("Serving canvas from cache")
        return body

    def place(self, pixel: Pixel) -> Placement:
        """Places a pixel and starts the user's cooldown. CooldownError while one runs;
        when the placement fails, the cooldown is given back."""
        self._start_cooldown(pixel.user_id)
        try:
            with self._lock:
                placement = self._store.place(pixel)
                self.canvas_data[pixel.key] = {
                    "color": pixel.color,
                    "user_id": pixel.user_id,
                }
                self._count(placement)
        except BaseException:
            self.cache.delete(_cooldown_key(pixel.user_id))
            raise
        # A rebuild that is under way holds a lease in the key's place: it goes too.
        self.bodies.delete("canvas")
        self._broadcast(placement)
        return placement

    def close(self) -> None:
        self._store.close()
        self.client.close()

    def _render(self) -> bytes:
        with self._lock:
            snapshot = self.canvas_data.copy()
        deflate = zlib.compressobj(LEVEL, wbits=GZIP)
        return deflate.compress(msgspec.json.encode(snapshot)) + deflate.flush()

    def _count_user(self, user_id: str) -> int:
        with self._lock:
            cells = list(self.canvas_data.values())
        return sum(1 for cell in cells if cell["user_id"] == user_id)

    def _count_all(self) -> int:
        with self._lock:
            return len(self.canvas_data)

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
            users = [user] if old_owner is None else [user, old_owner]
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
