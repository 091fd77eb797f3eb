"""Inter-process communication: ports, rights, channels.

A **port** is a mailbox that the kernel owns; it outlives whoever reads it. A **channel** joins one caller to one
port: two directions in one piece of shared memory. Rights are file descriptors and nothing else: who holds a
channel's memory and what rings the port's bell may send, whom the kernel gave the port's channels may receive. They
travel with `SCM_RIGHTS`, so they can be given, never guessed.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

ring: Any = None  # where it is not compiled the socket transport serves
with contextlib.suppress(ImportError):
    ring = importlib.import_module("mukernel.kernel.ring")


@dataclass(slots=True)
class Channel:
    """The kernel's record of one channel: its rights, and whose they are. `owned`: the descriptors that belong to the
    channel alone; `keeps`: what must live as long as it does."""

    number: int
    transport: str
    caller: str  # the space that holds the send right
    server_rights: list[int]
    caller_rights: list[int]
    owned: list[int]
    keeps: object = None

    def close(self) -> None:
        while self.owned:
            os.close(self.owned.pop())


Made = tuple[list[int], list[int], list[int], object]  # the rights of server and caller, those it owns, what it keeps
Bell = Sequence[int]  # where it is heard, and what rings it: two open files, so that nobody who rings can hush it


def ring_channel(caller_ringer: int, port_bell: Bell) -> Made:
    """A channel in shared memory: for calls, and beside them. The server gets its bell and what rings the caller."""
    both, ringer = [ring.create_channel(), ring.create_channel(slots=1)], os.dup(caller_ringer)
    return [*both, ringer, port_bell[0]], [*both, port_bell[1]], [*both, ringer], None


class Port:
    """A mailbox, owned by the kernel: the bell of its reader and the channels that lead to it. What one of `transport`
    consists of is made by `make(caller_ringer, port_bell)`."""

    # Told to the two sides of a channel alone: what it carries names it, and must not be able to name another.
    numbers = iter(lambda: int.from_bytes(os.urandom(8)) >> 11, 0)  # which JSON has room for

    def __init__(self, transport: str = "ring", make: Callable[[int, Bell], Made] = ring_channel) -> None:
        self.number = next(self.numbers)
        self.transport, self.make = transport, make
        self.bell = [*os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)]
        self.channels: dict[int, Channel] = {}

    def mint(self, caller: str, caller_ringer: int) -> Channel:
        """Make a channel to this port for `caller`, who keeps `caller_ringer`."""
        server, client, owned, keeps = self.make(caller_ringer, self.bell)
        channel = Channel(next(self.numbers), self.transport, caller, server, client, owned, keeps)
        self.channels[channel.number] = channel
        return channel

    def revoke(self, number: int) -> None:
        """Forget a channel; the kernel's descriptors are closed."""
        if channel := self.channels.pop(number, None):
            channel.close()

    def close(self) -> None:
        """Destroy the port with its channels."""
        for number in list(self.channels):
            self.revoke(number)
        while self.bell:
            os.close(self.bell.pop())
