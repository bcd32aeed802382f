"""One process of test_soak_mixed.py: threads that use every tool while the server and
the network misbehave, and that know what each answer may be.

A value carries its key, its writer, the number of the write and a checksum. Each
register has one writer, so that what its readers in the same process may see is known
without a lock: nothing, or the last write (or delete) that had returned before the read
began, or a later one that has begun.

It runs until it reads a line, proves that it is on Redis again, and prints a report as
JSON. Usage: soak_worker.py URL PROXY_URL NUMBER THREADS
"""

from __future__ import annotations

import collections
import contextlib
import faulthandler
import gc
import json
import logging
import os
import random
import statistics
import sys
import threading
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from redlane import Cache, Client, Counter, RedlaneError, VideoCache

REGISTERS = 8  # of a thread, of each kind
SHARED = 40  # keys that all processes write
PLAIN = 4  # counters that all processes add to
PATIENCE = 60.0
SLOWEST = 60.0  # seconds that no call may take; far above any deadline here

URL, PROXY_URL = sys.argv[1], sys.argv[2]
NUMBER, THREADS = int(sys.argv[3]), int(sys.argv[4])


class Wrong(Exception):
    """What no policy allows."""


def made(key: str, number: int) -> dict[str, Any]:
    pad = (f"{key}-{number}-" * 40)[: number * 53 % 900]
    return {
        "k": key,
        "w": NUMBER,
        "n": number,
        "pad": pad,
        "sum": zlib.crc32(f"{key} {NUMBER} {number} {pad}".encode()),
    }


def check_made(key: str, got: Any) -> None:
    """That it is the whole value of this key, whoever wrote it."""
    try:
        text = f"{key} {got['w']} {got['n']} {got['pad']}"
        good = got["k"] == key and got["sum"] == zlib.crc32(text.encode())
    except (TypeError, KeyError):
        good = False
    if not good:
        raise Wrong(f"{key} holds {str(got)[:200]}")


