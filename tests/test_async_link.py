"""AsyncClient when server, link or caller do not do as they should."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import redlane
from aio import Runner, until
from outage_tools import Switch, is_well, wait_until
from proxy import Proxy
from redlane import AsyncClient
from scripted import Peer, answering, scripted
from servers import ACL_PASSWORD, ACL_USER, PATIENT, Server
from test_wire_scripts import HASHES, NOSCRIPT, forgetful
from tls import TlsServer

SLACK = 1.0  # of a bound of time, on a machine that has more to do


@asynccontextmanager
async def connected(url: str, **options: Any) -> AsyncIterator[AsyncClient[Any]]:
    async with AsyncClient(url, **{**PATIENT, **options}) as client:
        yield client


async def settles(client: AsyncClient[Any], *calls: Any) -> list[Any]:
    """Results or exceptions."""
    return await asyncio.gather(*calls, return_exceptions=True)


# --- the handshake ----------------------------------------------------------------


def test_password_and_database(run: Runner, password_server: Server) -> None:
    from test_wire_handshake import url_of

    async def main() -> None:
        async with connected(
            url_of(password_server, ACL_USER, ACL_PASSWORD, 3), name="greets"
        ) as client:
            assert await client.execute("ACL", "WHOAMI") == ACL_USER.encode()
            assert b"db=3" in await client.execute(
                "CLIENT", "LIST", "ID", *(str(await client.execute("CLIENT", "ID")),)
            )
        async with connected(
            url_of(password_server, ACL_USER, "canary-wr0ng")
        ) as client:
            with pytest.raises(redlane.AuthenticationError) as caught:
                await client.ping()
            assert "canary" not in str(caught.value)

    run(main())


def test_a_server_without_hello(run: Runner) -> None:
    def script(peer: Peer) -> None:
        assert peer.read()[0] == b"HELLO"
        peer.send(b"-ERR unknown command 'HELLO'\r\n")
        assert peer.read() == [b"SELECT", b"2"]
        peer.send(b"-NOAUTH Authentication required.\r\n")
        assert peer.read() == [b"AUTH", b"u", b"p"]
        peer.send(b"+OK\r\n")
        assert peer.read() == [b"CLIENT", b"SETNAME", b"old"]
        peer.send(b"+OK\r\n")
        assert peer.read() == [b"SELECT", b"2"]
        peer.send(b"+OK\r\n")
        assert peer.read() == [b"GET", b"k"]
        peer.send(b"$1\r\nv\r\n")
        peer.wait_until_gone()

    with scripted(script) as server:
        url = f"redis://u:p@127.0.0.1:{server.port}/2"

        async def main() -> None:
            async with connected(url, name="old") as client:
                assert await client.get("k") == b"v"

        run(main())


def test_the_handshake_in_single_bytes(run: Runner, redis_server: Server) -> None:
    with Proxy(redis_server.port) as proxy:
        proxy.drip = 0.0005

        async def main() -> None:
            async with connected(proxy.url) as client:
                await client.set("k", "v" * 50)
                assert await client.get("k") == b"v" * 50

        run(main())


def test_names_are_resolved_off_the_loop(run: Runner, redis_server: Server) -> None:
    async def main() -> None:
        async with connected(f"redis://localhost:{redis_server.port}") as client:
            assert await client.ping() is True
        async with connected("redis://no-such-host.invalid:6379") as client:
            with pytest.raises(redlane.ConnectionError):
                await client.ping()

    run(main())


def test_nobody_listens(run: Runner) -> None:
    with Proxy(1) as proxy:
        port = proxy.port
    url = f"redis://127.0.0.1:{port}"

    async def main() -> None:
        async with connected(url) as client:
            replies = await settles(client, *(client.get("k") for _ in range(5)))
            assert {type(reply) for reply in replies} == {redlane.ConnectionError}

    run(main())


def test_tls(run: Runner, tls_server: TlsServer) -> None:
    value = os.urandom(3_000_000)

    async def main() -> None:
        async with connected(tls_server.url, tls_ca=tls_server.ca) as client:
            await client.set("large", value)
            replies = await asyncio.gather(
                *(client.get("large" if i % 7 == 0 else f"k{i}") for i in range(50))
            )
            assert [reply == value for reply in replies] == [
                i % 7 == 0 for i in range(50)
            ]
        async with connected(tls_server.tls_url()) as client:
            with pytest.raises(redlane.ConnectionError, match="not trusted"):
                await client.ping()

    run(main())


def test_tls_where_there_is_none(run: Runner, redis_server: Server) -> None:
    url = redis_server.url.replace("redis://", "rediss://")

    async def main() -> None:
        async with AsyncClient(url, timeout=30, connect_timeout=0.5) as client:
            with pytest.raises(redlane.TimeoutError, match="speak TLS"):
                await client.ping()

    run(main())


# --- deadlines --------------------------------------------------------------------


async def connect(client: AsyncClient[bytes]) -> None:
    """Whatever it takes: the time-out is a short one, the machine may be busy."""
    while True:
        with suppress(redlane.TimeoutError):
            await client.ping()
            return


@pytest.mark.parametrize("stage", ["connect", "reply"])
def test_a_deadline_is_kept(run: Runner, redis_server: Server, stage: str) -> None:
    with Proxy(redis_server.port) as proxy:

        async def main() -> None:
            async with AsyncClient(
                proxy.url, timeout=0.3, connect_timeout=0.3
            ) as client:
                if stage == "reply":
                    await connect(client)
                proxy.swallow = True
                begun = time.monotonic()
                replies = await settles(client, *(client.get("k") for _ in range(20)))
                assert time.monotonic() - begun < 0.3 + SLACK
                assert {type(reply) for reply in replies} == {redlane.TimeoutError}

        run(main())


def test_a_late_reply_meets_nobody(run: Runner, fresh_server: Server) -> None:
    """The server is slow once; what comes after is right, and no other loses by it."""

    async def main() -> None:
        async with AsyncClient(fresh_server.url, timeout=1.0) as client:
            await client.mset({f"k{i}": i for i in range(100)})
            fresh_server.pause()
            late = asyncio.ensure_future(client.get("k0"))
            replies = await settles(client, late)
            assert isinstance(replies[0], redlane.TimeoutError)
            fresh_server.resume()

            def answers() -> bool:
                return is_well(client.sync)

            await asyncio.to_thread(wait_until, answers, "the return")
            for _ in range(3):
                found = await asyncio.gather(*(client.get(f"k{i}") for i in range(100)))
                assert found == [b"%d" % i for i in range(100)]

    run(main())


def test_one_that_is_late_costs_the_others_nothing(run: Runner) -> None:
    """A reply that is late is not waited for by what is sent afterwards."""

    def script(peer: Peer) -> None:
        peer.greet()
        while True:
            command = peer.read()
            if command == [b"GET", b"never"]:
                peer.wait_until_gone()
                return
            peer.send(b"$2\r\nok\r\n")

    with scripted(script) as server:

        async def main() -> None:
            async with AsyncClient(
                server.url, timeout=0.4, connect_timeout=30
            ) as client:
                with pytest.raises(redlane.TimeoutError):
                    await client.get("never")

                async def asks() -> bool:
                    try:
                        return await client.get("k") == b"ok"
                    except redlane.TimeoutError:  # a machine that stood still
                        return False

                limit = time.monotonic() + 60
                while not await asks():
                    assert time.monotonic() < limit

        run(main())


# --- cancellation -----------------------------------------------------------------


def test_who_is_cancelled_leaves_the_order_as_it_was(
    run: Runner, redis_server: Server
) -> None:
    async def main() -> None:
        async with connected(redis_server.url, name="cancelled") as client:
            await client.mset({f"k{i}": i for i in range(50)})
            rng = random.Random(1)
            for _ in range(100):
                tasks = [asyncio.create_task(client.get(f"k{i}")) for i in range(50)]
                for _ in range(rng.randrange(4)):
                    await asyncio.sleep(0)
                doomed = set(rng.sample(range(50), 25))
                for i in doomed:
                    tasks[i].cancel()
                replies = await settles(client, *tasks)
                for i, reply in enumerate(replies):
                    if i not in doomed:
                        assert reply == b"%d" % i
                    else:
                        assert (
                            reply == b"%d" % i or type(reply) is asyncio.CancelledError
                        )
            listed = redis_server.cli("CLIENT", "LIST").decode()
            assert listed.count(" name=cancelled ") == 1

    run(main())


@pytest.mark.parametrize("turns", range(12))
def test_cancelled_while_it_connects(
    run: Runner, redis_server: Server, turns: int
) -> None:
    async def main() -> None:
        async with connected(redis_server.url) as client:
            task = asyncio.create_task(client.ping())
            for _ in range(turns):
                await asyncio.sleep(0.0002)
            task.cancel()
            replies = await settles(client, task)
            assert replies[0] is True or isinstance(replies[0], asyncio.CancelledError)
            assert await client.ping() is True

    run(main())


def test_who_waits_for_nothing_takes_nothing(run: Runner, redis_server: Server) -> None:
    """A command that blocks ends with the task that awaited it: what comes later is not
    taken from others."""

    async def main() -> None:
        async with connected(redis_server.url, name="blocked") as client:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.execute("BLPOP", "queue", 0), 0.2)

            def is_gone() -> bool:
                listed = redis_server.cli("CLIENT", "LIST").decode()
                return "cmd=blpop" not in listed

            await until(is_gone, "the end of BLPOP")
            await client.execute("LPUSH", "queue", "it")
            assert await client.execute("LPOP", "queue") == b"it"

    run(main())


def test_what_was_cancelled_before_it_could_be_sent_is_not_sent(
    run: Runner, redis_server: Server
) -> None:
    with Proxy(redis_server.port) as proxy:
        proxy.delay = 0.2  # the handshake takes a while

        async def main() -> None:
            async with connected(proxy.url) as client:
                doomed = asyncio.create_task(client.set("never", "sent"))
                stays = asyncio.create_task(client.set("was", "sent"))
                await asyncio.sleep(0.02)
                doomed.cancel()
                assert await stays is True
                await settles(client, doomed)
                assert await client.mget("never", "was") == [None, b"sent"]

        run(main())


def test_time_outs_of_asyncio_around_everything(
    run: Runner, tls_server: TlsServer
) -> None:
    async def main() -> None:
        rng = random.Random(2)
        done = 0
        for _ in range(60):
            async with connected(tls_server.url, tls_ca=tls_server.ca) as client:
                try:
                    await asyncio.wait_for(client.ping(), rng.random() ** 3 * 0.02)
                    done += 1
                except asyncio.TimeoutError:
                    pass
                if rng.random() < 0.3:
                    assert await client.ping() is True
        assert done < 60

    run(main())


# --- replies ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "match"),
    [
        (b"@what\r\n", "Protocol error"),
        (b"*1000001\r\n", "million"),
        (b"$600000000000\r\n", "max_reply"),
        (b"%1\r\n+a\r\n+b\r\n", "RESP3"),
        (b"*1\r\n" * 12 + b":1\r\n", "nesting"),
        (b"$3\r\nabcXY", "does not end"),
    ],
)
def test_what_is_no_reply_ends_the_connection(
    run: Runner, reply: bytes, match: str
) -> None:
    with scripted(answering(reply)) as server:

        async def main() -> None:
            async with connected(server.url) as client:
                with pytest.raises(redlane.ConnectionError, match=match):
                    await client.get("k")

        run(main())


def test_a_reply_that_nobody_asked_for(run: Runner, redis_server: Server) -> None:
    with Proxy(redis_server.port) as proxy:

        async def main() -> None:
            async with connected(proxy.url) as client:
                await client.set("k", "right")
                for _ in range(5):
                    before = proxy.connections
                    assert proxy.inject(b"$5\r\nwrong\r\n") == 1
                    await asyncio.sleep(0.05)
                    assert await client.get("k") == b"right"
                    assert proxy.connections == before + 1

        run(main())


def test_a_reply_beyond_the_limit(run: Runner, redis_server: Server) -> None:
    redis_server.cli("SET", "large", "x" * 200_000)

    async def main() -> None:
        async with connected(redis_server.url, max_reply=100_000) as client:
            with pytest.raises(redlane.ConnectionError, match="max_reply"):
                await client.get("large")

    run(main())


def test_replies_cut_at_every_byte(run: Runner, redis_server: Server) -> None:
    """Reads are sent once more where nothing was answered; else it is an error, and
    never another's reply."""
    redis_server.cli("SET", "a", "1234567")
    redis_server.cli("SET", "b", "7654321")
    with Proxy(redis_server.port) as proxy:

        async def main() -> None:
            async with connected(proxy.url) as client:
                for size in range(30):
                    await asyncio.to_thread(
                        wait_until, lambda: is_well(client.sync), "the return"
                    )
                    await asyncio.gather(client.ping(), return_exceptions=True)
                    proxy.cut_in(size, reset=size % 2 == 1)
                    replies = await settles(client, client.get("a"), client.get("b"))
                    proxy.heal()
                    for reply, right in zip(
                        replies, (b"1234567", b"7654321"), strict=True
                    ):
                        assert reply == right or isinstance(
                            reply, redlane.ConnectionError
                        )

        run(main())


