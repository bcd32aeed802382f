"""Two examples on one Redis through one bad half hour: Redis and workers are killed at
random under mixed traffic. No answer that the rules do not allow, no exception in any
log, counters and canvases true, and nothing that grows.

The short size takes seconds; `make soak` runs the full one, of REDLANE_SOAK_SECONDS
(half an hour): eight workers, of which four are never killed and are measured.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from example_traffic import (
    PEOPLE,
    Caller,
    Follower,
    Gate,
    Link,
    Notes,
    Painter,
    Site,
    User,
    Watcher,
)
from mural.canvas import TOTAL_TTL, USER_TTL
from mural.store import PixelStore
from running_example import running_example
from servers import Server

HALF_AN_HOUR = float(os.environ.get("REDLANE_SOAK_SECONDS", 1800))
SECONDS = 60.0  # that a test waits for what must come; far above what it takes
# Every write is in the file before it is answered.
KEPT = ("--appendonly", "yes", "--appendfsync", "always")

# What a worker may have more of in the last quarter than in the second; by then it has
# done each thing often, and what it holds has its full size: 1600 pixels, 1000 events.
# - kilobytes of its own: about one megabyte was seen, of stacks of threads and of
#   holes; the number of its objects stays the same. In these 15 minutes a worker lives
#   through 100 outages and serves 10,000 requests and more: 40 kB lost at each outage,
#   or 400 bytes at each request, are more than this;
# - files and threads: one for each client of the site more than there were at once
#   before, for the pools of threads and connections grow to the most that ever came
#   together. One lost at each outage is far more.
KILOBYTES = 4 << 10

# What the logs may say, and why. Everything else that sounds like trouble is some.
COMPLAINT = re.compile(r"traceback|exception|error|critical|warn|fatal", re.IGNORECASE)
ALLOWED = [
    # gunicorn says which worker was killed.
    r"\[ERROR\] Worker \(pid:\d+\) was sent SIGKILL! Perhaps out of memory\?$",
    # redlane says once that an outage began, what the first operation met that it
    # stopped, and what it costs.
    r"^WARNING - Redis is away: ",
    r"^ERROR - Redis is away: \S+ \(LOADING ",
    r"^ERROR - Redis operation failed: (Connection|the server closed|timed|LOADING) ",
    r"^WARNING - subscriptions: ",
    # What a limit had admitted, and Redis was killed while it was told of it.
    r"^WARNING - Redis did not hear of \d+ changes made while it was away: ",
    # The Mural: what was not told comes from the file, and what could not be counted
    # is counted afresh.
    r"^ERROR - Other workers' placements come late: ",
    r"^WARNING - Placement \d+ not told: ",
    r"^WARNING - Counters dropped: ",
    # krowoc: the events are stored when Redis is back.
    r"^WARNING - Events wait in this worker: ",
    r"^ERROR - Events are not heard: ",
    # krowoc: this worker was started while Redis was away.
    r"^WARNING - Each of \d+ workers has an engine of its own: start Redis",
]
SERVER_ALLOWED = [
    # It was killed while it wrote a command, to which nobody was answered.
    r"# !!! Warning: short read while loading the AOF file",
    # Of the machine that the test runs on.
    r"# WARNING Memory overcommit must be enabled!",
    r"# WARNING: The TCP backlog setting of \d+ cannot be enforced",
]


def until_none(find: Callable[[], list[str]]) -> None:
    """Until it finds nothing wrong any more."""
    end = time.monotonic() + SECONDS
    while True:
        found = find()
        if not found:
            return
        assert time.monotonic() < end, "\n".join(found)
        time.sleep(0.1)


def of_each_worker(site: Site, path: str, ask: Callable[[Link], Any]) -> list[Any]:
    """What each worker says for itself, when all are there. `path` is asked first, to
    see who answers."""
    found: dict[int, Any] = {}
    end = time.monotonic() + SECONDS
    while set(found) != set(site.workers()) or len(found) < site.count:
        assert time.monotonic() < end, f"only {list(found)} of {site.workers()} answer"
        # gunicorn closes a connection that is silent for long; then another is made,
        # to whichever worker.
        with suppress(OSError, http.client.HTTPException), Link(site) as link:
            link.get_json(path)
            worker = site.owner(link.http.sock)
            if worker is not None and worker not in found:
                found[worker] = ask(link)
    return list(found.values())


class Gauge(threading.Thread):
    """Measures some processes again and again."""

    def __init__(self, processes: list[int], pause: float) -> None:
        super().__init__(daemon=True)
        self.ended = threading.Event()
        self.seen: dict[int, list[dict[str, int]]] = {p: [] for p in processes}
        self._pause = pause

    def run(self) -> None:
        while not self.ended.wait(self._pause):
            for process, measures in self.seen.items():
                measures.append(measure(process))

    def growth(self) -> Iterator[tuple[int, str, float, float]]:
        """Process, what, and its medians in the second and the last quarter."""
        for process, measures in self.seen.items():
            quarter = len(measures) // 4
            assert quarter, "too few measures"
            for what in measures[0]:
                values = [each[what] for each in measures]
                second = statistics.median(values[quarter : 2 * quarter])
                last = statistics.median(values[-quarter:])
                yield process, what, second, last


def measure(process: int) -> dict[str, int]:
    status = Path(f"/proc/{process}/status").read_text()
    # Of its own: what it shares with its siblings counts for less when one more is
    # there, and for more when one was killed.
    numbers = dict(re.findall(r"^(RssAnon|Threads):\s+(\d+)", status, re.MULTILINE))
    return {
        "kilobytes": int(numbers["RssAnon"]),
        "threads": int(numbers["Threads"]),
        "files": len(list(Path(f"/proc/{process}/fd").iterdir())),
    }


class Mess:
    """The server, both examples, those who use them, and what befalls them."""

    def __init__(
        self, server: Server, mural: Site, krowoc: Site, database: Path, clients: int
    ) -> None:
        self.server, self.mural, self.krowoc = server, mural, krowoc
        self.database = str(database)
        self.gate = Gate()
        self.notes = Notes()
        self.dice = random.Random()
        self.befell: Counter[str] = Counter()
        self.spared = [
            worker
            for site in (mural, krowoc)
            for worker in site.workers()[: site.count // 2]
        ]
        self.followers = [Follower(mural, self.notes, 0) for _ in range(clients)]
        self.watchers = [Watcher(krowoc, self.notes, 0) for _ in range(clients)]
        self.surfers: list[User] = []
        for _ in range(clients):
            seed = self.dice.randrange(1 << 30)
            self.surfers.append(Painter(mural, self.notes, seed, self.gate))
            self.surfers.append(Caller(krowoc, self.notes, seed))

    @contextmanager
    def traffic(self) -> Iterator[None]:
        """The people who follow and watch stay until `end`."""
        for user in (*self.followers, *self.watchers, *self.surfers):
            user.start()
        try:
            yield
        finally:
            leave(self.surfers)

    def end(self) -> None:
        leave([*self.followers, *self.watchers])

    # --- what befalls them --------------------------------------------------------

    def kill_redis(self, seconds: float) -> None:
        self.server.kill()
        time.sleep(seconds)
        self.server.start()
        self.befell["Redis killed"] += 1

    def kill_a_worker(self, site: Site) -> None:
        """One that is not spared, when there is one."""
        workers = [w for w in site.workers() if w not in self.spared]
        if workers:
            site.kill(self.dice.choice(workers))
            self.befell[f"{site.name} worker killed"] += 1

    def kill_a_painted_worker(self) -> None:
        """While nobody places, and Redis knows all: nothing is lost with it."""
        with self.gate.closed():
            self.check_truth()
            self.kill_a_worker(self.mural)

    def kill_both(self, site: Site) -> None:
        """A worker while Redis is away: what it has not told is lost."""
        self.server.kill()
        time.sleep(self.dice.uniform(0.0, 1.0))
        self.kill_a_worker(site)
        time.sleep(self.dice.uniform(0.0, 1.0))
        self.server.start()
        self.befell["Redis killed"] += 1

    def rage(self, seconds: float) -> None:
        """At random. A worker of the Mural that is killed in mid-count, or takes with
        it what Redis has not heard, leaves a counter false until its TTL is over: only
        for a while, which ends long enough before the end."""
        begin = time.monotonic()
        careless = range(int(seconds / 2), int(seconds - max(USER_TTL, TOTAL_TTL) - 30))
        while (passed := time.monotonic() - begin) < seconds and not self.notes.wrong:
            ways: list[tuple[int, Callable[[], None]]] = [
                (4, lambda: self.kill_redis(self.dice.uniform(0.0, 4.0))),
                (3, lambda: self.kill_a_worker(self.krowoc)),
                (2, lambda: self.kill_both(self.krowoc)),
            ]
            if passed < seconds / 2 or not careless:
                ways.append((3, self.kill_a_painted_worker))
            elif int(passed) in careless:
                ways.append((3, lambda: self.kill_a_worker(self.mural)))
                ways.append((2, lambda: self.kill_both(self.mural)))
            (way,) = self.dice.choices([w for _, w in ways], [n for n, _ in ways])
            way()
            time.sleep(self.dice.uniform(0.5, 6.0))

    def find_unheard(self) -> list[str]:
        """What nobody was answered yet, until something is wrong."""
        kinds = ("place-pixel", "canvas", "user-stats", "cached-data", "publish-event")
        unheard = [kind for kind in kinds if not self.notes.answers[f"{kind} 200"]]
        return [] if self.notes.wrong else unheard

    # --- what must be true --------------------------------------------------------

    def check_truth(self) -> None:
        """While nobody places: the canvas and the counters of each worker of the Mural,
        and the counters in Redis."""
        until_none(self.find_false)
        self.befell["truth checked"] += 1

    def find_false(self) -> list[str]:
        store = PixelStore(self.database)
        try:
            pixels = store.pixels()
        finally:
            store.close()
        counts = Counter(pixel.user_id for pixel in pixels)
        truth = {
            "total": len(pixels),
            "users": {name: counts[name] for name in PEOPLE},
            "canvas": {p.key: {"color": p.color, "user_id": p.user_id} for p in pixels},
        }
        false = []
        for told in of_each_worker(self.mural, "/api/stats", what_mural_says):
            false += [
                f"{name}: {told[name]} in place of {truth[name]}"[:2000]
                for name in truth
                if told[name] != truth[name]
            ]
        keys = {f"mural:user_pixels:{name}": counts[name] for name in PEOPLE}
        keys["mural:total_pixels"] = len(pixels)
        for key, count in keys.items():
            stored = self.server.cli("GET", key)
            if stored is not None and stored != b"%d" % count:
                false.append(f"{key} is {stored} in place of {count}")
        return false

    def check_placements(self) -> None:
        """None that was answered is lost, and nobody was told another one."""
        store = PixelStore(self.database)
        try:
            stored = store.changes(0)
        finally:
            store.close()
        last: dict[tuple[int, int], int] = {}
        for sequence, (x, y, *_) in self.notes.placed.items():
            last[x, y] = max(sequence, last.get((x, y), 0))
        there = {}
        for sequence, pixel in stored.pixels:
            there[pixel.x, pixel.y] = sequence
            noted = self.notes.placed.get(sequence)
            assert noted in (None, tuple(vars(pixel).values()))
        assert all(there[place] >= sequence for place, sequence in last.items())
        canvas = {
            p.key: {"x": p.x, "y": p.y, "color": p.color, "user_id": p.user_id}
            for _, p in stored.pixels
        }

        def find_behind() -> list[str]:
            return [
                f"a follower is at {follower.sequence}, not {stored.sequence}"
                for follower in self.followers
                if follower.sequence != stored.sequence
            ]

        until_none(find_behind)
        for follower in self.followers:
            told = {
                key: {"x": x, "y": y, **cell}
                for key, cell in follower.canvas.items()
                for x, y in [map(int, key.split(","))]
            }
            assert told == canvas

    def check_krowoc(self) -> None:
        """Healthy everywhere; all workers have one history, one cache and one limit,
        and tell every page of an event."""

        def find_ill() -> list[str]:
            states = of_each_worker(
                self.krowoc, "/health/deep", lambda link: link.get_json("/health/deep")
            )
            return [str(state) for state in states if state["status"] != "ok"]

        until_none(find_ill)
        until_none(self.find_deaf)

        def recent(link: Link) -> Any:
            return link.get_json("/api/recent-events?limit=100")["events"]

        def find_different() -> list[str]:
            stored = self.server.cli("ZREVRANGE", "krowoc:events", 0, 99)
            history = [json.loads(event) for event in stored]
            told = of_each_worker(self.krowoc, "/health/deep", recent)
            return [f"not the newest: {events}" for events in told if events != history]

        until_none(find_different)
        with Link(self.krowoc) as link:
            before = time.time()
            assert link.ask("POST", "/api/invalidate-cache", {}).status == 200
        values = of_each_worker(
            self.krowoc,
            "/health/deep",
            lambda link: link.get_json("/api/cached-data?user_id=r1"),
        )
        assert all(value == values[0] for value in values)
        assert values[0]["computed_at"] >= before
        statuses = Counter[int]()
        for _ in range(8):
            with Link(self.krowoc, "127.0.1.1") as link:
                statuses[link.ask("GET", "/api/rate-limited").status] += 1
        assert statuses == {200: 5, 429: 3}

    def find_deaf(self) -> list[str]:
        with Link(self.krowoc) as link:
            body = {"channel": "end", "message": "the last one"}
            answer = link.ask("POST", "/api/publish-event", body).json
        end = time.monotonic() + 1
        while time.monotonic() < end:
            told = [watcher.last == answer["event"] for watcher in self.watchers]
            if all(told) and answer["receivers"] == self.krowoc.count:
                return []
            time.sleep(0.02)
        return [f"{answer}: {[watcher.last for watcher in self.watchers]}"]


def leave(users: list[Any]) -> None:
    for user in users:
        user.leave()
    for user in users:
        user.join(2 * SECONDS)
        assert not user.is_alive(), f"{user} waits for ever"


def what_mural_says(link: Link) -> dict[str, Any]:
    paths = {name: f"/api/user-stats/{name}" for name in PEOPLE}
    return {
        "total": link.get_json("/api/stats")["total_pixels"],
        "users": {
            name: link.get_json(path)["user_pixels"] for name, path in paths.items()
        },
        "canvas": link.get_json("/api/canvas"),
    }


def find_complaints(log: str, allowed: list[str]) -> list[str]:
    known = re.compile("|".join(allowed))
    return [
        line
        for line in log.splitlines()
        if COMPLAINT.search(line) and not known.search(line)
    ]


def count_warnings(log: str) -> Counter[str]:
    """The complaints that are allowed, by what they begin with."""
    lines = [line for line in log.splitlines() if COMPLAINT.search(line)]
    return Counter(re.sub(r"^\[.*?\] \[\d+\] |\d+|[:(].*", "", line) for line in lines)


@contextmanager
def two_examples(
    folder: Path, binary: str, workers: int, clients: int
) -> Iterator[Mess]:
    server = Server(*KEPT, binary=binary)
    database = folder / "mural.db"
    options: dict[str, str] = {
        "MALLOC_ARENA_MAX": "2",  # or each thread has a heap
        "PYTHONFAULTHANDLER": "1",
        # A client that is not run in time says nothing for longer than the 2 s after
        # which gunicorn closes its connection.
        "GUNICORN_CMD_ARGS": "--no-control-socket --keep-alive 60",
    }
    try:
        server.start()
        with (
            running_example(
                "mural",
                folder,
                server.url,
                workers,
                MURAL_DB=str(database),
                MURAL_COOLDOWN="0.3",
                **options,
            ) as mural,
            running_example(
                "krowoc",
                folder,
                server.url,
                workers,
                "/health/deep",
                KROWOC_SLOW_SECONDS="0.02",
                **options,
            ) as krowoc,
        ):
            sites = [Site("mural", mural, workers), Site("krowoc", krowoc, workers)]
            of_each_worker(sites[0], "/api/stats", lambda _: None)
            of_each_worker(sites[1], "/health/deep", lambda _: None)
            mess = Mess(server, sites[0], sites[1], database, clients)
            try:
                yield mess
            finally:
                mess.end()
    finally:
        with suppress(OSError):
            (folder / "redis.log").write_bytes((server.folder / "log").read_bytes())
        server.close()


def find_growth(gauge: Gauge, clients: int) -> list[str]:
    """`clients` as many as one site has at once."""
    slack = {"kilobytes": KILOBYTES, "files": clients, "threads": clients}
    return [
        f"{what} of worker {process} grew from {second:g} to {last:g}"
        for process, what, second, last in gauge.growth()
        if last - second > slack[what]
    ]


def run(mess: Mess, gauge: Gauge, seconds: float, trouble: Callable[[], None]) -> None:
    """Traffic and trouble, then everything that must be true."""
    gauge.start()
    begin = time.monotonic()
    try:
        with mess.traffic():
            trouble()
            time.sleep(max(0.0, begin + seconds - time.monotonic()))
            # Of the short form, on a busy machine, that is not yet much.
            until_none(mess.find_unheard)
    finally:
        gauge.ended.set()
        gauge.join()
    assert mess.notes.wrong == []
    mess.check_truth()
    mess.check_placements()
    mess.check_krowoc()
    alive = {*mess.mural.workers(), *mess.krowoc.workers()}
    assert alive >= set(mess.spared), "a worker that nobody killed has ended"


def describe(mess: Mess, gauge: Gauge, logs: dict[str, str]) -> dict[str, Any]:
    notes = mess.notes
    return {
        "answers": dict(sorted(notes.answers.items())),
        "all answers": notes.answers.total(),
        "cut off": dict(notes.cut),
        "slowest answer": round(notes.slowest, 3),
        "befell": dict(mess.befell),
        "last placement": max(notes.placed, default=0),
        "events seen by watchers": [watcher.events for watcher in mess.watchers],
        "growth": [f"{p} {w}: {a:g} to {b:g}" for p, w, a, b in gauge.growth()],
        "said": {name: dict(count_warnings(log)) for name, log in logs.items()},
        "wrong": notes.wrong[:40],
    }


@pytest.mark.parametrize(
    ("workers", "clients", "seconds"),
    [
        pytest.param(2, 2, 4.0, id="short"),
        pytest.param(4, 4, HALF_AN_HOUR, id="long", marks=pytest.mark.soak),
    ],
)
def test_two_examples_through_kills(
    server_binary: str, tmp_path: Path, workers: int, clients: int, seconds: float
) -> None:
    with two_examples(tmp_path, server_binary, workers, clients) as mess:
        gauge = Gauge(mess.spared, min(1.0, seconds / 40))

        def each_once() -> None:
            time.sleep(0.3)
            mess.kill_a_painted_worker()
            mess.kill_redis(0.3)
            mess.kill_both(mess.krowoc)

        trouble = each_once if seconds < 10 else lambda: mess.rage(seconds)
        sites = [mess.mural, mess.krowoc]
        try:
            run(mess, gauge, seconds, trouble)
        finally:
            logs = {site.name: site.example.log for site in sites}
            print(json.dumps(describe(mess, gauge, logs), indent=1))
            print(f"The logs are in {tmp_path}")
    # As they are after the end.
    logs = {site.name: site.example.log for site in sites}
    for name, log in logs.items():
        assert find_complaints(log, ALLOWED) == [], name
    server_log = (tmp_path / "redis.log").read_text(errors="replace")
    assert find_complaints(server_log, SERVER_ALLOWED) == []
    # In the few seconds of the short form connections are still being made.
    assert find_growth(gauge, max(16, 3 * clients)) == []
    for site in sites:
        assert logs[site.name].count("was sent SIGKILL") == len(site.deaths) > 0
