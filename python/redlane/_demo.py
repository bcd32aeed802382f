"""`redlane demo`: the Mural on the embedded engine and on Redis, driven over HTTP.

The application runs in a process of its own (_demo_server); this one drives it with
http.client, checks what it answers, and prints one table. Nothing is built here.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import math
import os
import secrets
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from redlane import Client, RedlaneError
from redlane._cli.output import Failure, print_json, print_table

START_SECONDS = 60.0
REQUEST_SECONDS = 60.0
POSTERS = 4  # threads
CHECKED_USERS = 20  # whose counters are compared with the truth


@dataclass(frozen=True)
class Size:
    pixels: int
    users: int
    posts: int
    cached: int  # requests for each cached row
    uncached: int  # and for each uncached one


FULL = Size(pixels=250_000, users=1000, posts=1000, cached=1000, uncached=20)
QUICK = Size(pixels=5_000, users=50, posts=50, cached=50, uncached=3)


@dataclass(frozen=True)
class Row:
    name: str
    served_by: str
    requests: int
    hand_median_ms: float  # in the application, until the body's bytes are in hand
    hand_p99_ms: float
    http_median_ms: float  # as the client saw it
    http_p99_ms: float
    faster_in_hand: float | None = None  # times, against the uncached row
    faster_over_http: float | None = None


def run(url: str | None, quick: bool, as_json: bool) -> int:
    """Runs all of it and prints the table. `url` is the Redis to use, else REDIS_URL,
    else a throwaway redis-server. Returns the exit code. Failure: what is missing."""
    size = QUICK if quick else FULL
    examples = find_examples()
    check_packages()
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            url = url or os.environ.get("REDIS_URL") or None
            redis = url or stack.enter_context(throwaway_server(folder))
            check_server(redis)
            rows = []
            for name, target in (("engine", "memory://"), ("redis", redis)):
                rows += measure(name, target, size, examples, folder)
    finally:
        signal.signal(signal.SIGTERM, previous)
    print_rows(rows, size, as_json)
    return 0


def find_examples() -> Path:
    """The examples/ folder of the source tree that this package, or the working
    directory, stands in."""
    for start in (Path(__file__).resolve().parent, Path.cwd()):
        for folder in (start, *start.parents):
            if (folder / "examples" / "mural" / "app.py").is_file():
                return folder / "examples"
    raise Failure(
        "the Mural application is in the source tree (examples/mural), not in the "
        "installed package: run the demo from a clone of the repository"
    )


def check_packages() -> None:
    wanted = {"flask": "flask", "flask_sock": "flask-sock", "dotenv": "python-dotenv"}
    missing = [
        name for module, name in wanted.items() if not importlib.util.find_spec(module)
    ]
    if missing:
        raise Failure(
            f"the demo needs packages ({', '.join(missing)}): "
            "pip install 'redlane[examples]'"
        )


@contextmanager
def throwaway_server(folder: Path) -> Iterator[str]:
    """A redis-server of our own on a unix socket, as one has it on one machine (2.5 MB
    came in 0.4 ms, over loopback TCP in 0.6); yields its URL."""
    binary = shutil.which("redis-server") or shutil.which("valkey-server")
    if binary is None:
        raise Failure(
            "the demo needs a server: set REDIS_URL, or install redis-server "
            "(apt-get install redis-server)"
        )
    path = folder / "redis.sock"
    process = subprocess.Popen(
        [
            binary,
            *("--port", "0", "--unixsocket", str(path), "--dir", str(folder)),
            *("--save", "", "--appendonly", "no", "--daemonize", "no"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"unix://{path}"
    try:
        with Client(url) as client:
            wait_until(lambda: answers(client), process, binary)
        yield url
    finally:
        process.kill()
        process.wait()


def answers(client: Client) -> bool:
    try:
        client.ping()
    except RedlaneError:
        return False
    return True


def wait_until(
    ready: Callable[[], bool], process: subprocess.Popen[Any], name: str
) -> None:
    end = time.monotonic() + START_SECONDS
    while not ready():
        if process.poll() is not None or time.monotonic() > end:
            raise Failure(f"{name} did not start")
        time.sleep(0.02)


def check_server(url: str) -> None:
    with Client(url) as client:
        health = client.health()
    if not health.get("connected"):
        reason = health.get("error") or "it names no server"
        raise Failure(f"{health.get('url')} cannot be used: {reason}")


class Browser:
    """One HTTP client, which keeps its connection where the server lets it."""

    def __init__(self, port: int) -> None:
        self._link = http.client.HTTPConnection(
            "127.0.0.1", port, timeout=REQUEST_SECONDS
        )

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, bytes, float]:
        """Status, body as it came, and seconds until all of it was there."""
        headers = {"Accept-Encoding": "gzip"}
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body)
        begin = time.perf_counter()
        self._link.request(method, path, data, headers)
        response = self._link.getresponse()
        content = response.read()
        return response.status, content, time.perf_counter() - begin

    def get(self, path: str) -> tuple[bytes, float]:
        status, content, seconds = self.ask("GET", path)
        require(status == 200, f"GET {path} answered {status}")
        return content, seconds

    def get_json(self, path: str) -> Any:
        return json.loads(self.get(path)[0])

    def get_canvas(self) -> Any:
        return json.loads(zlib.decompress(self.get("/api/canvas")[0], 31))

    def close(self) -> None:
        self._link.close()


def require(true: bool, otherwise: str) -> None:
    if not true:
        raise Failure(f"the demo went wrong: {otherwise}")


@contextmanager
def running_mural(url: str, size: Size, examples: Path, folder: Path) -> Iterator[int]:
    """The application in a process of its own; yields its port."""
    tag = secrets.token_hex(4)
    log = folder / f"mural-{tag}.log"
    orders = {
        "examples": str(examples),
        "url": url,
        "database": str(folder / f"mural-{tag}.db"),
        "prefix": f"mural-demo-{tag}",
        "pixels": size.pixels,
        "users": size.users,
    }
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "redlane._demo_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(orders) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise Failure(f"the Mural did not start: {last_line(log)}")
        yield json.loads(line)["port"]
        hits = log.read_text(errors="replace").count("Serving canvas from cache")
        require(hits >= size.cached, f"only {hits} canvases came from the cache")
    finally:
        process.stdin.close()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "no message")


def measure(name: str, url: str, size: Size, examples: Path, folder: Path) -> list[Row]:
    """All rows of one executor."""
    say(f"{name}: seeding {size.pixels:,} pixels")
    with running_mural(url, size, examples, folder) as port:
        browser = Browser(port)
        served_by = executor_name(browser.get_json("/demo/health"), name)
        phases = Phases(browser, port, size, served_by)
        rows = phases.run_all()
        executor_name(browser.get_json("/demo/health"), name)  # still the same one
        browser.close()
    return rows


def executor_name(health: dict[str, Any], wanted: str) -> str:
    mode = health["mode"]
    require((mode == "redis") == (wanted == "redis"), f"{mode} served for {wanted}")
    if mode != "redis":
        return "memory engine"
    socket = ", unix socket" if str(health["url"]).startswith("unix:") else ""
    return f"redis {health['server_version']}{socket}"


class Phases:
    """One kind of request at a time, so that each row stands for itself."""

    def __init__(self, browser: Browser, port: int, size: Size, served_by: str) -> None:
        self.browser = browser
        self.port = port
        self.size = size
        self.served_by = served_by

    def run_all(self) -> list[Row]:
        size = self.size
        say(f"  {size.uncached} uncached requests of each kind")
        canvas = self.get("uncached_canvas", "/demo/uncached/canvas", size.uncached)
        user = self.get(
            "uncached_user", "/demo/uncached/user-stats/user-0001", size.uncached
        )
        say(f"  {size.posts:,} placements")
        placed = self.place_pixels()
        self.check_truth()
        say(f"  {size.cached:,} cached requests of each kind")
        cached_canvas = self.get("canvas", "/api/canvas", size.cached)
        cached_user = self.get("user", "/api/user-stats/user-0001", size.cached)
        total = self.get("total", "/api/stats", size.cached)
        return [
            self.row("canvas, uncached", canvas, served_by="canvas_data"),
            self.row("canvas, cached", cached_canvas, against=canvas),
            self.row("user stats, uncached", user, served_by="canvas_data"),
            self.row("user stats, cached", cached_user, against=user),
            self.row("total stats, cached", total),
            self.row("place pixel", placed),
        ]

    def get(self, name: str, path: str, count: int) -> Times:
        self.browser.get(path)  # the first one fills the cache
        self.browser.get("/demo/times")
        seconds = [self.browser.get(path)[1] for _ in range(count)]
        return self.take(name, seconds)

    def take(self, name: str, over_http: list[float]) -> Times:
        in_hand = self.browser.get_json("/demo/times")[name]
        require(len(in_hand) == len(over_http), f"{name}: requests went missing")
        return Times(in_hand, over_http)

    def place_pixels(self) -> Times:
        """Real placements from several threads, each by another user, and after each
        batch a look whether the canvas has them."""
        size = self.size
        seconds: list[float] = []
        batch = max(1, size.posts // 4)
        self.browser.get("/api/canvas")
        for start in range(0, size.posts, batch):
            numbers = range(start, min(start + batch, size.posts))
            with ThreadPoolExecutor(POSTERS) as pool:
                parts = [numbers[i::POSTERS] for i in range(POSTERS)]
                for part in pool.map(self.place_some, parts):
                    seconds += part
            # Before the canvas is made: on a busy machine the cooldown is over by then.
            self.check_cooldown(numbers[-1])
            canvas = self.browser.get_canvas()
            for number in numbers:
                pixel = self.pixel(number)
                cell = canvas.get(f"{pixel['x']},{pixel['y']}", {})
                require(
                    cell.get("color") == pixel["color"], "a placement is not to be seen"
                )
        times = self.browser.get_json("/demo/times")["place"]
        return Times(times, seconds)

    def check_cooldown(self, number: int) -> None:
        status, body, _ = self.browser.ask(
            "POST", "/api/place-pixel", self.pixel(number)
        )
        require(status == 429, f"a second placement at once answered {status}")
        require(1 <= json.loads(body)["retry_after"] <= 5, "no seconds left were given")

    def place_some(self, numbers: Sequence[int]) -> list[float]:
        browser = Browser(self.port)
        seconds = []
        for number in numbers:
            status, body, took = browser.ask(
                "POST", "/api/place-pixel", self.pixel(number)
            )
            require(status == 200, f"a placement answered {status}: {body[:200]!r}")
            seconds.append(took)
        browser.close()
        return seconds

    def pixel(self, number: int) -> dict[str, Any]:
        place = number * 7919 % 250_000  # prime: all over the canvas, never twice
        return {
            "x": place % 500,
            "y": place // 500,
            "color": f"#{number % (1 << 24):06X}",
            "user_id": f"user-{number % self.size.users:04d}",
        }

    def check_truth(self) -> None:
        """The cached canvas and counters against what canvas_data says."""
        truth = self.browser.get_json("/demo/uncached/canvas")
        require(self.browser.get_canvas() == truth, "the cached canvas is another one")
        total = self.browser.get_json("/api/stats")["total_pixels"]
        require(total == len(truth), f"total_pixels is {total}, not {len(truth)}")
        for number in range(min(CHECKED_USERS, self.size.users)):
            user = f"user-{number:04d}"
            count = sum(1 for cell in truth.values() if cell["user_id"] == user)
            told = self.browser.get_json(f"/api/user-stats/{user}")["user_pixels"]
            require(told == count, f"user_pixels of {user} is {told}, not {count}")

    def row(
        self,
        name: str,
        times: Times,
        against: Times | None = None,
        served_by: str | None = None,
    ) -> Row:
        hand = statistics.median(times.in_hand)
        http = statistics.median(times.over_http)
        faster: list[float | None] = [None, None]
        if against:
            faster[0] = statistics.median(against.in_hand) / hand
            faster[1] = statistics.median(against.over_http) / http
        return Row(
            name=name,
            served_by=served_by or self.served_by,
            requests=len(times.over_http),
            hand_median_ms=hand * 1000,
            hand_p99_ms=p99(times.in_hand) * 1000,
            http_median_ms=http * 1000,
            http_p99_ms=p99(times.over_http) * 1000,
            faster_in_hand=faster[0],
            faster_over_http=faster[1],
        )


@dataclass(frozen=True)
class Times:
    in_hand: list[float]  # seconds
    over_http: list[float]


def p99(times: list[float]) -> float:
    return sorted(times)[math.ceil(0.99 * len(times)) - 1]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def print_rows(rows: list[Row], size: Size, as_json: bool) -> None:
    if as_json:
        print_json({"size": asdict(size), "rows": [asdict(row) for row in rows]})
        return
    print(
        f"The Mural with {size.pixels:,} pixels; times in milliseconds.\n"
        "In hand: inside the process, from the view's call until the body's bytes are "
        "there.\nHTTP: as a client on loopback saw it.\n"
    )
    what = ("", "served by", "requests")
    times = ("in hand: median", "p99", "HTTP: median", "p99")
    print_table(
        (*what, *times, "faster: in hand", "over HTTP"),
        (
            (
                row.name,
                row.served_by,
                f"{row.requests:,}",
                milliseconds(row.hand_median_ms),
                milliseconds(row.hand_p99_ms),
                milliseconds(row.http_median_ms),
                milliseconds(row.http_p99_ms),
                times_faster(row.faster_in_hand),
                times_faster(row.faster_over_http),
            )
            for row in rows
        ),
        right=range(2, 9),
    )


def milliseconds(value: float) -> str:
    return f"{value:,.3f}" if value < 10 else f"{value:,.1f}"


def times_faster(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f} ×"
