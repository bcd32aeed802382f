"""Command methods: names, arguments and results, on the engine and on a server."""

from __future__ import annotations

import math
import time
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from redlane import Client, ReplyError, WrongTypeError

pytestmark = pytest.mark.usefixtures("client")


def test_get_of_a_missing_key_is_none(client: Client) -> None:
    assert client.get("missing") is None


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ("text", b"text"),
        ("grün \U0001f534", "grün \U0001f534".encode()),
        ("", b""),
        (b"\x00\r\n\xff", b"\x00\r\n\xff"),
        (0, b"0"),
        (-17, b"-17"),
        (2**63, b"9223372036854775808"),
        (-(10**40), b"-1" + b"0" * 40),
        (1.5, b"1.5"),
        (2.0, b"2.0"),
        (1e300, b"1e+300"),
        (bytearray(b"array"), b"array"),
        (memoryview(b"view"), b"view"),
        (memoryview(b"abcdef")[::2], b"ace"),
        (b"x" * 100_000, b"x" * 100_000),
    ],
    ids=lambda value: repr(bytes(value) if type(value) is memoryview else value)[:20],
)
def test_set_and_get_any_value(client: Client, value: Any, stored: bytes) -> None:
    assert client.set("k", value) is True
    assert client.get("k") == stored


@pytest.mark.parametrize(
    "key", ["k", "", "a\x00b", "a\r\nb", "ü", "k" * 70_000, b"\xff\xfe", 7]
)
def test_any_key(client: Client, key: Any) -> None:
    client.set(key, "v")
    assert client.get(key) == b"v"
    assert client.exists(key) == 1
    assert client.delete(key) == 1


def test_str_subclasses_are_text(client: Client) -> None:
    class Name(str):
        def __eq__(self, other: object) -> bool:
            raise AssertionError("a key is not compared")

        __hash__ = None  # type: ignore[assignment]

        def __str__(self) -> str:
            return "other"

    client.set(Name("k"), Name("v"))
    assert client.get("k") == b"v"


@pytest.mark.parametrize("bad", [None, True, False, [], {}, object(), 1j])
def test_wrong_types_raise_before_anything_is_sent(client: Client, bad: Any) -> None:
    with pytest.raises(TypeError):
        client.set("k", bad)
    with pytest.raises(TypeError):
        client.set(bad, "v")
    assert client.dbsize() == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_no_numbers(client: Client, bad: float) -> None:
    with pytest.raises(ValueError):
        client.set("k", bad)
    assert client.dbsize() == 0


def test_lone_surrogate(client: Client) -> None:
    with pytest.raises(UnicodeEncodeError):
        client.get("\ud800")


def test_set_conditions(client: Client) -> None:
    assert client.set("k", "1", xx=True) is None
    assert client.set("k", "1", nx=True) is True
    assert client.set("k", "2", nx=True) is None
    assert client.set("k", "3", get=True) == b"1"
    assert client.set("new", "1", get=True) is None
    assert client.set("k", "4", xx=True) is True
    assert client.get("k") == b"4"


def test_set_with_ttl(client: Client) -> None:
    client.set("a", "v", ex=100)
    client.set("b", "v", px=100_000)
    client.set("c", "v", timedelta(seconds=100))
    client.set("d", "v", exat=int(time.time()) + 100)
    client.set("e", "v", pxat=int(time.time() * 1000) + 100_000)
    client.set("f", "v", exat=datetime.now(timezone.utc) + timedelta(seconds=100))
    client.set("g", "v", ex=99.5)
    for key in "abcdefg":
        assert 40_000 < client.pttl(key) <= 100_001  # a datetime has microseconds
    client.set("a", "w", keepttl=True)
    assert client.ttl("a") > 40
    client.set("a", "x")
    assert client.ttl("a") == -1
    assert client.ttl("missing") == -2


