"""What a thread waits for that an event loop does for it.

It is told by a SimpleQueue, which is written in C, and not by a Future of `concurrent.futures`: a signal handler may
interrupt this thread anywhere, and call from there, or raise; with a lock of Python's own held the loop would wait for
it from then on. What is raised in here by a handler, a TimeoutError too, ends the wait and cancels the work.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from queue import Empty, SimpleQueue
from typing import Any
from weakref import WeakKeyDictionary

from ..contract import DeadlineExceeded, Unavailable
from .calling import unheeded
from .context import current

ENDED = "the event loop of the kernel's process has ended"
LOOK = 0.5  # seconds between two looks of a waiting thread at whether the loop is still there: it tells nobody
_threads: WeakKeyDictionary[asyncio.AbstractEventLoop, int] = WeakKeyDictionary()  # those that run a loop


def refuse_own_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Raises RuntimeError where only this thread, which is about to wait, could let the loop go on."""
    if is_here(loop):
        raise RuntimeError(
            "a blocking call on the event loop's own thread can't wait for an async method in the same process: "
            "await it, or call from another thread"
        )
    if not loop.is_running() and _threads.get(loop) == threading.get_ident() and not loop.is_closed():
        raise RuntimeError(
            "the kernel's event loop does not run, and this is the thread that runs it: a blocking call would wait for "
            "ever; await it on the loop, or call from another thread while the loop runs"
        )


def owned_here(loop: asyncio.AbstractEventLoop) -> None:
    """Remember that the present thread is the one that runs a loop."""
    _threads[loop] = threading.get_ident()


def is_here(loop: asyncio.AbstractEventLoop) -> bool:
    """Does `loop` run in this thread?"""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def ends_of_caller(now_ns: Callable[[], int] | None) -> int:
    """The deadline of the calls that this thread makes, in ns of the clock `now_ns`; 0: none."""
    context = current.get()
    return context.deadline if context is not None and now_ns is not None else 0


def result_of(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], now_ns: Callable[[], int] | None = None
) -> Any:
    """What `work` returns or raises, run by `loop`, for any other thread, which blocks. With the clock `now_ns` it is
    not waited for beyond the caller's deadline. Raises Unavailable where the loop ends first, DeadlineExceeded, and
    RuntimeError on the loop's own thread."""
    try:
        refuse_own_loop(loop)
    except RuntimeError:
        work.close()
        raise
    given = GivenToLoop(loop, work, ends_of_caller(now_ns), now_ns or int)
    try:
        given.give()
        task = given.done()
    except BaseException:
        given.give_up()
        raise
    try:
        return outcome_of(task)
    finally:
        del task, given  # as in there


def outcome_of(task: asyncio.Task[Any]) -> Any:
    """What a task that has ended returns or raises. Raises Unavailable where the loop has ended first."""
    if task.cancelled():
        raise Unavailable(ENDED)
    try:
        return task.result()
    finally:
        del (
            task
        )  # it holds the error, which holds this frame and its callers', and what they hold would be held so long


class GivenToLoop:
    """A coroutine on its way to the loop, which begins it unless nobody waits for it any more, or `ends`, in ns of
    `now_ns`, is over; 0: never. `unwanted` is written by the thread, `task` by the loop."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], ends: int, now_ns: Callable[[], int]
    ) -> None:
        self.loop, self.work, self.ends, self.now_ns = loop, work, ends, now_ns
        self.told: SimpleQueue[asyncio.Task[Any]] = SimpleQueue()
        self.task: asyncio.Task[Any] | None = None
        self.unwanted = False

    def give(self) -> None:
        """Raises Unavailable where the loop has ended."""
        try:
            self.loop.call_soon_threadsafe(self.begin)
        except RuntimeError:
            if self.loop.is_closed():
                raise Unavailable(ENDED) from None
            raise

    def begin(self) -> None:
        if self.unwanted or (self.ends and self.now_ns() >= self.ends):
            self.work.close()
        else:
            self.task = self.loop.create_task(self.work)
            self.task.add_done_callback(self.told.put)

    def done(self) -> asyncio.Task[Any]:
        """Block until the task has ended. Raises Unavailable where the loop ends first, DeadlineExceeded at `ends`."""
        while True:
            left = (self.ends - self.now_ns()) / 1e9 if self.ends else LOOK
            over = left <= 0 or self.loop.is_closed()
            try:
                return self.told.get(not over, min(left, LOOK) if not over else None)
            except Empty:
                if left <= 0:
                    raise DeadlineExceeded("no reply before the deadline") from None
                if over:
                    raise Unavailable(ENDED) from None

    def ended(self, seconds: float) -> asyncio.Task[Any] | None:
        """The task, if it has ended when as many seconds are over. It may be asked for again, and from within, as by a
        signal handler's call."""
        if self.task is None or not self.task.done():
            with contextlib.suppress(Empty):
                self.told.get(timeout=seconds)
        if self.loop.is_closed():
            raise Unavailable(ENDED)
        return self.task if self.task is not None and self.task.done() else None

    def give_up(self) -> None:
        self.unwanted = True
        try:
            self.loop.call_soon_threadsafe(self.cancel)
        except RuntimeError:  # the loop has ended, and begins nothing any more
            with contextlib.suppress(RuntimeError, ValueError):  # it had begun this
                self.work.close()

    def cancel(self) -> None:
        if self.task is not None:
            self.task.cancel()
            self.task.add_done_callback(unheeded)
        else:  # it was never given, or not begun since it was too late
            self.work.close()


__all__ = [
    "ENDED",
    "LOOK",
    "GivenToLoop",
    "ends_of_caller",
    "is_here",
    "outcome_of",
    "owned_here",
    "refuse_own_loop",
    "result_of",
]
