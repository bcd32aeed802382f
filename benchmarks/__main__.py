"""python -m benchmarks [rows] [--quick] [--json FILE] [--plot FOLDER] [--check]"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from benchmarks import (
    report,
    row_01_sync_get,
    row_02_threads,
    row_03_async_get,
    row_04_async_single,
    row_05_near_hit,
    row_06_near_hit_async,
    row_07_limit_memory,
    row_08_limit_redis,
    row_09_flask_limit,
    row_10_fastapi_limit,
    row_11_flask_response,
    row_12_fastapi_response,
    row_13_canvas,
    row_14_video_key,
    row_15_engine_get,
    row_16_pubsub,
    row_17_pipeline,
    row_18_import,
    row_19_memory,
)
from benchmarks.floor import ROOT
from benchmarks.harness import SIZES, Bench, Result
from benchmarks.server import Server, cores, pin_to

ROWS = {
    row.ROW: row
    for row in (
        row_01_sync_get,
        row_02_threads,
        row_03_async_get,
        row_04_async_single,
        row_05_near_hit,
        row_06_near_hit_async,
        row_07_limit_memory,
        row_08_limit_redis,
        row_09_flask_limit,
        row_10_fastapi_limit,
        row_11_flask_response,
        row_12_fastapi_response,
        row_13_canvas,
        row_14_video_key,
        row_15_engine_get,
        row_16_pubsub,
        row_17_pipeline,
        row_18_import,
        row_19_memory,
    )
}


def main() -> int:
    options = _options()
    if os.getloadavg()[0] > 0.5:
        print(
            f"busy machine (load {os.getloadavg()[0]:.1f}): ratios will be off",
            file=sys.stderr,
        )
    _take_cores()
    results: list[Result] = []
    failed: dict[int, str] = {}
    with Bench(SIZES[options.size]) as bench:
        for number in options.rows or ROWS:
            print(
                (ROWS[number].__doc__ or "").splitlines()[0],
                file=sys.stderr,
                flush=True,
            )
            try:
                results += ROWS[number].run(bench)
            except Exception as error:  # noqa: BLE001  the other rows still run
                failed[number] = repr(error)
                print(f"row {number} failed: {error!r}", file=sys.stderr)
        server_version = bench.server.version() if "server" in vars(bench) else None
    print(report.table(results))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(
        json.dumps(report.document(results, failed, server_version), indent=2) + "\n"
    )
    if options.plot:
        report.plot(results, options.plot)
    good = not failed and all(met for result in results for met in result.verdicts())
    good = good and all("redlane" not in result.absent for result in results)
    return 1 if options.check and not good else 0


def _take_cores() -> None:
    """The client on the first core that we may use, the server on the last."""
    found = cores()
    if found is None:
        print("processes cannot be pinned here: expect more spread", file=sys.stderr)
        return
    client, Server.server_core = found
    if client == Server.server_core:
        print(
            "one core for client and server: expect other ratios than on two",
            file=sys.stderr,
        )
    pin_to(client)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="redlane beside its peers, interleaved"
    )
    parser.add_argument(
        "rows",
        nargs="*",
        type=int,
        help=f"rows to run, of {', '.join(map(str, ROWS))}; default: all",
    )
    parser.add_argument(
        "--quick",
        dest="size",
        action="store_const",
        const="quick",
        default="full",
        help="fewer rounds",
    )
    parser.add_argument(
        "--smoke",
        dest="size",
        action="store_const",
        const="smoke",
        help="only to see that all runs",
    )
    parser.add_argument(
        "--json",
        type=Path,
        default=ROOT / "build" / "benchmarks" / "result.json",
        metavar="FILE",
    )
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="FOLDER",
        help="write an SVG for each result (needs matplotlib)",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="exit 1 when a goal is not met or a row failed",
    )
    options = parser.parse_args()
    unknown = set(options.rows) - set(ROWS)
    if unknown:
        parser.error(f"no such row: {', '.join(map(str, sorted(unknown)))}")
    return options


if __name__ == "__main__":
    sys.exit(main())
