"""AsyncClient: the commands of Client, awaited, on every loop and executor."""

from __future__ import annotations

import asyncio
import collections.abc
import gc
import inspect
import threading
import warnings
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redlane
from aio import Runner, until
from redlane import AsyncClient, Client
from servers import PATIENT, Server

EXECUTORS = ["engine", "redis", "unix"]


@pytest.fixture(params=EXECUTORS)
def url(request: pytest.FixtureRequest, redis_server: Server) -> str:
    return {
        "engine": "memory://",
        "redis": redis_server.url,
        "unix": redis_server.unix_url,
    }[request.param]


@asynccontextmanager
async def connected(url: str, **options: Any) -> AsyncIterator[AsyncClient[Any]]:
    async with AsyncClient(url, **{**PATIENT, **options}) as client:
        yield client


# Each is run on a Client and on an AsyncClient, from the same beginning: what it gives,
# or raises, must be the same.
CALLS: list[Callable[[Any], Any]] = [
    lambda c: c.set("a", "1"),
    lambda c: c.get("a"),
    lambda c: c.get("missing"),
    lambda c: c.set("a", "2", nx=True),
    lambda c: c.set("a", b"\x00\xff\r\n", get=True),
    lambda c: c.get("a"),
    lambda c: c.mset({"b": 1, "c": "x" * 100_000}),
    lambda c: c.mget("a", "b", "nothing"),
    lambda c: c.incr("b", 41),
    lambda c: c.incr("c"),
    lambda c: c.hset("h", mapping={"f": "v", "g": 1}),
    lambda c: c.hgetall("h"),
    lambda c: c.hmget("h", []),
    lambda c: c.get("h"),
    lambda c: c.sadd("s", "x", "y"),
    lambda c: c.smembers("s"),
    lambda c: c.zadd("z", {"m": 1.5, "n": 2}),
    lambda c: c.zrange("z", 0, -1, withscores=True),
    lambda c: c.zrange("z", 0, -1, withscores=True, score_cast_func=lambda s: 1 / 0),
    lambda c: c.expire("a", 100),
    lambda c: c.ttl("a"),
    lambda c: c.type("h"),
    lambda c: c.delete("a", "b"),
    lambda c: c.exists("a", "c"),
    lambda c: c.scan(match="c*"),
    lambda c: c.execute("NO_SUCH_COMMAND"),
    lambda c: c.execute("STRLEN", "c"),
    lambda c: c.ping(),
    lambda c: c.dbsize(),
]


def test_every_call_gives_what_the_sync_half_gives(run: Runner, url: str) -> None:
    sync = Client(url, **PATIENT)
    sync.flushdb()
    expected: list[Any] = []
    for call in CALLS:
        try:
            expected.append(call(sync))
        except Exception as error:
            expected.append((type(error), str(error)))
    sync.flushdb()

    async def main() -> list[Any]:
        found: list[Any] = []
        for call in CALLS:
            try:
                found.append(await call(sync.aio))
            except Exception as error:
                found.append((type(error), str(error)))
        return found

    assert run(main()) == expected
    sync.close()


def test_decoded_responses(run: Runner, url: str) -> None:
    async def main() -> None:
        async with connected(url, decode_responses=True) as client:
            await client.set("ü", "ä" * 700_000)
            assert await client.get("ü") == "ä" * 700_000
            await client.set("ü", b"\xff")
            with pytest.raises(UnicodeDecodeError):
                await client.get("ü")
            assert await client.exists("ü") == 1

    run(main())


def test_large_values_both_ways(run: Runner, url: str) -> None:
    value = bytes(range(256)) * 32_768  # 8 MB

    async def main() -> None:
        async with connected(url) as client:
            await asyncio.gather(*(client.set(f"v{i}", value) for i in range(3)))
            for got in await asyncio.gather(*(client.get(f"v{i}") for i in range(3))):
                assert got == value

    run(main())


def test_whatever_takes_a_coroutine_takes_a_reply(run: Runner, url: str) -> None:
    async def main() -> None:
        async with connected(url) as client:
            await client.set("k", "v")
            assert await asyncio.create_task(client.get("k")) == b"v"
            assert await asyncio.gather(client.get("k"), client.get("k")) == [b"v"] * 2
            assert await asyncio.wait_for(client.get("k"), 60) == b"v"
            assert await asyncio.shield(client.get("k")) == b"v"
            assert await asyncio.ensure_future(client.get("k")) == b"v"
            reply = client.get("k")
            assert asyncio.iscoroutine(reply)
            assert isinstance(reply, collections.abc.Coroutine)
            assert inspect.isawaitable(reply)
            assert await reply == b"v"
            if hasattr(asyncio, "TaskGroup"):
                async with asyncio.TaskGroup() as group:
                    task = group.create_task(client.get("k"))
                assert task.result() == b"v"

    run(main())


def test_asyncio_run_takes_a_reply() -> None:
    client = AsyncClient("memory://")
    assert asyncio.run(client.set("k", "v")) is True
    assert asyncio.run(client.get("k")) == b"v"


