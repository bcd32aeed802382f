"""Each framework behind a real server, over real HTTP."""

from __future__ import annotations

import http.client
import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from children import started
from redlane import Client
from servers import Server, free_port
from starlette.websockets import WebSocket as StarletteWebSocket
from websocket_client import Closed, Refused, WebSocket

LIMIT = 60.0

FLASK = """
import os, time
from flask import Flask, Response
from redlane.flask import Redlane

app = Flask(__name__)
app.config["REDLANE_URL"] = os.environ["CACHE_URL"]
lane = Redlane(app)

def body():
    return f"{os.getpid()} {time.time_ns()} é".encode() * 50

@app.get("/plain/<name>")
@lane.cached(ttl=60)
def plain(name):
    return Response(body(), mimetype="text/plain")

@app.get("/ahead")
@lane.cached(ttl=60, ahead=True, gzip=True)
def ahead():
    return Response(body(), mimetype="text/plain")

@app.get("/streamed")
@lane.cached(ttl=60)
def streamed():
    return Response((chunk for chunk in (b"a", b"b", str(time.time_ns()).encode())))
"""

FASTAPI = """
import os, time
import redlane
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, StreamingResponse
from redlane.fastapi import CacheMiddleware, cached, health_router, lifespan

redlane.configure(os.environ["CACHE_URL"])
app = FastAPI(lifespan=lifespan)
app.add_middleware(CacheMiddleware)
app.include_router(health_router())

def body():
    return f"{os.getpid()} {time.time_ns()} é" * 50

@app.get("/plain/{name}", response_class=PlainTextResponse)
@cached(ttl=60)
def plain(name: str):
    return body()

@app.get("/ahead", response_class=PlainTextResponse)
@cached(ttl=60, ahead=True, gzip=True)
async def ahead():
    return body()

@app.get("/streamed")
@cached(ttl=60)
async def streamed():
    async def chunks():
        for chunk in ("a", "b", str(time.time_ns())):
            yield chunk
    return StreamingResponse(chunks())
"""


def ask(
    port: int, path: str, headers: dict[str, str] | None = None, method: str = "GET"
) -> tuple[int, dict[str, str], bytes]:
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)
    try:
        link.request(method, path, headers=headers or {})
        reply = link.getresponse()
        fields = {name.lower(): value for name, value in reply.getheaders()}
        return reply.status, fields, reply.read()
    finally:
        link.close()


def command_of(kind: str, port: int, folder: Path) -> list[object]:
    if kind == "uvicorn":
        run = [sys.executable, "-m", "uvicorn", "--host", "127.0.0.1", "--port", port]
        return [*run, "--app-dir", folder, "--log-level", "warning", "site_app:app"]
    if kind == "werkzeug":
        run = [sys.executable, "-m", "flask", "--app", folder / "site_app.py", "run"]
        return [*run, "--port", port, "--no-reload"]
    run = [sys.executable, "-m", "gunicorn", "--workers", 2, "--chdir", folder]
    return [*run, "--bind", f"127.0.0.1:{port}", "site_app:app"]


@contextmanager
def serving(
    kind: str, url: str, folder: Path, source: str | None = None
) -> Iterator[int]:
    if source is None:
        source = FASTAPI if kind == "uvicorn" else FLASK
    (folder / "site_app.py").write_text(source, encoding="utf-8")
    port = free_port()
    log = folder / "log"
    with log.open("w") as output:
        command = command_of(kind, port, folder)
        environment = {**environ_here(), "CACHE_URL": url, "REDIS_URL": url}
        with started(command, stdout=output, stderr=output, env=environment) as process:
            end = time.monotonic() + LIMIT
            while True:
                try:
                    ask(port, "/nothing")
                    break
                except OSError:
                    assert time.monotonic() < end, log.read_text()
                    assert process.poll() is None, log.read_text()
                    time.sleep(0.05)
            yield port
            process.send_signal(signal.SIGINT if kind == "werkzeug" else signal.SIGTERM)
            process.wait(LIMIT)
    assert "Traceback" not in log.read_text(), log.read_text()


