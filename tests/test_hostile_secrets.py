"""A canary password, sealing key, token and value in everything that a program does,
and everything that comes out of it searched for them: logs at DEBUG, standard output
and error, exceptions with their tracebacks and the locals of our frames, repr of all
that is public, health reports, statistics, and the command line."""

from __future__ import annotations

import contextlib
import enum
import gc
import io
import json
import logging
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any
from urllib.parse import quote

import pytest
import redlane
from redlane import Cache, Client, Counter, VideoCache
from scripted import Gone, Peer, ScriptedServer, scripted
from servers import PATIENT, Server, free_port, patient

PASSWORD = "c4nary/p@ss:wörd%?#"
VALUE = "v4lue-canary"
SEAL_KEY = "s3al-c4nary-kéy-of-32-bytes"
PATIENCE = 60


def forms_of(secret: str) -> set[str]:
    """As it is, and as a URL, a repr, JSON and its UTF-8 would write it."""
    return {
        secret,
        quote(secret, safe=""),
        quote(secret),
        repr(secret)[1:-1],
        repr(secret.encode())[2:-1],
        json.dumps(secret)[1:-1],
        secret.encode().decode("latin-1"),
    }


FORMS = forms_of(PASSWORD) | forms_of(VALUE) | forms_of(SEAL_KEY)
FORMS |= {PASSWORD[:7], VALUE[:6], SEAL_KEY[:6]}


class Colour(enum.Enum):
    RED = "red"


class Output:
    """What came out, and where."""

    def __init__(self) -> None:
        self.pieces: list[tuple[str, str]] = []

    def add(self, where: str, text: str) -> None:
        self.pieces.append((where, text))

    def add_error(self, where: str, error: BaseException) -> None:
        """As logging, pytest and Sentry show it: its chain, and its frames' locals that
        belong to our package."""
        seen: list[BaseException] = []
        pending: list[BaseException | None] = [error]
        while pending:
            one = pending.pop()
            if one is None or one in seen:
                continue
            seen.append(one)
            self.add(where, str(one))
            if not isinstance(one, UnicodeError):  # Python's own keep what they are of
                self.add(where, f"{one!r} {one.args!r} {vars(one)!r}")
            self.add(where, "".join(traceback.format_exception_only(one)))
            self._add_locals(where, one.__traceback__)
            pending += [one.__cause__, one.__context__]

    def _add_locals(self, where: str, trace: TracebackType | None) -> None:
        while trace:
            frame = trace.tb_frame
            if frame.f_globals.get("__name__", "").startswith("redlane"):
                self.add(where, repr(frame.f_locals))
            trace = trace.tb_next

    def found(self) -> list[str]:
        return [
            f"{where}: {form!r} in {text[:300]!r}"
            for where, text in self.pieces
            for form in FORMS
            if form in text
        ]


@pytest.fixture
def output() -> Iterator[Output]:
    """Collects what the loggers say at DEBUG beside what a test adds."""
    result = Output()
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(name)s %(message)s %(args)s"))
    root, ours = logging.getLogger(), logging.getLogger("redlane")
    levels = root.level, ours.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    ours.setLevel(logging.DEBUG)
    try:
        yield result
    finally:
        root.removeHandler(handler)
        root.setLevel(levels[0])
        ours.setLevel(levels[1])
    assert stream.getvalue(), "nothing was logged at all"
    result.add("log", stream.getvalue())
    assert not result.found(), "\n".join(result.found())


