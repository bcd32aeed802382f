"""`redlane monitor`: the commands that a server executes, one by one or as a table."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from redlane import Client
from redlane._cli.commands import LINE_MOST, Event, read_event
from redlane._cli.live import Heading, Screen, add_live_options
from redlane._cli.output import (
    UNSEEN,
    Failure,
    human_bytes,
    open_client,
    positive,
    print_json_line,
    printable,
    shown,
    table_lines,
)
from redlane._cli.prefixes import group_of
from redlane._core import Monitor

SLICE = 0.25  # seconds of one read
ANSWER = 30.0  # seconds in which the server says whether it agrees
CUT = 60  # characters of a value that are shown
LARGE = 1024  # bytes of a command from which on its size is shown
EVENTS_MOST = 20_000  # lines a second that a table looks at; the others are counted
ROWS_MOST = 10_000  # that are kept
Group = tuple[str, str]  # a command and the pattern of its keys

COST = "MONITOR costs the server much of its speed: do not leave it running."


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "monitor", parents=[common], help="the commands that the server executes"
    )
    parser.add_argument(
        "pattern",
        nargs="?",
        type=glob,
        help="only commands with a key that matches this glob",
    )
    parser.add_argument(
        "--values", action="store_true", help="show arguments, each cut; no passwords"
    )
    parser.add_argument(
        "--table", action="store_true", help="counts, drawn anew each interval"
    )
    parser.add_argument(
        "--limit", type=positive, default=20, help="rows of the table (20)"
    )
    parser.add_argument("--seconds", type=seconds, help="end after so many")
    add_live_options(parser, "commands, or tables")
    parser.set_defaults(run=run_monitor)


def seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError(text)
    return value


def run_monitor(args: argparse.Namespace) -> int:
    with open_client(args) as client:
        if client.url.startswith("memory:"):
            raise Failure("the memory engine has no MONITOR: it is in its own process")
        with Monitor(client) as source:
            feed = Feed(source, args.pattern, args.seconds)
            feed.begin()
            if args.table:
                watch(args, client, feed)
            else:
                follow(args, feed)
    return 0


# --- reading ----------------------------------------------------------------------


class Feed:
    """The lines of MONITOR as events. A line is kept to LINE_MOST bytes only: who sets
    a value of 100 MB must not take our memory."""

    def __init__(
        self, source: Monitor, pattern: re.Pattern[bytes] | None, limit: float | None
    ) -> None:
        self.source = source
        self.pattern = pattern
        self.end = None if limit is None else time.monotonic() + limit
        self.ended: list[tuple[bytes, int]] = []  # lines, and how long they were
        self.line = bytearray()  # the one that has not ended
        self.size = 0  # of it, with what is dropped
        self.looked = 0  # lines that were looked at
        self.skipped = 0  # those that were not

    def begin(self) -> None:
        """Waits for the server's +OK; Failure with what it says instead."""
        end = time.monotonic() + ANSWER
        while not self.ended:
            self.pull(SLICE)
            if not self.ended and time.monotonic() > end:
                raise Failure("MONITOR: the server does not answer")
        line, _ = self.ended.pop(0)
        if line != b"+OK":
            raise Failure(shown(line.removeprefix(b"-")))

    def is_over(self) -> bool:
        return self.end is not None and time.monotonic() >= self.end

    def read(self, until: float | None = None, most: int | None = None) -> list[Event]:
        """The events of what comes next, within a slice and not after `until`. Of more
        than `most` lines the rest is skipped."""
        now = time.monotonic()
        ends = [end - now for end in (until, self.end) if end is not None]
        self.pull(max(0.0, min(SLICE, *ends, SLICE)))
        lines, self.ended = self.ended, []
        if most is not None and len(lines) > most:
            self.skipped += len(lines) - most
            del lines[most:]
        self.looked += len(lines)
        events = (read_event(line, size) for line, size in lines)
        return [event for event in events if event is not None and self.wants(event)]

    def wants(self, event: Event) -> bool:
        return self.pattern is None or any(map(self.pattern.fullmatch, event.keys))

    def pull(self, wait: float) -> None:
        """Takes what comes next. The server escapes line ends inside of a line."""
        *ended, rest = self.source.read(wait).split(b"\n")
        for part in ended:
            self.add(part)
            self.ended.append((bytes(self.line).removesuffix(b"\r"), self.size))
            self.line.clear()
            self.size = 0
        self.add(rest)

    def add(self, part: bytes) -> None:
        self.size += len(part)
        self.line += part[: LINE_MOST - len(self.line)]


GLOB = re.compile(rb"\\(.)|(\*+)|(\?)|\[(\^?)((?:\\.|[^\]\\])*)\]|(.)", re.DOTALL)
CLASS = re.compile(rb"\\(.)|(.)-(.)|(.)", re.DOTALL)


def glob(text: str) -> re.Pattern[bytes]:
    """A glob pattern, as KEYS has them, as a regular expression."""
    return re.compile(GLOB.sub(glob_part, os.fsencode(text)), re.DOTALL)


def glob_part(match: re.Match[bytes]) -> bytes:
    escaped, stars, mark, negated, members, other = match.groups()
    if stars:
        return b".*"
    if mark:
        return b"."
    if members is None:
        return re.escape(escaped or other)
    if not members:
        return b"." if negated else b"(?!)"
    return b"[" + negated + CLASS.sub(class_part, members) + b"]"


