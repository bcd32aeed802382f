"""Where a requirement is tried, which is what the columns of docs/requirements.md say:

    server   Redis, or each server of REDLANE_TEST_SERVERS
    engine   the one in the process
    rest     Upstash's protocol, through a gateway to that server
    outage   that server is killed, and comes back empty

A test module takes the fixture with `stage = requirement_tools.stage`. A test that has
no meaning somewhere says where it has one: `@only("server", "outage")`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import redlane
from conftest import make_client
from outage_tools import BOUND, Switch, is_well, switched, wait_until
from redlane import AsyncClient, Client, _limit
from servers import PATIENT, Server, patient
from upstash_gateway import Gateway

WAYS = ("server", "engine", "rest", "outage")
# What the machine's own environment says of servers is not the test's affair.
VARIABLES = (
    *("REDIS_URL", "REDIS_ADDR", "REDIS_PASSWORD", "REDIS_DB", "DEBUG"),
    *("UPSTASH_REDIS_REST_URL", "UPSTASH_REDIS_REST_TOKEN", "WEB_CONCURRENCY"),
)
REFUSALS = 100_000  # more than anybody asks for during an outage


def only(*ways: str) -> pytest.MarkDecorator:
    assert set(ways) < set(WAYS)
    return pytest.mark.parametrize("stage", ways, indirect=True)


class Stage:
    """`for phase in stage.phases(client):` runs its body on "up" and, where the server
    dies, on "away" and "back", too, once the clients know."""

    def __init__(
        self, way: str, url: str, server: Server | None, gateway: Gateway | None
    ) -> None:
        self.way = way
        self.url = url  # all that a client needs to know
        self.server = server  # None: there is none
        self.gateway = gateway
        self.ends = ExitStack()

    @property
    def rest_url(self) -> str:
        assert self.gateway is not None
        return self.gateway.url

    def client(self, **options: Any) -> Any:
        made: Client[Any] = Client(self.url, **options)
        self.ends.callback(made.close)
        return made

    def default(self, **options: Any) -> Any:
        """The default client."""
        made = self.client(**options)
        redlane.configure(made)
        return made

    def phases(self, *clients: Client[Any]) -> Iterator[str]:
        assert clients
        yield "up"
        if self.way != "outage":
            return
        assert self.server is not None
        self.server.kill()
        for client in clients:
            wait_until(lambda c=client: c.health()["breaker"] == "open", "the outage")
        yield "away"
        self.server.start()
        for client in clients:
            wait_until(lambda c=client: is_well(c), "the return")
        yield "back"

    async def turns(self, client: AsyncClient[Any]) -> AsyncIterator[str]:
        """The phases of a client that is awaited."""

        async def until(state: str) -> None:
            async def look() -> None:
                while (await client.health())["breaker"] != state:
                    await asyncio.sleep(0.005)

            await asyncio.wait_for(look(), BOUND)

        yield "up"
        if self.way != "outage":
            return
        assert self.server is not None
        self.server.kill()
        await until("open")
        yield "away"
        self.server.start()
        await until("closed")
        yield "back"

    @contextmanager
    def switch(self) -> Iterator[Switch | GatewaySwitch]:
        """An outage of a server that keeps its data, and answers the test meanwhile."""
        assert self.server is not None
        if self.gateway is not None:
            yield GatewaySwitch(self.server, self.gateway, self.url)
        else:
            with switched(self.server) as made:
                made.url = patient(made.url)
                yield made


class GatewaySwitch:
    """A Switch, on REST."""

    def __init__(self, server: Server, gateway: Gateway, url: str) -> None:
        self.server = server
        self.url = url
        self._gateway = gateway

    def off(self, *clients: Client[Any]) -> None:
        self._gateway.refuse(503, "the database is not available", REFUSALS)
        for client in clients:
            wait_until(lambda c=client: c.health()["breaker"] == "open", "the outage")

    def on(self, *clients: Client[Any]) -> None:
        self._gateway.refusals.clear()
        for client in clients:
            wait_until(lambda c=client: is_well(c), "the return")


def take_stage(way: str, request: pytest.FixtureRequest) -> Stage:
    if way == "engine":
        make_client("engine", request).close()  # without a key
        return Stage(way, "memory://", None, None)
    if way == "outage":
        server: Server = request.getfixturevalue("fresh_server")
        return Stage(way, server.patient_url, server, None)
    server = request.getfixturevalue("redis_server")
    if way == "server":
        return Stage(way, server.patient_url, server, None)
    gateway: Gateway = request.getfixturevalue("rest")
    url = patient(f"{gateway.url}?token={gateway.token}")
    return Stage(way, url, server, gateway)


@pytest.fixture(params=WAYS)
def stage(
    server_binary: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Stage]:
    """Each way in turn, in an environment that names no server."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(_limit, "_default", None)
    redlane.close_default_client()
    made = take_stage(request.param, request)
    with made.ends:
        yield made
    redlane.close_default_client()
    if made.gateway is not None:
        made.gateway.be_kind()


__all__ = ["PATIENT", "VARIABLES", "WAYS", "Stage", "only", "stage"]
