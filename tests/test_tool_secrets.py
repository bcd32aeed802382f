"""The canaries of test_hostile_secrets.py in limits, cooldowns, presence, tenants'
caches, and what the frameworks' parts say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redlane
from fastapi import FastAPI
from flask import Flask
from http_tools import Asgi, Reply, Wsgi
from redlane import Client, Cooldown, Presence, RateLimiter, RedisCache
from redlane.fastapi import (
    RateLimit,
    cached,
    close_redis_client,
    get_redis_client,
    health_router,
    limit,
)
from redlane.flask import Redlane, health_blueprint
from servers import PATIENT, Server, free_port, patient
from test_hostile_secrets import (
    PASSWORD,
    SEAL_KEY,
    VALUE,
    Output,
    guarded_server,
    output,
    url_of,
)

__all__ = ["guarded_server", "output"]  # fixtures

TOKEN = {"Authorization": f"Bearer {VALUE}", "Cookie": f"session={VALUE}"}


def unusable_url(server: Server) -> str:
    return f"redis://:{PASSWORD}@127.0.0.1:{server.port}/nowhere?nosuch={PASSWORD}"


def tool_calls(client: Any, policy: Any, shown: list[object]) -> dict[str, Any]:
    cooldown = Cooldown(client, 60, fallback=policy)
    limiter = RateLimiter(
        client, on_error="memory" if policy == "memory" else "deny", hashed=True
    )
    presence = Presence(client, lease=60, fallback=policy)
    tenants = RedisCache.from_client(client)
    context = tenants.with_context("app", "device")

    @limiter.limit("1/day", key=lambda token: token)
    def guarded(token: str) -> str:
        return token

    def overwritten() -> object:
        limiter.hit("somebody", "5/day")
        for key in client.keys("limit:*"):
            client.set(key, VALUE)
        return limiter.hit("somebody", "5/day")

    def overwritten_presence() -> object:
        client.set(presence.key, VALUE)
        try:
            return presence.members()
        finally:
            client.delete(presence.key)

    shown += [cooldown, cooldown.aio, limiter, limiter.aio, presence, presence.aio]
    shown += [tenants, tenants.aio, context, context.aio, guarded]
    return {
        "cooldown": lambda: (cooldown.acquire("ann"), cooldown.peek("ann")),
        "cooldown of a value": lambda: (
            client.set("cooldown:bob", VALUE),
            cooldown.acquire("bob"),
        ),
        "cooldown, bad id": lambda: cooldown.acquire([VALUE]),
        "hit": lambda: (limiter.hit(VALUE, "5/day"), limiter.peek(VALUE, "5/day")),
        "hit, bad cost": lambda: limiter.hit(VALUE, "5/day", 6),
        "hit, bad identity": lambda: limiter.hit([VALUE], "5/day"),  # type: ignore[arg-type]
        "refused": lambda: [guarded(VALUE) for _ in range(2)],
        "a limit's key overwritten": overwritten,
        "presence": lambda: (presence.join("ann", 1), presence.members()),
        "presence overwritten": overwritten_presence,
        "presence ends": presence.close,
        "tenant": lambda: (context.set("k", VALUE.encode(), 60), context.get("k")),
        "tenant, a text": lambda: context.set("k", VALUE, 60),  # type: ignore[arg-type]
        "tenant, bad ttl": lambda: context.set("k", VALUE.encode(), -1),
        "tenant, wrong type": lambda: (
            client.sadd(context.key("s"), VALUE),
            context.get("s"),
        ),
        "tenant, counted": lambda: (context.stats(), context.flush_device()),
    }


def drive(output: Output, where: str, url: str, **options: Any) -> list[str]:
    """All calls, and what is shown of every tool; the errors by name."""
    names = []
    for policy in ("memory", "raise"):
        client: Any = Client(url, **options)
        shown: list[object] = []
        for name, call in tool_calls(client, policy, shown).items():
            try:
                result = call()
            except redlane.RateLimitExceeded as error:
                # Its frames have the arguments of the call, as those of any function.
                output.add(f"{where}: {name}", f"{error} {error!r} {vars(error)}")
                names.append(type(error).__name__)
            except (redlane.RedlaneError, TypeError, ValueError) as error:
                output.add_error(f"{where}: {name}", error)
                names.append(type(error).__name__)
            else:
                if not name.startswith(("tenant", "refused")):
                    output.add(f"{where}: {name}", repr(result))
        for one in shown:
            output.add(f"{where}: repr", f"{one!r} {one}")
        client.close()
    return names


def test_tools_on_a_server_that_answers(output: Output, guarded_server: Server) -> None:
    url = url_of(guarded_server.port, user="app")
    names = drive(output, "tcp", url, **PATIENT)
    assert {"RateLimitExceeded", "WrongTypeError", "TypeError"} <= set(names)
    # With `hashed` not even the keys tell who asked.
    assert guarded_server.cli("KEYS", "limit:*")
    assert VALUE not in repr(guarded_server.cli("KEYS", "*"))


def test_tools_while_there_is_no_server(output: Output) -> None:
    names = drive(output, "nobody", url_of(free_port()), connect_timeout=5)
    assert "ConnectionError" in names


def test_a_password_of_tenants(output: Output, guarded_server: Server) -> None:
    address = f"127.0.0.1:{guarded_server.port}"
    for password in ("x" + PASSWORD, PASSWORD):
        with RedisCache(address, password, **PATIENT) as tenants:
            context = tenants.with_context("app", "device")
            stored = context.set("k", VALUE.encode(), 60)
            assert stored is (password != PASSWORD)
            assert context.get("k")[1] is stored
            output.add("tenants", f"{tenants!r} {context!r} {context.stats()!r}")
    wrong: list[Callable[[], object]] = [
        lambda: RedisCache(f"{PASSWORD}@{address}", PASSWORD),
        lambda: RedisCache("", PASSWORD),
        lambda: RedisCache(address, PASSWORD, -1),
        lambda: RedisCache(address, PASSWORD, nosuch=SEAL_KEY),
        lambda: RedisCache(5, PASSWORD),  # type: ignore[arg-type]
        lambda: redlane.AsyncRedisCache("no port:x", PASSWORD),
    ]
    for call in wrong:
        with pytest.raises((redlane.ConfigurationError, TypeError)) as caught:
            call()
        output.add_error("a wrong address", caught.value)


def test_a_password_in_the_environment(
    output: Output, guarded_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused() -> None:
        with pytest.raises(redlane.ConfigurationError) as caught:
            Client.from_env()
        output.add_error("the environment", caught.value)

    Client("memory://").get("k")  # the fixture wants something to be logged
    monkeypatch.setenv("REDIS_URL", unusable_url(guarded_server))
    refused()
    monkeypatch.setenv("REDIS_URL", "")
    monkeypatch.setenv("REDIS_ADDR", "host/path")
    monkeypatch.setenv("REDIS_PASSWORD", PASSWORD)
    refused()
    monkeypatch.setenv("REDIS_ADDR", "host:1")
    monkeypatch.setenv("REDIS_TLS_KEY_PASSWORD", PASSWORD)
    refused()


# --- Flask ------------------------------------------------------------------------


def flask_app(url: str, **config: Any) -> tuple[Flask, Redlane]:
    app = Flask("site")
    app.config.update(
        REDLANE_URL=url, REDLANE_SEAL=[SEAL_KEY], SECRET_KEY=VALUE, **config
    )
    lane = Redlane(app)
    app.register_blueprint(health_blueprint())

    @app.get("/value")
    @lane.cached(ttl=60, vary=["Authorization", "Cookie"])
    def value() -> str:
        return VALUE

    @app.get("/failing")
    @lane.cached(ttl=60)
    def failing() -> str:
        raise LookupError("of the view")

    @app.get("/limited")
    @lane.limit("1/day", key=lambda: "somebody")
    def limited() -> str:
        return "x"

    return app, lane


def tell(output: Output, where: str, reply: Reply, body: bool = True) -> None:
    output.add(where, f"{reply.status} {reply.fields}")
    if body:
        output.add(where, reply.text)


def drive_site(output: Output, where: str, site: Any, error: type[Exception]) -> None:
    """What all sees of an application, but for the value that it asks for."""
    for _ in range(2):
        tell(output, where, site(f"/value?token={VALUE}", TOKEN), body=False)
        tell(output, where, site("/value"), body=False)
        tell(output, where, site("/limited", TOKEN))
        for path in ("/health", "/health/deep"):
            tell(output, where, site(path))
    with pytest.raises(error) as caught:
        site("/failing")
    output.add_error(f"{where}: failing", caught.value)


def test_flask(output: Output, guarded_server: Server) -> None:
    for where, url in (
        ("flask", patient(url_of(guarded_server.port, user="app"))),
        ("flask, away", url_of(free_port())),
    ):
        app, lane = flask_app(url, TESTING=True)
        site = Wsgi(app)
        drive_site(output, where, site, LookupError)
        assert site("/limited").status == 429
        with app.app_context():
            output.add(where, f"{lane!r} {lane.cache!r} {lane.cache.stats()!r}")
            output.add(where, repr(lane.cache.client.health()))
            lane.cache.client.close()
    keys = guarded_server.cli("KEYS", "*")
    assert any(b"/value" in key for key in keys), keys
    assert VALUE not in repr(keys)


def test_the_command_of_flask(output: Output, guarded_server: Server) -> None:
    for url in (url_of(guarded_server.port, user="app"), url_of(guarded_server.port)):
        app, _ = flask_app(patient(url))
        done = app.test_cli_runner().invoke(args=["redlane", "doctor"])
        assert str(guarded_server.port) in done.output
        output.add("flask redlane doctor", done.output)


def test_what_is_wrong_in_the_configuration_of_flask(
    output: Output, guarded_server: Server
) -> None:
    Client("memory://").get("k")  # the fixture wants something to be logged
    wrong: list[dict[str, Any]] = [
        {"REDLANE_URL": unusable_url(guarded_server)},
        {"REDLANE_URL": PASSWORD},
        {"REDLANE_SEAL": SEAL_KEY[:9]},
        {"REDLANE_SEAL": [SEAL_KEY, None]},
        {"REDLANE_CLIENT": url_of(guarded_server.port)},
        {"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": unusable_url(guarded_server)},
        {"CACHE_TYPE": "redis", "CACHE_REDIS_HOST": "a b"},
        {"CACHE_OPTIONS": {"password": PASSWORD}},
        {"CACHE_REDIS_SENTINEL_PASSWORD": PASSWORD},
        {"RATELIMIT_STORAGE_URI": unusable_url(guarded_server)},
        {"RATELIMIT_STORAGE_URI": f"user:{PASSWORD}@host"},
        {"RATELIMIT_STORAGE_URI": f"mongodb://user:{PASSWORD}@host"},
        {"RATELIMIT_STORAGE_OPTIONS": {"password": PASSWORD}},
        {"REDLANE_TRUSTED_HOPS": "many"},
    ]
    for config in wrong:
        app = Flask("site")
        app.config.update(SECRET_KEY=VALUE, CACHE_REDIS_PASSWORD=PASSWORD, **config)
        errors = (redlane.ConfigurationError, TypeError, ValueError, RuntimeWarning)
        with pytest.raises(errors) as caught:
            Redlane(app)
        output.add_error(f"configured {[*config]}", caught.value)


# --- FastAPI ----------------------------------------------------------------------


def fastapi_app(client: Any) -> FastAPI:
    app = FastAPI()
    app.include_router(health_router(client))

    @app.get("/value")
    @cached(ttl=60, vary=["Authorization", "Cookie"], client=client)
    async def value() -> str:
        return VALUE

    @app.get("/failing")
    @cached(ttl=60, client=client)
    async def failing() -> str:
        raise LookupError("of the endpoint")

    @app.get("/limited")
    @limit("1/day", key=lambda request: "somebody", client=client)
    async def limited() -> str:
        return "x"

    return app


def test_fastapi(output: Output, guarded_server: Server) -> None:
    for where, url, options in (
        ("fastapi", url_of(guarded_server.port, user="app"), PATIENT),
        ("fastapi, away", url_of(free_port()), {}),
    ):
        client: Any = Client(url, **options)
        site = Asgi(fastapi_app(client))
        drive_site(output, where, site, LookupError)
        assert site("/limited").status == 429
        shown = RateLimit("1/day", client=client)
        output.add(where, f"{shown!r} {client.aio!r} {client.health()!r}")
        site.run(client.aio.close())
        site.close()
    assert VALUE not in repr(guarded_server.cli("KEYS", "*"))


def test_the_client_of_fastapi(
    output: Output, guarded_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", patient(url_of(guarded_server.port, user="app")))

    async def use() -> None:
        client = get_redis_client()
        await client.set("k", VALUE)
        output.add("get_redis_client", f"{client!r} {await client.health()!r}")
        await close_redis_client()

    loop = Asgi(None)
    loop.run(use())
    loop.close()
    monkeypatch.setenv("REDIS_URL", unusable_url(guarded_server))
    with pytest.raises(redlane.ConfigurationError) as caught:
        get_redis_client()
    output.add_error("get_redis_client", caught.value)
