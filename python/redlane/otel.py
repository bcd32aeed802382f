"""Spans and metrics for OpenTelemetry; ``pip install redlane[otel]``.

    from redlane.otel import instrument

    instrument(client, cache)

A client that is not instrumented does nothing for it.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakKeyDictionary

try:
    from opentelemetry import context, metrics, trace
    from opentelemetry.metrics import CallbackOptions, Observation
    from opentelemetry.trace import SpanKind, Status, StatusCode
except ImportError as error:  # pragma: no cover - an environment of its own
    raise ImportError(
        "redlane.otel needs opentelemetry-api: pip install redlane[otel]"
    ) from error

from redlane import __version__
from redlane._core import AsyncClient, Client, ReplyError
from redlane._metrics import (
    METRICS,
    Address,
    Kind,
    Metric,
    Sources,
    Tool,
    address_of,
)

__all__ = ["instrument", "uninstrument"]

UNITS = {"bytes": "By", "seconds": "s", "": ""}
BUCKETS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10]  # seconds
SUPPRESSED = (context._SUPPRESS_INSTRUMENTATION_KEY, "suppress_instrumentation")

Read = Callable[[CallbackOptions], Iterable[Observation]]
Observer = Callable[[str, int, str | None, int, int, BaseException | None], None]


class _Reader:
    """What one meter provider reads; made once for each, as instruments are."""

    def __init__(self, provider: metrics.MeterProvider) -> None:
        self.sources = Sources()
        meter = provider.get_meter("redlane", __version__)
        self.duration = meter.create_histogram(
            "db.client.operation.duration",
            unit="s",
            description="Duration of database client operations.",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )
        for kind, known in METRICS.items():
            for metric in known:
                if metric.asks:  # an export must not wait for a server
                    continue
                create = (
                    meter.create_observable_counter
                    if metric.type == "counter"
                    else meter.create_observable_gauge
                )
                create(
                    f"redlane.{metric.name}",
                    [self._reading(kind, metric)],
                    UNITS[metric.unit],
                    metric.text,
                )
        meter.create_observable_up_down_counter(
            "db.client.connection.count",
            [self._count_connections],
            "{connection}",
            "The number of connections that are in the state of the attribute.",
        )
        meter.create_observable_up_down_counter(
            "db.client.connection.max",
            [self._bound_connections],
            "{connection}",
            "The most connections that are allowed.",
        )

    def _reading(self, kind: Kind, metric: Metric) -> Read:
        names = [f"redlane.{label}" for label in (kind, *metric.labels)]

        def read(_: CallbackOptions) -> Iterable[Observation]:
            for name, report in self.sources.read(kind, ask=False):
                for labels, value in metric.read(report):
                    attributes = dict(zip(names, (name, *labels), strict=True))
                    yield Observation(value, attributes)

        return read

    def _count_connections(self, _: CallbackOptions) -> Iterable[Observation]:
        for name, report in self.sources.read("client", ask=False):
            for state, field in (("idle", "idle"), ("used", "busy")):
                if report["pool"]:
                    yield Observation(
                        report["pool"][field],
                        {
                            "db.client.connection.pool.name": name,
                            "db.client.connection.state": state,
                        },
                    )

    def _bound_connections(self, _: CallbackOptions) -> Iterable[Observation]:
        for name, report in self.sources.read("client", ask=False):
            if report["pool"]:
                yield Observation(
                    report["pool"]["size"], {"db.client.connection.pool.name": name}
                )


_readers: WeakKeyDictionary[metrics.MeterProvider, _Reader] = WeakKeyDictionary()
_lock = threading.Lock()


def instrument(
    *tools: Tool,
    keys: bool = False,
    tracer_provider: trace.TracerProvider | None = None,
    meter_provider: metrics.MeterProvider | None = None,
    **named: Tool,
) -> None:
    """Spans for what clients send to their servers, and metrics of clients, caches and
    limiters.

    A client and its awaited form are one, and so are all tools made of it: each trip to
    the server is a span, whichever of them makes it, in the context of who waits for
    it. What the near cache or the memory engine answers is none.

    Args:
        tools: a ``Client``, ``Cache`` or ``RateLimiter``, or their awaited forms, each.
            Only clients give spans.
        keys: whether spans tell the commands with their keys, as ``db.query.text``;
            never with values.
        tracer_provider: for the spans; None: the global one.
        meter_provider: for the metrics; None: the global one.
        named: tools under names of their own.

    Raises:
        TypeError: it is something else.
        ValueError: two of a kind have one name.
        ConnectionError: the client is closed.
    """
    provider = meter_provider or metrics.get_meter_provider()
    with _lock:
        reader = _readers.get(provider)
        if reader is None:
            reader = _readers[provider] = _Reader(provider)
    tracer = trace.get_tracer("redlane", __version__, tracer_provider)
    every = [(tool, None) for tool in tools]
    for tool, name in [*every, *((tool, name) for name, tool in named.items())]:
        reader.sources.add(tool, name)
        if isinstance(tool, AsyncClient):
            tool = tool.sync
        if isinstance(tool, Client):
            observer = _make_observer(tracer, reader.duration, address_of(tool))
            tool._observe(observer, keys)


def uninstrument(*tools: Tool) -> None:
    """No more spans and metrics of these.

    Args:
        tools: what was given to :func:`instrument`; harmless if it was not.
    """
    with _lock:
        readers = list(_readers.values())
    for tool in tools:
        for reader in readers:
            reader.sources.remove(tool)
        if isinstance(tool, AsyncClient):
            tool = tool.sync
        if isinstance(tool, Client) and not tool.closed:
            tool._observe(None, False)


def _describe(address: Address) -> dict[str, str | int]:
    described: dict[str, str | int] = {
        "db.system.name": "redis",
        "db.namespace": address.database,
        "server.address": address.host,
    }
    if address.port is not None:
        described["server.port"] = address.port
    return described


def _describe_error(error: BaseException) -> dict[str, str]:
    """Its kind alone: an error's text may hold what was sent."""
    if isinstance(error, ReplyError):
        found = re.match(r"[A-Z][A-Z0-9]*\b", str(error))
        code = found.group() if found else "ERR"
        return {"db.response.status_code": code, "error.type": code}
    cls = type(error)
    return {"error.type": f"{cls.__module__}.{cls.__qualname__}"}


def _make_observer(
    tracer: trace.Tracer, duration: metrics.Histogram, address: Address
) -> Observer:
    """It holds nothing of the client, which holds it."""
    fixed = _describe(address)
    target = address.host if address.port is None else f"{address.host}:{address.port}"

    def observe(
        operation: str,
        count: int,
        text: str | None,
        began: int,
        ended: int,
        error: BaseException | None,
    ) -> None:
        if any(context.get_value(key) for key in SUPPRESSED):
            return  # an exporter's own
        attributes: dict[str, Any] = {**fixed, "db.operation.name": operation}
        if error is not None:
            attributes |= _describe_error(error)
        duration.record((ended - began) / 1e9, attributes)
        if count > 1:
            attributes["db.operation.batch.size"] = count
        if text is not None:
            attributes["db.query.text"] = text
        span = tracer.start_span(
            f"{operation} {target}",
            kind=SpanKind.CLIENT,
            attributes=attributes,
            start_time=began,
        )
        if error is not None:
            span.set_status(Status(StatusCode.ERROR))
        span.end(ended)

    return observe
