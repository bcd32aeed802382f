"""What the documentation says is run, and compared with what is there.

- ```python and ```pycon blocks of a page run one after another in one namespace; the
  results of pycon blocks must be those shown. A block after `<!-- compiled: reason -->`
  is compiled only.
- ```bash blocks after `<!-- run -->` run against a server of the test's own; every 6379
  becomes its port, so that no server of the machine is touched.
- Tables of options, variables, commands and errors are compared with the package.
"""

from __future__ import annotations

import ast
import doctest
import importlib.util
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.request import Request, urlopen

import pytest
import redlane
from http_tools import Asgi, Wsgi
from redlane import _core
from servers import PATIENT, Server, free_port, patient
from toolset import with_more_time
from upstash_gateway import Gateway

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = sorted(DOCS.rglob("*.md"))
OPERATIONS = (
    *("running-redis.md", "production.md"),
    *("watching.md", "troubleshooting.md", "cli.md"),
)
FENCE = re.compile(
    r"(?:^<!-- (?P<note>[^\n]*) -->\n\s*)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
SECONDS = 300


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    kind: str
    note: str
    text: str


def read_blocks(path: Path) -> list[Block]:
    text = path.read_text(encoding="utf-8")
    return [
        Block(
            path.name,
            text.count("\n", 0, match.start("text")) + 1,
            match["kind"],
            match["note"] or "",
            match["text"],
        )
        for match in FENCE.finditer(text)
    ]


PYTHON_PAGES = [
    page
    for page in PAGES
    if any(block.kind in ("python", "pycon") for block in read_blocks(page))
]


def ids_of(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


# --- Python -----------------------------------------------------------------------


@pytest.fixture
def environment(
    monkeypatch: pytest.MonkeyPatch, redis_server: Server
) -> Iterator[pytest.MonkeyPatch]:
    """None of redlane's variables but REDIS_URL, which names the test's server, and a
    default client of the test's own."""
    for name in list(os.environ):
        if name.startswith(("REDIS_", "UPSTASH_")) or name == "DEBUG":
            monkeypatch.delenv(name)
    monkeypatch.setenv("REDIS_URL", redis_server.patient_url)
    redlane.close_default_client()
    yield monkeypatch
    redlane.close_default_client()


def run_block(block: Block, text: str, names: dict[str, Any]) -> None:
    where = f"{block.page}:{block.line}"
    if block.note.startswith("compiled:"):
        assert block.note.partition(":")[2].strip(), f"{where}: no reason is given"
        compile(text, where, "exec")
        return
    if block.kind == "python":
        exec(compile("\n" * (block.line - 1) + text, where, "exec"), names)
        return
    lines: list[str] = []
    test = doctest.DocTestParser().get_doctest(text, names, where, where, block.line)
    assert test.examples, f"{where}: no example in it"
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
    runner.run(test, out=lines.append, clear_globs=False)
    assert not runner.failures, "".join(lines)
    names.update(test.globs)


@pytest.mark.parametrize("page", PYTHON_PAGES, ids=ids_of(PYTHON_PAGES))
@pytest.mark.parametrize("default", ["redis", "engine"])
def test_python_of_a_page(
    page: Path,
    default: str,
    environment: pytest.MonkeyPatch,
    redis_server: Server,
    rest: Gateway,
    tmp_path: Path,
) -> None:
    if default == "engine":
        environment.setenv("REDIS_URL", "memory://")
    environment.chdir(tmp_path)
    ours = {
        "localhost:6379": f"127.0.0.1:{redis_server.port}",
        "https://xxx.upstash.io": rest.url,
        '"AX…"': repr(rest.token),
    }

    def scenario(_: float) -> None:
        redlane.close_default_client()
        redis_server.cli("FLUSHALL")
        # Types made here are found by their module's name, as those of a program are.
        module = ModuleType("app")
        environment.setitem(sys.modules, "app", module)
        for block in read_blocks(page):
            if block.kind in ("python", "pycon"):
                text = block.text
                for shown, used in ours.items():
                    text = text.replace(shown, used)
                run_block(block, text, vars(module))

    # The pages show time-outs that a machine which stands still does not keep.
    with_more_time(scenario, 1, 1, 1)


def test_there_are_pages_with_python() -> None:
    assert {"getting-started.md", "caching.md", "clients.md", "errors.md"} <= {
        page.name for page in PYTHON_PAGES
    }


# --- README and examples ----------------------------------------------------------


def readme_block(note: str) -> Block:
    (block,) = [block for block in read_blocks(README) if block.note == note]
    return block


@pytest.mark.parametrize("example", ["plain.py", "flask_app.py", "fastapi_app.py"])
def test_readme_shows_the_example(example: str) -> None:
    shown = readme_block(f"examples/{example}").text
    text = (ROOT / "examples" / example).read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(text), clean=False)
    assert docstring
    assert shown == text.split('"""\n', 1)[1].lstrip("\n")


def environment_with(url: str) -> dict[str, str]:
    """The environment of a process that is to use that server alone."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("REDIS_", "UPSTASH_")) and name != "DEBUG"
    }
    return {**kept, "REDIS_URL": url}


def run_python(*arguments: str, url: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        env=environment_with(url),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def url_of(executor: str, server: Server) -> str:
    return "memory://" if executor == "engine" else server.patient_url


def test_readme_plain_python(
    executor: str, redis_server: Server, tmp_path: Path
) -> None:
    """It prints what its comments say."""
    block = readme_block("examples/plain.py")
    (tmp_path / "plain.py").write_text(block.text, encoding="utf-8")
    printed = run_python(
        "plain.py", url=url_of(executor, redis_server), folder=tmp_path
    )
    assert printed.splitlines() == [
        "computing 7",
        "49",
        "49",
        "cache:square:plain:7",
        "computing 7",
        "49",
        "visit 1",
    ]


@pytest.mark.parametrize("framework", ["flask", "fastapi"])
def test_readme_applications(
    framework: str,
    executor: str,
    environment: pytest.MonkeyPatch,
    redis_server: Server,
) -> None:
    environment.setenv("REDIS_URL", url_of(executor, redis_server))
    names: dict[str, Any] = {"__name__": f"{framework}_app"}
    exec(readme_block(f"examples/{framework}_app.py").text, names)
    ask = (Wsgi if framework == "flask" else Asgi)(names["app"])

    def get(path: str) -> Any:
        return json.loads(ask(path).body)

    first = get("/api/cached-data/7")
    assert first["user_id"] == 7
    assert get("/api/cached-data/7") == first
    words = [ask("/api/report").word for _ in range(2)]
    assert words == ["MISS", "HIT"]
    answer = ask("/api/invalidate-cache", method="POST")
    assert json.loads(answer.body) == {"invalidated": 2}
    assert get("/api/cached-data/7") != first
    statuses = [ask("/api/report").status for _ in range(4)]
    assert statuses == [200, 200, 200, 429]
    mode = "memory" if executor == "engine" else "redis"
    assert get("/health/deep")["mode"] == mode
    if isinstance(ask, Asgi):
        ask.run(redlane.aclose_default_client())
        ask.close()


@pytest.mark.parametrize("program", ["flask", "uvicorn"])
def test_applications_over_http(program: str, redis_server: Server) -> None:
    """By the commands that the README shows."""
    (command,) = [
        line
        for block in read_blocks(README)
        if block.kind == "bash"
        for line in block.text.splitlines()
        if line.startswith(f"{program} ")
    ]
    port = free_port()
    arguments = command.split()[1:]
    process = subprocess.Popen(
        [sys.executable, "-m", program, *arguments, "--port", str(port)],
        cwd=ROOT,
        env=environment_with(redis_server.patient_url),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        address = f"http://127.0.0.1:{port}"
        first = fetch(f"{address}/api/cached-data/3", process)
        assert fetch(f"{address}/api/cached-data/3", process) == first
        gone = fetch(f"{address}/api/invalidate-cache", process, "POST")
        assert json.loads(gone) == {"invalidated": 1}
    finally:
        process.kill()
        process.wait()


def fetch(url: str, process: subprocess.Popen[bytes], method: str = "GET") -> bytes:
    end = time.monotonic() + SECONDS
    while True:
        try:
            with urlopen(Request(url, method=method), timeout=SECONDS) as answer:
                body: bytes = answer.read()
                return body
        except OSError:
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)


def test_example_of_videos(executor: str, redis_server: Server, tmp_path: Path) -> None:
    example = ROOT / "examples" / "videos.py"
    url = url_of(executor, redis_server)
    printed = run_python(str(example), url=url, folder=tmp_path).splitlines()
    assert printed[0] == "https://example.org/1.mp4"
    stats = ast.literal_eval(printed[1])
    assert stats["cache_type"] == ("memory" if executor == "engine" else "redis")
    assert (stats["total_entries"], stats["hits"]) == (1, 1)


def test_tables_of_figures_have_their_rows() -> None:
    for path in (README, DOCS / "benchmarks.md"):
        text = path.read_text(encoding="utf-8")
        part = text.partition("<!-- figures: bench -->")[2].partition("<!-- end -->")[0]
        rows = re.findall(r"^\| (\d+) \|", part, re.MULTILINE)
        assert list(dict.fromkeys(rows)) == [str(row) for row in range(1, 20)]
    text = README.read_text(encoding="utf-8")
    part = text.partition("<!-- figures: demo -->")[2].partition("<!-- end -->")[0]
    assert len(re.findall(r"^\| canvas, near \|", part, re.MULTILINE)) == 1
    for row in ("canvas, cached", "canvas, 304", "user stats, cached", "counter, read"):
        assert len(re.findall(rf"^\| {row} \|", part, re.MULTILINE)) == 2, row


def test_readme_names_targets_that_exist() -> None:
    named = set(re.findall(r"`?make ([a-z-]+)", README.read_text(encoding="utf-8")))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    examples = {f"run-{path.parent.name}" for path in ROOT.glob("examples/*/README.md")}
    assert {"demo", "test"} | examples <= named <= targets | examples


# --- bash -------------------------------------------------------------------------


def run_bash(text: str, port: int, folder: Path) -> str:
    # The command is there as a module wherever the tests run.
    prelude = (
        f'set -euo pipefail\nredlane() {{ "{sys.executable}" -m redlane "$@"; }}\n'
    )
    script = prelude + text.replace("6379", str(port))
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=environment_with(patient(f"redis://127.0.0.1:{port}/0")),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def bash_blocks(page: str) -> list[Block]:
    blocks = [b for b in read_blocks(DOCS / page) if b.kind == "bash"]
    chosen = [b for b in blocks if b.note == "run"]
    assert chosen, f"{page}: no block is marked to be run"
    return chosen


def wait_for(port: int, answers: bool) -> None:
    wait_until(lambda: is_answering(port) == answers)


def is_answering(port: int) -> bool:
    with redlane.Client(f"redis://127.0.0.1:{port}", **PATIENT) as client:
        return bool(client.health()["connected"])


def test_bash_of_running_redis(tmp_path: Path) -> None:
    """Its blocks start a server of their own, in the background, and end it."""
    port = free_port()
    outputs = []
    try:
        for block in bash_blocks("running-redis.md"):
            outputs.append(run_bash(block.text, port, tmp_path))
            if "--daemonize yes" in block.text:
                wait_for(port, answers=True)
        wait_for(port, answers=False)
    finally:
        if is_answering(port):
            subprocess.run(
                ["redis-cli", "-p", str(port), "shutdown", "nosave"], check=False
            )
    assert any("PONG" in output for output in outputs)


@pytest.mark.parametrize("page", ["watching.md", "troubleshooting.md", "cli.md"])
def test_bash_of_operations(page: str, fresh_server: Server, tmp_path: Path) -> None:
    outputs = [
        run_bash(block.text, fresh_server.port, tmp_path) for block in bash_blocks(page)
    ]
    assert all(outputs)
    if page == "cli.md":
        assert fresh_server.cli("KEYS", "*") == []
    elif page == "watching.md":
        assert "PONG" in outputs[0]
        assert fresh_server.cli("EXISTS", "cache:example") == 0  # the last line's work
    else:
        policy = fresh_server.cli("CONFIG", "GET", "maxmemory-policy")
        assert policy == [b"maxmemory-policy", b"allkeys-lru"]


def test_no_run_block_touches_another_server() -> None:
    for page in OPERATIONS:
        for block in bash_blocks(page):
            for line in block.text.splitlines():
                if line.startswith("redis-cli"):
                    assert "-p 6379" in line, f"{page}:{block.line}"


# --- what the page on outages says ------------------------------------------------


def test_the_policies(fresh_server: Server) -> None:
    """The tables of "Which tool does what"."""
    client = redlane.Client(fresh_server.url, **PATIENT)
    cache = redlane.Cache(client)
    without = redlane.Cache(client, prefix="none", fallback="none")
    raising = redlane.Cache(client, prefix="raise", fallback="raise")
    fresh_server.kill()
    with pytest.raises(ConnectionError):
        client.get("k")
    assert cache.set("k", 1)
    assert cache.get("k") == 1
    assert without.set("k", 1)
    assert without.get("k") is None
    assert without.get_or_set("k", lambda: 2) == 2
    for call in (lambda: raising.get("k"), lambda: raising.get_or_set("k", int)):
        with pytest.raises(redlane.ConnectionError):
            call()
    health = client.health()
    assert (health["mode"], health["breaker"]) == ("away", "open")
    assert "Connection refused" in health["error"]


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


# --- links and nav ----------------------------------------------------------------


def slugs_of(path: Path) -> set[str]:
    """The anchors of a page's headings, as MkDocs makes them."""
    slugs: set[str] = set()
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        plain = re.sub(r"[^\w\s-]", "", title).strip().lower()
        slugs.add(re.sub(r"[-\s]+", "-", plain))
    return slugs


@pytest.mark.parametrize("page", [README, *PAGES], ids=ids_of([README, *PAGES]))
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), target
        if anchor:
            assert anchor in slugs_of(path), target


