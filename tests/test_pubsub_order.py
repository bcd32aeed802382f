"""Subscribers and publishers through cut links, restarts and frozen servers: every
message comes in order, or a gap covers it; who is slow is bounded."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import pytest
from outage_tools import wait_until
from proxy import Proxy
from pubsub_order import (
    SURE,
    UNSURE,
    Broken,
    Faults,
    LoopOfReaders,
    Publisher,
    Sent,
    TaskPublisher,
    TaskReader,
    ThreadReader,
    Track,
    payload_of,
)
from redlane import Client, Gap
from servers import PATIENT, Server

LOST = Gap(("reset", 0.1, 0))


def sent_with(*unsure: int, count: int = 10) -> Sent:
    sent = Sent("n")
    for number in range(count):
        sent.settle(sent.begin(), UNSURE if number in unsure else SURE)
    return sent


@pytest.mark.parametrize(
    ("sent", "events", "match"),
    [
        (sent_with(), [0, 1, 3], "from 1 to 3"),
        (sent_with(), [1], "from -1 to 1"),
        (sent_with(), [0, 1, 1], "1 came after 1"),
        (sent_with(), [0, LOST, 2, 1], "1 came after 2"),
        (sent_with(), [0, LOST, 2, 4], "from 2 to 4"),
        (sent_with(), [0, Gap(("the queue was full", 0.0, 1)), 3], "1 dropped"),
        (sent_with(), [0, Gap(("of another kind", 0.0, 1)), 1], "does not say"),
        (sent_with(), [10], "before it was published"),
        (sent_with(), [b"n 5 torn"], "never published"),
        (sent_with(2), [0, 1, 4], "from 1 to 4"),
        (sent_with(), [0, 1, 2], None),
        (sent_with(), [0, LOST, 2, 3, LOST, 9], None),
        (sent_with(), [0, Gap(("the queue was full", 0.0, 2)), 3], None),
        (sent_with(), [0, Gap(("reset", 0.1, 1)), 5], None),
        (sent_with(2, 3), [0, 1, 4], None),
    ],
)
def test_what_is_found(sent: Sent, events: list[Any], match: str | None) -> None:
    track = Track(sent)

    def follow() -> None:
        for event in events:
            if isinstance(event, Gap):
                track.gap(event)
            elif isinstance(event, bytes):
                track.message(event)
            else:
                track.message(payload_of("n", event))

    if match is None:
        follow()
        return
    with pytest.raises(Broken, match=match):
        follow()


FAST: dict[str, Any] = {}
SLOW: dict[str, Any] = {"max_messages": 50}
WAITS: dict[str, Any] = {"max_messages": 50, "policy": "wait"}
SLOWLY = 0.02


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def live_through(server: Server, seconds: float, restarts: bool, pause: float) -> None:
    sent = [Sent("n"), Sent("m")]
    with Proxy(server.port) as proxy:
        threads = [
            (ThreadReader("direct", sent), server.url, FAST),
            (ThreadReader("thread", sent), proxy.url, FAST),
            (ThreadReader("slow thread", sent, SLOWLY), proxy.url, SLOW),
            (ThreadReader("waiting thread", sent, SLOWLY), proxy.url, WAITS),
        ]
        loops = [
            LoopOfReaders(
                kind,
                [
                    (TaskReader(kind, sent, flighty=True), proxy.url, FAST),
                    (TaskReader(f"slow {kind}", sent, SLOWLY), proxy.url, SLOW),
                    (TaskReader(f"waiting {kind}", sent, SLOWLY), proxy.url, WAITS),
                ],
            )
            for kind in ("asyncio", "uvloop")
        ]
        for thread, url, options in threads:
            thread.start(Client(url, **PATIENT), **options)
        for loop in loops:
            loop.start()
        all_readers = [
            *((reader, options) for reader, _, options in threads),
            *(
                (reader, options)
                for loop in loops
                for reader, _, options in loop.readers
            ),
        ]
        readers = [reader for reader, _ in all_readers]
        publishers = [
            Publisher(sent[0], server.url),
            TaskPublisher(sent[1], proxy.url),
        ]
        for publisher in publishers:
            publisher.thread.start()

        def enough() -> bool:
            """Or somebody has failed."""
            if any(reader.error for reader in readers):
                return True
            return all(
                reader.lost >= 2 if options is FAST else reader.got > 20
                for reader, options in all_readers
            ) and all(
                reader.dropped > 100
                for reader, options in all_readers
                if options is SLOW
            )

        faults = Faults(server, proxy, restarts)
        try:
            faults.run(seconds, enough, pause)
            for publisher in publishers:
                publisher.stop()
            for reader in readers:
                reader.hurry.set()
            proxy.heal()
            publish_the_last(server, sent, readers)
        finally:
            for publisher in publishers:
                publisher.over.set()
            for thread, _, _ in threads:
                thread.stop()
            for loop in loops:
                loop.stop()
        told = [f"{faults.count} faults, {sum(each.sure for each in sent)} messages"]
        print(*told, *readers, sep="\n")
        for reader, options in all_readers:
            reader.check()
            # A machine that stands still may cost a connection too.
            assert reader.lost <= faults.count + 5, reader
            if options is FAST:
                assert reader.dropped == 0, reader
                assert reader.got > sum(each.sure for each in sent) / 20, reader
            else:
                # What waits has a message and a gap of the next connection at most.
                assert reader.most <= 50 + 2 * (options is WAITS), reader
                assert reader.most >= 40, reader
                assert (reader.dropped > 0) == (options is SLOW), reader
    for reader in readers:
        if isinstance(reader, TaskReader) and reader.flighty:
            assert reader.cancelled > 20


def publish_the_last(server: Server, sent: list[Sent], readers: list[Any]) -> None:
    """Until everybody has had it: a connection may be cut still, for it had been told
    to be, and its subscriber gets the one after."""
    end = time.monotonic() + 120
    with Client(server.url, **PATIENT) as publisher:
        while True:
            for each in sent:
                number = each.begin()
                publisher.publish(each.channel, payload_of(each.channel, number))
                each.settle(number, SURE)
            patience = time.monotonic() + 3
            while time.monotonic() < patience:
                if all(reader.has_last() for reader in readers):
                    return
                time.sleep(0.01)
            assert time.monotonic() < end, readers


@pytest.mark.parametrize("restarts", [False, True], ids=["cuts", "restarts"])
def test_in_order_or_covered_by_a_gap(fresh_server: Server, restarts: bool) -> None:
    live_through(fresh_server, 1.5, restarts, 0.1)


@pytest.mark.soak
@pytest.mark.parametrize("restarts", [False, True], ids=["cuts", "restarts"])
def test_in_order_for_minutes(fresh_server: Server, restarts: bool) -> None:
    before, threads = resident(), threading.active_count()
    live_through(fresh_server, 300.0, restarts, 0.6)
    wait_until(lambda: threading.active_count() <= threads, "the end of the threads")
    assert resident() - before < 200_000_000


# --- promise 7: the queue ---------------------------------------------------------


@pytest.mark.skipif(
    "REDLANE_SANITIZED" in os.environ, reason="the sanitizer keeps what is freed"
)
@pytest.mark.parametrize("policy", ["drop", "wait"])
def test_who_does_not_read_costs_no_more_than_its_queue(
    redis_server: Server, policy: str
) -> None:
    """200 MB are published: what stays here is what was allowed, and the rest is
    dropped, or stays with the server, which has a bound of its own."""
    room, size, count = 2_000_000, 100_000, 2000
    client = Client(redis_server.url, **PATIENT)
    gaps: list[Gap] = []
    with client.subscribe(
        "q", policy=policy, max_bytes=room, on_gap=gaps.append
    ) as subscription:

        def arrived() -> int:
            return subscription.waiting + subscription.dropped

        client.publish("q", b"%08d" % 0 + b"x" * size)
        wait_until(lambda: arrived() == 1, "the first")
        before = resident()
        for number in range(1, count):
            client.publish("q", b"%08d" % number + b"x" * size)
            if number % 50 == 0:
                assert subscription.waiting <= room / size + 1
                if policy == "drop":  # who does not keep up loses the connection
                    wait_until(lambda n=number: arrived() > n, f"message {number}")
        wait_until(lambda: subscription.waiting >= room / size - 2, "a full queue")
        assert subscription.waiting <= room / size + 1
        assert resident() - before < 8 * room
        if policy == "drop":
            wait_until(lambda: arrived() == count, "the rest")
        first = subscription.get(timeout=60)
        assert first is not None
        if policy == "drop":
            assert [gap.dropped for gap in gaps] == [int(first[:8])]
        else:
            assert int(first[:8]) == 0
            assert gaps == []
