"""Carriers: the transports by which the channels of one process go, chosen by name where a channel is made.

"ring" is shared memory; "socket" serves where the ring is not compiled, or where MUKERNEL_TRANSPORT=socket says so;
"memory" joins spaces of one process, for simulation.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import Any

from ..contract import ContractError, lending
from ..kernel import ipc
from . import memory, packets
from .blocking import BlockingWire
from .contract import Wire
from .descriptors import enough_for
from .lane import CALLER, SERVER, open_lane, this_process, with_lane
from .packet_wire import BlockingPacketWire, PacketWire

if ipc.ring is not None:
    from .ring import BlockingRingWire, CallerRingWire, Poller, ServerRingWire

lending.provider = this_process
SETTING = "MUKERNEL_TRANSPORT"
NO_BELL = -1


def preferred() -> str:
    """The transport of this machine's processes. Raises ContractError for a setting that can't be had."""
    wanted = os.environ.get(SETTING) or ("ring" if ipc.ring is not None else "socket")
    if wanted not in ("ring", "socket"):
        raise ContractError(f"{SETTING}: got {wanted!r}, wanted 'ring' or 'socket'")
    if wanted == "ring" and ipc.ring is None:
        raise ContractError(f"{SETTING}: got 'ring', which is not compiled here; wanted 'socket'")
    return wanted


def available() -> list[str]:
    """The transports that processes of this interpreter can be reached by, the best first."""
    return ["ring", "socket"] if ipc.ring is not None else ["socket"]


def new_port(transport: str) -> ipc.Port:
    """A mailbox whose channels are of one transport, unless a caller has to have another (`mint_by`). Raises
    Overloaded."""
    with enough_for("a mailbox"):
        return ipc.Port(transport, maker_of(transport))


def maker_of(transport: str) -> Callable[[int, ipc.Bell], ipc.Made]:
    """What makes the channels of a transport."""
    makers = {
        "ring": with_lane(ipc.ring_channel), "socket": with_lane(packets.make_channel), "memory": memory.make_channel,
    }  # fmt: skip
    return makers[transport]


def mint_by(transport: str, port: ipc.Port, caller: str, caller_ringer: int) -> ipc.Channel:
    """A channel to a port by a transport that is not the port's: for a caller that has no other."""
    server, client, owned, keeps = maker_of(transport)(caller_ringer, port.bell)
    channel = ipc.Channel(next(port.numbers), transport, caller, server, client, owned, keeps)
    port.channels[channel.number] = channel
    return channel


def ledger(channel: ipc.Channel) -> tuple[int, int, int, int]:
    """The counts of one channel: (accepted, taken, answered, refused)."""
    if channel.transport == "ring":
        counts: tuple[int, int, int, int] = ipc.ring.ledger(channel.server_rights[0])
        return counts
    if channel.transport == "memory":
        return memory.found(channel.server_rights[0]).ledger()
    return packets.ledger(channel.server_rights[0])


class Carriers:
    """The ends of channels in one event loop. The ring's poller is made when it is first needed.

    `transport`: what this process would choose itself; a channel that the kernel made otherwise is used as it is.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: str | None = None) -> None:
        self.loop, self.transport = loop, transport or preferred()
        self.made: Poller | None = None

    @property
    def poller(self) -> Poller:
        if self.made is None:
            self.made = Poller(self.loop)
        return self.made

    def get_ready(self) -> None:
        """Open what the first channel needs here: later there may be no file left for that. Raises Overloaded."""
        if self.transport == "ring":
            with enough_for("the bell of an event loop"):
                self.made = self.poller

    @property
    def bell(self) -> int:
        """What a channel's other end rings for us."""
        bell: int = self.poller.waiter.ringer if self.transport == "ring" else NO_BELL
        return bell

    def caller(self, transport: str, rights: Sequence[int], number: int) -> Wire:
        """A caller's end of channel `number`; it owns `rights` from here on."""
        if transport == "memory":
            return memory.MemoryWire(self.loop, rights[0], "caller")
        *own, lane = rights
        wire: Wire = CallerRingWire(self.poller, *own) if transport == "ring" else PacketWire(self.loop, own, "caller")
        wire.lane, wire.number = open_lane(lane, CALLER, number), number
        return wire

    def server(self, transport: str, rights: Sequence[int], number: int, sandbox: str = "") -> tuple[Wire, int]:
        """A server's end, which owns `rights`; and the port's bell, if there is one, which the asker owns. `sandbox`:
        which one calls by it, if one does."""
        if transport == "memory":
            return memory.MemoryWire(self.loop, rights[0], "server"), NO_BELL
        *own, lane = rights
        wire: Wire
        if transport == "ring":
            memfd, beside, caller_bell, bell = own
            wire = ServerRingWire(self.poller, memfd, beside, caller_bell)
        else:
            wire, bell = PacketWire(self.loop, own, "server"), NO_BELL
        wire.lane = open_lane(lane, SERVER, number, sandbox)
        return wire, bell

    def answer(self, bell: int) -> None:
        """Answer the bell of a port, which is the loop's own business from now on."""
        if bell != NO_BELL and bell not in self.poller.bells:
            self.poller.answer(bell)

    def ignore(self, bell: int) -> None:
        if bell != NO_BELL and bell in self.poller.bells:
            self.poller.ignore(bell)

    def close(self) -> None:
        if self.made is not None:
            self.made.close()


class ThreadEnd:
    """What one thread needs before it can be connected: a waiter, where there are rings, and what rings its bell."""

    def __init__(self, transport: str) -> None:
        self.waiter: Any = ipc.ring.Waiter() if transport == "ring" else None
        self.bell: int = self.waiter.ringer if self.waiter is not None else NO_BELL

    def wire(self, transport: str, rights: Sequence[int], number: int) -> BlockingWire:
        """The caller's end of channel `number`; it owns `rights` from here on."""
        if transport == "memory":
            return memory.BlockingMemoryWire(rights[0])
        *own, lane = rights
        wire: BlockingWire = BlockingRingWire(self.waiter, *own) if transport == "ring" else BlockingPacketWire(own)
        wire.lane = open_lane(lane, CALLER, number)
        return wire


__all__ = ["NO_BELL", "Carriers", "ThreadEnd", "available", "ledger", "mint_by", "new_port", "preferred"]
