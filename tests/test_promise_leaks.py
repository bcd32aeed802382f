"""Nothing leaks through faults: references, blocks, C memory, descriptors, threads.

The short sizes take seconds; `make soak` runs 100,000 cycles in all.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE

import pytest
from children import started
from proxy import Proxy
from scripted import HELLO_ANSWER, Gone, Peer, scripted
from servers import Server, free_port

SCRIPT = Path(__file__).with_name("fault_cycles.py")


def never_answers(peer: Peer) -> None:
    peer.greet()
    peer.wait_until_gone()


def answers_nonsense(peer: Peer) -> None:
    peer.greet()
    peer.read()
    peer.send(b"*2\r\n$3\r\nabc\r\n%1\r\nnonsense\r\n")
    peer.wait_until_gone()


def greets_with_nonsense(peer: Peer) -> None:
    peer.read()
    peer.send(b"!!!\r\n")
    peer.wait_until_gone()


def refuses(peer: Peer) -> None:
    """As a server does whose password is another."""
    while True:
        peer.read()
        peer.send(b"-WRONGPASS invalid username-password pair\r\n")


def cuts(peer: Peer) -> None:
    """In the middle of a reply, with a reset."""
    peer.greet()
    peer.read()
    peer.send(b"*3\r\n$2000\r\n" + b"x" * 1000)
    peer.reset()
    raise Gone


def loads(peer: Peer) -> None:
    peer.read()
    peer.send(HELLO_ANSWER)
    while True:
        peer.read()
        peer.send(b"-LOADING Redis is loading the dataset in memory\r\n")


@contextlib.contextmanager
def cut_by_the_proxy(server: Server) -> Iterator[str]:
    with Proxy(server.port) as proxy:
        proxy.cut_after = 300  # in the greeting of some servers, after that of others
        yield proxy.url


@contextlib.contextmanager
def killed(server: Server) -> Iterator[str]:
    """Again and again, while somebody has a use for it."""
    stop = threading.Event()

    def kill() -> None:
        while not stop.wait(0.02):
            if b"cmdstat_hello" in server.cli("INFO", "commandstats"):
                server.kill()
                server.start()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield server.url
    finally:
        stop.set()
        killer.join()


SCRIPTS = {
    script.__name__: script
    for script in (
        *(never_answers, answers_nonsense, greets_with_nonsense),
        *(refuses, cuts, loads),
    )
}


def check_faults_leave_nothing(
    program: list[object], processes: int, fresh_server: Server, redis_server: Server
) -> None:
    """Each kind of fault, told by kind=url, in one of the processes of a program, which
    wait most of the time; each has to say that nothing was left."""
    with contextlib.ExitStack() as stack:
        urls = {
            name: stack.enter_context(scripted(s)).url for name, s in SCRIPTS.items()
        }
        urls["refused"] = f"redis://127.0.0.1:{free_port()}"
        urls["killed"] = stack.enter_context(killed(fresh_server))
        urls["cut"] = stack.enter_context(cut_by_the_proxy(redis_server))
        words = [f"{kind}={url}" for kind, url in urls.items()]
        command = [sys.executable, "-W", "error", *program]
        children = [
            stack.enter_context(
                started([*command, *words[first::processes]], stdout=PIPE, stderr=PIPE)
            )
            for first in range(processes)
        ]
        said: list[str] = []
        for child in children:
            out, complaint = child.communicate(timeout=5400)
            assert child.returncode == 0, complaint
            said += out.splitlines()
    assert sorted(said) == sorted(f"{kind}: clean" for kind in urls)


@pytest.mark.parametrize(
    ("rounds", "processes"), [(30, 1), pytest.param(11_200, 3, marks=pytest.mark.soak)]
)
def test_faults_leave_nothing(
    rounds: int, processes: int, fresh_server: Server, redis_server: Server
) -> None:
    check_faults_leave_nothing([SCRIPT, rounds], processes, fresh_server, redis_server)
