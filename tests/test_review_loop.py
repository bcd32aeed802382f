"""AsyncClient where the loop stood still, a large reply has gone, a task was cancelled
while the link was in doubt, and other places where a driver of loops goes wrong."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import warnings
import weakref
from pathlib import Path
from typing import Any

import pytest
import redlane
from aio import KINDS, Runner, end, until
from proxy import Proxy
from redlane import AsyncClient
from scripted import Peer, scripted
from servers import PATIENT, Server
from test_wire_scripts import HASHES, NOSCRIPT


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_loop_that_stood_still_while_its_connection_was_closed(
    redis_server: Server, kind: str
) -> None:
    """A write is not lost on a connection that the server closed long before."""
    loop = KINDS[kind]()
    client = AsyncClient(redis_server.url, name="stood-still", **PATIENT)
    try:
        for number in range(1, 6):
            assert loop.run_until_complete(client.incr("n")) == number
            for line in redis_server.cli("CLIENT", "LIST").decode().splitlines():
                if " name=stood-still " in line:
                    identity = line.split()[0].removeprefix("id=")
                    redis_server.cli("CLIENT", "KILL", "ID", identity)
    finally:
        loop.run_until_complete(client.close())
        end(loop)


def test_a_reply_that_came_unasked_while_the_loop_stood_still(
    redis_server: Server,
) -> None:
    loop = KINDS["asyncio"]()
    with Proxy(redis_server.port) as proxy:
        client = AsyncClient(proxy.url, **PATIENT)
        try:
            for number in range(1, 4):
                assert loop.run_until_complete(client.incr("m")) == number
                assert proxy.inject(b":77\r\n") == 1
        finally:
            loop.run_until_complete(client.close())
            end(loop)


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


@pytest.mark.skipif(
    "REDLANE_SANITIZED" in os.environ, reason="the sanitizer keeps what is freed"
)
def test_a_large_reply_is_not_kept_by_the_connection(
    run: Runner, redis_server: Server
) -> None:
    # More than malloc ever takes from its heap, of which it gives nothing back.
    redis_server.cli("EVAL", "redis.call('SET', 'big', string.rep('x', 64000000))", "0")

    async def main() -> None:
        async with AsyncClient(
            redis_server.url, decode_responses=True, **PATIENT
        ) as client:
            await client.ping()
            before = resident()
            assert len(await client.get("big")) == 64_000_000
            for _ in range(3):
                await client.ping()
            assert resident() - before < 32_000_000

    run(main())
    redis_server.cli("DEL", "big")


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("executor", ["engine", "redis"])
def test_closed_loops_do_not_wait_for_the_collector(
    redis_server: Server, kind: str, executor: str
) -> None:
    """A program that makes a loop for each request may have switched it off."""
    url = "memory://" if executor == "engine" else redis_server.url
    client = AsyncClient(url, **PATIENT)
    seen: list[weakref.ref[Any]] = []
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            loop = KINDS[kind]()
            seen.append(weakref.ref(loop))
            assert loop.run_until_complete(client.ping()) is True
            loop.close()
            del loop
        assert sum(ref() is not None for ref in seen) <= 2
    finally:
        gc.enable()
        client.sync.close()


class Interrupted(asyncio.SelectorEventLoop):
    """Ctrl-C comes while a reply is handed out."""

    armed = False

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:
        handle = super().call_soon(callback, *args, context=context)
        if self.armed and "wakeup" in repr(callback).lower():
            self.armed = False
            raise KeyboardInterrupt
        return handle


def test_an_interrupt_while_a_reply_is_handed_out_is_not_lost(
    redis_server: Server,
) -> None:
    loop = Interrupted()
    client = AsyncClient(redis_server.url, **PATIENT)
    try:
        loop.run_until_complete(client.ping())

        async def main() -> Any:
            task = asyncio.create_task(client.ping())
            await asyncio.sleep(0)
            loop.armed = True
            return await task

        task = loop.create_task(main())
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(task)
        assert loop.run_until_complete(task) is True
    finally:
        loop.run_until_complete(client.close())
        end(loop)


def test_who_is_cancelled_while_the_link_is_in_doubt_changes_nothing(
    run: Runner, fresh_server: Server
) -> None:
    """Neither on the server, nor in the engine, whose journal would bring it there."""

    async def main() -> None:
        async with AsyncClient(
            fresh_server.url, fallback="memory", timeout=1.5, connect_timeout=1.5
        ) as client:
            await client.ping()
            fresh_server.pause()
            try:
                assert await client.get("k") is None  # in doubt from here on
                doomed = asyncio.create_task(client.set("never", "sent"))
                stays = asyncio.create_task(client.set("was", "sent"))
                for _ in range(3):
                    await asyncio.sleep(0)
                doomed.cancel()
                assert await stays is True
                with pytest.raises(asyncio.CancelledError):
                    await doomed
                await asyncio.sleep(0.2)  # twice as long as it takes, and more
                assert await client.mget("never", "was") == [None, b"sent"]
            finally:
                fresh_server.resume()

    run(main())


def test_a_command_that_was_refused_was_awaited_nevertheless(run: Runner) -> None:
    async def main() -> None:
        client = AsyncClient("memory://")
        reply = client.get("k")
        await client.close()
        with pytest.raises(redlane.ConnectionError, match="closed"):
            await reply

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(main())
    assert [str(warning.message) for warning in caught] == []


def test_what_is_under_way_at_the_end_leaves_no_connection(run: Runner) -> None:
    """It may have more to ask, as the text of a script that the server does not know:
    over one more connection, which then ends too."""
    asked, closed = threading.Event(), threading.Event()
    gone: list[int] = []

    def script(peer: Peer) -> None:
        peer.greet()
        command = peer.read()
        if command[0] == b"EVALSHA":
            asked.set()
            assert closed.wait(60)
            peer.send(NOSCRIPT)
        else:
            peer.send(b"+%s\r\n" % command[0])
        assert peer.wait_until_gone() == b""
        gone.append(peer.number)

    with scripted(script) as server:

        async def main() -> None:
            client = AsyncClient(server.url, **PATIENT)
            task = asyncio.create_task(
                client.execute("EVALSHA", HASHES[0], "1", "key", "x")
            )
            await until(asked.is_set, "the command")
            await client.close()
            closed.set()
            assert await task == b"EVAL"
            await until(lambda: sorted(gone) == [0, 1], "the end of both connections")

        run(main())


def run_child(program: str, *arguments: str, **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("ends", ["next", "collector"])
def test_a_request_that_outlives_client_and_loop(
    fresh_server: Server, kind: str, ends: str
) -> None:
    """It is the last to hold the client's connections, which it ends with it."""
    fresh_server.pause()
    try:
        run_child(
            """
            import asyncio, gc, sys
            import redlane, uvloop

            url, kind, ends = sys.argv[1:]
            make = (asyncio if kind == "asyncio" else uvloop).new_event_loop

            async def ask(client, ready):
                asked = asyncio.ensure_future(client.execute("ECHO", "x"))
                await asyncio.wait([asked], timeout=0.1)
                ready.append(asked)

            gc.disable()
            for _ in range(3):
                client = redlane.AsyncClient(url, timeout=60, connect_timeout=60)
                loop, asked = make(), []
                loop.run_until_complete(ask(client, asked))
                assert not asked[0].done()
                asked[0]._log_destroy_pending = False
                del client
                asked.clear()
                loop.close()
                del loop
                if ends == "collector":
                    gc.collect()
            last = redlane.AsyncClient("memory://")
            asyncio.run(last.ping())
            gc.collect()
            """,
            fresh_server.url,
            kind,
            ends,
            PYTHONMALLOC="debug",
        )
    finally:
        fresh_server.resume()


