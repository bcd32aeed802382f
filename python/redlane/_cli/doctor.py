"""`redlane doctor`: what would be used and why, what is reachable, what is wrong."""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from redlane import Client, RedlaneError
from redlane._cli.output import (
    human_bytes,
    open_client,
    print_json,
    print_pairs,
    printable,
)

PINGS = 20
SLOW_MS = 10.0
NEARLY_FULL = 0.9  # of maxmemory
VARIABLES = (
    "REDIS_URL",
    "REDIS_DB",
    "REDIS_ADDR",
    "REDIS_PASSWORD",
    "REDIS_TLS_CA",
    "REDIS_TLS_CERT",
    "REDIS_TLS_KEY",
    "REDIS_TLS_KEY_PASSWORD",
    "REDIS_TLS_SERVER_NAME",
    "UPSTASH_REDIS_REST_URL",
    "UPSTASH_REDIS_REST_TOKEN",
)


@dataclass(frozen=True)
class Finding:
    level: Literal["problem", "warning", "note"]  # a problem makes the exit code 1
    text: str


@dataclass(frozen=True)
class Choice:
    """What decides which server is used."""

    why: str
    configured: bool  # False: nothing is set, the default is tried


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "doctor",
        parents=[common],
        help="what would be used, what is reachable, what is misconfigured",
    )
    parser.set_defaults(run=run_doctor)


def run_doctor(args: argparse.Namespace) -> int:
    choice = choose(args.url)
    report: dict[str, Any] = {
        "why": choice.why,
        "variables": [name for name in VARIABLES if os.environ.get(name)],
    }
    findings: list[Finding] = []
    try:
        client = open_client(args)
    except RedlaneError as error:
        findings.append(Finding("problem", str(error)))
    else:
        with client:
            examine(client, choice, report, findings)
    failed = any(finding.level == "problem" for finding in findings)
    if args.json:
        report["findings"] = [asdict(finding) for finding in findings]
        print_json({**report, "ok": not failed})
    else:
        print_report(report, findings)
    return int(failed)


def choose(url: str | None) -> Choice:
    if url:
        return Choice("--url", configured=True)
    for name in ("REDIS_URL", "REDIS_ADDR", "UPSTASH_REDIS_REST_URL"):
        if os.environ.get(name):
            return Choice(name, configured=True)
    return Choice("nothing is set: localhost:6379 is tried", configured=False)


def examine(
    client: Client, choice: Choice, report: dict[str, Any], findings: list[Finding]
) -> None:
    health = client.health()
    mode = health.get("mode")
    report.update(url=health.get("url"), connected=bool(health.get("connected")))
    if str(health.get("url")).startswith("memory:"):
        report["uses"] = "embedded memory engine"
        findings.extend(check_engine())
        return
    if not health.get("connected"):
        reason = f"nothing usable at {health.get('url')}: {health.get('error')}"
        report["uses"] = "embedded memory engine for caches; raw commands fail"
        findings.append(Finding("problem" if choice.configured else "warning", reason))
        findings.extend(check_engine())
        return
    report.update(uses=mode, server_version=health.get("server_version"))
    tls = health.get("tls")
    report["tls"] = f"{tls['version']}, {tls['cipher']}" if tls else False
    if str(health.get("url")).startswith("https:"):
        report["tls"] = "HTTPS"
    try:
        report["latency_ms"] = latency = measure_latency(client)
        info = client.info()
    except RedlaneError as error:
        findings.append(Finding("problem", str(error)))
        return
    for name in ("role", "maxmemory", "maxmemory_policy", "evicted_keys"):
        report[name] = info.get(name)
    report.update(used_memory=info.get("used_memory"), keys=client.dbsize())
    findings.extend(check_latency(latency))
    findings.extend(check_server(info))


def measure_latency(client: Client) -> dict[str, float]:
    """Milliseconds of a PING, over a few of them."""
    times = []
    for _ in range(PINGS):
        begin = time.perf_counter()
        client.ping()
        times.append((time.perf_counter() - begin) * 1000)
    return {
        "median": round(statistics.median(times), 3),
        "max": round(max(times), 3),
    }


def check_engine() -> Iterator[Finding]:
    workers = os.environ.get("WEB_CONCURRENCY", "")
    if workers.isdecimal() and int(workers) > 1:
        yield Finding(
            "warning",
            f"WEB_CONCURRENCY={int(workers)}, but the engine is not shared between "
            "processes: each worker would have a cache of its own",
        )


def check_latency(latency: dict[str, float]) -> Iterator[Finding]:
    if latency["median"] > SLOW_MS:
        yield Finding(
            "warning",
            f"slow: a PING takes {latency['median']:.1f} ms, over {SLOW_MS:.0f} ms; "
            "check the server's load and the network",
        )


def check_server(info: dict[str, Any]) -> Iterator[Finding]:
    """What INFO says that will hurt a cache."""
    if info.get("role") == "slave" and info.get("slave_read_only"):
        yield Finding("problem", "the server is a read-only replica: writes will fail")
    if info.get("loading"):
        yield Finding("problem", "the server is still loading its data")
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        yield Finding("problem", "the last RDB save failed: writes may be refused")
    if info.get("aof_last_write_status", "ok") != "ok":
        yield Finding("problem", "the last AOF write failed: writes are refused")
    version = str(info.get("redis_version") or "")
    if version.partition(".")[0].isdecimal() and int(version.partition(".")[0]) < 6:
        yield Finding("warning", f"server {version} is older than 6.0")
    clients, limit = info.get("connected_clients"), info.get("maxclients")
    if clients and limit and clients > NEARLY_FULL * limit:
        yield Finding("warning", f"{clients} of at most {limit} clients are connected")
    yield from check_memory(info)


def check_memory(info: dict[str, Any]) -> Iterator[Finding]:
    limit, used = info.get("maxmemory") or 0, info.get("used_memory") or 0
    policy = str(info.get("maxmemory_policy") or "noeviction")
    if not limit:
        yield Finding("note", "maxmemory is not set: the server may take all memory")
    elif policy == "noeviction" and used > NEARLY_FULL * limit:
        yield Finding(
            "warning",
            f"{human_bytes(used)} of {human_bytes(limit)} used, and noeviction: "
            "writes will fail when it is full",
        )
    if policy.startswith("allkeys-"):
        yield Finding(
            "warning",
            f"maxmemory-policy {policy} may evict permanent videos; "
            "noeviction or volatile-ttl keep them",
        )
    if info.get("evicted_keys"):
        yield Finding(
            "warning", f"{info['evicted_keys']:,} keys were evicted: maxmemory is small"
        )


def print_report(report: dict[str, Any], findings: list[Finding]) -> None:
    shown: list[tuple[str, object]] = []
    for name, value in report.items():
        if name == "latency_ms":
            value = f"{value['median']:.3f} ms median, {value['max']:.3f} ms max"
            name = "latency"
        elif name == "variables":
            value = ", ".join(value) or "none"
        elif name == "maxmemory" and value == 0:
            value = "no limit"
        elif name in ("maxmemory", "used_memory") and value is not None:
            value = human_bytes(value)
        elif isinstance(value, bool):
            value = "yes" if value else "no"
        shown.append((name.replace("_", " "), "–" if value is None else value))
    print_pairs(shown)
    print()
    for finding in findings:
        print(f"{finding.level}: {printable(finding.text)}")
    if not any(finding.level != "note" for finding in findings):
        print("All is well.")
