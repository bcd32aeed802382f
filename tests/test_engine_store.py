"""The memory engine as a store: Python objects, re-entry, fork, and what it leaves."""

from __future__ import annotations

import gc
import os
import threading
from typing import Any

import pytest
import redlane
from toolset import growth_of_blocks


@pytest.fixture
def engine() -> Any:
    client = redlane.Client("memory://")
    yield client
    client.close()


def test_every_kind_of_reply(engine: Any) -> None:
    assert engine.execute("SET", "key", "value") == b"OK"
    assert engine.execute("GET", "key") == b"value"
    assert engine.execute("GET", "missing") is None
    assert engine.execute("STRLEN", "key") == 5
    assert engine.execute("MGET", "key", "missing") == [b"value", None]
    with pytest.raises(redlane.WrongTypeError):
        engine.execute("HGET", "key", "field")
    with pytest.raises(redlane.ReplyError, match=r"^ERR unknown command 'LPUSH'$"):
        engine.execute("LPUSH", "list", "secret")


@pytest.mark.parametrize("text", ["", "plain", "é", "日本" * 1000, "a" * 9 + "ü"])
def test_decoding(text: str) -> None:
    with redlane.Client("memory://", decode_responses=True) as client:
        client.set("key", text)
        assert client.get("key") == text
        assert client.mget("key", "missing") == [text, None]
        assert client.execute("PING") == "PONG"


def test_what_is_not_utf8_spoils_only_its_own_reply() -> None:
    with redlane.Client("memory://", decode_responses=True) as client:
        client.set("bad", b"\xff\xfe")
        client.set("good", "text")
        with pytest.raises(UnicodeDecodeError):
            client.get("bad")
        with pytest.raises(UnicodeDecodeError):
            client.mget("good", "bad")
        assert client.get("good") == "text"
        pipeline = client.pipeline()
        pipeline.get("bad")
        pipeline.get("good")
        replies = pipeline.execute(raise_on_error=False)
        assert isinstance(replies[0], UnicodeDecodeError)
        assert replies[1] == "text"


def test_a_finaliser_may_use_the_engine_while_a_reply_is_made(engine: Any) -> None:
    """A long list is made; the collector runs meanwhile and calls the same engine."""
    done = []

    class Cyclic:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            done.append(engine.execute("HGETALL", "hash"))

    names = [f"k{i}" for i in range(3000)]
    engine.mset({name: name for name in names})
    engine.hset("hash", "field", "value")
    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(20):
            Cyclic()
            assert engine.mget(names) == [name.encode() for name in names]
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    assert done == [[b"field", b"value"]] * 20


def test_threads_count_exactly(engine: Any) -> None:
    def count() -> None:
        for _ in range(2000):
            engine.incr("n")
            engine.hincrby("hash", "n", 1)

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert engine.get("n") == b"16000"
    assert engine.hget("hash", "n") == b"16000"


def test_a_forked_child_has_a_copy_of_its_own(engine: Any) -> None:
    engine.set("key", "parent")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            engine.set("key", "child")
            code = 0 if engine.get("key") == b"child" else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert engine.get("key") == b"parent"


def test_a_fork_while_threads_write(engine: Any) -> None:
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            engine.set("key", b"v" * 1000)

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        codes = []
        for _ in range(20):
            child = os.fork()
            if child == 0:
                os._exit(0 if len(engine.get("key") or b"v" * 1000) == 1000 else 1)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert codes == [0] * 20


def test_nothing_is_left_behind(engine: Any) -> None:
    def work() -> None:
        engine.set("key", "value", ex=100)
        engine.get("key")
        engine.get("missing")
        engine.mget("key", "missing")
        engine.zadd("zset", {"a": 1, "b": 2})
        engine.execute("ZRANGE", "zset", 0, -1, "WITHSCORES")
        for wrong in (("HGET", "key", "f"), ("GET",), ("NOSUCH",)):
            with pytest.raises(redlane.ReplyError):
                engine.execute(*wrong)
        with engine.pipeline(transaction=True) as pipeline:
            pipeline.get("key")
            pipeline.hget("key", "f")
            pipeline.execute(raise_on_error=False)

    for _ in range(50):
        work()
    grown = growth_of_blocks(work, 50)
    assert grown[-1] < 50, grown
