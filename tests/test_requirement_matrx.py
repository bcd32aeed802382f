"""What the renderer for many tenants asks for, a test to a line of the page
docs/requirements.md."""

from __future__ import annotations

import json
import logging
import timeit
from pathlib import Path
from typing import Any

import pytest
import redlane
import requirement_tools
from matrx import app as matrx_app
from matrx.settings import Settings
from redlane import InMemoryCache, NoOpCache, RedisCache, RuntimeCache
from redlane.starlark import Processor
from requirement_tools import PATIENT, Stage, only
from servers import PASSWORD, Server

stage = requirement_tools.stage

CANARY = "canary-value"
APP = """
load("cache.star", "cache")
load("source.star", "fetch")

def main():
    found = cache.get("data")
    if found == None:
        found = fetch()
        cache.set("data", found, ttl_seconds = 60)
        cache.set("twice", found)
        cache.set("never", found, ttl_seconds = -1)
    return {"data": found, "never": cache.get("never")}
"""
VALUES = {"text": "é", "n": 7, "x": 2.5, "list": [1, [2, "b"], None], "d": {"k": True}}


def test_instance(stage: Stage) -> None:
    client = stage.client()
    shared = RedisCache.from_client(client)
    contexts = [shared.with_context("app", f"device{n}") for n in range(100)]
    assert all(context.cache is shared for context in contexts)
    make = lambda: shared.with_context("app", "device")  # noqa: E731
    # Under a microsecond where nothing else runs; a connection costs a hundred.
    assert min(timeit.repeat(make, number=100, repeat=20)) / 100 < 20e-6
    for phase in stage.phases(client):
        assert contexts[0].set("k", b"v", 60) is (phase != "away")
        if stage.server is not None and phase != "away" and not stage.gateway:
            # This one, and those of other tests on the same server: none for each.
            others = stage.server.cli("CLIENT", "LIST").count(b"\n")
            assert [c.get("k")[1] for c in contexts] == [True] + [False] * 99
            assert stage.server.cli("CLIENT", "LIST").count(b"\n") <= others
    shared.close()
    assert client.exists("/app/device0/k") == 1  # the client is whose it was
    if stage.way == "server":
        assert stage.server is not None
        own = RedisCache(f"127.0.0.1:{stage.server.port}", "", 0, **PATIENT)
        assert own.with_context("app", "device0").get("k") == (b"v", True)
        own.close()
        with pytest.raises(redlane.RedlaneError, match="closed"):
            own.client.ping()


def test_keys(stage: Stage) -> None:
    client = stage.client()
    shared = RedisCache.from_client(client)
    cache = shared.with_context("stocks", "device456")
    for phase in stage.phases(client):
        stored = cache.set("portfolio/AAPL", b"5", 60)
        assert cache.get("portfolio_AAPL") == (
            (b"5", True) if stored else (None, False)
        )
        if phase != "away":
            assert stored
            assert client.get("/stocks/device456/portfolio_AAPL") == b"5"
            # What is a pattern's in an id is itself.
            shared.with_context("stock?", "*").set("k", b"6", 60)
            assert shared.with_context("stock?", "*").flush_device() == 1
            assert cache.get("portfolio/AAPL") == (b"5", True)
        for bad in ("", "a/b"):
            with pytest.raises(ValueError, match="id"):
                shared.with_context(bad, "device")
            with pytest.raises(ValueError, match="id"):
                shared.with_context("app", bad)


def test_operations(stage: Stage) -> None:
    client = stage.client()
    shared = RedisCache.from_client(client)
    one = shared.with_context("clock", "d*")
    two = shared.with_context("stocks", "d*")
    other = shared.with_context("clock", "dx")
    for phase in stage.phases(client):
        for cache in (one, two, other):
            cache.set("k", b"\0\xff", 600)
        if phase == "away":
            assert one.get("k") == (None, False)
            assert one.stats() is None
            assert (one.flush_app(), one.flush_device()) == (0, 0)
            continue
        assert one.get("k") == (b"\0\xff", True)
        assert 0 < client.ttl("/clock/d*/k") <= 600
        assert one.get("none") == (None, False)
        assert one.stats() == 1
        assert one.flush_app() == 1
        assert (one.stats(), two.stats(), other.stats()) == (0, 1, 1)
        one.set("k", b"again", 600)
        assert one.flush_device() == 2
        assert (two.stats(), other.stats()) == (0, 1)


def test_one_interface(stage: Stage) -> None:
    def render(cache: RuntimeCache) -> bytes:
        found, hit = cache.get("picture")
        if hit and found is not None:
            return found
        cache.set("picture", b"drawn", 60)
        return b"drawn"

    client = stage.client()
    contextual = RedisCache.from_client(client).with_context("app", "device")
    for _ in stage.phases(client):
        for cache in (contextual, InMemoryCache(), NoOpCache()):
            assert isinstance(cache, RuntimeCache)
            assert [render(cache) for _ in range(2)] == [b"drawn"] * 2


