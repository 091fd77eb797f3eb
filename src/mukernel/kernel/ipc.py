"""Inter-process communication: messages, ports, rights, channels.

A **port** is a mailbox that the kernel owns; it outlives whoever reads it. A **channel** joins one caller to one
port: two directions in one piece of shared memory. Rights are file descriptors and nothing else: who holds a
channel's memory and the port's bell may send, whom the kernel gave the port's channels may receive. They travel with
`SCM_RIGHTS` over a `Link`, so they can be given, never guessed.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import itertools
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

ring: Any = None  # where it is not compiled the socket transport serves
with contextlib.suppress(ImportError):
    ring = importlib.import_module("mukernel.kernel.ring")

LARGEST_CONTROL_MESSAGE = 128 * 1024  # bytes; more travels in a memfd of its own
LARGEST_RIGHTS = 250  # file descriptors in one message (SCM_MAX_FD is 253)


class Kind(IntEnum):
    """What a message is. Below `ITEM` are calls: counted, bounded by the mailbox, kept in the in-flight table."""

    CALL = 0
    ONEWAY = 1
    STREAM = 2
    CHANNEL = 3
    ITEM = 4  # one value of a stream, either way
    END = 5  # a stream has come to its end, either way
    CREDIT = 6  # `credit` more items are welcome
    CANCEL = 7  # the caller has lost interest
    REPLY = 8
    ERROR = 9
    INTERRUPTED = 10  # the callee died while it ran this call
    NOT_STARTED = 11  # the callee is gone and had not begun: send it again
    GONE = 12  # nobody will serve this call: the body says why


@dataclass(slots=True)
class Channel:
    """The kernel's record of one channel: its rights, and whose they are.

    `owned`: the descriptors that belong to the channel alone; `keeps`: what must live as long as it does.
    """

    number: int
    transport: str
    caller: str  # the space that holds the send right
    server_rights: list[int]
    caller_rights: list[int]
    owned: list[int]
    keeps: object = None

    def close(self) -> None:
        for fd in self.owned:
            os.close(fd)
        self.owned = []


Made = tuple[list[int], list[int], list[int], object]  # the rights of server and caller, those it owns, what it keeps


def ring_channel(caller_bell: int, port_bell: int) -> Made:
    """A channel in shared memory. Server: memory, the caller's bell, the port's. Caller: memory, the port's bell."""
    memory, bell = ring.create_channel(), os.dup(caller_bell)
    return [memory, bell, port_bell], [memory, port_bell], [memory, bell], None


class Port:
    """A mailbox, owned by the kernel: the bell of its reader and the channels that lead to it.

    `make(caller_bell, port_bell)` makes what a channel of `transport` consists of.
    """

    numbers = itertools.count(1)

    def __init__(self, transport: str = "ring", make: Callable[[int, int], Made] = ring_channel) -> None:
        self.number = next(self.numbers)
        self.transport, self.make = transport, make
        self.bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.channels: dict[int, Channel] = {}

    def mint(self, caller: str, caller_bell: int) -> Channel:
        """Make a channel to this port for `caller`, who keeps `caller_bell`."""
        server, client, owned, keeps = self.make(caller_bell, self.bell)
        channel = Channel(next(self.numbers), self.transport, caller, server, client, owned, keeps)
        self.channels[channel.number] = channel
        return channel

    def revoke(self, number: int) -> None:
        """Forget a channel; the kernel's descriptors are closed."""
        channel = self.channels.pop(number, None)
        if channel is not None:
            channel.close()

    def close(self) -> None:
        """Destroy the port with its channels."""
        for number in list(self.channels):
            self.revoke(number)
        if self.bell >= 0:
            os.close(self.bell)
            self.bell = -1


class Link:
    """A control connection between the kernel and a process: whole messages, with file descriptors.

    Writes never block: what the socket won't take waits in order and leaves by `flush`, which the owner calls when the
    socket is writable (`backlog` says whether that is needed).
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.socket = connection
        self.backlog: list[tuple[bytes, list[int]]] = []

    @staticmethod
    def pair() -> tuple[socket.socket, socket.socket]:
        ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in ends:
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                end.setsockopt(socket.SOL_SOCKET, option, 2 * LARGEST_CONTROL_MESSAGE)
        return ends

    def fileno(self) -> int:
        return self.socket.fileno()

    def watch(self, loop: asyncio.AbstractEventLoop, readable: Callable[[], None]) -> None:
        """Let the loop call `readable()` whenever there may be something to receive."""
        loop.add_reader(self.socket, readable)

    def unwatch(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.remove_reader(self.socket)
        loop.remove_writer(self.socket)

    def send(self, data: bytes, rights: Sequence[int] = ()) -> None:
        """Send one message; `rights` are duplicated, the caller keeps its own. Raises OSError when the peer is gone."""
        held = [os.dup(fd) for fd in rights]
        large = len(data) > LARGEST_CONTROL_MESSAGE
        if large:
            held.append(os.memfd_create("mukernel-control", os.MFD_CLOEXEC))
            os.write(held[-1], data)
        self.backlog.append((b"\x01" if large else b"\x00" + data, held))
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the socket takes it."""
        while self.backlog:
            data, held = self.backlog[0]
            try:
                socket.send_fds(self.socket, [data], held)
            except (BlockingIOError, InterruptedError):
                return
            self.backlog.pop(0)
            for fd in held:
                os.close(fd)

    def receive(self) -> tuple[bytes, list[int]] | None:
        """One message and the rights that came with it (owned by the caller); None when there is none now.

        Raises ConnectionError when the peer has closed.
        """
        try:
            data, fds, _, _ = socket.recv_fds(
                self.socket, LARGEST_CONTROL_MESSAGE + 1, LARGEST_RIGHTS, socket.MSG_CMSG_CLOEXEC
            )
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            raise ConnectionError(str(error)) from None
        if not data:
            raise ConnectionError("the peer has closed the link")
        if data[0] == 1 and fds:
            memory = fds.pop()
            try:
                return os.pread(memory, os.fstat(memory).st_size, 0), fds
            finally:
                os.close(memory)
        return data[1:], fds

    def close(self) -> None:
        """Close the link and every right that was not sent."""
        for _, held in self.backlog:
            for fd in held:
                os.close(fd)
        self.backlog.clear()
        self.socket.close()