def environ_here() -> dict[str, str]:
    import os

    return dict(os.environ)


@pytest.mark.parametrize("kind", ["werkzeug", "gunicorn", "uvicorn"])
def test_over_http(kind: str, redis_server: Server, tmp_path: Path) -> None:
    with serving(kind, redis_server.patient_url, tmp_path) as port:
        status, first, body = ask(port, "/plain/%C3%BC?a=1")
        assert (status, first["x-cache"]) == (200, "MISS")
        for _ in range(6):  # of every worker
            status, fields, again = ask(port, "/plain/%C3%BC?a=1")
            assert (status, fields["x-cache"], again) == (200, "HIT", body)
            assert fields["etag"] == first["etag"]
            assert fields["content-length"] == str(len(body))
            assert fields["content-type"] == "text/plain; charset=utf-8"
        condition = {"If-None-Match": first["etag"]}
        assert ask(port, "/plain/%C3%BC?a=1", condition)[::2] == (304, b"")
        private = ask(port, "/plain/%C3%BC?a=1", {"Authorization": "x"})
        assert private[1]["x-cache"] == "BYPASS"
        assert private[2] != body
        check_ahead(port)
        streams = [ask(port, "/streamed") for _ in range(2)]
        assert [reply[1]["x-cache"] for reply in streams] == ["BYPASS"] * 2
        assert streams[0][2] != streams[1][2]
        assert all(reply[2].startswith(b"ab") for reply in streams)
    with Client(redis_server.url, timeout=10) as client:
        kept: Any = client.keys("http:*")
    assert len(kept) == 2


def program_of(page: str) -> str:
    """The complete program that a page of the documentation shows."""
    root = Path(__file__).resolve().parent.parent
    text = (root / "docs" / f"{page}.md").read_text(encoding="utf-8")
    start = text.index(f"<!-- program: {page} -->")
    return text[start:].partition("```python\n")[2].partition("```\n")[0]


@pytest.mark.parametrize(
    ("page", "kind"), [("flask", "gunicorn"), ("fastapi", "uvicorn")]
)
def test_programs_of_the_documentation(
    page: str, kind: str, redis_server: Server, tmp_path: Path
) -> None:
    with serving(kind, redis_server.patient_url, tmp_path, program_of(page)) as port:
        words = [ask(port, "/api/canvas")[1]["x-cache"] for _ in range(4)]
        assert words == ["MISS", "HIT", "HIT", "HIT"]
        if page == "fastapi":
            place = "/api/pixels/1/2?color=red"
            status, fields, body = ask(port, place, method="POST")
            assert (status, body) == (200, b"1")
            assert fields["x-ratelimit-remaining"] == "9"
            assert b'"1,2"' in ask(port, "/api/canvas")[2]
            for who in ("ann", "bob", "ann", "bob"):
                mine = ask(port, "/api/mine", {"Authorization": f"Bearer {who}"})
                assert mine[2] == f'"made for {who}"'.encode()
            assert mine[1]["x-cache"] == "HIT"
            assert ask(port, "/api/mine")[0] in (401, 403)
        report = ask(port, "/health/deep")
        assert report[0] == 200
        assert b'"status":"ok"' in report[2].replace(b" ", b"")


def check_ahead(port: int) -> None:
    packed = [ask(port, "/ahead", {"Accept-Encoding": "gzip"}) for _ in range(6)]
    assert [reply[1]["x-cache"] for reply in packed] == ["MISS", *["HIT"] * 5]
    assert len({reply[2] for reply in packed}) == 1
    assert packed[5][1]["content-encoding"] == "gzip"
    plain = ask(port, "/ahead")
    assert "content-encoding" not in plain[1]
    assert len(plain[2]) > len(packed[0][2])
    head = ask(port, "/ahead", method="HEAD")
    assert head[2] == b""