def test_a_reply_runs_once(run: Runner, url: str) -> None:
    async def main() -> None:
        async with connected(url) as client:
            await client.delete("n")
            reply = client.incr("n")
            assert await reply == 1
            with pytest.raises(RuntimeError, match="twice"):
                await reply
            task = client.incr("n")
            assert await asyncio.create_task(task) == 2
            with pytest.raises(RuntimeError):
                await task
            assert await client.get("n") == b"2"

    run(main())


def test_a_reply_that_nobody_awaits_is_not_run_and_says_so(redis_url: str) -> None:
    client = AsyncClient(redis_url)
    client.sync.set("n", 1)

    def forget() -> None:
        client.incr("n")
        gc.collect()

    with pytest.warns(RuntimeWarning, match="never awaited"):
        forget()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        client.incr("n").close()
        with pytest.raises(KeyError):
            client.incr("n").throw(KeyError("x"))
    assert client.sync.get("n") == b"1"
    client.sync.close()


def test_arguments_are_copied_when_they_are_given(run: Runner, url: str) -> None:
    async def main() -> None:
        async with connected(url) as client:
            value = bytearray(b"before")
            reply = client.set("k", value)
            value[:] = b"after!"
            await reply
            assert await client.get("k") == b"before"

    run(main())


def test_errors_of_arguments_are_raised_at_once(url: str) -> None:
    client = AsyncClient(url)
    with pytest.raises(TypeError):
        client.get()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        client.set("k", None)  # type: ignore[arg-type]
    with pytest.raises(redlane.ConfigurationError, match="SELECT"):
        client.execute("SELECT", 1)
    client.sync.close()


def test_without_a_loop(url: str) -> None:
    client = AsyncClient(url)
    reply = client.get("k")
    with pytest.raises(RuntimeError, match="no running event loop"):
        reply.send(None)
    reply.close()
    client.sync.close()


def test_pipelines(run: Runner, url: str) -> None:
    async def main() -> None:
        async with connected(url) as client:
            await client.flushdb()
            async with client.pipeline() as pipe:
                pipe.set("a", 1).incr("a", 2).hgetall("a").hmget("h", []).get("a")
                assert len(pipe) == 5
                found = await pipe.execute(raise_on_error=False)
                assert [found[0], found[1], *found[3:]] == [True, 3, [], b"3"]
                assert isinstance(found[2], redlane.WrongTypeError)
                assert await pipe.execute() == []
                with pytest.raises(redlane.WrongTypeError, match="command 2"):
                    await pipe.set("a", 1).hgetall("a").execute()
                pipe.get("a")
            assert len(pipe) == 0

    run(main())


def test_transactions(run: Runner, url: str) -> None:
    async def main() -> None:
        async with connected(url) as client:
            await client.flushdb()
            pipe = client.pipeline(transaction=True)
            assert await pipe.set("a", 1).incr("a").get("a").execute() == [
                True,
                2,
                b"2",
            ]
            assert await pipe.execute() == []
            pipe.set("a", 1).hgetall("a")
            found = await pipe.execute(raise_on_error=False)
            assert found[0] is True
            assert isinstance(found[1], redlane.WrongTypeError)
            # the connection is not left in a transaction
            assert await client.get("a") == b"1"

    run(main())


def test_scan_iter(run: Runner, url: str) -> None:
    async def main() -> None:
        async with connected(url) as client:
            await client.flushdb()
            await client.mset({f"key:{i}": i for i in range(100)})
            found = {key async for key in client.scan_iter("key:*", count=7)}
            assert found == {b"key:%d" % i for i in range(100)}

    run(main())


def test_the_twins_are_one(url: str) -> None:
    sync = Client(url, **PATIENT)
    assert sync.aio is sync.aio
    assert sync.aio.sync is sync
    twin = sync.aio
    sync.set("k", "v")
    assert asyncio.run(twin.get("k")) == b"v"
    twin.sync.set("k", "w")
    del sync
    gc.collect()
    assert asyncio.run(twin.get("k")) == b"w"
    again = twin.sync
    assert again.aio is twin
    asyncio.run(twin.close())
    assert again.closed
    with pytest.raises(redlane.ConnectionError, match="closed"):
        again.get("k")
    with pytest.raises(redlane.ConnectionError, match="closed"):
        twin.get("k")
    asyncio.run(twin.aclose())


def test_close_lets_end_what_is_under_way(run: Runner, redis_url: str) -> None:
    async def main() -> None:
        client = AsyncClient(redis_url)
        await client.set("k", "v")
        tasks = [asyncio.create_task(client.get("k")) for _ in range(10)]
        await asyncio.sleep(0)
        await client.close()
        assert await asyncio.gather(*tasks) == [b"v"] * 10
        with pytest.raises(redlane.ConnectionError, match="closed"):
            await client.get("k")

    run(main())


def test_health(run: Runner, redis_url: str) -> None:
    async def main() -> None:
        async with connected(redis_url) as client:
            await client.ping()
            health = await client.health()
            assert health["mode"] == "redis"
            assert health["connected"] is True
            assert health["pool"]["loops"] == 1
            assert health["pool"]["busy"] == 0
        assert client.sync.health()["pool"]["loops"] == 0

    run(main())