# An address is of a server that is connected to.
@only("server", "outage")
def test_configuration(
    stage: Stage, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stage.server is not None
    server: Server = stage.server
    if stage.way == "server":
        server = request.getfixturevalue("password_server")
        monkeypatch.setenv("REDIS_PASSWORD", PASSWORD)
    monkeypatch.setenv("REDIS_ADDR", f"127.0.0.1:{server.port}")
    monkeypatch.setenv("REDIS_DB", "3")
    with RedisCache(**PATIENT) as shared:
        cache = shared.with_context("app", "device")
        for phase in stage.phases(shared.client):
            assert cache.set("k", b"v", 60) is (phase != "away")
        assert b" db=3 " in shared.client.execute("CLIENT", "INFO")
        assert PASSWORD not in repr(shared)
        # The example reads the same ones.
        assert Settings.from_env().redis_url is None
        assert redlane.Client.from_env().url == shared.client.url


# The policy of its client makes no difference, and what a server hears later is seen
# on one that keeps its data.
@only("rest", "outage")
def test_failure(stage: Stage) -> None:
    for policy in ("raise", "memory", "none"):
        with stage.switch() as switch:
            client: Any = redlane.Client(switch.url, fallback=policy)
            cache = RedisCache.from_client(client).with_context("app", "device")
            assert cache.set("k", b"before", 600) is True
            switch.off(client)
            assert cache.set("k2", b"meanwhile", 600) is False
            assert (cache.get("k"), cache.stats()) == ((None, False), None)
            assert (cache.flush_app(), cache.flush_device()) == (0, 0)
            for bad in (0, -1, float("nan"), 10**20):
                with pytest.raises(ValueError, match=r"(?i)ttl|expir"):
                    cache.set("k", b"v", bad)
            switch.on(client)
            assert (cache.get("k"), cache.stats()) == ((None, False), 0)
            client.close()


def test_security(
    stage: Stage, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    client = stage.client()
    shared = RedisCache.from_client(client)
    said: list[str] = []
    for _ in stage.phases(client):
        cache = shared.with_context("app", "device")
        cache.set("key", CANARY.encode(), 60)
        cache.get("key")
        with pytest.raises(ValueError) as caught:
            cache.set("key", CANARY.encode(), -1)
        said += [str(caught.value), repr(cache), repr(shared), repr(cache.aio)]
        said += [repr(client), client.url, repr(client.health()), repr(cache.stats())]
        cache.flush_device()
    if stage.way == "server":
        closed: Server = request.getfixturevalue("password_server")
        for password in (PASSWORD, "canary-wrong"):
            address = f"127.0.0.1:{closed.port}"
            with RedisCache(address, password, 0, **PATIENT) as other:
                other.with_context("app", "device").get("key")
                said += [repr(other), other.client.url, repr(other.client.health())]
    said += [record.getMessage() for record in caplog.records]
    assert len(said) >= 8
    assert [text for text in said if "canary" in text] == []


def test_starlark(
    stage: Stage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One file on every cache, and the example's own apps."""
    path = tmp_path / "app.star"
    path.write_text(APP)
    asked: list[int] = []

    def fetch() -> dict[str, Any]:
        asked.append(1)
        return VALUES

    client = stage.client()
    shared = RedisCache.from_client(client)
    processor = Processor(shared, modules={"source.star": {"fetch": fetch}})
    context = shared.with_context("app", "device")
    for phase in stage.phases(client):
        for cache in (context, InMemoryCache(), NoOpCache()):
            keeps = not isinstance(cache, NoOpCache)
            if cache is context:
                keeps = phase != "away"
            del asked[:]
            for _ in range(2):
                found = processor.render_app_with_cache(path, cache)
                assert found == {"data": VALUES, "never": None}
            assert len(asked) == (1 if keeps else 2), (phase, cache)
            if keeps:
                assert json.loads(cache.get("data")[0] or b"") == VALUES
        if phase != "away":
            assert 0 < client.ttl("/app/device/data") <= 60 < 200
            assert 200 < client.ttl("/app/device/twice") <= 300
            assert client.exists("/app/device/never") == 0
    assert [r for r in caplog.records if "TTL" in r.getMessage().upper()]
    sources = matrx_app.Sources(0).modules()
    for app_id, source in matrx_app.APPS.items():
        pictured = shared.with_context(app_id, "kitchen")
        drawn = [
            matrx_app.draw(
                Processor(shared, modules=sources).render_app_with_cache(
                    source, pictured
                )
            ).png()
            for _ in range(2)
        ]
        assert all(image.startswith(b"\x89PNG") for image in drawn)
        assert pictured.stats() != 0