def class_part(match: re.Match[bytes]) -> bytes:
    """A range has its ends in either order, as the server takes them."""
    escaped, first, last, single = match.groups()
    if first:
        return b"-".join(re.escape(end) for end in sorted((first, last)))
    return re.escape(escaped or single)


# --- as they come -----------------------------------------------------------------


def follow(args: argparse.Namespace, feed: Feed) -> None:
    if not args.json:
        print(f"{COST}\n{UNSEEN}", file=sys.stderr)
    count = 0
    while not feed.is_over():
        for event in feed.read():
            if args.json:
                print_json_line(as_json(event, args.values), flush=False)
            else:
                print(as_text(event, args.values))
            count += 1
            if count == args.count:
                return
        sys.stdout.flush()


def as_json(event: Event, values: bool) -> dict[str, Any]:
    row: dict[str, Any] = {
        "at": event.at,
        "db": event.db,
        "client": event.client,
        "command": event.command,
        "keys": [shown(key) for key in event.keys],
        "arguments": len(event.arguments),
        "size": event.size,
    }
    if values:
        row["values"] = [cut(argument) for argument in event.arguments]
    return row


def as_text(event: Event, values: bool) -> str:
    moment = time.strftime("%H:%M:%S", time.localtime(event.at))
    head = (
        f"{moment}.{int(event.at % 1 * 1e6):06}  {printable(event.client):<21}  "
        f"{printable(event.command):<12}"
    )
    if values:
        rest = " ".join(map(cut, event.arguments))
    else:
        rest = cut(event.keys[0]) if event.keys else ""
        others = len(event.arguments) - bool(event.keys)
        rest += f"  +{others}" if others else ""
    if event.size >= LARGE:
        rest += f"  ({human_bytes(event.size)})"
    return f"{head}  {rest}".rstrip()


def cut(value: bytes) -> str:
    text = shown(value[: 4 * CUT])
    if len(text) <= CUT and len(value) <= 4 * CUT:
        return text
    return text[: CUT - 1] + "…"


# --- as a table -------------------------------------------------------------------


class Tally:
    """How often each command came for each group of keys."""

    def __init__(self) -> None:
        self.totals: Counter[Group] = Counter()
        self.recent: Counter[Group] = Counter()  # since the last table
        self.clients: dict[Group, set[str]] = {}

    def add(self, event: Event) -> None:
        keys = shown(group_of(event.keys[0])) if event.keys else ""
        group = (event.command, keys)
        if group not in self.totals and len(self.totals) >= ROWS_MOST:
            group = (event.command, "(others)")
        self.totals[group] += 1
        self.recent[group] += 1
        clients = self.clients.setdefault(group, set())
        if len(clients) < ROWS_MOST:
            clients.add(event.client)

    def take(self, elapsed: float, most: int) -> list[dict[str, Any]]:
        """The rows of the next table; the recent ones are over then."""
        busiest = sorted(
            self.totals, key=lambda group: (-self.recent[group], -self.totals[group])
        )
        rows = [
            {
                "command": group[0],
                "keys": group[1],
                "calls_per_second": round(self.recent[group] / elapsed, 1),
                "calls": self.totals[group],
                "clients": len(self.clients[group]),
            }
            for group in busiest[:most]
        ]
        self.recent.clear()
        return rows


def watch(args: argparse.Namespace, client: Client[Any], feed: Feed) -> None:
    tally = Tally()
    with Screen(args.count == 1 or args.json) as screen:
        frames = 0
        while not feed.is_over() and frames != args.count:
            report = {"url": client.url, **look(args, feed, tally)}
            if args.json:
                print_json_line(report)
            else:
                screen.show(report_lines(report))
            frames += 1


def look(args: argparse.Namespace, feed: Feed, tally: Tally) -> dict[str, Any]:
    """One interval."""
    begin = time.monotonic()
    end = begin + args.interval
    feed.looked = feed.skipped = 0
    while (now := time.monotonic()) < end and not feed.is_over():
        # What is not read at once grows in the server's memory.
        most = max(int(EVENTS_MOST * (now - begin + SLICE)) - feed.looked, 0)
        for event in feed.read(end, most):
            tally.add(event)
    elapsed = time.monotonic() - begin
    return {
        "interval": round(elapsed, 3),
        "commands_per_second": round((feed.looked + feed.skipped) / elapsed, 1),
        "skipped": feed.skipped,
        "rows": tally.take(elapsed, args.limit),
    }


def report_lines(report: dict[str, Any]) -> Iterator[str]:
    yield Heading(
        f"redlane monitor  {printable(report['url'])}  {time.strftime('%H:%M:%S')}"
    )
    text = f"{report['commands_per_second']:,.0f} commands/s"
    if report["skipped"]:
        text += f", {report['skipped']:,} of them not looked at"
    yield from (text, "")
    rows = table_lines(
        ("command", "keys", "calls/s", "calls", "clients"),
        (
            (
                row["command"],
                row["keys"],
                f"{row['calls_per_second']:,.1f}",
                f"{row['calls']:,}",
                f"{row['clients']:,}",
            )
            for row in report["rows"]
        ),
        right=[2, 3, 4],
    )
    yield Heading(next(rows))
    yield from rows
    yield from ("", COST, *UNSEEN.split("\n"))
