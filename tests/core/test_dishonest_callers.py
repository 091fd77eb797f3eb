"""A caller's process writes what it likes into the memory of its channels, and ends: nothing is kept for it."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import struct

import pytest
from core_samples import Arithmetic, Plain
from waiting import until, until_event

from mukernel import Interface, Kernel, Plugin, RestartPolicy, oneway

TAIL, ACCEPTED = 512, 520  # where the requests' direction of a channel has what its caller writes (kernel/ring.h)
ROUNDS = 3


class Slow(Interface):
    async def pid(self) -> int: ...
    @oneway
    async def note(self) -> None: ...


class Slowly(Plugin, Slow):
    async def pid(self) -> int:
        gc.collect()  # the descriptors of some channels that have ended are the cyclic collector's to close
        return os.getpid()

    async def note(self) -> None:
        await asyncio.sleep(0.01)


class Forging(Interface):
    async def forge(self, at: int, more: int, notes: int) -> int:
        """Send one-way calls, then add `more` to a number in each channel; how many there are."""


class Forger(Plugin, Forging):
    def __init__(self, slow: Slow) -> None:
        self.slow = slow

    async def forge(self, at: int, more: int, notes: int) -> int:
        await self.slow.pid()
        for _ in range(notes):
            await self.slow.note()
        channels = [fd for fd in map(int, os.listdir("/proc/self/fd")) if is_channel(fd)]
        for fd in channels:
            (number,) = struct.unpack("=Q", os.pread(fd, 8, at))
            os.pwrite(fd, struct.pack("=Q", number + more), at)
        return len(channels)


def is_channel(fd: int) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{fd}").startswith("/memfd:mukernel-channel")
    except OSError:
        return False


@pytest.mark.parametrize(
    ("at", "more", "notes"), [(ACCEPTED, 5, 0), (ACCEPTED, 5, 3), (TAIL, 1 << 40, 3), (TAIL, 64, 3)]
)
async def test_what_it_claims_keeps_no_channel(at: int, more: int, notes: int) -> None:
    async with Kernel() as kernel:
        await kernel.load(Slowly, name="slow", placement="process", concurrency=1)
        often = RestartPolicy(intensity=100, backoff=0.0)
        await kernel.load(Forger, name="forger", placement="process", restart=often)
        await kernel.load(Arithmetic, placement="process")
        slow, forging = kernel.get(Slow), kernel.get(Forging)
        serving = await slow.pid()
        port = kernel.registry.entry("slow").replicas[0].port
        files = len(os.listdir(f"/proc/{serving}/fd"))
        for number in range(ROUNDS):
            forged = asyncio.ensure_future(forging.forge(at, more, notes))
            await asyncio.wait((forged,))
            instance = kernel.registry.entry("forger").replicas[0].instance
            assert instance is not None
            os.kill(instance.place.pid, signal.SIGKILL)
            await until_event(kernel, "forger", "restart", number + 1)
        await kernel.unload("forger")
        await until(lambda: [each.caller for each in port.channels.values()] == ["kernel"])
        assert kernel.get(Plain).plus(1) == 2
        while len(os.listdir(f"/proc/{serving}/fd")) > files:
            assert await slow.pid() == serving  # its process has not suffered
        await kernel.swap("slow", Slowly)
        assert (await kernel.ledger("slow")).lost == 0
