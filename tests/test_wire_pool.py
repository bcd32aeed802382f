"""Connections: how many there are, when one is dropped, when a request goes twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
import redlane
from scripted import Gone, Peer, answering, scripted
from servers import Server


def run_threads(count: int, body: Callable[[int], object]) -> list[object]:
    """Runs body(i) in `count` threads; results, or the exceptions raised, in order."""
    results: list[object] = [None] * count

    def run(i: int) -> None:
        try:
            results[i] = body(i)
        except Exception as error:
            results[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    return results


def client_count(server: Server) -> int:
    """Connections to the server beside the one that asks."""
    return len(server.cli("CLIENT", "LIST").decode().splitlines()) - 1


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def eventually(call: Callable[[], object], seconds: float = 60) -> object:
    """The result of a call once the client's breaker has found the server again."""
    end = time.monotonic() + seconds
    while True:
        try:
            return call()
        except redlane.ConnectionError:
            assert time.monotonic() < end
            time.sleep(0.01)


def test_one_connection_serves_one_thread(fresh_server: Server) -> None:
    client = redlane.Client(fresh_server.url, timeout=60, connect_timeout=60)
    for _ in range(50):
        client.execute("PING")
    assert client_count(fresh_server) == 1
    client.close()
    wait_for(lambda: client_count(fresh_server) == 0)


def test_threads_never_see_the_reply_of_another(redis_server: Server) -> None:
    client = redlane.Client(
        redis_server.url, timeout=60, connect_timeout=60, pool_size=4
    )

    def body(i: int) -> bool:
        return all(
            client.execute("ECHO", f"{i}:{n}") == f"{i}:{n}".encode()
            for n in range(200)
        )

    assert run_threads(16, body) == [True] * 16
    client.close()


def test_the_pool_is_bounded(fresh_server: Server) -> None:
    client = redlane.Client(
        fresh_server.url, timeout=60, connect_timeout=60, pool_size=3, name="bounded"
    )
    highest = []

    def body(i: int) -> None:
        for _ in range(30):
            client.execute("PING")
        listed = fresh_server.cli("CLIENT", "LIST").decode()
        highest.append(listed.count("name=bounded"))

    assert run_threads(12, body) == [None] * 12
    assert max(highest) <= 3
    client.close()


def test_waiting_for_a_connection_ends_with_the_deadline() -> None:
    """One connection, each answer takes 0.3 s, twelve callers with 1 s each."""

    def script(peer: Peer) -> None:
        peer.greet()
        while True:
            peer.read()
            time.sleep(0.3)
            peer.send(b"+PONG\r\n")

    with scripted(script) as server:
        client = redlane.Client(server.url, timeout=1, connect_timeout=1, pool_size=1)
        results = run_threads(12, lambda _: client.execute("ANY"))
        errors = [error for error in results if error != b"PONG"]
        assert all(isinstance(error, redlane.TimeoutError) for error in errors)
        assert any("connections of the pool were busy" in str(e) for e in errors)
        client.close()


def test_a_connection_that_comes_free_goes_to_one_who_waits(
    redis_server: Server,
) -> None:
    client = redlane.Client(
        redis_server.url, timeout=60, connect_timeout=60, pool_size=1
    )
    assert run_threads(20, lambda i: client.execute("ECHO", str(i))) == [
        str(i).encode() for i in range(20)
    ]
    client.close()


def test_the_server_closes_an_idle_connection(fresh_server: Server) -> None:
    client = redlane.Client(fresh_server.url, timeout=60, connect_timeout=60)
    client.execute("SET", "n", "0")
    for round_number in range(1, 4):
        assert (
            fresh_server.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes") == 1
        )
        assert client.execute("INCR", "n") == round_number
    client.close()


def test_restarted_server(fresh_server: Server) -> None:
    client = redlane.Client(fresh_server.url, timeout=60, connect_timeout=60)
    client.execute("PING")
    fresh_server.kill()
    with pytest.raises(redlane.ConnectionError, match="Connection refused"):
        client.execute("PING")
    fresh_server.start()
    assert eventually(lambda: client.execute("PING")) == b"PONG"
    client.close()


def silent_death(peer: Peer) -> None:
    """Serves one command on the first connection, swallows the next and closes: what a
    client sees whose pooled connection dies while it sends."""
    peer.greet()
    peer.read()
    if peer.number == 0:
        peer.send(b"+first\r\n")
        peer.read()
        peer.reset()
        return
    peer.send(b"+again\r\n")
    peer.read()
    peer.send(b"+again\r\n")
    peer.wait_until_gone()


def test_a_read_goes_twice_over_a_stale_connection() -> None:
    with scripted(silent_death) as server:
        client = redlane.Client(server.url, timeout=60, connect_timeout=60)
        assert client.execute("ANY") == b"first"
        assert client.execute("GET", "k") == b"again"
        assert server.commands.count([b"GET", b"k"]) == 2
        client.close()


