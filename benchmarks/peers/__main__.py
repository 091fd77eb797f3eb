"""Measure every peer in one run: `python -m benchmarks.peers [--only NAME ...] [--json]`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Iterator, Sequence

from benchmarks import measure
from benchmarks.peers import PEERS, PeerMissing, load, versions

CALLERS = (1, 8, 64, 512)


@contextlib.contextmanager
def connected(runner: asyncio.Runner, names: Sequence[str]) -> Iterator[list[measure.AnySubject]]:
    """Start the servers of the peers `names` and yield a subject for each, having seen that it echoes.

    Raises KeyError for an unknown name, PeerMissing for a package not installed, ValueError for a wrong echo.
    """
    with contextlib.ExitStack() as stack:
        subjects: list[measure.AnySubject] = []
        for name in names:
            connect = load(name).connect
            if PEERS[name].waits == "asyncio":
                call = stack.enter_context(measure.hold(runner, connect())).call
                reply = runner.run(_first(call))
                subjects.append(measure.AsyncSubject(name, call))
            else:
                call = stack.enter_context(connect()).call
                reply = call(measure.PAYLOAD)
                subjects.append(measure.Subject(name, call))
            if reply != measure.PAYLOAD:
                raise ValueError(f"peer {name}: echoed {reply!r}, wanted {measure.PAYLOAD!r}")
        yield subjects


async def _first(call: measure.AsyncCall) -> object:
    return await call(measure.PAYLOAD)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PEERS, default=list(PEERS), metavar="NAME", help=", ".join(PEERS))
    parser.add_argument(
        "--callers", nargs="+", type=int, default=CALLERS, help="numbers of callers (default: 1 8 64 512)"
    )
    measure.add_arguments(parser)
    options = parser.parse_args()
    try:
        about = measure.machine() | versions(options.only)
    except PeerMissing as error:
        sys.exit(f"python -m benchmarks.peers: {error}")
    with asyncio.Runner() as runner, connected(runner, options.only) as subjects:
        latencies = measure.compare(runner, subjects, options.seconds, options.slices)
        looped = [subject for subject in subjects if isinstance(subject, measure.AsyncSubject)]
        rates = measure.compare_throughput(runner, looped, options.callers, options.seconds)
    slowest = max(latencies, key=lambda name: latencies[name].median)
    tables = [measure.latency_table("Round trip of 64 bytes, one call at a time", latencies, slowest)]
    if looped:
        tables.append(measure.throughput_table("Calls a second, asyncio callers", rates, looped[0].name))
    measure.show(tables, about, options.json)


if __name__ == "__main__":
    main()
