"""The first words on a connection: with real servers, and with those that are old,
full, loading or no Redis at all."""

from __future__ import annotations

import socket
import traceback
from urllib.parse import quote

import pytest
import redlane
from scripted import Gone, Peer, scripted
from servers import ACL_PASSWORD, ACL_USER, PASSWORD, Server

CANARY = "canary-pa55word"


def url_of(server: Server, user: str, password: str, db: int = 0) -> str:
    login = f"{quote(user, safe='')}:{quote(password, safe='')}@"
    return f"redis://{login}127.0.0.1:{server.port}/{db}"


def everything_shown_of(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error) + str(error)


def test_no_password(redis_server: Server) -> None:
    client = redlane.Client(redis_server.url, timeout=60, connect_timeout=60)
    assert client.execute("PING") == b"PONG"
    client.close()


def test_unix_socket(redis_server: Server) -> None:
    client = redlane.Client(redis_server.unix_url, timeout=60, connect_timeout=60)
    assert client.execute("SET", "a", "1") == b"OK"
    assert redis_server.cli("GET", "a") == b"1"
    client.close()


def test_name_that_is_resolved(redis_server: Server) -> None:
    client = redlane.Client(
        f"redis://localhost:{redis_server.port}/0", timeout=60, connect_timeout=60
    )
    assert client.execute("PING") == b"PONG"
    client.close()


def test_default_user(password_server: Server) -> None:
    client = redlane.Client(
        url_of(password_server, "", PASSWORD), timeout=60, connect_timeout=60
    )
    assert client.execute("ACL", "WHOAMI") == b"default"
    client.close()


def test_acl_user_with_special_characters(password_server: Server) -> None:
    client = redlane.Client(
        url_of(password_server, ACL_USER, ACL_PASSWORD), timeout=60, connect_timeout=60
    )
    assert client.execute("ACL", "WHOAMI") == ACL_USER.encode()
    client.close()


def test_wrong_password_is_loud_and_not_shown(password_server: Server) -> None:
    client = redlane.Client(
        url_of(password_server, ACL_USER, CANARY), timeout=60, connect_timeout=60
    )
    with pytest.raises(redlane.AuthenticationError) as caught:
        client.execute("PING")
    assert CANARY not in everything_shown_of(caught.value)
    client.close()


def test_missing_password(password_server: Server) -> None:
    client = redlane.Client(password_server.url, timeout=60, connect_timeout=60)
    with pytest.raises(redlane.AuthenticationError):
        client.execute("PING")
    client.close()


def test_database_and_name(redis_server: Server) -> None:
    client = redlane.Client(
        f"redis://127.0.0.1:{redis_server.port}/5",
        timeout=60,
        connect_timeout=60,
        name="lane-5",
    )
    client.execute("SET", "here", "x")
    listed = redis_server.cli("CLIENT", "LIST").decode().splitlines()
    mine = [line for line in listed if " name=lane-5 " in line]
    assert len(mine) == 1
    assert " db=5 " in mine[0]
    assert redis_server.cli("EXISTS", "here") == 0
    client.close()


def test_database_out_of_range(redis_server: Server) -> None:
    client = redlane.Client(
        f"redis://127.0.0.1:{redis_server.port}/4711", timeout=60, connect_timeout=60
    )
    with pytest.raises(redlane.ReplyError, match="DB index is out of range"):
        client.execute("PING")
    client.close()


def test_one_write_says_it_all() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        assert peer.read() == [b"SELECT", b"3"]
        peer.send(b"+OK\r\n")
        peer.read()
        peer.send(b"+PONG\r\n")
        peer.wait_until_gone()

    with scripted(script) as server:
        client = redlane.Client(
            f"redis://u:p@127.0.0.1:{server.port}/3",
            timeout=60,
            connect_timeout=60,
            name="n",
        )
        assert client.execute("PING") == b"PONG"
        assert server.commands[0] == [
            *(b"HELLO", b"2", b"AUTH", b"u", b"p", b"SETNAME", b"n")
        ]
        client.close()


@pytest.mark.parametrize(
    "refusal",
    [
        b"-ERR unknown command `HELLO`, with args beginning with: `2`, `AUTH`, \r\n",
        b"-NOPERM this user has no permissions to run the 'hello' command\r\n",
        b"-ERR unsupported command 'hello'\r\n",
    ],
)
def test_server_without_hello(refusal: bytes) -> None:
    def script(peer: Peer) -> None:
        while True:
            command = peer.read()
            if command[0] == b"HELLO":
                peer.send(refusal)
            elif command[0] == b"SELECT" and len(peer.server.commands) == 2:
                peer.send(b"-NOAUTH Authentication required.\r\n")
            elif command[0] == b"PING":
                peer.send(b"+PONG\r\n")
            else:
                peer.send(b"+OK\r\n")

    with scripted(script) as server:
        client = redlane.Client(
            f"redis://:{CANARY}@127.0.0.1:{server.port}/2",
            timeout=60,
            connect_timeout=60,
            name="n",
        )
        assert client.execute("PING") == b"PONG"
        assert server.commands[2:] == [
            [b"AUTH", CANARY.encode()],
            [b"CLIENT", b"SETNAME", b"n"],
            [b"SELECT", b"2"],
            [b"PING"],
        ]
        client.close()


