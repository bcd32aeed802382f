"""Pipeline: filled, run, reset, dropped half-way, and with errors inside."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from measure import Once, main
from redlane import Client, Pipeline, RedlaneError


def cases(url: str) -> Iterator[tuple[str, Once]]:
    client = Client(url, timeout=10)
    client.flushdb()
    client.set("text", "a value")
    yield "dropped", lambda: client.pipeline().get("key").set("key", "value")
    yield "empty", lambda: client.pipeline().execute()
    yield "run", lambda: run(client, transaction=False)
    yield "transaction", lambda: run(client, transaction=True)
    yield "error inside", lambda: failing(client, transaction=False)
    yield "error inside a transaction", lambda: failing(client, transaction=True)
    yield "bad argument", lambda: misused(client)
    yield "reset", lambda: client.pipeline().get("a").reset()


def run(client: Client, transaction: bool) -> None:
    with client.pipeline(transaction=transaction) as pipeline:
        pipeline.set("a", "value").get("a").hset("h", mapping={"x": 1}).hgetall("h")
        for number in range(20):
            pipeline.incrby("n", number)
        assert pipeline.execute()[1] == b"value"
    client.delete("a", "h", "n")


def failing(client: Client, transaction: bool) -> None:
    pipeline = client.pipeline(transaction=transaction).get("text").incr("text")
    with contextlib.suppress(RedlaneError):
        pipeline.execute()
    pipeline.get("text").incr("text").get("text")
    with contextlib.suppress(RedlaneError, TypeError):
        pipeline.execute(raise_on_error=False)


def misused(client: Client) -> None:
    pipeline = client.pipeline()
    with contextlib.suppress(TypeError, RedlaneError):
        pipeline.set("key", object())
    with contextlib.suppress(TypeError, RedlaneError):
        pipeline.get()


if __name__ == "__main__":
    main([Client, Pipeline], cases)
