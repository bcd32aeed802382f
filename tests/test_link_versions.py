"""Which server it is: Redis and Valkey say it in words of their own."""

from __future__ import annotations

import re
import subprocess
import sys

import redlane
from servers import Server, server_name


def version_of(server: Server) -> str:
    """What the program itself says: `Redis server v=8.0.2 sha=…`."""
    said = subprocess.run(
        [server.binary, "--version"], capture_output=True, text=True, check=True
    ).stdout
    found = re.search(r"\bv=([0-9.]+)", said)
    assert found, said
    return found[1]


def test_health_names_the_version_of_the_server(redis_server: Server) -> None:
    with redlane.Client(redis_server.url, timeout=60, connect_timeout=60) as client:
        health = client.health()
        assert health["server_version"] == version_of(redis_server)
        assert health["connected"] is True
        assert health["used_memory"] > 0


def test_the_doctor_does_too(redis_server: Server) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "redlane", "doctor", "--url", redis_server.patient_url],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert version_of(redis_server) in done.stdout


def test_a_server_is_named_by_where_it_was_put() -> None:
    assert server_name("redis-server") == "redis-server"
    assert server_name("/usr/bin/redis-server") == "redis-server"
    assert server_name("/some/tree/.servers/redis-8/redis-server") == "redis-8"
