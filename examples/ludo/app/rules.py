"""The rules of the game, and nothing else: no I/O, no dice, no clock.

A `Game` is never changed: `join`, `roll` and `move` give the next one, whose version is
one higher, or raise RuleError.

A token's place is its number of steps from its own start:

    -1          in the yard
    0 … 50      on the track of 52 squares; the start of seat s is square 13 * s
    51 … 55     in the home column, which is the seat's own
    56          home
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

YARD = -1
LAST_ON_TRACK = 50
HOME = 56
TRACK = 52
TOKENS = 4
SIXES = 3  # in a row, of which the last one ends the turn unused
COLORS = ("red", "green", "yellow", "blue")
# The four starts, and eight squares behind each of them: nobody is captured there.
SAFE = frozenset(
    (start + offset) % TRACK for start in (0, 13, 26, 39) for offset in (0, 8)
)
# Two play from opposite corners.
SEATS = {2: (0, 2), 3: (0, 1, 2), 4: (0, 1, 2, 3)}

Phase = Literal["waiting", "roll", "move", "over"]


class RuleError(Exception):
    """The rules do not allow it; the text is for the player."""


@dataclass(frozen=True)
class Player:
    user_id: str
    name: str
    seat: int
    tokens: tuple[int, ...] = (YARD,) * TOKENS

    @property
    def color(self) -> str:
        return COLORS[self.seat]

    @property
    def is_home(self) -> bool:
        return all(token == HOME for token in self.tokens)

    def squares(self) -> list[int]:
        """Of the track, on which the player's tokens stand."""
        return [
            square_of(self.seat, t) for t in self.tokens if YARD < t <= LAST_ON_TRACK
        ]


@dataclass(frozen=True)
class Game:
    size: int  # how many play: 2, 3 or 4
    players: tuple[Player, ...] = ()  # in the order of their turns
    version: int = 0
    phase: Phase = "waiting"
    turn: int = 0  # whose it is: an index into players
    die: int | None = None  # what is to be used (phase "move")
    sixes: int = 0  # in a row
    rolled: int | None = None  # the last roll, for the eye
    news: str = ""  # what happened last

    @property
    def current(self) -> Player:
        return self.players[self.turn]

    @property
    def winner(self) -> Player | None:
        return next((player for player in self.players if player.is_home), None)

    def index_of(self, user_id: str) -> int | None:
        for index, player in enumerate(self.players):
            if player.user_id == user_id:
                return index
        return None


def new_game(size: int) -> Game:
    if size not in SEATS:
        raise RuleError("two to four can play")
    return Game(size=size, news="Waiting for players")


def square_of(seat: int, token: int) -> int:
    return (13 * seat + token) % TRACK


def join(game: Game, user_id: str, name: str) -> Game:
    """Takes the next seat; the game begins when the last one is taken."""
    if game.index_of(user_id) is not None:
        raise RuleError("you have a seat already")
    if game.phase != "waiting":
        raise RuleError("all seats are taken")
    seat = SEATS[game.size][len(game.players)]
    players = (*game.players, Player(user_id, name, seat))
    full = len(players) == game.size
    return replace(
        game,
        players=players,
        version=game.version + 1,
        phase="roll" if full else "waiting",
        news=f"{name} plays {COLORS[seat]}",
    )


def roll(game: Game, user_id: str, die: int) -> Game:
    """What the die shows was drawn by the caller."""
    if not 1 <= die <= 6:
        raise ValueError("a die shows 1 to 6")
    check_turn(game, user_id, "roll")
    name = game.current.name
    game = replace(game, version=game.version + 1, rolled=die)
    sixes = game.sixes + 1 if die == 6 else 0
    if sixes == SIXES:
        return pass_on(game, f"{name}: three sixes in a row, the turn is lost")
    game = replace(game, die=die, sixes=sixes)
    if movable(game):
        return replace(game, phase="move", news=f"{name} rolled {die}")
    if die == 6:  # nothing can move, but a six rolls again
        return replace(game, die=None, phase="roll", news=f"{name} rolls again")
    return pass_on(game, f"{name} rolled {die} and cannot move")


