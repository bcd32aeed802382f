"""Where apps get their data from: functions that take their time, as a service behind
the network would."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextvars import ContextVar
from datetime import datetime, timezone
from typing import Any

# How often the rendering that runs has asked one of them.
asked: ContextVar[int] = ContextVar("asked", default=0)


class Sources:
    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def modules(self) -> dict[str, dict[str, Callable[..., Any]]]:
        """What apps load."""
        return {
            "sources.star": {
                "fetch_weather": self.weather,
                "fetch_quotes": self.quotes,
                "now": now,
            }
        }

    def weather(self, place: str) -> dict[str, Any]:
        self._ask()
        number = number_of(place)
        words = ("sun", "rain", "snow", "wind")
        return {"text": words[number % 4], "degrees": number % 30 + 0.5}

    def quotes(self, names: list[str]) -> dict[str, float]:
        self._ask()
        return {name: 100 + number_of(name) % 4000 / 10 for name in names}

    def _ask(self) -> None:
        asked.set(asked.get() + 1)
        time.sleep(self._seconds)


def number_of(question: str) -> int:
    """One that stays for a minute."""
    minute = int(time.time() // 60)
    digest = hashlib.sha256(f"{question} {minute}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def now() -> str:
    """The time of day, UTC; costs nothing."""
    return datetime.now(timezone.utc).strftime("%H:%M:%S")
