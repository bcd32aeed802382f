"""Python at its worst: callbacks that close their own client, raise, come back or fork;
`__del__` while replies are built; str subclasses that lie; buffers that change during a
call. None of it ends the process, mixes replies up or leaves an exception behind."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redlane
from children import wait_until_asleep
from redlane import Cache, Client, Counter, VideoCache
from servers import Server

PATIENCE = 60


def connect(url: str, **options: Any) -> Any:
    return Client(url, timeout=PATIENCE, connect_timeout=PATIENCE, **options)


@pytest.fixture(params=["engine", "redis"])
def url(request: pytest.FixtureRequest, redis_server: Server) -> str:
    return "memory://" if request.param == "engine" else redis_server.url


# --- callbacks --------------------------------------------------------------------


class Deed:
    """What a callback does, once."""

    def __init__(self, act: Callable[[Any], object]) -> None:
        self.act = act
        self.client: Any = None
        self.done = 0

    def __call__(self) -> None:
        if self.client is not None:
            client, self.client = self.client, None
            self.done += 1
            self.act(client)


class Keys:
    """A mapping whose every method is a callback."""

    def __init__(self, deed: Deed, **content: object) -> None:
        self.deed, self.content = deed, content

    def keys(self) -> Any:
        self.deed()
        return self.content.keys()

    def items(self) -> Any:
        self.deed()
        return self.content.items()

    def __getitem__(self, key: str) -> object:
        self.deed()
        return self.content[key]

    def __iter__(self) -> Iterator[str]:
        self.deed()
        return iter(self.content)

    def __len__(self) -> int:
        self.deed()
        return len(self.content)


class Serial:
    def __init__(self, deed: Deed) -> None:
        self.deed = deed

    def dumps(self, value: object) -> bytes:
        self.deed()
        return b"bytes"

    def loads(self, data: bytes) -> object:
        self.deed()
        return "value"


class Handler(logging.Handler):
    def __init__(self, deed: Deed) -> None:
        super().__init__()
        self.deed = deed

    def emit(self, record: logging.LogRecord) -> None:
        self.deed()

    def handleError(self, record: logging.LogRecord) -> None:
        """As in production: what a handler raises is dropped."""


def lazily(deed: Deed, *items: object) -> Iterator[object]:
    for item in items:
        deed()
        yield item


def logged(deed: Deed, call: Callable[[], object]) -> object:
    logger, handler = logging.getLogger("redlane"), Handler(deed)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        return call()
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def ways(client: Any, deed: Deed) -> dict[str, Callable[[], object]]:
    """A call for every place from which code of the caller runs."""
    cache = Cache(client, serializer=Serial(deed), fallback="raise")
    plain = Cache(client, fallback="raise")

    def count(*ids: object) -> int:
        deed()
        return 5

    def cast(score: Any) -> float:
        deed()
        return float(score)

    def compute(number: int = 0) -> object:
        deed()
        return [number]

    def truth(*args: object, **kwargs: object) -> bool:
        deed()
        return False

    class Id:
        def __str__(self) -> str:
            deed()
            return "id"

        def __cache_key__(self) -> str:
            deed()
            return "id"

    class Buffer(bytearray):
        def __len__(self) -> int:
            deed()
            return super().__len__()

    def key_of(name: str, **options: Any) -> Callable[[], object]:
        return lambda: plain(name=name, **options)(compute)(1)

    return {
        "mapping of mset": lambda: client.mset(Keys(deed, a=1, b=2)),
        "mapping of hset": lambda: client.hset("h", mapping=Keys(deed, a=1)),
        "mapping of zadd": lambda: client.zadd("z", Keys(deed, a=1)),
        "keys of mget": lambda: client.mget(lazily(deed, "a", "b")),
        "values of smismember": lambda: client.smismember("s", lazily(deed, "a")),
        "score": lambda: client.zrange(
            "z0", 0, -1, withscores=True, score_cast_func=cast
        ),
        "score in a pipeline": lambda: (
            client.pipeline()
            .zrange("z0", 0, -1, withscores=True, score_cast_func=cast)
            .get("k")
            .execute()
        ),
        "mapping in a pipeline": lambda: (
            client.pipeline().get("k").mset(Keys(deed, a=1)).execute()
        ),
        "buffer": lambda: client.set("k", Buffer(b"value")),
        "log of a command": lambda: logged(deed, lambda: client.get("k")),
        "log of a pipeline": lambda: logged(
            deed, lambda: client.pipeline().get("k").get("l").execute()
        ),
        "log of a cache": lambda: logged(deed, lambda: plain.set("k", 1)),
        "dumps of set": lambda: cache.set("a", 1),
        "dumps of add": lambda: cache.add("b", 1),
        "dumps of set_many": lambda: cache.set_many({"a": 1, "b": 2}),
        "loads of get": lambda: cache.get("a0"),
        "loads of get_many": lambda: cache.get_many(["a0", "b0"]),
        "mapping of set_many": lambda: plain.set_many(Keys(deed, a=1)),  # type: ignore[arg-type]
        "keys of get_many": lambda: plain.get_many(lazily(deed, "a0")),  # type: ignore[arg-type]
        "keys of delete_many": lambda: plain.delete_many(lazily(deed, "a")),  # type: ignore[arg-type]
        "factory": lambda: plain.get_or_set("missing", compute),
        "function": key_of("f1"),
        "function without a lock": key_of("f2", lock=False),
        "condition": key_of("f3", condition=truth),
        "unless": key_of("f4", unless=truth),
        "argument": lambda: plain(name="f5")(lambda some: deed())(Id()),
        "source": lambda: Counter(client, "n:{id}", source=count).get(1),
        "source of a transfer": lambda: Counter(
            client, "m:{id}", source=count
        ).transfer(1, 2),
        "id": lambda: Counter(client, "n:{id}", source=count).get(Id()),
        "cards": lambda: VideoCache(client).get("b", lazily(deed, "w")),  # type: ignore[arg-type]
    }


WAYS = sorted(ways(Client("memory://"), Deed(print)))


def prepared(url: str, deed: Deed) -> Any:
    client = connect(url, pool_size=2)
    client.flushdb()
    client.zadd("z0", {"m": 1, "n": 2})
    client.mset({"k": "tag k", "cache:a0": b"bytes", "cache:b0": b"bytes"})
    deed.client = client
    return client


def check_sound(url: str, client: Any) -> None:
    """Its own client as well, if it is not closed, and the thread has no exception."""
    if not client.closed:
        for _ in range(3):
            assert client.echo("own") == b"own"
    with connect(url) as other:
        assert other.echo("other") == b"other"


@pytest.mark.parametrize("way", WAYS)
def test_a_callback_that_closes_its_own_client(url: str, way: str) -> None:
    deed = Deed(lambda client: client.close())
    client = prepared(url, deed)
    said = "closed"
    try:
        ways(client, deed)[way]()
    except redlane.RedlaneError as error:
        said = str(error)
    except TypeError:  # an iterator is no sequence of cards
        assert deed.done == 0
    assert "closed" in said
    assert client.closed == (deed.done == 1)
    check_sound(url, client)
    client.close()


class Raised(Exception):
    pass


def do_raise(client: Any) -> None:
    raise Raised


@pytest.mark.parametrize("way", WAYS)
def test_a_callback_that_raises(
    url: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unraisable: list[object] = []
    monkeypatch.setattr(
        "sys.unraisablehook", lambda args: unraisable.append(args.exc_value)
    )
    deed = Deed(do_raise)
    client = prepared(url, deed)
    raised = False
    try:
        ways(client, deed)[way]()
    except (Raised, TypeError) as error:
        raised = isinstance(error, Raised)
    except redlane.SerializationError as error:
        raised = "Raised" in str(error)  # by name: its text may show a value
    assert raised or not deed.done or way.startswith(("log", "loads"))
    assert [type(one) for one in unraisable] == [Raised] * (
        deed.done if way.startswith("log") else 0
    )
    check_sound(url, client)
    client.close()


@pytest.mark.parametrize("way", WAYS)
def test_a_callback_that_comes_back(url: str, way: str) -> None:
    """It uses the very client that is calling, whose connections are its own."""
    seen = []

    def act(client: Any) -> None:
        seen.append(client.get("k"))
        seen.append(client.pipeline(True).get("k").zrange("z0", 0, -1).execute())
        seen.append(client.mget(["k"] * 50))

    deed = Deed(act)
    client = prepared(url, deed)
    try:
        ways(client, deed)[way]()
    except TypeError:
        assert deed.done == 0
    if deed.done:
        tag = seen[0]
        assert seen[1] == [tag, [b"m", b"n"]]
        assert seen[2] == [tag] * 50
        assert tag in (b"tag k", None)
    check_sound(url, client)
    client.close()


@pytest.mark.parametrize("way", WAYS)
def test_a_callback_that_forks(url: str, way: str) -> None:
    """Both go on; the child with connections of its own."""
    children: list[int] = []

    def act(client: Any) -> None:
        children.append(os.fork())

    deed = Deed(act)
    client = prepared(url, deed)
    parent = os.getpid()
    try:
        try:
            ways(client, deed)[way]()
        except TypeError:
            assert deed.done == 0
        except redlane.RedlaneError:
            assert os.getpid() != parent  # a child may find its call broken off
        check_sound(url, client)
        if os.getpid() != parent:
            os._exit(0)
    finally:
        if os.getpid() != parent:
            os._exit(1)
    for child in children:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    client.close()


# --- the collector ----------------------------------------------------------------


class Undead:
    """Comes to the collector in a cycle, and then uses a client."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.act = act
        self.cycle = self

    def __del__(self) -> None:
        self.act()


