"""A stored string for people and programs: its header, and its value where that can be
read without running anything."""

from __future__ import annotations

import base64
import json
import time
import zlib
from typing import Any

from redlane._cli.output import human_bytes, printable, shown
from redlane._core import _read_stored

INFLATED_MOST = 64 << 20  # bytes that are shown of a compressed value

# What a sealed value says of its serializer; 0x80 is added for what a function raised.
FORMATS = {1: "json", 2: "raw", 3: "msgpack", 4: "custom", 5: "pickle"}
RAISED = 0x80

LEASE = "a process is computing this value"


def describe(stored: bytes) -> tuple[dict[str, Any], Any]:
    """(what the header says, the value) as JSON has them. The header is empty for a
    value that needs none. What cannot be read is {"base64": …}."""
    kind, fields, content = _read_stored(stored)
    if kind == "value":
        return {}, plain_text(content)
    if kind == "lease":
        return {}, {"lease": LEASE}
    header: dict[str, Any] = {"kind": kind}
    if kind == "generation":
        return header, {"generation": int.from_bytes(content[4:], "big")}
    if kind == "raised":
        return header, plain_text(content)
    if kind == "unreadable":
        return header, Binary(stored)
    header.update(read_header(fields))
    if header["kind"] == "raised":  # marked as such again, inside of the seal
        content = _read_stored(content)[2]
    return header, read_content(header, content)


def read_header(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of an envelope by names that people know."""
    header: dict[str, Any] = {}
    if "expires_at" in fields:
        header["expires_at"] = as_time(fields["expires_at"])
        header["expired"] = fields["expires_at"] <= time.time() * 1000
    if "stored_at" in fields:
        header["stored_at"] = as_time(fields["stored_at"])
    if "compute_us" in fields:
        header["computed_in_ms"] = fields["compute_us"] / 1000
    if "tags" in fields:
        header["tags"] = [shown(key) for key, _ in fields["tags"]]
    if "raw_size" in fields:
        header["compression"] = "zlib"
        header["inflated_size"] = fields["raw_size"]
    if "format" in fields:
        header["sealed"] = "yes; not verified, for that takes the application's key"
        header["serializer"] = FORMATS.get(fields["format"] & ~RAISED, "unknown")
        header["key_id"] = fields["key_id"]
        if fields["format"] & RAISED:
            header["kind"] = "raised"
    return header


def as_time(milliseconds: int) -> str:
    """UTC; a moment that no calendar has as milliseconds."""
    try:
        seconds = time.gmtime(milliseconds // 1000)
    except (OverflowError, ValueError, OSError):
        return f"{milliseconds} ms"
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', seconds)}.{milliseconds % 1000:03}Z"


def read_content(header: dict[str, Any], content: bytes) -> Any:
    """The value in an envelope. Pickle is never opened: reading it runs what is in
    it."""
    serializer = header.get("serializer", "json")
    if serializer == "pickle":
        return {
            "pickle": f"{len(content):,} bytes, not opened: that could run anything"
        }
    if "compression" in header:
        inflated = inflate(content, header["inflated_size"])
        if inflated is None:
            return Binary(content)
        content = inflated
    if serializer == "msgpack":
        return read_msgpack(content)
    if serializer == "json":
        return plain_text(content)
    return text_of(content)


def inflate(content: bytes, size: int) -> bytes | None:
    """None for what is not that, or too large to be shown."""
    if size > INFLATED_MOST:
        return None
    try:
        inflated = zlib.decompressobj().decompress(content, size + 1)
    except zlib.error:
        return None
    return inflated if len(inflated) == size else None


def read_msgpack(content: bytes) -> Any:
    from msgspec import MsgspecError, msgpack, to_builtins

    try:
        return to_builtins(msgpack.decode(content), str_keys=True)
    except (MsgspecError, TypeError, ValueError, RecursionError):
        return Binary(content)


def plain(value: Any) -> Any:
    """`value` as JSON has it: JSON text parsed, other text as a string, other bytes as
    {"base64": …}; what the library stores, by its content."""
    if isinstance(value, dict):
        return {shown(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return describe(value)[1] if isinstance(value, bytes) else value


def plain_text(content: bytes) -> Any:
    value = text_of(content)
    if isinstance(value, str):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            pass
    return value


def text_of(content: bytes) -> Any:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return Binary(content)


class Binary(dict[str, str]):
    """{"base64": …}, of bytes that are no text."""

    def __init__(self, content: bytes) -> None:
        super().__init__(base64=base64.b64encode(content).decode())
        self.content = content


def pretty(value: Any) -> str:
    """For people: JSON indented, text as it is, other bytes by their length."""
    if isinstance(value, Binary):
        kind = "gzip" if value.content.startswith(b"\x1f\x8b") else "not text"
        return f"{len(value.content):,} bytes, {kind}"
    if isinstance(value, str):
        return "\n".join(map(printable, value.split("\n")))
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return "\n".join(map(printable, text.split("\n")))


def header_pairs(header: dict[str, Any]) -> list[tuple[str, str]]:
    """For people."""
    pairs = []
    for name, value in header.items():
        if isinstance(value, bool):
            value = "yes" if value else "no"
        elif isinstance(value, list):
            value = ", ".join(value)
        elif name == "inflated_size":
            value = human_bytes(value)
        pairs.append((name.replace("_", " "), str(value)))
    return pairs
