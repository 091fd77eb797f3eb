"""A plug-in is changed while one of those who call it has died, can't follow, or does not answer."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from core_callers import Caller, Calls, CannotFollow, Served, Serves
from waiting import is_running, until

from mukernel import Kernel, NotFound, RestartPolicy
from mukernel.core.place import RemotePlace


@pytest.fixture
async def kernel() -> AsyncIterator[Kernel]:
    """One that asks nobody for a sign of life: what a caller owes an answer to is what the test has told it."""
    async with Kernel(heartbeat=0) as running:
        yield running


def place_of(kernel: Kernel, plugin: str) -> RemotePlace:
    instance = kernel.registry.entry(plugin).replicas[0].instance
    assert instance is not None and isinstance(instance.place, RemotePlace)
    return instance.place


async def load(kernel: Kernel, caller: type[Calls] = Calls, stopped: str = "", hang: float = 0.0) -> Served:
    """A plug-in, and another that calls it from a process of its own, as this returns a proxy of the first."""
    await kernel.load(Serves, name="served", placement="process", config={"stopped": stopped})
    await kernel.load(caller, name="caller", placement="process", restart=RestartPolicy(hang=hang))
    served = kernel.get(Served)
    assert await kernel.get(Caller).ask() == await served.pid()
    return served


async def test_a_plugin_is_unloaded_whole_though_a_caller_dies_when_it_is_told(kernel: Kernel, tmp_path: Path) -> None:
    stopped = tmp_path / "stopped"
    served, caller = await load(kernel, stopped=str(stopped)), place_of(kernel, "caller")
    pid = await served.pid()
    os.kill(caller.pid, signal.SIGSTOP)
    unload = asyncio.create_task(kernel.unload("served"))
    await until(lambda: bool(caller.conversation.questions))
    os.kill(caller.pid, signal.SIGKILL)
    await unload
    assert stopped.exists() and not is_running(pid)
    assert [each.plugin for each in kernel.events if each.what == "unload"] == ["served"]
    with pytest.raises(NotFound):
        kernel.get(Served)


async def test_a_kernel_closes_whole_though_a_caller_has_just_died(tmp_path: Path) -> None:
    stopped = tmp_path / "stopped"
    async with Kernel(heartbeat=0) as kernel:
        await load(kernel, stopped=str(stopped))
        kernel.registry.entry("caller").order = -1  # as after a stop and a start: it is ended last
        os.kill(place_of(kernel, "caller").pid, signal.SIGKILL)
    assert stopped.exists()


async def test_a_caller_that_cannot_follow_is_no_reason_against_a_change(kernel: Kernel) -> None:
    served = await load(kernel, CannotFollow)
    pids = {await served.pid()}
    assert (await kernel.scale("served", 2)).after == "2 replicas"
    assert (await kernel.swap("served", Serves)).rolled_back is False
    pids |= {await served.pid() for _ in range(8)}
    assert len(pids) == 3
    await kernel.unload("served")
    assert not any(is_running(pid) for pid in pids)
    assert "served" not in kernel.registry.entries
