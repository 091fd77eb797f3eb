"""Where the suite runs: every placement, and every transport between processes."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mukernel import Kernel, Sandbox
from mukernel.core.journal import Happening
from mukernel.kernel import ipc
from mukernel.testing import TestKernel
from mukernel.transports.carriers import SETTING


@dataclass
class World:
    """One way to run a plug-in. `isolated`: it has a process, real or not, that can be killed."""

    name: str
    placement: str
    transport: str = ""  # of the processes; "": as this machine prefers
    strict: bool = False
    isolated: bool = False

    @property
    def simulated(self) -> bool:
        return self.transport == "memory"

    @property
    def codec(self) -> bool:
        """Do values pass through the codec here?"""
        return self.strict or self.isolated

    def writing(self, folder: os.PathLike[str]) -> Sandbox | None:
        """What a plug-in has to be granted here to write into a folder."""
        return Sandbox(write=(os.fspath(folder),)) if self.placement == "sandbox" else None

    def run(self, main: Callable[[Kernel], Awaitable[None]]) -> None:
        if self.simulated:
            TestKernel().run(main)
            return
        with pytest.MonkeyPatch.context() as patch:
            if self.transport:
                patch.setenv(SETTING, self.transport)
            asyncio.run(self.whole(main))

    async def whole(self, main: Callable[[Kernel], Awaitable[None]]) -> None:
        async with Kernel(strict=self.strict) as kernel:
            await main(kernel)

    def expect(self, kernel: Kernel, what: str) -> asyncio.Future[None]:
        """Done as soon as the kernel tells that `what` has happened."""
        happened = kernel.loop.create_future()

        def heard(happening: Happening) -> None:
            if happening.what == what and not happened.done():
                happened.set_result(None)

        kernel.listeners.append(heard)
        return happened

    async def kill(self, kernel: Kernel, plugin: str) -> None:
        """As `kill -9` does."""
        if isinstance(kernel, TestKernel):
            await kernel.kill(plugin)
            return
        for replica in kernel.registry.entry(plugin).replicas:
            assert replica.instance is not None
            os.kill(replica.instance.place.pid, 9)

    def stop(self, kernel: Kernel, plugin: str) -> None:
        """As `kill -STOP` does, of every process of the plug-in's: none of its code runs any more when this returns."""
        for replica in kernel.registry.entry(plugin).replicas:
            assert replica.instance is not None
            for pid in family(replica.instance.place.pid):
                os.kill(pid, signal.SIGSTOP)
                while process_state(pid) != "T":  # the signal was sent; it may still run on another core
                    os.sched_yield()


def family(pid: int) -> list[int]:
    """A process and all that come of it: that of a sandbox only waits for the one that runs the plug-in."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += family(int(child))
    return found


def process_state(pid: int) -> str:
    """The letter that proc_pid_stat(5) has for it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


WORLDS = [
    World("inline", "inline"),
    World("inline-strict", "inline", strict=True),
    World("process-ring", "process", transport="ring", isolated=True),
    World("process-socket", "process", transport="socket", isolated=True),
    World("sandbox", "sandbox", isolated=True),
    World("sandbox-socket", "sandbox", transport="socket", isolated=True),
    World("process-group", "process:together", isolated=True),
    World("simulated", "process", transport="memory", isolated=True),
]
if ipc.ring is None:  # not compiled here
    WORLDS = [world for world in WORLDS if world.transport != "ring"]


def everywhere(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run `test(world, kernel, ...)` in each of the worlds."""
    return over(WORLDS, test)


def isolated(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run it in each where the plug-in has a process."""
    return over([world for world in WORLDS if world.isolated], test)


def between_processes(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run it in each where the plug-in has a process of the system."""
    return over([world for world in WORLDS if world.isolated and not world.simulated], test)


def threaded(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run it in each where threads take part: virtual time stands still for them."""
    return over([world for world in WORLDS if not world.simulated], test)


def over(worlds: list[World], test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(world: World, **arguments: Any) -> None:
        world.run(lambda kernel: test(world, kernel, **arguments))

    signature = inspect.signature(test)
    parameters = [each for each in signature.parameters.values() if each.name != "kernel"]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    del run.__wrapped__  # type: ignore[attr-defined]
    return pytest.mark.parametrize("world", worlds, ids=lambda world: world.name)(run)
