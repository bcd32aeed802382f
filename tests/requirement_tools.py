"""Where a requirement is tried: on a server, on the engine, and on a server that is
killed and comes back empty."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redlane
from conftest import make_client
from outage_tools import is_well, wait_until
from servers import PATIENT, Server

STAGES = ("redis", "engine", "outage")


class Stage:
    """`for phase in stage.phases():` runs its body on "up", and where the server dies
    on "away" and "back", too."""

    def __init__(self, client: Any, server: Server | None) -> None:
        self.client = client
        self.server = server  # the one that is killed

    def phases(self) -> Iterator[str]:
        yield "up"
        if self.server is None:
            return
        self.server.kill()
        wait_until(lambda: self.client.health()["breaker"] == "open", "the outage")
        yield "away"
        self.server.start()
        wait_until(lambda: is_well(self.client), "the return")
        yield "back"


@contextmanager
def staged(request: pytest.FixtureRequest, **options: Any) -> Iterator[Stage]:
    """The stage that the parameter of a fixture names; it is the default client's."""
    server: Server | None = None
    if request.param == "outage":
        server = request.getfixturevalue("fresh_server")
        client: Any = redlane.Client(server.url, **{**PATIENT, **options})
    else:
        client = make_client(request.param, request, **options)
    redlane.configure(client)
    try:
        yield Stage(client, server)
    finally:
        redlane.close_default_client()
        client.close()
