"""`redlane top` and `redlane monitor` on real servers, with and without a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from children import started
from cli_tools import (
    ENGINE,
    assert_failed,
    command,
    environment,
    run,
    run_json_lines,
    running,
)
from redlane import Cache, Client
from redlane._cli import main
from redlane._cli.live import BOLD, ENTER, LEAVE
from scripted import answering, scripted
from servers import ACL_PASSWORD, ACL_USER, PASSWORD, PATIENT, Server, patient
from tls import TlsServer
from toolset import wait_until

BOUND = 60.0  # seconds that anything is waited for
NOTES = 3  # lines on stderr that say what MONITOR costs and does not see


@contextmanager
def traffic(url: str, call: Callable[[Client[Any]], object]) -> Iterator[None]:
    """Runs `call` over and over in a thread for as long as the block lasts."""
    over = threading.Event()

    def work() -> None:
        with Client(url, name="app", **PATIENT) as client:
            while not over.wait(0.005):
                call(client)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class Terminal:
    """A program on a terminal of its own, 100 columns wide and 40 rows high."""

    def __init__(self, *args: str, **variables: str) -> None:
        self.args = args
        self.env = {**environment({"TERM": "xterm", **variables})}
        self.env.update(variables)
        self.seen = ""

    def __enter__(self) -> Terminal:
        self.ours, theirs = pty.openpty()
        size = struct.pack("HHHH", 40, 100, 0, 0)
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, size)
        self.context = started(
            command(*self.args),
            env=self.env,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        self.child = self.context.__enter__()
        os.close(theirs)
        return self

    def __exit__(self, *error: Any) -> None:
        self.context.__exit__(*error)
        os.close(self.ours)

    def read(self, done: Callable[[str], bool]) -> str:
        """What is on it once `done` is content, or at the program's end."""
        end = time.monotonic() + BOUND
        while not done(self.seen):
            assert time.monotonic() < end, self.seen
            if not select.select([self.ours], [], [], 1)[0]:
                continue
            try:
                self.seen += os.read(self.ours, 65536).decode()
            except OSError:  # the other end is closed
                break
        return self.seen

    def end_by(self, number: int) -> str:
        """Sends a signal, and gives what it wrote in all."""
        self.child.send_signal(number)
        self.read(lambda _: False)
        self.child.wait(BOUND)
        return self.seen


