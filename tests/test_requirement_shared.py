"""What all five applications share, a test to a line of docs/requirements.md."""

from __future__ import annotations

import importlib
import json
import logging
import math
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redlane
import requirement_tools
from cli_tools import environment
from outage_tools import is_well, wait_until
from redlane import (
    Cache,
    Concurrency,
    ConfigurationError,
    Cooldown,
    Counter,
    Presence,
    PubSub,
    RateLimiter,
    RedisCache,
    VideoCache,
    _config,
)
from redlane._cli import main
from requirement_tools import Stage, only
from servers import Server, patient
from test_docs import DOCS, ROOT
from tls import TlsServer

stage = requirement_tools.stage

VALUE = "canary-value"


def tools(client: Any) -> dict[str, Callable[[str], Any]]:
    """What each tool answers, to who asks for the first time."""
    cache = Cache(client, ttl=60)
    counter = Counter(client, "count:{id}", ttl=60, source=lambda id: 7)
    limiter, slots = RateLimiter(client), Concurrency(client, limit=1, lease=30)
    cooldown, videos = Cooldown(client, 60), VideoCache(client)
    presence = Presence(client)

    def cached(key: str) -> list[Any]:
        return [cache.set(key, [1]), cache.get(key), cache.delete(key), cache.get(key)]

    def counted(key: str) -> list[Any]:
        return [counter.get(key), counter.increment(key), counter.get(key)]

    def limited(key: str) -> list[Any]:
        return [limiter.hit(key, "2/hour").allowed for _ in range(3)]

    def held(key: str) -> list[Any]:
        with slots.acquire(key) as slot:
            return [bool(slot), bool(slots.acquire(key))]

    def cooled(key: str) -> list[Any]:
        return [cooldown.acquire(key).ready, cooldown.acquire(key).ready]

    def shown(key: str) -> list[Any]:
        return [presence.join(key, 1), presence.online(key), presence.leave(key, 1)]

    def filmed(key: str) -> list[Any]:
        return [videos.set(key, [key], "url"), videos.get(key, [key])]

    return {
        "cache": cached,
        "counter": counted,
        "limit": limited,
        "slots": held,
        "cooldown": cooled,
        "presence": shown,
        "videos": filmed,
    }


ANSWERS = {
    "cache": [True, [1], True, None],
    "counter": [7, 8, 8],
    "limit": [True, True, False],
    "slots": [True, False],
    "cooldown": [True, False],
    "presence": [True, True, True],
    "videos": [True, "url"],
}


