"""compose.yaml and Dockerfile of every example, read but not run: there is no Docker
where these tests run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted((ROOT / "examples").glob("*/compose.yaml"))
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


def test_mural_has_a_compose_file() -> None:
    assert ROOT / "examples" / "mural" / "compose.yaml" in FILES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
class TestCompose:
    def test_redis_works_alone(self, path: Path) -> None:
        """`docker compose up redis`: port 6379, and a named volume on /data."""
        content = load(path)
        redis = content["services"]["redis"]
        assert {name: redis[name] for name in REDIS} == REDIS
        assert [str(port).split(":")[-2:] for port in redis["ports"]] == [
            ["6379", "6379"]
        ]
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
        """It starts from a pinned Python, and copies and runs what is there."""
        text = path.with_name("Dockerfile").read_text(encoding="utf-8")
        joined = text.replace("\\\n", " ")
        lines = [
            line
            for line in joined.split("\n")
            if line.strip() and not line.startswith("#")
        ]
        assert re.fullmatch(r"FROM python:3\.1[0-3]-slim-\w+", lines[0])
        for line in lines:
            assert line.split()[0] in (
                *("FROM", "RUN", "WORKDIR", "COPY", "VOLUME", "EXPOSE", "CMD"),
                *("ENV", "USER"),
            )
        assert lines[-1].startswith("CMD [")
        ports = {str(port).split(":")[-1] for port in application(path)["ports"]}
        assert re.findall(r"^EXPOSE (\d+)$", joined, re.MULTILINE) == sorted(ports)
        for named in re.findall(r"(?:examples|tools)/[\w./]+", joined):
            assert (ROOT / named).exists(), named
