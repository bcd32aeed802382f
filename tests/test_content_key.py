"""content_key: SHA-256 of the compact JSON that any language can write."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redlane import content_key


def expected(prefix: str, black: str, white: list[str]) -> str:
    text = json.dumps([black, white], ensure_ascii=False, separators=(",", ":"))
    return f"{prefix}:{hashlib.sha256(text.encode()).hexdigest()}"


def test_a_fixed_key() -> None:
    assert content_key("video", "test", ["card"]) == (
        "video:" + hashlib.sha256(b'["test",["card"]]').hexdigest()
    )
    assert content_key("video", "", []) == expected("video", "", [])
    assert content_key("vidéo", "a", ["b"]) == expected("vidéo", "a", ["b"])


@given(st.text(max_size=5), st.text(), st.lists(st.text(), max_size=5))
def test_it_is_what_json_dumps_writes(
    prefix: str, black: str, white: list[str]
) -> None:
    key = content_key(prefix, black, white)
    assert key == expected(prefix, black, white)
    assert (
        key
        == content_key(prefix, black, tuple(white))
        == content_key(prefix, black, iter(white))
    )


def test_order_and_boundaries_matter() -> None:
    keys = {
        content_key("video", "a", ["b", "c"]),
        content_key("video", "a", ["c", "b"]),
        content_key("video", "a", ['b","c']),
        content_key("video", 'a",["b', ["c"]),
        content_key("video", "a", ["bc"]),
    }
    assert len(keys) == 5


def test_large_cards() -> None:
    white = ["é" * 100_000, '"' * 100_000]
    assert content_key("video", "a", white) == expected("video", "a", white)
    assert content_key("video", "a", ["b"]) == expected("video", "a", ["b"])


def test_subclasses_of_str_run_no_code() -> None:
    class Card(str):
        def __str__(self) -> str:
            raise AssertionError("ran")

        encode = __eq__ = __hash__ = __str__  # type: ignore[assignment]

    assert content_key("video", Card("a"), [Card("b")]) == expected("video", "a", ["b"])


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("video", "a"),
        (b"video", "a", []),
        ("video", b"a", []),
        ("video", "a", "cards"),
        ("video", "a", b"cards"),
        ("video", "a", [1]),
        ("video", "a", [None]),
        ("video", "a", None),
        ("video", "a", 5),
    ],
    ids=repr,
)
def test_wrong_types(args: Any) -> None:
    with pytest.raises(TypeError):
        content_key(*args)


def test_lone_surrogates_have_no_utf8() -> None:
    for args in (("\ud800", []), ("a", ["\udfff"])):
        with pytest.raises(UnicodeEncodeError):
            content_key("video", *args)
