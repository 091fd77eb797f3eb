"""What the picture shows of the plug-ins, read from the kernel several times a second."""

from __future__ import annotations

from collections import deque

from mukernel import Kernel, MukernelError

from .load import WINDOW
from .picture import Row


class Watch:
    """Counts the calls of each plug-in over all its instances, those that have gone included."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.seen: dict[str, int] = {}  # calls of each instance, when it was last asked
        self.totals: dict[str, int] = {}  # calls of each plug-in
        self.past: dict[str, deque[tuple[float, int]]] = {}  # when, and its calls by then

    async def rows(self) -> list[Row]:
        """One for each plug-in, in the order in which they were loaded."""
        rows = []
        for entry in list(self.kernel.registry.entries.values()):
            direct, pids = False, []
            for replica in list(entry.replicas):
                instance = replica.instance
                if instance is None:
                    continue
                pids.append(instance.place.pid)
                key = instance.blueprint.key
                here = self.kernel.space.instances.get(key)
                direct = direct or (here is not None and here.direct)
                try:
                    calls = (await self.kernel.instances.counts(replica)).calls
                except (MukernelError, KeyError):  # it went between being found and being asked
                    continue
                new = max(0, calls - self.seen.get(key, 0))
                self.seen[key] = calls
                self.totals[entry.name] = self.totals.get(entry.name, 0) + new
            rate = None if direct else self.rate(entry.name)
            rows.append(
                Row(
                    entry.name,
                    entry.source.name,
                    entry.options.placement,
                    entry.state.value,
                    pids,
                    rate,
                    entry.restarts,
                )
            )
        return rows

    def rate(self, name: str) -> float:
        """Calls a second of a plug-in, over about the last WINDOW."""
        now, past = self.kernel.clock.now(), self.past.setdefault(name, deque())
        past.append((now, self.totals.get(name, 0)))
        while len(past) > 2 and past[1][0] < now - WINDOW:
            past.popleft()
        (then, before), (_, calls) = past[0], past[-1]
        return (calls - before) / (now - then) if now > then else 0.0
