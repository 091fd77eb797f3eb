"""Swaps of a process plug-in with state, in a row and under load: is a call lost, is one executed twice?"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice

from benchmarks.load import Caller, Counting, Load, NextTally, Replies, Tally
from benchmarks.measure import Table
from benchmarks.report import Part, Settings, nearest_rank
from mukernel import Kernel
from mukernel.deployment import Installer

CALLERS = 16


@dataclass(slots=True)
class SwapOutcome:
    """What a series of swaps did to the calls.

    Seconds, one for each swap: `pauses`, the kernel's own figure; `silences`, the longest time in which no caller had a
    reply, from before the swap to the first reply after it; `undisturbed`, the same of as many replies after that,
    without a swap; `slowest`, the slowest call.

    `lost`: calls that had no reply, or were never executed. `unbooked`: what the kernel's ledger does not
    account for, the worst of all reports.
    """

    issued: int = 0
    replied: int = 0
    executed: int = 0
    lost: int = 0
    twice: int = 0
    hanging: int = 0
    unbooked: int = 0
    drained: int = 0
    pauses: list[float] = field(default_factory=list)
    silences: list[float] = field(default_factory=list)
    undisturbed: list[float] = field(default_factory=list)
    slowest: list[float] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)


async def swap_under_load(
    swaps: int, callers: int = CALLERS, placement: str = "process",
    versions: Sequence[type | str] = (NextTally, Tally), installer: Installer | None = None,
) -> SwapOutcome:  # fmt: skip
    """Swap a tally `swaps` times between its two versions, the last of which it begins with, while `callers` call it
    without a break. `installer`: for versions that are to be installed."""
    outcome = SwapOutcome()
    async with Kernel(installer=installer) as kernel:
        await kernel.load(versions[-1], name="tally", placement=placement)
        counting = kernel.get(Counting)
        calls = (counting.count, counting.count_slowly)
        replies = Replies()
        numbered = [Caller(number, calls[number % 2], replies.replied) for number in range(callers)]
        async with Load(numbered) as load:
            for version in islice(cycle(versions), swaps):
                await replies.more(callers)
                load.slowest()
                replies.silence()
                before = replies.replies
                report = await kernel.swap("tally", version)
                await replies.more(1)
                outcome.pauses.append(report.pause)
                outcome.silences.append(replies.silence())
                outcome.slowest.append(load.slowest())
                await replies.more(replies.replies - before)
                outcome.undisturbed.append(replies.silence())
                outcome.drained += report.drained
                outcome.unbooked = max(outcome.unbooked, abs(report.ledger.lost))
        book = await counting.book()
    outcome.hanging, outcome.outcomes = load.hanging, load.outcomes()
    outcome.issued = sum(caller.issued for caller in load)
    outcome.replied = outcome.outcomes["reply"]
    outcome.executed, outcome.twice = book.executed, book.twice
    unanswered = outcome.issued - outcome.replied
    never_run = sum(max(0, caller.issued - book.last.get(caller.number, 0)) for caller in load) + book.skipped
    outcome.lost = max(unanswered, never_run)
    return outcome


def run(settings: Settings) -> Part:
    """1,000 swaps (100 with --quick) under 16 callers."""
    swaps = 100 if settings.quick else 1000
    outcome = asyncio.run(swap_under_load(swaps))
    rows = [
        (name, *(1000 * value for value in (nearest_rank(times, 0.5), nearest_rank(times, 0.99), max(times))))
        for name, times in (
            ("pause: no call was started (the kernel's own figure)", outcome.pauses),
            ("no caller had a reply", outcome.silences),
            ("the same without a swap, as many replies long", outcome.undisturbed),
            ("slowest call that ended during the swap", outcome.slowest),
        )
    ]
    counts = (outcome.issued, outcome.replied, outcome.executed, outcome.lost, outcome.twice, outcome.drained)
    part = Part(
        [
            Table(
                f"{swaps:,} swaps under {CALLERS} callers, in ms",
                ("for each swap", "p50", "p99", "max"),
                rows,
            ),
            Table(
                "Calls during these swaps",
                ("issued", "replied", "executed", "lost", "executed twice", "waited for"),
                [counts],
            ),
        ]
    )
    part.exactly(f"{swaps:,} swaps: calls lost", outcome.lost, 0)
    part.exactly(f"{swaps:,} swaps: calls executed twice", outcome.twice, 0)
    part.exactly(f"{swaps:,} swaps: calls hanging", outcome.hanging, 0)
    part.exactly(f"{swaps:,} swaps: calls that the ledger does not account for", outcome.unbooked, 0)
    part.at_most(f"{swaps:,} swaps: p99 pause of the kernel", 1000 * nearest_rank(outcome.pauses, 0.99), 2, " ms")
    return part
