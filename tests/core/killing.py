"""Signals in tests, to the process of a plug-in: kill -9, until its supervisor has brought it back, and SIGSTOP."""

import os
from pathlib import Path
from signal import SIGKILL, SIGSTOP

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


def stop(pid: int) -> None:
    """None of its code runs any more when this returns: the signal is sent first, and it may run on another core."""
    os.kill(pid, SIGSTOP)
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        os.sched_yield()
