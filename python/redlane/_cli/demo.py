"""`redlane demo`: the arguments of the Mural demonstration; the work is in _demo."""

from __future__ import annotations

import argparse
from typing import Any


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "demo",
        parents=[common],
        help="run the Mural application on the engine and on Redis, and measure it",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a small canvas and few requests"
    )
    parser.set_defaults(run=run_demo)


def run_demo(args: argparse.Namespace) -> int:
    from redlane import _demo  # 10 ms of imports that other commands do without

    return _demo.run(url=args.url, quick=args.quick, as_json=args.json)
