"""How long it takes to start many process plug-ins, and how much memory each has to itself."""

from __future__ import annotations

import asyncio
import os
import py_compile
from collections.abc import Sequence
from statistics import mean, median
from time import perf_counter

from benchmarks import echo
from benchmarks.echo import Echo, Stateless
from benchmarks.measure import PAYLOAD, Table
from benchmarks.report import Part, Settings
from mukernel import Kernel

COUNTS = (1, 10, 100, 1000)


def run(settings: Settings) -> Part:
    """Start 1, 10, 100 and 1000 process plug-ins, each count with a kernel of its own.

    Their module has its bytecode file, as Python writes it by default, whatever the shell says: without one each
    process compiles the module for itself, which costs it 0.1 MB.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    py_compile.compile(echo.__file__)
    part = Part()
    rows = []
    for count in COUNTS[:3] if settings.quick else COUNTS:
        # Small counts are soon over, and the first of them pays for what the system has to read from disk.
        repeats = 1 if count == 1000 or settings.quick else 3
        runs = [asyncio.run(start(count)) for _ in range(repeats)]
        cold, warm = median(run[0] for run in runs), median(run[1] for run in runs)
        memory = runs[-1][2]
        rows.append((count, cold, warm, 1000 * warm / count, mean(memory), max(memory)))
        if count == 100:
            part.at_most("100 process plug-ins started, fork server and all", cold, 1, " s")
            part.at_most("private memory of each of them, the largest", max(memory), 4, " MiB")
    columns = ("plug-ins", "s with the fork server", "s without", "ms each", "mean private MiB", "largest")
    part.tables = [Table("Start-up of process plug-ins, all asked for at once", columns, rows)]
    return part


async def start(count: int) -> tuple[float, float, list[float]]:
    """Time until `count` plug-ins serve, without the fork server's start, too; MiB of each after a call."""
    async with Kernel() as kernel:
        began = perf_counter()
        await kernel.load(Stateless, name="first", placement="process")
        first = perf_counter()
        await load(kernel, count - 1, "other")
        cold = perf_counter() - began
        if count == 1:
            await kernel.unload("first")
            first = perf_counter()
            await load(kernel, 1, "warm")
        warm = (perf_counter() - first) * count / max(count - 1, 1)
        for name in kernel.registry.entries:
            proxy = kernel.get(Echo, plugin=name)
            if await proxy.echo_async(PAYLOAD) != PAYLOAD:
                raise ValueError(f"plug-in {name}: the echo is not what was sent")
        return cold, warm, [private_megabytes(pid) for pid in process_ids(kernel)]


async def load(kernel: Kernel, count: int, prefix: str) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(kernel.load(Stateless, name=f"{prefix}-{number}", placement="process"))


def process_ids(kernel: Kernel) -> Sequence[int]:
    """The process of every instance."""
    replicas = [replica for entry in kernel.registry.entries.values() for replica in entry.replicas]
    return [replica.instance.place.pid for replica in replicas if replica.instance is not None]


def private_megabytes(pid: int) -> float:
    """Memory that the process shares with no other, in MiB (2^20 bytes: the M of `mukernel ps`, and of `memory`)."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        kilobytes = [int(line.split()[1]) for line in file if line.startswith("Private_")]
    return sum(kilobytes) / 1024
