"""One deadline for a whole call, Ctrl-C inside it, and fork around it.

Correctness tests hold no timings; the bounds here are those promised: a deadline (and
a generous rest for a busy machine) against a server that would take for ever."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable

import pytest
import redlane
from children import end, forks_among_busy_threads, start, wait_until_asleep
from proxy import Proxy
from scripted import Peer, scripted
from servers import PATIENT, Server
from toolset import is_connected, wait_until

FOR_EVER = 180.0
BUSY_MACHINE = 30.0


def timed(call: Callable[[], object], error: type[BaseException]) -> float:
    begin = time.monotonic()
    with pytest.raises(error):
        call()
    return time.monotonic() - begin


def test_frozen_server(fresh_server: Server) -> None:
    client = redlane.Client(fresh_server.url, timeout=0.3, connect_timeout=10)
    wait_until(lambda: is_connected(client), "a connection")
    fresh_server.pause()
    took = timed(lambda: client.execute("GET", "k"), redlane.TimeoutError)
    assert 0.25 <= took < BUSY_MACHINE
    fresh_server.resume()
    wait_until(lambda: is_connected(client), "the return")
    client.close()


def test_frozen_server_at_the_handshake(fresh_server: Server) -> None:
    fresh_server.pause()
    client = redlane.Client(fresh_server.url, timeout=10, connect_timeout=0.2)
    took = timed(lambda: client.execute("PING"), redlane.TimeoutError)
    assert 0.15 <= took < BUSY_MACHINE
    client.close()


def test_dripping_answer_does_not_move_the_deadline() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.read()
        peer.send(b"$1000\r\n")
        for _ in range(1000):
            peer.send(b"x")
            time.sleep(0.05)

    with scripted(script) as server:
        client = redlane.Client(server.url, timeout=0.4, connect_timeout=5)
        assert timed(lambda: client.execute("ANY"), redlane.TimeoutError) < BUSY_MACHINE
        client.close()


def test_dripping_handshake_does_not_move_the_deadline(redis_server: Server) -> None:
    with Proxy(redis_server.port) as proxy:
        proxy.drip = 0.05
        client = redlane.Client(proxy.url, timeout=0.4, connect_timeout=0.4)
        assert (
            timed(lambda: client.execute("PING"), redlane.TimeoutError) < BUSY_MACHINE
        )
        client.close()


def test_slow_network_within_the_deadline(redis_server: Server) -> None:
    with Proxy(redis_server.port) as proxy:
        proxy.delay = 0.05
        client = redlane.Client(proxy.url, **PATIENT)
        assert client.execute("ECHO", "x") == b"x"
        client.close()


def test_reset_while_idle(redis_server: Server) -> None:
    with Proxy(redis_server.port) as proxy:
        client = redlane.Client(proxy.url, **PATIENT)
        client.execute("SET", "n", "0")
        proxy.reset_all()
        assert client.execute("INCR", "n") in (1, 2)
        client.close()


def test_cut_by_the_proxy_in_mid_reply(redis_server: Server) -> None:
    redis_server.cli("SET", "k", "x" * 100_000)
    with Proxy(redis_server.port) as proxy:
        proxy.cut_after = 50_000
        client = redlane.Client(proxy.url, **PATIENT)
        with pytest.raises(redlane.ConnectionError):
            client.execute("GET", "k")
        proxy.cut_after = None
        assert client.execute("GET", "k") == b"x" * 100_000
        client.close()


def test_late_reply_meets_nobody() -> None:
    """After a time-out the connection is gone, and the next caller has a fresh one."""
    asked, gone = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.greet()
        command = peer.read()
        if command[0] == b"SLOW":
            asked.set()
            peer.wait_until_gone()
            gone.set()
        else:
            peer.send(b"+mine\r\n")
            peer.wait_until_gone()

    with scripted(script) as server:
        client = redlane.Client(server.url, timeout=0.3, connect_timeout=5)
        while not asked.is_set():  # a busy machine may not get there in time
            timed(lambda: client.execute("SLOW"), redlane.TimeoutError)
        assert gone.wait(60)
        answers: list[object] = []
        while not answers:
            with contextlib.suppress(redlane.TimeoutError):
                answers.append(client.execute("ANY"))
        assert answers == [b"mine"]
        client.close()


def test_connect_that_is_never_accepted() -> None:
    """A full backlog drops what comes to it: connecting takes for ever."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            client = redlane.Client(
                f"redis://127.0.0.1:{port}/0", timeout=0.3, connect_timeout=0.3
            )
            took = timed(lambda: client.execute("PING"), redlane.TimeoutError)
            assert took < BUSY_MACHINE
            client.close()
        finally:
            for filler in fillers:
                filler.close()


