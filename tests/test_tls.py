"""TLS with real servers: who is trusted, what is said when nobody is, and that it is
the same client otherwise."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redlane
from proxy import Proxy
from scripted import Peer as ScriptPeer
from scripted import scripted
from servers import PATIENT, Server, patient
from tls import (
    CANARY,
    Authority,
    Identity,
    Peer,
    TlsServer,
    openssl,
    running,
    server_context,
)
from toolset import is_connected, wait_until

SOAK = os.environ.get("REDLANE_SOAK") == "1"


@contextlib.contextmanager
def connected(url: str, **options: Any) -> Iterator[redlane.Client]:
    with redlane.Client(url, **{**PATIENT, **options}) as client:
        yield client


def failure_of(url: str, **options: Any) -> redlane.ConnectionError:
    """How PING fails; that it does so as a ConnectionError, soon, and says nothing that
    it should not, is a part of every such test."""
    with connected(url, **options) as client:
        with pytest.raises(redlane.ConnectionError) as caught:
            client.ping()
        report = client.health()
    assert not isinstance(caught.value, redlane.TimeoutError)
    assert CANARY not in str(caught.value) + str(report)
    assert "Success" not in str(caught.value)
    assert report["connected"] is False
    return caught.value


# --- who is trusted ---------------------------------------------------------------


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"), "stranger")


def serving(identity: Identity, authority: Authority, *options: str) -> Any:
    return running(TlsServer(identity, *options, ca=authority.ca))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST"])
def test_good_certificate(
    tls_server: TlsServer, authority: Authority, host: str
) -> None:
    with connected(tls_server.tls_url(host), tls_ca=authority.ca) as client:
        assert client.ping() is True
        assert client.set("k", b"\0\r\n") is True
        assert client.get("k") == tls_server.cli("GET", "k") == b"\0\r\n"
        report = client.health()
    assert report["connected"] is True
    assert report["tls"] == {
        "version": "TLSv1.3",
        "cipher": "TLS_AES_256_GCM_SHA384",
    }


def test_health_before_the_first_connection_and_without_tls(
    tls_server: TlsServer, redis_server: Server
) -> None:
    with connected(redis_server.url) as client:
        assert client.health()["tls"] is None
    with connected("rediss://127.0.0.1:1") as client:
        assert client.health()["tls"] == {"version": None, "cipher": None}


def test_unknown_authority(tls_server: TlsServer, stranger: Authority) -> None:
    with_another = failure_of(tls_server.tls_url(), tls_ca=stranger.ca)
    with_the_systems = failure_of(tls_server.tls_url())
    for error in (with_another, with_the_systems):
        assert "not trusted: self-signed certificate in certificate chain" in str(error)


def test_the_systems_certificates(
    tls_server: TlsServer, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read once, when they are needed, though threads need them at once."""
    answers: list[object] = []
    with connected(tls_server.tls_url()) as client:
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
        threads = [
            threading.Thread(target=lambda: answers.append(client.ping()))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [True] * 8


def test_folder_of_authorities(
    tls_server: TlsServer, authority: Authority, stranger: Authority, tmp_path: Path
) -> None:
    for number, ca in enumerate((stranger.ca, authority.ca)):
        (tmp_path / f"{number}.pem").write_bytes(ca.read_bytes())
    openssl("rehash", tmp_path)
    with connected(tls_server.tls_url(), tls_ca=tmp_path) as client:
        assert client.ping() is True


def test_expired(authority: Authority) -> None:
    with serving(authority.issue("expired", days=-1), authority) as server:
        error = failure_of(server.tls_url(), tls_ca=authority.ca)
    assert "not trusted: certificate has expired" in str(error)


def test_names(authority: Authority) -> None:
    names = "DNS:redis.example,DNS:*.wild.example,IP:127.0.0.2"
    with serving(authority.issue("named", names), authority) as server:
        assert "not trusted: IP address mismatch" in str(
            failure_of(server.tls_url(), tls_ca=authority.ca)
        )
        assert "not trusted: hostname mismatch" in str(
            failure_of(server.tls_url("localhost"), tls_ca=authority.ca)
        )
        for name in ("redis.example", "redis.example.", "a.wild.example", "127.0.0.2"):
            with connected(
                server.tls_url(), tls_ca=authority.ca, tls_server_name=name
            ) as client:
                assert client.ping() is True
        for name in ("wild.example", "a.b.wild.example", "xredis.example", "127.0.0.3"):
            assert "mismatch" in str(
                failure_of(server.tls_url(), tls_ca=authority.ca, tls_server_name=name)
            )


def test_self_signed_is_trusted_where_it_is_the_ca(authority: Authority) -> None:
    alone = authority.self_signed()
    with serving(alone, authority) as server:
        assert "self-signed certificate" in str(
            failure_of(server.tls_url(), tls_ca=authority.ca)
        )
        with connected(server.tls_url(), tls_ca=alone.cert) as client:
            assert client.ping() is True


def test_the_servers_own_certificate_as_the_ca(
    tls_server: TlsServer, authority: Authority
) -> None:
    leaf = authority.folder / "server.pem"
    with connected(tls_server.tls_url(), tls_ca=leaf) as client:
        assert client.ping() is True


def test_server_name_is_sent(authority: Authority) -> None:
    """SNI has the name, and no address."""
    asked: list[str | None] = []
    context = server_context(authority.issue("sni"))
    context.sni_callback = lambda _, name, __: asked.append(name)

    def script(peer: ScriptPeer) -> None:
        with contextlib.suppress(OSError):
            context.wrap_socket(peer.link, server_side=True).close()

    with scripted(script) as server:
        for host in ("localhost", "127.0.0.1"):
            failure_of(f"rediss://{host}:{server.port}", tls_ca=authority.ca)
    assert set(asked) == {"localhost", None}


# --- client certificates ----------------------------------------------------------


@pytest.mark.parametrize("protocol", ["TLSv1.2", "TLSv1.3"])
def test_client_certificates(
    authority: Authority, stranger: Authority, protocol: str
) -> None:
    server = TlsServer(
        authority.issue("strict"),
        *("--tls-protocols", protocol),
        ca=authority.ca,
        clients="yes",
    )
    mine, locked = authority.issue("client"), authority.lock(authority.issue("safe"))
    both = authority.folder / "both.pem"
    both.write_bytes(mine.cert.read_bytes() + mine.key.read_bytes())
    theirs = stranger.issue("client")
    with running(server):
        url, ca = server.tls_url(), authority.ca
        # With TLS 1.3 the server says so after the client's side of the handshake.
        missing = failure_of(url, tls_ca=ca)
        assert "client certificate" in str(missing)
        unknown = failure_of(url, tls_ca=ca, tls_cert=theirs.cert, tls_key=theirs.key)
        assert "unknown ca" in str(unknown)
        for options in (
            {"tls_cert": mine.cert, "tls_key": mine.key},
            {"tls_cert": both},
            {
                "tls_cert": locked.cert,
                "tls_key": locked.key,
                "tls_key_password": CANARY,
            },
        ):
            with connected(url, tls_ca=ca, **options) as client:
                assert client.ping() is True
                report = client.health()
            assert report["tls"]["version"] == protocol
            assert CANARY not in str(report)


# --- versions, and no TLS at all --------------------------------------------------


def test_tls_1_1_is_too_old(authority: Authority) -> None:
    identity = authority.issue("old")
    with Peer(identity, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0") as peer:
        error = failure_of(peer.url, tls_ca=authority.ca)
    assert "protocol version" in str(error)
    assert "TLS 1.2 is the oldest" in str(error)


def test_plain_server_behind_rediss() -> None:
    """What comes there is a ClientHello, and no password."""
    came: list[bytes] = []

    def script(peer: ScriptPeer) -> None:
        came.append(peer.link.recv(65536))
        peer.send(b"-ERR unknown command\r\n")
        came.append(peer.wait_until_gone())

    with scripted(script) as server:
        error = failure_of(f"rediss://:{CANARY}@127.0.0.1:{server.port}")
    assert "wrong version number; does the server speak TLS on this port?" in str(error)
    assert came[0].startswith(b"\x16\x03")
    assert not any(CANARY.encode() in data or b"HELLO" in data for data in came)


def test_silent_server_behind_rediss() -> None:
    """Also that the time-outs are 2 s where none are given."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with redlane.Client(f"rediss://127.0.0.1:{port}") as client:
            begin = time.monotonic()
            with pytest.raises(redlane.TimeoutError, match="in the TLS handshake"):
                client.ping()
            assert 1.9 <= time.monotonic() - begin < 30


def test_tls_server_behind_redis(tls_server: TlsServer) -> None:
    error = failure_of(f"redis://127.0.0.1:{tls_server.tls_port}")
    assert "does it speak TLS on this port (rediss://)?" in str(error)


def test_server_that_has_answered_is_away(redis_server: Server) -> None:
    """What ends without a word may be of TLS, unless it has spoken before."""
    with Proxy(redis_server.port) as proxy:
        proxy.cut_after = 0
        assert "does it speak TLS" in str(failure_of(proxy.url))
        proxy.heal()
        with connected(proxy.url) as client:
            assert client.ping()
            proxy.cut_after = 0
            proxy.reset_all()
            for _ in range(3):
                with pytest.raises(redlane.ConnectionError) as caught:
                    client.ping()
                assert "TLS" not in str(caught.value)


def test_alert_in_answer_to_a_plain_hello() -> None:
    def script(peer: ScriptPeer) -> None:
        peer.read()
        peer.send(b"\x15\x03\x01\x00\x02\x02\x46")
        peer.wait_until_gone()

    with scripted(script) as server:
        assert "rediss://" in str(failure_of(server.url))


# --- the same client otherwise ----------------------------------------------------


def test_large_values_both_ways(tls_server: TlsServer) -> None:
    data = os.urandom(1 << 20) * 20
    with connected(tls_server.url) as client:
        assert client.set("large", data) is True
        assert client.get("large") == data
        with client.pipeline() as pipe:
            for _ in range(3):
                pipe.set("large", data)
                pipe.get("large")
            assert pipe.execute() == [True, data] * 3


def test_acl_user(authority: Authority) -> None:
    user, password = "us:er@1", "s3cret/?#[]@%:canary"
    with serving(authority.issue("acl"), authority) as server:
        server.cli("ACL", "SETUSER", user, "on", f">{password}", "~*", "+@all")
        login = "us%3Aer%401:s3cret%2F%3F%23%5B%5D%40%25%3Acanary@"
        options = {"tls_ca": authority.ca, "name": "me", "tls_server_name": "localhost"}
        with connected(server.tls_url(login=login), **options) as client:
            assert client.execute("ACL", "WHOAMI") == user.encode()
            assert client.execute("CLIENT", "GETNAME") == b"me"
            assert password not in repr(client) + str(client.health())
        with connected(server.tls_url(login="us%3Aer%401:no@"), **options) as client:
            with pytest.raises(redlane.AuthenticationError):
                client.ping()


def test_threads_get_their_own_replies(tls_server: TlsServer) -> None:
    calls = 20_000 if SOAK else 400
    wrong: list[object] = []

    with connected(tls_server.url, pool_size=4) as client:

        def work(thread: int) -> None:
            for call in range(calls):
                tag = f"{thread}:{call}:".encode() + b"x" * (call % 700 * 30)
                answer = client.execute("ECHO", tag)
                if answer != tag:
                    wrong.append((tag[:20], answer))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_killed_and_started_again(fresh_tls_server: TlsServer) -> None:
    with connected(fresh_tls_server.url) as client:
        client.set("k", "v")
        fresh_tls_server.kill()
        with pytest.raises(redlane.ConnectionError):
            client.get("k")
        fresh_tls_server.start()
        wait_until(lambda: is_connected(client), "the return")
        assert client.get("k") is None


def test_idle_connection_that_the_server_closes(tls_server: TlsServer) -> None:
    with connected(tls_server.url) as client:
        for expected in range(1, 6):
            assert client.incr("n") == expected
            me = str(client.execute("CLIENT", "ID"))
            assert tls_server.cli("CLIENT", "KILL", "ID", me) == 1


def test_cache_without_a_trusted_server(tls_server: TlsServer) -> None:
    """An untrusted server is one that is away: the tools go on in memory."""
    cache = redlane.Cache(patient(tls_server.tls_url()))
    cache.set("k", 1)
    assert cache.get("k") == 1
    assert tls_server.cli("DBSIZE") == 0


def crypto_error(make: Callable[[ctypes.CDLL], object]) -> ctypes.CDLL:
    """The library that redlane uses, after `make` left an error in this thread."""
    with open("/proc/self/maps") as maps:
        path = next(line.split()[-1] for line in maps if "/libcrypto.so.3" in line)
    library = ctypes.CDLL(path)
    make(library)
    return library


def leave_error(library: ctypes.CDLL) -> None:
    library.ERR_new()
    library.ERR_set_error(20, 1, None)  # of the SSL library
    assert library.ERR_peek_error() != 0


def test_unrelated_error_in_the_queue_of_the_thread(tls_server: TlsServer) -> None:
    with connected(tls_server.url) as client:
        client.ping()
        library = crypto_error(leave_error)
        assert client.ping() is True
        leave_error(library)
        assert client.echo("x" * 100_000) == b"x" * 100_000
        leave_error(library)
        with connected(tls_server.url) as other:
            assert other.ping() is True
        failure_of(tls_server.tls_url())
        assert library.ERR_peek_error() == 0


# --- leaks ------------------------------------------------------------------------


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def resident_kb() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 1024


def test_connections_leave_nothing_behind(
    tls_server: TlsServer, stranger: Authority
) -> None:
    def cycle(count: int) -> None:
        for _ in range(count):
            with connected(tls_server.url) as client:
                client.ping()

    def fail(count: int) -> None:
        for _ in range(count):
            with connected(tls_server.tls_url(), tls_ca=stranger.ca) as client:
                with pytest.raises(redlane.ConnectionError):
                    client.ping()

    cycle(50)
    fail(20)
    grown = []
    for _ in range(4):  # what comes once is no leak: that is there each time
        descriptors, memory = open_descriptors(), resident_kb()
        cycle(1000 if SOAK else 150)
        fail(200 if SOAK else 30)
        # The probes of the failed ones run on a thread.
        wait_until(lambda d=descriptors: open_descriptors() <= d, "the descriptors")
        grown.append(resident_kb() - memory)
        if "REDLANE_SANITIZED" in os.environ:  # ASan keeps what is freed for a while
            return
        # One session leaked each time would be some 50 kB of it.
        if grown[-1] < 4000:
            return
    raise AssertionError(f"kilobytes more, each time: {grown}")
