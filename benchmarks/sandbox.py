"""A hot call to a plug-in in a sandbox, beside the same plug-in in a process: what the fence costs."""

from __future__ import annotations

import asyncio

from benchmarks import measure
from benchmarks.calls import first_call
from benchmarks.echo import Echo, Stateless
from benchmarks.report import Part, Settings
from mukernel import Kernel, RestartPolicy

PLACEMENTS = ("process", "sandbox")
LIMIT = 1.05  # times


def run(settings: Settings) -> Part:
    """Round trips, blocking and awaited, turn about in one run."""
    with asyncio.Runner() as runner, measure.hold(runner, Kernel()) as kernel:
        patient = RestartPolicy(hang=0)  # the loop stands still while blocking calls are measured
        subjects: list[measure.AnySubject] = []
        for placement in PLACEMENTS:
            runner.run(kernel.load(Stateless, name=placement, placement=placement, restart=patient))
            echo = kernel.get(Echo, plugin=placement)
            runner.run(first_call(echo))
            subjects += [
                measure.Subject(f"{placement}, blocking", echo.echo),
                measure.AsyncSubject(f"{placement}, asyncio", echo.echo_async),
            ]
        results = measure.compare(runner, subjects, settings.seconds, settings.slices)
    part = Part()
    for how in ("blocking", "asyncio"):
        plain, fenced = (f"{placement}, {how}" for placement in PLACEMENTS)
        pair = {name: results[name] for name in (plain, fenced)}
        part.tables.append(measure.latency_table(f"Sandboxed call, {how}, 64 bytes, hot", pair, plain, "slower"))
        part.at_most(f"{fenced}, against {plain}", results[fenced].median / results[plain].median, LIMIT, " times")
    return part
