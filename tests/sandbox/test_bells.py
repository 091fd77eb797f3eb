"""A sandboxed plug-in shares pipes and sockets with the kernel, and with them their flags: the kernel never waits."""

from __future__ import annotations

import asyncio
import os

import pytest
from sandbox_bells import Answering, Inline, Jammer, Jamming
from sandbox_plugins import Neighbour, Quiet

from mukernel import Kernel, PluginCrashed


async def test_the_kernel_goes_on_where_what_it_rings_is_full_and_would_wait() -> None:
    """With `write` in place of what rings now, this waits for ever: so it did."""
    Inline.pings = 0
    async with Kernel() as kernel:
        await kernel.load(Inline, name="answering")
        await kernel.load(Quiet, name="neighbour", placement="process")
        await kernel.load(Jammer, name="hostile", placement="sandbox", grants=["Answering"])
        answering, neighbour = kernel.get(Answering), kernel.get(Neighbour)
        jam = asyncio.create_task(kernel.get(Jamming).jam())
        while Inline.pings < 2:  # its last call has come, and is about to be answered
            await neighbour.ping()
        for _ in range(100):
            assert await neighbour.ping() > 0
        assert await answering.ping() == 3
        instance = kernel.registry.entry("hostile").replicas[0].instance
        assert instance is not None
        instance.place.process.kill()  # type: ignore[attr-defined]
        with pytest.raises(PluginCrashed):
            await jam


async def test_who_may_ring_a_bell_can_not_hush_it() -> None:
    """So no caller takes from a server what others rang."""
    async with Kernel() as kernel:
        await kernel.load(Inline, name="answering")
        await kernel.load(Quiet, name="neighbour", placement="process")
        await kernel.get(Neighbour).ping()
        for name in ("answering", "neighbour"):
            (replica,) = kernel.registry.entry(name).replicas
            heard, rings = replica.port.bell
            assert all(heard not in channel.caller_rights for channel in replica.port.channels.values())
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.read(rings, 1)
