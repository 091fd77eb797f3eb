"""Status: the present state of a kernel's plug-ins and processes, gathered for the control interface."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..contract import MukernelError
from ..kernel.clock import Clock
from .control import PluginStatus, ProcessMemory, TreePlugin, TreeProcess
from .lifecycle import State
from .messages import Counts, Inventory
from .place import Place, RemotePlace
from .registry import Entry, Replica
from .stopped import StoppedPlugins
from .switchboard import account_of

if TYPE_CHECKING:
    from .journal import Happening
    from .kernel import Kernel

BY_PROCESS = "rlimits"  # what holds the limits, where nothing else does: of each process by itself
PATIENCE = 1.0  # seconds that an instance has for saying how busy it is
CHANGES = ("load", "swap", "move", "scale", "restart", "crash", "given up", "unload")


class Status:
    """Looks at one kernel. `calls`: for each plug-in, who serves each interface that its constructor asked
    for."""

    def __init__(self, kernel: Kernel, stopped: StoppedPlugins) -> None:
        self.kernel, self.stopped = kernel, stopped
        self.calls: dict[str, dict[str, str]] = {}
        self.changed: dict[str, float] = {}  # when each plug-in became as it is; seconds of the kernel's clock
        self.began = kernel.clock.now()
        for happening in kernel.events:
            self.heard(happening)
        kernel.listeners.append(self.heard)

    def heard(self, happening: Happening) -> None:
        if happening.what in CHANGES:
            self.changed[happening.plugin] = happening.at

    async def plugins(self) -> list[PluginStatus]:
        entries = sorted(self.kernel.registry.entries.values(), key=lambda entry: entry.order)
        running = await asyncio.gather(*(self.plugin(entry) for entry in entries))
        return [*running, *(self.stopped_plugin(name) for name in self.stopped.declarations)]

    async def named(self, name: str) -> PluginStatus:
        """Raises NotFound."""
        if name in self.stopped.declarations:
            return self.stopped_plugin(name)
        return await self.plugin(self.stopped.entry(name))

    async def plugin(self, entry: Entry) -> PluginStatus:
        options, replicas = entry.options, list(entry.replicas)  # a scale may change them meanwhile
        counts = await asyncio.gather(*(self.counts(replica) for replica in replicas))
        answered = [each for each in counts if each is not None]
        state = entry.state.value if len(answered) == len(counts) else "not answering"
        if entry.lock.locked() and entry.failure is None and all(r.instance is None for r in replicas):
            state = "starting"  # its first instance is not built yet
        calls: int | None = sum(each.calls for each in answered)
        if options.placement == "inline" and self.is_direct(entry):
            calls = None
        places = {r.instance.place.pid: r.instance.place for r in replicas if r.instance is not None and lives(r)}
        by_process = {
            replica.instance.place.pid: each
            for replica, each in zip(replicas, counts, strict=True)
            if replica.instance is not None and each is not None
        }.values()  # of replicas that share a process, what that holds is counted once
        own = [pid for place in places.values() if place.pid != os.getpid() for pid in members_of(place)]
        return PluginStatus(
            entry.name,
            state,
            options.placement,
            sorted(places),
            len(replicas),
            calls,
            sum(each.running for each in answered),
            sum(account_of(replica).waiting for replica in replicas),
            entry.restarts,
            sum(map(memory_of, own)) if own else None,
            self.since(entry.name),
            [f"{each.name} {each.version}" for each in entry.interfaces],
            next((replica.failure for replica in replicas if replica.failure), None),
            entry.hang,
            "" if options.placement == "inline" else held_by(places.values()),
            sum(each.shared_memory for each in by_process),
            sum(each.segments for each in by_process),
            sum(each.lent for each in by_process),
            sum(map(cpu_of, own)) if own else None,
        )

    def stopped_plugin(self, name: str) -> PluginStatus:
        declaration = self.stopped.declarations[name]
        served = [f"{each.name} {each.version}" for each in declaration.interfaces]
        placement = declaration.options.placement
        return PluginStatus(name, "stopped", placement, [], 0, 0, 0, 0, 0, None, self.since(name), served)

    async def counts(self, replica: Replica) -> Counts | None:
        """None where the process does not answer."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self.kernel.instances.counts(replica)
        except (TimeoutError, MukernelError, KeyError):
            return None

    def is_direct(self, entry: Entry) -> bool:
        """Called as a method by its neighbours, with nothing between that counts."""
        instance = entry.replicas[0].instance if entry.replicas else None
        here = self.kernel.space.instances.get(instance.blueprint.key) if instance is not None else None
        return here is not None and here.direct and not here.strict

    def since(self, name: str) -> float:
        return self.kernel.clock.now() - self.changed.get(name, self.began)

    def processes(self) -> list[TreeProcess]:
        kernel = self.kernel
        processes = [
            TreeProcess(
                "kernel", os.getpid(), self.plugins_in(kernel.here.space), self.connected(kernel.here.space), "kernel"
            )
        ]
        for place in kernel.places.values():
            if isinstance(place, RemotePlace):
                processes.append(
                    TreeProcess(
                        place.process.name,
                        place.pid,
                        self.plugins_in(place.space),
                        self.connected(place.space),
                        "process" if place.sandbox is None else "sandbox",
                    )
                )
        return processes

    async def memory(self) -> list[ProcessMemory]:
        """The kernel's own first."""
        places: list[tuple[str, Place]] = [("kernel", self.kernel.here)]
        places += [(each.process.name, each) for each in self.kernel.places.values()]
        found = await asyncio.gather(*(self.inventory(place) for _, place in places))
        return [
            ProcessMemory(name, place.pid, [each.name for each in self.plugins_in(place.space)], inventory)
            for (name, place), inventory in zip(places, found, strict=True)
        ]

    async def inventory(self, place: Place) -> Inventory | None:
        """None where the process does not answer."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await place.inventory()
        except (TimeoutError, MukernelError):
            return None

    def plugins_in(self, space: str) -> list[TreePlugin]:
        found = []
        for entry in sorted(self.kernel.registry.entries.values(), key=lambda each: each.order):
            if any(r.instance is not None and r.instance.place.space == space and lives(r) for r in entry.replicas):
                served = [f"{each.name} {each.version}" for each in entry.interfaces]
                found.append(TreePlugin(entry.name, entry.state.value, served, self.calls.get(entry.name, {})))
        return found

    def connected(self, space: str) -> list[str]:
        return sorted(self.kernel.switchboard.space_plugins.get(space, set()) & set(self.kernel.registry.entries))


def lives(replica: Replica) -> bool:
    return replica.instance is not None and replica.instance.life.state not in (
        State.CRASHED,
        State.FAILED,
        State.STOPPED,
    )


def members_of(place: Place) -> list[int]:
    """The processes of a place: of a sandbox, all."""
    enclosed = place.enclosed if isinstance(place, RemotePlace) else None
    return enclosed.members() if enclosed is not None else [place.pid]


def held_by(places: Iterable[Place]) -> str:
    """What holds the processes of a plug-in to their limits."""
    kinds = {each.enclosed.held_by for each in places if isinstance(each, RemotePlace) and each.enclosed is not None}
    return ", ".join(sorted(kinds)) or BY_PROCESS


def memory_of(pid: int) -> int:
    """Bytes that are a process's own, shared with no other; 0 for one that is gone."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            return sum(int(line.split()[1]) * 1024 for line in file if line.startswith("Private_"))
    except (OSError, ValueError):
        return 0


def cpu_of(pid: int) -> float:
    """Seconds of processor time that a process has had; 0 for one that is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # in its own code, and in the system's
    except (OSError, ValueError, IndexError):
        return 0.0


def boot_offset(clock: Clock) -> float:
    """What to add to seconds of the clock to get seconds since 1970."""
    return clock.wall().timestamp() - clock.now()