def move(game: Game, user_id: str, token: int) -> Game:
    """Moves one of the four tokens by what was rolled."""
    check_turn(game, user_id, "move")
    if token not in movable(game):
        raise RuleError("this token cannot move")
    player, die = game.current, game.die
    assert die is not None
    target = target_of(player.tokens[token], die)
    tokens = (*player.tokens[:token], target, *player.tokens[token + 1 :])
    player = replace(player, tokens=tokens)
    captured = captures(game, player.seat, target)
    players = [
        replace(
            other,
            tokens=tuple(
                YARD if (other.seat, t) in captured else t for t in other.tokens
            ),
        )
        for other in game.players
    ]
    players[game.turn] = player
    game = replace(game, players=tuple(players), version=game.version + 1, die=None)

    if player.is_home:
        return replace(game, phase="over", sixes=0, news=f"{player.name} has won")
    if captured:
        seats = {seat for seat, _ in captured}
        names = " and ".join(p.name for p in game.players if p.seat in seats)
        news = f"{player.name} captured {names}"
    elif target == HOME:
        news = f"{player.name} brought a token home"
    else:
        news = f"{player.name} moved {die}"
    if die == 6 or captured or target == HOME:
        return replace(game, phase="roll", news=f"{news} and rolls again")
    return pass_on(game, news)


def movable(game: Game) -> list[int]:
    """Which tokens of the player whose turn it is can use the die."""
    if game.die is None:
        return []
    player = game.current
    return [
        index
        for index, token in enumerate(player.tokens)
        if can_move(game, player, token, game.die)
    ]


def can_move(game: Game, player: Player, token: int, die: int) -> bool:
    """From the yard with a six only, home by the exact number, never onto or past a
    stack: two tokens of one opponent on a square that is not safe."""
    if token == YARD:
        return die == 6
    if token + die > HOME:
        return False
    last = min(token + die, LAST_ON_TRACK)
    path = {square_of(player.seat, step) for step in range(token + 1, last + 1)}
    return not path & stacks(game, player)


def stacks(game: Game, player: Player) -> set[int]:
    """The squares that opponents of the player block."""
    blocked = set()
    for other in game.players:
        if other.seat != player.seat:
            squares = other.squares()
            blocked |= {s for s in squares if squares.count(s) > 1 and s not in SAFE}
    return blocked


def captures(game: Game, seat: int, target: int) -> set[tuple[int, int]]:
    """Whom a token of this seat sends back at its new place: seats and places."""
    if target > LAST_ON_TRACK or square_of(seat, target) in SAFE:
        return set()
    square = square_of(seat, target)
    return {
        (other.seat, token)
        for other in game.players
        for token in other.tokens
        if other.seat != seat
        and YARD < token <= LAST_ON_TRACK
        and square_of(other.seat, token) == square
    }


def target_of(token: int, die: int) -> int:
    return 0 if token == YARD else token + die


def check_turn(game: Game, user_id: str, phase: Phase) -> None:
    if game.phase == "waiting":
        raise RuleError("the game has not begun")
    if game.phase == "over":
        raise RuleError("the game is over")
    if game.current.user_id != user_id:
        raise RuleError("it is not your turn")
    if game.phase != phase:
        raise RuleError("roll first" if phase == "move" else "move a token first")


def pass_on(game: Game, news: str) -> Game:
    turn = (game.turn + 1) % len(game.players)
    return replace(game, phase="roll", turn=turn, die=None, sixes=0, news=news)


# --- as JSON ----------------------------------------------------------------------


def to_dict(game: Game) -> dict[str, Any]:
    """All that `from_dict` needs, and what a page would work out itself otherwise."""
    data = asdict(game)
    for player, entry in zip(game.players, data["players"], strict=True):
        entry["color"] = player.color
    data["movable"] = movable(game)
    data["winner"] = game.winner.user_id if game.winner else None
    return data


def from_dict(data: dict[str, Any]) -> Game:
    """ValueError, TypeError, KeyError or AttributeError for what is no game."""
    game = Game(
        size=data["size"],
        players=tuple(
            Player(p["user_id"], p["name"], p["seat"], tuple(p["tokens"]))
            for p in data["players"]
        ),
        version=data["version"],
        phase=data["phase"],
        turn=data["turn"],
        die=data["die"],
        sixes=data["sixes"],
        rolled=data["rolled"],
        news=data["news"],
    )
    check(game)
    return game


def check(game: Game) -> None:
    """ValueError for a game that no rule leads to."""
    seats = SEATS.get(game.size, ())
    number = len(game.players)
    waiting = game.phase == "waiting"
    sound = (
        tuple(player.seat for player in game.players) == seats[:number]
        and (0 <= number < game.size if waiting else number == game.size)
        and game.phase in ("waiting", "roll", "move", "over")
        and 0 <= game.turn < max(number, 1)
        and (game.die in range(1, 7)) == (game.phase == "move")
        and all(
            len(player.tokens) == TOKENS
            and all(YARD <= token <= HOME for token in player.tokens)
            for player in game.players
        )
    )
    if not sound:
        raise ValueError("not a game of Ludo")
