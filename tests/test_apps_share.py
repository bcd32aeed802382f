"""The two programs of docs/fastapi-and-flask.md, served by gunicorn and uvicorn over
one Redis: what one has computed is a hit in the other, and what one ends or counts
holds in every worker of both, also when Redis was away."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from aio import KINDS
from children import started
from outage_tools import Switch
from servers import PORTS, free_port, patient

PAGE = Path(__file__).resolve().parent.parent / "docs" / "fastapi-and-flask.md"
WORKERS = 2
SECONDS = 60.0

# What the test asks besides, and who answered. `stock` is shared by its own name and
# that of its module.
FLASK = """
import os, time
from flask_shop import app, cache, client, price

@cache(ttl="5m")
def stock(item):
    return {"item": item, "by": os.getpid(), "at": time.time()}

@app.get("/stock/<item>")
def show_stock(item):
    return stock(item)

@app.get("/state")
def state():
    return {"near_hits": price.cache_info().near_hits, **client.health()}

@app.after_request
def name_worker(response):
    response.headers["Worker"] = str(os.getpid())
    return response
"""
FASTAPI = """
import asyncio, os, time
from fastapi_shop import app, cache, client, price

@cache(ttl="5m")
async def stock(item: str):
    await asyncio.sleep(0)
    return {"item": item, "by": os.getpid(), "at": time.time()}

@app.get("/stock/{item}")
async def show_stock(item: str):
    return await stock(item)

@app.get("/loop")
async def name_loop():
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]

@app.get("/state")
async def state():
    health = await client.aio.health()
    return {"near_hits": price.cache_info().near_hits, **health}

class NameWorker:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def named(message):
            if message["type"] == "http.response.start":
                message["headers"].append((b"worker", str(os.getpid()).encode()))
            await send(message)

        await self.app(scope, receive, named)

app.add_middleware(NameWorker)
"""
COMPLAINTS = (
    *("Traceback", "ERROR", "CRITICAL", "Task was destroyed", "never retrieved"),
    *("Event loop is closed", "was never awaited", "Exception ignored"),
)

T = TypeVar("T")


def until(condition: Callable[[], T], what: str) -> T:
    end = time.monotonic() + SECONDS
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"never came: {what}"
        time.sleep(0.01)


class Site:
    """An application with its workers."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.port = port

    def ask(self, method: str, path: str) -> tuple[int, Any]:
        """Which worker answered, and what."""
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        try:
            link.request(method, path)
            answer = link.getresponse()
            body = answer.read()
            assert answer.status == 200, (answer.status, body)
            return int(answer.headers["Worker"]), json.loads(body)
        finally:
            link.close()

    def get(self, path: str) -> Any:
        return self.ask("GET", path)[1]

    def get_from_all(self, path: str) -> dict[int, Any]:
        """What each worker answers; several are asked at once, so that each has to."""
        answers: dict[int, Any] = {}

        def all_have_answered() -> bool:
            with ThreadPoolExecutor(6) as pool:
                answers.update(pool.map(lambda _: self.ask("GET", path), range(6)))
            return len(answers) == WORKERS

        until(all_have_answered, f"an answer of each worker of {self.name}")
        return answers