def test_nav_is_complete() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = re.findall(r":\s+([\w./-]+\.md)$", text, re.MULTILINE)
    assert sorted(named) == sorted(p.relative_to(DOCS).as_posix() for p in PAGES)


# --- names ------------------------------------------------------------------------


def read_table(path: Path, mark: str) -> list[list[str]]:
    """The rows of the tables after each `<!-- mark -->`, without their heads."""
    rows: list[list[str]] = []
    for part in path.read_text(encoding="utf-8").split(f"<!-- {mark} -->\n")[1:]:
        lines = part.lstrip("\n").splitlines()
        for line in lines[2:]:
            if not line.startswith("|"):
                break
            rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    assert rows, f"{path.name}: nothing under {mark}"
    return rows


def first_names(rows: list[list[str]]) -> list[str]:
    return [row[0].strip("`") for row in rows]


@pytest.mark.parametrize(
    "name",
    ["Client", "Cache", "Counter", "RateLimiter", "Concurrency", "VideoCache"],
)
def test_options_are_those_of_the_signature(name: str) -> None:
    rows = read_table(DOCS / "configuration.md", f"options: {name}")
    parameters = inspect.signature(getattr(redlane, name)).parameters
    assert first_names(rows) == list(parameters)
    for row, parameter in zip(rows, parameters.values(), strict=True):
        if parameter.default is parameter.empty:
            assert row[2] == "required"
        elif isinstance(parameter.default, str):
            assert row[2].startswith(f'`"{parameter.default}"`')
        elif isinstance(parameter.default, bool):
            assert row[2] == f"`{parameter.default}`"


