"""The library's scripts, each as Lua on a server and as native code on the engine."""

from __future__ import annotations

import random
from typing import Any

import pytest
from conftest import make_client
from engine_driver import compile_core
from servers import Server
from test_core_c import CORE, TESTS, run_program

LEASE = b"\xffRLLmine"
OTHER = b"\xffRLLother"
HOUR = 3_600_000
SLACK = 6  # ms: the engine lets Unix time and its own clock drift apart by 5


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Name to Lua text, as the C table has them."""
    target = tmp_path_factory.mktemp("scripts") / "print"
    sources = [TESTS / "print_scripts.c", *sorted(CORE.glob("script*.c"))]
    compile_core(target, sources)
    rows = [line.split() for line in run_program(target).splitlines()]
    return {name: bytes.fromhex(text) for name, _, text in rows}


class Scripts:
    """Runs scripts by name on one client; an error reply becomes its text."""

    def __init__(self, client: Any, texts: dict[str, bytes]) -> None:
        self.client = client
        self.texts = texts

    def command(self, *args: Any) -> Any:
        from redlane import ReplyError

        try:
            return self.client.execute(*args)
        except ReplyError as error:
            return f"error {error}"

    def run(self, name: str, *args: Any, keys: int = 1) -> Any:
        return self.command("EVAL", self.texts[name], keys, *args)

    def ttl(self, key: str) -> int:
        left: int = self.command("PTTL", key)
        return left


@pytest.fixture
def scripts(client: Any, texts: dict[str, bytes]) -> Scripts:
    return Scripts(client, texts)


def test_acquire(scripts: Scripts) -> None:
    assert scripts.run("acquire", "k", LEASE, 60_000) is None
    assert scripts.command("GET", "k") == LEASE
    assert 0 < scripts.ttl("k") <= 60_000 + SLACK
    assert scripts.run("acquire", "k", OTHER, HOUR) == LEASE
    assert scripts.ttl("k") <= 60_000 + SLACK
    scripts.command("SET", "k", "value")
    assert scripts.run("acquire", "k", LEASE, 60_000) == b"value"
    scripts.command("SADD", "set", "x")
    assert "WRONGTYPE" in scripts.run("acquire", "set", LEASE, 60_000)


def test_fill(scripts: Scripts) -> None:
    assert scripts.run("fill", "k", LEASE, "v", 0) == 0
    assert scripts.command("EXISTS", "k") == 0
    scripts.command("SET", "k", OTHER)
    assert scripts.run("fill", "k", LEASE, "v", 0) == 0
    scripts.command("SET", "k", LEASE, "PX", 60_000)
    assert scripts.run("fill", "k", LEASE, "v", HOUR) == 1
    assert scripts.command("GET", "k") == b"v"
    assert 60_000 < scripts.ttl("k") <= HOUR + SLACK
    assert scripts.run("fill", "k", "v", "w", 0) == 1
    assert scripts.ttl("k") == -1
    scripts.command("SADD", "set", "x")
    assert scripts.run("fill", "set", LEASE, "v", 0) == 0


def test_renew(scripts: Scripts) -> None:
    assert scripts.run("renew", "k", "old", "v", 0) == 0
    assert scripts.command("EXISTS", "k") == 0
    for other in ("ol", "new", "\x00old", "Old and more"):
        scripts.command("SET", "k", other)
        assert scripts.run("renew", "k", "old", "v", 0) == 0
    scripts.command("SET", "k", "old and more", "PX", 60_000)
    assert scripts.run("renew", "k", "old", "v", HOUR) == 1
    assert scripts.command("GET", "k") == b"v"
    assert 60_000 < scripts.ttl("k") <= HOUR + SLACK
    assert scripts.run("renew", "k", "v", "w", 0) == 1
    assert scripts.ttl("k") == -1
    assert scripts.run("renew", "k", "v", "", -1) == 0
    assert scripts.run("renew", "k", "w", "", -1) == 1
    assert scripts.command("EXISTS", "k") == 0
    scripts.command("SADD", "set", "x")
    assert scripts.run("renew", "set", "x", "v", 0) == 0


def test_release(scripts: Scripts) -> None:
    assert scripts.run("release", "k", LEASE) == 0
    scripts.command("SET", "k", OTHER)
    assert scripts.run("release", "k", LEASE) == 0
    assert scripts.run("release", "k", OTHER) == 1
    assert scripts.command("EXISTS", "k") == 0
    scripts.command("SADD", "set", "x")
    assert scripts.run("release", "set", LEASE) == 0


def test_add(scripts: Scripts) -> None:
    assert scripts.run("add", "k", "v", HOUR) == 1
    assert 0 < scripts.ttl("k") <= HOUR + SLACK
    assert scripts.run("add", "k", "w", 0) == 0
    scripts.command("SET", "k", LEASE)
    assert scripts.run("add", "k", "w", 0) == 1
    assert scripts.command("GET", "k") == b"w"
    assert scripts.ttl("k") == -1
    scripts.command("SET", "empty", "")
    assert scripts.run("add", "empty", "w", 0) == 0
    scripts.command("SADD", "set", "x")
    assert scripts.run("add", "set", "w", 0) == 0


def test_touch(scripts: Scripts) -> None:
    assert scripts.run("touch", "k", 60_000) == 0
    assert scripts.run("touch", "k", 0) == 0
    scripts.command("SET", "k", "")
    assert scripts.run("touch", "k", 60_000) == 1
    assert 0 < scripts.ttl("k") <= 60_000 + SLACK
    assert scripts.run("touch", "k", 0) == 1
    assert scripts.ttl("k") == -1
    scripts.command("SET", "k", LEASE, "PX", 60_000)
    assert scripts.run("touch", "k", HOUR) == 0
    assert scripts.ttl("k") <= 60_000 + SLACK
    scripts.command("SADD", "set", "x")
    assert scripts.run("touch", "set", 60_000) == 1
    assert 0 < scripts.ttl("set") <= 60_000 + SLACK


def test_restore_of_the_same_value(scripts: Scripts) -> None:
    scripts.command("SET", "k", "v", "PX", 60_000)
    assert scripts.run("restore", "k", "v", HOUR, 0) == 1
    assert 60_000 + SLACK < scripts.ttl("k") <= HOUR + SLACK
    assert scripts.run("restore", "k", "v", 60_000, 0) == 1
    assert scripts.ttl("k") > 60_000 + SLACK
    assert scripts.run("restore", "k", "w", 2 * HOUR, 0) == 0
    assert scripts.run("restore", "k", "v", 0, 0) == 0
    assert scripts.ttl("k") <= HOUR + SLACK
    scripts.command("PERSIST", "k")
    assert scripts.run("restore", "k", "v", HOUR, 0) == 0
    assert scripts.ttl("k") == -1


def test_cooldown(scripts: Scripts) -> None:
    assert scripts.run("cooldown", "k", 60_000) == 0
    assert scripts.command("GET", "k") == b"1"
    assert 0 < scripts.ttl("k") <= 60_000 + SLACK
    assert 0 < scripts.run("cooldown", "k", HOUR) <= 60_000 + SLACK
    scripts.command("PERSIST", "k")
    assert scripts.run("cooldown", "k", HOUR) == HOUR
    assert 60_000 < scripts.ttl("k") <= HOUR + SLACK
    scripts.command("SADD", "set", "x")
    scripts.command("PEXPIRE", "set", 60_000)
    assert 0 < scripts.run("cooldown", "set", HOUR) <= 60_000 + SLACK


def test_restore(scripts: Scripts) -> None:
    assert scripts.run("restore", "k", "v", 60_000, 0) == 1
    assert 0 < scripts.ttl("k") <= 60_000 + SLACK
    assert scripts.run("restore", "k", "w", 0, 0) == 0
    assert scripts.run("restore", "k", "w", HOUR, 1) == 0
    assert scripts.command("GET", "k") == b"v"
    assert scripts.run("restore", "k", "w", 0, 1) == 1
    assert scripts.ttl("k") == -1
    assert scripts.run("restore", "k", "x", 0, 1) == 0
    assert scripts.command("GET", "k") == b"w"
    scripts.command("SET", "k", LEASE, "PX", 60_000)
    assert scripts.run("restore", "k", "x", 0, 0) == 1
    assert scripts.ttl("k") == -1
    scripts.command("SADD", "set", "x")
    assert scripts.run("restore", "set", "w", 0, 0) == 0


def test_increment(scripts: Scripts) -> None:
    assert scripts.run("increment", "k", 5, HOUR) == 5
    assert 60_000 < scripts.ttl("k") <= HOUR + SLACK
    assert scripts.run("increment", "k", -2, 1000) == 3
    assert scripts.ttl("k") > 60_000
    scripts.command("SET", "k", LEASE, "PX", 1000)
    assert scripts.run("increment", "k", 1, 0) == 1
    assert scripts.ttl("k") == -1
    scripts.command("SET", "k", "x")
    assert "not an integer" in scripts.run("increment", "k", 1, 0)
    scripts.command("SADD", "set", "x")
    assert "WRONGTYPE" in scripts.run("increment", "set", 1, 0)


def test_increment_is_exact_where_lua_is_not(scripts: Scripts) -> None:
    scripts.command("SET", "k", 2**53 - 2)
    assert scripts.run("increment", "k", 1, 0) == 2**53 - 1
    assert int(scripts.run("increment", "k", 2, 0)) == 2**53 + 1
    scripts.command("SET", "k", 2**63 - 2)
    assert int(scripts.run("increment", "k", 1, 0)) == 2**63 - 1
    assert "overflow" in scripts.run("increment", "k", 1, 0)
    scripts.command("SET", "k", -(2**63) + 1)
    assert int(scripts.run("counter_add", "k", -1)) == -(2**63)
    assert int(scripts.run("counter_transfer", "k", "k", keys=2)[1]) == -(2**63)


def test_counter_add(scripts: Scripts) -> None:
    assert scripts.run("counter_add", "k", 1) is None
    assert scripts.command("EXISTS", "k") == 0
    scripts.command("SET", "k", 5, "PX", HOUR)
    assert scripts.run("counter_add", "k", -2) == 3
    assert 60_000 < scripts.ttl("k") <= HOUR + SLACK
    for broken in (LEASE, "x", "", "01", " 1", "9223372036854775808"):
        scripts.command("SET", "k", broken)
        assert scripts.run("counter_add", "k", 1) is None
        assert scripts.command("EXISTS", "k") == 0
    scripts.command("SADD", "k", "x")
    assert scripts.run("counter_add", "k", 1) is None
    assert scripts.command("EXISTS", "k") == 0
    scripts.command("SET", "k", 2**63 - 1)
    assert "overflow" in scripts.run("counter_add", "k", 1)
    assert scripts.command("GET", "k") == b"9223372036854775807"


def test_counter_transfer(scripts: Scripts) -> None:
    def transfer(old: str, new: str) -> Any:
        return scripts.run("counter_transfer", old, new, keys=2)

    assert transfer("a", "b") == [None, None]
    assert transfer("a", "a") == [None, None]
    scripts.command("SET", "a", 5, "PX", HOUR)
    assert transfer("a", "b") == [4, None]
    assert transfer("b", "a") == [None, 5]
    assert transfer("a", "a") == [5, 5]
    assert 60_000 < scripts.ttl("a") <= HOUR + SLACK
    scripts.command("SET", "b", LEASE)
    assert transfer("b", "b") == [None, None]
    assert scripts.command("GET", "b") == LEASE
    assert transfer("a", "b") == [4, None]
    assert scripts.command("EXISTS", "b") == 0


def test_video_set(scripts: Scripts) -> None:
    assert scripts.run("video_set", "k", "temporary", HOUR) == 1
    assert 0 < scripts.ttl("k") <= HOUR + SLACK
    assert scripts.run("video_set", "k", "again", HOUR) == 1
    assert scripts.run("video_set", "k", "permanent", 0) == 1
    assert scripts.ttl("k") == -1
    assert scripts.run("video_set", "k", "temporary", HOUR) == 0
    assert scripts.command("GET", "k") == b"permanent"
    assert scripts.run("video_set", "k", "other", 0) == 1
    scripts.command("SET", "k", LEASE)
    assert scripts.run("video_set", "k", "temporary", HOUR) == 1
    scripts.command("DEL", "k")
    scripts.command("SADD", "k", "x")
    assert scripts.run("video_set", "k", "temporary", HOUR) == 1
    assert scripts.command("GET", "k") == b"temporary"


FIRST = b"\xffRLG" + bytes(range(8))
SECOND = b"\xffRLG\x00\r\n\xff$-1\x00"


def test_tags(scripts: Scripts) -> None:
    def tags(generation: bytes, px: int, *names: str) -> Any:
        return scripts.run("tags", *names, generation, px, keys=len(names))

    assert tags(FIRST, HOUR, "a", "b") == [FIRST, FIRST]
    assert 2 * HOUR < scripts.ttl("a") <= 3 * HOUR + SLACK
    assert tags(SECOND, HOUR, "b", "c", "a") == [FIRST, SECOND, FIRST]
    assert tags(SECOND, HOUR // 2, "a") == [FIRST]
    assert scripts.ttl("a") > 2 * HOUR  # a longer life stays
    assert tags(SECOND, 4 * HOUR, "a") == [FIRST]
    assert 8 * HOUR < scripts.ttl("a") <= 9 * HOUR + SLACK
    assert tags(SECOND, 0, "a") == [FIRST]
    assert scripts.ttl("a") == -1
    assert tags(SECOND, HOUR, "a") == [FIRST]
    assert scripts.ttl("a") == -1
    assert tags(SECOND, 0, "new") == [SECOND]
    assert scripts.ttl("new") == -1
    assert tags(FIRST, HOUR, "twice", "twice") == [FIRST, FIRST]
    assert tags(FIRST, HOUR) == []


@pytest.mark.parametrize(
    "there", [b"", b"x", FIRST[:-1], FIRST + b"x", b"\xffRLL" + bytes(8), LEASE]
)
def test_tags_replace_what_is_no_generation(scripts: Scripts, there: bytes) -> None:
    scripts.command("SET", "a", there)
    assert scripts.run("tags", "a", SECOND, 0) == [SECOND]
    assert scripts.command("GET", "a") == SECOND
    scripts.command("DEL", "a")
    scripts.command("SADD", "a", there)
    assert scripts.run("tags", "a", FIRST, HOUR) == [FIRST]
    assert scripts.command("GET", "a") == FIRST
    assert scripts.ttl("a") > HOUR


VALUES = [LEASE, OTHER, FIRST, SECOND, b"", b"x", b"0", b"7", b"-1", b"01"]
VALUES += [b"9007199254740991"]
VALUES += [b"9223372036854775807", b"-9223372036854775808", b"9223372036854775808"]
AMOUNTS = [b"0", b"1", b"-1", b"5", b"9223372036854775807"]
TIMES = [b"0", b"3600000"]
SHAPES: dict[str, tuple[int, list[list[bytes]]]] = {
    "acquire": (1, [[LEASE, OTHER], TIMES[1:]]),
    "fill": (1, [[LEASE, OTHER, b"7"], VALUES, TIMES]),
    "release": (1, [[LEASE, OTHER, b"7"]]),
    "renew": (1, [[LEASE, OTHER, b"7", LEASE[:5]], VALUES, [*TIMES, b"-1"]]),
    "add": (1, [VALUES, TIMES]),
    "touch": (1, [TIMES]),
    "increment": (1, [AMOUNTS, TIMES]),
    "counter_add": (1, [AMOUNTS]),
    "counter_transfer": (2, []),
    "video_set": (1, [VALUES, TIMES]),
    "restore": (1, [VALUES, TIMES, [b"0", b"1"]]),
    "tags": (2, [[FIRST, SECOND], TIMES]),
    "cooldown": (1, [TIMES[1:]]),
}
# Beside those, with keys of their own: test_presence_agrees.
PRESENCE = ["presence_join", "presence_leave", "presence_read"]
KEYS = [b"a", b"b"]


def random_steps(seed: int, count: int) -> list[tuple[str, list[bytes]]]:
    """Script runs, with now and then a plain command that puts something else there."""
    dice = random.Random(seed)
    steps: list[tuple[str, list[bytes]]] = []
    for _ in range(count):
        key = dice.choice(KEYS)
        plain = dice.random()
        if plain < 0.15:
            steps.append(("", [b"SET", key, dice.choice(VALUES)]))
        elif plain < 0.2:
            steps.append(("", [b"DEL", key]))
        elif plain < 0.25:
            steps.append(("", [b"SADD", key, b"x"]))
        else:
            name = dice.choice(sorted(SHAPES))
            keys, choices = SHAPES[name]
            arguments = [dice.choice(KEYS) for _ in range(keys)]
            arguments += [dice.choice(choice) for choice in choices]
            steps.append((name, arguments))
    return steps


def observe(scripts: Scripts, steps: list[tuple[str, list[bytes]]]) -> list[Any]:
    """What each step replied, and what both keys held after it."""
    seen: list[Any] = []
    for name, arguments in steps:
        if name:
            reply = scripts.run(name, *arguments, keys=SHAPES[name][0])
            if name == "cooldown" and isinstance(reply, int):
                reply = min(reply, 1)  # the ms that are left
        else:
            reply = scripts.command(*arguments)
        seen.append((name, arguments, comparable(reply)))
        for key in KEYS:
            left = scripts.command("PTTL", key)
            seen.append((scripts.command("GET", key), min(left, 1)))
    return seen


def comparable(reply: Any) -> Any:
    """Errors within arrays are exception instances, which compare by identity."""
    if isinstance(reply, list):
        return [comparable(item) for item in reply]
    return f"error {reply}" if isinstance(reply, Exception) else reply


def test_engine_and_server_agree(
    redis_server: Server, request: pytest.FixtureRequest, texts: dict[str, bytes]
) -> None:
    clients = [make_client(name, request) for name in ("engine", "redis")]
    try:
        for seed in range(20):
            steps = random_steps(seed, 60)
            engine, server = (observe(Scripts(c, texts), steps) for c in clients)
            assert engine == server
            for client in clients:
                client.flushdb()
    finally:
        for client in clients:
            client.close()


def test_print_scripts_is_complete(texts: dict[str, bytes]) -> None:
    # Rate limits depend on the time: test_limits_model.py gives both the same. Slots:
    # test_concurrency.py.
    others = [*PRESENCE, "limit", "limit_charge", "slot"]
    assert sorted(texts) == sorted([*SHAPES, *others])
