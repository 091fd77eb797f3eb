"""Chains of processes that call each other, alone and beside CPU hogs: does the ring know when to spin?

Mukernel's own policy stands beside three fixed ones: sleep at once, and spin for 50 µs with `pause` or with
sched_yield. No fixed policy is good everywhere: what is best between two idle cores is ruinous beside a hog.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from statistics import mean, median
from typing import IO

from benchmarks.measure import Table
from benchmarks.peers import server_process
from benchmarks.report import Part, Settings

OURS, SLEEP = "mukernel", "sleep"
POLICIES = {OURS: "", SLEEP: "sleep", "pause 50 µs": "pause", "yield 50 µs": "yield"}
DEPTHS = (1, 2, 4, 8)
HOGS = (0, 2)
SLICES_BESIDE_HOGS = 6
"""Times as many as without."""

Cell = tuple[int, int]
"""Hogs, depth."""

Slice = tuple[float, float, float]
"""Mean, median and p99 of the round trips of one slice, in µs."""


@contextlib.contextmanager
def worker(policy: str) -> Iterator[IO[str]]:
    """A running chain; what is written to it is answered."""
    ours, theirs = socket.socketpair()
    address = f"{policy}:{theirs.fileno()}"
    with (
        ours,
        theirs,
        server_process.running("benchmarks.chain_worker", address, (theirs.fileno(),)),
        ours.makefile("rw") as lines,
    ):
        yield lines


def measure(lines: IO[str], depth: int, seconds: float) -> Slice:
    """One slice of `seconds` at one depth. Raises ServerFailed if the chain has ended."""
    lines.write(json.dumps([depth, seconds]) + "\n")
    lines.flush()
    answer = lines.readline()
    if not answer:
        raise server_process.ServerFailed("a chain ended while it was measured; its errors are above")
    mean, middle, p99 = json.loads(answer)
    return mean, middle, p99


def run(settings: Settings) -> Part:
    """Mean round trips for each depth, number of hogs and policy, the policies turn about.

    Beside hogs the same policy takes 50 µs in one slice and 200 in the next, as the scheduler happens to place its
    processes: so there are more slices there, of the two policies that are compared. Each slice counts the same.
    """
    slice_seconds, rounds = (0.25, 3) if settings.quick else (0.5, 5)
    slices: dict[Cell, dict[str, list[Slice]]] = {}
    with contextlib.ExitStack() as stack:
        workers = {name: stack.enter_context(worker(policy)) for name, policy in POLICIES.items()}
        for hogs in HOGS:
            with contextlib.ExitStack() as hogging:
                for _ in range(hogs):
                    hogging.enter_context(server_process.running("benchmarks.hog", "-"))
                for depth in DEPTHS:
                    cell = slices[hogs, depth] = {name: [] for name in POLICIES}
                    for turn in range(SLICES_BESIDE_HOGS * rounds if hogs else rounds):
                        for name, lines in workers.items():
                            if turn < rounds or name in (OURS, SLEEP):
                                cell[name].append(measure(lines, depth, slice_seconds))
    means = {
        cell: {name: mean(each[0] for each in found) for name, found in by_name.items()}
        for cell, by_name in slices.items()
    }
    part = Part(tables(slices, means))
    for hogs in HOGS:
        worst = max(means[cell][OURS] / means[cell][SLEEP] for cell in means if cell[0] == hogs)
        part.at_most(f"chains, {hogs} hogs, worst depth, against always sleeping", worst, 1.25, " times")
    fixed = [name for name in POLICIES if name != OURS]
    worst = max(means[0, depth][OURS] / min(means[0, depth][name] for name in fixed) for depth in DEPTHS)
    part.at_most("chains without hogs, worst depth, against the best fixed policy", worst, 2, " times")
    return part


def tables(slices: dict[Cell, dict[str, list[Slice]]], means: dict[Cell, dict[str, float]]) -> list[Table]:
    """The mean of every policy, and more about our own."""
    cores = len(os.sched_getaffinity(0))
    rows = [(f"{depth} deep, {hogs} hogs", *found.values()) for (hogs, depth), found in means.items()]
    ours = [
        (f"{depth} deep, {hogs} hogs", *(median(each[i] for each in found[OURS]) for i in range(3)))
        for (hogs, depth), found in slices.items()
    ]
    return [
        Table(f"Chains on {cores} cores: mean round trip, µs, by waiting policy", ("chain", *POLICIES), rows),
        Table("The same, mukernel's own policy", ("chain", "mean µs", "median µs", "p99 µs"), ours),
    ]
