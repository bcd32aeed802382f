"""A process that takes slots of one identity.

usage: slot_worker.py URL LIMIT TRIES | slot_worker.py URL hold LEASE

The first takes them from eight threads, and prints how often it got one, and how many
were held at once by all processes, at most: each counts itself in and out on a plain
key. The second takes one, says so, and keeps it.
"""

from __future__ import annotations

import sys
import threading

from redlane import Client, Concurrency

THREADS = 8
COUNT = "held"


def compete(client: Client[bytes], limit: int, tries: int) -> list[int]:
    slots = Concurrency(client, limit, lease=300)
    seen: list[int] = []
    gate = threading.Barrier(THREADS)

    def work() -> None:
        gate.wait()
        for _ in range(tries):
            slot = slots.acquire("u")
            if slot:
                seen.append(client.incr(COUNT))
                client.decr(COUNT)
                assert slot.release()

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seen


def main(url: str, limit: str, number: str) -> None:
    with Client(url) as client:
        if limit == "hold":
            slot = Concurrency(client, 1, float(number)).acquire(f"u{number}")
            print(slot.token if slot else "none", flush=True)
            sys.stdin.readline()
            return
        client.ping()
        print("ready", flush=True)
        sys.stdin.readline()
        seen = compete(client, int(limit), int(number))
        print(len(seen), max(seen, default=0), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