def test_a_fraction_of_a_second_is_a_ttl(client: Client) -> None:
    # In transactions, in which no time passes.
    pipe = client.pipeline(transaction=True).set("k", "v", ex=0.2).pttl("k")
    assert 0 < pipe.execute()[1] <= 200
    pipe = client.pipeline(transaction=True).set("k", "v").expire("k", 1.5).pttl("k")
    assert 1000 < pipe.execute()[2] <= 1500
    assert client.set("gone", "v", ex=1e-9) is True  # one millisecond, not none
    time.sleep(0.01)
    assert client.get("gone") is None


BAD_TTLS = [
    (0, ValueError),
    (-1, ValueError),
    (0.0, ValueError),
    (-0.5, ValueError),
    (math.nan, ValueError),
    (math.inf, ValueError),
    (2**63, ValueError),
    (-(2**63) - 1, ValueError),
    (2**63 - 1, ValueError),
    (1e30, ValueError),
    (timedelta(0), ValueError),
    (timedelta(seconds=-1), ValueError),
    (True, TypeError),
    (False, TypeError),
    ("5", ValueError),
    (b"5", TypeError),
    ([], TypeError),
]


def test_ttls_as_text(client: Client) -> None:
    for name in ("ex", "px"):  # a text says its own unit
        client.set("k", "v", **{name: "1h30m"})
        assert 5_370_000 < client.pttl("k") <= 5_400_000
    client.pexpire("k", "10m")
    assert 570_000 < client.pttl("k") <= 600_000
    client.expire("k", "2d")
    assert 172_770_000 < client.pttl("k") <= 172_800_000


@pytest.mark.parametrize(("ttl", "error"), BAD_TTLS, ids=repr)
def test_bad_ttls(client: Client, ttl: Any, error: type[Exception]) -> None:
    for name in ("ex", "px"):
        with pytest.raises(error, match=name):
            client.set("k", "v", **{name: ttl})
        with pytest.raises(error, match=name):
            client.getex("k", **{name: ttl})
    with pytest.raises(error, match="time"):
        client.expire("k", ttl)
    with pytest.raises(error, match="time"):
        client.pexpire("k", ttl)
    assert client.dbsize() == 0


@pytest.mark.parametrize(
    "bad", [0, -1, math.nan, 2**70, True, "x", timedelta(seconds=1)]
)
def test_bad_moments(client: Client, bad: Any) -> None:
    for name in ("exat", "pxat"):
        with pytest.raises((TypeError, ValueError), match=name):
            client.set("k", "v", **{name: bad})
    with pytest.raises((TypeError, ValueError), match="when"):
        client.expireat("k", bad)
    assert client.dbsize() == 0


@pytest.mark.parametrize(
    "options",
    [
        {"ex": 1, "px": 1},
        {"ex": 1, "exat": 2},
        {"nx": True, "xx": True},
        {"ex": 1, "keepttl": True},
    ],
)
def test_options_that_do_not_go_together(
    client: Client, options: dict[str, Any]
) -> None:
    with pytest.raises(ValueError):
        client.set("k", "v", **options)
    assert client.dbsize() == 0


def test_getdel_and_getex(client: Client) -> None:
    client.set("k", "v", ex=100)
    assert client.getex("k", persist=True) == b"v"
    assert client.ttl("k") == -1
    assert client.getex("k", ex=50) == b"v"
    assert 0 < client.ttl("k") <= 50
    assert client.getex("k") == b"v"
    assert client.getdel("k") == b"v"
    assert client.getdel("k") is None
    with pytest.raises(ValueError):
        client.getex("k", ex=1, persist=True)


def test_many(client: Client) -> None:
    assert client.mset({"a": 1, b"b": "2", "c": b"3"}) is True
    assert client.mget("a", "b", "x") == [b"1", b"2", None]
    assert client.mget(["a", "b"]) == [b"1", b"2"]
    assert client.mget(["a"], "c") == [b"1", b"3"]
    assert client.mget(key for key in "abc") == [b"1", b"2", b"3"]
    assert client.mget([]) == []
    assert client.exists("a", "a", "x") == 2
    assert client.delete("a", "b", "x") == 2
    assert client.unlink("c") == 1
    many = {f"key:{i}": i for i in range(1000)}
    client.mset(many)
    assert client.mget(many) == [str(i).encode() for i in range(1000)]
    with pytest.raises(ValueError):
        client.mset({})
    for method in (client.delete, client.exists, client.unlink):
        with pytest.raises(TypeError):
            method()


