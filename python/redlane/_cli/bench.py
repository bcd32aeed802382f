"""`redlane bench`: a short loop of GET, SET and pipelines against the URL."""

from __future__ import annotations

import argparse
import math
import secrets
import statistics
import time
from collections.abc import Callable
from typing import Any

from redlane import Client
from redlane._cli.output import open_client, print_json, print_table

PIPELINE = 100  # commands


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "bench", parents=[common], help="operations a second, from one thread"
    )
    parser.add_argument("--seconds", type=seconds, default=1.0, help="for each row (1)")
    parser.add_argument(
        "--size", type=size, default=100, help="bytes of the value (100)"
    )
    parser.set_defaults(run=run_bench)


def seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 60:
        raise ValueError(text)
    return value


def size(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 64 << 20:
        raise ValueError(text)
    return value


def run_bench(args: argparse.Namespace) -> int:
    key = f"redlane:bench:{secrets.token_hex(8)}"
    value = b"x" * args.size
    with open_client(args) as client:
        client.set(key, value, ex=300)  # gone by itself should we be killed
        try:
            rows = [
                measure("GET", 1, lambda: client.get(key), args.seconds),
                measure("SET", 1, lambda: client.set(key, value, ex=300), args.seconds),
                measure(
                    f"pipeline of {PIPELINE} GETs",
                    PIPELINE,
                    lambda: get_many(client, key),
                    args.seconds,
                ),
            ]
        finally:
            client.delete(key)
        health = client.health()
    if args.json:
        print_json({"url": health.get("url"), "mode": health.get("mode"), "rows": rows})
        return 0
    print(f"{health.get('url')}, one thread, values of {args.size:,} bytes")
    print_table(
        ("", "operations/s", "median µs", "p99 µs"),
        (
            (
                row["name"],
                f"{row['operations_per_second']:,.0f}",
                f"{row['median_us']:,.1f}",
                f"{row['p99_us']:,.1f}",
            )
            for row in rows
        ),
        right=[1, 2, 3],
    )
    return 0


def get_many(client: Client, key: str) -> None:
    pipeline = client.pipeline()
    for _ in range(PIPELINE):
        pipeline.get(key)
    pipeline.execute()


def measure(
    name: str, operations: int, call: Callable[[], object], duration: float
) -> dict[str, Any]:
    """Calls `call` for `duration` seconds; the times are of one call of it."""
    times = []
    call()
    begin = now = time.perf_counter()
    while now - begin < duration:
        call()
        then, now = now, time.perf_counter()
        times.append(now - then)
    return {
        "name": name,
        "operations_per_second": operations * len(times) / (now - begin),
        "median_us": statistics.median(times) * 1e6,
        "p99_us": sorted(times)[math.ceil(0.99 * len(times)) - 1] * 1e6,
    }
