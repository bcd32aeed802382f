"""Clients of https:// URLs, made, used, closed or just dropped: a program that looks
for what they leave, as those in leaks/ do. Usage:

    python tests/rest_leaks.py URL ROUNDS
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from redlane import AsyncClient, Client, RedlaneError, WrongTypeError, _rest

sys.path.insert(0, str(Path(__file__).parent / "leaks"))

from measure import Once, main

SECONDS = 60
WARM = 50  # rounds in which what is kept for later fills up


def cases(url: str) -> Iterator[tuple[str, Once]]:
    def used() -> None:
        with Client(url) as client:
            client.get("k")

    def dropped() -> None:
        Client(url).get("k")

    def on_a_loop() -> None:
        async def ask() -> None:
            async with AsyncClient(url) as client:
                late = asyncio.ensure_future(client.get("k"))
                await asyncio.gather(client.get("k"), client.get("k"))
                late.cancel()

        asyncio.run(ask())

    def subscribed() -> None:
        with Client(url) as client, client.subscribe("ch") as messages:
            client.publish("ch", "m")
            assert messages.get(timeout=SECONDS) == b"m"

    def lives() -> None:
        for once in (used, dropped, on_a_loop, subscribed):
            once()
        wait_for_ends()

    for _ in range(WARM):
        lives()
    yield "clients that end", lives
    with Client(url) as client:
        client.set("k", "v")
        yield "answers and errors", lambda: play(client)


def play(client: Client[bytes]) -> None:
    assert client.get("k") == b"v"
    assert client.set(b"\xff", b"\xfe")
    with contextlib.suppress(WrongTypeError):
        client.sadd("k", "m")
    with client.pipeline(transaction=True) as pipeline:
        pipeline.get("k")
        pipeline.execute_command("NONSENSE")
        with contextlib.suppress(RedlaneError):
            pipeline.execute()


def wait_for_ends() -> None:
    """Of the threads of relays, so that none is counted now and not later."""
    end = time.monotonic() + SECONDS
    while _rest._relays or any(
        thread.name.startswith("redlane-rest") for thread in threading.enumerate()
    ):
        assert time.monotonic() < end, "a relay does not end"
        time.sleep(0.001)


if __name__ == "__main__":
    main([Client, AsyncClient], cases)
