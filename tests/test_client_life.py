"""Client objects: made, used, closed, collected, subclassed, shared."""

from __future__ import annotations

import contextlib
import gc
import inspect
import os
import pickle
import threading
import weakref
from typing import Any

import pytest
from redlane import Client, ConnectionError, Pipeline, RedlaneError, TimeoutError
from toolset import growth_of_blocks


def test_it_connects_on_first_use() -> None:
    client = Client("redis://127.0.0.1:1")  # nothing listens there
    assert client.closed is False
    with pytest.raises(ConnectionError):
        client.ping()


def test_close(client: Client) -> None:
    client.set("k", "v")
    pipe = client.pipeline()
    client.close()
    client.close()
    assert client.closed is True
    for use in (
        lambda: client.get("k"),
        lambda: client.execute("PING"),
        lambda: client.mget([]),
        lambda: client.pipeline(),
        lambda: next(client.scan_iter()),
        pipe.execute,
    ):
        with pytest.raises(ConnectionError, match="the client is closed"):
            use()
    assert client.health()["mode"] == "closed"
    assert "redlane.Client" in repr(client)


def test_context_manager() -> None:
    with Client("memory://") as client:
        client.set("k", "v")
    assert client.closed
    with pytest.raises(ZeroDivisionError), Client("memory://"):
        raise ZeroDivisionError


def test_bad_arguments_are_reported_before_closedness() -> None:
    client = Client("memory://")
    client.close()
    with pytest.raises(ValueError):
        client.set("k", "v", ex=0)


def test_weak_references_and_collection() -> None:
    client = Client("memory://")
    gone = weakref.ref(client)
    client.scan_iter()
    client.pipeline().get("k")
    del client
    gc.collect()
    assert gone() is None


def test_a_cycle_through_a_subclass() -> None:
    class Mine(Client[bytes]):
        me: Any

    client = Mine("memory://")
    client.me = client
    gone = weakref.ref(client)
    del client
    gc.collect()
    assert gone() is None


def test_subclass() -> None:
    class Mine(Client[bytes]):
        def __init__(self, prefix: str) -> None:
            super().__init__("memory://")
            self.prefix = prefix

        def get(self, name: Any) -> Any:
            return super().get(self.prefix + name)

    client = Mine("p:")
    client.set("p:k", "v")
    assert client.get("k") == b"v"
    assert isinstance(client.pipeline(), Pipeline)
    assert list(client.scan_iter()) == [b"p:k"]


def test_a_subclass_that_forgets_init() -> None:
    class Mine(Client[bytes]):
        def __init__(self) -> None:
            pass

    client = Mine()
    for use in (client.ping, client.pipeline, client.health):
        with pytest.raises(ConnectionError, match="__init__"):
            use()
    client.close()
    assert client.closed is False
    assert "not open" in repr(client)


def test_init_is_called_once() -> None:
    client = Client("memory://")
    client.set("k", "v")
    with pytest.raises(TypeError):
        client.__init__("memory://")  # type: ignore[misc]
    assert client.get("k") == b"v"


def test_a_client_is_not_pickled() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(Client("memory://"))


def test_types_cannot_be_made_by_hand() -> None:
    for type_ in (Pipeline, type(Client.get), type(Client("memory://").scan_iter())):
        with pytest.raises(TypeError):
            type_()


def test_methods_are_ordinary_methods() -> None:
    method = Client.get
    assert method.__name__ == "get"
    assert method.__qualname__ == "Client.get"
    assert method.__module__ == "redlane"
    assert Pipeline.get.__qualname__ == "Pipeline.get"
    assert str(inspect.signature(Client("memory://").get)) == "(name)"
    assert repr(method) == "<method 'get' of 'redlane.Client' objects>"
    assert inspect.isroutine(method)
    bound = Client("memory://").get
    assert bound("k") is None
    assert bound.__self__.ping()


def test_method_outlives_its_client() -> None:
    get = Client("memory://").get
    gc.collect()
    assert get("k") is None


def test_errors_are_also_the_builtin_ones() -> None:
    import builtins

    assert issubclass(ConnectionError, builtins.ConnectionError)
    assert issubclass(TimeoutError, builtins.TimeoutError)
    assert issubclass(ConnectionError, RedlaneError)
    assert ConnectionError.__module__ == "redlane"


def test_threads_share_a_client(client: Client) -> None:
    def work() -> None:
        for i in range(200):
            client.incr("n")
            name = f"{threading.get_ident()}:{i}"
            client.set(name, name)
            assert client.get(name) == name.encode()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.get("n") == b"1600"


def test_fork(client: Client) -> None:
    client.set("k", "v")
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if client.get("k") == b"v" else 1)
        finally:
            os._exit(2)
    assert client.get("k") == b"v"
    _, status = os.waitpid(child, 0)
    assert status == 0


def test_no_references_leak(client: Client) -> None:
    def work() -> None:
        client.set("key:leak", "value" * 20)
        client.get("key:leak")
        client.mset({f"k{i}": i for i in range(20)})
        client.mget([f"k{i}" for i in range(20)])
        client.zadd("z", {"m": 1.5})
        client.zrange("z", 0, -1, withscores=True, score_cast_func=str)
        client.hset("h", {"f": "v"})
        client.hgetall("h")
        client.info()
        list(client.scan_iter())
        client.pipeline().get("k1").smembers("none").execute()
        for bad in (None, [], 1j):
            with contextlib.suppress(TypeError):
                client.set("k", bad)  # type: ignore[call-overload]

    for _ in range(20):
        work()
    # one block a round would be 500; other threads and caches make some noise
    grown = growth_of_blocks(work, 400)
    assert grown[-1] < 400, grown
