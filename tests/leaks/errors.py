"""Every error type: raised in C, kept, chained and dropped."""

from __future__ import annotations

import contextlib
import gc
import logging
import pickle
import socket
from collections.abc import Iterator
from typing import Any

import redlane
from measure import Once, main
from redlane import Cache, Client, RedlaneError

TYPES = [
    made
    for made in vars(redlane._core).values()
    if isinstance(made, type) and issubclass(made, RedlaneError)
]
WORDS = """\
ERR WRONGTYPE NOAUTH WRONGPASS NOPERM READONLY OOM BUSY NOSCRIPT EXECABORT MISCONF
NOREPLICAS CLUSTERDOWN MASTERDOWN LOADING XYZ"""


def cases(url: str) -> Iterator[tuple[str, Once]]:
    logging.disable()  # each outage is a line
    with socket.create_server(("127.0.0.1", 0)) as quiet:
        yield from cases_beside(url, quiet.getsockname()[1])


def cases_beside(url: str, quiet: int) -> Iterator[tuple[str, Once]]:
    client = Client(url, timeout=10)
    client.flushdb()
    client.sadd("set", 1)
    cache = Cache(client)
    closed = Client(url)
    closed.close()

    yield "WrongTypeError", lambda: caught(lambda: client.get("set"))
    yield "ReplyError", lambda: caught(lambda: client.execute("NOSUCH"))
    yield "ConfigurationError", lambda: caught(lambda: Client("nonsense://host"))
    yield "SerializationError", lambda: caught(lambda: cache.set("key", object()))
    yield "closed", lambda: caught(lambda: closed.get("key"))
    yield "TimeoutError", lambda: caught(lambda: late(quiet))
    yield "in a cycle", lambda: cycle(client)
    yield "chained", lambda: chained(client)
    for made in TYPES:
        yield f"{made.__name__} of Python's", lambda made=made: by_hand(made)
    if not url.startswith("memory:"):
        for word in WORDS.split():
            yield f"{word} from the server", lambda word=word: answered(url, word)


def caught(call: Once) -> RedlaneError:
    try:
        call()
    except RedlaneError as error:
        return error
    raise AssertionError("no error")


def late(port: int) -> None:
    with Client(f"redis://127.0.0.1:{port}", timeout=0.001) as client:
        client.get("key")


def cycle(client: Client[Any]) -> None:
    error = caught(lambda: client.get("set"))
    error.itself = error  # type: ignore[attr-defined]
    del error
    gc.collect(0)


def chained(client: Client[Any]) -> None:
    with contextlib.suppress(LookupError):
        try:
            client.get("set")
        except RedlaneError as error:
            raise LookupError from error


def by_hand(made: type[RedlaneError]) -> None:
    with contextlib.suppress(RedlaneError):
        raise made("words")
    assert str(pickle.loads(pickle.dumps(made("words")))) == "words"

    class Own(made):  # type: ignore[misc, valid-type]
        pass

    Own("words")
    # A class that lived on until the end would grow its base's table of subclasses.
    del Own
    gc.collect(0)


def answered(url: str, word: str) -> None:
    with Client(url, timeout=10) as client:
        script = f"return redis.error_reply('{word} words')"
        caught(lambda: client.eval(script, 0))


if __name__ == "__main__":
    main([*TYPES, Client], cases)
