"""redlane.metrics and the board: what they show is what happened, and no secret."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

import pytest
import redlane
from outage_tools import wait_until
from prometheus_client import CollectorRegistry, generate_latest
from redlane import Cache, Client, RateLimiter
from redlane._metrics import METRICS, address_of
from redlane.metrics import Collector
from servers import ACL_PASSWORD, ACL_USER, PATIENT, Server, free_port, patient

BOARD = Path(redlane.__file__).parent / "grafana.json"
PAGE = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"


def registry_of(*tools: Any, **options: Any) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(Collector(*tools, **options))
    return registry


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    found = registry.get_sample_value(name, labels)
    assert found is None or isinstance(found, float)
    return found


def test_a_cache_is_counted(client: Client[Any]) -> None:
    cache = Cache(client, prefix="c", near=False)
    registry = registry_of(cache)
    names = ("hits", "near_hits", "misses", "sets", "deletes", "errors", "corrupted")

    def counts() -> list[float | None]:
        return [value(registry, f"redlane_cache_{n}_total", cache="c") for n in names]

    assert counts() == [0] * len(names)
    cache.set("k", "value")
    assert cache.get("k") == "value"
    assert cache.get("k") == "value"
    assert cache.get("other") is None
    cache.delete("k")
    client.set("c:bad", b"\xff\xfe{")
    assert cache.get("bad") is None
    assert counts() == [2, 0, 2, 1, 1, 0, 1]
    written = value(registry, "redlane_cache_written_bytes_total", cache="c")
    assert written == len('"value"')
    # What stats() says, which also asks the server what answers.
    stats = cache.stats()
    assert [stats[name] for name in names] == counts()


def test_a_limiter_is_counted(client: Client[Any]) -> None:
    limiter = RateLimiter(client, prefix="l")
    registry = registry_of(limiter)
    for _ in range(5):
        limiter.hit("ann", "3/hour")
    limiter.peek("ann", "3/hour")
    limiter.refund("ann", "3/hour")
    for decision, expected in (("allowed", 3), ("refused", 2)):
        found = value(
            registry, "redlane_limiter_hits_total", limiter="l", decision=decision
        )
        assert found == expected
    embedded = client.health()["mode"] == "memory"
    remembered = value(registry, "redlane_limiter_remembered_total", limiter="l")
    assert remembered == (0 if embedded else 1)
    assert value(registry, "redlane_limiter_away_total", limiter="l") == 0
    assert value(registry, "redlane_limiter_errors_total", limiter="l") == 0


def test_a_limiter_without_its_server(fresh_server: Server) -> None:
    client = Client(fresh_server.url, timeout=0.5)
    deny = RateLimiter(client, prefix="d", on_error="deny")
    engine = RateLimiter(client, prefix="e")
    fresh_server.kill()
    wait_until(lambda: client.health()["breaker"] == "open", "the verdict")
    assert not deny.hit("ann", "3/hour").allowed
    assert engine.hit("ann", "3/hour").allowed
    assert deny.stats() | {"remembered": 0} == {
        "ahead": 0,
        "allowed": 0,
        "refused": 1,
        "remembered": 0,
        "away": 1,
        "errors": 0,
    }
    assert engine.stats()["away"] == engine.stats()["allowed"] == 1
    client.close()
    with pytest.raises(redlane.ConnectionError):
        engine.hit("ann", "3/hour")
    assert engine.stats()["errors"] == 1


def test_a_client_through_an_outage(fresh_server: Server) -> None:
    client = Client(fresh_server.url, timeout=1)
    registry = registry_of(api=client)

    def mode() -> str:
        (found,) = [
            sample.labels["mode"]
            for family in registry.collect()
            for sample in family.samples
            if sample.name == "redlane_client_mode" and sample.value == 1
        ]
        return found

    def connected() -> float | None:
        return value(registry, "redlane_client_connected", client="api")

    wait_until(lambda: connected() == 1, "the server")
    assert mode() == "redis"
    assert (value(registry, "redlane_server_used_memory_bytes", client="api") or 0) > 0
    fresh_server.kill()
    wait_until(lambda: mode() == "away", "the verdict")
    assert connected() == 0
    assert value(registry, "redlane_breaker_state", client="api", state="open") == 1
    assert value(registry, "redlane_server_latency_seconds", client="api") is None
    fresh_server.start()
    wait_until(lambda: mode() == "redis", "the return")
    client.close()
    assert mode() == "closed"


def test_only_a_scrape_that_asks_meets_the_server(redis_server: Server) -> None:
    client = Client(redis_server.url, **PATIENT)
    silent = registry_of(client, ask=False)
    asking = registry_of(client)
    redis_server.cli("CONFIG", "RESETSTAT")
    silent_text = generate_latest(silent).decode()
    assert b"cmdstat_ping" not in redis_server.cli("INFO", "commandstats")
    assert "redlane_server" not in silent_text
    assert "redlane_pool_size" in silent_text
    assert "redlane_server_latency_seconds{" in generate_latest(asking).decode()
    assert b"cmdstat_ping:calls=1," in redis_server.cli("INFO", "commandstats")
    client.close()


def test_registering_asks_nobody() -> None:
    client = Client("redis://127.0.0.1:1")
    registry_of(client)
    assert client._report()["breaker"] == "closed"  # nobody has noticed
    client.close()


def test_names(redis_url: str) -> None:
    client = Client("memory://")
    collector = Collector(client, Cache(client), users=Cache(client))
    collector.add(RateLimiter(client), "login")
    registry = CollectorRegistry()
    registry.register(collector)
    assert value(registry, "redlane_cache_hits_total", cache="cache") == 0
    assert value(registry, "redlane_cache_hits_total", cache="users") == 0
    assert value(registry, "redlane_limiter_errors_total", limiter="login") == 0
    assert value(registry, "redlane_engine_keys", client="memory") == 0
    with pytest.raises(ValueError, match="a cache named 'users' already"):
        collector.add(Cache(client), "users")
    with pytest.raises(ValueError, match="a client named 'memory' already"):
        collector.add(client.aio)
    with pytest.raises(TypeError, match="not int"):
        collector.add(7)  # type: ignore[arg-type]
    awaited = registry_of(client.aio, Cache(client).aio, RateLimiter(client).aio)
    assert value(awaited, "redlane_cache_hits_total", cache="cache") == 0
    assert value(awaited, "redlane_limiter_errors_total", limiter="limit") == 0
    assert value(awaited, "redlane_client_connected", client="memory") == 0


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (
            "redis://us%40er:pa%3Ass@host.example:6380/3?timeout=5",
            "host.example:6380/3",
        ),
        ("redis://:secret@host", "host:6379/0"),
        ("rediss://[::1]:7000/2", "[::1]:7000/2"),
        ("redis://[2001:db8::1]", "[2001:db8::1]:6379/0"),
        ("unix:///run/redis.sock?db=4", "/run/redis.sock"),
        ("memory://", "memory"),
    ],
)
def test_addresses(url: str, shown: str) -> None:
    client = Client(url)
    assert str(address_of(client)) == str(address_of(client.aio)) == shown
    client.close()


# --- the board --------------------------------------------------------------------


@pytest.fixture
def samples(redis_server: Server) -> dict[str, set[str]]:
    """The samples of a process that has used everything: names, with their labels."""
    client = Client(redis_server.url, decode_responses=True, **PATIENT)
    embedded = Client("memory://")
    cache, limiter = Cache(client), RateLimiter(client)
    cache.set("k", 1)
    cache.get("k")
    limiter.hit("ann", "1/hour")
    registry = registry_of(client, embedded, cache, limiter)
    found: dict[str, set[str]] = {}
    with client.subscribe("news"):
        for family in registry.collect():
            for sample in family.samples:
                found.setdefault(sample.name, set()).update(sample.labels)
    client.close()
    embedded.close()
    return found


def test_every_metric_has_its_value(samples: dict[str, set[str]]) -> None:
    count = sum(len(metrics) for metrics in METRICS.values())
    assert len(samples) == count > 50
    for name in samples:
        assert re.fullmatch(r"redlane_[a-z_]+", name)


def board() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(BOARD.read_text(encoding="utf-8"))
    return found


def expressions() -> list[str]:
    return [
        target["expr"]
        for panel in board()["panels"]
        for target in panel.get("targets", [])
    ]


def test_the_board_shows_what_there_is(samples: dict[str, set[str]]) -> None:
    assert len(expressions()) > 40
    shown: set[str] = set()
    for expression in expressions():
        names = set(re.findall(r"\bredlane_\w+", expression))
        assert names, expression
        assert names <= set(samples), expression
        shown |= names
        labels = set(re.findall(r'(\w+)=~?"', expression))
        for group in re.findall(r"by \(([^)]*)\)", expression):
            labels |= {label.strip() for label in group.split(",")}
        for name in names:
            assert labels <= samples[name] | {"instance"}, expression
        # Counters are shown as rates, and nothing else is.
        for name in names:
            rated = re.search(rf"(rate|increase)\({name}\{{", expression) is not None
            assert rated == name.endswith("_total"), expression
    hidden = set(samples) - shown
    assert hidden == {
        "redlane_client_connected",
        "redlane_engine_keys",
        "redlane_engine_evictions_total",
        "redlane_engine_expired_total",
        "redlane_pubsub_topics",
        "redlane_pubsub_queued_size_bytes",
    }


def test_the_board_is_one_that_grafana_takes() -> None:
    made = board()
    assert made["uid"] == "redlane"
    assert made["schemaVersion"] >= 36
    ids = [panel["id"] for panel in made["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in made["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not taken & cells, panel["title"]
        taken |= cells
    used = set(re.findall(r"\$\{?(\w+)\}?", json.dumps(made["panels"])))
    variables = {variable["name"] for variable in made["templating"]["list"]}
    assert used - {"__rate_interval"} == variables


# --- workers ----------------------------------------------------------------------


def documented_programs() -> tuple[str, str]:
    """The application of the page, and its gunicorn.conf.py."""
    text = PAGE.read_text(encoding="utf-8")
    programs = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return programs[0], programs[1]


def scrape(port: int) -> str:
    """What a worker shows; "" where none listens."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            return str(answer.read().decode())
    except (OSError, HTTPException):
        return ""


