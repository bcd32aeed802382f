"""What changes while one looks at it: a screen that is drawn anew each interval."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterable
from types import FrameType
from typing import Any

from redlane._cli.output import positive

INTERVAL_LEAST = 0.1  # seconds
INTERVAL_MOST = 3600.0

# The terminal's other screen without cursor and line wrap, and back.
ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"
LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"
HOME, REST_OF_LINE, REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"
BOLD, PLAIN = "\x1b[1m", "\x1b[m"


class Heading(str):
    """A line that stands out where it can."""

    __slots__ = ()


def add_live_options(parser: argparse.ArgumentParser, what: str) -> None:
    """--interval, --count, --once; `what` are those that are counted."""
    parser.add_argument(
        "--interval",
        type=interval,
        default=1.0,
        help="seconds between two looks (1)",
    )
    parser.add_argument("--count", type=positive, help=f"end after so many {what}")
    parser.add_argument(
        "--once", action="store_const", const=1, dest="count", help="the same as 1"
    )


def interval(text: str) -> float:
    value = float(text)
    if not INTERVAL_LEAST <= value <= INTERVAL_MOST:
        raise ValueError(text)
    return value


class Screen:
    """Frames of lines. On a terminal each takes the place of the one before, and the
    terminal is as it was when the screen is left, by a signal too; anywhere else they
    follow one another, with nothing in them but text."""

    def __init__(self, once: bool = False) -> None:
        dumb = os.environ.get("TERM", "dumb") in ("", "dumb")
        self.redraws = sys.stdout.isatty() and not dumb and not once
        self.bold = self.redraws and not os.environ.get("NO_COLOR")
        self.frames = 0
        self.handler: Any = None

    def __enter__(self) -> Screen:
        if self.redraws:
            self.handler = signal.signal(signal.SIGTERM, end)
            write(ENTER)
        return self

    def __exit__(self, *_: object) -> None:
        if self.redraws:
            write(LEAVE)
            signal.signal(signal.SIGTERM, self.handler)

    def show(self, lines: Iterable[str]) -> None:
        """The next frame."""
        lines = list(lines)
        if self.redraws:
            columns, rows = terminal_size()
            drawn = (self.draw(line, columns) for line in lines[:rows])
            write(HOME + "\r\n".join(drawn) + REST_OF_SCREEN)
        else:
            write(("\n" if self.frames else "") + "".join(f"{x}\n" for x in lines))
        self.frames += 1

    def draw(self, line: str, columns: int) -> str:
        text = line[:columns]
        if self.bold and isinstance(line, Heading):
            text = f"{BOLD}{text}{PLAIN}"
        return text + REST_OF_LINE


def terminal_size() -> tuple[int, int]:
    try:
        columns, rows = os.get_terminal_size(sys.stdout.fileno())
    except OSError:
        return 80, 24
    # A terminal that does not know its size says 0.
    return columns or 80, rows or 24


def write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
