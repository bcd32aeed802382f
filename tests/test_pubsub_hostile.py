"""Subscriptions and servers that say what no server says, and processes that fork, end
or are interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import pytest
import redlane
from outage_tools import wait_until
from redlane import Client, Gap
from scripted import Gone, Peer, scripted
from servers import PATIENT, Server, patient

LIMIT = 60.0


def bulk(*parts: bytes | int) -> bytes:
    out = b"*%d\r\n" % len(parts)
    for part in parts:
        out += b":%d\r\n" % part if isinstance(part, int) else lengthy(part)
    return out


def lengthy(part: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(part), part)


def confirm(peer: Peer) -> list[bytes]:
    """Answers the next SUBSCRIBE."""
    command = peer.read()
    peer.send(bulk(command[0].lower(), command[1], 1))
    return command


BAD = {
    "unasked status": b"+OK\r\n",
    "unasked pong": b"+PONG\r\n",
    "unasked error": b"-ERR nobody asked\r\n",
    "unasked confirmation": bulk(b"subscribe", b"c", 1),
    "integer": b":1\r\n",
    "nil": b"$-1\r\n",
    "nil array": b"*-1\r\n",
    "empty array": b"*0\r\n",
    "unknown word": bulk(b"massage", b"c", b"x"),
    "too few": bulk(b"message", b"c"),
    "too many": bulk(b"message", b"c", b"x", b"y"),
    "nested": b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n*1\r\n$1\r\nx\r\n",
    "integer payload": bulk(b"message", b"c", 5),
    "integer channel": bulk(b"message", 5, b"x"),
    "RESP3 push": b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nx\r\n",
    "RESP3 map": b"%1\r\n+a\r\n+b\r\n",
    "RESP3 double": b",1.5\r\n",
    "huge bulk": b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$999999999999\r\n",
    "huge array": b"*999999999\r\n",
    "no end of bulk": b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nxyz\r\n",
    "garbage": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "beyond max_reply": bulk(b"message", b"c", b"x" * 100_000),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_what_is_no_message_ends_the_connection(bad: bytes) -> None:
    """What came before it is handed out, then there is a gap, then the next connection
    is heard."""

    def script(peer: Peer) -> None:
        peer.greet()
        confirm(peer)
        if peer.number == 0:
            peer.send(bulk(b"message", b"c", b"good") + bad)
        else:
            peer.send(bulk(b"message", b"c", b"better"))
        peer.wait_until_gone()

    with scripted(script) as server:
        client = Client(server.url, max_reply=65536, **PATIENT)
        told: list[Any] = []
        with client.subscribe("c", on_gap=told.append) as subscription:
            while b"better" not in told:
                told.append(subscription.get(timeout=LIMIT))
        assert told[0] == b"good"
        assert isinstance(told[1], Gap)
        assert told[2:] == [b"better"]
        assert told[1].reason
        client.close()


def test_a_message_of_what_nobody_wants_is_dropped() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        confirm(peer)
        peer.send(bulk(b"message", b"other", b"x"))
        peer.send(bulk(b"pmessage", b"c", b"c", b"x"))
        peer.send(bulk(b"message", b"c", b"mine"))
        peer.wait_until_gone()

    with scripted(script) as server:
        client = Client(server.url, **PATIENT)
        with client.subscribe("c") as subscription:
            assert subscription.get(timeout=LIMIT) == b"mine"
            assert subscription.gaps == 0
        client.close()


def test_the_wrong_confirmation() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        command = peer.read()
        name = b"other" if peer.number == 0 else command[1]
        peer.send(bulk(b"subscribe", name, 1))
        peer.wait_until_gone()

    with scripted(script) as server:
        client = Client(server.url, **PATIENT)
        gaps: list[Gap] = []
        with client.subscribe("c", on_gap=gaps.append) as subscription:
            wait_until(lambda: subscription.live, "the second connection")
            assert subscription.get(timeout=0) is None
            assert len(gaps) == 1
        client.close()


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"-NOPERM no permissions", redlane.PermissionDeniedError),
        (b"-ERR unknown command 'subscribe'", redlane.ReplyError),
    ],
)
def test_a_refused_name_ends_the_subscription(line: bytes, error: Any) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        while True:
            command = peer.read()
            if command[0] == b"SUBSCRIBE" and command[1] == b"bad":
                peer.send(line + b"\r\n")
            elif command[0] == b"PING":
                peer.send(bulk(b"pong", b""))
            else:
                peer.send(bulk(command[0].lower(), command[1], 1))

    with scripted(script) as server:
        client = Client(server.url, **PATIENT)
        with client.subscribe("other") as other:
            with pytest.raises(error):
                client.listen(["good", "bad"], print)
            wait_until(lambda: [b"UNSUBSCRIBE", b"good"] in server.commands, "the end")
            assert other.live
        client.close()


def test_not_now_is_no_refusal() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        if peer.number == 0:
            peer.read()
            peer.send(b"-LOADING Redis is loading the dataset in memory\r\n")
        else:
            confirm(peer)
        peer.wait_until_gone()

    with scripted(script) as server:
        client = Client(server.url, **PATIENT)
        subscription = client.subscribe("c", on_gap=lambda gap: None)
        wait_until(lambda: subscription.live, "the second connection")
        client.close()


def test_a_server_that_never_confirms() -> None:
    """Who waits for it waits no longer than asked to, and begins with a gap."""

    def script(peer: Peer) -> None:
        peer.greet()
        command = peer.read()
        peer.server.held.wait(LIMIT)  # type: ignore[attr-defined]
        peer.send(bulk(b"subscribe", command[1], 1))
        peer.wait_until_gone()

    with scripted(script) as server:
        server.held = threading.Event()  # type: ignore[attr-defined]
        client = Client(server.url, **PATIENT)
        gaps: list[Gap] = []
        subscription = client.subscribe("c", on_gap=gaps.append)
        assert not subscription.wait(0.05)
        assert not subscription.wait(0)
        server.held.set()  # type: ignore[attr-defined]
        wait_until(lambda: subscription.live, "the confirmation")
        assert subscription.get(timeout=0) is None
        assert len(gaps) == 1
        client.close()


def test_one_byte_at_a_time() -> None:
    stream = b"".join(
        [
            bulk(b"message", b"c", b"first"),
            bulk(b"pmessage", b"*", b"long channel", b"second"),
            bulk(b"message", b"c", b""),
        ]
    )

    def script(peer: Peer) -> None:
        peer.greet()
        confirm(peer)
        confirm(peer)
        for at in range(len(stream)):
            peer.send(stream[at : at + 1])
            time.sleep(0.001)
        peer.wait_until_gone()

    with scripted(script) as server:
        client = Client(server.url, **PATIENT)
        with client.subscribe("c", patterns="*") as subscription:
            found = [subscription.get(timeout=LIMIT) for _ in range(3)]
        assert found == [b"first", b"second", b""]
        assert found[1].channel == b"long channel"
        client.close()


def test_no_tight_loop_where_the_server_hangs_up() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        raise Gone

    with scripted(script) as server:
        client = Client(server.url, **PATIENT)
        subscription = client.subscribe("c", on_gap=lambda gap: None)
        subscription.get(timeout=1.0)
        client.close()
        assert 1 <= server.connections < 40


# --- processes --------------------------------------------------------------------


def run_program(program: str, *args: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program), *args],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == "", done.stderr
    return done.stdout


def test_a_forked_child(redis_server: Server) -> None:
    """Subscriptions stay with the process that made them; the child makes its own, on
    the same client, and the parent's go on."""
    program = """
    import os, sys, threading
    import redlane
    client = redlane.Client(sys.argv[1])
    subscription = client.subscribe("c")
    assert subscription.wait()
    found = []
    listener = client.listen("c", found.append)
    here = redlane.Client("memory://")
    local = here.subscribe("l")
    for _ in range(20):
        pid = os.fork()
        if pid == 0:
            try:
                for old in (subscription, local):
                    assert old.closed
                    try:
                        old.get(timeout=5)
                        os._exit(2)
                    except redlane.ConnectionError as error:
                        assert "forked" in str(error)
                    old.close()
                assert not listener.running
                with here.subscribe("l") as own:
                    assert here.publish("l", "x") == 1
                    assert own.get(timeout=5) == b"x"
                with client.subscribe("child") as own:
                    assert own.live
                    client.publish("child", "x")
                    assert own.get(timeout=30) == b"x"
                del old, own
                os._exit(0)
            except BaseException as error:
                print(repr(error), flush=True)
                os._exit(3)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    client.publish("c", "end")
    assert subscription.get(timeout=30) == b"end"
    assert subscription.gaps == listener.subscription.gaps == 0
    here.publish("l", "end")
    assert local.get(timeout=30) == b"end"
    print("done")
    """
    assert run_program(program, patient(redis_server.url)) == "done\n"