def test_options_of_cached_functions() -> None:
    rows = first_names(read_table(DOCS / "configuration.md", "options: CachedFunction"))
    given: dict[str, Any] = dict.fromkeys(rows)
    given["lock"] = True
    assert redlane.Cache("memory://")(len, **given)([1]) == 1
    with pytest.raises(TypeError):
        redlane.Cache("memory://")(len, colour="red")
    documented = re.findall(r"^    (\w+):", _core.CachedFunction.__doc__ or "", re.M)
    assert rows == documented
    text = (DOCS / "caching.md").read_text(encoding="utf-8")
    table = text.partition("| option | meaning |\n|---|---|\n")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.M) == documented


def test_limits_of_options() -> None:
    """The numbers of the table."""
    assert redlane.Client("memory://").health()["engine"]["max_bytes"] == 67_108_864
    for option, good, bad in (
        ("timeout", 1_000_000, 1_000_001),
        ("connect_timeout", 1_000_000, 1_000_001),
        ("pool_size", 65_536, 65_537),
        ("max_reply", 1, 0),
        ("max_memory", 1, 0),
        ("name", "a-b", "a b"),
        ("decode_responses", True, 1),
        ("fallback", "none", "never"),
    ):
        redlane.Client("redis://127.0.0.1:1", **{option: good}).close()
        with pytest.raises(redlane.ConfigurationError, match=option):
            redlane.Client("redis://127.0.0.1:1", **{option: bad})


