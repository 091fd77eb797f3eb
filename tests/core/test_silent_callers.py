"""A plug-in is changed, or crashes, while one of those who call it gives no sign of life: nobody waits for that one.

Its `hang` is long: where somebody did wait, that would end it, and the tests look whether it lives.
"""

import asyncio
import contextlib
import os
import signal
from typing import Any

import pytest
from core_callers import Caller, Calls, Served, Serves
from test_callers import place_of
from waiting import is_running, until, until_event

from mukernel import Kernel, PluginCrashed, RestartPolicy, Unavailable
from mukernel.core.instances import Instances
from mukernel.core.lifecycle import State

PATIENT = RestartPolicy(hang=20.0)


async def load(kernel: Kernel, **options: Any) -> tuple[Served, int]:
    """A plug-in with such options, of which this returns a proxy, and another that calls it, and its process."""
    await kernel.load(Serves, name="served", placement="process", **options)
    await kernel.load(Calls, name="caller", placement="process", restart=PATIENT)
    await kernel.get(Caller).ask()
    return kernel.get(Served), place_of(kernel, "caller").pid


def is_silent(kernel: Kernel, pid: int) -> bool:
    """Has the caller lived through it all?"""
    return is_running(pid) and "hang" not in [each.what for each in kernel.events]


def end(pid: int) -> None:
    """It would not stop by itself, and the kernel, when it closes, would wait for it."""
    os.kill(pid, signal.SIGKILL)


async def test_a_scale_and_a_restart_do_not_wait_for_a_method_that_never_returns(kernel: Kernel, whistle: Any) -> None:
    served, caller = await load(kernel)
    never = asyncio.create_task(kernel.get(Caller).never(whistle.path))
    assert (await whistle.heard())[0] == caller
    scale = asyncio.create_task(kernel.scale("served", 2))
    replicas = kernel.registry.entry("served").replicas
    await until(lambda: [r.instance is not None and r.instance.life.state for r in replicas] == [State.SERVING] * 2)
    os.kill(place_of(kernel, "served").pid, signal.SIGKILL)
    await until_event(kernel, "served", "restart")
    await scale
    assert len({await served.pid() for _ in range(8)}) == 2
    assert is_silent(kernel, caller)
    end(caller)
    with pytest.raises(PluginCrashed):
        await never


async def test_an_unload_does_not_wait_for_a_stopped_caller_which_learns_of_it_later(kernel: Kernel) -> None:
    served, caller = await load(kernel)
    pid, later = await served.pid(), asyncio.create_task(kernel.get(Caller).ask_later(5))
    await until(lambda: is_stopped(caller))
    await kernel.unload("served")
    assert not is_running(pid) and is_silent(kernel, caller)
    os.kill(caller, signal.SIGCONT)
    assert await later == ["Served.pid: plug-in 'served' was unloaded"] * 5
    with pytest.raises(Unavailable, match=r"Served: (plug-in 'served' was unloaded|no plug-in)"):
        await kernel.get(Caller).ask()


async def test_a_replica_that_leaves_serves_what_a_stopped_caller_sends_before_it_knows(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    served, caller = await load(kernel, replicas=2)
    pids = {str(await served.pid()) for _ in range(8)}
    later, draining = asyncio.create_task(kernel.get(Caller).ask_later(20)), asyncio.Event()
    await until(lambda: is_stopped(caller))
    drain = Instances.drain_replica

    def drained(*given: Any) -> Any:
        draining.set()
        return drain(*given)

    monkeypatch.setattr(Instances, "drain_replica", drained)
    scale = asyncio.create_task(kernel.scale("served", 1))
    await draining.wait()
    left = {str(await served.pid()) for _ in range(100)}
    assert len(left) == 1 and len(kernel.registry.entry("served").replicas) == 2
    os.kill(caller, signal.SIGCONT)
    assert set(await later) == pids
    assert (await scale).after == "1 replicas" and len(kernel.registry.entry("served").replicas) == 1
    assert str(await kernel.get(Caller).ask()) in left
    assert is_silent(kernel, caller)


async def test_a_replica_leaves_after_its_drain_and_a_stopped_caller_is_answered_later(kernel: Kernel) -> None:
    served, caller = await load(kernel, replicas=2, drain=0.1)
    later = asyncio.create_task(kernel.get(Caller).ask_later(20))
    await until(lambda: is_stopped(caller))
    await kernel.scale("served", 1)
    left = await served.pid()
    assert len(kernel.registry.entry("served").replicas) == 1 and is_silent(kernel, caller)
    os.kill(caller, signal.SIGCONT)
    assert set(await later) == {str(left), "Served.pid: plug-in 'served' has fewer replicas now"}
    assert await kernel.get(Caller).ask() == left


async def test_calls_of_others_to_a_plugin_that_is_given_up_do_not_wait_for_a_stopped_caller(kernel: Kernel) -> None:
    served, caller = await load(kernel, restart=RestartPolicy(intensity=0))
    pid, later = await served.pid(), asyncio.create_task(kernel.get(Caller).ask_later(5))
    await until(lambda: is_stopped(caller))
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(Unavailable, match="served is given up"):
        await served.pid()
    assert is_silent(kernel, caller)
    os.kill(caller, signal.SIGCONT)
    assert all("served is given up" in each for each in await later)
    os.kill(caller, signal.SIGSTOP)
    await kernel.restart("served")
    assert await served.pid() != pid and is_silent(kernel, caller)
    os.kill(caller, signal.SIGCONT)
    pid = await served.pid()
    while await asked(kernel) != pid:
        pass


@pytest.mark.parametrize("ends", [signal.SIGCONT, signal.SIGKILL])
async def test_what_a_stopped_caller_has_no_room_for_is_told_when_it_reads_or_given_up_when_it_dies(
    kernel: Kernel, ends: signal.Signals
) -> None:
    _, caller = await load(kernel, drain=0.1)
    later = asyncio.create_task(kernel.get(Caller).ask_before(900, 1_000))
    await until(lambda: is_stopped(caller))
    await kernel.unload("served")
    unread = kernel.switchboard.unread
    assert is_silent(kernel, caller)
    assert unread.ends or kernel.transport != "ring", "nothing waits for room: this would test nothing"
    os.kill(caller, ends)
    await until(lambda: not unread.ends)
    if ends is signal.SIGKILL:
        with pytest.raises(PluginCrashed):
            await later
        return
    answers = await later
    refused = [each for each in answers if each == "Served.large: it was stopped while it ran this call: plug-in"]
    assert len(refused) == 900 - answers.count("x" * 60)


async def asked(kernel: Kernel) -> int | None:
    """What the caller is answered; None where it has not learnt yet that the plug-in is there again."""
    with contextlib.suppress(Unavailable):
        return await kernel.get(Caller).ask()
    return None


def is_stopped(pid: int) -> bool:
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "T"
