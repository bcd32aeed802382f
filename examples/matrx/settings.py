"""The settings, from the environment and from the `.env` beside this file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values


@dataclass(frozen=True)
class Settings:
    redis_url: str | None = None  # None: as the environment says, else the engine
    devices: tuple[str, ...] = ("kitchen", "hall", "desk")  # those that the page shows
    source_seconds: float = 0.3  # how long the sources of data take

    @classmethod
    def from_env(cls) -> Settings:
        """Reads the environment, after filling its gaps from `.env`. An empty variable
        is unset. ValueError, naming the variable, for a bad one."""
        for name, value in dotenv_values(Path(__file__).with_name(".env")).items():
            if value and not os.environ.get(name):
                os.environ[name] = value
        devices = os.environ.get("MATRX_DEVICES", "")
        named = tuple(name.strip() for name in devices.split(",") if name.strip())
        seconds = os.environ.get("MATRX_SOURCE_SECONDS") or cls.source_seconds
        try:
            source_seconds = float(seconds)
        except ValueError:
            source_seconds = -1.0
        if not 0 <= source_seconds <= 4:
            raise ValueError("MATRX_SOURCE_SECONDS must be a number from 0 to 4")
        if any("/" in name for name in named):
            raise ValueError("MATRX_DEVICES must be names without a slash")
        return cls(
            redis_url=os.environ.get("REDIS_URL") or None,
            devices=named or cls.devices,
            source_seconds=source_seconds,
        )
