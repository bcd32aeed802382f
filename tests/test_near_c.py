"""The near cache without Python: unit tests under ASan and UBSan, a driver that meets
real and scripted servers, and threads in trouble under TSan."""

from __future__ import annotations

import contextlib
import random
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from near_driver import (
    ASAN,
    LIMIT,
    ROOT,
    TESTS,
    TSAN,
    Driver,
    compile_library,
    compile_near,
    sources_of,
)
from proxy import Proxy
from scripted import Peer, Script, scripted
from servers import Server
from tls import TlsServer

NEAR = TESTS / "near"
# What a user needs for near values alone, on a server that speaks RESP3; with RESP2
# also the second line.
RIGHTS = ("+info", "+ping", "+client|tracking")
RIGHTS_RESP2 = ("+client|id", "+subscribe", "&__redis__:invalidate")


@pytest.fixture(scope="session")
def library() -> list[Path]:
    return compile_library(*ASAN)


@pytest.fixture(scope="session")
def program(library: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("near") / "driver"
    return compile_near(target, [NEAR / "driver.c"], library, *ASAN)


Connect = Callable[..., Driver]


@pytest.fixture
def connect(program: Path) -> Iterator[Connect]:
    """Starts drivers, and ends them after the test."""
    drivers: list[Driver] = []

    def start(host: str, port: int, **options: object) -> Driver:
        drivers.append(Driver(program, host, port, **options))
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.close()


@contextlib.contextmanager
def running(server: Server) -> Iterator[Server]:
    try:
        server.start()
        yield server
    finally:
        server.close()


# --- without a server ---------------------------------------------------------------


def test_unit_tests_pass(library: list[Path], tmp_path: Path) -> None:
    names = ("main", "test_prefixes", "test_values", "test_dependants", "test_push")
    sources = [NEAR / f"{name}.c" for name in names]
    program = compile_near(tmp_path / "tests", sources, library, *ASAN)
    done = subprocess.run([program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = re.search(r"(\d+) checks, 0 failures", done.stdout)
    assert counts
    assert int(counts[1]) > 1000


def test_exhausted_memory(library: list[Path], tmp_path: Path) -> None:
    wrapped = [f"-Wl,--wrap={name}" for name in ("malloc", "calloc", "realloc")]
    target, source = tmp_path / "memory", NEAR / "memory.c"
    program = compile_near(target, [source], library, *ASAN, *wrapped)
    done = subprocess.run([program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    refused = re.fullmatch(r"(\d+) allocations refused\n", done.stdout)
    assert refused
    assert int(refused[1]) > 100


def test_near_does_not_know_python() -> None:
    """Headers of headers included."""
    seen: set[Path] = set()
    todo = [path for layer in ("near", "wire", "core") for path in sources_of(layer)]
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        text = path.read_text()
        assert not re.search(r'#include ["<](Python\.h|py/)', text), path
        found = re.findall(r'#include "((?:core|wire|near)/\w+\.h)"', text)
        todo += [ROOT / "src" / name for name in found]


# --- every kind of link -------------------------------------------------------------


@pytest.fixture(scope="session")
def old_server(server_binary: str) -> Iterator[Server]:
    """A server that knows no HELLO, and so no RESP3."""
    with running(Server("--rename-command", "HELLO", "", binary=server_binary)) as made:
        yield made


@pytest.fixture(params=["tcp", "unix", "tls", "resp2", "user", "user-resp2"])
def place(
    request: pytest.FixtureRequest, server_binary: str
) -> Iterator[tuple[Server, str, int, dict[str, object]]]:
    """A server, and how the driver reaches it."""
    kind: str = request.param
    if kind == "tls":
        tls: TlsServer = request.getfixturevalue("tls_server")
        yield tls, "localhost", tls.tls_port, {"ca": tls.ca}
        return
    name = "old_server" if kind.endswith("resp2") else "redis_server"
    server: Server = request.getfixturevalue(name)
    server.cli("FLUSHALL")
    options: dict[str, object] = {}
    if kind.startswith("user"):
        rights = [*RIGHTS, *(RIGHTS_RESP2 if kind == "user-resp2" else ())]
        server.cli("ACL", "SETUSER", "near", "on", ">canary-pw", *rights)
        options = {"user": "near", "password": "canary-pw"}
    host = server.socket_path if kind == "unix" else "127.0.0.1"
    yield server, host, server.port, options
    if kind.startswith("user"):
        server.cli("ACL", "DELUSER", "near")


Place = tuple[Server, str, int, dict[str, object]]


def test_link_tells_of_every_change(
    place: Place, connect: Connect, request: pytest.FixtureRequest
) -> None:
    server, host, port, options = place
    near = connect(host, port, **options)
    assert near("ticket 0 k:1") == "void"
    assert near("watch k:") == "true"
    stats = near.confirmed()
    assert stats["resp3"] is ("resp2" not in request.node.callspec.id)
    assert stats["run_id"].encode() in server.cli("INFO", "server")
    assert stats["reason"] == ""
    changes: list[tuple[Any, ...]] = [
        ("SET", "k:1", "v"),
        ("APPEND", "k:1", "v"),
        ("PEXPIRE", "k:1", "100000"),
        ("RENAME", "k:1", "k:2"),
        ("SET", "k:1", "v", "PX", "100000"),
        ("DEL", "k:1"),
        ("MSET", "other", "v", "k:1", "v"),
        ("EVAL", "return redis.call('del', 'k:1')", "0"),
        ("FLUSHALL",),
    ]
    for change in changes:
        near.keep("k:1", "kept")
        assert near("find k:1") == "kept"
        server.cli(*change)
        near.gone("k:1")
    near.keep("k:1", "kept")
    before = near.stats()["invalidations"]
    server.cli("SET", "other", "v")
    server.cli("SET", "k:2", "v")
    assert (
        near.until(lambda now: now["invalidations"] > before)["invalidations"]
        == before + 1
    )
    assert near("find k:1") == "kept"
    assert near("fork") == "0"
    assert near("find k:1") == "kept"


def test_lost_link_flushes_and_is_made_again(place: Place, connect: Connect) -> None:
    server, host, port, options = place
    near = connect(host, port, **options)
    near("watch k:")
    near.confirmed()
    for _ in range(3):
        near.keep("k:1", "kept")
        near.keep("k:2", "kept")
        links = near.stats()["links"]
        for kind in ("pubsub", "normal"):
            server.cli("CLIENT", "KILL", "TYPE", kind)
        near.gone("k:1")
        assert (
            near("stale k:1") == "kept"
        )  # until its TTL ends or it is known to change
        near.confirmed(links + 1)
        assert near("find k:1") == "-"
        server.cli("SET", "k:1", "v")
        end = time.monotonic() + LIMIT
        while near("stale k:1") != "-":
            assert time.monotonic() < end
        assert near("stale k:2") == "kept"
        near("clear")
        assert near("stale k:2") == "-"


def test_more_prefixes_cost_no_value(place: Place, connect: Connect) -> None:
    server, host, port, options = place
    near = connect(host, port, **options)
    near("watch a:b:")
    near.confirmed()
    near.keep("a:b:1", "kept")
    for count, prefix in enumerate(["c:", "a:b:c", "a:", "a:d", "e", ""], start=2):
        assert near(f"watch {prefix}") == "true"
        end = time.monotonic() + LIMIT
        while near(f"ticket 0 {prefix}1") != "good":
            assert time.monotonic() < end
        assert near("find a:b:1") == "kept", count
        near.keep(f"{prefix}1", "kept")
        server.cli("SET", f"{prefix}1", "v")
        near.gone(f"{prefix}1")
        near.keep("a:b:1", "kept")
    assert near.stats()["prefixes"] == 1  # the empty one covers all
    assert near.stats()["flushes"] == 0
    server.cli("SET", "a:b:1", "v")
    near.gone("a:b:1")


def test_another_server_in_its_place(fresh_server: Server, connect: Connect) -> None:
    near = connect("127.0.0.1", fresh_server.port)
    near("watch k:")
    first = near.confirmed()["run_id"]
    assert near(f"same {first}") == "true"
    near.keep("k:1", "kept")
    fresh_server.kill()
    near.gone("k:1")
    assert near("ticket 0 k:1") == "void"
    assert near(f"same {first}") == "false"
    fresh_server.start()
    assert near.confirmed(2)["run_id"] != first
    assert near(f"same {first}") == "false"
    near.keep("k:1", "kept")


def test_expired_but_untouched(redis_server: Server, connect: Connect) -> None:
    near = connect("127.0.0.1", redis_server.port)
    near("watch k:")
    near.confirmed()
    redis_server.cli("SET", "k:1", "v", "PX", 150)
    began = time.monotonic()
    near.keep("k:1", "kept", redis_server.cli("PTTL", "k:1"))
    near.gone("k:1")
    assert time.monotonic() - began < LIMIT / 2
    assert near("stale k:1") == "-"
    for pttl in (-2, 0):
        near("ticket 0 k:1")
        assert near(f"store 0 k:1 v {pttl}") == "refused"
    near.keep("k:1", "kept", -1)
    near.keep("k:1", "kept", 2**62)


def test_silent_link(redis_server: Server, connect: Connect) -> None:
    """Nothing says that the link is dead: values end two ping intervals after it."""
    interval = 0.4
    proxy = Proxy(redis_server.port)
    try:
        near = connect("127.0.0.1", proxy.port, interval=int(interval * 1000))
        near("watch k:")
        for round_ in range(2):
            near.confirmed(round_ + 1)
            near.keep("k:1", "kept")
            links = near.stats()["links"]
            proxy.swallow = True
            redis_server.cli("SET", "k:1", "v")
            written = time.monotonic()
            while time.monotonic() < written + 2 * interval:
                time.sleep(0.02)
            assert near("find k:1") == "-"  # whether the thread has had its turn or not
            near.until(lambda stats: stats["state"] == "connecting")
            proxy.swallow = False
            proxy.reset_all()
            near.confirmed(links + 1)
    finally:
        proxy.close()


@pytest.mark.parametrize("missing", [*RIGHTS, *RIGHTS_RESP2])
def test_missing_right_is_said_once(
    missing: str, old_server: Server, connect: Connect
) -> None:
    rights = [right for right in (*RIGHTS, *RIGHTS_RESP2) if right != missing]
    old_server.cli("ACL", "SETUSER", "some", "reset", "on", ">canary-pw", *rights)
    near = connect(
        "127.0.0.1", old_server.port, user="some", password="canary-pw", interval=100
    )
    near("watch k:")
    # Without PING the first one tells.
    stats = near.until(lambda stats: stats["state"] == "refused")
    assert "NOPERM" in stats["reason"]
    assert "canary" not in stats["reason"]
    assert near("notice") == stats["reason"]
    assert near("notice") == "-"
    links = stats["links"]
    time.sleep(0.3)
    assert near.stats()["links"] == links  # no tight loop
    assert near("ticket 0 k:1") == "void"
    old_server.cli("ACL", "DELUSER", "some")


@pytest.mark.parametrize("command", ["INFO", "CLIENT"])
def test_unknown_command_is_said(
    command: str, server_binary: str, connect: Connect
) -> None:
    options = ("--rename-command", command, "")
    with running(Server(*options, binary=server_binary)) as server:
        near = connect("127.0.0.1", server.port)
        near("watch k:")
        stats = near.until(lambda stats: stats["state"] == "refused")
        assert "unknown command" in stats["reason"]
        assert stats["reason"].startswith(command)
        assert near("notice") == stats["reason"]


def test_data_connections_to_another_server(
    redis_server: Server, connect: Connect
) -> None:
    near = connect("127.0.0.1", redis_server.port, interval=50)
    near("watch k:")
    own = near.confirmed()["run_id"]
    assert near(f"same {own}") == "true"
    assert near("same ") == "false"
    stats = near.until(lambda stats: bool(stats["reason"]))
    assert "another server" in stats["reason"]
    assert stats["state"] == "confirmed"
    assert near("notice") == stats["reason"]
    assert near("notice") == "-"


def test_exit_while_it_connects(connect: Connect) -> None:
    with scripted(lambda peer: None) as server:  # an end at once
        near = connect("127.0.0.1", server.port)
        near("watch k:")
        near.until(lambda stats: stats["state"] == "connecting" and stats["reason"])
        assert near("stop") == "true"
        assert near("watch x:") == "false"
        assert near.stats()["state"] == "idle"


def test_closed_while_the_server_is_silent(connect: Connect) -> None:
    def script(peer: Peer) -> None:
        peer.wait_until_gone()

    with scripted(script) as server:
        near = connect("127.0.0.1", server.port, timeout=60_000)
        near("watch k:")
        near("close")
        began = time.monotonic()
        assert near("stop") == "true"
        assert time.monotonic() - began < 10  # of the minute that it might wait
        assert near.stats()["state"] == "closed"
        assert near("ticket 0 k:1") == "void"


# --- a scripted server --------------------------------------------------------------

RUN_ID = "f" * 40
INFO = f"# Server\r\nredis_version:7.0.15\r\nrun_id:{RUN_ID}\r\ntcp_port:1\r\n"
CHANNEL = b"$20\r\n__redis__:invalidate\r\n"


def confirm(peer: Peer, resp3: bool) -> None:
    """The server's part until the link is confirmed."""
    peer.greet()
    assert peer.read() == [b"INFO", b"server"]
    peer.send(b"$%d\r\n%s\r\n" % (len(INFO), INFO.encode()))
    assert peer.read() == [b"HELLO", b"3"]
    if resp3:
        peer.send(
            b"%2\r\n$5\r\nproto\r\n:3\r\n$7\r\nmodules\r\n*1\r\n%1\r\n+a\r\n,1.5\r\n"
        )
        assert peer.read()[:3] == [b"CLIENT", b"TRACKING", b"ON"]
        peer.send(b"+OK\r\n")
        return
    peer.send(b"-NOPROTO unsupported protocol version\r\n")
    assert peer.read()[:5] == [b"CLIENT", b"TRACKING", b"ON", b"REDIRECT", b"1"]
    assert peer.read() == [b"SUBSCRIBE", b"__redis__:invalidate"]
    peer.send(b"+OK\r\n*3\r\n$9\r\nsubscribe\r\n" + CHANNEL + b":1\r\n")


def keys_message(resp3: bool, *keys: bytes) -> bytes:
    head = b">2\r\n$10\r\ninvalidate\r\n"
    if not resp3:
        head = b"*3\r\n$7\r\nmessage\r\n" + CHANNEL
    if not keys:
        return head + (b"_\r\n" if resp3 else b"$-1\r\n")
    body = b"".join(b"$%d\r\n%s\r\n" % (len(key), key) for key in keys)
    return head + b"*%d\r\n" % len(keys) + body


def obeying(resp3: bool, orders: dict[str, bytes]) -> Script:
    """Confirms, answers each PING, and sends what the test puts under "send" (whole) or
    "drip" (byte by byte); "end" ends the connection."""

    def script(peer: Peer) -> None:
        confirm(peer, resp3)
        peer.link.settimeout(0.005)
        while "end" not in orders:
            peer.send(orders.pop("send", b""))
            for byte in orders.pop("drip", b""):
                peer.send(bytes([byte]))
            try:
                received = peer.link.recv(4096)
            except TimeoutError:
                continue
            except OSError:
                return
            if not received:
                return
            for _ in range(received.count(b"PING")):
                peer.send(b"+PONG\r\n" if resp3 else b"*2\r\n$4\r\npong\r\n$0\r\n\r\n")
        del orders["end"]

    return script


@pytest.mark.parametrize("resp3", [True, False], ids=["resp3", "resp2"])
def test_reply_and_invalidation_in_either_order(resp3: bool, connect: Connect) -> None:
    orders: dict[str, bytes] = {}
    with scripted(obeying(resp3, orders)) as server:
        near = connect("127.0.0.1", server.port, interval=100)
        near("watch k:")
        near.confirmed()
        # The invalidation is read before the reply.
        assert near("ticket 0 k:1") == "good"
        assert near("ticket 1 k:2") == "good"
        assert near("holds 0") == "true"
        orders["send"] = keys_message(resp3, b"k:1", b"k:3", b"")
        assert near("wait 0 30000") == "overtaken"
        assert near("holds 0") == "false"
        assert near("store 0 k:1 old 3600000") == "refused"
        assert near("store 1 k:2 new 3600000") == "stored"
        assert near("find k:1") == "-"
        assert near("find k:2") == "new"
        # The reply is read before the invalidation.
        near("ticket 0 k:1")
        assert near("store 0 k:1 old 3600000") == "stored"
        assert near("find k:1") == "old"
        orders["send"] = keys_message(resp3, b"k:1")
        near.gone("k:1")
        # The same with a message for all keys, while one reply is on its way.
        near.keep("k:1", "old")
        near("ticket 0 k:3")
        orders["send"] = keys_message(resp3)
        near.gone("k:1")
        assert near("find k:2") == "-"
        assert near("store 0 k:3 old 3600000") == "refused"
        # Own writes.
        near("ticket 0 k:1")
        near("kill k:1")
        assert near("store 0 k:1 old 3600000") == "refused"
        near("ticket 0 k:1")
        near("prefix k:")
        assert near("store 0 k:1 old 3600000") == "refused"
        near("ticket 0 k:1")
        near("clear")
        assert near("store 0 k:1 old 3600000") == "refused"
        assert near("wait 0 0") == "overtaken"
        near("ticket 0 k:1")
        assert near("wait 0 20") == "holds"
        assert near.stats()["links"] == 1


HOSTILE = {
    "unasked status": b"+OK\r\n",
    "unasked pong": b"+PONG\r\n+PONG\r\n",
    "unasked integer": b":1\r\n",
    "unasked bulk": b"$3\r\nabc\r\n",
    "unasked nil": b"_\r\n",
    "error": b"-ERR no\r\n",
    "empty array": b"*0\r\n",
    "empty push": b">0\r\n",
    "nil array": b"*-1\r\n",
    "another push": b">2\r\n$7\r\nmessage\r\n*0\r\n",
    "broken redirection": b">2\r\n$23\r\ntracking-redir-broken\r\n:1\r\n",
    "longer push": b">3\r\n$10\r\ninvalidate\r\n*0\r\n*0\r\n",
    "push of one": b">1\r\n$10\r\ninvalidate\r\n",
    "huge push": b">1000000000\r\n$10\r\ninvalidate\r\n",
    "huge keys": b">2\r\n$10\r\ninvalidate\r\n*1000000000\r\n",
    "negative keys": b">2\r\n$10\r\ninvalidate\r\n*-2\r\n",
    "key of gigabytes": b">2\r\n$10\r\ninvalidate\r\n*1\r\n$9999999999\r\n",
    "key of negative size": b">2\r\n$10\r\ninvalidate\r\n*1\r\n$-7\r\n",
    "nil key": b">2\r\n$10\r\ninvalidate\r\n*1\r\n$-1\r\n",
    "integer key": b">2\r\n$10\r\ninvalidate\r\n*1\r\n:1\r\n",
    "status key": b">2\r\n$10\r\ninvalidate\r\n*1\r\n+k:1\r\n",
    "nested keys": b">2\r\n$10\r\ninvalidate\r\n*1\r\n*1\r\n$1\r\nk\r\n",
    "deep keys": b">2\r\n$10\r\ninvalidate\r\n" + b"*1\r\n" * 50,
    "keys as a map": b">2\r\n$10\r\ninvalidate\r\n%1\r\n$1\r\na\r\n$1\r\nb\r\n",
    "keys as a set": b">2\r\n$10\r\ninvalidate\r\n~1\r\n$1\r\na\r\n",
    "keys as a string": b">2\r\n$10\r\ninvalidate\r\n$3\r\nk:1\r\n",
    "double": b",1.5\r\n",
    "boolean": b"#t\r\n",
    "big number": b"(123\r\n",
    "verbatim": b"=7\r\ntxt:abc\r\n",
    "map": b"%1\r\n$1\r\na\r\n$1\r\nb\r\n",
    "attribute": b"|1\r\n$1\r\na\r\n$1\r\nb\r\n+PONG\r\n",
    "another channel": b"*3\r\n$7\r\nmessage\r\n$1\r\nx\r\n*1\r\n$3\r\nk:1\r\n",
    "unterminated": b">2\r\n$10\r\ninvalidateXX*1\r\n$3\r\nk:1\r\n",
    "endless line": b"+" + b"x" * 200_000,
    "garbage": bytes(range(256)),
    "zeros": b"\0" * 100,
    "end": b"",
}


@pytest.mark.parametrize("resp3", [True, False], ids=["resp3", "resp2"])
def test_hostile_stream_closes_and_flushes(resp3: bool, program: Path) -> None:
    """Each is sent on a connection of its own, whole or in pieces."""
    orders: dict[str, bytes] = {}
    whole = [("send" if data else "end", data) for data in HOSTILE.values()]
    drops = [("drip", data) for data in HOSTILE.values() if 0 < len(data) < 300]
    streams = whole + drops
    with scripted(obeying(resp3, orders)) as server:
        # Few on one driver, since it makes longer and longer pauses between them.
        for first in range(0, len(streams), 4):
            near = Driver(program, "127.0.0.1", server.port, interval=20_000)
            near("watch k:")
            for count, (how, data) in enumerate(streams[first : first + 4]):
                near.confirmed(count + 1)
                near.keep("k:9", "kept")
                orders[how] = data
                near.gone("k:9")
            near.close()


HANDSHAKES = {
    "info is an array": (b"*1\r\n$1\r\na\r\n",),
    "info has no run_id": (b"$5\r\nabcde\r\n",),
    "run_id is too long": (b"$67\r\nrun_id:" + b"a" * 58 + b"\r\n\r\n",),
    "hello is a status": (b"$14\r\nrun_id:abcdefg\r\n", b"+OK\r\n"),
    "hello is an array": (b"$14\r\nrun_id:abcdefg\r\n", b"*2\r\n+proto\r\n:3\r\n"),
    "hello is deep": (b"$14\r\nrun_id:abcdefg\r\n", b"%1\r\n+a\r\n" + b"*1\r\n" * 20),
    "hello is huge": (b"$14\r\nrun_id:abcdefg\r\n", b"%999999999999\r\n"),
    "tracking is a pong": (b"$14\r\nrun_id:abcdefg\r\n", b"%0\r\n", b"+PONG\r\n"),
    "tracking is a map": (b"$14\r\nrun_id:abcdefg\r\n", b"%0\r\n", b"%0\r\n"),
    "no subscription": (b"$14\r\nrun_id:abcdefg\r\n", b"-ERR\r\n", b"+OK\r\n+OK\r\n"),
}


@pytest.mark.parametrize("name", HANDSHAKES)
def test_hostile_handshake_confirms_nothing(name: str, connect: Connect) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        for answer in HANDSHAKES[name]:
            peer.read()
            peer.send(answer)
        peer.wait_until_gone()

    with scripted(script) as server:
        near = connect("127.0.0.1", server.port)
        near("watch k:")
        stats = near.until(lambda stats: bool(stats["reason"]))
        assert stats["links"] == 0
        assert stats["state"] in ("connecting", "refused")
        assert near("ticket 0 k:1") == "void"


# --- threads ------------------------------------------------------------------------


@pytest.fixture(scope="session")
def tsan_library() -> list[Path]:
    return compile_library(*TSAN)


@pytest.fixture(scope="session")
def stress(tsan_library: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("near")
    return compile_near(folder / "stress", [NEAR / "stress.c"], tsan_library, *TSAN)


def test_values_that_depend_on_others_under_tsan(
    tsan_library: list[Path], tmp_path: Path
) -> None:
    sources = [NEAR / "stress_dependants.c"]
    program = compile_near(tmp_path / "stress", sources, tsan_library, *TSAN)
    done = subprocess.run([program, "1"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[0]) > 0


# With no room for all keys, and with enough.
SIZES = [8_000, 100_000]


def run_stress(
    program: Path,
    host: str,
    port: int,
    seconds: int,
    size: int,
    *more: object,
    trouble: Callable[[], None] | None = None,
) -> None:
    """Runs it to its end, making `trouble` again and again until then."""
    words = [host, port, seconds, 100, size, *more]
    with subprocess.Popen(
        [program, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while trouble and process.poll() is None:
            trouble()
        out, complaints = process.communicate(timeout=seconds + 120)
    assert process.returncode == 0, out + complaints
    told = out.split()
    counts = {
        name: int(value) for name, value in zip(told[::2], told[1::2], strict=True)
    }
    for name in ("hits", "fills", "writes", "links", "stores", "invalidations"):
        assert counts[name] > 0, counts
    assert counts["bytes"] <= size


@pytest.mark.parametrize("size", SIZES)
def test_threads_in_trouble(stress: Path, size: int, fresh_server: Server) -> None:
    run_stress(stress, "127.0.0.1", fresh_server.port, 2, size)


def run_behind_proxy(stress: Path, server: Server, seconds: int) -> None:
    """Link and data go through a proxy that falls silent, and the foreign writer
    does not: the server answers him, and nobody hears of it."""
    proxy = Proxy(server.port)
    dice = random.Random(5)

    def trouble() -> None:
        time.sleep(dice.uniform(0.1, 1))
        proxy.swallow = True
        time.sleep(dice.uniform(0.05, 0.6))
        proxy.swallow = False
        proxy.reset_all()  # what was swallowed is lost: the streams are torn

    try:
        more = [server.port]
        place = ("127.0.0.1", proxy.port)
        run_stress(stress, *place, seconds, SIZES[1], *more, trouble=trouble)
    finally:
        proxy.close()


def test_threads_behind_a_proxy_that_falls_silent(
    stress: Path, fresh_server: Server
) -> None:
    run_behind_proxy(stress, fresh_server, 3)


@pytest.mark.soak
def test_threads_long_behind_a_proxy(stress: Path, fresh_server: Server) -> None:
    run_behind_proxy(stress, fresh_server, 600)


@pytest.mark.soak
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("options", [(), ("--rename-command", "HELLO", "")])
def test_threads_in_long_trouble(
    stress: Path, size: int, options: tuple[str, ...], server_binary: str
) -> None:
    with running(Server(*options, binary=server_binary)) as server:
        run_stress(stress, server.socket_path, 0, 600, size)