class Register:
    """A key with one writer; `begun` and `done` number its writes and deletes."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.begun = 0
        self.done = 0
        # Numbers of writes of which nobody knows, from and to; these may come late.
        self.unsure: collections.deque[range] = collections.deque(maxlen=30)

    def check(self, got: Any, floor: int) -> None:
        """That it was right to read this after `floor` was done."""
        if got is None:
            return
        check_made(self.key, got)
        if floor <= got["n"] <= self.begun:
            return
        if not any(got["n"] in numbers for numbers in self.unsure):
            raise Wrong(f"{self.key}: read {got['n']}, not {floor}…{self.begun}")


class Truth:
    """What a cached function computes from, changed before each invalidation."""

    def __init__(self) -> None:
        self.version = 0
        self.told = 0  # the newest version whose invalidation has returned
        self.lock = threading.Lock()

    @contextlib.contextmanager
    def changed(self) -> Iterator[None]:
        """Around an invalidation."""
        with self.lock:
            self.version += 1
            version = self.version
        yield
        with self.lock:
            self.told = max(self.told, version)

    def check(self, key: str, floor: int, got: Any) -> None:
        """That a call may give this that began when `floor` was told."""
        check_made(key, got)
        if not floor <= got["n"] <= self.version:
            raise Wrong(f"{key}: {got['n']}, not {floor}…{self.version}")


class Tools:
    """What all threads of the process share, on one link: odd processes go through the
    proxy."""

    def __init__(self) -> None:
        url = PROXY_URL if NUMBER % 2 else URL
        small = {"max_memory": 4 << 20, "pool_size": 16}
        self.client = Client(url, **small)
        self.cache = Cache(self.client, prefix="soak", ttl=120)
        self.video = VideoCache(self.client, lazy=True)
        self.plain = Counter(self.client, "plain:{id}")
        self.truths = [Truth() for _ in range(REGISTERS)]
        self.counted = self.cache(name=f"load{NUMBER}")(self.load)
        self.tag_truths = [Truth() for _ in range(REGISTERS)]
        self.tag = f"p{NUMBER}:" + "{number}"
        # Old soon and often: what is returned meanwhile is to be as true.
        self.tagged = self.cache(
            name=f"tagged{NUMBER}",
            ttl=0.5,
            stale=5,
            on_error="stale",
            tags=[self.tag],
        )(self.load_tagged)
        self.others = self.cache(name="shared")(self.load_shared)

    def load(self, number: int) -> dict[str, Any]:
        version = self.truths[number].version
        time.sleep(random.random() * 0.003)
        return made(f"truth{number}", version)

    def load_tagged(self, number: int) -> dict[str, Any]:
        version = self.tag_truths[number].version
        time.sleep(random.random() * 0.003)
        if random.random() < 0.05:
            raise LookupError
        return made(f"tagged{number}", version)

    def load_shared(self, number: int) -> dict[str, Any]:
        return made(f"shared{number}", number)


class Worker:
    """One thread's part: its own registers and counters, and a look at the others'."""

    def __init__(self, tools: Tools, number: int, peers: list[Worker]) -> None:
        self.tools = tools
        self.peers = peers
        self.name = f"{NUMBER}.{number}"
        self.chance = random.Random(NUMBER * 1000 + number)
        self.registers = [
            Register(f"r:{self.name}:{index}") for index in range(REGISTERS)
        ]
        self.raw = [Register(f"raw:{self.name}:{index}") for index in range(REGISTERS)]
        self.pixels = [0] * REGISTERS
        self.sourced = Counter(
            tools.client,
            f"sourced:{self.name}:" + "{id}",
            ttl=300,
            source=lambda id: self.pixels[id],
        )
        self.plain = [0] * PLAIN  # additions to those counters, begun
        self.increments = 0  # of the raw counter, begun
        self.additions = 0  # of the cache's, begun
        self.events: collections.deque[str] = collections.deque(maxlen=30)
        self.calls = 0
        self.refused = 0
        self.slowest = 0.0
        self.ways: list[tuple[Callable[[], None], int]] = [
            (self.read, 20),
            (self.write, 10),
            (self.delete, 5),
            (self.many, 3),
            (self.invalidate_own, 1),
            (self.share, 6),
            (self.get_or_set, 5),
            (self.call_cached, 12),
            (self.call_shared, 4),
            (self.invalidate_cached, 3),
            (self.call_tagged, 12),
            (self.invalidate_tag, 3),
            (self.place, 8),
            (self.count_plain, 4),
            (self.count_cached, 4),
            (self.use_video, 6),
            (self.raw_register, 8),
            (self.raw_pipeline, 3),
            (self.raw_count, 4),
            (self.look, 1),
        ]

    def step(self) -> None:
        """One call of some kind; notes how it went."""
        (way,) = self.chance.choices(
            [way for way, _ in self.ways], [weight for _, weight in self.ways]
        )
        begin = time.monotonic()
        try:
            way()
            outcome = "ok"
        except BaseException as error:
            outcome = repr(error)
            raise
        finally:
            took = time.monotonic() - begin
            self.calls += 1
            self.slowest = max(self.slowest, took)
            self.events.append(f"{begin:.3f} +{took:.3f} {way.__name__}: {outcome}")
        if took > SLOWEST:
            raise Wrong(f"{way.__name__} took {took:.1f} s")

    # --- a cache ------------------------------------------------------------------

    def read(self) -> None:
        """A register of any thread of this process, or of another process."""
        if self.chance.random() < 0.2:
            other = f"r:{self.chance.randrange(4)}.{self.chance.randrange(THREADS)}:0"
            got = self.tools.cache.get(other)
            if got is not None:
                check_made(other, got)
            return
        register = self.chance.choice(self.chance.choice(self.peers).registers)
        floor = register.done
        register.check(self.tools.cache.get(register.key), floor)

    def write(self, register: Register | None = None) -> None:
        register = register or self.chance.choice(self.registers)
        number = register.begun = register.begun + 1
        self.tools.cache.set(register.key, made(register.key, number))
        register.done = number

    def delete(self) -> None:
        register = self.chance.choice(self.registers)
        number = register.begun = register.begun + 1
        self.tools.cache.delete(register.key)
        register.done = number

    def many(self) -> None:
        chosen = self.chance.sample(self.registers, 3)
        floors = [register.done for register in chosen]
        found = self.tools.cache.get_many([register.key for register in chosen])
        for register, floor in zip(chosen, floors, strict=True):
            register.check(found.get(register.key), floor)
        for register in chosen:
            register.begun += 1
        keys = [register.key for register in chosen]
        if self.chance.random() < 0.3:
            self.tools.cache.delete_many(keys)
        else:
            self.tools.cache.set_many(
                {
                    register.key: made(register.key, register.begun)
                    for register in chosen
                }
            )
        for register in chosen:
            register.done = register.begun

    def invalidate_own(self) -> None:
        for register in self.registers:
            register.begun += 1
        self.tools.cache.invalidate(f"soak:r:{self.name}:*")
        for register in self.registers:
            register.done = register.begun

    def share(self) -> None:
        key = f"all{self.chance.randrange(SHARED)}"
        if self.chance.random() < 0.5:
            self.tools.cache.set(key, made(key, self.chance.randrange(10_000)))
            return
        got = self.tools.cache.get(key)
        if got is not None:
            check_made(key, got)

    def get_or_set(self) -> None:
        key = f"computed{self.chance.randrange(SHARED)}"
        number = self.chance.randrange(10_000)
        check_made(key, self.tools.cache.get_or_set(key, lambda: made(key, number), 5))
        if self.chance.random() < 0.1:
            self.tools.cache.delete(key)

    # --- a cached function --------------------------------------------------------

    def call_cached(self) -> None:
        number = self.chance.randrange(REGISTERS)
        truth = self.tools.truths[number]
        floor = truth.told
        truth.check(f"truth{number}", floor, self.tools.counted(number))

    def invalidate_cached(self) -> None:
        number = self.chance.randrange(REGISTERS)
        with self.tools.truths[number].changed():
            if self.chance.random() < 0.8:
                self.tools.counted.invalidate(number)
            else:
                self.tools.counted.invalidate_all()

    def call_tagged(self) -> None:
        number = self.chance.randrange(REGISTERS)
        truth = self.tools.tag_truths[number]
        floor = truth.told
        with contextlib.suppress(LookupError):  # it raises, and there is no old result
            truth.check(f"tagged{number}", floor, self.tools.tagged(number))

    def invalidate_tag(self) -> None:
        numbers = self.chance.sample(range(REGISTERS), self.chance.choice([1, 1, 3]))
        with contextlib.ExitStack() as stack:
            for number in numbers:
                stack.enter_context(self.tools.tag_truths[number].changed())
            tags = [self.tools.tag.format(number=number) for number in numbers]
            self.tools.cache.invalidate_tags(*tags)

    def call_shared(self) -> None:
        number = self.chance.randrange(SHARED)
        check_made(f"shared{number}", self.tools.others(number))
        if self.chance.random() < 0.1:
            self.tools.others.invalidate(number)

    # --- counters -----------------------------------------------------------------

    def place(self) -> None:
        """A counter with a source, of this thread alone: always the source's."""
        index = self.chance.randrange(REGISTERS)
        if self.chance.random() < 0.5:
            self.pixels[index] += 1
            got = self.sourced.increment(index)
            if got is None:
                return
        else:
            got = self.sourced.get(index)
        if got != self.pixels[index]:
            raise Wrong(f"{self.sourced.key(index)} is {got}, not {self.pixels[index]}")

    def count_plain(self) -> None:
        """A counter of all processes without a source; only the driver makes it."""
        index = self.chance.randrange(PLAIN)
        self.plain[index] += 1
        got = self.tools.plain.increment(index)
        if got is not None and got < 1:
            raise Wrong(f"a plain counter is {got}")

    def count_cached(self) -> None:
        self.additions += 1
        got = self.tools.cache.increment(f"added:{self.name}")
        if not 1 <= got <= self.additions:
            raise Wrong(f"{got} after at most {self.additions} additions")

    # --- videos -------------------------------------------------------------------

    def use_video(self) -> None:
        card = f"card {self.chance.randrange(SHARED)}"
        words = [str(self.chance.randrange(3))]
        url = f"https://example.org/{card}/{words[0]}.mp4"
        if self.chance.random() < 0.4:
            self.tools.video.set(card, words, url, self.chance.random() < 0.5)
        else:
            got = self.tools.video.get(card, words)
            if got not in (None, url):
                raise Wrong(f"the video of {card} {words} is {got!r}")

    # --- raw commands: right answers or redlane's own errors -----------------------

    def raw_register(self) -> None:
        register = self.chance.choice(self.raw)
        try:
            if self.chance.random() < 0.5:
                register.begun += 1
                value = json.dumps(made(register.key, register.begun))
                self.tools.client.set(register.key, value)
                if register.begun > register.done + 1:
                    register.unsure.append(range(register.done + 1, register.begun))
                register.done = register.begun
            else:
                got = self.tools.client.get(register.key)
                register.check(got and json.loads(got), register.done)
        except RedlaneError:
            self.refused += 1

    def raw_pipeline(self) -> None:
        tags = [f"{self.name}:{self.calls}:{index}" for index in range(5)]
        pipe = self.tools.client.pipeline(transaction=self.chance.random() < 0.3)
        for tag in tags:
            pipe.execute_command("ECHO", tag)
        try:
            got = pipe.execute()
        except RedlaneError:
            self.refused += 1
            return
        if got != [tag.encode() for tag in tags]:
            raise Wrong(f"a pipeline of {tags} brought {got}")

    def raw_count(self) -> None:
        self.increments += 1
        try:
            got = self.tools.client.incr(f"counted:{self.name}")
        except RedlaneError:
            self.refused += 1
            return
        if not 1 <= got <= self.increments:
            raise Wrong(f"{got} after at most {self.increments} increments")

    def look(self) -> None:
        if self.tools.client.health()["mode"] not in ("redis", "raise"):
            self.tools.cache.stats()

    # --- when all is well again ----------------------------------------------------

    def prove(self) -> None:
        """The tools are on Redis, and read there what they have written."""
        tools = self.tools
        for register in self.registers:
            register.check(tools.cache.get(register.key), register.done)
            self.write(register)
            until(lambda r=register: self.on_server(r), f"{register.key} on Redis")
        for index, pixels in enumerate(self.pixels):
            got = self.sourced.get(index)
            if got != pixels:
                raise Wrong(f"{self.sourced.key(index)} is {got}, not {pixels}")
            until(lambda i=index: self.is_counted(i), f"pixels {index} on Redis")
        for number, truth in enumerate(tools.truths):
            truth.check(f"truth{number}", truth.told, tools.counted(number))
        until(self.video_is_kept, "a video on Redis")

    def on_server(self, register: Register) -> bool:
        got = self.tools.client.get(f"soak:{register.key}")
        if got is not None and json.loads(got)["n"] == register.begun:
            return True
        self.write(register)  # the machine was too slow for a time-out
        return False

    def is_counted(self, index: int) -> bool:
        found = self.tools.client.get(self.sourced.key(index))
        return found is not None and int(found) == self.sourced.get(index)

    def video_is_kept(self) -> bool:
        url = f"https://example.org/{self.name}.mp4"
        self.tools.video.set(self.name, ["end"], url, True)
        return self.tools.video.get(self.name, ["end"]) == url


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            if condition():
                return
        except RedlaneError as error:
            what = f"{what} ({error})"[:300]
        if time.monotonic() > end:
            raise Wrong(f"never came: {what}")
        time.sleep(0.05)


