"""Silence: what a command says of a kernel that does not answer, and how it notices while it waits for long work."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ..contract import MukernelError
from ..core.control import Control
from ..core.quantity import duration_text
from ..core.state_folder import StateFolder
from ..kernel.clock import Clock
from .terminal import Terminal

STOPPED = ("T", "t")  # as /proc/PID/stat has it: by a signal, by a debugger


def silence(folder: StateFolder, seconds: float) -> str:
    """Which kernel has not answered for so long, why that may be, and what to do."""
    pid, name = folder.pid(), folder.path.name
    if pid is None:
        return f"{name} does not answer any more: its kernel has ended; `mukernel run` starts it"
    head = f"{name} does not answer: no word from its kernel, process {pid}, within {duration_text(seconds)}; "
    if state_of(pid) in STOPPED:
        return head + f"it is stopped, by SIGSTOP, Ctrl-Z or a debugger: `kill -CONT {pid}` lets it go on"
    return head + (
        "a plug-in that is placed inline may keep its event loop from turning: wait longer with --timeout TIME, look "
        f"at {folder.logs}/kernel.log, give that plug-in a process of its own, or end it: `kill {pid}`, a second "
        "time where that does not help"
    )


def state_of(pid: int) -> str:
    """The state of a process, as the one letter that the system has for it; empty for one that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


async def report_silence(
    control: Control, folder: StateFolder, seconds: float, clock: Clock, terminal: Terminal
) -> None:
    """Beside work that may take as long as it likes: say so when the kernel itself has been silent for `seconds`.

    The work is not cut, since a kernel whose loop is blocked may be doing just that work. Ends with the connection.
    """
    try:
        while True:
            await clock.sleep(seconds)
            try:
                async with asyncio.timeout(seconds):
                    await control.about()
            except TimeoutError:
                terminal.complain(f"{silence(folder, seconds)}; still waiting, Ctrl-C ends the wait")
                await control.about()  # said once, until it answers again
    except MukernelError:  # the connection is gone, which the work is told, too
        return
