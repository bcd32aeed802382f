"""What the network and hostile peers do to a TLS connection. A reply is whole or the
call fails; a call ends at its deadline; nobody gets another's reply."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import select
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redlane
from children import forks_among_busy_threads, started
from proxy import Proxy
from scripted import HELLO_ANSWER, Script, ScriptedServer, scripted
from scripted import Peer as ScriptPeer
from servers import PATIENT
from tls import (
    Authority,
    Identity,
    Peer,
    RecordPeer,
    TlsServer,
    over_tls,
    server_context,
)
from toolset import is_connected, wait_until, with_more_time

BUSY_MACHINE = 20.0
SOAK = os.environ.get("REDLANE_SOAK") == "1"


@pytest.fixture(scope="module")
def identity(authority: Authority) -> Identity:
    return authority.issue("peer")


@pytest.fixture
def client_of(authority: Authority) -> Iterator[Callable[..., redlane.Client]]:
    """Makes clients of a port, by TLS."""
    with contextlib.ExitStack() as stack:

        def make(port: int, **options: float) -> redlane.Client:
            merged = {**PATIENT, **options}
            url = f"rediss://127.0.0.1:{port}"
            return stack.enter_context(
                redlane.Client(url, tls_ca=authority.ca, **merged)
            )

        yield make


ClientOf = Callable[..., redlane.Client]


@contextlib.contextmanager
def encrypted(identity: Identity, script: Script) -> Iterator[ScriptedServer]:
    with scripted(over_tls(server_context(identity), script)) as server:
        yield server


def timed(call: Callable[[], object], error: type[BaseException]) -> float:
    begin = time.monotonic()
    with pytest.raises(error):
        call()
    return time.monotonic() - begin


def connect(client: redlane.Client) -> None:
    """A busy machine may need more than one call to get there in time."""
    wait_until(lambda: is_connected(client), "a connection")


# --- the way there ----------------------------------------------------------------


def test_one_byte_at_a_time(tls_server: TlsServer, client_of: ClientOf) -> None:
    tls_server.cli("SET", "k", "x" * 500)
    with Proxy(tls_server.tls_port) as proxy:
        proxy.drip = 0.0001
        client = client_of(proxy.port, timeout=120, connect_timeout=120)
        assert client.get("k") == b"x" * 500
        assert proxy.connections == 1


def test_handshake_cut_after_each_byte(
    tls_server: TlsServer, client_of: ClientOf
) -> None:
    """What the server sends until its first reply is some 1,900 bytes."""
    with Proxy(tls_server.tls_port) as proxy:
        for cut in range(0, 1200, 1 if SOAK else 47):
            proxy.cut_after = cut
            client = client_of(proxy.port)
            with pytest.raises(redlane.ConnectionError) as caught:
                client.ping()
            assert not isinstance(caught.value, redlane.TimeoutError)
            client.close()
        proxy.cut_after = None
        assert client_of(proxy.port).ping() is True


def test_reply_cut_after_each_byte(tls_server: TlsServer, client_of: ClientOf) -> None:
    value = b"v" * 3000
    tls_server.cli("SET", "k", value)
    with Proxy(tls_server.tls_port) as proxy:
        outcomes: set[object] = set()
        for cut in range(1500, 6500, 3 if SOAK else 211):
            proxy.cut_after = cut
            client = client_of(proxy.port)
            try:
                outcomes.add(client.get("k") == value)
            except redlane.ConnectionError as error:
                outcomes.add(type(error))
            client.close()
        assert outcomes == {True, redlane.ConnectionError}


def test_reset(tls_server: TlsServer, client_of: ClientOf) -> None:
    with Proxy(tls_server.tls_port) as proxy:
        client = client_of(proxy.port)
        for expected in range(1, 4):
            assert client.incr("n") == expected
            proxy.reset_all()


# --- deadlines --------------------------------------------------------------------


def test_frozen_server(fresh_tls_server: TlsServer, client_of: ClientOf) -> None:
    client = client_of(fresh_tls_server.tls_port, timeout=0.3)
    connect(client)
    fresh_tls_server.pause()
    took = timed(lambda: client.get("k"), redlane.TimeoutError)
    assert 0.25 <= took < BUSY_MACHINE
    late = client_of(fresh_tls_server.tls_port, timeout=10, connect_timeout=0.2)
    took = timed(late.ping, redlane.TimeoutError)
    assert 0.15 <= took < BUSY_MACHINE
    fresh_tls_server.resume()
    assert client_of(fresh_tls_server.tls_port).ping() is True


@pytest.mark.parametrize("part", ["handshake", "reply"])
def test_dripping_does_not_move_the_deadline(
    tls_server: TlsServer, client_of: ClientOf, part: str
) -> None:
    tls_server.cli("SET", "k", "x" * 100_000)
    with Proxy(tls_server.tls_port) as proxy:
        client = client_of(proxy.port, timeout=0.4)
        if part == "reply":
            connect(client)
        proxy.drip = 0.02
        took = timed(lambda: client.get("k"), redlane.TimeoutError)
        assert took < BUSY_MACHINE


def test_part_of_a_record_is_progress(
    tls_server: TlsServer, client_of: ClientOf
) -> None:
    """A reply is in hand once its record is whole; one whose bytes still come at the
    deadline is slow, and no outage, as it is on TCP."""
    value = b"x" * 10_000

    def probes() -> int:
        info = tls_server.cli("INFO", "commandstats").decode()
        found = re.search(r"cmdstat_ping:calls=(\d+)", info)
        return int(found.group(1)) if found else 0

    tls_server.cli("SET", "large", value)

    def scenario(seconds: float) -> None:
        with Proxy(tls_server.tls_port) as proxy:
            client = client_of(proxy.port, timeout=seconds)
            assert client.get("large") == value
            before = probes()
            proxy.drip, proxy.drip_bytes = 0.02, int(80 / seconds)
            with pytest.raises(redlane.TimeoutError):
                client.get("large")
            proxy.heal()
            # Had it been an outage, this would wait for a probe's verdict.
            assert client.get("large") == value
            assert probes() == before
            client.close()

    with_more_time(scenario, 4, 20)


class Alarm(Exception):
    pass


@pytest.mark.parametrize("part", ["handshake", "reply"])
def test_signal_handlers_run_in_a_wait(
    tls_server: TlsServer, client_of: ClientOf, part: str
) -> None:
    def ring(*_: object) -> None:
        raise Alarm

    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1] if part == "handshake" else tls_server.tls_port
        client = client_of(port)
        before = signal.signal(signal.SIGALRM, ring)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.5)
            took = timed(lambda: client.execute("BLPOP", "nothing", 25), Alarm)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert took < BUSY_MACHINE


# --- ends -------------------------------------------------------------------------


@pytest.mark.parametrize("notice", [True, False])
def test_end_in_mid_reply(
    identity: Identity, client_of: ClientOf, notice: bool
) -> None:
    """A truncated reply is never taken as whole, whatever its end is called."""

    def script(peer: ScriptPeer) -> None:
        peer.greet()
        peer.read()
        peer.send(b"$10\r\n01234")
        assert isinstance(peer.link, ssl.SSLSocket)
        if notice:
            with contextlib.suppress(OSError):
                peer.link.unwrap()

    with encrypted(identity, script) as server:
        client = client_of(server.port)
        with pytest.raises(redlane.ConnectionError, match="closed the connection"):
            client.get("k")


@pytest.mark.parametrize("notice", [True, False])
def test_end_while_idle(identity: Identity, client_of: ClientOf, notice: bool) -> None:
    """Seen before anything is sent, so even what must not be sent twice goes on."""
    ended = threading.Event()

    def script(peer: ScriptPeer) -> None:
        peer.greet()
        peer.read()
        peer.send(b":1\r\n")
        if peer.number == 0:
            assert isinstance(peer.link, ssl.SSLSocket)
            if notice:
                peer.link.settimeout(0.2)
                with contextlib.suppress(OSError):
                    peer.link.unwrap()
            peer.close()
            ended.set()
        else:
            peer.wait_until_gone()

    with encrypted(identity, script) as server:
        client = client_of(server.port)
        assert client.incr("n") == 1
        assert ended.wait(60)
        assert client.incr("n") == 1
        assert server.connections == 2


def test_end_in_answer_to_a_request(identity: Identity, client_of: ClientOf) -> None:
    """As on TCP: a read is sent once more, a write is not."""

    def script(peer: ScriptPeer) -> None:
        peer.greet()
        peer.read()
        peer.send(b"+first\r\n")
        if peer.number == 0:
            peer.read()  # the end comes in place of an answer
        else:
            peer.wait_until_gone()

    for command in ("GET", "INCR"):
        with encrypted(identity, script) as server:
            client = client_of(server.port)
            client.execute("GET", "k")
            if command == "GET":
                assert client.execute("GET", "k") == b"first"
            else:
                with pytest.raises(redlane.ConnectionError):
                    client.execute("INCR", "k")


def test_what_nobody_asked_for(identity: Identity, client_of: ClientOf) -> None:
    """In the same record as a reply, or while the connection is idle."""
    sent = threading.Event()

    def script(peer: ScriptPeer) -> None:
        peer.greet()
        peer.read()
        if peer.number == 0:
            peer.send(b"+first\r\n+stray\r\n")
        elif peer.number == 1:
            peer.send(b"+second\r\n")
            peer.send(b"+stray\r\n")
            sent.set()
        else:
            peer.send(b"+third\r\n")
        peer.wait_until_gone()

    with encrypted(identity, script) as server:
        client = client_of(server.port)
        assert client.execute("ANY") == b"first"
        assert client.execute("ANY") == b"second"
        assert sent.wait(60)
        assert client.execute("ANY") == b"third"
        assert server.connections == 3


@pytest.mark.parametrize("held", [3, 5, 12])
@pytest.mark.parametrize("together", [True, False])
def test_part_of_a_record_that_nobody_asked_for(
    identity: Identity, client_of: ClientOf, held: int, together: bool
) -> None:
    """With the rest of it a reply would come that is not the next request's."""
    context = server_context(identity)
    numbers = itertools.count()
    answered, sent = threading.Event(), threading.Event()

    def script(raw: ScriptPeer) -> None:
        peer = RecordPeer(context, raw.link)
        peer.read()
        peer.send(HELLO_ANSWER)
        peer.read()
        if next(numbers) > 0:
            peer.send(b"+second\r\n")
            raw.wait_until_gone()
            return
        first, stray = peer.record(b"+first\r\n"), peer.record(b"+stray\r\n")
        peer.send_record(first + stray[:held] if together else first)
        if not together:
            assert answered.wait(60)
            peer.send_record(stray[:held])
        sent.set()
        peer.read_record()
        peer.send_record(stray[held:])
        raw.wait_until_gone()

    with scripted(script) as server:
        client = client_of(server.port)
        assert client.execute("ANY") == b"first"
        answered.set()
        assert sent.wait(60)
        assert client.execute("ANY") == b"second"


