"""compose.yaml and Dockerfile of every example, read but not run: there is no Docker
where these tests run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted((ROOT / "examples").glob("*/compose.yaml"))
INSTRUCTIONS = {
    *("FROM", "RUN", "WORKDIR", "COPY", "ENV", "VOLUME", "USER", "EXPOSE", "CMD"),
}
REDIS = {
    "image": "redis:7-alpine",
    "command": "redis-server --appendonly yes",
}


def load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


def application(path: Path) -> dict[str, Any]:
    """The one service beside Redis."""
    services = load(path)["services"]
    (name,) = set(services) - {"redis"}
    service: dict[str, Any] = services[name]
    return service


def test_each_example_has_its_files() -> None:
    folders = sorted(path.parent for path in ROOT.glob("examples/*/.env.example"))
    assert [path.parent for path in FILES] == folders
    assert len(folders) == 5


def test_images_leave_out_what_git_ignores() -> None:
    """The context is the whole source tree: no secret and no other machine's binary
    goes along."""
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split("\n")
    assert {"**/.env", "**/*.so", ".git", ".venv*", "vendor"} <= set(ignored)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
class TestCompose:
    def test_redis_works_alone(self, path: Path) -> None:
        """`docker compose up redis`: port 6379, and a named volume on /data."""
        content = load(path)
        redis = content["services"]["redis"]
        assert {name: redis[name] for name in REDIS} == REDIS
        # It asks for no password: nobody else is to reach it.
        assert redis["ports"] == ["127.0.0.1:6379:6379"]
        (volume,) = redis["volumes"]
        name, target = volume.split(":")
        assert target == "/data"
        assert name in content["volumes"]
        assert "depends_on" not in redis
        assert "build" not in redis

    def test_the_application_is_built_from_the_source_tree(self, path: Path) -> None:
        build = application(path)["build"]
        context = (path.parent / build["context"]).resolve()
        assert context == ROOT
        assert context / build["dockerfile"] == path.with_name("Dockerfile")

    def test_the_application_meets_redis_by_its_service(self, path: Path) -> None:
        service = application(path)
        assert "redis" in service["depends_on"]
        urls = [
            value
            for value in service["environment"].values()
            if str(value).startswith("redis://") or str(value) == "redis:6379"
        ]
        assert urls, "no variable names the service"
        assert all("redis:6379" in url for url in urls)

    def test_volumes_are_declared(self, path: Path) -> None:
        content = load(path)
        used = {
            volume.split(":")[0]
            for service in content["services"].values()
            for volume in service.get("volumes", ())
        }
        assert used == set(content["volumes"])

    def test_variables_are_those_of_the_env_example(self, path: Path) -> None:
        """Every variable of `.env.example` is one the document names; what compose
        sets beyond it is for the server program."""
        text = path.with_name(".env.example").read_text(encoding="utf-8")
        known = set(re.findall(r"^#? ?([A-Z][A-Z0-9_]+)=", text, re.MULTILINE))
        server = {"WEB_CONCURRENCY", "PORT", "HOST", "WORKERS"}
        assert set(application(path)["environment"]) <= known | server

    def test_dockerfile(self, path: Path) -> None:
        """It starts from a pinned Python, copies and runs what is there, and serves
        all of the container's addresses, not as root."""
        text = path.with_name("Dockerfile").read_text(encoding="utf-8")
        lines = [
            line.split(maxsplit=1)
            for line in text.replace("\\\n", " ").split("\n")
            if line.strip() and not line.startswith("#")
        ]
        assert {word for word, _ in lines} <= INSTRUCTIONS
        first, rest = lines[0]
        assert first == "FROM"
        assert re.fullmatch(r"python:3\.1[0-3]-slim-\w+", rest)
        for word, rest in lines:
            if word == "COPY":
                for source in rest.split()[:-1]:
                    assert (ROOT / source).exists(), source
        for named in re.findall(r"(?:examples|tools)/[\w./]+", text):
            assert (ROOT / named).exists(), named
        users = [rest for word, rest in lines if word == "USER"]
        assert users
        assert users[-1] != "root"
        last, command = lines[-1]
        assert last == "CMD"
        arguments = json.loads(command)
        assert {"gunicorn", "uvicorn"} & set(arguments[:3])
        assert "0.0.0.0" in command
        ports = [rest for word, rest in lines if word == "EXPOSE"]
        published = [str(port).split(":") for port in application(path)["ports"]]
        assert [("127.0.0.1", port) for port in ports] == [
            (address, inside) for address, _, inside in published
        ]
