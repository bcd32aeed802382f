"""Run by test_hostile_streams.py: asks a hostile server for everything, over and over.

usage: hostile_child.py URL ROUNDS SEED [LOOP]
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import random
import sys
import threading
from collections.abc import Callable

import redlane
import test_hostile_replies
from awaited import awaited
from redlane import Client
from test_hostile_replies import all_calls

THREADS = 4


def work(url: str, rounds: int, seed: int, failures: list[BaseException]) -> None:
    chance = random.Random(seed)
    try:
        for _ in range(rounds // 50):
            client = Client(
                url,
                timeout=chance.choice([0.02, 0.2]),
                connect_timeout=5,
                decode_responses=chance.random() < 0.5,
                max_reply=chance.choice([1000, 1 << 20]),
                fallback=chance.choice(["raise", "memory"]),
                pool_size=2,
            )
            calls: list[Callable[[], object]] = [
                call for call, _ in all_calls(client).values()
            ]
            for _ in range(50):
                with contextlib.suppress(redlane.RedlaneError, UnicodeDecodeError):
                    chance.choice(calls)()
            client.close()
    except BaseException as failure:
        failures.append(failure)
        raise


def main() -> None:
    faulthandler.enable()
    logging.disable(logging.CRITICAL)
    url, rounds, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    modules = sys.modules[__name__], test_hostile_replies
    with awaited(sys.argv[4], *modules) if sys.argv[4:] else contextlib.nullcontext():
        ask(url, rounds, seed)
    with Client("memory://") as engine:
        assert engine.ping()
    print("alive")


def ask(url: str, rounds: int, seed: int) -> None:
    failures: list[BaseException] = []
    threads = [
        threading.Thread(
            target=work, args=(url, rounds // THREADS, seed + number, failures)
        )
        for number in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


if __name__ == "__main__":
    main()
