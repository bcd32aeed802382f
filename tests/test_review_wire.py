"""Corners of the wire and of a link's life: who probes where no thread can, signals
while bytes keep coming, a fork in the middle of a wait, and the module's end before a
client's."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
import threading
import time
from subprocess import PIPE
from types import FrameType

import pytest
import redlane
from children import (
    forks_among_busy_threads,
    run_program,
    started,
    wait_until_asleep,
)
from scripted import Peer, scripted
from servers import PATIENT, Server
from toolset import wait_until, with_more_time

PATIENCE = 300  # seconds until a subprocess counts as stuck


def run_script(script: str, *arguments: str) -> str:
    done = run_program(
        textwrap.dedent(script), *arguments, options=("-X", "dev"), timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def make_suspect(client: redlane.Client, server: Server) -> None:
    """Leaves the breaker suspect, for as long as a probe hangs on the frozen server."""
    server.resume()
    client.set("k", "v")
    server.pause()
    with pytest.raises(redlane.TimeoutError):
        client.get("k")


@forks_among_busy_threads  # the library's own thread begins to probe
def test_a_child_forked_while_the_link_is_suspect_finds_the_server(
    fresh_server: Server,
) -> None:

    def scenario(seconds: float) -> None:
        client = redlane.Client(
            fresh_server.url, timeout=seconds, connect_timeout=seconds
        )
        make_suspect(client, fresh_server)
        server = fresh_server.pid
        child = os.fork()
        if child == 0:
            try:
                os.kill(server, signal.SIGCONT)
                os._exit(0 if client.get("k") == b"v" else 2)
            except redlane.RedlaneError:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        client.close()

    with_more_time(scenario, 3, 12, 40)


@pytest.mark.parametrize("away", ["suspect", "open"])
def test_a_link_comes_back_where_no_thread_can_probe(
    fresh_server: Server, away: str
) -> None:
    """As at exit, once the background thread has ended."""
    out = run_script(
        """
        import atexit, os, signal, sys, time

        url, server, away = sys.argv[1], int(sys.argv[2]), sys.argv[3]

        @atexit.register  # before redlane's own, so it runs after that
        def late():
            os.kill(server, signal.SIGSTOP)
            for _ in range(1 if away == "suspect" else 2):
                try:
                    client.get("k")
                except redlane.TimeoutError:
                    pass
            os.kill(server, signal.SIGCONT)
            end = time.monotonic() + 60
            while time.monotonic() < end:
                try:
                    print(client.get("k"))
                    break
                except redlane.RedlaneError:
                    time.sleep(0.01)

        import redlane
        client = redlane.Client(url, timeout=0.5, connect_timeout=0.5)
        while True:  # until the machine is not too busy for it
            try:
                client.set("k", "v")
                break
            except redlane.RedlaneError:
                pass
        """,
        fresh_server.url,
        str(fresh_server.pid),
        away,
    )
    assert out == "b'v'\n"


def test_a_server_that_hangs_does_not_keep_another_from_being_probed() -> None:
    """The one background thread probes the first, for as long as its time-out."""
    first: list[int] = []
    second: list[int] = []

    def hang(peer: Peer) -> None:
        first.append(1)
        if len(first) > 1:
            peer.wait_until_gone()
        else:
            peer.greet()
            peer.read()

    def recover(peer: Peer) -> None:
        second.append(1)
        peer.greet()
        peer.read()
        if len(second) > 1:
            peer.send(b"+OK\r\n")
            peer.wait_until_gone()

    with scripted(hang) as slow, scripted(recover) as server:
        hanging = redlane.Client(slow.url, timeout=PATIENCE, connect_timeout=PATIENCE)
        client = redlane.Client(server.url, **PATIENT)
        for one in (hanging, client):
            with pytest.raises(redlane.ConnectionError):
                one.execute("ANY")
        assert client.execute("ANY") == b"OK"
        client.close()
        hanging.close()


def test_close_ends_the_wait_for_a_suspect_link(fresh_server: Server) -> None:

    def scenario(seconds: float) -> None:
        client = redlane.Client(
            fresh_server.url, timeout=seconds, connect_timeout=seconds
        )
        caught: list[Exception] = []

        def ask() -> None:
            try:
                client.get("k")
            except redlane.RedlaneError as error:
                caught.append(error)

        make_suspect(client, fresh_server)
        thread = threading.Thread(target=ask)
        thread.start()
        time.sleep(0.2)  # it waits for the probe, which hangs
        client.close()
        thread.join(PATIENCE)
        fresh_server.resume()
        assert len(caught) == 1
        assert "closed" in str(caught[0])

    with_more_time(scenario, 4, 12, 40)


class Signalled(Exception):
    pass


@pytest.mark.parametrize("head", [b"*2000\r\n", b"$8000\r\n"])
def test_a_signal_handler_runs_while_bytes_keep_coming(head: bytes) -> None:
    """The signal is delivered to another thread: no system call of ours is
    interrupted, and none ever waits for a whole slice."""
    sent = 0

    def script(peer: Peer) -> None:
        nonlocal sent
        peer.greet()
        peer.read()
        peer.send(head)
        while sent < 2000:
            peer.send(b":1\r\n")
            sent += 1
            time.sleep(0.005)
        peer.send(b"\r\n")

    def handler(number: int, frame: FrameType | None) -> None:
        raise Signalled

    def send_signal() -> None:
        time.sleep(0.3)
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    thread = threading.Thread(target=send_signal)
    try:
        with scripted(script) as server:
            client = redlane.Client(server.url, timeout=PATIENCE, connect_timeout=5)
            thread.start()
            with pytest.raises(Signalled):
                client.execute("ANY")
            assert sent < 1000
            client.close()
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)


FORKS_AND_RAISES = """
import os, signal, sys, threading
import redlane

