"""What is measured, whoever reads it: redlane.metrics for Prometheus, redlane.otel for
OpenTelemetry.

A source is a client, a cache or a limiter under a name. It is read when somebody asks,
from counts that are kept anyway: nothing is done for it while a program works.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple
from urllib.parse import unquote, urlsplit

from redlane._core import (
    AsyncCache,
    AsyncClient,
    AsyncRateLimiter,
    Cache,
    Client,
    RateLimiter,
)

__all__ = ["METRICS", "Address", "Metric", "Source", "Sources", "Tool", "address_of"]

Tool = (
    Client[Any] | AsyncClient[Any] | Cache | AsyncCache | RateLimiter | AsyncRateLimiter
)
Kind = Literal["client", "cache", "limiter"]
Sample = tuple[tuple[str, ...], float]  # values of the labels, value


class Metric(NamedTuple):
    """One metric of all sources of a kind, whose name is its first label."""

    name: str  # "pool.connections": with "redlane." before it OpenTelemetry's name
    type: Literal["counter", "gauge"]
    text: str
    read: Callable[[Mapping[str, Any]], Iterator[Sample]]
    labels: tuple[str, ...] = ()  # those beside the source's name
    unit: str = ""  # "bytes", "seconds"
    asks: bool = False  # only the server can say it


def at(*path: str, scale: float = 1) -> Callable[[Mapping[str, Any]], Iterator[Sample]]:
    """Reads one number; none where the report has none."""

    def read(report: Mapping[str, Any]) -> Iterator[Sample]:
        value: Any = report
        for key in path:
            value = None if value is None else value.get(key)
        if value is not None:
            yield (), float(value) * scale

    return read


def each(
    *path: str, of: tuple[str, ...]
) -> Callable[[Mapping[str, Any]], Iterator[Sample]]:
    """Reads several numbers of one dict, named by a label."""

    def read(report: Mapping[str, Any]) -> Iterator[Sample]:
        for key in of:
            for _, value in at(*path, key)(report):
                yield (key,), value

    return read


def one_of(
    *path: str, states: tuple[str, ...]
) -> Callable[[Mapping[str, Any]], Iterator[Sample]]:
    """1 for the state that it is in, 0 for each of the others."""

    def read(report: Mapping[str, Any]) -> Iterator[Sample]:
        value: Any = report
        for key in path:
            value = None if value is None else value[key]
        if value is not None:
            for state in states:
                yield (state,), float(value == state)

    return read


def read_version(report: Mapping[str, Any]) -> Iterator[Sample]:
    if report["server_version"]:
        yield (report["server_version"],), 1.0


MODES = ("redis", "memory", "none", "away", "closed")
BREAKER = ("closed", "suspect", "open")
NEAR = ("idle", "connecting", "on", "refused", "closed")

CLIENT = (
    Metric(
        "client.mode",
        "gauge",
        "1 for what answers: redis, memory, none, away or closed",
        one_of("mode", states=MODES),
        ("mode",),
    ),
    Metric("client.connected", "gauge", "1 while the server answers", at("connected")),
    Metric(
        "breaker.state",
        "gauge",
        "1 for the state of the breaker: closed, suspect or open",
        one_of("breaker", states=BREAKER),
        ("state",),
    ),
    Metric(
        "breaker.writes",
        "gauge",
        "1 for the state of the breaker of writes: closed or open",
        one_of("write_breaker", states=("closed", "open")),
        ("state",),
    ),
    Metric(
        "server.latency",
        "gauge",
        "What a PING took",
        at("latency_ms", scale=0.001),
        unit="seconds",
        asks=True,
    ),
    Metric(
        "server.used_memory",
        "gauge",
        "Memory that the server uses",
        at("used_memory"),
        unit="bytes",
        asks=True,
    ),
    Metric(
        "server.version",
        "gauge",
        "1, with the version of the server",
        read_version,
        ("version",),
        asks=True,
    ),
    Metric(
        "pool.connections",
        "gauge",
        "Connections: idle, busy, or of event loops",
        each("pool", of=("idle", "busy", "loops")),
        ("state",),
    ),
    Metric("pool.size", "gauge", "Most connections of threads", at("pool", "size")),
    Metric(
        "journal.entries",
        "gauge",
        "Changes that the server has still to hear of: keys and patterns",
        each("journal", of=("keys", "patterns")),
        ("kind",),
    ),
    Metric(
        "journal.size",
        "gauge",
        "Memory of the journal",
        at("journal", "bytes"),
        unit="bytes",
    ),
    Metric(
        "journal.lost",
        "counter",
        "Changes that the server did not hear of",
        at("journal", "lost"),
    ),
    Metric(
        "near.state",
        "gauge",
        "1 for the state of the near cache; hits need it on",
        one_of("near", "state", states=NEAR),
        ("state",),
    ),
    Metric("near.entries", "gauge", "Values held near", at("near", "entries")),
    Metric(
        "near.size",
        "gauge",
        "Memory of the near cache",
        at("near", "bytes"),
        unit="bytes",
    ),
    Metric(
        "near.max_size",
        "gauge",
        "Bound of the near cache",
        at("near", "max_bytes"),
        unit="bytes",
    ),
    Metric("near.hits", "counter", "Look-ups that found a value", at("near", "hits")),
    Metric("near.misses", "counter", "Look-ups that did not", at("near", "misses")),
    Metric("near.stores", "counter", "Values put near", at("near", "stores")),
    Metric(
        "near.evictions",
        "counter",
        "Values dropped for want of room",
        at("near", "evictions"),
    ),
    Metric(
        "near.invalidations",
        "counter",
        "Keys that the server said had changed",
        at("near", "invalidations"),
    ),
    Metric(
        "near.flushes", "counter", "Times that all was dropped", at("near", "flushes")
    ),
    Metric("near.links", "counter", "Connections made for it", at("near", "links")),
    Metric(
        "pubsub.connected",
        "gauge",
        "1 while subscriptions have their connection",
        at("pubsub", "connected"),
    ),
    Metric(
        "pubsub.subscriptions",
        "gauge",
        "Subscriptions of this process",
        at("pubsub", "subscriptions"),
    ),
    Metric(
        "pubsub.topics",
        "gauge",
        "What they are for: channels and patterns",
        each("pubsub", of=("channels", "patterns")),
        ("kind",),
    ),
    Metric(
        "pubsub.queued",
        "gauge",
        "Messages that have come and were not taken yet",
        at("pubsub", "queued"),
    ),
    Metric(
        "pubsub.queued_size",
        "gauge",
        "Memory of those",
        at("pubsub", "queued_bytes"),
        unit="bytes",
    ),
    Metric(
        "pubsub.dropped",
        "counter",
        "Messages dropped by a full queue",
        at("pubsub", "dropped"),
    ),
    Metric(
        "pubsub.gaps",
        "counter",
        "Times that messages may be missing",
        at("pubsub", "gaps"),
    ),
    Metric("engine.keys", "gauge", "Keys of the memory engine", at("engine", "keys")),
    Metric(
        "engine.size",
        "gauge",
        "Memory of the engine",
        at("engine", "bytes"),
        unit="bytes",
    ),
    Metric(
        "engine.max_size",
        "gauge",
        "Bound of the engine",
        at("engine", "max_bytes"),
        unit="bytes",
    ),
    Metric(
        "engine.evictions",
        "counter",
        "Keys dropped for want of room",
        at("engine", "evictions"),
    ),
    Metric(
        "engine.expired", "counter", "Keys whose time was over", at("engine", "expired")
    ),
)

CACHE = (
    Metric("cache.hits", "counter", "Reads that found a value", at("hits")),
    Metric(
        "cache.near_hits",
        "counter",
        "Those of them that did not leave the process",
        at("near_hits"),
    ),
    Metric("cache.misses", "counter", "Reads that did not", at("misses")),
    Metric(
        "cache.waits",
        "counter",
        "Reads answered by another caller's computation",
        at("waits"),
    ),
    Metric(
        "cache.stale", "counter", "Reads answered by a value past its time", at("stale")
    ),
    Metric("cache.sets", "counter", "Values stored", at("sets")),
    Metric("cache.deletes", "counter", "Values deleted", at("deletes")),
    Metric("cache.refreshes", "counter", "Functions run behind", at("refreshes")),
    Metric(
        "cache.refresh_errors",
        "counter",
        "Functions that failed where an old value was served",
        at("refresh_errors"),
    ),
    Metric(
        "cache.errors",
        "counter",
        "Faults of the link or the server that it went on without",
        at("errors"),
    ),
    Metric("cache.corrupted", "counter", "Unreadable values dropped", at("corrupted")),
    Metric("cache.bad_seals", "counter", "Those without a seal", at("bad_seals")),
    Metric(
        "cache.uncached",
        "counter",
        "Results that cannot be serialised",
        at("uncached"),
    ),
    Metric(
        "cache.read", "counter", "Of stored values read", at("bytes_read"), unit="bytes"
    ),
    Metric(
        "cache.written",
        "counter",
        "Of stored values written",
        at("bytes_written"),
        unit="bytes",
    ),
)

LIMITER = (
    Metric(
        "limiter.hits",
        "counter",
        "Decisions: allowed or refused",
        each(of=("allowed", "refused")),
        ("decision",),
    ),
    Metric(
        "limiter.remembered",
        "counter",
        "Refused without asking the server, being known to be blocked",
        at("remembered"),
    ),
    Metric(
        "limiter.away",
        "counter",
        "Decided by on_error, the server being away",
        at("away"),
    ),
    Metric("limiter.errors", "counter", "Hits that raised", at("errors")),
)

METRICS: dict[Kind, tuple[Metric, ...]] = {
    "client": CLIENT,
    "cache": CACHE,
    "limiter": LIMITER,
}


class Address(NamedTuple):
    """Where a client's server is; nothing of who logs in."""

    host: str  # or the path of a socket, or "memory"
    port: int | None
    database: str

    def __str__(self) -> str:
        if self.port is None:
            return self.host
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}/{self.database}"


