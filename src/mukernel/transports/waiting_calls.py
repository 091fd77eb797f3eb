"""The inline calls of one instance that wait for something: those that outlast its drain can be ended."""

from __future__ import annotations

import asyncio

from ..contract import Unavailable


class WaitingCalls:
    """Each call by a number of its own, with the task that makes it.

    A call is ended by cancelling its task, so that the method cleans up; where that cancellation leaves the instance,
    `leave` turns it into Unavailable. Calls that never give the loop a turn are never here, and so cost nothing.
    """

    def __init__(self) -> None:
        self.tasks: dict[int, asyncio.Task[object] | None] = {}
        self.ended: set[asyncio.Task[object]] = set()
        self.reason: str | None = None  # why they were ended

    def enter(self, call: int) -> None:
        """`call` waits, in the present task."""
        try:
            self.tasks[call] = asyncio.current_task()
        except RuntimeError:  # it is run without a loop, by hand
            self.tasks[call] = None

    def leave(self, call: int, error: BaseException | None = None) -> Unavailable | None:
        """`call` is over, by `error` if there is one. Returns what its caller is to get in its stead, if anything."""
        task = self.tasks.pop(call, None)
        if task is None or task not in self.ended or task in self.tasks.values():  # the outermost call tells
            return None
        self.ended.discard(task)
        task.uncancel()
        return Unavailable(self.reason) if isinstance(error, asyncio.CancelledError) else None

    def end(self, reason: str) -> None:
        """End every call, but for one that asks for this itself; its caller gets Unavailable(`reason`)."""
        self.reason = reason
        present = asyncio.current_task()
        for task in set(self.tasks.values()) - {None, present}:
            assert task is not None
            self.ended.add(task)
            task.cancel()


__all__ = ["WaitingCalls"]
