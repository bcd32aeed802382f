"""How each client is made, the same way in every row that talks to the server."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from benchmarks.harness import OURS, Bench, Lineup, Measure, Role
from benchmarks.server import HOST

REDIS_PY = "redis-py + hiredis"
GLIDE = "valkey-glide-sync"
C_LOOP = "hiredis C loop"
VALUE = b"x" * 100


def redlane_client(bench: Bench, stack: ExitStack, url: str | None = None) -> Any:
    from redlane import Client

    # A time-out that a busy machine cannot hit; the deadline is computed either way.
    client = Client(url or bench.server.url, timeout=5)
    stack.callback(client.close)
    return client


def redis_py_client(bench: Bench, stack: ExitStack) -> Any:
    import hiredis  # noqa: F401  redis-py is the peer with its C parser, not without
    import redis

    client = redis.Redis(host=HOST, port=bench.server.port)
    stack.callback(client.close)
    return client


def redlane_tls_client(bench: Bench, stack: ExitStack) -> Any:
    from redlane import Client

    client = Client(bench.tls_server.tls_url, tls_ca=bench.tls_server.ca, timeout=5)
    stack.callback(client.close)
    return client


def redis_py_tls_client(bench: Bench, stack: ExitStack) -> Any:
    import hiredis  # noqa: F401
    import redis

    server = bench.tls_server
    client = redis.Redis(
        host=HOST, port=server.tls_port, ssl=True, ssl_ca_certs=str(server.ca)
    )
    stack.callback(client.close)
    return client


def glide_client(bench: Bench, stack: ExitStack) -> Any:
    from glide_sync import GlideClient, GlideClientConfiguration, NodeAddress

    client = GlideClient.create(
        GlideClientConfiguration(
            [NodeAddress(HOST, bench.server.port)], request_timeout=5000
        )
    )
    stack.callback(client.close)
    return client


def floor_connection(bench: Bench, stack: ExitStack) -> int:
    context = bench.floor.connect(HOST, bench.server.port)
    stack.callback(bench.floor.close, context)
    return context


CLIENTS: dict[str, tuple[Role, Callable[[Bench, ExitStack], Any]]] = {
    OURS: ("ours", redlane_client),
    REDIS_PY: ("peer", redis_py_client),
    GLIDE: ("peer", glide_client),
}
# hiredis' own TLS is not compiled in: there is no C loop beside these.
CLIENTS_OVER_TLS: dict[str, tuple[Role, Callable[[Bench, ExitStack], Any]]] = {
    OURS: ("ours", redlane_tls_client),
    REDIS_PY: ("peer", redis_py_tls_client),
}


def enter(
    lineup: Lineup,
    bench: Bench,
    stack: ExitStack,
    names: tuple[str, ...],
    measure: Callable[[Any], Measure],
    over_tls: bool = False,
) -> None:
    """Adds the named clients; `measure` is given each, connected to the server."""
    known = CLIENTS_OVER_TLS if over_tls else CLIENTS

    def build(make: Callable[[Bench, ExitStack], Any]) -> Measure:
        return measure(make(bench, stack))

    for name in names:
        role, make = known[name]
        lineup.add(name, role, partial(build, make))
