"""One process of test_counter_processes.py: threads that place pixels on a Mural of
their own, all on one database and one server, while that misbehaves.

It does what it is told by lines, each answered by one: "go", "place" (the same
without reading: a counter that is made anew hides what was not told), "calm" (nothing
is placed any more, and the server has heard everything), "read" (every counter, by each
way to read it). Usage: counter_worker.py URL DATABASE NUMBER USER_TTL TOTAL_TTL
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sys
import threading
from typing import Any

from mural import canvas
from mural.settings import Settings
from mural.store import Pixel, PixelStore
from outage_tools import is_well, wait_until
from redlane import Client

SIZE = 12  # pixels each way
USERS = [f"u{number}" for number in range(6)]
THREADS = 2


class Worker:
    def __init__(self, url: str, database: str, number: int) -> None:
        settings = Settings(redis_url=url, database=database, cooldown=0)
        client = Client(url)
        self.mural = canvas.Mural(client, PixelStore(database), settings)
        self.number = number
        self.placed = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def go(self, kinds: int = 4) -> int:
        self._stop.clear()
        self._threads = [
            threading.Thread(target=self._wander, args=(random.Random(), kinds))
            for _ in range(THREADS)
        ]
        for thread in self._threads:
            thread.start()
        return self.placed

    def place(self) -> int:
        return self.go(kinds=1)

    def calm(self) -> int:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        try:
            wait_until(lambda: is_well(self.mural.client), "calm")
        except AssertionError:
            raise AssertionError(f"not calm: {self.mural.client.health()}") from None
        return self.placed

    def read(self) -> dict[str, list[int | None]]:
        cache = self.mural.cache
        users, total = self.mural.user_pixels, self.mural.total_pixels

        async def read_awaited() -> dict[str, int]:
            counts = {user: await users.aio.get(user) for user in USERS}
            return {**counts, "total": await total.aio.get()}

        counted = {user: users.get(user) for user in USERS}
        counted["total"] = total.get()
        awaited = asyncio.run(read_awaited())
        # As other code reads it; None where it ended between the two.
        named = {user: cache.get(f"user_pixels:{user}") for user in USERS}
        named["total"] = cache.get("total_pixels")
        return {name: [counted[name], awaited[name], named[name]] for name in counted}

    def _wander(self, dice: random.Random, kinds: int) -> None:
        while not self._stop.is_set():
            user = dice.choice(USERS)
            match dice.randrange(kinds):
                case 1:
                    count: Any = self.mural.user_pixels.get(user)
                case 2:
                    count = self.mural.total_pixels.get()
                case 3:
                    count = self.mural.cache.get(f"user_pixels:{user}", 0)
                case _:
                    x, y = dice.randrange(SIZE), dice.randrange(SIZE)
                    self.mural.place(Pixel(x, y, f"#{dice.randrange(99):06X}", user))
                    with self._lock:
                        self.placed += 1
                    continue
            if type(count) is not int:
                raise TypeError(f"a counter is {count!r}")


def main() -> None:
    url, database, number, user_ttl, total_ttl = sys.argv[1:]
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s - %(message)s")
    canvas.USER_TTL = float(user_ttl)
    canvas.TOTAL_TTL = float(total_ttl)
    worker = Worker(url, database, int(number))
    print("ready", flush=True)
    for line in sys.stdin:
        answer = getattr(worker, line.strip())()
        print(json.dumps(answer), flush=True)
    worker.mural.close()


if __name__ == "__main__":
    main()