def test_variables_are_those_of_the_source() -> None:
    documented = first_names(read_table(DOCS / "configuration.md", "variables"))
    pattern = re.compile(
        r"(?:os\.environ(?:\.get)?|_variable)[([]\s*\"(\w+)\"|^_UPSTASH = (.*)$", re.M
    )
    found: set[str] = set()
    sources = [
        *(ROOT / "python" / "redlane").rglob("*.py"),
        ROOT / "setup.py",
        ROOT / "tools" / "fetch_hiredis.py",
    ]
    for source in sources:
        for name, several in pattern.findall(source.read_text(encoding="utf-8")):
            found.update([name] if name else re.findall(r'"(\w+)"', several))
    for source in (ROOT / "src").rglob("*.c"):
        found.update(re.findall(r'getenv\("(\w+)"\)', source.read_text("utf-8")))
    assert sorted(documented) == sorted(found)


def documented_signatures() -> dict[str, str]:
    text = (DOCS / "clients.md").read_text(encoding="utf-8")
    part = text.partition("## Commands\n")[2].partition("\n### ")[0]
    return dict(re.findall(r"^\| `(\w+)(\(.*?\))` \|", part, re.M))


def test_commands_are_those_of_the_client() -> None:
    others = {"execute", "execute_command", "from_env", "pipeline", "health", "close"}
    others |= {"subscribe", "listen"}  # on a page of their own
    methods = {
        name
        for name in dir(redlane.Client)
        if not name.startswith("_") and callable(getattr(redlane.Client, name))
    }
    documented = documented_signatures()
    assert set(documented) == methods - others
    text = (DOCS / "clients.md").read_text(encoding="utf-8")
    for name in others:
        assert f"{name}" in text
    for name, shown in documented.items():
        signature = inspect.signature(getattr(redlane.Client, name))
        parameters = [p for p in signature.parameters.values() if p.name != "self"]
        plain = [p.replace(kind=p.kind) for p in parameters]
        assert shown == str(signature.replace(parameters=plain)).replace("/, ", "")


