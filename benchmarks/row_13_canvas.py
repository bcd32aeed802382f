"""Row 13: a canvas of 250,000 pixels, 12 MB of JSON and 2.5 MB of gzip, from Redis.

What is measured is examples/mural itself: the canvas as its view has it in hand, from
Redis and from the process, the same inflated for a client that refuses gzip, and a
request over HTTP. Beside it stands a GET of the JSON as it is.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks import clients, near
from benchmarks.floor import ROOT
from benchmarks.harness import (
    OURS,
    Bench,
    Lineup,
    Measure,
    Result,
    at_most,
    loop,
    within,
)
from benchmarks.server import HOST, on_every_core

ROW = 13
PIXELS = 250_000
USERS = 1000
KEPT = 3600  # seconds
JSON_KEY = "bench:canvas:json"
GZIP_KEY = "bench:canvas:gzip"
GZIP = 31  # zlib's wbits for the gzip format
EXAMPLES = ROOT / "examples"

JSON_DUMPS = "json.dumps"
MSGSPEC = "msgspec"
ZLIB = "zlib.decompress"
FLASK_CACHING = "Flask-Caching on Redis"
UNCACHED = "jsonify, uncached"


def run(bench: Bench) -> list[Result]:
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="redlane-bench-"))
        )
        pixels = bench.batch(PIXELS)
        mural = open_mural(bench, stack, folder, pixels)
        packed = mural.canvas()
        plain = zlib.decompress(packed, GZIP)
        fill(bench, stack, {JSON_KEY: plain, GZIP_KEY: packed})
        read_far(mural)
        far = [in_hand(bench, mural, packed), inflated(bench, mural, packed)]
        read_near(mural)
        return [
            *far,
            near_in_hand(bench, mural, packed),
            uncompressed(bench, plain),
            over_http(bench, folder, pixels),
        ]


def open_mural(bench: Bench, stack: ExitStack, folder: Path, pixels: int) -> Any:
    """The example's own object, with a canvas of random colours and users."""
    if str(EXAMPLES) not in sys.path:
        sys.path.insert(0, str(EXAMPLES))
    canvas, store = import_module("mural.canvas"), import_module("mural.store")
    settings = import_module("mural.settings").Settings(
        database=str(folder / "mural.db"), canvas_ttl=KEPT
    )
    dice = random.Random(1)
    rows = store.PixelStore(settings.database)
    rows.place_many(
        store.Pixel(
            x=place % 500,
            y=place // 500,
            color=f"#{dice.randrange(1 << 24):06X}",
            user_id=f"user-{dice.randrange(USERS):04d}",
        )
        for place in range(pixels)
    )
    client = clients.redlane_client(bench, stack)
    mural = canvas.Mural(client, rows, settings)
    stack.callback(mural.close)
    return mural


def read_far(mural: Any) -> None:
    """From here on it asks Redis for each canvas."""
    mural.bodies = bodies(mural, near=False)


def read_near(mural: Any) -> None:
    """From here on it keeps the canvas in the process, as the example does."""
    mural.bodies = bodies(mural)


def bodies(mural: Any, **options: Any) -> Any:
    from redlane import Cache

    serializer = import_module("mural.canvas").GzipBody()
    prefix = mural.settings.prefix
    return Cache(mural.client, prefix=prefix, serializer=serializer, **options)


def fill(bench: Bench, stack: ExitStack, values: dict[str, bytes]) -> None:
    client = clients.redlane_client(bench, stack)
    for key, value in values.items():
        client.set(key, value)


def in_hand(bench: Bench, mural: Any, packed: bytes) -> Result:
    lineup = Lineup(ROW, "canvas as stored gzip, in hand")
    count = bench.batch(5)
    with ExitStack() as stack:
        lineup.add(OURS, "ours", partial(canvas, mural, packed, count))
        add_encoders(lineup, mural.canvas_data)
        add_gets(lineup, bench, stack, GZIP_KEY, packed, count)
        return lineup.race(
            bench.rounds(50),
            [
                within(1e-3, JSON_DUMPS, quoted=230e-3),
                within(1e-3, MSGSPEC, quoted=20e-3),
                within(1e-3, clients.C_LOOP, quoted=0.6e-3),
            ],
        )


def near_in_hand(bench: Bench, mural: Any, packed: bytes) -> Result:
    lineup = Lineup(ROW, "canvas as stored gzip, near, in hand")
    count = bench.batch(1000)
    watched: list[near.Watched] = []

    def ours() -> Measure:
        near.wait_until_near(mural.bodies, mural.canvas)
        measure = canvas(mural, packed, count)
        watched.append(near.Watched(mural.bodies, measure, count))
        return watched[0]

    lineup.add(OURS, "ours", ours)
    add_encoders(lineup, mural.canvas_data)
    result = lineup.race(
        bench.rounds(25),
        [
            within(0.05e-3, JSON_DUMPS, quoted=230e-3),
            within(0.05e-3, MSGSPEC, quoted=20e-3),
        ],
    )
    result.facts += [measure.fact() for measure in watched]
    return result