def test_close_says_goodbye(identity: Identity, client_of: ClientOf) -> None:
    """Python raises for an end without close_notify when it is told to."""
    ends: list[object] = []

    def script(peer: ScriptPeer) -> None:
        peer.greet()
        peer.read()
        peer.send(b"+OK\r\n")
        assert isinstance(peer.link, ssl.SSLSocket)
        peer.link.suppress_ragged_eofs = False
        try:
            ends.append(peer.link.recv(1))
        except OSError as error:
            ends.append(error)

    with encrypted(identity, script) as server:
        client = client_of(server.port)
        client.execute("ANY")
        client.close()
        wait_until(lambda: ends, "the end")
    assert ends == [b""]


def test_broken_pipe_kills_nobody(tls_server: TlsServer, identity: Identity) -> None:
    """In a process of its own, where SIGPIPE does what it does by default."""

    def script(peer: ScriptPeer) -> None:
        peer.read()
        peer.send(HELLO_ANSWER)
        peer.link.recv(100)
        peer.reset()

    with encrypted(identity, script) as server:
        program = f"""
            import signal, redlane
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            client = redlane.Client("rediss://127.0.0.1:{server.port}",
                                    tls_ca={str(tls_server.ca)!r},
                                    timeout=60, connect_timeout=60)
            for _ in range(3):
                try:
                    client.set("k", b"x" * 50_000_000)
                except redlane.ConnectionError:
                    pass
            print("alive")
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert (done.returncode, done.stdout.strip()) == (0, "alive"), done.stderr


# --- inside TLS -------------------------------------------------------------------


def answer_hello(peer: Peer) -> None:
    peer.wait_for(b"HELLO")
    peer.send(HELLO_ANSWER)


def in_thread(call: Callable[[], object]) -> Callable[[], object]:
    """Starts it; what is returned waits for its result."""
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()

    def finish() -> object:
        thread.join(120)
        return results[0]

    return finish


@pytest.mark.parametrize(
    ("option", "key"), [("-tls1_3", b"K\n"), ("-tls1_3", b"k\n"), ("-tls1_2", b"r\n")]
)
def test_new_keys(
    authority: Authority, identity: Identity, option: str, key: bytes
) -> None:
    """An update of the keys, or a renegotiation, in mid-reply and while idle. The peer
    serves one connection at a time: a second one would never be answered."""
    with Peer(identity, option) as peer:
        client = redlane.Client(peer.url, tls_ca=authority.ca, **PATIENT)
        first = in_thread(lambda: client.execute("ECHO", "hello"))
        answer_hello(peer)
        peer.wait_for(b"hello")
        peer.send(b"$5\r\nhel")
        peer.send(key)
        peer.send(b"lo\r\n")
        assert first() == b"hello"
        # A renegotiation may wait for the client still, which only reads when it asks.
        peer.post(key)
        time.sleep(0.1)  # it comes to the client, as a rule
        second = in_thread(lambda: client.execute("ECHO", "second"))
        peer.wait_for(b"second")
        peer.send(b"$6\r\nsecond\r\n")
        assert second() == b"second"
        client.close()


# While there is a file of that name, what becomes of each send: half of it, nothing, or
# all of it; as of the last, so of those that follow.
FULL_SOCKET = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

ssize_t
send(int fd, const void *data, size_t size, int flags)
{
    static const char plan[] = PLAN, *at = plan;
    ssize_t (*real)(int, const void *, size_t, int);

    *(void **)&real = dlsym(RTLD_NEXT, "send");
    if (access(FULL, F_OK) == 0) {
        char next = at[1] ? *at++ : *at;

        if (next == 'n') {
            errno = EAGAIN;
            return -1;
        }
        size = next == 'h' ? size / 2 : size;
    }
    return real(fd, data, size, flags);
}
"""