class Child(Exception):
    pass

def handler(number, frame):
    if os.fork() == 0:
        raise Child

signal.signal(signal.SIGALRM, handler)
parent = os.getpid()
client = redlane.Client(sys.argv[1], timeout=300, connect_timeout=60, pool_size=1)
client.set("k", "v")
client.execute("CLIENT", "PAUSE", "300000", "WRITE")
writer = threading.Thread(target=client.set, args=("k", "w"))
writer.start()
print("writing", flush=True)
sys.stdin.readline()  # until it has the one connection
print("reading", flush=True)
try:
    value = client.get("k")  # waits for it, and the handler runs
except BaseException as error:
    print(type(error).__name__, os.getpid() == parent, flush=True)
else:
    print(value, os.getpid() == parent, flush=True)
if os.getpid() != parent:
    os._exit(0)
writer.join()
os.wait()
"""


def test_a_handler_that_forks_and_raises_while_the_pool_is_waited_for(
    fresh_server: Server,
) -> None:
    command = [sys.executable, "-X", "dev", "-c", FORKS_AND_RAISES, fresh_server.url]
    with started(command, stdin=PIPE, stdout=PIPE) as child:
        assert child.stdin is not None and child.stdout is not None
        assert child.stdout.readline() == "writing\n"
        wait_until(
            lambda: b" cmd=set " in fresh_server.cli("CLIENT", "LIST"), "the writer"
        )
        child.stdin.write("go\n")
        child.stdin.flush()
        assert child.stdout.readline() == "reading\n"
        wait_until_asleep(child.pid)
        child.send_signal(signal.SIGALRM)
        assert child.stdout.readline() == "Child False\n"
        fresh_server.cli("CLIENT", "UNPAUSE")
        assert child.stdout.readline() == "b'w' True\n"
        assert child.wait(PATIENCE) == 0


def test_a_limit_beyond_all_memory_is_still_a_limit() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.read()
        peer.send(b"$9223372036854775807\r\n")
        peer.wait_until_gone()

    with scripted(script) as server:
        client = redlane.Client(
            server.url, timeout=60, connect_timeout=60, max_reply=sys.maxsize
        )
        with pytest.raises(redlane.ConnectionError, match="max_reply"):
            client.execute("ANY")
        client.close()


def test_a_client_may_outlive_the_module_in_the_collector() -> None:
    """The types are older than the client: the collector clears them first, and frees
    the module's state with them."""
    out = run_script(
        """
        import atexit, gc, importlib.util, logging, sys, types, weakref
        import redlane._core as core

        path = core.__file__
        for name in [name for name in sys.modules if name.startswith("redlane")]:
            del sys.modules[name]
        del core
        package = sys.modules["redlane"] = types.ModuleType("redlane")
        package.__path__ = []
        helper = sys.modules["redlane._logging"] = types.ModuleType("redlane._logging")
        helper.get_logger = lambda: logging.getLogger("redlane")
        spec = importlib.util.spec_from_file_location("redlane._core", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        gone = weakref.ref(module)
        gc.collect()

        class Cycle:
            pass

        cycle = Cycle()
        cycle.itself = cycle
        cycle.client = module.Client("redis://127.0.0.1:1")
        try:
            cycle.client.get("k")
        except ConnectionError:
            pass
        del module, spec, cycle
        atexit._clear()
        gc.collect()
        print(gone())
        """,
    )
    assert out == "None\n"
