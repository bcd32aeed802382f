"""Metrics for Prometheus; ``pip install redlane[metrics]``.

    from prometheus_client import REGISTRY
    from redlane.metrics import Collector

    REGISTRY.register(Collector(client, cache, limiter))

Everything is read when Prometheus asks, from counts that are kept anyway.
"""

from __future__ import annotations

from collections.abc import Iterator

try:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.registry import Collector as _Collector
except ImportError as error:  # pragma: no cover - an environment of its own
    raise ImportError(
        "redlane.metrics needs prometheus-client: pip install redlane[metrics]"
    ) from error

from redlane._metrics import METRICS, Kind, Metric, Sources, Tool

__all__ = ["Collector"]

Family = CounterMetricFamily | GaugeMetricFamily


class Collector(_Collector):
    """What clients, caches and limiters of this process did, as metrics.

    Args:
        tools: a ``Client``, ``Cache`` or ``RateLimiter``, or their awaited forms,
            each. A client is named by its server's address, a cache or limiter by its
            prefix.
        ask: whether a scrape asks the server for its latency, memory and version: two
            commands, within the client's time-out. False where scrapes are answered on
            an event loop, which would wait.
        named: the same under names of their own.

    Raises:
        TypeError: it is something else.
        ValueError: two of a kind have one name.
    """

    def __init__(self, *tools: Tool, ask: bool = True, **named: Tool) -> None:
        self._ask = ask
        self._sources = Sources()
        for tool in tools:
            self.add(tool)
        for name, tool in named.items():
            self.add(tool, name)

    def add(self, tool: Tool, name: str | None = None) -> None:
        """One more.

        Args:
            tool: as above.
            name: the value of its label.

        Raises:
            TypeError: it is something else.
            ValueError: there is one of that name.
        """
        self._sources.add(tool, name)

    def describe(self) -> Iterator[Family]:
        """The metrics without their values; no server is asked."""
        for kind, metrics in METRICS.items():
            for metric in metrics:
                if self._ask or not metric.asks:
                    yield _family(kind, metric)

    def collect(self) -> Iterator[Family]:
        """The metrics as they are now."""
        for kind, metrics in METRICS.items():
            reports = self._sources.read(kind, self._ask)
            for metric in metrics:
                if metric.asks and not self._ask:
                    continue
                family = _family(kind, metric)
                for name, report in reports:
                    for labels, value in metric.read(report):
                        family.add_metric([name, *labels], value)
                yield family


def _family(kind: Kind, metric: Metric) -> Family:
    name = f"redlane_{metric.name.replace('.', '_')}"
    if metric.unit:
        name = f"{name}_{metric.unit}"
    labels = [kind, *metric.labels]
    if metric.type == "counter":
        return CounterMetricFamily(name, metric.text, labels=labels)
    return GaugeMetricFamily(name, metric.text, labels=labels)
