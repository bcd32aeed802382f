"""The memory engine as a plain C program with the sanitizers, and links that speak RESP
to it and to a server. Nothing here knows the Python package."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path
from typing import Any

from compiled import compile_program
from servers import ReplyError, Server, encode_command

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests" / "core"
ASAN = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
TSAN = ["-fsanitize=thread"]
FLAGS = ["-std=gnu11", "-g", "-O1", f"-I{ROOT / 'src'}", f"-I{TESTS}"]


def engine_sources() -> list[Path]:
    """Everything the engine is made of; no file of them includes Python.h."""
    store = sorted((ROOT / "src" / "store").glob("engine*.c"))
    core = sorted((ROOT / "src" / "core").glob("*.c"))
    return [path for path in store if path.name != "engine_store.c"] + core


def compile_core(target: Path, sources: list[Path], *flags: str) -> Path:
    """A program of these sources, which need nothing but the C library."""
    return compile_program(target, sources, *FLAGS, *flags)


def compile_engine(target: Path, sources: list[Path], *flags: str) -> Path:
    """A program of the engine and these sources."""
    return compile_core(target, [*sources, *engine_sources()], *flags)


def compile_driver(folder: Path) -> Path:
    return compile_engine(
        folder / "driver", [TESTS / "engine" / "resp_driver.c"], *ASAN
    )


class RespLink:
    """One open conversation in RESP: ask() gives the reply, an error as an instance."""

    writer: Any
    reader: Any

    def ask(self, *args: object) -> Any:
        self.writer.write(encode_command(*args))
        self.writer.flush()
        return self.read()

    def read(self) -> Any:
        line = self.reader.readline()
        assert line.endswith(b"\r\n"), "the conversation ended"
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            return ReplyError(rest.decode(errors="backslashreplace"))
        if kind == b":":
            return int(rest)
        if rest == b"-1":
            return None
        if kind == b"$":
            return self.reader.read(int(rest) + 2)[:-2]
        assert kind == b"*", line
        return [self.read() for _ in range(int(rest))]

    def transaction(self, vectors: list[list[bytes]]) -> list[Any]:
        """MULTI, the vectors, EXEC; errors of single commands as instances."""
        raise NotImplementedError

    def close(self) -> None:
        self.writer.close()
        self.reader.close()


class DriverLink(RespLink):
    def __init__(self, program: Path, max_bytes: int | None = None) -> None:
        command = [str(program)] + ([str(max_bytes)] if max_bytes is not None else [])
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.writer, self.reader = self.process.stdin, self.process.stdout

    def transaction(self, vectors: list[list[bytes]]) -> list[Any]:
        for vector in [[b"MULTI"], *vectors, [b"EXEC"]]:
            self.writer.write(encode_command(*vector))
        self.writer.flush()
        line = self.reader.readline()
        return [self.read() for _ in range(int(line[1:-2]))]

    def close(self) -> None:
        """Ends the program; a leak or another finding of a sanitizer fails here."""
        super().close()
        assert self.process.wait(timeout=300) == 0


class ServerLink(RespLink):
    def __init__(self, server: Server) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=120)
        self.writer, self.reader = (
            self.socket.makefile("wb"),
            self.socket.makefile("rb"),
        )

    def transaction(self, vectors: list[list[bytes]]) -> list[Any]:
        queued = [self.ask(*vector) for vector in [[b"MULTI"], *vectors]][1:]
        done = self.ask("EXEC")
        if isinstance(done, ReplyError):  # EXECABORT
            return [
                reply if isinstance(reply, ReplyError) else done for reply in queued
            ]
        return list(done)

    def close(self) -> None:
        super().close()
        self.socket.close()
