"""`redlane top`: what the server does, as a table that is drawn anew each interval."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from redlane import Client, ConnectionError, ReplyError, TimeoutError
from redlane._cli.live import Heading, Screen, add_live_options
from redlane._cli.output import (
    UNSEEN,
    Failure,
    human_bytes,
    natural,
    open_client,
    positive,
    print_json_line,
    printable,
    shown,
    table_lines,
)
from redlane._cli.prefixes import Sampler, read_prefixes

CLIENTS_MOST = 2000  # with more of them, CLIENT LIST is not asked for
PREFIXES_MOST = 10

# Counters of INFO, and what their rates are called.
RATES = {
    "total_commands_processed": "commands_per_second",
    "keyspace_hits": "hits_per_second",
    "keyspace_misses": "misses_per_second",
    "evicted_keys": "evicted_per_second",
    "expired_keys": "expired_per_second",
    "total_net_input_bytes": "input_bytes_per_second",
    "total_net_output_bytes": "output_bytes_per_second",
}
# What INFO says as it is.
GAUGES = (
    "used_memory",
    "maxmemory",
    "maxmemory_policy",
    "mem_fragmentation_ratio",
    "connected_clients",
    "blocked_clients",
)


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "top", parents=[common], help="what the server does, drawn anew each second"
    )
    add_live_options(parser, "tables")
    parser.add_argument(
        "--limit", type=positive, default=15, help="commands that are shown (15)"
    )
    parser.add_argument(
        "--sample",
        type=natural,
        default=1000,
        help="keys that each look samples by SCAN for the prefixes; 0: none (1000)",
    )
    parser.set_defaults(run=run_top)


@dataclass(frozen=True)
class Sample:
    """What the server said at one moment."""

    at: float  # monotonic seconds
    info: dict[str, Any]
    commands: dict[str, tuple[int, int]]  # calls and microseconds in all
    keys: int
    latency_ms: float
    links: dict[str, int | None]  # connections of a kind
    sampled: set[bytes]  # some of the keys


def run_top(args: argparse.Namespace) -> int:
    with open_client(args) as client:
        if client.url.startswith("memory:"):
            raise Failure(
                "there is nothing to watch: the memory engine lives in the process "
                "that uses it"
            )
        sampler = Sampler(client, args.sample) if args.sample else None
        before: Sample | None = take_sample(client, sampler)
        with Screen(args.count == 1 or args.json) as screen:
            shown_frames = 0
            while args.count is None or shown_frames < args.count:
                time.sleep(args.interval)
                before = show_next(client, sampler, before, screen, args)
                shown_frames += 1
    return int(before is None)


def show_next(
    client: Client[Any],
    sampler: Sampler | None,
    before: Sample | None,
    screen: Screen,
    args: argparse.Namespace,
) -> Sample | None:
    """Shows the next frame; an outage is one, too. Gives its sample."""
    try:
        after = take_sample(client, sampler)
    except (ConnectionError, TimeoutError, ReplyError) as error:
        if args.json:
            print_json_line({"url": client.url, "error": str(error)})
        else:
            screen.show([heading(client.url, {}), "", f"away: {printable(str(error))}"])
        return None
    report = read_report(client.url, before or after, after, args.limit)
    if args.json:
        print_json_line(report)
    else:
        screen.show(report_lines(report))
    return after


# --- asking the server ------------------------------------------------------------


def take_sample(client: Client[Any], sampler: Sampler | None) -> Sample:
    begin = time.perf_counter()
    client.ping()
    latency = (time.perf_counter() - begin) * 1000
    pipeline = client.pipeline()
    pipeline.info()
    pipeline.info("commandstats")
    pipeline.dbsize()
    info, stats, keys = pipeline.execute()
    at = time.monotonic()
    return Sample(
        at=at,
        info=info,
        commands=dict(read_commands(stats)),
        keys=keys,
        latency_ms=round(latency, 3),
        links=read_links(client, info),
        sampled=sampler.take() if sampler else set(),
    )


def read_commands(stats: dict[str, Any]) -> Iterator[tuple[str, tuple[int, int]]]:
    """'cmdstat_client|list': {'calls': 1, 'usec': 15, …} of INFO commandstats."""
    for name, value in stats.items():
        if name.startswith("cmdstat_") and isinstance(value, dict):
            shown_name = name.removeprefix("cmdstat_").replace("|", " ").upper()
            yield shown_name, (int(value.get("calls", 0)), int(value.get("usec", 0)))


def read_links(client: Client[Any], info: dict[str, Any]) -> dict[str, int | None]:
    """How many connections are of a kind, by their flags in CLIENT LIST. None where
    nobody can tell."""
    kinds = {"near": "B", "subscribed": "P", "monitor": "O"}
    if info.get("connected_clients", 0) > CLIENTS_MOST:
        return dict.fromkeys(kinds)
    try:
        listed = client.execute("CLIENT LIST")
    except ReplyError:  # an ACL user may not
        return dict.fromkeys(kinds)
    flags = [
        word[6:]
        for line in shown_lines(listed)
        for word in line.split(" ")
        if word.startswith("flags=")
    ]
    return {
        kind: sum(letter in each for each in flags) for kind, letter in kinds.items()
    }


def shown_lines(text: bytes | str) -> list[str]:
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    return text.split("\n")


# --- two samples make a report ----------------------------------------------------


def read_report(url: str, before: Sample, after: Sample, most: int) -> dict[str, Any]:
    """What has changed from one sample to the next, each second."""
    if before.info.get("run_id") != after.info.get("run_id"):
        before = after  # another server: its counters began anew
    seconds = after.at - before.at
    info = after.info
    report: dict[str, Any] = {
        "url": url,
        "version": info.get("valkey_version") or info.get("redis_version"),
        "role": info.get("role"),
        "uptime_seconds": info.get("uptime_in_seconds"),
        "interval": round(seconds, 3),
        "latency_ms": after.latency_ms,
        "keys": after.keys,
        **{name: info.get(name) for name in GAUGES},
        **{f"{kind}_links": count for kind, count in after.links.items()},
    }
    for counter, name in RATES.items():
        report[name] = rate(info.get(counter), before.info.get(counter), seconds)
    report["hit_rate"] = share(
        report["hits_per_second"] or 0, report["misses_per_second"] or 0
    )
    report["hit_rate_overall"] = share(
        info.get("keyspace_hits") or 0, info.get("keyspace_misses") or 0
    )
    report["commands"] = read_calls(before, after, seconds, most)
    report["sampled_keys"] = len(after.sampled)
    report["prefixes"] = read_prefixes(after.sampled, after.keys, PREFIXES_MOST)
    return report


def rate(now: int | None, then: int | None, seconds: float) -> float | None:
    """Each second; None where it cannot be told. (CONFIG RESETSTAT: counters fall.)"""
    if now is None or then is None or seconds <= 0:
        return None
    return round(max(now - then, 0) / seconds, 1)


def share(part: float, rest: float) -> float | None:
    return round(part / (part + rest), 4) if part + rest else None


def read_calls(
    before: Sample, after: Sample, seconds: float, most: int
) -> list[dict[str, Any]]:
    """The commands that ran, those first that took most of the server's time."""
    rows = []
    for name, (calls, used) in after.commands.items():
        calls_then, used_then = before.commands.get(name, (0, 0))
        calls, used = calls - calls_then, max(used - used_then, 0)
        if calls > 0 and seconds > 0:
            rows.append((used, calls, name))
    rows.sort(reverse=True)
    return [
        {
            "command": name,
            "calls_per_second": round(calls / seconds, 1),
            "microseconds": round(used / calls, 1),
            "server_time": round(used / 1e6 / seconds, 4),
        }
        for used, calls, name in rows[:most]
    ]