LIMITED_FLASK = """
from flask import Flask
from flask_sock import Sock
from redlane import RateLimiter, rate_limit
from redlane.flask import Redlane

app = Flask(__name__)
sock = Sock(app)

@app.get("/limited")
@RateLimiter.limit(requests_limit=2, time_window=3600)
def limited():
    return {"x": 1}

@sock.route("/socket")
@rate_limit("2/hour")
def socket(ws):
    ws.send('"in"')

@sock.route("/extended")
@Redlane(app).limit("2/hour")
def extended(ws):
    ws.send('"in"')
"""

LIMITED_FASTAPI = """
from fastapi import Depends, FastAPI, WebSocket
from redlane import RateLimiter, rate_limit
from redlane.fastapi import RateLimit, lifespan, limit

app = FastAPI(lifespan=lifespan)

@app.get("/limited")
@RateLimiter.limit(requests_limit=2, time_window=3600)
async def limited():
    return {"x": 1}

@app.websocket("/socket")
@rate_limit("2/hour")
async def socket(websocket: WebSocket):
    await websocket.accept()
    await websocket.send_json("in")
    await websocket.close()

@app.websocket("/extended")
@limit("2/hour")
async def extended(websocket: WebSocket):
    await socket.__wrapped__(websocket)

@rate_limit("2/hour")
def needed():
    return "in"

@app.websocket("/dependency")
async def dependency(websocket: WebSocket, said: str = Depends(needed)):
    await websocket.accept()
    await websocket.send_json(said)
    await websocket.close()

@app.websocket("/class", dependencies=[Depends(RateLimit("2/hour"))])
async def of_class(websocket: WebSocket):
    await websocket.accept()
    await websocket.send_json("in")
    await websocket.close()

@rate_limit("2/hour", key="all")
async def say(websocket):
    await websocket.send_json("in")

@app.websocket("/later")
async def later(websocket: WebSocket):
    await websocket.accept()
    await say(websocket)
    await websocket.close()
"""


def socket_says(port: int, path: str) -> Any:
    """What a WebSocket sends first, the code that it is closed with, or the status of
    its refusal."""
    try:
        with WebSocket(port, path) as socket:
            return socket.get()
    except Refused as error:
        return f"HTTP {error}"
    except Closed as error:
        return error.args[0]


@pytest.mark.parametrize("kind", ["werkzeug", "gunicorn", "uvicorn"])
def test_limits_over_http(kind: str, redis_server: Server, tmp_path: Path) -> None:
    """Of every worker, and of WebSockets."""
    with Client(redis_server.url, timeout=10) as client:
        client.flushdb()
    source = LIMITED_FASTAPI if kind == "uvicorn" else LIMITED_FLASK
    with serving(kind, redis_server.patient_url, tmp_path, source) as port:
        replies = [ask(port, "/limited") for _ in range(4)]
        assert [reply[0] for reply in replies] == [200, 200, 429, 429]
        remaining = [reply[1]["x-ratelimit-remaining"] for reply in replies]
        assert remaining == ["1", "0", "0", "0"]
        assert replies[3][1]["content-type"] == "application/json"
        told = json.loads(replies[3][2])
        assert told["error"] == "rate limit exceeded"
        assert str(told["retry_after"]) == replies[3][1]["retry-after"]
        refused: Any = 1008
        if kind == "uvicorn":
            assert [socket_says(port, "/later") for _ in range(3)] == ["in", "in", 1008]
            # Before that one a WebSocket cannot be refused but by closing it.
            denies = hasattr(StarletteWebSocket, "send_denial_response")
            refused = "HTTP 429" if denies else "HTTP 403"
            for path in ("/dependency", "/class"):
                said = [socket_says(port, path) for _ in range(3)]
                assert said == ["in", "in", refused]
        for path in ("/socket", "/extended"):
            said = [socket_says(port, path) for _ in range(4)]
            assert said == ["in", "in", refused, refused]
