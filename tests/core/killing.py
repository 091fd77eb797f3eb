"""kill -9 in tests: of the process of a plug-in, until its supervisor has brought it back."""

import os
from signal import SIGKILL

from waiting import until

from mukernel import Kernel


def pid_of(kernel: Kernel, plugin: str) -> int:
    """The process of its first replica."""
    instance = kernel.registry.entry(plugin).replicas[0].instance
    assert instance is not None
    return instance.place.pid


async def kill(kernel: Kernel, plugin: str) -> None:
    """Kill its process, and wait until the supervisor has brought it back."""
    restarts = [event.what for event in kernel.events].count("restart")
    os.kill(pid_of(kernel, plugin), SIGKILL)
    await until(lambda: [event.what for event in kernel.events].count("restart") > restarts)
