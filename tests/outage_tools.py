"""An outage at the turn of a switch: the server keeps what it holds, and answers the
test all the while; the clients behind the switch do not reach it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from proxy import Proxy
from redlane import Client
from servers import Server

BOUND = 60.0  # seconds that a test waits for what must come; far above what it takes


def wait_until(condition: Callable[[], Any], what: str) -> None:
    end = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < end, f"never came: {what}"
        time.sleep(0.005)


def is_well(client: Client[Any]) -> bool:
    """The server is asked, takes writes, and has heard everything."""
    health = client.health()
    journal = health["journal"]
    return (
        health["breaker"] == "closed"
        and health["write_breaker"] == "closed"
        and journal["keys"] == journal["patterns"] == 0
    )


class Switch:
    """Stands between a server and the clients of one process, say."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.proxy = Proxy(server.port)
        self.url = self.proxy.url

    def off(self, *clients: Client[Any]) -> None:
        """Ends all connections, and waits until the clients know."""
        self.proxy.refuse = True
        self.proxy.reset_all()
        for client in clients:
            wait_until(lambda c=client: c.health()["breaker"] == "open", "the outage")

    def on(self, *clients: Client[Any]) -> None:
        """Lets them through again, and waits until each has told what it kept."""
        self.proxy.refuse = False
        for client in clients:
            wait_until(lambda c=client: is_well(c), "the return")


@contextmanager
def switched(server: Server) -> Iterator[Switch]:
    switch = Switch(server)
    try:
        yield switch
    finally:
        switch.proxy.close()


def messages(records: list[logging.LogRecord], part: str) -> list[str]:
    """The lines of the library's log that contain `part`."""
    return [
        record.getMessage()
        for record in records
        if record.name == "redlane" and part in record.getMessage()
    ]
