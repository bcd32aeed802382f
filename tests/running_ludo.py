"""The Ludo of examples/ludo as a process, and players that are programs."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from children import started
from outage_tools import wait_until
from servers import PORTS, free_port
from websocket_client import WebSocket

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "ludo"
# What the machine's own environment says of Redis is not the test's affair.
UNSET = ("REDIS_URL", "UPSTASH_REDIS_REST_URL", "UPSTASH_REDIS_REST_TOKEN")


class RunningLudo:
    def __init__(self, port: int, log: Path, child: subprocess.Popen[str]) -> None:
        self.port = port
        self.child = child
        self._log = log

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            data = None if body is None else json.dumps(body)
            link.request(method, path, data, {"Content-Type": "application/json"})
            response = link.getresponse()
            text = response.read()
            kind = response.headers.get_content_type()
            value = json.loads(text) if kind == "application/json" else text
            return response.status, value
        finally:
            link.close()

    def create(self, size: int = 2) -> str:
        status, body = self.ask("POST", "/api/games", {"key": "k" * 32, "size": size})
        assert status == 201, body
        game_id: str = body["id"]
        return game_id

    def game(self, game_id: str) -> Any:
        status, body = self.ask("GET", f"/api/games/{game_id}")
        assert status == 200, body
        return body

    def online(self) -> set[str]:
        status, body = self.ask("GET", "/api/online")
        assert status == 200, body
        return {person["name"] for person in body}

    def is_up(self) -> bool:
        assert self.child.poll() is None, self.log
        try:
            return self.ask("GET", "/health")[0] == 200
        except OSError:
            return False


@contextmanager
def running_ludo(folder: Path, **variables: str) -> Iterator[RunningLudo]:
    port = free_port()
    log = folder / f"ludo-{port}.log"
    environment = {k: v for k, v in os.environ.items() if k not in UNSET}
    environment |= {"LUDO_ACTIONS": "100000", "DEBUG": "true"} | variables
    words = ["-m", "uvicorn", "app.main:app", "--port", port, "--no-access-log"]
    command = [sys.executable, *words, "--ws-max-size", 4096]
    try:
        with (
            log.open("w", encoding="utf-8") as output,
            started(
                command, cwd=EXAMPLE, env=environment, stdout=output, stderr=output
            ) as child,
        ):
            ludo = RunningLudo(port, log, child)
            wait_until(ludo.is_up, "the application")
            yield ludo
    finally:
        PORTS.release(port)


class Player:
    """A context manager: a page without a browser."""

    def __init__(
        self, ludo: RunningLudo, game_id: str, name: str, version: int = 0
    ) -> None:
        self.socket = WebSocket(ludo.port, f"/ws/games/{game_id}")
        self.name = name
        self.user_id = ""
        self.game: Any = None
        self.versions: list[int] = []
        self.online: set[str] = set()
        self.errors: list[str] = []
        self.socket.send(
            {"key": f"{name}-".ljust(32, "k"), "name": name, "version": version}
        )
        self.read_until(lambda: self.game and self.user_id, "the game")

    def __enter__(self) -> Player:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.__exit__()

    @property
    def version(self) -> int:
        version: int = self.game["version"]
        return version

    def do(self, what: str, **more: Any) -> None:
        self.socket.send({"do": what, "version": self.version, **more})

    def read(self) -> None:
        message = self.socket.get()
        if "you" in message:
            self.user_id = message["you"]
        elif "online" in message:
            self.online = {person["name"] for person in message["online"]}
        elif "error" in message:
            self.errors.append(message["error"])
        else:
            self.game = message
            self.versions.append(message["version"])

    def read_until(self, condition: Any, what: str) -> None:
        for _ in range(1000):
            if condition():
                return
            self.read()
        raise AssertionError(f"never came: {what}")


def sit(*players: Player) -> None:
    for number, player in enumerate(players, 1):
        player.do("sit")
        for each in players:
            each.read_until(
                lambda e=each, n=number: len(e.game["players"]) == n, "a seat"
            )


def play(players: list[Player], steps: int) -> None:
    """So many rolls and moves; after each all have been told."""
    for _ in range(steps):
        game = players[0].game
        if game["phase"] == "over":
            return
        user = game["players"][game["turn"]]["user_id"]
        player = next(player for player in players if player.user_id == user)
        if game["phase"] == "roll":
            player.do("roll")
        else:
            player.do("move", token=game["movable"][-1])
        version = game["version"] + 1
        for each in players:
            each.read_until(
                lambda e=each, v=version: e.version >= v, f"version {version}"
            )
        assert len({json.dumps(each.game, sort_keys=True) for each in players}) == 1
