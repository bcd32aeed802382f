"""The settings, from the environment and from the `.env` beside the README."""

from __future__ import annotations

import logging
from functools import lru_cache
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """An empty variable is unset."""

    model_config = SettingsConfigDict(
        env_file=Path(__file__).parent.parent / ".env",
        env_ignore_empty=True,
        extra="ignore",
    )

    # Upstash Redis
    UPSTASH_REDIS_REST_URL: str | None = None
    UPSTASH_REDIS_REST_TOKEN: SecretStr | None = None

    REDIS_URL: str | None = None  # plain Redis or Valkey; wins over Upstash
    DEBUG: bool = False
    LUDO_LEASE: float = Field(30.0, ge=3)  # s that users of a crashed server stay
    LUDO_ACTIONS: int = Field(100, ge=1)  # of one user in a minute
    WEB_CONCURRENCY: int = 1  # how many workers serve; uvicorn reads it, too

    @property
    def redis_url(self) -> str:
        return self.REDIS_URL or self.UPSTASH_REDIS_REST_URL or "memory://"


@lru_cache
def get_settings() -> Settings:
    return Settings()


def show_logs(settings: Settings) -> None:
    """What we and the library say; each Redis operation with DEBUG alone."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s - %(message)s"))
    for name in ("ludo", "redlane"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.DEBUG if settings.DEBUG else logging.INFO)
        if not logger.handlers:  # the library has one where the environment says DEBUG
            logger.addHandler(handler)
