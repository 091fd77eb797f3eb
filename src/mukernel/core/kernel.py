"""Kernel: the public face of the core. It owns the registry and the places, and does what its user asks."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Literal, TypeVar

from ..contract import (
    ContractError,
    Description,
    Interface,
    MukernelError,
    SwapFailed,
    Unavailable,
)
from ..kernel.clock import Clock
from ..kernel.ipc import Port
from ..kernel.process import ForkServer, Limits, Process
from ..transports.carriers import NO_BELL, ledger, new_port, preferred
from ..transports.contract import WHOLE_WIRE
from ..transports.kind import Kind
from ..transports.link import Link
from . import messages
from .checks import checked_count, checked_name, checked_options, checked_placement, checked_seconds
from .conversation import Conversation
from .ending import described
from .extensions import missing_extensions
from .file_limit import raise_file_limit
from .ledger import Ledger
from .lifecycle import Event, State
from .loader import check_importable, source_of
from .messages import Blueprint, Counts, Done, Source
from .place import LocalPlace, Place, RemotePlace
from .registry import Entry, Instance, Options, Registry, Replica, RestartPolicy
from .replacement import Replacement, SwapReport, scale
from .space import Grant, Space
from .supervisor import Supervisor
from .switchboard import Switchboard, account_of

log = logging.getLogger("mukernel")
T = TypeVar("T", bound=Interface)
WARM = ("mukernel.core.warm",)
HEARTBEAT = 1.0  # seconds between two ticks of the watchdog
REMEMBERED = 1000  # events kept for those who ask
NOBODY = Counts()  # the very object tells that nobody serves, not that nothing was served yet


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happened to a plug-in. `at`: seconds of the kernel's clock; `pause`: seconds, where there was
    one."""

    at: float
    what: str
    plugin: str
    detail: str = ""
    pause: float | None = None


