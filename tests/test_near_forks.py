"""Forks and exits while the near cache's thread runs, on every kind of link and in
every state of it: the parent's link stays, the child makes its own."""

from __future__ import annotations

import pytest
from children import run_program
from servers import Server
from tls import TlsServer

# Python 3.12 warns of forks among threads, which is what is tried.
QUIET = ("-W", "ignore::DeprecationWarning")

COMMON = """
import os, signal, sys, threading, time
import redlane
from redlane import Cache, Client

url, way = sys.argv[1], sys.argv[2]
client = Client(url, timeout=30, connect_timeout=30)
cache = Cache(client, ttl=600)

@cache
def f(x):
    return cache.get("n", 0)

def near():
    return client.health()["near"] or {"state": "idle"}

def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)

def is_hit(read):
    before = cache.stats()["near_hits"]
    read()
    return cache.stats()["near_hits"] > before

def warm():
    cache.set("k", 1)
    until(lambda: is_hit(lambda: f(1)))
    until(lambda: is_hit(lambda: cache.get("k")))
"""

FORKS = """
def leave(code):
    if way == "exec":
        os.execv("/bin/sh", ["sh", "-c", f"exit {code}"])
    if way == "exit":
        sys.exit(code)
    os._exit(code)

warm()
kept = 0
for turn in range(4):
    before = near()
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(120)
            assert near()["state"] != "on"  # not by the parent's link
            warm()
            assert near()["state"] == "on"
            grandchild = os.fork()
            if grandchild == 0:
                warm()
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]) == 0
            cache.set("turn", turn)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        leave(0)
    idle = os.fork()
    if idle == 0:
        os._exit(0)  # it has done nothing with it
    for each in (child, idle):
        assert os.waitstatus_to_exitcode(os.waitpid(each, 0)[1]) == 0
    # It is the parent's own link that tells it, as before.
    until(lambda: cache.get("turn") == turn)
    warm()
    after = near()
    kept += all(after[name] == before[name] for name in ("links", "flushes"))
# Each time, but for a machine that stood still for seconds meanwhile.
assert kept > 0, (before, after)
print("well")
"""


def url_of(request: pytest.FixtureRequest, link: str) -> str:
    if link == "tls":
        tls: TlsServer = request.getfixturevalue("tls_server")
        return tls.url
    server: Server = request.getfixturevalue(
        "old_server" if link == "resp2" else "redis_server"
    )
    return server.unix_url if link == "unix" else server.url


@pytest.mark.parametrize(
    ("link", "way"),
    [
        *[("tcp", "exit"), ("unix", "exec"), ("tls", "_exit"), ("tls", "exit")],
        ("resp2", "exit"),
    ],
)
def test_children_make_links_of_their_own(
    request: pytest.FixtureRequest, link: str, way: str
) -> None:
    url = url_of(request, link)
    done = run_program(COMMON + FORKS, url, way, options=QUIET, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "well\n", "")


# The link is being made, is refused, or waits for a server that stands still.
STATES = """
if way == "silent":
    warm()
    os.kill(int(sys.argv[3]), signal.SIGSTOP)
    until(lambda: near()["state"] != "on")
elif way == "refused":
    client.execute("ACL", "SETUSER", "default", "-client")
    cache.get("k")
    until(lambda: near()["state"] == "refused")
elif way == "away":
    warm()
    os.kill(int(sys.argv[3]), signal.SIGKILL)
    until(lambda: near()["state"] == "connecting")
child = os.fork()
if child == 0:
    try:
        signal.alarm(120)
        assert near()["state"] in ("idle", "connecting", "refused")
        assert cache.get("nothing") is None
        assert f(3) == 0
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)
    sys.exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print("well", flush=True)
"""


@pytest.mark.parametrize("way", ["idle", "silent", "refused", "away"])
def test_a_fork_and_an_exit_in_every_state(fresh_server: Server, way: str) -> None:
    program = COMMON.replace("=30", "=1") + STATES
    try:
        done = run_program(
            *(program, fresh_server.url, way, fresh_server.pid),
            options=(*QUIET, "-X", "faulthandler"),
            timeout=300,
        )
    finally:
        if way == "silent":
            fresh_server.resume()
    assert (done.returncode, done.stdout) == (0, "well\n"), done.stderr
    assert "Traceback" not in done.stderr
    assert "Fatal" not in done.stderr
