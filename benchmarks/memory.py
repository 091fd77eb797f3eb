"""Arrays that are handed to another process: those that lie in shared memory already, and those that don't."""

from __future__ import annotations

import mmap
import os
from statistics import median
from time import perf_counter_ns

import numpy

from benchmarks.arrays import Hand, Receiver, Receiving, pipe_with_pickle, ray_put_and_call
from benchmarks.measure import Table
from benchmarks.report import Part, Settings, number
from mukernel import KernelThread, shared

SIZES = (10**6, 10**7, 10**8, 10**9)  # bytes
LARGE = 10**8
MUKERNEL, PIPE, RAY = "mukernel", "pipe+pickle", "Ray put + call"


def run(settings: Settings) -> Part:
    """Each subject in turn, in rounds; medians are compared."""
    rounds = 5 if settings.quick else 15
    with ray_put_and_call() as ray, pipe_with_pickle() as pipe, KernelThread() as kernel:
        kernel.load(Receiver, placement="process")
        hand: Hand = kernel.get(Receiving).receive
        part = Part()
        by_size = lies_there_already(part, hand, rounds)
        against(part, hand, {PIPE: pipe} | ({RAY: ray} if ray is not None else {}), rounds)
        ordinary(part, hand, rounds)
        part.tables.insert(0, by_size)
    return part


def timed(hand: Hand, array: numpy.ndarray) -> float:
    """µs until the receiver has said that it has it. Raises ValueError where it has not."""
    began = perf_counter_ns()
    size = hand(array)
    took = (perf_counter_ns() - began) / 1000
    if size != array.nbytes:
        raise ValueError(f"the receiver has {size} bytes, of {array.nbytes}")
    return took


def made(size: int) -> numpy.ndarray:
    """In shared memory, every page of it written."""
    array = shared.empty(size, "u1")
    array[:] = 1
    return array


def lies_there_already(part: Part, hand: Hand, rounds: int) -> Table:
    arrays = [made(size) for size in SIZES]
    first = [timed(hand, array) for array in arrays]
    times: list[list[float]] = [[] for _ in SIZES]
    for _ in range(10 * rounds):
        for array, found in zip(arrays, times, strict=True):
            found.append(timed(hand, array))
    medians = [median(found) for found in times]
    rows = list(zip(SIZES, first, medians, [min(found) for found in times], strict=True))
    flat = max(medians) / min(medians)
    part.at_most("array in shared memory handed over, the slowest of 1 MB to 1 GB against the fastest", flat, 2)
    return Table(
        "An array in shared memory, handed to another process", ("bytes", "first µs", "median µs", "min µs"), rows
    )


def against(part: Part, hand: Hand, peers: dict[str, Hand], rounds: int) -> None:
    """100 MB: an array in shared memory by us, and the same in ordinary memory by the peers, who have no other."""
    ours, theirs = made(LARGE), numpy.ones(LARGE, "u1")
    times: dict[str, list[float]] = {name: [] for name in (MUKERNEL, *peers)}
    for _ in range(rounds):
        times[MUKERNEL] += [timed(hand, ours) for _ in range(10)]
        for name, peer in peers.items():
            times[name].append(timed(peer, theirs))
    medians = {name: median(found) for name, found in times.items()}
    rows = [(name, value, value / medians[MUKERNEL]) for name, value in medians.items()]
    part.tables.append(Table("100 MB, handed to another process", ("by", "median µs", "times ours"), rows))
    what = "100 MB that lies in shared memory, handed over, times as fast as"
    part.at_least(f"{what} {PIPE}", medians[PIPE] / medians[MUKERNEL], 1000)
    if RAY in peers:
        part.at_least(f"{what} {RAY}", medians[RAY] / medians[MUKERNEL], 100)
    else:
        columns = ("what", "why")
        part.tables.append(Table("Not measured", columns, [(RAY, "not installed: pip install 'mukernel[ray]'")]))


def ordinary(part: Part, hand: Hand, rounds: int) -> None:
    """100 MB of ordinary memory: one copy. Beside it a memcpy into fresh shared memory, and what that costs."""
    array = numpy.ones(LARGE, "u1")
    ours, copies = [], []
    for _ in range(2 * rounds):
        ours.append(timed(hand, array))
        copies.append(copied(array))
    ratio = median(ours) / median(copies)
    rows = [(MUKERNEL, median(ours), min(ours)), ("memcpy into fresh shared memory", median(copies), min(copies))]
    title = f"100 MB of ordinary memory: {number(ratio)} times a memcpy"
    part.tables.append(Table(title, ("by", "median µs", "min µs"), rows))
    part.at_most("100 MB of ordinary memory handed over, against a memcpy into fresh shared memory", ratio, 1.5)


def copied(array: numpy.ndarray) -> float:
    """µs for making shared memory and copying into it, with nobody to receive it."""
    began = perf_counter_ns()
    fd = os.memfd_create("benchmark")
    os.ftruncate(fd, array.nbytes)
    memory = mmap.mmap(fd, array.nbytes)
    numpy.copyto(numpy.frombuffer(memory, "u1"), array)
    took = (perf_counter_ns() - began) / 1000
    os.close(fd)
    memory.close()
    return took