# --- for people -------------------------------------------------------------------


def heading(url: str, report: dict[str, Any]) -> Heading:
    parts = [f"redlane top  {printable(url)}"]
    if report.get("version"):
        parts.append(f"{shown(report['version'])}, {shown(report['role'])}")
    if report.get("uptime_seconds") is not None:
        parts.append(f"up {show_uptime(report['uptime_seconds'])}")
    return Heading("  ".join([*parts, time.strftime("%H:%M:%S")]))


def show_uptime(seconds: int) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def show_number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.1f}" if value < 10 and value % 1 else f"{value:,.0f}"


def show_bytes(value: float | None) -> str:
    return "–" if value is None else human_bytes(value)


def show_share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def show_memory(report: dict[str, Any]) -> str:
    limit = report["maxmemory"]
    text = show_bytes(report["used_memory"])
    if limit:
        text += f" of {human_bytes(limit)}, {shown(report['maxmemory_policy'])}"
    return text


def report_pairs(report: dict[str, Any]) -> list[tuple[str, str]]:
    number = {name: show_number(report[name]) for name in RATES.values()}
    return [
        ("commands/s", number["commands_per_second"]),
        (
            "hit rate",
            f"{show_share(report['hit_rate'])}"
            f" (since its start {show_share(report['hit_rate_overall'])})",
        ),
        ("latency", f"{report['latency_ms']:.3f} ms"),
        ("memory", show_memory(report)),
        ("keys", show_number(report["keys"])),
        (
            "gone/s",
            f"{number['expired_per_second']} expired,"
            f" {number['evicted_per_second']} evicted",
        ),
        (
            "clients",
            f"{show_number(report['connected_clients'])},"
            f" {show_number(report['blocked_clients'])} blocked",
        ),
        (
            "of them",
            f"{show_number(report['near_links'])} near caches,"
            f" {show_number(report['subscribed_links'])} subscribed,"
            f" {show_number(report['monitor_links'])} monitors",
        ),
        (
            "network/s",
            f"{show_bytes(report['input_bytes_per_second'])} in,"
            f" {show_bytes(report['output_bytes_per_second'])} out",
        ),
    ]


def report_lines(report: dict[str, Any]) -> Iterator[str]:
    yield heading(report["url"], report)
    yield ""
    for name, text in report_pairs(report):
        yield f"{name:<10}  {text}"
    yield ""
    calls = table_lines(
        ("command", "calls/s", "µs a call", "server's time"),
        (
            (
                row["command"],
                show_number(row["calls_per_second"]),
                f"{row['microseconds']:,.1f}",
                show_share(row["server_time"]),
            )
            for row in report["commands"]
        ),
        right=[1, 2, 3],
    )
    yield Heading(next(calls))
    yield from calls
    if report["prefixes"]:
        yield ""
        yield from prefix_lines(report)
    yield ""
    yield from UNSEEN.split("\n")


def prefix_lines(report: dict[str, Any]) -> Iterator[str]:
    about = "" if report["sampled_keys"] >= report["keys"] else "about "
    lines = table_lines(
        ("keys by prefix", f"{about}keys", "share"),
        (
            (row["prefix"], show_number(row["keys"]), show_share(row["share"]))
            for row in report["prefixes"]
        ),
        right=[1, 2],
    )
    yield Heading(next(lines))
    yield from lines
