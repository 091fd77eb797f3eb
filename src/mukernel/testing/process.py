"""A simulated process: a host with a space of its own, in the thread of its kernel."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from signal import SIGKILL

from ..contract import Description, Granted
from ..core.directory import Grant
from ..core.host import Host
from ..core.place import RemotePlace
from ..core.space import Space
from ..kernel.ipc import Channel
from ..kernel.process import ExitStatus, Process
from .link import MemoryLink


class MemoryHost(Host):
    """As a real host, but for what blocks: that asks the kernel directly."""

    def __init__(self, kernel: Space, link: MemoryLink, name: str) -> None:
        super().__init__(link, name, kernel.loop, kernel.clock, "memory")
        self.directory = kernel.directory

    def connect_now(
        self, interface: Description, plugin: str | None, bell: int, space: str, turn: int, token: str = ""
    ) -> Grant:  # fmt: skip
        return self.directory.connect_now(interface, plugin, bell, space, turn, token)


class MemoryPlace(RemotePlace):
    """As any, but that channels are attached at once: who blocks the thread may be waiting for that."""

    process: MemoryProcess

    def attach(
        self, key: str, channel: Channel, caller: Description, granted: Granted | None = None, sandbox: str = ""
    ) -> None:  # fmt: skip
        if not self.process.alive:  # its successor is given every channel of the port
            return
        rights = [os.dup(fd) for fd in channel.server_rights]
        self.process.host.space.attach(key, channel.number, rights, caller, channel.transport, granted, sandbox)


class MemoryProcess(Process):
    """What the kernel knows of it. Killed, it answers nothing more; what its methods were doing is cancelled.

    `kernel`: the space of the kernel, whose loop and clock are this one's, too.
    """

    def __init__(self, kernel: Space, name: str, pid: int, link: MemoryLink) -> None:
        self.name, self.pid, self.pidfd, self.alive = name, pid, -1, True
        self._ended: asyncio.Future[ExitStatus] = kernel.loop.create_future()
        self.host = MemoryHost(kernel, link, f"process {pid}")
        self.host.finished.add_done_callback(lambda _: self.over(ExitStatus(code=0)))

    def kill(self, signal: int = SIGKILL) -> None:
        self.over(ExitStatus(signal=signal))

    def over(self, status: ExitStatus) -> None:
        """It ends here and now, whatever runs."""
        if not self.alive:
            return
        self.alive = False
        space = self.host.space
        for ticker in space.tickers.values():
            ticker.cancel()
        for route in {id(route): route for route in space.routes.values()}.values():
            route.close("its process has ended")
            for caller in route.callers:
                caller.wire.close("its process has ended")
        for instance in space.instances.values():
            for wire in list(instance.wires.values()):
                wire.close("its process has ended")
            for task in instance.background:
                task.cancel()
        space.close()
        self.host.conversation.close()
        self._ended.set_result(status)

    def on_exit(self, callback: Callable[[ExitStatus], object]) -> None:
        self._ended.add_done_callback(lambda ended: callback(ended.result()))
