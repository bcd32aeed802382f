"""redlane.otel: a span for each trip to the server, where it belongs, and metrics."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
import weakref
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import redlane
from aio import Runner
from opentelemetry import context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from outage_tools import wait_until
from redlane import Cache, Client, Counter, RateLimiter
from redlane.otel import instrument, uninstrument
from servers import ACL_PASSWORD, ACL_USER, PATIENT, Server, patient


class Telemetry:
    """Providers of the test's own, and what they were told."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meters = MeterProvider([self._reader], shutdown_on_exit=False)
        self._tools: list[Any] = []

    def instrument(self, *tools: Any, **options: Any) -> None:
        self._tools += [*tools, *(v for k, v in options.items() if k != "keys")]
        instrument(
            *tools,
            tracer_provider=self.tracers,
            meter_provider=self.meters,
            **options,
        )

    def spans(self) -> list[ReadableSpan]:
        """Those since the last look."""
        found = list(self._exporter.get_finished_spans())
        self._exporter.clear()
        return found

    def names(self) -> list[str]:
        return [attributes(span)["db.operation.name"] for span in self.spans()]

    def metrics(self) -> dict[str, list[Any]]:
        """The points of each metric."""
        data = self._reader.get_metrics_data()
        return {
            metric.name: list(metric.data.data_points)
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def close(self) -> None:
        uninstrument(*self._tools)
        self.tracers.shutdown()
        self.meters.shutdown()


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    made = Telemetry()
    yield made
    made.close()


@pytest.fixture
def client(redis_server: Server) -> Iterator[Client[Any]]:
    made = Client(redis_server.url, **PATIENT)
    yield made
    made.close()


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_a_command(
    telemetry: Telemetry, client: Client[Any], redis_server: Server
) -> None:
    telemetry.instrument(client)
    before = time.time_ns()
    client.set("user:1", "value")
    (span,) = telemetry.spans()
    assert span.name == f"SET 127.0.0.1:{redis_server.port}"
    assert span.kind is SpanKind.CLIENT
    assert span.status.status_code is StatusCode.UNSET
    assert attributes(span) == {
        "db.system.name": "redis",
        "db.namespace": "0",
        "db.operation.name": "SET",
        "server.address": "127.0.0.1",
        "server.port": redis_server.port,
    }
    assert span.start_time and span.end_time
    assert before <= span.start_time < span.end_time
    assert span.instrumentation_scope and span.instrumentation_scope.name == "redlane"


def test_batches(telemetry: Telemetry, client: Client[Any]) -> None:
    telemetry.instrument(client, keys=True)
    client.pipeline().get("a").get("b").execute()
    client.pipeline().set("a", "value").get("b").execute()
    client.pipeline(transaction=True).persist("n").persist("m").execute()
    client.pipeline(transaction=True).persist("n").execute()
    found = [attributes(span) for span in telemetry.spans()]
    assert [
        (
            one["db.operation.name"],
            one.get("db.operation.batch.size"),
            one["db.query.text"],
        )
        for one in found
    ] == [
        ("PIPELINE GET", 2, "GET a; GET b"),
        ("PIPELINE", 2, "SET a ?; GET b"),
        ("MULTI PERSIST", 2, "PERSIST n; PERSIST m"),
        ("MULTI PERSIST", None, "PERSIST n"),
    ]


def test_every_tool_is_seen(telemetry: Telemetry, client: Client[Any]) -> None:
    telemetry.instrument(client)
    cache = Cache(client, near=False)
    cache.set("k", 1)
    assert cache.get("k") == 1
    assert telemetry.names() == ["SET", "GET"]
    assert RateLimiter(client).hit("ann", "5/minute").allowed
    assert telemetry.names() == ["EVALSHA"]
    assert Counter(client, "n:{id}", source=lambda id: 7).get("a") == 7
    assert telemetry.names() != []

    @cache(ttl=60)
    def double(number: int) -> int:
        return 2 * number

    assert double(4) == 8
    assert telemetry.names() != []
    assert double(4) == 8
    assert telemetry.names() != []


def test_what_stays_in_the_process_is_no_trip(
    telemetry: Telemetry, client: Client[Any]
) -> None:
    cache = Cache(client)
    telemetry.instrument(client)

    def is_near() -> bool:
        cache.get("k")
        return bool(cache.stats()["near_hits"])

    cache.set("k", "value")
    wait_until(is_near, "a near hit")
    telemetry.spans()
    assert cache.get("k") == "value"
    assert telemetry.spans() == []
    client.health()  # asks about the link, not for anybody
    assert telemetry.spans() == []
    embedded = Client("memory://")
    telemetry.instrument(embedded)
    embedded.set("k", 1)
    assert telemetry.spans() == []


def test_errors(telemetry: Telemetry, client: Client[Any]) -> None:
    telemetry.instrument(client)
    client.set("text", "value")
    telemetry.spans()
    with pytest.raises(redlane.WrongTypeError):
        client.hget("text", "field")
    with pytest.raises(redlane.ReplyError):
        client.execute("NO-SUCH-COMMAND", "canary-value")
    results = client.pipeline().get("text").hget("text", "f").execute(False)
    assert isinstance(results[1], redlane.WrongTypeError)
    spans = telemetry.spans()
    assert [attributes(span)["error.type"] for span in spans] == [
        "WRONGTYPE",
        "ERR",
        "WRONGTYPE",
    ]
    for span in spans:
        assert span.status.status_code is StatusCode.ERROR
        assert span.status.description is None
        assert attributes(span)["db.response.status_code"]
        assert not span.events
        assert "canary" not in span.to_json()


def test_an_outage(telemetry: Telemetry, fresh_server: Server) -> None:
    client = Client(fresh_server.url, timeout=1)
    wait_until(lambda: client.health()["connected"], "the server")
    telemetry.instrument(client)
    fresh_server.kill()
    with pytest.raises(redlane.ConnectionError):
        client.get("k")
    (span,) = telemetry.spans()
    assert attributes(span)["error.type"] == "redlane.ConnectionError"
    assert "db.response.status_code" not in attributes(span)
    wait_until(lambda: client.health()["breaker"] == "open", "the verdict")
    with pytest.raises(redlane.ConnectionError):
        client.get("k")
    assert telemetry.spans() == []  # nothing was sent
    client.close()


def test_parents_of_threads_that_wait(
    telemetry: Telemetry, client: Client[Any]
) -> None:
    telemetry.instrument(client)
    tracer = telemetry.tracers.get_tracer("test")
    with tracer.start_as_current_span("request"):
        client.get("k")
    child, parent = telemetry.spans()
    assert child.parent and parent.context
    assert child.parent.span_id == parent.context.span_id


def test_parents_of_tasks(
    telemetry: Telemetry, client: Client[Any], run: Runner
) -> None:
    """Each trip belongs to the task that waits for it, though one read of the loop
    brings the replies of all."""
    telemetry.instrument(client)
    cache = Cache(client, near=False)
    tracer = telemetry.tracers.get_tracer("test")

    async def task(number: int) -> None:
        with tracer.start_as_current_span(f"task {number}"):
            await client.aio.set(f"k:{number}", number)
            await asyncio.sleep(0)
            assert await cache.aio.get(f"k:{number}") is None
            pipeline = client.aio.pipeline().get(f"k:{number}").ttl("k")
            assert await pipeline.execute() == [b"%d" % number, -2]

    async def main() -> None:
        await asyncio.gather(*map(task, range(30)))

    run(main())
    spans = telemetry.spans()
    tasks = {s.context.span_id: s.name for s in spans if s.context and not s.parent}
    assert len(tasks) == 30
    children: dict[str, list[str]] = {}
    for span in spans:
        if span.parent:
            name = attributes(span)["db.operation.name"]
            children.setdefault(tasks[span.parent.span_id], []).append(name)
    assert len(children) == 30
    assert all(found == ["SET", "GET", "PIPELINE"] for found in children.values())


def test_errors_of_tasks(
    telemetry: Telemetry, client: Client[Any], run: Runner
) -> None:
    telemetry.instrument(client)

    async def main() -> None:
        await client.aio.set("text", "value")
        with pytest.raises(redlane.WrongTypeError):
            await client.aio.hget("text", "f")
        pipeline = client.aio.pipeline(transaction=True).get("text").hget("text", "f")
        with pytest.raises(redlane.WrongTypeError):
            await pipeline.execute()

    run(main())
    fine, failed, batch = telemetry.spans()
    assert fine.status.status_code is StatusCode.UNSET
    assert attributes(failed)["error.type"] == "WRONGTYPE"
    assert attributes(batch)["error.type"] == "WRONGTYPE"
    assert attributes(batch)["db.operation.name"] == "MULTI"


def test_a_task_that_is_cancelled(
    telemetry: Telemetry, fresh_server: Server, run: Runner
) -> None:
    """Its trip ends when the reply has come, which nobody waits for."""
    client = Client(fresh_server.url, **PATIENT)
    telemetry.instrument(client)

    async def main() -> None:
        await client.aio.ping()
        fresh_server.pause()
        task = asyncio.ensure_future(client.aio.get("k"))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        fresh_server.resume()
        assert await client.aio.set("k", 1)

    run(main())
    assert telemetry.names() == ["PING", "GET", "SET"]
    client.close()


def test_keys_only_where_they_are_asked_for(
    telemetry: Telemetry, client: Client[Any]
) -> None:
    def work() -> str:
        client.set("canary-key", "canary-value")
        client.hset("canary-hash", "canary-value", "canary-value")
        client.mset({"canary-key": "canary-value"})
        client.echo("canary-value")
        client.publish("canary-channel", "canary-value")
        client.keys("canary-value")
        client.eval("return ARGV[1]", 1, "canary-key", "canary-value")
        client.pipeline().set("canary-key", "canary-value").execute()
        return "".join(span.to_json() for span in telemetry.spans())

    telemetry.instrument(client)
    assert "canary" not in work()
    uninstrument(client)
    telemetry.instrument(client, keys=True)
    shown = work()
    assert "SET canary-key ?" in shown
    assert "HSET canary-hash ?" in shown
    assert "PUBLISH canary-channel ?" in shown
    assert "canary-value" not in shown


def test_no_secret_is_shown(telemetry: Telemetry, password_server: Server) -> None:
    login = f"{quote(ACL_USER, safe='')}:{quote(ACL_PASSWORD, safe='')}"
    client = Client(patient(f"redis://{login}@127.0.0.1:{password_server.port}/0"))
    refused = Client(patient(f"redis://:canary-pw@127.0.0.1:{password_server.port}"))
    telemetry.instrument(client, refused=refused)
    client.set("k", "canary-value")
    with pytest.raises(redlane.RedlaneError):
        refused.get("k")
    spans = telemetry.spans()
    assert len(spans) == 2
    text = "".join(span.to_json() for span in spans) + repr(telemetry.metrics())
    for secret in ("canary", ACL_PASSWORD, quote(ACL_PASSWORD, safe=""), ACL_USER):
        assert secret not in text
    client.close()
    refused.close()


def test_metrics(telemetry: Telemetry, client: Client[Any]) -> None:
    cache, limiter = Cache(client, near=False), RateLimiter(client)
    telemetry.instrument(cache, limiter, api=client)
    cache.set("k", 1)
    cache.get("k")
    cache.get("other")
    limiter.hit("ann", "5/minute")
    found = telemetry.metrics()
    (hits,) = found["redlane.cache.hits"]
    assert (hits.value, dict(hits.attributes)) == (1, {"redlane.cache": "cache"})
    decisions = {
        point.attributes["redlane.decision"]: point.value
        for point in found["redlane.limiter.hits"]
    }
    assert decisions == {"allowed": 1, "refused": 0}
    modes = {
        point.attributes["redlane.mode"]: point.value
        for point in found["redlane.client.mode"]
        if point.attributes["redlane.client"] == "api"
    }
    assert modes["redis"] == 1
    assert sum(modes.values()) == 1
    counted = {
        point.attributes["db.operation.name"]: point.count
        for point in found["db.client.operation.duration"]
    }
    assert counted == {"SET": 1, "GET": 2, "EVALSHA": 1}
    for point in found["db.client.operation.duration"]:
        assert 0 < point.sum < PATIENT["timeout"]
        assert list(point.explicit_bounds)[:2] == [0.001, 0.005]
    connections = {
        point.attributes["db.client.connection.state"]: point.value
        for point in found["db.client.connection.count"]
    }
    assert connections == {"idle": 1, "used": 0}
    (bound,) = found["db.client.connection.max"]
    assert bound.value == 32
    uninstrument(cache)
    assert "redlane.cache.hits" not in telemetry.metrics()


def test_an_exporters_own_calls_are_no_spans(
    telemetry: Telemetry, client: Client[Any]
) -> None:
    telemetry.instrument(client)
    token = context.attach(context.set_value("suppress_instrumentation", True))
    try:
        client.get("k")
    finally:
        context.detach(token)
    assert telemetry.spans() == []


def test_a_client_that_is_no_longer_instrumented(
    telemetry: Telemetry, redis_server: Server
) -> None:
    client = Client(redis_server.url, **PATIENT)
    telemetry.instrument(client.aio)
    client.ping()
    assert telemetry.names() == ["PING"]
    uninstrument(client)
    client.ping()
    assert telemetry.spans() == []
    gone = weakref.ref(client)
    telemetry._tools.clear()
    del client
    gc.collect()
    assert gone() is None
    with pytest.raises(TypeError, match="not str"):
        instrument("redis://", meter_provider=telemetry.meters)  # type: ignore[arg-type]


# --- the hook itself --------------------------------------------------------------


def test_an_observer_that_raises(
    client: Client[Any], run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)

    def observe(*_: object) -> None:
        raise LookupError("of the observer")

    client._observe(observe, False)
    client.set("k", "value")
    assert client.get("k") == b"value"
    with pytest.raises(redlane.WrongTypeError):
        client.hget("k", "f")

    async def main() -> None:
        assert await client.aio.get("k") == b"value"

    run(main())
    assert [type(one.exc_value) for one in told] == [LookupError] * 4


def test_an_observer_that_uses_the_client_and_takes_itself_away(
    client: Client[Any], run: Runner
) -> None:
    seen: list[str] = []

    def observe(operation: str, *_: object) -> None:
        seen.append(operation)
        client._observe(None, False)
        client.set("seen", operation)

    async def main() -> None:
        client._observe(observe, False)
        await asyncio.gather(client.aio.get("a"), client.aio.get("b"))

    client._observe(observe, False)
    client.get("a")
    assert client.get("seen") == b"GET"
    run(main())
    assert seen == ["GET", "GET"]
    with pytest.raises(TypeError):
        client._observe(7, False)  # type: ignore[arg-type]
