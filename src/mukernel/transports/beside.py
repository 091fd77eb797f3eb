"""Beside: a second ring of a channel, for what a caller sends to calls that are being run.

Calls wait in their ring until they are started, and whatever lies behind one that waits keeps its place: items, credit
and cancellation would find no room there, and the calls that need them never end. So these go beside it.
"""

from __future__ import annotations

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
        """Put one message in; False when there is no room. A cancellation goes behind its call if it can: it is for one
        that was not looked at yet, perhaps."""
        if kind < Kind.ITEM or kind == Kind.CANCEL:
            if self.calls.send(kind, *message):
                return True
            self.lacking = self.calls
        if kind >= Kind.ITEM:
            if self.beside.send(kind, *message):
                return True
            self.lacking = self.beside
        return False


class ReceiverBeside:
    """The server's end of the second ring of `wire`. The poller calls what it calls of a wire."""

    def __init__(self, wire: Any, memory: int, bell: int) -> None:
        self.wire = wire
        self.kept_loop = lambda ns, wires: wire.kept_loop(ns, wires)
        self.right_to_receive = ring.Receiver(ring.Mapping(memory), 0, bell, owner=self)

    def receiver(self, _: object) -> None:
        """Hand over what has come, after the calls that were sent before it."""
        wire = self.wire
        if wire.listening:
            wire.receiver(wire)
        try:
            while wire.listening and (message := self.right_to_receive.peek()) is not None:
                wire.controller(wire, message)
        except ring.Garbage as garbage:
            wire.fail(str(garbage))

    def fail(self, why: str) -> None:
        self.wire.fail(why)
