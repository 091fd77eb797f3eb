"""Processes: where instances can be. They are made when a plug-in needs one, and ended when nothing is in them."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ..contract import ContractError
from ..kernel.process import ForkServer, Process
from ..transports.carriers import NO_BELL
from ..transports.link import Link, close_all
from . import messages
from .conversation import Conversation
from .ending import described
from .loader import check_importable
from .messages import Done, Source
from .place import LocalPlace, Place, RemotePlace
from .registry import Options, Registry
from .space import Space
from .switchboard import Switchboard

WARM = ("mukernel.core.warm",)


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
        self.log_folder, self.heartbeat = log_folder, heartbeat
        self.here = LocalPlace(space)
        self.places: dict[str, RemotePlace] = {}
        self.groups: dict[str, RemotePlace] = {}
        self.group_lock = asyncio.Lock()
        self.fork_server: ForkServer | None = None
        self.ticker: Any = None
        self.on_beat: Callable[[], object] = lambda: None
        self.on_death: Callable[[RemotePlace, str], object] = lambda place, how: None

    async def close(self) -> None:
        """End every process; what is in them has been stopped."""
        if self.ticker is not None:  # until here it finds out what hangs
            self.ticker.cancel()
        for place in list(self.places.values()):
            await place.end()
        if self.fork_server is not None:
            await self.fork_server.stop()

    async def place_for(self, options: Options, source: Source, plugin: str) -> Place:
        """Where a plug-in is to run: a new process, unless its placement says otherwise. Raises ContractError for a
        class that no other process can import, ProcessError where none can be started."""
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
        """A process, as the kernel commands it over its link."""
        return RemotePlace(space, process, conversation)

    async def start_process(self, name: str, options: Options) -> tuple[Process, Link]:
        """A new process, and our end of the link to it."""
        if self.fork_server is None:
            self.fork_server = ForkServer(WARM, path=sys.path)
            await self.fork_server.start()
        if self.ticker is None:
            self.ticker = self.clock.every(self.heartbeat, self.on_beat)
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
        process.on_exit(lambda status: self.on_death(place, described(status)))
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
            case messages.Step():
                place.doing[message.key] = message.doing
            case messages.Asks():
                self.switchboard.capabilities.asked(place.space, message.key, message.interfaces)
            case messages.Checkpoint() if message.key in place.keys:
                if self.registry.with_instance(message.key) is None:  # it is being built, and may come to nothing
                    place.early[message.key] = message.state, message.state_version
                else:
                    self.checkpointed(message.key, message.state, message.state_version)
            case _:
                close_all(rights)
                raise ContractError(f"a process may not ask the kernel for {type(message).__name__}")
        return Done(), ()

    def checkpointed(self, key: str, state: bytes, version: int) -> None:
        """Keep the state that an instance has saved, for a restart."""
        found = self.registry.with_instance(key)
        if found is not None:
            found[1].checkpoint = state, version

    def calling_places(self, plugin: str) -> list[Place]:
        """The places from which a plug-in is called."""
        spaces = self.switchboard.spaces_calling(plugin)
        places: list[Place] = [self.here] if self.here.space in spaces else []
        return places + [self.places[space] for space in spaces if space in self.places]