def test_the_engine_answers_without_a_future() -> None:
    """What is over at once, well or not, has nothing to wait for."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        made = 0

        def create_future() -> asyncio.Future[Any]:
            nonlocal made
            made += 1
            return asyncio.Future(loop=loop)

        loop.create_future = create_future  # type: ignore[method-assign]
        async with connected("memory://") as client:
            assert await client.set("k", "v") is True
            assert await client.get("k") == b"v"
            assert await client.get("none") is None
            assert await client.hmget("h", []) == []
            with pytest.raises(redlane.WrongTypeError):
                await client.hget("k", "f")
            async with client.pipeline() as pipeline:
                assert await pipeline.incr("n").get("k").execute() == [1, b"v"]
            assert made == 0
            coroutine = client.get("k")
            with pytest.raises(StopIteration) as stop:
                coroutine.send(None)
            assert stop.value.value == b"v"
            with pytest.raises(RuntimeError, match="await"):
                coroutine.send(None)

    asyncio.run(main())


def test_from_env(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)
    client = AsyncClient.from_env(timeout=60)
    assert asyncio.run(client.ping()) is True
    client.sync.close()
    assert type(AsyncClient()) is AsyncClient


def connections(server: Server, name: str) -> int:
    listed = server.cli("CLIENT", "LIST").decode().splitlines()
    return sum(f" name={name} " in line for line in listed)


def test_one_connection_to_a_loop(run: Runner, redis_server: Server) -> None:
    async def main() -> None:
        async with connected(redis_server.url, name="one-lane") as client:
            await asyncio.gather(*(client.ping() for _ in range(500)))
            assert connections(redis_server, "one-lane") == 1

    run(main())
    assert connections(redis_server, "one-lane") == 0


def test_commands_that_block_have_a_connection_of_their_own(
    run: Runner, redis_server: Server
) -> None:
    async def main() -> None:
        async with connected(redis_server.url, name="blocks") as client:
            popped = asyncio.create_task(client.execute("BLPOP", "queue", 0))
            await until(lambda: connections(redis_server, "blocks") == 1, "BLPOP")
            assert await client.ping() is True
            assert not popped.done()
            await client.execute("LPUSH", "queue", "it")
            assert await popped == [b"queue", b"it"]
            assert await client.execute("BLPOP", "queue", "0.01") is None
            await until(lambda: connections(redis_server, "blocks") == 1, "its end")

    run(main())


def test_a_loop_for_each_request(run: Runner, redis_server: Server) -> None:
    client = AsyncClient(redis_server.url, name="per-request", **PATIENT)
    client.sync.set("k", "v")
    for _ in range(20):
        assert run(client.get("k")) == b"v"
    # the sync twin's, and at most that of the last loop
    assert connections(redis_server, "per-request") <= 2
    client.sync.close()


def test_loops_that_were_closed_without_a_word(redis_server: Server) -> None:
    """Their connections go when the next loop is met."""
    client = AsyncClient(redis_server.url, name="forgotten", **PATIENT)
    loops = []
    gc.disable()
    try:
        for _ in range(5):
            loop = asyncio.new_event_loop()
            loops.append(loop)
            assert loop.run_until_complete(client.ping()) is True
            loop.close()
            assert connections(redis_server, "forgotten") == 1
    finally:
        gc.enable()
    client.sync.close()
    assert connections(redis_server, "forgotten") == 0


def test_loops_in_threads(run: Runner, redis_server: Server) -> None:
    client = AsyncClient(redis_server.url, **PATIENT)
    found: list[list[Any]] = []

    async def main(number: int) -> list[Any]:
        await client.set(f"t{number}", number)
        return [
            await asyncio.gather(*(client.get(f"t{number}") for _ in range(50)))
            for _ in range(20)
        ]

    def body(number: int) -> None:
        found.extend(run(main(number)))

    threads = [threading.Thread(target=body, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(found) == 80
    assert {len(set(replies)) for replies in found} == {1}
    client.sync.close()


def test_a_thread_closes_what_another_loop_uses(
    run: Runner, redis_server: Server
) -> None:
    async def main() -> None:
        client = AsyncClient(redis_server.url, name="foreign", **PATIENT)
        await client.ping()
        await asyncio.to_thread(client.sync.close)
        with pytest.raises(redlane.ConnectionError, match="closed"):
            await client.ping()
        await until(lambda: connections(redis_server, "foreign") == 0, "the end")

    run(main())


def test_no_loop_is_kept_alive(redis_url: str) -> None:
    client = AsyncClient(redis_url)

    def use() -> weakref.ref[Any]:
        loop = asyncio.new_event_loop()
        assert loop.run_until_complete(client.ping()) is True
        loop.close()
        return weakref.ref(loop)

    def leave_open() -> weakref.ref[Any]:
        loop = asyncio.new_event_loop()

        async def ask() -> None:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.execute("BLPOP", "none", 0), 0.05)

        loop.run_until_complete(ask())
        return weakref.ref(loop)

    closed = use()
    gc.collect()
    assert closed() is None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the loop's own
        left = leave_open()
        gc.collect()
    assert left() is None
    client.sync.close()