def clients(stage: Stage, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Over each connection that there is."""
    yield stage.client()
    if stage.way != "server":
        return
    assert stage.server is not None
    encrypted: TlsServer = request.getfixturevalue("tls_server")
    for url in (stage.server.unix_url, encrypted.url):
        with redlane.Client(patient(url)) as client:
            yield client


def test_one_library(stage: Stage, request: pytest.FixtureRequest) -> None:
    for number, client in enumerate(clients(stage, request)):
        use_all(stage, client, str(number))


def use_all(stage: Stage, client: Any, name: str) -> None:
    asked = tools(client)
    heard: list[Any] = []
    events = PubSub(client)
    with events.start(["news"], lambda *news: heard.append(news)):
        for phase in stage.phases(client):
            key = f"{phase}-{name}"
            assert {tool: ask(key) for tool, ask in asked.items()} == ANSWERS
            tenant = RedisCache.from_client(client).with_context("app", "device")
            assert tenant.set(key, b"v", 60) is (phase != "away")
            wait_until(lambda: events.publish("news", [1]), "the subscription")
            wait_until(lambda: ("news", [1]) in heard, "the message")
            del heard[:]
            if phase != "away":
                assert client.set(key, VALUE) is True
                assert client.get(key) == VALUE.encode()
                assert client.pipeline().incr("n").delete("n").execute() == [1, 1]


# What an outage is there: the engine has none.
@only("rest", "outage")
def test_outages(stage: Stage) -> None:
    with stage.switch() as switch:
        client: Any = redlane.Client(switch.url)
        cache, asked = Cache(client, ttl=600), tools(client)
        cache.set("kept", "before")
        cache.set("changed", "before")
        cache.set("deleted", "before")
        switch.off(client)
        with pytest.raises(redlane.ConnectionError):
            client.get("k")  # raw
        assert {name: ask("away") for name, ask in asked.items()} == ANSWERS
        cache.set("changed", "meanwhile")
        cache.delete("deleted")
        assert (cache.get("changed"), cache.get("deleted")) == ("meanwhile", None)
        switch.on(client)
        # The server still had what was stale.
        assert cache.get("changed") in (None, "meanwhile")
        assert (cache.get("deleted"), cache.get("kept")) == (None, "before")
        assert client.set("k", "v") is True
        client.close()
    check_time_of(stage)


def check_time_of(stage: Stage) -> None:
    """A server that says nothing: fifty reads wait about once, not fifty times."""
    assert stage.server is not None
    url = stage.url.partition("?")[0]
    token = {"token": stage.gateway.token} if stage.gateway else {}
    client: Any = redlane.Client(url, timeout=0.25, connect_timeout=0.25, **token)
    cache = Cache(client, ttl=600, near=False)
    Cache(stage.client()).set("k", 1)
    wait_until(lambda: is_well(client) and cache.get("k") == 1, "the server")
    if stage.gateway is not None:
        stage.gateway.delay = 2.0
    else:
        stage.server.pause()
    try:
        begin = time.monotonic()
        for _ in range(50):
            cache.get("k")
        assert time.monotonic() - begin < 50 * 0.25 / 2
    finally:
        if stage.gateway is not None:
            stage.gateway.delay = 0.0
        stage.server.resume()
    wait_until(lambda: is_well(client) and cache.get("k") == 1, "the return")
    client.close()


def test_log_lines(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    code = f"import redlane; redlane.Client().set('key', {VALUE!r})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment({"REDIS_URL": stage.url, "DEBUG": "true"}),
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stderr.splitlines()
    if stage.way == "rest":
        assert lines[:2] == [
            "DEBUG - Initializing Upstash Redis client",
            f"DEBUG - Redis client initialized with URL: {stage.rest_url}",
        ]
        del lines[:2]
    assert [bool(re.fullmatch(r"DEBUG - SET 'key' .*\bms", x)) for x in lines] == [True]

    caplog.set_level(logging.DEBUG, "redlane")
    client = stage.client()
    failed = []
    for phase in stage.phases(client):
        caplog.clear()
        for command in (client.set, client.append):
            try:
                command("key", VALUE)
            except redlane.ConnectionError as error:
                failed.append(str(error))
        if phase != "away":
            said = [record.getMessage() for record in caplog.records]
            for name in ("SET", "APPEND"):
                assert [x for x in said if re.fullmatch(rf"{name} 'key' .*\bms", x)]
        told = [(r.levelname, r.name) for r in caplog.records if is_failure(r)]
        assert told == [("ERROR", "redlane")] * len(told)
        assert VALUE not in caplog.text
        assert "canary" not in caplog.text
    assert len(failed) == (2 if stage.way == "outage" else 0)


def is_failure(record: logging.LogRecord) -> bool:
    return record.getMessage().startswith("Redis operation failed: ")


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what a test is yet to set: empty is unset."""
    for name in requirement_tools.VARIABLES:
        monkeypatch.setenv(name, "")


# It says which server there is, not what becomes of it.
@only("server", "engine", "rest")
def test_environment(
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    forget(monkeypatch)
    monkeypatch.setattr(_config, "_warned", set())
    assert redlane.Client().url == "redis://localhost:6379"
    names = {"server": "REDIS_URL", "engine": "REDIS_URL"}
    name = names.get(stage.way, "UPSTASH_REDIS_REST_URL")
    monkeypatch.setenv(name, stage.url if stage.way != "rest" else stage.rest_url)
    if stage.gateway is not None:
        monkeypatch.setenv("UPSTASH_REDIS_REST_TOKEN", stage.gateway.token)
    monkeypatch.setenv("REDIS_DB", "7")
    # No file is read.
    (tmp_path / ".env").write_text("REDIS_URL=redis://127.0.0.1:1/0\n")
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        with redlane.Client(**requirement_tools.PATIENT) as client:
            assert client.set("k", "v") is True
            if stage.way == "server":
                assert b" db=0 " in client.execute("CLIENT", "INFO")
    said = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert said == (
        ["REDIS_URL names database 0 and REDIS_DB 7: the URL's is used"]
        if stage.way == "server"
        else []
    )
    check_examples(monkeypatch, tmp_path / ".env")
    for bad, value in ((name, f"{VALUE} none"), ("REDIS_DB", f"-{VALUE}")):
        forget(monkeypatch)
        monkeypatch.setenv("UPSTASH_REDIS_REST_TOKEN", "token")
        monkeypatch.setenv(bad, value)
        if bad == "REDIS_DB":
            monkeypatch.setenv("UPSTASH_REDIS_REST_TOKEN", "")
        with pytest.raises(ConfigurationError, match=rf"^{bad}: ") as caught:
            redlane.Client()
        assert VALUE not in str(caught.value)


def check_examples(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    """Each has its file, and an example of it."""
    places = {
        "mural.settings": "mural",
        "matrx.settings": "matrx",
        "krowoc.settings": "krowoc",
        "videocache.app.settings": "videocache",
        "ludo.app.config": "ludo",
    }
    examples = ROOT / "examples"
    assert {p.parent.name for p in examples.glob("*/.env.example")} == {
        *places.values()
    }
    for module, folder in places.items():
        forget(monkeypatch)
        settings: Any = importlib.import_module(module)
        wanted = examples / folder / ".env"
        if hasattr(settings, "dotenv_values"):
            asked: list[Path] = []
            read = settings.dotenv_values

            def note(path: Path, asked: Any = asked, read: Any = read) -> Any:
                asked.append(path)
                return read(file)

            with monkeypatch.context() as patch:
                patch.setattr(settings, "dotenv_values", note)
                settings.Settings.from_env()
            assert asked == [wanted], module
            url = redlane.Client.from_env().url
        else:
            assert settings.Settings.model_config["env_file"] == wanted
            url = settings.Settings(_env_file=file).redis_url
        assert url == "redis://127.0.0.1:1/0", module
    forget(monkeypatch)


def doctor(capsys: pytest.CaptureFixture[str], url: str) -> tuple[int, Any]:
    code = main(["doctor", "--json", "--url", url])
    return code, json.loads(capsys.readouterr().out)


PAGES = {
    "running-redis.md": ("redis-server --port", "docker", "brew", "Upstash", "WSL"),
    "watching.md": ("INFO", "DBSIZE", "TTL", "MONITOR", "near"),
    "troubleshooting.md": ("maxmemory", "allkeys-lru", "permanent videos"),
}


def test_docs(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """The pages are there, and `doctor` tells what they speak of."""
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page, words in PAGES.items():
        assert f": {page}\n" in nav
        text = (DOCS / page).read_text(encoding="utf-8").casefold()
        assert [word for word in words if word.casefold() not in text] == []
    for phase in stage.phases(stage.client()):
        code, report = doctor(capsys, stage.url)
        texts = [finding["text"] for finding in report["findings"]]
        if phase == "away":
            assert (code, report["connected"]) == (1, False)
            assert any("refused" in text for text in texts)
            continue
        assert (code, report["ok"]) == (0, True)
        if stage.way == "engine":
            assert report["uses"] == "embedded memory engine"
            continue
        assert report["maxmemory"] == 0
        assert report["maxmemory_policy"] == "noeviction"
        assert report["evicted_keys"] == 0
        assert 0 < report["latency_ms"]["median"] <= report["latency_ms"]["max"]
    if stage.way == "outage":
        check_what_doctor_warns_of(stage, capsys)
    if stage.gateway is not None:
        stage.gateway.delay = 0.015
        _, report = doctor(capsys, stage.url)
        (slow,) = [f for f in report["findings"] if "over 10 ms" in f["text"]]
        assert slow["level"] == "warning"


def check_what_doctor_warns_of(stage: Stage, capsys: Any) -> None:
    assert stage.server is not None
    stage.server.cli("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    stage.server.cli("CONFIG", "SET", "maxmemory", "3mb")
    for n in range(100):
        stage.server.cli("SET", f"k{n}", bytes(100_000))
    _, report = doctor(capsys, stage.url)
    assert report["maxmemory"] == 3 << 20
    assert report["evicted_keys"] > 0
    texts = [f["text"] for f in report["findings"] if f["level"] == "warning"]
    assert any("allkeys-lru may evict permanent videos" in text for text in texts)
    assert any("were evicted" in text for text in texts)


def test_deviations(stage: Stage) -> None:
    client = stage.client()
    cache = Cache(client)
    tenant = RedisCache.from_client(client).with_context("app", "device")
    truth = {"ann": 0}
    counter = Counter(client, "count:{id}", ttl=60, source=lambda id: truth[id])
    limiter = RateLimiter(client, "fixed-window", prefix="ratelimit")
    for phase in stage.phases(client):
        # What is no TTL is an error.
        for bad in (0, -1, math.nan, 10**20):
            for refused in (
                lambda bad=bad: cache.set("k", 1, ttl=bad),
                lambda bad=bad: tenant.set("k", b"v", bad),
                lambda bad=bad: cache(ttl=bad)(len),
                lambda bad=bad: Counter(client, "n:{id}", ttl=bad),
            ):
                with pytest.raises(ValueError, match=r"(?i)ttl|expir"):
                    refused()
        # No key of a limit is without a TTL, and no more pass than may.
        user = f"user-{phase}"
        with ThreadPoolExecutor(4) as pool:
            hits = [pool.submit(limiter.hit, user, "10/hour") for _ in range(20)]
        allowed = [future.result().allowed for future in hits]
        assert allowed.count(True) in (10, 20)  # 20: an hour began meanwhile
        # A counter is what is counted, whoever counts at once.
        counter.get("ann")
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: counter.increment("ann"), range(20)))
        truth["ann"] += 20
        assert counter.get("ann") == truth["ann"]
        if phase != "away":
            keys = [*client.scan_iter("ratelimit:*"), *client.scan_iter("count:*")]
            assert len(keys) >= 2
            assert all(0 < client.ttl(key) <= 2 * 3600 for key in keys)
    # A server that is not installed fails the tests: none is left out for it.
    with pytest.raises(RuntimeError, match="need the server program"):
        Server(binary="redis-server-that-is-not-there")