def send_what_fits(peer: Peer, data: bytes) -> None:
    peer.link.setblocking(False)
    with suppress(BlockingIOError):
        while data:
            data = data[peer.link.send(data) :]


@pytest.mark.parametrize("more", [b"", b"$2", b"$64000000\r\n" + b"x" * 64_000_000])
def test_a_reset_that_came_with_replies(run: Runner, more: bytes) -> None:
    """Both are there when the loop looks: who awaits another reply hears of the end,
    of which uvloop tells but once."""
    asked, still, gone = threading.Event(), threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.greet()
        for _ in range(2):
            assert peer.read() == [b"GET", b"k"]
            peer.send(b"$1\r\nv\r\n")
        assert [peer.read(), peer.read()] == [[b"GET", b"a"], [b"GET", b"b"]]
        asked.set()
        assert still.wait(30)
        send_what_fits(peer, b"$1\r\na\r\n" + more)
        peer.reset()
        gone.set()

    with scripted(script) as server:

        async def main() -> None:
            async with connected(server.url) as client:
                assert [await client.get("k"), await client.get("k")] == [b"v", b"v"]
                calls = [asyncio.create_task(client.get(key)) for key in ("a", "b")]
                await until(asked.is_set, "the requests")
                still.set()
                assert gone.wait(30)  # blocks, as time.sleep() would
                first, second = await settles(client, *calls)
                assert first == b"a"
                assert isinstance(second, redlane.ConnectionError)

        run(main())


