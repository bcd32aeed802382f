"""The settings, from the environment and from the `.env` beside the README."""

from __future__ import annotations

import logging
from functools import lru_cache
from pathlib import Path

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """An empty variable is unset."""

    model_config = SettingsConfigDict(
        env_file=Path(__file__).parent.parent / ".env",
        env_ignore_empty=True,
        hide_input_in_errors=True,
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

    @model_validator(mode="after")
    def has_token(self) -> Settings:
        on_upstash = self.redis_url == self.UPSTASH_REDIS_REST_URL
        if on_upstash and self.UPSTASH_REDIS_REST_TOKEN is None:
            raise ValueError("UPSTASH_REDIS_REST_TOKEN is not set")
        return self

    @property
    def redis_url(self) -> str:
        return self.REDIS_URL or self.UPSTASH_REDIS_REST_URL or "memory://"


@lru_cache
def get_settings() -> Settings:
    return Settings()


def show_logs(settings: Settings) -> None:
    """What we and the library say; each Redis operation with DEBUG alone."""
    handler = logging.StreamHandler()
    handler.addFilter(is_not_shown)
    logging.basicConfig(format="%(levelname)s - %(message)s", handlers=[handler])
    for name in ("ludo", "redlane"):
        level = logging.DEBUG if settings.DEBUG else logging.INFO
        logging.getLogger(name).setLevel(level)


def is_not_shown(record: logging.LogRecord) -> bool:
    """Where the environment says DEBUG, the library shows its records itself."""
    return record.name != "redlane" or not logging.getLogger("redlane").handlers