def calls_of(client: Any, cache: Cache) -> dict[str, Callable[[], object]]:
    """Everything that carries a value; the keys are no secret."""
    counter = Counter(client, "n:{id}", source=lambda id: 5)
    video = VideoCache(client)

    @cache(name="function")
    def function(number: int) -> str:
        return VALUE

    @cache(name="failing")
    def failing(number: int) -> object:
        return {VALUE: object()}

    @cache(name="ttl", ttl=lambda result: result)
    def timed(number: int) -> str:
        return VALUE

    @cache(name="raising", cache_exceptions={LookupError: "1m"})
    def raising(number: int) -> None:
        raise LookupError(VALUE)

    @cache(name="limited", hard_timeout=60, jitter=0.1)
    def limited(number: int) -> str:
        return VALUE

    def raised() -> None:
        for _ in range(2):
            with contextlib.suppress(LookupError):
                raising(1)

    def pipeline(transaction: bool) -> object:
        pipe = client.pipeline(transaction=transaction)
        pipe.set("k", VALUE).hset("h", "f", VALUE).incr("k").get("k")
        return pipe.execute()

    return {
        "set": lambda: client.set("k", VALUE),
        "incr of a text": lambda: client.incr("k"),
        "wrong type": lambda: client.sadd("k", VALUE),
        "hset": lambda: client.hset("h", mapping={"f": VALUE}),
        "hincrby": lambda: client.hincrby("h", "f", 1),
        "mset": lambda: client.mset({"k": VALUE, "l": VALUE}),
        "zadd": lambda: client.zadd("z", {VALUE: 1}),
        "incrbyfloat": lambda: client.execute("INCRBYFLOAT", "k", VALUE),
        "unknown": lambda: client.execute("NOSUCH", VALUE, VALUE),
        "arity": lambda: client.execute("GET", "k", VALUE),
        "syntax": lambda: client.execute("SET", "k", "v", VALUE),
        "eval": lambda: client.eval("return redis.call('GET')", 0, VALUE),
        "auth": lambda: client.execute("AUTH", PASSWORD),
        "config": lambda: client.execute("CONFIG", "SET", "nosuch", VALUE),
        "bad argument": lambda: client.set("k", object()),
        "bad ttl": lambda: client.set("k", VALUE, ex=-1),
        "surrogate": lambda: client.set("k", VALUE + "\ud800"),
        "pipeline": lambda: pipeline(False),
        "transaction": lambda: pipeline(True),
        "cache.set": lambda: cache.set("k", {VALUE: [VALUE]}),
        "cache.set of an object": lambda: cache.set("k", {VALUE: object()}),
        "cache.add": lambda: cache.add("k", VALUE),
        "cache.get": lambda: cache.get("k"),
        "cache.increment": lambda: cache.increment("k"),
        "cache.get_or_set": lambda: cache.get_or_set("j", lambda: VALUE),
        "cache.set_many": lambda: cache.set_many({"a": VALUE, "b": {VALUE}}),
        "function": lambda: function(1),
        "failing": lambda: failing(1),
        "ttl": lambda: timed(1),
        "raising": raised,
        "limited": lambda: limited(1),
        "counter": lambda: counter.increment(1),
        "video": lambda: video.set("b", ["w"], VALUE),
        "video.get": lambda: video.get("b", ["w"]),
        "health": lambda: client.health(),
    }


def sealed_calls_of(client: Any, policy: Any) -> dict[str, Callable[[], object]]:
    """Seals, wrong ones too, and types that a value does not fit."""
    keys: Any = [SEAL_KEY, SEAL_KEY.encode()]
    cache = Cache(client, "sealed", fallback=policy, seal=keys, compress="zlib")
    pickled = Cache(client, "p", serializer="pickle", fallback=policy, seal=keys)

    @cache(name="typed")
    def typed() -> Colour:
        return VALUE  # type: ignore[return-value]

    def forged() -> object:
        client.set("sealed:k", VALUE)
        return cache.get("k")

    return {
        "sealed": lambda: (cache.set("k", VALUE * 1000), cache.get("k")),
        "sealed touch": lambda: cache.touch("k", 50),
        "sealed increment": lambda: cache.increment("k"),
        "forged": forged,
        "typed": typed,
        "unpicklable": lambda: pickled.set("k", lambda: VALUE),
        "short key": lambda: Cache(client, seal=SEAL_KEY[:9]),
        "no key": lambda: Cache(client, seal=[SEAL_KEY, None]),  # type: ignore[list-item]
        "no text": lambda: Cache(client, seal=SEAL_KEY + "\ud800"),
        "a dict": lambda: Cache(client, seal={SEAL_KEY: 1}),  # type: ignore[arg-type]
    }


def drive(output: Output, where: str, url: str, **options: Any) -> list[str]:
    """All calls, and what is shown of everything; the errors by name."""
    names = []
    for policy in ("memory", "raise"):
        client: Any = Client(url, **options)
        cache = Cache(client, fallback=policy)  # type: ignore[arg-type]
        calls = calls_of(client, cache) | sealed_calls_of(client, policy)
        for name, call in calls.items():
            try:
                call()
            except (redlane.RedlaneError, TypeError, ValueError) as error:
                output.add_error(f"{where}: {name}", error)
                names.append(type(error).__name__)
        sealed = Cache(client, seal=[SEAL_KEY])
        tools = (client, cache, sealed, client.pipeline(), cache.counter("c:{id}"))
        for shown in (*tools, client.get, client.url, client.scan_iter()):
            output.add(f"{where}: repr", f"{shown!r} {shown}")
        output.add(f"{where}: health", repr(client.health()))
        output.add(f"{where}: stats", repr(cache.stats()))
        client.close()
        with contextlib.suppress(redlane.RedlaneError):
            client.get("k")
    return names