def test_an_idle_connection_that_was_closed(run: Runner, redis_server: Server) -> None:
    async def main() -> None:
        async with connected(redis_server.url) as client:
            for _ in range(10):
                await client.ping()
                redis_server.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                assert await client.ping() is True  # sent once more, or on a new one

    run(main())


def kill_all(server: Server) -> None:
    server.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def replace(server: Server) -> None:
    server.kill()
    server.start()


async def write(client: AsyncClient[Any], number: int) -> bool:
    return bool(await client.set(f"written:{number}", number))


@pytest.mark.parametrize("writers", [3, 100])
@pytest.mark.parametrize("end", [kill_all, replace])
def test_a_loop_that_stood_still_while_its_connection_ended(
    run: Runner, fresh_server: Server, end: Callable[[Server], None], writers: int
) -> None:
    """What is written next has not been executed, so it goes to the new connection."""

    async def main() -> None:
        async with connected(fresh_server.url, pool_size=2) as client:
            for _ in range(3):
                await client.ping()
                end(fresh_server)  # blocks, as time.sleep() would
                time.sleep(0.05)
                assert await write(client, 0)
                end(fresh_server)
                calls = [write(client, number) for number in range(writers)]
                assert await asyncio.gather(*calls) == [True] * writers

    run(main())


