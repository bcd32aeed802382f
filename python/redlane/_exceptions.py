"""Exceptions as bytes: what a cached function raised, for later callers.

Nothing that is read makes a module be imported or code of another class run: a class is
found among the modules that are there, must be of those that the function's options
name, and only ``__new__`` and the built-in ``__init__`` behind it are called.
"""

from __future__ import annotations

import json
import sys
from types import WrapperDescriptorType
from typing import Any

__all__ = ["dump_exception", "load_exception"]

MARK = b"\xffRLX"
LIMIT = 64 << 10  # bytes; a larger one is not cached


def _is_plain(value: Any) -> bool:
    """Whether JSON gives it back as it is."""
    if value is None or type(value) in (bool, int, str):
        return True
    if type(value) is float:
        return value - value == 0  # finite
    if type(value) is list:
        return all(map(_is_plain, value))
    return type(value) is dict and all(
        type(key) is str and _is_plain(item) for key, item in value.items()
    )


def _find_class(module: str, qualname: str) -> Any:
    found: Any = sys.modules.get(module)
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found


def dump_exception(error: Exception) -> bytes | None:
    """The bytes; None when a reader could not find the class.

    Arguments and attributes that JSON would change are left out, and the message takes
    the arguments' place.
    """
    cls = type(error)
    if _find_class(cls.__module__, cls.__qualname__) is not cls:
        return None
    args = list(error.args)
    if isinstance(error, OSError):  # its args leave the file names out
        args = list(OSError.__reduce__(error)[1])
    state = {k: v for k, v in vars(error).items() if k != "__notes__"}
    known = {
        "class": [cls.__module__, cls.__qualname__],
        "args": args if _is_plain(args) else [str(error)],
        "state": state if _is_plain(state) else {},
    }
    data = MARK + json.dumps(known, separators=(",", ":")).encode()
    return data if len(data) <= LIMIT else None


def _make(cls: type[Exception], args: list[Any]) -> Exception:
    error = cls.__new__(cls, *args)
    for base in cls.__mro__:
        init = vars(base).get("__init__")
        if isinstance(init, WrapperDescriptorType):
            init(error, *args)
            break
    return error


def load_exception(
    data: bytes, allowed: tuple[type[Exception], ...]
) -> Exception | None:
    """A new exception like the one stored; None when the bytes do not tell of one."""
    try:
        known = json.loads(data[len(MARK) :])
        cls = _find_class(*known["class"])
        if not (isinstance(cls, type) and issubclass(cls, allowed)):
            return None
        error: Exception = _make(cls, known["args"])
        if not isinstance(error, cls):
            return None
        vars(error).update(known["state"])
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - whatever the bytes did to whichever class
        return None
    return error
