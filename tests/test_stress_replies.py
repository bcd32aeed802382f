"""Many calls through a bad day: no reply is ever another's, no reply ends the process.

The short sizes take seconds; `make soak` runs the full ones.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redlane
from proxy import Proxy
from redlane import Cache, Client, Counter, VideoCache
from scripted import HELLO_ANSWER, Gone, Peer, scripted
from servers import Server

KEYS = 500
THREADS = 32


def value_of(number: int) -> str:
    return f"tag-{number}-" + "x" * (number * 37 % 3000)


def fill(server: Server) -> None:
    with Client(server.url, timeout=60, connect_timeout=60) as client:
        client.mset({f"k{number}": value_of(number) for number in range(KEYS)})


def ask(client: Any, chance: random.Random) -> list[tuple[int, Any]]:
    """Some keys and what came for them."""
    kind = chance.randrange(3)
    numbers = [chance.randrange(KEYS) for _ in range(1 if kind == 0 else 5)]
    names = [f"k{number}" for number in numbers]
    if kind == 0:
        return [(numbers[0], client.get(names[0]))]
    if kind == 1:
        return list(zip(numbers, client.mget(names), strict=True))
    pipe = client.pipeline(transaction=chance.random() < 0.3)
    for name in names:
        pipe.get(name)
    return list(zip(numbers, pipe.execute(), strict=True))


def spoil(server: Server, proxy: Proxy, chance: random.Random, pause: Any) -> None:
    """One misfortune."""
    kind = chance.randrange(9)
    if kind <= 2:
        server.cli("CLIENT", "KILL", "TYPE", "normal")
    elif kind == 3:
        server.cli("CLIENT", "PAUSE", chance.choice([10, 60, 150]))
    elif kind == 4:
        proxy.reset_all()
    elif kind == 5:
        proxy.cut_after = chance.randrange(300, 5000)
        pause(0.1)
        proxy.cut_after = None
    elif kind == 6:
        proxy.drip = 0.0005
        pause(0.1)
        proxy.drip = 0.0
    elif kind == 7:
        server.pause()
        pause(chance.choice([0.03, 0.12]))
        server.resume()
    elif chance.random() < 0.2:
        server.kill()
        server.start()
        fill(server)


@pytest.mark.parametrize(
    "calls", [20_000, pytest.param(1_000_000, marks=pytest.mark.soak)]
)
def test_no_crossed_reply(fresh_server: Server, calls: int) -> None:
    fill(fresh_server)
    stop = threading.Event()
    answered = [0] * THREADS
    wrong: list[object] = []

    def work(number: int, clients: list[Any]) -> None:
        chance = random.Random(number)
        while answered[number] < calls // THREADS and not wrong:
            try:
                for key, got in ask(chance.choice(clients), chance):
                    text = got.decode() if isinstance(got, bytes) else got
                    # None: the server has just been started
                    if text is not None and text != value_of(key):
                        wrong.append((key, text[:40]))
                answered[number] += 1
            except (redlane.ConnectionError, redlane.TimeoutError, redlane.ReplyError):
                time.sleep(0.001)  # an open breaker answers at once
            except BaseException as error:
                wrong.append(error)
                raise

    def trouble(proxy: Proxy) -> None:
        chance = random.Random(7)
        while not stop.wait(0.1):
            with contextlib.suppress(Exception):  # its own connection suffers too
                spoil(fresh_server, proxy, chance, stop.wait)

    with Proxy(fresh_server.port) as proxy:
        clients = [
            Client(fresh_server.url, timeout=0.05, pool_size=16),
            Client(proxy.url, timeout=0.05, pool_size=8, decode_responses=True),
        ]
        threads = [
            threading.Thread(target=work, args=(number, clients), daemon=True)
            for number in range(THREADS)
        ]
        troubles = threading.Thread(target=trouble, args=(proxy,), daemon=True)
        troubles.start()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        stop.set()
        troubles.join()
        for client in clients:
            client.close()
    assert not wrong
    assert sum(answered) >= calls


# --- hostile replies --------------------------------------------------------------

SEEDS = (
    *(b"$5\r\nhello\r\n", b"+OK\r\n", b":42\r\n", b"$-1\r\n", b"*-1\r\n", b"*0\r\n"),
    *(b"*2\r\n$1\r\na\r\n:1\r\n", b"-ERR x\r\n", b"-LOADING x\r\n", b"-NOSCRIPT x\r\n"),
    *(b"-WRONGTYPE x\r\n", b"-EXECABORT y\r\n", b"+QUEUED\r\n", b"*1\r\n" * 12),
    *(b"*2\r\n$1\r\n0\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n", b"*3\r\n:1\r\n-ERR\r\n*0\r\n"),
    *(
        b"*4\r\n$1\r\na\r\n$3\r\n1.5\r\n$1\r\nb\r\n$3\r\nnan\r\n",
        b"$3\r\n\xff\xfe\xfd\r\n",
    ),
    *(b"$24\r\nmodules:1\r\nmodule:a=b,c\r\n\r\n", b"%1\r\n+a\r\n+b\r\n", b"_\r\n"),
    *(b"#t\r\n", b",1.5\r\n", b"(123\r\n", b">1\r\n+a\r\n", b"~1\r\n:1\r\n"),
    *(b"$536870912\r\nxx", b"*1048576\r\n", b"$9223372036854775807\r\n"),
    *(b"*9223372036854775807\r\n", b":99999999999999999999\r\n", b"$0\r\n\r\n"),
    *(b"+" + b"a" * 70000 + b"\r\n", b"$20\r\n\xffRLLxxxxxxxxxxxxxxxx\r\n", b"\xffRL"),
    *(
        b'$3\r\n{"a\r\n',
        b"$9\r\n[1,2,3,4]\r\n",
        b"$5\r\nfalse\r\n",
        b"*2\r\n:1\r\n$1\r\nx\r\n",
    ),
)


def mutate(seed: bytes, chance: random.Random) -> bytes:
    data = bytearray(seed)
    for _ in range(chance.choice([0, 0, 1, 1, 2, 4])):
        at = chance.randrange(len(data) + 1)
        kind = chance.randrange(5)
        if kind == 0:
            data[at : at + 1] = bytes((chance.randrange(256),))
        elif kind == 1:
            del data[at : at + chance.randrange(1, 4)]
        elif kind == 2:
            data[at:at] = chance.choice([b"\r\n", b"*", b"$", b"-1", b"\0", b"*3\r\n"])
        elif kind == 3:
            data[at:at] = chance.choice(SEEDS)[:50]
        else:
            data += chance.choice(SEEDS)
    return bytes(data)


def hostile_script(chance: random.Random) -> Callable[[Peer], None]:
    def script(peer: Peer) -> None:
        greeting = HELLO_ANSWER
        if chance.random() < 0.1:
            greeting = mutate(greeting, chance)
        while True:
            command = peer.read()
            if command[0] == b"HELLO":
                peer.send(greeting)
            elif command == [b"PING"] and chance.random() < 0.9:
                peer.send(b"+PONG\r\n")
            else:
                peer.send(mutate(chance.choice(SEEDS), chance))
                if chance.random() < 0.05:
                    raise Gone

    return script


def hostile_calls(client: Client, text: Any) -> Iterator[Callable[[], object]]:
    """Calls of every kind of result, on a client and one that decodes."""
    cache = Cache(client, ttl=60)
    strict = Cache(text, prefix="s", serializer="msgpack", fallback="raise")
    counter = Counter(client, "n:{id}", ttl=60, source=lambda id: 5)
    video = VideoCache(client)

    @cache
    def cached(number: int) -> dict[str, int]:
        return {"a": number}

    @strict
    def packed(number: int) -> list[int]:
        return [number]

    def pipeline(client: Any) -> object:
        pipe = client.pipeline(transaction=True)
        pipe.get("a").hgetall("h").zrange("z", 0, -1, withscores=True).info().scan(0)
        pipe.time().smembers("s").incrbyfloat("a", 1.0).ping().mget(["a", "b"])
        return pipe.execute(raise_on_error=False)

    for some in (client, text):
        yield from (
            lambda some=some: some.get("a"),
            lambda some=some: some.hgetall("h"),
            lambda some=some: some.info(),
            lambda some=some: some.scan(0),
            lambda some=some: some.time(),
            lambda some=some: some.smembers("s"),
            lambda some=some: some.incrbyfloat("a", 1.0),
            lambda some=some: some.zrange("z", 0, -1, withscores=True),
            lambda some=some: some.zscore("z", "a"),
            lambda some=some: some.set("a", 1, get=True),
            lambda some=some: some.health(),
            lambda some=some: next(some.scan_iter(), None),
            lambda some=some: some.evalsha("0" * 40, 0),
            lambda some=some: pipeline(some),
        )
    yield from (
        lambda: cached(1),
        lambda: packed(1),
        lambda: cached.invalidate(1),
        lambda: cached.refresh(1),
        lambda: cache.get_many(["a", "b"]),
        lambda: cache.set_many({"a": 1, "b": 2}),
        lambda: cache.invalidate("cache:*"),
        lambda: cache.add("a", 1),
        lambda: cache.ttl("a"),
        lambda: cache.increment("a"),
        lambda: counter.get(1),
        lambda: counter.increment(1),
        lambda: counter.transfer(1, 2),
        lambda: video.get("a", ["b"]),
        lambda: video.set("a", ["b"], "u"),
        lambda: video.get_stats(),
    )


@pytest.mark.parametrize(
    "rounds", [1_500, pytest.param(300_000, marks=pytest.mark.soak)]
)
def test_hostile_replies(rounds: int) -> None:
    chance = random.Random(11)
    with scripted(hostile_script(chance)) as server:
        client = Client(server.url, timeout=0.03, connect_timeout=5, max_reply=1 << 20)
        text = Client(server.url, timeout=0.03, decode_responses=True, pool_size=2)
        calls = list(hostile_calls(client, text))
        for _ in range(rounds):
            server.commands.clear()
            # decode_responses: bytes that are no UTF-8, as everywhere in Python
            with contextlib.suppress(redlane.RedlaneError, UnicodeDecodeError):
                chance.choice(calls)()
        client.close()
        text.close()
    with Client("memory://") as engine:
        assert engine.ping()
