"""content_key, and the text it builds."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from measure import Once, main
from redlane import content_key


def cases(_url: str) -> Iterator[tuple[str, Once]]:
    yield "key", lambda: content_key("video", "black", ["white", "ünï→𝄞", "x" * 5000])
    yield "refused", refused


def refused() -> None:
    for arguments in (
        ("video", "black", [1]),
        ("video", "\ud800", []),
        ("video", "black", None),
        ("video",),
    ):
        with contextlib.suppress(TypeError, ValueError):
            content_key(*arguments)
            raise AssertionError("not refused")


if __name__ == "__main__":
    main([], cases)
