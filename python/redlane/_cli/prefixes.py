"""Which prefixes the keys have, told from a sample of them by SCAN."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from redlane import Client, PermissionDeniedError, RedlaneError

DEPTH = 2  # parts of a key that make its group, the last part never among them
STEP = 1000  # keys that one SCAN looks at
WEIGHED = 20  # keys of a group whose memory is asked for


def group_of(key: bytes) -> bytes:
    """The pattern of the keys that belong together: 'cache:f:*' of 'cache:f:m:1',
    'user:*' of 'user:7', '/app/device/*' of a tenant's key, '*' of 'plain'."""
    if key.startswith(b"/"):
        separator, parts = b"/", key.split(b"/", DEPTH + 1)
    else:
        separator, parts = b":", key.split(b":", DEPTH)
    return separator.join([*parts[:-1], b"*"])


class Sampler:
    """Samples of the keys; each goes on where the one before has ended."""

    def __init__(self, client: Client[Any], size: int) -> None:
        self.client = client
        self.size = size
        self.cursor = 0

    def take(self) -> set[bytes]:
        """About `size` keys; all of them where there are no more. None for an ACL user
        who may not look."""
        keys: set[bytes] = set()
        while len(keys) < self.size:
            try:
                self.cursor, found = self.client.scan(
                    self.cursor, count=min(STEP, self.size)
                )
            except PermissionDeniedError:
                break
            keys.update(found)
            if self.cursor == 0:
                break
        return keys


def read_prefixes(keys: Iterable[bytes], total: int, most: int) -> list[dict[str, Any]]:
    """The `most` largest groups of a sample: the prefix, how many of the sample it has,
    its share, and how many keys that makes of all."""
    counts = Counter(map(group_of, keys))
    size = sum(counts.values())
    return [
        {
            "prefix": prefix,
            "sampled": count,
            "share": round(count / size, 4),
            "keys": count if size >= total else round(total * count / size),
        }
        for prefix, count in counts.most_common(most)
    ]


def weigh(
    client: Client[Any], keys: Iterable[bytes], rows: list[dict[str, Any]]
) -> None:
    """Sets 'memory' of each row: bytes, from the mean of a few of its keys; None where
    the server does not tell."""
    members: dict[bytes, list[bytes]] = {row["prefix"]: [] for row in rows}
    for key in keys:
        group = members.get(group_of(key))
        if group is not None and len(group) < WEIGHED:
            group.append(key)
    for row in rows:
        sizes = read_sizes(client, members[row["prefix"]])
        known = [size for size in sizes if size is not None]
        row["memory"] = round(sum(known) / len(known) * row["keys"]) if known else None


def read_sizes(client: Client[Any], keys: list[bytes]) -> list[int | None]:
    """Bytes that each key takes with its value; None for one that is gone, and where
    the server does not tell."""
    pipeline = client.pipeline()
    for key in keys:
        pipeline.execute_command("MEMORY USAGE", key)
    replies = pipeline.execute(raise_on_error=False)
    return [None if isinstance(reply, RedlaneError) else reply for reply in replies]
