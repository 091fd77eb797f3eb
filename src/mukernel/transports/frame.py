"""Frames: how a message lies in a stream of bytes. It touches neither I/O nor clock.

A frame is a header of 64 bytes, of the same fields as a ring's record, and a body. Two kinds of frame concern only
the wires themselves: `HELLO`, the first of each side, and `TAKEN`, which says how many calls the server has begun.
Every frame says that, too, in its last field, so `TAKEN` is sent only where nothing else is.
"""

from __future__ import annotations

import struct
from typing import Any

from .kind import Kind
from .message import Message

# size, kind, flags, priority, mark, interface, method, credit, call, deadline, trace (2), span, taken
HEADER = struct.Struct("<IBBbBHHIQQQQQQ")
SIZE = HEADER.size
MARK = 0xB5  # in each header: what lacks it is no frame
HELLO = 254  # call: GREETING; credit: calls that may wait; deadline: largest body; body: the application's own
STARVING = 253  # (packets only) the caller waits for room in the mailbox: answer TAKEN when there is some
TAKEN = 255
GREETING = 0x31304B4E4C554B4D  # "MKULNK01"
KINDS = frozenset({*map(int, Kind), HELLO, STARVING, TAKEN})
BUFFER = 1 << 17  # bytes read at once
LARGEST_GREETING = BUFFER - SIZE  # bytes: for a peer that has not greeted yet no memory is reserved


class Garbage(ConnectionError):
    """What came is no frame: whoever sent it is no peer of ours."""


def checked_size(body: Any, largest: int) -> int:
    """The bytes of a body. Raises ValueError when they are more than `largest`.

    Every wire asks this first, before it counts a call: what raises has no place in the mailbox.
    """
    size = len(body) if type(body) is bytes else memoryview(body).nbytes
    if size > largest:
        raise ValueError(f"a body of {size} bytes; at most {largest} travel in one message")
    return size


def pack(
    kind: int, size: int, call: int, method: int = 0, interface: int = 0, priority: int = 0, deadline: int = 0,
    credit: int = 0, flags: int = 0, trace: tuple[int, int, int] | None = None, taken: int = 0,
) -> bytes:  # fmt: skip
    """The header of a frame. `deadline`: ns that are left, 0 for none: clocks of two machines agree on nothing else."""
    high, low, span = trace or (0, 0, 0)
    return HEADER.pack(
        size, kind, flags, priority, MARK, interface, method, credit, call, deadline, high, low, span, taken
    )


def hello(greeting: bytes, bound: int, largest: int) -> bytes:
    """The header of the first frame. Raises ValueError for a greeting that no peer would take."""
    return pack(HELLO, checked_size(greeting, LARGEST_GREETING), GREETING, credit=bound, deadline=largest)


def unpack(header: bytes | bytearray | memoryview, largest: int) -> tuple[Message, int, int]:
    """A header as (message without its body, size of the body, calls taken). Raises Garbage."""
    (
        size, kind, flags, priority, mark, interface, method, credit, call, deadline, high, low, span, taken,
    ) = HEADER.unpack(header)  # fmt: skip
    if mark != MARK or kind not in KINDS:
        raise Garbage(f"what came is no message of mukernel: it begins with {bytes(header[:8]).hex(' ')}")
    if size > largest:
        raise Garbage(f"a body of {size} bytes was announced; at most {largest} are accepted here")
    trace = high, low, span
    return Message(kind, call, b"", method, interface, priority, deadline, credit, flags, trace), size, taken


class FrameReader:
    """Cuts a stream into messages. Receive into `target()`, then say to `advance` how many bytes came.

    `taken`: how many of our calls the other side had begun when it sent the latest frame. `largest`: bytes of body; of
    the first, LARGEST_GREETING.
    """

    def __init__(self, largest: int) -> None:
        self.largest, self.taken, self.greeted = largest, 0, False
        self.buffer, self.filled = bytearray(BUFFER), 0
        self.message: Message | None = None  # whose body is being received into `body`
        self.body, self.got = bytearray(), 0

    def target(self) -> memoryview:
        """Where the next bytes belong; never empty."""
        if self.message is not None:
            return memoryview(self.body)[self.got :]
        return memoryview(self.buffer)[self.filled :]

    def advance(self, count: int) -> list[Message]:
        """`count` bytes were received; the messages that are whole now. Raises Garbage."""
        if self.message is not None:
            self.got += count
            if self.got < len(self.body):
                return []
            message, self.message = self.message, None
            message.content, self.body = bytes(self.body), bytearray()
            return [message]
        self.filled += count
        return self.cut()

    def cut(self) -> list[Message]:
        found: list[Message] = []
        at, view = 0, memoryview(self.buffer)
        while self.filled - at >= SIZE:
            largest = self.largest if self.greeted else min(self.largest, LARGEST_GREETING)
            message, size, self.taken = unpack(view[at : at + SIZE], largest)
            end = at + SIZE + size
            if end > self.filled:
                if SIZE + size <= BUFFER:
                    break
                # Larger than the buffer: its body gets memory of its own, which the rest is received into.
                self.message, self.body, self.got = message, bytearray(size), self.filled - at - SIZE
                self.body[: self.got] = view[at + SIZE : self.filled]
                at = self.filled
                break
            message.content = bytes(view[at + SIZE : end])
            found.append(message)
            at, self.greeted = end, True
        if at:
            rest = self.filled - at
            self.buffer[:rest] = self.buffer[at : self.filled]
            self.filled = rest
        return found
