"""CommandMethod: found on types and objects, called in every way, described, and on
subclasses that come and go."""

from __future__ import annotations

import contextlib
import gc
import inspect
from collections.abc import Iterator
from typing import Any

from measure import Once, main
from redlane import Client, Pipeline

ATTRIBUTES = "__doc__ __module__ __name__ __objclass__ __qualname__ __text_signature__"


def cases(url: str) -> Iterator[tuple[str, Once]]:
    client = Client(url, timeout=10)
    client.flushdb()
    pipeline = client.pipeline()

    yield "found", lambda: (Client.get, client.get, Pipeline.get, pipeline.get)
    yield (
        "described",
        lambda: [
            getattr(method, name)
            for method in (Client.set, Pipeline.hset)
            for name in ATTRIBUTES.split()
        ],
    )
    yield "repr", lambda: (repr(Client.get), repr(client.get), str(Pipeline.get))
    yield "signature", lambda: inspect.signature(Client.set)
    yield "called on the type", lambda: Client.set(client, "key", "value", ex=10)
    yield "called bound", lambda: client.set("key", "value", px=10, nx=True)
    yield "called with dicts", lambda: Client.set(*(client, "key"), value=1)
    yield "wrong objects", lambda: misuse(client)
    yield "compared", lambda: ({Client.get: 1}, client.get == client.get)
    yield "a subclass's", subclass


def misuse(client: Client[Any]) -> None:
    method: Any = Client.get
    for arguments, keywords in (
        ((), {}),
        ((object(), "key"), {}),
        ((client.pipeline(), "key"), {}),
        ((client,), {"nonsense": 1}),
        ((client, "key"), {"name": "key"}),
    ):
        with contextlib.suppress(TypeError):
            method(*arguments, **keywords)
            raise AssertionError("not refused")


def subclass() -> None:
    class Own(Client[Any]):
        def get(self, name: Any) -> Any:
            return super().get(name)

    own = Own("memory://")
    assert own.get("nothing") is None
    del own, Own
    gc.collect(0)


if __name__ == "__main__":
    main([Client, Pipeline, type(vars(Client)["get"])], cases)