def test_a_mapping_of_any_kind(client: Client) -> None:
    class Mapping:
        def items(self) -> list[tuple[str, int]]:
            return [("a", 1), ("b", 2)]

    client.mset(Mapping())
    assert client.mget("a", "b") == [b"1", b"2"]
    for bad in ([("a", 1)], "text", 5):
        with pytest.raises(TypeError):
            client.mset(bad)

    class Odd:
        def items(self) -> list[Any]:
            return [("a", 1, 2)]

    with pytest.raises(TypeError):
        client.mset(Odd())


def test_a_mapping_that_changes_while_it_is_read(client: Client) -> None:
    """A buffer whose making empties the dict that holds it."""
    fields: dict[Any, Any] = {}

    class Iterable:
        def __iter__(self) -> Any:
            fields.clear()
            yield "x" * 100

    fields.update({f"field:{i}" * 3: "v" * 50 for i in range(50)})
    client.hset("h", mapping=fields, items=None)
    assert client.hlen("h") == 50
    assert client.mget(Iterable(), *(f"k{i}" for i in range(20))) == [None] * 21


def test_numbers(client: Client) -> None:
    assert client.incr("n") == 1
    assert client.incr("n", 5) == 6
    assert client.incrby("n", amount=4) == 10
    assert client.decr("n") == 9
    assert client.decrby("n", 4) == 5
    assert client.incr("n", -10) == -5
    assert client.incrbyfloat("f", 1.5) == 1.5
    assert client.incrbyfloat("f") == 2.5
    assert isinstance(client.incrbyfloat("f", 1), float)
    for bad in (1.5, "1", None, True):
        with pytest.raises(TypeError, match="amount"):
            client.incr("n", bad)  # type: ignore[arg-type]
    with pytest.raises(OverflowError):
        client.incr("n", 2**63)
    client.set("n", 2**63 - 1)
    with pytest.raises(ReplyError, match="overflow"):
        client.incr("n")


def test_strings(client: Client) -> None:
    assert client.append("k", "abc") == 3
    assert client.append("k", b"def") == 6
    assert client.strlen("k") == 6
    assert client.getrange("k", 1, -2) == b"bcde"


def test_expiry(client: Client) -> None:
    client.set("k", "v")
    assert client.expire("missing", 10) is False
    assert client.expire("k", 100, xx=True) is False
    assert client.expire("k", 100, nx=True) is True
    assert client.expire("k", 50, gt=True) is False
    assert client.expire("k", 50, lt=True) is True
    assert client.pexpire("k", timedelta(seconds=30)) is True
    assert 29_000 < client.pttl("k") <= 30_000
    assert client.expireat("k", time.time() + 60) is True
    assert (
        client.pexpireat("k", datetime.now(timezone.utc) + timedelta(seconds=60))
        is True
    )
    assert 58 <= client.ttl("k") <= 60
    assert client.persist("k") is True
    assert client.persist("k") is False
    assert client.expireat("k", 1) is True  # a moment in the past
    assert client.exists("k") == 0


def test_type_and_keys(client: Client) -> None:
    client.set("s", "v")
    client.hset("h", "f", "v")
    client.sadd("set", "m")
    client.zadd("z", {"m": 1})
    assert [client.type(key) for key in ("s", "h", "set", "z", "none")] == [
        b"string",
        b"hash",
        b"set",
        b"zset",
        b"none",
    ]
    assert sorted(client.keys()) == [b"h", b"s", b"set", b"z"]
    assert sorted(client.keys("s*")) == [b"s", b"set"]
    assert client.dbsize() == 4


