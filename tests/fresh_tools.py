"""What the tests of freshness share: values that have grown old without waiting."""

from __future__ import annotations

import threading
from typing import Any

from redlane import CachedFunction, Client

EXPIRES_AT = slice(6, 14)  # mark, kind, version, fields; then Unix ms, big-endian
MARK = b"\xffRLE"


def grow_old(client: Client[Any], key: str, seconds: float) -> None:
    """As if the value had been stored so much earlier: what its envelope says, and how
    long the server keeps it."""
    milliseconds = round(seconds * 1000)
    left = client.pttl(key)
    stored = client.get(key)
    assert isinstance(stored, bytes) and stored.startswith(MARK)
    moment = int.from_bytes(stored[EXPIRES_AT], "big") - milliseconds
    aged = stored[:6] + moment.to_bytes(8, "big") + stored[14:]
    if left <= milliseconds:
        client.delete(key)
    else:
        client.set(key, aged, px=left - milliseconds)


def locks(client: Client[Any]) -> list[bytes]:
    """The keys of refreshes under way."""
    return [key for key in client.execute("KEYS", "*") if b"\xffRLR" in key]


def lock_of(client: Client[Any], key: str) -> bytes:
    """The key of the lock of the value's refresh; of one without a compute time."""
    nonce: bytes = client.get(key)[14:22]
    return key.encode() + b"\xffRLR" + nonce.hex().encode()


class Loader:
    """A function's work: counted, and held where a test wants that."""

    def __init__(self) -> None:
        self.calls = 0
        self.error: Exception | None = None
        self.values: list[Any] = []  # what it gives, first to last; then its count
        self.started = threading.Semaphore(0)
        self.free = threading.Event()
        self.free.set()

    def __call__(self) -> Any:
        self.calls += 1
        number = self.calls
        error = self.error
        value = self.values.pop(0) if self.values else number
        self.started.release()
        assert self.free.wait(60)
        if error:
            raise error
        return value


def settled(f: CachedFunction[..., Any], refreshes: int) -> bool:
    """So many refreshes were begun, and none is under way any more."""
    info = f.cache_info()
    return info.refreshes == refreshes and not locks(f.cache.client)