def url_of(port: int, password: str = PASSWORD, user: str = "") -> str:
    return f"redis://{user}:{quote(password, safe='')}@127.0.0.1:{port}/0"


@pytest.fixture
def guarded_server() -> Iterator[Server]:
    server = Server("--requirepass", "x" + PASSWORD)
    server.password = "x" + PASSWORD
    try:
        server.start()
        server.cli("ACL", "SETUSER", "app", "on", f">{PASSWORD}", "~*", "&*", "+@all")
        yield server
    finally:
        server.close()


def test_a_server_that_answers(output: Output, guarded_server: Server) -> None:
    url = url_of(guarded_server.port, user="app")
    assert "ReplyError" in drive(output, "tcp", url, **PATIENT)
    login = f"app:{quote(PASSWORD, safe='')}@"
    unix = guarded_server.unix_url.replace("unix://", f"unix://{login}")
    assert "ReplyError" in drive(output, "unix", unix, **PATIENT)
    drive(output, "decoding", url, decode_responses=True, name="n", **PATIENT)


def test_a_server_that_refuses(output: Output, guarded_server: Server) -> None:
    for user in ("", "app", "nobody"):
        url = url_of(guarded_server.port, "wrong" + PASSWORD, user)
        names = drive(output, f"wrong password of {user!r}", url, **PATIENT)
        assert "AuthenticationError" in names
    guarded_server.cli("ACL", "SETUSER", "app", "-@all", "+get", "+hello")
    url = url_of(guarded_server.port, user="app")
    names = drive(output, "no permission", url, **PATIENT)
    assert "PermissionDeniedError" in names


def test_no_server(output: Output, guarded_server: Server) -> None:
    names = drive(output, "refused", url_of(free_port()))
    assert set(names) >= {"ConnectionError"}
    url = f"redis://:{quote(PASSWORD, safe='')}@no-such-host.invalid/0"
    drive(output, "no such host", url, timeout=2)
    guarded_server.pause()
    try:
        url = url_of(guarded_server.port, user="app")
        assert "TimeoutError" in drive(output, "frozen", url, timeout=0.05)
    finally:
        guarded_server.resume()


# --- a server that repeats what it hears ------------------------------------------


def echo_of(command: list[bytes]) -> bytes:
    return b" ".join(command).replace(b"\r", b"").replace(b"\n", b"")


def echo_at_once(peer: Peer) -> None:
    while True:
        peer.send(b"-ERR I heard " + echo_of(peer.read()) + b"\r\n")


def echo_old(peer: Peer) -> None:
    """Knows no HELLO, and says so with its arguments; then refuses AUTH alike."""
    while True:
        command = peer.read()
        words = b", ".join(b"`%s`" % word for word in command[1:])
        peer.send(
            b"-ERR unknown command `%s`, with args beginning with: %s\r\n"
            % (command[0], words)
        )


def echo_cut(peer: Peer) -> None:
    """Its line is as long as we keep, and ends inside the password."""
    password = PASSWORD.encode()
    for size in range(len(password) + 1):
        peer.read()
        peer.send(b"-ERR " + b"x" * (226 - size) + password + b"\r\n")


def echo_later(peer: Peer) -> None:
    """Remembers the password, and tells it to whoever asks for anything."""
    hello = peer.greet()
    while True:
        peer.read()
        peer.send(b"-ERR your password is " + hello[4] + b"\r\n")


def echo_inside(peer: Peer) -> None:
    hello = peer.greet()
    while True:
        peer.read()
        peer.send(b"*1\r\n-WRONGPASS " + hello[4] + b"\r\n")


def echo_as_junk(peer: Peer) -> None:
    peer.send(b"\x15" + echo_of(peer.read()))
    raise Gone


ECHOES = [echo_at_once, echo_old, echo_cut, echo_later, echo_inside, echo_as_junk]


