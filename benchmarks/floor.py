"""Builds and loads floor.c: the least that any client on hiredis can take."""

from __future__ import annotations

import ctypes
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = Path(__file__).with_name("floor.c")
LIBRARY = ROOT / "build" / "benchmarks" / "floor.so"
HIREDIS_FILES = ("alloc.c", "async.c", "hiredis.c", "net.c", "read.c", "sds.c")


class Floor:
    """OSError or RuntimeError when it cannot be built."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(str(_build()))
        library = self._library
        library.floor_connect.restype = ctypes.c_void_p
        library.floor_connect.argtypes = [ctypes.c_char_p, ctypes.c_int]
        library.floor_close.argtypes = [ctypes.c_void_p]
        library.floor_get.restype = ctypes.c_double
        library.floor_get.argtypes = [
            ctypes.c_void_p,
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.c_int,
        ]
        library.floor_array.restype = ctypes.c_double
        library.floor_array.argtypes = [
            ctypes.c_void_p,
            ctypes.c_int,
            ctypes.POINTER(ctypes.c_char_p),
            ctypes.c_size_t,
            ctypes.c_int,
        ]
        library.floor_pipeline.restype = ctypes.c_double
        library.floor_pipeline.argtypes = [
            ctypes.c_void_p,
            ctypes.POINTER(ctypes.c_char_p),
            ctypes.c_int,
            ctypes.c_size_t,
            ctypes.c_int,
        ]

    def connect(self, host: str, port: int) -> int:
        context: int | None = self._library.floor_connect(host.encode(), port)
        if not context:
            raise RuntimeError("the C loop cannot connect")
        return context

    def close(self, context: int) -> None:
        self._library.floor_close(context)

    def get(self, context: int, key: str, size: int, count: int) -> float:
        """Seconds that one blocking GET of a value of `size` bytes took."""
        return _checked(self._library.floor_get(context, key.encode(), size, count))

    def array(self, context: int, argv: list[str], elements: int, count: int) -> float:
        """Seconds that one command took whose reply is an array of `elements`."""
        texts = (ctypes.c_char_p * len(argv))(*(word.encode() for word in argv))
        return _checked(
            self._library.floor_array(context, len(argv), texts, elements, count)
        )

    def array_call(
        self, context: int, argv: list[str], elements: int
    ) -> Callable[[], None]:
        """The same once at each call."""
        texts = (ctypes.c_char_p * len(argv))(*(word.encode() for word in argv))
        call, given = self._library.floor_array, (context, len(argv), texts, elements)

        def once() -> None:
            _checked(call(*given, 1))

        return once

    def pipeline(self, context: int, keys: list[str], size: int, count: int) -> float:
        """Seconds that one pipeline with a GET of each key took."""
        array = (ctypes.c_char_p * len(keys))(*(key.encode() for key in keys))
        return _checked(
            self._library.floor_pipeline(context, array, len(keys), size, count)
        )


def _checked(seconds: float) -> float:
    if seconds < 0:
        raise RuntimeError("the C loop got an unexpected reply")
    return seconds


def _build() -> Path:
    hiredis = _hiredis_folder()
    sources = [SOURCE, *(hiredis / name for name in HIREDIS_FILES)]
    if LIBRARY.exists() and LIBRARY.stat().st_mtime > max(
        path.stat().st_mtime for path in sources
    ):
        return LIBRARY
    LIBRARY.parent.mkdir(parents=True, exist_ok=True)
    compiler = shlex.split(os.environ.get("CC", "gcc"))
    fresh = LIBRARY.with_suffix(f".{os.getpid()}.so")
    flags = ["-O3", "-DNDEBUG", "-shared", "-fPIC", f"-I{hiredis.parent}"]
    _run([*compiler, *flags, "-o", str(fresh), *map(str, sources)])
    fresh.replace(LIBRARY)
    return LIBRARY


def _hiredis_folder() -> Path:
    folder = ROOT / "vendor" / "hiredis"
    if not (folder / "hiredis.c").exists():
        _run([sys.executable, str(ROOT / "tools" / "fetch_hiredis.py")])
    return folder


def _run(command: list[str]) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stderr.strip()[-300:]}")
