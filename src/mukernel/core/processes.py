"""Processes: where instances can be. They are made when a plug-in needs one, and ended when nothing is in them."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..contract import ContractError, Unavailable
from ..deployment.environment import made_anew
from ..kernel.process import ForkServer, Limits, Process, ProcessError
from ..sandbox.cgroups import Cgroup, Cgroups
from ..sandbox.policy import Sandbox
from ..transports.carriers import NO_BELL, available
from ..transports.descriptors import NONE_LEFT, close_all, enough_for
from ..transports.link import Link
from . import environment_host, messages
from .capabilities import BROKERS
from .conversation import Conversation
from .enclosed import Enclosed
from .ending import described
from .fork_servers import ForkServers, imported_from
from .handshake import Agreement, introduced
from .imported_for_plugins import check_no_chain
from .loader import check_importable
from .messages import Connected, Done, Source
from .place import LocalPlace, Place, RemotePlace
from .process_logs import ProcessLogs
from .reach import Reach, sandbox_of
from .registry import Options, Registry
from .sandboxed import ENTRY, enclosed, group_limits, policy_for, written
from .sharing import settings_of_process, unlike
from .space import Space
from .stack import StackPipe, printable
from .switchboard import Switchboard

log = logging.getLogger("mukernel")
LONGEST_STEP = 200  # characters of what a process says that it is doing


@dataclass(slots=True)
class Begun:
    """A process that has just begun: our end of the link to it, the pipe by which it tells where it stands, its
    sandbox, and what it agreed to, where it is of another environment."""

    process: Process
    link: Link
    stacks: StackPipe | None = None
    enclosure: Enclosed | None = None
    agreement: Agreement | None = None


class Processes:
    """The kernel's own process, `here`, and those of its plug-ins.

    `places`: each of the others, by the name of its space; `groups`: those that plug-ins share, by name. `log_folder`:
    what processes print goes to files there. `heartbeat`: seconds between two calls of `on_beat`, which begin with the
    first process. `on_death`: called with a process that has ended, and how it did.
    """

    def __init__(
        self, space: Space, registry: Registry, switchboard: Switchboard, log_folder: str | None, heartbeat: float
    ) -> None:
        self.space, self.registry, self.switchboard = space, registry, switchboard
        self.clock, self.loop = space.clock, space.loop
        self.logs, self.heartbeat = ProcessLogs(log_folder), heartbeat
        self.here = LocalPlace(space)
        self.places: dict[str, RemotePlace] = {}
        self.groups: dict[str, RemotePlace] = {}
        self.group_lock = asyncio.Lock()
        self.fork_servers = ForkServers()
        self.reach: Callable[[], Reach] = Reach
        self.cgroups: Cgroups | None = None  # looked for when the first sandbox is started
        self.empty_cgroups: list[Cgroup] = []  # of sandboxes that have ended, or are about to: to be removed
        self.ticker: Any = None
        self.on_beat: Callable[[], object] = lambda: None
        self.on_unattached: Callable[[int, str, str], object] = lambda channel, key, space: None
        self.on_death: Callable[[RemotePlace, str], object] = lambda place, how: None

    async def close(self) -> None:
        """End every process; what is in them has been stopped."""
        places = list(self.places.values())
        for place in places:
            await place.end()
        if self.ticker is not None:  # until here it finds out what hangs
            self.ticker.cancel()
        await self.fork_servers.close()  # and with them everybody in a sandbox
        for place in places:
            if place.enclosed is not None:
                self.forget(place.enclosed)
        self.remove_empty_cgroups()

    async def place_for(self, options: Options, source: Source, plugin: str) -> Place:
        """Where a plug-in is to run: a new process, unless its placement says otherwise. Raises ContractError for a
        class that no other process can import, or that a module loads which is itself just imported for a plug-in, or
        whose sandbox reaches what it must not, or which another sandbox reaches; ProcessError where none can be
        started."""
        others = {each.name: (each.source, each.options) for each in self.registry.entries.values()}
        if any(sandbox_of(each) is not None for each in (options, *(each for _, each in others.values()))):
            self.reach().check(plugin, source, options, others)
        if options.placement == "inline":
            return self.here
        check_importable(source)
        check_no_chain(source.module)
        _, _, group = options.placement.partition(":")
        if options.placement == BROKERS and source.stands_in is None:
            raise ContractError(f"placement: got {BROKERS!r}, which is the brokers' own; wanted another NAME")
        if not group:
            return await self.spawn(plugin, options, source)
        async with self.group_lock:  # two that restart at once share the new process, too
            if group not in self.groups:
                self.groups[group] = place = await self.spawn(group, options, source)
                place.group = group
            place = self.groups[group]
            for key, own, theirs in unlike(settings_of_process(options), place.settings):
                raise ContractError(
                    f"placement: got {options.placement!r}, whose process ({place.inhabitants}) has {key}: {theirs}, "
                    f"where {plugin!r} has {own}; wanted the same {key} for all of that name, or another name"
                )
            if place.environment != source.environment:
                raise ContractError(
                    f"placement: got {options.placement!r}, where others run in "
                    f"{place.environment or 'the environment of the kernel'}; wanted the same environment for all "
                    f"of that name, or another name (this one: {source.environment or 'the environment of the kernel'})"
                )
            return place

    def new_place(self, space: str, process: Process, conversation: Conversation) -> RemotePlace:
        """A process, as the kernel commands it over its link."""
        return RemotePlace(space, process, conversation)

    @property
    def fork_server(self) -> ForkServer | None:
        """That of the kernel's own environment; None where nothing needed it yet."""
        return self.fork_servers.get("", sandboxed=False)

    def environments(self) -> set[str]:
        """Those that plug-ins run in, or are to be started in again."""
        used = {place.environment for place in self.places.values() if not place.ending}
        return used | {entry.source.environment for entry in self.registry.entries.values()}

    def new_cgroup(self, options: Options, sandbox: Sandbox) -> Cgroup | None:
        """A control group for one sandbox; None where there are no rights to make one. Raises OSError where there are
        no files left for it: that is no reason to do without."""
        self.remove_empty_cgroups()
        if self.cgroups is None:
            self.cgroups = Cgroups()
        try:
            return self.cgroups.new(*group_limits(sandbox, options.limits, options.shared_memory))
        except OSError as error:
            if error.errno in NONE_LEFT:
                raise
            log.warning("a sandbox has no control group, and is limited by rlimits alone: %s", error)
            return None

    def remove_empty_cgroups(self) -> None:
        self.empty_cgroups = [each for each in self.empty_cgroups if not each.remove()]

    async def start_process(self, name: str, options: Options, source: Source) -> Begun:
        """A new process. Raises what keeps it from being what it is to be."""
        try:
            with enough_for(f"the process of {name!r}"):
                async with self.fork_servers.serving(source.environment, sandbox_of(options) is not None) as server:
                    return await self.forked(server, name, options, source)
        except ProcessError as error:
            if not source.environment:
                raise
            raise Unavailable(
                f"plug-in {name!r} was not started in its environment {source.environment}: {error}; if that ended by "
                "itself, what its Python runs as it starts, such as a .pth file, may have ended it: wanted a version "
                "without"
            ) from error

    async def forked(self, server: ForkServer, name: str, options: Options, source: Source) -> Begun:
        if self.ticker is None and self.heartbeat:
            self.ticker = self.clock.every(self.heartbeat, self.beat)
        ours, theirs = Link.pair()
        link, given = Link(ours), list[int]()
        sandbox, output, report = sandbox_of(options), None, -1
        entry, limits = "mukernel.core.host:main", options.limits
        if limits.cpu_seconds is not None:  # the host asks for a warning a second before it
            limits = replace(limits, cpu_seconds=limits.cpu_seconds + 1)
        if source.environment:
            entry = environment_host.ENTRY
        stacks = cgroup = process = enclosure = agreement = None
        try:
            stacks = StackPipe()
            given.append(stacks.writer)
            if sandbox is not None:
                cgroup = self.new_cgroup(options, sandbox)
            output = await self.logs.open(name, options.log_size)
            if sandbox is not None:
                report, reports = os.pipe2(os.O_CLOEXEC)
                entry, imported = ENTRY, sys.path
                if source.environment:
                    entry, imported = environment_host.SANDBOX_ENTRY, imported_from(source.environment)
                given.append(reports)
                most = options.log_size if output is None else options.log_size // 2  # the other half is NAME.log.1's
                given.append(written(policy_for(sandbox, limits, source, imported, cgroup, most)))
                limits = Limits(cpu_seconds=limits.cpu_seconds)  # the others are its sandbox's own
            with self.fork_servers.asking(source.environment, sandbox is not None):
                fds = [theirs.fileno(), *given]
                process = await server.spawn(entry, name=name, fds=fds, limits=limits, stdout=output)
            theirs.close()  # then the process alone has that end, and our own says when it is gone
            close_all(given)
            given.clear()
            if sandbox is not None:
                await enclosed(self.loop, report, name, process, made_anew(source.environment))
                enclosure = Enclosed(self.loop, process, cgroup)
            if source.environment:
                agreement = await introduced(self.loop, link.socket, name, source.environment)
        except BaseException:
            link.close()
            if stacks is not None:
                stacks.close()
            if process is not None:
                process.kill()
            if enclosure is not None:
                enclosure.close()
            if cgroup is not None:
                self.empty_cgroups.append(cgroup)
                if process is not None:
                    process.on_exit(lambda status: self.remove_empty_cgroups())
                else:
                    self.remove_empty_cgroups()
            raise
        finally:
            theirs.close()
            close_all([*given, *(fd for fd in (output, report) if fd is not None and fd >= 0)])
        return Begun(process, link, stacks, enclosure, agreement)

    def beat(self) -> None:
        self.logs.look()
        self.on_beat()

    async def spawn(self, name: str, options: Options, source: Source) -> RemotePlace:
        """A new process with an empty space."""
        begun = await self.start_process(name, options, source)
        process, enclosure, stacks = begun.process, begun.enclosure, begun.stacks
        space = f"process {enclosure.pid if enclosure is not None else process.pid}"

        async def handle(message: Any, rights: list[int]) -> tuple[Any, Sequence[int]]:
            return await self.asked(place, message, rights)

        conversation = Conversation(begun.link, self.loop, handle, lambda: place.lost(), of_process=True)
        conversation.on_unsent = self.unsent
        place = self.new_place(space, process, conversation)
        place.sandbox, place.enclosed, place.stacks = sandbox_of(options), enclosure, stacks
        place.environment, place.settings = source.environment, settings_of_process(options)
        if begun.agreement is not None and begun.agreement.transports != available():
            place.transports = self.switchboard.transports[space] = begun.agreement.transports
        self.switchboard.bounds.begun(space, options.limits.files, place.sandbox is not None)
        self.places[space] = place
        if stacks is not None:
            process.on_exit(lambda status: stacks.close())
        process.on_exit(lambda status: self.ended(place, described(status)))
        return place

    def ended(self, place: RemotePlace, how: str) -> None:
        """A process has ended. What a sandbox encloses ends a moment later than the process that the kernel knows, and
        must not go on with a mailbox that a successor is given."""
        enclosure = place.enclosed
        self.fork_servers.heard(place.environment, place.sandbox is not None)
        if enclosure is None:
            self.on_death(place, how)
            return

        def nobody_lives() -> None:
            short = "SIGKILL" in how and enclosure.cgroup is not None and enclosure.cgroup.killed()
            self.forget(enclosure)
            self.on_death(place, f"{how}; its sandbox had used up its memory" if short else how)

        enclosure.when_ended(nobody_lives)

    def see_to_fork_servers(self) -> None:
        """One tick: see to those that owe an answer. Processes may have ended of which theirs has not told."""
        ended = [place for place in self.places.values() if place.process.alive and place.has_ended]
        self.fork_servers.beat(self.heartbeat, {(each.environment, each.sandbox is not None) for each in ended})

    def forget(self, enclosure: Enclosed) -> None:
        """Give up what is kept of a sandbox that has ended."""
        enclosure.close()
        if enclosure.cgroup is not None:
            self.empty_cgroups.append(enclosure.cgroup)
            self.remove_empty_cgroups()

    async def leave(self, place: Place) -> None:
        """End a process that has nothing in it any more."""
        if isinstance(place, RemotePlace) and not place.keys and not place.ending:
            if place.group is not None:
                self.groups.pop(place.group, None)
            await place.end()
            await self.fork_servers.keep(self.environments())

    async def asked(self, place: RemotePlace, message: Any, rights: list[int]) -> tuple[Any, Sequence[int]]:
        """A process asks the kernel."""
        match message:
            case messages.Connect():
                try:
                    grant = self.switchboard.connect(
                        message.interface,
                        message.plugin,
                        rights[0] if rights else NO_BELL,
                        place.space,
                        message.turn,
                        message.token,
                    )
                finally:
                    close_all(rights)
                return grant.connected, grant.rights
            case messages.Narrow():
                token = self.switchboard.narrow(
                    place.space, message.key, message.interface, message.plugin, message.part, message.token
                )
                return messages.Token(token), ()
            case messages.Disconnect():
                self.switchboard.disconnect(message.channel, place.space)
            case messages.Unattached():
                self.on_unattached(message.channel, message.key, place.space)
            case messages.Emptied():
                self.switchboard.emptied(message.channel, place.space)
            case messages.Step():
                if message.key in place.keys:
                    place.doing[message.key] = printable(message.doing[:LONGEST_STEP])
            case messages.Asks():
                self.switchboard.capabilities.asked(place.space, message.key, message.interfaces)
            case messages.Checkpoint() if message.key in place.keys:
                self.registry.checkpointed(message.key, message.state, message.state_version)
            case _:
                close_all(rights)
                raise ContractError(f"a process may not ask the kernel for {type(message).__name__}")
        return Done(), ()

    def unsent(self, answer: Any) -> None:
        """A process was not told what it had asked for: the channels that it was granted are nobody's."""
        if isinstance(answer, Connected):
            for channel in answer.channels:
                self.switchboard.disconnect(channel)

    def calling_places(self, plugin: str) -> list[Place]:
        """The places from which a plug-in is called."""
        spaces = self.switchboard.spaces_calling(plugin)
        places: list[Place] = [self.here] if self.here.space in spaces else []
        return places + [self.places[space] for space in spaces if space in self.places]