def test_request_that_is_never_read() -> None:
    given_up = threading.Event()

    def script(peer: Peer) -> None:
        peer.greet()
        given_up.wait(FOR_EVER)

    with scripted(script) as server:
        client = redlane.Client(server.url, timeout=0.4, connect_timeout=5)
        call = lambda: client.execute("SET", "k", b"v" * 50_000_000)  # noqa: E731
        assert timed(call, redlane.TimeoutError) < BUSY_MACHINE
        given_up.set()
        client.close()


CHILD = """
import os, signal, sys, threading, time
import redlane
client = redlane.Client({url!r}, timeout={timeout}, connect_timeout={timeout})
"""


def start_child(
    url: str, body: str, timeout: float = FOR_EVER
) -> subprocess.Popen[str]:
    code = CHILD.format(url=url, timeout=timeout) + textwrap.dedent(body)
    return start([sys.executable, "-c", code], stdout=subprocess.PIPE)


def read_line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    ready, _, _ = select.select([child.stdout], [], [], FOR_EVER)
    assert ready
    return child.stdout.readline()


def interrupt(child: subprocess.Popen[str]) -> str:
    """Ctrl-C to a child that is about to block; what it prints then."""
    try:
        assert read_line(child) == "ready\n"
        wait_until_asleep(child.pid)
        child.send_signal(signal.SIGINT)
        begin = time.monotonic()
        rest, _ = child.communicate(timeout=FOR_EVER / 2)
    finally:
        end(child)
    assert time.monotonic() - begin < BUSY_MACHINE
    return rest


@pytest.mark.parametrize(
    "threads",
    ["", "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"],
)
def test_ctrl_c_in_a_blocked_call(fresh_server: Server, threads: str) -> None:
    child = start_child(
        fresh_server.url,
        f"""
        {threads}
        client.execute("PING")
        os.kill({fresh_server.pid}, signal.SIGSTOP)
        print("ready", flush=True)
        try:
            client.execute("GET", "k")
        except KeyboardInterrupt:
            os.kill({fresh_server.pid}, signal.SIGCONT)
            print("interrupted", client.execute("PING"), flush=True)
        """,
    )
    assert interrupt(child) == "interrupted b'PONG'\n"


def test_ctrl_c_in_a_blocking_command(fresh_server: Server) -> None:
    child = start_child(
        fresh_server.url,
        """
        print("ready", flush=True)
        try:
            client.execute("BLPOP", "none", "0")
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        """,
    )
    assert interrupt(child) == "interrupted\n"


def test_ctrl_c_in_the_handshake(fresh_server: Server) -> None:
    fresh_server.pause()
    child = start_child(
        fresh_server.url,
        """
        print("ready", flush=True)
        try:
            client.execute("PING")
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        """,
    )
    assert interrupt(child) == "interrupted\n"


def test_ctrl_c_while_waiting_for_the_pool(fresh_server: Server) -> None:
    fresh_server.pause()
    body = f"""
        client = redlane.Client({fresh_server.url!r}, timeout={FOR_EVER},
                                connect_timeout={FOR_EVER}, pool_size=1)
        threading.Thread(target=client.execute, args=("PING",), daemon=True).start()
        time.sleep(0.2)
        print("ready", flush=True)
        try:
            client.execute("PING")
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            os._exit(0)
        """
    assert interrupt(start_child(fresh_server.url, body)) == "interrupted\n"


