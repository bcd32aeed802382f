"""The canaries of test_hostile_secrets.py in what stands around the tools: awaited
calls, publish and subscribe, traces, metrics, the command line, wrong configuration."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import redlane
from flask import Flask
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from outage_tools import wait_until
from prometheus_client import CollectorRegistry, generate_latest
from redlane import (
    AsyncClient,
    Cache,
    Client,
    Concurrency,
    Cooldown,
    Counter,
    Presence,
    PubSub,
    RateLimiter,
    RedisCache,
    VideoCache,
)
from redlane.flask import Redlane
from redlane.metrics import Collector
from redlane.otel import instrument, uninstrument
from servers import PATIENT, Server, free_port, patient
from test_hostile_secrets import (
    FORMS,
    PASSWORD,
    SEAL_KEY,
    VALUE,
    Output,
    guarded_server,
    output,
    url_of,
)

__all__ = ["guarded_server", "output"]  # fixtures

ERRORS = (redlane.RedlaneError, TypeError, ValueError)


# --- awaited ----------------------------------------------------------------------


def awaited_calls(client: Any, policy: Any) -> dict[str, Callable[[], Any]]:
    """Coroutines, each of a call that carries a value."""
    cache = Cache(client.sync, fallback=policy)
    sealed = Cache(client.sync, "sealed", fallback=policy, seal=[SEAL_KEY])
    limiter = RateLimiter(client.sync, hashed=True)
    tenant = RedisCache.from_client(client.sync).with_context("app", "device").aio
    presence = Presence(client.sync, lease=60, fallback=policy)
    slots = Concurrency(client.sync, 1, hashed=True)

    @cache(name="awaited")
    async def function(number: int) -> str:
        return VALUE

    @cache(name="unserialisable")
    async def unserialisable(number: int) -> object:
        return {VALUE: object()}

    @limiter.limit("1/day", key=lambda token: token)
    async def limited(token: str) -> str:
        return token

    async def piped() -> None:
        await client.pipeline(True).set("k", VALUE).incr("k").execute()

    @slots.limited(key=lambda token: token)
    async def alone(token: str) -> str:
        return str(await alone(token))

    async def held() -> None:
        async with slots.aio.slot(VALUE) as slot:
            await slots.aio.in_flight(VALUE)
            await slot.extend()
            await slots.aio.slot(VALUE).__aenter__()

    async def twice() -> None:
        await limited(VALUE)
        await limited(VALUE)

    return {
        "set": lambda: client.set("k", VALUE),
        "incr of a text": lambda: client.incr("k"),
        "wrong type": lambda: client.sadd("k", VALUE),
        "unknown": lambda: client.execute("NOSUCH", VALUE),
        "bad ttl": lambda: client.set("k", VALUE, ex=-1),
        "auth": lambda: client.execute("AUTH", PASSWORD),
        "transaction": piped,
        "cache.set": lambda: cache.aio.set("k", [VALUE]),
        "cache.set of an object": lambda: cache.aio.set("k", {VALUE: object()}),
        "cache.increment": lambda: cache.aio.increment("k"),
        "sealed": lambda: sealed.aio.set("k", VALUE),
        "function": lambda: function(1),
        "unserialisable": lambda: unserialisable(1),
        "counter": lambda: Counter(cache, "n:{id}").aio.increment(1),
        "video": lambda: VideoCache(client.sync).aio.set("b", ["w"], VALUE),
        "limit": lambda: limiter.aio.hit(VALUE, "5/day"),
        "limit, bad cost": lambda: limiter.aio.hit(VALUE, "5/day", 6),
        "limited": twice,
        "slots": held,
        "slots, limited": lambda: alone(VALUE),
        "cooldown": lambda: Cooldown(client.sync, 60).aio.acquire("ann"),
        "presence": lambda: presence.aio.join("ann", 1),
        "tenant": lambda: tenant.set("k", VALUE.encode(), 60),
        "tenant, a text": lambda: tenant.set("k", VALUE, 60),
        "publish": lambda: redlane.PubSub(client.sync).aio.publish("c", {"v": VALUE}),
        "publish an object": lambda: client.publish("c", object()),
        "health": lambda: client.health(),
    }


async def drive_awaited(
    output: Output, where: str, url: str, **options: Any
) -> list[str]:
    names = []
    for policy in ("memory", "raise"):
        client: Any = AsyncClient(url, **options)
        for name, call in awaited_calls(client, policy).items():
            try:
                result = await call()
            except redlane.RateLimitExceeded as error:
                # Its frames have the arguments of the call, as those of any function.
                output.add(f"{where}: {name}", f"{error} {error!r} {vars(error)}")
                names.append(type(error).__name__)
            except ERRORS as error:
                output.add_error(f"{where}: {name}", error)
                names.append(type(error).__name__)
            else:
                if name == "health":
                    output.add(f"{where}: health", repr(result))
        slots = redlane.AsyncConcurrency(client, hashed=True)
        for shown in (
            *(client, client.get, client.pipeline(), client.sync),
            *(slots, slots.slot(VALUE), slots.slot(VALUE).headers()),
        ):
            output.add(f"{where}: repr", f"{shown!r} {shown}")
        await client.close()
    return names


def test_awaited_calls(output: Output, guarded_server: Server) -> None:
    url = url_of(guarded_server.port, user="app")
    names = asyncio.run(drive_awaited(output, "tcp", url, **PATIENT))
    assert {"ReplyError", "RateLimitExceeded", "SerializationError"} <= set(names)
    wrong = url_of(guarded_server.port, "wrong" + PASSWORD, "app")
    names = asyncio.run(drive_awaited(output, "refused", wrong, **PATIENT))
    assert "AuthenticationError" in names
    away = url_of(free_port())
    names = asyncio.run(drive_awaited(output, "away", away, connect_timeout=5))
    assert "ConnectionError" in names


# --- publish and subscribe --------------------------------------------------------


def test_messages(output: Output, guarded_server: Server) -> None:
    """Of which a handler has every one, and fails."""
    client: Any = Client(url_of(guarded_server.port, user="app"), **PATIENT)
    heard: list[object] = []

    def handler(channel: str, message: object) -> None:
        heard.append(message)
        if len(heard) % 2:
            raise LookupError("of the handler")

    pubsub = PubSub(client)
    listener = pubsub.start(["c"], handler)
    wait_until(lambda: pubsub.publish("c", 1) >= 1, "the subscription")
    count = len(heard)
    for payload in (VALUE, {"v": VALUE}, [VALUE]):
        pubsub.publish("c", payload)
    for raw in (f'{{"{VALUE}', VALUE.encode() + b"\xff"):
        client.publish("c", raw)
    wait_until(lambda: len(heard) >= count + 5, "the messages")
    with pytest.raises(redlane.SerializationError) as caught:
        pubsub.publish("c", {VALUE: object()})
    output.add_error("publish", caught.value)
    output.add("shown", f"{pubsub!r} {listener!r} {client.health()!r}")
    listener.stop()
    client.close()


# --- traces and metrics -----------------------------------------------------------


def use_every_tool(client: Any) -> dict[str, Any]:
    """Calls that carry values, some that fail; the tools by name."""
    cache = Cache(client, near=False)
    limiter = RateLimiter(client, hashed=True)
    tools: dict[str, Any] = {"client": client, "cache": cache, "limiter": limiter}
    context = RedisCache.from_client(client).with_context("app", "device")
    calls: list[Callable[[], object]] = [
        lambda: cache.set("k", VALUE),
        lambda: cache.get("k"),
        lambda: cache.set_many({"a": VALUE, "b": VALUE}),
        lambda: cache.get_or_set("j", lambda: VALUE),
        lambda: Counter(cache, "n:{id}", source=lambda id: 3).get(1),
        lambda: limiter.hit(VALUE, "1/day"),
        lambda: limiter.hit(VALUE, "1/day"),
        lambda: [Concurrency(client, 1, hashed=True).acquire(VALUE) for _ in "ab"],
        lambda: Cooldown(client, 60).acquire("ann"),
        lambda: Presence(client, lease=60).join("ann", 1),
        lambda: context.set("k", VALUE.encode(), 60),
        lambda: context.flush_device(),
        lambda: VideoCache(client).set("b", ["w"], VALUE),
        lambda: client.publish("c", VALUE),
        lambda: client.hset("h", "f", VALUE),
        lambda: client.incr("h"),
        lambda: client.execute("NOSUCH", VALUE),
        lambda: client.eval("return redis.call('GET')", 0, VALUE),
        lambda: client.pipeline(True).set("p", VALUE).incr("p").execute(),
        lambda: client.execute("CONFIG", "SET", "requirepass", PASSWORD, "x"),
        lambda: client.execute("ACL", "SETUSER", "other", f">{PASSWORD}"),
    ]
    for call in calls:
        with contextlib.suppress(*ERRORS):
            call()
    return tools


@pytest.mark.parametrize("keys", [False, True])
def test_traces(output: Output, guarded_server: Server, keys: bool) -> None:
    """Spans with commands, keys and errors, and the metrics beside them."""
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    meters = MeterProvider([reader], shutdown_on_exit=False)
    port = guarded_server.port
    urls = [
        url_of(port, user="app"),
        url_of(port, "wrong" + PASSWORD, "app"),
        url_of(free_port()),
    ]
    for url in urls:
        client: Any = Client(patient(url))
        instrument(client, tracer_provider=tracers, meter_provider=meters, keys=keys)
        use_every_tool(client)
        output.add("metrics", repr(reader.get_metrics_data()))
        uninstrument(client)
        client.close()
    spans = exporter.get_finished_spans()
    assert len(spans) > 20
    kinds = {str((span.attributes or {}).get("error.type")) for span in spans}
    assert {"WRONGTYPE", "redlane.ConnectionError"} <= kinds
    for span in spans:
        output.add(f"span {span.name}", span.to_json())
    tracers.shutdown()
    meters.shutdown()


def test_prometheus(output: Output, guarded_server: Server) -> None:
    port = guarded_server.port
    for url in (url_of(port, user="app"), url_of(port, "wrong" + PASSWORD, "app")):
        client: Any = Client(patient(url))
        tools = use_every_tool(client)
        registry = CollectorRegistry()
        registry.register(Collector(*tools.values()))
        text = generate_latest(registry).decode()
        assert "redlane_client_connected" in text
        output.add("prometheus", text)
        client.close()


# --- the command line -------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [["stats"], ["keys"], ["invalidate", "--yes", "cache:*"], ["top", "--once"]],
)
def test_the_command_line_of_flask(
    guarded_server: Server, command: list[str], tmp_path: Any
) -> None:
    """On what limits, cooldowns, presence and tenants have stored."""
    url = patient(url_of(guarded_server.port, user="app"))
    with Client(url) as client:
        use_every_tool(client)
    (tmp_path / "canvas_site.py").write_text(
        "import os\n"
        "from flask import Flask\n"
        "from redlane.flask import Redlane\n"
        "app = Flask('site')\n"
        "app.config.update(REDLANE_URL=os.environ['SITE_URL'],\n"
        "                  REDLANE_SEAL=[os.environ['SITE_SEAL']])\n"
        "Redlane(app)\n"
    )
    for form in ([], ["--json"]):
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "flask",
                "--app",
                "canvas_site",
                "redlane",
                *form,
                *command,
            ],
            env={**os.environ, "SITE_URL": url, "SITE_SEAL": SEAL_KEY},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout
        for secret in FORMS:
            assert secret not in done.stdout + done.stderr


# --- configuration ----------------------------------------------------------------

# As somebody would have them who put a secret into the wrong place.
WRONG: list[Any] = [
    PASSWORD,
    f"redis://user:{PASSWORD}@host:port/x",
    [PASSWORD, None],
    {PASSWORD: PASSWORD},
    PASSWORD.encode(),
]
OWN = (
    *("URL", "CLIENT", "PREFIX", "DEFAULT_TTL", "ENABLED", "FALLBACK", "NEAR", "SEAL"),
    *("IGNORE_COOKIES", "OBEY_CLIENT", "GZIP", "IDENTITY_HEADERS", "TRUSTED_HOPS"),
    *("LIMITS", "LIMITS_ENABLED", "LIMIT_HEADERS", "LIMIT_ALGORITHM", "LIMIT_PREFIX"),
    *("LIMIT_ON_ERROR", "PASSWORD"),
)
CACHING = (
    *("REDIS_URL", "REDIS_HOST", "REDIS_PORT", "REDIS_PASSWORD", "REDIS_DB"),
    *("REDIS_SENTINELS", "REDIS_SENTINEL_PASSWORD", "DEFAULT_TIMEOUT", "KEY_PREFIX"),
    *("OPTIONS", "ARGS", "MEMCACHED_PASSWORD", "NO_NULL_WARNING"),
)
LIMITING = (
    *("STORAGE_URI", "STORAGE_OPTIONS", "DEFAULT", "APPLICATION", "ENABLED"),
    *("HEADERS_ENABLED", "KEY_PREFIX", "SWALLOW_ERRORS", "META", "IN_MEMORY_FALLBACK"),
)
CONFIGURED = (
    *(f"REDLANE_{name}" for name in OWN),
    *(f"CACHE_{name}" for name in CACHING),
    *(f"RATELIMIT_{name}" for name in LIMITING),
)


@pytest.fixture
def quiet_output(output: Output) -> Output:
    Client("memory://").get("k")  # the fixture wants something to be logged
    return output


@pytest.mark.parametrize("name", CONFIGURED)
def test_a_secret_in_the_place_of_any_setting(name: str, quiet_output: Output) -> None:
    told = accepted = 0
    for value in WRONG:
        app = Flask("site")
        app.config["SECRET_KEY"] = VALUE
        if name.startswith("CACHE_"):
            app.config["CACHE_TYPE"] = "RedisCache"
        app.config[name] = value
        try:
            lane = Redlane(app)
        except (*ERRORS, RuntimeWarning) as error:
            told += name in str(error)
            quiet_output.add_error(f"{name}={type(value).__name__}", error)
        else:
            accepted += 1
            quiet_output.add(name, repr(lane))
    assert told + accepted == len(WRONG)


@pytest.mark.parametrize(
    "name",
    [
        *("REDIS_URL", "REDIS_ADDR", "REDIS_DB", "REDIS_TLS_CA", "REDIS_TLS_CERT"),
        *("REDIS_TLS_KEY", "UPSTASH_REDIS_REST_URL", "REDLANE_TRUSTED_HOPS"),
    ],
)
def test_a_secret_in_the_place_of_any_variable(
    name: str, quiet_output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    for known in list(os.environ):
        if known.startswith(("REDIS_", "UPSTASH_")):
            monkeypatch.delenv(known)
    monkeypatch.setenv("REDIS_PASSWORD", PASSWORD)
    monkeypatch.setenv("UPSTASH_REDIS_REST_TOKEN", VALUE)
    for value in (
        PASSWORD,
        f"https://user:{PASSWORD}@host",
        f"rediss://:{PASSWORD}@h:p",
    ):
        monkeypatch.setenv(name, value)
        for make in (Client.from_env, lambda: redlane.rate_limit("1/hour")):
            try:
                shown = repr(make())
            except ERRORS as error:
                quiet_output.add_error(f"{name}={value}", error)
            else:
                quiet_output.add(name, shown)


def test_a_token_of_a_server_that_is_not_there(
    quiet_output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.setenv("UPSTASH_REDIS_REST_URL", "http://localhost:1")
    monkeypatch.setenv("UPSTASH_REDIS_REST_TOKEN", VALUE)
    for make in (
        Client.from_env,
        lambda: Client("http://localhost:1", token=VALUE),
        lambda: Client(f"http://localhost:1?token={VALUE}"),
    ):
        with make() as client:
            with pytest.raises(redlane.ConnectionError) as caught:
                client.get("key")
            quiet_output.add_error("a token", caught.value)
            quiet_output.add("a client", f"{client!r} {client.health()}")