class TestTop:
    def test_tells_what_is_going_on(self, redis_server: Server) -> None:
        def call(client: Client[Any]) -> None:
            client.set("user:1", "v")
            client.get("user:1")
            client.get("none")

        def is_busy(report: Any) -> bool:
            rates = ("commands", "hits", "misses", "input_bytes", "output_bytes")
            return all(report[f"{name}_per_second"] > 0 for name in rates)

        url = redis_server.patient_url
        with traffic(url, call), running("top", "--json", "--url", url) as child:
            report = wait_for_line(child, is_busy)
        assert report["interval"] >= 1
        assert 0 < report["hit_rate"] < 1
        assert report["connected_clients"] >= 2
        assert report["used_memory"] > 0
        assert report["latency_ms"] > 0
        names = {row["command"] for row in report["commands"]}
        assert {"GET", "SET", "CLIENT LIST"} <= names
        for row in report["commands"]:
            assert row["calls_per_second"] > 0
            assert row["microseconds"] >= 0
        assert report["prefixes"] == [
            {"prefix": "user:*", "sampled": 1, "share": 1.0, "keys": 1}
        ]

    def test_counts_the_links_of_near_caches(self, fresh_server: Server) -> None:
        url = fresh_server.patient_url
        with Client(fresh_server.url, **PATIENT) as client:
            cache = Cache(client, prefix="c")
            cache.set("k", 1)
            wait_until(lambda: cache.get("k") and is_near(client), "near is confirmed")
            (report,) = run_json_lines(
                "top", "--once", "--interval", "0.1", "--url", url
            )
        assert report["near_links"] == 1
        assert report["monitor_links"] == 0

    def test_as_text(self, redis_server: Server) -> None:
        redis_server.cli("SET", "user:1", "v")
        done = run(
            "top", "--once", "--interval", "0.1", "--url", redis_server.patient_url
        )
        assert done.returncode == 0
        assert done.stdout.startswith("redlane top  redis://127.0.0.1")
        for words in ("commands/s", "hit rate", "near caches", "INFO", "user:*"):
            assert words in done.stdout
        assert "\x1b" not in done.stdout
        assert done.stdout.endswith(
            "never reach the server:\ncache.stats() tells of them, in each process.\n"
        )

    def test_without_a_sample(self, redis_server: Server) -> None:
        redis_server.cli("SET", "user:1", "v")
        (report,) = run_json_lines(
            *("top", "--once", "--interval", "0.1", "--sample", "0"),
            *("--url", redis_server.patient_url),
        )
        assert report["prefixes"] == []
        assert "SCAN" not in {row["command"] for row in report["commands"]}

    def test_limits_its_rows(self, redis_server: Server) -> None:
        (report,) = run_json_lines(
            *("top", "--once", "--interval", "0.1", "--limit", "2"),
            *("--url", redis_server.patient_url),
        )
        assert len(report["commands"]) == 2

    def test_the_engine_has_nothing_to_watch(self) -> None:
        assert_failed(run("top", "--once", "--url", ENGINE), "memory engine")

    def test_a_user_who_may_do_little(self, password_server: Server) -> None:
        password_server.cli(
            *("ACL", "SETUSER", "few", "on", ">pw", "~*", "-@all"),
            *("+info", "+ping", "+dbsize"),
        )
        url = patient(f"redis://few:pw@127.0.0.1:{password_server.port}/0")
        (report,) = run_json_lines("top", "--once", "--interval", "0.1", "--url", url)
        assert report["near_links"] is None
        assert report["prefixes"] == []
        assert run("stats", "--url", url).returncode == 0
        done = run("top", "--once", "--interval", "0.1", "--url", url)
        assert "– near caches" in done.stdout

    def test_wrong_password(self, password_server: Server) -> None:
        url = patient(f"redis://:canary-secret@127.0.0.1:{password_server.port}/0")
        for name in ("top", "monitor"):
            done = run(name, "--once", "--url", url)
            assert_failed(done)
            assert "canary-secret" not in done.stdout + done.stderr

    def test_goes_on_through_an_outage(self, fresh_server: Server) -> None:
        args = ("top", "--json", "--interval", "0.2", "--url", fresh_server.patient_url)
        with running(*args) as child:
            assert child.stdout is not None
            assert "error" not in json.loads(child.stdout.readline())
            fresh_server.kill()
            wait_for_line(child, lambda report: "error" in report)
            fresh_server.start()
            report = wait_for_line(child, lambda report: "error" not in report)
            assert report["used_memory"] > 0
            child.send_signal(signal.SIGINT)
            assert child.wait(BOUND) == 130

    def test_an_outage_at_its_end_is_a_failure(self, fresh_server: Server) -> None:
        args = ("--count", "3", "--interval", "1", "--url", fresh_server.patient_url)
        with running("top", *args) as child:
            assert child.stdout is not None
            assert child.stdout.readline().startswith("redlane top")
            fresh_server.kill()
            out, complaint = child.communicate(timeout=BOUND)
        assert child.returncode == 1
        assert "away: " in out
        assert complaint == ""


def is_near(client: Client[Any]) -> bool:
    near = client.health()["near"]
    return bool(near and near["state"] == "on")


def wait_for_line(
    child: subprocess.Popen[str], wanted: Callable[[Any], bool]
) -> dict[str, Any]:
    end = time.monotonic() + BOUND
    assert child.stdout is not None
    while time.monotonic() < end:
        report: dict[str, Any] = json.loads(child.stdout.readline())
        if wanted(report):
            return report
    raise AssertionError("it never came")


class TestTerminal:
    @pytest.mark.parametrize(
        ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
    )
    @pytest.mark.parametrize("args", [("top",), ("monitor", "--table")])
    def test_is_drawn_anew_and_left_as_it_was(
        self, redis_server: Server, args: tuple[str, ...], number: int, code: int
    ) -> None:
        url = redis_server.patient_url
        with Terminal(*args, "--interval", "0.1", "--url", url) as terminal:
            seen = terminal.read(lambda text: text.count("\x1b[H") >= 3)
            assert seen.startswith(ENTER)
            assert BOLD in seen
            seen = terminal.end_by(number)
            assert terminal.child.returncode == code
        assert LEAVE in seen
        assert "Traceback" not in seen
        assert seen.rpartition(LEAVE)[2].strip() in ("", "^C")

    def test_no_color(self, redis_server: Server) -> None:
        url = redis_server.patient_url
        args = ("top", "--interval", "0.1", "--count", "2", "--url", url)
        with Terminal(*args, NO_COLOR="1") as terminal:
            seen = terminal.read(lambda _: False)
            assert terminal.child.wait(BOUND) == 0
        assert ENTER in seen
        assert BOLD not in seen

    @pytest.mark.parametrize(
        ("more", "variables"), [(["--once"], {}), ([], {"TERM": "dumb"})]
    )
    def test_is_left_alone(
        self, redis_server: Server, more: list[str], variables: dict[str, str]
    ) -> None:
        """A single table stays on the screen; a dumb terminal knows no sequences."""
        url = redis_server.patient_url
        args = ("top", "--interval", "0.1", "--count", "2", "--url", url, *more)
        with Terminal(*args, **variables) as terminal:
            seen = terminal.read(lambda _: False)
            assert terminal.child.wait(BOUND) == 0
        assert "\x1b" not in seen
        assert "commands/s" in seen

    def test_long_lines_are_cut(self, redis_server: Server) -> None:
        redis_server.cli("SET", "long" * 100 + ":1", "v")
        url = redis_server.patient_url
        args = ("top", "--interval", "0.1", "--count", "2", "--url", url)
        with Terminal(*args) as terminal:
            seen = terminal.read(lambda _: False)
        assert "long" * 20 in seen
        assert "long" * 26 not in seen