def canvas(mural: Any, packed: bytes, count: int) -> Measure:
    if mural.canvas() != packed:
        raise RuntimeError("the Mural serves another canvas")
    return loop("mural.canvas()", count, mural=mural)


def add_encoders(lineup: Lineup, data: dict[str, Any]) -> None:
    """What the answer takes without a cache."""

    def dumps() -> Measure:
        return loop("dumps(data)", 1, dumps=json.dumps, data=data)

    def msgspec() -> Measure:
        encode = import_module("msgspec").json.encode
        return loop("encode(data)", 1, encode=encode, data=data)

    lineup.add(JSON_DUMPS, "peer", dumps)
    lineup.add(MSGSPEC, "peer", msgspec)


def inflated(bench: Bench, mural: Any, packed: bytes) -> Result:
    """What a client that refuses gzip is sent: Redis and inflating, against inflating
    alone of bytes that are there."""
    lineup = Lineup(ROW, "canvas inflated, in hand")
    inflate = import_module("mural.canvas").inflate
    decompress = partial(zlib.decompress, packed, GZIP)
    lineup.add(
        OURS,
        "ours",
        lambda: loop("inflate(mural.canvas())", 1, inflate=inflate, mural=mural),
    )
    lineup.add(ZLIB, "floor", lambda: loop("inflate()", 1, inflate=decompress))
    return lineup.race(bench.rounds(100), [at_most(1.1, ZLIB)])


def uncompressed(bench: Bench, plain: bytes) -> Result:
    lineup = Lineup(ROW, "GET of the canvas as JSON")
    with ExitStack() as stack:
        clients.enter(lineup, bench, stack, (OURS,), partial(get, JSON_KEY, plain, 1))
        add_gets(lineup, bench, stack, JSON_KEY, plain, 1)
        return lineup.race(bench.rounds(60), [at_most(1.1, clients.C_LOOP)])


def get(key: str, value: bytes, count: int, client: Any) -> Measure:
    if client.get(key) != value:
        raise RuntimeError(f"{client!r} does not give the value")
    return loop("client.get(key)", count, client=client, key=key)


def add_gets(
    lineup: Lineup, bench: Bench, stack: ExitStack, key: str, value: bytes, count: int
) -> None:
    """The peers and the C loop, each with a GET of the same bytes."""

    def flask_caching() -> Measure:
        cache = import_module("flask_caching.backends").RedisCache(
            HOST, bench.server.port, default_timeout=KEPT, key_prefix="flask:"
        )
        cache.set(key, value)
        return get(key, value, count, cache)

    def floor() -> Measure:
        context = clients.floor_connection(bench, stack)
        return lambda: bench.floor.get(context, key, len(value), count)

    gets = partial(get, key, value, count)
    clients.enter(lineup, bench, stack, (clients.REDIS_PY,), gets)
    lineup.add(FLASK_CACHING, "peer", flask_caching)
    lineup.add(clients.C_LOOP, "floor", floor)


def over_http(bench: Bench, folder: Path, pixels: int) -> Result:
    """The whole request, as a client on loopback sees it; server, application and
    client share the cores."""
    lineup = Lineup(ROW, "canvas over HTTP")
    with ExitStack() as stack:
        stack.enter_context(on_every_core())
        browse = stack.enter_context(browsing(bench, folder, pixels))
        lineup.add(OURS, "ours", lambda: partial(browse, "/api/canvas"))
        lineup.add(UNCACHED, "peer", lambda: partial(browse, "/demo/uncached/canvas"))
        return lineup.race(bench.rounds(25), [])


@contextmanager
def browsing(
    bench: Bench, folder: Path, pixels: int
) -> Iterator[Callable[[str], float]]:
    """The Mural of `redlane demo` in a process of its own; yields a function that asks
    for a path and gives the seconds until all of its body was there."""
    demo = import_module("redlane._demo")
    size = demo.Size(pixels=pixels, users=USERS, posts=0, cached=0, uncached=0)
    demo.check_packages()
    with demo.running_mural(bench.server.url, size, EXAMPLES, folder) as port:
        browser = demo.Browser(port)

        def browse(path: str) -> float:
            seconds: float = browser.get(path)[1]
            return seconds

        yield browse
        browser.close()