def program_of(name: str) -> str:
    text = PAGE.read_text(encoding="utf-8")
    head = f"<!-- program: {name} -->\n```python\n"
    found = re.search(rf"^{re.escape(head)}(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found, f"{PAGE.name} has no {name}"
    return found[1]


@contextmanager
def serving(
    name: str, server: list[Any], more: str, url: str, folder: Path
) -> Iterator[Site]:
    """The page's program, until it is told to end, as a service is."""
    home = folder / name
    home.mkdir()
    (home / f"{name}_shop.py").write_text(program_of(f"{name}_shop.py"))
    (home / "served.py").write_text(more)
    port = free_port()
    site = Site(name, port)
    command = [sys.executable, "-m", *server]
    command = [str(word).replace("PORT", str(port)) for word in command]
    log = home / "log"
    environment = {**os.environ, "REDIS_URL": url, "PYTHONPATH": str(home)}
    try:
        with log.open("w") as output:
            with started(
                command, env=environment, cwd=home, stdout=output, stderr=output
            ) as master:

                def is_there() -> bool:
                    assert master.poll() is None, log.read_text()
                    try:
                        return bool(site.get("/state"))
                    except OSError:
                        return False

                until(is_there, f"the start of {name}")
                try:
                    yield site
                except BaseException:
                    print(log.read_text()[-4000:])
                    raise
                master.send_signal(signal.SIGTERM)
                master.wait(SECONDS)
                assert master.returncode in (0, -signal.SIGTERM), log.read_text()
    finally:
        PORTS.release(port)
    # An outage is said in one line at this level.
    text = re.sub(r".*Redis operation failed.*\n", "", log.read_text())
    for complaint in COMPLAINTS:
        assert complaint not in text, text


@pytest.fixture(params=list(KINDS))
def sites(
    request: pytest.FixtureRequest, switch: Switch, tmp_path: Path
) -> Iterator[list[Site]]:
    """Flask and FastAPI, the latter on each kind of loop in turn."""
    url = patient(switch.url)
    gunicorn = ["gunicorn", "--no-control-socket", "--workers", WORKERS, "--threads", 8]
    gunicorn += ["--worker-class", "gthread", "--bind", "127.0.0.1:PORT", "served:app"]
    uvicorn = ["uvicorn", "--workers", WORKERS, "--loop", request.param]
    uvicorn += ["--port", "PORT", "--log-level", "warning", "served:app"]
    with ExitStack() as stack:
        flask = stack.enter_context(serving("flask", gunicorn, FLASK, url, tmp_path))
        fastapi = stack.enter_context(
            serving("fastapi", uvicorn, FASTAPI, url, tmp_path)
        )
        assert fastapi.get("/loop") == request.param
        yield [flask, fastapi]


def stamps(sites: list[Site], path: str) -> set[float]:
    """When the values that all workers of all sites give were computed."""
    return {
        answer["at"] for site in sites for answer in site.get_from_all(path).values()
    }


def until_near(sites: list[Site], path: str) -> None:
    """Until each worker has given what it holds itself."""
    before = {s.name: s.get_from_all("/state") for s in sites}

    def all_near() -> bool:
        for site in sites:
            site.get_from_all(path)
            for worker, state in site.get_from_all("/state").items():
                if state["near_hits"] <= before[site.name][worker]["near_hits"]:
                    return False
        return True

    until(all_near, "near hits of each worker")


def until_ended(sites: list[Site], path: str, old: set[float]) -> float:
    """Until no worker gives one of those values; the time of the one that all share."""

    def one_new() -> set[float] | None:
        found = stamps(sites, path)
        return found if len(found) == 1 and not found & old else None

    (stamp,) = until(one_new, "one new value for all")
    return stamp


def share_values(first: Site, second: Site) -> None:
    """What one has computed, the other finds; by key, and by name and module."""
    for kind in ("price", "stock"):
        path = f"/{kind}/made-by-{first.name}"
        value = first.get(path)
        for site in (second, first):
            assert all(got == value for got in site.get_from_all(path).values())


def end_values(first: Site, second: Site) -> None:
    """By key, tag and pattern: nobody has it any more."""
    sites = [first, second]
    for way in ("/price/tea", "/tags/item:tea", "/prices"):
        until_near(sites, "/price/tea")
        old = stamps(sites, "/price/tea")
        assert len(old) == 1
        _, answer = first.ask("DELETE", way)
        assert answer["ended"] >= 1
        new = until_ended(sites, "/price/tea", old)
        assert new > max(old)


def count_together(sites: list[Site]) -> None:
    with ThreadPoolExecutor(6) as pool:
        told = list(
            pool.map(
                lambda n: sites[n % 2].ask("POST", "/sold/tea")[1]["sold"], range(30)
            )
        )
    assert sorted(told) == list(range(1, 31))
    for site in sites:
        until(
            lambda s=site: all(
                answer["sold"] == 30 for answer in s.get_from_all("/sold/tea").values()
            ),
            "the count",
        )


def is_well(state: Any) -> bool:
    journal = state["journal"]
    return state["mode"] == "redis" and not journal["keys"] + journal["patterns"]


def survive_an_outage(first: Site, second: Site, switch: Switch) -> None:
    sites = [first, second]
    for item in ("/price/tea", "/price/milk"):
        until_near(sites, item)
    old_milk = stamps(sites, "/price/milk")
    switch.off()
    for site in sites:
        until(
            lambda s=site: all(
                state["mode"] == "away" or not state["connected"]
                for state in s.get_from_all("/state").values()
            ),
            "the outage",
        )
    meanwhile = stamps(sites, "/price/tea")
    first.ask("DELETE", "/price/milk")
    for _ in range(5):
        second.ask("POST", "/sold/tea")
    switch.on()
    for site in sites:
        until(
            lambda s=site: all(map(is_well, s.get_from_all("/state").values())),
            "the return",
        )
    until_ended(sites, "/price/milk", old_milk)
    until_ended(sites, "/price/tea", meanwhile)
    for site in sites:
        until(
            lambda s=site: all(
                answer["sold"] == 35 for answer in s.get_from_all("/sold/tea").values()
            ),
            "the count",
        )


def test_flask_and_fastapi_share(sites: list[Site], switch: Switch) -> None:
    flask, fastapi = sites
    share_values(flask, fastapi)
    share_values(fastapi, flask)
    end_values(flask, fastapi)
    end_values(fastapi, flask)
    count_together(sites)
    survive_an_outage(flask, fastapi, switch)