@pytest.mark.parametrize(
    "command", [("INCR", "k"), ("PUBLISH", "c", "m"), ("SET", "k", "v"), ("NOSUCH",)]
)
def test_a_write_goes_once(command: tuple[str, ...]) -> None:
    with scripted(silent_death) as server:
        client = redlane.Client(server.url, timeout=60, connect_timeout=60)
        assert client.execute("ANY") == b"first"
        with pytest.raises(redlane.ConnectionError):
            client.execute(*command)
        assert server.commands.count([word.encode() for word in command]) == 1
        client.close()


def test_a_read_goes_once_over_a_fresh_connection() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.read()

    with scripted(script) as server:
        client = redlane.Client(server.url, timeout=60, connect_timeout=60)
        with pytest.raises(redlane.ConnectionError):
            client.execute("GET", "k")
        assert server.connections == 1
        client.close()


def test_a_read_goes_no_more_than_twice() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        if peer.number == 0:
            peer.read()
            peer.send(b"+first\r\n")
        peer.read()

    with scripted(script) as server:
        client = redlane.Client(server.url, timeout=60, connect_timeout=60)
        assert client.execute("ANY") == b"first"
        with pytest.raises(redlane.ConnectionError):
            client.execute("GET", "k")
        assert server.connections == 2
        client.close()


def test_a_read_goes_once_when_the_answer_had_begun() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.read()
        peer.send(b"+first\r\n")
        peer.read()
        peer.send(b"$100\r\nhalf")

    with scripted(script) as server:
        client = redlane.Client(server.url, timeout=60, connect_timeout=60)
        assert client.execute("ANY") == b"first"
        with pytest.raises(redlane.ConnectionError):
            client.execute("GET", "k")
        assert server.connections == 1
        client.close()


def test_a_pipeline_goes_twice_only_if_it_reads() -> None:
    for method, sent in (("get", 2), ("incr", 1)):
        with scripted(silent_death) as server:
            client = redlane.Client(server.url, timeout=60, connect_timeout=60)
            assert client.execute("ANY") == b"first"
            pipeline = client.pipeline()
            pipeline.get("a")
            getattr(pipeline, method)("b")
            if sent == 2:
                assert pipeline.execute(raise_on_error=False) == [b"again", b"again"]
            else:
                with pytest.raises(redlane.ConnectionError):
                    pipeline.execute()
            assert server.commands.count([b"GET", b"a"]) == sent
            client.close()


def test_full_server_makes_the_pool_smaller() -> None:
    """Two connections are served, the third is refused: its caller waits for one."""
    lock = threading.Lock()
    served = [0]

    def script(peer: Peer) -> None:
        with lock:
            served[0] += 1
            refused = served[0] > 2
        if refused:
            peer.read()
            peer.send(b"-ERR max number of clients reached\r\n")
            return
        peer.greet()
        while True:
            command = peer.read()
            time.sleep(0.02)
            peer.send(b"$%d\r\n%s\r\n" % (len(command[1]), command[1]))

    with scripted(script) as server:
        client = redlane.Client(server.url, timeout=60, connect_timeout=60)
        results = run_threads(12, lambda i: client.execute("ECHO", str(i)))
        assert results == [str(i).encode() for i in range(12)]
        client.close()


def test_blocking_command_has_a_connection_of_its_own(fresh_server: Server) -> None:
    client = redlane.Client(
        fresh_server.url, timeout=60, connect_timeout=60, pool_size=1
    )
    popped: list[object] = []
    waiter = threading.Thread(
        target=lambda: popped.append(client.execute("BLPOP", "queue", "0"))
    )
    waiter.start()
    wait_for(lambda: b"cmd=blpop" in fresh_server.cli("CLIENT", "LIST"))
    assert client.execute("PING") == b"PONG"
    assert client_count(fresh_server) == 2
    assert client.execute("RPUSH", "queue", "job") == 1
    waiter.join(60)
    assert popped == [[b"queue", b"job"]]
    wait_for(lambda: client_count(fresh_server) == 1)
    client.close()


def test_blocking_time_comes_on_top_of_the_deadline(redis_server: Server) -> None:
    for unit in (0.1, 0.4, 1.6):  # a busy machine gets more of both, and of the rest
        client = redlane.Client(redis_server.url, timeout=2 * unit, connect_timeout=60)
        try:
            assert client.execute("BLPOP", "none", str(3 * unit)) is None
            return
        except redlane.TimeoutError:
            if unit > 1:
                raise
        finally:
            client.close()


def test_close(redis_server: Server) -> None:
    client = redlane.Client(redis_server.url, timeout=60, connect_timeout=60)
    client.execute("PING")
    client.close()
    client.close()
    with pytest.raises(redlane.ConnectionError, match="closed"):
        client.execute("PING")
    with pytest.raises(redlane.ConnectionError, match="closed"):
        client.execute("BLPOP", "q", "1")


