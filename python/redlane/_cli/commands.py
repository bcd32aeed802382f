"""A line of MONITOR taken apart: who sent which command about which keys.

What may hold a secret is taken out here, before anything is shown or counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

LINE_MOST = 64 << 10  # bytes of a line that are looked at; a value may go on after them
WORD_MOST = 1000  # bytes that are kept of a command's argument
REDACTED = b"(redacted)"

HEAD = re.compile(rb"\+(\d+)\.(\d+) \[(\d+) (.*?)\] (?=\")")
ARGUMENT = re.compile(rb'"([^"\\]*(?:\\.[^"\\]*)*)" ?')
ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)
BEGINNING = re.compile(rb"(?:[^\\]|\\x[0-9a-fA-F]{2}|\\.){0,%d}" % WORD_MOST, re.DOTALL)
ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b"}


def names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# No argument of theirs is shown.
SECRET = names("AUTH HELLO ACL MIGRATE SENTINEL CONFIG REPLCONF")
# Their second word is a part of the name.
CONTAINERS = names(
    "ACL CLIENT CLUSTER COMMAND CONFIG DEBUG FUNCTION LATENCY MEMORY MODULE OBJECT "
    "PUBSUB SCRIPT SENTINEL SLOWLOG XGROUP XINFO"
)
# Their arguments are no keys.
KEYLESS = names(
    "ACL ASKING AUTH BGREWRITEAOF BGSAVE CLIENT CLUSTER COMMAND CONFIG DBSIZE DISCARD "
    "ECHO EXEC FAILOVER FLUSHALL FLUSHDB FUNCTION HELLO INFO KEYS LASTSAVE LATENCY "
    "LOLWUT MIGRATE MODULE MONITOR MULTI PING PSYNC QUIT RANDOMKEY READONLY READWRITE "
    "REPLCONF REPLICAOF RESET ROLE SAVE SCAN SCRIPT SELECT SENTINEL SHUTDOWN SLAVEOF "
    "SLOWLOG SWAPDB SYNC TIME UNWATCH WAIT WAITAOF"
)
# All their arguments are keys, or channels.
MANY = names(
    "DEL EXISTS MGET PFCOUNT PFMERGE PSUBSCRIBE PUNSUBSCRIBE RENAME RENAMENX SDIFF "
    "SDIFFSTORE SINTER SINTERSTORE SSUBSCRIBE SUBSCRIBE SUNION SUNIONSTORE "
    "SUNSUBSCRIBE TOUCH UNLINK UNSUBSCRIBE WATCH"
)
# Where the number of keys stands that come next.
NUMBERED = {
    **dict.fromkeys(names("LMPOP SINTERCARD ZDIFF ZINTER ZINTERCARD ZMPOP ZUNION"), 1),
    **dict.fromkeys(names("EVAL EVALSHA EVAL_RO EVALSHA_RO FCALL FCALL_RO"), 2),
    **dict.fromkeys(names("BLMPOP BZMPOP ZDIFFSTORE ZINTERSTORE ZUNIONSTORE"), 2),
}
# All their arguments but the last, a time-out, are keys.
BLOCKING = names("BLPOP BRPOP BZPOPMAX BZPOPMIN")


@dataclass(frozen=True)
class Event:
    """One command that the server has executed."""

    at: float  # Unix seconds, by the server's clock
    db: int
    client: str  # address, or "lua" for what a script did
    command: str  # upper case, "CLIENT LIST"
    keys: tuple[bytes, ...]
    arguments: tuple[bytes, ...]  # all behind the command; secrets are taken out
    size: int  # bytes of the line


def read_event(line: bytes, size: int | None = None) -> Event | None:
    """The event in a line; None for what is none. `size` is the line's where it was
    cut."""
    head = HEAD.match(line)
    if head is None:
        return None
    words = list(read_words(line, head.end()))
    if not words:  # a name that was cut
        return None
    command, arguments = read_command(words)
    seconds, micros, db, client = head.groups()
    return Event(
        at=int(seconds) + int(micros) / 1e6,
        db=int(db),
        client=client.decode("ascii", "backslashreplace"),
        command=" ".join(
            word.decode("ascii", "backslashreplace").upper() for word in command
        ),
        keys=tuple(find_keys(command, arguments)),
        arguments=tuple(arguments),
        size=size or len(line),
    )


def read_words(line: bytes, start: int) -> Iterator[bytes]:
    """The words that are there whole; the last one of a line that was cut is not."""
    while (found := ARGUMENT.match(line, start)) is not None:
        yield read_word(found[1])
        start = found.end()


def read_word(word: bytes) -> bytes:
    """The first WORD_MOST bytes of an argument that the server has escaped."""
    if b"\\" not in word:
        return word[:WORD_MOST]
    beginning = BEGINNING.match(word)
    return ESCAPE.sub(unescape_one, beginning.group() if beginning else b"")


def unescape_one(match: re.Match[bytes]) -> bytes:
    code = match[1]
    if len(code) == 3:
        return bytes.fromhex(code[1:].decode())
    return ESCAPED.get(code, code)


def read_command(words: list[bytes]) -> tuple[list[bytes], list[bytes]]:
    """(the command's name, its arguments without secrets)"""
    name = upper(words[0])
    split = 2 if name in CONTAINERS else 1
    arguments = words[split:]
    if name in SECRET and arguments:
        arguments = [REDACTED]
    return words[:split], arguments


def upper(word: bytes) -> str:
    return word.decode("ascii", "replace").upper()


def find_keys(command: list[bytes], arguments: list[bytes]) -> list[bytes]:
    """Those of the arguments that are keys; for a command of a module the first."""
    name = upper(command[0])
    if name in KEYLESS or not arguments:
        return []
    if name in MANY:
        return arguments
    if name in BLOCKING:
        return arguments[:-1]
    if name in NUMBERED:
        return numbered_keys(name, arguments)
    if name in ("MSET", "MSETNX"):
        return arguments[::2]
    if name in ("XREAD", "XREADGROUP"):
        return stream_keys(arguments)
    return arguments[1:2] if name == "BITOP" else arguments[:1]


def numbered_keys(name: str, arguments: list[bytes]) -> list[bytes]:
    at = NUMBERED[name] - 1
    count = arguments[at] if at < len(arguments) else b""
    keys = arguments[at + 1 :][: int(count)] if count.isdigit() else []
    # ZUNIONSTORE target 2 a b
    return [arguments[0], *keys] if name.endswith("STORE") else keys


def stream_keys(arguments: list[bytes]) -> list[bytes]:
    """XREAD COUNT 2 STREAMS a b 0 0"""
    for place, word in enumerate(arguments):
        if upper(word) == "STREAMS":
            rest = arguments[place + 1 :]
            return rest[: len(rest) // 2]
    return []
