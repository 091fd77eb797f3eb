"""The threads of one instance, for methods that are `def` and may block."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

from ..contract import as_told
from .stray import end_stray

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor


class MethodPool:
    """At most `threads` methods at once; with 0 there is no thread. Owned by one event loop.

    `busy`: places that are taken, those of inline calls that wait for a thread among them; whoever starts a method adds
    one, and `run` gives it back. `left`: called when a thread is free whose call has gone before it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, threads: int, left: Callable[[], None]) -> None:
        self.loop, self.threads, self.left = loop, threads, left
        self.busy = 0
        self.executor: ThreadPoolExecutor | None = None
        if threads:
            from concurrent.futures import ThreadPoolExecutor  # here: what it does at every fork costs a process memory

            self.executor = ThreadPoolExecutor(threads, "mukernel-method")

    @property
    def full(self) -> bool:
        """Every thread has a method to run."""
        return self.busy >= self.threads

    async def run(self, function: Callable[..., Any], arguments: Sequence[Any]) -> Any:
        """The result of a method, in a thread and in a copy of the present context. Raises what it raises, and for
        StopIteration, which Python raises through no `await`, a RemoteError."""
        work = InThread(copy_context(), function, arguments)
        future = self.loop.run_in_executor(self.executor, work)
        try:
            result, error = await asyncio.shield(future)
        finally:
            if future.done() or work.withdrawn():
                future.cancel()
                self.busy -= 1
            else:  # a thread can't be cancelled: its place is free when it is done
                future.add_done_callback(self.outlived)
        if error is None:
            return result
        try:
            raise as_told(error) if isinstance(error, StopIteration) else error
        finally:
            del future, error  # an error that its own traceback keeps would keep what the method had in hand, too

    async def call(self, function: Callable[..., Any]) -> Any:
        """As `run`, for a call that no server counts: an inline one."""
        self.busy += 1
        try:
            return await self.run(function, ())
        finally:
            self.left()

    def outlived(self, ended: asyncio.Future[Any]) -> None:
        self.busy -= 1
        self.left()

    def close(self) -> None:
        """What was not begun is not begun any more; nobody waits for what runs."""
        if self.executor is not None:
            self.executor.shutdown(wait=False, cancel_futures=True)


class InThread:
    """One method that a thread is to run: gives its result, or else what it raised. That is no exception of the
    future's, since a future takes no StopIteration, never ends then, and takes some others for its own cancellation.
    Until the thread has begun, it may be withdrawn. A child that the method forked would wait there for another one."""

    __slots__ = ("arguments", "begun", "context", "function", "unwanted")

    def __init__(self, context: Context, function: Callable[..., Any], arguments: Sequence[Any]) -> None:
        self.context, self.function, self.arguments = context, function, arguments
        self.begun = self.unwanted = False

    def __call__(self) -> tuple[Any, BaseException | None]:
        pid = os.getpid()
        self.begun = True  # before it looks: whoever withdraws it looks in the other order, so one of the two sees it
        if self.unwanted:
            return None, None
        try:
            return self.context.run(self.function, *self.arguments), None
        except BaseException as error:
            return None, error
        finally:
            if os.getpid() != pid:
                end_stray()

    def withdrawn(self) -> bool:
        """It is not wanted any more. True if it will not be run; else a thread is at it."""
        self.unwanted = True
        return not self.begun
