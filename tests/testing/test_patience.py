"""Hooks of a plug-in that never return are given up, named, and hurt nobody else. Time is virtual."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from mukernel import Blocking, ContractError, Interface, Kernel, KernelThread, Plugin, SwapFailed, Unavailable
from mukernel.testing import TestKernel

PLACEMENTS = ["inline", "process"]


class Post(Interface, version="1.0"):
    """Counts letters."""

    async def send(self) -> int: ...


class Office(Plugin, Post):
    """`stuck`: the hook that never returns."""

    def __init__(self, *, stuck: str = "") -> None:
        self.stuck, self.sent = stuck, 0

    async def wait_in(self, hook: str) -> None:
        if self.stuck == hook:
            await asyncio.get_running_loop().create_future()
        if self.stuck == f"cancelled {hook}":
            raise asyncio.CancelledError

    async def start(self) -> None:
        await self.wait_in("start")

    async def stop(self) -> None:
        await self.wait_in("stop")

    async def save(self) -> int:
        await self.wait_in("save")
        return self.sent

    async def restore(self, state: int) -> None:
        await self.wait_in("restore")
        self.sent = state

    async def send(self) -> int:
        self.sent += 1
        return self.sent


@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_a_start_that_never_returns(kernel: TestKernel, placement: str) -> None:
    with pytest.raises(Unavailable, match=r"'office' was not there after 35 s.*its start"):
        await kernel.load(Office, placement=placement, config={"stuck": "start"})
    assert not kernel.registry.entries
    await kernel.load(Office, placement=placement)
    assert await kernel.get(Post).send() == 1


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("stuck", ["start", "restore"])
async def test_a_successor_that_never_returns(kernel: TestKernel, placement: str, stuck: str) -> None:
    await kernel.load(Office, placement=placement)
    post = kernel.get(Post)
    assert await post.send() == 1
    with pytest.raises(SwapFailed, match=stuck):
        await kernel.swap("office", Office, config={"stuck": stuck})
    assert await post.send() == 2


@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_a_save_that_never_returns(kernel: TestKernel, placement: str) -> None:
    await kernel.load(Office, placement=placement, config={"stuck": "save"})
    post = kernel.get(Post)
    swapping = asyncio.ensure_future(kernel.swap("office", Office))
    await kernel.clock.sleep(1)
    meanwhile = asyncio.ensure_future(post.send())
    with pytest.raises(SwapFailed, match=r"Office\.save did not return within 30 s"):
        await swapping
    assert await meanwhile == 1
    assert await post.send() == 2


@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_a_stop_that_never_returns(kernel: TestKernel, placement: str) -> None:
    await kernel.load(Office, placement=placement, config={"stuck": "stop"})
    began = kernel.clock.now()
    await kernel.unload("office")
    assert 30 <= kernel.clock.now() - began < 40
    assert not kernel.registry.entries


@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_a_hook_that_raises_cancelled_error_cancels_nobody(kernel: TestKernel, placement: str) -> None:
    """It waited for something that was cancelled: that is its own trouble, told as any other."""
    with pytest.raises(ContractError, match="'office' raised CancelledError while it was being started"):
        await kernel.load(Office, placement=placement, config={"stuck": "cancelled start"})
    await kernel.load(Office, placement=placement)
    post = kernel.get(Post)
    for hook in ("start", "restore"):
        with pytest.raises(SwapFailed, match="raised CancelledError"):
            await kernel.swap("office", Office, config={"stuck": f"cancelled {hook}"})
    await kernel.swap("office", Office, config={"stuck": "cancelled save"})
    with pytest.raises(SwapFailed, match="raised CancelledError while it was saving its state"):
        await kernel.swap("office", Office)
    assert await post.send() == 1


class Way(Interface, version="1.0"):
    """Leads on."""

    async def on(self) -> int: ...


class Desk(Interface, version="1.0"):
    """Has room for two."""

    async def through(self) -> int: ...
    async def own(self) -> int: ...
    async def slowly(self) -> int: ...


class Clerk(Plugin, Desk):
    """What it is asked leads back to it by another plug-in."""

    def __init__(self, way: Way) -> None:
        self.way = way

    async def through(self) -> int:
        return await self.way.on()

    async def own(self) -> int:
        return 1

    async def slowly(self) -> int:
        await asyncio.sleep(2)
        return 2


desks: list[Desk] = []


class Road(Plugin, Way):
    """In the kernel's process, from where it calls the desk."""

    async def on(self) -> int:
        return await desks[0].own()


async def test_a_move_does_not_wait_for_a_call_that_waits_for_the_move(kernel: TestKernel) -> None:
    await kernel.load(Road)
    await kernel.load(Clerk, name="desk", placement="process", concurrency=2)
    desk = kernel.get(Desk)
    desks[:] = [desk]
    calls = [asyncio.ensure_future(call()) for call in (desk.slowly, desk.slowly, desk.through)]
    await kernel.clock.sleep(1)
    report = await kernel.move("desk", "inline")
    assert not report.rolled_back
    assert await asyncio.gather(*calls) == [2, 2, 1]
    assert await desk.own() == 1


class Steps(Plugin, Post):
    """Cleans up for longer than it is given time to drain."""

    def save(self) -> int:
        return 0

    async def send(self) -> int:
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(3)
        return 1


async def test_who_is_cancelled_stays_cancelled_when_a_stop_comes_on_top(kernel: TestKernel) -> None:
    await kernel.load(Steps, drain=1.0)
    call = asyncio.ensure_future(kernel.get(Post).send())
    await kernel.clock.sleep(1)
    call.cancel()
    await kernel.clock.sleep(1)
    await kernel.unload("steps")
    await asyncio.wait([call])
    assert call.cancelled()


class Letters(Plugin, Post):
    """Its threads call by a blocking proxy."""

    def __init__(self, way: Blocking[Way]) -> None:
        self.way: Any = way

    async def send(self) -> int:
        return 1


class Bridge(Plugin, Way):
    """Is where it is told to be."""

    async def on(self) -> int:
        return 1


async def test_swaps_of_a_plugin_with_threads_leave_no_channels_behind(process_kernel: Kernel) -> None:
    kernel = process_kernel
    await kernel.load(Bridge, placement="process")
    port = kernel.registry.entry("bridge").replicas[0].port
    await kernel.load(Letters, threads=4)
    after_load = len(port.channels)
    for _ in range(3):
        await kernel.swap("letters", Letters)
        with pytest.raises(SwapFailed):
            await kernel.swap("letters", "nowhere:Nothing")
    assert len(port.channels) <= after_load
    await kernel.unload("letters")
    while len(port.channels) > 3:  # noqa: ASYNC110 - what its threads had is given back by the loop's next turns
        await asyncio.sleep(0)


def call_on(way: Any, begun: threading.Barrier, problems: list[BaseException]) -> None:
    """Until it is told not to."""
    begun.wait()
    try:
        while True:
            way.on()
    except BaseException as problem:
        problems.append(problem)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_threads_that_call_while_the_kernel_ends_are_told(placement: str) -> None:
    """Whatever they were doing, each ends with Unavailable: nobody waits for a loop that is gone."""
    for _ in range(5):
        with KernelThread() as kernel:
            kernel.load(Bridge, placement=placement)
            way: Any = kernel.get(Way)
            begun, problems = threading.Barrier(5), list[BaseException]()

            threads = [threading.Thread(target=call_on, args=(way, begun, problems), daemon=True) for _ in range(4)]
            for thread in threads:
                thread.start()
            begun.wait()
        for thread in threads:
            thread.join(30)
        assert [type(problem) for problem in problems] == [Unavailable] * 4, problems
