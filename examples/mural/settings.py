"""The Mural's settings, from the environment and from the `.env` beside this file."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values


@dataclass(frozen=True)
class Settings:
    redis_url: str | None = None  # None: as the environment says, else the engine
    database: str = "mural.db"  # SQLite file
    canvas_ttl: float = 60  # seconds
    cooldown: float = 5  # seconds between two placements of one user; 0: none
    check: float = 1  # seconds of silence, after which a worker looks into the database
    prefix: str = "mural"  # of every key in the cache

    @classmethod
    def from_env(cls) -> Settings:
        """Reads the environment, after filling its gaps from `.env`. An empty variable
        is unset. ValueError, naming the variable, for a bad one."""
        for name, value in dotenv_values(Path(__file__).with_name(".env")).items():
            if value and not os.environ.get(name):
                os.environ[name] = value
        return cls(
            redis_url=os.environ.get("REDIS_URL") or None,
            database=os.environ.get("MURAL_DB") or cls.database,
            canvas_ttl=_seconds("CACHE_CANVAS_TTL", cls.canvas_ttl, least=0.001),
            cooldown=_seconds("MURAL_COOLDOWN", cls.cooldown, least=0),
            check=_seconds("MURAL_CHECK", cls.check, least=0.001),
        )


def _seconds(name: str, default: float, least: float) -> float:
    text = os.environ.get(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= 31_536_000:
        raise ValueError(f"{name} must be a number of seconds, at least {least:g}")
    return value
