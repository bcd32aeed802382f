"""What the commands print with, and how they reach a server."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from redlane import Client

# What no command can see from outside of the processes that use the library.
UNSEEN = (
    "Hits in a near cache or the memory engine never reach the server:\n"
    "cache.stats() tells of them, in each process."
)


class Failure(Exception):
    """A command cannot go on; the text is its one line."""


def open_client(args: argparse.Namespace) -> Client:
    """The client that --url or the environment names; its commands raise."""
    return Client(args.url) if args.url else Client.from_env()


def positive(text: str) -> int:
    """An option's number; ValueError, which argparse reports, below 1."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def natural(text: str) -> int:
    """The same with 0."""
    value = int(text)
    if value < 0:
        raise ValueError(text)
    return value


def printable(text: str) -> str:
    """`text` with whatever could move a terminal's cursor escaped."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode()
        for c in text
    )


def shown(value: object) -> str:
    """A key or value of the server on one line."""
    if isinstance(value, bytes | bytearray):
        value = bytes(value).decode("utf-8", "backslashreplace")
    return printable(str(value))


def print_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False, default=shown)
    print()


def print_json_line(value: Any, flush: bool = True) -> None:
    """One of many, on a line of its own, for who reads them as they come."""
    print(json.dumps(value, ensure_ascii=False, default=shown), flush=flush)


def print_pairs(pairs: Iterable[tuple[str, object]]) -> None:
    rows = [(name, shown(value)) for name, value in pairs]
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        print(f"{name:<{width}}  {value}".rstrip())


def print_table(
    head: Sequence[str], rows: Iterable[Sequence[object]], right: Iterable[int] = ()
) -> None:
    for line in table_lines(head, rows, right):
        print(line)


def table_lines(
    head: Sequence[str], rows: Iterable[Sequence[object]], right: Iterable[int] = ()
) -> Iterator[str]:
    """Columns as wide as their widest cell; those in `right` are flush right."""
    lines = [list(head), *([shown(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    flush_right = set(right)
    for number, line in enumerate(lines):
        cells = (
            cell.rjust(width) if i in flush_right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()
        if number == 0:
            yield "  ".join("-" * width for width in widths)


def human_bytes(size: float) -> str:
    if size < 1024:
        return f"{size:.0f} B"
    for unit in ("KB", "MB", "GB"):
        size /= 1024
        if size < 1024:
            return f"{size:.1f} {unit}"
    return f"{size / 1024:.1f} TB"