def test_a_loop_that_stood_still_while_a_reply_was_awaited(
    run: Runner, fresh_server: Server
) -> None:
    """Only what had been sent is in doubt then."""

    async def main() -> None:
        async with connected(fresh_server.url) as client:
            await client.ping()
            fresh_server.cli("CLIENT", "PAUSE", 60_000, "WRITE")
            sent = asyncio.create_task(write(client, 1))
            await asyncio.sleep(0.05)
            fresh_server.cli("CLIENT", "UNPAUSE")
            replace(fresh_server)
            time.sleep(0.05)
            late = [write(client, number) for number in (2, 3)]
            assert await asyncio.gather(*late) == [True, True]
            with suppress(redlane.ConnectionError):
                await sent

    run(main())


def test_scripts_that_the_server_forgot(run: Runner) -> None:
    with scripted(forgetful) as server:

        async def main() -> None:
            async with connected(server.url) as client:
                replies = await asyncio.gather(
                    client.execute("EVALSHA", HASHES[0], "1", "key"),
                    client.execute("ECHO", "x"),
                    client.execute("EVALSHA", HASHES[1], "1", "key"),
                )
                assert replies == [b"EVAL", b"ECHO", b"EVAL"]
                with pytest.raises(redlane.NoScriptError):
                    await client.execute("EVALSHA", "0" * 40, "0")
                pipe = client.pipeline().evalsha(HASHES[0], 1, "k").echo("x")
                assert await pipe.evalsha(HASHES[1], 1, "k").execute() == [
                    b"EVAL",
                    b"ECHO",
                    b"EVAL",
                ]

        run(main())
    with scripted(answering(NOSCRIPT, NOSCRIPT)) as server:

        async def once() -> None:
            async with connected(server.url) as client:
                with pytest.raises(redlane.NoScriptError):
                    await client.execute("EVALSHA", HASHES[0], "1", "key")

        run(once())


# --- outages ----------------------------------------------------------------------


