"""The settings, from the environment and from the `.env` beside the `app` folder.

REDIS_URL and REDIS_DB are redlane's own: it reads them when the cache is first used.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Settings:
    media: Path = ROOT / "media"  # where the generated videos are
    popular: Path = ROOT / "popular.json"  # the combinations to generate ahead
    generate_seconds: float = 1  # that generating one takes
    pregenerate_every: float = 3600  # seconds between two looks; 0: at the start only

    @classmethod
    def from_env(cls) -> Settings:
        """Reads the environment, after filling its gaps from `.env`. An empty variable
        is unset. ValueError, naming the variable, for a bad one."""
        for name, value in dotenv_values(ROOT / ".env").items():
            if value and not os.environ.get(name):
                os.environ[name] = value
        return cls(
            media=_path("VIDEOCACHE_MEDIA", cls.media),
            popular=_path("VIDEOCACHE_POPULAR", cls.popular),
            generate_seconds=_seconds("GENERATE_SECONDS", cls.generate_seconds),
            pregenerate_every=_seconds("PREGENERATE_EVERY", cls.pregenerate_every),
        )


def _path(name: str, default: Path) -> Path:
    """Relative to this folder, wherever it is started."""
    text = os.environ.get(name)
    return ROOT / text if text else default


def _seconds(name: str, default: float) -> float:
    text = os.environ.get(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 31_536_000:
        raise ValueError(f"{name} must be a number of seconds, at least 0")
    return value
