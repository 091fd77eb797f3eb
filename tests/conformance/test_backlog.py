"""The calls that wait at a server: in order, those of a saturated channel aside, and what no caller of ours sends."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from mukernel.transports.backlog import Backlog


class Channel(SimpleNamespace):
    """What a backlog looks at in a wire."""

    saturated, closed = False, None

    def __hash__(self) -> int:
        return id(self)

    def fail(self, why: str) -> None:
        self.closed = why


def message(call: int, priority: int = 0) -> Any:
    return SimpleNamespace(call=call, priority=priority, deadline=0)


def drained(backlog: Backlog) -> list[int]:
    calls = []
    while (found := backlog.first()) is not None:
        calls.append(found[1].call)
        backlog.pop()
    return calls


def test_a_saturated_channel_is_held_aside_and_goes_on_in_its_order() -> None:
    full, other, method = Channel(), Channel(), Any
    backlog: Any = Backlog(100)
    for call in (1, 2, 3):
        backlog.push(full, message(call), method)
    backlog.push(other, message(7), method)
    full.saturated = True
    assert drained(backlog) == [7]
    backlog.push(full, message(4), method)
    assert drained(backlog) == [] and backlog.waiting == 4 and backlog.of_wire == {full: 4}
    assert backlog.remove(full, 2).call == 2 and backlog.remove(full, 2) is None
    full.saturated = False
    assert drained(backlog) == [1, 3, 4]
    assert backlog.waiting == 0 and not backlog.of_wire and not backlog.held


def test_a_number_that_waits_already_ends_its_channel_and_nothing_else() -> None:
    full, other, method = Channel(saturated=True), Channel(), Any
    backlog: Any = Backlog(100)
    backlog.push(full, message(1), method)
    assert backlog.first() is None
    backlog.push(full, message(1), method)
    backlog.push(other, message(2), method)
    assert backlog.first()[1].call in (1, 2)  # the closed channel's own is for its server to drop
    assert full.closed == "call number 1 came twice"
    assert sorted(drained(backlog)) == [1, 2] and backlog.waiting == 0 and not backlog.of_wire
