"""A throwaway redis-server that speaks TLS, with a certificate of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

from benchmarks.server import HOST, Server, free_port

MAKE_CERTIFICATE = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
    "-subj /CN=bench -addext subjectAltName=IP:127.0.0.1"
)


class TlsServer(Server):
    """The plain port stays, for what is no part of a measurement."""

    tls_port = 0

    @property
    def ca(self) -> Path:
        """The certificate signs itself: it is its own authority."""
        return Path(self._folder.name) / "cert.pem"

    @property
    def tls_url(self) -> str:
        return f"rediss://{HOST}:{self.tls_port}/0"

    def more_options(self) -> list[str]:
        key = self.ca.with_name("key.pem")
        made = subprocess.run(
            [*MAKE_CERTIFICATE.split(), "-keyout", str(key), "-out", str(self.ca)],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode != 0:
            raise RuntimeError(f"openssl makes no certificate: {made.stderr}")
        self.tls_port = free_port()
        return [
            *("--tls-port", str(self.tls_port), "--tls-auth-clients", "no"),
            *("--tls-cert-file", str(self.ca), "--tls-key-file", str(key)),
        ]
