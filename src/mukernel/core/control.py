"""Control: the interface by which a running kernel is watched and commanded. The command line is a client of
it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from ..contract import Description, Interface, idempotent
from .messages import Inventory
from .replacement import SwapReport
from .stack import Stack


class About(msgspec.Struct):
    """One running kernel. `started`: seconds since 1970; `memory`: private bytes of its process."""

    name: str
    version: str
    pid: int
    started: float
    memory: int
    folder: str


class PluginStatus(msgspec.Struct):
    """A plug-in at this moment.

    `calls`: started by its present instances; None where it is called directly, as a method, and nothing
    counts. `waiting`: in its mailboxes. `memory`: private bytes of its processes, None where it shares the
    kernel's. `shared_memory`: bytes of it that its processes hold, in `segments`; `lent`: bytes that they have sent and
    nobody has received yet. `since`: seconds that it has been as it is. `failure`: why it was given up. `hang`: where
    it stood when it was found hanging the last time, one line and then its stack. `limits`: what holds its processes to
    theirs, "rlimits", "cgroup", "cgroup:memory" or "cgroup:pids"; "" inline. `cpu`: seconds of processor time that its
    present processes have had, None where it shares the kernel's.
    """

    name: str
    state: str
    placement: str
    pids: list[int]
    replicas: int
    calls: int | None
    running: int
    waiting: int
    restarts: int
    memory: int | None
    since: float
    interfaces: list[str]
    failure: str | None = None
    hang: str | None = None
    limits: str = ""
    shared_memory: int = 0
    segments: int = 0
    lent: int = 0
    cpu: float | None = None


class TreePlugin(msgspec.Struct):
    """`calls`: for each interface that its constructor asked for, the plug-in that serves it."""

    name: str
    state: str
    interfaces: list[str]
    calls: dict[str, str]


class TreeProcess(msgspec.Struct):
    """A process and what is in it. `connected`: the plug-ins that somebody in it has a way to. `kind`: "kernel",
    "process" or "sandbox"; of a sandbox, `pid` is that of the process that its plug-ins are in."""

    name: str
    pid: int
    plugins: list[TreePlugin]
    connected: list[str]
    kind: str = "process"


class PluginDescription(msgspec.Struct):
    """All that is known of one plug-in. `settings`: what its constructor takes, where that was looked up."""

    status: PluginStatus
    use: str
    documentation: str
    interfaces: list[Description]
    config: dict[str, Any]
    settings: list[str]
    calls: dict[str, str]


class PluginVersion(msgspec.Struct):
    """What a plug-in is of. `environment`: the folder of the one that it is installed in, "" for the kernel's own;
    `previous`: what rollbacks would go back to, the next one first."""

    plugin: str
    use: str
    environment: str
    previous: list[str]


class OpenChannel(msgspec.Struct):
    """A channel from a process of plug-ins to a plug-in. `grants`: what may be done by it; empty: everything.
    `giver`: who passed that on to it as a token; "": nobody, it is granted. `origin`: whose own grant that is a part
    of: revoked from that one, it ends."""

    number: int
    interface: str
    plugin: str
    grants: list[str]
    giver: str = ""
    origin: str = ""


class HeldCapabilities(msgspec.Struct):
    """What a plug-in may call. `enforced`: what holds it to that: "process", "sandbox", "advice" (it runs inline), or
    "stopped". `stated`: False where nothing was said, so that it may call what its constructor asks for."""

    plugin: str
    placement: str
    enforced: str
    stated: bool
    grants: list[str]
    channels: list[OpenChannel]


class ProcessMemory(msgspec.Struct):
    """The shared memory of a process, and the plug-ins in it. `inventory`: None where it does not answer."""

    process: str
    pid: int
    plugins: list[str]
    inventory: Inventory | None


class Served(msgspec.Struct):
    """Who serves an interface, and its contract."""

    plugin: str
    interface: Description


class Event(msgspec.Struct):
    """Something that happened. `number`: counts up from 1; `at`: seconds since 1970; `pause`: seconds."""

    number: int
    at: float
    what: str
    plugin: str
    detail: str = ""
    pause: float | None = None


class LogFile(msgspec.Struct):
    """Where a plug-in's output is written."""

    plugin: str
    path: str


class BenchReport(msgspec.Struct):
    """What a measurement found. `seconds`: how long it took; `p50`, `p99`: seconds; `error`: the first
    one."""

    method: str
    plugin: str
    placement: str
    callers: int
    seconds: float
    calls: int
    errors: int
    p50: float
    p99: float
    error: str = ""

    @property
    def rate(self) -> float:
        """Calls a second."""
        return self.calls / self.seconds if self.seconds else 0.0


