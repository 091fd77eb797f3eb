"""Shared memory that a hostile sandbox sends takes neither the files nor the quota of who is called by others, too."""

from __future__ import annotations

import os
import resource
from contextlib import aclosing

import pytest
from sandbox_lanes import LENT, Adder, Adding, Sender, Sending

from mukernel import Kernel, Overloaded

ROUNDS, AT_ONCE = 10, 50


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def assert_unharmed(kernel: Kernel) -> None:
    """Those who had called, and those who had not."""
    assert await kernel.get(Sending, plugin="neighbour").send() == LENT
    await kernel.load(Sender, name="another", placement="sandbox", grants=["Adding"])
    assert await kernel.get(Sending, plugin="another").send() == LENT


@pytest.mark.parametrize("placement", ["inline", "sandbox"])
async def test_files(placement: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with Kernel() as kernel:
        await kernel.load(Adder, name="adder", placement=placement)
        for name in ("flooder", "neighbour"):
            await kernel.load(Sender, name=name, placement="sandbox", grants=["Adding"])
        assert await kernel.get(Sending, plugin="neighbour").send() == LENT
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_files() + 400, hard))
        try:
            ends = await kernel.get(Sending, plugin="flooder").flood(ROUNDS, AT_ONCE, 4096)
            assert ends[0] == str(LENT)
            assert "pieces of shared memory of the sandbox that is process" in ends[-1]
            await assert_unharmed(kernel)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_files_of_who_reads_what_it_sends() -> None:
    """Not one of the last that its process may open is for a stream that was not read yet."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with Kernel() as kernel:
        await kernel.load(Adder, name="adder", placement="inline")
        for name in ("flooder", "neighbour"):
            await kernel.load(Sender, name=name, placement="sandbox", grants=["Adding"])
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_files() + 400, hard))
        try:
            async with aclosing(kernel.get(Sending, plugin="flooder").many(60, 100)) as items:
                await anext(items)
                with pytest.raises(Overloaded, match="too many files open for a piece of shared memory that came"):
                    async for _ in items:
                        await kernel.load(Adder, name="another adder", placement="process")
                        await kernel.unload("another adder")
            await assert_unharmed(kernel)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_quota() -> None:
    async with Kernel() as kernel:
        await kernel.load(Adder, name="adder", placement="process", shared_memory=16 << 20)
        for name in ("flooder", "neighbour"):
            await kernel.load(Sender, name=name, placement="sandbox", grants=["Adding"])
        ends = await kernel.get(Sending, plugin="flooder").flood(ROUNDS, 4, 1 << 20)
        assert "of shared memory of the sandbox that is process" in ends[-1]
        assert await kernel.get(Adding).held() <= 8 << 20
        await assert_unharmed(kernel)
        await kernel.unload("flooder")
        for _ in range(1000):  # it is told by and by that a caller has gone
            if not await kernel.get(Adding).held():
                break
        assert await kernel.get(Adding).held() == 0
