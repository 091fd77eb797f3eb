"""Measure mukernel beside its peers, in one run: `python -m benchmarks [PART ...] [--quick] [--json]`.

Ends with status 1 if something that must hold did not.
"""

from __future__ import annotations

import argparse
import importlib
import sys

from benchmarks import measure
from benchmarks.peers import PEERS, PeerMissing, versions
from benchmarks.report import Part, Settings, bars_table

PARTS = {
    "inline": "a plain method call, and the same method of an inline plug-in",
    "calls": "a call to another process: hot, after idling, from many callers, and over every peer",
    "sandbox": "a hot call to a plug-in in a sandbox, and to the same in a process",
    "chains": "chains of processes, alone and beside CPU hogs, by waiting policy",
    "swaps": "1,000 swaps in a row under load",
    "deployment": "swaps to a version with other dependencies, in an environment of its own",
    "crashes": "200 kill -9 under load",
    "startup": "start-up time and memory of 1 to 1,000 process plug-ins",
    "events": "events a second, plain and kept on the disk, beside NATS where that is installed",
    "memory": "arrays handed to another process, beside a pipe with pickle, a memcpy and Ray",
    "size": "lines of the kernel",
}
BESIDE_PEERS = ("calls",)  # the parts that need the peers' packages


def main() -> None:
    description = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=description)
    listed = "; ".join(f"{name}: {what}" for name, what in PARTS.items())
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"what to measure (default: all). {listed}")
    quick = "a tenth of the swaps, kills and plug-ins; short slices"
    parser.add_argument("--quick", action="store_true", help=quick)
    measure.add_arguments(parser)
    options = parser.parse_args()
    unknown = [name for name in options.parts if name not in PARTS]
    if unknown:
        parser.error(f"part: got {unknown[0]!r}, wanted some of {', '.join(PARTS)}")
    settings = Settings(options.seconds, options.slices, options.quick)
    if options.quick:
        settings = Settings(min(options.seconds, 0.5), min(options.slices, 5), True)
    parts = options.parts or list(PARTS)
    beside = [name for name in parts if name in BESIDE_PEERS]
    try:
        about = measure.machine() | versions(list(PEERS) if beside else [])
    except PeerMissing as error:
        others = " ".join(name for name in PARTS if name not in BESIDE_PEERS)
        sys.exit(f"python -m benchmarks: {', '.join(beside)}: {error}; these parts need no peer: {others}")
    whole = Part()
    for name in parts:
        # Which part is under way is for the person who waits; standard output is for the result alone.
        print(f"measuring {name}: {PARTS[name]}", file=sys.stderr, flush=True)
        part: Part = importlib.import_module(f"benchmarks.{name}").run(settings)
        whole.tables += part.tables
        whole.bars += part.bars
    measure.show([*whole.tables, bars_table(whole.bars)], about, options.json)
    missed = sum(not bar.passed for bar in whole.bars)
    if missed:
        sys.exit(f"{missed} of {len(whole.bars)} bars were missed")


if __name__ == "__main__":
    main()