def test_close_while_a_call_is_under_way() -> None:
    entered, release = threading.Event(), threading.Event()
    closed: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.greet()
        peer.read()
        entered.set()
        release.wait(60)
        peer.send(b"+late\r\n")
        closed.append(peer.wait_until_gone())

    with scripted(script) as server:
        client = redlane.Client(server.url, timeout=60, connect_timeout=60)
        result: list[object] = []
        caller = threading.Thread(target=lambda: result.append(client.execute("ANY")))
        caller.start()
        assert entered.wait(60)
        client.close()
        release.set()
        caller.join(60)
        assert result == [b"late"]
        wait_for(lambda: closed == [b""])


def test_transaction(redis_server: Server) -> None:
    client = redlane.Client(redis_server.url, timeout=60, connect_timeout=60)
    pipeline = client.pipeline(transaction=True)
    pipeline.set("a", "1")
    pipeline.incr("a")
    pipeline.get("a")
    assert pipeline.execute()[1:] == [2, b"2"]
    client.close()


def test_transaction_is_one_write_between_multi_and_exec() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        commands = [peer.read() for _ in range(4)]
        assert [c[0] for c in commands] == [b"MULTI", b"GET", b"GET", b"EXEC"]
        peer.send(b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n$1\r\na\r\n$-1\r\n")
        peer.wait_until_gone()

    with scripted(script) as server:
        client = redlane.Client(server.url, timeout=60, connect_timeout=60)
        pipeline = client.pipeline(transaction=True)
        pipeline.get("a")
        pipeline.get("b")
        assert pipeline.execute() == [b"a", None]
        client.close()


def test_error_inside_a_transaction(redis_server: Server) -> None:
    client = redlane.Client(redis_server.url, timeout=60, connect_timeout=60)
    client.execute("LPUSH", "list", "x")
    pipeline = client.pipeline(transaction=True)
    pipeline.set("a", "1")
    pipeline.incr("list")
    pipeline.get("a")
    results = pipeline.execute(raise_on_error=False)
    assert type(results[1]) is redlane.WrongTypeError
    assert results[2] == b"1"
    client.close()


def test_aborted_transaction() -> None:
    wire = (
        b"+OK\r\n-OOM command not allowed when used memory > 'maxmemory'.\r\n"
        b"-EXECABORT Transaction discarded because of previous errors.\r\n"
    )
    with scripted(answering(b"+PONG\r\n", wire)) as server:
        client = redlane.Client(server.url, timeout=60, connect_timeout=60)
        client.execute("ANY")
        pipeline = client.pipeline(transaction=True)
        pipeline.set("a", "1")
        with pytest.raises(redlane.ExecAbortError) as caught:
            pipeline.execute()
        assert type(caught.value.__context__) is redlane.OutOfMemoryError
        client.close()


@pytest.mark.parametrize("answer", [b"*-1\r\n", b"*0\r\n", b"+OK\r\n"])
def test_transaction_without_its_result(answer: bytes) -> None:
    with scripted(answering(b"+PONG\r\n", b"+OK\r\n+QUEUED\r\n" + answer)) as server:
        client = redlane.Client(server.url, timeout=60, connect_timeout=60)
        client.execute("ANY")
        pipeline = client.pipeline(transaction=True)
        pipeline.get("a")
        with pytest.raises(redlane.ReplyError):
            pipeline.execute()
        client.close()


def test_many_connections_die_under_load(fresh_server: Server) -> None:
    """Every call either answers rightly or raises: no reply of another."""
    client = redlane.Client(
        fresh_server.url, timeout=60, connect_timeout=60, pool_size=8
    )
    end = time.monotonic() + 1.5
    stop = threading.Event()
    wrong: list[object] = []

    def body(i: int) -> int:
        n = 0
        while time.monotonic() < end or n <= 10:
            n += 1
            tag = f"{i}:{n}".encode()
            try:
                answer = client.execute("ECHO", tag)
            except redlane.ConnectionError:
                continue
            if answer != tag:
                wrong.append((tag, answer))
        return n

    def killer() -> None:
        while not stop.wait(0.02):
            fresh_server.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    assassin = threading.Thread(target=killer)
    assassin.start()
    counts = run_threads(8, body)
    stop.set()
    assassin.join()
    assert wrong == []
    assert all(isinstance(n, int) and n > 10 for n in counts)
    assert eventually(lambda: client.execute("PING")) == b"PONG"
    client.close()


def test_peer_that_leaves_is_gone() -> None:
    """The helper of these tests ends a script when its client closes."""
    seen: list[str] = []

    def script(peer: Peer) -> None:
        peer.greet()
        try:
            peer.read()
            peer.send(b"+PONG\r\n")
            peer.read()
        except Gone:
            seen.append("gone")

    with scripted(script) as server:
        client = redlane.Client(server.url, timeout=60, connect_timeout=60)
        client.execute("ANY")
        client.close()
        wait_for(lambda: seen == ["gone"])