class Control(Interface, name="mukernel.Control", version="1.0"):
    """Watches and commands a running kernel. Whoever holds it may do everything that the kernel's owner
    may."""

    @idempotent
    async def about(self) -> About:
        """The kernel itself."""
        raise NotImplementedError

    @idempotent
    async def ps(self) -> list[PluginStatus]:
        """Every plug-in, the first loaded first, stopped ones last."""
        raise NotImplementedError

    @idempotent
    async def tree(self) -> list[TreeProcess]:
        """Every process, the kernel's first."""
        raise NotImplementedError

    @idempotent
    async def describe(self, name: str) -> PluginDescription:
        """One plug-in."""
        raise NotImplementedError

    @idempotent
    async def stack(self, name: str) -> list[Stack]:
        """Where each process of a plug-in stands."""
        raise NotImplementedError

    @idempotent
    async def serving(self, interface: str, plugin: str | None = None) -> Served:
        """Who serves an interface; it may be named without what stands before its last dot."""
        raise NotImplementedError

    async def call(self, interface: str, method: str, arguments: dict[str, Any], plugin: str | None = None) -> Any:
        """Call a method by name; for a one-way method, None when it was accepted."""
        raise NotImplementedError

    def stream(
        self, interface: str, method: str, arguments: dict[str, Any], plugin: str | None = None
    ) -> AsyncIterator[Any]:
        """The items of a method that streams."""
        raise NotImplementedError

    def channel(
        self,
        items: AsyncIterator[Any],
        interface: str,
        method: str,
        arguments: dict[str, Any],
        plugin: str | None = None,
    ) -> AsyncIterator[Any]:
        """The items of a method that streams both ways."""
        raise NotImplementedError

    async def swap(
        self,
        name: str,
        use: str | None = None,
        config: dict[str, Any] | None = None,
        drain: float | None = None,
        python: str = "",
        upgrade: bool = False,
    ) -> SwapReport:
        """Replace a plug-in; without `use`, by the present state of its own source; `upgrade`: what is installed is
        chosen anew. A failure is in the report."""
        raise NotImplementedError

    async def rollback(self, name: str) -> SwapReport:
        """Replace a plug-in by the version before the last swap, or before those that were not taken back."""
        raise NotImplementedError

    @idempotent
    async def versions(self) -> list[PluginVersion]:
        """What each plug-in is of, stopped ones last."""
        raise NotImplementedError

    async def move(self, name: str, placement: str) -> SwapReport:
        """Let a plug-in run elsewhere."""
        raise NotImplementedError

    async def scale(self, name: str, replicas: int) -> SwapReport:
        """Run more or fewer instances."""
        raise NotImplementedError

    async def restart(self, name: str) -> SwapReport:
        """Replace each instance by a fresh one of the same version; revive what was given up."""
        raise NotImplementedError

    @idempotent
    async def caps(self, name: str | None = None) -> list[HeldCapabilities]:
        """What one plug-in may call, or each."""
        raise NotImplementedError

    @idempotent
    async def memory(self, name: str | None = None) -> list[ProcessMemory]:
        """The shared memory that each process holds, or those of one plug-in."""
        raise NotImplementedError

    async def grant(self, name: str, grant: str) -> None:
        """Let a plug-in call more."""
        raise NotImplementedError

    async def revoke(self, name: str, grant: str) -> int:
        """Take from a plug-in what it was granted; how many channels that closed."""
        raise NotImplementedError

    async def stop_plugin(self, name: str) -> None:
        """End a plug-in and keep its declaration."""
        raise NotImplementedError

    async def start_plugin(self, name: str) -> None:
        """Start a stopped plug-in as it was."""
        raise NotImplementedError

    def events(self, since: int = 0) -> AsyncIterator[Event]:
        """What happened after event number `since`, and what happens from now on."""
        raise NotImplementedError

    @idempotent
    async def logs(self) -> list[LogFile]:
        """Where the output of each plug-in is written."""
        raise NotImplementedError

    async def bench(
        self,
        interface: str,
        method: str,
        arguments: dict[str, Any],
        plugin: str | None = None,
        callers: int = 16,
        seconds: float = 3.0,
    ) -> BenchReport:
        """Call a method from the kernel's process as often as it can be."""
        raise NotImplementedError

    async def shutdown(self) -> None:
        """End the application, in order."""
        raise NotImplementedError
