"""The command line, as a user runs it: in a process of its own, on both executors."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from children import started
from cli_tools import ENGINE, assert_failed, run, run_json, unused_url
from redlane import _demo
from redlane._cli import main
from redlane._cli.output import human_bytes, printable
from redlane._demo_table import Times, make_row, slower_than_quoted
from running_example import EXAMPLES, START_SECONDS, RunningExample, until
from servers import (
    ACL_PASSWORD,
    ACL_USER,
    PASSWORD,
    PORTS,
    Server,
    free_port,
    patient,
)

COMMANDS = [
    "doctor",
    "stats",
    "top",
    "keys",
    "get",
    "invalidate",
    "monitor",
    "bench",
    "demo",
]


class TestUsage:
    @pytest.mark.parametrize(
        "args",
        [
            (),
            ("nothing",),
            ("get",),
            ("keys", "--limit", "0"),
            ("keys", "--limit", "x"),
            ("bench", "--seconds", "nan"),
            ("bench", "--size", "-1"),
            ("doctor", "--js"),
            ("stats", "--sample", "-1"),
            ("top", "--interval", "0"),
            ("top", "--count", "0"),
            ("monitor", "--seconds", "nan"),
        ],
    )
    def test_wrong_arguments_exit_with_2(self, args: Sequence[str]) -> None:
        done = run(*args)
        assert done.returncode == 2
        assert "usage: redlane" in done.stderr

    def test_help_names_every_command(self) -> None:
        done = run("--help")
        assert done.returncode == 0
        for command in COMMANDS:
            assert f"\n    {command}" in done.stdout

    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_command_has_help(self, command: str) -> None:
        done = run(command, "--help")
        assert done.returncode == 0
        assert "--json" in done.stdout

    def test_options_may_stand_before_the_command(self) -> None:
        done = run("--url", ENGINE, "--json", "keys")
        assert json.loads(done.stdout) == []

    @pytest.mark.parametrize("command", ["stats", "top", "keys", "monitor", "bench"])
    def test_a_server_that_is_away_is_one_line(self, command: str) -> None:
        assert_failed(run(command, "--url", unused_url()), "refused")

    @pytest.mark.parametrize(
        "url", ["http://x", "redis://h:port", "x" * 50, "redis://"]
    )
    def test_a_bad_url_is_one_line(self, url: str) -> None:
        done = run("keys", "--url", url)
        if url == "redis://":  # localhost, where something may answer
            assert "Traceback" not in done.stderr
        else:
            assert_failed(done)

    def test_a_bad_variable_is_named(self) -> None:
        done = run("keys", env={"REDIS_URL": "nonsense"})
        assert_failed(done, "REDIS_URL")


class TestDoctor:
    def test_engine(self) -> None:
        report = run_json("doctor", "--url", ENGINE)
        assert report["ok"] is True
        assert report["why"] == "--url"
        assert report["uses"] == "embedded memory engine"

    def test_engine_with_several_workers(self) -> None:
        done = run("doctor", "--url", ENGINE, env={"WEB_CONCURRENCY": "4"})
        assert done.returncode == 0
        assert "warning: WEB_CONCURRENCY=4" in done.stdout

    def test_redis(self, redis_url: str) -> None:
        report = run_json("doctor", env={"REDIS_URL": redis_url})
        assert report["ok"] is True
        assert report["why"] == "REDIS_URL"
        assert report["variables"] == ["REDIS_URL"]
        assert report["connected"] is True
        assert report["uses"] == "redis"
        assert report["latency_ms"]["median"] > 0
        assert report["maxmemory_policy"] == "noeviction"
        assert report["evicted_keys"] == 0

    def test_redis_as_text(self, redis_url: str) -> None:
        done = run("doctor", "--url", redis_url)
        assert done.returncode == 0
        assert "maxmemory policy" in done.stdout
        assert done.stdout.endswith("All is well.\n")

    def test_reports_what_is_misconfigured(self, fresh_server: Server) -> None:
        fresh_server.cli("CONFIG", "SET", "maxmemory", "100mb")
        fresh_server.cli("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        report = run_json("doctor", "--url", fresh_server.patient_url)
        assert report["maxmemory"] == 100 << 20
        texts = [f["text"] for f in report["findings"] if f["level"] == "warning"]
        assert any("allkeys-lru" in text for text in texts)

    def test_a_replica_is_a_problem(self, fresh_server: Server) -> None:
        fresh_server.cli("REPLICAOF", "127.0.0.1", str(free_port()))
        done = run("doctor", "--url", fresh_server.patient_url)
        assert done.returncode == 1
        assert "problem: " in done.stdout

    def test_a_configured_server_that_is_away_is_a_problem(self) -> None:
        done = run("doctor", env={"REDIS_URL": unused_url()})
        assert done.returncode == 1
        assert "problem: " in done.stdout
        assert "refused" in done.stdout

    def test_a_bad_variable_is_a_problem(self) -> None:
        done = run("doctor", "--json", env={"REDIS_URL": "nonsense"})
        assert done.returncode == 1
        report = json.loads(done.stdout)
        assert report["ok"] is False
        assert "REDIS_URL" in report["findings"][0]["text"]

    def test_a_wrong_password_is_a_problem(self, password_server: Server) -> None:
        url = patient(f"redis://:canary-secret@127.0.0.1:{password_server.port}/0")
        done = run("doctor", "--url", url)
        assert done.returncode == 1
        assert "canary-secret" not in done.stdout + done.stderr

    def test_shows_no_secret(self, password_server: Server) -> None:
        from urllib.parse import quote

        user, password = quote(ACL_USER, safe=""), quote(ACL_PASSWORD, safe="")
        url = patient(f"redis://{user}:{password}@127.0.0.1:{password_server.port}/0")
        for command in ("doctor", "stats", "bench"):
            more = ["--seconds", "0.05"] if command == "bench" else []
            done = run(command, *more, env={"REDIS_URL": url})
            assert done.returncode == 0, done.stderr
            for secret in (ACL_PASSWORD, password, PASSWORD):
                assert secret not in done.stdout + done.stderr


class TestStats:
    def test_redis(self, redis_server: Server) -> None:
        redis_server.cli("SET", "a", "1")
        digest = run_json("stats", "--url", redis_server.patient_url)
        assert digest["keys"] == 1
        assert digest["used_memory"] > 0
        assert digest["role"] == "master"
        text = run("stats", "--url", redis_server.patient_url).stdout
        assert "used memory" in text
        assert "evicted keys" in text
        assert "ms median" in text
        assert "near cache" in text  # which it does not see

    def test_tells_the_prefixes(self, redis_server: Server) -> None:
        for number in range(30):
            redis_server.cli("SET", f"user:{number}", "v" * 100)
        redis_server.cli("SET", "cache:f:m:1", "v")
        redis_server.cli("SET", "/app/device/a", "v")
        redis_server.cli("SET", "plain", "v")
        digest = run_json("stats", "--url", redis_server.patient_url)
        assert digest["sampled_keys"] == 33
        assert digest["prefixes"][0].pop("memory") > 3000
        assert digest["prefixes"][0] == {
            "prefix": "user:*",
            "sampled": 30,
            "share": round(30 / 33, 4),
            "keys": 30,
        }
        assert sorted((row["prefix"], row["keys"]) for row in digest["prefixes"]) == [
            ("*", 1),
            ("/app/device/*", 1),
            ("cache:f:*", 1),
            ("user:*", 30),
        ]
        text = run("stats", "--url", redis_server.patient_url).stdout
        assert "keys by prefix" in text
        assert "about keys" not in text

    def test_a_sample_stands_for_all(self, redis_server: Server) -> None:
        for number in range(300):
            redis_server.cli("SET", f"user:{number}", "v")
        url = redis_server.patient_url
        digest = run_json("stats", "--sample", "20", "--url", url)
        assert 20 <= digest["sampled_keys"] < 300
        assert [(row["prefix"], row["keys"]) for row in digest["prefixes"]] == [
            ("user:*", 300)
        ]
        assert "about keys" in run("stats", "--sample", "20", "--url", url).stdout
        assert run_json("stats", "--sample", "0", "--url", url)["prefixes"] == []

    def test_engine(self) -> None:
        assert run_json("stats", "--url", ENGINE)["keys"] == 0
        assert run("stats", "--url", ENGINE).returncode == 0


class TestKeys:
    def test_show_type_and_ttl(self, redis_server: Server) -> None:
        redis_server.cli("SET", "k:1", "v", "EX", "100")
        redis_server.cli("SADD", "k:2", "m")
        redis_server.cli("SET", "other", "v")
        rows = run_json("keys", "k:*", "--url", redis_server.patient_url)
        rows.sort(key=lambda row: row["key"])
        assert [(row["key"], row["type"]) for row in rows] == [
            ("k:1", "string"),
            ("k:2", "set"),
        ]
        assert 40 < rows[0]["ttl"] <= 100
        assert rows[1]["ttl"] is None
        assert rows[0]["bytes"] > 0

    def test_stop_at_the_limit(self, redis_server: Server) -> None:
        for number in range(20):
            redis_server.cli("SET", f"k:{number}", "v")
        done = run("keys", "k:*", "--limit", "7", "--url", redis_server.patient_url)
        assert done.returncode == 0
        assert len(done.stdout.splitlines()) == 2 + 7
        assert "more than 7 keys" in done.stderr

    def test_cannot_drive_the_terminal(self, redis_server: Server) -> None:
        redis_server.cli("SET", b"evil\x1b[2J\n\xff", "v")
        done = run("keys", "--url", redis_server.patient_url)
        assert "\x1b" not in done.stdout
        assert "evil\\x1b[2J\\n\\xff" in done.stdout

    def test_engine_has_none(self) -> None:
        done = run("keys", "--url", ENGINE)
        assert done.returncode == 0
        assert done.stdout.splitlines()[0].split() == ["key", "type", "TTL", "size"]


class TestGet:
    @pytest.mark.parametrize(
        ("command", "kind", "value"),
        [
            (("SET", "k", '{"a": [1, "é"]}'), "string", {"a": [1, "é"]}),
            (("SET", "k", "plain"), "string", "plain"),
            (("SET", "k", "17"), "string", 17),
            (("SET", "k", b"\xff\x00"), "string", {"base64": "/wA="}),
            (("HSET", "k", "f", "1", "g", "x"), "hash", {"f": 1, "g": "x"}),
            (("SADD", "k", "b", "a"), "set", ["a", "b"]),
            (("ZADD", "k", "2", "b", "1", "a"), "zset", {"a": 1.0, "b": 2.0}),
            (("RPUSH", "k", "b", "a"), "list", ["b", "a"]),
            (("XADD", "k", "1-1", "f", "v"), "stream", [["1-1", ["f", "v"]]]),
        ],
        ids=lambda part: part[0] if isinstance(part, tuple) else None,
    )
    def test_shows_each_type(
        self, redis_server: Server, command: Sequence[object], kind: str, value: Any
    ) -> None:
        redis_server.cli(*command)
        shown = run_json("get", "k", "--url", redis_server.patient_url)
        assert shown == {"key": "k", "type": kind, "ttl": None, "value": value}
        text = run("get", "k", "--url", redis_server.patient_url)
        assert text.returncode == 0
        assert kind in text.stdout

    def test_json_is_indented(self, redis_server: Server) -> None:
        redis_server.cli("SET", "k", '{"a":{"b":1}}')
        done = run("get", "k", "--url", redis_server.patient_url)
        assert '{\n  "a": {\n    "b": 1\n  }\n}' in done.stdout

    def test_bytes_are_described(self, redis_server: Server) -> None:
        redis_server.cli("SET", "k", b"\x1f\x8b" + b"\xff" * 1998)
        done = run("get", "k", "--url", redis_server.patient_url)
        assert "2,000 bytes, gzip" in done.stdout

    def test_a_lease_is_no_value(self, redis_server: Server) -> None:
        redis_server.cli("SET", "k", b"\xffRLL0123456789")
        assert (
            "lease" in run_json("get", "k", "--url", redis_server.patient_url)["value"]
        )

    def test_cannot_drive_the_terminal(self, redis_server: Server) -> None:
        redis_server.cli("SET", "k", "a\x1b[2Jb\nc")
        done = run("get", "k", "--url", redis_server.patient_url)
        assert done.stdout.endswith("a\\x1b[2Jb\nc\n")

    def test_a_missing_key_is_one_line(self, redis_url: str) -> None:
        for url in (redis_url, ENGINE):
            assert_failed(run("get", "k", "--url", url), "no such key: k")


class TestInvalidate:
    @pytest.fixture
    def url(self, redis_server: Server) -> str:
        for number in range(5):
            redis_server.cli("SET", f"k:{number}", "v")
        redis_server.cli("SET", "other", "v")
        return redis_server.patient_url

    def test_deletes_and_counts(self, url: str, redis_server: Server) -> None:
        done = run("invalidate", "k:*", "--yes", "--url", url)
        assert (done.returncode, done.stdout) == (0, "5 keys deleted\n")
        assert redis_server.cli("KEYS", "*") == [b"other"]

    def test_counts_in_json(self, url: str) -> None:
        assert run_json("invalidate", "k:1", "--yes", "--url", url) == {
            "invalidated": 1
        }

    def test_does_not_go_on_unasked(self, url: str, redis_server: Server) -> None:
        assert_failed(run("invalidate", "*", "--url", url), "--yes")
        assert redis_server.cli("DBSIZE") == 6

    @pytest.mark.parametrize(("answer", "left"), [("y", 1), ("n", 6), ("", 6)])
    def test_asks(
        self,
        url: str,
        redis_server: Server,
        monkeypatch: pytest.MonkeyPatch,
        answer: str,
        left: int,
    ) -> None:
        class Terminal:
            def isatty(self) -> bool:
                return True

            def readline(self) -> str:
                return f"{answer}\n"

        monkeypatch.setattr("sys.stdin", Terminal())
        code = main(["invalidate", "k:*", "--url", url])
        assert redis_server.cli("DBSIZE") == left
        assert code == (0 if left == 1 else 1)

    def test_engine(self) -> None:
        done = run("invalidate", "*", "--yes", "--url", ENGINE)
        assert (done.returncode, done.stdout) == (0, "0 keys deleted\n")

    def test_a_server_that_is_away_is_one_line(self) -> None:
        done = run("invalidate", "*", "--yes", "--url", unused_url())
        assert_failed(done, "refused")


class TestBench:
    def test_measures_each_row(self, redis_server: Server) -> None:
        for url in (redis_server.patient_url, ENGINE):
            report = run_json("bench", "--seconds", "0.05", "--url", url)
            assert [row["name"] for row in report["rows"]] == [
                "GET",
                "SET",
                "pipeline of 100 GETs",
            ]
            for row in report["rows"]:
                assert row["operations_per_second"] > 0
                assert 0 < row["median_us"] <= row["p99_us"]
        assert redis_server.cli("DBSIZE") == 0

    def test_prints_a_table(self) -> None:
        done = run("bench", "--seconds", "0.01", "--size", "10", "--url", ENGINE)
        assert done.returncode == 0
        assert len(done.stdout.splitlines()) == 6


class TestDemo:
    ENGINE_ROWS = (
        "canvas, uncached",
        "canvas, cached",
        "canvas, 304",
        "user stats, uncached",
        "user stats, cached",
        "total stats, cached",
        "counter, read",
        "counter, increment",
        "place pixel",
    )
    ROWS = (
        *ENGINE_ROWS,
        *ENGINE_ROWS[:2],
        "canvas, near",
        *ENGINE_ROWS[2:],
    )
    AGAINST = ("canvas, cached", "canvas, near", "canvas, 304", "user stats, cached")
    GOALS: ClassVar[dict[str | None, float]] = {
        "canvas, cached": 1,
        "canvas, near": 0.05,
        "user stats, cached": 0.1,
        "total stats, cached": 0.1,
    }

    def test_ends_with_the_table(self) -> None:
        """On a throwaway server of its own."""
        done = run("demo", "--quick")
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        rows = lines[-len(self.ROWS) :]
        for line, name in zip(rows, self.ROWS, strict=True):
            assert line.startswith(name)
            goal = re.search(r"≤ ([\d.]+) × [\d.]+: (met|not met)$", line)
            assert (goal and float(goal[1])) == self.GOALS.get(name)
        cached = [line for line in rows if line.startswith("canvas, cached")]
        assert "memory engine" in cached[0]
        assert "redis" in cached[1]
        head = lines[-len(self.ROWS) - 2]
        assert head.split("  ")[-1] == "goal in hand"
        examples = [path.parent.name for path in EXAMPLES.glob("*/.env.example")]
        assert len(examples) == 5
        for name in examples:
            assert f"  make run-{name}" in lines

    def test_uses_the_configured_redis_and_leaves_nothing(
        self, redis_server: Server
    ) -> None:
        redis_server.cli("SET", "mural:canvas", "somebody's own")
        report = run_json(
            "demo", "--quick", env={"REDIS_URL": redis_server.patient_url}
        )
        assert redis_server.cli("KEYS", "*") == [b"mural:canvas"]
        assert [row["name"] for row in report["rows"]] == list(self.ROWS)
        for row in report["rows"]:
            assert row["requests"] == (3 if "uncached" in row["name"] else 50)
            assert 0 < row["hand_median_ms"] <= row["hand_p99_ms"]
            assert 0 < row["http_median_ms"] <= row["http_p99_ms"]
            assert row["hand_median_ms"] < row["http_median_ms"]
            compared = row["name"] in self.AGAINST
            for factor in ("faster_in_hand", "faster_over_http"):
                assert (row[factor] is not None) == compared
            goal = self.GOALS.get(row["name"])
            assert row["goal_ms"] == goal
            assert 0.01 < row["slower"] < 1000
            limit = None if goal is None else goal * row["slower"]
            met = None if limit is None else row["hand_median_ms"] <= limit
            assert row["met"] == met

    def test_goals_are_for_a_machine_of_known_speed(self) -> None:
        assert slower_than_quoted([0.46, 0.1, 0.5], 250_000) == pytest.approx(2)
        assert slower_than_quoted([0.0023], 2_500) == pytest.approx(1)
        times = Times([0.0019], [0.01])
        rows = [make_row("canvas, cached", "", times, slower) for slower in (1, 2)]
        assert [row.met for row in rows] == [False, True]
        assert make_row("place pixel", "", times, 1).met is None

    def test_serves_an_example(self, tmp_path: Path) -> None:
        port = free_port()
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("REDIS_")},
            "PORT": str(port),
            "MURAL_DB": str(tmp_path / "mural.db"),
        }
        command = (sys.executable, "-m", "redlane", "demo", "mural")
        with (
            (tmp_path / "log").open("wb") as log,
            started(command, env=environment, stdout=log, stderr=log) as child,
        ):
            example = RunningExample(port, child, tmp_path / "log")
            until(lambda: example.answers("/api/stats"), "the Mural", START_SECONDS)
            assert example.get_json("/api/stats")["total_pixels"] == 0
        PORTS.release(port)

    def test_names_the_examples_there_are(self) -> None:
        assert_failed(run("demo", "nothing"), "krowoc, ludo, matrx, mural, videocache")

    def test_a_configured_redis_that_is_away_is_one_line(self) -> None:
        done = run("demo", "--quick", env={"REDIS_URL": unused_url()})
        assert_failed(done, "refused")

    def test_says_which_packages_are_missing(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        assert main(["demo"]) == 1
        error = capsys.readouterr().err
        assert "flask, flask-sock, python-dotenv" in error
        assert "redlane[examples]" in error

    def test_says_when_there_is_no_server_program(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.delenv("REDIS_URL", raising=False)
        monkeypatch.setattr("shutil.which", lambda name: None)
        assert main(["demo"]) == 1
        assert "install redis-server" in capsys.readouterr().err

    def test_says_when_the_example_is_not_there(
        self,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        tmp_path: Path,
    ) -> None:
        monkeypatch.setattr(_demo, "__file__", str(tmp_path / "redlane" / "_demo.py"))
        monkeypatch.chdir(tmp_path)
        assert main(["demo"]) == 1
        assert "source tree" in capsys.readouterr().err


class TestOutput:
    @pytest.mark.parametrize(
        ("size", "text"),
        [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KB"),
            (64 << 20, "64.0 MB"),
            (5 << 40, "5.0 TB"),
            (9 << 50, "9216.0 TB"),
        ],
    )
    def test_human_bytes(self, size: int, text: str) -> None:
        assert human_bytes(size) == text

    def test_printable(self) -> None:
        assert printable("plain é") == "plain é"
        assert printable("a\x1b\n\ud800") == "a\\x1b\\n\\ud800"
