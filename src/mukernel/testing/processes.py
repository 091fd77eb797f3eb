"""Simulated processes: spaces in the thread of their kernel, where others have processes of the system."""

from __future__ import annotations

import itertools

from ..contract import ContractError
from ..core.conversation import Conversation
from ..core.messages import Source
from ..core.place import RemotePlace
from ..core.processes import Begun, Processes
from ..core.registry import Options, Registry
from ..core.space import Space
from ..core.switchboard import Switchboard
from ..kernel.process import Process
from .link import MemoryLink
from .process import MemoryPlace, MemoryProcess

FIRST_PID = 1_000_001  # of simulated processes: above any real one's


class MemoryProcesses(Processes):
    """As any, but that nothing is forked, and nobody has to look whether they hang."""

    def __init__(self, space: Space, registry: Registry, switchboard: Switchboard) -> None:
        super().__init__(space, registry, switchboard, log_folder=None, heartbeat=0.0)
        self.pids = itertools.count(FIRST_PID)

    def new_place(self, space: str, process: Process, conversation: Conversation) -> RemotePlace:
        return MemoryPlace(space, process, conversation)

    async def start_process(self, name: str, options: Options, source: Source) -> Begun:
        if source.environment:
            raise ContractError(f"{source.title} has an environment of its own: a simulated process has none")
        ours, theirs = MemoryLink.joined()
        return Begun(MemoryProcess(self.space, name, next(self.pids), theirs), ours)
