"""kill -9 of a process plug-in under load, how does each call end, and when is it served again?"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from time import perf_counter

from benchmarks.load import PATIENCE, Caller, Load, Recorder, Recording, Replies, executions
from benchmarks.measure import Table
from benchmarks.report import Part, Settings, nearest_rank
from mukernel import Kernel, PluginCrashed, RestartPolicy

CALLERS = 16
REPLIES_BETWEEN = (50, 500)
"""How many replies of an instance come before it is killed: at least, at most."""

TIRELESS = RestartPolicy(intensity=1_000_000, period=0.001, backoff=0.0, longest_backoff=0.0)
"""Restarts at once, however often: what is measured is one restart, not the patience of the supervisor."""


@dataclass(slots=True)
class CrashOutcome:
    """What a series of kills did to the calls.

    `idempotent`, `once`: how many calls of each sort ended in what. `lost`: replied to and never executed;
    `twice`: not idempotent and executed more than once. `recoveries`: seconds from each kill to the
    first reply of the new instance.
    """

    idempotent: Counter[str] = field(default_factory=Counter)
    once: Counter[str] = field(default_factory=Counter)
    hanging: int = 0
    lost: int = 0
    twice: int = 0
    recoveries: list[float] = field(default_factory=list)

    @property
    def crashed(self) -> int:
        """Calls that ended in PluginCrashed."""
        return self.idempotent[PluginCrashed.__name__] + self.once[PluginCrashed.__name__]

    @property
    def otherwise(self) -> int:
        """Calls that ended neither in a reply nor, not being idempotent, in PluginCrashed."""
        allowed = self.idempotent["reply"] + self.once["reply"] + self.once[PluginCrashed.__name__]
        return self.idempotent.total() + self.once.total() - allowed


class Watch(Replies):
    """Sees every reply, which names the process that gave it; tells of the first of a new process."""

    def __init__(self) -> None:
        super().__init__()
        self.process = 0
        self.renewed = asyncio.Event()
        self.renewed_at = 0.0

    def replied(self, reply: int) -> None:
        if reply != self.process:
            self.process, self.renewed_at = reply, perf_counter()
            self.renewed.set()
        super().replied(reply)


async def kill_under_load(
    kills: int, callers: int = CALLERS, plugin: type[Recorder] = Recorder, seed: int = 1
) -> CrashOutcome:
    """Kill a recorder `kills` times while `callers` call it, every other of them by an idempotent method.

    Raises TimeoutError if no instance has replied `PATIENCE` seconds after a kill.
    """
    outcome, watch, chance = CrashOutcome(), Watch(), random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="mukernel-journal-") as folder:
        journal = os.path.join(folder, "journal")
        async with Kernel() as kernel:
            config = {"journal": journal}
            await kernel.load(plugin, name="recorder", placement="process", config=config, restart=TIRELESS)
            recording = kernel.get(Recording)
            calls = (recording.again, recording.once)
            async with Load([Caller(n, calls[n % 2], watch.replied) for n in range(callers)]) as load:
                for _ in range(kills):
                    await watch.more(chance.randint(*REPLIES_BETWEEN))
                    watch.renewed.clear()
                    began = perf_counter()
                    os.kill(watch.process, signal.SIGKILL)
                    async with asyncio.timeout(PATIENCE):
                        await watch.renewed.wait()
                    outcome.recoveries.append(watch.renewed_at - began)
        account(outcome, load, executions(journal))
    return outcome


def account(outcome: CrashOutcome, load: Load, executed: Counter[tuple[int, int]]) -> None:
    """Set how the calls ended against what the journal says was executed."""
    outcome.hanging = load.hanging
    for caller in load:
        retried = caller.number % 2 == 0
        counts = outcome.idempotent if retried else outcome.once
        counts.update(caller.outcomes)
        for number in range(1, caller.issued + 1):
            times = executed[caller.number, number]
            outcome.lost += times == 0 and number not in caller.ended
            outcome.twice += times > 1 and not retried


def run(settings: Settings) -> Part:
    """200 kills (20 with --quick) under 16 callers."""
    kills = 20 if settings.quick else 200
    outcome = asyncio.run(kill_under_load(kills))
    times = [1000 * seconds for seconds in outcome.recoveries]
    kinds = sorted(set(outcome.idempotent) | set(outcome.once))
    part = Part(
        [
            Table(
                f"{kills} kills under {CALLERS} callers: ms until the new instance's first reply",
                ("min", "median", "p99", "max"),
                [(min(times), nearest_rank(times, 0.5), nearest_rank(times, 0.99), max(times))],
            ),
            Table(
                "How the calls ended",
                ("outcome", "idempotent", "not idempotent"),
                [(kind, outcome.idempotent[kind], outcome.once[kind]) for kind in kinds],
            ),
        ]
    )
    idempotent_failed = outcome.idempotent.total() - outcome.idempotent["reply"]
    part.exactly(f"{kills} kills: calls hanging", outcome.hanging, 0)
    part.exactly(f"{kills} kills: idempotent calls that failed", idempotent_failed, 0)
    part.exactly(f"{kills} kills: calls with neither a reply nor PluginCrashed", outcome.otherwise, 0)
    part.exactly(f"{kills} kills: calls replied to and not executed", outcome.lost, 0)
    part.exactly(f"{kills} kills: calls not idempotent and executed twice", outcome.twice, 0)
    # One call is run at a time, so each kill can interrupt one: more were waiting, and should have survived.
    part.at_most(f"{kills} kills: calls interrupted", outcome.crashed, kills)
    part.at_most(f"{kills} kills: median time to the first reply", nearest_rank(times, 0.5), 20, " ms")
    return part
