"""Monitor: opened and dropped, closed, read from, refused; the engine has none."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from measure import Once, main
from redlane import Client, ConfigurationError, RedlaneError
from redlane._core import Monitor


def cases(url: str) -> Iterator[tuple[str, Once]]:
    client = Client(url, timeout=10, connect_timeout=10)
    client.ping()
    closed = Client(url)
    closed.close()
    away = Client("redis://127.0.0.1:1", timeout=10)

    yield "of the engine", lambda: refused(Client("memory://"))
    yield "of a closed client", lambda: refused(closed)
    yield "of no server", lambda: refused(away)
    yield "of no client", misuse
    if client.url.startswith("memory:"):
        return
    yield "dropped unused", lambda: Monitor(client)
    yield "closed", lambda: Monitor(client).close()
    yield "read from", lambda: read(client)
    yield "bad arguments", lambda: bad_arguments(client)


def refused(client: Client[bytes]) -> None:
    with contextlib.suppress(RedlaneError, ConfigurationError):
        Monitor(client)
        raise AssertionError("not refused")


def misuse() -> None:
    with contextlib.suppress(TypeError):
        Monitor(None)  # type: ignore[arg-type]
        raise AssertionError("not refused")


def read(client: Client[bytes]) -> None:
    with Monitor(client) as monitor:
        assert monitor.read(10) == b"+OK\r\n"
        assert monitor.read(0) == b""


def bad_arguments(client: Client[bytes]) -> None:
    monitor = Monitor(client)
    for seconds in (-1, None):
        with contextlib.suppress(TypeError, ValueError):
            monitor.read(seconds)  # type: ignore[arg-type]
            raise AssertionError("not refused")


if __name__ == "__main__":
    main([Client, Monitor], cases)
