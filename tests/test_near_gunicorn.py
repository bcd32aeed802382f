"""A server that loads its application once and forks its workers, as gunicorn --preload
does, while the thread that keeps near values true runs."""

from __future__ import annotations

import http.client
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from children import started
from redlane import Cache, Client
from servers import Server, free_port

WORKERS = 2
LIMIT = 60.0

APPLICATION = """
import json, os, time
from redlane import Cache, Client

client = Client(os.environ["CACHE_URL"], timeout=10, connect_timeout=10)
cache = Cache(client, prefix="preload")

@cache
def number(name):
    return cache.get(name, 0)

# The thread runs before the first fork.
end = time.monotonic() + 30
while number.cache_info().near_hits < 1:
    assert time.monotonic() < end
    number("warm")

def application(environ, start_response):
    answer = {
        "pid": os.getpid(),
        "value": cache.get("value"),
        "near_hits": number.cache_info().near_hits + bool(number("x")),
        "near": client.health()["near"]["state"],
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
"""


def ask(port: int) -> dict[str, Any] | None:
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        link.request("GET", "/")
        answer: dict[str, Any] = json.loads(link.getresponse().read())
    except OSError:
        return None
    finally:
        link.close()
    return answer


def until_all_say(port: int, value: int) -> None:
    """Until each worker has given this value with near hits of its own."""
    hits: dict[int, set[int]] = {}
    end = time.monotonic() + LIMIT
    while sum(len(seen) > 1 for seen in hits.values()) < WORKERS:
        assert time.monotonic() < end, hits
        answer = ask(port)
        if answer and answer["value"] == value and answer["near"] == "on":
            hits.setdefault(answer["pid"], set()).add(answer["near_hits"])
        else:
            time.sleep(0.01)


def test_workers_of_a_preloaded_application(
    redis_server: Server, tmp_path: Path
) -> None:
    (tmp_path / "preloaded.py").write_text(APPLICATION)
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", WORKERS]
    command += ["--bind", f"127.0.0.1:{port}", "--chdir", tmp_path]
    command += ["--env", f"CACHE_URL={redis_server.url}", "preloaded:application"]
    client = Client(redis_server.url, timeout=10)
    cache = Cache(client, prefix="preload")
    log = tmp_path / "log"
    with log.open("w") as output:
        with started(command, stdout=output, stderr=output) as master:
            for value in range(3):
                cache.set("value", value)
                until_all_say(port, value)
            master.send_signal(signal.SIGTERM)
            assert master.wait(LIMIT) == 0, log.read_text()
    assert "Traceback" not in log.read_text()
    client.close()
