"""The Ludo of examples/ludo as a process, and players that are programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy import Proxy
from running_example import RunningExample, running_example
from servers import Server, patient
from upstash_gateway import Gateway
from websocket_client import WebSocket

KEY = "k" * 32


@dataclass(frozen=True)
class Place:
    """Where the games are, as the environment of the example says it. `options` are a
    URL's: a busy machine needs longer time-outs than the default ones."""

    server: Server | None = None  # none: the engine of the one process
    gateway: Gateway | None = None  # the way to the server, as Upstash has it
    proxy: Proxy | None = None  # the way to the server, where it can be cut
    options: str = patient("")

    @property
    def variables(self) -> dict[str, str]:
        if self.gateway is not None:
            return {
                "UPSTASH_REDIS_REST_URL": self.gateway.url + self.options,
                "UPSTASH_REDIS_REST_TOKEN": self.gateway.token,
            }
        way = self.proxy or self.server
        return {} if way is None else {"REDIS_URL": way.url + self.options}


@contextmanager
def running_ludo(
    folder: Path, place: Place | None = None, **variables: str
) -> Iterator[RunningExample]:
    """On the engine unless told otherwise."""
    environment = {"DEBUG": "true", **(place or Place()).variables, **variables}
    with running_example("ludo", folder, **environment) as ludo:
        yield ludo


@contextmanager
def two_processes(
    folder: Path, place: Place, **variables: str
) -> Iterator[tuple[RunningExample, RunningExample]]:
    """On the engine they are one."""
    with ExitStack() as stack:
        first = stack.enter_context(running_ludo(folder, place, **variables))
        second = first
        if place.server is not None:
            second = stack.enter_context(running_ludo(folder, place, **variables))
        yield first, second


def create(ludo: RunningExample, size: int = 2) -> str:
    game_id: str = ludo.post_json("/api/games", {"key": KEY, "size": size}, 201)["id"]
    return game_id


def stored(ludo: RunningExample, game_id: str) -> Any:
    return ludo.get_json(f"/api/games/{game_id}")


def online(ludo: RunningExample) -> set[str]:
    return {person["name"] for person in ludo.get_json("/api/online")}


class Player:
    """A context manager: a page without a browser."""

    def __init__(
        self, ludo: RunningExample, game_id: str, name: str, version: int = 0
    ) -> None:
        self.name = name
        self.user_id = ""
        self.game: Any = None
        self.versions: list[int] = []
        self.online: set[str] = set()
        self.present: set[str] = set()
        self.errors: list[str] = []
        self.socket = WebSocket(ludo.port, f"/ws/games/{game_id}")
        try:
            key = f"{name}-".ljust(32, "k")
            self.socket.send({"key": key, "name": name, "version": version})
            self.read_until(lambda: self.game and self.user_id, "the game")
        except BaseException:
            self.socket.__exit__()
            raise

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
            self.present = set(message["present"])
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
