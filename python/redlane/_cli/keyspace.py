"""`redlane keys`, `get` and `invalidate`: what is stored."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any

from redlane import Cache, Client
from redlane._cli.output import (
    Failure,
    human_bytes,
    open_client,
    positive,
    print_json,
    print_pairs,
    print_table,
    printable,
    shown,
)
from redlane._cli.prefixes import read_sizes
from redlane._cli.stored import describe, header_pairs, plain, pretty

SCAN_COUNT = 500


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    keys = commands.add_parser("keys", parents=[common], help="keys, by SCAN")
    keys.add_argument("pattern", nargs="?", default="*", help="glob pattern (all)")
    keys.add_argument(
        "--limit", type=positive, default=100, help="stop after so many (100)"
    )
    keys.set_defaults(run=run_keys)

    get = commands.add_parser("get", parents=[common], help="the value of a key")
    get.add_argument("key")
    get.set_defaults(run=run_get)

    invalidate = commands.add_parser(
        "invalidate", parents=[common], help="delete the keys that match a pattern"
    )
    invalidate.add_argument("pattern")
    invalidate.add_argument("--yes", action="store_true", help="do not ask")
    invalidate.set_defaults(run=run_invalidate)


def run_keys(args: argparse.Namespace) -> int:
    with open_client(args) as client:
        found = list(islice(scan(client, args.pattern), args.limit + 1))
        rows = describe_keys(client, found[: args.limit])
    if args.json:
        print_json(rows)
    else:
        print_table(
            ("key", "type", "TTL", "size"),
            (
                (row["key"], row["type"], show_ttl(row["ttl"]), show_size(row["bytes"]))
                for row in rows
            ),
            right=[2, 3],
        )
    if len(found) > args.limit:
        print(f"redlane: more than {args.limit} keys match", file=sys.stderr)
    return 0


def scan(client: Client, pattern: str) -> Iterator[bytes]:
    """Each matching key once: SCAN may name a key twice."""
    seen: set[bytes] = set()
    for key in client.scan_iter(match=pattern, count=SCAN_COUNT):
        if key not in seen:
            seen.add(key)
            yield key


def describe_keys(client: Client, keys: list[bytes]) -> list[dict[str, Any]]:
    rows = []
    for start in range(0, len(keys), SCAN_COUNT):
        part = keys[start : start + SCAN_COUNT]
        pipeline = client.pipeline()
        for key in part:
            pipeline.type(key)
            pipeline.execute_command("PTTL", key)
        replies = pipeline.execute()
        sizes = read_sizes(client, part)
        for key, kind, left, size in zip(
            part, replies[::2], replies[1::2], sizes, strict=True
        ):
            if left != -2:  # else it went between SCAN and here
                rows.append(
                    {
                        "key": shown(key),
                        "type": shown(kind),
                        "ttl": to_seconds(left),
                        "bytes": size,
                    }
                )
    return rows


def to_seconds(pttl: int) -> float | None:
    """Milliseconds of PTTL as seconds; None for a key without an end."""
    return None if pttl < 0 else pttl / 1000


def show_ttl(seconds: float | None) -> str:
    return "none" if seconds is None else f"{seconds:,.1f} s"


def show_size(size: int | None) -> str:
    return "–" if size is None else human_bytes(size)


def run_get(args: argparse.Namespace) -> int:
    with open_client(args) as client:
        kind = shown(client.type(args.key))
        if kind == "none":
            raise Failure(f"no such key: {args.key}")
        value = read_value(client, kind, args.key)
        ttl = to_seconds(client.execute("PTTL", args.key))
    header, read = describe_value(value)
    if args.json:
        more = {"stored": header} if header else {}
        print_json({"key": args.key, "type": kind, "ttl": ttl, **more, "value": read})
        return 0
    print_pairs(
        [
            ("key", args.key),
            ("type", kind),
            ("TTL", show_ttl(ttl)),
            *header_pairs(header),
        ]
    )
    print()
    print(pretty(read))
    return 0


def describe_value(value: Any) -> tuple[dict[str, Any], Any]:
    """(header, value); what is no string has no header."""
    return describe(value) if isinstance(value, bytes) else ({}, plain(value))


def read_value(client: Client, kind: str, key: str) -> Any:
    """The whole value, by the command of its type."""
    if kind == "string":
        return client.get(key)
    if kind == "hash":
        return client.hgetall(key)
    if kind == "set":
        return sorted(client.smembers(key))
    if kind == "zset":
        return dict(client.zrange(key, 0, -1, withscores=True))
    if kind == "list":
        return client.execute("LRANGE", key, 0, -1)
    if kind == "stream":
        return client.execute("XRANGE", key, "-", "+")
    raise Failure(f"{key} is a {kind}, which cannot be shown")


def run_invalidate(args: argparse.Namespace) -> int:
    with open_client(args) as client:
        client.ping()  # a cache would go on without its server: this says so
        if not args.yes:
            confirm(args, client)
        count = Cache(client, prefix="").invalidate(args.pattern)
    if args.json:
        print_json({"invalidated": count})
    else:
        print(f"{count:,} key{'' if count == 1 else 's'} deleted")
    return 0


def confirm(args: argparse.Namespace, client: Client) -> None:
    """Asks on the terminal; Failure unless the answer is yes."""
    if not sys.stdin.isatty():
        raise Failure("invalidate asks before it deletes: add --yes to go on unasked")
    count = sum(1 for _ in scan(client, args.pattern))
    what = f"{count:,} keys that match {printable(args.pattern)}"
    where = client.health().get("url")
    print(f"Delete {what} on {where}? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Failure("nothing deleted")
