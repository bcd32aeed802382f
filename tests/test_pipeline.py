"""Pipeline: one write, results in order, errors in place."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import pytest
from redlane import (
    Client,
    ConnectionError,
    ExecAbortError,
    Pipeline,
    ReplyError,
    WrongTypeError,
)


def test_results_in_order(client: Client) -> None:
    pipe = client.pipeline()
    assert pipe.set("a", 1) is pipe
    pipe.get("a").incr("a").hset("h", {"f": "v"}).hgetall("h").smembers("missing")
    pipe.zadd("z", {"m": 1.5}).zrange("z", 0, -1, withscores=True).ttl("a").mget([])
    assert len(pipe) == 10
    assert pipe.execute() == [
        True,
        b"1",
        2,
        1,
        {b"f": b"v"},
        set(),
        1,
        [(b"m", 1.5)],
        -1,
        [],
    ]
    assert len(pipe) == 0


def test_an_empty_pipeline(client: Client) -> None:
    assert client.pipeline().execute() == []
    assert client.pipeline(transaction=True).execute() == []
    assert client.pipeline().mget([]).execute() == [[]]
    assert bool(client.pipeline()) is True


def test_it_can_be_used_again(client: Client) -> None:
    pipe = client.pipeline()
    for i in range(3):
        assert pipe.set("k", i).get("k").execute() == [True, str(i).encode()]
    pipe.set("k", "never")
    pipe.reset()
    assert pipe.execute() == []
    assert client.get("k") == b"2"


def test_context_manager(client: Client) -> None:
    with client.pipeline() as pipe:
        pipe.set("k", "v")
        pipe.execute()
        pipe.set("k", "dropped")
    assert len(pipe) == 0
    assert client.get("k") == b"v"


def test_the_first_error_is_raised(client: Client) -> None:
    client.hset("h", "f", "v")
    pipe = client.pipeline().set("a", 1).get("h").incr("a")
    with pytest.raises(
        WrongTypeError, match=r"WRONGTYPE .*\(command 2 of the pipeline, GET\)"
    ):
        pipe.execute()
    assert client.get("a") == b"2"  # all of them ran
    assert len(pipe) == 0


def test_errors_in_place(client: Client) -> None:
    client.hset("h", "f", "v")
    first, error, last = (
        client.pipeline().set("a", 1).get("h").get("a").execute(raise_on_error=False)
    )
    assert (first, last) == (True, b"1")
    assert isinstance(error, WrongTypeError)


def test_transaction(client: Client) -> None:
    pipe = client.pipeline(transaction=True)
    assert pipe.set("k", 1).incr("k").hset("h", "f", "v").hgetall("h").execute() == [
        True,
        2,
        1,
        {b"f": b"v"},
    ]
    client.hset("hash", "f", "v")
    results = (
        client.pipeline(transaction=True)
        .incr("hash")
        .incr("k")
        .execute(raise_on_error=False)
    )
    assert isinstance(results[0], ReplyError)
    assert results[1] == 3


@pytest.mark.parametrize("executor", ["redis"], indirect=True)
def test_a_transaction_that_cannot_be_queued(client: Client) -> None:
    pipe = (
        client.pipeline(transaction=True)
        .set("k", "v")
        .execute_command("NO-SUCH-COMMAND")
    )
    with pytest.raises((ExecAbortError, ReplyError)):
        pipe.execute()
    assert client.get("k") is None
    assert client.ping() is True


def test_arguments_are_checked_when_queued(client: Client) -> None:
    pipe = client.pipeline()
    with pytest.raises(ValueError):
        pipe.set("k", "v", ex=0)
    with pytest.raises(TypeError):
        pipe.get(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Pipeline.get(client, "k")  # type: ignore[call-overload, misc]
    assert len(pipe) == 0


def test_arguments_are_copied(client: Client) -> None:
    value = bytearray(b"before")
    pipe = client.pipeline().set("k", value)
    value[:] = b"after!"
    pipe.execute()
    assert client.get("k") == b"before"


def test_a_large_pipeline(client: Client) -> None:
    pipe = client.pipeline()
    for i in range(5000):
        pipe.set(f"k:{i}", "v" * (i % 200))
        pipe.strlen(f"k:{i}")
    results = pipe.execute()
    assert results[1::2] == [i % 200 for i in range(5000)]


def test_the_client_was_closed() -> None:
    client = Client("memory://")
    pipe = client.pipeline().set("k", "v")
    client.close()
    with pytest.raises(ConnectionError, match="closed"):
        pipe.execute()
    with pytest.raises(ConnectionError, match="closed"):
        client.pipeline()


def test_a_pipeline_keeps_its_client() -> None:
    pipe = Client("memory://").pipeline()
    gc.collect()
    assert pipe.set("k", "v").get("k").execute() == [True, b"v"]


def test_a_cycle_through_a_cast_is_collected() -> None:
    class Cast:
        pipe: Any

        def __call__(self, score: object) -> float:
            return 0.0

    cast = Cast()
    gone = weakref.ref(cast)
    cast.pipe = (
        Client("memory://")
        .pipeline()
        .zrange("z", 0, 1, withscores=True, score_cast_func=cast)
    )
    del cast
    gc.collect()
    assert gone() is None


def test_a_cast_that_uses_its_own_pipeline(client: Client) -> None:
    client.zadd("z", {"m": 1})
    pipe = client.pipeline()

    def cast(score: Any) -> float:
        pipe.set("inner", "v")
        pipe.execute()
        return float(score)

    pipe.zrange("z", 0, -1, withscores=True, score_cast_func=cast)
    assert pipe.execute() == [[(b"m", 1.0)]]
    assert client.get("inner") == b"v"


def test_shared_between_threads_it_stays_sound(client: Client) -> None:
    pipe = client.pipeline()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for i in range(300):
                pipe.set("k", i).get("k")
                for result in pipe.execute():
                    assert result is True or isinstance(result, bytes)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_decoded(executor: str, request: pytest.FixtureRequest) -> None:
    from conftest import make_client

    client = make_client(executor, request, decode_responses=True)
    assert client.pipeline().set("k", "ü").get("k").hset("h", "f", "v").hgetall(
        "h"
    ).execute() == [
        True,
        "ü",
        1,
        {"f": "v"},
    ]
    client.set("bytes", b"\xff")
    good, bad, last = (
        client.pipeline().get("k").get("bytes").get("k").execute(raise_on_error=False)
    )
    assert (good, last) == ("ü", "ü")
    assert isinstance(bad, UnicodeDecodeError)
    client.close()
