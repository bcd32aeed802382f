"""For programs in which memory runs out, on purpose: code that outlives it.

CPython 3.12 and 3.13 lose a reference to the code of a function whose object finds no
memory when it is made. After as many failures the code is freed in use, and the
interpreter crashes, whoever called the function.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import types
from pathlib import Path
from typing import Any

IMMORTAL = 0xFFFFFFFF  # the count of references that neither falls nor rises


def keep_code(*programs: types.CodeType) -> None:
    """Makes the code of every function there is, and of `programs`, immortal."""
    if sys.version_info < (3, 12):
        return
    found: list[Any] = [*programs]
    found += [
        made.__code__ for made in gc.get_objects() if type(made) is types.FunctionType
    ]
    while found:
        code = found.pop()
        count = ctypes.c_uint32.from_address(id(code))
        if count.value != IMMORTAL:
            count.value = IMMORTAL
            found += [part for part in code.co_consts if type(part) is types.CodeType]


def environment() -> dict[str, str]:
    """For such a program: it finds this module, and makes the same allocations each
    time."""
    folder = str(Path(__file__).parent)
    return {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": folder}