@pytest.mark.parametrize("kind", ["use", "close", "raise"])
def test_del_while_replies_are_built(
    redis_server: Server, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Making a list may run the collector, which runs __del__, which comes back while
    a reply is half read."""
    unraisable: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", lambda args: unraisable.append(args))
    client = connect(redis_server.url)
    other = connect(redis_server.url)
    redis_server.cli("RPUSH", "list", *range(50))
    nested = "local t = {} for i = 1, 50 do t[i] = {i, {i}} end return t"
    wanted = [[i, [i]] for i in range(1, 51)]
    wrong: list[object] = []
    runs = 0

    def act() -> None:
        nonlocal runs
        runs += 1
        if kind == "raise":
            raise Raised
        if kind == "close":
            other.close()
        elif client.get("tag") != b"value" or len(other.mget(["tag"] * 9)) != 9:
            wrong.append("another's reply")

    client.set("tag", "value")
    before = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        for _ in range(50):
            Undead(act)
            assert client.eval(nested, 0) == wanted
            Undead(act)
            assert len(client.execute("LRANGE", "list", 0, -1)) == 50
    finally:
        gc.set_threshold(*before)
        gc.collect()
    assert runs == 100
    assert not wrong
    assert len(unraisable) == (100 if kind == "raise" else 0)
    client.close()
    other.close()


# --- strings that lie -------------------------------------------------------------


class Liar(str):
    """Equal to nothing or to all, without a hash, and another text by str()."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        raise Raised

    def __hash__(self) -> int:
        raise Raised

    def __str__(self) -> str:
        raise Raised

    def __len__(self) -> int:
        raise Raised

    def __iter__(self) -> Iterator[str]:
        raise Raised

    def encode(self, *args: object, **kwargs: object) -> bytes:
        raise Raised

    def __format__(self, spec: str) -> str:
        raise Raised


class LyingBytes(bytes):
    __slots__ = ()

    __eq__ = Liar.__eq__
    __hash__ = Liar.__hash__

    def __len__(self) -> int:
        raise Raised


@pytest.mark.parametrize("make", [Liar, lambda text: LyingBytes(text.encode())])
def test_texts_that_lie_are_what_they_hold(
    url: str, make: Callable[[str], Any]
) -> None:
    client = connect(url)
    client.flushdb()
    cache = Cache(client)
    assert client.set(make("k"), make("v"))
    assert client.get("k") == b"v"
    assert client.mget([make("k"), make("none")]) == [b"v", None]
    assert client.hset(make("h"), make("f"), make("v")) == 1
    assert client.hgetall("h") == {b"f": b"v"}
    assert client.pipeline().get(make("k")).execute() == [b"v"]
    assert client.execute(make("GET"), make("k")) == b"v"
    assert cache.set(make("k"), 1)
    assert cache.get(make("k")) == 1
    assert cache.has(make("k"))
    assert cache.increment(make("n")) == 1
    assert cache.delete(make("k"))
    assert cache.invalidate(make("cache:*")) == 1
    client.close()


def test_texts_that_lie_where_they_are_hashed(url: str) -> None:
    """get_many gives a dict of the caller's own keys: what their hash raises is the
    caller's."""
    client = connect(url)
    client.flushdb()
    cache = Cache(client)
    cache.set("k", 1)
    with pytest.raises(Raised):
        cache.get_many([Liar("k")])

    @cache(name="f")
    def function(text: str, **more: str) -> int:
        return len(str.encode(text)) + len(more)

    assert function(Liar("four")) == 4
    assert function("four") == 4
    assert cache.stats()["hits"] >= 1
    with pytest.raises((Raised, TypeError)):
        function("four", **{Liar("name"): "x"})
    assert function("five", name="x") == 5
    with pytest.raises(Raised):
        Counter(client, "n:{id}", source=lambda id: 7).get(Liar("a"))  # ids go by str()
    assert VideoCache(client).set(Liar("b"), [Liar("w")], Liar("u"))
    assert VideoCache(client).get("b", ["w"]) == "u"
    client.close()


def test_options_that_lie() -> None:
    for options in ({"fallback": Liar("memory")}, {"name": Liar("n")}):
        with contextlib.suppress(Raised, redlane.ConfigurationError, TypeError):
            Client("memory://", **options).close()  # type: ignore[arg-type]
    with contextlib.suppress(Raised):
        assert Client(Liar("memory://")).ping()
        assert Cache(Client("memory://"), prefix=Liar("p")).set("k", 1)


# --- buffers that change ----------------------------------------------------------


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_a_buffer_that_changes_during_a_call(
    fresh_server: Server, kind: type[Any]
) -> None:
    """What is sent is what it was when the call began."""
    size = 8_000_000
    store = bytearray(b"a" * size)
    value = kind(store)
    client = connect(fresh_server.url)
    client.ping()
    fresh_server.pause()
    sent: list[object] = []
    thread = threading.Thread(target=lambda: sent.append(client.set("k", value)))
    thread.start()
    wait_until_asleep(os.getpid(), thread.native_id)  # the sockets are full
    assert not sent
    store[:] = b"b" * size
    if kind is bytearray:
        store.clear()  # nothing holds it
    fresh_server.resume()
    thread.join(PATIENCE)
    assert sent == [True]
    assert client.get("k") == b"a" * size
    client.close()


def test_buffers_that_change_all_the_time(url: str) -> None:
    """Mutated without pause by other threads: each stored value is one that was."""
    client = connect(url)
    store = bytearray(b"\x00" * 4096)
    stop = threading.Event()

    def mutate() -> None:
        byte = 0
        while not stop.is_set():
            byte = (byte + 1) % 256
            store[:] = bytes([byte]) * 4096

    threads = [threading.Thread(target=mutate) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(40):
            client.set("k", store)
            client.pipeline().set("l", memoryview(store)).mset({"m": store}).execute()
            for got in client.mget("k", "l", "m"):
                assert got == got[:1] * 4096
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    client.close()


def test_a_buffer_that_cannot_be_taken() -> None:
    released = memoryview(b"abc")
    released.release()
    with Client("memory://") as client:
        with pytest.raises(ValueError):
            client.set("k", released)
        assert client.dbsize() == 0


# --- the ends of lives ------------------------------------------------------------


def test_closing_twice_and_from_many_threads(redis_server: Server) -> None:
    for _ in range(20):
        client = connect(redis_server.url)
        client.ping()
        failures: list[BaseException] = []

        def work(client: Any = client, failures: Any = failures) -> None:
            try:
                while not client.closed:
                    client.get("k")
            except redlane.ConnectionError as error:
                if "closed" not in str(error):
                    failures.append(error)
            except BaseException as error:
                failures.append(error)
            client.close()

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        client.close()
        for thread in threads:
            thread.join(PATIENCE)
        client.close()
        assert not failures
        with pytest.raises(redlane.ConnectionError, match="closed"):
            client.get("k")
        with pytest.raises(redlane.ConnectionError, match="closed"), client:
            client.get("k")


def test_every_tool_after_its_client_was_closed(url: str) -> None:
    client = connect(url)
    cache = Cache(client, fallback="raise")
    counter = Counter(client, "n:{id}", fallback="raise")
    video = VideoCache(client)
    function = cache(name="f")(lambda number: number)
    pipeline = client.pipeline().get("k")
    scan = client.scan_iter()
    client.close()
    for call in (
        lambda: client.get("k"),
        pipeline.execute,
        lambda: next(scan),
        lambda: cache.get("k"),
        lambda: cache.set("k", 1),
        lambda: function(1),
        lambda: function.invalidate(1),
        lambda: counter.get(1),
        lambda: counter.increment(1),
    ):
        with pytest.raises(redlane.ConnectionError, match="closed"):
            call()
    assert video.get("b", ["w"]) is None  # it says so in its counts
    assert video.set("b", ["w"], "u") is False
    assert client.health()["mode"] == "closed"
    for shown in (client, cache, counter, video, function, pipeline):
        assert repr(shown)


def test_cycles_through_every_callback_are_collected(url: str) -> None:
    """A client, its tools and their callbacks that know them."""
    gone: list[int] = []

    class Owner:
        def __init__(self) -> None:
            self.client = connect(url)
            self.cache = Cache(self.client, serializer=self)
            self.counter = Counter(self.client, "n:{id}", source=self.count)
            self.function = self.cache(name="f", condition=self.truth)(self.compute)
            self.scan = self.client.scan_iter()
            self.pipeline = self.client.pipeline().zrange(
                "z", 0, -1, withscores=True, score_cast_func=self.cast
            )
            self.function(1)
            self.counter.get(1)

        def dumps(self, value: object) -> bytes:
            return b"x"

        loads = cast = dumps

        def count(self, id: object) -> int:
            return 1

        def truth(self, *args: object) -> bool:
            return True

        def compute(self, number: int) -> int:
            return number

        def __del__(self) -> None:
            gone.append(1)

    for _ in range(10):
        Owner()
    gc.collect()
    assert len(gone) == 10


def test_signals_that_raise_in_every_kind_of_wait(fresh_server: Server) -> None:
    """A handler's exception ends the wait, and what was under way meets nobody."""

    def handler(number: int, frame: object) -> None:
        raise Raised

    client = connect(fresh_server.url, pool_size=1)
    cache = Cache(client, fallback="raise")
    client.set("tag", "value")
    before = signal.signal(signal.SIGALRM, handler)
    try:
        for call in (
            lambda: client.get("k"),
            lambda: client.pipeline(True).get("k").get("l").execute(),
            lambda: cache.get("k"),
            lambda: cache.set("k", 1),
            lambda: list(client.scan_iter()),
            lambda: cache.get_or_set("k", lambda: 1),
            lambda: client.health(),
        ):
            fresh_server.pause()
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            try:
                with pytest.raises(Raised):
                    call()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                fresh_server.resume()
            assert client.get("tag") == b"value"
    finally:
        signal.signal(signal.SIGALRM, before)
    client.close()