class Kernel:
    """A microkernel for one application; an async context manager, in any asyncio program.

        async with Kernel() as kernel:
            await kernel.load(English, placement="process")
            await kernel.get(Greeter).greet("Ada")

    `clock`: the only source of time. `log_folder`: what the plug-ins' processes print goes to NAME.log there, instead
    of the kernel's own output. `strict`: inline values pass through the codec.
    """

    def __init__(
        self, name: str = "mukernel", *, clock: Clock | None = None, log_folder: str | None = None,
        strict: bool = False, heartbeat: float = HEARTBEAT,
    ) -> None:  # fmt: skip
        self.transport = preferred()
        self.name, self.clock, self.log_folder, self.strict = name, clock or Clock(), log_folder, strict
        self.heartbeat = heartbeat
        self.registry = Registry()
        self.switchboard = Switchboard(self.registry)
        self.supervisor = Supervisor(self)
        self.events: deque[Happening] = deque(maxlen=REMEMBERED)
        self.listeners: list[Callable[[Happening], object]] = []  # called with each event, as it happens
        self.places: dict[str, RemotePlace] = {}
        self.groups: dict[str, RemotePlace] = {}
        self.group_lock = asyncio.Lock()
        self.closed: bool | None = None  # None: not opened yet
        self.fork_server: ForkServer | None = None
        self.ticker: Any = None

    # -- begin and end --------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Kernel:
        self.loop, self.closed = asyncio.get_running_loop(), False
        if missing := missing_extensions():
            log.warning(missing)
        raise_file_limit()
        self.space = Space("kernel", self, self.clock, self.loop, self.transport)
        self.here = LocalPlace(self.space)
        self.space.on_checkpoint = self.checkpointed
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop every plug-in, the last loaded first, and end every process."""
        self.closed = True
        await self.supervisor.close()
        for entry in sorted(self.registry.entries.values(), key=lambda e: -e.order):
            try:
                await self.unload(entry.name)
            except Exception:
                log.exception("%s did not stop cleanly", entry.name)
        if self.ticker is not None:  # until here it finds out what hangs
            self.ticker.cancel()
        for place in list(self.places.values()):
            await place.end()
        if self.fork_server is not None:
            await self.fork_server.stop()
        self.space.close()

    def check_open(self) -> None:
        """Raises Unavailable outside `async with`."""
        if self.closed is not False:
            state = "has been closed" if self.closed else "is not open yet"
            raise Unavailable(f"this kernel {state}: use it inside `async with Kernel() as kernel:`")

    # -- what users ask -------------------------------------------------------------------------------------------

    async def load(
        self, use: type | str | Source, *, name: str | None = None, placement: str = "inline",
        config: dict[str, Any] | None = None, replicas: int = 1, concurrency: int | None = None, threads: int = 0,
        memory: int | None = None, checkpoint: float | None = None, drain: float = 30.0,
        restart: RestartPolicy | None = None, bind: dict[str, str] | None = None, folder: str | None = None,
        limits: Limits | None = None,
    ) -> None:  # fmt: skip
        """Load a plug-in, and return when it serves.

        `use`: a class, "module:Class", "file.py:Class" or an entry point. `placement`: "inline", "process" or
        "process:NAME". `concurrency`: calls of `async def` methods that may run at once. `threads`: a pool for `def`
        methods. `memory`: bytes that its process may use. `checkpoint`: seconds between two saves of its state, for
        restarts. `bind`: which plug-in is injected for an interface, by its name, where several serve it.

        Raises NotFound, ContractError, or RemoteError with what the plug-in itself raised; nothing is left behind then.
        """
        self.check_open()
        source = source_of(use, folder)
        options = checked_options(
            Options(
                placement, replicas, {} if config is None else config, concurrency, threads, checkpoint, drain,
                limits or Limits(memory=memory), RestartPolicy() if restart is None else restart, bind or {},
            )
        )  # fmt: skip
        entry = self.registry.add(
            checked_name("name", default_name(source.name) if name is None else name), source, options
        )
        async with entry.lock:
            try:
                for _ in range(replicas):
                    await self.start_replica(entry, self.new_replica(entry), source, options)
            except BaseException:
                for replica in list(entry.replicas):
                    await self.remove_replica(entry, replica)
                del self.registry.entries[entry.name]
                raise
        self.record("load", entry.name, options.placement)

    def get(
        self, interface: type[T], *, plugin: str | None = None, blocking: bool = False,
        when_full: Literal["refuse", "wait"] = "refuse",
    ) -> T:  # fmt: skip
        """A proxy for `interface`: hold it as long as you like, it follows the plug-in wherever it goes.

        `plugin`: which one, where several serve the interface. `blocking`: every method blocks its caller, for threads
        and code without an event loop. `when_full`: what a call does that finds the plug-in's mailbox full: raise
        Overloaded, or wait for room, until its deadline if it has one. Raises NotFound or ContractError.
        """
        self.check_open()
        if not (isinstance(interface, type) and issubclass(interface, Interface)):
            raise ContractError(f"kernel.get: got {interface!r}, wanted an Interface class")
        if when_full not in ("refuse", "wait"):
            raise ContractError(f"kernel.get: when_full: got {when_full!r}, wanted 'refuse' or 'wait'")
        proxy: T = self.space.get_now(interface, plugin, blocking, when_full == "wait")
        return proxy

    async def swap(
        self, name: str, use: type | str | Source, *, config: dict[str, Any] | None = None, drain: float | None = None,
        folder: str | None = None,
    ) -> SwapReport:  # fmt: skip
        """Replace a plug-in by another version while it is being called. `config`: new configuration, else the present
        one.

        Raises SwapFailed, whose `report` says what happened, when it was rolled back; the old version serves on then.
        """
        entry = self.registry.entry(name)
        try:
            source = source_of(use, folder, fresh=True)
        except MukernelError as error:
            report = SwapReport(name, "swap", entry.source.name, str(use), rolled_back=True, reason=str(error))
            raise reported(SwapFailed(f"swap of {name!r} was not begun: {error}"), report) from error
        async with self.changing(name) as entry:
            options = entry.options
            if config is not None:
                options = replace(options, config=dict(config))
            if drain is not None:
                options = replace(options, drain=checked_seconds("drain", drain))
            return await Replacement(self, entry, "swap", source, options).run()

    async def move(self, name: str, placement: str) -> SwapReport:
        """Let a plug-in run somewhere else, with its state, while it is being called. Raises SwapFailed."""
        checked_placement(placement)
        async with self.changing(name) as entry:
            if placement == "inline" and len(entry.replicas) > 1:
                raise ContractError(
                    f"{name!r} has {len(entry.replicas)} replicas; scale it to 1 before it moves inline"
                )
            options = replace(entry.options, placement=placement)
            return await Replacement(self, entry, "move", entry.source, options).run()

    async def scale(self, name: str, replicas: int) -> SwapReport:
        """Run more or fewer instances of a plug-in. Raises ContractError or SwapFailed."""
        if not isinstance(replicas, int):
            checked_count("replicas", replicas, 1)
        async with self.changing(name) as entry:
            return await scale(self, entry, replicas)

    async def restart(self, name: str) -> SwapReport:
        """Replace each instance by a fresh one of the same version, its state carried over; revive what was given
        up."""
        async with self.changing(name) as entry:
            revived = [r for r in entry.replicas if r.instance is None or r.instance.life.state is not State.SERVING]
            for replica in revived:
                replica.restarts.clear()
                await self.start_replica(entry, replica, entry.source, entry.options, recover=True)
            entry.failure = None
            if revived:
                await self.reroute_callers(entry)
                self.record("restart", name, "started again")
                return SwapReport(name, "restart", "not serving", "serving")
            return await Replacement(self, entry, "restart", entry.source, entry.options).run()

    async def unload(self, name: str, reason: str | None = None) -> None:
        """Stop a plug-in for good. Calls that wait for it, and those that still run after its `drain`, end in
        Unavailable, with `reason`."""
        async with self.changing(name) as entry:
            reason = reason or f"plug-in {name!r} was unloaded"
            for place in self.calling_places(name):
                await place.close_routes(name, reason)
            for replica in list(entry.replicas):
                await self.remove_replica(entry, replica, reason)
            self.registry.entries.pop(name, None)
            for plugins in self.switchboard.space_plugins.values():
                plugins.discard(name)
        self.record("unload", name)

    async def ledger(self, name: str) -> Ledger:
        """The account of the calls that came by channels. What a server did is counted by it at one moment."""
        entry = self.registry.entry(name)
        account = entry.settled
        for replica in list(entry.replicas):
            account = account.with_(await self.account(replica))
        return account

    async def account(self, replica: Replica) -> Ledger:
        counts = NOBODY
        for _ in range(10):  # again, if channels came or went meanwhile
            channels = list(replica.port.channels)
            counts = await self.counts(replica)
            if channels == list(replica.port.channels):
                break
        if counts is NOBODY:
            return account_of(replica)
        accepted = sum(ledger(channel)[0] for channel in replica.port.channels.values())
        served = Ledger(accepted, counts.answered, counts.refused, counts.serving, accepted - counts.taken)
        return replica.settled.with_(served)

    @asynccontextmanager
    async def changing(self, name: str) -> AsyncIterator[Entry]:
        """A plug-in, when it is our turn to change it. Raises NotFound; Unavailable where it was unloaded meanwhile."""
        entry = self.registry.entry(name)
        async with entry.lock:
            if self.registry.entries.get(name) is not entry:
                raise Unavailable(f"plug-in {name!r} was unloaded while this waited for its turn")
            yield entry

    # -- instances ------------------------------------------------------------------------------------------------

    def new_port(self) -> Port:
        """A mailbox of this kernel's transport."""
        return new_port(self.transport)

    def new_replica(self, entry: Entry) -> Replica:
        replica = Replica(max((r.number for r in entry.replicas), default=-1) + 1, self.new_port())
        entry.replicas.append(replica)
        return replica

    async def build(self, entry: Entry, replica: Replica, source: Source, options: Options) -> Instance:
        """A warm instance in a place of its own. Raises what went wrong, with nothing left behind."""
        key = f"{entry.name}#{replica.number}.{next(entry.builds)}"
        known = {name: plugin for name, plugin in entry.bindings.items() if plugin in self.registry.entries}
        blueprint = Blueprint(
            key, entry.name, source, options.config, options.concurrency, options.threads, options.checkpoint,
            self.strict, {**known, **options.bind},
        )  # fmt: skip
        place = await self.place_for(options, source, entry.name)
        instance = Instance(blueprint, place, messages.Built([], False))
        instance.life.on(Event.BUILD)
        try:
            if isinstance(place, RemotePlace):  # a constructor or a start that never returns counts as hanging, too
                place.patience[key] = options.restart.hang
            instance.built = await place.build(blueprint)
            entry.bindings = instance.built.bindings
        except BaseException:
            instance.life.on(Event.BROKEN)
            if isinstance(place, RemotePlace):
                place.patience.pop(key, None)
            await self.leave(place)
            raise
        instance.life.on(Event.BUILT)
        return instance

    async def start_replica(
        self, entry: Entry, replica: Replica, source: Source, options: Options, recover: bool = False
    ) -> None:
        """Build an instance for a port that has none, and let it receive."""
        instance = await self.build(entry, replica, source, options)
        try:
            replica.successor = instance  # from now on every new channel is given to it, too
            self.attach_all(replica, instance)
            state, version = replica.checkpoint or (None, 1)
            await instance.place.activate(instance.blueprint.key, state, version, recover)
        except BaseException:
            replica.successor = None
            await self.discard(instance)
            raise
        replica.instance, replica.successor = instance, None
        instance.life.on(Event.ACTIVATE)
        entry.interfaces = instance.built.interfaces
        self.supervisor.begun(entry, replica)
        if entry.name in self.switchboard.space_plugins.get(instance.place.space, ()):
            await instance.place.reroute(entry.name, instance.blueprint.key)

    def attach_all(self, replica: Replica, instance: Instance) -> None:
        """Give an instance the receiving end of every channel of its port."""
        for number, channel in replica.port.channels.items():
            instance.place.attach(instance.blueprint.key, channel, replica.callers[number])

    async def discard(self, instance: Instance) -> None:
        """A new instance is not wanted after all."""
        if instance.life.may(Event.BROKEN):
            instance.life.on(Event.BROKEN)
        await self.end(instance)

    async def retire(self, instance: Instance, drain: float = 0.0, reason: str = "") -> None:
        """An old instance has been replaced, or is not wanted any more."""
        if instance.life.may(Event.STOP):
            instance.life.on(Event.STOP)
        await self.end(instance, drain, reason)

    async def end(self, instance: Instance, drain: float = 0.0, reason: str = "") -> None:
        try:
            await instance.place.stop(instance.blueprint.key, drain, reason)
        except Exception as error:
            log.warning("%s did not stop cleanly: %s", instance.blueprint.key, error)
        await self.leave(instance.place)

    async def remove_replica(
        self, entry: Entry, replica: Replica, reason: str = "", drain: float | None = None
    ) -> None:  # fmt: skip
        """End an instance and its port. What still runs after `drain` seconds (None: as its options say) is cut off,
        and whatever waits in the mailbox is refused."""
        instance = replica.instance
        entry.replicas.remove(replica)
        reason = reason or f"plug-in {entry.name!r} has fewer replicas now"
        cut = None
        if instance is not None and not (
            isinstance(instance.place, RemotePlace) and instance.place.conversation.closed
        ):  # fmt: skip
            cut = f"it was stopped while it ran this call: {reason}"
            await self.retire(instance, entry.options.drain if drain is None else drain, cut)
        self.answer_rest(replica, reason, cut)
        entry.settled = entry.settled.with_(replica.settled)
        replica.port.close()

    async def refuse_all(self, entry: Entry, replica: Replica, reason: str) -> None:
        """No instance will come: answer every call, close every route."""
        for place in self.calling_places(entry.name):
            if len(entry.replicas) == 1:
                await place.close_routes(entry.name, reason)
        self.answer_rest(replica, reason)

    def answer_rest(self, replica: Replica, reason: str, cut: str | None = None) -> None:
        """The kernel itself receives what is left in a mailbox, and refuses it. `cut`: why what was being run has no
        answer, where that is not for a crash."""
        for number, channel in list(replica.port.channels.items()):
            rights = [os.dup(fd) for fd in channel.server_rights]
            wire, bell = self.space.carriers.server(channel.transport, rights)
            if bell != NO_BELL:
                os.close(bell)
            for call, _, _ in wire.interrupted():
                wire.post(*(Kind.INTERRUPTED, call, b"") if cut is None else (Kind.GONE, call, cut.encode()))
            while (message := wire.peek()) is not None:
                try:
                    with suppress(MemoryError):  # taken it is, and nobody reads it
                        message.take()
                except ConnectionError as broken:
                    wire.fail(str(broken))
                    break
                if message.kind < Kind.ITEM:
                    if message.kind != Kind.ONEWAY:
                        wire.post(Kind.GONE, message.call, reason.encode())
                    message.finished(True)
            # For what is sent from now on: by a thread that is unaware of this, or again after an interruption.
            wire.post(Kind.NOT_STARTED, WHOLE_WIRE, reason.encode())
            wire.finish()
            self.switchboard.drop(replica, number)

    async def drain_replica(self, entry: Entry, replica: Replica) -> float:
        """Wait until a leaving replica has served all that its callers had sent it; returns the seconds that are
        left."""
        limit = self.clock.now() + entry.options.drain
        while self.clock.now() < limit:
            account = account_of(replica)
            if account.waiting == 0 and account.accepted == account.replied + account.refused:
                break
            await self.clock.sleep(0.001)
        return max(0.0, limit - self.clock.now())

    async def reroute_callers(self, entry: Entry) -> None:
        """Every caller connects anew to the replicas that there are now."""
        for place in self.calling_places(entry.name):
            await place.reroute(entry.name, None)

    def calling_places(self, plugin: str) -> list[Place]:
        spaces = self.switchboard.spaces_calling(plugin)
        places: list[Place] = [self.here] if self.here.space in spaces else []
        return places + [self.places[space] for space in spaces if space in self.places]

    async def counts(self, replica: Replica) -> Counts:
        instance = replica.instance
        if instance is None or instance.life.state is not State.SERVING:
            return NOBODY
        try:
            return await instance.place.count(instance.blueprint.key)
        except Unavailable:  # it has just died
            return NOBODY

    def depends(self, entry: Entry, on: Entry) -> bool:
        """Does some instance of `entry` have a route to `on`?"""
        return any(
            replica.instance is not None
            and on.name in self.switchboard.space_plugins.get(replica.instance.place.space, ())
            for replica in entry.replicas
        )

    # -- places ---------------------------------------------------------------------------------------------------

    async def place_for(self, options: Options, source: Source, plugin: str) -> Place:
        if options.placement == "inline":
            return self.here
        check_importable(source)
        _, _, group = options.placement.partition(":")
        if not group:
            return await self.spawn(plugin, options)
        async with self.group_lock:  # two that restart at once share the new process, too
            if group not in self.groups:
                self.groups[group] = place = await self.spawn(group, options)
                place.group = group
            return self.groups[group]

    def new_place(self, space: str, process: Process, conversation: Conversation) -> RemotePlace:
        return RemotePlace(space, process, conversation)

    async def start_process(self, name: str, options: Options) -> tuple[Process, Link]:
        """A new process, and our end of the link to it."""
        if self.fork_server is None:
            self.fork_server = ForkServer(WARM, path=sys.path)
            await self.fork_server.start()
        if self.ticker is None:
            self.ticker = self.clock.every(self.heartbeat, self.supervisor.beat)
        ours, theirs = Link.pair()
        output = None
        try:
            if self.log_folder is not None:
                path = os.path.join(self.log_folder, f"{name}.log")
                output = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            process = await self.fork_server.spawn(
                "mukernel.core.host:main", name=name, fds=[theirs.fileno()], limits=options.limits, stdout=output
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            if output is not None:
                os.close(output)
        return process, Link(ours)

    async def spawn(self, name: str, options: Options) -> RemotePlace:
        """A new process with an empty space."""
        process, link = await self.start_process(name, options)
        space = f"process {process.pid}"

        async def handle(message: Any, rights: list[int]) -> tuple[Any, Sequence[int]]:
            return await self.asked(place, message, rights)

        place = self.new_place(space, process, Conversation(link, self.loop, handle, lambda: place.lost()))
        self.places[space] = place
        process.on_exit(lambda status: self.supervisor.process_died(place, described(status)))
        return place

    async def leave(self, place: Place) -> None:
        """End a process that has nothing in it any more."""
        if isinstance(place, RemotePlace) and not place.keys and not place.ending:
            if place.group is not None:
                self.groups.pop(place.group, None)
            await place.end()

    async def asked(self, place: RemotePlace, message: Any, rights: list[int]) -> tuple[Any, Sequence[int]]:
        """A process asks the kernel."""
        match message:
            case messages.Connect():
                try:
                    grant = self.switchboard.connect(
                        message.interface, message.plugin, rights[0] if rights else NO_BELL, place.space, message.turn
                    )
                finally:
                    for fd in rights:
                        os.close(fd)
                return grant.connected, grant.rights
            case messages.Disconnect():
                self.switchboard.disconnect(message.channel)
            case messages.Step():
                place.doing[message.key] = message.doing
            case messages.Checkpoint():
                self.checkpointed(message.key, message.state, message.state_version)
            case _:
                raise ContractError(f"a process may not ask the kernel for {type(message).__name__}")
        return Done(), ()

    def checkpointed(self, key: str, state: bytes, version: int) -> None:
        found = self.registry.with_instance(key)
        if found is not None:
            found[1].checkpoint = state, version

    # -- the directory of the kernel's own space --------------------------------------------------------------------

    async def connect(
        self, interface: Description, plugin: str | None, bell: int, space: str, turn: int = -1
    ) -> Grant:  # fmt: skip
        return self.connect_now(interface, plugin, bell, space, turn)

    def connect_now(self, interface: Description, plugin: str | None, bell: int, space: str, turn: int) -> Grant:
        grant = self.switchboard.connect(interface, plugin, bell, space, turn)
        return Grant(grant.connected, [os.dup(fd) for fd in grant.rights])

    def disconnect(self, channel: int) -> None:
        self.switchboard.disconnect(channel)

    # -- events ---------------------------------------------------------------------------------------------------

    def record(self, what: str, plugin: str, detail: str = "", pause: float | None = None) -> None:
        happening = Happening(self.clock.now(), what, plugin, detail, pause)
        self.events.append(happening)
        for listener in self.listeners:
            listener(happening)


def reported(problem: SwapFailed, report: SwapReport) -> SwapFailed:
    problem.report = report
    return problem


def default_name(qualified: str) -> str:
    """English → "english", SqliteCatalog → "sqlite-catalog"."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", qualified.rpartition(".")[2]).lower()
