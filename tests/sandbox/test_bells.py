"""A sandboxed plug-in shares pipes and sockets with the kernel, and with them their flags: the kernel never waits."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket

import pytest
from sandbox_bells import Answering, Inline, Jammer, Jamming
from sandbox_plugins import Neighbour, Quiet

from mukernel import Kernel, PluginCrashed
from mukernel.contract.lending import Outgoing
from mukernel.sandbox import machine
from mukernel.transports import packets
from mukernel.transports.lane import CALLER, TOKEN, Lane
from mukernel.transports.segment import new_segment


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


def test_a_machine_that_can_not_ring_without_waiting_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.can_ring()
    assert "vmsplice" not in machine.enforced().text
    monkeypatch.setattr(machine.LIBC, "vmsplice", lambda *arguments: -1)
    assert "by a plug-in that jams what rings it: vmsplice is refused" in machine.enforced().text


async def test_sockets_whose_flags_another_may_change_are_not_waited_for() -> None:
    """As where a plug-in is moved out of a sandbox: it may have kept its ends of channels, which are the kernel's now.

    Each of these waited for ever in the system, or for room in it.
    """
    server, caller, _, _ = packets.make_channel(-1, ())
    ends = packets.PacketEnd([os.dup(each) for each in server]), packets.PacketEnd([os.dup(each) for each in caller])
    of_lane = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    lane = Lane(os.dup(of_lane[0].fileno()), CALLER, 1)
    for each in (*server[1:], *caller[1:], of_lane[0].fileno()):
        os.set_blocking(each, True)
    assert packets.look(ends[0].mailbox) is None
    assert packets.receive_packet(ends[0].mailbox) is None
    while packets.send_packet(ends[1].mailbox, 0, 1, bytes(1000)):
        pass
    assert not lane.receive()
    with contextlib.suppress(BlockingIOError):
        while True:
            lane.socket.sendmsg([bytes(TOKEN)], [], socket.MSG_DONTWAIT)
    segment = new_segment(4096)
    message = Outgoing(b"payload", [segment], "value", str.encode)
    assert lane.load(message) == b"value"  # there is no room in it, so it travels whole
    for end in ends:
        end.close()
    for right in {*server, *caller}:
        os.close(right)
    for one in (*of_lane, lane.socket):
        one.close()
