"""Found by the soak of mixed faults, each with the least that shows it."""

from __future__ import annotations

from redlane import Cache, Client
from servers import PATIENT, Server
from toolset import wait_until


def kept_keys(client: Client) -> int:
    return int(client.health()["journal"]["keys"])


def test_a_delete_on_the_server_is_one_on_the_engine(fresh_server: Server) -> None:
    """The server is back and out of memory: it hears of the set of "a", which it is
    told as a delete, and not of that of "kept". The second delete of "a" goes to it,
    and a read of both keys, one of which it does not know, does not."""
    client = Client(fresh_server.url, **PATIENT)
    cache = Cache(client, prefix="c", ttl=300)
    cache.set("a", "first")
    fresh_server.kill()
    cache.set("a", "of the outage")
    cache.set("kept", "durable", durable=True)
    assert kept_keys(client) == 2
    fresh_server.options += ("--maxmemory", "1")
    fresh_server.start()
    wait_until(lambda: kept_keys(client) == 1, "the replay of what it takes")
    cache.delete("a")
    assert cache.get("a") is None
    assert cache.get_many(["a", "kept"]) == {"kept": "durable"}
    client.close()
