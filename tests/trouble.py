"""What goes wrong with a server and its network, one thing after the other."""

from __future__ import annotations

import collections
import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable

from proxy import Proxy
from servers import ReplyError, Server

PLAIN = 4  # counters without a source, which are made again when they are gone


class Trouble:
    """One misfortune at a time to a server, the proxy before it, and its users.
    `lossless`: only those in which the server loses nothing that it has executed."""

    def __init__(
        self,
        server: Server,
        proxy: Proxy,
        users: list[subprocess.Popen[str]],
        lossless: bool = False,
        chance: random.Random | None = None,
    ) -> None:
        self.server, self.proxy, self.users = server, proxy, users
        self.chance = chance or random.Random(4)
        self.events: collections.deque[str] = collections.deque(maxlen=60)
        self.count = 0
        self.ways: list[tuple[Callable[[], None], int]] = [
            (self.kill_connections, 6),
            (self.pause_clients, 3),
            (self.reset_links, 6),
            (self.cut, 4),
            (self.drip, 3),
            (self.delay, 3),
            (self.freeze, 5),
            (self.forget_scripts, 3),
        ]
        if users:
            self.ways.append((self.freeze_a_user, 2))
        if not lossless:
            self.ways += [
                (self.restart, 3),
                (self.out_of_memory, 3),
                (self.forget_everything, 2),
            ]

    def run(self, seconds: float) -> None:
        """Until the time is over, or a user ends early."""
        end = time.monotonic() + seconds
        # Each kind once, then as they come.
        first = [way for way, _ in self.ways]
        self.chance.shuffle(first)
        while time.monotonic() < end:
            if first:
                way = first.pop()
            else:
                (way,) = self.chance.choices(
                    [way for way, _ in self.ways], [weight for _, weight in self.ways]
                )
            self.strike(way)
            if any(user.poll() is not None for user in self.users):
                return
            self.wait(0.05, 0.6)
        self.events.append(f"{time.monotonic():.3f} calm")

    def strike(self, way: Callable[[], None]) -> None:
        """One of them, now."""
        self.events.append(f"{time.monotonic():.3f} {way.__name__}")
        # The connection that brings the trouble suffers too.
        with contextlib.suppress(OSError, ReplyError):
            way()
        self.count += 1
        self.make_counters()

    def wait(self, least: float, most: float) -> None:
        time.sleep(self.chance.uniform(least, most))

    def make_counters(self) -> None:
        with contextlib.suppress(OSError, ReplyError):
            for number in range(PLAIN):
                self.server.cli("SET", f"plain:{number}", 0, "NX")

    def kill_connections(self) -> None:
        self.server.cli("CLIENT", "KILL", "TYPE", "normal")

    def pause_clients(self) -> None:
        self.server.cli("CLIENT", "PAUSE", self.chance.choice([20, 150, 600]))

    def reset_links(self) -> None:
        self.proxy.reset_all()

    def cut(self) -> None:
        self.proxy.cut_after = self.chance.randrange(200, 6000)
        self.wait(0.1, 0.5)
        self.proxy.cut_after = None

    def drip(self) -> None:
        self.proxy.drip = 0.001
        self.wait(0.1, 0.5)
        self.proxy.drip = 0.0

    def delay(self) -> None:
        self.proxy.delay = self.chance.choice([0.01, 0.1, 0.4])
        self.wait(0.1, 0.8)
        self.proxy.delay = 0.0

    def freeze(self) -> None:
        self.server.pause()
        self.wait(0.05, 1.2)
        self.server.resume()

    def restart(self) -> None:
        self.server.kill()
        self.wait(0.0, 1.5)
        self.server.start()

    def out_of_memory(self) -> None:
        self.server.cli("CONFIG", "SET", "maxmemory", 1)
        self.wait(0.2, 2.0)
        self.server.cli("CONFIG", "SET", "maxmemory", 0)

    def forget_scripts(self) -> None:
        self.server.cli("SCRIPT", "FLUSH")

    def forget_everything(self) -> None:
        self.server.cli("FLUSHALL")

    def freeze_a_user(self) -> None:
        user = self.chance.choice(self.users)
        os.kill(user.pid, signal.SIGSTOP)
        self.wait(0.05, 0.8)
        os.kill(user.pid, signal.SIGCONT)
