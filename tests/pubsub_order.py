"""Publishers of numbered messages, subscribers that know what may be missing, and how
they all live through trouble."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
import zlib
from collections.abc import Callable
from typing import Any

import redlane
from aio import KINDS, end
from outage_tools import wait_until
from proxy import Proxy
from redlane import AsyncClient, Client, Gap, Subscription
from servers import PATIENT, Server

QUEUE_FULL = "the queue was full"
LIMIT = 60.0
UNKNOWN, SURE, UNSURE = 0, 1, 2


class Broken(AssertionError):
    """A message that was lost, doubled, out of order or not what was published."""


def payload_of(channel: str, number: int) -> bytes:
    """A number, and so many bytes that can be of no other."""
    seal = b"%s %d " % (channel.encode(), number)
    return seal + b"%08x" % zlib.crc32(seal) * (1 + number * 37 % 23)


class Sent:
    """What one publisher has sent to its channel. One number is settled before the next
    one is published; one whose call failed may have arrived, and is not sent again."""

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.states = bytearray()  # of each number
        self.sure = 0

    def begin(self) -> int:
        self.states.append(UNKNOWN)
        return len(self.states) - 1

    def settle(self, number: int, state: int) -> None:
        self.states[number] = state
        self.sure += state == SURE


class Track:
    """What one subscriber has got of one channel: everything in order, and nothing
    missing but where gaps say so."""

    def __init__(self, sent: Sent, begin: int = 0) -> None:
        self.sent = sent
        self.last = begin - 1
        self.got = 0
        self.lost = False  # a connection was, since the last message
        self.dropped = 0  # for want of room, since then; of all channels

    def gap(self, gap: Gap) -> None:
        """It says that a connection was lost, that messages had no room, or both."""
        if bool(gap.seconds) != (gap.reason != QUEUE_FULL):
            raise Broken(f"{gap} does not say what it is")
        self.dropped += gap.dropped
        self.lost = self.lost or gap.reason != QUEUE_FULL

    def message(self, payload: bytes) -> None:
        channel = self.sent.channel
        try:
            number = int(payload.split(b" ", 2)[1])
        except (IndexError, ValueError):
            raise Broken(f"{payload!r} was never published") from None
        if payload != payload_of(channel, number):
            raise Broken(f"{payload!r} was never published")
        if number <= self.last:
            raise Broken(f"{channel} {number} came after {self.last}")
        if number >= len(self.sent.states):
            raise Broken(f"{channel} {number} came before it was published")
        missing = self.sent.states[self.last + 1 : number]
        if missing.count(SURE) > self.dropped and not self.lost:
            raise Broken(
                f"{channel}: from {self.last} to {number}, and {self.dropped} dropped"
            )
        self.last = number
        self.got += 1
        self.lost, self.dropped = False, 0


class Reader:
    """A subscriber to all channels, in a thread of its own, or in a task."""

    def __init__(self, name: str, sent: list[Sent], pause: float = 0.0) -> None:
        self.name = name
        # The server has confirmed before anything is published.
        self.tracks = {each.channel: Track(each, len(each.states)) for each in sent}
        self.pause = pause  # seconds after a message: a slow one
        self.hurry = threading.Event()  # no more pauses
        self.chance = random.Random(name)
        self.gaps = self.lost = self.dropped = self.most = 0
        self.error: BaseException | None = None
        self.subscription: Subscription[Any]

    def on_gap(self, gap: Gap) -> None:
        """What it raises would be logged."""
        self.gaps += 1
        self.dropped += gap.dropped
        self.lost += gap.reason != QUEUE_FULL
        try:
            for track in self.tracks.values():
                track.gap(gap)
        except Broken as error:
            self.error = error

    def take(self, message: Any) -> float:
        """How long to rest after it."""
        track = self.tracks[message.channel.decode()]
        track.message(bytes(message))
        self.most = max(self.most, self.subscription.waiting)
        if self.hurry.is_set() or not self.pause:
            return 0.0
        return self.pause * self.chance.random() * 2

    @property
    def got(self) -> int:
        return sum(track.got for track in self.tracks.values())

    def has_last(self) -> bool:
        return self.error is not None or all(
            track.last == len(track.sent.states) - 1 for track in self.tracks.values()
        )

    def check(self) -> None:
        """After its last message."""
        if self.error:
            raise self.error
        assert self.subscription.gaps == self.gaps, self
        assert self.subscription.dropped == self.dropped, self
        if not self.lost:  # each that is missing was counted, and no other
            sent = [track.sent for track in self.tracks.values()]
            sure = sum(each.sure for each in sent)
            all_sent = sum(len(each.states) for each in sent)
            assert sure - self.got <= self.dropped <= all_sent - self.got, self

    def __repr__(self) -> str:
        return (
            f"{self.name}: {self.got} messages, {self.lost} lost connections, "
            f"{self.dropped} dropped, {self.most} waiting at most"
        )


class ThreadReader(Reader):
    def start(self, client: Client[Any], **options: Any) -> None:
        self.subscription = client.subscribe(
            *self.tracks, on_gap=self.on_gap, **options
        )
        assert self.subscription.wait(LIMIT)
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self) -> None:
        try:
            for message in self.subscription:
                rest = self.take(message)
                if rest:
                    self.hurry.wait(rest)
        except BaseException as error:
            self.error = error

    def stop(self) -> None:
        self.subscription.close()
        self.thread.join(LIMIT)
        assert not self.thread.is_alive()


class TaskReader(Reader):
    """`flighty`: what it awaits is cancelled now and then."""

    def __init__(self, *args: Any, flighty: bool = False, **options: Any) -> None:
        super().__init__(*args, **options)
        self.flighty = flighty
        self.cancelled = 0

    async def run(
        self, url: str, began: Callable[[], None], options: dict[str, Any]
    ) -> None:
        try:
            async with (
                AsyncClient(url, **PATIENT) as client,
                client.subscribe(
                    *self.tracks, on_gap=self.on_gap, **options
                ) as self.subscription,
            ):
                assert self.subscription.live
                began()
                while (message := await self.next()) is not None:
                    rest = self.take(message)
                    if rest:
                        await asyncio.sleep(rest)
        except BaseException as error:
            self.error = error
            began()

    async def next(self) -> Any:
        while True:
            waits = asyncio.ensure_future(self.anext())
            if self.flighty and self.chance.random() < 0.2:
                for _ in range(self.chance.randrange(4)):
                    await asyncio.sleep(0)
                waits.cancel()
            try:
                return await waits
            except asyncio.CancelledError:
                self.cancelled += 1

    async def anext(self) -> Any:
        return await anext(self.subscription, None)


class LoopOfReaders:
    """A thread with an event loop, and subscribers that are tasks of it."""

    def __init__(
        self, kind: str, readers: list[tuple[TaskReader, str, dict[str, Any]]]
    ) -> None:
        self.kind, self.readers = kind, readers
        self.complaints: list[Any] = []
        self.began = 0
        self.thread = threading.Thread(target=self.run)

    def start(self) -> None:
        self.thread.start()
        wait_until(lambda: self.began >= len(self.readers), "the subscriptions")

    def one_began(self) -> None:
        self.began += 1

    async def main(self) -> None:
        await asyncio.gather(
            *(
                reader.run(url, self.one_began, options)
                for reader, url, options in self.readers
            )
        )

    def run(self) -> None:
        loop = KINDS[self.kind]()
        loop.set_exception_handler(lambda _, context: self.complaints.append(context))
        try:
            loop.run_until_complete(self.main())
        finally:
            end(loop)

    def stop(self) -> None:
        for reader, _, _ in self.readers:
            reader.subscription.close()
        self.thread.join(LIMIT)
        assert not self.thread.is_alive()
        assert self.complaints == []


# --- publishers -------------------------------------------------------------------


class Publisher:
    """Publishes in a thread, each number by one call; an outage is not waited for."""

    def __init__(self, sent: Sent, url: str) -> None:
        self.sent, self.url = sent, url
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.publish()
        except BaseException as error:
            self.error = error

    def publish(self) -> None:
        sent, chance = self.sent, random.Random(self.sent.channel)
        with Client(self.url, timeout=2, connect_timeout=2) as client:
            while not self.over.is_set():
                number = sent.begin()
                try:
                    client.publish(sent.channel, payload_of(sent.channel, number))
                except redlane.RedlaneError:
                    sent.settle(number, UNSURE)
                    self.over.wait(0.002)
                else:
                    sent.settle(number, SURE)
                if chance.random() < 0.02:
                    self.over.wait(0.01)

    def stop(self) -> None:
        self.over.set()
        self.thread.join(LIMIT)
        assert not self.thread.is_alive()
        if self.error:
            raise self.error


class TaskPublisher(Publisher):
    """The same on an event loop."""

    def publish(self) -> None:
        asyncio.run(self.publish_all())

    async def publish_all(self) -> None:
        sent, chance = self.sent, random.Random(self.sent.channel)
        async with AsyncClient(self.url, timeout=2, connect_timeout=2) as client:
            while not self.over.is_set():
                number = sent.begin()
                try:
                    await client.publish(sent.channel, payload_of(sent.channel, number))
                except redlane.RedlaneError:
                    sent.settle(number, UNSURE)
                    await asyncio.sleep(0.002)
                else:
                    sent.settle(number, SURE)
                if chance.random() < 0.02:
                    await asyncio.sleep(0.01)


# --- trouble ----------------------------------------------------------------------


class Faults:
    """Cuts in the middle of messages, resets, killed connections; restarts and frozen
    servers, if wanted. Each costs a subscriber one connection at most."""

    def __init__(self, server: Server, proxy: Proxy, restarts: bool) -> None:
        self.server, self.proxy, self.restarts = server, proxy, restarts
        self.chance = random.Random(5)
        self.count = 0

    def one(self) -> None:
        chance, proxy, server = self.chance, self.proxy, self.server
        self.count += 1
        kind = chance.randrange(6 if self.restarts else 4)
        if kind == 0:
            proxy.reset_all()
        elif kind == 1:
            proxy.cut_in(chance.randrange(2000))
        elif kind == 2:
            proxy.cut_in(chance.randrange(2000), reset=True)
        elif kind == 3:
            server.cli("CLIENT", "KILL", "TYPE", "pubsub")
        elif chance.random() < 0.5:
            server.kill()
            time.sleep(chance.uniform(0.0, 0.5))
            server.start()
        else:
            server.pause()
            time.sleep(chance.uniform(0.0, 0.5))
            server.resume()

    def run(self, seconds: float, enough: Callable[[], bool], pause: float) -> None:
        """For so long, and until it has had its effect: on a machine that has more to
        do, connections need some time between the faults."""
        over = time.monotonic() + seconds
        while time.monotonic() < over or not enough():
            assert time.monotonic() < over + 2 * LIMIT
            late = time.monotonic() > over
            time.sleep(self.chance.uniform(0.01, 2 * (1.0 if late else pause)))
            with contextlib.suppress(ConnectionError):  # the server's own, that is
                self.one()
