"""`redlane demo`: the arguments of the demonstrations; the work is in _demo."""

from __future__ import annotations

import argparse
from typing import Any


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "demo",
        parents=[common],
        help="measure the Mural on the engine and on Redis, or serve an example",
    )
    parser.add_argument(
        "example",
        nargs="?",
        help="serve this one of examples/ instead; PORT, WORKERS and REDIS_URL hold",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a small canvas and few requests"
    )
    parser.set_defaults(run=run_demo)


def run_demo(args: argparse.Namespace) -> int:
    from redlane import _demo  # 10 ms of imports that other commands do without

    if args.example:
        _demo.serve(args.example, args.url)
    return _demo.run(url=args.url, quick=args.quick, as_json=args.json)
