"""How the tests wait: for a condition that the loop's other work brings about, with no time in it."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from mukernel import Kernel
from mukernel.core.lifecycle import State


async def until(condition: Callable[[], bool]) -> None:
    """Give the loop turns until `condition` holds."""
    while not condition():  # noqa: ASYNC110 - nothing tells when the condition changes
        await asyncio.sleep(0)


async def until_state(kernel: Kernel, plugin: str, state: State) -> None:
    """Until the worst replica of a plug-in is in a state."""
    await until(lambda: kernel.registry.entry(plugin).state is state)


async def until_event(kernel: Kernel, plugin: str, what: str, times: int = 1) -> None:
    """Until the kernel has recorded that something happened to a plug-in."""
    await until(lambda: [(each.plugin, each.what) for each in kernel.events].count((plugin, what)) >= times)


async def until_waiting(kernel: Kernel, plugin: str, count: int) -> tuple[int, int]:
    """Until so many calls wait for the first replica of a plug-in; how many run then, and wait."""
    instance = kernel.registry.entry(plugin).replicas[0].instance
    assert instance is not None
    while True:
        counts = await instance.place.count(instance.blueprint.key)
        if counts.waiting >= count:
            return counts.running, counts.waiting
        await asyncio.sleep(0)


def is_running(pid: int) -> bool:
    """Is there such a process, and more than its exit status?"""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"