def test_handler_that_does_not_raise_does_not_end_a_call(fresh_server: Server) -> None:
    child = start_child(
        fresh_server.url,
        """
        def handler(*_):
            print("handled", flush=True)
        signal.signal(signal.SIGINT, handler)
        print("ready", flush=True)
        print(client.execute("BLPOP", "queue", "0"), flush=True)
        """,
    )
    try:
        assert read_line(child) == "ready\n"
        wait_until_asleep(child.pid)
        child.send_signal(signal.SIGINT)
        assert read_line(child) == "handled\n"
        assert fresh_server.cli("RPUSH", "queue", "job") == 1
        assert read_line(child) == "[b'queue', b'job']\n"
    finally:
        end(child)


def run_child(url: str, body: str, timeout: float = FOR_EVER) -> str:
    child = start_child(url, body, timeout)
    try:
        out, _ = child.communicate(timeout=300)
    finally:
        end(child)
    assert child.returncode == 0
    return out


def test_fork_with_a_live_pool(fresh_server: Server) -> None:
    """Parent and child never share a connection, and the child says no word on those
    that it inherited."""
    out = run_child(
        fresh_server.url,
        """
        def fill(k):
            ts = [threading.Thread(target=lambda: [client.execute("ECHO", "x")
                                                   for _ in range(50)])
                  for _ in range(k)]
            [t.start() for t in ts]; [t.join() for t in ts]
        def talk(tag):
            return all(client.execute("ECHO", f"{tag}{n}") == f"{tag}{n}".encode()
                       for n in range(500))
        fill(4)
        children = []
        for i in range(5):
            pid = os.fork()
            if pid == 0:
                os._exit(0 if talk(f"child{i}:") else 1)
            children.append(pid)
        good = talk("parent:")
        statuses = [os.waitpid(pid, 0)[1] for pid in children]
        print(good, statuses, talk("after:"))
        """,
    )
    assert out == "True [0, 0, 0, 0, 0] True\n"


def test_child_closes_what_it_inherited(fresh_server: Server) -> None:
    out = run_child(
        fresh_server.url,
        """
        def sockets():
            count = 0
            for name in os.listdir("/proc/self/fd"):
                try:
                    count += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
                except OSError:
                    pass
            return count
        before = sockets()
        client.execute("PING")
        assert sockets() == before + 1
        pid = os.fork()
        if pid == 0:
            os._exit(sockets() - before)
        print(os.waitpid(pid, 0)[1], client.execute("PING"))
        """,
    )
    assert out == "0 b'PONG'\n"


@forks_among_busy_threads
def test_fork_while_other_threads_call(fresh_server: Server) -> None:
    out = run_child(
        fresh_server.url,
        """
        stop, wrong = threading.Event(), []
        def talk(i):
            n = 0
            while not stop.is_set():
                n += 1
                tag = f"{i}:{n}".encode()
                if client.execute("ECHO", tag) != tag:
                    wrong.append(tag)
        threads = [threading.Thread(target=talk, args=(i,)) for i in range(4)]
        [t.start() for t in threads]
        statuses = []
        for _ in range(30):
            pid = os.fork()
            if pid == 0:
                good = all(client.execute("ECHO", f"c{n}") == f"c{n}".encode()
                           for n in range(20))
                os._exit(0 if good else 1)
            statuses.append(os.waitpid(pid, 0)[1])
        stop.set()
        [t.join() for t in threads]
        print(set(statuses), wrong)
        """,
    )
    assert out == "{0} []\n"


