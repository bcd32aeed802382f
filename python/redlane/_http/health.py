"""What /health and /health/deep say. Both answer 200 as long as the application can:
without Redis it goes on, and says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["deep_report", "shallow_report"]

_TOLD = ("connected", "used_memory", "used_memory_human", "latency_ms")


def shallow_report() -> dict[str, Any]:
    """The process answers. Nothing is asked of a server."""
    return {"status": "ok"}


def deep_report(health: Mapping[str, Any]) -> dict[str, Any]:
    """What Client.health() says, without what only operators should read: no address,
    no text of an error."""
    mode = health["mode"]
    embedded = str(health.get("url") or "").startswith("memory:")
    closed = all(
        health.get(name) in (None, "closed") for name in ("breaker", "write_breaker")
    )
    well = embedded or (bool(health.get("connected")) and closed)
    report: dict[str, Any] = {
        "status": "ok" if well else "degraded",
        "mode": mode,
        "redis": {name: health.get(name) for name in _TOLD},
    }
    report["redis"]["connected"] = bool(health.get("connected")) and not embedded
    for name in (
        "breaker",
        "write_breaker",
        "server_version",
        "pool",
        "near",
        "engine",
    ):
        report[name] = health.get(name)
    return report
