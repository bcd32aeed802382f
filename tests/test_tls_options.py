"""The options of TLS: keywords, the URL's query, the environment; what is said of those
that are wrong, and what is never said."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redlane
from redlane import Client, ConfigurationError
from tls import CANARY, Authority, Identity, TlsServer, running

URL = "rediss://127.0.0.1:1"


@pytest.fixture(scope="module")
def mine(authority: Authority) -> Identity:
    return authority.issue("mine")


@pytest.fixture(scope="module")
def locked(authority: Authority, mine: Identity) -> Identity:
    return authority.lock(mine)


def refused(url: str = URL, **options: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        Client(url, **options)
    shown = "".join(traceback.format_exception(caught.value))
    assert CANARY not in shown
    assert "PRIVATE" not in shown
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return str(caught.value)


# --- what is wrong is named -------------------------------------------------------


@pytest.mark.parametrize("url", ["redis://h", "unix:///s", "memory://"])
@pytest.mark.parametrize(
    "option", ["tls_ca", "tls_cert", "tls_key", "tls_key_password", "tls_server_name"]
)
def test_without_tls(url: str, option: str) -> None:
    assert refused(url, **{option: CANARY}) == (
        f"{option}: it goes with a rediss:// URL"
    )
    if url != "memory://":
        message = refused(f"{url}?{option}={CANARY}")
        assert message == f"{option}: it goes with a rediss:// URL"


@pytest.mark.parametrize("option", ["tls_ca", "tls_cert", "tls_key"])
def test_files_that_are_not_there(option: str, mine: Identity, tmp_path: Path) -> None:
    others = {"tls_cert": mine.cert} if option == "tls_key" else {}

    def message(value: object) -> str:
        return refused(**{**others, option: value})

    assert message(tmp_path / CANARY) == f"{option}: No such file or directory"
    assert message("") == f"{option}: it is empty"
    assert message(5) == f"{option}: it must be a path, str or os.PathLike"
    assert message("a\0b") == f"{option}: it must be a path, str or os.PathLike"
    if option != "tls_ca":
        assert message(tmp_path) == f"{option}: Is a directory"
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text(f"nonsense {CANARY}")
    assert message(nonsense).startswith(f"{option}: no ")


def test_no_certificate_in_the_file_of_the_ca(mine: Identity) -> None:
    assert refused(tls_ca=mine.key).startswith("tls_ca: no certificate")


def test_contents_in_place_of_a_path(mine: Identity) -> None:
    text = mine.key.read_text()
    assert text.startswith("-----BEGIN PRIVATE KEY-----")
    for option in ("tls_ca", "tls_cert", "tls_key"):
        others = {"tls_cert": mine.cert} if option == "tls_key" else {}
        assert refused(**{**others, option: text}) == (
            f"{option}: it must be the path of a file, not its contents"
        )


def test_keys(authority: Authority, mine: Identity, locked: Identity) -> None:
    other = authority.issue("other")
    stranger = "the key does not belong to the certificate"
    cert = mine.cert
    assert refused(tls_key=mine.key) == "tls_key: it goes with tls_cert"
    assert refused(tls_key_password=CANARY) == "tls_key_password: it goes with tls_cert"
    assert refused(tls_cert=cert) == (
        "tls_cert: no private key in PEM, and there is no tls_key"
    )
    assert refused(tls_cert=cert, tls_key=other.key) == f"tls_key: {stranger}"
    assert refused(tls_cert=cert, tls_key=locked.key) == (
        "tls_key: the key is encrypted, and there is no tls_key_password"
    )
    for password in (CANARY + "x", "", "x" * 5000):
        assert (
            refused(tls_cert=cert, tls_key=locked.key, tls_key_password=password)
            == "tls_key_password: it does not open the key"
        )
    for password in (5, f"{CANARY}\udcff"):
        assert refused(
            tls_cert=cert, tls_key=locked.key, tls_key_password=password
        ).startswith("tls_key_password: it must be")
    for good in (CANARY, CANARY.encode()):
        client = Client(
            URL, tls_cert=str(cert), tls_key=locked.key, tls_key_password=good
        )
        assert CANARY not in repr(client) + client.url + str(client.health())
    # A password that is not needed is no mistake: the key may be encrypted elsewhere.
    Client(URL, tls_cert=cert, tls_key=mine.key, tls_key_password=CANARY)


@pytest.mark.parametrize("name", ["", "ü", "x" * 256, "a\0b", ".a", 5, b"h"])
def test_server_names(name: object) -> None:
    assert refused(tls_server_name=name) == (
        "tls_server_name: it must be a host name or an address, in ASCII"
    )


# --- the query --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ca", "cert", "key", "password"),
    [
        ("tls_ca", "tls_cert", "tls_key", "tls_key_password"),
        ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_keyfile_password"),
    ],
)
def test_query(
    authority: Authority, locked: Identity, ca: str, cert: str, key: str, password: str
) -> None:
    strict = TlsServer(authority.issue("strict"), ca=authority.ca, clients="yes")
    with running(strict):
        query = "&".join(
            f"{name}={quote(str(value), safe='')}"
            for name, value in {
                ca: authority.ca,
                cert: locked.cert,
                key: locked.key,
                password: CANARY,
                "tls_server_name": "localhost",
                "timeout": 30,
                "connect_timeout": 30,
            }.items()
        )
        client = Client(f"{strict.tls_url()}?{query}")
        assert client.ping() is True
        assert f"{password}=***" in client.url
        assert f"{key}=***" in client.url
        assert f"{ca}={quote(str(authority.ca), safe='')}" in client.url
        assert CANARY not in repr(client) + str(client.health())
        # A keyword wins.
        with pytest.raises(redlane.ConnectionError, match="hostname mismatch"):
            Client(f"{strict.tls_url()}?{query}", tls_server_name="other").ping()
        client.close()


def test_query_that_is_wrong(authority: Authority) -> None:
    ca = quote(str(authority.ca))
    assert refused(f"{URL}?tls_ca={ca}&ssl_ca_certs={ca}") == (
        "url: ssl_ca_certs: it is given twice, by two names"
    )
    assert "certificates are always verified" in refused(f"{URL}?ssl_cert_reqs=none")
    assert "certificates are always verified" in refused(f"{URL}?ssl_cert_reqs=")
    Client(f"{URL}?ssl_cert_reqs=required")
    assert "unknown parameter" in refused(f"{URL}?ssl_check_hostname=false")


# --- the environment, and what people see -----------------------------------------


def environment(**variables: str) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("REDIS")
    }
    return {**kept, **variables}


def run_cli(*args: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "redlane", *args],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(**variables),
        check=False,
    )
    assert CANARY not in done.stdout + done.stderr
    return done.stdout + done.stderr


def test_environment_and_doctor(authority: Authority, locked: Identity) -> None:
    strict = TlsServer(authority.issue("strict"), ca=authority.ca, clients="yes")
    with running(strict):
        variables = {
            "REDIS_URL": strict.tls_url("localhost"),
            "REDIS_TLS_CA": str(authority.ca),
            "REDIS_TLS_CERT": str(locked.cert),
            "REDIS_TLS_KEY": str(locked.key),
            "REDIS_TLS_KEY_PASSWORD": CANARY,
        }
        report = json.loads(run_cli("doctor", "--json", **variables))
        assert report["ok"] is True
        assert report["tls"] == "TLSv1.3, TLS_AES_256_GCM_SHA384"
        assert set(variables) <= set(report["variables"])
        assert "TLSv1.3" in run_cli("doctor", **variables)
        wrong = run_cli("doctor", **{**variables, "REDIS_TLS_SERVER_NAME": "other"})
        assert "hostname mismatch" in wrong
        missing = run_cli("doctor", **{**variables, "REDIS_TLS_KEY": "/nowhere"})
        assert "tls_key: No such file" in missing
        assert "REDIS_TLS_KEY" in missing


def test_nothing_is_logged_of_a_password(
    authority: Authority, locked: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    url = f"rediss://user:{CANARY}@127.0.0.1:1?tls_key_password={CANARY}"
    client = Client(url, tls_ca=authority.ca, tls_cert=locked.cert, tls_key=locked.key)
    with pytest.raises(redlane.ConnectionError) as caught:
        client.get("k")
    cache = redlane.Cache(client)
    cache.get("k")
    shown = caplog.text + str(caught.value) + repr(client) + str(client.health())
    assert "rediss://user:***@127.0.0.1:1?tls_key_password=***" in shown
    assert CANARY not in shown
