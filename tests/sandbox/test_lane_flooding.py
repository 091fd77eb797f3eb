"""Shared memory that a hostile sandbox sends takes neither the files nor the quota of who is called by others, too."""

from __future__ import annotations

import os
import resource
import socket
from contextlib import aclosing

import pytest
from sandbox_lanes import LENT, Adder, Adding, Sender, Sending

from mukernel import Kernel, Overloaded, Unavailable
from mukernel.core.sandboxed import FILES
from mukernel.transports import lane

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
        await kernel.load(Adder, name="adder", placement=placement, concurrency=1)
        for name in ("flooder", "neighbour"):
            await kernel.load(Sender, name=name, placement="sandbox", grants=["Adding"])
        assert await kernel.get(Sending, plugin="neighbour").send() == LENT
        files = 2 * open_files() + 400  # a quarter of which leaves enough for all others
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
        try:
            assert await kernel.get(Sending, plugin="flooder").flood(ROUNDS, AT_ONCE, 4096) == [str(LENT)] * ROUNDS
            most = (files if placement == "inline" else FILES) // 4
            assert AT_ONCE < await kernel.get(Adding).most_held() // 4096 <= most
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
                with pytest.raises(Overloaded, match="too many files open for another piece of shared memory"):
                    async for _ in items:
                        pass
                await kernel.load(Adder, name="other", placement="process")
                await kernel.unload("other")
            await assert_unharmed(kernel)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_quota() -> None:
    async with Kernel() as kernel:
        await kernel.load(Adder, name="adder", placement="process", concurrency=1, shared_memory=16 << 20)
        for name in ("flooder", "neighbour"):
            await kernel.load(Sender, name=name, placement="sandbox", grants=["Adding"])
        assert await kernel.get(Sending, plugin="flooder").flood(ROUNDS, 4, 1 << 20) == [str(LENT)] * ROUNDS
        assert 4 << 20 < await kernel.get(Adding).most_held() <= 8 << 20
        await assert_unharmed(kernel)
        await kernel.unload("flooder")
        for _ in range(1000):  # it is told by and by that a caller has gone
            if not await kernel.get(Adding).held():
                break
        assert await kernel.get(Adding).held() == 0


async def test_what_a_reply_lies_about_is_kept_by_nobody() -> None:
    async with Kernel() as kernel:
        await kernel.load(Adder, name="adder", placement="inline")
        for name in ("flooder", "neighbour"):
            await kernel.load(Sender, name=name, placement="sandbox", grants=["Adding"])
        with pytest.raises(Unavailable, match="the shared memory of this message is gone"):
            await kernel.get(Sending, plugin="flooder").lie(100)
        assert sum(len(each.unclaimed) for each in lane._lanes.values()) == 0
        await assert_unharmed(kernel)


def test_who_sends_more_than_a_lane_has_room_for_is_heard_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else whoever looks for what never comes would have no end, as more comes all the time."""
    monkeypatch.setattr(lane, "MOST_AT_ONCE", 10)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        end = lane.open_lane(ours.detach(), lane.SERVER, 1 << 40)
        for number in range(11):
            theirs.send(number.to_bytes(lane.TOKEN, "big"))
        with pytest.raises(Unavailable, match="the shared memory of this message is gone"):
            end.claim(bytes([255]) * lane.TOKEN)
        assert (end.socket, end.unclaimed) == (None, {})
        end.close()
