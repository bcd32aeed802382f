"""What a link needs of its own machine and does not get: a name in time, a free
connection of the pool, a descriptor."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
import redlane
from proxy import Proxy
from servers import Server
from toolset import toolset, with_more_time

PATIENCE = 300  # seconds until a child counts as stuck

# In front of libc's own: slow for as long as the file SLOW exists, and for ever, as far
# as anybody would wait.
RESOLVER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <unistd.h>

int
getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
            struct addrinfo **found)
{
    int (*real)(const char *, const char *, const struct addrinfo *,
                struct addrinfo **);

    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    if (!hints || !(hints->ai_flags & AI_NUMERICHOST)) {
        while (access(SLOW, F_OK) == 0) {
            usleep(10000);
        }
    }
    return real(host, port, hints, found);
}
"""


def run_child(body: str, *arguments: str) -> str:
    """What a Python program prints that has `tests` on its path."""
    head = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    done = subprocess.run(
        [sys.executable, "-c", head + textwrap.dedent(body), *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def slow_resolver(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A library to preload, and the file that makes it slow."""
    folder = tmp_path_factory.mktemp("resolver")
    source, library, slow = folder / "r.c", folder / "r.so", folder / "slow"
    source.write_text(RESOLVER)
    define = f'-DSLOW="{slow}"'
    compiler = os.environ.get("CC", "gcc")
    subprocess.run(
        [compiler, "-shared", "-fPIC", define, "-o", library, source, "-ldl"],
        check=True,
    )
    return library, slow


def test_a_resolver_that_does_not_answer(
    redis_server: Server,
    slow_resolver: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library, slow = slow_resolver
    slow.touch()
    # Behind a sanitizer's library, which must be the first.
    preloaded = f"{os.environ.get('LD_PRELOAD', '')}:{library}".lstrip(":")
    monkeypatch.setenv("LD_PRELOAD", preloaded)
    out = run_child(
        """
        import os, time
        import redlane
        from toolset import Toolset, wait_until

        url, slow = sys.argv[1:]
        tools = Toolset(url, timeout=0.3)
        begin = time.monotonic()
        try:
            tools.client.get("raw")
        except redlane.TimeoutError as error:
            print("timed out", "localhost" in str(error))
        tools.use()
        tools.wait_until_away()
        tools.use()
        assert time.monotonic() - begin < 100
        os.unlink(slow)
        tools.wait_until_back()
        wait_until(tools.set_raw, "a raw command that works")
        tools.wait_until_back()
        print("redis")
        """,
        f"redis://localhost:{redis_server.port}/0",
        str(slow),
    )
    assert out == "timed out True\nredis\n"
    assert redis_server.cli("GET", "raw") == b"there"


def test_a_pool_that_is_exhausted(redis_server: Server) -> None:
    """One connection, 0.2 s an answer, twelve callers with 0.5 s each: some time out
    by name of the pool. That says nothing of the server: the breaker stays closed, and
    tools miss."""

    def scenario(seconds: float) -> None:
        options = {"timeout": seconds, "connect_timeout": 30, "pool_size": 1}
        with (
            Proxy(redis_server.port) as proxy,
            toolset(proxy.url, **options) as tools,
        ):
            tools.warm()
            failures: list[BaseException] = []
            pool_errors: list[str] = []

            def ask(number: int) -> None:
                try:
                    if number % 2:
                        assert tools.cache.get("kept") in (None, "of before")
                        assert tools.double(number) == 2 * number
                        assert tools.cache.set(f"k{number}", 1) in (True, False)
                    else:
                        assert tools.client.echo(str(number)) == str(number).encode()
                except redlane.TimeoutError as error:
                    assert number % 2 == 0
                    pool_errors.append(str(error))
                except BaseException as error:
                    failures.append(error)

            proxy.delay = 0.4 * seconds
            threads = [threading.Thread(target=ask, args=(n,)) for n in range(12)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            proxy.heal()
            assert failures == []
            assert any("connections of the pool were busy" in e for e in pool_errors)
            tools.assert_healed(redis_server)

    with_more_time(scenario, 0.5, 3, 12)


def test_descriptors_that_are_exhausted(redis_server: Server) -> None:
    """In a process of its own, since the limit holds for all of it."""
    out = run_child(
        """
        import os, resource
        import redlane
        from toolset import Toolset, wait_until

        tools = Toolset(sys.argv[1], timeout=30)
        tools.use()  # so that all is imported that will be
        tools.client.close()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        taken = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        try:
            while True:
                taken.append(os.dup(0))
        except OSError:
            pass
        tools = Toolset(sys.argv[1], timeout=30)
        for _ in range(3):
            try:
                tools.client.get("raw")
            except redlane.ConnectionError as error:
                print("Too many open files" in str(error))
            tools.use()
        while taken:
            os.close(taken.pop())
        # There was none for the thread that probes either: asking how it is starts it.
        tools.wait_until_back()
        wait_until(tools.set_raw, "a raw command that works")
        tools.use()
        print(tools.mode)
        """,
        redis_server.url,
    )
    assert out == "True\nTrue\nTrue\nredis\n"


def test_descriptors_run_out_while_connections_stand(redis_server: Server) -> None:
    """The connections that there are go on; only what needs another one fails."""
    out = run_child(
        """
        import os, resource
        from toolset import Toolset

        tools = Toolset(sys.argv[1], timeout=30)
        tools.warm()
        tools.use()
        assert tools.mode == "redis"  # what it imports needs a descriptor
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        try:
            while True:
                os.dup(0)
        except OSError:
            pass
        for _ in range(10):
            assert tools.client.get("raw") == b"there"
            tools.use()
        print(tools.mode)
        """,
        redis_server.url,
    )
    assert out == "redis\n"