def test_each_worker_has_a_port_of_its_own(
    redis_server: Server, tmp_path: Path
) -> None:
    # In this order: its own port must not be among those of the workers.
    port, first = free_port(), free_port()
    application, configuration = documented_programs()
    (tmp_path / "app.py").write_text(application)
    (tmp_path / "gunicorn.conf.py").write_text(
        configuration.replace("9101", str(first))
    )
    kept = {k: v for k, v in os.environ.items() if not k.startswith("REDIS_")}
    with subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "-b", f"127.0.0.1:{port}", "app:app"],
        cwd=tmp_path,
        env={**kept, "REDIS_URL": redis_server.patient_url},
    ) as gunicorn:
        try:
            ports = range(first, first + 4)
            found: dict[int, str] = {}

            def are_all_up() -> bool:
                shown = {p: scrape(p) for p in ports}
                found.update({p: s for p, s in shown.items() if "redlane_" in s})
                return len(found) >= 2

            wait_until(are_all_up, "two workers")
            assert len(found) == 2
            with urlopen(f"http://127.0.0.1:{port}/square/7", timeout=30) as answer:
                assert answer.read() == b"49"
            sets = [
                float(line.split()[-1])
                for p in found
                for line in scrape(p).splitlines()
                if line.startswith("redlane_cache_misses_total{")
            ]
            assert sorted(sets) == [0, 1]  # the one that took it
        finally:
            gunicorn.terminate()


# --- secrets ----------------------------------------------------------------------


def test_no_secret_is_shown(password_server: Server) -> None:
    login = f"{quote(ACL_USER, safe='')}:{quote(ACL_PASSWORD, safe='')}"
    client = Client(patient(f"redis://{login}@127.0.0.1:{password_server.port}/0"))
    refused = Client(patient(f"redis://:canary-wrong@127.0.0.1:{password_server.port}"))
    cache, limiter = Cache(client, near=False), RateLimiter(client)
    cache.set("canary-key", "canary-value")
    cache.get("canary-key")
    limiter.hit("canary-user", "1/hour")
    with pytest.raises(redlane.RedlaneError):
        refused.get("canary-key")
    registry = registry_of(client, cache, limiter, refused=refused)
    text = generate_latest(registry).decode()
    assert 'redlane_client_connected{client="refused"} 0.0' in text
    for secret in ("canary", ACL_PASSWORD, quote(ACL_PASSWORD, safe=""), ACL_USER):
        assert secret not in text
        assert secret not in BOARD.read_text(encoding="utf-8")
    client.close()
    refused.close()
