"""The inline calls of one instance that wait for something: those that outlast its drain can be ended."""

from __future__ import annotations

import asyncio
from weakref import WeakSet, ref

from ..contract import Unavailable


class WaitingCalls:
    """Each call by a number of its own, with the task that makes it.

    A call is ended by cancelling its task, so that the method cleans up; where that cancellation leaves the instance,
    `leave` turns it into Unavailable. Calls that never give the loop a turn are never here, and so cost nothing. Tasks
    are held weakly: a call that nobody waits for any more may be collected.
    """

    def __init__(self) -> None:
        self.tasks: dict[int, ref[asyncio.Task[object]] | None] = {}
        self.ended: WeakSet[asyncio.Task[object]] = WeakSet()
        self.reason: str | None = None  # why they were ended

    def enter(self, call: int) -> None:
        """`call` waits, in the present task."""
        try:
            task = asyncio.current_task()
        except RuntimeError:  # it is run without a loop, by hand
            task = None
        self.tasks[call] = None if task is None else ref(task)

    def leave(self, call: int, error: BaseException | None = None) -> Unavailable | None:
        """`call` is over, by `error` if there is one. Returns what its caller is to get in its stead, if anything."""
        weak = self.tasks.pop(call, None)
        task = None if weak is None else weak()
        if task is None or task not in self.ended or task in self.waiting_tasks():  # the outermost call tells
            return None
        self.ended.discard(task)
        others = task.uncancel()  # somebody else wants it cancelled, too: then it is
        return Unavailable(self.reason) if not others and isinstance(error, asyncio.CancelledError) else None

    def end(self, reason: str) -> None:
        """End every call, but for one that asks for this itself; its caller gets Unavailable(`reason`)."""
        self.reason = reason
        present = asyncio.current_task()
        for task in self.waiting_tasks() - {present}:
            self.ended.add(task)
            task.cancel()

    def waiting_tasks(self) -> set[asyncio.Task[object]]:
        """The tasks that make a call that waits."""
        return {task for weak in self.tasks.values() if weak is not None and (task := weak()) is not None}


__all__ = ["WaitingCalls"]
