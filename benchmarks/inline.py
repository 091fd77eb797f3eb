"""A call that stays in the process: the plain method, and the same method as an inline plug-in."""

from __future__ import annotations

import asyncio

from benchmarks import measure
from benchmarks.echo import Echo, Stateless
from benchmarks.plain import Plain, Stateful
from benchmarks.report import Part, Settings
from mukernel import Kernel

PLAIN, AWAITED = "plain method", "plain method, awaited"


def run(settings: Settings) -> Part:
    """Inline calls against plain ones, of a plug-in that is called directly and of one that is counted."""
    plain = Plain()
    with asyncio.Runner() as runner, measure.hold(runner, Kernel()) as kernel:
        for kind, name in ((Stateless, "direct"), (Stateful, "counted")):
            runner.run(kernel.load(kind, name=name))
        direct, counted = kernel.get(Echo, plugin="direct"), kernel.get(Echo, plugin="counted")
        subjects: list[measure.AnySubject] = [
            measure.Subject(PLAIN, plain.echo),
            measure.Subject("inline, without state", direct.echo),
            measure.Subject("inline, with state", counted.echo),
            measure.AsyncSubject(AWAITED, plain.echo_async),
            measure.AsyncSubject("inline, without state, awaited", direct.echo_async),
            measure.AsyncSubject("inline, with state, awaited", counted.echo_async),
        ]
        results = measure.compare(runner, subjects, settings.seconds, settings.slices)
    part = Part()
    for title, baseline, names in (
        ("Inline call, sync", PLAIN, [subject.name for subject in subjects[:3]]),
        ("Inline call, async", AWAITED, [subject.name for subject in subjects[3:]]),
    ):
        group = {name: results[name] for name in names}
        part.tables.append(measure.latency_table(title, group, baseline, "slower"))
        for name in names[1:]:
            ratio = group[name].median / group[baseline].median
            part.at_most(f"{name}, against {baseline}", ratio, 1.5, " times")
    return part
