"""What the relay says to the connections of this process, and what they say to it.

They speak RESP2: commands as arrays of strings come in, replies go out. Towards the
server both are JSON, which holds text alone: a command with an argument that is not
UTF-8 is wrapped in a script that gets its bytes as the characters U+0000 to U+00FF and
makes bytes of them again.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any

from redlane import _core

__all__ = [
    "CommandReader",
    "UnsendableError",
    "encode_error",
    "encode_reply",
    "failure",
    "is_ours",
    "words_of",
]

_ERROR_MOST = 480  # bytes of an error line
_OURS = "RELAY "
_ERROR_LINE = re.compile("[A-Z]+ ")  # never in base64, which has no space

# A character from U+0080 on is two bytes: the first says which half. Undone for each
# argument that has one; the others pass as they are.
_DECODE = """\
local redlane_bytes={} \
for i=128,191 do local c=string.char(i) \
redlane_bytes['\\194'..c]=c redlane_bytes['\\195'..c]=string.char(i+64) end \
local function redlane_decode(t) local r={} \
for i=1,#t do r[i]=(string.gsub(t[i],'[\\194\\195][\\128-\\191]',redlane_bytes)) end \
return r end \
"""
_CALL = _DECODE + "return redis.pcall(unpack(redlane_decode(ARGV)))"
_PROLOGUE = _DECODE + "local KEYS,ARGV=redlane_decode(KEYS),redlane_decode(ARGV) "
_SCRIPTS = frozenset({b"EVAL", b"EVALSHA", b"EVAL_RO", b"EVALSHA_RO"})


class CommandReader:
    """Commands out of bytes that come in pieces."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._argv: list[bytes] = []
        self._left = 0  # arguments of the command that has begun
        self._size = -1  # of the argument that has begun

    @property
    def partial(self) -> bool:
        """Whether the rest of a command is still to come."""
        return bool(self._left or self._data)

    def feed(self, data: bytes) -> list[list[bytes]]:
        """The commands that are complete now."""
        self._data += data
        commands = []
        position = 0
        while True:
            if self._left and self._size >= 0:
                end = position + self._size
                if len(self._data) < end + 2:
                    break
                self._argv.append(bytes(self._data[position:end]))
                position = end + 2
                self._size = -1
                self._left -= 1
                if not self._left:
                    commands.append(self._argv)
                    self._argv = []
                continue
            end = self._data.find(b"\r\n", position)
            if end < 0:
                break
            number = int(self._data[position + 1 : end])
            position = end + 2
            if self._left:
                self._size = number
            else:
                self._left = number
        del self._data[:position]
        return commands


# --- commands ---------------------------------------------------------------------


def words_of(command: list[bytes]) -> list[str]:
    """A command as JSON can hold it."""
    try:
        return [word.decode() for word in command]
    except UnicodeDecodeError:
        pass
    if command[0].upper() in _SCRIPTS:
        return _wrap_script(command)
    return ["EVAL", _CALL, "0", *map(_as_characters, command)]


def _as_characters(word: bytes) -> str:
    return word.decode("latin-1")


def _wrap_script(command: list[bytes]) -> list[str]:
    """The same script, which undoes it first. Of one that is named by its hash the text
    must be known, or the caller is told to send it."""
    name, script, *rest = command
    if name.upper().startswith(b"EVALSHA"):
        text = _core._script_text(script)
        if text is None:
            raise UnsendableError(
                "NOSCRIPT an argument is not UTF-8: send the script's text, by EVAL"
            )
    else:
        text = script
    try:
        source = text.decode()
    except UnicodeDecodeError:
        raise UnsendableError("ERR the text of a script must be UTF-8") from None
    first, line = "", source
    if source.startswith("#!"):
        first, _, line = source.partition("\n")
        first += "\n"
    return [
        "EVAL_RO" if name.upper().endswith(b"_RO") else "EVAL",
        f"{first}{_PROLOGUE}{line}",
        *map(_as_characters, rest),
    ]


class UnsendableError(Exception):
    """A command that cannot be sent; its text is an error line."""


# --- replies ----------------------------------------------------------------------


def encode_error(line: str) -> bytes:
    """An error reply."""
    plain = line.replace("\r", " ").replace("\n", " ")
    text = plain.encode("utf-8", "replace")[:_ERROR_MOST]
    return b"-%s\r\n" % (text or b"ERR")


def failure(kind: str, reason: str, retry_after: int = 0) -> str:
    """The error line of a relay that failed at what was asked: ``away`` where nothing
    was executed, ``unsure`` where it may have been, ``refused`` where the server will
    not serve us. ``retry_after``: seconds; -1: ever more of them."""
    return f"{_OURS}{kind} {retry_after} {reason}"


def is_ours(line: str) -> bool:
    """Whether an error line would be taken for such a one."""
    return line.startswith(_OURS)


def encode_reply(
    value: Any, command: bytes = b"", error: Callable[[str], bytes] = encode_error
) -> bytes:
    """A reply out of JSON whose strings are in base64, but for OK, and for errors that
    a script's reply has inside, which `error` encodes.

    :raises ValueError: what is none
    """
    if command == b"PING" and value in ("UE9ORw==", "PONG"):
        return b"+PONG\r\n"
    parts: list[bytes] = []
    _append_reply(parts, value, error)
    return b"".join(parts)


def _append_reply(
    parts: list[bytes], value: Any, error: Callable[[str], bytes]
) -> None:
    if isinstance(value, str):
        if value == "OK":
            parts.append(b"+OK\r\n")
            return
        data = base64.b64decode(value, validate=True)
        parts += (b"$%d\r\n" % len(data), data, b"\r\n")
    elif value is None:
        parts.append(b"$-1\r\n")
    elif isinstance(value, list):
        parts.append(b"*%d\r\n" % len(value))
        for each in value:
            if isinstance(each, str) and _ERROR_LINE.match(each):
                parts.append(error(each))
            else:
                _append_reply(parts, each, error)
    elif isinstance(value, int) and -(2**63) <= value < 2**63:
        parts.append(b":%d\r\n" % value)
    elif isinstance(value, float):
        data = repr(value).encode()
        parts += (b"$%d\r\n" % len(data), data, b"\r\n")
    else:
        raise ValueError("a reply of no known type")
