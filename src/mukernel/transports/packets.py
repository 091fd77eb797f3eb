"""Packets: the channel of two processes where there is no ring, made of socket pairs and a table of calls.

The *mailbox* is a pair of its own, for calls alone; all else goes by the *side pair*: replies, items, credit,
cancellation. The kernel keeps a duplicate of every end, so what was not taken out of the mailbox outlives its reader.
A large body travels in a memfd of its own.
"""

from __future__ import annotations

import array
import errno
import os
import socket
from collections.abc import Sequence
from typing import Any

from ..kernel.ipc import Bell, Made
from .descriptors import close_all
from .frame import SIZE, Garbage, checked_size, pack, unpack
from .link import receive_rights
from .message import Message
from .packet_table import CallTable, make_table, read_counts

INLINE = 16 * 1024  # bytes of body that travel in the packet itself
LARGEST_BODY = 1 << 30  # bytes
BOUND = 1024  # calls that may wait; those that the socket has no room for wait on their caller's side
BLOB = 0x80  # in flags: the body lies in a memfd, and the packet says how long it is
PASSED = 4  # descriptors that there is room for; of more than the one wanted, the rest is closed
NO_ROOM = (errno.EAGAIN, errno.ENOBUFS, errno.ETOOMANYREFS, errno.EMFILE, errno.EINTR)


def make_channel(caller_ringer: int, port_bell: Bell) -> Made:
    """Rights of the server: table, mailbox, side pair; of the caller: table, and the other ends. No bells."""
    table = make_table()
    sends, receives = packet_pair()
    callers_side, servers_side = packet_pair()
    server = [table, receives, servers_side]
    return server, [table, sends, callers_side], [*server, sends, callers_side], None


def packet_pair() -> tuple[int, int]:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (one, other):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    return one.detach(), other.detach()


def ledger(table: int) -> tuple[int, int, int, int]:
    """The counts of a channel, from the descriptor of its table, which stays the asker's."""
    return read_counts(table)


class PacketEnd:
    """One end of a channel of packets. It never blocks, though another who has it, too, may change its flags. Raises
    ConnectionError where the channel is no more."""

    def __init__(self, rights: Sequence[int]) -> None:
        """`rights` are owned from here on."""
        table, mailbox, side = rights
        self.mailbox, self.side = socket.socket(fileno=mailbox), socket.socket(fileno=side)
        self.mailbox.setblocking(False)
        self.side.setblocking(False)
        try:
            self.table = CallTable(table)
        finally:
            os.close(table)

    def close(self) -> None:
        self.mailbox.close()
        self.side.close()
        self.table.close()


def send_packet(
    where: socket.socket, kind: int, call: int, body: Any, method: int = 0, interface: int = 0, priority: int = 0,
    deadline: int = 0, credit: int = 0, flags: int = 0, trace: tuple[int, int, int] | None = None, /,
) -> bool:  # fmt: skip
    """False when there is no room. Raises ValueError for a body that is too large, ConnectionError."""
    size = checked_size(body, LARGEST_BODY)
    if size <= INLINE:
        header = pack(kind, size, call, method, interface, priority, deadline, credit, flags, trace)
        return sent(where, [header, body], [])
    memory = os.memfd_create("mukernel-body", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(memory), "wb", buffering=0) as file:
            left = memoryview(body).cast("B")
            while left:
                left = left[file.write(left) or 0 :]
        header = pack(kind, 8, call, method, interface, priority, deadline, credit, flags | BLOB, trace)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [memory]))]
        return sent(where, [header, size.to_bytes(8, "little")], rights)
    finally:
        os.close(memory)


def sent(where: socket.socket, parts: list[Any], rights: list[Any]) -> bool:
    try:
        where.sendmsg(parts, rights, socket.MSG_DONTWAIT)
    except OSError as error:
        if error.errno in NO_ROOM:
            return False
        raise ConnectionError(f"the channel is no more ({error.strerror})") from None
    return True


def look(where: socket.socket) -> Message | None:
    """The first packet's message, left where it is and without its body. Raises ConnectionError, Garbage."""
    try:
        header = where.recv(SIZE, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except (BlockingIOError, InterruptedError):
        return None
    return cut(header)[0]


def receive_packet(where: socket.socket, most: int = LARGEST_BODY) -> Message | None:
    """The first packet, taken out, with at most so many bytes of a large body. Raises ConnectionError, Garbage."""
    try:
        data, passed, _ = receive_rights(where, SIZE + INLINE, PASSED)
    except (BlockingIOError, InterruptedError):
        return None
    except OSError as error:
        raise ConnectionError(error.strerror) from None
    try:
        message, size = cut(data)
        body = data[SIZE:]
        if len(body) != size:
            raise Garbage(f"a packet of {len(data)} bytes announced a body of {size}")
        try:
            message.content = blob(passed, body, most) if message.flags & BLOB else body
        except MemoryError:  # it is out of the socket: whoever takes it is told
            message.lacking = int.from_bytes(body, "little")
        message.flags &= ~BLOB
        return message
    finally:
        close_all(passed)


def cut(data: bytes) -> tuple[Message, int]:
    if not data:
        raise ConnectionError("the other end of the channel is closed")
    if len(data) < SIZE:
        raise Garbage(f"a packet of {len(data)} bytes came; the smallest message has {SIZE}")
    message, size, _ = unpack(data[:SIZE], INLINE)
    return message, size


def blob(passed: Sequence[int], announced: bytes, most: int) -> bytes:
    """The body that lies in a descriptor that was passed, or the first `most` bytes of it."""
    size = int.from_bytes(announced, "little")
    if len(announced) != 8 or len(passed) != 1 or size > LARGEST_BODY:
        raise Garbage("a large body was announced and none, or more than one, was passed")
    try:
        if os.fstat(passed[0]).st_size < size:
            raise Garbage(f"a body of {size} bytes was announced, and a smaller one passed")
        with os.fdopen(os.dup(passed[0]), "rb", buffering=0) as file:
            file.seek(0)
            body = file.read(min(size, most))  # all of it: a memfd is read as far as it goes, and at most 2 GiB at once
            if body is None or len(body) != min(size, most):
                raise Garbage("a large body could not be read to its end")
    except OSError as error:
        raise Garbage(f"a large body could not be read: {error.strerror}") from None
    return body
