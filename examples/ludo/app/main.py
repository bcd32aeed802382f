"""The FastAPI application: `uvicorn app.main:app`."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from fastapi import FastAPI
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field, ValidationError, field_validator
from starlette.websockets import WebSocket, WebSocketDisconnect

from . import rules
from .config import Settings, get_settings, show_logs
from .connections import Connection, ConnectionManager
from .dependencies.redis import close_redis_client, get_redis_client
from .games import Games, UnknownError, dumps
from .limits import check_rate_limit
from .rules import Game, RuleError

STATIC = Path(__file__).parent.parent / "static"
HELLO_SECONDS = 10.0  # that a WebSocket may take to say who it is
REFUSED, TRY_LATER, NO_GAME = 1008, 1013, 4404  # WebSocket codes

logger = logging.getLogger("ludo")


class Person(BaseModel):
    """Whoever has the key is the user: only the user's browser knows it."""

    key: str = Field(min_length=16, max_length=64)

    @property
    def user_id(self) -> str:
        return hashlib.sha256(self.key.encode()).hexdigest()[:20]


class NewGame(Person):
    size: int = Field(2, ge=2, le=4)


class Hello(Person):
    name: str = Field(min_length=1, max_length=20)
    version: int = Field(0, ge=0)  # of the game that the page has

    @field_validator("name")
    @classmethod
    def is_printable(cls, name: str) -> str:
        if not name.isprintable() or not name.strip():
            raise ValueError("a name is printable")
        return name.strip()


class Action(BaseModel):
    do: Literal["sit", "roll", "move"]
    version: int  # of the game that the player sees: a click counts once
    token: int = Field(0, ge=0, lt=rules.TOKENS)


class StaleError(Exception):
    """The game has gone on since."""


def create_app(settings: Settings | None = None) -> FastAPI:
    settings = settings or get_settings()
    show_logs(settings)
    warn_of_workers(settings)
    games = Games()
    manager = ConnectionManager(games)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield  # the client is made on first use
        await manager.close()
        await close_redis_client()

    app = FastAPI(title="Ludo", lifespan=lifespan)
    app.mount("/static", StaticFiles(directory=STATIC))
    add_routes(app, games, manager, settings)
    add_socket(app, games, manager, settings)
    return app


def warn_of_workers(settings: Settings) -> None:
    if settings.WEB_CONCURRENCY > 1 and settings.redis_url.startswith("memory:"):
        logger.warning(
            "Each of %d workers has an engine of its own: set REDIS_URL, or run one",
            settings.WEB_CONCURRENCY,
        )


def add_routes(
    app: FastAPI, games: Games, manager: ConnectionManager, settings: Settings
) -> None:
    @app.get("/", include_in_schema=False)
    async def index() -> FileResponse:
        return FileResponse(STATIC / "index.html")

    @app.post("/api/games", status_code=201)
    async def create(wanted: NewGame) -> Response:
        """A new game; whoever opens it first sits down first."""
        if not await check_rate_limit(wanted.user_id, settings.LUDO_ACTIONS):
            seconds = 60 - int(time.time()) % 60
            body = {"error": "too many requests", "retry_after": seconds}
            return JSONResponse(body, 429, {"Retry-After": str(seconds)})
        return JSONResponse({"id": await games.create(wanted.size)}, 201)

    @app.get("/api/games/{game_id}")
    async def show(game_id: str) -> Response:
        try:
            return JSONResponse(rules.to_dict(await games.load(game_id)))
        except UnknownError as error:
            return JSONResponse({"error": str(error)}, 503 if error.away else 404)

    @app.get("/api/online")
    async def online() -> list[dict[str, str]]:
        return await manager.online()

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """200 also while Redis is away: the games go on."""
        report = await get_redis_client().health()
        return {key: report[key] for key in ("mode", "connected", "latency_ms")}


def add_socket(
    app: FastAPI, games: Games, manager: ConnectionManager, settings: Settings
) -> None:
    @app.websocket("/ws/games/{game_id}")
    async def play(socket: WebSocket, game_id: str) -> None:
        await socket.accept()
        try:
            text = await asyncio.wait_for(socket.receive_text(), HELLO_SECONDS)
            hello = Hello.model_validate_json(text)
            await games.load(game_id, hello.version)
        except WebSocketDisconnect:
            return
        except (ValidationError, KeyError, asyncio.TimeoutError):
            await socket.close(REFUSED)
            return
        except UnknownError as error:
            await socket.close(TRY_LATER if error.away else NO_GAME)
            return
        connection = Connection(secrets.token_hex(8), hello.user_id, hello.name, socket)
        seat = Seat(game_id, connection, games, manager, settings.LUDO_ACTIONS)
        try:
            await manager.connect(game_id, connection)
            connection.send_json(you=hello.user_id)
            await seat.show(hello.version)
            while True:
                await seat.act(Action.model_validate_json(await socket.receive_text()))
        except WebSocketDisconnect:
            pass
        except (ValidationError, KeyError):  # KeyError: bytes instead of text
            await connection.close()
            await socket.close(REFUSED)
        finally:
            await manager.disconnect(game_id, connection)


class Seat:
    """What one connection does with its game."""

    def __init__(
        self,
        game_id: str,
        connection: Connection,
        games: Games,
        manager: ConnectionManager,
        limit: int,
    ) -> None:
        self.game_id = game_id
        self.connection = connection
        self.games = games
        self.manager = manager
        self.limit = limit

    async def show(self, seen: int) -> None:
        """The game to this connection alone."""
        try:
            self.connection.send(dumps(await self.games.load(self.game_id, seen)))
        except UnknownError as error:
            self.connection.send_json(error=str(error))

    async def act(self, action: Action) -> None:
        if not await check_rate_limit(self.connection.user_id, self.limit):
            self.connection.send_json(error="slow down: too many clicks in a minute")
            return
        die = secrets.randbelow(6) + 1

        def step(game: Game) -> Game:
            # Of a game that has gone on this was not meant.
            if action.do != "sit" and game.version != action.version:
                raise StaleError
            if action.do == "sit":
                return rules.join(game, self.connection.user_id, self.connection.name)
            if action.do == "roll":
                return rules.roll(game, self.connection.user_id, die)
            return rules.move(game, self.connection.user_id, action.token)

        try:
            game = await self.games.change(self.game_id, step, action.version)
        except RuleError as error:
            self.connection.send_json(error=str(error))
        except (StaleError, UnknownError):
            await self.show(action.version)
        else:
            await self.manager.publish(self.game_id, game)


app = create_app()