# --- what must not grow -----------------------------------------------------------


def sample() -> dict[str, int]:
    gc.collect()
    return {
        "kilobytes": int(Path("/proc/self/statm").read_text().split()[1]) * 4,
        "blocks": sys.getallocatedblocks(),
        "files": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
    }


def summary(samples: list[dict[str, int]]) -> dict[str, dict[str, float]]:
    """The middle of the first and of the last quarter after warming up."""
    warm = samples[len(samples) // 4 :]
    quarter = max(1, len(warm) // 4)
    return {
        name: {
            "first": statistics.median(taken[name] for taken in warm[:quarter]),
            "last": statistics.median(taken[name] for taken in warm[-quarter:]),
        }
        for name in samples[0]
    }


def main() -> None:
    faulthandler.enable()
    logging.disable(logging.CRITICAL)
    tools = Tools()
    workers: list[Worker] = []
    workers += [Worker(tools, number, workers) for number in range(THREADS)]
    stop = threading.Event()
    complaints: list[str] = []

    def work(worker: Worker, body: Callable[[], None]) -> None:
        try:
            body()
        except BaseException:
            lines = [traceback.format_exc(), f"last calls of {worker.name}:"]
            complaints.append("\n".join([*lines, *worker.events]))
            stop.set()

    def run(worker: Worker) -> None:
        while not stop.is_set():
            worker.step()

    def together(body: Callable[[Worker], None]) -> None:
        threads = [
            threading.Thread(target=work, args=(worker, lambda w=worker: body(w)))
            for worker in workers
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def listen() -> None:
        sys.stdin.readline()
        stop.set()

    samples: list[dict[str, int]] = []

    def watch() -> None:
        while not stop.wait(1):
            samples.append(sample())

    helpers = [threading.Thread(target=body, daemon=True) for body in (listen, watch)]
    for helper in helpers:
        helper.start()
    print("running", flush=True)
    together(run)
    if not complaints:
        helpers[0].join()
        end = time.monotonic() + PATIENCE
        while tools.client.health()["mode"] != "redis" and time.monotonic() < end:
            tools.cache.get("a")
            time.sleep(0.05)
        together(Worker.prove)
    report = {
        "wrong": complaints,
        "mode": tools.client.health()["mode"],
        "calls": sum(worker.calls for worker in workers),
        "refused": sum(worker.refused for worker in workers),
        "slowest": max(worker.slowest for worker in workers),
        "plain": [
            sum(begun) for begun in zip(*(w.plain for w in workers), strict=True)
        ],
        "growth": summary(samples or [sample()]),
    }
    print(json.dumps(report), flush=True)
    tools.client.close()


if __name__ == "__main__":
    main()