def test_scan(client: Client) -> None:
    names = {f"user:{i}".encode() for i in range(500)}
    client.mset(dict.fromkeys(names, "v"))
    client.hset("hash:1", "f", "v")
    cursor, seen, steps = 0, set(), 0
    while True:
        cursor, keys = client.scan(cursor, match="user:*", count=50)
        assert isinstance(cursor, int)
        assert isinstance(keys, list)
        seen.update(keys)
        steps += 1
        if cursor == 0:
            break
    assert seen == names
    assert steps > 1
    assert set(client.scan_iter()) == names | {b"hash:1"}
    assert set(client.scan_iter(match="user:1?", count=7)) == {
        f"user:1{i}".encode() for i in range(10)
    }
    assert list(client.scan_iter(_type="hash")) == [b"hash:1"]
    assert list(client.scan_iter("nothing*")) == []
    iterator = client.scan_iter()
    assert iter(iterator) is iterator
    with pytest.raises(TypeError):
        client.scan("0")  # type: ignore[arg-type]


def test_hashes(client: Client) -> None:
    assert client.hset("h", "a", 1) == 1
    assert client.hset("h", {"b": 2, "c": "3"}) == 2  # a dict as second argument
    assert client.hset("h", mapping={"d": b"4"}) == 1
    assert client.hset("h", items=["e", 5, "f", 6]) == 2
    assert client.hset("h", "a", "1", {"g": 7}) == 1
    assert client.hget("h", "a") == b"1"
    assert client.hget("h", "missing") is None
    assert client.hgetall("h") == {
        b"a": b"1",
        b"b": b"2",
        b"c": b"3",
        b"d": b"4",
        b"e": b"5",
        b"f": b"6",
        b"g": b"7",
    }
    assert client.hgetall("missing") == {}
    assert client.hmget("h", ["a", "x", "c"]) == [b"1", None, b"3"]
    assert client.hmget("h", "a", "b") == [b"1", b"2"]
    assert client.hmget("h", []) == []
    assert client.hdel("h", "a", "b", "x") == 2
    assert client.hexists("h", "c") is True
    assert client.hexists("h", "a") is False
    assert client.hlen("h") == 5
    assert client.hincrby("h", "n") == 1
    assert client.hincrby("h", "n", 41) == 42
    for arguments in ({}, {"mapping": {}}, {"items": []}, {"items": ["a"]}):
        with pytest.raises(ValueError):
            client.hset("h", **arguments)
    with pytest.raises(TypeError):
        client.hset("h", "field")


def test_sets(client: Client) -> None:
    assert client.sadd("s", "a", "b", 3) == 3
    assert client.sadd("s", "a") == 0
    assert client.smembers("s") == {b"a", b"b", b"3"}
    assert client.smembers("missing") == set()
    assert client.sismember("s", "a") == 1
    assert client.sismember("s", "x") == 0
    assert client.smismember("s", ["a", "x"], "b") == [1, 0, 1]
    assert client.scard("s") == 3
    assert client.srem("s", "a", "x") == 1
    with pytest.raises(TypeError):
        client.sadd("s")


def test_sorted_sets(client: Client) -> None:
    assert client.zadd("z", {"a": 1, "b": 2.5, "c": -math.inf}) == 3
    assert client.zadd("z", {"a": 5}, ch=True) == 1
    assert client.zadd("z", {"a": 3}, gt=True, ch=True) == 0
    assert client.zadd("z", {"new": 3}, xx=True) == 0
    assert client.zadd("z", {"a": 1}, incr=True) == 6.0
    assert client.zadd("z", {"missing": 1}, incr=True, xx=True) is None
    assert client.zrange("z", 0, -1) == [b"c", b"b", b"a"]
    assert client.zrange("z", 0, -1, desc=True) == [b"a", b"b", b"c"]
    assert client.zrange("z", 0, -1, withscores=True) == [
        (b"c", -math.inf),
        (b"b", 2.5),
        (b"a", 6.0),
    ]
    assert client.zrange("z", "(2.5", math.inf, byscore=True) == [b"a"]
    assert client.zrange("z", "-inf", "+inf", byscore=True, offset=1, num=1) == [b"b"]
    assert client.zrange("z", 1, 1, withscores=True, score_cast_func=str) == [
        (b"b", "b'2.5'")
    ]
    assert client.zrange("z", 1, 1, withscores=True, score_cast_func=float) == [
        (b"b", 2.5)
    ]
    assert client.zrange("z", 2, 2, withscores=True, score_cast_func=int) == [(b"a", 6)]
    assert client.zrange("missing", 0, -1, withscores=True) == []
    assert client.zscore("z", "a") == 6.0
    assert client.zscore("z", "x") is None
    assert client.zcard("z") == 3
    assert client.zrem("z", "a", "x") == 1
    assert client.zremrangebyscore("z", "-inf", 2) == 1
    assert client.zrange("z", 0, -1) == [b"b"]
    client.zadd("names", dict.fromkeys("abc", 0))
    assert client.zrange("names", "[b", "+", bylex=True) == [b"b", b"c"]


