"""A call to another process, beside the same echo over every peer: hot, after idling, from many callers."""

from __future__ import annotations

import asyncio
import time
from time import perf_counter_ns

from benchmarks import measure
from benchmarks.echo import Echo, Stateless
from benchmarks.peers import PEERS
from benchmarks.peers.__main__ import connected
from benchmarks.report import Part, Settings
from mukernel import Kernel, RestartPolicy

BLOCKING, AWAITED = "mukernel, blocking", "mukernel, asyncio"
CALLERS = (1, 8, 64, 512)
IDLE = 0.01  # seconds between two calls of the idle table: long enough for every waiter to have gone to sleep
IDLE_SUBJECTS = (BLOCKING, AWAITED, "pipe+pickle", "grpcio sync", "grpcio aio")


def run(settings: Settings) -> Part:
    """Round trips and calls a second of mukernel and its peers, turn about in one run."""
    part = Part()
    with (
        asyncio.Runner() as runner,
        measure.hold(runner, Kernel()) as kernel,
        connected(runner, list(PEERS)) as peers,
    ):
        # The loop stands still while blocking calls are measured: the kernel must not take that for its process's.
        patient = RestartPolicy(hang=0)
        runner.run(kernel.load(Stateless, name="echo", placement="process", restart=patient))
        runner.run(first_call(kernel.get(Echo)))
        echo = kernel.get(Echo)
        ours: list[measure.AnySubject] = [
            measure.Subject(BLOCKING, echo.echo),
            measure.AsyncSubject(AWAITED, echo.echo_async),
        ]
        subjects: list[measure.AnySubject] = [*ours, *peers]
        hot = measure.compare(runner, subjects, settings.seconds, settings.slices)
        idle_subjects = [subject for subject in subjects if subject.name in IDLE_SUBJECTS]
        idle = after_idling(runner, idle_subjects, settings.seconds)
        looped = [subject for subject in subjects if isinstance(subject, measure.AsyncSubject)]
        rates = measure.compare_throughput(runner, looped, CALLERS, settings.seconds)
    slowest = max(hot, key=lambda name: hot[name].median)
    part.tables = [
        measure.latency_table("Process call, round trip of 64 bytes, hot", hot, slowest),
        measure.latency_table(f"The same, one call each {IDLE * 1000:g} ms", idle, "grpcio sync"),
        measure.throughput_table("Calls a second, asyncio callers", rates, "grpcio aio"),
    ]
    for what, peer, limit in ((BLOCKING, "grpcio sync", 150), (AWAITED, "grpcio aio", 40)):
        ratio = hot[peer].median / hot[what].median
        part.at_least(f"{what}, hot, against {peer}", ratio, limit, " times as fast")
    ratio = rates[AWAITED][64] / rates["grpcio aio"][64]
    part.at_least("calls a second of 64 asyncio callers, against grpcio aio", ratio, 30, " times as many")
    return part


async def first_call(echo: Echo) -> None:
    """Connect this thread's channel while the loop runs: the blocking slices begin when it stands still."""
    replies = {echo.echo(measure.PAYLOAD), await echo.echo_async(measure.PAYLOAD)}
    if replies != {measure.PAYLOAD}:
        raise ValueError("mukernel: the echo is not what was sent")


def after_idling(
    runner: asyncio.Runner, subjects: list[measure.AnySubject], seconds: float
) -> dict[str, measure.Samples]:
    """Times of single calls with a rest of `IDLE` before each; the subjects take turns call by call."""
    times: dict[str, list[float]] = {subject.name: [] for subject in subjects}
    for _ in range(max(20, int(seconds / IDLE))):
        for subject in subjects:
            if isinstance(subject, measure.AsyncSubject):
                took = runner.run(rested(subject.call))
            else:
                time.sleep(IDLE)
                began = perf_counter_ns()
                subject.call(measure.PAYLOAD)
                took = perf_counter_ns() - began
            times[subject.name].append(took / 1000)
    return {name: measure.Samples(values, 1) for name, values in times.items()}


async def rested(call: measure.AsyncCall) -> int:
    """Nanoseconds of one call after the loop has been idle."""
    await asyncio.sleep(IDLE)
    began = perf_counter_ns()
    await call(measure.PAYLOAD)
    return perf_counter_ns() - began
