"""Beside: a second ring of a channel, for what a caller sends to calls that are being run.

Calls wait in their ring until they are started, and whatever lies behind one that waits keeps its place: items, credit
and cancellation would find no room there, and the calls that need them never end. So these go beside it.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from ..kernel.ipc import ring
from .kind import Kind

NO_CALLS = 0  # none may wait here


class SenderBeside:
    """The caller's end of both rings. `memory`: of the second, which is owned from here on."""

    def __init__(self, calls: Any, memory: int, bell: int) -> None:
        self.calls = calls
        self.beside = ring.Sender(ring.Mapping(memory), 0, bell, NO_CALLS)
        self.lacking = calls  # the ring that had no room the last time

    def send(self, kind: int, *message: Any) -> bool:
        """Put one message in; False when there is no room. A cancellation goes behind its call where there is none for
        it beside the calls."""
        ring = self.calls if kind < Kind.ITEM else self.beside
        if ring.send(kind, *message):
            return True
        self.lacking = ring
        return kind == Kind.CANCEL and bool(self.calls.send(kind, *message))


class ReceiverBeside:
    """The server's end of the second ring of `wire`. The poller calls what it calls of a wire."""

    def __init__(self, wire: Any, memory: int, bell: int) -> None:
        self.wire = wire
        self.kept_loop = lambda ns, wires: wire.kept_loop(ns, wires)
        self.right_to_receive = ring.Receiver(ring.Mapping(memory), 0, bell, owner=self)
        self.waiting: deque[Any] = deque()  # looked at, and not taken yet

    def look(self) -> None:
        """Look at what has come, so that no call is begun that was cancelled before; it is taken by `receiver`."""
        while (message := self.right_to_receive.peek()) is not None:
            self.waiting.append(message)
            if message.kind == Kind.CANCEL:
                self.wire.overtaken.add(message.call)

    def receiver(self, _: object) -> None:
        """Hand over what has come, after the calls that were sent before it. Cancellations are looked at before those,
        and taken after them: should we die in between, a successor sees them."""
        wire, waiting = self.wire, self.waiting
        try:
            while wire.listening:
                self.look()
                wire.receiver(wire)
                if not waiting:
                    break
                while waiting and wire.listening:
                    wire.controller(wire, waiting.popleft())
        except ring.Garbage as garbage:
            wire.fail(str(garbage))

    def fail(self, why: str) -> None:
        self.wire.fail(why)