def test_forks_beside_a_flood(redis_server: Server) -> None:
    program = """
    import os, sys, threading
    import redlane
    client = redlane.Client(sys.argv[1])
    count = 0
    def handle(message):
        global count
        count += 1
    listener = client.listen("c", handle, max_messages=100, on_gap=lambda gap: None)
    stop = threading.Event()
    def publish():
        while not stop.is_set():
            with client.pipeline() as pipe:
                for _ in range(100):
                    pipe.publish("c", "x" * 100)
                pipe.execute()
    publisher = threading.Thread(target=publish)
    publisher.start()
    for _ in range(50):
        pid = os.fork()
        if pid == 0:
            with client.subscribe("other") as own:
                client.publish("other", "x")
                os._exit(0 if own.get(timeout=60) == b"x" else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    stop.set()
    publisher.join()
    assert count
    assert listener.stop()
    print("done")
    """
    assert run_program(program, patient(redis_server.url)) == "done\n"


@pytest.mark.parametrize("how", ["ends", "exits", "raises", "loop"])
def test_exit_with_subscriptions(redis_server: Server, how: str) -> None:
    """At any moment, with messages coming."""
    program = """
    import asyncio, sys, threading, time
    import redlane
    client = redlane.Client(sys.argv[1])
    listeners = [client.listen("c", lambda message: None) for _ in range(3)]
    redlane.PubSub(client).start("c", lambda channel, message: None)
    waiting = client.subscribe("c", policy="wait", max_messages=1)
    blocking = threading.Thread(
        target=redlane.PubSub(client).subscribe, args=("c", print), daemon=True
    )
    blocking.start()
    def publish():
        while True:
            client.publish("c", "x")
    threading.Thread(target=publish, daemon=True).start()
    time.sleep(0.05)
    sys.stdout = None
    if sys.argv[2] == "exits":
        sys.exit(0)
    if sys.argv[2] == "raises":
        raise SystemExit
    async def main():
        subscription = client.subscribe("c")
        await anext(subscription)
        asyncio.ensure_future(anext(client.subscribe("nobody")))
        await asyncio.sleep(0)
    if sys.argv[2] == "loop":
        asyncio.run(main())
    """
    began = time.monotonic()
    run_program(program, patient(redis_server.url), how)
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("where", ["get", "iterate", "listen"])
def test_ctrl_c_ends_a_wait(redis_server: Server, where: str) -> None:
    program = """
    import sys, threading
    import redlane
    client = redlane.Client(sys.argv[1])
    subscription = client.subscribe("c")
    subscription.wait()
    print("ready", flush=True)
    try:
        if sys.argv[2] == "get":
            subscription.get()
        elif sys.argv[2] == "iterate":
            list(subscription)
        else:
            redlane.PubSub(client).subscribe("c", print)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    client.publish("c", "x")
    assert subscription.get(timeout=30) == b"x"
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    command += [patient(redis_server.url), where]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.2)
        os.kill(process.pid, signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        assert process.wait(LIMIT) == 0


def test_signals_do_not_disturb(redis_server: Server) -> None:
    """A handler runs while a thread waits; the wait goes on."""
    client = Client(redis_server.url, **PATIENT)
    calls: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda *_: calls.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    try:
        with client.subscribe("c") as subscription:
            assert subscription.get(timeout=0.3) is None
            client.publish("c", "x")
            assert subscription.get(timeout=LIMIT) == b"x"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert calls


def test_file_descriptors_exhausted(redis_server: Server) -> None:
    program = """
    import resource, sys
    import redlane
    client = redlane.Client(sys.argv[1])
    first = client.subscribe("c")
    assert first.wait()
    first.get(timeout=0.01)
    used = len(__import__("os").listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used - 1, used + 100))
    second = client.subscribe("c")
    try:
        second.get(timeout=0.01)
        raise AssertionError("there was a descriptor")
    except OSError as error:
        assert error.errno == 24, error
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 100, used + 100))
    assert client.publish("c", "x") == 1
    assert first.get(timeout=30) == second.get(timeout=30) == b"x"
    print("done")
    """
    assert run_program(program, patient(redis_server.url)) == "done\n"


def test_secrets_do_not_show(
    password_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client(
        f"redis://:canary-wrong@127.0.0.1:{password_server.port}/0", **PATIENT
    )
    subscription = client.subscribe("c")
    with pytest.raises(redlane.AuthenticationError):
        subscription.wait(LIMIT)
    assert "canary" not in repr(subscription) + caplog.text