def full_socket(folder: Path, plan: str) -> tuple[Path, dict[str, str]]:
    """The file, and the environment of a program whose sends go so."""
    source, library, full = folder / "f.c", folder / "f.so", folder / "full"
    source.write_text(FULL_SOCKET)
    subprocess.run(
        [
            *(os.environ.get("CC", "gcc"), "-shared", "-fPIC", f'-DFULL="{full}"'),
            *(f'-DPLAN="{plan}"', "-o", library, source, "-ldl"),
        ],
        check=True,
    )
    preloaded = f"{os.environ.get('LD_PRELOAD', '')}:{library}".lstrip(":")
    return full, {**os.environ, "LD_PRELOAD": preloaded}


def running(
    program: str, environment: dict[str, str]
) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
    return started(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        env=environment,
    )


def test_what_was_sent_is_not_sent_again(
    authority: Authority, identity: Identity, tmp_path: Path
) -> None:
    """A record goes in two parts and the next one does not: the first has arrived, with
    a whole command, and the connection breaks."""
    full, environment = full_socket(tmp_path, "hnyn")

    def script(peer: ScriptPeer) -> None:
        peer.greet()
        peer.read()
        peer.send(b"$-1\r\n")
        peer.read()
        peer.reset()
        full.unlink(missing_ok=True)

    with encrypted(identity, script) as server:
        program = f"""
            import redlane
            url = "rediss://127.0.0.1:{server.port}"
            client = redlane.Client(url, tls_ca={str(authority.ca)!r}, timeout=60,
                                    connect_timeout=60)
            client.get("k")
            open({str(full)!r}, "w").close()
            try:
                client.pipeline(transaction=False).incr("n").set(
                    "k", b"x" * 100_000
                ).execute()
            except redlane.ConnectionError:
                print("lost")
        """
        with running(program, environment) as process:
            assert process.stdout is not None
            assert process.stdout.read() == "lost\n"
        assert server.commands.count([b"INCRBY", b"n", b"1"]) == 1


