"""The Python of the documents on videos and on function caching, as written there,
with only its imports changed, on both executors.

Each file of tests/seeds/ is one snippet; it runs as the body of a function whose
arguments are the names that the document leaves open.
"""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redlane
from conftest import make_client
from redlane import VideoCache, content_key

SEEDS = Path(__file__).parent / "seeds"
HAPPINESS = ("What's the secret to happiness?", ["Cats with opposable thumbs"])


@pytest.fixture
def default(
    executor: str, redis_server: Any, request: pytest.FixtureRequest
) -> Iterator[Any]:
    """The default client, on each executor in turn."""
    client = make_client(executor, request)
    redlane.configure(client)
    yield client
    redlane.close_default_client()


def run_snippet(name: str, **names: Any) -> dict[str, Any]:
    """The names that the snippet leaves."""
    body = textwrap.indent((SEEDS / name).read_text(), "    ")
    source = f"async def snippet({', '.join(names)}):\n{body}\n    return locals()\n"
    scope: dict[str, Any] = {"__name__": "app"}
    exec(compile(source, name, "exec"), scope)
    found: dict[str, Any] = asyncio.run(scope["snippet"](**names))
    return found


def test_cache_operations(default: Any) -> None:
    found = run_snippet("video_operations.py", video_cache=redlane.video_cache)
    assert found["url"] == "https://video.url/abc123.mp4"
    assert default.ttl(content_key("video", *HAPPINESS)) == -1


def test_cache_keys(default: Any) -> None:
    shape = run_snippet("video_key.py")["key"]
    key = content_key("video", *HAPPINESS)
    assert key.split(":")[0] == shape.split(":")[0]
    assert len(key) == len("video:") + 64


def test_the_connection(
    default: Any, executor: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stats = run_snippet("video_connection.py")["stats"]
    printed = capsys.readouterr().out.strip()
    assert (
        printed == stats["cache_type"] == ("redis" if executor == "redis" else "memory")
    )


def test_test_cache_operations(
    default: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run_snippet("video_test.py", video_cache=VideoCache(default))
    assert capsys.readouterr().out == "http://test.mp4\nTotal entries: 1\n"
    assert (found["stats"]["hits"], found["stats"]["misses"]) == (1, 0)


def test_permanent_and_temporary(default: Any) -> None:
    video_cache = VideoCache(default)
    run_snippet(
        "video_permanent.py",
        video_cache=video_cache,
        winner_black="black",
        winner_whites=["white"],
        generated_url="winner",
    )
    run_snippet(
        "video_temporary.py",
        video_cache=video_cache,
        black="black",
        whites=["white"],
        url="temporary",
    )
    run_snippet(
        "video_temporary.py",
        video_cache=video_cache,
        black="b",
        whites=["w"],
        url="url",
    )
    assert video_cache.get("black", ["white"]) == "winner"
    assert default.ttl(content_key("video", "black", ["white"])) == -1
    assert 86_000 < default.ttl(content_key("video", "b", ["w"])) <= 86_400


def test_pregeneration(default: Any) -> None:
    video_cache = VideoCache(default)
    made = []

    async def generate_video(combo: Any) -> str:
        made.append(combo.black)
        return f"http://{combo.black}.mp4"

    combos = [SimpleNamespace(black=name, whites=["w"]) for name in ("a", "b", "a")]
    for _ in range(2):
        run_snippet(
            "video_pregeneration.py",
            video_cache=video_cache,
            popular_combinations=combos,
            generate_video=generate_video,
        )
    assert made == ["a", "b"]
    assert video_cache.get("b", ["w"]) == "http://b.mp4"


def test_hit_rate(default: Any, capsys: pytest.CaptureFixture[str]) -> None:
    video_cache = VideoCache(default)
    names = {"video_cache": video_cache, "black": "a", "whites": ["b"]}
    assert run_snippet("video_hit_rate.py", **names)["hit_rate"] == 0
    video_cache.set("a", ["b"], "url")
    assert run_snippet("video_hit_rate.py", **names)["hit_rate"] == 1
    assert capsys.readouterr().out == "Cache hit rate: 0.00%\nCache hit rate: 100.00%\n"


def test_function_caching_and_invalidation(default: Any) -> None:
    # The function is made inside another one: its key begins with its own name alone.
    make = lambda result: run_snippet("krowoc_cache.py", result=result)  # noqa: E731
    f = make({"data": [1, 2]})["expensive_function"]
    assert f(42) == {"data": [1, 2]}
    assert f(43) == {"data": [1, 2]}
    assert make("other")["expensive_function"](user_id=42) == {"data": [1, 2]}
    keys = sorted(default.scan_iter())
    assert keys == [
        b"cache:expensive_function:app:42",
        b"cache:expensive_function:app:43",
    ]
    assert 0 < default.ttl(keys[0]) <= 60
    run_snippet("krowoc_invalidate.py")
    assert default.dbsize() == 0
    assert make("other")["expensive_function"](42) == "other"
    assert redlane.invalidate_cache("cache:expensive_function:*") == 1
