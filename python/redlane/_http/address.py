"""The address of a client: what its limits count by.

The peer's address is what the connection says. X-Forwarded-For is what anybody writes,
except for the entries that our own proxies have added, and these stand at its right:
with n proxies before the application, the n-th from the right is whom the outermost of
them has seen.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, ip_address

__all__ = ["client_address"]

UNKNOWN = "local"  # a Unix socket has no address


_LONGEST = 100  # characters; what is longer is no address, and is not remembered


def _normal(text: str) -> str | None:
    """An address as limits count it, IPv6 by its /64: one subscriber has all of that.
    None: it is none."""
    return _read(text) if len(text) <= _LONGEST else None


@lru_cache(maxsize=4096)
def _read(text: str) -> str | None:
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return f"{IPv6Address(int(address) >> 64 << 64)}/64"
    return str(address)


def client_address(
    peer: str | None, forwarded: str | None = None, trusted_hops: int = 0
) -> str:
    """The client's address.

    Args:
        peer: the address at the other end of the connection
        forwarded: X-Forwarded-For, its lines joined by commas
        trusted_hops: how many proxies of ours a request has come through, the peer
            among them; 0: X-Forwarded-For says nothing
    """
    if trusted_hops > 0 and forwarded:
        entries = [entry for entry in forwarded.split(",") if entry.strip()]
        if entries:
            # Of fewer entries than hops the first is what our own outermost has seen.
            seen = _normal(entries[-min(trusted_hops, len(entries))])
            if seen is not None:
                return seen
    return _normal(peer or "") or peer or UNKNOWN
