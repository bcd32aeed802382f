"""The rules of examples/ludo: a module without I/O."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ludo.app.rules import (
    HOME,
    SAFE,
    SEATS,
    YARD,
    Game,
    RuleError,
    from_dict,
    join,
    movable,
    move,
    new_game,
    roll,
    square_of,
    to_dict,
)

YARDED = (YARD,) * 4


def begun(size: int = 2) -> Game:
    game = new_game(size)
    for number in range(size):
        game = join(game, f"u{number}", f"Player {number}")
    return game


def at(*places: tuple[int, ...], **changes: Any) -> Game:
    """A game of as many players as there are places, the first one to roll."""
    game = begun(len(places))
    players = tuple(
        replace(player, tokens=tokens)
        for player, tokens in zip(game.players, places, strict=True)
    )
    return replace(game, players=players, **changes)


def played(game: Game, die: int, token: int) -> Game:
    user = game.current.user_id
    return move(roll(game, user, die), user, token)


# --- the beginning ----------------------------------------------------------------


def test_a_game_begins_when_all_seats_are_taken() -> None:
    game = join(new_game(2), "u0", "Ann")
    assert (game.phase, game.players[0].color) == ("waiting", "red")
    with pytest.raises(RuleError, match="has not begun"):
        roll(game, "u0", 6)
    game = join(game, "u1", "Bob")
    assert (game.phase, game.turn, game.version) == ("roll", 0, 2)
    assert [player.color for player in game.players] == ["red", "yellow"]
    assert all(player.tokens == YARDED for player in game.players)


def test_a_seat_is_taken_once() -> None:
    game = join(new_game(2), "u0", "Ann")
    with pytest.raises(RuleError, match="already"):
        join(game, "u0", "Ann")
    with pytest.raises(RuleError, match="taken"):
        join(join(game, "u1", "Bob"), "u2", "Cat")


@pytest.mark.parametrize("size", [0, 1, 5])
def test_two_to_four_play(size: int) -> None:
    with pytest.raises(RuleError):
        new_game(size)


# --- turns ------------------------------------------------------------------------


def test_only_whose_turn_it_is_may_play_and_in_order() -> None:
    game = begun()
    with pytest.raises(RuleError, match="not your turn"):
        roll(game, "u1", 6)
    with pytest.raises(RuleError, match="not your turn"):
        roll(game, "a stranger", 6)
    with pytest.raises(RuleError, match="roll first"):
        move(game, "u0", 0)
    game = roll(game, "u0", 6)
    with pytest.raises(RuleError, match="move a token first"):
        roll(game, "u0", 6)
    with pytest.raises(RuleError, match="not your turn"):
        move(game, "u1", 0)


@pytest.mark.parametrize("die", [1, 2, 3, 4, 5])
def test_a_token_leaves_the_yard_with_a_six_only(die: int) -> None:
    game = roll(begun(), "u0", die)
    assert (game.phase, game.turn, game.rolled) == ("roll", 1, die)
    game = roll(begun(), "u0", 6)
    assert (game.phase, movable(game)) == ("move", [0, 1, 2, 3])
    game = move(game, "u0", 2)
    assert game.players[0].tokens == (YARD, YARD, 0, YARD)
    assert square_of(game.players[0].seat, 0) == 0
    assert (game.phase, game.turn) == ("roll", 0)  # a six rolls again


def test_a_move_that_is_no_six_ends_the_turn() -> None:
    game = played(at((3, 10, YARD, YARD), YARDED), 4, 1)
    assert game.players[0].tokens == (3, 14, YARD, YARD)
    assert (game.turn, game.phase, game.die) == (1, "roll", None)


def test_the_third_six_in_a_row_is_lost() -> None:
    game = at((0, 10, YARD, YARD), YARDED)
    game = played(played(game, 6, 0), 6, 0)
    assert (game.sixes, game.turn) == (2, 0)
    game = roll(game, "u0", 6)
    assert (game.turn, game.phase, game.sixes) == (1, "roll", 0)
    assert game.players[0].tokens[0] == 12


def test_another_number_than_six_ends_the_row() -> None:
    game = played(at((0, 10, YARD, YARD), (0, YARD, YARD, YARD)), 6, 0)
    assert played(game, 1, 0).sixes == 0


def test_a_six_that_nothing_can_use_rolls_again() -> None:
    game = roll(at((HOME - 1, HOME, HOME, HOME), YARDED), "u0", 6)
    assert (game.phase, game.turn, game.sixes) == ("roll", 0, 1)


def test_a_token_that_cannot_move_is_refused() -> None:
    game = roll(at((5, YARD, YARD, YARD), YARDED), "u0", 3)
    assert movable(game) == [0]
    for token in (1, 4, -1):
        with pytest.raises(RuleError, match="cannot move"):
            move(game, "u0", token)


@pytest.mark.parametrize("die", [0, 7])
def test_a_die_has_six_sides(die: int) -> None:
    with pytest.raises(ValueError):
        roll(begun(), "u0", die)


# --- captures and stacks ----------------------------------------------------------


def test_a_capture_sends_back_and_rolls_again() -> None:
    # Red's square 30 is four steps from yellow's start at 26.
    game = played(at((27, YARD, YARD, YARD), (4, 20, YARD, YARD)), 3, 0)
    assert game.players[1].tokens == (YARD, 20, YARD, YARD)
    assert (game.turn, game.phase) == (0, "roll")
    assert "captured Player 1" in game.news


@pytest.mark.parametrize("square", sorted(SAFE))
def test_nobody_is_captured_on_a_safe_square(square: int) -> None:
    red, yellow = square, (square - 26) % 52
    if red == 0:  # red's own start is reached from the yard
        game = played(at(YARDED, (yellow, *YARDED[1:])), 6, 0)
    else:
        game = played(at((red - 1, *YARDED[1:]), (yellow, *YARDED[1:])), 1, 0)
    assert game.players[1].tokens[0] == yellow
    assert game.players[0].squares() == game.players[1].squares() == [square]


def test_nobody_lands_on_a_stack_or_passes_it() -> None:
    game = at((27, YARD, YARD, YARD), (4, 4, YARD, YARD))  # yellow's stack on 30
    for die, allowed in ((2, True), (3, False), (4, False)):
        assert bool(movable(replace(game, die=die))) is allowed
    assert roll(game, "u0", 4).turn == 1


def test_ones_own_stack_is_no_hindrance() -> None:
    game = played(at((27, 30, 30, YARD), YARDED), 3, 0)
    assert game.players[0].tokens == (30, 30, 30, YARD)
    assert played(at((27, 30, 30, YARD), YARDED), 5, 0).players[0].tokens[0] == 32


def test_a_stack_on_a_safe_square_can_be_passed() -> None:
    game = at((33, YARD, YARD, YARD), (8, 8, YARD, YARD))  # yellow's stack on 34
    assert movable(replace(game, die=1)) == movable(replace(game, die=2)) == [0]


# --- the way home -----------------------------------------------------------------


def test_the_home_column_is_out_of_reach() -> None:
    # Red turns off after square 50; yellow passes by on 51 and 0.
    game = played(at((49, YARD, YARD, YARD), (24, YARD, YARD, YARD)), 3, 0)
    assert game.players[0].tokens[0] == 52
    assert game.players[0].squares() == []
    assert played(game, 2, 0).players[0].tokens[0] == 52


def test_home_needs_the_exact_number_and_rolls_again() -> None:
    game = at((53, YARD, YARD, YARD), YARDED)
    assert movable(replace(game, die=4)) == []
    game = played(game, 3, 0)
    assert game.players[0].tokens[0] == HOME
    assert (game.turn, game.phase) == (0, "roll")
    assert movable(replace(game, die=1)) == []  # it stays there


def test_who_is_home_first_has_won() -> None:
    game = played(at((HOME, HOME, 55, HOME), YARDED), 1, 2)
    assert game.phase == "over"
    assert game.winner == game.players[0]
    for step in (lambda: roll(game, "u1", 6), lambda: join(game, "u9", "Late")):
        with pytest.raises(RuleError):
            step()


# --- whole games ------------------------------------------------------------------


@settings(max_examples=10)  # of some hundred steps each
@given(st.integers(2, 4), st.integers(0, 2**32))
def test_whole_games_keep_their_rules(size: int, seed: int) -> None:
    random = Random(seed)
    game = begun(size)
    for _ in range(5000):
        if game.phase == "over":
            break
        before, user = game, game.current.user_id
        if game.phase == "roll":
            game = roll(game, user, random.randint(1, 6))
            assert [p.tokens for p in game.players] == [
                p.tokens for p in before.players
            ]
        else:
            game = move(game, user, random.choice(movable(game)))
        assert game.version == before.version + 1
        assert from_dict(json.loads(json.dumps(to_dict(game)))) == game
        check_board(game)
    assert game.phase == "over"
    assert game.winner is not None


def check_board(game: Game) -> None:
    """On a square that is not safe tokens of one player stand, at most."""
    assert [player.seat for player in game.players] == list(SEATS[game.size])
    owners: dict[int, int] = {}
    for player in game.players:
        for square in player.squares():
            if square not in SAFE:
                assert owners.setdefault(square, player.seat) == player.seat
    assert (game.phase == "move") == (game.die is not None)
    assert game.phase != "move" or movable(game)


# --- as JSON ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"size": 7},
        {"size": None},
        {"phase": "lunch"},
        {"phase": "move"},
        {"phase": "waiting"},
        {"turn": 2},
        {"die": 3},
        {"players": []},
        {"players": [{}]},
        {"players": "no"},
    ],
)
def test_what_is_no_game_is_refused(change: dict[str, Any]) -> None:
    data = to_dict(begun()) | change
    with pytest.raises((ValueError, TypeError, KeyError, AttributeError)):
        from_dict(data)


@pytest.mark.parametrize("tokens", [[0], [0, 0, 0, 57], [-2, 0, 0, 0], [None] * 4])
def test_tokens_in_impossible_places_are_refused(tokens: list[Any]) -> None:
    data = to_dict(begun())
    data["players"][1]["tokens"] = tokens
    with pytest.raises((ValueError, TypeError)):
        from_dict(data)
