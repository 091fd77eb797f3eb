"""The server of the control interface, and the socket by which the command line reaches it."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import msgspec

from ..contract import (
    ContractError,
    Description,
    MethodCodec,
    MethodDescription,
    Model,
    NotFound,
    SwapFailed,
    differences,
)
from ..transports.listening import Listener, listen
from ..transports.served import ServedMethod, methods_for
from ..transports.serving import Server
from ..transports.socket import SocketWire
from .bench import measure
from .control import (
    About,
    BenchReport,
    Control,
    Event,
    HeldCapabilities,
    LogFile,
    PluginDescription,
    PluginStatus,
    PluginVersion,
    ProcessMemory,
    Served,
    TreeProcess,
)
from .described import check_arguments, served_interface, served_method, visiting, without_gaps
from .held import held_by_all
from .messages import Source
from .registry import Entry
from .replacement import SwapReport
from .stack import Stack
from .status import Status, boot_offset, memory_of
from .stopped import StoppedPlugins

if TYPE_CHECKING:
    from .journal import Happening
    from .kernel import Kernel

REMEMBERED = 1000  # events


class ControlServer(Control):
    """Serves one kernel. `folder`: where `use` is looked for first. `on_shutdown`: ends the application."""

    def __init__(
        self, kernel: Kernel, folder: str | None = None, on_shutdown: Callable[[], object] | None = None
    ) -> None:
        self.kernel, self.folder, self.on_shutdown = kernel, folder, on_shutdown
        self.stopped = StoppedPlugins(kernel)
        self.status = Status(kernel, self.stopped)
        self.settings: dict[str, list[str]] = {}  # what each plug-in's constructor takes, where that is known
        self.uses: dict[str, str] = {}  # what a swap without `use` loads, where that is known
        self.to_come: list[str] = []  # plug-ins of the application that are not loaded yet
        self.offset = boot_offset(kernel.clock)
        self.started = kernel.clock.now() + self.offset
        self.events_seen: deque[Event] = deque(maxlen=REMEMBERED)
        self.waiting: set[asyncio.Future[None]] = set()  # of those who read events
        self.counted = 0
        for happening in kernel.events:
            self.heard(happening)
        kernel.listeners.append(self.heard)

    # -- watching --------------------------------------------------------------------------------------------

    async def about(self) -> About:
        kernel = self.kernel
        return About(
            kernel.name,
            installed_version(),
            os.getpid(),
            self.started,
            memory_of(os.getpid()),
            self.folder or os.getcwd(),
        )

    async def ps(self) -> list[PluginStatus]:
        return await self.status.plugins()

    async def tree(self) -> list[TreeProcess]:
        return self.status.processes()

    async def describe(self, name: str) -> PluginDescription:
        status = await self.status.named(name)
        stopped = self.stopped.declarations.get(name)
        entry = None if stopped else self.kernel.registry.entry(name)
        described = stopped or entry
        assert described is not None
        instance = entry.replicas[0].instance if entry is not None and entry.replicas else None
        source = described.source
        return PluginDescription(
            status, self.use_of(name, source),
            instance.built.documentation if instance is not None else "", list(described.interfaces),
            described.options.config, self.settings.get(name, []), self.status.calls.get(name, {}),
        )  # fmt: skip

    async def stack(self, name: str) -> list[Stack]:
        if name in self.stopped.declarations:
            raise NotFound(f"plug-in {name!r} is stopped: it has no process; `mukernel start {name}` starts it")
        self.stopped.entry(name)  # raises NotFound
        return await self.kernel.stack(name)

    async def serving(self, interface: str, plugin: str | None = None) -> Served:
        entry, description = self.find(interface, plugin)
        return Served(entry.name, description)

    async def logs(self) -> list[LogFile]:
        folder = self.kernel.log_folder
        if folder is None:
            return []
        entries = sorted(self.kernel.registry.entries.values(), key=lambda entry: entry.order)
        placed = [(entry.name, entry.options.placement) for entry in entries]
        placed += [(name, each.options.placement) for name, each in self.stopped.declarations.items()]
        files = []
        for name, placement in placed:
            group = placement.partition(":")[2]
            file = "kernel" if placement == "inline" else group or name
            files.append(LogFile(name, os.path.join(folder, f"{file}.log")))
        return [*files, LogFile("kernel", os.path.join(folder, "kernel.log"))]

    def heard(self, happening: Happening) -> None:
        self.counted += 1
        self.events_seen.append(
            Event(
                self.counted,
                happening.at + self.offset,
                happening.what,
                happening.plugin,
                happening.detail,
                happening.pause,
            )
        )
        for future in self.waiting:
            if not future.done():
                future.set_result(None)

    async def events(self, since: int = 0) -> AsyncIterator[Event]:
        while True:
            for event in [each for each in self.events_seen if each.number > since]:
                since = event.number
                yield event
            if self.counted > since:
                continue
            future = asyncio.get_running_loop().create_future()
            self.waiting.add(future)
            try:
                await future
            finally:
                self.waiting.discard(future)

    # -- calling ---------------------------------------------------------------------------------------------

    def find(self, interface: str, plugin: str | None) -> tuple[Entry, Description]:
        """The plug-in that serves an interface, named whole or by the end of its name. Raises NotFound,
        ContractError."""
        registry = self.kernel.registry
        if any(interface == name and plugin in (None, kept_for) for name, kept_for in registry.brokers):
            entry = registry.answering(interface, plugin)  # it takes calls while the plug-in is stopped, too
            return entry, served_interface(entry, interface)
        for name in [plugin] if plugin is not None else list(self.stopped.declarations):
            stopped = self.stopped.declarations.get(name)
            if stopped is not None and (plugin or any(each.name == interface for each in stopped.interfaces)):
                raise NotFound(
                    f"plug-in {name!r}, which serves {interface}, is stopped; `mukernel start {name}` starts it"
                )
        known = {each.name for entry in registry.entries.values() for each in entry.interfaces}
        if interface not in known:
            ending = sorted(name for name in known if name.endswith("." + interface))
            interface = ending[0] if len(ending) == 1 else interface
        try:
            entry = registry.serving(interface, plugin)
        except NotFound as error:
            raise self.not_yet(error) from None
        return entry, served_interface(entry, interface)

    def target(
        self, interface: str, method: str, arguments: dict[str, Any], plugin: str | None
    ) -> tuple[Entry, Description, MethodDescription]:
        entry, description = self.find(interface, plugin)
        described = served_method(description, method)
        check_arguments(description, described, arguments)
        return entry, description, described

    async def call(self, interface: str, method: str, arguments: dict[str, Any], plugin: str | None = None) -> Any:
        entry, description, described = self.target(interface, method, arguments, plugin)
        if Model(described.model) not in (Model.CALL, Model.ONEWAY):
            raise ContractError(f"{interface}.{method} is a {described.model} method, wanted one with one reply")
        async with visiting(self.kernel, entry, without_gaps(description, described, arguments)) as methods:
            return await methods[method](**arguments)

    async def stream(
        self, interface: str, method: str, arguments: dict[str, Any], plugin: str | None = None
    ) -> AsyncIterator[Any]:
        entry, description, described = self.target(interface, method, arguments, plugin)
        if Model(described.model) is not Model.STREAM:
            raise ContractError(f"{interface}.{method} is a {described.model} method, wanted one that streams")
        async with (
            visiting(self.kernel, entry, without_gaps(description, described, arguments)) as methods,
            aclosing(methods[method](**arguments)) as items,
        ):
            async for item in items:
                yield item

    async def channel(
        self,
        items: AsyncIterator[Any],
        interface: str,
        method: str,
        arguments: dict[str, Any],
        plugin: str | None = None,
    ) -> AsyncIterator[Any]:
        entry, description, described = self.target(interface, method, arguments, plugin)
        if Model(described.model) is not Model.CHANNEL:
            raise ContractError(
                f"{interface}.{method} is a {described.model} method, wanted one that streams both ways"
            )
        async with (
            visiting(self.kernel, entry, without_gaps(description, described, arguments)) as methods,
            aclosing(methods[method](**arguments, **{described.input_name: items})) as given,
        ):
            async for item in given:
                yield item

    async def bench(
        self,
        interface: str,
        method: str,
        arguments: dict[str, Any],
        plugin: str | None = None,
        callers: int = 16,
        seconds: float = 3.0,
    ) -> BenchReport:
        entry, description, described = self.target(interface, method, arguments, plugin)
        return await measure(self.kernel, entry, description, described, arguments, callers, seconds)

    # -- commanding ------------------------------------------------------------------------------------------

    async def swap(
        self,
        name: str,
        use: str | None = None,
        config: dict[str, Any] | None = None,
        drain: float | None = None,
        python: str = "",
        upgrade: bool = False,
    ) -> SwapReport:
        try:
            return await self.swapped(name, use, config, drain, python, upgrade)
        except SwapFailed as error:
            return report_of(error)

    async def rollback(self, name: str) -> SwapReport:
        self.running(name)
        try:
            report = await self.kernel.rollback(name)
        except SwapFailed as error:
            return report_of(error)
        self.uses.pop(name, None)  # what a swap without `use` loads is what runs now
        return report

    async def versions(self) -> list[PluginVersion]:
        entries = sorted(self.kernel.registry.entries.values(), key=lambda entry: entry.order)
        running = [
            PluginVersion(
                each.name, self.use_of(each.name, each.source), each.source.environment,
                [self.use_of("", source) for source, _ in reversed(each.history)],
            )
            for each in entries
        ]  # fmt: skip
        stopped = [
            PluginVersion(name, self.use_of(name, each.source), each.source.environment, [])
            for name, each in self.stopped.declarations.items()
        ]
        return running + stopped

    def use_of(self, name: str, source: Source) -> str:
        """What a plug-in was loaded from, as an operator would write it."""
        return source.use or self.uses.get(name) or f"{source.file or source.module}:{source.name}"

    async def swapped(
        self,
        name: str,
        use: str | None = None,
        config: dict[str, Any] | None = None,
        drain: float | None = None,
        python: str = "",
        upgrade: bool = False,
    ) -> SwapReport:
        """As `swap`. Raises SwapFailed, whose cause says what went wrong."""
        source = self.running(name).source
        folder = self.folder
        wanted: str | Source | None = use or self.uses.get(name)
        if wanted is None:  # what was asked for then, as the environment that was made of it would be taken as it is
            wanted, folder = source.use or source, source.folder or None
        report = await self.kernel.swap(
            name, wanted, config=config, drain=drain, folder=folder, python=python, upgrade=upgrade
        )
        if use is not None:
            self.uses[name] = use
        return report

    async def move(self, name: str, placement: str) -> SwapReport:
        self.running(name)
        try:
            return await self.kernel.move(name, placement)
        except SwapFailed as error:
            return report_of(error)

    async def scale(self, name: str, replicas: int) -> SwapReport:
        self.running(name)
        try:
            return await self.kernel.scale(name, replicas)
        except SwapFailed as error:
            return report_of(error)

    async def restart(self, name: str) -> SwapReport:
        self.running(name)
        try:
            return await self.kernel.restart(name)
        except SwapFailed as error:
            return report_of(error)

    async def caps(self, name: str | None = None) -> list[HeldCapabilities]:
        found = held_by_all(self.kernel, self.stopped)
        if name is None:
            return found
        if name not in self.stopped.declarations:
            self.stopped.entry(name)  # raises NotFound
        return [each for each in found if each.plugin == name]

    async def memory(self, name: str | None = None) -> list[ProcessMemory]:
        if name is not None and name not in self.stopped.declarations:
            self.stopped.entry(name)  # raises NotFound
        return [each for each in await self.status.memory() if name is None or name in each.plugins]

    async def grant(self, name: str, grant: str) -> None:
        self.running(name)
        await self.kernel.grant(name, grant)

    async def revoke(self, name: str, grant: str) -> int:
        self.running(name)
        return await self.kernel.revoke(name, grant)

    async def stop_plugin(self, name: str) -> None:
        await self.stopped.stop(name)

    async def start_plugin(self, name: str) -> None:
        await self.stopped.start(name)

    async def shutdown(self) -> None:
        if self.on_shutdown is None:
            raise NotFound("this kernel belongs to a program that did not say how to end it")
        self.on_shutdown()

    def running(self, name: str) -> Entry:
        """Raises NotFound for a plug-in that is stopped, or that there is not."""
        if name in self.stopped.declarations:
            raise NotFound(f"plug-in {name!r} is stopped; `mukernel start {name}` starts it")
        try:
            return self.stopped.entry(name)
        except NotFound as error:
            raise self.not_yet(error) from None

    def not_yet(self, error: NotFound) -> NotFound:
        """Says so, too, where the application is still being started."""
        if not self.to_come:
            return error
        return NotFound(f"{error}; the application is still starting, and to come are: {', '.join(self.to_come)}")


def report_of(error: SwapFailed) -> SwapReport:
    report = getattr(error, "report", None)
    if not isinstance(report, SwapReport):
        raise error
    return report


def installed_version() -> str:
    try:
        return version("mukernel")
    except PackageNotFoundError:
        return "unknown"


class ControlSocket:
    """A Unix socket, of mode 0600, by which other processes of the same user reach a ControlServer."""

    def __init__(self, control: ControlServer, path: str) -> None:
        self.control, self.path = control, path
        kernel, contract = control.kernel, Control.__contract__
        self.server = Server(kernel.loop, kernel.clock.now_ns)
        self.methods = {
            method.name: ServedMethod(method, MethodCodec(method), getattr(control, method.name))
            for method in contract.methods.values()
        }
        self.listener: Listener | None = None

    async def open(self) -> None:
        """Listen. Raises Unavailable where somebody listens already."""
        greeting = msgspec.msgpack.encode(Control.__contract__.describe())
        self.listener = await listen(f"unix:{self.path}", self.accept, greeting=greeting)
        self.server.resume()

    def accept(self, wire: SocketWire) -> None:
        """A client has said which contract it calls by."""
        contract = Control.__contract__
        try:
            caller = msgspec.msgpack.decode(wire.peer_greeting, type=Description)
        except Exception:  # whatever decoding raises
            wire.fail("a client of the control interface begins with a description of its contract")
            return
        lines = differences(caller, contract.describe()) if caller.hash != contract.hash else []
        if lines:
            wire.fail(
                f"this kernel is of mukernel {installed_version()}, the command of another version: " + "; ".join(lines)
            )
            return
        self.server.attach(wire, methods_for(caller, contract, self.methods))
        wire.listen()

    def close(self) -> None:
        """Stop listening; whoever is connected is told."""
        self.server.close()
        if self.listener is not None:
            self.listener.close("the kernel has stopped")
            self.listener = None