def test_an_answer_that_a_read_could_not_write(
    authority: Authority, identity: Identity, tmp_path: Path
) -> None:
    """The server asks for a renegotiation, and awaits it, when the socket takes
    nothing more: it is answered once the socket does."""
    full, environment = full_socket(tmp_path, "n")
    with Peer(identity, "-tls1_2", "-state") as peer:
        program = f"""
            import redlane
            with redlane.Client({peer.url!r}, tls_ca={str(authority.ca)!r}, timeout=60,
                                connect_timeout=60) as client:
                print(client.execute("ECHO", "hello"))
        """
        with running(program, environment) as process:
            assert process.stdout is not None
            answer_hello(peer)
            peer.wait_for(b"hello")
            full.touch()
            peer.send(b"r\n")
            peer.wait_for(b"write hello request")
            time.sleep(0.2)  # the client reads it
            full.unlink()
            peer.wait_for(b"SSL_do_handshake -> 1")
            peer.send(b"$5\r\nhello\r\n")
            assert process.stdout.read() == "b'hello'\n"


def test_tickets_cost_no_connection(
    authority: Authority, identity: Identity, tls_server: TlsServer
) -> None:
    """TLS 1.3 servers send session tickets after the handshake, and may send more when
    they like: a connection on which only such a thing came stays in use."""
    with redlane.Client(tls_server.url, **PATIENT) as client:
        first = client.execute("CLIENT", "ID")
        for _ in range(20):
            assert client.execute("CLIENT", "ID") == first
    with Peer(identity, "-tls1_3", "-num_tickets", "8") as peer:
        client = redlane.Client(peer.url, tls_ca=authority.ca, **PATIENT)
        first_call = in_thread(lambda: client.execute("ECHO", "first"))
        answer_hello(peer)
        peer.wait_for(b"first")
        peer.send(b"$5\r\nfirst\r\n")
        assert first_call() == b"first"
        second = in_thread(lambda: client.execute("ECHO", "second"))
        peer.wait_for(b"second")
        peer.send(b"$6\r\nsecond\r\n")
        assert second() == b"second"
        client.close()


