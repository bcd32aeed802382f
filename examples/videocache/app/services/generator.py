"""Generates a "video" of two kinds of cards: an animated picture, in a file.

It stands for a model that takes long and costs money, which is why its results are
worth keeping: `seconds` is how long it takes.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Sequence
from html import escape
from pathlib import Path

from redlane import content_key

PICTURE = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 360" font-family="sans-serif">
<rect width="640" height="360" fill="hsl({hue} 60% 20%)"/>
<circle r="60" cy="180" fill="hsl({hue} 80% 60%)" opacity="0.4">
<animate attributeName="cx" values="0;640;0" dur="4s" repeatCount="indefinite"/>
</circle>
<text x="24" y="60" fill="#ffffff" font-size="26">{black}</text>
{lines}
</svg>
"""
LINE = """\
<text x="48" y="{y}" fill="#ffffff" font-size="22" opacity="0">{white}
<animate attributeName="opacity" values="0;1" begin="{begin}s" dur="1s" fill="freeze"/>
</text>"""
SHOWN = 48  # characters of a card


class Generator:
    def __init__(self, media: Path, seconds: float) -> None:
        self._media = media
        self._seconds = seconds
        media.mkdir(parents=True, exist_ok=True)

    async def generate(self, black_card: str, white_cards: Sequence[str]) -> str:
        """The URL of a new video. OSError where it cannot be written."""
        await asyncio.sleep(self._seconds)
        name = content_key("video", black_card, white_cards).partition(":")[2]
        picture = draw(name, black_card, white_cards)
        await asyncio.to_thread(self._write, self._media / f"{name}.svg", picture)
        return f"/media/{name}.svg"

    def _write(self, path: Path, picture: str) -> None:
        """At once: nobody is sent half of it."""
        number, new = tempfile.mkstemp(dir=self._media, suffix=".new")
        try:
            with os.fdopen(number, "w", encoding="utf-8") as file:
                file.write(picture)
            os.chmod(new, 0o644)
            os.replace(new, path)
        except BaseException:
            os.unlink(new)
            raise


def draw(name: str, black_card: str, white_cards: Sequence[str]) -> str:
    lines = [
        LINE.format(y=120 + 36 * n, white=shown(card), begin=n + 1)
        for n, card in enumerate(white_cards)
    ]
    hue = int(name[:4], 16) % 360
    return PICTURE.format(hue=hue, black=shown(black_card), lines="\n".join(lines))


def shown(card: str) -> str:
    """A card's text for XML, which has no control characters."""
    text = "".join(c if c.isprintable() else " " for c in card)
    return escape(text if len(text) <= SHOWN else text[: SHOWN - 1] + "…")