def address_of(client: Client[Any] | AsyncClient[Any]) -> Address:
    """The address of a client's URL."""
    parts = urlsplit(client.url)
    if parts.scheme == "memory":
        return Address("memory", None, "0")
    if parts.scheme == "unix":
        items = (item.partition("=") for item in parts.query.split("&"))
        query = {name: value for name, _, value in items}
        return Address(unquote(parts.path), None, query.get("db", "0"))
    # By hand: an address of version 6 may name its zone.
    place = parts.netloc.rpartition("@")[2]
    host, _, port = place.rpartition(":") if place[-1:] != "]" else (place, "", "")
    if not host:
        host, port = place, ""
    return Address(
        host.strip("[]") or "localhost", int(port or 6379), parts.path[1:] or "0"
    )


def sync_of(tool: Tool) -> Tool:
    """The waiting form of a tool, which counts for both."""
    if isinstance(tool, AsyncClient | AsyncCache | AsyncRateLimiter):
        return tool.sync
    return tool


class Source:
    """Something to read, under a name."""

    def __init__(self, tool: Tool, name: str | None) -> None:
        self.kind: Kind
        self.read: Callable[[bool], Mapping[str, Any]]
        tool = sync_of(tool)
        self.tool = tool
        if isinstance(tool, Client):
            client = tool
            self.kind = "client"
            self.name = str(address_of(client)) if name is None else name
            self.read = lambda ask: client.health() if ask else client._report()
        elif isinstance(tool, Cache):
            cache = tool
            self.kind = "cache"
            self.name = cache.prefix if name is None else name
            self.read = lambda ask: cache._counts()
        elif isinstance(tool, RateLimiter):
            limiter = tool
            self.kind = "limiter"
            self.name = limiter.prefix if name is None else name
            self.read = lambda ask: limiter.stats()
        else:
            raise TypeError(
                "a Client, a Cache or a RateLimiter is wanted, or an awaited form of "
                f"one, not {type(tool).__name__}"
            )


class Sources:
    """The sources of one reader; its names are unique for each kind."""

    def __init__(self) -> None:
        self._sources: dict[tuple[Kind, str], Source] = {}
        self._lock = threading.Lock()

    def add(self, tool: Tool, name: str | None) -> None:
        source = Source(tool, name)
        with self._lock:
            if (source.kind, source.name) in self._sources:
                raise ValueError(
                    f"there is a {source.kind} named {source.name!r} already: "
                    "give this one a name of its own"
                )
            self._sources[source.kind, source.name] = source

    def remove(self, tool: Tool) -> None:
        tool = sync_of(tool)
        with self._lock:
            for key, source in list(self._sources.items()):
                if source.tool is tool:
                    del self._sources[key]

    def read(self, kind: Kind, ask: bool) -> list[tuple[str, Mapping[str, Any]]]:
        """(name, report) of each source of that kind."""
        with self._lock:
            sources = [s for s in self._sources.values() if s.kind == kind]
        return [(source.name, source.read(ask)) for source in sources]