# --- fork and exit ----------------------------------------------------------------


def test_fork_with_open_connections(tls_server: TlsServer) -> None:
    """The child says nothing on what it inherited, and has connections of its own."""
    rounds = 300 if SOAK else 12
    stop = threading.Event()
    wrong: list[object] = []

    with redlane.Client(tls_server.url, **PATIENT) as client:

        def work(thread: int) -> None:
            call = 0
            while not stop.is_set():
                call += 1
                tag = f"{thread}:{call}".encode()
                answer = client.execute("ECHO", tag)
                if answer != tag:
                    wrong.append((tag, answer))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
        for thread in threads:
            thread.start()
        mine = client.execute("CLIENT", "ID")
        try:
            for _ in range(rounds):
                pid = os.fork()
                if pid == 0:
                    code = 1
                    try:
                        signal.alarm(120)
                        if client.echo("child") == b"child":
                            code = 0
                        client.close()
                    finally:
                        os._exit(code)
                _, status = os.waitpid(pid, 0)
                assert os.waitstatus_to_exitcode(status) == 0
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert wrong == []
        assert isinstance(mine, int)


@forks_among_busy_threads
def test_a_fork_waits_until_openssl_is_started(
    tls_server: TlsServer, tmp_path: Path
) -> None:
    """A thread is held in the middle of it by a configuration that does not end."""
    program = f"""
        import os, signal, sys, threading, redlane
        url = {tls_server.url!r}
        def work():
            with redlane.Client(url, timeout=30, connect_timeout=30) as client:
                client.ping()
        thread = threading.Thread(target=work)
        thread.start()
        sys.stdin.readline()
        pid = os.fork()
        signal.alarm(60)
        os.write(1, b"parent\\n" if pid else b"child\\n")
        work()
        if pid == 0:
            os._exit(0)
        thread.join()
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    """
    configuration = tmp_path / "openssl.cnf"
    os.mkfifo(configuration)
    with started(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "OPENSSL_CONF": str(configuration)},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        writer = open_for_a_reader(configuration)
        process.stdin.write("fork\n")
        process.stdin.flush()
        told, _, _ = select.select([process.stdout], [], [], 0.5)
        os.close(writer)
        assert told == []
        assert sorted(process.stdout.read().split()) == ["child", "parent"]
        assert process.wait(60) == 0


def open_for_a_reader(fifo: Path) -> int:
    """For writing, once somebody has it open for reading."""
    end = time.monotonic() + 30
    while True:
        try:
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO or time.monotonic() > end:
                raise
            time.sleep(0.01)


@pytest.mark.parametrize("round_", range(20 if SOAK else 3))
def test_exit_with_threads_in_tls(tls_server: TlsServer, round_: int) -> None:
    """The process ends while daemon threads read, write and shake hands."""
    program = f"""
        import os, threading, time, redlane
        url = {tls_server.url!r}
        client = redlane.Client(url, timeout=60, connect_timeout=60, pool_size=4)
        def calls():
            while True:
                client.echo("x" * 50_000)
        def handshakes():
            while True:
                with redlane.Client(url, timeout=60, connect_timeout=60) as other:
                    other.ping()
        def failures():
            while True:
                cache = redlane.Cache("rediss://127.0.0.1:1")
                cache.get("k")
        for work in (calls, calls, handshakes, failures):
            threading.Thread(target=work, daemon=True).start()
        client.ping()
        time.sleep({0.05 + round_ % 7 * 0.03})
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
