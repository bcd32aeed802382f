"""Cooldown: made, begun, asked, ended, and with arguments that it refuses."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from measure import Once, main
from redlane import Client, Cooldown


def cases(url: str) -> Iterator[tuple[str, Once]]:
    logging.disable()  # it logs each call
    client = Client(url, timeout=10)
    cooldown = Cooldown(client, 60)
    yield "dropped unused", lambda: Cooldown(client, "1h", prefix="é" * 300)
    yield "begun and ended", lambda: (cooldown.acquire("a"), cooldown.reset("a"))
    yield "running", lambda: (cooldown.acquire("b" * 300), cooldown.acquire(7))
    yield "asked", lambda: (cooldown.peek("b"), cooldown.key("b"), repr(cooldown))
    yield "refused", lambda: misuse(client, cooldown)


def misuse(client: Client, cooldown: Cooldown) -> None:
    for wrong in (None, "\ud800", b"x"):
        with contextlib.suppress(TypeError, UnicodeEncodeError):
            cooldown.acquire(wrong)
            raise AssertionError("not refused")
    with contextlib.suppress(ValueError):
        Cooldown(client, -1)
        raise AssertionError("not refused")


if __name__ == "__main__":
    main([Client, Cooldown], cases)