@pytest.mark.parametrize("script", ECHOES)
def test_a_server_that_repeats_the_password(
    script: Callable[[Peer], None], output: Output
) -> None:
    """What it says of a value it may say: the application asked for its answer."""

    def drive_one(server: ScriptedServer, where: str, **options: Any) -> None:
        client: Any = Client(url_of(server.port), **PATIENT, **options)
        cache = Cache(client, fallback="raise")
        for call in (
            lambda: client.get("k"),
            lambda: client.execute("X"),
            lambda: client.pipeline(True).get("k").execute(),
            lambda: cache.get("k"),
            lambda: cache.set("k", 1),
            lambda: Counter(client, "n:{id}").increment(1),
        ):
            try:
                value = call()
            except redlane.RedlaneError as error:
                output.add_error(where, error)
            else:
                output.add(where, repr(value))
        output.add(where, repr(client.health()))
        client.close()

    with scripted(script) as server:
        drive_one(server, script.__name__)
        drive_one(server, f"{script.__name__}, decoding", decode_responses=True)


# --- the rest of the process ------------------------------------------------------

CHILD = """
import logging, os, sys, warnings
logging.basicConfig(level=logging.DEBUG)
import redlane
redlane.configure(url=os.environ["REDIS_URL"]) if len(sys.argv) > 1 else None
from redlane import Cache, cache, default_client

value = os.environ["CANARY_VALUE"]
try:
    print(default_client(), default_client().health())
    cache.set("k", value)
    Cache(default_client(), fallback="raise", strict=True).set("k", {value: object()})
finally:
    default_client().get("k" * 5, 1)  # ends with a traceback
"""


def test_a_process_that_ends_with_a_traceback(guarded_server: Server) -> None:
    environment = {
        **os.environ,
        "REDIS_URL": patient(url_of(guarded_server.port, user="app")),
        "CANARY_VALUE": VALUE,
    }
    for more in ([], ["configured"]):
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-c", CHILD, *more],
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE * 4,
            check=False,
        )
        assert "Traceback" in done.stderr
        for form in FORMS:
            assert form not in done.stdout + done.stderr


@pytest.mark.parametrize("command", ["doctor", "stats", "keys", "bench"])
@pytest.mark.parametrize("password", [PASSWORD, "wrong" + PASSWORD])
def test_the_command_line(guarded_server: Server, command: str, password: str) -> None:
    guarded_server.cli("SET", "cache:k", VALUE)
    more = ["--seconds", "0.01"] if command == "bench" else []
    for form in ([], ["--json"]):
        done = subprocess.run(
            [sys.executable, "-m", "redlane", command, *more, *form],
            env={
                **os.environ,
                "REDIS_URL": patient(url_of(guarded_server.port, password, "app")),
            },
            capture_output=True,
            text=True,
            timeout=PATIENCE * 4,
            check=False,
        )
        assert done.returncode == (0 if password == PASSWORD else 1), done.stderr
        for form_of in FORMS:
            assert form_of not in done.stdout + done.stderr


def test_a_password_in_a_bad_url_or_option() -> None:
    output = Output()
    encoded = quote(PASSWORD, safe="")
    for url in (
        f"redis://:{encoded}@host:port/0",
        f"redis://:{encoded}@host/zero",
        f"redis://:{encoded}@/0?nosuch={encoded}",
        f"redis://:{PASSWORD}@host/0",
        f"http://:{encoded}@host/0",
        f"redis://host/0?password={encoded}&timeout=x",
        f"{encoded}",
    ):
        with pytest.raises(redlane.ConfigurationError) as caught:
            Client(url)
        output.add_error(url, caught.value)
    assert not output.found(), "\n".join(output.found())


def test_no_object_that_python_can_see_keeps_the_password(
    guarded_server: Server,
) -> None:
    """It lives in C, for as long as its client: a dump of the heap by gc, as tools for
    debugging make one, does not show it in any object of ours."""
    before = gc.get_objects()  # of other tests
    others = set(map(id, before))
    client = Client(url_of(guarded_server.port, user="app"))
    cache = Cache(client)
    cache.set("k", 1)
    ours = [
        one
        for one in gc.get_objects()
        if type(one).__module__ == "redlane" and id(one) not in others
    ]
    assert client in ours
    for one in ours:
        for referred in gc.get_referents(one):
            if isinstance(referred, (str, bytes)):
                assert PASSWORD not in repr(referred)
    client.close()
