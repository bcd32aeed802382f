"""`redlane stats`: the digest of the server's INFO, and what its keys are."""

from __future__ import annotations

import argparse
from typing import Any

from redlane._cli.doctor import measure_latency
from redlane._cli.output import (
    UNSEEN,
    human_bytes,
    natural,
    open_client,
    print_json,
    print_pairs,
    print_table,
)
from redlane._cli.prefixes import Sampler, read_prefixes, weigh

PREFIXES_MOST = 20


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "stats", parents=[common], help="memory, hits and keys of the server"
    )
    parser.add_argument(
        "--sample",
        type=natural,
        default=10_000,
        help="keys to look at by SCAN for the prefixes; 0: none (10000)",
    )
    parser.set_defaults(run=run_stats)


def run_stats(args: argparse.Namespace) -> int:
    with open_client(args) as client:
        keys = client.dbsize()
        digest = {
            "url": client.health().get("url"),
            **read_digest(client.info(), keys),
            "latency_ms": measure_latency(client),
        }
        sample = Sampler(client, args.sample).take() if args.sample else set()
        rows = read_prefixes(sample, keys, PREFIXES_MOST)
        weigh(client, sample, rows)
    if args.json:
        print_json({**digest, "sampled_keys": len(sample), "prefixes": rows})
        return 0
    print_pairs(
        (name.replace("_", " ").removesuffix(" ms"), show(name, value))
        for name, value in digest.items()
        if value is not None
    )
    if rows:
        print()
        print_prefixes(rows, whole=len(sample) >= keys)
    print(f"\n{UNSEEN}")
    return 0


def print_prefixes(rows: list[dict[str, Any]], whole: bool) -> None:
    print_table(
        ("keys by prefix", "keys" if whole else "about keys", "share", "about memory"),
        (
            (
                row["prefix"],
                f"{row['keys']:,}",
                f"{row['share']:.1%}",
                "–" if row["memory"] is None else human_bytes(row["memory"]),
            )
            for row in rows
        ),
        right=[1, 2, 3],
    )


def read_digest(info: dict[str, Any], keys: int) -> dict[str, Any]:
    """What matters of INFO. None for what the executor does not report."""
    hits, misses = info.get("keyspace_hits"), info.get("keyspace_misses")
    reads = (hits or 0) + (misses or 0)
    return {
        "version": info.get("valkey_version") or info.get("redis_version"),
        "role": info.get("role"),
        "uptime_seconds": info.get("uptime_in_seconds"),
        "clients": info.get("connected_clients"),
        "keys": keys,
        "used_memory": info.get("used_memory"),
        "peak_memory": info.get("used_memory_peak"),
        "maxmemory": info.get("maxmemory"),
        "maxmemory_policy": info.get("maxmemory_policy"),
        "hits": hits,
        "misses": misses,
        "hit_rate": round(hits / reads, 4) if hits is not None and reads else None,
        "evicted_keys": info.get("evicted_keys"),
        "expired_keys": info.get("expired_keys"),
        "commands": info.get("total_commands_processed"),
        "commands_per_second": info.get("instantaneous_ops_per_sec"),
    }


def show(name: str, value: Any) -> str:
    if name == "latency_ms":
        return f"{value['median']:.3f} ms median, {value['max']:.3f} ms max"
    if name == "maxmemory" and value == 0:
        return "no limit"
    if name.endswith("memory"):
        return human_bytes(value)
    if name == "hit_rate":
        return f"{value:.1%}"
    return f"{value:,}" if isinstance(value, int) else str(value)
