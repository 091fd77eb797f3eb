"""Backlog: the calls that wait at a server, most urgent first."""

from __future__ import annotations

from collections import Counter
from typing import TypeAlias

from ..kernel.scheduler import RunQueue
from .contract import Received, Wire
from .served import ServedMethod

Waiting: TypeAlias = tuple[Wire, Received, ServedMethod]
UNBOUNDED = 1 << 62  # a channel can't hold as many calls


class Backlog:
    """At most `bound` calls of any number of wires. `waiting`: how many there are; `of_wire`: of each.

    A wire that is saturated, whose channel can account for no more calls in flight, must not hold up the others: what
    waits of it is held aside, in its order, until one of its calls has ended.
    """

    def __init__(self, bound: int) -> None:
        self.queue: RunQueue[Waiting] = RunQueue(bound)
        self.held: dict[Wire, RunQueue[Waiting]] = {}  # none that is empty
        self.next = self.queue  # where `first` has found what it returned the last time
        self.waiting = 0
        self.of_wire: Counter[Wire] = Counter()

    def push(self, wire: Wire, message: Received, method: ServedMethod) -> bool:
        """False where as many wait as may. Raises ValueError for a call whose number waits already."""
        pushed = self.queue.push(
            (wire, message, method), caller=id(wire), priority=message.priority, deadline_ns=message.deadline,
            token=(wire, message.call),
        )  # fmt: skip
        self.waiting += pushed
        self.of_wire[wire] += pushed
        return pushed

    def first(self) -> Waiting | None:
        """The most urgent call that its wire lets be started, left where it is."""
        for wire, held in self.held.items():
            if not wire.saturated or wire.closed is not None:
                self.next = held
                return held.first()
        while self.queue:
            found = wire, message, _ = self.queue.first()
            if not wire.saturated and wire not in self.held:
                self.next = self.queue
                return found
            self.queue.pop()
            if (aside := self.held.get(wire)) is None:
                aside = self.held[wire] = RunQueue(UNBOUNDED)
            try:
                aside.push(found, caller=id(wire), priority=message.priority, token=(wire, message.call))
            except ValueError:  # no caller of ours does that
                self.taken_out(wire)
                wire.fail(f"call number {message.call} came twice")
        return None

    def pop(self) -> None:
        """Take out what `first` has returned."""
        wire, _, _ = self.next.pop()
        self.taken_out(wire)

    def remove(self, wire: Wire, call: int) -> Received | None:
        """Take out one that was cancelled; None if it does not wait here."""
        for queue in (self.queue, self.held.get(wire)):
            if queue is not None and (found := queue.remove((wire, call))) is not None:
                self.taken_out(wire)
                return found[1]
        return None

    def taken_out(self, wire: Wire) -> None:
        self.waiting -= 1
        self.of_wire[wire] -= 1
        if not self.of_wire[wire]:
            del self.of_wire[wire]
        if wire in self.held and not self.held[wire]:
            del self.held[wire]

    def highest(self) -> int | None:
        """The priority of the most urgent one, but for those that are held aside."""
        return self.queue.highest()