@pytest.mark.parametrize(
    ("mapping", "options"),
    [
        ({}, {}),
        ({"m": math.nan}, {}),
        ({"m": 1}, {"nx": True, "xx": True}),
        ({"m": 1}, {"nx": True, "gt": True}),
        ({"m": 1}, {"gt": True, "lt": True}),
        ({"m": 1, "n": 1}, {"incr": True}),
    ],
)
def test_bad_zadd(client: Client, mapping: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        client.zadd("z", mapping, **options)
    assert client.dbsize() == 0


@pytest.mark.parametrize(
    "options",
    [
        {"byscore": True, "bylex": True},
        {"offset": 1},
        {"num": 1},
        {"bylex": True, "withscores": True},
    ],
)
def test_bad_zrange(client: Client, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        client.zrange("z", 0, -1, **options)


def test_a_cast_that_raises(client: Client) -> None:
    client.zadd("z", {"m": 1})

    def cast(score: object) -> float:
        raise ArithmeticError("no")

    with pytest.raises(ArithmeticError):
        client.zrange("z", 0, -1, withscores=True, score_cast_func=cast)


def test_server(client: Client) -> None:
    assert client.ping() is True
    assert client.echo("x") == b"x"
    seconds, microseconds = client.time()
    assert abs(seconds - time.time()) < 60
    assert 0 <= microseconds < 1_000_000
    assert client.publish("channel", "message") == 0
    client.set("k", "v")
    assert client.flushdb() is True
    assert client.dbsize() == 0
    client.set("k", "v")
    assert client.flushall(asynchronous=True) is True
    assert client.dbsize() == 0


def test_info(client: Client, executor: str) -> None:
    info = client.info()
    if executor == "engine":
        assert info["redlane_engine"] == 1
    else:
        assert isinstance(info["redis_version"], str)
    assert isinstance(info["used_memory"], int)
    memory = client.info("memory")
    assert "used_memory_human" in memory
    client.set("k", "v", ex=100)
    assert client.info("keyspace")["db0"]["keys"] == 1


def test_wrong_type(client: Client) -> None:
    client.hset("h", "f", "v")
    with pytest.raises(WrongTypeError, match="WRONGTYPE"):
        client.get("h")
    with pytest.raises(WrongTypeError):
        client.incr("h")
    assert client.set("h", "v") is True


def test_keyword_and_positional_arguments(client: Client) -> None:
    client.set(name="k", value="v")
    assert client.get(name="k") == b"v"
    assert client.hset(name="h", key="f", value="v") == 1
    key = "".join(["na", "me"])  # not interned
    assert client.get(**{key: "k"}) == b"v"
    with pytest.raises(TypeError, match=r"get\(\) is missing the argument 'name'"):
        client.get()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"get\(\) takes at most 1"):
        client.get("a", "b")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'nope'"):
        client.get("a", nope=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="multiple values for argument 'name'"):
        client.get("a", name="b")  # type: ignore[misc]
    with pytest.raises(TypeError, match=r"needs a redlane\.Client object"):
        Client.get("a", "b")  # type: ignore[call-overload, misc]
    assert Client.get(client, "k") == b"v"


def test_eval(client: Client, executor: str) -> None:
    script = "return {KEYS[1], ARGV[1], #ARGV}"
    if executor == "engine":
        with pytest.raises(ReplyError):
            client.eval(script, 1, "k", "a")
    else:
        assert client.eval(script, 1, "k", "a", "b") == [b"k", b"a", 2]
    with pytest.raises(TypeError, match="numkeys"):
        client.eval(script, "1")  # type: ignore[arg-type]
