"""The one video cache of the process: on Redis when it answers, in memory when not."""

from __future__ import annotations

from redlane import video_cache

__all__ = ["video_cache"]