# The name has two addresses; connecting to the first never ends.
TWO_ADDRESSES = r"""
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int
getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
            struct addrinfo **found)
{
    int (*real)(const char *, const char *, const struct addrinfo *,
                struct addrinfo **);
    struct addrinfo *second;

    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    if (!host || strcmp(host, "two.invalid") != 0 ||
        (hints && hints->ai_flags & AI_NUMERICHOST)) {
        return real(host, port, hints, found);
    }
    if (real("127.0.0.9", port, hints, found) != 0 ||
        real("127.0.0.1", port, hints, &second) != 0) {
        abort();
    }
    (*found)->ai_next = second;
    return 0;
}

void
freeaddrinfo(struct addrinfo *found)
{
    (void)found;
}

int
connect(int fd, const struct sockaddr *where, socklen_t size)
{
    int (*real)(int, const struct sockaddr *, socklen_t);
    const struct sockaddr_in *in = (const struct sockaddr_in *)where;
    char bytes[4096] = {0};
    int ends[2];

    *(void **)&real = dlsym(RTLD_NEXT, "connect");
    if (where->sa_family != AF_INET || ntohl(in->sin_addr.s_addr) != 0x7f000009) {
        return real(fd, where, size);
    }
    /* In its place, one that can be written no more. */
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) < 0) {
        abort();
    }
    while (write(ends[0], bytes, sizeof(bytes)) > 0) {
    }
    while (write(ends[0], bytes, 1) > 0) {
    }
    if (dup2(ends[0], fd) < 0) {
        abort();
    }
    close(ends[0]);
    errno = EINPROGRESS;
    return -1;
}
"""


@pytest.fixture(scope="module")
def two_addresses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TWO_ADDRESSES as a library."""
    folder = tmp_path_factory.mktemp("two")
    source, library = folder / "two.c", folder / "two.so"
    source.write_text(TWO_ADDRESSES)
    compiler = os.environ.get("CC") or shutil.which("cc") or "gcc"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True
    )
    return library


@pytest.mark.parametrize("kind", ["sync", *sorted(KINDS)])
def test_the_second_address_of_a_name_has_its_share_of_the_time(
    redis_server: Server, two_addresses: Path, kind: str
) -> None:
    program = """
        import asyncio, sys
        import redlane, uvloop

        kind, port = sys.argv[1:]
        client = redlane.Client(
            f"redis://two.invalid:{port}", timeout=60, connect_timeout=4
        )
        if kind == "sync":
            assert client.ping() is True
        else:
            loop = asyncio.new_event_loop() if kind == "asyncio" else (
                uvloop.new_event_loop())
            assert loop.run_until_complete(client.aio.ping()) is True
            loop.close()
        client.close()
    """
    # Behind a sanitizer's library, which must be the first.
    preloaded = f"{os.environ.get('LD_PRELOAD', '')}:{two_addresses}".lstrip(":")
    run_child(program, kind, str(redis_server.port), LD_PRELOAD=preloaded)
