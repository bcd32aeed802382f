"""The settings, from the environment and from the `.env` beside this file.

REDIS_URL is redlane's own: it reads it when a tool is first used.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values


@dataclass(frozen=True)
class Settings:
    slow_seconds: float = 1  # that the expensive function takes

    @classmethod
    def from_env(cls) -> Settings:
        """Reads the environment, after filling its gaps from `.env`. An empty variable
        is unset. ValueError, naming the variable, for a bad one."""
        for name, value in dotenv_values(Path(__file__).with_name(".env")).items():
            if value and not os.environ.get(name):
                os.environ[name] = value
        return cls(slow_seconds=_seconds("KROWOC_SLOW_SECONDS", cls.slow_seconds))


def _seconds(name: str, default: float) -> float:
    text = os.environ.get(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 3600:
        raise ValueError(f"{name} must be a number of seconds, from 0 to 3600")
    return value