def test_a_server_that_is_killed_and_comes_back(
    run: Runner, fresh_server: Server
) -> None:
    async def main() -> None:
        async with connected(fresh_server.url) as client:
            assert await client.ping() is True
            fresh_server.kill()
            with pytest.raises(redlane.ConnectionError):
                while True:
                    await client.ping()
            fresh_server.start()

            async def back() -> bool:
                try:
                    return await client.ping()
                except redlane.ConnectionError:
                    await asyncio.sleep(0.01)
                    return False

            limit = time.monotonic() + 60
            while not await back():
                assert time.monotonic() < limit

    run(main())


def test_the_engine_answers_and_the_journal_tells(run: Runner, switch: Switch) -> None:
    async def main() -> None:
        async with connected(switch.url, fallback="memory") as client:
            await client.set("kept", "old", ex=1000)
            await asyncio.to_thread(switch.off, client.sync)
            assert await client.get("kept") is None
            assert await client.set("made", "away") is True
            assert await client.incr("count", 2) == 2
            assert await client.delete("kept") == 0
            assert await client.get("made") == b"away"
            # the twin has the same engine
            assert await asyncio.to_thread(client.sync.get, "made") == b"away"
            pipe = client.pipeline(transaction=True)
            assert await pipe.incr("count").get("made").execute() == [3, b"away"]
            await asyncio.to_thread(switch.on, client.sync)
            assert await client.get("kept") is None
            assert await client.get("made") == b"away"
            assert await client.get("count") == b"3"

    run(main())
    assert switch.server.cli("GET", "made") == b"away"


def test_misses_and_no_ops(run: Runner, switch: Switch) -> None:
    async def main() -> None:
        async with connected(switch.url, fallback="none") as client:
            await client.set("k", "v")
            await asyncio.to_thread(switch.off, client.sync)
            assert await client.get("k") is None
            assert await client.set("other", "x") is True
            assert await client.get("other") is None
            await asyncio.to_thread(switch.on, client.sync)
            assert await client.get("k") == b"v"

    run(main())


def test_writes_that_are_refused(run: Runner, fresh_server: Server) -> None:
    async def main() -> None:
        async with connected(fresh_server.url, fallback="memory") as client:
            await client.set("there", "x")
            fresh_server.cli("CONFIG", "SET", "maxmemory", "1")
            assert await client.set("new", "y") is True
            assert await client.get("new") == b"y"
            assert await client.get("there") == b"x"
            pipe = client.pipeline().set("third", 3).get("third")
            assert await pipe.execute() == [True, b"3"]
            fresh_server.cli("CONFIG", "SET", "maxmemory", "0")
            await asyncio.to_thread(wait_until, lambda: is_well(client.sync), "writes")
            assert await client.get("third") == b"3"

    run(main())
    assert fresh_server.cli("GET", "new") == b"y"


def test_calls_wait_for_the_verdict_on_a_link_in_doubt(run: Runner) -> None:
    """One slow call fails alone; those after it wait for the probe."""

    def script(peer: Peer) -> None:
        peer.greet()
        if peer.number == 0:
            peer.wait_until_gone()
            return
        while True:
            peer.read()
            peer.send(b"$1\r\nv\r\n")

    with scripted(script) as server:

        async def main() -> None:
            async with AsyncClient(
                server.url, timeout=1.5, connect_timeout=1.5
            ) as client:
                with pytest.raises(redlane.TimeoutError):
                    await client.get("k")
                replies = await asyncio.gather(*(client.get("k") for _ in range(10)))
                assert replies == [b"v"] * 10

        run(main())


# --- fork -------------------------------------------------------------------------


def test_a_child_has_connections_of_its_own(run: Runner, redis_server: Server) -> None:
    async def main() -> None:
        async with connected(redis_server.url, name="parent") as client:
            await client.set("k", "v")
            waits = asyncio.ensure_future(client.execute("BLPOP", "queue", 0))
            await asyncio.sleep(0.05)
            process = os.fork()
            if process == 0:
                code = 1
                try:
                    # the child's own thread of control: no loop runs in it
                    asyncio._set_running_loop(None)  # type: ignore[attr-defined]
                    assert client.sync.get("k") == b"v"
                    assert asyncio.run(client.get("k")) == b"v"
                    code = 0
                finally:
                    os._exit(code)
            assert await asyncio.to_thread(os.waitpid, process, 0) == (process, 0)
            assert await client.get("k") == b"v"
            await client.execute("LPUSH", "queue", "it")
            assert await waits == [b"queue", b"it"]

    run(main())
