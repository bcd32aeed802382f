"""`redlane demo`: the Mural on the embedded engine and on Redis, driven over HTTP.

The application runs in a process of its own (_demo_server); this one drives it with
http.client, checks what it answers, and prints one table. Nothing is built here.
`redlane demo NAME` serves one of the examples instead.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn

from redlane import Client, RedlaneError
from redlane._cli.output import Failure
from redlane._demo_table import (
    Row,
    Size,
    Times,
    make_row,
    print_rows,
    slower_than_quoted,
)

START_SECONDS = 60.0
REQUEST_SECONDS = 60.0
NEAR_SECONDS = 10.0  # that the link of the near cache is given to come up
POSTERS = 4  # threads
CHECKED_USERS = 20  # whose counters are compared with the truth


FULL = Size(pixels=250_000, users=1000, posts=1000, cached=1000, uncached=20)
QUICK = Size(pixels=5_000, users=50, posts=50, cached=50, uncached=3)


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
    print_rows(rows, size, names_of(examples), as_json)
    return 0


def serve(name: str, url: str | None) -> NoReturn:
    """Becomes the server of one example. Failure: there is none of that name."""
    examples = find_examples()
    names = names_of(examples)
    if name not in names:
        raise Failure(f"no example {name}: there are {', '.join(names)}")
    environment = {**os.environ, "PYTHON": sys.executable}
    if url:
        environment["REDIS_URL"] = url
    program = examples.parent / "tools" / "run_example.sh"
    os.execve(program, [str(program), name], environment)


def names_of(examples: Path) -> list[str]:
    return sorted(path.parent.name for path in examples.glob("*/.env.example"))


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
        self.etag: str | None = None  # of the last answer

    def ask(
        self, method: str, path: str, body: Any = None, etag: str | None = None
    ) -> tuple[int, bytes, float]:
        """Status, body as it came, and seconds until all of it was there."""
        headers = {"Accept-Encoding": "gzip"}
        if etag:
            headers["If-None-Match"] = etag
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body)
        begin = time.perf_counter()
        self._link.request(method, path, data, headers)
        response = self._link.getresponse()
        content = response.read()
        self.etag = response.headers.get("ETag")
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
        self.slower = 1.0  # than the machine of the goals

    def run_all(self) -> list[Row]:
        size = self.size
        user_path = "/api/user-stats/user-0001"
        say(f"  {size.uncached} uncached requests of each kind")
        canvas = self.get("uncached_canvas", "/demo/uncached/canvas", size.uncached)
        dumps = self.get("json_dumps", "/demo/json-dumps", size.uncached)
        self.slower = slower_than_quoted(dumps.in_hand, size.pixels)
        user = self.get(
            "uncached_user", "/demo/uncached/user-stats/user-0001", size.uncached
        )
        say(f"  {size.posts:,} placements")
        placed = self.place_pixels()
        self.check_truth()
        say(f"  {size.cached:,} cached requests of each kind")
        rows = [self.row("canvas, uncached", canvas, by="canvas_data")]
        rows += self.cached_canvas(canvas)
        rows += [
            self.row("user stats, uncached", user, by="canvas_data"),
            self.row("user stats, cached", self.get("user", user_path), user),
            self.row("total stats, cached", self.get("total", "/api/stats")),
            *self.counter(),
            self.row("place pixel", placed),
        ]
        return rows

    def cached_canvas(self, against: Times) -> list[Row]:
        """From where it is stored; then, of Redis, what this process has kept of it;
        then what a client is told that has it already."""
        stored = self.get("stored_canvas", "/demo/stored/canvas")
        rows = [self.row("canvas, cached", stored, against)]
        if self.wait_until_near():
            before = self.near_hits()
            kept = self.get("canvas", "/api/canvas")
            share = (self.near_hits() - before) / len(kept.in_hand)
            near = "near cache" if share > 0.99 else f"near cache, {share:.0%}"
            rows.append(self.row("canvas, near", kept, against, near))
            served_by = near
        else:
            served_by = self.served_by
        unchanged = self.get_unchanged()
        return [*rows, self.row("canvas, 304", unchanged, against, served_by)]

    def wait_until_near(self) -> bool:
        """Whether the canvas is served from within the process; some servers cannot
        tell of changes."""
        if not self.browser.get_json("/demo/health")["near"]:
            return False
        end = time.monotonic() + NEAR_SECONDS
        while time.monotonic() < end:
            before = self.near_hits()
            self.browser.get("/api/canvas")
            if self.near_hits() > before:
                return True
            time.sleep(0.05)
        say("  the near cache does not hear of this server")
        return False

    def near_hits(self) -> int:
        hits: int = self.browser.get_json("/demo/health")["near_hits"]
        return hits

    def get_unchanged(self) -> Times:
        self.browser.get("/api/canvas")
        etag = self.browser.etag
        require(etag is not None, "the canvas has no ETag")
        self.browser.get("/demo/times")
        seconds = []
        for _ in range(self.size.cached):
            status, body, took = self.browser.ask("GET", "/api/canvas", etag=etag)
            require((status, body) == (304, b""), f"an unchanged canvas: {status}")
            seconds.append(took)
        return self.take("canvas_view", seconds)

    def counter(self) -> list[Row]:
        path = "/demo/counter"
        read = self.get("counter_get", path)
        seconds = []
        for _ in range(self.size.cached):
            status, _, took = self.browser.ask("POST", path)
            require(status == 200, f"an increment answered {status}")
            seconds.append(took)
        counted = self.browser.get_json(path)["value"]
        require(counted == len(seconds), f"the counter is {counted}")
        return [
            self.row("counter, read", read),
            self.row("counter, increment", self.take("counter_increment", seconds)),
        ]

    def get(self, name: str, path: str, count: int | None = None) -> Times:
        self.browser.get(path)  # the first one fills the cache
        self.browser.get("/demo/times")
        seconds = [self.browser.get(path)[1] for _ in range(count or self.size.cached)]
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
        by: str | None = None,
    ) -> Row:
        """`by`: what served it, if not the cache."""
        return make_row(name, by or self.served_by, times, self.slower, against)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