def test_health_keys_are_those_of_the_report() -> None:
    text = (DOCS / "clients.md").read_text(encoding="utf-8")
    part = text.partition("## Health\n")[2].partition("\n## ")[0]
    documented = set()
    for cell in re.findall(r"^\| (`.*?`) \|", part, re.M):
        documented.update(re.findall(r"`(\w+)`", cell))
    assert documented == set(redlane.Client("memory://").health())


def test_near_keys_are_those_of_the_report(redis_server: Server) -> None:
    text = (DOCS / "near-cache.md").read_text(encoding="utf-8")
    part = text.partition('| in `health()["near"]` |')[2].partition("\n\n")[0]
    documented = set()
    for cell in re.findall(r"^\| (`.*?`) \|", part, re.M):
        documented.update(re.findall(r"`(\w+)`", cell))
    cache = redlane.Cache(redis_server.url)
    cache.get("k")
    assert documented == set(cache.client.health()["near"])
    cache.client.close()


def test_statistics_are_those_of_the_cache() -> None:
    text = (DOCS / "caching.md").read_text(encoding="utf-8")
    part = text.partition("## Statistics\n")[2]
    documented = set()
    for cell in re.findall(r"^\| (`.*?`) \|", part, re.M):
        documented.update(re.findall(r"`(\w+)`", cell))
    assert documented == set(redlane.Cache("memory://").stats())


