"""`redlane stats`: the digest of the server's INFO."""

from __future__ import annotations

import argparse
from typing import Any

from redlane._cli.output import human_bytes, open_client, print_json, print_pairs


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "stats", parents=[common], help="memory, hits and keys of the server"
    )
    parser.set_defaults(run=run_stats)


def run_stats(args: argparse.Namespace) -> int:
    with open_client(args) as client:
        digest = read_digest(client.info(), client.dbsize())
        digest = {"url": client.health().get("url"), **digest}
    if args.json:
        print_json(digest)
    else:
        print_pairs(
            (name.replace("_", " "), show(name, value))
            for name, value in digest.items()
            if value is not None
        )
    return 0


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
    if name == "maxmemory" and value == 0:
        return "no limit"
    if name.endswith("memory"):
        return human_bytes(value)
    if name == "hit_rate":
        return f"{value:.1%}"
    return f"{value:,}" if isinstance(value, int) else str(value)
