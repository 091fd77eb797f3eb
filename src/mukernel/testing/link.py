"""A link that joins the kernel to a simulated process: messages in order, by the loop's next turn, with descriptors."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Sequence

from ..transports.link import Link


class MemoryLink(Link):
    """One end. Nothing is ever backlogged."""

    def __init__(self) -> None:
        self.backlog = []
        self.arrived: deque[tuple[bytes, list[int]]] = deque()
        self.other: MemoryLink | None = None  # None once either end is closed
        self.loop: asyncio.AbstractEventLoop | None = None
        self.readable: Callable[[], None] = lambda: None
        self.woken = False

    @staticmethod
    def joined() -> tuple[MemoryLink, MemoryLink]:
        one, other = MemoryLink(), MemoryLink()
        one.other, other.other = other, one
        return one, other

    def watch(self, loop: asyncio.AbstractEventLoop, readable: Callable[[], None]) -> None:
        self.loop, self.readable = loop, readable
        if self.arrived or self.other is None:
            self.wake()

    def unwatch(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = None

    def wake(self) -> None:
        if self.loop is not None and not self.woken:
            self.woken = True
            self.loop.call_soon(self.deliver)

    def deliver(self) -> None:
        self.woken = False
        if self.loop is not None:
            self.readable()
            if self.arrived or self.other is None:  # it takes only so many messages in a turn
                self.wake()

    def send(self, data: bytes, rights: Sequence[int] = ()) -> None:
        if self.other is None:
            raise BrokenPipeError("the other end of the link is closed")
        self.other.arrived.append((data, [os.dup(fd) for fd in rights]))
        self.other.wake()

    def receive(self) -> tuple[bytes, list[int]] | None:
        if self.arrived:
            return self.arrived.popleft()
        if self.other is None:
            raise ConnectionError("the peer has closed the link")
        return None

    def fileno(self) -> int:
        raise RuntimeError("a simulated process can't be waited for by blocking: it shares the thread of its kernel")

    def flush(self) -> None:
        pass

    def close(self) -> None:
        """Close both ends; what was sent before may still be received."""
        other, self.other = self.other, None
        for _, rights in self.arrived:
            for fd in rights:
                os.close(fd)
        self.arrived.clear()
        if other is not None:
            other.other = None
            other.wake()