def test_old_server_that_refuses_the_password() -> None:
    def script(peer: Peer) -> None:
        hello = peer.read()
        arguments = " ".join(f"`{word.decode()}`," for word in hello[1:])
        peer.send(
            b"-ERR unknown command `HELLO`, with args beginning with: "
            + arguments.encode()
            + b"\r\n"
        )
        peer.read()
        peer.send(b"-ERR invalid password\r\n")
        peer.wait_until_gone()

    with scripted(script) as server:
        client = redlane.Client(
            f"redis://:{CANARY}@127.0.0.1:{server.port}/0",
            timeout=60,
            connect_timeout=60,
        )
        with pytest.raises(redlane.AuthenticationError) as caught:
            client.execute("PING")
        assert CANARY not in everything_shown_of(caught.value)
        client.close()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"-LOADING Redis is loading the dataset in memory\r\n", "LoadingError"),
        (b"-ERR max number of clients reached\r\n", "ReplyError"),
        (b"-DENIED Redis is running in protected mode\r\n", "ReplyError"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "ConnectionError"),
        (b"+OK\r\n", "ConnectionError"),
        (b":1\r\n", "ConnectionError"),
        (b"$-1\r\n", "ConnectionError"),
        (b"%1\r\n+server\r\n+redis\r\n", "ConnectionError"),
        (b"*2\r\n$7\r\nversion\r\n", "ConnectionError"),
        (b"*0\r\n+unasked\r\n", "ConnectionError"),
        (b"", "ConnectionError"),
    ],
)
def test_answers_that_end_the_handshake(answer: bytes, expected: str) -> None:
    def script(peer: Peer) -> None:
        peer.read()
        peer.send(answer)

    with scripted(script) as server:
        client = redlane.Client(server.url, timeout=60, connect_timeout=60)
        with pytest.raises(getattr(redlane, expected)) as caught:
            client.execute("PING")
        assert type(caught.value).__name__ == expected
        assert {command[0] for command in server.commands} == {b"HELLO"}
        client.close()


def test_strange_facts_are_not_trusted() -> None:
    odd = b"*5\r\n$7\r\nversion\r\n*1\r\n:1\r\n:7\r\n$2\r\nid\r\n$7\r\nversion\r\n"

    def script(peer: Peer) -> None:
        peer.read()
        peer.send(odd)
        peer.read()
        peer.send(b"+PONG\r\n")
        peer.wait_until_gone()

    with scripted(script) as server:
        client = redlane.Client(server.url, timeout=60, connect_timeout=60)
        assert client.execute("PING") == b"PONG"
        client.close()


def test_handshake_one_byte_at_a_time() -> None:
    def script(peer: Peer) -> None:
        peer.read()
        for byte in b"*2\r\n$7\r\nversion\r\n$5\r\n6.2.1\r\n":
            peer.send(bytes((byte,)))
        peer.read()
        peer.send(b"+PONG\r\n")
        peer.wait_until_gone()

    with scripted(script) as server:
        client = redlane.Client(server.url, timeout=60, connect_timeout=60)
        assert client.execute("PING") == b"PONG"
        client.close()


def test_nothing_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        client = redlane.Client(
            f"redis://127.0.0.1:{port}/0", timeout=60, connect_timeout=60
        )
        with pytest.raises(redlane.ConnectionError, match="Connection refused"):
            client.execute("PING")
        client.close()


def test_name_without_address() -> None:
    client = redlane.Client(
        "redis://no-such-host.invalid:6379/0", timeout=60, connect_timeout=60
    )
    with pytest.raises(redlane.ConnectionError):
        client.execute("PING")
    client.close()


def test_unix_path_that_is_not_there(tmp_path: object) -> None:
    client = redlane.Client(
        f"unix://{tmp_path}/none.sock", timeout=60, connect_timeout=60
    )
    with pytest.raises(redlane.ConnectionError, match="No such file"):
        client.execute("PING")
    client.close()


def test_unix_path_that_is_too_long() -> None:
    with pytest.raises(
        (redlane.ConnectionError, redlane.ConfigurationError), match="unix"
    ):
        redlane.Client("unix:///" + "x" * 200, timeout=60, connect_timeout=60).execute(
            "PING"
        )


def test_last_words_of_a_full_server() -> None:
    """The error stands in the buffer although the connection is already reset."""

    def script(peer: Peer) -> None:
        peer.send(b"-ERR max number of clients reached\r\n")
        try:
            peer.read()
        except Gone:
            return
        peer.reset()

    with scripted(script) as server:
        client = redlane.Client(server.url, timeout=60, connect_timeout=60)
        with pytest.raises(redlane.ReplyError, match="max number of clients"):
            client.execute("PING")
        client.close()
