"""Kernel: the public face of the core. It puts the parts together, and does what its user asks."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ..contract import (
    Capability,
    ContractError,
    Description,
    MukernelError,
    NotFound,
    Unavailable,
    interface_of,
    read_capability,
)
from ..kernel.clock import Clock
from ..kernel.ipc import Port
from ..kernel.process import Limits
from ..sandbox.policy import Sandbox
from ..transports.carriers import new_port, preferred
from ..transports.segment import account
from .brokering import PATIENT, QUEUE, Brokering, broker_name, config_of_broker, grants_of_broker
from .capabilities import BROKERS, checked_grants
from .changes import Changes, change
from .checks import (
    checked_bindings,
    checked_config,
    checked_count,
    checked_name,
    checked_options,
    checked_placement,
    checked_reason,
    checked_replicas,
    checked_seconds,
)
from .closing import unload_all
from .deployments import Deployments, checked_apart
from .directory import Grant
from .ending import to_its_end
from .extensions import missing_extensions
from .file_limit import raise_file_limit
from .granting import Granting
from .imported import remember_here
from .instances import Instances
from .journal import Happening, Journal
from .ledger import Ledger
from .loader import default_name
from .messages import Source
from .place import LocalPlace, RemotePlace
from .processes import Processes
from .reach import Reach
from .registry import DEFAULT_LOG, Entry, Options, Registry, Replica, RestartPolicy
from .replacement import Replacement, SwapReport, not_begun
from .scaling import scale
from .space import Space
from .stack import Stack
from .standstill import StandstillWatch
from .supervisor import Supervisor
from .switchboard import Switchboard

if TYPE_CHECKING:
    from ..deployment import Installer

log = logging.getLogger("mukernel")
T = TypeVar("T")
HEARTBEAT = 1.0  # seconds between two ticks of the watchdog


class Kernel:
    """A microkernel for one application; an async context manager, in any asyncio program.

        async with Kernel() as kernel:
            await kernel.load(English, placement="process")
            await kernel.get(Greeter).greet("Ada")

    `clock`: the only source of time. `log_folder`: what the plug-ins' processes print goes to NAME.log there, instead
    of the kernel's own output. `strict`: inline values pass through the codec. `shared_memory`: bytes of it that this
    process may hold, at most; else half of the machine's memory. `installer`: where plug-ins with an environment of
    their own are installed; by default under $XDG_STATE_HOME/mukernel/NAME (~/.local/state).
    """

    def __init__(
        self, name: str = "mukernel", *, clock: Clock | None = None, log_folder: str | None = None,
        strict: bool = False, heartbeat: float = HEARTBEAT, shared_memory: int | None = None,
        installer: Installer | None = None,
    ) -> None:  # fmt: skip
        if log_folder is not None and not os.path.isdir(log_folder):
            raise ContractError(f"log_folder: got {log_folder!r}, which is no folder; wanted one that is there")
        self.transport = preferred()
        self.name, self.clock, self.log_folder, self.strict = name, clock or Clock(), log_folder, strict
        self.heartbeat = heartbeat
        if shared_memory is not None:
            account.allow(checked_count("shared_memory", shared_memory, 0))
        self.registry = Registry()
        self.switchboard = Switchboard(self.registry)
        self.journal = Journal(self.clock)
        self.deployments = Deployments(name, installer, self.clock, lambda use, step: self.record("install", use, step))
        self.changes = Changes()
        self.closed: bool | None = None  # None: not opened yet
        self.ending: asyncio.Task[None] | None = None  # for which everybody who closes it waits

    # -- begin and end --------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Kernel:
        """Raises ContractError for a kernel that is open already, or not closed yet."""
        if self.closed is False or not (self.ending is None or self.ending.done()):
            raise ContractError("this kernel is open already: enter it once, or make a Kernel() for each `async with`")
        self.loop, self.closed, self.ending = asyncio.get_running_loop(), False, None
        if missing := missing_extensions():
            log.warning(missing)
        raise_file_limit()
        self.space = Space("kernel", self, self.clock, self.loop, self.transport)
        self.processes = self.new_processes()
        self.instances = Instances(self.processes, self.new_port, self.strict)
        self.granting = Granting(self.instances, self.journal)
        self.brokering = Brokering(self.instances, self.journal)
        self.supervisor = Supervisor(self.instances, self.journal, self.restart)
        self.space.on_asks = lambda key, interfaces: self.switchboard.capabilities.asked("kernel", key, interfaces)
        self.space.on_checkpoint = self.registry.checkpointed
        self.processes.reach = lambda: Reach([self.log_folder] if self.log_folder else [], self.deployments.stores)
        self.processes.on_beat, self.processes.on_death = self.supervisor.beat, self.supervisor.process_died
        self.instances.on_begun = self.begun
        self.standstill = StandstillWatch(self.loop, self.processes.heartbeat, self.stood_still)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End every change under way in Unavailable, stop every plug-in, those first that were loaded later and call
        it, and end every process. Once begun it runs to its end, though its caller be cancelled. In a process that was
        forked since, nothing."""
        if self.closed is None or self.space.lost is not None:
            return
        self.check_own_loop()
        if self.ending is None:
            self.ending = asyncio.create_task(self.end())
        cancelled = await to_its_end(self.ending)
        if cancelled is not None:
            raise cancelled

    async def end(self) -> None:
        self.closed = True
        self.standstill.close()
        self.processes.fork_servers.let_go_on()
        await self.supervisor.close()
        await self.changes.end()
        await unload_all(self.instances, self.unload)
        await self.processes.close()
        self.switchboard.unread.space_died()
        self.deployments.release()
        self.space.close()

    def check_open(self) -> None:
        """Raises Unavailable outside `async with`, and in a process that was forked since."""
        if self.closed is False:
            self.space.check_ours()
        if self.closed is not False:
            state = "has been closed" if self.closed else "is not open yet"
            raise Unavailable(f"this kernel {state}: use it inside `async with Kernel() as kernel:`")

    def check_own_loop(self) -> None:
        """Raises ContractError in another event loop than that which it was opened in."""
        if self.closed is not None and asyncio.get_running_loop() is not self.loop:
            how = "`asyncio.run_coroutine_threadsafe(kernel.load(...), kernel.loop)`, or a KernelThread"
            raise ContractError(f"this kernel was opened in another event loop; wanted this awaited there: {how}")

    def new_processes(self) -> Processes:
        """Where this kernel's instances can be."""
        return Processes(self.space, self.registry, self.switchboard, self.log_folder, self.heartbeat)

    def new_port(self) -> Port:
        """A mailbox of this kernel's transport."""
        return new_port(self.transport)

    # -- what users ask -------------------------------------------------------------------------------------------

    @change
    async def load(
        self, use: type | str | Source, *, name: str | None = None, placement: str = "inline",
        config: dict[str, Any] | None = None, replicas: int = 1, concurrency: int | None = None, threads: int = 0,
        memory: int | None = None, checkpoint: float | None = None, drain: float = 30.0,
        restart: RestartPolicy | None = None, bind: dict[str, str] | None = None, folder: str | None = None,
        limits: Limits | None = None, sandbox: Sandbox | None = None,
        grants: Sequence[str | Capability] | None = None, shared_memory: int | None = None, python: str = "",
        entry: str = "", log_size: int = DEFAULT_LOG,
    ) -> None:  # fmt: skip
        """Load a plug-in, and return when it serves.

        `use`: a class, "module:Class", "file.py:Class" or an entry point; a plain class is served by its typed public
        methods, or by those in "module:Class[one, another]". Or what is to be installed into an environment of its own:
        a requirement such as "shop-catalog==2.0", a wheel, a directory, "git+https://..."; `python`: with which Python,
        such as "3.13"; `entry`: which plug-in of it, where it has several. `placement`: "inline", "process",
        "process:NAME", "sandbox" or "sandbox:NAME". `sandbox`: what it may touch there. `concurrency`: calls of `async
        def` methods that may run at once. `threads`: a pool for `def` methods and streams. `memory`: bytes that its
        process may use, `shared_memory`: bytes of that which it may hold, `log_size`: bytes that are kept of what it
        prints. `checkpoint`: seconds between two saves of its state, for restarts. `bind`: which plug-in is injected
        for an interface, by its name, where several serve it. `grants`: what it may call, each "Interface",
        "Interface:right" or "Interface:right:scope"; default all that its constructor asks for, and nothing else.

        Raises NotFound, ContractError, PermissionDenied where the constructor asks for what was not granted, or
        RemoteError with what the plug-in itself raised; nothing is left behind then.
        """
        options = checked_options(
            Options(
                placement, replicas, {} if config is None else config, concurrency, threads, checkpoint, drain,
                Limits(memory=memory) if limits is None else limits, RestartPolicy() if restart is None else restart,
                bind or {}, sandbox,
                grants,  # type: ignore[arg-type]  # read there
                shared_memory,
                log_size,
            )
        )  # fmt: skip
        if name is not None:
            self.registry.check_free(checked_name("name", name))  # before anything is installed for it
        try:
            checked_apart(use, options.placement, folder)
            async with self.deployments.source(use, folder, python=python, entry=entry) as source:
                await self.start(name or checked_name("name", default_name(source.name)), source, options)
        finally:
            await self.forget_unused()

    async def start(self, name: str, source: Source, options: Options, declared: Sequence[Description] = ()) -> None:
        """Let a new plug-in serve, also by proxies of one that had its name. Where that fails nothing is left.
        `declared`: what it is known to serve."""
        remember_here(source.module)  # it may be elsewhere, be written anew, and move here
        entry = self.registry.add(name, source, options)
        entry.declared = declared
        async with entry.lock:
            try:
                for _ in range(options.replicas):
                    replica = self.instances.new_replica(entry)
                    await self.instances.start_replica(entry, replica, source, options)
                    assert replica.instance is not None
                    needs = replica.instance.built.needs
                    checked_bindings(options.bind, needs, entry.name)
                    checked_grants(self.registry, entry.name, options.grants or (), needs)
                await self.instances.reroute_callers(entry)
            except BaseException as error:
                await to_its_end(self.instances.remove(entry, "it could not be loaded"))
                if entry.asks and isinstance(error, ContractError | NotFound):  # a slip in `bind` shows so
                    checked_bindings(options.bind, entry.asks, name)
                raise
        self.record("load", entry.name, options.placement)
        await self.brokering.follow(entry)

    async def forget_unused(self) -> None:
        """End the fork servers of environments that no plug-in is of any more, and let those be removed."""
        used = self.processes.environments()
        await self.processes.fork_servers.keep(used)
        self.deployments.release(used)

    def get(
        self, interface: type[T], *, plugin: str | None = None, blocking: bool = False,
        when_full: Literal["refuse", "wait"] = "refuse",
    ) -> T:  # fmt: skip
        """A proxy for `interface`: hold it as long as you like, it follows the plug-in wherever it goes.

        `interface`: an Interface class, or a plain class or Protocol, whose typed public methods are meant.
        `plugin`: which one, where several serve it. `blocking`: every method blocks its caller, for threads
        and code without an event loop. `when_full`: what a call does that finds the plug-in's mailbox full: raise
        Overloaded, or wait for room, until its deadline if it has one. Raises NotFound or ContractError.
        """
        self.check_open()
        if not isinstance(interface, type):
            raise ContractError(f"kernel.get: got {interface!r}, wanted an Interface class")
        if when_full not in ("refuse", "wait"):
            raise ContractError(f"kernel.get: when_full: got {when_full!r}, wanted 'refuse' or 'wait'")
        remember_here(interface.__module__)
        wanted: Any = interface_of(interface)  # itself, unless it is a plain class or a Protocol
        proxy: T = self.space.get_now(wanted, plugin, blocking, when_full == "wait")
        return proxy

    async def route(
        self, interface: type | str, *, brokered: bool, plugin: str | None = None, queue: int = QUEUE
    ) -> None:  # fmt: skip
        """Say how the calls of an interface travel: direct, as they do at first, or `brokered`: by a durable queue of
        the event server, which runs each at least once and outlives its plug-in's absence.

        `plugin`: which one, where several serve it. `queue`: calls that may wait; beyond them callers get Overloaded.
        What waits when a route becomes direct again stays on the disk, as the broker's log says, until it is brokered
        once more. Raises ContractError where a method is neither one-way nor @idempotent, NotFound, Unavailable.
        """
        self.check_open()
        self.check_own_loop()
        wanted: Any = interface if isinstance(interface, str) else interface_of(interface)
        name = wanted if isinstance(wanted, str) else wanted.__contract__.name
        if not brokered:
            await self.unload(await self.brokering.end(name, plugin), "its calls go direct again")
            return
        checked_count("queue", queue, 1)
        entry, description = self.brokering.checked(name, plugin)
        source, broker = self.brokering.begin(entry, description), broker_name(name)
        try:
            await self.load(
                source, name=broker, placement=BROKERS, config={**config_of_broker(entry), "queue": queue},
                grants=grants_of_broker(name), restart=PATIENT,
            )  # fmt: skip
        except BaseException:
            self.registry.brokers.pop((name, entry.name), None)
            raise
        await self.brokering.lead(entry.name)

    @change
    async def swap(
        self, name: str, use: type | str | Source, *, config: dict[str, Any] | None = None, drain: float | None = None,
        folder: str | None = None, python: str = "", entry: str = "", upgrade: bool = False,
    ) -> SwapReport:  # fmt: skip
        """Replace a plug-in by another version while it is being called. `config`: new configuration, else the present
        one. `drain`: seconds that this swap waits for running calls, else as the plug-in was loaded with. What has to
        be installed for it is, beside the old version, which serves on; `python`, `entry`: as for `load`, and by
        default as they are. `upgrade`: it is chosen anew, whatever is locked.

        Raises SwapFailed, whose `report` says what happened, when it was rolled back; the old version serves on then.
        """
        if config is not None:
            config = checked_config(config)
        if drain is not None:
            checked_seconds("drain", drain)
        return await self.replace(name, "swap", use, config, drain, folder, python, entry, upgrade)

    @change
    async def rollback(self, name: str) -> SwapReport:
        """Replace a plug-in by the version before the last swap, with the configuration of that; a second rollback
        by the one before that, and so on: the last ten are known. Raises SwapFailed, as `swap` does, ContractError
        where no version was before, or only what its files held before they were loaded again, and Unavailable where
        another replacement came first."""
        source, config = self.registry.entry(name).before()
        return await self.replace(name, "rollback", source, config)

    async def replace(
        self, name: str, what: str, use: type | str | Source, config: dict[str, Any] | None, drain: float | None = None,
        folder: str | None = None, python: str = "", point: str = "", upgrade: bool = False,
    ) -> SwapReport:  # fmt: skip
        """A swap or a rollback, everything checked."""
        entry = self.registry.entry(name)
        self.brokering.check_changeable(name, "swapped")
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.forget_unused)
            try:
                checked_apart(use, entry.options.placement, folder)
                wanted = self.deployments.source(use, folder, True, python, point, entry.source, upgrade)
                source = await stack.enter_async_context(wanted)
            except MukernelError as error:
                report = SwapReport(name, what, entry.source.title, str(use), rolled_back=True, reason=str(error))
                raise not_begun(report) from error
            async with self.registry.changing(name) as entry:
                if what == "rollback" and not (entry.history and entry.history[-1][0] is use):
                    raise Unavailable(f"plug-in {name!r} was replaced meanwhile, and is not taken back: ask again")
                options = entry.options if config is None else replace(entry.options, config=config)
                report = await Replacement(self.instances, self.journal, entry, what, source, options, drain).run()
            await self.brokering.follow(entry)
            return report

    @change
    async def move(self, name: str, placement: str) -> SwapReport:
        """Let a plug-in run somewhere else, with its state, while it is being called. Raises SwapFailed."""
        checked_placement(placement)
        self.brokering.check_changeable(name, "moved")
        async with self.registry.changing(name) as entry:
            if placement == "inline" and len(entry.staying) > 1:
                raise ContractError(f"{name!r} has {len(entry.staying)} replicas; scale it to 1 before it moves inline")
            checked_apart(entry.source, placement)
            options = replace(entry.options, placement=placement)
            return await Replacement(self.instances, self.journal, entry, "move", entry.source, options).run()

    @change
    async def scale(self, name: str, replicas: int) -> SwapReport:
        """Run more or fewer instances of a plug-in. Raises ContractError or SwapFailed."""
        checked_replicas(replicas)
        self.brokering.check_changeable(name, "scaled")
        return await scale(self.instances, self.journal, name, replicas)

    @change
    async def restart(self, name: str) -> SwapReport:
        """Replace each instance by a fresh one of the same version, with its state; revive what was given up."""
        async with self.registry.changing(name) as entry:
            revived = [replica for replica in entry.replicas if not replica.serves]
            if not revived:
                work = Replacement(self.instances, self.journal, entry, "restart", entry.source, entry.options)
                return await work.run()
            await self.instances.revive(entry, revived)
        self.record("restart", name, "started again")
        return SwapReport(name, "restart", "not serving", "serving")

    async def unload(self, name: str, reason: str | None = None, *, drain: float | None = None) -> None:
        """Stop a plug-in. Calls that wait, those that run longer than `drain` seconds (None: as it was loaded with),
        and later ones, until its name is loaded again, end in Unavailable with `reason`. Once begun it runs to its end,
        whoever is cancelled."""
        self.check_own_loop()
        if drain is not None:
            checked_seconds("drain", drain)
        async with self.registry.changing(name) as entry:
            cancelled = await to_its_end(self.instances.remove(entry, checked_reason(reason, name), drain))
        self.record("unload", name)
        cancelled = await to_its_end(self.granting.end_passed_on()) or cancelled
        cancelled = await to_its_end(self.forget_unused()) or cancelled
        if cancelled is not None:
            raise cancelled

    async def stack(self, name: str) -> list[Stack]:
        """Where each process of a plug-in stands, whatever it is doing: with the GIL held, in a deadlock, while it is
        being built. Raises NotFound."""
        self.check_own_loop()
        places = self.instances.places_of(self.registry.entry(name))
        return list(await asyncio.gather(*(place.stack() for place in places)))

    async def grant(self, name: str, grant: str | Capability) -> None:
        """Let a plug-in call more from now on: "Interface", "Interface:right" or "Interface:right:scope". What it was
        refused before it may call by the proxies that it has. Raises NotFound, ContractError."""
        self.check_own_loop()
        await self.granting.grant(name, read_capability(grant))

    async def revoke(self, name: str, grant: str | Capability) -> int:
        """Take from a plug-in what it was granted, and all that lies within. Its channels are closed at once: calls
        that are being run there end in PermissionDenied, and so do later ones. Returns how many channels that were.
        Raises NotFound where it does not hold that. (Inline it is advice: see docs/explanation/security.md.)
        """
        self.check_own_loop()
        return await self.granting.revoke(name, read_capability(grant))

    async def ledger(self, name: str) -> Ledger:
        """The account of the calls that came by channels. What a server did is counted by it at one moment."""
        self.check_own_loop()
        return await self.instances.ledger(self.registry.entry(name))

    def begun(self, entry: Entry, replica: Replica) -> None:
        """An instance serves from now on: what it has saved since it took over is its replica's."""
        instance = replica.instance
        assert instance is not None
        replica.checkpoint, instance.checkpoint = instance.checkpoint or replica.checkpoint, None
        self.supervisor.begun(entry, replica)

    def stood_still(self, stack: Stack) -> None:
        """The loop turns again, after it stood still; `stack` is where it did."""
        self.record("standstill", "kernel", f"the event loop stood still; it was {stack.short}")

    # -- where they are -------------------------------------------------------------------------------------------

    @property
    def here(self) -> LocalPlace:
        """This very process, as a place for instances."""
        return self.processes.here

    @property
    def places(self) -> dict[str, RemotePlace]:
        """The other processes, each by the name of its space."""
        return self.processes.places

    # -- the directory of the kernel's own space ------------------------------------------------------------------

    async def connect(
        self, interface: Description, plugin: str | None, bell: int, space: str, turn: int = -1, token: str = ""
    ) -> Grant:  # fmt: skip
        return self.connect_now(interface, plugin, bell, space, turn, token)

    def connect_now(
        self, interface: Description, plugin: str | None, bell: int, space: str, turn: int, token: str = ""
    ) -> Grant:  # fmt: skip
        return self.switchboard.connect_here(interface, plugin, bell, space, turn, token)

    def disconnect(self, channel: int) -> None:
        self.switchboard.disconnect(channel)

    async def narrow(self, key: str, interface: str, plugin: str, part: str, token: str) -> str:
        return self.switchboard.narrow("kernel", key, interface, plugin, part, token)

    def check_served(self, channel: int) -> None:
        """The loop's own thread waits for a call of its own: raises Unavailable where only the loop could help."""
        self.instances.check_served(channel)

    @property
    def events(self) -> deque[Happening]:
        """What happened lately, the last at the end."""
        return self.journal.events

    @property
    def listeners(self) -> list[Callable[[Happening], object]]:
        """Functions that are called with each event, as it happens: append yours. What one raises is logged."""
        return self.journal.listeners

    def record(self, what: str, plugin: str, detail: str = "", pause: float | None = None) -> None:
        """Note an event; `pause` in seconds."""
        self.journal.record(what, plugin, detail, pause)
