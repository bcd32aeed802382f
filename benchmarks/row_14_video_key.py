"""Row 14: the key of a video, `video:` and the SHA-256 of the cards as compact JSON."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from typing import Any

from benchmarks.harness import OURS, Bench, Lineup, Measure, Result, loop, within

ROW = 14
BLACK = "What's the secret to happiness?"
WHITE = ["A big bag of money.", "My cat"]  # 66 bytes of JSON: two blocks of SHA-256
NAIVE = "hashlib + json.dumps"
ENCODER = "hashlib + a kept encoder"


def naive_key(black: str, white: list[str]) -> str:
    text = json.dumps([black, white], ensure_ascii=False, separators=(",", ":"))
    return "video:" + hashlib.sha256(text.encode()).hexdigest()


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def encoder_key(black: str, white: list[str]) -> str:
    return "video:" + hashlib.sha256(_encode([black, white]).encode()).hexdigest()


def run(bench: Bench) -> list[Result]:
    lineup = Lineup(ROW, "video key")
    count = bench.batch(1000)

    def ours() -> Measure:
        from redlane import content_key

        if content_key("video", BLACK, WHITE) != naive_key(BLACK, WHITE):
            raise RuntimeError("content_key gives another key than hashlib and json")
        return loop(
            "key('video', black, white)",
            count,
            key=content_key,
            black=BLACK,
            white=WHITE,
        )

    lineup.add(OURS, "ours", ours)
    for name, key in ((NAIVE, naive_key), (ENCODER, encoder_key)):
        cards: dict[str, Any] = {"key": key, "black": BLACK, "white": WHITE}
        lineup.add(name, "peer", partial(loop, "key(black, white)", count, **cards))
    return [lineup.race(bench.rounds(400), [within(0.25e-6, NAIVE, quoted=2.2e-6)])]
