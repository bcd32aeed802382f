"""The command line: arguments in, a table or JSON out, and the exit code.

Exit codes: 0 for success, 1 for what went wrong (one line on stderr), 2 for usage.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from redlane import RedlaneError
from redlane._cli import bench, demo, doctor, keyspace, monitor, server, top
from redlane._cli.output import Failure, printable


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. `argv` are the arguments after the program's name (those of
    the process by default). Returns the exit code; SystemExit(2) for usage."""
    # The defaults stand here, for the options may come before or after the command.
    args = build_parser().parse_args(argv, argparse.Namespace(url=None, json=False))
    # What the library logs about an outage would stand beside our own line.
    logging.getLogger("redlane").addHandler(logging.NullHandler())
    run: Callable[[argparse.Namespace], int] = args.run
    try:
        return run(args)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output went away; the flush at exit must not fail too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (RedlaneError, Failure, OSError) as error:
        print(f"redlane: {printable(str(error))}", file=sys.stderr)
        return 1


class Parser(argparse.ArgumentParser):
    """Takes options by their whole names only; so do its commands."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)


def build_parser() -> argparse.ArgumentParser:
    common = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument(
        "--url", help="server to use, or memory:// (default: from the environment)"
    )
    common.add_argument("--json", action="store_true", help="JSON instead of a table")
    parser = Parser(
        prog="redlane",
        description="Looks at what redlane uses, and measures it.",
        parents=[common],
    )
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", dest="command", required=True
    )
    for module in (doctor, server, top, keyspace, monitor, bench, demo):
        module.add_commands(commands, common)
    return parser
