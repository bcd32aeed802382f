"""Where the games are: `game:{id}:state` in Redis, as JSON, for an hour.

Several workers change them, each a step at a time. Whoever stores the step of a version
first (SET NX) has made it; another one finds that step there, and goes on from it.

Each worker remembers the games that it has seen. While Redis is away they go on here,
and the higher version is the truth once it is back. The library logs what fails.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Callable
from contextlib import suppress

from redlane import RedlaneError

from .dependencies.redis import get_redis_client
from .rules import Game, from_dict, new_game, to_dict

GAME_SECONDS = 3600
REMEMBERED = 10_000  # games of one worker
ATTEMPTS = 20

logger = logging.getLogger("ludo")


class UnknownError(Exception):
    """There is no such game, or, with `away`, none that this worker has seen."""

    def __init__(self, away: bool) -> None:
        super().__init__("the game cannot be read now" if away else "no such game")
        self.away = away


def state_key(game_id: str) -> str:
    return f"game:{game_id}:state"


def step_key(game_id: str, version: int) -> str:
    return f"game:{game_id}:step:{version}"


def dumps(game: Game) -> str:
    return json.dumps(to_dict(game), separators=(",", ":"))


def loads(text: str | None) -> Game | None:
    """None also for what is no game: a worker that knows better puts it right."""
    if text is None:
        return None
    try:
        return from_dict(json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError):
        logger.warning("A stored game is unreadable: %d characters", len(text))
        return None


class Games:
    """Of one worker, on one event loop."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, Game]] = {}  # oldest first

    async def create(self, size: int) -> str:
        game = new_game(size)
        game_id = secrets.token_hex(6)
        self._remember(game_id, game)
        await self._store(game_id, game)
        return game_id

    async def load(self, game_id: str, seen: int = 0) -> Game:
        """The game as it is; UnknownError. `seen` is a version that somebody has: what
        is stored may be behind it for a moment, but its steps are not."""
        away = False
        stored = None
        try:
            redis = get_redis_client()
            stored = loads(await redis.get(state_key(game_id)))
            while stored is not None and stored.version < seen:
                step = await redis.get(step_key(game_id, stored.version + 1))
                stored, last = loads(step), stored
                if stored is None:
                    stored = last
                    break
        except RedlaneError:
            away = True
        known = self._recall(game_id)
        if stored is not None and (known is None or stored.version >= known.version):
            self._remember(game_id, stored)
            return stored
        if known is None:
            raise UnknownError(away)
        if not away:  # it was changed while Redis was away, or Redis has lost it
            await self._store(game_id, known)
        return known

    def hear(self, game_id: str, game: Game) -> None:
        """What another worker has done: from there it goes on should Redis go away."""
        known = self._recall(game_id)
        if known is None or known.version < game.version:
            self._remember(game_id, game)

    def players(self, game_id: str) -> list[str]:
        """The users of the game, as far as this worker knows it."""
        game = self._recall(game_id)
        return [player.user_id for player in game.players] if game else []

    async def change(
        self, game_id: str, step: Callable[[Game], Game], seen: int = 0
    ) -> Game:
        """Takes the game a step further. What `step` raises is the caller's; it is
        called again where another step was first."""
        for _ in range(ATTEMPTS):
            game = step(await self.load(game_id, seen))
            first = await self._claim(game_id, game)
            if first == game:
                self._remember(game_id, game)
                await self._store(game_id, game)
                return game
            seen = first.version
        raise UnknownError(away=True)

    async def _claim(self, game_id: str, game: Game) -> Game:
        """The step of this version: ours, if no other was first."""
        key = step_key(game_id, game.version)
        try:
            redis = get_redis_client()
            if await redis.set(key, dumps(game), nx=True, ex=GAME_SECONDS):
                return game
            return loads(await redis.get(key)) or game
        except RedlaneError:  # nobody but the tasks of this worker can be asked
            known = self._recall(game_id)
        return game if known is None or known.version < game.version else known

    async def _store(self, game_id: str, game: Game) -> None:
        with suppress(RedlaneError):
            await get_redis_client().set(
                state_key(game_id), dumps(game), ex=GAME_SECONDS
            )

    def _recall(self, game_id: str) -> Game | None:
        seen, game = self._known.get(game_id, (0.0, None))
        return game if time.monotonic() - seen < GAME_SECONDS else None

    def _remember(self, game_id: str, game: Game) -> None:
        self._known.pop(game_id, None)
        self._known[game_id] = (time.monotonic(), game)
        if len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]