def test_methods_of_the_cache_are_documented() -> None:
    text = (DOCS / "caching.md").read_text(encoding="utf-8")
    for cls in (redlane.Cache, redlane.Counter, redlane.VideoCache):
        for name, value in vars(cls).items():
            if not name.startswith("_") and callable(value):
                assert re.search(rf"`(\w+\.)?{name}\b", text), f"{cls.__name__}.{name}"


def test_errors_are_those_of_the_package() -> None:
    text = (DOCS / "errors.md").read_text(encoding="utf-8")
    tree = text.partition("<!-- hierarchy -->")[2].partition("```\n\n")[0]
    documented = dict(re.findall(r"^[│├└─ ]*(\w+) +(.+Error.*|Exception)$", tree, re.M))
    errors = {
        name: value
        for name in redlane.__all__
        if isinstance(value := getattr(redlane, name), type)
        and issubclass(value, Exception)
    }
    assert documented == {
        name: ", ".join(
            f"builtins.{base.__name__}"
            if base.__module__ == "builtins" and base.__name__ in errors
            else base.__name__
            for base in value.__bases__
        )
        for name, value in errors.items()
    }
    tables = set(re.findall(r"^\| `(\w+(?:Error|Exceeded))` \|", text, re.M))
    assert tables == set(errors) - {"RedlaneError"}


def test_log_lines_are_those_of_the_source() -> None:
    """Each line of the table stands in the source, its variable parts aside."""
    text = (DOCS / "outages.md").read_text(encoding="utf-8")
    part = text.partition("## What the log says\n")[2].partition("\n## ")[0]
    source = "".join(
        path.read_text(encoding="utf-8")
        for folder in ("src", "python/redlane")
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in (".c", ".py")
    )
    rows = re.findall(r"^\| \w+ \| (.*) \|$", part, re.M)
    lines = [line for row in rows for line in re.findall(r"`([^`]{15,})`", row)]
    assert len(lines) >= 7
    for line in lines:
        fixed = re.split(r"redis://\S+|\(.*\)| \d|app\.f|…|: Connection refused", line)
        for words in fixed:
            assert words.strip(" :⚠️✅") in source, line


def test_every_public_name_is_in_the_reference() -> None:
    spec = importlib.util.spec_from_file_location(
        "docs_pages", ROOT / "tools" / "docs_pages.py"
    )
    assert spec
    assert spec.loader
    pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pages)
    text = pages.on_page_markdown((DOCS / "api.md").read_text(encoding="utf-8"))
    headings = set(re.findall(r"^### (\w+)$", text, re.M))
    assert set(redlane.__all__) <= headings
    assert "<!-- generated" not in text
    for cls in (redlane.Client, redlane.Cache, redlane.Counter, _core.CachedFunction):
        for name, value in pages.public_members(cls):
            assert inspect.getdoc(value), f"{cls.__name__}.{name} has no docstring"
            assert f"#### {cls.__name__}.{name}\n" in text


def test_redis_cli_is_there() -> None:
    assert shutil.which("redis-cli"), "apt-get install redis-tools"