def test_fork_while_other_threads_are_blocked(fresh_server: Server) -> None:
    """In a reply, in a connection of its own, in the queue for the pool: the child has
    none of those threads and all of their locks."""
    out = run_child(
        fresh_server.url,
        f"""
        narrow = redlane.Client({fresh_server.url!r}, timeout={FOR_EVER},
                                connect_timeout={FOR_EVER}, pool_size=1)
        def calls():
            return [
                threading.Thread(target=client.execute, args=("BLPOP", "none", "0"),
                                 daemon=True),
                threading.Thread(target=client.get, args=("k",)),
                threading.Thread(target=narrow.get, args=("k",)),
                threading.Thread(target=narrow.get, args=("k",)),
                threading.Thread(target=narrow.pipeline().get("k").execute),
            ]
        def waiting():
            # asleep in the kernel: what a thread waits in holds no lock of malloc's
            return all(open(f"/proc/self/task/{{t}}/stat").read().split()[2] == "S"
                       for t in os.listdir("/proc/self/task") if int(t) != os.getpid())
        statuses = []
        client.get("k"), narrow.get("k")
        for _ in range(10):
            os.kill({fresh_server.pid}, signal.SIGSTOP)
            threads = calls()
            [t.start() for t in threads]
            time.sleep(0.05)
            while not waiting():
                time.sleep(0.001)
            pid = os.fork()
            if pid == 0:
                os.kill({fresh_server.pid}, signal.SIGCONT)
                good = all(c.execute("ECHO", f"c{{n}}") == f"c{{n}}".encode()
                           for n in range(20) for c in (client, narrow))
                os._exit(0 if good else 1)
            statuses.append(os.waitpid(pid, 0)[1])
            [t.join() for t in threads[1:]]
        print(set(statuses), len(statuses))
        os._exit(0)
        """,
    )
    assert out == "{0} 10\n"


def test_fork_inside_a_signal_handler_of_a_blocked_call(fresh_server: Server) -> None:
    """The call that returns into the child fails as closed; the parent's goes on."""
    child = start_child(
        fresh_server.url,
        """
        children = []
        def handler(*_):
            children.append(os.fork())
            if children[0]:
                print("forked", flush=True)
        signal.signal(signal.SIGALRM, handler)
        print("ready", flush=True)
        try:
            result = client.execute("BLPOP", "queue", "0")
        except redlane.ConnectionError as error:
            assert children == [0], children
            os._exit(7 if client.execute("PING") == b"PONG" else 8)
        print(result, os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]))
        """,
    )
    try:
        assert read_line(child) == "ready\n"
        wait_until_asleep(child.pid)
        child.send_signal(signal.SIGALRM)
        assert read_line(child) == "forked\n"
        fresh_server.cli("RPUSH", "queue", "job")
        assert read_line(child) == "[b'queue', b'job'] 7\n"
    finally:
        end(child)


def test_fork_inside_a_signal_handler_of_a_pooled_call(fresh_server: Server) -> None:
    child = start_child(
        fresh_server.url,
        f"""
        client.execute("PING")
        children = []
        def handler(*_):
            children.append(os.fork())
            if children[-1]:
                os.kill({fresh_server.pid}, signal.SIGCONT)
        signal.signal(signal.SIGALRM, handler)
        os.kill({fresh_server.pid}, signal.SIGSTOP)
        print("ready", flush=True)
        try:
            result = client.execute("GET", "none")
        except redlane.ConnectionError:
            os._exit(7 if client.execute("PING") == b"PONG" else 8)
        print(result, os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]))
        print(client.execute("PING"))
        """,
    )
    try:
        assert read_line(child) == "ready\n"
        wait_until_asleep(child.pid)
        child.send_signal(signal.SIGALRM)
        out, _ = child.communicate(timeout=FOR_EVER)
        assert out == "None 7\nb'PONG'\n"
    finally:
        end(child)


def test_descriptors_are_closed_on_exec(fresh_server: Server) -> None:
    client = redlane.Client(fresh_server.url, timeout=60, connect_timeout=60)
    client.execute("PING")
    listed = subprocess.run(
        ["ls", "-l", "/proc/self/fd"],
        capture_output=True,
        text=True,
        check=True,
        close_fds=False,
        stdin=subprocess.DEVNULL,
    ).stdout
    own = {
        os.readlink(f"/proc/self/fd/{name}")
        for name in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{name}")
    }
    assert any(link.startswith("socket:") for link in own)
    assert "socket:" not in listed
    client.close()


def test_exit_with_a_call_under_way(fresh_server: Server) -> None:
    out = run_child(
        fresh_server.url,
        """
        for _ in range(4):
            threading.Thread(target=client.execute, args=("BLPOP", "none", "0"),
                             daemon=True).start()
        time.sleep(0.2)
        print("leaving", flush=True)
        """,
    )
    assert out == "leaving\n"