class TestMonitor:
    def test_shows_each_command(self, redis_server: Server) -> None:
        url = redis_server.patient_url
        with traffic(url, lambda client: client.set("user:1", "a value", ex=100)):
            events = run_json_lines("monitor", "--count", "5", "--url", url)
        assert len(events) == 5
        for event in events:
            assert event["command"] == "SET"
            assert event["keys"] == ["user:1"]
            assert event["arguments"] == 4
            assert event["db"] == 0
            assert event["client"].startswith("127.0.0.1:")
            assert abs(event["at"] - time.time()) < 3600
            assert "values" not in event

    def test_as_text(self, redis_server: Server) -> None:
        url = redis_server.patient_url
        with traffic(url, lambda client: client.set("user:1", "a value", ex=100)):
            done = run("monitor", "--count", "2", "--url", url)
            with_values = run("monitor", "--once", "--values", "--url", url)
        assert done.returncode == 0
        lines = done.stdout.splitlines()
        assert len(lines) == 2
        for line in lines:
            assert line.endswith("user:1  +3")
            assert line.split()[2] == "SET"
        assert "near cache" in done.stderr
        assert len(done.stderr.splitlines()) == NOTES
        assert with_values.stdout.rstrip().endswith("user:1 a value EX 100")

    def test_only_keys_that_match(self, redis_server: Server) -> None:
        def call(client: Client[Any]) -> None:
            client.get("other")
            client.mget("a", "user:2")
            client.ping()

        url = redis_server.patient_url
        with traffic(url, call):
            events = run_json_lines("monitor", "user:*", "--count", "3", "--url", url)
        assert [event["keys"] for event in events] == [["a", "user:2"]] * 3

    def test_large_and_hostile_values(self, redis_server: Server) -> None:
        value = b"\x1b[2J\xff\n" + b"v" * 1_000_000

        def call(client: Client[Any]) -> None:
            client.set("k\x1b\n", value)

        url = redis_server.patient_url
        with traffic(url, call):
            (event,) = run_json_lines("monitor", "--once", "--values", "--url", url)
            done = run("monitor", "--count", "2", "--values", "--url", url)
        assert event["keys"] == ["k\\x1b\\n"]
        assert event["size"] > 1_000_000
        assert "\x1b" not in done.stdout
        assert len(done.stdout) < 1000

    def test_secrets_are_never_shown(self, fresh_server: Server) -> None:
        def call(client: Client[Any]) -> None:
            fresh_server.cli("AUTH", "someone", "canary")
            fresh_server.cli("HELLO", "2", "AUTH", "someone", "canary")
            client.set("last", "v")

        fresh_server.cli("ACL", "SETUSER", "someone", "on", ">canary", "+@all", "~*")
        url = fresh_server.patient_url
        for more in (["--values"], ["--values", "--json"], []):
            with traffic(url, call):
                done = run("monitor", "--count", "12", "--url", url, *more)
            assert done.returncode == 0
            assert "AUTH" in done.stdout
            assert "HELLO" in done.stdout
            assert "canary" not in done.stdout + done.stderr

    def test_as_a_table(self, redis_server: Server) -> None:
        def call(client: Client[Any]) -> None:
            client.set("user:1", "v")
            client.set("user:2", "v")
            client.ping()

        url = redis_server.patient_url
        args = ("monitor", "--table", "--interval", "0.5", "--url", url)

        def has_both(report: Any) -> bool:
            rates = {row["command"]: row["calls_per_second"] for row in report["rows"]}
            return len(rates) == 2 and all(rates.values())

        with traffic(url, call):
            with running(*args, "--json") as child:
                first, second = (wait_for_line(child, has_both) for _ in range(2))
            with running(*args) as child:
                assert child.stdout is not None
                text = ""
                while "SET      user:*" not in text:
                    line = child.stdout.readline()
                    assert line
                    text += line
            (limited,) = run_json_lines(*args, "--once", "--limit", "1")
            assert len(limited["rows"]) <= 1
        for report in (first, second):
            assert report["commands_per_second"] > 0
            assert report["skipped"] == 0
            rows = {(row["command"], row["keys"]): row for row in report["rows"]}
            assert set(rows) == {("SET", "user:*"), ("PING", "")}
            assert rows["SET", "user:*"]["clients"] == 1
        assert first["rows"][0]["calls"] < second["rows"][0]["calls"]
        assert text.startswith("redlane monitor  redis://")

    def test_ends_after_its_seconds(self, redis_server: Server) -> None:
        url = redis_server.patient_url
        assert run_json_lines("monitor", "--seconds", "0.3", "--url", url) == []
        (report,) = run_json_lines(
            "monitor", "--table", "--interval", "60", "--seconds", "0.3", "--url", url
        )
        assert report["rows"] == []
        assert report["interval"] < 60

    def test_ctrl_c(self, redis_server: Server) -> None:
        args = ("monitor", "--url", redis_server.patient_url)
        with running(*args) as child:
            assert child.stderr is not None
            for _ in range(NOTES):  # it has begun
                child.stderr.readline()
            child.send_signal(signal.SIGINT)
            out, complaint = child.communicate(timeout=BOUND)
        assert (child.returncode, out, complaint) == (130, "", "")

    def test_a_reader_that_goes_away(self, redis_server: Server) -> None:
        url = redis_server.patient_url
        with traffic(url, lambda client: client.get("k")):
            with running("monitor", "--url", url) as child:
                assert child.stdout is not None
                assert child.stdout.readline()
                child.stdout.close()
                child.wait(BOUND)
                assert child.returncode == 1
                assert child.stderr is not None
                assert "Traceback" not in child.stderr.read()
                child.stdout = None

    def test_a_server_that_goes_away(self, fresh_server: Server) -> None:
        args = ("monitor", "--json", "--url", fresh_server.patient_url)
        with running(*args) as child:
            wait_until(lambda: b"flags=O" in client_list(fresh_server), "MONITOR")
            fresh_server.kill()
            out, complaint = child.communicate(timeout=BOUND)
        assert (child.returncode, out) == (1, "")
        assert complaint.startswith("redlane: MONITOR: ")
        assert len(complaint.splitlines()) == 1

    @pytest.mark.parametrize(
        ("answer", "words"),
        [(b"", "does not answer"), (b"-ERR no \x1b[2J\r\n", r"ERR no \x1b[2J")],
    )
    def test_a_server_that_does_not_agree(
        self,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        answer: bytes,
        words: str,
    ) -> None:
        if not answer:
            monkeypatch.setattr("redlane._cli.monitor.ANSWER", 0.1)
        with scripted(answering(answer)) as server:
            assert main(["monitor", "--url", patient(server.url)]) == 1
        assert words in capsys.readouterr().err

    def test_a_user_who_may_not(self, password_server: Server) -> None:
        password_server.cli(
            "ACL", "SETUSER", "few", "on", ">pw", "~*", "-@all", "+ping"
        )
        url = patient(f"redis://few:pw@127.0.0.1:{password_server.port}/0")
        assert_failed(run("monitor", "--once", "--url", url), "NOPERM")

    def test_with_a_user_and_password(self, password_server: Server) -> None:
        from urllib.parse import quote

        user, password = quote(ACL_USER, safe=""), quote(ACL_PASSWORD, safe="")
        where = f"{user}:{password}@127.0.0.1:{password_server.port}"
        url = patient(f"redis://{where}/0")
        with traffic(url, lambda client: client.get("k")):
            done = run("monitor", "--count", "2", "--values", "--url", url)
            table = run("monitor", "--table", "--once", "--url", url)
        assert done.returncode == table.returncode == 0
        assert "GET" in done.stdout
        for secret in (ACL_PASSWORD, password, PASSWORD):
            for text in (done.stdout, done.stderr, table.stdout, table.stderr):
                assert secret not in text

    @pytest.mark.parametrize("kind", ["tls", "unix"])
    def test_other_links(self, request: pytest.FixtureRequest, kind: str) -> None:
        if kind == "tls":
            server: TlsServer = request.getfixturevalue("tls_server")
            url = patient(server.url)
        else:
            url = patient(request.getfixturevalue("redis_server").unix_url)
        with traffic(url, lambda client: client.set("k", "v" * 100_000)):
            events = run_json_lines("monitor", "k", "--count", "5", "--url", url)
        assert len(events) == 5
        assert all(event["size"] > 100_000 for event in events)


def client_list(server: Server) -> bytes:
    listed: bytes = server.cli("CLIENT", "LIST")
    return listed
