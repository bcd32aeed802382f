"""Every reply type for every command: each method of a client and of its tools,
answered by a scripted server with each reply that RESP knows, of the right type and of
all wrong ones. What comes of it is a result of the documented type or a RedlaneError;
nothing else, and the next call gets its own answer."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from typing import Any

import pytest
import redlane
from redlane import (
    Cache,
    Client,
    Cooldown,
    CooldownState,
    Counter,
    Presence,
    RateLimiter,
    RedisCache,
    VideoCache,
)
from scripted import HELLO_ANSWER, Peer, scripted

PATIENCE = 60
CONNECTIONS = 1  # that a client of one has

# What may be an answer to something: the connection goes on.
WELL_FORMED = {
    "status": b"+OK\r\n",
    "other status": b"+PONG\r\n",
    "empty status": b"+\r\n",
    "zero": b":0\r\n",
    "one": b":1\r\n",
    "minus two": b":-2\r\n",
    "largest": b":9223372036854775807\r\n",
    "smallest": b":-9223372036854775808\r\n",
    "nil": b"$-1\r\n",
    "nil array": b"*-1\r\n",
    "empty bulk": b"$0\r\n\r\n",
    "bulk": b"$6\r\ncanary\r\n",
    "number": b"$2\r\n17\r\n",
    "long number": b"$20\r\n99999999999999999999\r\n",
    "fraction": b"$3\r\n1.5\r\n",
    "nan": b"$3\r\nnan\r\n",
    "not utf-8": b"$2\r\n\xff\xfe\r\n",
    "nul": b"$3\r\n1\x002\r\n",
    "lease": b"$20\r\n\xffRLLxxxxxxxxxxxxxxxx\r\n",
    "half a lease": b"$4\r\n\xffRLL\r\n",
    "json": b'$10\r\n{"a": [1]}\r\n',
    "cut json": b'$4\r\n{"a"\r\n',
    "empty array": b"*0\r\n",
    "array of one": b"*1\r\n$1\r\na\r\n",
    "pair": b"*2\r\n$1\r\na\r\n$1\r\nb\r\n",
    "pair of integers": b"*2\r\n:1\r\n:2\r\n",
    "pair of nil": b"*2\r\n$-1\r\n$-1\r\n",
    "three": b"*3\r\n:1\r\n$1\r\na\r\n$-1\r\n",
    "three of a script": b"*3\r\n:0\r\n:1\r\n*1\r\n:1\r\n",
    "three integers": b"*3\r\n:0\r\n:0\r\n:5\r\n",
    "seven large": b"*7\r\n" + b":9223372036854775807\r\n" * 7,
    "scan": b"*2\r\n$1\r\n0\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n",
    "scan of nothing": b"*2\r\n$1\r\n0\r\n*0\r\n",
    "scan of integers": b"*2\r\n:0\r\n*1\r\n:1\r\n",
    "scan of arrays": b"*2\r\n:0\r\n*1\r\n*1\r\n$1\r\na\r\n",
    "scan of errors": b"*2\r\n$1\r\n0\r\n*1\r\n-ERR inside\r\n",
    "scan without end": b"*2\r\n$20\r\n99999999999999999999\r\n*0\r\n",
    "arrays": b"*2\r\n*0\r\n*1\r\n*1\r\n:1\r\n",
    "eight deep": b"*1\r\n" * 8 + b":8\r\n",
    "error inside": b"*2\r\n-ERR inside\r\n$1\r\na\r\n",
    "not utf-8 inside": b"*2\r\n$1\r\n\xff\r\n$1\r\n\xfe\r\n",
    "a thousand": b"*1000\r\n" + b"$1\r\nx\r\n" * 1000,
    "error": b"-ERR no\r\n",
    "empty error": b"-\r\n",
    "error of bytes": b"-\xff\xfe\r\n",
    "wrong type": b"-WRONGTYPE no\r\n",
    "no script": b"-NOSCRIPT no\r\n",
    "exec abort": b"-EXECABORT no\r\n",
    "no permission": b"-NOPERM no\r\n",
    "busy group": b"-BUSYGROUP no\r\n",
    "moved": b"-MOVED 1 127.0.0.1:1\r\n",
    "ask": b"-ASK 1 127.0.0.1:1\r\n",
}

# An outage, or the end of the connection: each gets a client of its own.
FATAL = {
    "loading": b"-LOADING no\r\n",
    "master down": b"-MASTERDOWN no\r\n",
    "cluster down": b"-CLUSTERDOWN no\r\n",
    "busy": b"-BUSY no\r\n",
    "full": b"-OOM no\r\n",
    "read only": b"-READONLY no\r\n",
    "misconfigured": b"-MISCONF no\r\n",
    "no replicas": b"-NOREPLICAS no\r\n",
    "no auth": b"-NOAUTH no\r\n",
    "resp3 null": b"_\r\n",
    "resp3 map": b"%1\r\n+a\r\n+b\r\n",
    "resp3 push": b">2\r\n+invalidate\r\n*0\r\n",
    "resp3 inside": b"*2\r\n$1\r\na\r\n#t\r\n",
    "nine deep": b"*1\r\n" * 9 + b":9\r\n",
    "wrong end": b"$1\r\naXX",
    "two for one": b"$1\r\na\r\n$1\r\nb\r\n",
    "junk": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "beyond max_reply": b"$999999999\r\n",
    "queued": b"+QUEUED\r\n",
    "nothing": b"",
}

Call = Callable[[], object]
Check = Callable[[object], bool]


def anything(value: object) -> bool:
    """What a reply becomes: no error among it."""
    if isinstance(value, (list, tuple, set)):
        return all(map(anything, value))
    if isinstance(value, dict):
        return all(map(anything, itertools.chain(value, value.values())))
    return value is None or isinstance(value, (bytes, str, int, float))


def is_a(*types: type) -> Check:
    return lambda value: type(value) in types and anything(value)


def is_dict(value: object) -> bool:
    return type(value) is dict


def is_state(value: object) -> bool:
    return type(value) is CooldownState and value.ready == (value.remaining == 0)


def anything_with_errors(value: object) -> bool:
    """Where errors inside an array are told apart by the caller."""
    if isinstance(value, list):
        return all(map(anything_with_errors, value))
    return isinstance(value, (redlane.RedlaneError, UnicodeDecodeError)) or anything(
        value
    )


INT, BOOL, NONE = is_a(int), is_a(bool), type(None)


def client_calls(client: Any) -> dict[str, tuple[Call, Check]]:
    """One call of each command method, and what its result may be."""
    c = client
    raw = anything
    return {
        "append": (lambda: c.append("k", "v"), raw),
        "dbsize": (lambda: c.dbsize(), raw),
        "decr": (lambda: c.decr("k"), raw),
        "decrby": (lambda: c.decrby("k", 2), raw),
        "delete": (lambda: c.delete("k", "l"), raw),
        "echo": (lambda: c.echo("k"), raw),
        "eval": (lambda: c.eval("return 1", 0), anything_with_errors),
        "evalsha": (lambda: c.evalsha("0" * 40, 0), anything_with_errors),
        "execute": (lambda: c.execute("X", "k"), anything_with_errors),
        "execute_command": (lambda: c.execute_command("X"), anything_with_errors),
        "exists": (lambda: c.exists("k"), raw),
        "expire": (lambda: c.expire("k", 1), BOOL),
        "expireat": (lambda: c.expireat("k", 1), BOOL),
        "flushall": (lambda: c.flushall(), BOOL),
        "flushdb": (lambda: c.flushdb(), BOOL),
        "get": (lambda: c.get("k"), raw),
        "getdel": (lambda: c.getdel("k"), raw),
        "getex": (lambda: c.getex("k", ex=1), raw),
        "getrange": (lambda: c.getrange("k", 0, 1), raw),
        "hdel": (lambda: c.hdel("k", "f"), raw),
        "hexists": (lambda: c.hexists("k", "f"), BOOL),
        "hget": (lambda: c.hget("k", "f"), raw),
        "hgetall": (lambda: c.hgetall("k"), is_a(dict)),
        "hincrby": (lambda: c.hincrby("k", "f"), raw),
        "hlen": (lambda: c.hlen("k"), raw),
        "hmget": (lambda: c.hmget("k", ["f", "g"]), raw),
        "hset": (lambda: c.hset("k", "f", "v"), raw),
        "incr": (lambda: c.incr("k"), raw),
        "incrby": (lambda: c.incrby("k", 2), raw),
        "incrbyfloat": (lambda: c.incrbyfloat("k", 1.5), is_a(float, NONE)),
        "info": (lambda: c.info(), is_dict),
        "keys": (lambda: c.keys(), raw),
        "mget": (lambda: c.mget(["k", "l"]), raw),
        "mset": (lambda: c.mset({"k": 1}), BOOL),
        "persist": (lambda: c.persist("k"), BOOL),
        "pexpire": (lambda: c.pexpire("k", 1), BOOL),
        "pexpireat": (lambda: c.pexpireat("k", 1), BOOL),
        "ping": (lambda: c.ping(), BOOL),
        "pttl": (lambda: c.pttl("k"), raw),
        "publish": (lambda: c.publish("k", "v"), raw),
        "sadd": (lambda: c.sadd("k", "v"), raw),
        "scan": (lambda: c.scan(0), is_a(tuple)),
        "scan_iter": (lambda: list(itertools.islice(c.scan_iter(), 20)), is_a(list)),
        "scard": (lambda: c.scard("k"), raw),
        "set": (lambda: c.set("k", "v"), is_a(bool, NONE)),
        "set get": (lambda: c.set("k", "v", get=True), raw),
        "sismember": (lambda: c.sismember("k", "v"), raw),
        "smembers": (lambda: c.smembers("k"), is_a(set)),
        "smismember": (lambda: c.smismember("k", ["v", "w"]), raw),
        "srem": (lambda: c.srem("k", "v"), raw),
        "strlen": (lambda: c.strlen("k"), raw),
        "time": (lambda: c.time(), is_a(tuple)),
        "ttl": (lambda: c.ttl("k"), raw),
        "type": (lambda: c.type("k"), raw),
        "unlink": (lambda: c.unlink("k"), raw),
        "zadd": (lambda: c.zadd("k", {"m": 1}), raw),
        "zadd incr": (lambda: c.zadd("k", {"m": 1}, incr=True), is_a(float, NONE)),
        "zcard": (lambda: c.zcard("k"), raw),
        "zrange": (lambda: c.zrange("k", 0, -1), raw),
        "zrange scores": (
            lambda: c.zrange("k", 0, -1, withscores=True),
            is_a(list),
        ),
        "zrange cast": (
            lambda: c.zrange("k", 0, -1, withscores=True, score_cast_func=int),
            is_a(list),
        ),
        "zrem": (lambda: c.zrem("k", "m"), raw),
        "zremrangebyscore": (lambda: c.zremrangebyscore("k", 0, 1), raw),
        "zscore": (lambda: c.zscore("k", "m"), is_a(float, NONE)),
        "health": (lambda: c.health(), is_dict),
        "pipeline": (lambda: filled(c.pipeline()).execute(), is_a(list)),
        "pipeline keeping": (
            lambda: filled(c.pipeline()).execute(raise_on_error=False),
            anything_with_errors,
        ),
        "transaction": (
            lambda: filled(c.pipeline(transaction=True)).execute(),
            is_a(list, NONE),
        ),
        "transaction keeping": (
            lambda: filled(c.pipeline(True)).execute(raise_on_error=False),
            anything_with_errors,
        ),
    }


def filled(pipeline: Any) -> Any:
    pipeline.get("k").hgetall("h").zrange("z", 0, -1, withscores=True).info()
    pipeline.time().smembers("s").incrbyfloat("k", 1.0).ping().scan(0).expire("k", 1)
    return pipeline.mget(["k", "l"]).set("k", "v")


def cache_calls(client: Any, **options: Any) -> dict[str, tuple[Call, Check]]:
    cache = Cache(client, ttl=60, near=False, **options)
    space = cache.namespace("n")
    maybe_int = is_a(int, NONE)

    @cache(name="function")
    def function(number: int) -> list[int]:
        return [number]

    return {
        "cache.get": (lambda: cache.get("k"), anything),
        "cache.set": (lambda: cache.set("k", [1]), BOOL),
        "cache.set for ever": (lambda: Cache(client).set("k", [1]), BOOL),
        "cache.add": (lambda: cache.add("k", [1]), BOOL),
        "cache.delete": (lambda: cache.delete("k"), BOOL),
        "cache.has": (lambda: cache.has("k"), BOOL),
        "cache.ttl": (lambda: cache.ttl("k"), is_a(float, NONE)),
        "cache.touch": (lambda: cache.touch("k", 5), BOOL),
        "cache.increment": (lambda: cache.increment("k"), maybe_int),
        "cache.decrement": (lambda: cache.decrement("k"), maybe_int),
        "cache.get_or_set": (lambda: cache.get_or_set("k", lambda: 5), anything),
        "cache.get_many": (lambda: cache.get_many(["k", "l"]), is_a(dict)),
        "cache.set_many": (lambda: cache.set_many({"k": 1, "l": 2}), is_a(NONE)),
        "cache.delete_many": (lambda: cache.delete_many(["k", "l"]), INT),
        "cache.invalidate": (lambda: cache.invalidate("cache:*"), INT),
        "cache.clear": (lambda: cache.clear(), INT),
        "cache.invalidate_tags": (lambda: cache.invalidate_tags("t", "u"), INT),
        "cache.get of tags": (lambda: space.get("k"), anything),
        "cache.set of tags": (lambda: space.set("k", 1, tags=["t"]), BOOL),
        "cache.stats": (lambda: cache.stats(), is_dict),
        "function": (
            lambda: function(1),
            lambda value: value == [1] or anything(value),
        ),
        "function.refresh": (lambda: function.refresh(1), lambda value: value == [1]),
        "function.invalidate": (lambda: function.invalidate(1), BOOL),
        "function.invalidate_all": (lambda: function.invalidate_all(), INT),
    }


def tool_calls(client: Any, **options: Any) -> dict[str, tuple[Call, Check]]:
    counter = Counter(client, "n:{id}", ttl=60, source=lambda id: 5, **options)
    bare = Counter(client, "m:{id}", **options)
    video = VideoCache(client)
    maybe_int = is_a(int, NONE)
    return {
        "counter.get": (lambda: counter.get(1), maybe_int),
        "counter.get bare": (lambda: bare.get(1), maybe_int),
        "counter.increment": (lambda: counter.increment(1), maybe_int),
        "counter.increment bare": (lambda: bare.increment(1), maybe_int),
        "counter.decrement": (lambda: counter.decrement(1), maybe_int),
        "counter.transfer": (lambda: counter.transfer(1, 2), is_a(tuple)),
        "counter.delete": (lambda: counter.delete(1), BOOL),
        "counter.reset": (lambda: counter.reset(1), BOOL),
        "video.set": (lambda: video.set("a", ["b"], "u"), BOOL),
        "video.set for ever": (lambda: video.set("a", ["b"], "u", True), BOOL),
        "video.get": (lambda: video.get("a", ["b"]), is_a(str, NONE)),
        "video.get_stats": (lambda: video.get_stats(), is_dict),
        "video.startup": (lambda: video.startup(), is_a(NONE)),
    }


def limit_calls(client: Any) -> dict[str, tuple[Call, Check]]:
    limiters = {name: RateLimiter(client, name) for name in ("gcra", "fixed-window")}
    cooldown = Cooldown(client, 5, fallback="raise")
    # Of the awaited clients' tests too: this one's own form is asked there.
    blocking = getattr(client, "sync", client)
    tenant = RedisCache.from_client(blocking).with_context("a", "d")

    def presence() -> Presence:
        """One that does not know yet what the server knows."""
        return Presence(client, fallback="raise")

    def leave() -> bool:
        here = presence()
        registry = getattr(here, "sync", here)._registry
        registry.add("u", "1")  # as if it had joined
        return here.leave("u", 1)

    calls: dict[str, tuple[Call, Check]] = {
        "cooldown.acquire": (lambda: cooldown.acquire("u"), is_state),
        "cooldown.peek": (lambda: cooldown.peek("u"), is_state),
        "cooldown.reset": (lambda: cooldown.reset("u"), BOOL),
        "tenant.get": (lambda: tenant.get("k"), is_a(tuple)),
        "tenant.set": (lambda: tenant.set("k", b"v", 5), BOOL),
        "tenant.stats": (lambda: tenant.stats(), is_a(int, NONE)),
        "tenant.flush_app": (lambda: tenant.flush_app(), is_a(int)),
        "tenant.flush_device": (lambda: tenant.flush_device(), is_a(int)),
        "presence.join": (lambda: presence().join("u", 1), BOOL),
        "presence.leave": (leave, BOOL),
        "presence.online": (lambda: presence().online("u"), BOOL),
        "presence.members": (lambda: presence().members(), is_a(set)),
        "presence.count": (lambda: presence().count(), is_a(int)),
        "presence.close": (lambda: presence().close(), is_a(NONE)),
    }
    for name, one in limiters.items():
        for method in (one.hit, one.peek, one.refund):
            calls[f"limiter.{method.__name__} {name}"] = (
                lambda method=method: method("u", "5/minute;9/hour").limits,  # type: ignore[misc]
                is_a(tuple),
            )
        calls[f"limiter.reset {name}"] = (
            lambda one=one: one.reset("u", "5/minute"),  # type: ignore[misc]
            BOOL,
        )
    return calls


def all_calls(client: Any) -> dict[str, tuple[Call, Check]]:
    """Tools with the policy that hides nothing, so that what is raised is seen."""
    return {
        **client_calls(client),
        **cache_calls(client, fallback="raise", prefix="loud"),
        **tool_calls(client, fallback="raise"),
        **limit_calls(client),
        **{f"quiet {name}": call for name, call in cache_calls(client).items()},
    }


# A lease does not stay for ever: who waits for its end looks again.
LEASES = {b"$20\r\n\xffRLLxxxxxxxxxxxxxxxx\r\n": 4}


class Answering:
    """A server that answers what is asked for with `reply`, ECHO of a tag rightly,
    handshakes and probes as Redis does."""

    def __init__(self) -> None:
        self.answer(b"")

    def answer(self, reply: bytes) -> None:
        self.reply = reply
        self.left = LEASES.get(reply, sys.maxsize)

    def __call__(self, peer: Peer) -> None:
        fresh = True
        while True:
            command = peer.read()
            if command[0] == b"HELLO":
                peer.send(HELLO_ANSWER)
                continue
            if command == [b"PING"] and fresh:
                peer.send(b"+PONG\r\n")
            elif command[0] == b"ECHO" and command[1].startswith(b"tag"):
                peer.send(b"$%d\r\n%s\r\n" % (len(command[1]), command[1]))
            elif self.left:
                self.left -= 1
                peer.send(self.reply)
            else:
                peer.send(b"$-1\r\n")
            fresh = False


def judge(call: Call, check: Check, decodes: bool) -> str | None:
    """What is wrong with what comes of a call; None when nothing is."""
    allowed: tuple[type[Exception], ...] = (redlane.RedlaneError,)
    if decodes:
        allowed = (*allowed, UnicodeDecodeError)
    try:
        value = call()
    except allowed as error:
        return "a value is shown" if "canary" in str(error) else None
    except BaseException as error:
        return repr(error)
    return None if check(value) else f"gave {value!r}"


def check_tag(client: Any, tag: str) -> None:
    got = client.echo(tag)
    assert got in (tag, tag.encode()), (tag, got)


@pytest.mark.parametrize("decode", [False, True])
def test_every_reply_for_every_call(decode: bool) -> None:
    script = Answering()
    wrong = []
    with scripted(script) as server:
        client: Any = Client(
            server.url,
            timeout=PATIENCE,
            connect_timeout=PATIENCE,
            decode_responses=decode,
            pool_size=1,
        )
        calls = all_calls(client)
        for reply, (name, (call, check)) in itertools.product(
            WELL_FORMED, calls.items()
        ):
            check_tag(client, f"tag {reply} {name}")
            script.answer(WELL_FORMED[reply])
            found = judge(call, check, decode)
            if found:
                wrong.append(f"{name} <- {reply}: {found}")
            check_tag(client, f"tag {reply} {name} afterwards")
        assert [command[0] for command in server.commands].count(
            b"HELLO"
        ) == CONNECTIONS
        client.close()
    assert not wrong, "\n".join(wrong)


def test_every_method_is_asked() -> None:
    client = Client("memory://")
    asked = {name.split()[0] for name in client_calls(client)}
    # The last of these is a row, not a method; subscribers have their own program.
    other = {"close", "from_env", "listen", "subscribe", "transaction"}
    public = {
        name
        for name in dir(Client)
        if not name.startswith("_") and callable(getattr(Client, name))
    }
    assert asked | other == public | {"transaction"}
    tools = {
        "cache": (Cache, {"counter", "disabled", "namespace"}, cache_calls(client)),
        "counter": (Counter, {"key"}, tool_calls(client)),
        "video": (VideoCache, set[str](), tool_calls(client)),
    }
    for prefix, (made, without, calls) in tools.items():
        asked = {name.split()[0] for name in calls if name.startswith(prefix + ".")}
        public = {
            f"{prefix}.{name}"
            for name in dir(made)
            if not name.startswith("_")
            and callable(getattr(made, name))
            and name not in without
        }
        assert asked == public
    client.close()


@pytest.mark.parametrize("reply", FATAL)
def test_every_fatal_reply_for_every_call(reply: str) -> None:
    """After which the client is away, or has a new connection. A server that says
    nothing at all is asked by a few: each of them waits for its time-out."""
    script = Answering()
    script.answer(FATAL[reply])
    timeout = 0.05 if reply == "nothing" else PATIENCE
    wrong = []
    with (
        scripted(script) as server,
        Client(
            server.url, timeout=PATIENCE, connect_timeout=PATIENCE, pool_size=1
        ) as other,
    ):
        for number, name in enumerate(all_calls(other)):
            if reply == "nothing" and number % 8:
                continue
            client: Any = Client(
                server.url,
                timeout=timeout,
                connect_timeout=PATIENCE,
                decode_responses=number % 2 == 1,
                max_reply=1 << 20,
            )
            if reply != "nothing":
                check_tag(client, f"tag {name}")
            found = judge(*all_calls(client)[name], decodes=number % 2 == 1)
            if found:
                wrong.append(f"{name}: {found}")
            client.close()
            check_tag(other, f"tag {name} of another")
    assert not wrong, "\n".join(wrong)


def test_a_pipeline_keeps_what_makes_no_result_in_its_place() -> None:
    script = Answering()
    script.answer(b"$6\r\ncanary\r\n")
    with scripted(script) as server:
        client: Any = Client(server.url, timeout=PATIENCE, connect_timeout=PATIENCE)
        pipeline = client.pipeline().get("k").expire("k", 1).get("k")
        first, broken, last = pipeline.execute(raise_on_error=False)
        assert (first, last) == (b"canary", b"canary")
        assert type(broken) is redlane.ReplyError
        assert "canary" not in str(broken)
        client.close()


@pytest.mark.parametrize(
    "cursors",
    [[b"17", b"17"], [b"5", b"7", b"7"], [b"18446744073709551616"], [b"-1"], [b""]],
)
def test_a_scan_that_gets_nowhere_ends(cursors: list[bytes]) -> None:
    """A cursor that stands still would be asked for again for ever."""

    def script(peer: Peer) -> None:
        peer.greet()
        left = iter(cursors)
        while True:
            peer.read()
            cursor = next(left, cursors[-1])
            peer.send(b"*2\r\n$%d\r\n%s\r\n*0\r\n" % (len(cursor), cursor))

    for call in (
        lambda client: list(client.scan_iter()),
        lambda client: Cache(client, fallback="raise").invalidate("cache:*"),
        lambda client: Cache(client).clear(),
    ):
        with scripted(script) as server:
            client = Client(server.url, timeout=PATIENCE, connect_timeout=PATIENCE)
            with pytest.raises(redlane.ReplyError, match=r"SCAN|reply"):
                call(client)
            client.close()
