"""The threads of one instance, for methods that are `def` and may block."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor


class MethodPool:
    """At most `threads` methods at once; with 0 there is no thread. Owned by one event loop.

    `busy`: places that are taken; whoever starts a method adds one, and `run` gives it back. `left`: called when a
    thread is free that could not be stopped when its call was cancelled.
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
        """The result of a method, in a thread and in a copy of the present context. Raises what it raises."""
        context = copy_context()
        assert self.executor is not None
        future = self.executor.submit(context.run, function, *arguments)
        try:
            return await asyncio.wrap_future(future, loop=self.loop)
        finally:
            if future.cancel() or future.done():
                self.busy -= 1
            else:  # a thread can't be cancelled: its place is free when it is done
                future.add_done_callback(lambda _: self.loop.call_soon_threadsafe(self.outlived))

    def outlived(self) -> None:
        self.busy -= 1
        self.left()

    def close(self) -> None:
        """What was not begun is not begun any more; nobody waits for what runs."""
        if self.executor is not None:
            self.executor.shutdown(wait=False, cancel_futures=True)
