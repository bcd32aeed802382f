"""What the tests of TLS need: an authority of their own, real servers with a TLS port,
and `openssl s_server` for what no real server does.

Certificates are made by the openssl command, which the peers need anyway: no Python
package is then between the tests and what they test.
"""

from __future__ import annotations

import contextlib
import fcntl
import queue
import shutil
import socket
import ssl
import subprocess
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

from scripted import Gone, Script
from scripted import Peer as ScriptPeer
from servers import PORTS, Server, free_port, server_binaries

CANARY = "canary-pa55phrase"
LOOPBACK = "DNS:localhost,IP:127.0.0.1"


def openssl(*args: str | Path) -> str:
    program = shutil.which("openssl")
    if program is None:
        raise RuntimeError(
            "the tests need the openssl command: apt-get install openssl"
        )
    done = subprocess.run(
        [program, *map(str, args)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"openssl {args[0]}: {done.stderr}")
    return done.stdout


@dataclass(frozen=True)
class Identity:
    """A certificate and its key, as PEM files."""

    cert: Path
    key: Path


class Authority:
    """Signs certificates; `ca` is its own."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.folder = folder / name
        self.folder.mkdir()
        self.ca = self.folder / "ca.pem"
        self._key = self.folder / "ca.key"
        openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", f"/CN={name}"),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
            *("-keyout", self._key, "-out", self.ca),
        )

    def issue(self, name: str, names: str = LOOPBACK, days: int = 2) -> Identity:
        """A certificate for `names`, in openssl's words; negative days: expired."""
        made = Identity(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        request = self.folder / f"{name}.csr"
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={names}\n")
        openssl(
            *("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-subj", f"/CN={name}", "-keyout", made.key, "-out", request),
        )
        openssl(
            *("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self._key),
            *("-CAcreateserial", "-days", str(days), "-extfile", extensions),
            *("-out", made.cert),
        )
        return made

    def self_signed(self, name: str = "alone") -> Identity:
        made = Identity(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", f"/CN={name}"),
            *("-addext", f"subjectAltName={LOOPBACK}"),
            *("-keyout", made.key, "-out", made.cert),
        )
        return made

    def lock(self, identity: Identity, password: str = CANARY) -> Identity:
        """The same with an encrypted key."""
        key = identity.key.with_suffix(".locked")
        openssl(
            *("pkey", "-in", identity.key, "-aes-256-cbc", "-passout"),
            *(f"pass:{password}", "-out", key),
        )
        return Identity(identity.cert, key)


def server_context(identity: Identity) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.cert, identity.key)
    return context


def over_tls(context: ssl.SSLContext, script: Script) -> Script:
    """The script of a scripted server, by TLS. A link that it closes is closed without
    a close_notify; `peer.link.unwrap()` sends one."""

    def encrypted(peer: ScriptPeer) -> None:
        try:
            peer.link = context.wrap_socket(peer.link, server_side=True)
        except OSError as error:
            raise Gone from error
        peer.stream = peer.link.makefile("rb")
        script(peer)

    return encrypted


class RecordPeer:
    """The server's end of a TLS link whose records a test has in hand."""

    def __init__(self, context: ssl.SSLContext, link: socket.socket) -> None:
        self.link = link
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=True)
        self._turn(self._tls.do_handshake)

    def _turn(self, call: Callable[[], Any]) -> Any:
        while True:
            try:
                result = call()
                self.send_record(self._out.read())
                return result
            except ssl.SSLWantReadError:
                self.send_record(self._out.read())
                self._in.write(self.read_record())

    def record(self, data: bytes) -> bytes:
        """What would go over the link for these bytes."""
        self._tls.write(data)
        return self._out.read()

    def send_record(self, record: bytes) -> None:
        try:
            self.link.sendall(record)
        except OSError as error:
            raise Gone from error

    def read_record(self) -> bytes:
        try:
            data = self.link.recv(65536)
        except OSError as error:
            raise Gone from error
        if not data:
            raise Gone
        return data

    def read(self) -> bytes:
        """Some of what the client said."""
        data: bytes = self._turn(lambda: self._tls.read(65536))
        return data

    def send(self, data: bytes) -> None:
        self.send_record(self.record(data))


class TlsServer(Server):
    """A real server with a TLS port, which `url` names with the `ca` to trust, beside
    the plain one, which `cli` uses."""

    def __init__(
        self,
        identity: Identity,
        *options: str,
        ca: Path,
        clients: str = "no",
        **rest: Any,
    ) -> None:
        super().__init__(**{"binary": server_binaries()[0], **rest})
        self.tls_port = 0
        self.ca = ca
        self.plain_options = options
        self.tls_options = (
            *("--tls-cert-file", str(identity.cert)),
            *("--tls-key-file", str(identity.key)),
            *("--tls-auth-clients", clients),
            *("--tls-ca-cert-file", str(ca)),
        )

    def _spawn(self, port: int) -> subprocess.Popen[bytes]:
        # The port of the first start stays, as that of the plain one does.
        if not self.port:
            self.tls_port = free_port()
        tls = ("--tls-port", str(self.tls_port), *self.tls_options)
        self.options = (*self.plain_options, *tls)
        return super()._spawn(port)

    @property
    def url(self) -> str:
        return f"{self.tls_url()}?tls_ca={quote(str(self.ca), safe='')}"

    def close(self) -> None:
        super().close()
        PORTS.release(self.tls_port)

    def tls_url(self, host: str = "127.0.0.1", login: str = "") -> str:
        return f"rediss://{login}{host}:{self.tls_port}/0"


@contextlib.contextmanager
def running(server: TlsServer) -> Iterator[TlsServer]:
    try:
        server.start()
        yield server
    finally:
        server.close()


class Peer:
    """`openssl s_server`: what it is told it sends encrypted, and what comes to it is
    kept; a line of one letter is a command to it (K: update the keys and ask the peer
    to, R: renegotiate and ask for a certificate, Q: end)."""

    def __init__(self, identity: Identity, *options: str) -> None:
        self.port = free_port()
        self._process = subprocess.Popen(
            [
                *("openssl", "s_server", "-accept", f"127.0.0.1:{self.port}"),
                *("-cert", str(identity.cert), "-key", str(identity.key)),
                *options,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
        )
        self._came: queue.Queue[bytes] = queue.Queue()
        self.output = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.wait_for(b"ACCEPT")

    @property
    def url(self) -> str:
        return f"rediss://localhost:{self.port}/0"

    def _read(self) -> None:
        assert self._process.stdout is not None
        while data := self._process.stdout.read(65536):
            self._came.put(data)
        self._came.put(b"")

    def wait_for(self, text: bytes) -> None:
        """Until the output since the last call holds `text`."""
        while text not in self.output:
            data = self._came.get(timeout=60)
            if not data:
                raise RuntimeError(f"s_server ended: {self.output.decode()}")
            self.output += data
        self.output = self.output.partition(text)[2]

    def post(self, data: bytes) -> None:
        """For s_server to read when it can: not in mid-handshake."""
        assert self._process.stdin is not None
        self._process.stdin.write(data)

    def send(self, data: bytes) -> None:
        """Returns once s_server has read it: what it reads at once is one piece."""
        assert self._process.stdin is not None
        self.post(data)
        left = bytearray(4)
        end = time.monotonic() + 60
        while True:
            fcntl.ioctl(self._process.stdin, termios.FIONREAD, left)
            if not any(left):
                return
            assert time.monotonic() < end, "s_server does not read"
            time.sleep(0.001)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        PORTS.release(self.port)
        self._reader.join(30)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@contextlib.contextmanager
def temporary_authority() -> Iterator[Authority]:
    folder = Path(tempfile.mkdtemp(prefix="redlane-tls-"))
    try:
        yield Authority(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
