"""The WebSocket connections of this worker: who is online, and the rooms that they are
in. What one worker has to say reaches the clients of all by publish and subscribe."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from redlane import AsyncPresence, RedlaneError
from starlette.websockets import WebSocket, WebSocketDisconnect

from .channels import RETRY_SECONDS, Follower
from .config import get_settings
from .dependencies.redis import get_redis_client
from .games import Games, UnknownError, dumps, loads
from .rules import Game

ONLINE = "ws:online"  # the channel that tells that somebody came or left
USER_SECONDS = 86_400  # that a user's name is kept
WAITING = 64  # messages to a client that does not read
SHOWN = 50  # users in the list of who is online

logger = logging.getLogger("ludo")


def user_key(user_id: str) -> str:
    return f"user:{user_id}"


def game_channel(game_id: str) -> str:
    return f"game:{game_id}"


class Connection:
    """One WebSocket. What is said to it waits in a queue, so that a client that does
    not read holds up nobody else."""

    def __init__(self, id: str, user_id: str, name: str, socket: WebSocket) -> None:
        self.id = id
        self.user_id = user_id
        self.name = name
        self._socket = socket
        self._queue: asyncio.Queue[str] = asyncio.Queue(WAITING)
        self._writer = asyncio.create_task(self._write())

    def send(self, message: str) -> None:
        try:
            self._queue.put_nowait(message)
        except asyncio.QueueFull:
            self._writer.cancel()

    def send_json(self, **message: Any) -> None:
        self.send(json.dumps(message))

    async def close(self) -> None:
        self._writer.cancel()
        await asyncio.gather(self._writer, return_exceptions=True)

    async def _write(self) -> None:
        try:
            while True:
                await self._socket.send_text(await self._queue.get())
        except (WebSocketDisconnect, RuntimeError, OSError):
            pass  # it has gone; its reader knows
        except asyncio.CancelledError:
            if self._queue.full():  # a client that lags is better off beginning anew
                await self._socket.close(1013)
            raise


class Room:
    def __init__(self) -> None:
        self.connections: set[Connection] = set()
        self.version = -1  # of the game as its clients have it
        self.players = 0  # in it


class ConnectionManager:
    """Of one worker, on one event loop."""

    def __init__(self, games: Games) -> None:
        self._games = games
        self._rooms: dict[str, Room] = {}
        self._followers: dict[str, Follower] = {}  # by channel
        self._presence: AsyncPresence | None = None
        # By channel, what others are to be told there once Redis is back.
        self._owed: dict[str, Callable[[], Awaitable[None]]] = {}
        self._teller: asyncio.Task[None] | None = None

    # --- coming and going ---------------------------------------------------------

    async def connect(self, game_id: str, connection: Connection) -> None:
        """Into the room of a game. From now on the connection is told what happens."""
        room = self._rooms.setdefault(game_id, Room())
        room.connections.add(connection)
        await self._follow(ONLINE, lambda _: self.show_online(), self.announce)
        await self._follow(
            game_channel(game_id),
            lambda message: self.send_to_game(game_id, message),
            lambda: self.reload(game_id),
        )
        await self._store_connection(connection)
        await self.presence.join(connection.user_id, connection=connection.id)
        await self._tell_online()

    async def disconnect(self, game_id: str, connection: Connection) -> None:
        room = self._rooms[game_id]
        room.connections.discard(connection)
        if not room.connections:
            del self._rooms[game_id]
            follower = self._followers.pop(game_channel(game_id), None)
            if follower is not None:
                follower.task.cancel()
        await connection.close()
        await self.presence.leave(connection.user_id, connection=connection.id)
        await self._tell_online()

    async def close(self) -> None:
        """All users of this worker leave."""
        tasks = [follower.task for follower in self._followers.values()]
        if self._teller is not None:
            tasks.append(self._teller)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._presence is not None:
            await self._presence.close()

    @property
    def presence(self) -> AsyncPresence:
        """`ws:active_users`; what changes while Redis is away is told it afterwards."""
        if self._presence is None:
            lease = get_settings().LUDO_LEASE
            self._presence = AsyncPresence(get_redis_client(), lease=lease)
        return self._presence

    async def _store_connection(self, connection: Connection) -> None:
        """The name under which others see the user."""
        key = user_key(connection.user_id)
        try:
            pipe = get_redis_client().pipeline()
            pipe.hset(key, {"name": connection.name, "connection": connection.id})
            await pipe.expire(key, USER_SECONDS).execute()
        except RedlaneError as error:
            logger.error(
                "Failed to store connection %s in Redis: %s", connection.id, error
            )

    # --- what clients are told ----------------------------------------------------

    async def publish(self, game_id: str, game: Game) -> None:
        """To the clients of all workers; to ours alone where Redis cannot be asked, and
        to the others later."""
        message = dumps(game)
        channel = game_channel(game_id)
        try:
            await get_redis_client().publish(channel, message)
        except RedlaneError:
            self._owe(channel, lambda: self.reload(game_id))
        await self.send_to_game(game_id, message)

    async def send_to_game(self, game_id: str, message: str) -> None:
        """A game as JSON, as it was published. It comes twice to the worker that
        published it, and may come late: only what is newer is sent on."""
        room = self._rooms.get(game_id)
        if room is None:
            return
        game = loads(message)
        if game is not None and game.version > room.version:
            room.version = game.version
            self._games.hear(game_id, game)
            for connection in room.connections:
                connection.send(message)
            if len(game.players) > room.players:
                room.players = len(game.players)
                await self.show_online()

    async def reload(self, game_id: str) -> None:
        """Something may have been missed, here or, of what was done here, by others."""
        try:
            await self.publish(game_id, await self._games.load(game_id))
        except UnknownError as error:
            logger.info("Game %s: %s", game_id, error)

    async def announce(self) -> None:
        """The same for who is online."""
        for connection in self._connections():
            await self._store_connection(connection)
        await self.presence.members()  # tells first what Redis has not heard
        await self._tell_online()

    async def _tell_online(self) -> None:
        try:
            await get_redis_client().publish(ONLINE, "changed")
        except RedlaneError:
            self._owe(ONLINE, self.announce)
            await self.show_online()

    async def show_online(self) -> None:
        """To each room besides who of its players is there: the list may be too short
        for them."""
        members = await self.presence.members()
        told = {"online": await self._people(members), "total": len(members)}
        for game_id, room in self._rooms.items():
            players = self._games.players(game_id)
            present = [user for user in players if user in members]
            message = json.dumps({**told, "present": present})
            for connection in room.connections:
                connection.send(message)

    async def online(self) -> list[dict[str, str]]:
        """The users of all workers, by name."""
        return await self._people(await self.presence.members())

    def _owe(self, channel: str, tell: Callable[[], Awaitable[None]]) -> None:
        self._owed[channel] = tell
        if self._teller is None or self._teller.done():
            self._teller = asyncio.create_task(self._tell_later())

    async def _tell_later(self) -> None:
        """Asks for Redis only while there is something to say. A subscription does not
        tell of every outage: one may be too short to end its connection, or end later
        for commands than for messages."""
        redis = get_redis_client()
        while self._owed and not redis.closed:
            await asyncio.sleep(RETRY_SECONDS)
            try:
                await redis.ping()
            except RedlaneError:
                continue
            owed, self._owed = self._owed, {}
            for tell in owed.values():
                await tell()

    async def _people(self, members: set[str]) -> list[dict[str, str]]:
        users = sorted(members)[:SHOWN]
        names = {c.user_id: c.name for c in self._connections()}
        unknown = [user for user in users if user not in names]
        if unknown:
            with suppress(RedlaneError):
                pipe = get_redis_client().pipeline()
                for user in unknown:
                    pipe.hget(user_key(user), "name")
                found = zip(unknown, await pipe.execute(), strict=True)
                names.update((user, name) for user, name in found if name)
        people = [{"user_id": user, "name": names.get(user, "?")} for user in users]
        return sorted(people, key=lambda person: person["name"].casefold())

    def _connections(self) -> list[Connection]:
        return [c for room in self._rooms.values() for c in room.connections]

    async def _follow(
        self,
        channel: str,
        handle: Callable[[str], Awaitable[None]],
        reload: Callable[[], Awaitable[None]],
    ) -> None:
        """Waits until a channel is heard, or is known to be out of reach for now."""
        follower = self._followers.get(channel)
        if follower is None:
            follower = self._followers[channel] = Follower(channel, handle, reload)
        await follower.begun.wait()
