"""The proxy's own promises, where a fault of it would look like one of the library."""

from __future__ import annotations

import socket
import threading
import time

from proxy import Proxy, abort
from servers import Server, encode_command
from toolset import wait_until


class Busy(Proxy):
    """One that gets to run only when it is let."""

    def __init__(self, target: int) -> None:
        self.go = threading.Event()
        super().__init__(target)

    def _connect(self) -> socket.socket:
        assert self.go.wait(30)
        return super()._connect()


def test_what_was_given_up_does_not_arrive_later(redis_server: Server) -> None:
    with Busy(redis_server.port) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port)) as patient:
            hasty = socket.create_connection(("127.0.0.1", proxy.port))
            hasty.sendall(encode_command("SET", "late", 1))
            abort(hasty)
            hasty.close()
            patient.sendall(encode_command("SET", "kept", 1))
            time.sleep(0.05)
            proxy.go.set()
            wait_until(lambda: redis_server.cli("EXISTS", "kept"), "the other's")
        wait_until(lambda: proxy.connections == 2, "both connections")
        wait_until(lambda: not proxy._pairs[1].running, "the end of the other")
    assert redis_server.cli("EXISTS", "late") == 0
